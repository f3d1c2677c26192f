//! What becomes of each reading: stored, set aside, or refused, by the rules that hold for gateways and for files.

use super::NO_STREAM;
use super::rows;
use super::store::Rejected;
use super::take::{Inbox, Source};
use crate::import::{Batch, Named};
use crate::resolve;
use crate::standing::{Moments, Standing};
use crate::tiers::{LateHour, Quarantined, SeriesId, StoredReading, TierError};
use shared::catalogue::Entry;
use shared::ids::{GatewayId, Seq};
use std::sync::PoisonError;

/// Characters of a reason that are kept.
const REASON: usize = 300;

/// Of a series that is there: how often values come, the longest silence, milliseconds, and the resolution's exponent.
pub(super) type Rhythm = (u32, u32, Option<i8>);

/// Readings and what isn't one.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) readings: Vec<StoredReading>,
    pub(super) quarantine: Vec<Quarantined>,
    pub(super) rejected: Vec<Rejected>,
    /// How many of the readings came late, if any.
    pub(super) late: Option<Vec<LateHour>>,
}

impl Inbox {
    /// Looks up how often values of series come.
    pub(super) async fn learn_rhythms(&self) -> Result<(), TierError> {
        let all = self.warm.series(None).await?.into_iter();
        let rhythm = |s: &crate::tiers::SeriesInfo| (s.interval_ms, s.silence_ms_max, s.resolution_exp);
        *self.rhythms.lock().unwrap_or_else(PoisonError::into_inner) =
            all.map(|series| (series.key.clone(), rhythm(&series))).collect();
        Ok(())
    }

    pub(super) async fn sort(&self, source: &Source, batch: Batch) -> Result<Sorted, TierError> {
        let (now, latest) = ((self.now)(), self.latest());
        let series = self.series(&source.name, &batch).await?;
        let placed = batch.points.iter().filter_map(|point| Some((*series[point.series].as_ref().ok()?, point.at)));
        let mut moments = Moments::of(&*self.warm, self.cold.as_deref(), placed).await?;
        let (in_time, mut late) = (self.timely.in_time(now), Vec::new());
        let mut sorted = Sorted::default();
        let reject = |reason: &str, text: String| Rejected {
            source: source.name.clone(),
            at: now,
            reason: reason.chars().take(REASON).collect(),
            text,
        };
        for point in &batch.points {
            let key = &batch.series[point.series].key;
            let why = match &series[point.series] {
                Ok(_) if point.at > latest => resolve::FUTURE.to_owned(),
                Err(why) => why.clone(),
                Ok(id) => {
                    match moments.take(*id, point.at, point.held) {
                        Ok(Standing::New) => {
                            sorted.readings.push(StoredReading { series: *id, at: point.at, held: point.held });
                            // A higher revision corrects what may have come in time.
                            if point.at < in_time && point.held.revision == 0 && !source.is_history {
                                resolve::note_late(&mut late, *id, point.at);
                            }
                        }
                        Ok(Standing::Same) => {}
                        Err(why) => {
                            let value = point.held.value.map_or_else(String::new, |value| value.to_string());
                            sorted.rejected.push(reject(&why, format!("{},{key},{value}", point.at)));
                        }
                    }
                    continue;
                }
            };
            sorted.quarantine.push(Quarantined {
                gateway: source.name.clone(),
                stream: NO_STREAM,
                seq: Seq(0),
                series: key.to_string(),
                at: point.at,
                held: point.held,
                reason: why,
                received: now,
            });
        }
        sorted.late = Some(late).filter(|late| !late.is_empty());
        sorted.rejected.extend(batch.rejects.into_iter().map(|one| {
            let reason = rows::reason(source.name.as_str(), &one);
            reject(&reason, one.text)
        }));
        Ok(sorted)
    }

    /// The number of each series, or why the source may not write it: as for a gateway.
    async fn series(&self, source: &GatewayId, batch: &Batch) -> Result<Vec<Result<SeriesId, String>>, TierError> {
        let entries: Vec<Entry> =
            batch.series.iter().enumerate().map(|(n, named)| self.entry(named, batch.interval_ms(n))).collect();
        let refused: Vec<_> = entries.iter().map(|entry| resolve::refusal(&self.grants, source, entry)).collect();
        let granted: Vec<Entry> =
            entries.into_iter().zip(&refused).filter(|(_, why)| why.is_none()).map(|(entry, _)| entry).collect();
        if granted.is_empty() {
            return Ok(refused.into_iter().map(|why| Err(why.unwrap_or_default())).collect());
        }
        let mut numbers = resolve::numbers(&*self.warm, &self.grants, source, &granted).await?.into_iter();
        let number = |why: Option<String>| match why {
            Some(why) => Err(why),
            None => numbers.next().map_or_else(
                || Err("the warm tier gave it no number".to_owned()),
                |number| number.map_err(|refused| refused.to_string()),
            ),
        };
        Ok(refused.into_iter().map(number).collect())
    }

    /// A series that is there stays as it is: rows that come in small pieces say little about how often they come.
    fn entry(&self, named: &Named, interval_ms: u32) -> Entry {
        let entry = named.entry(interval_ms);
        let mut rhythms = self.rhythms.lock().unwrap_or_else(PoisonError::into_inner);
        let rhythm = rhythms.entry(named.key.clone()).or_insert((interval_ms, 0, None));
        if rhythm.0 == 0 {
            rhythm.0 = interval_ms; // nobody knew
        }
        let (interval_ms, silence_ms_max, resolution_exp) = *rhythm;
        Entry { interval_ms, silence_ms_max, resolution_exp, ..entry }
    }
}
