//! What is kept of users and tokens.

use super::{Hash, Principal, Role, Way};
use crate::tiers::TierFuture;
use serde::Serialize;
use shared::reading::Timestamp;
use utoipa::ToSchema;

/// A person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct User {
    /// The name.
    pub name: String,
    /// What may be done.
    pub role: Role,
    /// The password.
    #[serde(skip)]
    pub password: Hash,
    /// When the password was set: sessions of an earlier one are over.
    pub changed: Timestamp,
}

impl User {
    /// Who it is, once logged in.
    pub(super) fn in_session(&self) -> Principal {
        Principal { name: self.name.clone(), role: self.role, way: Way::Session }
    }
}

/// A program's key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Token {
    /// The name.
    pub name: String,
    /// What may be done.
    pub role: Role,
    /// SHA-256 of it.
    #[serde(skip)]
    pub hash: String,
    /// Since when.
    pub made: Timestamp,
    /// Until when.
    pub ends: Option<Timestamp>,
}

/// A change of who may come in; stored by [`crate::tiers::WarmTier::commit`], together with its note in the audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeopleChange {
    /// Makes a user, or changes the one of that name.
    PutUser(User),
    /// Takes away the user of that name.
    RemoveUser(String),
    /// Makes a token, or replaces the one of that name.
    PutToken(Token),
}

/// Where they lie.
pub trait AccessStore: Send + Sync + 'static {
    /// All users, by name.
    fn users(&self) -> TierFuture<'_, Vec<User>>;
    /// Makes a user, or changes the one of that name.
    fn put_user<'a>(&'a self, user: &'a User) -> TierFuture<'a, ()>;
    /// Takes one away; whether it was there.
    fn remove_user<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool>;
    /// All tokens, by name.
    fn tokens(&self) -> TierFuture<'_, Vec<Token>>;
    /// Makes a token, or replaces the one of that name.
    fn put_token<'a>(&'a self, token: &'a Token) -> TierFuture<'a, ()>;
    /// Takes one away; whether it was there.
    fn remove_token<'a>(&'a self, name: &'a str) -> TierFuture<'a, bool>;
}
