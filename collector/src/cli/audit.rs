//! What commands do that is not stored in a tier is noted in the audit, as far as that can be reached: what was done is done.

use super::Where;
use super::people::on_store;
use super::print::YELLOW;
use crate::config::Config;
use crate::tiers::warm::settings::Store;
use crate::tiers::{Audited, Flush};
use anyhow::bail;
use serde_json::Value;
use shared::reading::Timestamp;
use std::time::Duration;

/// How long a command waits for it.
const WITHIN: Duration = Duration::from_secs(10);

/// Notes what was done, in the name of whoever sits here; says so when that can't be.
pub(super) fn note(place: &Where, what: &str, detail: Value) {
    if let Err(error) = try_to_note(place, what, detail) {
        anstream::eprintln!("{YELLOW}not in the audit{YELLOW:#}: {error:#}");
    }
}

fn try_to_note(place: &Where, what: &str, detail: Value) -> anyhow::Result<()> {
    let config = Config::load(&place.config)?;
    // It is made by the first start, of whoever runs the collector.
    if config.warm.store() == Store::Sqlite && !config.warm_file().exists() {
        bail!("there is no database yet");
    }
    let audited = Audited { at: Timestamp::wall_clock(), who: whoever_sits_here(), what: what.into(), detail };
    on_store(place, async |warm| {
        let noting = warm.commit(Flush { audit: vec![audited], ..Flush::default() });
        tokio::time::timeout(WITHIN, noting).await??;
        Ok(())
    })
}

/// As far as a command line knows.
pub(super) fn whoever_sits_here() -> String {
    std::env::var("USER").unwrap_or_else(|_| "unknown".into())
}
