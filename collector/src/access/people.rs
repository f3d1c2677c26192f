//! Making and changing who may come in, by whoever may: commands of this machine, and admins in the dashboard. Each change
//! is noted in the audit.

use super::{Hash, PeopleChange, Role, TOKEN_PREFIX, Token, User, digest, random};
use crate::tiers::{Audited, Flush, TierError, WarmTier};
use serde_json::json;
use shared::reading::Timestamp;

const NAME_BYTES_MAX: usize = 64;
/// Of users and tokens the audit keeps names only.
const OTHERWISE: &str = "call it otherwise, or nobody knows later who did what";

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// It is none.
    #[error("'{0}' is no name: letters, digits, '-', '_', '.' and '@', at most {NAME_BYTES_MAX} bytes")]
    Name(String),
    /// There is one of that name.
    #[error("there is a {what} '{name}' already; {hint}")]
    There {
        /// User or token.
        what: &'static str,
        /// The name.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// There is none.
    #[error("there is no {what} '{name}'")]
    Unknown {
        /// User or token.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The system has no randomness.
    #[error("{0}")]
    Random(#[from] std::io::Error),
    /// The warm tier can't do it.
    #[error(transparent)]
    Tier(#[from] TierError),
}

/// Changes in the name of `by`.
pub struct People<'a> {
    /// Where they lie.
    pub warm: &'a dyn WarmTier,
    /// Who does it, as far as that is known.
    pub by: &'a str,
    /// The clock.
    pub now: Timestamp,
}

impl People<'_> {
    /// Makes a change and notes it, in one transaction.
    async fn change(&self, change: PeopleChange, did: &str, name: &str, role: Option<Role>) -> Result<(), TierError> {
        let detail = json!({ "did": did, "name": name, "role": role });
        let audit = vec![Audited { at: self.now, who: self.by.into(), what: "access".into(), detail }];
        self.warm.commit(Flush { people: vec![change], audit, ..Flush::default() }).await.map(drop)
    }

    /// The user of that name.
    ///
    /// # Errors
    /// When there is none, or nobody can be looked up.
    pub async fn user(&self, name: &str) -> Result<User, PeopleError> {
        let found = self.warm.access().users().await?.into_iter().find(|user| user.name == name);
        found.ok_or_else(|| PeopleError::Unknown { what: "user", name: name.into() })
    }

    /// Whether a user of that name can be made.
    ///
    /// # Errors
    /// When not.
    pub async fn is_free(&self, name: &str) -> Result<(), PeopleError> {
        check_name(name)?;
        let hint = "set another password or role, or take it away first";
        self.no_user(name, hint).await?;
        // One that was taken back, too: the audit still names it.
        let tokens = self.warm.access().tokens().await?;
        match tokens.into_iter().find(|token| same_name(&token.name, name)) {
            Some(Token { name, .. }) => Err(PeopleError::There { what: "token", name, hint: OTHERWISE }),
            None => Ok(()),
        }
    }

    async fn no_user(&self, name: &str, hint: &'static str) -> Result<(), PeopleError> {
        let users = self.warm.access().users().await?;
        match users.into_iter().find(|user| same_name(&user.name, name)) {
            Some(User { name, .. }) => Err(PeopleError::There { what: "user", name, hint }),
            None => Ok(()),
        }
    }

    /// Makes a user.
    ///
    /// # Errors
    /// When the name is none or taken, or it can't be stored.
    pub async fn add(&self, name: &str, role: Role, password: Hash) -> Result<(), PeopleError> {
        self.is_free(name).await?;
        let user = User { name: name.into(), role, password, changed: self.now };
        Ok(self.change(PeopleChange::PutUser(user), "user added", name, Some(role)).await?)
    }

    /// Sets another password; all sessions of the user end. Gives the user as it is then.
    ///
    /// # Errors
    /// When there is no such user, or it can't be stored.
    pub async fn set_password(&self, name: &str, password: Hash) -> Result<User, PeopleError> {
        let before = self.user(name).await?;
        // Sessions are told apart by it, whatever the clock says.
        let changed = self.now.max(before.changed.plus_micros(1));
        let user = User { password, changed, ..before };
        self.change(PeopleChange::PutUser(user.clone()), "password set", name, None).await?;
        Ok(user)
    }

    /// Sets another role.
    ///
    /// # Errors
    /// When there is no such user, or it can't be stored.
    pub async fn set_role(&self, name: &str, role: Role) -> Result<(), PeopleError> {
        let user = User { role, ..self.user(name).await? };
        Ok(self.change(PeopleChange::PutUser(user), "role set", name, Some(role)).await?)
    }

    /// Takes a user away; all sessions end.
    ///
    /// # Errors
    /// When there is no such user, or it can't be stored.
    pub async fn remove(&self, name: &str) -> Result<(), PeopleError> {
        self.user(name).await?;
        Ok(self.change(PeopleChange::RemoveUser(name.into()), "user removed", name, None).await?)
    }

    /// Makes a token, and gives what programs show: it is kept nowhere.
    ///
    /// # Errors
    /// When the name is none, a user's, or that of a token that holds, or it can't be stored.
    pub async fn make_token(&self, name: &str, role: Role, ends: Option<Timestamp>) -> Result<String, PeopleError> {
        check_name(name)?;
        self.no_user(name, OTHERWISE).await?;
        let holds = |token: &Token| token.ends.is_none_or(|ends| self.now < ends);
        let tokens = self.warm.access().tokens().await?;
        if let Some(Token { name, .. }) = tokens.into_iter().find(|token| same_name(&token.name, name) && holds(token))
        {
            return Err(PeopleError::There { what: "token", name, hint: "take it back first" });
        }
        let secret = format!("{TOKEN_PREFIX}{}", random()?);
        let token = Token { name: name.into(), role, hash: digest(&secret), made: self.now, ends };
        self.change(PeopleChange::PutToken(token), "token made", name, Some(role)).await?;
        Ok(secret)
    }

    /// Takes a token back. It stays in the list: with the last one gone everyone on this machine could do everything again.
    ///
    /// # Errors
    /// When there is no such token, or it can't be stored.
    pub async fn revoke_token(&self, name: &str) -> Result<(), PeopleError> {
        let found = self.warm.access().tokens().await?.into_iter().find(|token| token.name == name);
        let token = found.ok_or_else(|| PeopleError::Unknown { what: "token", name: name.into() })?;
        let over = PeopleChange::PutToken(Token { ends: Some(self.now), ..token });
        Ok(self.change(over, "token taken back", name, None).await?)
    }
}

/// Names that people would take for one.
fn same_name(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn check_name(name: &str) -> Result<(), PeopleError> {
    let fits = |c: char| c.is_alphanumeric() || ['-', '_', '.', '@'].contains(&c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(fits) {
        return Err(PeopleError::Name(name.chars().take(NAME_BYTES_MAX).collect()));
    }
    Ok(())
}
