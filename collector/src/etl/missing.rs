//! Days that were archived and aren't in the archive any more: a folder that isn't mounted, a bucket that was emptied. It is
//! told without waiting for the first question that comes back empty.

use super::jobs::Alarm;
use crate::tiers::cold::missing::words;
use crate::tiers::{ColdTier, Day, TierError, WarmTier};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks at what the archive holds.
const LOOK_EVERY: Duration = Duration::from_secs(120);

/// The days that the archive should have and hasn't, ascending; by its list, no file is read.
///
/// # Errors
/// When a tier doesn't answer.
pub async fn missing(warm: &dyn WarmTier, cold: &dyn ColdTier) -> Result<Vec<Day>, TierError> {
    let mut missing = warm.days().archived().await?;
    // Twice: while files are put in the place of others, a list may have neither.
    for _ in 0..2 {
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else { break };
        let there: BTreeSet<Day> = cold.days(*first, last.next()).await?.into_iter().collect();
        missing.retain(|day| !there.contains(day));
    }
    Ok(missing)
}

/// Raises the alarm while days are missing, until `stop`.
pub async fn watch(warm: Arc<dyn WarmTier>, cold: Arc<dyn ColdTier>, alarm: Arc<Alarm>, stop: CancellationToken) {
    loop {
        look(&*warm, &*cold, &alarm).await;
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

async fn look(warm: &dyn WarmTier, cold: &dyn ColdTier, alarm: &Alarm) {
    match missing(warm, cold).await {
        Ok(missing) if missing.is_empty() => alarm.clear(),
        Ok(missing) => {
            let why = words(&cold.place(), &missing);
            if alarm.why().as_ref() != Some(&why) {
                tracing::error!("{why}");
            }
            alarm.raise(why);
        }
        // Whether a tier answers is told elsewhere.
        Err(error) => tracing::debug!(%error, "it can't be said which days the archive should have"),
    }
}
