//! The archive as a table in BigQuery.
//!
//! * It is not needed for the start: dataset and tables are made or looked at when BigQuery is first reached. Until then
//!   every call says what is wrong.
//! * A day comes in through tables of its own ([`write`]): loaded, read back, compared, and then put in the place of the
//!   old one by one statement that does all or nothing.
//! * Every question says which days it means, is estimated before it is asked, and is refused when it would be billed for
//!   more than the settings allow. What a day's proof stands for is computed from all columns of its rows.

pub(crate) mod fault;
mod jobs;
pub(crate) mod link;
mod login;
mod parts;
mod prepare;
mod rows;
pub mod settings;
mod sql;
mod table;
mod write;

use super::rows::MICROS_PER_DAY;
use super::streams::{checked, merged};
use super::sums::Sums;
use crate::rollup::Rollup;
use crate::tiers::{Bucket, ColdState, ColdTier, Day, Proof, Runs, SeriesId, StoredReading, TierError, TierFuture};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use link::Link;
use settings::BigQuerySettings;
use shared::reading::Timestamp;
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};

const TIER: &str = "cold tier (BigQuery)";
/// How many days before a moment are searched for the last reading: first few, which costs little.
const DAYS_BACK: [i64; 3] = [2, 60, i64::MAX / MICROS_PER_DAY];

/// The archive.
pub struct BigQueryCold {
    settings: Arc<BigQuerySettings>,
    /// There once the tables are as they should be.
    link: OnceCell<Link>,
    /// Days are written one after the other.
    writing: Mutex<()>,
}

impl BigQueryCold {
    /// Takes the settings; nobody is asked yet.
    #[must_use]
    pub fn new(settings: &BigQuerySettings) -> Self {
        Self { settings: Arc::new(settings.clone()), link: OnceCell::new(), writing: Mutex::default() }
    }

    /// Looks at dataset and tables and changes nothing; gives what would be made, in words.
    ///
    /// # Errors
    /// When BigQuery can't be asked or someone altered the tables; the text names the setting.
    pub async fn check(settings: &BigQuerySettings) -> Result<Option<String>, TierError> {
        let settings = Arc::new(settings.clone());
        let link = Link::open(&settings).await.map_err(|fault| fault.told(&settings))?;
        prepare::look(&link).await
    }

    async fn ready(&self) -> Result<&Link, TierError> {
        let bring_up = || async {
            let link = Link::open(&self.settings).await.map_err(|fault| fault.told(&self.settings))?;
            prepare::bring_up(&link).await?;
            Ok(link)
        };
        self.link.get_or_try_init(bring_up).await
    }

    /// The days that are held, ascending.
    async fn held(&self, link: &Link) -> Result<Vec<Day>, TierError> {
        let rows = link.list(&table::days_name(&self.settings)).await.map_err(|fault| fault.told(&self.settings))?;
        let mut days: Vec<Day> = rows.iter().map(|row| rows::number::<Day>(row, 0, "day")).collect::<Result<_, _>>()?;
        days.sort_unstable();
        days.dedup();
        Ok(days)
    }

    /// Readings out of the rows of a question.
    fn readings(
        &self,
        sql: impl Fn(&Link) -> String + Send + 'static,
    ) -> BoxStream<'_, Result<Vec<StoredReading>, TierError>> {
        let pages = async move {
            let link = self.ready().await?;
            Ok::<_, TierError>(link.ask(sql(link)).map_err(|fault| fault.told(&self.settings)))
        };
        let pages = futures::stream::once(pages).try_flatten();
        Box::pin(pages.map(|page| page?.iter().map(rows::reading).collect()))
    }
}

impl ColdTier for BigQueryCold {
    fn replace_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        Box::pin(async move {
            let (link, _turn) = (self.ready().await?, self.writing.lock().await);
            write::replace(link, day, checked(TIER, day, runs)).await
        })
    }

    fn merge_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        Box::pin(async move {
            let (link, _turn) = (self.ready().await?, self.writing.lock().await);
            write::replace(link, day, merged(TIER, self.day(day), checked(TIER, day, runs))).await
        })
    }

    fn proof(&self, day: Day) -> TierFuture<'_, Option<Proof>> {
        Box::pin(async move {
            match self.days(day, day.next()).await?.is_empty() {
                true => Ok(None),
                false => Proof::of(self.day(day)).await.map(Some),
            }
        })
    }

    fn day(&self, day: Day) -> Runs<'_> {
        let rows = async move {
            let link = self.ready().await?;
            Ok::<_, TierError>(write::rows_of(link, sql::day_rows(&link.quoted(&self.settings.table), day)))
        };
        Box::pin(futures::stream::once(rows).try_flatten())
    }

    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<Day>> {
        Box::pin(async move {
            let held = self.held(self.ready().await?).await?;
            Ok(held.into_iter().filter(|day| from <= *day && *day < to).collect())
        })
    }

    fn place(&self) -> String {
        self.settings.place()
    }

    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>> {
        Box::pin(async move {
            if to <= from {
                return Ok(Vec::new());
            }
            let sql = move |link: &Link| sql::range(&link.quoted(&link.settings.table), series, (from, to), count_max);
            self.readings(sql).try_concat().await
        })
    }

    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>> {
        Box::pin(async move {
            let Some(first) = self.held(self.ready().await?).await?.first().map(|day| day.start()) else {
                return Ok(None);
            };
            let mut to = before;
            for days in DAYS_BACK {
                if to <= first {
                    break;
                }
                let from = first.max(before.plus_micros(-days * MICROS_PER_DAY));
                let sql = move |link: &Link| sql::last(&link.quoted(&link.settings.table), series, (from, to), usable);
                if let Some(last) = self.readings(sql).try_concat().await?.pop() {
                    return Ok(Some(last));
                }
                to = from;
            }
            Ok(None)
        })
    }

    fn aggregate(
        &self,
        series: SeriesId,
        bucket: Bucket,
        from: Timestamp,
        to: Timestamp,
        hold_micros: i64,
    ) -> TierFuture<'_, Vec<(Timestamp, Rollup)>> {
        Box::pin(async move {
            let mut sums = Sums::new(bucket, hold_micros);
            if from < to {
                let sql =
                    move |link: &Link| sql::range(&link.quoted(&link.settings.table), series, (from, to), u32::MAX);
                let mut readings = self.readings(sql);
                while let Some(some) = readings.try_next().await? {
                    sums.add(&some);
                }
            }
            Ok(sums.all())
        })
    }

    /// There is nothing to do: BigQuery keeps its own order.
    fn tidy(&self, _before: Day) -> TierFuture<'_, u32> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn state(&self) -> TierFuture<'_, ColdState> {
        Box::pin(async move {
            let link = self.ready().await?;
            let (days, table) = futures::join!(self.held(link), link.table(&self.settings.table));
            let (days, table) = (days?, table.map_err(|fault| fault.told(&self.settings))?);
            Ok(ColdState {
                days: days.len() as u64,
                files: 1,
                first: days.first().copied(),
                last: days.last().copied(),
                bytes: table.and_then(|table| table.num_bytes?.parse().ok()),
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { drop(self.writing.lock().await) })
    }
}
