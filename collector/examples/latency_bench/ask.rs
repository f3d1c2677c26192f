//! Questions over HTTP, one after the other on one connection, each checked and timed until its last byte is here.

use crate::archive;
use crate::figures::{Budget, Figure, figure};
use crate::past::{MONTHS, YEARS};
use anyhow::{Context, Result, ensure};
use collector::tiers::Day;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Between the beginnings of questions, if they are answered by then.
const PACE: Duration = Duration::from_millis(50);
const TIMES: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(60);

/// A question that is asked of one series after the other.
pub(crate) struct Question {
    name: &'static str,
    /// Series to ask for.
    series: Range<u32>,
    path: Box<dyn Fn(u32) -> String + Send>,
    /// How many points or values its answer has.
    points: Range<usize>,
    /// The deepest tier that it must have been taken from.
    tier: Option<&'static str>,
    ms_max: f64,
}

/// All of them; the archive begins with `first`, and a day's readings are in the hot tier of so many series.
pub(crate) fn questions(first: Day, series: usize, hot: u32) -> Vec<Question> {
    let history = |words: String| -> Box<dyn Fn(u32) -> String + Send> {
        Box::new(move |series| format!("/api/v1/history?series={series}&limit=10000&{words}"))
    };
    let (from, to) = (first.next(), Day(first.0 + archive::DAYS));
    vec![
        Question {
            name: "latest of 10,000 series",
            series: 0..1,
            path: Box::new(|_| "/api/v1/latest?limit=10000".into()),
            points: series..series + 1,
            tier: None,
            ms_max: 20.0,
        },
        Question {
            name: "a series over 24 h, raw",
            series: 1..hot + 1,
            path: history("from=now-24h&resolution=raw".into()),
            points: 8_400..10_000,
            tier: Some("hot"),
            ms_max: 10.0,
        },
        Question {
            name: "90 days by the hour",
            series: hot + 1..MONTHS.series + 1,
            path: history("from=now-90d&resolution=1h".into()),
            points: 90 * 24 - 26..90 * 24 + 2,
            tier: Some("warm"),
            ms_max: 50.0,
        },
        Question {
            name: "3 years by the day",
            series: 1..YEARS.series + 1,
            path: history("from=now-1095d&resolution=1d".into()),
            points: 1_093..1_097,
            tier: Some("warm"),
            ms_max: 500.0,
        },
        Question {
            name: "a year, raw, brought down to 2,000 points",
            series: 1..archive::SERIES + 1,
            path: history(format!("from={from}&to={to}&resolution=raw&pixels=1000")),
            points: 1_000..2_003,
            tier: Some("cold"),
            ms_max: 500.0,
        },
    ]
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(api: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(api)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::with_capacity(256 * 1024, stream)))
    }

    /// How long it took, and the answer.
    fn ask(&mut self, path: &str, body: &mut Vec<u8>) -> Result<Duration> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let began = Instant::now();
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length) = (String::new(), None);
        self.0.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "{path}: the answer ends in its head");
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = Some(value.parse()?),
                Some(_) => {}
                None => break,
            }
        }
        body.resize(length.context("a content-length")?, 0);
        self.0.read_exact(body)?;
        let took = began.elapsed();
        ensure!(status.starts_with("HTTP/1.1 200"), "{path}: {status}{}", String::from_utf8_lossy(body));
        Ok(took)
    }
}

impl Question {
    /// Asks it again and again; how long it took the first time, and sorted how long later, milliseconds.
    pub(crate) fn ask(&self, api: SocketAddr) -> Result<Times> {
        let (mut connection, mut body, mut took) = (Connection::open(api)?, Vec::new(), Vec::new());
        let count = self.series.end - self.series.start;
        for n in 0..=TIMES {
            let began = Instant::now();
            let series = self.series.start + n.wrapping_mul(7_919) % count;
            let time = connection.ask(&(self.path)(series), &mut body)?;
            took.push(time.as_secs_f64() * 1e3);
            self.check(&body)?;
            std::thread::sleep(PACE.saturating_sub(began.elapsed()));
        }
        let first = took.remove(0);
        took.sort_by(f64::total_cmp);
        Ok(Times { first, took, bytes: body.len() })
    }

    /// A fast answer that isn't the one that was asked for is none.
    fn check(&self, body: &[u8]) -> Result<()> {
        let said: Value = serde_json::from_slice(body)?;
        let points = said["points"].as_array().or(said["items"].as_array()).context("points or items")?.len();
        ensure!(self.points.contains(&points), "{}: {points} points, expected {:?}", self.name, self.points);
        ensure!(said["degraded"] == serde_json::json!([]), "{}: {}", self.name, said["degraded"]);
        ensure!(said["truncated"] == false, "{}: the answer isn't whole", self.name);
        let deepest = said["tiers"].as_array().and_then(|tiers| tiers.last()).and_then(Value::as_str);
        ensure!(deepest == self.tier, "{}: from {deepest:?}, expected {:?}", self.name, self.tier);
        Ok(())
    }
}

/// How long a question took.
pub(crate) struct Times {
    first: f64,
    took: Vec<f64>,
    bytes: usize,
}

impl Times {
    pub(crate) fn figures(&self, of: &Question) -> [Figure; 4] {
        let part = |part: f64| self.took[((self.took.len() - 1) as f64 * part).round() as usize];
        [
            figure(format!("{}: half within", of.name), part(0.5), "ms", Budget::None),
            figure("  99 % within", part(0.99), "ms", Budget::AtMost(of.ms_max)),
            figure("  the first time", self.first, "ms", Budget::None),
            figure("  size of an answer", self.bytes as f64 / 1e3, "kB", Budget::None),
        ]
    }
}
