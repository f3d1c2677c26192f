use super::*;
use shared::block::{BLOCK_BYTES_MAX, decode};
use shared::catalogue::{Class, Entry};
use shared::ids::NodeId;
use shared::metric::Kind;

const LIMITS: Limits = Limits { readings_max: 100, age_us_max: 10_000_000, prompt_us_max: 100_000 };
const BOOT: BootId = BootId([7; 16]);
const OFFSET: i64 = 1_700_000_000_000_000;

fn catalogue() -> Catalogue {
    let entry = |node: &str| Entry {
        node: NodeId::new(node).unwrap(),
        metric: "level".into(),
        channel: String::new(),
        kind: Kind::Gauge,
        unit: "m".into(),
        resolution_exp: None,
        interval_ms: 1000,
        silence_ms_max: 0,
        class: Class::Raw,
    };
    Catalogue::new(vec![entry("A"), entry("B")]).unwrap()
}

fn moment(catalogue: &Catalogue, now_us: i64, offset_us: Option<i64>) -> Moment<'_> {
    Moment { now_us, offset_us, doubtful: false, catalogue }
}

fn sample(at: At, value: f64) -> Sample {
    Sample { point: PointNo(0), at, value: Some(value), quality: Quality::GOOD }
}

fn rows(blocks: &[Encoded]) -> Vec<Row> {
    blocks.iter().flat_map(|block| decode(&block.bytes).unwrap().rows).collect()
}

#[test]
fn a_block_is_due_at_the_age_of_its_oldest_reading() {
    let catalogue = catalogue();
    let mut batcher = Batcher::new(LIMITS, BOOT);
    batcher.add(&sample(At::Mono(5), 1.0), moment(&catalogue, 1_000, Some(OFFSET)));
    batcher.add(&sample(At::Mono(6), 2.0), moment(&catalogue, 9_000_000, Some(OFFSET)));
    assert_eq!(batcher.due_us(), Some(10_001_000));
    assert_eq!(batcher.take(), []);
    batcher.cut_all(&catalogue);
    let blocks = batcher.take();
    assert_eq!(rows(&blocks).iter().map(|row| row.at.0).collect::<Vec<_>>(), [OFFSET + 5, OFFSET + 6]);
    assert_eq!((batcher.due_us(), batcher.is_empty()), (None, true));
}

#[test]
fn a_block_is_cut_by_count() {
    let catalogue = catalogue();
    let mut batcher = Batcher::new(LIMITS, BOOT);
    for n in 0..250 {
        batcher.add(&sample(At::Mono(n), 1.0), moment(&catalogue, 0, Some(OFFSET)));
    }
    assert_eq!(batcher.take().iter().map(|block| block.header.readings).collect::<Vec<_>>(), [100, 100]);
}

#[test]
fn what_does_not_fit_opens_the_next_block_and_nothing_is_lost() {
    let catalogue = catalogue();
    let mut batcher = Batcher::new(Limits { readings_max: 1_000_000, ..LIMITS }, BOOT);
    let noise = |n: u64| f64::from_bits(0x3ff0_0000_0000_0000 | (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12));
    for n in 0..5000 {
        batcher.add(&sample(At::Mono(n * 997), noise(n as u64)), moment(&catalogue, 0, Some(OFFSET)));
    }
    batcher.cut_all(&catalogue);
    let blocks = batcher.take();
    assert!(blocks.len() > 1 && blocks.iter().all(|block| block.bytes.len() <= BLOCK_BYTES_MAX));
    assert_eq!(
        rows(&blocks).iter().map(|row| row.value).collect::<Vec<_>>(),
        (0..5000).map(|n| Some(noise(n))).collect::<Vec<_>>()
    );
}

#[test]
fn who_waits_gets_a_block_soon() {
    let catalogue = catalogue();
    let mut batcher = Batcher::new(LIMITS, BOOT);
    batcher.hurry(0);
    assert_eq!(batcher.due_us(), None);
    batcher.add(&sample(At::Mono(1), 1.0), moment(&catalogue, 0, Some(OFFSET)));
    batcher.hurry(50);
    assert_eq!(batcher.due_us(), Some(100_050));
}

#[test]
fn untrusted_time_goes_to_its_own_block_and_keeps_its_order_when_time_is_known() {
    let catalogue = catalogue();
    let mut batcher = Batcher::new(LIMITS, BOOT);
    assert_eq!(batcher.add(&sample(At::Mono(5), 1.0), moment(&catalogue, 0, None)), Outcome::SinceBoot);
    let later = batcher.add(&sample(At::Mono(5), 2.0), moment(&catalogue, 0, Some(OFFSET)));
    assert!(matches!(later, Outcome::Utc(row) if row.at == Timestamp(OFFSET + 6)), "{later:?}");
    batcher.cut_all(&catalogue);
    let bases: Vec<TimeBase> = batcher.take().iter().map(|block| block.header.base).collect();
    assert_eq!(bases, [TimeBase::Utc, TimeBase::SinceBoot(BOOT)]);
}

#[test]
fn a_point_never_gets_one_moment_twice() {
    let catalogue = catalogue();
    let mut batcher = Batcher::new(LIMITS, BOOT);
    for at in [5, 5, 4, 9] {
        batcher.add(&sample(At::Mono(at), 1.0), moment(&catalogue, 0, Some(0)));
    }
    batcher.cut_all(&catalogue);
    assert_eq!(rows(&batcher.take()).iter().map(|row| row.at.0).collect::<Vec<_>>(), [5, 6, 7, 9]);
}

#[test]
fn a_source_may_bring_its_timestamps_in_any_order_and_a_repetition_counts_once() {
    let catalogue = catalogue();
    let mut batcher = Batcher::new(LIMITS, BOOT);
    let mut add = |at| batcher.add(&sample(At::Utc(Timestamp(at)), 1.0), moment(&catalogue, 0, None));
    assert!(matches!(add(20), Outcome::Utc(_)));
    assert!(matches!(add(10), Outcome::Utc(_)));
    assert_eq!(add(20), Outcome::Repeated);
    batcher.cut_all(&catalogue);
    assert_eq!(rows(&batcher.take()).len(), 2);
}

#[test]
fn a_doubtful_clock_marks_good_readings() {
    let catalogue = catalogue();
    let mut batcher = Batcher::new(LIMITS, BOOT);
    let doubt = Moment { doubtful: true, ..moment(&catalogue, 0, Some(0)) };
    let outcome = batcher.add(&sample(At::Mono(1), 1.0), doubt);
    assert!(matches!(outcome, Outcome::Utc(row) if row.quality == Quality::UNCERTAIN_CLOCK));
}
