//! Names and numbers that identify things. Newtypes, so that one can't stand in for another.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A block's number in its stream: from 1, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The first number of every stream.
    pub const FIRST: Seq = Seq(1);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A spool's random identity. A spool that was lost or restored from an old image gets a new one,
/// so a (gateway, stream, seq) triple names one block for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[0-9a-f]{16}$"))]
pub struct StreamId(pub u64);

/// One boot of a gateway: the kernel's `boot_id`. Monotonic times are comparable within one boot only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub [u8; 16]);

impl StreamId {
    /// A fresh random identity.
    ///
    /// # Panics
    /// When the operating system has no randomness, as nothing else would be safe then either.
    #[must_use]
    pub fn random() -> Self {
        StreamId(u64::from_le_bytes(random_bytes()))
    }
}

impl BootId {
    /// A random boot identity, where the kernel gives none and in tests.
    #[must_use]
    pub fn random() -> Self {
        BootId(random_bytes())
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; N];
    #[allow(clippy::expect_used)]
    SystemRandom::new().fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Hexadecimal in lower case, for people and for keys in text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes behind `hex`, when there are exactly `N` of them.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

macro_rules! shown_as_hex {
    ($type:ty, $bytes:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let bytes: fn(&$type) -> Vec<u8> = $bytes;
                f.write_str(&hex(&bytes(self)))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
shown_as_hex!(StreamId, |id| id.0.to_be_bytes().to_vec());
shown_as_hex!(BootId, |id| id.0.to_vec());

impl Serialize for StreamId {
    /// The number in formats for programs; hexadecimal in those for people, where a number of 64 bits would be rounded.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(StreamId);
        }
        let text = String::deserialize(deserializer)?;
        let bytes = unhex(&text).ok_or_else(|| serde::de::Error::custom("a stream is 16 hexadecimal digits"))?;
        Ok(StreamId(u64::from_be_bytes(bytes)))
    }
}

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is no valid {what}: 1 to {max} of the characters A-Z a-z 0-9 _ . - are allowed, the first a letter or digit"
)]
pub struct NameError {
    what: &'static str,
    name: String,
    max: usize,
}

/// Longest gateway, node, metric or channel name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    let first_ok = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest_ok = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first_ok && rest_ok && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let shown = name.chars().take(80).collect();
    Err(NameError { what, name: shown, max: NAME_BYTES_MAX })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(
            feature = "openapi",
            derive(utoipa::ToSchema),
            schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
        )]
        pub struct $type(Box<str>);

        impl $type {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// When it is empty, too long, or has other characters than letters, digits and `_ . -`.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check_name($what, name)?;
                Ok(Self(name.into()))
            }
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }
        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.into()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}
name_type!(
    /// A field computer: the common name of its certificate.
    GatewayId, "gateway name"
);
name_type!(
    /// A place in the water network, like `DIST_001`.
    NodeId, "node name"
);
