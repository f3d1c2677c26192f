//! What types can't check.

use super::Config;
use super::mistakes::{Mistakes, ValueError};
use crate::etl::jobs::SettingsError;
use crate::inbox::settings as inbox;
use std::time::Duration;

impl Config {
    /// Everything that is read but can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut found = Mistakes::default();
        found.0.extend(self.jobs.mistakes().into_iter().map(|SettingsError { key, value, cause }| {
            ValueError::new(key, format!("\"{value}\""), &cause.to_string())
        }));
        for (key, value, why) in inbox::mistakes(&self.inbox) {
            found.unless(false, &key, format_args!("\"{value}\""), &why);
        }
        self.own_mistakes(&mut found);
        for others in [
            self.nodes.mistakes(),
            self.alerts.mistakes(),
            self.hot.mistakes(),
            self.warm.mistakes(),
            self.costs.mistakes(),
            self.cold.mistakes(),
            self.bigquery().mistakes(&self.inbox),
            self.sql.mistakes(),
        ] {
            found.add(others);
        }
        found
    }

    fn own_mistakes(&self, found: &mut Mistakes) {
        let (buffer, ingest, api) = (&self.buffer, &self.ingest, &self.api);
        let rows = buffer.flush_rows;
        found.unless((1..=1_000_000).contains(&rows), "buffer.flush_rows", rows, "1 to 1000000 are possible");
        for (key, duration, low, high) in [
            ("buffer.flush_interval", buffer.flush_interval, 10, 600_000),
            ("ingest.handshake_timeout", ingest.handshake_timeout, 100, 300_000),
            ("ingest.idle_timeout", ingest.idle_timeout, 1_000, 3_600_000),
            ("ingest.future_max", ingest.future_max, 0, 86_400_000),
            ("ingest.late_after", ingest.late_after, 1_000, 604_800_000),
        ] {
            let (low, high) = (Duration::from_millis(low), Duration::from_millis(high));
            let human = humantime::format_duration;
            let why = format!("{} to {} are possible", human(low), human(high));
            found.unless((low..=high).contains(&duration.0), key, duration, &why);
        }
        let nobody = "nobody could connect";
        found.unless(ingest.connections_max > 0, "ingest.connections_max", 0, nobody);
        found.unless(ingest.handshakes_max > 0, "ingest.handshakes_max", 0, nobody);
        let both = api.cert.is_some() == api.key.is_some();
        found.unless(both, "api.cert", "", "certificate and key belong together: say both or neither");
        let apart = api.listen != ingest.listen || api.listen.port() == 0;
        found.unless(apart, "api.listen", api.listen, "[ingest] listens there; each needs its own port");
        let bytes = self.spool.bytes_max;
        found.unless(bytes.as_u64() >= 16 << 20, "spool.bytes_max", bytes, "at least 16 MiB are needed");
    }
}
