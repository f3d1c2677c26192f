//! Timestamp columns, each shared by all points that were read at the same moments.
//!
//! They form a tree: a column starts anew or forks from an earlier one after some common timestamps, so that a
//! point which missed one reading doesn't repeat all the others.

use super::BlockError;
use super::bits::{BitReader, BitWriter, Code, Sink, unzigzag, varint_bits, zigzag};
use std::collections::HashMap;

/// Steps are counted in units of up to 10^this microseconds.
const UNIT_EXPONENT_MAX: u8 = 10;
const UNIT_BITS: u32 = 4;

fn unit(exponent: u8) -> i64 {
    10i64.pow(u32::from(exponent.min(15)))
}

fn divisible(micros: i64, exponent: u8) -> bool {
    micros % unit(exponent) == 0
}

/// How steps are written: in units, by what they are off from the usual step.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepPlan {
    exponent: u8,
    step: i64,
    code: Code,
}

impl StepPlan {
    fn fit(steps: &[i64], packed: bool) -> (StepPlan, u64) {
        let divides = |exponent: &u8| steps.iter().all(|step| divisible(*step, *exponent));
        let exponent = (1..=UNIT_EXPONENT_MAX).rev().find(divides).unwrap_or(0);
        let mut sorted: Vec<i64> = steps.iter().map(|step| step / unit(exponent)).collect();
        let middle = sorted.len() / 2;
        let step = if sorted.is_empty() { 0 } else { *sorted.select_nth_unstable(middle).1 };
        let mut plan = StepPlan { exponent, step, code: Code::ZEROS };
        let residuals: Vec<u64> = steps.iter().map(|step| plan.residual(*step)).collect();
        let (code, bits) = Code::best(&residuals, packed);
        plan.code = code;
        (plan, bits + varint_bits(zigzag(step)))
    }

    fn residual(&self, step: i64) -> u64 {
        zigzag((step / unit(self.exponent)).wrapping_sub(self.step))
    }
}

struct Column {
    parent: Option<(u32, usize)>, // and how many timestamps are the parent's
    times: Vec<i64>,
    plan: Option<StepPlan>,
    bits: u64,
}

impl Column {
    fn steps(&self) -> Vec<i64> {
        let own = self.parent.map_or(1, |(_, common)| common);
        let before = self.times.get(own - 1..).unwrap_or_default();
        let after = self.times.get(own..).unwrap_or_default();
        before.iter().zip(after).map(|(before, after)| after.wrapping_sub(*before)).collect()
    }

    /// Never dearer than the plan that the bits were counted by while it was built.
    fn best_plan(&self, steps: &[i64]) -> StepPlan {
        let (fitted, bits) = StepPlan::fit(steps, true);
        self.plan.filter(|_| self.bits < bits).unwrap_or(fitted)
    }

    fn with(&self, at: i64) -> (StepPlan, u64) {
        let step = at.wrapping_sub(self.times.last().copied().unwrap_or(at));
        if let Some(plan) = self.plan
            && divisible(step, plan.exponent)
            && plan.code.takes(plan.residual(step))
            && !self.times.len().is_power_of_two()
        {
            return (plan, self.bits + plan.code.cost(plan.residual(step)));
        }
        let mut steps = self.steps();
        steps.push(step);
        StepPlan::fit(&steps, false)
    }
}

/// What all columns together take.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Totals {
    starts: u64,
    forks: u64,
    stepped: u64, // columns with steps
    step_bits: u64,
    longest: usize,
}

impl Totals {
    /// Bits at most, when all timestamps lie within `span` microseconds.
    pub(super) fn bits_max(&self, span: u64) -> u64 {
        let columns = self.starts + self.forks;
        let (number, count) = (varint_bits(columns), self.count_bits());
        let starts = self.starts * varint_bits(span);
        let forks = self.forks * (number + count);
        let steps = self.stepped * u64::from(UNIT_BITS + Code::BITS) + self.step_bits;
        u64::from(UNIT_BITS) + number + columns * (1 + count) + starts + forks + steps
    }

    /// Bits that a number of timestamps of one column takes at most.
    pub(super) fn count_bits(&self) -> u64 {
        varint_bits(self.longest as u64)
    }

    /// Bits that the number of a column takes at most.
    pub(super) fn number_bits(&self) -> u64 {
        varint_bits(self.starts + self.forks)
    }
}

/// Where a point's next timestamp goes.
pub(super) struct Place {
    kind: Kind,
    /// The number of its column.
    pub(super) number: u32,
    /// What all columns take then.
    pub(super) totals: Totals,
}

enum Kind {
    Follow,
    Append(StepPlan, u64),
    Fork { from: Option<(u32, usize)>, plan: Option<StepPlan>, bits: u64 },
}

/// The timestamp columns of a block that is being built.
#[derive(Default)]
pub(super) struct Times {
    columns: Vec<Column>,
    forks: HashMap<(Option<(u32, usize)>, i64), u32>,
    totals: Totals,
}

impl Times {
    /// The place of a timestamp for a point that stands at `from` (column, timestamps used), `None` at its first.
    pub(super) fn locate(&self, from: Option<(u32, usize)>, at: i64) -> Place {
        let follow = |number| Place { kind: Kind::Follow, number, totals: self.totals };
        if let Some((number, used)) = from {
            let column = &self.columns[number as usize];
            match column.times.get(used) {
                Some(next) if *next == at => return follow(number),
                Some(_) => {}
                None => return self.append(number, column, at),
            }
        }
        match self.forks.get(&(from, at)) {
            Some(number) => follow(*number),
            None => self.fork(from, at),
        }
    }

    fn append(&self, number: u32, column: &Column, at: i64) -> Place {
        let (plan, bits) = column.with(at);
        let mut totals = self.totals;
        totals.stepped += u64::from(column.plan.is_none());
        totals.step_bits = totals.step_bits - column.bits + bits;
        totals.longest = totals.longest.max(column.times.len() + 1);
        Place { kind: Kind::Append(plan, bits), number, totals }
    }

    fn fork(&self, from: Option<(u32, usize)>, at: i64) -> Place {
        let mut totals = self.totals;
        let (plan, bits) = match from {
            None => {
                totals.starts += 1;
                (None, 0)
            }
            Some((number, used)) => {
                totals.forks += 1;
                totals.stepped += 1;
                let before = self.columns[number as usize].times[used - 1];
                let (plan, bits) = StepPlan::fit(&[at.wrapping_sub(before)], false);
                (Some(plan), bits)
            }
        };
        totals.step_bits += bits;
        totals.longest = totals.longest.max(from.map_or(0, |(_, used)| used) + 1);
        Place { kind: Kind::Fork { from, plan, bits }, number: self.columns.len() as u32, totals }
    }

    /// Puts the timestamp there.
    pub(super) fn take(&mut self, place: Place, at: i64) {
        self.totals = place.totals;
        match place.kind {
            Kind::Follow => {}
            Kind::Append(plan, bits) => {
                let column = &mut self.columns[place.number as usize];
                column.times.push(at);
                column.plan = Some(plan);
                column.bits = bits;
            }
            Kind::Fork { from, plan, bits } => {
                let mut times = match from {
                    Some((parent, common)) => self.columns[parent as usize].times[..common].to_vec(),
                    None => Vec::new(),
                };
                times.push(at);
                self.columns.push(Column { parent: from, times, plan, bits });
                self.forks.insert((from, at), place.number);
            }
        }
    }

    /// How many timestamps a column has.
    pub(super) fn len_of(&self, number: u32) -> usize {
        self.columns[number as usize].times.len()
    }

    pub(super) fn write(&self, first: i64, out: &mut BitWriter) {
        let starts =
            || self.columns.iter().filter(|c| c.parent.is_none()).map(|c| c.times[0].wrapping_sub(first) as u64);
        let divides = |exponent: &u8| starts().all(|start| start % unit(*exponent) as u64 == 0);
        let exponent = (1..=UNIT_EXPONENT_MAX).rev().find(divides).unwrap_or(0);
        out.put(u64::from(exponent), UNIT_BITS);
        out.varint(self.columns.len() as u64);
        for column in &self.columns {
            out.put(u64::from(column.parent.is_some()), 1);
            match column.parent {
                Some((parent, common)) => {
                    out.varint(u64::from(parent));
                    out.varint(common as u64);
                }
                None => out.varint(column.times[0].wrapping_sub(first) as u64 / unit(exponent) as u64),
            }
            let steps = column.steps();
            out.varint(steps.len() as u64);
            if steps.is_empty() {
                continue;
            }
            let plan = column.best_plan(&steps);
            out.put(u64::from(plan.exponent), UNIT_BITS);
            out.varint(zigzag(plan.step));
            out.put(plan.code.number(), Code::BITS);
            steps.iter().for_each(|step| plan.code.write(plan.residual(*step), out));
        }
    }
}

/// All timestamp columns, which together have at most `most` timestamps: each is used to its end by a point of
/// its own, so more can't be right.
pub(super) fn read(from: &mut BitReader<'_>, first: i64, most: usize) -> Result<Vec<Vec<i64>>, BlockError> {
    let start_unit = unit(from.get(UNIT_BITS)? as u8);
    let count = from.bounded(1, most, "too many timestamp columns")?;
    let mut columns: Vec<Vec<i64>> = Vec::new();
    let mut left = most;
    for _ in 0..count {
        let mut times = if from.flag()? {
            let parent = from.varint()?;
            let parent = usize::try_from(parent).ok().and_then(|parent| columns.get(parent));
            let parent = parent.ok_or(BlockError::Damaged("a timestamp column has no parent"))?;
            let common = from.bounded(1, parent.len().min(left), "a timestamp column has too much in common")?;
            parent[..common].to_vec()
        } else {
            vec![first.wrapping_add((from.varint()? as i64).wrapping_mul(start_unit))]
        };
        let own = from.bounded(0, left.saturating_sub(times.len()), "too many timestamps")?;
        left = left.checked_sub(times.len() + own).ok_or(BlockError::Damaged("too many timestamps"))?;
        if own > 0 {
            let unit = unit(from.get(UNIT_BITS)? as u8);
            let usual = unzigzag(from.varint()?);
            let code = Code::read_number(from)?;
            let mut at = times[times.len() - 1];
            for _ in 0..own {
                let step = unzigzag(code.read(from)?).wrapping_add(usual);
                at = at.wrapping_add(step.wrapping_mul(unit));
                times.push(at);
            }
        }
        columns.push(times);
    }
    Ok(columns)
}
