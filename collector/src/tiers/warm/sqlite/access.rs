//! Users and tokens in SQLite.

use super::rows::get;
use super::{SqliteWarm, broken, failed};
use crate::access::{AccessStore, Hash, Role, Token, User};
use crate::tiers::{TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::sqlite::SqliteRow;

fn role(row: &SqliteRow) -> Result<Role, TierError> {
    let role: String = get(row, "role")?;
    Role::parse(&role).ok_or_else(|| broken(format!("role '{role}'")))
}

fn user(row: &SqliteRow) -> Result<User, TierError> {
    let (password, changed) = (Hash(get(row, "password")?), Timestamp(get(row, "changed")?));
    Ok(User { name: get(row, "name")?, role: role(row)?, password, changed })
}

fn token(row: &SqliteRow) -> Result<Token, TierError> {
    let (made, ends) = (Timestamp(get(row, "made")?), get::<Option<i64>>(row, "ends")?.map(Timestamp));
    Ok(Token { name: get(row, "name")?, role: role(row)?, hash: get(row, "hash")?, made, ends })
}

impl AccessStore for SqliteWarm {
    fn users(&self) -> TierFuture<'_, Vec<User>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT name, role, password, changed FROM users ORDER BY name");
            query.fetch_all(&self.read).await.map_err(failed)?.iter().map(user).collect()
        })
    }

    fn put_user<'a>(&'a self, user: &'a User) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let sql = "INSERT INTO users (name, role, password, changed) VALUES (?, ?, ?, ?) \
                       ON CONFLICT (name) DO UPDATE SET role = excluded.role, password = excluded.password, \
                       changed = excluded.changed";
            let query = sqlx::query(sql).bind(&user.name).bind(user.role.as_str()).bind(&user.password.0);
            query.bind(user.changed.0).execute(&self.write).await.map_err(failed)?;
            Ok(())
        })
    }

    fn remove_user<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM users WHERE name = ?").bind(name);
            Ok(query.execute(&self.write).await.map_err(failed)?.rows_affected() > 0)
        })
    }

    fn tokens(&self) -> TierFuture<'_, Vec<Token>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT name, role, hash, made, ends FROM tokens ORDER BY name");
            query.fetch_all(&self.read).await.map_err(failed)?.iter().map(token).collect()
        })
    }

    fn put_token<'a>(&'a self, token: &'a Token) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let sql = "INSERT INTO tokens (name, role, hash, made, ends) VALUES (?, ?, ?, ?, ?) \
                       ON CONFLICT (name) DO UPDATE SET role = excluded.role, hash = excluded.hash, \
                       made = excluded.made, ends = excluded.ends";
            let query = sqlx::query(sql).bind(&token.name).bind(token.role.as_str()).bind(&token.hash);
            let query = query.bind(token.made.0).bind(token.ends.map(|ends| ends.0));
            query.execute(&self.write).await.map_err(failed)?;
            Ok(())
        })
    }

    fn remove_token<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM tokens WHERE name = ?").bind(name);
            Ok(query.execute(&self.write).await.map_err(failed)?.rows_affected() > 0)
        })
    }
}
