//! Users and tokens in PostgreSQL.

use super::PostgresWarm;
use super::fault::failed;
use super::rows::{get, strange};
use crate::access::{AccessStore, Hash, Role, Token, User};
use crate::tiers::{TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::postgres::PgRow;

fn role(row: &PgRow) -> Result<Role, TierError> {
    let role: String = get(row, "role")?;
    Role::parse(&role).ok_or_else(|| strange(format!("role '{role}'")))
}

fn user(row: &PgRow) -> Result<User, TierError> {
    let (password, changed) = (Hash(get(row, "password")?), Timestamp(get(row, "changed")?));
    Ok(User { name: get(row, "name")?, role: role(row)?, password, changed })
}

fn token(row: &PgRow) -> Result<Token, TierError> {
    let (made, ends) = (Timestamp(get(row, "made")?), get::<Option<i64>>(row, "ends")?.map(Timestamp));
    Ok(Token { name: get(row, "name")?, role: role(row)?, hash: get(row, "hash")?, made, ends })
}

impl AccessStore for PostgresWarm {
    fn users(&self) -> TierFuture<'_, Vec<User>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT name, role, password, changed FROM users ORDER BY name");
            query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?.iter().map(user).collect()
        })
    }

    fn put_user<'a>(&'a self, user: &'a User) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let sql = "INSERT INTO users (name, role, password, changed) VALUES ($1, $2, $3, $4) \
                       ON CONFLICT (name) DO UPDATE SET role = excluded.role, password = excluded.password, \
                       changed = excluded.changed";
            let query = sqlx::query(sql).bind(&user.name).bind(user.role.as_str()).bind(&user.password.0);
            query.bind(user.changed.0).execute(&mut *self.writer().await?).await.map_err(failed)?;
            Ok(())
        })
    }

    fn remove_user<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM users WHERE name = $1").bind(name);
            Ok(query.execute(&mut *self.writer().await?).await.map_err(failed)?.rows_affected() > 0)
        })
    }

    fn tokens(&self) -> TierFuture<'_, Vec<Token>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT name, role, hash, made, ends FROM tokens ORDER BY name");
            query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?.iter().map(token).collect()
        })
    }

    fn put_token<'a>(&'a self, token: &'a Token) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let sql = "INSERT INTO tokens (name, role, hash, made, ends) VALUES ($1, $2, $3, $4, $5) \
                       ON CONFLICT (name) DO UPDATE SET role = excluded.role, hash = excluded.hash, \
                       made = excluded.made, ends = excluded.ends";
            let query = sqlx::query(sql).bind(&token.name).bind(token.role.as_str()).bind(&token.hash);
            let query = query.bind(token.made.0).bind(token.ends.map(|ends| ends.0));
            query.execute(&mut *self.writer().await?).await.map_err(failed)?;
            Ok(())
        })
    }

    fn remove_token<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM tokens WHERE name = $1").bind(name);
            Ok(query.execute(&mut *self.writer().await?).await.map_err(failed)?.rows_affected() > 0)
        })
    }
}
