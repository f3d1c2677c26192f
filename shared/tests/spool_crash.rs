//! Kill -9 and power cuts: everything acknowledged is there, what was released stays released.
//!
//! The writer is this test program itself, started again with `SPOOL_WRITER` set to the folder.

#![allow(clippy::unwrap_used)] // a test may fail

use shared::ids::Seq;
use shared::reading::Timestamp;
use shared::spool::{Options, Record, Spool, SpoolError, WhenFull};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
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
            .stderr(Stdio::null()) // after a power cut it has much to say
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

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{program}: {e}"))?;
    let said = if out.status.success() { &out.stdout } else { &out.stderr };
    let said = String::from_utf8_lossy(said).trim().to_owned();
    if out.status.success() { Ok(said) } else { Err(format!("{program}: {said}")) }
}

/// A disk in memory with an ext4 on it, mounted through a loop device; all of it goes when it is dropped.
struct Disk {
    memory: fs::File,
    device: String,
    at: PathBuf,
}

const DISK_BYTES: u64 = 64 << 20;

impl Disk {
    /// Says why where that isn't possible.
    fn new(content: Option<&fs::File>, at: &Path) -> Result<Disk, String> {
        use rustix::fs::{MemfdFlags, memfd_create};
        let memory =
            memfd_create("disk", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(|e| e.to_string())?;
        let memory = fs::File::from(memory);
        memory.set_len(DISK_BYTES).map_err(|e| e.to_string())?;
        if let Some(content) = content {
            let mut bytes = vec![0; 1 << 20];
            for at in (0..DISK_BYTES).step_by(bytes.len()) {
                content.read_exact_at(&mut bytes, at).map_err(|e| e.to_string())?;
                memory.write_all_at(&bytes, at).map_err(|e| e.to_string())?;
            }
        }
        let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
        if content.is_none() {
            run("mkfs.ext4", &["-q", "-F", &path])?;
        }
        let device = run("losetup", &["--find", "--show", &path])?;
        let disk = Disk { memory, device, at: at.to_owned() };
        fs::create_dir_all(at).map_err(|e| e.to_string())?;
        run("mount", &[&disk.device, &at.to_string_lossy()])?;
        Ok(disk)
    }

    /// From now on nothing reaches the disk, at once and between any two pages: whatever the writer was doing.
    fn cut_power(&self) {
        rustix::fs::fcntl_add_seals(&self.memory, rustix::fs::SealFlags::FUTURE_WRITE).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for _ in 0..50 {
            let unmounted = run("umount", &[&self.at.to_string_lossy()]);
            if unmounted.is_ok() || unmounted.is_err_and(|why| why.contains("not mounted")) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Err(why) = run("losetup", &["-d", &self.device]) {
            eprintln!("{why}");
        }
    }
}

/// The power goes at a random moment, also in the middle of a flush. What only the memory of the mounted file
/// system has is lost; what was acknowledged, even after the cut, must have been on the disk by then.
#[test]
fn whatever_was_acknowledged_survives_a_power_cut() {
    let cuts = rounds("SPOOL_POWER_CUTS", 20);
    let root = tempfile::tempdir().unwrap();
    let mut random = Random(0x0FF_0FF);
    let mut acknowledged = 0;
    for cut in 1..=cuts {
        let disk = match Disk::new(None, &root.path().join("disk")) {
            Ok(disk) => disk,
            Err(why) => {
                println!("skipped: no loop mounts here ({why})");
                return;
            }
        };
        let mut writer = Writer::start(&disk.at.join("spool"), cut * 10_000_000, Known::default());
        if cut % 5 == 0 {
            std::thread::sleep(Duration::from_millis(random.below(40))); // also while it is made
        } else {
            writer.ready();
            std::thread::sleep(Duration::from_millis(random.below(700)));
        }
        disk.cut_power();
        std::thread::sleep(Duration::from_millis(10));
        let mut known = writer.kill();
        let after = Disk::new(Some(&disk.memory), &root.path().join("after")).unwrap();
        drop(disk);
        let what = format!("cut {cut}");
        let (spool, report) = Spool::open(&after.at.join("spool"), OPTIONS).unwrap();
        assert!(report.lost.is_empty() && report.set_aside.is_empty(), "{what}: {report:?}");
        if known.stream.is_empty() {
            known.stream = spool.stream().to_string();
        }
        acknowledged += known.acknowledged.keys().filter(|seq| !known.releasing.contains(seq)).count();
        known.check(&spool, &what);
        let highest = spool.highest();
        assert_eq!(spool.append(vec![record(1)]).unwrap(), [highest.next()], "{what}: it goes on");
    }
    println!("{cuts} power cuts, {acknowledged} acknowledged and unreleased records checked");
}

#[test]
fn a_full_disk_is_no_damage_and_passes() {
    let root = tempfile::tempdir().unwrap();
    let disk = match Disk::new(None, &root.path().join("disk")) {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: no loop mounts here ({why})");
            return;
        }
    };
    let dir = disk.at.join("spool");
    let greedy = Options { bytes_max: 1 << 30, disk_free_min: 0, when_full: WhenFull::Refuse };
    let (mut spool, _) = Spool::open(&dir, greedy).unwrap();
    let (mut id, mut put, mut full) = (0, BTreeMap::new(), 0);
    for round in 0..6 {
        // something else takes the room while the spool writes, so that it meets the end of the disk at any point
        let hog = disk.at.join("hog");
        fs::write(&hog, vec![1; (8 + round) << 20]).unwrap();
        let mut failed = 0;
        while failed < 3 {
            id += 1;
            match spool.append(vec![record(id)]) {
                Ok(seqs) => drop(put.insert(seqs[0], id)),
                Err(SpoolError::Io { source, .. }) => {
                    full += u32::from(source.kind() == std::io::ErrorKind::StorageFull);
                    failed += 1;
                }
                Err(other) => panic!("{other}"),
            }
            if id % 40 == 0 {
                let _ = fs::OpenOptions::new().append(true).open(&hog).and_then(|mut f| f.write_all(&[2; 300_000]));
            }
        }
        if round % 2 == 0 {
            drop(spool);
            let (again, report) = Spool::open(&dir, greedy).unwrap();
            assert!(report.lost.is_empty() && report.set_aside.is_empty(), "{report:?}");
            spool = again;
        }
        let held = spool.peek(Seq(1), usize::MAX, usize::MAX).unwrap();
        let there: BTreeMap<Seq, u64> = held.iter().map(|s| (s.seq, id_of(&s.record))).collect();
        for (seq, id) in &put {
            assert_eq!(there.get(seq), Some(id), "round {round}, seq {seq}");
        }
        assert!(spool.gaps().is_empty());
        fs::remove_file(&hog).unwrap();
        let oldest: Vec<Seq> = there.keys().copied().take(there.len() / 2).collect();
        spool.release(&oldest.iter().copied().collect()).unwrap();
        put.retain(|seq, _| !oldest.contains(seq));
        spool.append(vec![record(0)]).unwrap_or_else(|e| panic!("round {round}: there is room again: {e}"));
    }
    assert!(full > 0, "the disk was full");
    println!("{id} appends, {full} failed on a full disk");
}
