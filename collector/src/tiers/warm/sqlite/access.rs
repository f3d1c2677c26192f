//! Users and tokens in SQLite.

use super::rows::get;
use super::{SqliteWarm, broken, failed};
use crate::access::{AccessStore, Hash, PeopleChange, Role, Token, User};
use crate::tiers::{TierError, TierFuture};
use shared::reading::Timestamp;
use sqlx::SqliteConnection;
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

const PUT_USER: &str = "INSERT INTO users (name, role, password, changed) VALUES (?, ?, ?, ?) \
     ON CONFLICT (name) DO UPDATE SET role = excluded.role, password = excluded.password, changed = excluded.changed";
const PUT_TOKEN: &str = "INSERT INTO tokens (name, role, hash, made, ends) VALUES (?, ?, ?, ?, ?) \
     ON CONFLICT (name) DO UPDATE SET role = excluded.role, hash = excluded.hash, made = excluded.made, \
     ends = excluded.ends";

/// Changes who may come in.
pub(super) async fn change(connection: &mut SqliteConnection, changes: &[PeopleChange]) -> Result<(), TierError> {
    for change in changes {
        let query = match change {
            PeopleChange::PutUser(user) => {
                let query = sqlx::query(PUT_USER).bind(&user.name).bind(user.role.as_str());
                query.bind(&user.password.0).bind(user.changed.0)
            }
            PeopleChange::RemoveUser(name) => sqlx::query("DELETE FROM users WHERE name = ?").bind(name),
            PeopleChange::PutToken(token) => {
                let query = sqlx::query(PUT_TOKEN).bind(&token.name).bind(token.role.as_str()).bind(&token.hash);
                query.bind(token.made.0).bind(token.ends.map(|ends| ends.0))
            }
        };
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

impl AccessStore for SqliteWarm {
    fn users(&self) -> TierFuture<'_, Vec<User>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT name, role, password, changed FROM users ORDER BY name");
            query.fetch_all(self.reader().await?).await.map_err(failed)?.iter().map(user).collect()
        })
    }

    fn put_user<'a>(&'a self, user: &'a User) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let mut connection = self.writer().await?.acquire().await.map_err(failed)?;
            change(&mut connection, &[PeopleChange::PutUser(user.clone())]).await
        })
    }

    fn remove_user<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM users WHERE name = ?").bind(name);
            Ok(query.execute(self.writer().await?).await.map_err(failed)?.rows_affected() > 0)
        })
    }

    fn tokens(&self) -> TierFuture<'_, Vec<Token>> {
        Box::pin(async move {
            let query = sqlx::query("SELECT name, role, hash, made, ends FROM tokens ORDER BY name");
            query.fetch_all(self.reader().await?).await.map_err(failed)?.iter().map(token).collect()
        })
    }

    fn put_token<'a>(&'a self, token: &'a Token) -> TierFuture<'a, ()> {
        Box::pin(async move {
            let mut connection = self.writer().await?.acquire().await.map_err(failed)?;
            change(&mut connection, &[PeopleChange::PutToken(token.clone())]).await
        })
    }

    fn remove_token<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool> {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM tokens WHERE name = ?").bind(name);
            Ok(query.execute(self.writer().await?).await.map_err(failed)?.rows_affected() > 0)
        })
    }
}
