//! Damage done to a spool's files: it always opens, what it lost becomes a gap, and nothing wrong comes out.

#![allow(clippy::unwrap_used)] // a test may fail

use shared::ids::Seq;
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::Timestamp;
use shared::spool::{GapReason, OpenReport, Options, Record, Spool, WhenFull};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const OPTIONS: Options = Options { bytes_max: 14 << 20, disk_free_min: 0, when_full: WhenFull::DropOldest };

/// Small seeded randomness.
struct Random(u64);
impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }
}

fn record(n: u64, len: usize) -> Record {
    let mut random = Random(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut payload = n.to_le_bytes().to_vec();
    payload.extend((8..len).map(|_| random.below(256) as u8));
    Record { payload: payload.into(), span: Some((Timestamp(n as i64 * 10), Timestamp(n as i64 * 10 + 9))) }
}

fn content(n: u64) -> Record {
    record(n, 900 + (n % 7) as usize * 800)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn generations(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().flatten().map(|e| e.path()).collect();
    all.retain(|p| p.file_name().unwrap().to_string_lossy().starts_with("gen-"));
    all.sort();
    all
}

/// Seqs 1..=700 in several generations, every tenth released.
struct Made {
    dir: tempfile::TempDir,
    released: SeqRanges,
}
const LAST: u64 = 900;

fn made() -> Made {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&dir.path().join("spool"), OPTIONS).unwrap();
    let mut n = 0;
    while n < LAST {
        spool.append((n + 1..=n + 10).map(content).collect()).unwrap();
        n += 10;
    }
    let released: SeqRanges = (1..=LAST / 10).map(|n| Seq(n * 10)).collect();
    spool.release(&released).unwrap();
    assert!(spool.gaps().is_empty());
    drop(spool);
    assert!(generations(&dir.path().join("spool")).len() >= 3);
    Made { dir, released }
}

impl Made {
    fn path(&self) -> PathBuf {
        self.dir.path().join("spool")
    }
}

fn open(dir: &Path) -> (Spool, OpenReport) {
    Spool::open(dir, OPTIONS).unwrap_or_else(|e| panic!("it always opens: {e}"))
}

/// Every seq is held with what was put in, released, or missing; returns how many are missing.
fn accounted(spool: &Spool, released: &SeqRanges, what: &str) -> u64 {
    let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
    let mut all = released.clone();
    for stored in &held {
        assert!(!released.contains(stored.seq), "{what}: {} was released", stored.seq);
        assert_eq!(stored.record, content(stored.seq.0), "{what}: seq {}", stored.seq);
        all.insert_one(stored.seq);
    }
    let gaps = spool.gaps();
    for gap in &gaps {
        assert_eq!(gap.reason, GapReason::Damage, "{what}");
        if let Some((first, last)) = gap.span {
            assert!(
                first.0 <= gap.seqs.first.0 as i64 * 10 && gap.seqs.last.0 as i64 * 10 <= last.0,
                "{what}: {gap:?}"
            );
        }
        all.insert(gap.seqs);
    }
    let lost = spool.usage().lost_total;
    assert_eq!(all.as_slice(), [SeqRange::new(Seq(1), Seq(LAST))], "{what}: {gaps:?}");
    assert_eq!(held.len() as u64 + lost + released.count(), LAST, "{what}");
    assert_eq!(spool.peek_back(Seq(u64::MAX), usize::MAX, usize::MAX).unwrap().len(), held.len(), "{what}");
    lost
}

/// It goes on after damage, and once more after a restart.
fn goes_on(spool: Spool, dir: &Path, lost: u64, released: &SeqRanges, what: &str) {
    let stream = spool.stream();
    assert_eq!(spool.append(vec![content(LAST + 1)]).unwrap(), [Seq(LAST + 1)], "{what}");
    drop(spool);
    let (spool, report) = open(dir);
    assert!(!report.new_stream && report.lost.is_empty(), "{what}: {report:?}");
    assert_eq!((spool.stream(), spool.usage().lost_total), (stream, lost), "{what}");
    let tail = spool.peek_back(Seq(u64::MAX), 1, usize::MAX).unwrap();
    assert_eq!((tail[0].seq, &tail[0].record), (Seq(LAST + 1), &content(LAST + 1)), "{what}");
    spool.release(&std::iter::once(SeqRange::one(Seq(LAST + 1))).collect()).unwrap();
    let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
    assert_eq!(held.len() as u64 + lost + released.count(), LAST, "{what}");
}

fn change(file: &Path, change: impl FnOnce(&fs::File, u64)) {
    // an earlier damage may have removed it
    let Ok(file) = fs::OpenOptions::new().read(true).write(true).open(file) else { return };
    let len = file.metadata().unwrap().len();
    change(&file, len);
}

fn flip(file: &Path, random: &mut Random) {
    change(file, |file, len| {
        if len == 0 {
            return;
        }
        let at = random.below(len);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << random.below(8))], at).unwrap();
    });
}

/// One damage at random; says what.
fn damage(dir: &Path, random: &mut Random) -> String {
    let all = generations(dir);
    let at = random.below(all.len() as u64) as usize;
    let (one, db) = (&all[at], all[at].join("db"));
    let place = format!("generation {} of {}", at + 1, all.len());
    match random.below(9) {
        0 => {
            change(&db, |file, len| file.set_len(random.below(len)).unwrap());
            format!("{place} cut")
        }
        1 | 2 => {
            let pages = 1 + random.below(4);
            for _ in 0..pages {
                change(&db, |file, len| {
                    file.write_all_at(&[0; 4096], random.below(len / 4096) * 4096).unwrap();
                });
            }
            format!("{place}: {pages} pages zeroed")
        }
        3 | 4 => {
            let bits = 1 + random.below(20);
            (0..bits).for_each(|_| flip(&db, random));
            format!("{place}: {bits} bits flipped")
        }
        5 => {
            let _ = fs::remove_file(db);
            format!("{place}: file removed")
        }
        6 => {
            fs::remove_dir_all(one).unwrap();
            format!("{place} removed")
        }
        7 => {
            let conf = one.join("conf");
            match random.below(3) {
                0 => drop(fs::remove_file(conf)),
                1 => fs::write(conf, b"").unwrap(),
                _ => flip(&conf, random),
            }
            format!("{place}: configuration damaged")
        }
        _ => {
            for entry in fs::read_dir(one).unwrap().flatten() {
                if entry.file_name().to_string_lossy().starts_with("snap") {
                    flip(&entry.path(), random);
                }
            }
            format!("{place}: snapshots damaged")
        }
    }
}

#[test]
fn random_damage_is_salvaged_counted_and_never_shown_as_data() {
    let rounds: u64 = std::env::var("SPOOL_DAMAGE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let made = made();
    let mut losses = 0;
    for round in 0..rounds {
        let mut random = Random(0xDA4A_6E00 + round * 7919);
        let dir = made.dir.path().join("damaged");
        copy(&made.path(), &dir);
        let mut what = format!("round {round}");
        for _ in 0..1 + random.below(2) {
            what = format!("{what}, {}", damage(&dir, &mut random));
        }
        let (spool, report) = open(&dir);
        assert!(!report.new_stream, "{what}");
        let lost = accounted(&spool, &made.released, &what);
        assert!(spool.usage().set_aside <= 4, "{what}");
        goes_on(spool, &dir, lost, &made.released, &what);
        losses += lost;
        fs::remove_dir_all(&dir).unwrap();
    }
    println!("{rounds} rounds of damage: {losses} of {} records lost, each as a gap", rounds * LAST);
}

#[test]
fn a_zeroed_page_costs_the_records_in_it_and_no_more() {
    let made = made();
    let db = generations(&made.path())[1].join("db");
    change(&db, |file, _| file.write_all_at(&[0; 4096], 40 * 4096).unwrap());
    let (spool, _) = open(&made.path());
    let lost = accounted(&spool, &made.released, "one page");
    assert!(lost <= 6, "{lost} lost");
}

#[test]
fn a_file_cut_at_any_byte_of_the_last_record_loses_that_one_at_most() {
    let root = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&root.path().join("whole"), OPTIONS).unwrap();
    for n in 1..=20 {
        spool.append(vec![record(n, 60)]).unwrap();
    }
    drop(spool);
    let db = generations(&root.path().join("whole"))[0].join("db");
    let raw = fs::read(&db).unwrap();
    let payload = record(20, 60).payload;
    let at = raw.windows(payload.len()).rposition(|w| w == &payload[..]).unwrap();
    let name = db.strip_prefix(root.path().join("whole")).unwrap().to_owned();
    for cut in at - 60..=at + payload.len() + 8 {
        let dir = root.path().join("cut");
        copy(&root.path().join("whole"), &dir);
        change(&dir.join(&name), |file, _| file.set_len(cut as u64).unwrap());
        let (spool, report) = open(&dir);
        let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
        assert!(held.len() >= 19, "cut at {cut}: {} held, {report:?}", held.len());
        held.iter().for_each(|s| assert_eq!(s.record, record(s.seq.0, 60)));
        assert_eq!(report.lost.iter().map(|g| g.seqs.count()).sum::<u64>() + held.len() as u64, 20, "cut at {cut}");
        assert_eq!(spool.append(vec![record(21, 60)]).unwrap(), [Seq(21)], "the lost number is not used again");
        drop(spool);
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_lost_ledger_starts_a_new_stream_with_all_that_is_there() {
    let made = made();
    let (spool, _) = open(&made.path());
    let stream = spool.stream();
    drop(spool);
    for damage in 0..3 {
        let dir = made.dir.path().join(format!("ledger-{damage}"));
        copy(&made.path(), &dir);
        let ledger = dir.join("ledger");
        match damage {
            0 => fs::remove_file(ledger).unwrap(),
            1 => fs::write(ledger, b"not a ledger").unwrap(),
            _ => fs::write(ledger, vec![0; 300_000]).unwrap(),
        }
        let (spool, report) = open(&dir);
        assert!(report.new_stream && report.lost.is_empty());
        assert_ne!(spool.stream(), stream);
        let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
        // released ones come back: better twice than never
        assert_eq!(held.len() as u64, LAST);
        for (stored, n) in held.iter().zip(1..) {
            assert_eq!((stored.seq, &stored.record), (Seq(n), &content(n)));
        }
        goes_on(spool, &dir, 0, &SeqRanges::new(), "lost ledger");
    }
}

#[test]
fn one_damaged_slot_of_the_ledger_loses_nothing() {
    for slot in 0..2 {
        let made = made();
        let half = fs::metadata(made.path().join("ledger")).unwrap().len() / 2;
        change(&made.path().join("ledger"), |file, _| file.write_all_at(&[0x5A; 64], slot * half).unwrap());
        let (spool, report) = open(&made.path());
        assert_eq!((report.new_stream, report.lost.len(), spool.highest()), (false, 0, Seq(LAST)), "slot {slot}");
        let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
        assert!(held.iter().all(|s| s.record == content(s.seq.0)));
        // the newer slot had the release: without it they are given out once more
        assert!(held.len() as u64 == LAST || held.len() as u64 == LAST - made.released.count());
    }
}

#[test]
fn an_old_image_opens_as_it_was_and_a_new_stream_keeps_its_numbers_apart() {
    let made = made();
    let image = made.dir.path().join("image");
    copy(&made.path(), &image);
    let (spool, _) = open(&made.path());
    spool.append((LAST + 1..=LAST + 50).map(content).collect()).unwrap();
    spool.release(&std::iter::once(SeqRange::new(Seq(1), Seq(400))).collect()).unwrap();
    let old = spool.stream();
    drop(spool);

    let (spool, report) = open(&image);
    assert!(!report.new_stream && report.lost.is_empty());
    assert_eq!((spool.stream(), spool.highest()), (old, Seq(LAST)), "only the collector can know");
    accounted(&spool, &made.released, "old image");
    assert_ne!(spool.new_stream().unwrap(), old);
    let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
    let expected: Vec<u64> = (1..=LAST).filter(|n| n % 10 != 0).collect();
    assert!(held.iter().map(|s| s.seq.0).eq(1..=expected.len() as u64));
    assert!(held.iter().zip(expected).all(|(s, n)| s.record == content(n)));

    // parts of two ages: an old ledger over newer generations, and the other way round
    for newer_ledger in [false, true] {
        let mixed = made.dir.path().join(format!("mixed-{newer_ledger}"));
        let image = made.dir.path().join("again");
        let _ = fs::remove_dir_all(&image);
        let (base, ledger) = if newer_ledger { (&image, made.path()) } else { (&made.path(), image.clone()) };
        let fresh = self::made();
        copy(&fresh.path(), &image);
        copy(base, &mixed);
        if newer_ledger {
            // the ledger says 950, the generations end at 900, and are those of another spool: all is missing or taken in
            fs::copy(ledger.join("ledger"), mixed.join("ledger")).unwrap();
            let (spool, _) = open(&mixed);
            let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
            assert!(held.iter().all(|s| s.record == content(s.seq.0)));
            let missing: u64 = spool.gaps().iter().map(|g| g.seqs.count()).sum();
            assert_eq!((spool.highest(), missing), (Seq(LAST + 50), 45 + 5));
        } else {
            fs::copy(ledger.join("ledger"), mixed.join("ledger")).unwrap();
            let (spool, report) = open(&mixed);
            assert!(report.lost.iter().all(|g| g.seqs.last <= Seq(400)), "{report:?}");
            let held = spool.peek(Seq(401), usize::MAX, usize::MAX).unwrap();
            assert!(held.iter().all(|s| s.record == content(s.seq.0)));
            assert_eq!(spool.highest(), Seq(LAST + 50));
        }
    }
}
