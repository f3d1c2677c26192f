//! What was told, in SQLite.

use super::rows::get;
use super::{SqliteWarm, broken, failed};
use crate::alerts::{AlertStore, Told};
use crate::tiers::warm::rules::{from_json, to_json};
use crate::tiers::{TierError, TierFuture};
use std::collections::BTreeMap;

impl SqliteWarm {
    async fn find_told(&self, channel: &str) -> Result<BTreeMap<String, Told>, TierError> {
        let query = sqlx::query("SELECT alert, said FROM alerts_told WHERE channel = ?").bind(channel);
        let rows = query.fetch_all(self.reader().await?).await.map_err(failed)?;
        rows.iter().map(|row| Ok((get(row, "alert")?, from_json(get(row, "said")?).map_err(broken)?))).collect()
    }

    async fn keep_told(&self, channel: &str, told: &[(String, Option<Told>)]) -> Result<(), TierError> {
        let mut transaction = self.begin().await?;
        for (alert, said) in told {
            let query = match said {
                None => {
                    sqlx::query("DELETE FROM alerts_told WHERE channel = ? AND alert = ?").bind(channel).bind(alert)
                }
                Some(said) => sqlx::query("INSERT OR REPLACE INTO alerts_told (channel, alert, said) VALUES (?, ?, ?)")
                    .bind(channel)
                    .bind(alert)
                    .bind(to_json(said)),
            };
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }
}

impl AlertStore for SqliteWarm {
    fn told<'a>(&'a self, channel: &'a str) -> TierFuture<'a, BTreeMap<String, Told>> {
        Box::pin(self.find_told(channel))
    }

    fn note_told<'a>(&'a self, channel: &'a str, told: &'a [(String, Option<Told>)]) -> TierFuture<'a, ()> {
        Box::pin(self.keep_told(channel, told))
    }
}
