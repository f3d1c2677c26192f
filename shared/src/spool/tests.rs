//! The spool as its users see it.

use super::*;

pub(super) fn record(n: u64, len: usize) -> Record {
    let mut state = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut payload = n.to_le_bytes().to_vec();
    while payload.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        payload.extend(state.to_le_bytes());
    }
    payload.truncate(len.max(8));
    let at = n as i64 * 1_000_000;
    Record { payload: payload.into(), span: Some((Timestamp(at), Timestamp(at + 999_999))) }
}

pub(super) fn small() -> Options {
    Options { bytes_max: 16 << 20, disk_free_min: 0, when_full: WhenFull::DropOldest }
}

fn ranges(list: &[(u64, u64)]) -> SeqRanges {
    list.iter().map(|(a, b)| SeqRange::new(Seq(*a), Seq(*b))).collect()
}

fn seqs(stored: &[Stored]) -> Vec<u64> {
    stored.iter().map(|s| s.seq.0).collect()
}

#[test]
fn gives_back_what_was_put_in_and_forgets_what_was_released() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/spool");
    let (spool, report) = Spool::open(&path, small()).unwrap();
    assert!(report.new_stream && report.lost.is_empty() && report.set_aside.is_empty());
    assert_eq!(spool.highest(), Seq(0));
    let records: Vec<_> = (1..=10).map(|n| record(n, 100)).collect();
    assert_eq!(spool.append(records.clone()).unwrap(), (1..=10).map(Seq).collect::<Vec<_>>());
    let all = spool.peek(Seq(1), 100, usize::MAX).unwrap();
    assert_eq!(all.iter().map(|s| s.record.clone()).collect::<Vec<_>>(), records);
    assert_eq!(seqs(&spool.peek(Seq(3), 2, usize::MAX).unwrap()), [3, 4]);
    assert_eq!(seqs(&spool.peek(Seq(1), 100, 250).unwrap()), [1, 2]);
    assert_eq!(seqs(&spool.peek(Seq(1), 100, 1).unwrap()), [1], "one at least");
    assert_eq!(seqs(&spool.peek_back(Seq(u64::MAX), 3, usize::MAX).unwrap()), [10, 9, 8]);
    spool.release(&ranges(&[(2, 3), (9, 9), (40, 50)])).unwrap();
    assert_eq!(seqs(&spool.peek(Seq(1), 3, usize::MAX).unwrap()), [1, 4, 5]);
    assert_eq!(seqs(&spool.peek_back(Seq(u64::MAX), 2, usize::MAX).unwrap()), [10, 8]);
    let stream = spool.stream();
    drop(spool);
    let (spool, report) = Spool::open(&path, small()).unwrap();
    assert!(!report.new_stream && report.lost.is_empty(), "{report:?}");
    assert_eq!((spool.stream(), spool.highest()), (stream, Seq(10)));
    assert_eq!(spool.held(), ranges(&[(1, 1), (4, 8), (10, 10)]));
    assert_eq!(spool.append(vec![record(11, 10)]).unwrap(), [Seq(11)]);
    assert_eq!(seqs(&spool.peek(Seq(8), 9, usize::MAX).unwrap()), [8, 10, 11]);
    let again = Spool::open(&path, small());
    assert!(matches!(again, Err(SpoolError::InUse { .. })));
}

#[test]
fn refuses_what_is_too_large_and_takes_the_largest() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), small()).unwrap();
    let error = spool.append(vec![record(1, RECORD_BYTES_MAX + 1)]).unwrap_err();
    assert!(matches!(error, SpoolError::TooLarge { bytes } if bytes == RECORD_BYTES_MAX + 1));
    for n in 1..100 {
        spool.append(vec![record(n, RECORD_BYTES_MAX)]).unwrap();
    }
    drop(spool);
    let blobs = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.path().join("blobs"));
    for blobs in blobs.filter(|b| b.exists()) {
        assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0, "blob files are never made durable");
    }
}

#[test]
fn a_full_spool_drops_its_oldest_as_a_gap_or_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&dir.path().join("drops"), small()).unwrap();
    for n in 0..800u64 {
        spool.append((1..=5).map(|k| record(n * 5 + k, 6000)).collect()).unwrap();
        assert!(spool.usage().bytes <= 16 << 20);
    }
    let gaps = spool.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].seqs.first, gaps[0].reason), (Seq(1), GapReason::Overflow));
    let last = gaps[0].seqs.last;
    assert_eq!(gaps[0].span, Some((Timestamp(1_000_000), Timestamp(last.0 as i64 * 1_000_000 + 999_999))));
    assert_eq!(spool.held(), ranges(&[(last.0 + 1, 4000)]));
    assert!(spool.held().count() > 800, "{}", spool.held().count());
    assert_eq!(spool.usage().dropped_total + spool.usage().records, 4000);
    assert_eq!(spool.peek(Seq(1), 1, 9999).unwrap()[0].record, record(last.0 + 1, 6000));

    let refuse = Options { when_full: WhenFull::Refuse, ..small() };
    let (spool, _) = Spool::open(&dir.path().join("refuses"), refuse).unwrap();
    let mut n = 0;
    while spool.append(vec![record(n + 1, 6000)]).is_ok() {
        n += 1;
    }
    assert!(matches!(spool.append(vec![record(1, 6000)]), Err(SpoolError::Full)));
    assert_eq!(spool.held().count(), n);
    spool.release(&ranges(&[(1, n)])).unwrap();
    spool.append(vec![record(1, 6000)]).unwrap();
    assert!(spool.gaps().is_empty());
}

#[test]
fn what_was_released_leaves_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), Options { bytes_max: 64 << 20, ..small() }).unwrap();
    for n in 0..400u64 {
        spool.append((1..=10).map(|k| record(n * 10 + k, 5000)).collect()).unwrap();
    }
    let before = spool.usage().bytes;
    spool.release(&spool.held()).unwrap();
    let after = spool.usage();
    assert!(before > 20 << 20 && after.bytes < 9 << 20, "{before} {after:?}");
    assert_eq!((after.records, after.gaps), (0, 0));
}

#[test]
fn what_is_given_up_is_a_gap_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), small()).unwrap();
    spool.append((1..=9).map(|n| record(n, 50)).collect()).unwrap();
    spool.release(&ranges(&[(4, 5)])).unwrap();
    let gap = spool.give_up(SeqRange::new(Seq(3), Seq(7)), GapReason::Rejected).unwrap().unwrap();
    assert_eq!(gap.seqs, SeqRange::new(Seq(3), Seq(7)));
    assert_eq!(gap.span, Some((Timestamp(3_000_000), Timestamp(7_999_999))));
    assert_eq!(spool.give_up(SeqRange::new(Seq(3), Seq(7)), GapReason::Rejected).unwrap(), None);
    drop(spool);
    let (spool, report) = Spool::open(dir.path(), small()).unwrap();
    assert!(report.lost.is_empty());
    let of: Vec<_> = spool.gaps().iter().map(|g| (g.seqs.first.0, g.seqs.last.0)).collect();
    assert_eq!(of, [(3, 3), (6, 7)], "released ones are not missing");
    assert_eq!(spool.held(), ranges(&[(1, 2), (8, 9)]));
    spool.forget_gaps(&ranges(&[(1, 6)])).unwrap();
    drop(spool);
    let (spool, _) = Spool::open(dir.path(), small()).unwrap();
    assert_eq!(spool.gaps().iter().map(|g| g.seqs).collect::<Vec<_>>(), [SeqRange::one(Seq(7))]);
    assert_eq!(spool.held(), ranges(&[(1, 2), (8, 9)]));
}

#[test]
fn a_new_stream_numbers_what_is_held_from_one() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), small()).unwrap();
    spool.append((1..=10).map(|n| record(n, 50)).collect()).unwrap();
    spool.release(&ranges(&[(1, 3), (6, 6)])).unwrap();
    spool.give_up(SeqRange::new(Seq(7), Seq(8)), GapReason::Rejected).unwrap();
    let old = spool.stream();
    let stream = spool.new_stream().unwrap();
    assert_ne!(old, stream);
    assert_eq!((spool.stream(), spool.highest()), (stream, Seq(6)));
    assert_eq!(spool.gaps()[0].seqs, SeqRange::new(Seq(3), Seq(4)));
    let held = spool.peek(Seq(1), 99, usize::MAX).unwrap();
    assert_eq!(seqs(&held), [1, 2, 5, 6]);
    let contents: Vec<_> = held.iter().map(|s| s.record.clone()).collect();
    assert_eq!(contents, [4, 5, 9, 10].map(|n| record(n, 50)));
    drop(spool);
    let (spool, report) = Spool::open(dir.path(), small()).unwrap();
    assert!(!report.new_stream && report.lost.is_empty());
    assert_eq!(spool.append(vec![record(77, 9)]).unwrap(), [Seq(7)]);
    assert_eq!(seqs(&spool.peek_back(Seq(9), 9, usize::MAX).unwrap()), [7, 6, 5, 2, 1]);
}

#[test]
fn what_was_released_does_not_come_back_in_a_new_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), small()).unwrap();
    spool.append((1..=4).map(|n| record(n, 50)).collect()).unwrap();
    spool.release(&ranges(&[(1, 1), (3, 4)])).unwrap();
    spool.new_stream().unwrap();
    drop(spool);
    let (spool, _) = Spool::open(dir.path(), small()).unwrap();
    let held = spool.peek(Seq(1), 9, usize::MAX).unwrap();
    assert_eq!(held, [Stored { seq: Seq(1), record: record(2, 50) }]);
}

#[test]
fn many_starts_do_not_eat_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=60 {
        let (spool, report) = Spool::open(dir.path(), small()).unwrap();
        assert!(report.lost.is_empty() && report.set_aside.is_empty(), "{report:?}");
        spool.append(vec![record(n, 1000)]).unwrap();
        assert!(spool.usage().bytes < 12 << 20, "{:?}", spool.usage());
    }
    let (spool, _) = Spool::open(dir.path(), small()).unwrap();
    let held = spool.peek(Seq(1), 99, usize::MAX).unwrap();
    assert_eq!(
        held.iter().map(|s| s.record.clone()).collect::<Vec<_>>(),
        (1..=60).map(|n| record(n, 1000)).collect::<Vec<_>>()
    );
    assert!(spool.gaps().is_empty());
}

#[test]
fn concurrent_callers_each_get_their_own_seqs() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), Options { bytes_max: 64 << 20, ..small() }).unwrap();
    let threads: Vec<_> = (0..8u64)
        .map(|t| {
            let spool = spool.clone();
            std::thread::spawn(move || {
                let mut mine = Vec::new();
                for n in 0..40u64 {
                    let id = t * 1000 + n;
                    let seq = spool.append(vec![record(id, 900)]).unwrap()[0];
                    assert_eq!(spool.peek(seq, 1, usize::MAX).unwrap()[0].record, record(id, 900));
                    mine.push((seq, id));
                    if n % 3 == 0 {
                        spool.release(&[seq].into_iter().collect()).unwrap();
                        mine.pop();
                    }
                }
                mine
            })
        })
        .collect();
    let mut all: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    all.sort();
    assert_eq!(spool.highest(), Seq(320));
    let held = spool.peek(Seq(1), 999, usize::MAX).unwrap();
    assert_eq!(seqs(&held), all.iter().map(|(s, _)| s.0).collect::<Vec<_>>());
    assert!(held.iter().zip(&all).all(|(s, (_, id))| s.record == record(*id, 900)));
}
