//! Forecasts: kept alike by every store, made by a job from what is stored, scored, and served.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;
mod support;

use collector::analytics::forecast::{Point, Score, Scores};
use collector::analytics::store::Forecast;
use collector::etl::jobs::forecast::Forecasting;
use collector::etl::schedule::zone;
use collector::etl::{Job, Progress};
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Flush, SeriesId, StoredReading, WarmTier};
use services::postgres::Postgres;
use shared::catalogue::{Class, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use shared::reading::{Held, Quality, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use support::{SECOND, Site, until};

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn make(warm: &dyn WarmTier, node: &str, metric: &str, kind: Kind, unit: &str) -> SeriesId {
    let entry = Entry {
        node: NodeId::new(node).unwrap(),
        metric: metric.into(),
        channel: String::new(),
        kind,
        unit: unit.into(),
        resolution_exp: None,
        interval_ms: 300_000,
        silence_ms_max: 0,
        class: Class::Raw,
    };
    let gateway = GatewayId::new("STATION_7").unwrap();
    warm.series_for(&gateway, &[entry]).await.unwrap().remove(0).unwrap()
}

/// One reading every five minutes.
async fn fill(
    warm: &dyn WarmTier,
    series: SeriesId,
    from: Timestamp,
    to: Timestamp,
    value: impl Fn(Timestamp) -> Option<f64>,
) {
    let held = |value| Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
    let moments = (0..to.since(from) / (5 * MINUTE)).map(|n| from.plus_micros(n * 5 * MINUTE));
    let readings = moments.filter_map(|at| Some(StoredReading { series, at, held: held(value(at)?) })).collect();
    warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
    while warm.refresh_rollups(5_000).await.unwrap() > 0 {}
}

/// A district's demand: low at night, high in the morning.
fn demand(at: Timestamp) -> f64 {
    let hour = at.0.rem_euclid(DAY) as f64 / HOUR as f64;
    10.0 - 5.0 * (hour / 24.0 * std::f64::consts::TAU).cos()
}

// --- what every store must do

fn forecast(series: u32, origin: i64, model: &str, scores: Option<Scores>) -> Forecast {
    let point = Point { at: Timestamp(origin), value: 1.5, low50: 1.25, high50: 2.0, low90: -0.1, high90: 1e300 };
    Forecast {
        series: SeriesId(series),
        origin: Timestamp(origin),
        model: model.into(),
        trained_from: Timestamp(origin - DAY),
        trained_to: Timestamp(origin),
        made_at: Timestamp(origin + 1),
        points: vec![point; 3],
        scores,
    }
}

async fn keeps_forecasts(warm: &dyn WarmTier) {
    let store = warm.forecasts();
    let ever = Timestamp(i64::MIN);
    assert_eq!(store.forecasts(SeriesId(1), ever, 10).await.unwrap(), []);
    let score = Score { hours: 7, off: 0.1, within50: 3, within90: 6 };
    let scored = Scores { day: score, week: Score::default() };
    let scores = Some(scored);
    let all = [1, 2, 3].map(|day| forecast(1, day * DAY, "median8w", None));
    let other = [forecast(2, DAY, "median8w", None), forecast(1, 2 * DAY, "other", scores)];
    store.put_forecasts(&all, ever).await.unwrap();
    store.put_forecasts(&other, ever).await.unwrap();
    assert_eq!(store.forecasts(SeriesId(1), ever, 1).await.unwrap(), [all[2].clone()], "the newest first");
    let since = store.forecasts(SeriesId(1), Timestamp(2 * DAY), 10).await.unwrap();
    assert_eq!(since, [all[2].clone(), all[1].clone(), other[1].clone()]);
    assert_eq!(store.scores(SeriesId(1)).await.unwrap(), [("other".to_owned(), scored)]);

    let again = Forecast { made_at: Timestamp(9 * DAY), scores, ..all[2].clone() };
    store.put_forecasts(std::slice::from_ref(&again), Timestamp(2 * DAY)).await.unwrap();
    let left = store.forecasts(SeriesId(1), ever, 10).await.unwrap();
    assert_eq!(left, [again, all[1].clone(), other[1].clone()], "in place of the same; the oldest went");
    assert_eq!(store.forecasts(SeriesId(2), ever, 10).await.unwrap(), []);
    assert_eq!(store.scores(SeriesId(1)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn sqlite_keeps_forecasts() {
    let folder = tempfile::tempdir().unwrap();
    keeps_forecasts(&SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap()).await;
}

#[tokio::test]
async fn postgresql_keeps_what_analytics_found() {
    let server = Postgres::start().await;
    let warm = PostgresWarm::open(&server.database().await).await.unwrap();
    keeps_forecasts(&warm).await;
}

// --- the jobs

/// Nine weeks over the change of the clock, demand that follows the clock on the wall; the next days are scored.
#[tokio::test]
async fn forecasts_are_made_from_what_is_stored_and_scored_against_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap());
    let clock = Arc::new(AtomicI64::new(at("2026-03-27T23:30:00Z").0));
    let hands = clock.clone();
    let now = Arc::new(move || Timestamp(hands.load(Ordering::SeqCst)));
    let rome = zone("Europe/Rome").unwrap();
    let job = Forecasting { warm: warm.clone(), zone: rome.clone(), now };
    let flow = make(&*warm, "DIST_001", "flow_rate", Kind::Gauge, "L/s").await;
    let total = make(&*warm, "DIST_001", "total_volume", Kind::Counter, "m³").await;
    make(&*warm, "DIST_001", "running", Kind::State, "1").await;
    assert_eq!(job.run(&Progress::default()).await.unwrap().rows, 0, "nothing is known yet");

    let wall = |at: Timestamp| {
        let local = rome.to_datetime(jiff::Timestamp::from_microsecond(at.0).unwrap());
        f64::from(local.hour()) + 1.0
    };
    let (from, to) = (at("2026-01-23T00:00:00Z"), at("2026-04-10T00:00:00Z"));
    fill(&*warm, flow, from, to, |at| Some(wall(at))).await;
    // A counter that starts again every 1,000.
    fill(&*warm, total, from, to, |at| Some(((at.since(from) / (5 * MINUTE)) % 1_000) as f64)).await;
    let outcome = job.run(&Progress::default()).await.unwrap();
    assert_eq!((outcome.rows, outcome.detail.as_str()), (2, "2 of 2 series can be foretold"));

    let made = warm.forecasts().forecasts(flow, Timestamp(0), 10).await.unwrap().remove(0);
    assert_eq!((made.origin, made.points.len(), made.scores), (at("2026-03-27T23:00:00Z"), 168, None));
    assert_eq!((made.trained_to.since(made.trained_from), made.model.as_str()), (56 * DAY, "median8w"));
    assert!(made.points.iter().all(|p| (p.value - wall(p.at)).abs() < 1e-9), "{:?}", made.points);
    let grown = warm.forecasts().forecasts(total, Timestamp(0), 10).await.unwrap().remove(0);
    assert!(grown.points.iter().all(|p| p.value == 12.0), "twelve an hour, whatever was reset: {grown:?}");

    for day in 1..=9 {
        clock.fetch_add(DAY, Ordering::SeqCst);
        job.run(&Progress::default()).await.unwrap();
        let all = warm.forecasts().forecasts(flow, Timestamp(0), 20).await.unwrap();
        assert_eq!(all.len(), day + 1);
        let first = all.last().unwrap().scores.unwrap();
        assert_eq!((first.day.hours, first.week.hours), (24, 168.min(24 * day as u32)));
        assert!(first.week.off < 1e-6 && first.week.within90 == first.week.hours, "{first:?}");
    }
}

/// By the program that runs, over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn forecasts_are_served_with_their_accuracy_so_far() {
    let site = Site::new(&[], |_| {});
    std::fs::create_dir_all(&site.config.data_dir).unwrap();
    let warm = SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    let flow = make(&warm, "DIST_001", "flow_rate", Kind::Gauge, "L/s").await;
    let hour = support::now() / HOUR * HOUR;
    fill(&warm, flow, Timestamp(hour - 15 * DAY), Timestamp(hour), |at| Some(demand(at))).await;
    let score = Score { hours: 24, off: 12.0, within50: 12, within90: 24 };
    let scores = Some(Scores { day: score, week: score });
    // Of ten days ago: the job leaves its score alone.
    let old = forecast(flow.0, hour - 10 * DAY, "median8w", scores);
    warm.forecasts().put_forecasts(&[old], Timestamp(0)).await.unwrap();
    warm.close().await;

    let collector = site.start().await;
    let url = format!("http://{}/api/v1/jobs/forecast/run", collector.api);
    tokio::task::spawn_blocking(move || ureq::post(&url).send_empty().unwrap()).await.unwrap();
    let done = async || collector.get("jobs/runs?job=forecast").await["items"][0]["status"] == "done";
    assert!(until(done).await, "{}", collector.get("jobs/runs?job=forecast").await);

    let answer = collector.get("forecasts?node=DIST_001&metric=flow_rate").await;
    let item = &answer["items"][0];
    assert_eq!((&item["node"], &item["unit"], &item["says"]), (&"DIST_001".into(), &"L/s".into(), &"average".into()));
    assert_eq!((&item["model"], item["points"].as_array().unwrap().len()), (&"median8w".into(), 168));
    let point = &item["points"][30];
    let (start, value) = (at(point["at"].as_str().unwrap()), point["value"].as_f64().unwrap());
    let middle = demand(start.plus_micros(30 * MINUTE));
    assert!((value - middle).abs() < 0.2 && point["low90"].as_f64().unwrap() <= value, "{point} {middle}");
    let day = &item["accuracy"][0];
    assert_eq!((&day["horizon_h"], &day["mae"], &day["within_50"]), (&24.into(), &0.5.into(), &0.5.into()), "{item}");
    assert_eq!(collector.get("forecasts?node=NOWHERE").await["items"], serde_json::json!([]));
    collector.stop().await;
}
