//! Building a block. Every push counts what the block takes at most, so that a block that took a row always fits.

use super::bits::{BitWriter, Code, Sink, varint_bits};
use super::times::{Times, Totals};
use super::values::{EXPONENT_MAX, Floats, IntPlan, Ints, Xor, scale, write_ints};
use super::{BLOCK_BYTES_MAX, Encoded, Header, LENGTH_AT, MAGIC, READINGS_MAX, Row, TimeBase, VERSION, ValueKind};
use crate::catalogue::{CatalogueHash, PointNo};
use crate::reading::{Quality, Timestamp, sanitise};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};

/// More than stands before and after the columns: header with boot id, checksum, the last byte's fill.
const FRAME_BITS_MAX: u64 = 8 * (4 + 2 + 16 + 17 + 3 + 8 + 10 + 4) + 8;
/// What every column takes: kind; whether its point, its timestamp column, the timestamps it leaves unused and its
/// exponent are the expected ones; whether all are good.
const COLUMN_BITS: u64 = 2 + 1 + 1 + 1 + 1 + 1;
/// How a column with more than one integer has them.
const PLAN_BITS: u64 = 1 + Code::BITS as u64;

enum Values {
    Scaled(i8, Ints),
    Raw(Floats),
}

/// What a column says that the next one mostly repeats.
#[derive(Clone, Copy)]
struct Said {
    point: u32,
    times: u32,
    count: usize,
    /// `None` where it shows only in the end.
    exponent: Option<i8>,
}

struct Column {
    said: Said,
    qualities: Vec<(Quality, usize)>,
    values: Values,
    /// The neighbours in the order of points.
    before: Option<usize>,
    after: Option<usize>,
}

impl Column {
    fn new(point: PointNo, exponent: Option<i8>) -> Self {
        let values = match exponent {
            Some(exponent) => Values::Scaled(exponent, Ints::default()),
            None => Values::Raw(Floats::default()),
        };
        let said = Said { point: point.0, times: 0, count: 0, exponent };
        Self { said, qualities: Vec::new(), values, before: None, after: None }
    }

    /// Runs of qualities that are written more than now, when this comes next.
    fn runs_more(&self, next: Quality) -> u64 {
        match self.qualities.as_slice() {
            [] => u64::from(next != Quality::GOOD),
            [.., (last, _)] if *last == next => 0,
            [(Quality::GOOD, _)] => 2, // a run of good ones alone is free
            _ => 1,
        }
    }

    fn add_quality(&mut self, next: Quality) {
        match self.qualities.last_mut() {
            Some((last, length)) if *last == next => *length += 1,
            _ => self.qualities.push((next, 1)),
        }
    }

    fn value_bits(&self) -> u64 {
        match &self.values {
            Values::Scaled(_, ints) => ints.bits + plan_bits(ints.values.len()),
            Values::Raw(floats) => floats.bits,
        }
    }

    /// What the column takes with one more value, if there is one.
    fn with(&mut self, value: Option<f64>, multiple: Option<i64>) -> Next {
        let now = self.value_bits();
        match (&mut self.values, value, multiple) {
            (Values::Scaled(_, ints), Some(_), Some(multiple)) => {
                Next::Int(multiple, ints.with(multiple), plan_bits(ints.values.len() + 1))
            }
            (Values::Raw(floats), Some(value), _) => Next::Float(value, floats.with(value)),
            _ => Next::None(now),
        }
    }

    fn take(&mut self, next: Next) {
        match (&mut self.values, next) {
            (Values::Scaled(_, ints), Next::Int(multiple, with, _)) => ints.push(multiple, with),
            (Values::Raw(floats), Next::Float(value, with)) => floats.push(value, with),
            _ => {}
        }
    }
}

fn plan_bits(values: usize) -> u64 {
    if values > 1 { PLAN_BITS } else { 0 }
}

/// A value on its way into a column, with the bits of all values then.
enum Next {
    None(u64),
    Int(i64, (IntPlan, u64), u64),
    Float(f64, (Xor, u64)),
}

impl Next {
    fn value_bits(&self) -> u64 {
        match self {
            Next::None(bits) | Next::Float(_, (_, bits)) => *bits,
            Next::Int(_, (_, bits), plan) => bits + plan,
        }
    }
}

/// What the value columns take, counted so that one more row changes it in few steps. What depends on the largest
/// count or number in the block is kept as how often that is written.
#[derive(Clone, Copy, Default)]
struct Needs {
    columns: u64,
    value_bits: u64,
    step_bits: u64, // of points that are not the next
    runs: u64,
    times: u64,
    unused: u64,
    exponents: u64,
}

impl Needs {
    fn bits_max(&self, times: &Totals) -> u64 {
        varint_bits(self.columns)
            + self.columns * COLUMN_BITS
            + self.value_bits
            + self.step_bits
            + self.runs * (8 + times.count_bits())
            + self.times * times.number_bits()
            + self.unused * times.count_bits()
            + self.exponents * 8
    }

    /// What a column writes because it differs from the one before. A column without values writes no exponent, but
    /// leaving columns out of a row never makes it change more often.
    fn between(before: Option<Said>, next: Said) -> Self {
        let first = Said { point: u32::MAX, times: 0, count: usize::MAX, exponent: Some(0) };
        let last = before.unwrap_or(first);
        let step = next.point - before.map_or(0, |before| before.point);
        Self {
            step_bits: if next.point == last.point.wrapping_add(1) { 0 } else { varint_bits(u64::from(step)) },
            times: u64::from(next.times != last.times),
            unused: u64::from((next.times, next.count) != (last.times, last.count)),
            exponents: u64::from(next.exponent.is_none() || next.exponent != last.exponent),
            ..Self::default()
        }
    }

    fn link(&mut self, before: Option<Said>, next: Option<Said>) {
        let Some(more) = next.map(|next| Self::between(before, next)) else { return };
        self.step_bits += more.step_bits;
        self.times += more.times;
        self.unused += more.unused;
        self.exponents += more.exponents;
    }

    fn unlink(&mut self, before: Option<Said>, next: Option<Said>) {
        let Some(less) = next.map(|next| Self::between(before, next)) else { return };
        self.step_bits -= less.step_bits;
        self.times -= less.times;
        self.unused -= less.unused;
        self.exponents -= less.exponents;
    }

    /// Between two neighbours, `new` takes the place of `old`, or comes where nothing was.
    fn replace(&mut self, old: Option<Said>, new: Said, (before, after): (Option<Said>, Option<Said>)) {
        match old {
            Some(old) => {
                self.unlink(before, Some(old));
                self.unlink(Some(old), after);
            }
            None => self.unlink(before, after),
        }
        self.link(before, Some(new));
        self.link(Some(new), after);
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
    /// Point and place of all columns.
    order: BTreeSet<(u32, usize)>,
    times: Times,
    readings: usize,
    needs: Needs,
    /// What all of it takes at most.
    pub(super) bits_max: u64,
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
            order: BTreeSet::new(),
            times: Times::default(),
            readings: 0,
            needs: Needs::default(),
            bits_max: FRAME_BITS_MAX,
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
        let place = known.unwrap_or_else(|| self.add_column(row.point, key.1));
        let old = known.map(|place| self.columns[place].said);
        let at = self.times.locate(old.map(|old| (old.times, old.count)), row.at.0);
        let (first, last) = self.span.unwrap_or((row.at.0, row.at.0));
        let span = (first.min(row.at.0), last.max(row.at.0));

        let column = &self.columns[place];
        let said = Said { times: at.number, count: column.said.count + 1, ..column.said };
        let said_at = |place: Option<usize>| place.map(|place| self.columns[place].said);
        let mut needs = self.needs;
        needs.columns += u64::from(known.is_none());
        needs.runs += column.runs_more(quality);
        needs.replace(old, said, (said_at(column.before), said_at(column.after)));
        let next = self.columns[place].with(value, multiple);
        needs.value_bits = needs.value_bits - self.columns[place].value_bits() + next.value_bits();
        let span_us = span.1.wrapping_sub(span.0) as u64;
        let bits = FRAME_BITS_MAX + needs.bits_max(&at.totals) + at.totals.bits_max(span_us);
        if bits > BLOCK_BYTES_MAX as u64 * 8 {
            if known.is_none() {
                self.columns.pop();
            }
            return false;
        }
        if known.is_none() {
            self.link_column(place);
            self.by_point.insert(key, place);
        }
        let column = &mut self.columns[place];
        column.said = said;
        column.add_quality(quality);
        column.take(next);
        self.times.take(at, row.at.0);
        self.needs = needs;
        self.bits_max = bits;
        self.readings += 1;
        self.span = Some(span);
        true
    }

    /// The place of a new column; its neighbours don't know of it yet.
    fn add_column(&mut self, point: PointNo, exponent: Option<i8>) -> usize {
        let here = (point.0, usize::MAX);
        let mut column = Column::new(point, exponent);
        column.before = self.order.range(..here).next_back().map(|(_, place)| *place);
        column.after = self.order.range(here..).next().map(|(_, place)| *place);
        self.columns.push(column);
        self.columns.len() - 1
    }

    fn link_column(&mut self, place: usize) {
        let Column { said, before, after, .. } = self.columns[place];
        self.order.insert((said.point, place));
        if let Some(before) = before {
            self.columns[before].after = Some(place);
        }
        if let Some(after) = after {
            self.columns[after].before = Some(place);
        }
    }

    /// The block, at most [`BLOCK_BYTES_MAX`] bytes; `None` when it has no rows.
    #[must_use]
    pub fn finish(self, catalogue: CatalogueHash) -> Option<Encoded> {
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

        out.varint(self.columns.len() as u64);
        let mut before = super::Before::default();
        for (_, place) in &self.order {
            write_column(&self.columns[*place], &self.times, &mut before, &mut out);
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
    let Said { point, times: column_times, count, .. } = column.said;
    unless_expected(point == before.point_next, u64::from(point - before.point), out);
    (before.point, before.point_next) = (point, point.wrapping_add(1));
    unless_expected(column_times == before.times, u64::from(column_times), out);
    before.times = column_times;
    let unused = times.len_of(column_times) - count;
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
            let mut xor = Xor::default();
            raw.iter().for_each(|value| xor.write(value.to_bits(), out));
        }
        _ => {}
    }
}
