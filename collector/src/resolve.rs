//! From a block's rows to readings of series: grants, series numbers, clock fixes, and what is set apart.

use crate::grants::Grants;
use crate::tiers::{
    Bucket, LateHour, Quarantined, SeriesId, SeriesKey, SeriesRefused, StoredReading, TierError, WarmTier,
};
use shared::block::Row;
use shared::catalogue::{Catalogue, CatalogueHash, Entry};
use shared::ids::{GatewayId, Seq, StreamId};
use shared::reading::{Held, Timestamp, micros, sanitise};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most catalogues in memory, all gateways together.
const CACHED_MAX: usize = 512;
/// Longest metric, channel or unit: a database indexes names, and one too long for that would stop all the others.
const TEXT_BYTES_MAX: usize = 256;
/// How the reason begins for which readings of a node go to quarantine that their gateway may not write.
pub(crate) const NOT_GRANTED: &str = "not granted: ";
/// The reason for which readings go to quarantine that are too far ahead of this machine's clock.
pub(crate) const FUTURE: &str = "future";
/// A refusal is asked about again after this: series change hands.
const REFUSAL_AGE_MAX: Duration = Duration::from_secs(60);

/// Where a point's readings go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Into this series.
    Series(SeriesId),
    /// Into quarantine, for this reason.
    Refused(String),
}

/// Where the readings of a catalogue's points go, in its order.
#[derive(Debug)]
pub struct Targets {
    targets: Vec<Target>,
    good_until: Option<Instant>,
}

/// The series of every catalogue in use.
#[derive(Debug, Default)]
pub struct Resolver {
    cached: Mutex<HashMap<(GatewayId, CatalogueHash), Arc<Targets>>>,
}

/// Which block, and when it came.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who sent it.
    pub gateway: GatewayId,
    /// In which stream.
    pub stream: StreamId,
    /// Which block.
    pub seq: Seq,
    /// When it came.
    pub received: Timestamp,
}

/// What became of rows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sorted {
    /// To be stored.
    pub readings: Vec<StoredReading>,
    /// To be set apart.
    pub quarantine: Vec<Quarantined>,
    /// How many of the readings came late.
    pub late: Vec<LateHour>,
}

/// What is asked of a reading's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timely {
    /// One that is further ahead of its arrival is set apart.
    pub future_max: Duration,
    /// One whose arrival is further behind it came late.
    pub late_after: Duration,
}

impl Timely {
    /// The last moment that isn't in the future for what comes now.
    #[must_use]
    pub fn latest(&self, now: Timestamp) -> Timestamp {
        now.plus_micros(micros(self.future_max))
    }

    /// The first moment that isn't late for what comes now.
    #[must_use]
    pub fn in_time(&self, now: Timestamp) -> Timestamp {
        now.plus_micros(-micros(self.late_after))
    }
}

/// Counts a reading that came late. Neighbours are mostly of one hour.
pub(crate) fn note_late(late: &mut Vec<LateHour>, series: SeriesId, at: Timestamp) {
    let hour = Bucket::Hour.start_of(at);
    match late.last_mut() {
        Some(last) if (last.series, last.hour) == (series, hour) => last.readings += 1,
        _ => late.push(LateHour { series, hour, readings: 1 }),
    }
}

impl Resolver {
    /// The targets, when they are in memory and still hold.
    #[must_use]
    pub fn cached(&self, gateway: &GatewayId, hash: CatalogueHash) -> Option<Arc<Targets>> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let targets = cached.get(&(gateway.clone(), hash))?;
        targets.good_until.is_none_or(|until| Instant::now() < until).then(|| Arc::clone(targets))
    }

    /// The targets; series that aren't there yet are made, and the catalogue is kept for good.
    ///
    /// # Errors
    /// When the warm tier can't say.
    pub async fn targets(
        &self,
        warm: &dyn WarmTier,
        grants: &Grants,
        gateway: &GatewayId,
        catalogue: &Catalogue,
    ) -> Result<Arc<Targets>, TierError> {
        if let Some(targets) = self.cached(gateway, catalogue.hash()) {
            return Ok(targets);
        }
        warm.put_catalogue(gateway, catalogue).await?;
        // A series that isn't granted must not even come into being.
        let refusal = |entry: &Entry| refusal(grants, gateway, entry);
        let entries: Vec<_> = catalogue.entries().iter().filter(|e| refusal(e).is_none()).cloned().collect();
        let mut numbers = numbers(warm, grants, gateway, &entries).await?.into_iter();
        let targets: Vec<Target> = catalogue
            .entries()
            .iter()
            .map(|entry| {
                if let Some(why) = refusal(entry) {
                    return Target::Refused(why);
                }
                match numbers.next() {
                    Some(Ok(series)) => Target::Series(series),
                    Some(Err(refused)) => Target::Refused(refused.to_string()),
                    None => Target::Refused("the warm tier gave it no number".into()),
                }
            })
            .collect();
        let refused: Vec<&String> =
            targets.iter().filter_map(|t| if let Target::Refused(why) = t { Some(why) } else { None }).collect();
        if let Some(first) = refused.first() {
            tracing::warn!(%gateway, points = refused.len(), "readings of some points go to quarantine, the first: {first}");
        }
        let good_until = (!refused.is_empty()).then(|| Instant::now() + REFUSAL_AGE_MAX);
        let targets = Arc::new(Targets { targets, good_until });
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() >= CACHED_MAX {
            cached.clear(); // rare, and what is needed is soon back
        }
        cached.insert((gateway.clone(), catalogue.hash()), Arc::clone(&targets));
        Ok(targets)
    }
}

/// The series' numbers. Those of a gateway that has no grant for their node any more go over to this one: it was put in
/// the other's place.
pub(crate) async fn numbers(
    warm: &dyn WarmTier,
    grants: &Grants,
    gateway: &GatewayId,
    entries: &[Entry],
) -> Result<Vec<Result<SeriesId, SeriesRefused>>, TierError> {
    let numbers = warm.series_for(gateway, entries).await?;
    let mut handed_over = false;
    for refused in numbers.iter().filter_map(|number| number.as_ref().err()) {
        if let SeriesRefused::Owned { key, owner } = refused
            && !grants.allows(owner, &key.node)
        {
            tracing::warn!(series = %key, from = %owner, to = %gateway, "a series changes hands");
            warm.hand_over(key, owner, gateway).await?;
            handed_over = true;
        }
    }
    if handed_over { warm.series_for(gateway, entries).await } else { Ok(numbers) }
}

/// Why a gateway gets no such series, whatever the warm tier says.
pub(crate) fn refusal(grants: &Grants, gateway: &GatewayId, entry: &Entry) -> Option<String> {
    if !grants.allows(gateway, &entry.node) {
        return Some(format!("{NOT_GRANTED}{}", entry.node));
    }
    let texts = [("metric", &entry.metric), ("channel", &entry.channel), ("unit", &entry.unit)];
    let (what, _) = texts.into_iter().find(|(_, text)| text.len() > TEXT_BYTES_MAX)?;
    Some(format!("its {what} is longer than {TEXT_BYTES_MAX} bytes"))
}

/// A series' name for quarantine, bounded as any index is.
fn shown(entry: &Entry) -> String {
    let (node, metric) = (entry.node.clone(), entry.metric.clone());
    let mut name = SeriesKey { node, metric, channel: entry.channel.clone() }.to_string();
    if name.len() > 4 * TEXT_BYTES_MAX {
        name.truncate(name.floor_char_boundary(4 * TEXT_BYTES_MAX));
    }
    name
}

impl Targets {
    /// Sorts rows whose times become UTC by adding `offset_us`.
    #[must_use]
    pub fn sort(&self, catalogue: &Catalogue, rows: &[Row], offset_us: i64, origin: &Origin, timely: Timely) -> Sorted {
        let (latest, in_time) = (timely.latest(origin.received), timely.in_time(origin.received));
        let mut sorted = Sorted { readings: Vec::with_capacity(rows.len()), ..Sorted::default() };
        for row in rows {
            let at = row.at.plus_micros(offset_us);
            let (value, quality) = sanitise(row.value, row.quality);
            let held = Held { value, quality, revision: 0 };
            let why = match self.targets.get(row.point.0 as usize) {
                Some(Target::Series(series)) if at <= latest => {
                    sorted.readings.push(StoredReading { series: *series, at, held });
                    if at < in_time {
                        note_late(&mut sorted.late, *series, at);
                    }
                    continue;
                }
                Some(Target::Series(_)) => FUTURE.to_string(),
                Some(Target::Refused(why)) => why.clone(),
                None => format!("point {} is not in the catalogue", row.point.0),
            };
            sorted.quarantine.push(Quarantined {
                gateway: origin.gateway.clone(),
                stream: origin.stream,
                seq: origin.seq,
                series: catalogue.get(row.point).map_or_else(String::new, shown),
                at,
                held,
                reason: why,
                received: origin.received,
            });
        }
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::catalogue::{Class, PointNo};
    use shared::ids::NodeId;
    use shared::metric::Kind;
    use shared::reading::Quality;

    fn row(point: u32, at: i64, value: f64) -> Row {
        Row { point: PointNo(point), at: Timestamp(at), value: Some(value), quality: Quality::GOOD }
    }

    #[test]
    fn rows_go_to_their_series_or_to_quarantine_with_a_reason() {
        let entry = |node: &str| Entry {
            node: NodeId::new(node).unwrap(),
            metric: "pressure".into(),
            channel: "inlet".into(),
            kind: Kind::Gauge,
            unit: "bar".into(),
            resolution_exp: None,
            interval_ms: 0,
            silence_ms_max: 0,
            class: Class::Raw,
        };
        let catalogue = Catalogue::new(vec![entry("DIST_001"), entry("PUMP_1")]).unwrap();
        let targets = Targets {
            targets: vec![Target::Series(SeriesId(5)), Target::Refused("not granted: PUMP_1".into())],
            good_until: None,
        };
        let gateway = GatewayId::new("STATION_7").unwrap();
        let origin = Origin { gateway, stream: StreamId(1), seq: Seq(9), received: Timestamp(1_000_000) };
        let rows = [row(0, 0, 1.5), row(0, 1_000_001, 2.0), row(1, 0, 3.0), row(0, 0, f64::NAN), row(7, 0, 1.0)];
        let (future_max, late_after) = (Duration::from_micros(500_000), Duration::from_micros(400_000));
        let sorted = targets.sort(&catalogue, &rows, 500_000, &origin, Timely { future_max, late_after });
        assert_eq!(sorted.readings.len(), 2);
        assert_eq!((sorted.readings[0].series, sorted.readings[0].at), (SeriesId(5), Timestamp(500_000)));
        assert_eq!(sorted.readings[1].held.quality, Quality::BAD_NOT_A_NUMBER);
        assert_eq!(sorted.late, [LateHour { series: SeriesId(5), hour: Timestamp(0), readings: 2 }]);
        let reasons: Vec<_> = sorted.quarantine.iter().map(|q| (q.series.as_str(), q.reason.as_str())).collect();
        assert_eq!(
            reasons,
            [
                ("DIST_001/pressure/inlet", "future"),
                ("PUMP_1/pressure/inlet", "not granted: PUMP_1"),
                ("", "point 7 is not in the catalogue")
            ]
        );
    }

    #[test]
    fn a_name_too_long_for_an_index_is_refused_and_shown_short() {
        let gateway = GatewayId::new("STATION_7").unwrap();
        let grants: Grants = toml::from_str("STATION_7 = ['*']").unwrap();
        let mut entry = Entry {
            node: NodeId::new("DIST_001").unwrap(),
            metric: "pressure".into(),
            channel: "é".repeat(128),
            kind: Kind::Gauge,
            unit: "bar".into(),
            resolution_exp: None,
            interval_ms: 0,
            silence_ms_max: 0,
            class: Class::Raw,
        };
        assert_eq!(refusal(&grants, &gateway, &entry), None);
        entry.channel = "é".repeat(3_000);
        assert_eq!(refusal(&grants, &gateway, &entry).as_deref(), Some("its channel is longer than 256 bytes"));
        assert!((1_000..=1_024).contains(&shown(&entry).len()));
    }
}
