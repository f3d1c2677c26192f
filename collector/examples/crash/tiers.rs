//! The production tiers, which are killed, too.

use crate::Dice;
use crate::programs::{Site, Victim};
use crate::services::postgres::Postgres;
use crate::services::redis::Redis;
use crate::stall::Watch;
use anyhow::Result;

/// PostgreSQL as durable as it is, and Redis that keeps nothing.
pub(crate) struct Tiers {
    postgres: Postgres,
    redis: Redis,
    /// What a collector's configuration says of them.
    pub(crate) config: String,
}

impl Tiers {
    pub(crate) async fn start() -> Self {
        let (postgres, redis) = (Postgres::start_with("trust", &[]).await, Redis::start().await);
        let (warm, hot) = (postgres.database().await, redis.settings());
        let config = format!(
            "[warm]\nstore = 'postgres'\nhost = '{}'\nport = {}\ndatabase = '{}'\nuser = '{}'\ntls = 'off'\n\
             [hot]\nstore = 'redis'\nhost = '{}'\nprefix = '{}'\n",
            warm.host, warm.port, warm.database, warm.user, hot.host, hot.prefix
        );
        Self { postgres, redis, config }
    }

    /// One of all four parts, or both tiers.
    pub(crate) async fn kill(&mut self, site: &mut Site, dice: &mut Dice, stalls: &Watch) -> Result<String> {
        let (redis, postgres, program) = match dice.roll(6) {
            0 => (true, false, None),
            1 => (false, true, None),
            2 => (true, true, None),
            3 => (false, false, Some(Victim::Collector(0))),
            4 => (false, false, Some(Victim::Agent)),
            _ => (true, true, Some(Victim::Collector(0))),
        };
        stalls.count(program.is_none());
        if redis {
            self.redis.kill();
        }
        if postgres {
            self.postgres.kill();
        }
        if let Some(program) = program {
            site.kill(program)?;
        }
        dice.pause(1500).await;
        if redis {
            self.redis.restart().await;
        }
        if let Some(program) = program {
            site.restart(program)?;
        }
        dice.pause(500).await;
        if postgres {
            self.postgres.restart().await;
        }
        if program.is_some() {
            site.wait_until_up().await?;
        }
        let words = [(redis, "Redis".to_owned()), (postgres, "PostgreSQL".to_owned())];
        let tiers = words.into_iter().filter_map(|(killed, name)| killed.then_some(name));
        let killed: Vec<String> = tiers.chain(program.map(|program| format!("{program:?}"))).collect();
        Ok(format!("killed {}", killed.join(", ")))
    }
}
