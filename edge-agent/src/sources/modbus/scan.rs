//! Finds the units on a link by asking each for one register.

use super::client::{Client, Data, ReadError};
use super::config::Transport;
use super::plan::Register;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What was found at one unit number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The unit's number.
    pub unit: u8,
    /// What it answered: a value or an exception, either shows that it is there.
    pub answer: Result<Data, ReadError>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unit {}: ", self.unit)?;
        match &self.answer {
            Ok(Data::Words(words)) => write!(f, "holding 0 is {}", words.first().copied().unwrap_or_default()),
            Ok(Data::Bits(_)) => write!(f, "answers"),
            Err(error) => write!(f, "answers with {error}"),
        }
    }
}

/// Asks every unit of `units` for holding register 0; `progress` is told each unit before it is asked.
/// Silence costs one timeout per unit. A unit whose answer is garbled is found too.
///
/// # Errors
/// When the link can't be opened.
pub async fn scan(
    transport: &Transport,
    timeout: Duration,
    units: RangeInclusive<u8>,
    mut progress: impl FnMut(u8),
) -> Result<Vec<Found>, ReadError> {
    let mut client = Client::new(transport.clone(), timeout);
    let mut found = Vec::new();
    for unit in units {
        progress(unit);
        match client.read(unit, Register::Holding, 0, 1).await {
            Err(ReadError::Link(reason)) => return Err(ReadError::Link(reason)),
            Err(ReadError::Timeout(_) | ReadError::Dropped(_)) => {}
            Err(error) if !error.is_answer() && !matches!(error, ReadError::Malformed(_)) => {}
            answer => found.push(Found { unit, answer }),
        }
    }
    client.close().await;
    Ok(found)
}
