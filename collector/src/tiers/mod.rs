//! The tiers: where readings are kept, by age. One trait per tier, several implementations, one contract suite each.
//!
//! * *warm* is the truth of the last 90 days: everything that is committed is here, in one transaction with the
//!   account of the blocks it came from.
//! * *hot* is a fast copy of the last 24 hours that can be rebuilt at any time. It answers only for stretches it can
//!   prove complete; otherwise it says nothing, and the warm tier is asked.
//! * *cold* is the archive: whole UTC days, for good. A day that it proves to hold may leave the warm tier.
//!
//! Every tier decides conflicts by [`shared::reading::Held::contest`], so the order of arrival never matters.

pub mod cold;
pub mod hot;
mod merge;
mod model;
pub mod warm;

pub use cold::lost::Damage;
pub use cold::rows::{Day, Proof, Run, Runs};
pub use hot::ledger::{HotAccount, HotLedger, HotTurn};
pub use merge::merge;
pub use model::*;

use crate::access::AccessStore;
use crate::alerts::AlertStore;
use crate::analytics::store::{AnomalyStore, ForecastStore};
use crate::etl::ledger::DayLedger;
use crate::etl::store::JobStore;
use crate::inbox::store::InboxStore;
use crate::rollup::Rollup;
use futures::future::BoxFuture;
use shared::catalogue::{Catalogue, CatalogueHash, Entry};
use shared::ids::{BootId, GatewayId, NodeId, Seq, StreamId};
use shared::ranges::SeqRanges;
use shared::reading::Timestamp;
use shared::wire::Fix;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// What a tier's methods give.
pub type TierFuture<'a, T> = BoxFuture<'a, Result<T, TierError>>;

/// Why a tier couldn't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// It can't be reached, is locked, or its disk is full: the same call may succeed later.
    #[error("{tier} is not available: {why}")]
    Unavailable {
        /// Which tier and implementation.
        tier: &'static str,
        /// What it said.
        why: String,
    },
    /// It holds something it should never hold, or was asked for something that can't be.
    #[error("{tier}: {why}")]
    Broken {
        /// Which tier and implementation.
        tier: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A part of what it holds is not what was stored; the rest is.
    #[error("{tier}: {why}")]
    Damaged {
        /// Which tier and implementation.
        tier: &'static str,
        /// Of these days something was asked for, and all that it has of them may be wrong.
        days: Range<Day>,
        /// What is wrong, and where.
        why: String,
    },
    /// The readings of a flush were put into the hot tier before it lost something: they must be put again first.
    #[error("the hot tier lost something since the readings were put there; it is epoch {epoch} now")]
    Overtaken {
        /// The epoch that holds now.
        epoch: u64,
    },
}

/// The last 90 days, whole. Every method may be called by several tasks at once.
pub trait WarmTier: Send + Sync + 'static {
    /// The numbers of a catalogue's series, in its order. Unknown ones are created and then owned by `gateway`;
    /// for those that another gateway owns, or whose kind or unit changed, the refusal stands in their place.
    fn series_for<'a>(
        &'a self,
        gateway: &'a GatewayId,
        entries: &'a [Entry],
    ) -> TierFuture<'a, Vec<Result<SeriesId, SeriesRefused>>>;

    /// Makes a series `to`'s that is `from`'s; nothing when it isn't any more.
    fn hand_over<'a>(&'a self, series: &'a SeriesKey, from: &'a GatewayId, to: &'a GatewayId) -> TierFuture<'a, ()>;

    /// Grows after every change of series that was made through this object.
    fn series_changes(&self) -> u64;

    /// Another one after every change of series, by whoever; it costs much less than all of them.
    fn series_version(&self) -> TierFuture<'_, String>;

    /// Stores all of a flush, or nothing of it, in one transaction: readings by the conflict rule, dirty marks, the
    /// account of blocks, gaps, quarantine, parked blocks. Repeating a flush changes nothing but the audit.
    /// [`TierError::Overtaken`], and nothing stored, when [`Flush::hot`] is of another epoch.
    fn commit(&self, flush: Flush) -> TierFuture<'_, CommitReport>;

    /// Which seqs of a stream are committed, and the highest seq known of it (0: none).
    fn committed<'a>(&'a self, gateway: &'a GatewayId, stream: StreamId) -> TierFuture<'a, (SeqRanges, Seq)>;

    /// Every stream that was ever committed to, of one gateway or of all.
    fn streams<'a>(&'a self, gateway: Option<&'a GatewayId>) -> TierFuture<'a, Vec<StreamInfo>>;

    /// Keeps a catalogue for good.
    fn put_catalogue<'a>(&'a self, gateway: &'a GatewayId, catalogue: &'a Catalogue) -> TierFuture<'a, ()>;

    /// The catalogue of that hash.
    fn catalogue(&self, hash: CatalogueHash) -> TierFuture<'_, Option<Arc<Catalogue>>>;

    /// Keeps what is known of a boot's clock and gives what holds: the first word on a boot is never changed.
    fn put_clock_fix<'a>(&'a self, gateway: &'a GatewayId, boot: BootId, fix: Fix) -> TierFuture<'a, Fix>;

    /// What is known of a boot's clock.
    fn clock_fix<'a>(&'a self, gateway: &'a GatewayId, boot: BootId) -> TierFuture<'a, Option<Fix>>;

    /// Blocks whose time isn't known yet, oldest first. They are parked and taken by [`WarmTier::commit`].
    fn parked<'a>(
        &'a self,
        gateway: Option<&'a GatewayId>,
        boot: Option<BootId>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<Parked>>;

    /// Known gaps that touch the span, newest first. Gaps without a known time are always among them.
    fn gaps<'a>(
        &'a self,
        gateway: Option<&'a GatewayId>,
        span: Option<(Timestamp, Timestamp)>,
        count_max: u32,
    ) -> TierFuture<'a, Vec<GatewayGap>>;

    /// What was set aside, newest first.
    fn quarantine<'a>(&'a self, gateway: Option<&'a GatewayId>, count_max: u32) -> TierFuture<'a, Vec<Quarantined>>;

    /// The newest reading of these series; those without any are left out.
    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>>;

    /// From here on questions are answered with all that anybody has committed until now. Otherwise they may lack what
    /// others committed in the last second, so whoever keeps an answer under a version asks for this after the version.
    fn catch_up(&self) -> TierFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// The readings with `from <= at < to`, ascending, at most `count_max` of them.
    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>>;

    /// The last reading before a moment; with `usable`, the last that has a value.
    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>>;

    /// From when on it holds every reading: the start of a UTC day. What is older has left it, after the archive had
    /// proved to have it; only what came too late for that may be here as well. Rollups stay.
    fn complete_from(&self) -> TierFuture<'_, Timestamp>;

    /// The rollups of buckets that start in `from <= start < to`, ascending, and which of these buckets are dirty:
    /// a dirty one's rollup, if there is one, is out of date, and its readings must be asked for instead.
    fn rollups(&self, series: SeriesId, bucket: Bucket, from: Timestamp, to: Timestamp) -> TierFuture<'_, Rollups>;

    /// Brings up to `buckets_max` dirty buckets up to date; gives how many it did. It goes on behind those that were done
    /// last, so that none waits for ever while others get dirty again; fewer than `buckets_max`: that was the last one. 0:
    /// none is dirty that can be: those of days that have left are made from what the archive has ([`DayLedger::renew`]).
    fn refresh_rollups(&self, buckets_max: u32) -> TierFuture<'_, u32> {
        self.refresh_ended(Timestamp(i64::MAX), buckets_max)
    }

    /// As [`WarmTier::refresh_rollups`], and only buckets that end at or before a moment: one that is still being written to
    /// would have to be read again and again.
    fn refresh_ended(&self, by: Timestamp, buckets_max: u32) -> TierFuture<'_, u32>;

    /// Opens the connections that questions are answered over, on the runtime that this is called on.
    fn be_asked(&self) -> TierFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// All nodes that have series.
    fn nodes(&self) -> TierFuture<'_, Vec<NodeId>>;

    /// All series, of one node or of all.
    fn series<'a>(&'a self, node: Option<&'a NodeId>) -> TierFuture<'a, Vec<SeriesInfo>>;

    /// Notes that a gateway was heard, and what it said of itself if it did.
    fn gateway_heard<'a>(&'a self, gateway: &'a GatewayId, heard: Heard) -> TierFuture<'a, ()>;

    /// All gateways ever heard.
    fn gateways(&self) -> TierFuture<'_, Vec<GatewayInfo>>;

    /// Who may come in.
    fn access(&self) -> &dyn AccessStore;

    /// What people changed, newest first, with its number. It is written by [`WarmTier::commit`].
    fn audit<'a>(&'a self, wanted: &'a AuditWanted) -> TierFuture<'a, Vec<(i64, Audited)>>;

    /// How many readings of the hours that start in `from <= start < to` came late, by series; those without any are left out.
    fn late(&self, from: Timestamp, to: Timestamp) -> TierFuture<'_, Vec<(SeriesId, u64)>>;

    /// Keeps reports on the quality of data, in place of earlier ones; those of days before `keep_from` go.
    fn put_quality<'a>(&'a self, reports: &'a [QualityReport], keep_from: &'a str) -> TierFuture<'a, ()>;

    /// The days of which all reports were made, `YYYY-MM-DD`, and of which version of their readings.
    fn quality_days(&self) -> TierFuture<'_, Vec<(String, u64)>>;

    /// Notes that all reports of a day were made of this version of its readings.
    fn note_quality_day<'a>(&'a self, day: &'a str, version: u64) -> TierFuture<'a, ()>;

    /// The reports of a day like `2026-03-29`, or of the newest that has any.
    fn quality<'a>(&'a self, day: Option<&'a str>) -> TierFuture<'a, Vec<QualityReport>>;

    /// What other producers left for us.
    fn inbox(&self) -> &dyn InboxStore;

    /// What collectors agree on about the hot tier.
    fn hot(&self) -> &dyn HotLedger;

    /// What is kept of jobs.
    fn jobs(&self) -> &dyn JobStore;

    /// What is kept of archive days.
    fn days(&self) -> &dyn DayLedger;

    /// What is kept of forecasts.
    fn forecasts(&self) -> &dyn ForecastStore;

    /// What is kept of anomalies.
    fn anomalies(&self) -> &dyn AnomalyStore;

    /// What is kept of what was told.
    fn alerts(&self) -> &dyn AlertStore;

    /// Figures for health and metrics; also the proof that the tier answers.
    fn state(&self) -> TierFuture<'_, WarmState>;

    /// What is wrong with its read replica, when that was last asked, and what is done meanwhile.
    fn fault(&self) -> Option<String> {
        None
    }

    /// How many readings it holds; where counting takes long, what the server's statistics say. It may read much.
    fn count_readings(&self) -> TierFuture<'_, u64>;

    /// Waits for what is under way and lets go of everything; after it the tier is not used any more.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The rollups of a stretch, and what of it is out of date.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rollups {
    /// Start and content of every bucket that has readings, ascending.
    pub clean: Vec<(Timestamp, Rollup)>,
    /// Starts of buckets that must be answered from readings, ascending.
    pub dirty: Vec<Timestamp>,
}

/// The newest readings that a hot tier knows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Newest {
    /// In the order of the question.
    pub readings: Vec<StoredReading>,
    /// Series of which newer ones may be stored that it was not given.
    pub unsure: Vec<SeriesId>,
}

/// The last 24 hours, fast. Every method may be called by several tasks at once.
///
/// Whoever stores readings durably must put all of them here too, or call [`HotTier::forget`]: completeness rests on
/// that.
pub trait HotTier: Send + Sync + 'static {
    /// Takes readings that are durably stored, in any order, and tells the subscribers.
    fn put<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()>;

    /// Takes newest values that are not stored anywhere: they show in `latest` and the feed, never in `range`.
    fn put_live<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()>;

    /// The newest reading of these series; those that it doesn't know are left out.
    fn latest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Vec<StoredReading>>;

    /// As [`HotTier::latest`], in the order they are asked for, and for which series nothing newer can be stored.
    fn newest<'a>(&'a self, series: &'a [SeriesId]) -> TierFuture<'a, Newest> {
        Box::pin(async move {
            let readings = self.latest(series).await?;
            Ok(Newest { readings, unsure: series.to_vec() })
        })
    }

    /// From when on `range` can answer for a series; `None` when it can't at all.
    fn complete_from(&self, series: SeriesId) -> TierFuture<'_, Option<Timestamp>>;

    /// The readings with `from <= at < to`, ascending; `None` when it can't prove that it has all of them.
    fn range(&self, series: SeriesId, from: Timestamp, to: Timestamp) -> TierFuture<'_, Option<Vec<StoredReading>>>;

    /// Says that readings before `before` may have passed it by: nothing earlier is proved from now on.
    fn forget(&self, before: Timestamp) -> TierFuture<'_, ()>;

    /// These readings are about to be committed, and will be put only after that: until then nothing is proved of their
    /// series up to the last of them, whoever asks, and for good if nobody comes back ([`HotTier::put_after`]).
    fn doubt<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, Doubt>;

    /// As [`HotTier::put`], after the commit that was doubted: what was proved before is proved again, unless something was
    /// lost meanwhile. Without readings: nothing of it was committed.
    fn put_after<'a>(&'a self, readings: &'a [StoredReading], doubt: Doubt) -> TierFuture<'a, ()>;

    /// Nobody knows what became of the commit that was doubted: nothing is proved of that time until it is filled in.
    fn leave(&self, _doubt: Doubt) {}

    /// These were put, and the warm tier refuses them for good: they show nowhere any more, unless as a value of
    /// [`HotTier::put_live`] that comes again. Whatever else was put is as it was, or is no more proved.
    fn withdraw<'a>(&'a self, readings: &'a [StoredReading]) -> TierFuture<'a, ()>;

    /// Everything that is put from now on. A subscriber that is too slow misses some and is told how many.
    fn subscribe(&self) -> broadcast::Receiver<Arc<[StoredReading]>>;

    /// Figures for health and metrics; also the proof that the tier answers.
    fn state(&self) -> TierFuture<'_, HotState>;

    /// What is wrong with it although it may answer: it takes nothing, or will lose what it takes; and what to do.
    fn fault(&self) -> Option<String> {
        None
    }
}

/// What [`HotTier::doubt`] took back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Doubt(pub(crate) Vec<Doubted>);

/// One series of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Doubted {
    pub(crate) series: SeriesId,
    /// From when on this series could be proved by itself before, if that was noted.
    pub(crate) before: Option<Timestamp>,
    /// From when on it can be since; of every doubt it is another moment.
    pub(crate) since: Timestamp,
}

/// The archive: whole UTC days, for good. Every method may be called by several tasks at once; only one collector
/// writes.
pub trait ColdTier: Send + Sync + 'static {
    /// Puts these rows in the place of all that it holds of the day, at once or not at all: whoever reads meanwhile
    /// sees the old day or the new one, and a crash leaves one of them. Gives the proof of what was read back.
    /// Without rows the day is held as an empty one.
    fn replace_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof>;

    /// As [`ColdTier::replace_day`], but what it holds of the day stays, unless a new row wins against it.
    fn merge_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof>;

    /// The proof of what it holds of a day, by reading every row of it; `None` when it doesn't hold the day.
    fn proof(&self, day: Day) -> TierFuture<'_, Option<Proof>>;

    /// All rows of a day; none when it doesn't hold it.
    fn day(&self, day: Day) -> Runs<'_>;

    /// The days with `from <= day < to` that it holds, ascending.
    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<Day>>;

    /// Whether it holds a day.
    fn has(&self, day: Day) -> TierFuture<'_, bool> {
        Box::pin(async move { Ok(!self.days(day, day.next()).await?.is_empty()) })
    }

    /// Where it lies, for people.
    fn place(&self) -> String;

    /// Looks once more whether what it holds of these days is what was written, where it has to see to that by itself. What
    /// isn't is told by [`ColdTier::damage`].
    fn check(&self, _days: Vec<Day>) -> TierFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// What reads have found damaged and, as far as it is known, still is: no more than some of that is read again.
    fn damage(&self) -> TierFuture<'_, Vec<Damage>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Changes whenever days came or went, or something was found damaged or sound again; `None` when it can't tell.
    fn changes(&self) -> Option<watch::Receiver<()>> {
        None
    }

    /// The readings with `from <= at < to`, ascending, at most `count_max` of them. [`TierError::Damaged`] of the first days
    /// that can't be read.
    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>>;

    /// The last reading before a moment; with `usable`, the last that has a value.
    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>>;

    /// The readings with `from <= at < to` summed up by bucket, ascending by start; a value holds for `hold_micros`
    /// at most. Buckets without readings are left out. [`TierError::Damaged`] as [`ColdTier::range`].
    fn aggregate(
        &self,
        series: SeriesId,
        bucket: Bucket,
        from: Timestamp,
        to: Timestamp,
        hold_micros: i64,
    ) -> TierFuture<'_, Vec<(Timestamp, Rollup)>>;

    /// Brings what it holds of days before `before` into the shape that is read fastest; the rows stay the same.
    /// Gives how many files or tables that touched.
    fn tidy(&self, before: Day) -> TierFuture<'_, u32>;

    /// Figures for health and metrics; also the proof that the tier answers.
    fn state(&self) -> TierFuture<'_, ColdState>;

    /// Waits for what is under way; after it the tier is not used any more.
    fn close(&self) -> BoxFuture<'_, ()>;
}
