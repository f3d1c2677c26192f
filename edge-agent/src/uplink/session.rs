//! One session: what is said and heard between `Welcome` and the end of the connection.
//!
//! Whatever can be sent is chosen at the moment there is room to send it, in this order: answers and facts (clock
//! fixes, gaps, catalogues, status), newest values, new blocks, backlog. So on a slow link nothing old stands before
//! something new, apart from the bytes that are on their way already, which `credit` bounds.

use super::lane::{self, Lane, Loaded, Ready};
use super::later::Later;
use super::{Connection, Parts, UplinkError, Welcome};
use crate::clock::records::BootTime;
use crate::vitals::{Loop, count};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use shared::block;
use shared::catalogue::CatalogueHash;
use shared::ids::{BootId, Seq};
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::Timestamp;
use shared::spool::{GapReason, SpoolError};
use shared::telemetry::Seldom;
use shared::wire::{ClockState, Fix, Message, RejectReason, Status};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Nothing heard for so long: the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Nothing said for so long: say that we are here.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Between statuses.
const STATUS: Duration = Duration::from_secs(30);
/// Rows of one `Live` message.
const LIVE_ROWS_MAX: usize = 500;
/// One that is refused until somebody changes the collector's configuration: its restart ends the pause, too.
const NOT_GRANTED_AGAIN_AFTER: Duration = Duration::from_secs(15 * 60);
/// A block whose catalogue the collector doesn't take is kept, and tried again after this.
const CATALOGUE_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Between warnings about blocks that are refused.
const REFUSED_SAID_EVERY: Duration = Duration::from_secs(60);
/// Times a catalogue is sent again for one that the collector says it doesn't have.
const CATALOGUE_TRIES_MAX: u32 = 3;
/// How long saying goodbye may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    New,
    Backlog,
}

struct Flight {
    bytes: u32,
    lane: Which,
    sent: Instant,
}

/// Work on the disk that answers of the collector ask for.
#[derive(Default)]
struct Chores {
    release: SeqRanges,
    give_up: BTreeMap<Seq, (SeqRange, GapReason)>,
}

impl Chores {
    fn is_empty(&self) -> bool {
        self.release.is_empty() && self.give_up.is_empty()
    }
}

struct Session<'a> {
    parts: &'a Parts,
    collector: String,
    /// What this collector has, or was told to do without.
    settled: SeqRanges,
    new: Lane,
    backlog: Lane,
    flights: BTreeMap<Seq, Flight>,
    in_flight: u32,
    window: u32,
    /// Refused for now: when each is sent again.
    again: BTreeMap<Seq, Instant>,
    /// Refused because the collector can't take it now, as it can't take others.
    later: Later,
    known: HashSet<CatalogueHash>,
    /// Read and not sent yet, as nothing needed them so far.
    catalogues: HashMap<CatalogueHash, Option<Bytes>>,
    catalogue_tries: HashMap<CatalogueHash, u32>,
    control: VecDeque<Message>,
    fixes_sent: HashSet<BootId>,
    gaps_sent: SeqRanges,
    chores: Chores,
    at_work: Option<(Chores, JoinHandle<Result<(), SpoolError>>)>,
    loading: Option<(Which, JoinHandle<Result<Loaded, SpoolError>>)>,
    live_due: Instant,
    status_due: Instant,
    heard: Instant,
    said: Instant,
    refused_said: Seldom,
}

/// Forwards until the connection ends.
pub(super) async fn run(
    connection: Connection,
    welcome: Welcome,
    boundary: Seq,
    parts: &Parts,
    stop: &CancellationToken,
) -> Result<(), UplinkError> {
    let (mut sink, mut messages) = connection.split();
    let mut session = Session::new(welcome, boundary, parts);
    let mut appended = parts.appended.clone();
    appended.mark_changed();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut idle, mut unflushed) = (false, false);
    session.tick(Instant::now())?; // facts go before the blocks that they explain
    loop {
        session.start_work();
        tokio::select! {
            message = messages.next() => {
                let message = message.ok_or(UplinkError::Closed)??;
                session.hear(message, Instant::now())?;
            }
            // An idle session flushes what was sent; any other waits for room, and chooses only then.
            turn = poll_fn(|cx| if idle { sink.poll_flush_unpin(cx) } else { sink.poll_ready_unpin(cx) }),
                if !idle || unflushed =>
            {
                turn?;
                if idle {
                    unflushed = false;
                } else if let Some(message) = session.next_message(Instant::now()) {
                    sink.start_send_unpin(message)?;
                    session.said = Instant::now();
                    unflushed = true;
                } else {
                    idle = true;
                }
                continue; // nothing happened that would give an idle session something to say
            }
            done = finish(&mut session.at_work), if session.at_work.is_some() => session.worked(done),
            loaded = finish_load(&mut session.loading), if session.loading.is_some() => session.loaded(loaded)?,
            _ = appended.changed() => session.new.extend(parts.spool.highest()),
            _ = tick.tick() => session.tick(Instant::now())?,
            () = stop.cancelled() => {
                // The collector shall see an end, not a break; it doesn't matter if it can't.
                let _ = tokio::time::timeout(FAREWELL_MAX, sink.close()).await;
                return Ok(());
            }
        }
        idle = false;
        parts.vitals.beat(Loop::Uplink);
    }
}

async fn finish(work: &mut Option<(Chores, JoinHandle<Result<(), SpoolError>>)>) -> (Chores, Result<(), SpoolError>) {
    let result = match work {
        Some((_, task)) => task.await,
        None => std::future::pending().await,
    };
    let chores = work.take().map(|(chores, _)| chores).unwrap_or_default();
    (chores, result.unwrap_or_else(|error| Err(panicked(&error))))
}

async fn finish_load(
    loading: &mut Option<(Which, JoinHandle<Result<Loaded, SpoolError>>)>,
) -> (Which, Result<Loaded, SpoolError>) {
    let (which, result) = match loading {
        Some((which, task)) => (*which, task.await),
        None => std::future::pending().await,
    };
    *loading = None;
    (which, result.unwrap_or_else(|error| Err(panicked(&error))))
}

fn panicked(error: &tokio::task::JoinError) -> SpoolError {
    let source = std::sync::Arc::new(std::io::Error::other(error.to_string()));
    SpoolError::Io { what: "use the spool".into(), source }
}

fn seqs_of(seq: Seq) -> SeqRanges {
    [seq].into_iter().collect()
}

/// Why a block can't go with its catalogue.
enum NoCatalogue {
    /// It isn't on this disk any more: nobody will ever read the block.
    Lost,
    /// The collector says again and again that it doesn't have it.
    NotTaken,
}

impl<'a> Session<'a> {
    fn new(welcome: Welcome, boundary: Seq, parts: &'a Parts) -> Self {
        let now = Instant::now();
        let mut settled = welcome.stored.clone();
        settled.extend(&welcome.committed);
        parts.delivered.set(settled.clone());
        let chores = Chores { release: welcome.committed, ..Chores::default() };
        Self {
            parts,
            collector: welcome.collector,
            settled,
            new: Lane::new(boundary.next(), boundary),
            backlog: Lane::new(Seq::FIRST, boundary),
            flights: BTreeMap::new(),
            in_flight: 0,
            window: welcome.window_bytes,
            again: BTreeMap::new(),
            later: Later::new(now),
            known: welcome.catalogues.into_iter().collect(),
            catalogues: HashMap::new(),
            catalogue_tries: HashMap::new(),
            control: VecDeque::new(),
            fixes_sent: HashSet::new(),
            gaps_sent: SeqRanges::new(),
            chores,
            at_work: None,
            loading: None,
            live_due: now,
            status_due: now,
            heard: now,
            said: now,
            refused_said: Seldom::new(REFUSED_SAID_EVERY),
        }
    }

    // --- what is heard

    fn hear(&mut self, message: Message, now: Instant) -> Result<(), UplinkError> {
        self.heard = now;
        match message {
            Message::Stored(seqs) => self.stored(&seqs, now),
            Message::Committed(seqs) => {
                self.stored(&seqs, now);
                self.chores.release.extend(&seqs);
            }
            Message::Reject { seqs, reason, detail, retry } => self.rejected(&seqs, reason, &detail, retry, now),
            Message::Window { bytes } => {
                self.window = bytes;
                self.later.at_once(now); // they may have been refused for want of room
            }
            Message::Heartbeat { .. } => {}
            Message::Hello(_) => return Err(UplinkError::OutOfPlace("Hello")),
            Message::Welcome { .. } => return Err(UplinkError::OutOfPlace("a second Welcome")),
            Message::Catalogue { .. } => return Err(UplinkError::OutOfPlace("Catalogue")),
            Message::ClockFix { .. } => return Err(UplinkError::OutOfPlace("ClockFix")),
            Message::Block { .. } => return Err(UplinkError::OutOfPlace("Block")),
            Message::Gap(_) => return Err(UplinkError::OutOfPlace("Gap")),
            Message::Live { .. } => return Err(UplinkError::OutOfPlace("Live")),
            Message::Status(_) => return Err(UplinkError::OutOfPlace("Status")),
        }
        Ok(())
    }

    fn landed(&mut self, seq: Seq, now: Instant) {
        let Some(flight) = self.flights.remove(&seq) else { return };
        self.in_flight = self.in_flight.saturating_sub(flight.bytes);
        self.lane(flight.lane).credit.answered(flight.bytes, now.saturating_duration_since(flight.sent));
    }

    fn lane(&mut self, which: Which) -> &mut Lane {
        match which {
            Which::New => &mut self.new,
            Which::Backlog => &mut self.backlog,
        }
    }

    fn in_flight_of(&self, seqs: &SeqRanges) -> Vec<Seq> {
        seqs.iter().flat_map(|r| self.flights.range(r.first..=r.last).map(|(seq, _)| *seq)).collect()
    }

    fn stored(&mut self, seqs: &SeqRanges, now: Instant) {
        let landed = self.in_flight_of(seqs);
        self.parts.vitals.acknowledged.fetch_add(landed.len() as u64, Ordering::Relaxed);
        for seq in landed {
            self.landed(seq, now);
        }
        self.settled.extend(seqs);
        self.parts.delivered.add(seqs);
        self.later.settled(seqs, now);
        if self.again.is_empty() && self.later.is_empty() && self.parts.vitals.link().refused.is_some() {
            self.parts.vitals.set_link(|link| link.refused = None);
        }
    }

    fn rejected(&mut self, seqs: &SeqRanges, reason: RejectReason, detail: &str, retry: bool, now: Instant) {
        for seq in self.in_flight_of(seqs) {
            self.landed(seq, now);
            if !retry {
                let seqs = SeqRange::one(seq);
                tracing::error!(%seq, %reason, detail, "the collector refused a block for good");
                count(&self.parts.vitals.rejected, "edge_blocks_rejected_total", 1);
                self.settled.insert(seqs);
                self.chores.give_up.insert(seq, (seqs, GapReason::Rejected));
                self.later.settled(&seqs_of(seq), now);
                continue;
            }
            self.parts.vitals.set_link(|link| link.refused = Some(detail.to_owned()));
            if let Some(others) = self.refused_said.may() {
                tracing::warn!(%seq, %reason, detail, others, "the collector refused a block for now; it is kept");
            }
            let pause = match reason {
                // A catalogue goes first next time, whatever was believed so far.
                RejectReason::UnknownCatalogue => {
                    self.known.clear();
                    Duration::ZERO
                }
                RejectReason::NotGranted => NOT_GRANTED_AGAIN_AFTER,
                _ => {
                    self.later.refused(seq, now);
                    continue;
                }
            };
            self.later.settled(&seqs_of(seq), now); // it waits for something else now
            self.again.insert(seq, now + pause);
        }
    }

    // --- what is said

    fn next_message(&mut self, now: Instant) -> Option<Message> {
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        if now >= self.live_due
            && let Some(live) = self.live(now)
        {
            return Some(live);
        }
        if let Some(block) = self.block(Which::New, now).or_else(|| self.block(Which::Backlog, now)) {
            return Some(block);
        }
        let quiet = now.saturating_duration_since(self.said) > HEARTBEAT;
        quiet.then(|| Message::Heartbeat { now: self.parts.clock.at_least() })
    }

    fn live(&mut self, now: Instant) -> Option<Message> {
        if self.parts.live_interval.is_zero() {
            return None;
        }
        let (rows, catalogue) = {
            let current = self.parts.current.borrow();
            let rows = current.live.take(LIVE_ROWS_MAX);
            (rows, current.registry.catalogue())
        };
        if rows.is_empty() {
            return None;
        }
        if rows.len() < LIVE_ROWS_MAX {
            self.live_due = now + self.parts.live_interval;
        }
        let live = Message::Live { catalogue: catalogue.hash(), rows };
        if self.known.insert(catalogue.hash()) {
            self.control.push_front(live);
            return Some(Message::Catalogue { bytes: catalogue.to_bytes().into() });
        }
        Some(live)
    }

    fn block(&mut self, which: Which, now: Instant) -> Option<Message> {
        let (window, in_flight) = (self.window, self.in_flight);
        loop {
            let Ready { seq, bytes, catalogue } = self.lane(which).ready.front()?.clone();
            if self.settled.contains(seq) || self.flights.contains_key(&seq) {
                self.lane(which).ready.pop_front();
                continue;
            }
            if let Some(hash) = catalogue.filter(|hash| !self.known.contains(hash)) {
                match self.catalogue(hash) {
                    Ok(message) => return Some(message),
                    Err(NoCatalogue::Lost) => {
                        self.lane(which).ready.pop_front();
                        tracing::error!(%seq, %hash, "a block can't be delivered: its catalogue is lost or damaged");
                        self.settled.insert_one(seq);
                        self.chores.give_up.insert(seq, (SeqRange::one(seq), GapReason::Damage));
                        continue;
                    }
                    Err(NoCatalogue::NotTaken) => {
                        self.lane(which).ready.pop_front();
                        tracing::warn!(%seq, %hash, "the collector doesn't take a catalogue; its blocks are kept");
                        self.again.insert(seq, now + CATALOGUE_AGAIN_AFTER);
                        continue;
                    }
                }
            }
            let size = bytes.len() as u32;
            let in_window = window > 0 && (in_flight == 0 || in_flight.saturating_add(size) <= window);
            if !in_window || !self.lane(which).credit.take(size) {
                return None;
            }
            self.lane(which).ready.pop_front();
            self.in_flight += size;
            self.flights.insert(seq, Flight { bytes: size, lane: which, sent: now });
            count(&self.parts.vitals.bytes_sent, "edge_block_bytes_sent_total", size.into());
            return Some(Message::Block { seq, bytes });
        }
    }

    /// The message that makes a catalogue known, or why that can't be.
    fn catalogue(&mut self, hash: CatalogueHash) -> Result<Message, NoCatalogue> {
        let tries = self.catalogue_tries.entry(hash).or_default();
        *tries += 1;
        if *tries > CATALOGUE_TRIES_MAX {
            self.catalogue_tries.remove(&hash);
            return Err(NoCatalogue::NotTaken);
        }
        let read = self.catalogues.entry(hash).or_insert_with(|| self.parts.catalogues.bytes(hash));
        let bytes = read.clone().ok_or(NoCatalogue::Lost)?;
        self.known.insert(hash);
        Ok(Message::Catalogue { bytes })
    }

    // --- the disk

    fn start_work(&mut self) {
        if self.at_work.is_none() && !self.chores.is_empty() {
            let chores = std::mem::take(&mut self.chores);
            let (spool, release) = (self.parts.spool.clone(), chores.release.clone());
            let give_up: Vec<_> = chores.give_up.values().copied().collect();
            let task = tokio::task::spawn_blocking(move || {
                spool.release(&release)?;
                spool.forget_gaps(&release)?;
                give_up.into_iter().try_for_each(|(range, reason)| spool.give_up(range, reason).map(drop))
            });
            self.at_work = Some((chores, task));
        }
        if self.loading.is_none() {
            let wish = [(Which::New, self.new.wants()), (Which::Backlog, self.backlog.wants())];
            let Some((which, range)) = wish.into_iter().find_map(|(which, range)| Some((which, range?))) else {
                return;
            };
            let (spool, catalogues) = (self.parts.spool.clone(), self.parts.catalogues.clone());
            let settled = self.settled.clone();
            let known: Vec<_> = self.known.iter().chain(self.catalogues.keys()).copied().collect();
            let task = tokio::task::spawn_blocking(move || lane::load(&spool, &catalogues, range, &settled, &known));
            self.loading = Some((which, task));
        }
    }

    fn worked(&mut self, (chores, result): (Chores, Result<(), SpoolError>)) {
        if let Err(error) = result {
            tracing::warn!(%error, "can't note on disk what the collector has; it will be sent again after a restart");
            // What was released is released in memory; what was to be given up must still become a gap.
            self.chores.give_up.extend(chores.give_up);
        }
    }

    fn loaded(&mut self, (which, result): (Which, Result<Loaded, SpoolError>)) -> Result<(), UplinkError> {
        let mut loaded = result?;
        self.catalogues.extend(loaded.catalogues.drain(..));
        self.lane(which).feed(loaded);
        Ok(())
    }

    // --- now and then

    fn tick(&mut self, now: Instant) -> Result<(), UplinkError> {
        if now.saturating_duration_since(self.heard) > SILENCE_MAX {
            return Err(UplinkError::Silent(SILENCE_MAX));
        }
        self.parts.current.borrow().live.listen(!self.parts.live_interval.is_zero());
        self.new.extend(self.parts.spool.highest());
        self.say_facts();
        self.send_again(now);
        if now >= self.status_due {
            self.status_due = now + STATUS;
            self.control.push_back(Message::Status(self.status()));
        }
        Ok(())
    }

    /// Clock fixes, gaps, and whatever else was not known before.
    fn say_facts(&mut self) {
        for (boot, time) in self.parts.clock.fixes() {
            if self.fixes_sent.insert(boot) {
                let fix = match time {
                    BootTime::Known { offset_us } => Fix::Known { offset_us },
                    BootTime::Unknown { not_before, not_after } => Fix::Unknown { not_before, not_after },
                };
                self.control.push_back(Message::ClockFix { boot, fix });
            }
        }
        for gap in self.parts.spool.gaps() {
            if !self.gaps_sent.missing_in(gap.seqs).is_empty() {
                self.gaps_sent.insert(gap.seqs);
                self.control.push_back(Message::Gap(gap));
            }
        }
    }

    fn send_again(&mut self, now: Instant) {
        let due: Vec<Seq> = self.again.iter().filter(|(_, at)| **at <= now).map(|(seq, _)| *seq).collect();
        for seq in &due {
            self.again.remove(seq);
        }
        let later = if self.window > 0 { self.later.due(now) } else { Vec::new() };
        for seq in due.into_iter().chain(later) {
            match self.read(seq) {
                Some(ready) => self.backlog.ready.push_front(ready),
                None => self.later.settled(&seqs_of(seq), now), // it made room for others
            }
        }
    }

    /// Rare: read here and now, one block.
    fn read(&self, seq: Seq) -> Option<Ready> {
        let found = self.parts.spool.peek(seq, 1, usize::MAX).ok()?;
        let bytes = found.into_iter().find(|stored| stored.seq == seq)?.record.payload;
        let catalogue = block::read_header(&bytes).ok().map(|header| header.catalogue);
        Some(Ready { seq, bytes, catalogue })
    }

    fn status(&self) -> Status {
        let (points, points_bad) = self.parts.current.borrow().registry.counts();
        let usage = self.parts.spool.usage();
        let trusted = self.parts.clock.is_trusted();
        tracing::debug!(
            collector = self.collector,
            in_flight = self.in_flight,
            credit_new = self.new.credit.limit(),
            credit_backlog = self.backlog.credit.limit(),
            in_flight_backlog = self.backlog.credit.in_flight(),
            "session"
        );
        Status {
            now: self.parts.clock.at_least(),
            points,
            points_bad,
            spool_bytes: usage.bytes,
            spool_records: usage.records,
            oldest_unsent: self.oldest_unsent(),
            uptime_s: self.parts.vitals.uptime_s(),
            clock: if trusted { ClockState::Trusted } else { ClockState::Untrusted },
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Of those that were refused, or else of the blocks that are read already: the oldest is always among them, or there is
    /// none.
    fn oldest_unsent(&self) -> Option<Timestamp> {
        let refused = self.later.lowest().and_then(|seq| self.read(seq));
        let waiting = refused
            .iter()
            .chain(&self.backlog.ready)
            .chain(&self.new.ready)
            .filter(|ready| !self.settled.contains(ready.seq));
        let at = waiting
            .filter_map(|ready| block::read_header(&ready.bytes).ok())
            .find(|header| header.base == block::TimeBase::Utc)
            .map(|header| header.first);
        self.parts.vitals.set_oldest_unsent(at);
        at
    }
}
