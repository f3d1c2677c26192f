//! An archive for those who can't wait for ever.
//!
//! An object store that takes connections and answers nothing, or a folder on a server that hangs, would hold each question
//! up until its own limit, and with it what the other tiers have to say. So a question ends when nothing has come from the
//! archive for some seconds. Whatever reads tells of what comes ([`alive`]): a long read that goes on isn't cut. After such
//! a silence everybody fails at once for a while, and then one tries again.
//!
//! It is for questions. Days are written and proved without it, which may take long.

use crate::rollup::Rollup;
use crate::tiers::{
    Bucket, ColdState, ColdTier, Damage, Day, Proof, Runs, SeriesId, StoredReading, TierError, TierFuture,
};
use futures::future::BoxFuture;
use shared::reading::Timestamp;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

const TIER: &str = "cold tier";
/// From an archive that is there something comes sooner, however slow it is.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// After such a silence it isn't asked for so long.
const PAUSE: Duration = Duration::from_secs(10);
/// Who only wants to know how it is waits so long: others look at the collector through that, and are impatient.
const STATE_WITHIN: Duration = Duration::from_secs(2);

tokio::task_local! {
    /// Where the question that is being answered hears that something came.
    static SIGNS: watch::Sender<()>;
}

/// Something came from the archive.
pub(crate) fn alive() {
    let _ = SIGNS.try_with(|signs| signs.send_replace(())); // but for questions nobody listens
}

/// The guarded archive.
#[derive(Clone)]
pub struct Guarded {
    inner: Arc<dyn ColdTier>,
    /// Nothing came from it, and until then nobody asks.
    away: Arc<Mutex<Option<Instant>>>,
    silence_max: Duration,
    pause: Duration,
}

impl Guarded {
    /// Guards `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ColdTier>) -> Self {
        Self { inner, away: Arc::default(), silence_max: SILENCE_MAX, pause: PAUSE }
    }

    /// Waits for an answer as long as the archive gives signs of life.
    async fn ask<T>(&self, call: impl Future<Output = Result<T, TierError>>) -> Result<T, TierError> {
        self.take_turn()?;
        let (sign, mut signs) = watch::channel(());
        let mut call = pin!(SIGNS.scope(sign, call));
        loop {
            tokio::select! {
                biased; // what came while nobody looked is an answer still
                done = &mut call => {
                    self.note(None);
                    return done;
                }
                heard = timeout(self.silence_max, signs.changed()) => match heard {
                    Ok(_) => self.note(None),
                    Err(_) => {
                        self.note(Some(Instant::now() + self.pause));
                        return Err(self.silent(self.silence_max));
                    }
                },
            }
        }
    }

    /// After a silence and a pause one may try; the others don't wait for what comes of it.
    fn take_turn(&self) -> Result<(), TierError> {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *away {
            None => Ok(()),
            Some(until) if *until <= Instant::now() => {
                *until = Instant::now() + self.pause;
                Ok(())
            }
            Some(_) => Err(self.silent(self.silence_max)),
        }
    }

    fn note(&self, away: Option<Instant>) {
        let before = std::mem::replace(&mut *self.away.lock().unwrap_or_else(PoisonError::into_inner), away);
        match (before, away) {
            (None, Some(_)) => tracing::warn!(place = self.place(), "the archive answers nothing; nobody waits for it"),
            (Some(_), None) => tracing::info!(place = self.place(), "the archive answers again"),
            _ => {}
        }
    }

    fn silent(&self, time: Duration) -> TierError {
        let why = format!("nothing came from {} for {}", self.place(), humantime::format_duration(time));
        TierError::Unavailable { tier: TIER, why }
    }
}

impl ColdTier for Guarded {
    fn replace_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        self.inner.replace_day(day, runs)
    }

    fn merge_day<'a>(&'a self, day: Day, runs: Runs<'a>) -> TierFuture<'a, Proof> {
        self.inner.merge_day(day, runs)
    }

    fn proof(&self, day: Day) -> TierFuture<'_, Option<Proof>> {
        self.inner.proof(day)
    }

    fn day(&self, day: Day) -> Runs<'_> {
        self.inner.day(day)
    }

    fn days(&self, from: Day, to: Day) -> TierFuture<'_, Vec<Day>> {
        Box::pin(self.ask(self.inner.days(from, to)))
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn check(&self, days: Vec<Day>) -> TierFuture<'_, ()> {
        self.inner.check(days)
    }

    fn damage(&self) -> TierFuture<'_, Vec<Damage>> {
        self.inner.damage()
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        self.inner.changes()
    }

    fn range(
        &self,
        series: SeriesId,
        from: Timestamp,
        to: Timestamp,
        count_max: u32,
    ) -> TierFuture<'_, Vec<StoredReading>> {
        Box::pin(self.ask(self.inner.range(series, from, to, count_max)))
    }

    fn last_before(&self, series: SeriesId, before: Timestamp, usable: bool) -> TierFuture<'_, Option<StoredReading>> {
        Box::pin(self.ask(self.inner.last_before(series, before, usable)))
    }

    fn aggregate(
        &self,
        series: SeriesId,
        bucket: Bucket,
        from: Timestamp,
        to: Timestamp,
        hold_micros: i64,
    ) -> TierFuture<'_, Vec<(Timestamp, Rollup)>> {
        Box::pin(self.ask(self.inner.aggregate(series, bucket, from, to, hold_micros)))
    }

    fn tidy(&self, before: Day) -> TierFuture<'_, u32> {
        self.inner.tidy(before)
    }

    /// The look goes on when nobody waits for it any more, and so finds out whether the archive is slow or away.
    fn state(&self) -> TierFuture<'_, ColdState> {
        Box::pin(async move {
            let guarded = self.clone();
            let look = tokio::spawn(async move { guarded.ask(guarded.inner.state()).await });
            match timeout(STATE_WITHIN, look).await {
                Ok(Ok(state)) => state,
                Ok(Err(error)) => Err(TierError::Broken { tier: TIER, why: error.to_string() }),
                Err(_) => Err(self.silent(STATE_WITHIN)),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::cold::parquet::ParquetCold;
    use std::future::{pending, ready};
    use tokio::time::sleep;

    /// Longer than anything here takes.
    const HOUR: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(50);

    fn guarded(pause: Duration) -> Guarded {
        let store = Arc::new(object_store::memory::InMemory::new());
        let inner = Arc::new(ParquetCold::on(store, "memory", true));
        Guarded { silence_max: SHORT, pause, ..Guarded::new(inner) }
    }

    async fn hang(guarded: &Guarded) {
        let error = guarded.ask(pending::<Result<(), _>>()).await.unwrap_err();
        assert!(error.to_string().contains("nothing came from memory for 50ms"), "{error}");
    }

    async fn is_left_alone(guarded: &Guarded) -> bool {
        guarded.ask(ready(Ok(()))).await.is_err()
    }

    /// As if the pause were over.
    fn wait(guarded: &Guarded) {
        *guarded.away.lock().unwrap() = Some(Instant::now());
    }

    #[tokio::test]
    async fn one_waits_for_an_archive_that_is_silent_and_after_a_pause_one_again() {
        let guarded = guarded(HOUR);
        hang(&guarded).await;
        assert!(is_left_alone(&guarded).await);
        wait(&guarded);
        let mut tries = pin!(hang(&guarded));
        assert!(futures::poll!(&mut tries).is_pending());
        assert!(is_left_alone(&guarded).await, "others don't wait for what comes of it");
        tries.await;
        assert!(is_left_alone(&guarded).await);
        wait(&guarded);
        assert!(!is_left_alone(&guarded).await && !is_left_alone(&guarded).await, "it answers again");
    }

    #[tokio::test]
    async fn a_long_read_that_goes_on_is_not_cut_and_ends_the_pause_of_others() {
        let guarded = guarded(HOUR);
        hang(&guarded).await;
        wait(&guarded);
        let reads = async {
            for n in 0..20 {
                sleep(SHORT / 5).await;
                assert_eq!(is_left_alone(&guarded).await, n == 0);
                alive();
            }
            Ok(())
        };
        guarded.ask(reads).await.unwrap();
    }
}
