//! SQL over the archive: what it answers, what it opens, what it refuses, and where it stops.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod answers;
mod bounds;
mod doors;
mod refused;
#[path = "../services/mod.rs"]
mod services;
#[path = "../support/mod.rs"]
mod support;
mod watched;

use collector::sql::rows::rows;
use collector::sql::{Sql, SqlError, SqlSettings};
use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::{ColdTier, Day, Run, Runs, SeriesId, SeriesKey, StoredReading};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use shared::ids::NodeId;
use shared::reading::{Held, Quality};
use std::sync::Arc;
use watched::Watched;

/// 2024-10-01.
const DAY: Day = Day(19_997);
const MINUTE: i64 = 60_000_000;

/// Some series, a reading a minute: `value` plus the number of the series; the last of each is bad.
fn day(day: Day, series: u32, value: f64) -> Runs<'static> {
    day_of(day, series, move |series, _| value + f64::from(series))
}

fn day_of(day: Day, series: u32, value: impl Fn(u32, i64) -> f64 + Send + 'static) -> Runs<'static> {
    let run = move |series: u32| {
        let key = SeriesKey {
            node: NodeId::new(format!("N{series:03}").as_str()).unwrap(),
            metric: "level".into(),
            channel: String::new(),
        };
        let reading = |n: i64| {
            let bad = n == 1439;
            let quality = if bad { Quality::BAD_TIMEOUT } else { Quality::GOOD };
            let value = (!bad).then(|| value(series, n));
            StoredReading {
                series: SeriesId(series),
                at: day.start().plus_micros(n * MINUTE),
                held: Held { value, quality, revision: 0 },
            }
        };
        Ok(Run { series: SeriesId(series), key: Arc::new(key), readings: (0..1440).map(reading).collect() })
    };
    stream::iter((0..series).map(run)).boxed()
}

/// An archive of a store that tells what is read.
struct Bench {
    store: Watched,
    archive: Arc<ParquetCold>,
    sql: Sql,
}

fn bench_with(change: impl FnOnce(&mut SqlSettings)) -> Bench {
    let mut settings = SqlSettings::default();
    change(&mut settings);
    let store = Watched::default();
    let archive = Arc::new(ParquetCold::on(Arc::new(store.clone()), "memory", false));
    let sql = Sql::new(archive.clone(), settings).unwrap();
    Bench { store, archive, sql }
}

/// With so many days from [`DAY`] on, of so many series.
async fn bench(days: i32, series: u32) -> Bench {
    let bench = bench_with(|_| ());
    bench.fill(days, series).await;
    bench
}

impl Bench {
    async fn fill(&self, days: i32, series: u32) {
        for n in 0..days {
            self.archive.replace_day(Day(DAY.0 + n), day(Day(DAY.0 + n), series, 0.0)).await.unwrap();
        }
    }

    async fn try_ask(&self, text: &str) -> Result<Vec<Value>, SqlError> {
        let mut answer = self.sql.ask(text, None).await?;
        let mut all = Vec::new();
        while let Some(batch) = answer.next().await? {
            all.extend(rows(&batch).unwrap().into_iter().map(|row| json!(row)));
        }
        Ok(all)
    }

    async fn ask(&self, text: &str) -> Vec<Value> {
        self.try_ask(text).await.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// What it says instead of an answer.
    async fn refusal(&self, text: &str) -> String {
        self.try_ask(text).await.expect_err(text).to_string()
    }
}
