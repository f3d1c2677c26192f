//! A transaction that the warm tier refuses for its content is cut in halves until what it refuses is alone: that is
//! set aside, and the rest is committed. The hot tier got it before; it goes from there first, so that it is settled
//! nowhere while it shows somewhere.

use super::piece::{Content, Piece, compose, late, lost};
use super::{FlushError, Flusher};
use crate::resolve::{Origin, Sorted};
use crate::tiers::{CommitReport, Flush, HotTier as _, HotTurn, Quarantined, StoredReading, StreamSeqs, TierError};
use shared::ids::Seq;
use std::iter::once;
use std::ops::Range;

/// More refused blocks in one transaction, and it is the tier that is broken, not they: all is tried again later.
const POISON_MAX: usize = 64;

/// Halves of a range, the first one on top.
fn halves(stack: &mut Vec<Range<usize>>, range: &Range<usize>) {
    let middle = range.start + range.len() / 2;
    stack.push(middle..range.end);
    stack.push(range.start..middle);
}

impl Flusher {
    /// Commits all pieces; what the tier refuses for its content goes aside.
    pub(super) async fn commit(&self, pieces: &[Piece], turn: HotTurn) -> Result<(), FlushError> {
        let mut stack: Vec<_> = once(0..pieces.len()).collect();
        let mut found = 0;
        while let Some(range) = stack.pop() {
            let part = &pieces[range.clone()];
            match self.warm.commit(Flush { hot: Some(turn), ..compose(part) }).await {
                Ok(report) => {
                    count(part, &report);
                    self.quarantine.count(&report);
                }
                Err(TierError::Broken { .. }) if range.len() > 1 => halves(&mut stack, &range),
                Err(error @ TierError::Broken { .. }) if found < POISON_MAX => {
                    found += 1;
                    for piece in part {
                        self.commit_without_poison(piece, &error, turn).await?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What can be stored of a piece that is refused as a whole.
    async fn commit_without_poison(&self, piece: &Piece, error: &TierError, turn: HotTurn) -> Result<(), FlushError> {
        match &piece.content {
            Content::Rows { origin, bytes, sorted } => {
                self.commit_rows((piece.record, origin), bytes, sorted, (error, turn)).await
            }
            Content::Park(parked) => {
                let (gateway, stream, seq, received) =
                    (parked.gateway.clone(), parked.stream, parked.seq, parked.received);
                self.give_up(&Origin { gateway, stream, seq, received }, &parked.bytes, (error, turn)).await
            }
            Content::Gap(of) => {
                let (gateway, gap) = (&of.gateway, of.gap);
                tracing::error!(%gateway, %error, "the warm tier refuses gap {}-{}; it is dropped", gap.seqs.first, gap.seqs.last);
                metrics::counter!("collector_gaps_dropped_total").increment(1);
                Ok(())
            }
            Content::Lost(..) | Content::Nothing | Content::Fix(..) => Err(FlushError::Io {
                what: "settle a block that is set aside",
                source: std::io::Error::other(error.to_string()),
            }),
        }
    }

    /// Commits the rows that are taken; the others go to quarantine, and the block aside.
    async fn commit_rows(
        &self,
        (record, origin): (Seq, &Origin),
        bytes: &[u8],
        sorted: &Sorted,
        (error, turn): (&TierError, HotTurn),
    ) -> Result<(), FlushError> {
        let mut stack: Vec<_> = once(0..sorted.readings.len()).collect();
        let (mut refused, mut taken) = (Vec::new(), 0);
        while let Some(range) = stack.pop() {
            let readings = sorted.readings[range.clone()].to_vec();
            match self.warm.commit(Flush { readings, hot: Some(turn), ..Flush::default() }).await {
                Ok(_) => taken += range.len(),
                Err(TierError::Broken { .. }) if range.len() > 1 => halves(&mut stack, &range),
                Err(TierError::Broken { why, .. }) => {
                    refused.extend(sorted.readings[range].iter().map(|reading| (*reading, why.clone())));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let turn = self.withdraw(record, refused.iter().map(|(reading, _)| *reading).collect(), turn).await;
        if taken == 0 {
            return self.give_up(origin, bytes, (error, turn)).await;
        }
        let why = format!("the warm tier refuses {} of its readings: {error}", refused.len());
        self.set_aside(&origin.gateway, origin.stream, origin.seq, bytes.to_vec(), why).await?;
        let mut quarantine = sorted.quarantine.clone();
        quarantine.extend(refused.into_iter().map(|(reading, why)| quarantined(origin, &reading, why)));
        let (settled, late) = (vec![settles(origin)], Vec::from_iter(late(origin, sorted)));
        let hot = Some(turn);
        let flush = Flush { settled: settled.clone(), quarantine, late: late.clone(), hot, ..Flush::default() };
        let report = match self.warm.commit(flush).await {
            // It can't even be quarantined; its bytes are kept.
            Err(TierError::Broken { .. }) => self.warm.commit(Flush { settled, late, hot, ..Flush::default() }).await?,
            other => other?,
        };
        self.quarantine.count(&report);
        Ok(())
    }

    /// Takes refused readings out of the hot tier, or has the commit that settles them say that it couldn't be told.
    async fn withdraw(&self, record: Seq, refused: Vec<StoredReading>, turn: HotTurn) -> HotTurn {
        self.followed.refuse(record).await;
        let Some(last) = refused.iter().map(|reading| reading.at).max() else { return turn };
        if self.hot.withdraw(&refused).await.is_ok() {
            return turn;
        }
        let until = last.plus_micros(1);
        self.hot.pass_by(until);
        HotTurn { missed: turn.missed.max(Some(until)), ..turn }
    }

    async fn give_up(
        &self,
        origin: &Origin,
        bytes: &[u8],
        (error, turn): (&TierError, HotTurn),
    ) -> Result<(), FlushError> {
        let why = format!("the warm tier refuses it: {error}");
        self.set_aside(&origin.gateway, origin.stream, origin.seq, bytes.to_vec(), why).await?;
        let (settled, gaps) = (vec![settles(origin)], vec![lost(origin, None)]);
        let flush = Flush { settled, gaps, hot: Some(turn), ..Flush::default() };
        self.warm.commit(flush).await?;
        Ok(())
    }
}

fn settles(origin: &Origin) -> StreamSeqs {
    let seqs = [origin.seq].into_iter().collect();
    StreamSeqs { gateway: origin.gateway.clone(), stream: origin.stream, seqs }
}

fn quarantined(origin: &Origin, reading: &StoredReading, why: String) -> Quarantined {
    Quarantined {
        gateway: origin.gateway.clone(),
        stream: origin.stream,
        seq: origin.seq,
        series: format!("series {}", reading.series),
        at: reading.at,
        held: reading.held,
        reason: format!("refused by the warm tier: {why}"),
        received: origin.received,
    }
}

pub(super) fn count(pieces: &[Piece], report: &CommitReport) {
    metrics::counter!("collector_readings_written_total").increment(report.written);
    metrics::counter!("collector_readings_unchanged_total").increment(report.unchanged);
    for piece in pieces {
        if let Content::Rows { sorted, .. } = &piece.content
            && !sorted.quarantine.is_empty()
        {
            metrics::counter!("collector_readings_quarantined_total").increment(sorted.quarantine.len() as u64);
        }
    }
}
