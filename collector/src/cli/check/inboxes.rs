//! Tables of other producers are looked at, where they can be.

use super::{Findings, Verdict, asked};
use crate::config::Config;
use crate::inbox::bigquery;
use crate::inbox::settings::{Database, ForeignInbox};
use crate::tiers::TierError;
use crate::tiers::warm::postgres::PostgresWarm;
use crate::tiers::warm::settings::Store;
use shared::tls::file::readable_by_all;

/// What was found of a table: nothing, when it can't be looked at; else what could be better with it.
type Found = Option<Result<Option<String>, TierError>>;

pub(super) fn look(config: &Config, findings: &mut Findings) {
    let (warm, far): (Vec<_>, Vec<_>) = config.inbox.iter().partition(|inbox| inbox.database == Database::Warm);
    for (inbox, found) in in_warm(config, warm, findings).into_iter().chain(in_bigquery(config, far, findings)) {
        let (verdict, detail) = told(config, inbox, found);
        findings.add("[[inbox]]", verdict, detail);
    }
}

fn told(config: &Config, inbox: &ForeignInbox, found: Found) -> (Verdict, String) {
    let (name, table) = (inbox.name.as_str(), &inbox.table);
    match found {
        Some(Err(error)) => (Verdict::Error, error.to_string()),
        _ if !config.grants.knows(&inbox.name) => {
            let why = "[grants] says nothing of it, so that all its readings go to quarantine";
            (Verdict::Warning, format!("{name}: {why}"))
        }
        Some(Ok(Some(advice))) => (Verdict::Warning, format!("{name}: table {table} is read; {advice}")),
        Some(Ok(None)) => (Verdict::Ok, format!("{name}: table {table} is read")),
        None => (Verdict::Ok, format!("{name}: table {table} would be read")),
    }
}

fn in_warm<'a>(
    config: &Config,
    tables: Vec<&'a ForeignInbox>,
    findings: &mut Findings,
) -> Vec<(&'a ForeignInbox, Found)> {
    if tables.is_empty() {
        return Vec::new();
    }
    if config.warm.store() == Store::Sqlite {
        for ForeignInbox { name, table, .. } in tables {
            let why = "[warm] is SQLite, which has only our own";
            findings.add("[[inbox]]", Verdict::Error, format!("{name}: table {table} can't be read: {why}"));
        }
        return Vec::new();
    }
    let wanted: Vec<ForeignInbox> = tables.iter().map(|table| (*table).clone()).collect();
    let found: Vec<Found> = match asked(PostgresWarm::check_foreign(&config.warm, &wanted)) {
        Ok(found) => found.into_iter().map(|found| Some(found.map(|()| None))).collect(),
        Err(error) => {
            cant_be_looked_at("tables", &error, findings);
            tables.iter().map(|_| None).collect()
        }
    };
    tables.into_iter().zip(found).collect()
}

fn in_bigquery<'a>(
    config: &Config,
    tables: Vec<&'a ForeignInbox>,
    findings: &mut Findings,
) -> Vec<(&'a ForeignInbox, Found)> {
    let access = config.bigquery();
    if let Some(why) = access.credentials_file.as_deref().filter(|_| !tables.is_empty()).and_then(readable_by_all) {
        findings.add("[bigquery]", Verdict::Warning, why);
    }
    let mut look_at = |table: &'a ForeignInbox| match asked(bigquery::check(&access, table)) {
        Err(error @ TierError::Unavailable { .. }) => {
            cant_be_looked_at(table.name.as_str(), &error, findings);
            (table, None)
        }
        found => (table, Some(found)),
    };
    tables.into_iter().map(&mut look_at).collect()
}

/// It may be so another time: that is no error of the configuration.
fn cant_be_looked_at(what: &str, why: &TierError, findings: &mut Findings) {
    findings.add("[[inbox]]", Verdict::Warning, format!("{what} can't be looked at: {why}"));
}
