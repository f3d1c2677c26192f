//! The task of one broker: connects, subscribes, hands readings on and acknowledges what is on disk.

use super::backlog::Backlog;
use super::client::{Event, Handle, Lost, Message, Session, UNACKNOWLEDGED_MAX};
use super::config::Broker;
use super::intake::{Arrival, Intake};
use super::pending::{NotStored, Pending};
use crate::clock::Clock;
use crate::sample::{Batch, Outlet};
use futures::FutureExt;
use shared::backoff::Backoff;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pauses between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A connection that lasted shorter counts as one more failure: two programs with one client id throw each other
/// out for ever.
const LASTING_US: i64 = 30_000_000;
/// How often it is looked for points that have been without a link for too long.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait, when told to stop, for what is on its way to the disk; and again for the farewell.
const GRACE: Duration = Duration::from_millis(500);
/// So many connections in a row that ended with something that can't be taken make us give up the session.
const POISONED_MAX: u32 = 3;
/// Most readings in a batch of our own.
const BATCH_MAX: usize = 500;

/// Listens to one broker.
pub(super) struct Listener {
    broker: Arc<Broker>,
    tls: Option<Arc<rustls::ClientConfig>>,
    intake: Intake,
    outlet: Outlet,
    clock: Clock,
    backoff: Backoff,
    link: Link,
    /// Why the broker gives us nothing for a subscription, one by one.
    refused: Vec<Option<(i64, String)>>,
    backlog: Backlog,
    poisoned: u32,
    /// The next connection asks the broker to forget what it keeps for us.
    forget: bool,
}

/// The connection, as others see it.
enum Link {
    Up { since_us: i64 },
    Down { since_us: i64, why: String, was_up: bool },
}

/// Why a connection is over.
enum End {
    /// We were told to, or nobody takes the readings any more.
    Stopped,
    /// The broker has forgotten our old session.
    Forgotten,
    Lost(Lost),
}

impl Listener {
    pub(super) fn new(
        broker: Arc<Broker>,
        tls: Option<Arc<rustls::ClientConfig>>,
        intake: Intake,
        outlet: Outlet,
        clock: Clock,
    ) -> Self {
        let refused = vec![None; broker.subscriptions.len()];
        let link = Link::Down { since_us: clock.mono_us(), why: "not connected yet".into(), was_up: false };
        let backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let backlog = Backlog::default();
        Self { broker, tls, intake, outlet, clock, backoff, link, refused, backlog, poisoned: 0, forget: false }
    }

    /// Listens until told to stop, or until nobody takes the readings.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            // What a broker sends must not be able to end this task, whatever the library makes of it.
            let connection = AssertUnwindSafe(self.connection(&stop)).catch_unwind();
            let end = connection.await.unwrap_or_else(|_| End::Lost(poison("the client library panicked")));
            match end {
                End::Stopped => break,
                End::Forgotten => continue,
                End::Lost(lost) => self.lost(lost),
            }
            let pause = self.backoff.pause();
            let waiting = async {
                let mut wait = pin!(tokio::time::sleep(pause));
                self.while_down(&mut wait).await
            };
            if stop.run_until_cancelled(waiting).await.is_none_or(|open| open.is_none()) {
                break;
            }
        }
        self.show(false);
    }

    async fn connection(&mut self, stop: &CancellationToken) -> End {
        let forget = std::mem::take(&mut self.forget);
        let (mut session, handle) = Session::new(&self.broker, self.tls.as_ref(), forget);
        let resumed = match stop.run_until_cancelled(self.connect(&mut session)).await {
            None | Some(None) => return End::Stopped,
            Some(Some(Err(lost))) => return End::Lost(lost),
            Some(Some(Ok(resumed))) => resumed,
        };
        if forget {
            farewell(&mut session, &handle).await;
            return End::Forgotten;
        }
        self.connected(resumed);
        if let Err(lost) = handle.subscribe(&self.broker.filters()) {
            return End::Lost(lost);
        }
        let mut pending = Pending::default();
        let end = self.serve(&mut session, &handle, &mut pending, stop).await;
        if let End::Stopped = end {
            self.finish(&mut session, &handle, &mut pending).await;
        }
        end
    }

    /// Whether the broker took up our session again; `None` when nobody takes readings any more.
    async fn connect(&mut self, session: &mut Session) -> Option<Result<bool, Lost>> {
        loop {
            match self.while_down(&mut pin!(session.next())).await? {
                Ok(Event::Connected { resumed }) => return Some(Ok(resumed)),
                Ok(_) => {}
                Err(lost) => return Some(Err(lost)),
            }
        }
    }

    fn connected(&mut self, resumed: bool) {
        let now = self.clock.mono_us();
        let away = match &self.link {
            Link::Down { since_us, was_up: true, .. } => Some(now - since_us),
            _ => None,
        };
        self.backlog = if resumed { Backlog::resumed(now, away) } else { Backlog::default() };
        self.link = Link::Up { since_us: now };
        self.refused.fill(None);
        let broker = self.broker.name.as_str();
        metrics::counter!("edge_mqtt_connections_total", "broker" => self.broker.name.clone()).increment(1);
        self.intake.link(None);
        tracing::info!(broker, resumed, "broker is connected");
        if away.is_some() && !resumed && !self.broker.session.is_zero() {
            tracing::warn!(broker, "the broker kept nothing for us: what came meanwhile is lost");
        }
        self.show(true);
    }

    fn show(&self, up: bool) {
        metrics::gauge!("edge_mqtt_connected", "broker" => self.broker.name.clone()).set(f64::from(u8::from(up)));
    }

    /// The log speaks only when something changes.
    fn lost(&mut self, lost: Lost) {
        let now = self.clock.mono_us();
        let broker = self.broker.name.as_str();
        let (since_us, was_up, is_news) = match &self.link {
            Link::Up { since_us } => {
                if now - since_us >= LASTING_US {
                    self.backoff.reset();
                }
                (now, true, true)
            }
            Link::Down { since_us, why, was_up } => (*since_us, *was_up, *why != lost.reason),
        };
        if is_news {
            self.intake.link(Some(&lost.reason));
            tracing::warn!(broker, error = lost.reason, "broker is away");
        }
        if lost.is_poison {
            self.poisoned += 1;
        }
        if self.poisoned >= POISONED_MAX && !self.broker.session.is_zero() {
            tracing::error!(
                broker,
                error = lost.reason,
                "the broker keeps sending what can't be taken: it is told to \
                forget our session, and with it everything else that waits there"
            );
            metrics::counter!("edge_mqtt_sessions_given_up_total", "broker" => self.broker.name.clone()).increment(1);
            (self.poisoned, self.forget) = (0, true);
        }
        self.link = Link::Down { since_us, why: lost.reason, was_up };
        self.intake.lost();
        self.show(false);
    }

    /// Waits for `what` and meanwhile reports points that are without a link for too long. `None` when nobody
    /// takes readings any more.
    async fn while_down<F: Future + Unpin>(&mut self, what: &mut F) -> Option<F::Output> {
        loop {
            match tokio::time::timeout(LOOK, &mut *what).await {
                Ok(output) => return Some(output),
                Err(_) => self.report_overdue().await?,
            }
        }
    }

    async fn report_overdue(&mut self) -> Option<()> {
        let (link, refused) = (&self.link, &self.refused);
        let samples = self.intake.overdue(self.clock.mono_us(), |subscription| match link {
            Link::Down { since_us, why, .. } => Some((*since_us, format!("the broker is away: {why}"))),
            Link::Up { .. } => refused[subscription].clone(),
        });
        for samples in samples.chunks(BATCH_MAX) {
            self.outlet.send(Batch { samples: samples.to_vec(), done: None }).await.ok()?;
        }
        Some(())
    }

    async fn serve(
        &mut self,
        session: &mut Session,
        handle: &Handle,
        pending: &mut Pending,
        stop: &CancellationToken,
    ) -> End {
        let mut look = tokio::time::interval(LOOK);
        loop {
            let event = {
                // Never dropped before it is through: rumqttc would forget an acknowledgement that it is sending.
                let mut next = pin!(session.next());
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return End::Stopped,
                        stored = pending.next() => match stored {
                            Ok(receipt) => {
                                self.poisoned = 0;
                                handle.acknowledge(receipt);
                            }
                            Err(NotStored) => return End::Lost(not_stored()),
                        },
                        event = &mut next, if pending.len() < UNACKNOWLEDGED_MAX => break event,
                        _ = look.tick(), if self.refused.iter().any(Option::is_some) => {
                            let reported = stop.run_until_cancelled(self.report_overdue()).await;
                            if reported.is_none_or(|open| open.is_none()) {
                                return End::Stopped;
                            }
                        }
                    }
                }
            };
            match event {
                Ok(Event::Message(message)) => {
                    let delivered = self.deliver(message, pending);
                    if stop.run_until_cancelled(delivered).await.is_none_or(|open| open.is_none()) {
                        return End::Stopped;
                    }
                }
                Ok(Event::Granted(grants)) => self.granted(&grants),
                Ok(Event::Connected { .. } | Event::Left | Event::Other) => {}
                Err(lost) => return End::Lost(lost),
            }
        }
    }

    /// Hands a message's readings on; `None` when nobody takes them any more.
    async fn deliver(&mut self, message: Message, pending: &mut Pending) -> Option<()> {
        let now_us = self.clock.mono_us();
        let waited = message.receipt.is_some() && self.backlog.may_have(now_us);
        let samples = self.intake.take(&message, Arrival { now_us, waited });
        let done = match message.receipt {
            Some(receipt) if samples.is_empty() => {
                pending.add_empty(receipt);
                None
            }
            Some(receipt) => Some(pending.add(receipt)),
            None => None,
        };
        if samples.is_empty() {
            return Some(());
        }
        self.outlet.send(Batch { samples, done }).await.ok()
    }

    /// What the broker made of our filters.
    fn granted(&mut self, grants: &[Result<u8, String>]) {
        let now = self.clock.mono_us();
        for ((filter, acknowledged), grant) in self.broker.filters().iter().zip(grants) {
            let broker = self.broker.name.as_str();
            match grant {
                Ok(0) if *acknowledged => {
                    tracing::warn!(
                        broker,
                        filter,
                        "the broker delivers this at QoS 0 only: what comes while we are away is lost"
                    );
                }
                Ok(_) => {}
                Err(why) => {
                    tracing::error!(broker, filter, why, "the broker doesn't let us subscribe");
                    for (subscription, refused) in self.broker.subscriptions.iter().zip(&mut self.refused) {
                        if self.broker.filter_of(subscription) == *filter {
                            *refused = Some((now, format!("the broker doesn't let us subscribe to {filter}: {why}")));
                        }
                    }
                }
            }
        }
    }

    /// Acknowledges what gets to the disk very soon, and leaves the rest to be sent again.
    async fn finish(&mut self, session: &mut Session, handle: &Handle, pending: &mut Pending) {
        let last = async {
            while pending.len() > 0 {
                let mut next = pin!(session.next());
                loop {
                    tokio::select! {
                        stored = pending.next() => match stored {
                            Ok(receipt) => handle.acknowledge(receipt),
                            Err(NotStored) => return,
                        },
                        event = &mut next => match event {
                            Ok(_) => break, // comes again, since it is not acknowledged
                            Err(_) => return,
                        },
                    }
                    if pending.len() == 0 {
                        return;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(GRACE, last).await;
        farewell(session, handle).await;
    }
}

/// Leaves after all that was sent before.
async fn farewell(session: &mut Session, handle: &Handle) {
    handle.leave();
    let gone = async { while !matches!(session.next().await, Ok(Event::Left) | Err(_)) {} };
    let _ = tokio::time::timeout(GRACE, gone).await;
}

fn not_stored() -> Lost {
    Lost::because("the disk refused readings; the connection was closed so that the broker sends them again")
}

fn poison(reason: &str) -> Lost {
    Lost { reason: reason.into(), is_poison: true }
}
