//! The write buffer when tiers fail, refuse, lose answers, and come back.

mod services;
mod support;

use collector::tiers::WarmTier as _;
use services::disk::SmallDisk;
use shared::block::TimeBase;
use shared::catalogue::CatalogueHash;
use shared::reading::Timestamp;
use shared::wire::RejectReason;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::*;

fn one(hash: CatalogueHash, at: i64, value: f64) -> Vec<u8> {
    block(hash, TimeBase::Utc, &[(0, at, value)])
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_warm_tier_away_everything_is_stored_and_committed_when_it_is_back() {
    let site = Site::new(&["STATION_7"], |_| {});
    let (collector, warm, _) = site.start_faulty().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let at = now() - 100 * SECOND;
    client.block(1, one(hash, at, 1.0)).await;
    client.wait_committed(seqs([1])).await;
    warm.away.store(true, SeqCst);
    for seq in 2..=20 {
        client.block(seq, one(hash, at + seq as i64 * SECOND, seq as f64)).await;
    }
    client.wait_stored(seqs(1..=20)).await;
    // A gateway that connects meanwhile gets in, and is told what is known here.
    let mut client = Client::connect(&collector, "STATION_7", hello(STREAM, 20)).await;
    assert_eq!(client.welcome().0, seqs(1..=20));
    warm.away.store(false, SeqCst);
    client.wait_committed(seqs(2..=20)).await;
    let expected: Vec<_> = (2..=20).map(|n| (Timestamp(at + n * SECOND), Some(n as f64))).collect();
    let history = collector.history("DIST_001").await;
    assert_eq!(history[1..], expected);
    assert_eq!(collector.get("health").await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_taken_in_blindly_is_told_later_what_is_committed() {
    let site = Site::new(&["STATION_7"], |_| {});
    let at = now() - 100 * SECOND;
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    client.block(1, one(hash, at, 1.0)).await;
    client.wait_committed(seqs([1])).await;
    collector.stop().await;
    let (collector, warm, _) = site.start_faulty().await;
    warm.away.store(true, SeqCst);
    let mut known = Client::connect(&collector, "STATION_7", hello(STREAM, 1)).await;
    assert_eq!(known.welcome().1, seqs([]));
    warm.away.store(false, SeqCst);
    known.wait_committed(seqs([1])).await;
    drop(known);
    collector.stop().await;
    // One whose spool is an old image is sent away, to connect again and learn it.
    let (collector, warm, _) = site.start_faulty().await;
    warm.away.store(true, SeqCst);
    let mut old_image = Client::connect(&collector, "STATION_7", hello(STREAM, 0)).await;
    warm.away.store(false, SeqCst);
    old_image.wait_closed().await;
    assert_eq!(Client::connect(&collector, "STATION_7", hello(STREAM, 0)).await.welcome().2, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_repeated_and_changes_nothing() {
    let site = Site::new(&["STATION_7"], |_| {});
    let (collector, warm, _) = site.start_faulty().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    warm.loses_answers.store(3, SeqCst);
    let at = now() - 100 * SECOND;
    client.block(1, one(hash, at, 1.0)).await;
    client.wait_committed(seqs([1])).await;
    assert_eq!(warm.commits.load(SeqCst), 4);
    assert_eq!(collector.history("DIST_001").await, [(Timestamp(at), Some(1.0))]);
    // The same over a crash: it is committed, and the spool doesn't know.
    warm.loses_answers.store(u64::MAX, SeqCst);
    client.block(2, one(hash, at + SECOND, 2.0)).await;
    client.wait_stored(seqs([2])).await;
    assert!(until(async || warm.commits.load(SeqCst) > 4).await);
    collector.stop().await;
    let collector = site.start().await;
    let mut client = Client::connect(&collector, "STATION_7", hello(STREAM, 2)).await;
    assert_eq!(client.welcome().1, seqs([1, 2]));
    client.block(3, one(hash, at + 2 * SECOND, 3.0)).await;
    client.wait_committed(seqs([3])).await;
    let expected: Vec<_> = (0..3).map(|n| (Timestamp(at + n * SECOND), Some(n as f64 + 1.0))).collect();
    assert_eq!(collector.history("DIST_001").await, expected);
    assert!(until(async || collector.metrics().await.contains("collector_spool_records 0")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_row_goes_aside_and_everything_else_is_committed() {
    let site = Site::new(&["STATION_7"], |config| {
        config.buffer.flush_interval = Duration::from_secs(1).into();
    });
    let (collector, warm, _) = site.start_faulty().await;
    warm.refuses.lock().unwrap().extend([666.0, 667.0]);
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let at = |n: i64| now_minus(1_000) + n * SECOND;
    for seq in 1..=40i64 {
        let mut rows: Vec<_> = (0..10).map(|row| (0, at(seq * 10 + row), (seq * 10 + row) as f64)).collect();
        match seq {
            17 => rows[3].2 = 666.0,
            30 => rows.iter_mut().for_each(|row| row.2 = 667.0),
            _ => {}
        }
        client.block(seq as u64, block(hash, TimeBase::Utc, &rows)).await;
    }
    client.wait_committed(seqs(1..=40)).await;
    let expected: Vec<_> = (10..410)
        .filter(|n| *n != 173 && !(300..310).contains(n))
        .map(|n| (Timestamp(at(n)), Some(n as f64)))
        .collect();
    assert_eq!(warm_history(&site, collector).await, expected);
    let aside = site.config.data_dir.join("rejected").read_dir().unwrap();
    let mut names: Vec<_> = aside.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".block"));
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    let collector = site.start().await;
    let quarantine = collector.get("quarantine").await;
    assert_eq!(quarantine["items"][0]["value"], 666.0, "{quarantine}");
    assert_eq!(quarantine["items"].as_array().unwrap().len(), 1);
    let gaps = collector.get("gaps").await;
    assert_eq!((&gaps["items"][0]["first"], &gaps["items"][0]["reason"]), (&30.into(), &"rejected".into()), "{gaps}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_warm_tier_refuses_shows_no_more_though_the_hot_tier_had_it() {
    let site = Site::new(&["STATION_7"], |_| {});
    let (collector, warm, _) = site.start_faulty().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let at = |n: i64| now_minus(100) + n * SECOND;
    let shown = |n: i64, value: f64| (Timestamp(at(n)), Some(value));
    client.block(1, one(hash, at(0), 0.0)).await;
    collector.wait_for_history("DIST_001", &[shown(0, 0.0)]).await;
    warm.away.store(true, SeqCst);
    // One row of a block, and a whole one.
    client.block(2, block(hash, TimeBase::Utc, &[(0, at(1), 1.0), (0, at(2), 666.0)])).await;
    client.block(3, one(hash, at(3), 667.0)).await;
    collector.wait_for_history("DIST_001", &[shown(0, 0.0), shown(1, 1.0), shown(2, 666.0), shown(3, 667.0)]).await;
    warm.refuses.lock().unwrap().extend([666.0, 667.0]);
    warm.away.store(false, SeqCst);
    client.wait_committed(seqs([2, 3])).await;
    assert_eq!(collector.history("DIST_001").await, [shown(0, 0.0), shown(1, 1.0)]);
    assert_eq!(collector.get("latest").await["items"][0]["value"], 1.0, "{}", collector.get("latest").await);
    client.block(4, one(hash, at(4), 4.0)).await;
    collector.wait_for_history("DIST_001", &[shown(0, 0.0), shown(1, 1.0), shown(4, 4.0)]).await;
}

/// A moment that doesn't move while a test asks for it.
fn now_minus(seconds: i64) -> i64 {
    static NOW: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    NOW.get_or_init(now) - seconds * SECOND
}

/// What the warm tier alone says: after a restart the hot tier has nothing.
async fn warm_history(site: &Site, collector: Collector) -> Vec<(Timestamp, Option<f64>)> {
    collector.stop().await;
    let collector = site.start().await;
    let history = collector.history("DIST_001").await;
    collector.stop().await;
    history
}

/// Blocks of random values are large.
fn large(hash: CatalogueHash, start: i64, seq: u64) -> Vec<u8> {
    let row = |n: u64| {
        let mixed = (seq * 1_000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0, start + (seq * 1_000 + n) as i64 * 10_000, mixed as f64 / 1e10)
    };
    block(hash, TimeBase::Utc, &(0..LARGE).map(row).collect::<Vec<_>>())
}

/// Readings of a large block.
const LARGE: u64 = 600;

/// All of its own folder lies on it: spool, SQLite, archive.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_taken_that_could_be_lost_and_all_goes_on_when_there_is_room() {
    let unproved = "that a collector whose disk was full has lost nothing";
    let Some(disk) = SmallDisk::or_say(64, unproved) else { return };
    let site = Site::new(&["STATION_7"], |config| {
        config.data_dir = disk.path().join("data");
        config.spool.disk_free_min = shared::config::ByteSize::b(0);
        config.buffer.flush_interval = Duration::from_millis(10).into();
    });
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let (start, mut last) = (now_minus(100_000), 0);
    for round in 1..=3 {
        // It writes while the room ends, the first time what it writes once.
        let first = last + 1;
        last += 20;
        for seq in first..=last {
            client.block(seq, large(hash, start, seq)).await;
        }
        client.wait_stored(seqs([last - 10])).await;
        disk.fill();
        let mut refused = client.answered(last).await;
        while refused.is_empty() {
            last += 1;
            assert!(last < 10_000, "it is never full");
            client.block(last, large(hash, start, last)).await;
            refused = client.answered(last).await;
        }
        assert!(refused.iter().all(|(_, reason, _, retry)| *reason == RejectReason::Unavailable && *retry));
        assert!(refused[0].2.contains("the collector can't store now"), "{refused:?}");
        assert_eq!(client.wait_window().await, 0, "round {round}: the gateway keeps what it has");
        let health = within(collector.get("health")).await;
        assert!(health["status"] == "degraded" && health.to_string().contains("No space left"), "{health}");
        disk.make_room();
        assert!(client.wait_window().await > 0);
        // As an agent does: whatever isn't acknowledged comes again, as often as it is refused.
        let all_again = async {
            for seq in first..=last {
                client.block(seq, large(hash, start, seq)).await;
                while !client.answered(seq).await.is_empty() {
                    client.block(seq, large(hash, start, seq)).await;
                }
            }
        };
        within(all_again).await;
        client.wait_committed(seqs(1..=last)).await;
    }
    disk.fill();
    collector.stop().await;
    let refused = site.try_start().await.err().expect("room for what every start writes").to_string();
    assert!(refused.contains("No space left") && refused.contains(&*disk.path().to_string_lossy()), "{refused}");
    disk.make_room();
    site.start().await.stop().await;
    let warm = collector::tiers::warm::sqlite::SqliteWarm::open(&site.config.warm_file()).await.unwrap();
    assert_eq!(warm.count_readings().await.unwrap(), last * LARGE, "each of them once");
    warm.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_stops_gateways_until_there_is_room_again() {
    let site = Site::new(&["STATION_7"], |config| {
        config.spool.bytes_max = shared::config::ByteSize::mib(16);
        config.spool.disk_free_min = shared::config::ByteSize::b(0);
    });
    let (collector, warm, _) = site.start_faulty().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    client.block(1, one(hash, now_minus(100_000), 0.0)).await;
    client.wait_committed(seqs([1])).await;
    warm.away.store(true, SeqCst);
    // The spool's 16 MiB are soon full.
    let start = now_minus(100_000);
    let large = |seq: u64| large(hash, start, seq);
    let (mut seq, mut refused) = (1, Vec::new());
    while refused.is_empty() {
        seq += 1;
        assert!(seq < 10_000, "it is never full");
        client.block(seq, large(seq)).await;
        refused = client.answered(seq).await;
    }
    assert!(refused.iter().all(|(_, reason, _, retry)| *reason == RejectReason::Unavailable && *retry));
    assert_eq!(client.wait_window().await, 0);
    // Newcomers are told, too.
    warm.away.store(false, SeqCst);
    assert!(client.wait_window().await > 0);
    client.block(seq, large(seq)).await;
    client.wait_stored(seqs([seq])).await;
    client.wait_committed(seqs(1..=seq)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_hot_tier_down_commits_come_at_once_and_nothing_is_claimed_that_it_missed() {
    let site = Site::new(&["STATION_7"], |config| {
        config.buffer.flush_interval = Duration::from_secs(600).into();
    });
    let (collector, warm, hot) = site.start_faulty().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let at = now() - 10 * SECOND;
    client.block(1, one(hash, at, 1.0)).await;
    collector.wait_for_history("DIST_001", &[(Timestamp(at), Some(1.0))]).await;
    assert_eq!(warm.hot().account().await.unwrap().owed, None);
    hot.away.store(true, SeqCst);
    client.block(2, one(hash, at + SECOND, 2.0)).await;
    client.wait_committed(seqs([1, 2])).await;
    let both = [(Timestamp(at), Some(1.0)), (Timestamp(at + SECOND), Some(2.0))];
    assert_eq!(collector.history("DIST_001").await, both);
    // Others who share it will know.
    let owed = Timestamp(at + SECOND + 1);
    assert_eq!(warm.hot().account().await.unwrap().owed, Some(owed));
    // Back, it still proves nothing about what it missed; with the next readings it is told to forget.
    hot.away.store(false, SeqCst);
    assert_eq!(collector.history("DIST_001").await, both);
    client.block(3, one(hash, at + 2 * SECOND, 3.0)).await;
    assert!(until(async || hot.forgotten.lock().unwrap()[..] == [owed]).await);
    let all = [both[0], both[1], (Timestamp(at + 2 * SECOND), Some(3.0))];
    collector.wait_for_history("DIST_001", &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_say_how_often_the_hot_tier_answered_alone() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut client, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    let at = now() - 10 * SECOND;
    client.block(1, one(hash, at, 1.0)).await;
    client.wait_committed(seqs([1])).await;
    let count = async |question: &str, outcome: &str| {
        let (metrics, question) = (collector.metrics().await, format!("question=\"{question}\""));
        let line = metrics.lines().find(|line| {
            line.starts_with("collector_hot_lookups_total{") && line.contains(&question) && line.contains(outcome)
        });
        line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
    };
    let ask = async |from: i64| {
        let (from, to) = (Timestamp(from), Timestamp(at + SECOND));
        let path = format!("history?node=DIST_001&metric=pressure&from={from}&to={to}&resolution=raw");
        assert_eq!(collector.get(&path).await["points"].as_array().unwrap().len(), 1);
    };
    ask(at).await;
    assert_eq!((count("readings", "hit").await, count("readings", "miss").await), (1, 0));
    ask(at - 100 * 86_400 * SECOND).await;
    assert_eq!((count("readings", "hit").await, count("readings", "miss").await), (1, 1));
    let before = count("latest", "hit").await;
    assert_eq!(collector.get("latest").await["items"][0]["value"], 1.0);
    assert!(count("latest", "hit").await > before);
}
