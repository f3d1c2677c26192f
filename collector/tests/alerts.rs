//! People are told what stands, by a real mail server and over HTTP.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

#[path = "services/mod.rs"]
mod services;
#[path = "support/mod.rs"]
mod support;

use collector::alerts::settings::{AlertSettings, MailSettings, MailTls};
use collector::alerts::{Alerts, Gather, When};
use collector::analytics::anomaly::{Kind, Severity};
use collector::analytics::store::{Anomaly, State};
use collector::etl::jobs::Alarm;
use collector::etl::{Pace, Scheduler};
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Heard, SeriesId, WarmTier};
use services::{Service, eventually, free_port};
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const MINUTE: i64 = 60_000_000;
const START: Timestamp = Timestamp(1_770_000_000_000_000);
const SECRET: &str = "known to two";

/// aiosmtpd, which puts what it takes into a maildir.
struct MailServer {
    _service: Service,
    folder: tempfile::TempDir,
    port: u16,
}

impl MailServer {
    async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
        let (address, mails) = (format!("127.0.0.1:{port}"), folder.path().join("mails"));
        let command = [
            python.to_str().unwrap(),
            "-m",
            "aiosmtpd",
            "-n",
            "-l",
            &address,
            "-c",
            "aiosmtpd.handlers.Mailbox",
            mails.to_str().unwrap(),
        ];
        let service = Service::start(&command, None, rustix::process::Signal::TERM, Stdio::null());
        let answers = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        eventually("the mail server answers", Duration::from_secs(30), answers).await;
        Self { _service: service, folder, port }
    }

    fn mails(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.folder.path().join("mails/new")).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort_by_key(|file| file.metadata().unwrap().modified().unwrap());
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
    }
}

/// Someone who is told over HTTP, and may refuse.
#[derive(Clone, Default)]
struct Receiver {
    refuses: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    async fn start(&self) -> String {
        let this = self.clone();
        let take = move |headers: axum::http::HeaderMap, body: String| async move {
            if this.refuses.load(Ordering::SeqCst) {
                return axum::http::StatusCode::SERVICE_UNAVAILABLE;
            }
            let signature = headers.get("x-signature-256").map_or("", |value| value.to_str().unwrap());
            this.told.lock().unwrap().push((signature.to_owned(), body));
            axum::http::StatusCode::OK
        };
        let app = axum::Router::new().route("/hook/s3cret", axum::routing::post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/hook/s3cret")
    }

    /// State and title of each alert of each message.
    fn told(&self) -> Vec<Vec<String>> {
        let told = self.told.lock().unwrap();
        let words = |body: &str| {
            let message: serde_json::Value = serde_json::from_str(body).unwrap();
            let alerts = message["alerts"].as_array().unwrap().clone();
            alerts
                .iter()
                .map(|a| format!("{} {}", a["state"].as_str().unwrap(), a["title"].as_str().unwrap()))
                .collect()
        };
        told.iter().map(|(_, body)| words(body)).collect()
    }
}

struct World {
    _folder: tempfile::TempDir,
    warm: Arc<SqliteWarm>,
    settings: AlertSettings,
    clock: Arc<AtomicI64>,
    alarm: Arc<Alarm>,
    series: SeriesId,
    stop: CancellationToken,
}

impl World {
    async fn new(webhook: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warm = Arc::new(SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap());
        let secret = folder.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let settings = AlertSettings {
            webhook: Some(webhook.into()),
            webhook_secret_file: Some(secret),
            ..AlertSettings::default()
        };
        let made = warm.series_for(&gateway(), support::catalogue(&["DIST_001"]).entries()).await.unwrap();
        let series = *made[0].as_ref().unwrap();
        let (clock, stop) = (Arc::new(AtomicI64::new(START.0)), CancellationToken::new());
        Self { _folder: folder, warm, settings, clock, alarm: Arc::default(), series, stop }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    /// As a collector that leads has it after its start.
    async fn alerts(&self) -> Alerts {
        let (clock, tick) = (self.clock.clone(), Duration::from_millis(20));
        let now = Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)));
        let pace = Pace { tick, ..Pace::default() };
        let jobs = Scheduler::new(self.warm.clone(), Vec::new(), "one".into(), now.clone(), pace);
        tokio::spawn(jobs.clone().run(self.stop.clone()));
        eventually("it leads", Duration::from_secs(30), async || jobs.leads()).await;
        let silent = 15 * MINUTE;
        let gather = Gather::new(self.warm.clone(), jobs, Arc::new(Vec::new), "here".into(), silent);
        let channels = self.settings.channels().unwrap();
        let zone = collector::etl::schedule::zone("Europe/Rome").unwrap();
        let when = When { quiet: None, repeat_us: None, zone };
        Alerts::new(self.warm.clone(), gather, channels, when, now, self.alarm.clone())
    }

    /// Looks at each of some minutes.
    async fn minutes(&self, alerts: &mut Alerts, count: i64) {
        for _ in 0..count {
            self.clock.fetch_add(MINUTE, Ordering::SeqCst);
            alerts.look().await;
        }
    }

    async fn anomaly(&self, number: i64, end: Option<Timestamp>) {
        let anomaly = Anomaly {
            number,
            series: self.series,
            kind: Kind::RateOfChange,
            start: START,
            last: self.now(),
            end,
            severity: Severity::Critical,
            expected: Some(4.2),
            seen: Some(1.125),
            detail: "it fell within five minutes".into(),
            state: State::Open,
            normal: false,
            notes: Vec::new(),
        };
        self.warm.anomalies().put_anomalies(&[anomaly], Timestamp(0)).await.unwrap();
    }

    async fn heard(&self) {
        let heard = Heard { at: self.now(), version: None, status: None };
        self.warm.gateway_heard(&gateway(), heard).await.unwrap();
    }
}

fn gateway() -> GatewayId {
    GatewayId::new("STATION_7").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_is_told_once_to_everybody_and_that_it_is_over() {
    let (receiver, mail) = (Receiver::default(), MailServer::start().await);
    let mut world = World::new(&receiver.start().await).await;
    world.settings.mail = Some(MailSettings {
        server: "127.0.0.1".into(),
        port: Some(mail.port),
        tls: MailTls::Off,
        user: None,
        password_file: None,
        from: "Water <water@example.net>".into(),
        to: vec!["duty@example.net".into(), "chief@example.net".into()],
    });
    let mut alerts = world.alerts().await;
    world.heard().await;
    world.anomaly(0, None).await;
    world.minutes(&mut alerts, 3).await;
    let new = "new DIST_001/pressure: rate of change".to_owned();
    assert_eq!(receiver.told(), [vec![new.clone()]]);
    // Another start of it, or another collector that leads.
    let mut alerts = world.alerts().await;
    world.minutes(&mut alerts, 10).await;
    assert_eq!(receiver.told().len(), 1);
    // Now the gateway has said nothing for more than a quarter of an hour.
    world.minutes(&mut alerts, 5).await;
    let silent = "new gateway STATION_7 is silent".to_owned();
    assert_eq!(receiver.told(), [vec![new.clone()], vec![silent]]);
    world.heard().await;
    world.minutes(&mut alerts, 7).await;
    assert_eq!(receiver.told()[2], ["over gateway STATION_7 is silent"]);
    assert_eq!(receiver.told().len(), 3);

    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let (signature, body) = receiver.told.lock().unwrap()[0].clone();
    let digits: String = ring::hmac::sign(&key, body.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(signature, format!("sha256={digits}"));
    let mails = mail.mails();
    assert_eq!(mails.len(), 3);
    for words in [
        "Subject: DIST_001/pressure: rate of change",
        "To: duty@example.net",
        "chief@example.net",
        "expected 4.200 bar, seen 1.125 bar",
        "since 2026-02-02 03:40:00 +01:00",
        "\nMessage-ID: <",
        "\nDate: ",
    ] {
        assert!(mails[0].contains(words), "{words}: {}", mails[0]);
    }
    assert_eq!(world.alarm.why(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_is_raised_and_told_later() {
    let receiver = Receiver::default();
    let world = World::new(&receiver.start().await).await;
    receiver.refuses.store(true, Ordering::SeqCst);
    let mut alerts = world.alerts().await;
    world.anomaly(0, None).await;
    world.minutes(&mut alerts, 3).await;
    let why = world.alarm.why().unwrap();
    assert_eq!(why, "webhook 127.0.0.1: it answers 503 Service Unavailable");
    receiver.refuses.store(false, Ordering::SeqCst);
    // The next start doesn't wait out the pause.
    let mut alerts = world.alerts().await;
    world.minutes(&mut alerts, 3).await;
    assert_eq!(receiver.told().len(), 1);
    assert_eq!(world.alarm.why(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_tries_it_on_the_command_line() {
    let receiver = Receiver::default();
    let webhook = receiver.start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("collector.toml");
    let run = async |more: &str| {
        let text = format!("data_dir = '{}'\n{more}", folder.path().display());
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(support::process::PROGRAM);
        command.args(["alerts", "test", "--config"]).arg(&config);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let (code, said) = run("").await;
    assert!(code == 1 && said.contains("names nobody"), "{code} {said}");
    let (code, said) = run(&format!("[alerts]\nwebhook = '{webhook}'\n")).await;
    assert_eq!((code, said.as_str()), (0, "ok      webhook 127.0.0.1\n"));
    assert_eq!(receiver.told(), [["new a test: nothing is wrong"]]);
    let nobody = free_port();
    let mail = format!(
        "[alerts.mail]\nserver = '127.0.0.1'\nport = {nobody}\ntls = 'off'\nfrom = 'a@example.net'\nto = ['b@example.net']\n"
    );
    let (code, said) = run(&mail).await;
    assert!(code == 1 && said.contains(&format!("failed  mail 127.0.0.1: port {nobody}: ")), "{said}");
    assert!(said.contains("onnection refused") && said.contains("[alerts.mail] port"), "{said}");
    let (code, said) = run(&mail.replace("'127.0.0.1'", &format!("'127.0.0.1:{nobody}'"))).await;
    assert!(code == 2 && said.contains(&format!("say the port by itself: port = {nobody}")), "{code} {said}");
    let wrong = mail.replace("b@example.net", "nobody");
    let (code, said) = run(&wrong).await;
    assert!(code == 2 && said.contains("alerts.mail.to = \"nobody\""), "{code} {said}");
    let (code, said) = run("[alerts]\nwebhook = 'ftp://example.net/s3cret'\n").await;
    assert!(code == 2 && said.contains("alerts.webhook") && !said.contains("s3cret"), "{code} {said}");
}
