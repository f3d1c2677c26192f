//! Blocks are cut here: by bytes, by count, by age, and at once when somebody waits. Pure: no clock, no IO.
//!
//! Invariants: within a boot a series' own timestamps strictly increase; a reading whose time isn't known yet
//! goes to a block that counts from the boot, and no block mixes the two.

use crate::sample::{At, Sample};
use shared::block::{BlockBuilder, Encoded, Row, TimeBase};
use shared::catalogue::{Catalogue, PointNo};
use shared::ids::BootId;
use shared::reading::{Quality, Timestamp, sanitise};
use std::collections::{HashMap, HashSet};

/// When blocks are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// By count.
    pub readings_max: usize,
    /// By age of the first reading, microseconds.
    pub age_us_max: i64,
    /// By age when somebody waits, microseconds.
    pub prompt_us_max: i64,
}

/// What is known at the moment a sample arrives.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Microseconds since boot.
    pub now_us: i64,
    /// From there to UTC, when time is trusted.
    pub offset_us: Option<i64>,
    /// Whether our own timestamps are in doubt.
    pub doubtful: bool,
    /// Has every point that samples name.
    pub catalogue: &'a Catalogue,
}

/// What became of a sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    /// It is in a block whose times are UTC: here as it stands there.
    Utc(Row),
    /// It is in a block that counts from the boot.
    SinceBoot,
    /// The same point at the same source timestamp is in the open block already.
    Repeated,
    /// The catalogue doesn't have its point.
    Unknown,
}

/// Collects samples into blocks.
pub struct Batcher {
    limits: Limits,
    utc: Lane,
    since_boot: Lane,
    /// When each point was last read, microseconds since boot.
    last: HashMap<PointNo, i64>,
    cut: Vec<Encoded>,
}

struct Lane {
    base: TimeBase,
    builder: BlockBuilder,
    due_us: i64,
    /// Source timestamps in the open block: a source may come with them in any order, and twice.
    seen: HashSet<(PointNo, Timestamp)>,
}

impl Lane {
    fn new(base: TimeBase) -> Self {
        Self { base, builder: BlockBuilder::new(base), due_us: i64::MAX, seen: HashSet::new() }
    }

    fn cut(&mut self, catalogue: &Catalogue, to: &mut Vec<Encoded>) {
        let full = std::mem::replace(&mut self.builder, BlockBuilder::new(self.base));
        to.extend(full.finish(catalogue.hash()));
        self.seen.clear();
        self.due_us = i64::MAX;
    }
}

impl Batcher {
    /// Nothing collected yet.
    #[must_use]
    pub fn new(limits: Limits, boot: BootId) -> Self {
        let (utc, since_boot) = (Lane::new(TimeBase::Utc), Lane::new(TimeBase::SinceBoot(boot)));
        Self { limits, utc, since_boot, last: HashMap::new(), cut: Vec::new() }
    }

    /// Takes one sample.
    pub fn add(&mut self, sample: &Sample, moment: Moment<'_>) -> Outcome {
        let Some(entry) = moment.catalogue.get(sample.point) else { return Outcome::Unknown };
        let (value, mut quality) = sanitise(sample.value, sample.quality);
        let point = sample.point;
        let (lane, at) = match sample.at {
            At::Utc(at) => {
                if !self.utc.seen.insert((point, at)) {
                    return Outcome::Repeated;
                }
                (&mut self.utc, at)
            }
            At::Mono(at) => {
                // Two polls never share a moment; where a source says they do, the later one moves on by as little
                // as there is. The offset never changes, so what increases here increases in UTC.
                let last = self.last.entry(point).or_insert(i64::MIN);
                *last = at.max(last.saturating_add(1));
                if moment.doubtful && quality == Quality::GOOD {
                    quality = Quality::UNCERTAIN_CLOCK;
                }
                match moment.offset_us {
                    Some(offset) => (&mut self.utc, Timestamp(last.saturating_add(offset))),
                    None => (&mut self.since_boot, Timestamp(*last)),
                }
            }
        };
        let row = Row { point, at, value, quality };
        if !lane.builder.push(row, entry.resolution_exp) {
            lane.cut(moment.catalogue, &mut self.cut);
            if let At::Utc(at) = sample.at {
                lane.seen.insert((point, at));
            }
            lane.builder.push(row, entry.resolution_exp);
        }
        lane.due_us = lane.due_us.min(moment.now_us.saturating_add(self.limits.age_us_max));
        if lane.builder.len() >= self.limits.readings_max {
            lane.cut(moment.catalogue, &mut self.cut);
        }
        if lane.base == TimeBase::Utc { Outcome::Utc(row) } else { Outcome::SinceBoot }
    }

    /// Somebody waits for what was added so far.
    pub fn hurry(&mut self, now_us: i64) {
        let soon = now_us.saturating_add(self.limits.prompt_us_max);
        for lane in [&mut self.utc, &mut self.since_boot] {
            if !lane.builder.is_empty() {
                lane.due_us = lane.due_us.min(soon);
            }
        }
    }

    /// When the next block must be cut, microseconds since boot.
    #[must_use]
    pub fn due_us(&self) -> Option<i64> {
        Some(self.utc.due_us.min(self.since_boot.due_us)).filter(|due| *due < i64::MAX)
    }

    /// Cuts everything.
    pub fn cut_all(&mut self, catalogue: &Catalogue) {
        self.utc.cut(catalogue, &mut self.cut);
        self.since_boot.cut(catalogue, &mut self.cut);
    }

    /// The blocks cut since the last call.
    pub fn take(&mut self) -> Vec<Encoded> {
        std::mem::take(&mut self.cut)
    }

    /// Whether readings wait in an open block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.utc.builder.is_empty() && self.since_boot.builder.is_empty()
    }
}

#[cfg(test)]
mod tests;
