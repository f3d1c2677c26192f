//! What the parts share, and how each of them is made from it.

use super::RunError;
use super::refill::Refill;
use super::stores::{Disk, put_newest};
use crate::access::Access;
use crate::alerts::{self, Alerts, Gather, Troubles, When};
use crate::anomalies::{Anomalies, Live};
use crate::api;
use crate::config::Config;
use crate::costs::Paid;
use crate::etl::jobs::cache_refresh::Fill;
use crate::etl::jobs::{Alarms, Means, SettingsError};
use crate::etl::{Pace, Scheduler};
use crate::flush::{Fixes, Flusher, Followed, NOT_ALONE, Quarantine, Rules, Stuck};
use crate::inbox::Inbox;
use crate::ingest::Ingest;
use crate::ingest::accept::Limits;
use crate::ingest::clocks::Clocks;
use crate::ingest::intake::{Desk, Intake};
use crate::ingest::pressure::Pressure;
use crate::ingest::sessions::Sessions;
use crate::resolve::{Resolver, Timely};
use crate::sql::Sql;
use crate::tiers::hot::days::{DayCache, Days};
use crate::tiers::hot::guarded::Guarded;
use crate::tiers::hot::memory::Now;
use crate::tiers::hot::redis::RedisHot;
use crate::tiers::{ColdTier, HotTier as _, StoredReading, WarmTier, cold, hot, warm};
use shared::ids::StreamId;
use shared::reading::{Timestamp, micros};
use shared::spool::Spool;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

/// Refused blocks that are written to disk at a time.
const ASIDE_TURNS: usize = 2;

/// Everything that more than one part holds.
pub(super) struct Wiring<'a> {
    pub(super) config: &'a Config,
    pub(super) disk: Disk,
    pub(super) warm: Arc<dyn WarmTier>,
    pub(super) hot: Arc<Guarded>,
    pub(super) followed: Arc<Followed>,
    pub(super) kept: Option<Arc<dyn Days>>,
    pub(super) days: Option<Arc<DayCache>>,
    pub(super) anomalies: Arc<Anomalies>,
    pub(super) cold: Option<Arc<dyn ColdTier>>,
    pub(super) sql: Option<Arc<Sql>>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) fixes: Arc<Fixes>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) appended: Arc<watch::Sender<()>>,
    pub(super) seen: Arc<Notify>,
    pub(super) dirty: Arc<Notify>,
    pub(super) stuck: Arc<Stuck>,
    pub(super) quarantine: Arc<Quarantine>,
    pub(super) clocks: Arc<Clocks>,
    pub(super) now: Now,
    pub(super) alarms: Alarms,
}

impl<'a> Wiring<'a> {
    pub(super) fn new(
        config: &'a Config,
        disk: Disk,
        warm: Arc<dyn WarmTier>,
        hot: Arc<Guarded>,
        kept: Option<Arc<dyn Days>>,
        cold: Option<Arc<dyn ColdTier>>,
    ) -> Self {
        let anomalies = Arc::new(Anomalies::new(warm.clone(), kept.clone()));
        // A replica, from which answers come, may be behind.
        let days = kept.clone().filter(|_| config.warm.replica.is_none()).map(|kept| Arc::new(DayCache::new(kept)));
        Self {
            config,
            disk,
            warm,
            hot,
            followed: Arc::default(),
            kept,
            days,
            anomalies,
            cold,
            sql: None,
            resolver: Arc::default(),
            fixes: Arc::default(),
            sessions: Arc::default(),
            pressure: Arc::default(),
            appended: Arc::new(watch::channel(()).0),
            seen: Arc::default(),
            dirty: Arc::default(),
            stuck: Arc::default(),
            quarantine: Arc::default(),
            clocks: Arc::default(),
            now: Arc::new(Timestamp::wall_clock),
            alarms: Alarms::default(),
        }
    }

    pub(super) fn flusher(&self) -> Flusher {
        Flusher {
            spool: self.disk.spool.clone(),
            warm: self.warm.clone(),
            hot: self.hot.clone(),
            hot_is_shared: self.config.hot.store() == hot::settings::Store::Redis,
            followed: self.followed.clone(),
            catalogues: self.disk.catalogues.clone(),
            resolver: self.resolver.clone(),
            fixes: self.fixes.clone(),
            grants: self.config.grants.clone(),
            ledger: self.disk.ledger.clone(),
            sessions: self.sessions.clone(),
            aside: self.disk.aside.clone(),
            gaps: self.disk.gaps.clone(),
            dirty: self.dirty.clone(),
            days: self.days.clone(),
            rules: Rules {
                rows: self.config.buffer.flush_rows,
                interval: self.config.buffer.flush_interval.0,
                timely: self.timely(),
            },
            stuck: self.stuck.clone(),
            quarantine: self.quarantine.clone(),
        }
    }

    /// Whether other collectors can store where this one does without that its hot tier knows.
    pub(super) fn may_not_be_alone(&self) -> bool {
        self.config.warm.store() == warm::settings::Store::Postgres
            && self.config.hot.store() == hot::settings::Store::Memory
    }

    fn timely(&self) -> Timely {
        let ingest = &self.config.ingest;
        Timely { future_max: ingest.future_max.0, late_after: ingest.late_after.0 }
    }

    pub(super) fn desk(&self) -> Desk {
        Desk {
            spool: self.disk.spool.clone(),
            ledger: self.disk.ledger.clone(),
            gaps: self.disk.gaps.clone(),
            pressure: self.pressure.clone(),
            appended: self.appended.clone(),
        }
    }

    pub(super) fn ingest(&self, intake: Intake, live: mpsc::Sender<Vec<StoredReading>>) -> Ingest {
        Ingest {
            collector: own_name(),
            grants: self.config.grants.clone(),
            catalogues: self.disk.catalogues.clone(),
            ledger: self.disk.ledger.clone(),
            sessions: self.sessions.clone(),
            aside: self.disk.aside.clone(),
            aside_turns: Semaphore::new(ASIDE_TURNS),
            resolver: self.resolver.clone(),
            fixes: self.fixes.clone(),
            warm: self.warm.clone(),
            intake,
            pressure: self.pressure.clone(),
            live,
            seen: self.seen.clone(),
            clocks: self.clocks.clone(),
            now: self.now.clone(),
            timely: self.timely(),
            idle_timeout: self.config.ingest.idle_timeout.0,
        }
    }

    /// Named so that two starts of one collector are two owners: what the first left behind is nobody's.
    pub(super) fn scheduler(
        &self,
        flusher: &Arc<Flusher>,
        refill: Option<Arc<Refill>>,
    ) -> Result<Arc<Scheduler>, SettingsError> {
        let owner = format!("{}/{}", own_name(), StreamId::random());
        let planned = self.config.jobs.planned(&Means {
            warm: self.warm.clone(),
            anomalies: self.anomalies.clone(),
            cold: self.cold.clone(),
            inbox: Arc::new(self.inbox(flusher)),
            fill: self.fill(refill),
            cached_days: self.days.clone(),
            refresh_hours: self.config.hot.refresh_hours,
            keep_days: self.config.warm.keep_days,
            alarms: self.alarms.clone(),
        })?;
        Ok(Scheduler::new(self.warm.clone(), planned, owner, self.now.clone(), Pace::default()))
    }

    /// What fills the hot tier from the warm one: memory only with the newest values, for it proves nothing of before.
    fn fill(&self, refill: Option<Arc<Refill>>) -> Fill {
        let (warm, hot) = (self.warm.clone(), self.hot.clone());
        Arc::new(move || {
            let (warm, hot, refill) = (warm.clone(), hot.clone(), refill.clone());
            Box::pin(async move {
                match refill {
                    Some(refill) => Ok(refill.fill().await?.map_or(0, |filled| filled.readings)),
                    None => put_newest(&*warm, &hot).await,
                }
            })
        })
    }

    pub(super) fn refill(&self, redis: Arc<RedisHot>) -> Refill {
        Refill {
            redis,
            hot: self.hot.clone(),
            kept: self.kept.clone(),
            warm: self.warm.clone(),
            followed: self.followed.clone(),
            appended: self.appended.clone(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// What looks at newest values.
    pub(super) fn live(&self, jobs: Arc<Scheduler>) -> Live {
        Live {
            anomalies: self.anomalies.clone(),
            hot: self.hot.clone(),
            warm: self.warm.clone(),
            leads: Arc::new(move || jobs.leads()),
            now: self.now.clone(),
        }
    }

    fn inbox(&self, flusher: &Arc<Flusher>) -> Inbox {
        let (grants, tables) = (self.config.grants.clone(), self.config.inbox.clone());
        let (now, timely) = (self.now.clone(), self.timely());
        Inbox::new((self.warm.clone(), self.cold.clone()), flusher.writing(), grants, tables, timely, now)
            .with_bigquery(self.config.bigquery())
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            connections_max: self.config.ingest.connections_max,
            handshakes_max: self.config.ingest.handshakes_max,
            handshake_timeout: self.config.ingest.handshake_timeout.0,
        }
    }

    /// What is wrong with this collector.
    fn troubles(&self) -> Troubles {
        let (pressure, stuck, alarms) = (self.pressure.clone(), self.stuck.clone(), self.alarms.clone());
        let (hot, warm, quarantine) = (self.hot.clone(), self.warm.clone(), self.quarantine.clone());
        let (clocks, now, allowed) = (self.clocks.clone(), self.now.clone(), self.timely().future_max);
        Arc::new(move || {
            let ingest = pressure.why().map(|why| ("ingest", why));
            let flush = stuck.why().map(|why| ("flush", why));
            let hot = if hot.says_nothing() { Some(NOT_ALONE.to_owned()) } else { hot.fault() };
            let hot = hot.map(|why| ("hot", why));
            let replica = warm.fault().map(|why| (alerts::REPLICA, why));
            let now = now();
            let clock = clocks.doubt(now, allowed).map(|doubt| ("clock", doubt.trouble(now)));
            let aside = quarantine.troubles(now).into_iter().filter(|(part, _)| *part != "clock" || clock.is_none());
            let aside: Vec<_> = aside.chain(clock.clone()).collect();
            let own = ingest.into_iter().chain(flush).chain(hot).chain(replica).chain(aside);
            own.chain(alarms.raised()).collect()
        })
    }

    /// Who tells people what stands, when the configuration names any.
    pub(super) fn alerts(&self, jobs: Arc<Scheduler>) -> Result<Option<Alerts>, RunError> {
        let settings = &self.config.alerts;
        let channels = settings.channels()?;
        if channels.is_empty() {
            return Ok(None);
        }
        let silent = micros(settings.gateway_silent.0);
        let gather = Gather::new(self.warm.clone(), jobs, self.troubles(), own_name(), silent);
        let zone = self.config.jobs.zone()?;
        let quiet = settings.quiet(zone.clone())?;
        let when = When { quiet, repeat_us: settings.repeat.map(|every| micros(every.0)), zone };
        let (now, alarm) = (self.now.clone(), self.alarms.alerts.clone());
        Ok(Some(Alerts::new(self.warm.clone(), gather, channels, when, now, alarm)))
    }

    pub(super) fn sources(
        &self,
        jobs: Arc<Scheduler>,
        flusher: &Arc<Flusher>,
        access: Arc<Access>,
        connections: api::Connections,
    ) -> api::Sources {
        let (metrics, spool, sessions) = (shared::telemetry::metrics(), self.disk.spool.clone(), self.sessions.clone());
        api::Sources {
            warm: self.warm.clone(),
            hot: self.hot.clone(),
            anomalies: self.anomalies.clone(),
            jobs,
            troubles: self.troubles(),
            access,
            secure: false,
            tls: false,
            any_host: false,
            write: flusher.writing(),
            rates: self.config.api.rates,
            connections,
            trusted_proxies: self.config.api.trusted_proxies.as_slice().into(),
            paid: Paid {
                prices: self.config.costs.clone(),
                warm: self.config.warm.store() == warm::settings::Store::Postgres,
                hot: self.config.hot.store() == hot::settings::Store::Redis,
                cold: self.config.cold.is_in_a_cloud(),
            },
            future_max_us: micros(self.config.ingest.future_max.0),
            days: self.days.clone(),
            places: Arc::new(self.config.nodes.clone()),
            cold: self.cold.clone().map(|cold| Arc::new(cold::guarded::Guarded::new(cold)) as Arc<dyn ColdTier>),
            sql: self.sql.clone(),
            presence: Arc::new(move || sessions.snapshot()),
            metrics: Arc::new(move || {
                gauge_spool(&spool);
                metrics.render()
            }),
            now: self.now.clone(),
        }
    }
}

/// This machine's, by which a collector is known among others.
fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn gauge_spool(spool: &Spool) {
    let usage = spool.usage();
    metrics::gauge!("collector_spool_bytes").set(usage.bytes as f64);
    metrics::gauge!("collector_spool_bytes_max").set(usage.bytes_max as f64);
    metrics::gauge!("collector_spool_records").set(usage.records as f64);
    metrics::counter!("collector_spool_records_appended_total").absolute(usage.appended_total);
    metrics::counter!("collector_spool_records_lost_total").absolute(usage.lost_total);
}
