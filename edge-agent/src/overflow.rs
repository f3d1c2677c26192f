//! What goes first when the disk is too small for an outage.
//!
//! In this order: what a collector has on its own disk already; then the oldest raw readings are thinned to the
//! lowest, highest and last value per interval, which grows from ten minutes to a day; totals, alarms, and bad
//! readings that begin or end a bad stretch stay as they are. Only when that isn't enough, the spool's own rule
//! drops the oldest blocks. What was thinned or dropped becomes a gap.

use crate::catalogues::Catalogues;
use crate::uplink::Delivered;
use shared::block::{self, Block, BlockBuilder, Row, TimeBase};
use shared::catalogue::{Catalogue, CatalogueHash, Class, PointNo};
use shared::ids::Seq;
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::Timestamp;
use shared::spool::{GapReason, Record, Spool, SpoolError, Stored};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The part of the spool's bound above which room is made.
const HIGH_PERCENT: u64 = 85;
/// Blocks that are thinned together.
const BLOCKS_AT_ONCE: usize = 96;
/// Thinning that leaves more than this part of the bytes isn't worth a gap: the next longer interval is tried.
const WORTH_PERCENT: usize = 60;
/// Intervals, microseconds.
const INTERVALS: [i64; 4] = [600_000_000, 3_600_000_000, 6 * 3_600_000_000, 86_400_000_000];

/// What making room did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Relief {
    /// Blocks given up that a collector has stored.
    pub released: u64,
    /// Blocks replaced by thinned ones.
    pub thinned: u64,
    /// Thinned blocks written.
    pub written: u64,
}

/// Makes room, a step at a time, so that nobody waits long for the disk.
#[derive(Debug)]
pub struct Overflow {
    spool: Spool,
    catalogues: Arc<Catalogues>,
    delivered: Arc<Delivered>,
    /// Where the next run begins: what was thinned lies behind it, and comes again only after everything else.
    next: Mutex<Seq>,
}

impl Overflow {
    /// Over a spool, and what collectors have of it.
    #[must_use]
    pub fn new(spool: Spool, catalogues: Arc<Catalogues>, delivered: Arc<Delivered>) -> Self {
        Self { spool, catalogues, delivered, next: Mutex::new(Seq::FIRST) }
    }

    /// Makes room when the spool is nearly full: at most `steps` runs of blocks are thinned. Blocks on the disk.
    ///
    /// # Errors
    /// When the spool can't be read or written.
    pub fn relieve(&self, steps: usize) -> Result<Relief, SpoolError> {
        let mut relief = Relief::default();
        if percent(&self.spool) < HIGH_PERCENT {
            return Ok(relief);
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        relief.released = self.give_up_delivered()?;
        for _ in 0..steps {
            if percent(&self.spool) < HIGH_PERCENT {
                break;
            }
            let run = self.spool.peek(*next, BLOCKS_AT_ONCE, usize::MAX)?;
            let Some(last) = run.last() else {
                *next = Seq::FIRST;
                break;
            };
            *next = last.seq.next();
            thin_run(&self.spool, &self.catalogues, &run, &mut relief)?;
        }
        if relief != Relief::default() {
            metrics::counter!("edge_spool_blocks_thinned_total").increment(relief.thinned);
            tracing::debug!(relief.released, relief.thinned, relief.written, "room was made in the spool");
        }
        Ok(relief)
    }

    fn give_up_delivered(&self) -> Result<u64, SpoolError> {
        let (held, stored) = (self.spool.held(), self.delivered.get());
        let delivered: SeqRanges = stored.iter().flat_map(|range| overlap(&held, range)).collect();
        if !delivered.is_empty() {
            self.spool.release(&delivered)?;
        }
        Ok(delivered.count())
    }
}

fn percent(spool: &Spool) -> u64 {
    let usage = spool.usage();
    usage.bytes * 100 / usage.bytes_max.max(1)
}

fn overlap(held: &SeqRanges, range: SeqRange) -> Vec<SeqRange> {
    let touching = held.iter().filter(|h| h.first <= range.last && h.last >= range.first);
    touching.map(|h| SeqRange::new(h.first.max(range.first), h.last.min(range.last))).collect()
}

/// Replaces a run of blocks by thinned ones, when that is worth it.
fn thin_run(spool: &Spool, catalogues: &Catalogues, run: &[Stored], relief: &mut Relief) -> Result<(), SpoolError> {
    let before: usize = run.iter().map(|stored| stored.record.payload.len()).sum();
    for interval_us in INTERVALS {
        let Some(records) = thinned(catalogues, run, interval_us) else { return Ok(()) };
        let after: usize = records.iter().map(|record| record.payload.len()).sum();
        if after * 100 > before * WORTH_PERCENT {
            continue;
        }
        relief.thinned += run.len() as u64;
        relief.written += records.len() as u64;
        // In this order: after a crash in between some readings are sent twice, which changes nothing.
        spool.append(records)?;
        for range in run.iter().map(|stored| stored.seq).collect::<SeqRanges>().iter() {
            spool.give_up(range, GapReason::Thinned)?;
        }
        return Ok(());
    }
    Ok(())
}

/// The run thinned; `None` when one of its blocks can't be read, which then waits for the spool's own rule.
fn thinned(catalogues: &Catalogues, run: &[Stored], interval_us: i64) -> Option<Vec<Record>> {
    let mut groups: BTreeMap<(CatalogueHash, Option<shared::ids::BootId>), Vec<Row>> = BTreeMap::new();
    let mut known: BTreeMap<CatalogueHash, Catalogue> = BTreeMap::new();
    for stored in run {
        let Block { header, rows } = block::decode(&stored.record.payload).ok()?;
        if let std::collections::btree_map::Entry::Vacant(missing) = known.entry(header.catalogue) {
            missing.insert(Catalogue::from_bytes(&catalogues.bytes(header.catalogue)?).ok()?);
        }
        let boot = if let TimeBase::SinceBoot(boot) = header.base { Some(boot) } else { None };
        groups.entry((header.catalogue, boot)).or_default().extend(rows);
    }
    let mut records = Vec::new();
    for ((hash, boot), rows) in groups {
        let base = boot.map_or(TimeBase::Utc, TimeBase::SinceBoot);
        encode(&known[&hash], base, &thin(rows, &known[&hash], interval_us), &mut records);
    }
    Some(records)
}

fn encode(catalogue: &Catalogue, base: TimeBase, rows: &[Row], to: &mut Vec<Record>) {
    let mut builder = BlockBuilder::new(base);
    let mut cut = |builder: BlockBuilder| {
        if let Some(block) = builder.finish(catalogue.hash()) {
            let span = (base == TimeBase::Utc).then_some((block.header.first, block.header.last));
            to.push(Record { payload: block.bytes, span });
        }
    };
    for row in rows {
        let resolution = catalogue.get(row.point).and_then(|entry| entry.resolution_exp);
        if !builder.push(*row, resolution) {
            cut(std::mem::replace(&mut builder, BlockBuilder::new(base)));
            builder.push(*row, resolution);
        }
    }
    cut(builder);
}

/// Keeps of every raw point and interval the lowest, the highest and the last usable reading, and the first bad one
/// of every bad stretch. Pure.
#[must_use]
pub fn thin(mut rows: Vec<Row>, catalogue: &Catalogue, interval_us: i64) -> Vec<Row> {
    rows.sort_by_key(|row| (row.point, row.at));
    let mut kept = Vec::new();
    let buckets = rows.chunk_by(|a, b| bucket(a, interval_us) == bucket(b, interval_us));
    let mut was_bad: Option<(PointNo, bool)> = None;
    for rows in buckets {
        let Some(first) = rows.first() else { continue };
        let raw = catalogue.get(first.point).is_some_and(|entry| entry.class == Class::Raw);
        if !raw {
            kept.extend_from_slice(rows);
            continue;
        }
        let usable = || rows.iter().filter(|row| row.value.is_some());
        let by = |a: &&Row, b: &&Row| a.value.unwrap_or(0.0).total_cmp(&b.value.unwrap_or(0.0));
        let chosen: Vec<Timestamp> = [usable().min_by(by), usable().max_by(by), usable().next_back()]
            .into_iter()
            .flatten()
            .map(|row| row.at)
            .collect();
        for row in rows {
            let bad = row.value.is_none();
            let turns_bad = bad && was_bad != Some((row.point, true));
            if turns_bad || chosen.contains(&row.at) {
                kept.push(*row);
            }
            was_bad = Some((row.point, bad));
        }
    }
    kept
}

fn bucket(row: &Row, interval_us: i64) -> (PointNo, i64) {
    (row.point, row.at.0.div_euclid(interval_us))
}

#[cfg(test)]
mod tests;
