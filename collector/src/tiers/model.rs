//! What tiers take and give.

use super::{HotTurn, cold};
use crate::access::PeopleChange;
use crate::analytics::quality::SeriesQuality;
use crate::analytics::store::Judgement;
use crate::inbox::store::InboxNews;
use serde::{Deserialize, Serialize};
use shared::ids::{BootId, GatewayId, NodeId, Seq, StreamId};
use shared::metric::Kind;
use shared::ranges::SeqRanges;
use shared::reading::{Held, Timestamp};
use shared::spool::Gap;
use std::fmt;
use utoipa::ToSchema;

/// A series' number in this collector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct SeriesId(pub u32);

impl fmt::Display for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A series' name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SeriesKey {
    /// Where it is measured.
    pub node: NodeId,
    /// What is measured.
    pub metric: String,
    /// Tells two of a kind apart; empty by default.
    pub channel: String,
}

impl fmt::Display for SeriesKey {
    /// `DIST_001/flow_rate` or `DIST_001/flow_rate/inlet`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.metric)?;
        if self.channel.is_empty() { Ok(()) } else { write!(f, "/{}", self.channel) }
    }
}

/// All that is known of a series.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SeriesInfo {
    /// Its number.
    pub id: SeriesId,
    /// Its name.
    #[serde(flatten)]
    pub key: SeriesKey,
    /// Gauge, counter or state.
    pub kind: Kind,
    /// The canonical unit.
    pub unit: String,
    /// The gateway that writes it.
    pub gateway: GatewayId,
    /// Smallest step worth keeping, as a decimal exponent.
    pub resolution_exp: Option<i8>,
    /// Time between readings, milliseconds; 0 when the sensor decides.
    pub interval_ms: u32,
    /// With report by exception: an unchanged value is sent after this long, milliseconds; 0 when it is off.
    pub silence_ms_max: u32,
}

/// Why a gateway may not write a series.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SeriesRefused {
    /// One gateway owns a series at a time.
    #[error("{key} belongs to gateway {owner}")]
    Owned {
        /// The series.
        key: SeriesKey,
        /// Who writes it.
        owner: GatewayId,
    },
    /// Stored values would change their meaning.
    #[error("{key} is stored as {stored} and can't become {offered}")]
    Changed {
        /// The series.
        key: SeriesKey,
        /// Kind and unit as they are.
        stored: String,
        /// Kind and unit as they were offered.
        offered: String,
    },
}

/// A reading of a series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StoredReading {
    /// Whose.
    pub series: SeriesId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub held: Held,
}

/// Blocks of one stream.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamSeqs {
    /// Who sent them.
    pub gateway: GatewayId,
    /// In which stream.
    pub stream: StreamId,
    /// Their numbers.
    pub seqs: SeqRanges,
}

/// What one transaction stores.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Flush {
    /// Readings, in any order, with repetitions.
    pub readings: Vec<StoredReading>,
    /// The blocks that are settled by this flush: their readings, quarantine rows or parked bytes are in it.
    /// Gaps shrink by them, except gaps of this same flush that say they were rejected.
    pub settled: Vec<StreamSeqs>,
    /// Gaps that became known.
    pub gaps: Vec<GatewayGap>,
    /// Readings that are set aside.
    pub quarantine: Vec<Quarantined>,
    /// Blocks that wait for their boot's clock.
    pub park: Vec<Parked>,
    /// Parked blocks whose readings are in this flush, or that are given up.
    pub unpark: Vec<(GatewayId, StreamId, Seq)>,
    /// Rows that are set aside no longer: released with this flush's readings, or dropped.
    pub unquarantine: Vec<Quarantined>,
    /// What people decided about anomalies: when something else was decided before, nothing of this flush is stored.
    pub judgements: Vec<Judgement>,
    /// Who may come in.
    pub people: Vec<PeopleChange>,
    /// What people changed, and why.
    pub audit: Vec<Audited>,
    /// What was taken out of inboxes.
    pub inbox: InboxNews,
    /// Which readings came late. Those of a block count when it is settled for the first time.
    pub late: Vec<LateReadings>,
    /// How its readings went to the hot tier; `None`: it has nothing to do with them.
    pub hot: Option<HotTurn>,
}

/// Readings that came late.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LateReadings {
    /// The block they came in; without one they always count.
    pub block: Option<(GatewayId, StreamId, Seq)>,
    /// By hour; an hour may be there several times.
    pub hours: Vec<LateHour>,
}

/// So many readings of an hour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LateHour {
    /// Whose.
    pub series: SeriesId,
    /// Start of the hour, UTC.
    pub hour: Timestamp,
    /// How many.
    pub readings: u32,
}

/// A change that a person made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Audited {
    /// When.
    pub at: Timestamp,
    /// Who says to be behind it.
    pub who: String,
    /// What kind of change: `reading`, `import`, `quarantine`, `anomaly`, `access`, `certificate`, `job`.
    pub what: String,
    /// What was changed, and the reason given.
    pub detail: serde_json::Value,
}

/// Which changes are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditWanted {
    /// By them.
    pub who: Option<String>,
    /// Of that kind.
    pub what: Option<String>,
    /// With a lower number.
    pub before: Option<i64>,
    /// At most so many.
    pub count_max: u32,
}

impl AuditWanted {
    /// The newest.
    #[must_use]
    pub fn all(count_max: u32) -> Self {
        Self { who: None, what: None, before: None, count_max }
    }
}

/// What a commit did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CommitReport {
    /// Readings that are new or replaced a weaker one.
    pub written: u64,
    /// Readings that changed nothing: repetitions, and losers of a conflict.
    pub unchanged: u64,
    /// Buckets that were marked dirty, those that already were included.
    pub dirty: u64,
    /// Old quarantine rows that made room.
    pub quarantine_dropped: u64,
    /// The anomaly about which something else was decided before: nothing was stored.
    pub too_late: Option<i64>,
}

impl CommitReport {
    /// Counts another one's in.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.unchanged += other.unchanged;
        self.dirty += other.dirty;
        self.too_late = self.too_late.or(other.too_late);
        self.quarantine_dropped += other.quarantine_dropped;
    }
}

/// A gap, and whose.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct GatewayGap {
    /// Who misses it.
    pub gateway: GatewayId,
    /// In which stream.
    pub stream: StreamId,
    /// What, when and why.
    #[serde(flatten)]
    pub gap: Gap,
}

/// A reading that was set aside instead of stored.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Quarantined {
    /// Who sent it.
    pub gateway: GatewayId,
    /// In which stream.
    pub stream: StreamId,
    /// In which block.
    pub seq: Seq,
    /// The series' name, which need not exist.
    pub series: String,
    /// When it says it was.
    pub at: Timestamp,
    /// What it says.
    pub held: Held,
    /// Why it was set aside: `future`, `not granted`, …
    pub reason: String,
    /// When it came.
    pub received: Timestamp,
}

/// A block that waits for its boot's clock.
#[derive(Clone, PartialEq, Debug)]
pub struct Parked {
    /// Who sent it.
    pub gateway: GatewayId,
    /// In which stream.
    pub stream: StreamId,
    /// Which block.
    pub seq: Seq,
    /// Which boot its times count from.
    pub boot: BootId,
    /// When it came.
    pub received: Timestamp,
    /// The block as it was sent.
    pub bytes: Vec<u8>,
}

/// A stream's account.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct StreamInfo {
    /// Who sends it.
    pub gateway: GatewayId,
    /// Its identity.
    pub stream: StreamId,
    /// Which seqs are committed.
    pub committed: SeqRanges,
    /// The highest seq known; 0 for none.
    pub highest: Seq,
}

/// A sign of life.
#[derive(Clone, PartialEq, Debug)]
pub struct Heard {
    /// When, by the collector's clock.
    pub at: Timestamp,
    /// The agent's version, when it said so.
    pub version: Option<String>,
    /// Its status as JSON, when it said so.
    pub status: Option<serde_json::Value>,
}

/// What is known of a gateway.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct GatewayInfo {
    /// Its name.
    pub gateway: GatewayId,
    /// When it was first heard.
    pub first_heard: Timestamp,
    /// When it was last heard.
    pub last_heard: Timestamp,
    /// The agent's version.
    pub version: Option<String>,
    /// What it last said of itself.
    pub status: Option<serde_json::Value>,
    /// How many series it owns.
    pub series: u32,
    /// How many gaps are known.
    pub gaps: u32,
}

/// How good a series' data of a day is.
#[derive(Clone, PartialEq, Debug)]
pub struct QualityReport {
    /// Like `2026-03-29`, in the time zone of the jobs.
    pub day: String,
    /// Whose.
    pub series: SeriesId,
    /// The report.
    pub quality: SeriesQuality,
    /// When it was made.
    pub made_at: Timestamp,
}

/// The buckets that rollups are kept for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bucket {
    /// Five minutes, UTC.
    FiveMinutes,
    /// An hour, UTC.
    Hour,
}

impl Bucket {
    /// Its length in microseconds.
    #[must_use]
    pub fn micros(self) -> i64 {
        match self {
            Bucket::FiveMinutes => 300_000_000,
            Bucket::Hour => 3_600_000_000,
        }
    }
    /// The start of the bucket a moment lies in.
    #[must_use]
    pub fn start_of(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.div_euclid(self.micros()).saturating_mul(self.micros()))
    }
}

/// How the warm tier is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct WarmState {
    /// Series it has.
    pub series: u64,
    /// Buckets that wait for their rollup.
    pub dirty_buckets: u64,
    /// Rows set aside.
    pub quarantined: u64,
    /// Blocks that wait for a clock.
    pub parked: u64,
    /// Bytes on disk, where it can tell.
    pub bytes: Option<u64>,
    /// The server that history is asked of, if there is one beside its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaState>,
}

/// How a read replica is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct ReplicaState {
    /// Where it is.
    pub place: String,
    /// History is asked of it: it has all that is committed. While it hasn't, the primary is asked.
    pub asked: bool,
    /// How many bytes of the primary's log it hasn't replayed; null when it can't say.
    pub behind_bytes: Option<u64>,
    /// For how many seconds it has been behind, as far as it was looked; null when it can't say.
    pub behind_s: Option<u64>,
    /// Why it isn't asked, when that is more than a moment's delay.
    pub error: Option<String>,
}

/// How the hot tier is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct HotState {
    /// Series it knows.
    pub series: u64,
    /// Readings it holds.
    pub readings: u64,
    /// Readings that made room for others before their time.
    pub evicted: u64,
    /// Bytes of memory, where it can tell; of a server all that it takes.
    pub bytes: Option<u64>,
}

/// How the cold tier is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct ColdState {
    /// Days it holds.
    pub days: u64,
    /// Files or tables they lie in.
    pub files: u64,
    /// The first day it holds.
    pub first: Option<cold::rows::Day>,
    /// The last day it holds.
    pub last: Option<cold::rows::Day>,
    /// Bytes it takes, where it can tell.
    pub bytes: Option<u64>,
}
