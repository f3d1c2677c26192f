//! A day's way in: to tables of its own, read back from there, and then in one statement in the place of the old one.

use super::link::Link;
use super::parts::{self, Parts};
use super::{TIER, rows, sql, table};
use crate::tiers::{Day, Proof, Run, Runs, TierError};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use shared::ids::StreamId;
use shared::reading::Timestamp;

/// One attempt to write a day. Its jobs and tables have names that no other attempt has.
struct Attempt<'a> {
    link: &'a Link,
    day: Day,
    name: String,
    staged: Vec<String>,
}

/// Puts these rows in the place of all that is held of the day.
pub(super) async fn replace(link: &Link, day: Day, runs: Runs<'_>) -> Result<Proof, TierError> {
    let date = day.to_string().replace('-', "");
    let mut attempt = Attempt { link, day, name: format!("{date}_{:016x}", StreamId::random().0), staged: Vec::new() };
    let replaced = attempt.replace(runs).await;
    let staged = std::mem::take(&mut attempt.staged);
    stream::iter(&staged)
        .for_each(async |table| {
            if let Err(fault) = link.drop_table(table).await {
                tracing::debug!(table, ?fault, "a table that isn't needed any more stays for a day");
            }
        })
        .await;
    replaced
}

impl Attempt<'_> {
    async fn replace(&mut self, runs: Runs<'_>) -> Result<Proof, TierError> {
        let given = self.stage(runs).await?;
        let staged: Vec<String> = self.staged.iter().map(|table| self.link.quoted(table)).collect();
        let back = match staged.is_empty() {
            true => Proof::default(),
            false => Proof::of(rows_of(self.link, sql::staged_rows(&staged))).await?,
        };
        self.same("read back", given, back)?;
        let settings = &self.link.settings;
        let (readings, days) = (self.link.quoted(&settings.table), self.link.quoted(&table::days_name(settings)));
        self.change("swap", &sql::swap(&readings, self.day, &staged)).await?;
        // Only now: a day that is held has its rows.
        self.change("hold", &sql::hold(&days, self.day)).await?;
        let there = self.link.ask(sql::day_proof(&readings, self.day)).try_concat().await;
        self.same("there now", given, rows::proof(&there.map_err(|fault| fault.told(settings))?)?)?;
        Ok(back)
    }

    /// Loads all rows into tables that nobody reads yet.
    async fn stage(&mut self, mut runs: Runs<'_>) -> Result<Proof, TierError> {
        let (mut parts, mut proof) = (Parts::new(), Proof::default());
        while let Some(run) = runs.try_next().await? {
            proof.add(&run);
            for part in parts.add(&run)? {
                self.load(part).await?;
            }
        }
        if let Some(part) = parts.rest()? {
            self.load(part).await?;
        }
        Ok(proof)
    }

    async fn load(&mut self, part: Vec<u8>) -> Result<(), TierError> {
        let (link, number) = (self.link, self.staged.len());
        if number == parts::MOST {
            return Err(TierError::Broken { tier: TIER, why: format!("{} has too many rows", self.day) });
        }
        let settings = &link.settings;
        let name = format!("{}_new_{}_{number}", settings.table, self.name);
        let made = link.make_table(&table::staging(settings, &name, Timestamp::wall_clock().0 / 1_000)).await;
        self.staged.push(name.clone());
        let loaded = match made {
            Ok(()) => link.load(&self.job(&format!("load{number}")), &name, part).await,
            Err(fault) => Err(fault),
        };
        loaded.map_err(|fault| fault.told(settings))
    }

    async fn change(&self, step: &str, sql: &str) -> Result<(), TierError> {
        self.link.change(&self.job(step), sql).await.map_err(|fault| fault.told(&self.link.settings))
    }

    fn job(&self, step: &str) -> String {
        format!("collector_{}_{}_{step}", self.link.settings.table, self.name)
    }

    fn same(&self, what: &str, given: Proof, found: Proof) -> Result<(), TierError> {
        if given == found {
            return Ok(());
        }
        let why = format!("{}: {given} were written, {found} are {what}", self.day);
        Err(TierError::Broken { tier: TIER, why })
    }
}

/// Runs out of the rows of a question.
pub(super) fn rows_of(link: &Link, sql: String) -> BoxStream<'_, Result<Run, TierError>> {
    let mut last = None;
    let runs = link.ask(sql).map_err(|fault| fault.told(&link.settings)).map(move |page| rows::runs(&page?, &mut last));
    Box::pin(runs.map_ok(|runs| stream::iter(runs.into_iter().map(Ok))).try_flatten())
}
