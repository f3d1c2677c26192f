//! Building a block. Every push adds up the bits at most needed, so that a block that took a row always fits.

use super::bits::{BitWriter, Code, Sink, varint_bits};
use super::times::Times;
use super::values::{EXPONENT_MAX, Floats, IntPlan, Ints, scale, write_ints};
use super::{BLOCK_BYTES_MAX, Encoded, Header, LENGTH_AT, MAGIC, READINGS_MAX, Row, TimeBase, VERSION, ValueKind};
use crate::catalogue::{CatalogueHash, PointNo};
use crate::reading::{Quality, Timestamp, sanitise};
use bytes::Bytes;
use std::collections::HashMap;

/// More than stands before and after the columns: header with boot id, checksum, counts, the last byte's fill.
const FRAME_BITS_MAX: u64 = 8 * (4 + 2 + 16 + 17 + 3 + 10 + 10 + 4) + 4 + 24 + 24 + 8;
/// More than a point's column costs beside the step to its number, its qualities and its values: kind; whether
/// the step is unusual; timestamp column; timestamps unused; whether any is not good; exponent; plan.
const COLUMN_BITS_MAX: u64 = 2 + 1 + (1 + 24) + (1 + 24) + 1 + (1 + 8) + (1 + Code::BITS as u64);
/// More than a run of one quality costs.
const QUALITY_RUN_BITS_MAX: u64 = 8 + 24;

enum Values {
    Scaled(i8, Ints),
    Raw(Floats),
}

struct Column {
    point: PointNo,
    times: u32,
    count: usize,
    qualities: Vec<(Quality, usize)>,
    values: Values,
}

impl Column {
    fn quality_bits(&self, next: Quality) -> u64 {
        match self.qualities.as_slice() {
            [] if next == Quality::GOOD => 0,
            [] => QUALITY_RUN_BITS_MAX,
            [.., (last, _)] if *last == next => 0,
            [_] => 2 * QUALITY_RUN_BITS_MAX, // a first run of good ones was free until now
            _ => QUALITY_RUN_BITS_MAX,
        }
    }

    fn add_quality(&mut self, next: Quality) {
        match self.qualities.last_mut() {
            Some((last, length)) if *last == next => *length += 1,
            _ => self.qualities.push((next, 1)),
        }
    }
}

/// Gathers rows until they fill a block.
///
/// Rows may come in any order; a point's rows take least when they come in the order of time.
pub struct BlockBuilder {
    base: TimeBase,
    columns: Vec<Column>,
    /// By point and the exponent its values are scaled by: a value out of a scaled column's range goes to a raw
    /// column beside it.
    by_point: HashMap<(PointNo, Option<i8>), usize>,
    times: Times,
    readings: usize,
    bits: u64,
    span: Option<(i64, i64)>,
}

impl BlockBuilder {
    /// An empty block whose timestamps count from `base`.
    #[must_use]
    pub fn new(base: TimeBase) -> Self {
        Self {
            base,
            columns: Vec::new(),
            by_point: HashMap::new(),
            times: Times::default(),
            readings: 0,
            bits: FRAME_BITS_MAX,
            span: None,
        }
    }

    /// How many readings it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.readings
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readings == 0
    }

    /// Takes a row; `false` when it doesn't fit, then nothing has changed: cut the block and push again into a
    /// new one, where any row fits.
    ///
    /// The value is rounded to a multiple of 10^`resolution_exp` in the canonical unit; with `None` every bit is
    /// kept, and so it is where the multiple would be beyond 2^50. Value and quality are made consistent first
    /// ([`sanitise`]).
    pub fn push(&mut self, row: Row, resolution_exp: Option<i8>) -> bool {
        if self.readings == READINGS_MAX {
            return false;
        }
        let (value, quality) = sanitise(row.value, row.quality);
        let exponent = resolution_exp.filter(|exponent| exponent.unsigned_abs() <= EXPONENT_MAX as u8);
        let multiple = value.zip(exponent).and_then(|(value, exponent)| scale(value, exponent));
        let key = (row.point, exponent.filter(|_| value.is_none() || multiple.is_some()));
        let known = self.by_point.get(&key).copied();

        let from = known.map(|place| (self.columns[place].times, self.columns[place].count));
        let at = self.times.locate(from, row.at.0);
        let place = known.unwrap_or_else(|| {
            let values = match key.1 {
                Some(exponent) => Values::Scaled(exponent, Ints::default()),
                None => Values::Raw(Floats::default()),
            };
            self.columns.push(Column { point: row.point, times: 0, count: 0, qualities: Vec::new(), values });
            self.columns.len() - 1
        });
        let column = &mut self.columns[place];
        let own = if known.is_none() { COLUMN_BITS_MAX + varint_bits(u64::from(row.point.0)) } else { 0 };
        let mut bits = self.bits + own + column.quality_bits(quality) + at.bits_taken - at.bits_freed;
        // Each arm: the bits the value adds, and how to take it.
        let taken = match (&mut column.values, value, multiple) {
            (Values::Scaled(_, ints), Some(_), Some(multiple)) => {
                let with = ints.with(multiple);
                bits = bits + with.1 - ints.bits;
                let fits = bits <= BLOCK_BYTES_MAX as u64 * 8;
                if fits {
                    ints.push(multiple, with);
                }
                fits
            }
            (Values::Raw(floats), Some(value), _) => {
                let with = floats.with(value);
                bits += with.1 - floats.bits;
                let fits = bits <= BLOCK_BYTES_MAX as u64 * 8;
                if fits {
                    floats.push(value, with);
                }
                fits
            }
            _ => bits <= BLOCK_BYTES_MAX as u64 * 8,
        };
        if !taken {
            if known.is_none() {
                self.columns.pop();
            }
            return false;
        }
        column.add_quality(quality);
        column.count += 1;
        column.times = self.times.take(at, row.at.0);
        if known.is_none() {
            self.by_point.insert(key, place);
        }
        self.bits = bits;
        self.readings += 1;
        let (first, last) = self.span.unwrap_or((row.at.0, row.at.0));
        self.span = Some((first.min(row.at.0), last.max(row.at.0)));
        true
    }

    /// The block, at most [`BLOCK_BYTES_MAX`] bytes; `None` when it has no rows.
    #[must_use]
    pub fn finish(mut self, catalogue: CatalogueHash) -> Option<Encoded> {
        let (first, last) = self.span?;
        let header = Header {
            catalogue,
            base: self.base,
            readings: self.readings as u32,
            first: Timestamp(first),
            last: Timestamp(last),
        };
        let mut out = BitWriter::default();
        out.bytes(MAGIC);
        out.bytes(&[VERSION, 0, 0]); // the length comes when it is known
        out.bytes(&catalogue.0);
        match self.base {
            TimeBase::Utc => out.bytes(&[0]),
            TimeBase::SinceBoot(boot) => {
                out.bytes(&[1]);
                out.bytes(&boot.0);
            }
        }
        out.varint(self.readings as u64);
        out.bytes(&first.to_le_bytes());
        out.varint(last.wrapping_sub(first) as u64);

        self.times.write(first, &mut out);
        self.columns.sort_by_key(|column| column.point);
        out.varint(self.columns.len() as u64);
        let mut before = super::Before::default();
        for column in &self.columns {
            write_column(column, &self.times, &mut before, &mut out);
        }
        let mut bytes = out.into_bytes();
        let length = bytes.len() + 4;
        debug_assert!(length <= BLOCK_BYTES_MAX);
        bytes[LENGTH_AT..LENGTH_AT + 2].copy_from_slice(&(length as u16).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        Some(Encoded { header, bytes: Bytes::from(bytes) })
    }
}

/// A field that is mostly the expected one: one bit, and the field only when it is another.
fn unless_expected(expected: bool, value: u64, out: &mut BitWriter) {
    out.put(u64::from(!expected), 1);
    if !expected {
        out.varint(value);
    }
}

fn write_column(column: &Column, times: &Times, before: &mut super::Before, out: &mut BitWriter) {
    // What is cheapest for the values: scaled as asked, raw, or raw ones that turn out to be decimals.
    let decimals = match &column.values {
        Values::Raw(floats) => floats.as_decimals().map(|(exponent, ints)| {
            let (plan, bits) = IntPlan::fit(&ints, true);
            (exponent, ints, plan, bits)
        }),
        Values::Scaled(..) => None,
    };
    let decimals = decimals.filter(|(.., bits)| bits + 8 < column.value_bits());
    let scaled = match (&column.values, &decimals) {
        (Values::Scaled(exponent, ints), _) => ints.best_plan().map(|plan| (*exponent, &ints.values, plan)),
        (_, Some((exponent, ints, plan, _))) => Some((*exponent, ints, *plan)),
        _ => None,
    };
    let raw: &[f64] = match &column.values {
        Values::Raw(floats) => &floats.values,
        Values::Scaled(..) => &[],
    };
    let kind = match scaled {
        Some(_) => ValueKind::Scaled,
        None if raw.is_empty() => ValueKind::None,
        None if raw.iter().all(|value| *value == raw[0]) => ValueKind::Constant,
        None => ValueKind::Raw,
    };
    out.put(kind as u64, 2);
    unless_expected(column.point.0 == before.point_next, u64::from(column.point.0 - before.point), out);
    (before.point, before.point_next) = (column.point.0, column.point.0.wrapping_add(1));
    unless_expected(column.times == before.times, u64::from(column.times), out);
    before.times = column.times;
    let unused = times.len_of(column.times) - column.count;
    unless_expected(unused == before.unused, unused as u64, out);
    before.unused = unused;

    let all_good = column.qualities.iter().all(|(quality, _)| *quality == Quality::GOOD);
    out.put(u64::from(!all_good), 1);
    if !all_good {
        for (quality, length) in &column.qualities {
            out.put(u64::from(quality.0), 8);
            out.varint(*length as u64);
        }
    }
    match (kind, scaled) {
        (ValueKind::Scaled, Some((exponent, values, plan))) => {
            out.put(u64::from(exponent != before.exponent), 1);
            if exponent != before.exponent {
                out.put(u64::from(exponent as u8), 8);
            }
            before.exponent = exponent;
            write_ints(values, &plan, out);
        }
        (ValueKind::Constant, _) => out.put(raw[0].to_bits(), 64),
        (ValueKind::Raw, _) => {
            let mut xor = super::values::Xor::default();
            raw.iter().for_each(|value| xor.write(value.to_bits(), out));
        }
        _ => {}
    }
}

impl Column {
    fn value_bits(&self) -> u64 {
        match &self.values {
            Values::Scaled(_, ints) => ints.bits,
            Values::Raw(floats) => floats.bits,
        }
    }
}
