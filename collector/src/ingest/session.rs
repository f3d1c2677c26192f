//! One gateway's connection, from its `Hello` to its end. One task: a half that reads and a half that writes
//! (`talk`), so that a gateway which is slow to read holds up nobody, itself included.
//!
//! Nothing here waits for the warm tier once the session is open, and nothing but the intake waits for the spool.

use super::Ingest;
use super::answers::{Answers, WINDOW_BYTES, one};
use super::catalogues::TakeError;
use super::check::{Refusal, check};
use super::clocks;
use super::intake::{Job, unavailable};
use super::item::Item;
use super::ledger::Account;
use super::sessions::{Outbox, Seen};
use super::talk::Talk;
use crate::resolve::Origin;
use crate::revocation::{Revoked, Serial};
use crate::tiers::StoredReading;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use shared::block::{Block, Row, TimeBase};
use shared::catalogue::CatalogueHash;
use shared::ids::{BootId, GatewayId, Seq, StreamId};
use shared::reading::Timestamp;
use shared::spool::{Gap, SpoolError};
use shared::wire::{ClockState, Codec, Fix, Hello, Message, RejectReason, VERSION_MAX, VERSION_MIN, WireError};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;

/// How long the warm tier may take to say what it has of a stream, before the session begins without.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(3);
/// How often it is asked again then.
const ACCOUNT_AGAIN: Duration = Duration::from_secs(2);
/// What is under way at the stop may take so long to reach the disk and be acknowledged.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether what waits can be stored.
const DEFERRED_AGAIN: Duration = Duration::from_secs(1);
/// How long closing TLS in order may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// Most gaps and clock fixes that wait until something can be stored again.
const DEFERRED_MAX: usize = 10_000;
/// Most catalogues that wait for the same.
const UNKEPT_MAX: usize = 16;
/// Most boots whose times a session keeps in mind.
const OFFSETS_MAX: usize = 1_024;
/// Why a block waits at its gateway.
const HELD_BACK: &str = "its clock is in doubt, and these readings are ahead of it";
/// Refusals that are logged one by one, for each session.
const REFUSALS_LOGGED: u64 = 10;
/// Most of a message that is shown of what a gateway says of itself.
const VERSION_CHARS_MAX: usize = 64;

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The gateway closed it.
    #[error("the gateway closed the connection")]
    Closed,
    /// The collector stops.
    #[error("the collector stops")]
    Stopped,
    /// A later connection of the same gateway took over, or the ledger had to be read anew.
    #[error("the connection was called off")]
    CalledOff,
    /// The certificate was taken back.
    #[error("its certificate (serial {0}) was revoked")]
    Revoked(Serial),
    /// Nothing came for too long.
    #[error("nothing was heard for {}", humantime::format_duration(*.0))]
    Idle(Duration),
    /// It doesn't read.
    #[error("it took nothing for 30 s")]
    TakesNothing,
    /// The connection failed, or what came is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It speaks no version that is spoken here.
    #[error("it speaks protocol versions {0} to {1}, this collector speaks {VERSION_MIN} to {VERSION_MAX}")]
    Version(u16, u16),
    /// What came has no place here.
    #[error("a {0} message is not for a collector, or comes at the wrong time")]
    Unexpected(&'static str),
    /// Its spool is an old image, which shows only now.
    #[error(
        "its stream ended at {highest}, but {known} is known of it: its spool is an old image, and it must connect again"
    )]
    OldImage {
        /// What it said.
        highest: Seq,
        /// What is known.
        known: Seq,
    },
    /// It can't go on.
    #[error("{0}")]
    GivenUp(String),
}

impl End {
    /// Whether the gateway, or someone in its name, did something wrong.
    fn is_fault(&self) -> bool {
        !matches!(self, End::Closed | End::Stopped | End::CalledOff | End::Idle(_) | End::Wire(WireError::Io(_)))
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name in its certificate.
    pub gateway: GatewayId,
    /// The certificate's number.
    pub serial: Serial,
    /// From where it connects.
    pub peer: SocketAddr,
}

/// The reading half.
struct Session<'a> {
    ingest: &'a Ingest,
    who: &'a Identity,
    hello: &'a Hello,
    answers: Arc<Answers>,
    /// Gaps and clock fixes that wait until something can be stored.
    deferred: Mutex<Vec<Item>>,
    /// Catalogues that wait for it: the gateway won't say them again.
    unkept: Mutex<Vec<Bytes>>,
    /// What times of boots mean, as far as this session heard of them.
    offsets: Mutex<HashMap<BootId, i64>>,
    refused: AtomicU64,
    /// The highest seq that was named in this session.
    highest: AtomicU64,
}

/// Serves a gateway that has said `hello`, until there is a reason to end. `stop` ends it in order.
pub async fn serve<R, W>(
    ingest: &Ingest,
    who: &Identity,
    hello: &Hello,
    mut from: FramedRead<R, Codec>,
    to: FramedWrite<W, Codec>,
    mut revoked: Revoked,
    stop: &CancellationToken,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if hello.version_max < VERSION_MIN || hello.version_min > VERSION_MAX {
        return End::Version(hello.version_min, hello.version_max);
    }
    let outbox = Outbox::new(hello.stream, stop);
    let turn = ingest.sessions.begin(&who.gateway, Arc::clone(&outbox), seen(who, hello));
    let Some(_turn) = stop.run_until_cancelled(turn).await else { return End::Stopped };
    ingest.clocks.heard(&who.gateway, hello.clock, hello.now);
    from.decoder_mut().set_limit(shared::wire::BODY_BYTES_MAX);
    ingest.seen.notify_one();

    let answers = Arc::new(Answers::default());
    let mut talk = Talk { to };
    let session = Session {
        ingest,
        who,
        hello,
        answers: Arc::clone(&answers),
        deferred: Mutex::default(),
        unkept: Mutex::default(),
        offsets: Mutex::default(),
        refused: AtomicU64::new(0),
        highest: AtomicU64::new(hello.highest.0),
    };
    let open = ingest.pressure.watch();
    let account = session.account().await;
    let is_open = *open.borrow();
    let welcome = session.welcome(account.as_ref().ok(), is_open).await;
    if let Err(end) = talk.send(welcome).await {
        return end;
    }
    let revocation = async {
        if revoked.wait_for(|serials| serials.contains(&who.serial)).await.is_err() {
            std::future::pending::<()>().await; // the collector stops, and nobody looks at the list any more
        }
    };
    let end = tokio::select! {
        biased;
        () = revocation => End::Revoked(who.serial.clone()),
        () = outbox.close.cancelled() => if stop.is_cancelled() { End::Stopped } else { End::CalledOff },
        end = talk.run(&answers, &outbox, &session.deferred, open) => end,
        end = session.late_account(account.is_err()) => end,
        end = session.try_again() => end,
        end = session.read(&mut from) => end,
    };
    if matches!(end, End::Stopped | End::CalledOff) {
        // What is on its way to the disk is acknowledged: the gateway needn't send it again.
        let _ = tokio::time::timeout(LAST_WORDS_WITHIN, last_words(&mut talk, &answers)).await;
    }
    let _ = tokio::time::timeout(GOODBYE_WITHIN, talk.to.close()).await;
    ingest.seen.notify_one();
    end
}

async fn last_words<W: AsyncWrite + Unpin>(talk: &mut Talk<W>, answers: &Answers) -> Result<(), End> {
    while answers.in_flight() > 0 {
        talk.answer(answers.take().await).await?;
    }
    talk.answer(answers.take_now()).await
}

/// Tells the log how it ended: what the gateway did wrong is a warning.
pub fn report(who: &Identity, end: &End) {
    let (gateway, peer) = (&who.gateway, who.peer);
    metrics::counter!("collector_sessions_ended_total").increment(1);
    if end.is_fault() {
        metrics::counter!("collector_sessions_faulty_total").increment(1);
        tracing::warn!(%gateway, %peer, "session closed: {end}");
    } else {
        tracing::info!(%gateway, %peer, "session over: {end}");
    }
}

fn seen(who: &Identity, hello: &Hello) -> Seen {
    let now = Timestamp::wall_clock();
    Seen {
        connected: true,
        since: now,
        heard: now,
        peer: Some(who.peer),
        version: hello.agent_version.chars().filter(|c| !c.is_control()).take(VERSION_CHARS_MAX).collect(),
        stream: hello.stream,
        status: None,
        blocks: 0,
        rejected: 0,
    }
}

impl Session<'_> {
    fn stream(&self) -> StreamId {
        self.hello.stream
    }

    /// What is known of the stream; what the spool has of it, when the warm tier can't say.
    async fn account(&self) -> Result<Account, String> {
        let (ledger, gateway) = (&self.ingest.ledger, &self.who.gateway);
        if let Some(account) = ledger.loaded(gateway, self.stream()) {
            return Ok(account);
        }
        match tokio::time::timeout(ACCOUNT_WITHIN, self.ingest.warm.committed(gateway, self.stream())).await {
            Ok(Ok((committed, highest))) => Ok(ledger.load(gateway, self.stream(), &committed, highest)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the warm tier doesn't answer".into()),
        }
    }

    async fn welcome(&self, account: Option<&Account>, open: bool) -> Message {
        let gateway = &self.who.gateway;
        let account = account.cloned().unwrap_or_else(|| {
            tracing::warn!(%gateway, "the warm tier can't say what it has of stream {}; blocks may come again", self.stream());
            self.ingest.ledger.known(gateway, self.stream())
        });
        if account.highest > self.hello.highest.0 {
            let (known, highest) = (account.highest, self.hello.highest);
            tracing::warn!(%gateway, known, %highest, "its spool is an old image; it will start a new stream");
        }
        let (catalogues, name) = (Arc::clone(&self.ingest.catalogues), gateway.clone());
        let catalogues = tokio::task::spawn_blocking(move || catalogues.known(&name)).await.unwrap_or_default();
        let ahead = self.hello.now.since((self.ingest.now)());
        if self.hello.clock == ClockState::Trusted && ahead.abs() > clocks::APART {
            let seconds = ahead / 1_000_000;
            tracing::warn!(%gateway, "its clock is {seconds} s ahead of this machine's: one of the two is wrong");
        }
        tracing::info!(%gateway, peer = %self.who.peer, stream = %self.stream(), version = self.hello.agent_version, "connected");
        Message::Welcome {
            version: self.hello.version_max.min(VERSION_MAX),
            collector: self.ingest.collector.clone(),
            stored: account.stored,
            committed: account.committed,
            highest_known: Seq(account.highest),
            catalogues,
            server_time: (self.ingest.now)(),
            window_bytes: if open { WINDOW_BYTES } else { 0 },
        }
    }

    /// Asks again when the warm tier could not say what it has; until then nothing is known of old images.
    async fn late_account(&self, missing: bool) -> End {
        if !missing {
            return std::future::pending().await;
        }
        let (ledger, gateway) = (&self.ingest.ledger, &self.who.gateway);
        let (committed, highest) = loop {
            tokio::time::sleep(ACCOUNT_AGAIN).await;
            if let Ok(account) = self.ingest.warm.committed(gateway, self.stream()).await {
                break account;
            }
        };
        if highest.0 > self.highest.load(Ordering::Relaxed) {
            return End::OldImage { highest: self.hello.highest, known: highest };
        }
        self.answers.committed(&ledger.load(gateway, self.stream(), &committed, highest).committed);
        std::future::pending().await
    }

    /// Hands over again what could not be stored, when it can.
    async fn try_again(&self) -> End {
        loop {
            tokio::time::sleep(DEFERRED_AGAIN).await;
            if !self.ingest.pressure.is_open() {
                continue;
            }
            let items = std::mem::take(&mut *self.deferred.lock().unwrap_or_else(PoisonError::into_inner));
            for item in items {
                if let Err(end) = self.submit(item, Bytes::new(), None).await {
                    return end;
                }
            }
        }
    }

    /// Takes messages until there is a reason to end.
    async fn read<R: AsyncRead + Unpin>(&self, from: &mut FramedRead<R, Codec>) -> End {
        let idle = self.ingest.idle_timeout;
        let mut noted = tokio::time::Instant::now();
        loop {
            self.answers.room().await;
            let message = match tokio::time::timeout(idle, from.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return End::Wire(error),
                Ok(None) => return End::Closed,
                Err(_) => return End::Idle(idle),
            };
            if noted.elapsed() > Duration::from_secs(1) {
                noted = tokio::time::Instant::now();
                self.ingest.sessions.update(&self.who.gateway, |seen| seen.heard = Timestamp::wall_clock());
            }
            if let Err(end) = self.take(message).await {
                return end;
            }
        }
    }

    async fn take(&self, message: Message) -> Result<(), End> {
        match message {
            Message::Block { seq, bytes } => self.block(seq, bytes).await,
            Message::Catalogue { bytes } => self.catalogue(bytes).await,
            Message::Gap(gap) => self.gap(gap).await,
            Message::ClockFix { boot, fix } => self.clock_fix(boot, fix).await,
            Message::Live { catalogue, rows } => {
                self.live(catalogue, &rows);
                Ok(())
            }
            Message::Status(status) => {
                self.ingest.clocks.heard(&self.who.gateway, status.clock, status.now);
                self.ingest.sessions.update(&self.who.gateway, |seen| seen.status = Some(status));
                self.ingest.seen.notify_one();
                Ok(())
            }
            Message::Heartbeat { .. } => Ok(()),
            Message::Hello(_) => Err(End::Unexpected("second Hello")),
            Message::Welcome { .. } => Err(End::Unexpected("Welcome")),
            Message::Stored(_) => Err(End::Unexpected("Stored")),
            Message::Committed(_) => Err(End::Unexpected("Committed")),
            Message::Reject { .. } => Err(End::Unexpected("Reject")),
            Message::Window { .. } => Err(End::Unexpected("Window")),
        }
    }

    async fn submit(&self, item: Item, bytes: Bytes, span: Option<(Timestamp, Timestamp)>) -> Result<(), End> {
        let job = Job { item, bytes, span, answers: Arc::clone(&self.answers) };
        self.ingest.intake.submit(job).await.map_err(|_| End::Stopped)
    }

    async fn block(&self, seq: Seq, bytes: Bytes) -> Result<(), End> {
        let gateway = &self.who.gateway;
        self.answers.begin(bytes.len());
        self.highest.fetch_max(seq.0, Ordering::Relaxed);
        metrics::counter!("collector_blocks_received_total").increment(1);
        self.ingest.sessions.update(gateway, |seen| seen.blocks += 1);
        let received = (self.ingest.now)();
        let known = self.ingest.ledger.is_stored(gateway, self.stream(), seq);
        let mut span = None;
        if !known {
            if !self.ingest.pressure.is_open() {
                self.answers.refused(&one(seq), unavailable("its disk is full or fails"), bytes.len());
                return Ok(());
            }
            let checked =
                || check(&bytes, gateway, &self.ingest.grants, |hash| self.ingest.catalogues.get(gateway, hash));
            let mut verdict = checked();
            if matches!(&verdict, Err(refusal) if refusal.reason == RejectReason::UnknownCatalogue) && self.has_unkept()
            {
                if !self.keep_again().await? {
                    self.answers.refused(&one(seq), unavailable("its disk is full or fails"), bytes.len());
                    return Ok(());
                }
                verdict = checked();
            }
            match verdict {
                Ok((block, _)) if self.is_held_back(&block, received) => {
                    return self.refuse(seq, bytes, unavailable(HELD_BACK)).await;
                }
                Ok((block, _)) => span = self.accepted(&block),
                Err(refusal) => return self.refuse(seq, bytes, refusal).await,
            }
        }
        let item = Item::Block { gateway: gateway.clone(), stream: self.stream(), seq, received };
        self.submit(item, bytes, span).await
    }

    /// Whether a block must wait at its gateway: quarantine would get what is in the future only by this machine's clock.
    fn is_held_back(&self, block: &Block, now: Timestamp) -> bool {
        let offset = match block.header.base {
            TimeBase::Utc => Some(0),
            TimeBase::SinceBoot(boot) => self.offsets().get(&boot).copied(),
        };
        let timely = self.ingest.timely;
        let is_ahead = |offset| block.header.last.plus_micros(offset) > timely.latest(now);
        offset.is_some_and(is_ahead) && self.ingest.clocks.doubt(now, timely.future_max).is_some()
    }

    fn offsets(&self) -> MutexGuard<'_, HashMap<BootId, i64>> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accepted(&self, block: &Block) -> Option<(Timestamp, Timestamp)> {
        metrics::counter!("collector_readings_received_total").increment(block.rows.len() as u64);
        match block.header.base {
            TimeBase::Utc => Some((block.header.first, block.header.last)),
            TimeBase::SinceBoot(_) => None,
        }
    }

    /// Sets the bytes aside, when sending them again can't help, and says no.
    async fn refuse(&self, seq: Seq, bytes: Bytes, refusal: Refusal) -> Result<(), End> {
        let (gateway, reason) = (&self.who.gateway, refusal.reason);
        metrics::counter!("collector_blocks_rejected_total", "reason" => reason.to_string()).increment(1);
        self.ingest.sessions.update(gateway, |seen| seen.rejected += 1);
        let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if count <= REFUSALS_LOGGED {
            tracing::warn!(%gateway, stream = %self.stream(), %seq, retry = refusal.retry, "block rejected, {reason}: {}", refusal.detail);
        }
        if count == REFUSALS_LOGGED {
            tracing::warn!(%gateway, "further rejected blocks of this session are only counted");
        }
        let length = bytes.len();
        let refusal = match refusal.retry || self.set_aside(seq, bytes, &refusal).await {
            true => refusal,
            // Not to be given up by the gateway before it is kept here.
            false => unavailable("its disk is full or fails"),
        };
        self.answers.refused(&one(seq), refusal, length);
        Ok(())
    }

    /// Whether it is on disk now.
    async fn set_aside(&self, seq: Seq, bytes: Bytes, refusal: &Refusal) -> bool {
        let Ok(_turn) = self.ingest.aside_turns.acquire().await else { return false };
        let (aside, gateway, stream) = (Arc::clone(&self.ingest.aside), self.who.gateway.clone(), self.stream());
        let why = format!("{}: {}", refusal.reason, refusal.detail);
        let put = move || aside.put(&gateway, stream, seq, &bytes, &why);
        match tokio::task::spawn_blocking(put).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::error!(gateway = %self.who.gateway, %seq, %error, "a rejected block can't be set aside");
                false
            }
            Err(_) => false,
        }
    }

    async fn catalogue(&self, bytes: Bytes) -> Result<(), End> {
        if self.keep(&bytes).await? {
            return Ok(());
        }
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        if unkept.len() >= UNKEPT_MAX {
            return Err(End::GivenUp(format!("more than {UNKEPT_MAX} catalogues, and none can be stored")));
        }
        unkept.push(bytes);
        Ok(())
    }

    fn has_unkept(&self) -> bool {
        !self.unkept.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Tries what could not be kept; whether all of it is kept now.
    async fn keep_again(&self) -> Result<bool, End> {
        let waiting = std::mem::take(&mut *self.unkept.lock().unwrap_or_else(PoisonError::into_inner));
        let mut whole = true;
        for bytes in waiting {
            if !self.keep(&bytes).await? {
                whole = false;
                self.unkept.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
            }
        }
        Ok(whole)
    }

    /// Keeps a catalogue for good; false when the disk refuses.
    async fn keep(&self, bytes: &Bytes) -> Result<bool, End> {
        let (catalogues, gateway, bytes) =
            (Arc::clone(&self.ingest.catalogues), self.who.gateway.clone(), bytes.clone());
        match tokio::task::spawn_blocking(move || catalogues.take(&gateway, &bytes)).await {
            Ok(Ok(catalogue)) => {
                let (gateway, points) = (&self.who.gateway, catalogue.entries().len());
                tracing::info!(%gateway, catalogue = %catalogue.hash(), points, "catalogue taken");
                Ok(true)
            }
            Ok(Err(TakeError::Bytes(error))) => Err(End::GivenUp(format!("its catalogue can't be read: {error}"))),
            Ok(Err(error)) => {
                // Its blocks must not be asked for before it is kept: that would go round and round.
                let source = std::io::Error::other(error.to_string());
                let what = "keep a catalogue".to_owned();
                self.ingest.pressure.close(&SpoolError::Io { what, source: Arc::new(source) });
                Ok(false)
            }
            Err(_) => Err(End::Stopped),
        }
    }

    async fn gap(&self, gap: Gap) -> Result<(), End> {
        self.highest.fetch_max(gap.seqs.last.0, Ordering::Relaxed);
        self.store(Item::Gap { gateway: self.who.gateway.clone(), stream: self.stream(), gap }).await
    }

    /// Fixes come again with every connection; those that are known need no place in the queue.
    async fn clock_fix(&self, boot: BootId, fix: Fix) -> Result<(), End> {
        let gateway = self.who.gateway.clone();
        let known = self.ingest.fixes.known(&*self.ingest.warm, &gateway, boot, ACCOUNT_WITHIN).await;
        if let Fix::Known { offset_us } = known.unwrap_or(fix) {
            let mut offsets = self.offsets();
            if offsets.len() < OFFSETS_MAX {
                offsets.insert(boot, offset_us);
            }
        }
        if known.is_some() {
            return Ok(());
        }
        self.store(Item::ClockFix { gateway, boot, fix }).await
    }

    async fn store(&self, item: Item) -> Result<(), End> {
        if self.ingest.pressure.is_open() {
            return self.submit(item, Bytes::new(), None).await;
        }
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        if deferred.len() >= DEFERRED_MAX {
            return Err(End::GivenUp(format!(
                "more than {DEFERRED_MAX} gaps and clock fixes, and nothing can be stored"
            )));
        }
        deferred.push(item);
        Ok(())
    }

    /// Newest values go to the hot tier when their series are known; nobody waits for that.
    fn live(&self, catalogue: CatalogueHash, rows: &[Row]) {
        let gateway = &self.who.gateway;
        let known = self.ingest.resolver.cached(gateway, catalogue).zip(self.ingest.catalogues.get(gateway, catalogue));
        let Some((targets, catalogue)) = known else { return };
        let received = (self.ingest.now)();
        let origin = Origin { gateway: gateway.clone(), stream: self.stream(), seq: Seq(0), received };
        let readings: Vec<StoredReading> = targets.sort(&catalogue, rows, 0, &origin, self.ingest.timely).readings;
        metrics::counter!("collector_live_values_total").increment(readings.len() as u64);
        if !readings.is_empty() && self.ingest.live.try_send(readings).is_err() {
            metrics::counter!("collector_live_dropped_total").increment(1);
        }
    }
}
