//! Tells people elsewhere what stands: by webhook and by mail.
//!
//! * `gather`: what stands now
//! * `news`: what of it is to be told, after what was told before (pure)
//! * `message`: the words (pure)
//! * `webhook`, `mail`: the ways
//!
//! What was told is kept in the warm tier, so that neither a restart nor another leader tells it again. It is noted after
//! it was delivered: a crash between the two tells it twice, never not at all.

mod gather;
mod mail;
mod message;
mod news;
pub mod settings;
mod webhook;

pub use gather::{Gather, Troubles};
pub(crate) use gather::{REPLICA, severity};
pub use message::Message;
pub use news::{Alert, Tell, Told};

use crate::etl::Now;
use crate::etl::jobs::Alarm;
use crate::tiers::{TierError, TierFuture, WarmTier};
use futures::future::BoxFuture;
use jiff::tz::TimeZone;
use news::{News, Rules, news};
use settings::Quiet;
use shared::backoff::Backoff;
use shared::reading::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between looks.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Longest pause after a message that couldn't be delivered.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// A way to tell.
pub trait Channel: Send + Sync + 'static {
    /// Its name: that of its setting, and where it leads to; nothing that is secret.
    fn name(&self) -> &str;
    /// Delivers a message; the error says in words why not.
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), String>>;
}

/// What is kept of what was told. A trait of the warm tier.
pub trait AlertStore: Send + Sync {
    /// What was told by a channel, by the key of its alert.
    fn told<'a>(&'a self, channel: &'a str) -> TierFuture<'a, BTreeMap<String, Told>>;

    /// Notes what was told by a channel; `None`: that it is over.
    fn note_told<'a>(&'a self, channel: &'a str, told: &'a [(String, Option<Told>)]) -> TierFuture<'a, ()>;
}

/// When something is told, beside what is critical and new.
#[derive(Clone, Debug)]
pub struct When {
    /// When only what is critical is told.
    pub quiet: Option<Quiet>,
    /// What stands is told again after so long, microseconds; `None`: never.
    pub repeat_us: Option<i64>,
    /// Whose clock people read.
    pub zone: TimeZone,
}

/// Looks what stands, and tells it.
pub struct Alerts {
    warm: Arc<dyn WarmTier>,
    gather: Gather,
    seats: Vec<Seat>,
    when: When,
    now: Now,
    alarm: Arc<Alarm>,
}

/// A channel's state.
struct Seat {
    channel: Box<dyn Channel>,
    /// What it told; `None` while the warm tier couldn't say.
    told: Option<BTreeMap<String, Told>>,
    /// What was noted in memory only, because the warm tier couldn't be reached.
    owed: Vec<(String, Option<Told>)>,
    backoff: Backoff,
    not_before: Instant,
    error: Option<String>,
}

impl Seat {
    fn new(channel: Box<dyn Channel>) -> Self {
        let backoff = Backoff::new(LOOK_EVERY, PAUSE_MAX);
        Self { channel, told: None, owed: Vec::new(), backoff, not_before: Instant::now(), error: None }
    }

    /// Gives whether it was delivered.
    async fn send(&mut self, message: &Message) -> bool {
        if Instant::now() < self.not_before {
            return false;
        }
        let name = self.channel.name().to_owned();
        match self.channel.send(message).await {
            Ok(()) => {
                self.backoff.reset();
                self.error = None;
                metrics::counter!("collector_alerts_sent_total", "channel" => name).increment(1);
                true
            }
            Err(why) => {
                self.not_before = Instant::now() + self.backoff.pause();
                tracing::warn!(channel = name, why, "alerts can't be delivered; it is tried again");
                self.error = Some(format!("{name}: {why}"));
                false
            }
        }
    }
}

impl Alerts {
    /// Tells by these channels what `gather` finds; `alarm` is raised while one can't be used.
    #[must_use]
    pub fn new(
        warm: Arc<dyn WarmTier>,
        gather: Gather,
        channels: Vec<Box<dyn Channel>>,
        when: When,
        now: Now,
        alarm: Arc<Alarm>,
    ) -> Self {
        Self { warm, gather, seats: channels.into_iter().map(Seat::new).collect(), when, now, alarm }
    }

    /// Until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if stop.run_until_cancelled(self.look()).await.is_none() {
                break;
            }
        }
    }

    /// Looks once, and tells what is to be told.
    pub async fn look(&mut self) {
        let now = (self.now)();
        let standing = self.gather.standing(now).await;
        let quiet = self.when.quiet.as_ref().is_some_and(|quiet| quiet.is_at(now));
        let rules = Rules { repeat_us: self.when.repeat_us, quiet };
        let store = self.warm.alerts();
        for seat in &mut self.seats {
            if let Err(error) = seat.tell(store, &standing, now, &rules, &self.when.zone).await {
                tracing::debug!(%error, "what was told can't be looked up or noted now");
            }
        }
        let errors: Vec<String> = self.seats.iter().filter_map(|seat| seat.error.clone()).collect();
        match errors.is_empty() {
            true => self.alarm.clear(),
            false => self.alarm.raise(errors.join("; ")),
        }
    }
}

impl Seat {
    async fn tell(
        &mut self,
        store: &dyn AlertStore,
        standing: &gather::Standing,
        now: Timestamp,
        rules: &Rules,
        zone: &TimeZone,
    ) -> Result<(), TierError> {
        if !self.owed.is_empty() {
            store.note_told(self.channel.name(), &self.owed).await?;
            self.owed.clear();
        }
        // Who leads may have changed, so what others told counts, too. While it can't be asked, memory does.
        match store.told(self.channel.name()).await {
            Ok(told) => self.told = Some(told),
            Err(error) if self.told.is_none() => return Err(error),
            Err(_) => {}
        }
        let told = self.told.take().unwrap_or_default();
        let News { tell, changes } = news(&told, &standing.alerts, |key| standing.is_ours(key), now, rules);
        let delivered = match tell {
            Some(tell) => self.send(&Message::new(tell, now, zone.clone())).await,
            None => false,
        };
        let told_now = changes.told.into_iter().filter(|_| delivered);
        let changes: Vec<_> = changes.seen.into_iter().chain(told_now).collect();
        self.told = Some(with(told, &changes));
        if changes.is_empty() {
            return Ok(());
        }
        let noted = store.note_told(self.channel.name(), &changes).await;
        if noted.is_err() {
            self.owed = changes;
        }
        noted
    }
}

fn with(mut told: BTreeMap<String, Told>, changes: &[(String, Option<Told>)]) -> BTreeMap<String, Told> {
    for (key, change) in changes {
        match change {
            Some(one) => told.insert(key.clone(), one.clone()),
            None => told.remove(key),
        };
    }
    told
}
