use super::*;
use crate::registry::PointDef;
use crate::report::Deadband;
use crate::sample::{At, Sample};
use shared::block::{self, Row};
use shared::catalogue::{Class, Entry, PointNo};
use shared::ids::{NodeId, Seq};
use shared::metric::Kind;
use shared::reading::{Quality, Timestamp};
use shared::spool::{Options, WhenFull};

struct Bench {
    _dir: tempfile::TempDir,
    outlet: mpsc::Sender<Batch>,
    spool: Spool,
    vitals: Arc<Vitals>,
    live: Arc<Live>,
    point: PointNo,
    task: JoinHandle<()>,
}

fn def(deadband: Option<Deadband>) -> PointDef {
    let entry = Entry {
        node: NodeId::new("DIST_001").unwrap(),
        metric: "pressure".into(),
        channel: String::new(),
        kind: Kind::Gauge,
        unit: "bar".into(),
        resolution_exp: Some(-2),
        interval_ms: 1000,
        silence_ms_max: 600_000,
        class: Class::Raw,
    };
    PointDef { entry, deadband, source: "test".into() }
}

fn bench(offset_us: Option<i64>, deadband: Option<Deadband>, age_max: Duration) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { bytes_max: 8 << 20, disk_free_min: 0, when_full: WhenFull::DropOldest };
    let (spool, _) = Spool::open(&dir.path().join("spool"), options).unwrap();
    let catalogues = Arc::new(Catalogues::open(&dir.path().join("catalogues")).unwrap());
    let (vitals, live, registry) = (Arc::new(Vitals::default()), Arc::new(Live::default()), Registry::new());
    live.listen(true);
    let point = registry.point(def(deadband)).unwrap();
    let clock = match offset_us {
        Some(_) => Clock::unrecorded(),
        None => Clock::fake(0, None).0,
    };
    let overflow = Arc::new(Overflow::new(spool.clone(), catalogues.clone(), Arc::default()));
    let appended = watch::Sender::new(0);
    let sinks = Sinks { spool: spool.clone(), catalogues, overflow, appended, vitals: vitals.clone() };
    let (outlet, inbox) = mpsc::channel(4);
    let pipeline = Pipeline::new(inbox, registry, clock, live.clone(), sinks, 2000, age_max);
    Bench { _dir: dir, outlet, spool, vitals, live, point, task: tokio::spawn(pipeline.run()) }
}

fn sample(point: PointNo, at: At, value: f64) -> Sample {
    Sample { point, at, value: Some(value), quality: Quality::GOOD }
}

fn rows(spool: &Spool) -> Vec<Row> {
    let stored = spool.peek(Seq::FIRST, 10_000, usize::MAX).unwrap();
    stored.iter().flat_map(|s| block::decode(&s.record.payload).unwrap().rows).collect()
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_when_its_readings_are_on_disk_long_before_the_block_is_old() {
    let bench = bench(Some(0), None, HOUR);
    let at = At::Utc(Timestamp(1_800_000_000_000_000));
    let (done, told) = oneshot::channel();
    let samples = vec![sample(bench.point, at, 1.5)];
    bench.outlet.send(Batch { samples, done: Some(done) }).await.unwrap();
    told.await.expect("told, not dropped");
    assert_eq!(rows(&bench.spool).len(), 1);
    assert_eq!(bench.live.take(10).len(), 1, "and the live lane has it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_with_readings_in_both_lanes_is_told_after_both_are_on_disk() {
    let bench = bench(None, None, HOUR); // time is unknown: what has no time of its own counts from the boot
    let utc = At::Utc(Timestamp(1_800_000_000_000_000));
    let (done, told) = oneshot::channel();
    let samples = vec![sample(bench.point, utc, 1.5), sample(bench.point, At::Mono(7), 2.5)];
    bench.outlet.send(Batch { samples, done: Some(done) }).await.unwrap();
    told.await.expect("told, not dropped");
    assert_eq!(rows(&bench.spool).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_nobody_waits_for_are_written_by_age_and_all_of_them_at_the_end() {
    let bench = bench(Some(0), None, HOUR);
    for n in 0..500 {
        let samples = vec![sample(bench.point, At::Mono(n * 1_000_000), n as f64)];
        bench.outlet.send(Batch { samples, done: None }).await.unwrap();
    }
    drop(bench.outlet);
    bench.task.await.unwrap();
    assert_eq!(rows(&bench.spool).len(), 500);
    assert_eq!(bench.spool.held().count(), 1, "in one block");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_report_by_exception_holds_back_is_acknowledged_at_once_and_not_written() {
    let bench = bench(Some(0), Some(Deadband::Absolute(1.0)), HOUR);
    for (n, value) in [1.0, 1.5, 0.5].into_iter().enumerate() {
        let at = At::Utc(Timestamp(1_800_000_000_000_000 + n as i64 * 1_000_000));
        let (done, told) = oneshot::channel();
        let samples = vec![sample(bench.point, at, value)];
        bench.outlet.send(Batch { samples, done: Some(done) }).await.unwrap();
        told.await.expect("told, not dropped");
    }
    assert_eq!(rows(&bench.spool).len(), 1);
    assert_eq!(bench.vitals.held_back.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_senders_that_wait_for_each_other_is_not_slowed_down_by_the_age_of_a_block() {
    // As mosquitto does: twenty at most without an answer. A thousand of them take seconds, not minutes.
    let bench = bench(Some(0), None, HOUR);
    let mut open = VecDeque::new();
    for n in 0..1000i64 {
        let at = At::Utc(Timestamp(1_800_000_000_000_000 + n));
        let (done, told) = oneshot::channel();
        let samples = vec![sample(bench.point, at, n as f64)];
        bench.outlet.send(Batch { samples, done: Some(done) }).await.unwrap();
        open.push_back(told);
        if open.len() == 20 {
            open.pop_front().unwrap().await.expect("told, not dropped");
        }
    }
    drop(bench.outlet);
    bench.task.await.unwrap();
    assert_eq!(rows(&bench.spool).len(), 1000);
    let blocks = bench.spool.held().count();
    assert!(blocks > 20, "{blocks} blocks: they were cut as soon as nobody could send more");
}
