//! Messages of one connection whose readings aren't on disk yet.
//!
//! Invariants: acknowledgements leave in the order in which the messages came, as MQTT asks (4.6.0-2); none leaves
//! before its readings are on disk; what waits here dies with its connection.

use super::client::Receipt;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// The disk refused readings: their message, and all that came after it, can't be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotStored;

/// What waits for its acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<(Receipt, Option<oneshot::Receiver<()>>)>,
}

impl Pending {
    /// A message without any reading: nothing has to be waited for but those before it.
    pub(super) fn add_empty(&mut self, receipt: Receipt) {
        self.queue.push_back((receipt, None));
    }

    /// A message; what is returned tells when its readings are on disk.
    pub(super) fn add(&mut self, receipt: Receipt) -> oneshot::Sender<()> {
        let (done, waits) = oneshot::channel();
        self.queue.push_back((receipt, Some(waits)));
        done
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The next message that can be acknowledged; never, while there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Receipt, NotStored> {
        match self.queue.front_mut() {
            None => std::future::pending().await,
            Some((receipt, waits)) => {
                let receipt = *receipt;
                if let Some(waits) = waits {
                    waits.await.map_err(|_| NotStored)?;
                }
                self.queue.pop_front();
                Ok(receipt)
            }
        }
    }
}
