//! After a start: the spool, and what it says is stored.

use super::intake::OpenGaps;
use super::item::Item;
use super::ledger::Ledger;
use shared::ids::Seq;
use shared::spool::{Options, Spool, SpoolError};
use std::path::Path;

/// Records read at once.
const RECORDS: usize = 1_024;
/// Bytes read at once.
const BYTES: usize = 4 << 20;

/// Opens the spool and reads what it holds. Blocking, and longer the more waits in it.
///
/// # Errors
/// When it is in use, or the disk can't be read.
pub fn open(dir: &Path, options: Options) -> Result<(Spool, Ledger, OpenGaps), SpoolError> {
    let (spool, report) = Spool::open(dir, options)?;
    for path in &report.set_aside {
        tracing::error!(path = %path.display(), "a damaged part of the spool was set aside");
    }
    let (ledger, gaps) = (Ledger::default(), OpenGaps::default());
    let records = read(&spool, &ledger, &gaps)?;
    // Nobody but the gateways knows which of their blocks were in what is lost. They keep what isn't committed, and
    // send what isn't in the ledger again.
    let lost: u64 = spool.gaps().iter().map(|gap| gap.seqs.count()).sum();
    if lost > 0 {
        tracing::error!(lost, "records of the spool are lost; gateways will send them again");
        spool.forget_gaps(&spool.gaps().iter().map(|gap| gap.seqs).collect())?;
    }
    if records > 0 {
        tracing::info!(records, "the spool holds what is not committed yet");
    }
    Ok((spool, ledger, gaps))
}

/// Notes everything that is held; gives how many records there are.
fn read(spool: &Spool, ledger: &Ledger, gaps: &OpenGaps) -> Result<u64, SpoolError> {
    let (mut next, mut count) = (Seq::FIRST, 0);
    loop {
        let records = spool.peek(next, RECORDS, BYTES)?;
        let Some(last) = records.last() else { return Ok(count) };
        next = last.seq.next();
        count += records.len() as u64;
        for stored in &records {
            match Item::from_payload(&stored.record.payload) {
                Ok((Item::Block { gateway, stream, seq, .. }, _)) => {
                    ledger.mark_stored(&gateway, stream, &[seq].into_iter().collect());
                }
                Ok((Item::Gap { gateway, stream, gap }, _)) => {
                    ledger.mark_seen(&gateway, stream, gap.seqs.last);
                    gaps.insert(&gateway, stream, &gap);
                }
                Ok((Item::ClockFix { .. }, _)) | Err(_) => {}
            }
        }
    }
}
