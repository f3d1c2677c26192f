//! What DataFusion says, in words for who asked.

use super::SqlError;
use crate::tiers::TierError;
use datafusion::common::DataFusionError;
use shared::config::{ByteSize, HumanDuration};
use std::error::Error;

/// Longest message, characters.
const WORDS_MAX: usize = 500;

pub(super) fn too_long(time: HumanDuration) -> SqlError {
    SqlError::TooMuch(format!(
        "the query takes longer than {time}: ask for fewer days or series, by WHERE ts >= '…' AND ts < '…'; [sql] time is the bound"
    ))
}

fn too_large(memory: ByteSize) -> SqlError {
    SqlError::TooMuch(format!(
        "the query needs more than {memory} of memory for what it sorts, groups or joins: ask for fewer days, series or groups; [sql] memory is the bound"
    ))
}

/// Of a query that was begun.
pub(super) fn of(error: &DataFusionError, memory: ByteSize) -> SqlError {
    if let Some(tier) = tier(error) {
        return tier.into();
    }
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => too_large(memory),
        _ => refused(error),
    }
}

/// What is wrong with a query, and where.
pub(super) fn refused(error: &DataFusionError) -> SqlError {
    let root = error.find_root();
    let said = match (error.diagnostic(), root) {
        (Some(found), _) => {
            let place = found.span.map(|span| format!("line {}, column {}: ", span.start.line, span.start.column));
            let helps: Vec<_> = found.helps.iter().map(|help| format!("; {}", help.message)).collect();
            format!("{}{}{}", place.unwrap_or_default(), found.message, helps.concat())
        }
        (None, DataFusionError::SQL(parser, _)) => parser_words(&parser.to_string()),
        (None, DataFusionError::Plan(why) | DataFusionError::Execution(why) | DataFusionError::NotImplemented(why)) => {
            why.clone()
        }
        (None, DataFusionError::ArrowError(why, _)) => why.to_string(),
        (None, other) => other.strip_backtrace(),
    };
    let line = said.lines().next().unwrap_or_default();
    SqlError::Refused(line.chars().take(WORDS_MAX).collect())
}

/// `sql parser error: Expected: …, found: x at Line: 1, Column: 8` with the place in front.
fn parser_words(said: &str) -> String {
    let said = said.trim_start_matches("sql parser error: ");
    let place = said.rsplit_once(" at Line: ").and_then(|(what, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some(format!("line {line}, column {column}: {what}"))
    });
    place.unwrap_or_else(|| said.to_owned())
}

/// The archive's own word, however deep it lies.
fn tier(error: &DataFusionError) -> Option<TierError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<TierError>() {
            Some(TierError::Unavailable { tier, why }) => {
                return Some(TierError::Unavailable { tier, why: why.clone() });
            }
            Some(TierError::Broken { tier, why }) => return Some(TierError::Broken { tier, why: why.clone() }),
            Some(TierError::Damaged { tier, days, why }) => {
                return Some(TierError::Damaged { tier, days: days.clone(), why: why.clone() });
            }
            Some(TierError::Overtaken { .. }) | None => next = error.source(),
        }
    }
    None
}
