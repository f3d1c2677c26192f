//! A gateway's table: small number → node, metric, channel, kind, unit, resolution, interval, maximum silence.
//!
//! Invariants: a catalogue is immutable and known by the hash of its bytes; a point's number is its place in
//! the list; a longer catalogue of one run starts with the same entries, so that numbers stay good while points
//! are discovered. Layout of the bytes: one version byte (1), then postcard of the entries.

use crate::ids::{NodeId, hex};
use crate::metric::Kind;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most points a gateway may have.
pub const POINTS_MAX: usize = 10_000;
const VERSION: u8 = 1;

/// A point's number: its place in the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PointNo(pub u32);

/// The first 16 bytes of the SHA-256 of a catalogue's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CatalogueHash(pub [u8; 16]);

impl fmt::Display for CatalogueHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}
impl fmt::Debug for CatalogueHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is kept longest when the spool overflows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Thinned first.
    #[default]
    Raw,
    /// Totals: kept.
    Total,
    /// Alarms: kept.
    Alarm,
}

/// One configured measurement, as the collector must know it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is measured.
    pub node: NodeId,
    /// What is measured: a name of [`crate::metric::METRICS`].
    pub metric: String,
    /// Tells two of a kind apart; empty by default.
    pub channel: String,
    /// Gauge, counter or state.
    pub kind: Kind,
    /// The canonical unit.
    pub unit: String,
    /// Smallest step worth keeping, in the canonical unit: a decimal exponent, -2 for 0.01. `None`: all bits.
    pub resolution_exp: Option<i8>,
    /// Time between readings, milliseconds; 0 when the sensor decides.
    pub interval_ms: u32,
    /// With report by exception: an unchanged value is sent after this long, milliseconds; 0 when it is off.
    pub silence_ms_max: u32,
    /// What the overflow policy does with it.
    pub class: Class,
}

/// The table, with its hash.
#[derive(Clone, PartialEq, Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
    hash: CatalogueHash,
}

/// Why bytes are no catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Written by a newer program.
    #[error("catalogue version {0} is not known, this program reads version {VERSION}")]
    Version(u8),
    /// Not what postcard writes.
    #[error("catalogue bytes are damaged")]
    Damaged,
    /// More points than allowed.
    #[error("catalogue has {0} points, at most {POINTS_MAX} are allowed")]
    TooLong(usize),
}

impl Catalogue {
    /// The catalogue of these entries.
    ///
    /// # Errors
    /// With more than [`POINTS_MAX`] entries.
    pub fn new(entries: Vec<Entry>) -> Result<Self, CatalogueError> {
        if entries.len() > POINTS_MAX {
            return Err(CatalogueError::TooLong(entries.len()));
        }
        let hash = hash_of(&encode(&entries));
        Ok(Self { entries, hash })
    }

    /// Reads the bytes of [`Catalogue::to_bytes`].
    ///
    /// # Errors
    /// When they are not exactly those of a catalogue.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CatalogueError> {
        match bytes.split_first() {
            Some((&VERSION, body)) => {
                let (entries, rest) =
                    postcard::take_from_bytes::<Vec<Entry>>(body).map_err(|_| CatalogueError::Damaged)?;
                if !rest.is_empty() {
                    return Err(CatalogueError::Damaged);
                }
                Self::new(entries)
            }
            Some((&version, _)) => Err(CatalogueError::Version(version)),
            None => Err(CatalogueError::Damaged),
        }
    }

    /// The bytes that are sent, kept and hashed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&self.entries)
    }

    /// Its name.
    #[must_use]
    pub fn hash(&self) -> CatalogueHash {
        self.hash
    }

    /// The entry of a point.
    #[must_use]
    pub fn get(&self, point: PointNo) -> Option<&Entry> {
        self.entries.get(point.0 as usize)
    }

    /// All entries; the place is the point's number.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    #[allow(clippy::expect_used)]
    let body = postcard::to_stdvec(entries).expect("plain data always encodes");
    [&[VERSION], body.as_slice()].concat()
}

fn hash_of(bytes: &[u8]) -> CatalogueHash {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest.as_ref()[..16]);
    CatalogueHash(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Catalogue {
        Catalogue::new(vec![Entry {
            node: NodeId::new("DIST_001").unwrap(),
            metric: "flow_rate".into(),
            channel: "inlet".into(),
            kind: Kind::Gauge,
            unit: "L/s".into(),
            resolution_exp: Some(-2),
            interval_ms: 10_000,
            silence_ms_max: 600_000,
            class: Class::Raw,
        }])
        .unwrap()
    }

    #[test]
    fn bytes_are_golden() {
        // Worked out by hand from the postcard specification, not taken from our own output.
        let golden = "010108444953545f30303109666c6f775f7261746505696e6c657400034c2f7301fe904ec0cf2400";
        assert_eq!(hex(&example().to_bytes()), golden);
        assert_eq!(Catalogue::from_bytes(&example().to_bytes()), Ok(example()));
    }

    #[test]
    fn every_truncation_and_every_extension_is_refused() {
        let bytes = example().to_bytes();
        for end in 0..bytes.len() {
            assert!(Catalogue::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(Catalogue::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
}
