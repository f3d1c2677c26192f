//! Figures of the spool on this machine and disk: `spool_bench [FOLDER] [BLOCKS]`.
//!
//! Blocks of 6,000 incompressible bytes, about 500 readings each at a bad ratio. The folder should lie on the disk in
//! question; by default it is a fresh one in the current folder.

use shared::ids::Seq;
use shared::spool::{Options, Record, Spool};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(|| PathBuf::from("spool-bench.tmp"), PathBuf::from);
    let blocks: u64 = arguments.next().map_or(Ok(4000), |n| n.parse())?;
    if dir.exists() {
        return Err(format!("{} is there already", dir.display()).into());
    }
    let result = bench(&dir, blocks);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn bench(dir: &Path, blocks: u64) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options { bytes_max: 4 << 30, ..Options::default() };
    println!("machine   {}, {} cores, {}", cpu(), std::thread::available_parallelism()?, filesystem(dir));
    println!("block     {BLOCK} bytes, each append durable when it returns");
    steady(&dir.join("steady"), blocks, options)?;
    for writers in [1, 4, 16] {
        let path = dir.join(writers.to_string());
        let (spool, _) = Spool::open(&path, options)?;
        let (written, device, began) = (written_bytes(), device_bytes(dir), Instant::now());
        let threads: Vec<_> = (0..writers)
            .map(|w| {
                let spool = spool.clone();
                std::thread::spawn(move || {
                    let mine = (0..blocks / writers).map(|n| record(w * blocks + n));
                    mine.map(|record| {
                        let began = Instant::now();
                        spool.append(vec![record]).map(|_| began.elapsed())
                    })
                    .collect::<Result<Vec<Duration>, _>>()
                })
            })
            .collect();
        let mut took = Vec::new();
        for thread in threads {
            took.extend(thread.join().map_err(|_| "a writer panicked")??);
        }
        let elapsed = began.elapsed();
        let (written, device) = (written_bytes() - written, device_bytes(dir) - device);
        took.sort();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
        let payload = took.len() as f64 * BLOCK as f64;
        println!(
            "append    {writers:2} writers: {:7.0} blocks/s, p50 {:.2} ms, p99 {:.2} ms, written {:.1} × payload, by the device {:.1} ×, RSS {} MB",
            took.len() as f64 / elapsed.as_secs_f64(),
            at(0.5),
            at(0.99),
            written as f64 / payload,
            device as f64 / payload,
            status_kb("VmRSS") / 1024,
        );
        let full = spool.usage().bytes;
        let (began, mut at, mut read) = (Instant::now(), Seq(1), 0);
        loop {
            let batch = spool.peek(at, 64, usize::MAX)?;
            let Some(last) = batch.last() else { break };
            at = last.seq.next();
            read += batch.len();
            spool.release(&batch.iter().map(|stored| stored.seq).collect())?;
        }
        println!(
            "drain     {:7.0} blocks/s read and released by 64; disk {:.1} MB ({:.2} × payload) before, {:.2} MB after",
            read as f64 / began.elapsed().as_secs_f64(),
            full as f64 / 1e6,
            full as f64 / payload,
            spool.usage().bytes as f64 / 1e6,
        );
        drop(spool);
        std::fs::remove_dir_all(path)?;
    }
    println!("peak RSS  {} MB", status_kb("VmHWM") / 1024);
    Ok(())
}

/// What an agent does while its collector answers: append, send, release, one by one.
fn steady(path: &Path, blocks: u64, options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let (spool, _) = Spool::open(path, options)?;
    let (written, began, mut most) = (written_bytes(), Instant::now(), 0);
    for n in 0..blocks {
        let seqs = spool.append(vec![record(n)])?;
        spool.peek(seqs[0], 1, usize::MAX)?;
        spool.release(&seqs.into_iter().collect())?;
        most = most.max(spool.usage().bytes);
    }
    println!(
        "steady    {:7.0} blocks/s appended, read and released one by one, written {:.1} × payload, disk {:.1} MB at most, {:.1} MB after, RSS {} MB",
        blocks as f64 / began.elapsed().as_secs_f64(),
        (written_bytes() - written) as f64 / (blocks as f64 * BLOCK as f64),
        most as f64 / 1e6,
        spool.usage().bytes as f64 / 1e6,
        status_kb("VmRSS") / 1024,
    );
    Ok(())
}

/// What this process wrote by system calls. (`write_bytes` beside it counts whole cache folios, far too much.)
fn written_bytes() -> u64 {
    number_after(&std::fs::read_to_string("/proc/self/io").unwrap_or_default(), "wchar:")
}

/// What the folder's device wrote since it is up, the file system's own writes and other programs' included.
fn device_bytes(dir: &Path) -> u64 {
    let device = std::fs::metadata(dir).map_or(0, |m| m.dev());
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap_or_default();
    stat.split_whitespace().nth(6).and_then(|sectors| sectors.parse().ok()).unwrap_or(0u64) * 512
}

fn status_kb(key: &str) -> u64 {
    number_after(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), key)
}

fn number_after(text: &str, key: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|l| l.split(": ").nth(1));
    model.unwrap_or("unknown processor").to_owned()
}

/// The kind of file system the folder will lie on.
fn filesystem(dir: &Path) -> String {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let on = fields.filter(|f| f.len() > 2 && parent.starts_with(f[1])).max_by_key(|f| f[1].len());
    on.map_or_else(|| "unknown file system".into(), |f| format!("{} on {}", f[2], f[0]))
}
