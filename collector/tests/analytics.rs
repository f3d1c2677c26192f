//! Forecasts and anomalies: kept alike by every store, made by jobs from what is stored, and served.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;
mod support;

use collector::analytics::anomaly::{Kind as Wrong, Severity};
use collector::analytics::forecast::{Point, Score, Scores};
use collector::analytics::store::{Action, Anomaly, Forecast, Judgement, Note, State, Wanted};
use collector::anomalies::Anomalies;
use collector::etl::jobs::anomaly_detection::AnomalyDetection;
use collector::etl::jobs::forecast::Forecasting;
use collector::etl::schedule::{Schedule, zone};
use collector::etl::store::Status;
use collector::etl::{Job, Pace, Planned, Progress, Scheduler};
use collector::tiers::warm::postgres::PostgresWarm;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Flush, SeriesId, StoredReading, WarmTier};
use serde_json::{Value, json};
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
    keeps_anomalies(&warm).await;
}

fn anomaly(series: u32, kind: Wrong, start: i64, end: Option<i64>) -> Anomaly {
    Anomaly {
        number: 0,
        series: SeriesId(series),
        kind,
        start: Timestamp(start),
        last: Timestamp(end.unwrap_or(start + HOUR)),
        end: end.map(Timestamp),
        severity: Severity::Warning,
        expected: Some(1.5),
        seen: None,
        detail: "far too much".into(),
        state: State::Open,
        normal: false,
        notes: Vec::new(),
    }
}

async fn keeps_anomalies(warm: &dyn WarmTier) {
    let (store, ever) = (warm.anomalies(), Timestamp(0));
    let all = [
        anomaly(1, Wrong::Profile, DAY, Some(2 * DAY)),
        anomaly(1, Wrong::Silence, 3 * DAY, None),
        anomaly(2, Wrong::NightFlow, 2 * DAY, Some(3 * DAY)),
    ];
    store.put_anomalies(&all, ever).await.unwrap();
    store.put_anomalies(&all, ever).await.unwrap(); // a run that is begun again opens nothing twice
    let found = store.find_anomalies(&Wanted::all(10)).await.unwrap();
    let without: Vec<_> = found.iter().map(|one| Anomaly { number: 0, ..one.clone() }).collect();
    assert_eq!(without, [all[1].clone(), all[2].clone(), all[0].clone()], "the latest start first");
    let (silence, profile) = (found[0].clone(), found[2].clone());
    let count = async |wanted: Wanted| store.find_anomalies(&wanted).await.unwrap().len();
    let wanted = || Wanted::all(10);
    assert_eq!(count(Wanted { number: Some(profile.number), ..wanted() }).await, 1);
    assert_eq!(count(Wanted { series: Some(vec![SeriesId(1), SeriesId(9)]), ..wanted() }).await, 2);
    assert_eq!(count(Wanted { series: Some(vec![]), ..wanted() }).await, 0);
    assert_eq!(count(Wanted { kind: Some(Wrong::NightFlow), ..wanted() }).await, 1);
    assert_eq!(count(Wanted { from: Timestamp(9 * DAY), ..wanted() }).await, 1, "what goes on, goes on");
    assert_eq!(count(Wanted { to: Timestamp(2 * DAY), ..wanted() }).await, 1);
    assert_eq!(count(Wanted { count_max: 2, ..wanted() }).await, 2);

    let judge = |anomaly: i64, what: Action, at: i64, normal: bool| {
        let note = Note { at: Timestamp(at), who: "M. Rossi".into(), what, comment: "looked at it".into() };
        Flush { judgements: vec![Judgement { anomaly, note, normal }], ..Flush::default() }
    };
    warm.commit(judge(silence.number, Action::Acknowledge, 1, false)).await.unwrap();
    warm.commit(judge(silence.number, Action::Acknowledge, 1, false)).await.unwrap(); // a commit that is repeated
    warm.commit(judge(silence.number, Action::Comment, 2, false)).await.unwrap();
    warm.commit(judge(profile.number, Action::Close, 3, true)).await.unwrap();
    let late = warm.commit(judge(profile.number, Action::Acknowledge, 4, false)).await.unwrap();
    assert_eq!(late.too_late, Some(profile.number), "closed is closed");
    let on = Anomaly { last: Timestamp(5 * DAY), end: Some(Timestamp(5 * DAY)), seen: Some(7.0), ..silence.clone() };
    let on = Anomaly { severity: Severity::Critical, detail: "still".into(), ..on };
    store.put_anomalies(std::slice::from_ref(&on), ever).await.unwrap();
    let found = store.find_anomalies(&Wanted { state: Some(State::Acknowledged), ..wanted() }).await.unwrap();
    let notes: Vec<_> = found[0].notes.iter().map(|note| (note.at.0, note.what)).collect();
    assert_eq!(notes, [(1, Action::Acknowledge), (2, Action::Comment)]);
    let expected = Anomaly { state: State::Acknowledged, notes: found[0].notes.clone(), ..on };
    assert_eq!(found, [expected], "what is seen goes on, what people said stays");
    let closed = store.find_anomalies(&Wanted { state: Some(State::Closed), ..wanted() }).await.unwrap();
    assert!(closed.len() == 1 && closed[0].normal && closed[0].notes.len() == 1, "{closed:?}");
    store.put_anomalies(&[], Timestamp(4 * DAY)).await.unwrap();
    assert_eq!(count(wanted()).await, 1, "what ended long ago goes");
}

#[tokio::test]
async fn sqlite_keeps_anomalies() {
    let folder = tempfile::tempdir().unwrap();
    keeps_anomalies(&SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap()).await;
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
    let told = (outcome.rows, outcome.detail.as_str());
    assert_eq!(told, (2 * 10, "2 of 2 series can be foretold"), "and of the nine days before, since they never were");

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
        assert_eq!((all.len(), all[day].origin), (9 + 1 + day, made.origin));
        let first = all[day].scores.unwrap();
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
    // Of ten days' 240 hours the oldest 24 were 12 L/s off in all and half of them outside; the others, foretold afterwards, right.
    let day = &item["accuracy"][0];
    assert_eq!((&day["horizon_h"], &day["mae"], &day["within_50"]), (&24.into(), &0.05.into(), &0.95.into()), "{day}");
    assert_eq!(collector.get("forecasts?node=NOWHERE").await["items"], serde_json::json!([]));
    collector.stop().await;
}

/// Two weeks and two days of a district, with a pressure sensor that gets stuck and a burst; the scheduler does the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_and_a_stuck_sensor_are_found_once_and_go_on_until_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let warm: Arc<dyn WarmTier> = Arc::new(SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap());
    let flow = make(&*warm, "DIST_001", "flow_rate", Kind::Gauge, "L/s").await;
    let pressure = make(&*warm, "DIST_001", "pressure", Kind::Gauge, "bar").await;
    let start = at("2026-06-01T00:00:00Z");
    let (burst, mended) = (start.plus_micros(14 * DAY + 20 * HOUR), start.plus_micros(15 * DAY + 12 * HOUR));
    let stuck = start.plus_micros(14 * DAY + 6 * HOUR);
    let flowing = |at: Timestamp| Some(demand(at) + if (burst..mended).contains(&at) { 15.0 } else { 0.0 });
    let pressing = |at: Timestamp| Some(4.0 - demand(at.min(stuck)) / 20.0);

    let clock = Arc::new(AtomicI64::new(start.0 + 14 * DAY + 2 * MINUTE));
    let hands = clock.clone();
    let now: collector::etl::Now = Arc::new(move || Timestamp(hands.load(Ordering::SeqCst)));
    let rome = zone("Europe/Rome").unwrap();
    let anomalies = Arc::new(Anomalies::new(warm.clone(), None));
    let job = AnomalyDetection { warm: warm.clone(), anomalies, zone: rome.clone(), now: now.clone() };
    let schedule = Some(Schedule::parse("*/15 * * * *", rome).unwrap());
    let pace = Pace { tick: std::time::Duration::from_millis(10), ..Pace::default() };
    let scheduler = Scheduler::new(warm.clone(), vec![Planned { job: Arc::new(job), schedule }], "a".into(), now, pace);
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(scheduler.run(stop.clone()));
    assert!(until(async || !warm.jobs().marks().await.unwrap().is_empty()).await, "nobody leads");

    let mut filled = start;
    let mut history = Vec::new();
    for hour in 1..=46 {
        let to = Timestamp(start.0 + 14 * DAY + hour * HOUR);
        fill(&*warm, flow, filled, to, flowing).await;
        fill(&*warm, pressure, filled, to, pressing).await;
        filled = to;
        clock.store(to.0 + MINUTE, Ordering::SeqCst);
        let done = async || {
            let runs = warm.jobs().runs(None, 100).await.unwrap();
            runs.len() == hour as usize && runs[0].status == Status::Done
        };
        assert!(until(done).await, "{:?}", warm.jobs().runs(None, 1).await);
        let all = warm.anomalies().find_anomalies(&Wanted::all(100)).await.unwrap();
        history.push(all.iter().filter(|one| one.end.is_none()).map(|one| (one.series, one.kind)).collect::<Vec<_>>());
    }
    stop.cancel();
    support::within(task).await.unwrap();

    assert!(history[..6].iter().all(Vec::is_empty), "before anything happens nothing is found: {history:?}");
    let all = warm.anomalies().find_anomalies(&Wanted::all(100)).await.unwrap();
    let of = |series, kind| {
        let one: Vec<&Anomaly> = all.iter().filter(|one| (one.series, one.kind) == (series, kind)).collect();
        assert_eq!(one.len(), 1, "once and not again: {all:#?}");
        one[0].clone()
    };
    let steps: Vec<_> = all.iter().filter(|one| one.kind == Wrong::RateOfChange).collect();
    let moments: Vec<_> = steps.iter().map(|one| (one.series, one.start, one.end.is_some())).collect();
    assert_eq!(moments, [(flow, mended, true), (flow, burst, true)], "up and down: {steps:#?}");
    let profile = of(flow, Wrong::Profile);
    assert!(profile.start >= burst.plus_micros(-HOUR) && profile.start <= burst.plus_micros(HOUR), "{profile:?}");
    assert_eq!(profile.end, Some(mended), "it ends when it is mended");
    let night = of(flow, Wrong::NightFlow);
    assert_eq!((night.start, night.severity), (at("2026-06-16T00:00:00Z"), Severity::Critical));
    let standing = of(pressure, Wrong::Stuck);
    assert_eq!((standing.start, standing.end), (stuck, None), "it goes on");
    assert!(history[20..30].iter().all(|open| open.contains(&(pressure, Wrong::Stuck))), "{history:?}");
    assert!(all.iter().all(|one| one.series == flow || [Wrong::Stuck, Wrong::Profile].contains(&one.kind)), "{all:#?}");
}

/// By the program that runs, over HTTP: found, acknowledged, commented, closed, and all of it in the audit.
#[tokio::test(flavor = "multi_thread")]
async fn anomalies_are_served_and_people_decide_about_them() {
    let site = Site::new(&[], |_| {});
    std::fs::create_dir_all(&site.config.data_dir).unwrap();
    let warm = SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    let flow = make(&warm, "DIST_001", "flow_rate", Kind::Gauge, "L/s").await;
    let hour = support::now() / HOUR * HOUR;
    fill(&warm, flow, Timestamp(hour - DAY), Timestamp(hour - 5 * HOUR), |at| Some(demand(at))).await;
    warm.close().await;
    let collector = site.start().await;
    let (status, _) = collector.post("jobs/anomaly_detection/run", json!({})).await;
    assert_eq!(status, 202);
    let found = async || !collector.get("anomalies").await["items"].as_array().unwrap().is_empty();
    assert!(until(found).await, "{}", collector.get("jobs/runs").await);
    let all = collector.get("anomalies?state=open&kind=silence&node=DIST_001&from=now-1h").await;
    let one = &all["items"][0];
    assert_eq!((&one["metric"], &one["kind"], &one["end"]), (&json!("flow_rate"), &json!("silence"), &Value::Null));
    let id = one["id"].as_i64().unwrap();
    let said = json!({ "author": "M. Rossi", "comment": "the battery" });
    let (status, answer) = collector.post(&format!("anomalies/{id}/acknowledge"), said.clone()).await;
    assert_eq!((status, &answer["state"]), (200, &json!("acknowledged")), "{answer}");
    assert_eq!(collector.post(&format!("anomalies/{id}/acknowledge"), said.clone()).await.0, 409);
    assert_eq!(collector.post(&format!("anomalies/{id}/comment"), said.clone()).await.0, 200);
    let (status, answer) = collector.post(&format!("anomalies/{id}/close"), said.clone()).await;
    let notes: Vec<_> = answer["notes"].as_array().unwrap().iter().map(|note| note["what"].clone()).collect();
    assert_eq!(
        (status, &answer["state"], notes),
        (200, &json!("closed"), vec!["acknowledge".into(), "comment".into(), "close".into()])
    );
    for (path, body, status) in [
        (format!("anomalies/{id}/close"), said.clone(), 409),
        ("anomalies/999/close".into(), said.clone(), 404),
        (format!("anomalies/{id}/comment"), json!({ "author": "x", "comment": " " }), 400),
        (format!("anomalies/{id}/comment"), json!({ "author": "x", "comment": "x", "normal": true }), 400),
        (format!("anomalies/{id}/comment"), json!({ "comment": "x" }), 400),
    ] {
        assert_eq!(collector.post(&path, body).await.0, status, "{path}");
    }
    assert_eq!(collector.get("anomalies?state=open").await["items"], json!([]));
    assert_eq!(collector.get("anomalies?kind=burst").await["parameter"], "kind");
    let audit = collector.get("audit").await;
    let newest = &audit["items"][0];
    assert_eq!(
        (&newest["who"], &newest["what"], &newest["detail"]["action"]),
        (&json!("M. Rossi"), &json!("anomaly"), &json!("close"))
    );
    collector.stop().await;
}
