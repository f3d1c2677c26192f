//! What collectors agree on about the hot tier, in PostgreSQL.

use super::PostgresWarm;
use super::fault::{Failure, failed};
use super::rows::get;
use crate::tiers::hot::ledger::NO_READING;
use crate::tiers::{HotAccount, HotLedger, HotTurn, TierFuture};
use shared::reading::Timestamp;
use sqlx::{Executor as _, PgConnection, Row as _};

/// Shared by commits, until they end. Not a lock of the row: those who share it could keep out forever who wants it alone.
const SHARE: &str = "SELECT pg_advisory_xact_lock_shared(7305, 1); SELECT epoch FROM hot_ledger";
const ALONE: &str = "SELECT pg_advisory_xact_lock(7305, 1)";

/// More than was owed: who settles that mustn't settle this.
const OWE: &str = "UPDATE hot_ledger SET owed = greatest(owed + 1, $1)";

/// First of all in a transaction that stores readings: no epoch begins before it ends. The lock and the look are two
/// statements, the second of which sees what was committed while the first waited.
pub(super) async fn stay_in_epoch(connection: &mut PgConnection, turn: Option<HotTurn>) -> Result<(), Failure> {
    if turn.is_none() {
        return Ok(());
    }
    let rows = connection.fetch_all(sqlx::raw_sql(SHARE)).await?;
    let epoch: i64 = rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get("epoch")?;
    Ok(HotTurn::check(turn, epoch.cast_unsigned())?)
}

/// Last in it: the row is everybody's.
pub(super) async fn owe(connection: &mut PgConnection, turn: Option<HotTurn>) -> Result<(), Failure> {
    if let Some(missed) = turn.and_then(|turn| turn.missed) {
        sqlx::query(OWE).bind(missed.0).execute(connection).await?;
    }
    Ok(())
}

impl PostgresWarm {
    async fn new_epoch(&self) -> Result<u64, Failure> {
        let mut transaction = self.begin().await?;
        transaction.execute(ALONE).await?;
        let query = sqlx::query_scalar("UPDATE hot_ledger SET epoch = epoch + 1 RETURNING epoch");
        let epoch: i64 = query.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        self.tell_replica().await;
        Ok(epoch.cast_unsigned())
    }
}

impl HotLedger for PostgresWarm {
    fn account(&self) -> TierFuture<'_, HotAccount> {
        self.soon(Box::pin(async move {
            let query = sqlx::query("SELECT id, epoch, owed FROM hot_ledger");
            let row = query.fetch_one(&mut *self.primary().await?).await.map_err(failed)?;
            Ok(HotAccount {
                id: get(&row, "id")?,
                epoch: get::<i64>(&row, "epoch")?.cast_unsigned(),
                owed: get::<Option<i64>>(&row, "owed")?.map(Timestamp),
            })
        }))
    }

    fn begin_epoch(&self) -> TierFuture<'_, u64> {
        Box::pin(self.again(|| self.new_epoch()))
    }

    fn owe(&self) -> TierFuture<'_, ()> {
        self.soon(Box::pin(async move {
            let query = sqlx::query(OWE).bind(NO_READING.0);
            query.execute(&mut *self.writer().await?).await.map_err(failed)?;
            Ok(())
        }))
    }

    fn settle(&self, until: Timestamp) -> TierFuture<'_, ()> {
        self.soon(Box::pin(async move {
            let query = sqlx::query("UPDATE hot_ledger SET owed = NULL WHERE owed <= $1").bind(until.0);
            query.execute(&mut *self.writer().await?).await.map_err(failed)?;
            Ok(())
        }))
    }
}
