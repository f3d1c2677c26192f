//! The history service against a naive truth: whatever comes late, twice or corrected, whatever leaves which tier and
//! whichever dies, the answer is the truth, or it says that something is missing. It is never a wrong number.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use collector::etl::jobs::Alarm;
use collector::etl::jobs::cleanup::Cleanup;
use collector::etl::jobs::daily_sync::DailySync;
use collector::etl::{Job, Progress};
use collector::history::{Answer, History, POINTS_MAX, Points, Question, Resolution, Thin, Way, Width};
use collector::rollup::{Rollup, Sample, Span, hold};
use collector::run::Tiers;
use collector::tiers::cold::parquet::ParquetCold;
use collector::tiers::hot::memory::MemoryHot;
use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::*;
use proptest::prelude::*;
use shared::catalogue::{Class, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::metric::Kind;
use shared::reading::{Held, Quality, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use support::faulty::{FaultyCold, FaultyHot, FaultyWarm, faulty};

const MINUTE: i64 = 60_000_000;
const DAYS: i32 = 5;
const FIRST: Day = Day(20_000);
/// The end of the last day.
const NOW: Timestamp = Timestamp((FIRST.0 as i64 + DAYS as i64) * 24 * 60 * MINUTE);
/// The hot tier was made ten hours before that.
const HOT_FROM: Timestamp = Timestamp(NOW.0 - 600 * MINUTE);
/// Few, so that it evicts.
const HOT_READINGS_MAX: usize = 150;
/// What nobody else says, and what wins against all that they say.
const REFUSED: Held = Held { value: Some(666.0), quality: Quality::MANUAL, revision: 9 };

#[derive(Clone, Debug)]
enum Step {
    /// Readings (series, minute, value, kind of quality) arrive, near each other.
    Arrive(Vec<(usize, i64, i8, u8)>),
    /// Readings arrive that the warm tier refuses, of moments of which there are others: which of those.
    Refuse(Vec<usize>),
    /// The first days are archived, and what came late for those that had left; those that are proved leave the warm tier.
    Archive {
        days: i32,
        drop: bool,
    },
    Tidy,
    RefreshRollups,
    EmptyHot,
    Warm(bool),
    Hot(bool),
    Cold(bool),
    Ask {
        series: usize,
        from: i64,
        minutes: i64,
        how: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let minutes = i64::from(DAYS) * 1440;
    let near = |begin: i64| prop::collection::vec((0..2_usize, begin..begin + 90, any::<i8>(), 0..12_u8), 1..60);
    let asked = (0..2_usize, -100..minutes, prop_oneof![1..200_i64, 1..minutes], 0..9_u8);
    prop_oneof![
        5 => (0..minutes - 90).prop_flat_map(near).prop_map(Step::Arrive),
        2 => (minutes - 700..minutes - 90).prop_flat_map(near).prop_map(Step::Arrive),
        1 => prop::collection::vec(any::<usize>(), 1..5).prop_map(Step::Refuse),
        2 => (1..DAYS, any::<bool>()).prop_map(|(days, drop)| Step::Archive { days, drop }),
        1 => Just(Step::Tidy),
        1 => Just(Step::RefreshRollups),
        1 => Just(Step::EmptyHot),
        1 => prop::bool::weighted(0.7).prop_map(Step::Warm),
        1 => prop::bool::weighted(0.7).prop_map(Step::Hot),
        1 => prop::bool::weighted(0.7).prop_map(Step::Cold),
        9 => asked.prop_map(|(series, from, minutes, how)| Step::Ask { series, from, minutes, how }),
    ]
}

struct World {
    history: History,
    warm: Arc<FaultyWarm>,
    hot: Arc<FaultyHot>,
    cold: Arc<FaultyCold>,
    series: Vec<SeriesInfo>,
    /// What the answer should be made from.
    truth: BTreeMap<(SeriesId, Timestamp), Held>,
    /// Everything that was ever said.
    said: HashMap<(SeriesId, Timestamp), Vec<Held>>,
    /// Stored, but not committed: the warm tier is away.
    pending: Vec<StoredReading>,
    /// The hot tier has missed something.
    owes: bool,
    labelled: usize,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warm = Arc::new(SqliteWarm::open(&folder.path().join("warm.sqlite")).await.unwrap());
        let entry = |node: &str, kind| Entry {
            node: NodeId::new(node).unwrap(),
            metric: if kind == Kind::Counter { "total_volume".into() } else { "pressure".into() },
            channel: String::new(),
            kind,
            unit: if kind == Kind::Counter { "m³".into() } else { "bar".into() },
            resolution_exp: None,
            interval_ms: 60_000,
            silence_ms_max: 0,
            class: Class::Raw,
        };
        let entries = [entry("A", Kind::Gauge), entry("B", Kind::Counter)];
        warm.series_for(&GatewayId::new("G").unwrap(), &entries).await.unwrap();
        let series = warm.series(None).await.unwrap();
        let hot = Arc::new(MemoryHot::new(HOT_FROM, HOT_READINGS_MAX, Arc::new(|| NOW)));
        let inner = Arc::new(ParquetCold::in_folder(folder.path().join("cold")).unwrap());
        let cold = FaultyCold::new(inner);
        let (tiers, warm, hot) = faulty(Tiers { warm, hot, redis: None, cold: Some(cold.clone()), sql: None });
        let history = History::new(tiers.warm, tiers.hot).with_cold(tiers.cold);
        Self {
            history,
            warm,
            hot,
            cold,
            series,
            truth: BTreeMap::new(),
            said: HashMap::new(),
            pending: Vec::new(),
            owes: false,
            labelled: 0,
            _folder: folder,
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Arrive(readings) => self.arrive(&readings).await,
            Step::Refuse(which) => self.refuse(&which).await,
            Step::Archive { days, drop } => self.archive(days, drop).await,
            Step::Tidy => drop(self.cold.tidy(Day(FIRST.0 + 60)).await),
            Step::RefreshRollups => drop(self.warm.refresh_rollups(40).await),
            Step::EmptyHot => drop(self.hot.forget(NOW).await),
            Step::Warm(there) => {
                self.warm.away.store(!there, SeqCst);
                if there {
                    let readings = std::mem::take(&mut self.pending);
                    self.warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
                }
            }
            Step::Hot(there) => {
                self.hot.away.store(!there, SeqCst);
                if there && std::mem::take(&mut self.owes) {
                    self.hot.forget(NOW).await.unwrap();
                }
            }
            Step::Cold(there) => self.cold.away.store(!there, SeqCst),
            Step::Ask { series, from, minutes, how } => {
                let from = FIRST.start().plus_micros(from * MINUTE);
                self.ask(series, from, from.plus_micros(minutes * MINUTE), how).await;
            }
        }
    }

    async fn arrive(&mut self, readings: &[(usize, i64, i8, u8)]) {
        let readings: Vec<_> = readings.iter().map(|r| self.reading(*r)).collect();
        for reading in &readings {
            let key = (reading.series, reading.at);
            self.said.entry(key).or_default().push(reading.held);
            let held = self.truth.entry(key).or_insert(reading.held);
            if reading.held.wins_over(held) {
                *held = reading.held;
            }
        }
        self.owes |= self.hot.put(&readings).await.is_err();
        self.pending.extend(readings);
        if !self.warm.away.load(SeqCst) {
            let readings = std::mem::take(&mut self.pending);
            self.warm.commit(Flush { readings, ..Flush::default() }).await.unwrap();
        }
    }

    /// The hot tier has them, and loses them again.
    async fn refuse(&self, which: &[usize]) {
        let recent: Vec<_> = self.truth.keys().filter(|(_, at)| *at >= HOT_FROM).collect();
        let refused = |n: &usize| {
            let (series, at) = **recent.get(n % recent.len().max(1))?;
            Some(StoredReading { series, at, held: REFUSED })
        };
        let refused: Vec<_> = which.iter().filter_map(refused).collect();
        let put = self.hot.put(&refused).await;
        assert_eq!(put.is_ok(), self.hot.withdraw(&refused).await.is_ok());
    }

    fn reading(&self, (series, minute, value, kind): (usize, i64, i8, u8)) -> StoredReading {
        let (quality, revision) = match kind {
            0 => (Quality::BAD_TIMEOUT, 0),
            1 => (Quality::UNCERTAIN_CLOCK, 0),
            2 => (Quality::MANUAL, 1),
            3 => (Quality::MANUAL, 2),
            _ => (Quality::GOOD, 0),
        };
        // Quarters of small numbers add up exactly in any order.
        let value = (quality != Quality::BAD_TIMEOUT).then_some(f64::from(value) / 4.0);
        let at = FIRST.start().plus_micros(minute * MINUTE);
        StoredReading { series: self.series[series].id, at, held: Held { value, quality, revision } }
    }

    /// The jobs, as on the morning after so many days.
    async fn archive(&mut self, days: i32, leave: bool) {
        let now = move || Day(FIRST.0 + days).start().plus_micros(180 * MINUTE);
        let (warm, cold): (Arc<dyn WarmTier>, Option<Arc<dyn ColdTier>>) = (self.warm.clone(), Some(self.cold.clone()));
        let alarm = Arc::<Alarm>::default();
        let sync =
            DailySync { warm: warm.clone(), cold: cold.clone(), inbox: None, now: Arc::new(now), alarm: alarm.clone() };
        let progress = Progress::default();
        let synced = sync.run(&progress).await;
        assert!(synced.is_ok() || self.one_is_away(), "{synced:?}");
        if leave {
            let cleanup = Cleanup::new(warm, cold, 0, Arc::new(now), alarm);
            let cleaned = cleanup.run(&progress).await;
            assert!(cleaned.is_ok() || self.one_is_away(), "{cleaned:?}");
            assert_eq!(cleanup.followed_by(), None, "{cleaned:?}");
        }
    }

    fn true_range(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> Vec<StoredReading> {
        let range = self.truth.range((series, from)..(series, to.max(from)));
        range.map(|((series, at), held)| StoredReading { series: *series, at: *at, held: *held }).collect()
    }

    fn one_is_away(&self) -> bool {
        self.warm.away.load(SeqCst) || self.cold.away.load(SeqCst) || self.hot.away.load(SeqCst)
    }

    async fn ask(&mut self, series: usize, from: Timestamp, to: Timestamp, how: u8) {
        let (resolution, points_max, thin) = match how {
            0 | 1 => (Resolution::Raw, POINTS_MAX, None),
            2 => (Resolution::Raw, 7, None),
            3 => (Resolution::Raw, POINTS_MAX, Some(Thin { pixels: 20, way: Way::MinMax })),
            4 => (Resolution::Raw, POINTS_MAX, Some(Thin { pixels: 20, way: Way::Lttb })),
            5 | 6 => (Resolution::Buckets(Width::FiveMinutes), POINTS_MAX, None),
            7 => (Resolution::Buckets(Width::Hour), POINTS_MAX, None),
            _ => (Resolution::Buckets(Width::Day), POINTS_MAX, None),
        };
        let series = self.series[series].clone();
        let question = Question { series, from, to, resolution, points_max, thin, now: NOW };
        let answer = match self.history.ask(&question).await {
            Ok(answer) => answer,
            Err(error) => return assert!(self.one_is_away(), "all tiers are there, but: {error}"),
        };
        if !answer.degraded.is_empty() {
            self.labelled += 1;
            assert!(self.one_is_away(), "all tiers are there, but: {:?}", answer.degraded);
            return self.is_made_of_what_was_said(&answer);
        }
        match &answer.points {
            Points::Raw(points) if thin.is_some() => self.is_thinned(&question, &answer, points),
            Points::Raw(points) => {
                let mut wanted = self.true_range(question.series.id, from, to);
                let until = wanted.get(points_max as usize).map_or(to, |r| r.at);
                assert_eq!((answer.to, answer.truncated), (until, until < to), "{question:?}");
                wanted.truncate(points_max as usize);
                assert_eq!(*points, wanted, "{question:?} {:?}", answer.tiers);
            }
            Points::Buckets(width, points) => {
                let points: Vec<_> = points.iter().map(|p| (p.start, p.rollup, p.span)).collect();
                assert_eq!(points, self.true_buckets(&question, *width), "{question:?} {:?}", answer.tiers);
            }
        }
    }

    fn is_thinned(&self, question: &Question, answer: &Answer, points: &[StoredReading]) {
        let all = self.true_range(question.series.id, question.from, question.to);
        assert_eq!(answer.thinned_from, Some(all.len() as u64), "{question:?} {:?}", answer.tiers);
        assert!(points.iter().all(|point| all.contains(point)), "{question:?}");
        assert!(points.len() <= 3 * 20 + 2 && points.windows(2).all(|w| w[0].at < w[1].at));
        if question.thin.unwrap().way == Way::MinMax {
            let most = |of: &[StoredReading]| of.iter().filter_map(|r| r.held.value).max_by(f64::total_cmp);
            let least = |of: &[StoredReading]| of.iter().filter_map(|r| r.held.value).min_by(f64::total_cmp);
            assert_eq!((least(points), most(points)), (least(&all), most(&all)), "{question:?}");
        }
    }

    /// Something is missing and the answer says so; what is there must still be something that was said.
    fn is_made_of_what_was_said(&self, answer: &Answer) {
        if let Points::Raw(points) = &answer.points {
            assert!(points.iter().all(|r| self.said[&(r.series, r.at)].contains(&r.held)));
            assert!(points.windows(2).all(|w| w[0].at < w[1].at), "in order, each moment once");
        }
    }

    fn true_buckets(&self, question: &Question, width: Width) -> Vec<(Timestamp, Option<Rollup>, Span)> {
        let series = question.series.id;
        let hold = hold(question.series.interval_ms, question.series.silence_ms_max);
        let sample = |r: &StoredReading| r.held.value.map(|value| Sample { at: r.at, value });
        let mut buckets = Vec::new();
        let mut start = width.start_of(question.from);
        while start < question.to {
            let end = start.plus_micros(width.micros());
            let inside = self.true_range(series, start, end);
            let rollup = Rollup::of_all(inside.iter().map(|r| (r.at, &r.held)), hold);
            let earlier = self.true_range(series, Timestamp(i64::MIN), start);
            let open = earlier.last().and_then(sample);
            let before = earlier.iter().rev().find_map(sample);
            let span = Span::new((start, end.min(NOW).max(start)), rollup.as_ref(), open, before, hold);
            if rollup.is_some() || span.covered > 0 {
                buckets.push((start, rollup, span));
            }
            start = end;
        }
        buckets
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_answer_is_the_truth_or_says_what_it_lacks(steps in prop::collection::vec(step(), 20..90)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.step(step).await;
            }
            // In the end, with everything back, every question has its true answer.
            for step in [Step::Warm(true), Step::Hot(true), Step::Cold(true)] {
                world.step(step).await;
            }
            for (series, how) in (0..2).flat_map(|series| (0..9).map(move |how| (series, how))) {
                let whole = (FIRST.start().plus_micros(-MINUTE), NOW);
                let labelled = world.labelled;
                world.ask(series, whole.0, whole.1, how).await;
                assert_eq!(world.labelled, labelled);
            }
            world.warm.close().await;
        });
    }
}
