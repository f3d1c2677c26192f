//! What was set aside because it wasn't granted is stored once it is. Grants are read at the start, so that is when it is
//! looked at; and again for what a gateway has yet to say about its series.

use super::Flusher;
use crate::import;
use crate::inbox::NO_STREAM;
use crate::resolve::{NOT_GRANTED, numbers};
use crate::tiers::warm::sqlite::QUARANTINE_ROWS_MAX;
use crate::tiers::{Audited, Flush, Quarantined, SeriesId, SeriesInfo, SeriesKey, StoredReading, TierError};
use serde_json::json;
use shared::backoff::Backoff;
use shared::catalogue::{Catalogue, Class, Entry};
use shared::ids::{GatewayId, NodeId};
use shared::reading::{Timestamp, micros};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Rows of one transaction.
const ROWS: usize = 20_000;
/// Most series that the audit names.
const NAMED_MAX: usize = 100;
/// Between looks at what could not be released yet.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Names of series by gateway, and whether they are of an inbox, which has no catalogue.
type Names = BTreeMap<GatewayId, BTreeMap<String, bool>>;

impl Flusher {
    /// Releases what is granted now, until nothing is left that could be, or `stop`.
    pub async fn regrant(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let work = async {
            loop {
                let pause = match self.release_granted().await {
                    Ok(0) => return,
                    Ok(_) => LOOK_AGAIN,
                    Err(error) => {
                        tracing::debug!(%error, "what is granted now can't be released yet");
                        backoff.pause()
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Stores what is granted now; gives how many rows must wait, for their series or for their time.
    async fn release_granted(&self) -> Result<usize, TierError> {
        let mut rows = self.warm.quarantine(None, QUARANTINE_ROWS_MAX).await?;
        rows.retain(|row| {
            let node = || NodeId::new(row.series.split('/').next()?).ok();
            row.reason.starts_with(NOT_GRANTED) && node().is_some_and(|node| self.grants.allows(&row.gateway, &node))
        });
        let mut names = Names::new();
        for row in &rows {
            names.entry(row.gateway.clone()).or_default().insert(row.series.clone(), row.stream == NO_STREAM);
        }
        let mut series = HashMap::<(GatewayId, String), SeriesId>::new();
        for (gateway, names) in names {
            let named = self.named(&gateway, &names).await?.into_iter();
            series.extend(named.map(|(name, id)| ((gateway.clone(), name), id)));
        }
        let latest = Timestamp::wall_clock().plus_micros(micros(self.rules.timely.future_max));
        let fitting = |row: &Quarantined| {
            let id = series.get(&(row.gateway.clone(), row.series.clone()))?;
            (row.at <= latest).then_some(StoredReading { series: *id, at: row.at, held: row.held })
        };
        let found = rows.len();
        let fit: Vec<(Quarantined, StoredReading)> =
            rows.into_iter().filter_map(|row| fitting(&row).map(|reading| (row, reading))).collect();
        for some in fit.chunks(ROWS) {
            self.store_granted(some).await?;
        }
        if !fit.is_empty() {
            tracing::info!(readings = fit.len(), "readings that were set aside are granted now, and stored");
        }
        Ok(found - fit.len())
    }

    async fn store_granted(&self, rows: &[(Quarantined, StoredReading)]) -> Result<(), TierError> {
        let series: BTreeSet<&str> = rows.iter().map(|(row, _)| row.series.as_str()).collect();
        let named: Vec<&&str> = series.iter().take(NAMED_MAX).collect();
        let because = NOT_GRANTED.trim_end_matches(": ");
        let released = json!({ "because": because, "series": named, "of": series.len() });
        let detail = json!({ "reason": "granted since", "rows": rows.len(), "released": released });
        let audit = Audited { at: Timestamp::wall_clock(), who: "collector".into(), what: "quarantine".into(), detail };
        let (unquarantine, readings) = rows.iter().cloned().unzip();
        self.write(Flush { readings, unquarantine, audit: vec![audit], ..Flush::default() }).await?;
        metrics::counter!("collector_quarantine_granted_total").increment(rows.len() as u64);
        Ok(())
    }

    /// The numbers of a gateway's series, as far as they can be had; they are made from its newest catalogue that has them.
    async fn named(
        &self,
        gateway: &GatewayId,
        names: &BTreeMap<String, bool>,
    ) -> Result<Vec<(String, SeriesId)>, TierError> {
        let (catalogues, owner) = (self.catalogues.clone(), gateway.clone());
        let all = tokio::task::spawn_blocking(move || catalogues.newest_first(&owner)).await.unwrap_or_default();
        let there = self.warm.series(None).await?;
        let as_it_is = |name: &String| there.iter().find(|series| series.key.to_string() == *name).map(same);
        let of_inbox =
            |name: &String| import::series(name, &import::Settings::default()).ok().map(|made| made.entry(0));
        let entry = |(name, is_of_inbox): (&String, &bool)| {
            let said = entry(name, &all).or_else(|| as_it_is(name));
            said.or_else(|| if *is_of_inbox { of_inbox(name) } else { None })
        };
        let entries: Vec<Entry> = names.iter().filter_map(entry).collect();
        let numbers = numbers(&*self.warm, &self.grants, gateway, &entries).await?;
        Ok(entries
            .iter()
            .zip(numbers)
            .filter_map(|(entry, number)| Some((key(entry).to_string(), number.ok()?)))
            .collect())
    }
}

fn key(entry: &Entry) -> SeriesKey {
    SeriesKey { node: entry.node.clone(), metric: entry.metric.clone(), channel: entry.channel.clone() }
}

fn entry(wanted: &str, catalogues: &[Arc<Catalogue>]) -> Option<Entry> {
    let mut entries = catalogues.iter().flat_map(|catalogue| catalogue.entries());
    entries.find(|entry| key(entry).to_string() == wanted).cloned()
}

/// A series as it is.
fn same(series: &SeriesInfo) -> Entry {
    Entry {
        node: series.key.node.clone(),
        metric: series.key.metric.clone(),
        channel: series.key.channel.clone(),
        kind: series.kind,
        unit: series.unit.clone(),
        resolution_exp: series.resolution_exp,
        interval_ms: series.interval_ms,
        silence_ms_max: series.silence_ms_max,
        class: Class::Raw,
    }
}
