//! What is kept of analytics. It lies in the warm tier.

use super::forecast::{Point, Scores};
use crate::tiers::{SeriesId, TierFuture};
use shared::reading::Timestamp;

/// A forecast, and how right it was.
#[derive(Clone, PartialEq, Debug)]
pub struct Forecast {
    /// Of which series.
    pub series: SeriesId,
    /// From when on.
    pub origin: Timestamp,
    /// The model's name.
    pub model: String,
    /// The first moment it may have learned from.
    pub trained_from: Timestamp,
    /// The moment after the last it may have learned from.
    pub trained_to: Timestamp,
    /// When it was made.
    pub made_at: Timestamp,
    /// The hours.
    pub points: Vec<Point>,
    /// Against what came, as far as that is known.
    pub scores: Option<Scores>,
}

/// What is kept of forecasts.
pub trait ForecastStore: Send + Sync {
    /// Keeps forecasts, each in place of the one with the same series, origin and model; those of origins before
    /// `keep_from` go.
    fn put_forecasts<'a>(&'a self, forecasts: &'a [Forecast], keep_from: Timestamp) -> TierFuture<'a, ()>;

    /// A series' newest forecasts with `origin >= from`, newest first.
    fn forecasts(&self, series: SeriesId, from: Timestamp, count_max: u32) -> TierFuture<'_, Vec<Forecast>>;

    /// The scores of all of a series' forecasts that have any, with their models.
    fn scores(&self, series: SeriesId) -> TierFuture<'_, Vec<(String, Scores)>>;
}
