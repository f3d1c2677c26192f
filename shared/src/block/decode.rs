//! Reading a block: damage of any kind is an error, never a panic, and allocates no more than its rows.

use super::bits::BitReader;
use super::values::{EXPONENT_MAX, Xor, read_ints};
use super::{
    BLOCK_BYTES_MAX, Before, Block, BlockError, Header, LENGTH_AT, MAGIC, READINGS_MAX, Row, TimeBase, VERSION,
};
use super::{ValueKind, times};
use crate::catalogue::{CatalogueHash, PointNo};
use crate::ids::BootId;
use crate::reading::{Quality, QualityClass, Timestamp, sanitise};

/// What stands before the checksum, once that and the length are right.
fn checked(bytes: &[u8]) -> Result<&[u8], BlockError> {
    match bytes.get(..LENGTH_AT) {
        Some([magic @ .., version]) if magic == MAGIC => {
            if *version != VERSION {
                return Err(BlockError::Version(*version));
            }
        }
        _ => return Err(BlockError::NotABlock),
    }
    let said = match bytes.get(LENGTH_AT..LENGTH_AT + 2) {
        Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
        _ => return Err(BlockError::NotABlock),
    };
    if said != bytes.len() || said > BLOCK_BYTES_MAX {
        return Err(BlockError::Length { said, have: bytes.len() });
    }
    match bytes.split_last_chunk::<4>() {
        Some((body, sum)) if crc32c::crc32c(body) == u32::from_le_bytes(*sum) => Ok(body),
        _ => Err(BlockError::Checksum),
    }
}

fn array<const N: usize>(from: &mut BitReader<'_>) -> Result<[u8; N], BlockError> {
    let mut bytes = [0; N];
    for byte in &mut bytes {
        *byte = from.get(8)? as u8;
    }
    Ok(bytes)
}

fn header<'a>(bytes: &'a [u8]) -> Result<(Header, BitReader<'a>), BlockError> {
    let mut from = BitReader::new(checked(bytes)?.get(LENGTH_AT + 2..).unwrap_or_default());
    let catalogue = CatalogueHash(array(&mut from)?);
    let base = match from.get(8)? {
        0 => TimeBase::Utc,
        1 => TimeBase::SinceBoot(BootId(array(&mut from)?)),
        _ => return Err(BlockError::Damaged("the time base is unknown")),
    };
    let readings = from.bounded(1, READINGS_MAX, "the number of readings is out of range")? as u32;
    let first = i64::from_le_bytes(array(&mut from)?);
    let last = first.wrapping_add(from.varint()? as i64);
    if last < first {
        return Err(BlockError::Damaged("its end is before its start"));
    }
    Ok((Header { catalogue, base, readings, first: Timestamp(first), last: Timestamp(last) }, from))
}

/// Reads what can be known without the rows; magic, version, length and checksum are checked.
///
/// # Errors
/// When the bytes are not exactly one whole block of a known version.
pub fn read_header(bytes: &[u8]) -> Result<Header, BlockError> {
    header(bytes).map(|(header, _)| header)
}

/// Reads a whole block, its rows by point, then time.
///
/// # Errors
/// As [`read_header`], and when the rows contradict the header or themselves. It never panics, and allocates at
/// most for [`READINGS_MAX`] rows whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<Block, BlockError> {
    let (header, mut from) = header(bytes)?;
    let readings = header.readings as usize;
    let columns = times::read(&mut from, header.first.0, readings)?;
    let count = from.bounded(1, readings, "too many columns")?;
    let mut rows = Vec::with_capacity(readings);
    let mut before = Before::default();
    for _ in 0..count {
        read_column(&mut from, &columns, &mut before, readings, &mut rows)?;
    }
    from.expect_end()?;
    let span = rows.iter().map(|row: &Row| row.at).min().zip(rows.iter().map(|row| row.at).max());
    if rows.len() != readings || span != Some((header.first, header.last)) {
        return Err(BlockError::Damaged("the rows are not those of the header"));
    }
    // The order the builder leaves, except for points with two columns and rows pushed out of order.
    if !rows.is_sorted_by_key(|row| (row.point, row.at)) {
        rows.sort_by_key(|row| (row.point, row.at));
    }
    Ok(Block { header, rows })
}

fn unless_expected(from: &mut BitReader<'_>) -> Result<Option<u64>, BlockError> {
    Ok(if from.flag()? { Some(from.varint()?) } else { None })
}

fn read_column(
    from: &mut BitReader<'_>,
    columns: &[Vec<i64>],
    before: &mut Before,
    readings: usize,
    rows: &mut Vec<Row>,
) -> Result<(), BlockError> {
    let kind = ValueKind::of(from.get(2)?);
    if let Some(step) = unless_expected(from)? {
        let point = u32::try_from(step).ok().and_then(|step| before.point.checked_add(step));
        before.point_next = point.ok_or(BlockError::Damaged("a point number is out of range"))?;
    }
    before.point = before.point_next;
    before.point_next = before.point.wrapping_add(1);
    if let Some(times) = unless_expected(from)? {
        before.times = u32::try_from(times).unwrap_or(u32::MAX);
    }
    let times = columns.get(before.times as usize).ok_or(BlockError::Damaged("a timestamp column is missing"))?;
    if let Some(unused) = unless_expected(from)? {
        before.unused = usize::try_from(unused).unwrap_or(usize::MAX);
    }
    let count = times.len().checked_sub(before.unused).filter(|count| (1..=readings - rows.len()).contains(count));
    let count = count.ok_or(BlockError::Damaged("a column has too many or no rows"))?;

    let start = rows.len();
    let point = PointNo(before.point);
    let all_good = !from.flag()?;
    let mut place = 0;
    while place < count {
        let (quality, length) = match all_good {
            true => (Quality::GOOD, count),
            false => (Quality(from.get(8)? as u8), from.bounded(1, count - place, "a quality's run is too long")?),
        };
        let run = &times[place..place + length];
        rows.extend(run.iter().map(|at| Row { point, at: Timestamp(*at), value: None, quality }));
        place += length;
    }
    let has_value = |row: &Row| row.quality.class() != QualityClass::Bad;
    let values = read_values(from, kind, rows[start..].iter().filter(|row| has_value(row)).count(), before)?;
    for (row, value) in rows[start..].iter_mut().filter(|row| has_value(row)).zip(values) {
        row.value = Some(value);
    }
    Ok(())
}

fn read_values(
    from: &mut BitReader<'_>,
    kind: ValueKind,
    count: usize,
    before: &mut Before,
) -> Result<Vec<f64>, BlockError> {
    if (kind == ValueKind::None) != (count == 0) {
        return Err(BlockError::Damaged("values and qualities contradict each other"));
    }
    let mut values = Vec::with_capacity(count);
    match kind {
        ValueKind::None => {}
        ValueKind::Scaled => {
            if from.flag()? {
                before.exponent = from.get(8)? as u8 as i8;
            }
            if before.exponent.unsigned_abs() > EXPONENT_MAX as u8 {
                return Err(BlockError::Damaged("an exponent is out of range"));
            }
            read_ints(from, count, before.exponent, &mut values)?;
        }
        ValueKind::Constant => values.resize(count, f64::from_bits(from.get(64)?)),
        ValueKind::Raw => {
            let mut xor = Xor::default();
            for _ in 0..count {
                values.push(f64::from_bits(xor.read(from)?));
            }
        }
    }
    let clean = |value: &f64| sanitise(Some(*value), Quality::GOOD).0.map(f64::to_bits) == Some(value.to_bits());
    match values.iter().all(clean) {
        true => Ok(values),
        false => Err(BlockError::Damaged("a value is no number")),
    }
}
