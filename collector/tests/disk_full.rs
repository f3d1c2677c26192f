//! A disk that is full in the middle of a commit. A limit on the size of files stands for it, which holds for the whole
//! process: so this test has a file of its own.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

use collector::tiers::warm::sqlite::SqliteWarm;
use collector::tiers::{Flush, SeriesId, StoredReading, WarmTier};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shared::reading::{Held, Quality, Timestamp};
use tokio::signal::unix::{SignalKind, signal};

/// SIGXFSZ, which tells of that limit and would end the process.
const FILE_TOO_LARGE: i32 = 25;

fn flush(from: i64) -> Flush {
    let held = Held { value: Some(1.0), quality: Quality::GOOD, revision: 0 };
    let reading = |n| StoredReading { series: SeriesId(1), at: Timestamp(n), held };
    Flush { readings: (from..from + 20_000).map(reading).collect(), ..Flush::default() }
}

#[tokio::test]
async fn sqlite_goes_on_as_soon_as_there_is_room_again() {
    let _survives = signal(SignalKind::from_raw(FILE_TOO_LARGE)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warm.sqlite");
    let warm = SqliteWarm::open(&path).await.unwrap();
    assert_eq!(warm.commit(flush(0)).await.unwrap().written, 20_000);

    let size = std::fs::metadata(path.with_extension("sqlite-wal")).unwrap().len();
    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(size), ..unlimited }).unwrap();
    let full = warm.commit(flush(20_000)).await;
    let epoch = warm.hot().begin_epoch().await;
    setrlimit(Resource::Fsize, unlimited).unwrap();
    assert!(full.is_err(), "{full:?}");
    assert!(epoch.is_err(), "an epoch that isn't on the disk hasn't begun: {epoch:?}");
    assert_eq!(warm.hot().begin_epoch().await.unwrap(), warm.hot().account().await.unwrap().epoch);
    assert_eq!(warm.commit(flush(20_000)).await.unwrap().written, 20_000);
    assert_eq!(warm.range(SeriesId(1), Timestamp(0), Timestamp(i64::MAX), 100_000).await.unwrap().len(), 40_000);
    warm.close().await;
}
