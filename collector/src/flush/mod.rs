//! The write buffer: from the spool into the warm tier, in order, in transactions of many blocks.
//!
//! A transaction is due when it has [`Rules::rows`] readings, when its oldest record has waited [`Rules::interval`],
//! at once when the hot tier is down, and before a clock fix. Its steps, each of which may be the last before a
//! crash: the hot tier gets what it hasn't got; the warm tier commits readings, dirty marks, quarantine and the
//! account of blocks; the spool releases; gateways are told. Repeating all of it changes nothing.

mod alone;
mod direct;
mod fixes;
mod follow;
mod piece;
mod poison;
mod quarantine;
mod regrant;
mod rollups;
mod turn;
mod unpark;

pub use alone::NOT_ALONE;
pub use direct::Write;
pub use fixes::Fixes;
pub use follow::{Followed, TOLD_EVERY};
pub use quarantine::Quarantine;
pub use rollups::keep_rollups;

use crate::grants::Grants;
use crate::ingest::aside::Aside;
use crate::ingest::catalogues::Catalogues;
use crate::ingest::intake::OpenGaps;
use crate::ingest::ledger::Ledger;
use crate::ingest::sessions::Sessions;
use crate::resolve::{Origin, Resolver, Timely};
use crate::tiers::hot::days::DayCache;
use crate::tiers::hot::guarded::Guarded;
use crate::tiers::{Parked, TierError, WarmTier};
use piece::{Content, Parsed, Piece, Raw};
use shared::backoff::Backoff;
use shared::block::{Block, TimeBase};
use shared::catalogue::Catalogue;
use shared::ids::{GatewayId, Seq, StreamId};
use shared::ranges::SeqRanges;
use shared::reading::Timestamp;
use shared::spool::{Spool, SpoolError};
use shared::wire::Fix;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most records of one transaction, however few readings they have.
const RECORDS_MAX: usize = 20_000;
/// What comes in small pieces is read together.
const GATHER: Duration = Duration::from_millis(20);

/// When a transaction is due.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// With so many readings.
    pub rows: usize,
    /// When its oldest record has waited so long.
    pub interval: Duration,
    /// What is asked of readings' times.
    pub timely: Timely,
}

/// The flusher.
pub struct Flusher {
    /// Where it takes from.
    pub spool: Spool,
    /// Where to.
    pub warm: Arc<dyn WarmTier>,
    /// Gets everything first.
    pub hot: Arc<Guarded>,
    /// Whether other collectors see the same one.
    pub hot_is_shared: bool,
    /// What the hot tier has already.
    pub followed: Arc<Followed>,
    /// The catalogues on disk.
    pub catalogues: Arc<Catalogues>,
    /// The series of catalogues in use.
    pub resolver: Arc<Resolver>,
    /// The clocks of boots.
    pub fixes: Arc<Fixes>,
    /// Which gateway may write what.
    pub grants: Grants,
    /// Told what is committed.
    pub ledger: Arc<Ledger>,
    /// Told what is committed.
    pub sessions: Arc<Sessions>,
    /// Where goes what can't be committed.
    pub aside: Arc<Aside>,
    /// Gaps on their way.
    pub gaps: Arc<OpenGaps>,
    /// Told when buckets may be dirty.
    pub dirty: Arc<Notify>,
    /// Told which past days change.
    pub days: Option<Arc<DayCache>>,
    /// When it is due.
    pub rules: Rules,
    /// Why nothing can be committed at the moment.
    pub stuck: Arc<Stuck>,
    /// Sees what is set aside.
    pub quarantine: Arc<Quarantine>,
}

/// Why nothing is committed, while that is so.
#[derive(Debug, Default)]
pub struct Stuck(Mutex<Option<String>>);

impl Stuck {
    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why, in words.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
enum FlushError {
    #[error(transparent)]
    Tier(#[from] TierError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
}

/// What is ready to be committed.
#[derive(Default)]
struct Buffer {
    pieces: Vec<Piece>,
    rows: usize,
    since: Option<Instant>,
    /// A clock fix: everything before it is committed first.
    fix: Option<Piece>,
}

impl Buffer {
    fn push(&mut self, piece: Piece) {
        self.since.get_or_insert_with(Instant::now);
        if matches!(piece.content, Content::Fix(..)) {
            self.fix = Some(piece);
        } else {
            self.rows += piece.content.rows();
            self.pieces.push(piece);
        }
    }

    fn is_full(&self, rules: &Rules) -> bool {
        self.fix.is_some() || self.rows >= rules.rows || self.pieces.len() >= RECORDS_MAX
    }
}

impl Flusher {
    /// Commits what comes, until `stop`, and then what is there; what can't be committed then stays in the spool.
    pub async fn run(&self, mut appended: watch::Receiver<()>, stop: CancellationToken) {
        let (mut buffer, mut next) = (Buffer::default(), Seq::FIRST);
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            let stopping = stop.is_cancelled();
            match self.step(&mut buffer, &mut next, stopping).await {
                Ok(true) => {
                    self.stuck.set(None);
                    backoff.reset();
                    continue;
                }
                Ok(false) if stopping => return,
                Ok(false) => {}
                Err(error) => {
                    metrics::counter!("collector_flush_failed_total").increment(1);
                    self.stuck.set(Some(error.to_string()));
                    tracing::error!(%error, waiting = self.spool.usage().records, "can't be committed; it stays in the spool");
                    if stopping || stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await.is_none() {
                        return;
                    }
                    continue;
                }
            }
            let due = buffer.since.map(|since| since + self.rules.interval);
            tokio::select! {
                () = stop.cancelled() => {}
                changed = appended.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHER.min(self.rules.interval)).await;
                }
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
            }
        }
    }

    /// Reads on, and commits when it is due; whether it did.
    async fn step(&self, buffer: &mut Buffer, next: &mut Seq, stopping: bool) -> Result<bool, FlushError> {
        let mut more = true;
        while more && !buffer.is_full(&self.rules) {
            let raws = self.read(*next).await?;
            more = !raws.is_empty();
            for raw in raws {
                let record = raw.record;
                buffer.push(self.prepare(raw).await?);
                *next = record.next();
                if buffer.is_full(&self.rules) {
                    break;
                }
            }
        }
        let Some(since) = buffer.since else { return Ok(false) };
        let due =
            stopping || buffer.is_full(&self.rules) || self.hot.is_down() || since.elapsed() >= self.rules.interval;
        if due {
            self.flush(buffer).await?;
        }
        Ok(due)
    }

    async fn flush(&self, buffer: &mut Buffer) -> Result<(), FlushError> {
        let _turn = self.followed.flushing.lock().await;
        if !buffer.pieces.is_empty() {
            let started = Instant::now();
            self.commit_in_turn(&buffer.pieces).await?;
            self.settle(&buffer.pieces).await;
            metrics::histogram!("collector_flush_seconds").record(started.elapsed().as_secs_f64());
            metrics::counter!("collector_flushes_total").increment(1);
            buffer.pieces.clear();
            buffer.rows = 0;
            self.dirty.notify_one();
        }
        if let Some(Piece { record, content: Content::Fix(gateway, boot, fix) }) = &buffer.fix {
            self.apply_fix(gateway, *boot, *fix).await?;
            self.release([*record].into_iter().collect()).await;
        }
        *buffer = Buffer::default();
        Ok(())
    }

    /// After the commit: nothing of this is lost by a crash, since it only says what the warm tier says.
    async fn settle(&self, pieces: &[Piece]) {
        let records: SeqRanges = pieces.iter().map(|piece| piece.record).collect();
        self.release(records).await;
        for settled in piece::settled(pieces) {
            self.ledger.mark_committed(&settled.gateway, settled.stream, &settled.seqs);
            self.sessions.committed(&settled.gateway, settled.stream, &settled.seqs);
            metrics::counter!("collector_blocks_committed_total").increment(settled.seqs.count());
        }
        for piece in pieces {
            if let Content::Gap(of) = &piece.content {
                self.gaps.remove(&of.gateway, of.stream, &of.gap);
                self.sessions.committed(&of.gateway, of.stream, &[of.gap.seqs].into_iter().collect());
            }
        }
    }

    async fn release(&self, records: SeqRanges) {
        self.followed.forget(&records);
        let spool = self.spool.clone();
        match tokio::task::spawn_blocking(move || spool.release(&records)).await {
            Ok(Ok(())) => {}
            // They are committed: after a restart they are committed once more, which changes nothing.
            Ok(Err(error)) => tracing::error!(%error, "can't release what is committed"),
            Err(error) => tracing::error!(%error, "can't release what is committed"),
        }
    }

    /// Finds out where a record's readings go. Sets aside what can't be used.
    async fn prepare(&self, raw: Raw) -> Result<Piece, FlushError> {
        let record = raw.record;
        let content = match raw.parsed {
            Parsed::Unreadable(error, bytes) => {
                let name = GatewayId::new("unknown").map_err(|e| FlushError::Io {
                    what: "set a record aside",
                    source: std::io::Error::other(e.to_string()),
                })?;
                self.set_aside(&name, self.spool.stream(), record, bytes.to_vec(), error.to_string()).await?;
                Content::Nothing
            }
            Parsed::Gap(gap) => Content::Gap(gap),
            Parsed::Fix(gateway, boot, fix) => Content::Fix(gateway, boot, fix),
            Parsed::Block { origin, bytes, block, catalogue } => match block {
                Ok(block) => self.prepare_block(origin, bytes, block, catalogue).await?,
                Err(why) => self.lose(origin, &bytes, None, why).await?,
            },
        };
        Ok(Piece { record, content })
    }

    async fn prepare_block(
        &self,
        origin: Origin,
        bytes: bytes::Bytes,
        block: Block,
        catalogue: Option<Arc<Catalogue>>,
    ) -> Result<Content, FlushError> {
        let hash = block.header.catalogue;
        let catalogue = match catalogue {
            Some(catalogue) => Some(catalogue),
            None => self.warm.catalogue(hash).await?,
        };
        let Some(catalogue) = catalogue else {
            let span = (block.header.base == TimeBase::Utc).then_some((block.header.first, block.header.last));
            return self.lose(origin, &bytes, span, format!("its catalogue {hash} is lost")).await;
        };
        let offset_us = match block.header.base {
            TimeBase::Utc => 0,
            TimeBase::SinceBoot(boot) => match self.fixes.find(&*self.warm, &origin.gateway, boot).await? {
                Some(Fix::Known { offset_us }) => offset_us,
                Some(Fix::Unknown { .. }) | None => {
                    let Origin { gateway, stream, seq, received } = origin;
                    return Ok(Content::Park(Parked { gateway, stream, seq, boot, received, bytes: bytes.to_vec() }));
                }
            },
        };
        let targets = self.resolver.targets(&*self.warm, &self.grants, &origin.gateway, &catalogue).await?;
        let sorted = targets.sort(&catalogue, &block.rows, offset_us, &origin, self.rules.timely);
        self.quarantine.see(&origin, &sorted);
        Ok(Content::Rows { origin, bytes, sorted })
    }

    /// Sets a block aside that can't be used: it is settled, and missing.
    async fn lose(
        &self,
        origin: Origin,
        bytes: &[u8],
        span: Option<(Timestamp, Timestamp)>,
        why: String,
    ) -> Result<Content, FlushError> {
        self.set_aside(&origin.gateway, origin.stream, origin.seq, bytes.to_vec(), why).await?;
        Ok(Content::Lost(origin, span))
    }

    async fn set_aside(
        &self,
        gateway: &GatewayId,
        stream: StreamId,
        seq: Seq,
        bytes: Vec<u8>,
        why: String,
    ) -> Result<(), FlushError> {
        tracing::error!(%gateway, %stream, %seq, "stored block can't be used and is set aside: {why}");
        metrics::counter!("collector_blocks_set_aside_total").increment(1);
        let (aside, gateway) = (Arc::clone(&self.aside), gateway.clone());
        let put = tokio::task::spawn_blocking(move || aside.put(&gateway, stream, seq, &bytes, &why)).await;
        let failed = |source| FlushError::Io { what: "set a block aside", source };
        put.map_err(|error| failed(std::io::Error::other(error.to_string())))?.map_err(failed)?;
        Ok(())
    }
}
