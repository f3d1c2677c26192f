//! The writing half of a session: sends what gathered in the mailboxes, and a sign of life when nothing did.

use super::answers::{Answers, Taken, WINDOW_BYTES};
use super::item::Item;
use super::session::End;
use super::sessions::Outbox;
use futures::SinkExt;
use shared::reading::Timestamp;
use shared::wire::{Codec, Message, WireError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio_util::codec::FramedWrite;

/// After so long without a message a sign of life is sent.
const HEARTBEAT_AFTER: Duration = Duration::from_secs(20);
/// A gateway that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The writing half.
pub(super) struct Talk<W> {
    pub(super) to: FramedWrite<W, Codec>,
}

impl<W: AsyncWrite + Unpin> Talk<W> {
    pub(super) async fn send(&mut self, message: Message) -> Result<(), End> {
        self.send_all([message]).await
    }

    async fn send_all(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), End> {
        let sending = async {
            for message in messages {
                self.to.feed(message).await?;
            }
            self.to.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, sending).await {
            Ok(outcome) => outcome.map_err(|error: WireError| End::Wire(error)),
            Err(_) => Err(End::TakesNothing),
        }
    }

    /// Sends what comes until there is a reason to end.
    pub(super) async fn run(
        &mut self,
        answers: &Answers,
        outbox: &Outbox,
        given_back: &Mutex<Vec<Item>>,
        mut open: watch::Receiver<bool>,
    ) -> End {
        loop {
            let outcome = tokio::select! {
                mut taken = answers.take() => {
                    given_back.lock().unwrap_or_else(PoisonError::into_inner).append(&mut taken.given_back);
                    self.answer(taken).await
                }
                seqs = outbox.take() => self.send(Message::Committed(seqs)).await,
                Ok(()) = open.changed() => {
                    let bytes = if *open.borrow_and_update() { WINDOW_BYTES } else { 0 };
                    self.send(Message::Window { bytes }).await
                }
                () = tokio::time::sleep(HEARTBEAT_AFTER) => {
                    self.send(Message::Heartbeat { now: Timestamp::wall_clock() }).await
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    pub(super) async fn answer(&mut self, taken: Taken) -> Result<(), End> {
        let mut messages = Vec::new();
        if !taken.stored.is_empty() {
            messages.push(Message::Stored(taken.stored));
        }
        if !taken.committed.is_empty() {
            messages.push(Message::Committed(taken.committed));
        }
        messages.extend(taken.refused.into_iter().map(|refused| Message::Reject {
            seqs: refused.seqs,
            reason: refused.refusal.reason,
            detail: refused.refusal.detail,
            retry: refused.refusal.retry,
        }));
        self.send_all(messages).await?;
        taken.give_up.map_or(Ok(()), |why| Err(End::GivenUp(why)))
    }
}
