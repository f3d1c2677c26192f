//! How readings lie in Redis. Pure.
//!
//! A series' readings of one hour are one string of records of [`WIDTH`] bytes, in the order they came: microseconds
//! since the hour began (u32), the bits of the value (f64, NaN for none), quality (u8); numbers little-endian. An hour
//! has 3.6 × 10⁹ microseconds, so larger offsets are free: [`REVISION`] says that the eight bytes after it are the
//! revision of the next record. Sensors' readings have revision 0 and go without.
//!
//! A newest value is [`NEWEST`] bytes that sort by time, then by the rule of conflicts ([`Held::contest`]), so that a
//! script can tell which of two is the newer by comparing six big-endian numbers of 32 bits.

use crate::tiers::{SeriesId, StoredReading};
use shared::reading::{Held, Quality, Timestamp};

/// Bytes of a record.
pub(super) const WIDTH: usize = 13;
/// Bytes of a newest value.
pub(super) const NEWEST: usize = 24;
/// An hour in microseconds.
pub(super) const HOUR: i64 = 3_600_000_000;
const REVISION: u32 = u32::MAX;

/// The hour a moment lies in, counted from 1970.
pub(super) fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(HOUR)
}

/// The records of a reading, behind those of its hour.
pub(super) fn push(out: &mut Vec<u8>, reading: &StoredReading) {
    let Held { value, quality, revision } = reading.held;
    if revision != 0 {
        record(out, REVISION, u64::from(revision), 0);
    }
    let offset = reading.at.0.rem_euclid(HOUR) as u32; // below 3.6e9
    record(out, offset, value.unwrap_or(f64::NAN).to_bits(), quality.0);
}

fn record(out: &mut Vec<u8>, offset: u32, eight: u64, quality: u8) {
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&eight.to_le_bytes());
    out.push(quality);
}

/// The readings of an hour, as they came. `None`: these bytes are none of ours.
pub(super) fn read(series: SeriesId, hour: i64, bytes: &[u8], out: &mut Vec<StoredReading>) -> Option<()> {
    let mut revision = 0;
    let (records, rest) = bytes.as_chunks::<WIDTH>();
    for record in records {
        let offset = u32::from_le_bytes(record[..4].try_into().ok()?);
        let eight = u64::from_le_bytes(record[4..12].try_into().ok()?);
        if offset == REVISION {
            revision = u32::try_from(eight).ok()?;
            continue;
        }
        if i64::from(offset) >= HOUR {
            return None;
        }
        let value = Some(f64::from_bits(eight)).filter(|v| !v.is_nan());
        let held = Held { value, quality: Quality(record[12]), revision };
        revision = 0;
        out.push(StoredReading { series, at: Timestamp(hour * HOUR + i64::from(offset)), held });
    }
    (rest.is_empty() && revision == 0).then_some(())
}

/// Ascending, and one for each moment: the one that wins.
pub(super) fn settle(readings: &mut Vec<StoredReading>) {
    readings.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| b.held.contest(&a.held)));
    readings.dedup_by_key(|r| r.at);
}

/// A newest value.
pub(super) fn newest(reading: &StoredReading) -> [u8; NEWEST] {
    let Held { value, quality, revision } = reading.held;
    let mut key = [0; NEWEST];
    key[..8].copy_from_slice(&(reading.at.0.cast_unsigned() ^ SIGN).to_be_bytes());
    key[8..12].copy_from_slice(&revision.to_be_bytes());
    key[12] = quality.class().rank();
    key[13] = u8::MAX - quality.0;
    key[14] = u8::from(value.is_some());
    key[16..].copy_from_slice(&ordered(value.unwrap_or(0.0)).to_be_bytes());
    key
}

/// Reads a newest value. `None`: it is none of ours.
pub(super) fn from_newest(series: SeriesId, key: &[u8]) -> Option<StoredReading> {
    let key: &[u8; NEWEST] = key.try_into().ok()?;
    let at = u64::from_be_bytes(key[..8].try_into().ok()?) ^ SIGN;
    let value = disordered(u64::from_be_bytes(key[16..].try_into().ok()?));
    let held = Held {
        value: (key[14] == 1).then_some(value),
        quality: Quality(u8::MAX - key[13]),
        revision: u32::from_be_bytes(key[8..12].try_into().ok()?),
    };
    Some(StoredReading { series, at: Timestamp(at.cast_signed()), held })
}

const SIGN: u64 = 1 << 63;

/// A number whose order is that of [`f64::total_cmp`].
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn disordered(ordered: u64) -> f64 {
    f64::from_bits(if ordered & SIGN == 0 { !ordered } else { ordered & !SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::reading::sanitise;

    fn reading() -> impl Strategy<Value = StoredReading> {
        let value = prop_oneof![Just(None), Just(Some(0.0)), any::<f64>().prop_map(Some)];
        let revision = prop_oneof![Just(0u32), Just(1), any::<u32>()];
        (0..10 * HOUR, value, any::<u8>(), revision).prop_map(|(at, value, quality, revision)| {
            let (value, quality) = sanitise(value, Quality(quality));
            StoredReading { series: SeriesId(3), at: Timestamp(at), held: Held { value, quality, revision } }
        })
    }

    proptest! {
        #[test]
        fn readings_come_back_to_the_microsecond(readings in prop::collection::vec(reading(), 0..20)) {
            for reading in &readings {
                let (mut bytes, mut back) = (Vec::new(), Vec::new());
                push(&mut bytes, reading);
                prop_assert_eq!(bytes.len(), if reading.held.revision == 0 { WIDTH } else { 2 * WIDTH });
                read(reading.series, hour_of(reading.at), &bytes, &mut back).unwrap();
                prop_assert_eq!(&back, &[*reading]);
                prop_assert_eq!(from_newest(reading.series, &newest(reading)), Some(*reading));
            }
        }

        #[test]
        fn newest_values_sort_by_time_and_then_by_the_rule(a in reading(), b in reading(), same_time: bool) {
            let b = if same_time { StoredReading { at: a.at, ..b } } else { b };
            let expected = a.at.cmp(&b.at).then(a.held.contest(&b.held));
            prop_assert_eq!(newest(&a).cmp(&newest(&b)), expected);
        }
    }

    #[test]
    fn bytes_of_others_are_refused() {
        let mut out = Vec::new();
        assert_eq!(read(SeriesId(1), 0, &[0; WIDTH + 1], &mut out), None);
        assert_eq!(read(SeriesId(1), 0, &[0xfe; WIDTH], &mut out), None, "no such microsecond");
        let mut half = Vec::new();
        record(&mut half, REVISION, 7, 0);
        assert_eq!(read(SeriesId(1), 0, &half, &mut out), None, "a revision of nothing");
        assert_eq!(from_newest(SeriesId(1), b"short"), None);
    }
}
