use super::*;
use crate::tiers::Flush;
use crate::tiers::hot::memory::MemoryHot;
use crate::tiers::warm::sqlite::SqliteWarm;
use shared::catalogue::{Class, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use shared::reading::{MICROS_PER_SECOND, Quality};

const MINUTE: i64 = 60 * MICROS_PER_SECOND;
const HOUR: i64 = 60 * MINUTE;
/// A full UTC day.
const START: i64 = 20_000 * 24 * HOUR;
/// Two hours before now the collector was started: the hot tier proves nothing older.
const NOW: i64 = START + 10 * HOUR;
const FLOOR: i64 = START + 8 * HOUR + 90 * MICROS_PER_SECOND;

struct Bench {
    history: History,
    warm: Arc<SqliteWarm>,
    hot: Arc<MemoryHot>,
    series: SeriesInfo,
    _folder: tempfile::TempDir,
}

async fn bench(kind: Kind, metric: &str, unit: &str) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let warm = Arc::new(SqliteWarm::open(&folder.path().join("w")).await.unwrap());
    let hot = Arc::new(MemoryHot::new(Timestamp(FLOOR), 1_000_000, Arc::new(|| Timestamp(NOW))));
    let entry = Entry {
        node: NodeId::new("DIST_001").unwrap(),
        metric: metric.into(),
        channel: String::new(),
        kind,
        unit: unit.into(),
        resolution_exp: None,
        interval_ms: 10_000,
        silence_ms_max: 0,
        class: Class::Raw,
    };
    warm.series_for(&GatewayId::new("G").unwrap(), &[entry]).await.unwrap()[0].as_ref().unwrap();
    let series = warm.series(None).await.unwrap().remove(0);
    Bench { history: History::new(warm.clone(), hot.clone()), warm, hot, series, _folder: folder }
}

impl Bench {
    /// One reading every ten seconds: what is older than the floor is in warm, newer in hot and only in hot.
    async fn fill(&self, value: impl Fn(i64) -> f64) -> Vec<StoredReading> {
        let all: Vec<_> = (0..10 * 360).map(|n| self.reading(n * 10 * MICROS_PER_SECOND, value(n))).collect();
        let seam = all.partition_point(|r| r.at.0 < FLOOR);
        self.warm.commit(Flush { readings: all[..seam].to_vec(), ..Flush::default() }).await.unwrap();
        self.hot.put(&all[seam..]).await.unwrap();
        all
    }

    fn reading(&self, after_start: i64, value: f64) -> StoredReading {
        let held = Held { value: Some(value), quality: Quality::GOOD, revision: 0 };
        StoredReading { series: self.series.id, at: Timestamp(START + after_start), held }
    }

    async fn refresh(&self) {
        while self.warm.refresh_rollups(100).await.unwrap() > 0 {}
    }

    async fn ask(&self, from: i64, to: i64, resolution: Resolution, points_max: u32) -> Answer {
        let (from, to) = (Timestamp(START + from), Timestamp(START + to));
        let question =
            Question { series: self.series.clone(), from, to, resolution, points_max, thin: None, now: Timestamp(NOW) };
        self.history.ask(&question).await.unwrap()
    }
}

fn raw(answer: &Answer) -> &[StoredReading] {
    match &answer.points {
        Points::Raw(readings) => readings,
        Points::Buckets(..) => panic!("{answer:?}"),
    }
}

fn buckets(answer: &Answer) -> (Width, &[BucketPoint]) {
    match &answer.points {
        Points::Buckets(width, points) => (*width, points),
        Points::Raw(_) => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn readings_of_both_tiers_are_one_answer() {
    let bench = bench(Kind::Gauge, "flow_rate", "L/s").await;
    let all = bench.fill(|n| n as f64).await;
    let answer = bench.ask(7 * HOUR, 9 * HOUR, Resolution::Raw, POINTS_MAX).await;
    assert_eq!(raw(&answer), &all[7 * 360..9 * 360]);
    assert_eq!((answer.tiers.as_slice(), answer.coverage, answer.truncated), (&["hot", "warm"][..], 1.0, false));
    let newest = bench.ask(9 * HOUR, 9 * HOUR + MINUTE, Resolution::Raw, POINTS_MAX).await;
    assert_eq!((raw(&newest), newest.tiers.as_slice()), (&all[9 * 360..9 * 360 + 6], &["hot"][..]));
}

#[tokio::test]
async fn too_many_points_are_cut_where_the_next_question_begins() {
    let bench = bench(Kind::Gauge, "flow_rate", "L/s").await;
    let all = bench.fill(|n| n as f64).await;
    let mut got = Vec::new();
    let mut from = 6 * HOUR;
    loop {
        let answer = bench.ask(from, 10 * HOUR, Resolution::Raw, 500).await;
        got.extend_from_slice(raw(&answer));
        if !answer.truncated {
            break;
        }
        assert_eq!(raw(&answer).len(), 500);
        from = answer.to.0 - START;
    }
    assert_eq!(got, &all[6 * 360..]);
}

#[tokio::test]
async fn buckets_are_the_same_from_rollups_from_dirty_readings_and_from_hot() {
    let bench = bench(Kind::Gauge, "flow_rate", "L/s").await;
    bench.fill(|n| (n % 7) as f64).await;
    for width in Width::ALL {
        let dirty = bench.ask(0, 10 * HOUR, Resolution::Buckets(width), POINTS_MAX).await;
        assert!(dirty.recomputed > 0 || width > Width::FiveMinutes);
        let all: u64 = buckets(&dirty).1.iter().filter_map(|p| p.rollup).map(|r| r.count()).sum();
        assert_eq!(all, 3_600, "{width:?}: none is missing where one tier ends and the other begins");
    }
    let dirty = bench.ask(0, 8 * HOUR, Resolution::Buckets(Width::FiveMinutes), POINTS_MAX).await;
    bench.refresh().await;
    let clean = bench.ask(0, 8 * HOUR, Resolution::Buckets(Width::FiveMinutes), POINTS_MAX).await;
    assert_eq!((clean.recomputed, dirty.recomputed), (0, 96));
    assert_eq!(clean.points, dirty.points);
}

#[tokio::test]
async fn auto_takes_the_finest_that_fits() {
    let bench = bench(Kind::Gauge, "flow_rate", "L/s").await;
    bench.fill(|n| n as f64).await;
    assert_eq!(raw(&bench.ask(0, HOUR, Resolution::Auto, 400).await).len(), 360);
    assert_eq!(buckets(&bench.ask(0, 8 * HOUR, Resolution::Auto, 400).await).0, Width::FiveMinutes);
    assert_eq!(buckets(&bench.ask(0, 8 * HOUR, Resolution::Auto, 50).await).0, Width::Hour);
    let days = bench.ask(-90 * 24 * HOUR, 8 * HOUR, Resolution::Auto, 50).await;
    assert_eq!((buckets(&days).0, days.truncated), (Width::Day, true));
}

#[tokio::test]
async fn silence_is_not_covered_and_bad_readings_are_counted() {
    let bench = bench(Kind::Gauge, "flow_rate", "L/s").await;
    let bad = Held { value: None, quality: Quality::BAD_TIMEOUT, revision: 0 };
    let late = StoredReading { held: bad, ..bench.reading(2 * MINUTE, 0.0) };
    let readings = vec![bench.reading(0, 2.0), bench.reading(10 * MICROS_PER_SECOND, 4.0), late];
    bench.warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
    let answer = bench.ask(0, 10 * MINUTE, Resolution::Buckets(Width::FiveMinutes), 10).await;
    let (_, points) = buckets(&answer);
    assert_eq!(points.len(), 1, "nothing is known of the second bucket");
    assert_eq!(points[0].rollup.unwrap().bad, 1);
    // 2.0 for ten seconds, 4.0 for the thirty seconds that a value holds.
    assert_eq!((points[0].span.integral, points[0].span.covered), (140.0, 40 * MICROS_PER_SECOND));
    assert_eq!(points[0].span.average(), Some(3.5));
    assert!((answer.coverage - 40.0 / 600.0).abs() < 1e-12);
}

#[tokio::test]
async fn a_counters_increases_add_up_across_buckets_tiers_and_resets() {
    let bench = bench(Kind::Counter, "total_volume", "m³").await;
    bench.fill(|n| (n % 1_000) as f64).await;
    let readings = (0..10 * 360).map(|n| bench.reading(n * 10 * MICROS_PER_SECOND, (n % 1_000) as f64)).collect();
    bench.warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
    let answer = bench.ask(HOUR, 10 * HOUR, Resolution::Buckets(Width::FiveMinutes), POINTS_MAX).await;
    let (_, points) = buckets(&answer);
    let sum: f64 = points.iter().filter_map(|p| p.span.increase).sum();
    // From reading 359, the last before the stretch, to reading 3599; each of three resets costs one step.
    assert_eq!(sum, 3_240.0 - 3.0);
    assert_eq!(points.iter().map(|p| p.span.resets).sum::<u32>(), 3);
}

#[tokio::test]
async fn latest_is_the_newer_of_both_tiers() {
    let bench = bench(Kind::Gauge, "flow_rate", "L/s").await;
    let (old, new) = (bench.reading(0, 1.0), bench.reading(MINUTE, 2.0));
    bench.warm.commit(Flush { readings: vec![new], ..Flush::default() }).await.unwrap();
    bench.hot.put(&[old]).await.unwrap();
    assert_eq!(bench.history.latest(&[bench.series.id]).await.unwrap(), (vec![new], vec![]));
    let newest = bench.reading(2 * MINUTE, 3.0);
    bench.hot.put_live(&[newest]).await.unwrap();
    assert_eq!(bench.history.latest(&[bench.series.id]).await.unwrap().0, [newest]);
}

#[tokio::test]
async fn with_the_warm_tier_gone_hot_answers_and_says_what_is_missing() {
    let bench = bench(Kind::Gauge, "flow_rate", "L/s").await;
    let all = bench.fill(|n| n as f64).await;
    bench.warm.close().await;
    let answer = bench.ask(7 * HOUR, 9 * HOUR, Resolution::Raw, POINTS_MAX).await;
    assert_eq!(raw(&answer), &all[8 * 360 + 9..9 * 360]);
    assert!(answer.degraded.iter().any(|d| d.contains("warm tier") && d.contains("missing")), "{:?}", answer.degraded);
    assert!(answer.coverage < 0.5);
    let (latest, degraded) = bench.history.latest(&[bench.series.id]).await.unwrap();
    assert_eq!((latest.as_slice(), degraded.len()), (&all[all.len() - 1..], 0), "nothing newer can be stored");
    let question = Question {
        series: bench.series.clone(),
        from: Timestamp(START),
        to: Timestamp(START + HOUR),
        resolution: Resolution::Raw,
        points_max: 10,
        thin: None,
        now: Timestamp(NOW),
    };
    assert!(bench.history.ask(&question).await.is_err(), "nobody can answer for that");
}
