//! Figures of the spool on this machine and disk: `spool_bench [--json] [FOLDER] [BLOCKS]`.
//!
//! Blocks of 6,000 incompressible bytes, each append durable when it returns. The folder should lie on the disk in
//! question; by default it is a fresh one in the current folder. What reaches the disk is counted on a loop device.

#[path = "figures/disk.rs"]
mod disk;
#[path = "figures/mod.rs"]
mod figures;

use disk::Disk;
use figures::{Budget, Figure, figure};
use shared::ids::Seq;
use shared::spool::{Options, Record, Spool, SpoolError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const OPTIONS: Options =
    Options { bytes_max: 4 << 30, disk_free_min: 8 << 20, when_full: shared::spool::WhenFull::DropOldest };
const BLOCK: usize = 6000;

fn record(n: u64) -> Record {
    let mut state = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    Record { payload: bytes.take(BLOCK).collect::<Vec<_>>().into(), span: None }
}

fn main() -> Outcome<()> {
    let (as_json, arguments) = figures::arguments();
    let dir = arguments.first().map_or_else(|| PathBuf::from("spool-bench.tmp"), PathBuf::from);
    let blocks: u64 = arguments.get(1).map_or(Ok(4000), |n| n.parse())?;
    if dir.exists() {
        return Err(format!("{} is there already", dir.display()).into());
    }
    std::fs::create_dir_all(&dir)?;
    let result = bench(&dir, blocks, as_json);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn bench(dir: &Path, blocks: u64, as_json: bool) -> Outcome<()> {
    let under = format!("spool, blocks of {BLOCK} bytes, every append durable, {}", filesystem(dir));
    let mut found = vec![
        figure("append, read, release one by one", steady(&dir.join("steady"), blocks)?, "blocks/s", Budget::None),
        figure("  memory in steady state", figures::memory(std::process::id()).0 as f64 / 1e6, "MB", Budget::None),
    ];
    for writers in [1, 4, 16] {
        found.extend(fill_and_drain(&dir.join(writers.to_string()), blocks, writers)?);
    }
    found.push(figure("memory at most", figures::memory(std::process::id()).1 as f64 / 1e6, "MB", Budget::None));
    figures::print(&under, &found, as_json);
    match Disk::mount(dir, 1 << 30) {
        Ok(disk) => figures::print("spool on an ext4 on a loop device", &amplification(&disk, blocks)?, as_json),
        Err(why) => eprintln!("write amplification is not measured: no loop mounts here ({why})"),
    }
    Ok(())
}

/// So many writers at once, then a reader that releases what it read.
fn fill_and_drain(path: &Path, blocks: u64, writers: u64) -> Outcome<Vec<Figure>> {
    let (spool, _) = Spool::open(path, OPTIONS)?;
    let began = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|w| {
            let spool = spool.clone();
            std::thread::spawn(move || {
                (0..blocks / writers).map(|n| timed(&spool, w * blocks + n)).collect::<Result<Vec<_>, _>>()
            })
        })
        .collect();
    let mut took = Vec::new();
    for thread in threads {
        took.extend(thread.join().map_err(|_| "a writer panicked")??);
    }
    let elapsed = began.elapsed().as_secs_f64();
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    let full = spool.usage().bytes as f64;
    let began = Instant::now();
    let read = drain(&spool)?;
    let mut found = vec![
        figure(format!("append, {writers} writers"), took.len() as f64 / elapsed, "blocks/s", Budget::None),
        figure("  half of them within", at(0.5), "ms", Budget::None),
        figure("  99 % within", at(0.99), "ms", Budget::None),
    ];
    if writers == 1 {
        let payload = took.len() as f64 * BLOCK as f64;
        found.push(figure("  disk taken", full / payload, "x payload", Budget::None));
        found.push(figure(
            "  read and released by 64",
            read as f64 / began.elapsed().as_secs_f64(),
            "blocks/s",
            Budget::None,
        ));
        found.push(figure("  disk left after that", spool.usage().bytes as f64 / 1e6, "MB", Budget::None));
    }
    drop(spool);
    std::fs::remove_dir_all(path)?;
    Ok(found)
}

fn timed(spool: &Spool, n: u64) -> Result<Duration, SpoolError> {
    let began = Instant::now();
    spool.append(vec![record(n)]).map(|_| began.elapsed())
}

fn drain(spool: &Spool) -> Result<usize, SpoolError> {
    let (mut at, mut read) = (Seq::FIRST, 0);
    loop {
        let batch = spool.peek(at, 64, usize::MAX)?;
        let Some(last) = batch.last() else { return Ok(read) };
        at = last.seq.next();
        read += batch.len();
        spool.release(&batch.iter().map(|stored| stored.seq).collect())?;
    }
}

/// What an agent does while its collector answers: append, send, release, one by one; blocks a second.
fn steady(path: &Path, blocks: u64) -> Outcome<f64> {
    let (spool, _) = Spool::open(path, OPTIONS)?;
    let began = Instant::now();
    for n in 0..blocks {
        let seqs = spool.append(vec![record(n)])?;
        spool.peek(seqs[0], 1, usize::MAX)?;
        spool.release(&seqs.into_iter().collect())?;
    }
    Ok(blocks as f64 / began.elapsed().as_secs_f64())
}

/// Bytes written to the device for each byte of a block.
fn amplification(disk: &Disk, blocks: u64) -> Outcome<Vec<Figure>> {
    let payload = (blocks * BLOCK as u64) as f64;
    let before = disk.written();
    steady(&disk.path().join("steady"), blocks)?;
    let one_by_one = disk.written() - before;
    let (spool, _) = Spool::open(&disk.path().join("batches"), OPTIONS)?;
    let before = disk.written();
    for first in (0..blocks).step_by(16) {
        spool.append((first..(first + 16).min(blocks)).map(record).collect())?;
    }
    let by_16 = disk.written() - before;
    drain(&spool)?;
    let drained = disk.written() - before - by_16;
    Ok(vec![
        figure("written, append and release one by one", one_by_one as f64 / payload, "x payload", Budget::None),
        figure("written, append by 16", by_16 as f64 / payload, "x payload", Budget::None),
        figure("  and read and released by 64", drained as f64 / payload, "x payload", Budget::None),
    ])
}

/// The kind of file system the folder lies on.
fn filesystem(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let on = fields.filter(|f| f.len() > 2 && dir.starts_with(f[1])).max_by_key(|f| f[1].len());
    on.map_or_else(|| "unknown file system".into(), |f| format!("{} on {}", f[2], f[0]))
}
