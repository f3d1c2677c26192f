//! The spool beside a model of it: any order of calls, with restarts and kills between, gives the same answers.

use super::tests::{record, small};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u8,
        len: u16,
    },
    /// Of those held, from a fraction on: so many, every such one.
    Release {
        from: f64,
        count: u8,
        stride: u8,
    },
    GiveUp {
        from: f64,
        count: u8,
    },
    ForgetGaps {
        from: f64,
        count: u8,
    },
    Peek {
        from: f64,
        count: u8,
    },
    PeekBack {
        before: f64,
        count: u8,
    },
    NewStream,
    Reopen,
    /// What a kill leaves: the files as they are while the spool is open.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0.0..1.0f64;
    let step = prop_oneof![
        6 => (1u8..30, 8u16..6000).prop_map(|(count, len)| Step::Append { count, len }),
        4 => (at(), 1u8..60, 1u8..4).prop_map(|(from, count, stride)| Step::Release { from, count, stride }),
        1 => (at(), 1u8..10).prop_map(|(from, count)| Step::GiveUp { from, count }),
        1 => (at(), 1u8..30).prop_map(|(from, count)| Step::ForgetGaps { from, count }),
        2 => (at(), 0u8..40).prop_map(|(from, count)| Step::Peek { from, count }),
        2 => (at(), 0u8..40).prop_map(|(before, count)| Step::PeekBack { before, count }),
        1 => Just(Step::NewStream),
        2 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Model {
    highest: u64,
    /// seq → what was put in
    held: BTreeMap<u64, Record>,
    gaps: SeqRanges,
    appended: u64,
}

impl Model {
    fn at(&self, fraction: f64) -> u64 {
        (self.highest as f64 * fraction) as u64
    }

    fn renumber(&mut self) {
        let kept: std::collections::BTreeSet<u64> = self.held.keys().copied().chain(members(&self.gaps)).collect();
        let fresh: BTreeMap<u64, u64> = kept.iter().zip(1..).map(|(old, new)| (*old, new)).collect();
        self.held = std::mem::take(&mut self.held).into_iter().map(|(seq, r)| (fresh[&seq], r)).collect();
        self.gaps = members(&self.gaps).map(|seq| Seq(fresh[&seq])).collect();
        self.highest = kept.len() as u64;
    }
}

fn members(ranges: &SeqRanges) -> impl Iterator<Item = u64> + '_ {
    ranges.iter().flat_map(|r| r.first.0..=r.last.0)
}

/// With generations so small that a few appends fill one.
fn open(dir: &Path) -> (Spool, OpenReport) {
    let (mut store, report) = super::open::open(dir, small()).unwrap();
    store.generation_bytes = 60_000;
    (Spool { store: Arc::new(store) }, report)
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

fn same(spool: &Spool, model: &Model) {
    let held: Vec<_> = spool.peek(Seq(0), usize::MAX, usize::MAX).unwrap();
    let held: BTreeMap<u64, Record> = held.into_iter().map(|s| (s.seq.0, s.record)).collect();
    assert_eq!(held, model.held);
    assert_eq!(members(&spool.held()).collect::<Vec<_>>(), model.held.keys().copied().collect::<Vec<_>>());
    assert_eq!(spool.highest(), Seq(model.highest));
    assert_eq!(spool.gaps().iter().map(|g| g.seqs).collect::<SeqRanges>(), model.gaps);
    let usage = spool.usage();
    assert_eq!((usage.records, usage.appended_total), (model.held.len() as u64, model.appended));
    assert_eq!((usage.lost_total, usage.salvaged_total, usage.dropped_total), (0, 0, 0));
}

fn run(steps: Vec<Step>) {
    let root = tempfile::tempdir().unwrap();
    let mut home = 0;
    let dir = |n: i32| root.path().join(n.to_string());
    let (mut spool, _) = open(&dir(home));
    let (mut model, mut fresh) = (Model::default(), 0);
    for step in steps {
        match step {
            Step::Append { count, len } => {
                let records: Vec<_> = (0..u64::from(count)).map(|n| record(fresh + n, usize::from(len))).collect();
                fresh += u64::from(count);
                let seqs = spool.append(records.clone()).unwrap();
                let expected: Vec<_> = (model.highest + 1..).map(Seq).take(records.len()).collect();
                assert_eq!(seqs, expected);
                model.highest += u64::from(count);
                model.appended += u64::from(count);
                model.held.extend(seqs.into_iter().map(|s| s.0).zip(records));
            }
            Step::Release { from, count, stride } => {
                let first = model.at(from) + 1;
                let seqs: SeqRanges = (first..).step_by(stride.into()).take(count.into()).map(Seq).collect();
                spool.release(&seqs).unwrap();
                members(&seqs).for_each(|seq| drop(model.held.remove(&seq)));
            }
            Step::GiveUp { from, count } => {
                let range = SeqRange::new(Seq(model.at(from) + 1), Seq(model.at(from) + u64::from(count)));
                let lost: Vec<u64> = model.held.range(range.first.0..=range.last.0).map(|(seq, _)| *seq).collect();
                let gap = spool.give_up(range, GapReason::Rejected).unwrap();
                assert_eq!(
                    gap.map(|g| g.seqs),
                    lost.first().map(|f| SeqRange::new(Seq(*f), Seq(*lost.last().unwrap())))
                );
                lost.iter().for_each(|seq| drop(model.held.remove(seq)));
                lost.into_iter().for_each(|seq| model.gaps.insert_one(Seq(seq)));
            }
            Step::ForgetGaps { from, count } => {
                let range = SeqRange::new(Seq(model.at(from) + 1), Seq(model.at(from) + u64::from(count)));
                spool.forget_gaps(&std::iter::once(range).collect()).unwrap();
                model.gaps.remove(range);
            }
            Step::Peek { from, count } => {
                let got = spool.peek(Seq(model.at(from)), count.into(), usize::MAX).unwrap();
                let expected = model.held.range(model.at(from)..).take(count.into());
                assert!(got.iter().map(|s| (&s.seq.0, &s.record)).eq(expected));
            }
            Step::PeekBack { before, count } => {
                let got = spool.peek_back(Seq(model.at(before)), count.into(), usize::MAX).unwrap();
                let expected = model.held.range(..model.at(before)).rev().take(count.into());
                assert!(got.iter().map(|s| (&s.seq.0, &s.record)).eq(expected));
            }
            Step::NewStream => {
                let old = spool.stream();
                assert_ne!(spool.new_stream().unwrap(), old);
                model.renumber();
            }
            Step::Reopen | Step::Kill => {
                let stream = spool.stream();
                if matches!(step, Step::Kill) {
                    copy(&dir(home), &dir(home + 1));
                    home += 1;
                }
                drop(spool);
                let (opened, report) = open(&dir(home));
                assert_eq!(report, OpenReport::default());
                assert_eq!(opened.stream(), stream);
                spool = opened;
            }
        }
    }
    same(&spool, &model);
    drop(spool);
    let (spool, report) = open(&dir(home));
    assert_eq!(report, OpenReport::default());
    same(&spool, &model);
}

/// Few by default, since every case writes to the disk; `PROPTEST_CASES` for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 60, ..ProptestConfig::default() })]
    #[test]
    fn any_order_of_calls_and_restarts_gives_what_the_model_gives(steps in steps()) {
        run(steps);
    }
}
