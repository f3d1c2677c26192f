//! What is agreed on about the hot tier, in SQLite. Transactions that write come one after the other.

use super::rows::get;
use super::{SqliteWarm, failed};
use crate::tiers::hot::ledger::NO_READING;
use crate::tiers::{HotAccount, HotLedger, HotTurn, TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::SqliteConnection;

/// More than was owed: who settles that mustn't settle this.
const OWE: &str = "UPDATE hot_ledger SET owed = max(coalesce(owed + 1, ?1), ?1)";

/// Whether the readings of a transaction may be stored, and what is owed by it.
pub(super) async fn account_for(connection: &mut SqliteConnection, turn: Option<HotTurn>) -> Result<(), TierError> {
    let Some(HotTurn { missed, .. }) = turn else { return Ok(()) };
    let query = sqlx::query_scalar("SELECT epoch FROM hot_ledger");
    let epoch: i64 = query.fetch_one(&mut *connection).await.map_err(failed)?;
    HotTurn::check(turn, epoch.cast_unsigned())?;
    if let Some(missed) = missed {
        sqlx::query(OWE).bind(missed.0).execute(connection).await.map_err(failed)?;
    }
    Ok(())
}

impl HotLedger for SqliteWarm {
    fn account(&self) -> TierFuture<'_, HotAccount> {
        Box::pin(async move {
            let query = sqlx::query("SELECT id, epoch, owed FROM hot_ledger");
            let row = query.fetch_one(self.reader().await?).await.map_err(failed)?;
            Ok(HotAccount {
                id: get(&row, "id")?,
                epoch: get::<i64>(&row, "epoch")?.cast_unsigned(),
                owed: get::<Option<i64>>(&row, "owed")?.map(Timestamp),
            })
        })
    }

    fn begin_epoch(&self) -> TierFuture<'_, u64> {
        Box::pin(async move {
            // Not as a statement of its own: its row is there before it is stored, and sqlx asks no further than the row.
            let mut transaction = self.begin().await?;
            let query = sqlx::query_scalar("UPDATE hot_ledger SET epoch = epoch + 1 RETURNING epoch");
            let epoch: i64 = query.fetch_one(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            Ok(epoch.cast_unsigned())
        })
    }

    fn owe(&self) -> TierFuture<'_, ()> {
        Box::pin(async move {
            sqlx::query(OWE).bind(NO_READING.0).execute(self.writer().await?).await.map_err(failed)?;
            Ok(())
        })
    }

    fn settle(&self, until: Timestamp) -> TierFuture<'_, ()> {
        Box::pin(async move {
            let query = sqlx::query("UPDATE hot_ledger SET owed = NULL WHERE owed <= ?").bind(until.0);
            query.execute(self.writer().await?).await.map_err(failed)?;
            Ok(())
        })
    }
}
