//! Passwords, as argon2id with the crate's parameters (19 MiB, 2 passes: OWASP's minimum of 2023).

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Argon2, password_hash};
use std::fmt;

/// Shortest and longest password, bytes.
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 10..=200;

/// A password as it is kept: in PHC format.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(pub String);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// Why a password is none.
#[derive(Debug, thiserror::Error)]
pub enum PasswordRefused {
    /// Too short or too long.
    #[error("a password has {} to {} bytes", PASSWORD_BYTES.start(), PASSWORD_BYTES.end())]
    Length,
    /// It can't be hashed.
    #[error("the password can't be hashed: {0}")]
    Hash(password_hash::Error),
}

impl Hash {
    /// Whether it may be a password.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn allows(password: &str) -> Result<(), PasswordRefused> {
        if PASSWORD_BYTES.contains(&password.len()) { Ok(()) } else { Err(PasswordRefused::Length) }
    }

    /// Of a new password. Takes some tens of milliseconds.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn of(password: &str) -> Result<Self, PasswordRefused> {
        Self::allows(password)?;
        let salt = SaltString::generate(&mut OsRng);
        let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(PasswordRefused::Hash)?;
        Ok(Self(hash.to_string()))
    }

    /// Whether it is of this password. Takes some tens of milliseconds.
    #[must_use]
    pub fn is_of(&self, password: &str) -> bool {
        let Ok(hash) = PasswordHash::new(&self.0) else { return false };
        Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
    }
}
