use super::*;
use proptest::prelude::*;
use shared::catalogue::Entry;
use shared::ids::NodeId;
use shared::metric::Kind;
use shared::reading::Quality;
use shared::spool::{Options, WhenFull};

const SECOND: i64 = 1_000_000;
const START: i64 = 1_800_000_000 * SECOND;

fn catalogue() -> Catalogue {
    let entry = |channel: &str, class| Entry {
        node: NodeId::new("DIST_001").unwrap(),
        metric: "flow_rate".into(),
        channel: channel.into(),
        kind: Kind::Gauge,
        unit: "L/s".into(),
        resolution_exp: None,
        interval_ms: 1000,
        silence_ms_max: 0,
        class,
    };
    Catalogue::new(vec![entry("raw", Class::Raw), entry("total", Class::Total)]).unwrap()
}

fn row(point: u32, second: i64, value: Option<f64>) -> Row {
    let quality = if value.is_some() { Quality::GOOD } else { Quality::BAD_TIMEOUT };
    Row { point: PointNo(point), at: Timestamp(START + second * SECOND), value, quality }
}

proptest! {
    #[test]
    fn of_raw_points_the_extremes_and_the_last_stay_and_of_totals_everything(
        values in prop::collection::vec((0u32..2, prop::option::weighted(0.9, -5.0f64..5.0)), 1..300),
    ) {
        let rows: Vec<Row> = (0..).zip(&values).map(|(s, (point, value))| row(*point, s, *value)).collect();
        let kept = thin(rows.clone(), &catalogue(), 60 * SECOND);
        prop_assert!(kept.iter().all(|row| rows.contains(row)), "nothing is made up");
        let of = |rows: &[Row], point: u32| rows.iter().filter(|r| r.point.0 == point).copied().collect::<Vec<_>>();
        prop_assert_eq!(of(&kept, 1), of(&rows, 1));
        let (all, kept) = (of(&rows, 0), of(&kept, 0));
        for bucket in all.chunk_by(|a, b| a.at.0.div_euclid(60 * SECOND) == b.at.0.div_euclid(60 * SECOND)) {
            let inside = |r: &&Row| bucket.iter().any(|b| b.at == r.at);
            let values = |rows: Vec<&Row>| {
                let values: Vec<f64> = rows.iter().filter_map(|r| r.value).collect();
                let low = values.iter().copied().reduce(f64::min);
                (low, values.iter().copied().reduce(f64::max), values.last().copied())
            };
            prop_assert_eq!(values(kept.iter().filter(inside).collect()), values(bucket.iter().collect()));
            prop_assert!(kept.iter().filter(inside).filter(|r| r.value.is_some()).count() <= 3);
        }
        for pair in all.windows(2) {
            if pair[0].value.is_some() && pair[1].value.is_none() {
                prop_assert!(kept.contains(&pair[1]), "the begin of a bad stretch stays");
            }
        }
    }
}

fn block(seconds: std::ops::Range<i64>) -> Record {
    let mut builder = BlockBuilder::new(TimeBase::Utc);
    for second in seconds {
        // Values without a pattern, so that blocks are as large as they get.
        let noise = (second.wrapping_mul(6_364_136_223_846_793_005) >> 11) as f64 / 1e9;
        assert!(builder.push(row(0, second, Some(noise)), None));
        if second % 60 == 0 {
            assert!(builder.push(row(1, second, Some(second as f64)), None));
        }
    }
    let block = builder.finish(catalogue().hash()).unwrap();
    Record { payload: block.bytes, span: Some((block.header.first, block.header.last)) }
}

#[test]
fn a_full_spool_keeps_every_total_and_the_outline_of_the_rest_and_says_what_it_thinned() {
    let dir = tempfile::tempdir().unwrap();
    let catalogues = Arc::new(Catalogues::open(&dir.path().join("catalogues")).unwrap());
    catalogues.keep(&catalogue()).unwrap();
    let options = Options { bytes_max: 16 << 20, disk_free_min: 0, when_full: WhenFull::DropOldest };
    let (spool, _) = Spool::open(&dir.path().join("spool"), options).unwrap();
    const BLOCKS: i64 = 2400; // about 25 MB on the disk, for 16 MB
    let overflow = Overflow::new(spool.clone(), catalogues, Arc::default());
    for n in 0..BLOCKS / 20 {
        overflow.relieve(1).unwrap();
        spool.append((n * 20..n * 20 + 20).map(|n| block(n * 600..n * 600 + 600)).collect()).unwrap();
    }
    assert_eq!(spool.usage().dropped_total, 0, "the spool's own rule was not needed");
    assert!(spool.gaps().iter().all(|gap| gap.reason == GapReason::Thinned && gap.span.is_some()));
    let mut totals = std::collections::BTreeSet::new();
    let (mut from, mut raw) = (Seq::FIRST, 0);
    loop {
        let run = spool.peek(from, 1000, usize::MAX).unwrap();
        let Some(last) = run.last() else { break };
        from = last.seq.next();
        for row in run.iter().flat_map(|s| block::decode(&s.record.payload).unwrap().rows) {
            if row.point.0 == 1 {
                totals.insert(row.at);
            } else {
                raw += 1;
            }
        }
    }
    assert_eq!(totals.len() as i64, BLOCKS * 10, "no total is missing");
    assert!(raw < BLOCKS * 600 && raw > BLOCKS, "{raw} raw readings are left");
}

#[test]
fn what_a_collector_has_goes_before_anything_is_thinned() {
    let dir = tempfile::tempdir().unwrap();
    let catalogues = Arc::new(Catalogues::open(&dir.path().join("catalogues")).unwrap());
    catalogues.keep(&catalogue()).unwrap();
    let options = Options { bytes_max: 8 << 20, disk_free_min: 0, when_full: WhenFull::DropOldest };
    let (spool, _) = Spool::open(&dir.path().join("spool"), options).unwrap();
    let mut n = 0;
    while percent(&spool) < HIGH_PERCENT {
        spool.append((n..n + 20).map(|n| block(n * 600..n * 600 + 600)).collect()).unwrap();
        n += 20;
    }
    let stored = [SeqRange::new(Seq(1), Seq(n as u64 - 10))].into_iter().collect();
    let delivered = Arc::new(Delivered::default());
    delivered.set(stored);
    let relief = Overflow::new(spool.clone(), catalogues, delivered).relieve(1).unwrap();
    assert_eq!((relief.released, relief.thinned), (n as u64 - 10, 0));
    assert!(spool.gaps().is_empty());
    assert_eq!(spool.held().count(), 10);
}
