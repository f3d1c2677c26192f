//! Users and tokens in PostgreSQL.

use super::PostgresWarm;
use super::fault::{Failure, failed};
use super::rows::{get, strange};
use crate::access::{AccessStore, Hash, PeopleChange, Role, Token, User};
use crate::tiers::{TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::PgConnection;
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

const PUT_USER: &str = "INSERT INTO users (name, role, password, changed) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (name) DO UPDATE SET role = excluded.role, password = excluded.password, changed = excluded.changed";
const PUT_TOKEN: &str = "INSERT INTO tokens (name, role, hash, made, ends) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (name) DO UPDATE SET role = excluded.role, hash = excluded.hash, made = excluded.made, \
     ends = excluded.ends";

/// Changes who may come in.
pub(super) async fn change(connection: &mut PgConnection, changes: &[PeopleChange]) -> Result<(), Failure> {
    for change in changes {
        let query = match change {
            PeopleChange::PutUser(user) => {
                let query = sqlx::query(PUT_USER).bind(&user.name).bind(user.role.as_str());
                query.bind(&user.password.0).bind(user.changed.0)
            }
            PeopleChange::RemoveUser(name) => sqlx::query("DELETE FROM users WHERE name = $1").bind(name),
            PeopleChange::PutToken(token) => {
                let query = sqlx::query(PUT_TOKEN).bind(&token.name).bind(token.role.as_str()).bind(&token.hash);
                query.bind(token.made.0).bind(token.ends.map(|ends| ends.0))
            }
        };
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

impl AccessStore for PostgresWarm {
    fn users(&self) -> TierFuture<'_, Vec<User>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT name, role, password, changed FROM users ORDER BY name");
            query.fetch_all(&mut *self.primary().await?).await.map_err(failed)?.iter().map(user).collect()
        })
    }

    fn put_user<'a>(&'a self, user: &'a User) -> TierFuture<'a, ()> {
        Box::pin(async move { Ok(change(&mut *self.writer().await?, &[PeopleChange::PutUser(user.clone())]).await?) })
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
        Box::pin(async move { Ok(change(&mut *self.writer().await?, &[PeopleChange::PutToken(token.clone())]).await?) })
    }

    fn remove_token<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM tokens WHERE name = $1").bind(name);
            Ok(query.execute(&mut *self.writer().await?).await.map_err(failed)?.rows_affected() > 0)
        })
    }
}
