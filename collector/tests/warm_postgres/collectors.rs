//! Several collectors on one database.

use super::*;
use collector::tiers::warm::settings::Store;
use collector::tiers::{HotTurn, StreamSeqs, TierError};
use services::postgres::Postgres;
use shared::ids::{Seq, StreamId};
use shared::ranges::{SeqRange, SeqRanges};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use support::{Client, Site, now, seqs};

async fn send(to: &support::Collector, blocks: RangeInclusive<u64>, backwards: bool, start: i64) {
    let (mut client, hash) = Client::ready(to, "STATION_7", &["DIST_001"]).await;
    let mut order: Vec<u64> = blocks.clone().collect();
    if backwards {
        order.reverse();
    }
    for some in order.chunks(20) {
        for seq in some {
            client.block(*seq, full_block(hash, start, *seq)).await;
        }
        client.wait_stored(seqs(some.iter().copied())).await;
    }
    client.wait_committed(seqs(blocks)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_collectors_that_hear_the_same_stream_store_each_reading_once() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let site = || {
        Site::new(&["STATION_7"], |config| {
            config.warm = WarmSettings { store: Some(Store::Postgres), ..settings.clone() };
            config.buffer.flush_interval = std::time::Duration::from_millis(10).into();
            config.buffer.flush_rows = 500;
        })
    };
    let (first, second) = (site(), site());
    let (a, b) = tokio::join!(first.start(), second.start());
    let start = now() - 100_000 * SECOND;
    tokio::join!(send(&a, 1..=300, false, start), send(&b, 150..=450, true, start));
    let readings = 450 * BLOCK;
    let stored = ask(&server, &settings, "SELECT count(*) || ' ' || sum(value) FROM readings").await;
    assert_eq!(stored, format!("{readings} {}", readings * (readings - 1) / 2));
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let streams = tier.streams(None).await.unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!((&streams[0].committed, streams[0].highest), (&seqs(1..=450), Seq(450)));
    while tier.refresh_rollups(1_000).await.unwrap() > 0 {}
    for (site, collector) in [(first, a), (second, b)] {
        collector.stop().await;
        assert_eq!(std::fs::read_dir(site.config.data_dir.join("rejected")).unwrap().count(), 0);
    }
}

/// Each has its hot tier in its own memory, which is a mistake: it costs speed, and nothing is hidden by it.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_dont_share_the_hot_tier_show_what_the_other_stores_and_say_what_is_wrong() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let site = || {
        Site::new(&["STATION_7", "STATION_8"], |config| {
            config.warm = WarmSettings { store: Some(Store::Postgres), ..settings.clone() };
        })
    };
    let (first, second) = (site(), site());
    let (a, b) = tokio::join!(first.start(), second.start());
    let start = now() - 3_600 * SECOND;
    let (mut client, hash) = Client::ready(&a, "STATION_7", &["DIST_001"]).await;
    for seq in 1..=3 {
        client.block(seq, full_block(hash, start, seq)).await;
        client.wait_committed(seqs(1..=seq)).await;
        let wanted = seq as usize * BLOCK as usize;
        for collector in [&a, &b] {
            assert!(support::until(async || collector.history("DIST_001").await.len() == wanted).await);
        }
    }
    for collector in [&a, &b] {
        let troubled = async || collector.get("health").await.to_string().contains("restart the other");
        assert!(support::until(troubled).await, "{}", collector.get("health").await);
    }
    tokio::join!(a.stop(), b.stop());
}

/// Numbers that follow from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Some of few keys over a week, so that nearly every flush meets others at once; and a part of two streams.
fn flush(numbers: &mut Numbers, series: &[SeriesId], start: i64) -> Flush {
    let mut flush = Flush::default();
    for _ in 0..300 {
        let at = start + numbers.below(7 * 24) as i64 * 3_600 * SECOND;
        let mut reading = good(series[numbers.below(3) as usize], at, numbers.below(50) as f64);
        reading.held.revision = u32::try_from(numbers.below(3)).unwrap();
        flush.readings.push(reading);
    }
    for stream in [numbers.below(2), numbers.below(2)] {
        let first = 1 + numbers.below(400);
        let seqs: SeqRanges = [SeqRange::new(Seq(first), Seq(first + numbers.below(9)))].into_iter().collect();
        flush.settled.push(StreamSeqs { gateway: gateway(), stream: StreamId(stream), seqs });
    }
    flush
}

#[tokio::test(flavor = "multi_thread")]
async fn flushes_of_several_collectors_over_the_same_keys_leave_what_the_rule_says() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let start = now() / (3_600 * SECOND) * 3_600 * SECOND - 8 * 86_400 * SECOND;
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A", "B", "C"]).await;
    let flushes = |collector: u64| {
        let mut numbers = Numbers(collector);
        let series = series.clone();
        (0..40).map(move |_| flush(&mut numbers, &series, start)).collect::<Vec<_>>()
    };
    let work = |collector| {
        let (settings, flushes) = (settings.clone(), flushes(collector));
        tokio::spawn(async move {
            let tier = PostgresWarm::open(&settings).await.unwrap();
            for flush in flushes {
                tier.commit(flush).await.unwrap();
                tier.refresh_rollups(7).await.unwrap();
            }
            tier.close().await;
        })
    };
    let working: Vec<_> = (1..=4).map(work).collect();
    for one in working {
        one.await.unwrap();
    }
    let (mut kept, mut streams) = (BTreeMap::new(), BTreeMap::<u64, SeqRanges>::new());
    for flush in (1..=4).flat_map(flushes) {
        for reading in flush.readings {
            let held = kept.entry((reading.series, reading.at)).or_insert(reading.held);
            if reading.held.wins_over(held) {
                *held = reading.held;
            }
        }
        flush.settled.iter().for_each(|settled| streams.entry(settled.stream.0).or_default().extend(&settled.seqs));
    }
    while tier.refresh_rollups(1_000).await.unwrap() > 0 {}
    for series in series {
        let stored = tier.range(series, Timestamp(i64::MIN), Timestamp(i64::MAX), u32::MAX).await.unwrap();
        let wanted: Vec<StoredReading> = kept
            .iter()
            .filter(|((s, _), _)| *s == series)
            .map(|((series, at), held)| StoredReading { series: *series, at: *at, held: *held })
            .collect();
        assert_eq!(stored, wanted);
    }
    for (stream, committed) in streams {
        assert_eq!(tier.committed(&gateway(), StreamId(stream)).await.unwrap().0, committed);
    }
    let sums = "SELECT (SELECT sum(sum) FROM rollup_1h) = (SELECT sum(value) FROM readings) \
                AND NOT EXISTS (SELECT FROM dirty_buckets)";
    assert_eq!(ask(&server, &settings, sums).await, "true");
}

#[tokio::test]
async fn series_that_another_collector_makes_give_them_a_new_version() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let (tier, other) = (PostgresWarm::open(&settings).await.unwrap(), PostgresWarm::open(&settings).await.unwrap());
    series(&tier, &["A"]).await;
    let before = tier.series_version().await.unwrap();
    series(&other, &["A"]).await;
    assert_eq!(tier.series_version().await.unwrap(), before, "it made none");
    series(&other, &["B"]).await;
    let with_b = tier.series_version().await.unwrap();
    assert!(with_b != before && with_b == other.series_version().await.unwrap(), "{before} {with_b}");
}

/// Each marks a bucket once and relies on that, while others take marks of buckets that have ended away.
#[tokio::test(flavor = "multi_thread")]
async fn no_reading_is_missing_in_a_rollup_however_marks_are_made_and_taken() {
    const STEPS: i64 = 120;
    let server = Postgres::start().await;
    let settings = server.database().await;
    let start = now() / (3_600 * SECOND) * 3_600 * SECOND - 86_400 * SECOND;
    let tier = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&tier, &["A", "B"]).await;
    let work = |collector: i64| {
        let (settings, series) = (settings.clone(), series.clone());
        tokio::spawn(async move {
            let tier = PostgresWarm::open(&settings).await.unwrap();
            let mut numbers = Numbers(collector.cast_unsigned());
            for step in 0..STEPS {
                // Each key once, so that all go the fast way; mostly near where the others are, at times far behind.
                let behind = if numbers.below(8) == 0 { numbers.below(40) } else { numbers.below(2) } as i64;
                let at = start + (step - behind) * 100 * SECOND + (collector * STEPS + step) * 1_000;
                let readings = series.iter().map(|series| good(*series, at, 1.0)).collect();
                tier.commit(Flush { readings, ..Flush::default() }).await.unwrap();
                let by = Timestamp(start + (step - numbers.below(6) as i64) * 100 * SECOND);
                tier.refresh_ended(by, 5).await.unwrap();
            }
            tier.close().await;
        })
    };
    let working: Vec<_> = (1..=4).map(work).collect();
    for one in working {
        one.await.unwrap();
    }
    while tier.refresh_rollups(1_000).await.unwrap() > 0 {}
    let sums = "SELECT (SELECT sum(good) FROM rollup_5m) || ' ' || (SELECT count(*) FROM readings) || ' ' \
                || (SELECT count(*) FROM dirty_buckets)";
    assert_eq!(ask(&server, &settings, sums).await, format!("{0} {0} 0", 4 * STEPS * 2));
}

/// Whoever begins an epoch sees everything that was, or ever will be, committed in earlier ones.
#[tokio::test(flavor = "multi_thread")]
async fn no_commit_of_an_earlier_epoch_ends_after_a_later_one_has_begun() {
    let server = Postgres::start().await;
    let settings = server.database().await;
    let tier = Arc::new(PostgresWarm::open(&settings).await.unwrap());
    let other = PostgresWarm::open(&settings).await.unwrap();
    let series = series(&*tier, &["A"]).await[0];
    for n in 0..40 {
        let epoch = tier.hot().account().await.unwrap().epoch;
        let hot = Some(HotTurn { epoch, missed: None });
        let readings: Vec<_> = (0..2_000).map(|k| good(series, now() + n * SECOND + k, 1.0)).collect();
        let first = readings[0].at;
        let committing = tokio::spawn({
            let tier = tier.clone();
            async move { tier.commit(Flush { readings, hot, ..Flush::default() }).await }
        });
        tokio::time::sleep(std::time::Duration::from_micros(n as u64 * 500)).await; // at any moment of it
        assert_eq!(other.hot().begin_epoch().await.unwrap(), epoch + 1);
        let seen = !other.range(series, first, first.plus_micros(1), 1).await.unwrap().is_empty();
        match committing.await.unwrap() {
            Ok(_) => assert!(seen, "it was committed after the epoch had begun"),
            Err(TierError::Overtaken { .. }) => assert!(!seen),
            Err(error) => panic!("{error}"),
        }
    }
}
