//! Kill -9 and power cuts: everything acknowledged is there, what was released stays released.
//!
//! The writer is this test program itself, started again with `SPOOL_WRITER` set to the folder.

#![allow(clippy::unwrap_used)] // a test may fail

use shared::ids::Seq;
use shared::reading::Timestamp;
use shared::spool::{Options, Record, Spool, WhenFull};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const OPTIONS: Options = Options { bytes_max: 24 << 20, disk_free_min: 0, when_full: WhenFull::DropOldest };

fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

struct Random(u64);
impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The record that carries `id`: size and bytes follow from it.
fn record(id: u64) -> Record {
    let mut random = Random(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let len = 50 + random.below(6000) as usize;
    let mut payload = id.to_le_bytes().to_vec();
    payload.extend((0..len).map(|_| random.below(256) as u8));
    Record { payload: payload.into(), span: Some((Timestamp(id as i64), Timestamp(id as i64))) }
}

fn id_of(record: &Record) -> u64 {
    let id = u64::from_le_bytes(record.payload[..8].try_into().unwrap());
    assert_eq!(*record, self::record(id), "what comes out is what went in");
    id
}

/// Writes until it is killed; says on stdout `a SEQ ID` when a record is durable, `r SEQ` before it releases it,
/// `d SEQ` after.
#[test]
fn writer() {
    let Ok(dir) = std::env::var("SPOOL_WRITER") else { return };
    let (spool, _) = Spool::open(Path::new(&dir), OPTIONS).unwrap();
    let said = Arc::new(Mutex::new(std::io::stdout()));
    let say = move |text: String| {
        let mut out = said.lock().unwrap();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap_or_else(|_| std::process::exit(0));
    };
    // the test harness has begun a line
    say(format!("\ns {} {}\n", spool.stream(), spool.highest()));
    let base: u64 = std::env::var("SPOOL_WRITER_BASE").unwrap().parse().unwrap();
    let threads: Vec<_> = (0..3u64)
        .map(|thread| {
            let (spool, say) = (spool.clone(), say.clone());
            std::thread::spawn(move || {
                let mut random = Random(base * 31 + thread + 1);
                let mut id = base + thread * 1_000_000;
                loop {
                    let ids: Vec<u64> = (0..1 + random.below(6)).map(|n| id + n).collect();
                    id += ids.len() as u64;
                    let seqs = spool.append(ids.iter().map(|id| record(*id)).collect()).unwrap();
                    say(seqs.iter().zip(ids).map(|(seq, id)| format!("a {seq} {id}\n")).collect());
                    if random.below(3) == 0 {
                        // oldest first mostly, so that generations empty and go
                        let from = if random.below(4) == 0 { seqs[0] } else { Seq(1) };
                        let some: BTreeSet<Seq> =
                            spool.peek(from, 12, usize::MAX).unwrap().iter().map(|s| s.seq).collect();
                        say(some.iter().map(|seq| format!("r {seq}\n")).collect());
                        spool.release(&some.iter().copied().collect()).unwrap();
                        say(some.iter().map(|seq| format!("d {seq}\n")).collect());
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[derive(Clone, Default, Debug)]
struct Known {
    stream: String,
    acknowledged: BTreeMap<u64, u64>,
    releasing: BTreeSet<u64>,
    released: BTreeSet<u64>,
}

impl Known {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let seq = || words[1].parse::<u64>().unwrap();
        match words[0] {
            "s" => {
                assert!(self.stream.is_empty() || self.stream == words[1], "the stream goes on");
                self.stream = words[1].into();
            }
            "a" if words.len() == 3 => {
                let before = self.acknowledged.insert(seq(), words[2].parse().unwrap());
                assert_eq!(before, None, "seq {} was given twice", seq());
            }
            "r" => drop(self.releasing.insert(seq())),
            "d" => drop(self.released.insert(seq())),
            _ => {} // what the test harness says
        }
    }

    /// Everything acknowledged is there or was being released; nothing released is there. Takes in what was
    /// written and not acknowledged.
    fn check(&mut self, spool: &Spool, what: &str) {
        assert_eq!(spool.stream().to_string(), self.stream, "{what}");
        assert!(spool.gaps().is_empty(), "{what}: {:?}", spool.gaps());
        let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
        let held: BTreeMap<u64, u64> = held.iter().map(|s| (s.seq.0, id_of(&s.record))).collect();
        for (seq, id) in &self.acknowledged {
            match held.get(seq) {
                Some(there) => assert_eq!(there, id, "{what}: seq {seq}"),
                None => assert!(self.releasing.contains(seq), "{what}: acknowledged seq {seq} is missing"),
            }
        }
        if let Some(back) = self.released.iter().find(|seq| held.contains_key(seq)) {
            panic!("{what}: released seq {back} came back");
        }
        assert!(spool.highest().0 >= self.acknowledged.keys().next_back().copied().unwrap_or(0));
        assert!(spool.gaps().is_empty(), "{what}: {:?}", spool.gaps());
        self.acknowledged.extend(held);
    }
}

struct Writer {
    child: Child,
    known: Arc<Mutex<Known>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(dir: &Path, base: u64, known: Known) -> Writer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture", "--test-threads", "1"])
            .env("SPOOL_WRITER", dir)
            .env("SPOOL_WRITER_BASE", base.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let known = Arc::new(Mutex::new(known));
        let heard = known.clone();
        let listener = std::thread::spawn(move || {
            let mut lines = lines;
            let mut line = String::new();
            // a line that the kill cut short was not said
            while lines.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                heard.lock().unwrap().hear(line.trim_end());
                line.clear();
            }
        });
        Writer { child, known, listener: Some(listener) }
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap().clone()
    }

    fn ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.known().stream.is_empty() {
            assert!(Instant::now() < deadline && self.child.try_wait().unwrap().is_none(), "the writer starts");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kill(mut self) -> Known {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.listener.take().unwrap().join().unwrap();
        self.known()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn whatever_was_acknowledged_survives_kill_9() {
    let rounds = rounds("SPOOL_KILL_ROUNDS", 25);
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(0x6B11_1E55);
    let mut known = Known::default();
    for round in 1..=rounds {
        let mut writer =
            Writer::start(dir.path(), round * 10_000_000, Known { stream: String::new(), ..known.clone() });
        if round % 5 == 0 {
            std::thread::sleep(Duration::from_millis(random.below(30))); // also while it opens
        } else {
            writer.ready();
            std::thread::sleep(Duration::from_millis(random.below(400)));
        }
        let stream = known.stream.clone();
        known = writer.kill();
        if known.stream.is_empty() {
            known.stream = stream;
        }
        let (spool, report) = Spool::open(dir.path(), OPTIONS).unwrap();
        if known.stream.is_empty() {
            known.stream = spool.stream().to_string();
        }
        assert!(report.lost.is_empty() && report.set_aside.is_empty(), "round {round}: {report:?}");
        known.check(&spool, &format!("round {round}"));
        // the disk stays small: what would overflow is released here
        let surplus = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
        let surplus: Vec<u64> = surplus.iter().rev().skip(300).map(|s| s.seq.0).collect();
        spool.release(&surplus.iter().copied().map(Seq).collect()).unwrap();
        known.releasing.extend(&surplus);
        known.released.extend(&surplus);
    }
    println!("{rounds} kills, {} records acknowledged, {} released", known.acknowledged.len(), known.released.len());
}

/// A file system of its own on a loop device; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: &Path) -> Result<Mounted, String> {
        fs::create_dir_all(at).unwrap();
        run("mount", &["-o", "loop", &image.to_string_lossy(), &at.to_string_lossy()])?;
        Ok(Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for _ in 0..50 {
            if run("umount", &[&self.0.to_string_lossy()]).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("could not unmount {}", self.0.display());
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim()))
    }
}

/// Makes an ext4 image; says why where that isn't possible.
fn image(path: &Path) -> Result<(), String> {
    let file = fs::File::create(path).map_err(|e| e.to_string())?;
    file.set_len(96 << 20).map_err(|e| e.to_string())?;
    run("mkfs.ext4", &["-q", "-F", &path.to_string_lossy()])
}

/// The image as a power cut would leave it: copied while the writer writes. What is only in the memory of the
/// mounted file system isn't in it.
#[test]
fn whatever_was_acknowledged_survives_a_power_cut() {
    let cuts = rounds("SPOOL_POWER_CUTS", 8);
    let root = tempfile::tempdir().unwrap();
    let disk = root.path().join("disk.img");
    let mounted = image(&disk).and_then(|()| Mounted::new(&disk, &root.path().join("disk")));
    let mounted = match mounted {
        Ok(mounted) => mounted,
        Err(why) => {
            println!("skipped: no loop mounts here ({why})");
            return;
        }
    };
    let mut random = Random(0x0FF_0FF);
    let (mut cut, mut start, mut acknowledged) = (0, 0, 0);
    while cut < cuts {
        start += 1;
        let dir = mounted.0.join(format!("spool-{start}"));
        let mut writer = Writer::start(&dir, start * 10_000_000, Known::default());
        writer.ready();
        for _ in 0..4.min(cuts - cut) {
            std::thread::sleep(Duration::from_millis(20 + random.below(500)));
            // said before the copy begins: acknowledged; releases said until it ends: perhaps in it
            let before = writer.known();
            let copy = root.path().join("copy.img");
            fs::copy(&disk, &copy).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            let after = writer.known();
            let mut known = Known { releasing: after.releasing, ..before };
            let elsewhere = Mounted::new(&copy, &root.path().join("elsewhere")).unwrap();
            let what = format!("cut {cut}");
            let (spool, report) = Spool::open(&elsewhere.0.join(format!("spool-{start}")), OPTIONS).unwrap();
            assert!(!report.new_stream && report.lost.is_empty(), "{what}: {report:?}");
            acknowledged += known.acknowledged.keys().filter(|seq| !known.releasing.contains(seq)).count();
            known.check(&spool, &what);
            assert_eq!(spool.append(vec![record(1)]).unwrap(), [Seq(spool.highest().0)], "{what}: it goes on");
            drop(spool);
            drop(elsewhere);
            fs::remove_file(&copy).unwrap();
            cut += 1;
        }
        writer.kill();
        fs::remove_dir_all(&dir).unwrap();
    }
    println!("{cuts} power cuts, {acknowledged} acknowledged and unreleased records checked");
}
