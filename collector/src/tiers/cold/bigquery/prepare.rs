//! Dataset and tables: made when they are missing, refused when someone altered them.

use super::fault::Fault;
use super::link::Link;
use super::settings::BigQuerySettings;
use super::{TIER, table};
use crate::tiers::TierError;
use gcp_bigquery_client::model::table::Table;

/// Makes what is missing, and looks at what is there.
pub(super) async fn bring_up(link: &Link) -> Result<(), TierError> {
    let told = |fault: Fault| fault.told(&link.settings);
    if !dataset_is_there(link).await? {
        link.make_dataset().await.map_err(told)?;
    }
    for wanted in ours(&link.settings) {
        if !table_is_there(link, &wanted).await? {
            link.make_table(&wanted).await.map_err(told)?;
        }
    }
    Ok(())
}

/// Looks at what is there and changes nothing; what would be made, in words.
pub(super) async fn look(link: &Link) -> Result<Option<String>, TierError> {
    if !dataset_is_there(link).await? {
        return Ok(Some("the dataset would be made".into()));
    }
    for wanted in ours(&link.settings) {
        if !table_is_there(link, &wanted).await? {
            return Ok(Some(format!("the table {} would be made", wanted.table_id())));
        }
    }
    Ok(None)
}

fn ours(settings: &BigQuerySettings) -> [Table; 2] {
    [table::readings(settings), table::days(settings)]
}

async fn dataset_is_there(link: &Link) -> Result<bool, TierError> {
    let BigQuerySettings { dataset, location, .. } = &*link.settings;
    let Some(found) = link.dataset().await.map_err(|fault| fault.told(&link.settings))? else { return Ok(false) };
    match found.location {
        Some(there) if !there.eq_ignore_ascii_case(location) => {
            let why =
                format!("the dataset {dataset} lies in {there}: [cold.bigquery] location must say so, not {location}");
            Err(TierError::Broken { tier: TIER, why })
        }
        _ => Ok(true),
    }
}

async fn table_is_there(link: &Link, wanted: &Table) -> Result<bool, TierError> {
    let name = wanted.table_id();
    let Some(found) = link.table(name).await.map_err(|fault| fault.told(&link.settings))? else { return Ok(false) };
    match table::altered(wanted, &found) {
        Some(what) => {
            let why = format!(
                "the table {name} {what}: put it right, or name another one in [cold.bigquery] table or dataset"
            );
            Err(TierError::Broken { tier: TIER, why })
        }
        None => Ok(true),
    }
}
