//! `collector check`: every mistake at once, and what `run` would do.

mod inboxes;

use super::print::{GREEN, RED, YELLOW};
use super::{WRONG, migrate};
use crate::config::{Config, LoadError};
use crate::revocation;
use crate::run;
use crate::tiers::cold::bigquery::BigQueryCold;
use crate::tiers::cold::lost;
use crate::tiers::cold::settings::Store;
use crate::tiers::hot;
use crate::tiers::warm::postgres::PostgresWarm;
use crate::tiers::warm::{self, SchemaReport};
use crate::tiers::{Day, TierError};
use anstream::println;
use serde::Serialize;
use shared::reading::Timestamp;
use shared::tls::file::{self, About, Expiry};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// An archive that is longer in answering isn't there.
const ARCHIVE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Error,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    detail: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: &'static str, verdict: Verdict, detail: impl Into<String>) {
        self.0.push(Finding { what, verdict, detail: detail.into() });
    }

    fn worst(&self) -> Verdict {
        let has = |verdict| self.0.iter().any(|finding| finding.verdict == verdict);
        if has(Verdict::Error) {
            Verdict::Error
        } else if has(Verdict::Warning) {
            Verdict::Warning
        } else {
            Verdict::Ok
        }
    }
}

/// Looks and tells; changes nothing.
pub(super) fn check(path: &Path, json: bool) -> ExitCode {
    let mut findings = Findings::default();
    match Config::load(path) {
        Ok(config) => look(path, &config, &mut findings),
        Err(LoadError::Read(error)) => findings.add("configuration", Verdict::Error, error.to_string()),
        Err(LoadError::Values(all)) => {
            all.iter().for_each(|one| findings.add("configuration", Verdict::Error, one.to_string()));
        }
    }
    if json {
        println!("{}", serde_json::json!({ "verdict": findings.worst(), "findings": findings.0 }));
    } else {
        show(&findings);
    }
    if findings.worst() == Verdict::Error { ExitCode::from(WRONG) } else { ExitCode::SUCCESS }
}

fn show(findings: &Findings) {
    for Finding { what, verdict, detail } in &findings.0 {
        let (style, word) = match verdict {
            Verdict::Ok => (GREEN, "ok"),
            Verdict::Warning => (YELLOW, "warning"),
            Verdict::Error => (RED, "error"),
        };
        println!("{style}{word:<8}{style:#} {what:<14} {detail}");
    }
}

fn look(path: &Path, config: &Config, findings: &mut Findings) {
    findings.add("configuration", Verdict::Ok, format!("{} is read", path.display()));
    for idle in config.idle_settings(|name| std::env::var(name).ok()) {
        findings.add("environment", Verdict::Warning, idle);
    }
    level(config, findings);
    address("[ingest]", config.ingest.listen, findings);
    address("[api]", config.api.listen, findings);
    api(config, findings);
    folder(config, findings);
    warm_tier(config, findings);
    cold(config, findings);
    certificates(config, findings);
    grants(config, findings);
    inboxes::look(config, findings);
    hot(config, findings);
    alerts(config, findings);
    let (rows, interval) = (config.buffer.flush_rows, config.buffer.flush_interval);
    findings.add("[buffer]", Verdict::Ok, format!("commits every {interval}, or with {rows} readings"));
}

/// What somebody else answers.
fn asked<T>(question: impl Future<Output = Result<T, TierError>>) -> Result<T, TierError> {
    let cant = |error: std::io::Error| TierError::Unavailable { tier: "this process", why: error.to_string() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cant)?;
    let answer = runtime.block_on(question);
    runtime.shutdown_background(); // what hangs in the system isn't waited for
    answer
}

/// What the archive answers, if it does.
fn archive<T>(config: &Config, question: impl Future<Output = Result<T, TierError>>) -> Result<T, TierError> {
    let silent = |_| {
        let (place, time) = (config.cold.place(&config.cold_dir()), humantime::format_duration(ARCHIVE_WITHIN));
        let why = format!("{place} hasn't answered within {time}; look at [cold], the network, and what answers there");
        Err(TierError::Unavailable { tier: "cold tier", why })
    };
    asked(async { tokio::time::timeout(ARCHIVE_WITHIN, question).await.unwrap_or_else(silent) })
}

/// Also whether the files of secrets can be read.
fn alerts(config: &Config, findings: &mut Findings) {
    match config.alerts.channels() {
        Err(error) => findings.add("[alerts]", Verdict::Error, error.to_string()),
        Ok(none) if none.is_empty() => {
            findings.add("[alerts]", Verdict::Ok, "nobody is told what stands; it is on the dashboard");
        }
        Ok(channels) => {
            let names: Vec<&str> = channels.iter().map(|channel| channel.name()).collect();
            let detail = format!("what stands is told by {}; `collector alerts test` tries it", names.join(" and "));
            findings.add("[alerts]", Verdict::Ok, detail);
        }
    }
}

fn api(config: &Config, findings: &mut Findings) {
    let Some((cert, key)) = config.api_identity() else {
        if !config.api.listen.ip().is_loopback() {
            let detail =
                "answers without TLS beyond this machine (plain_http = true): passwords can be read on the way";
            findings.add("[api]", Verdict::Warning, detail);
        }
        return;
    };
    match shared::tls::public_server_config(&cert, &key).and_then(|_| file::about(&cert)) {
        Ok(found) => expiry("[api]", &cert, &found, findings),
        Err(error) => findings.add("[api]", Verdict::Error, error.to_string()),
    }
}

fn hot(config: &Config, findings: &mut Findings) {
    let (hours, settings) = (config.hot.ttl_hours, &config.hot);
    match settings.store() {
        hot::settings::Store::Memory => {
            findings.add("[hot]", Verdict::Ok, format!("the last {hours} h in memory"));
            if config.warm.store() == warm::settings::Store::Postgres {
                let detail =
                    "in memory this collector doesn't see what others take in: with several, set store = \"redis\"";
                findings.add("[hot]", Verdict::Warning, detail);
            }
        }
        hot::settings::Store::Redis => match hot::redis::probe(settings) {
            Ok(found) => findings.add("[hot]", Verdict::Ok, format!("the last {hours} h in Redis, {found}")),
            Err(error) => findings.add("[hot]", Verdict::Warning, format!("{error}; `run` goes on without it")),
        },
    }
}

/// Days wait in the warm tier while the archive can't be written, so that is no error of the configuration.
fn cold(config: &Config, findings: &mut Findings) {
    if config.cold.store() == Store::BigQuery {
        return bigquery(config, findings);
    }
    if let Some(why) = config.cold.credentials_file.as_deref().and_then(file::readable_by_all) {
        findings.add("[cold]", Verdict::Warning, why);
    }
    let Some(url) = &config.cold.url else {
        let folder = config.cold.folder.clone().unwrap_or_else(|| config.cold_dir());
        return match writable(&folder) {
            Ok(_) => files(config, &folder, findings),
            Err(why) => findings.add("[cold]", Verdict::Error, format!("folder: {why}")),
        };
    };
    match archive(config, config.cold.probe()) {
        Ok(()) => findings.add("[cold]", Verdict::Ok, format!("Parquet files at {url}, written and read")),
        Err(error) => findings.add("[cold]", Verdict::Warning, error.to_string()),
    }
}

/// Of days that have left the database its files have all there is.
fn files(config: &Config, folder: &Path, findings: &mut Findings) {
    // While the database can't be asked nobody knows which they are.
    let archived = asked(warm::archived(&config.warm, &config.warm_file())).unwrap_or_default();
    let there = async {
        match folder.is_dir() {
            true => config.cold.open(folder)?.days(Day::FIRST, Day::LAST.next()).await,
            false => Ok(Vec::new()), // it is made by `run`
        }
    };
    let there: BTreeSet<Day> = match archive(config, there) {
        Ok(days) => days.into_iter().collect(),
        Err(error) => return findings.add("[cold]", Verdict::Warning, error.to_string()),
    };
    let lost: Vec<Day> = archived.days.into_iter().filter(|day| !there.contains(day)).collect();
    let place = folder.display().to_string();
    if lost.is_empty() {
        findings.add("[cold]", Verdict::Ok, format!("Parquet files in {place}"));
    } else {
        findings.add("[cold]", Verdict::Warning, lost::words(&place, &lost));
    }
}

/// Days stay in the database while it can't be used, so that is no error of the configuration.
fn bigquery(config: &Config, findings: &mut Findings) {
    let (settings, place) = (&config.cold.bigquery, config.cold.place(&config.cold_dir()));
    if let Some(why) = settings.credentials_file.as_deref().and_then(file::readable_by_all) {
        findings.add("[cold]", Verdict::Warning, why);
    }
    match archive(config, BigQueryCold::check(settings)) {
        Ok(None) => findings.add("[cold]", Verdict::Ok, format!("BigQuery, {place}")),
        Ok(Some(to_do)) => findings.add("[cold]", Verdict::Ok, format!("BigQuery, {place}: {to_do}")),
        Err(error) => {
            let detail = format!("{error}; `run` goes on without it, and days stay in the database");
            findings.add("[cold]", Verdict::Warning, detail);
        }
    }
}

fn level(config: &Config, findings: &mut Findings) {
    let level = config.log.level.as_deref().unwrap_or("info");
    if let Err(error) = shared::telemetry::check_level(level) {
        findings.add("[log]", Verdict::Error, error.to_string());
    }
}

/// Binding says what no look can say. A collector that runs with this configuration holds it already.
fn address(what: &'static str, address: SocketAddr, findings: &mut Findings) {
    match TcpListener::bind(address) {
        Ok(_) => findings.add(what, Verdict::Ok, format!("would listen on {address}")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            findings.add(what, Verdict::Warning, format!("{address} is in use, maybe by the running collector"));
        }
        Err(error) => findings.add(what, Verdict::Error, format!("listen = \"{address}\": {error}")),
    }
}

/// The nearest folder that is there, when it can be written: a missing one is made by `run`.
fn writable(folder: &Path) -> Result<&Path, String> {
    if folder.exists() && !folder.is_dir() {
        return Err(format!("{} is a file; a folder is needed", folder.display()));
    }
    let there = folder.ancestors().find(|f| f.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::access(there, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Ok(there),
        Err(_) => Err(format!("{} can't be written by this user", there.display())),
    }
}

fn folder(config: &Config, findings: &mut Findings) {
    let folder = &config.data_dir;
    let there = match writable(folder) {
        Ok(there) => there,
        Err(why) => return findings.add("data_dir", Verdict::Error, why),
    };
    let free = rustix::fs::statvfs(there).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let bound = config.spool.bytes_max;
    let held = std::fs::metadata(config.warm_file()).map(|meta| meta.len()).ok();
    match free {
        Ok(free) => {
            let free = bytesize::ByteSize::b(free);
            let mut detail = format!("{}: {free} free, the spool takes {bound} at most", folder.display());
            if let Some(held) = held {
                detail += &format!(", {} in warm.sqlite", bytesize::ByteSize::b(held));
            }
            let tight = free.as_u64() < bound.as_u64().saturating_add(config.spool.disk_free_min.as_u64());
            if tight {
                detail += ": gateways are held back before the spool's own bound is met";
            }
            findings.add("data_dir", if tight { Verdict::Warning } else { Verdict::Ok }, detail);
        }
        Err(error) => findings.add("data_dir", Verdict::Error, format!("{}: {error}", there.display())),
    }
}

/// What comes waits in the spool while a server can't be used, so that is no error of the configuration. A server may come
/// back by itself; a file waits for a person.
fn warm_tier(config: &Config, findings: &mut Findings) {
    let left_behind = || asked(async { Ok(run::left_behind(config).await) }).ok()?.err();
    if let Some(error) = run::moved(config).err().or_else(left_behind) {
        return findings.add("[warm]", Verdict::Error, error.to_string());
    }
    let place = migrate::place(config);
    let report = match asked(warm::check(&config.warm, &config.warm_file())) {
        Ok(report) => report,
        Err(error) => {
            let may_come_back = config.warm.store() == warm::settings::Store::Postgres;
            let verdict = if may_come_back { Verdict::Warning } else { Verdict::Error };
            return findings.add("[warm]", verdict, error.to_string());
        }
    };
    let SchemaReport { store, pending, wrong, missing } = &report;
    let detail = match (wrong.first().or(missing.first()), pending.len()) {
        (Some(first), _) => format!("{store}, {place}: {first}; `collector migrate --check` tells all"),
        (None, 0) => format!("{store}, {place}"),
        (None, count) => format!("{store}, {place}: {count} migrations would be run"),
    };
    let fine = wrong.is_empty() && missing.is_empty();
    findings.add("[warm]", if fine { Verdict::Ok } else { Verdict::Warning }, detail);
    if config.warm.store() == warm::settings::Store::Postgres
        && let Err(error) = asked(PostgresWarm::check_replica(&config.warm))
    {
        findings.add("[warm]", Verdict::Warning, format!("{error}; `run` asks the primary instead"));
    }
}

fn certificates(config: &Config, findings: &mut Findings) {
    let (ca, cert, key) = (config.ca(), config.cert(), config.key());
    match shared::tls::server_config(&ca, &cert, &key) {
        Ok(_) => {
            for (what, path) in [("authority", &ca), ("certificate", &cert)] {
                match file::about(path) {
                    Ok(found) => expiry(what, path, &found, findings),
                    Err(error) => findings.add(what, Verdict::Error, error.to_string()),
                }
            }
            if file::about(&cert).is_ok_and(|found| !found.for_servers) {
                let detail = format!(
                    "{} is a gateway's, no gateway would talk to who shows it; `collector ca init` makes a server's",
                    cert.display()
                );
                findings.add("certificate", Verdict::Error, detail);
            }
            for secret in [key, config.ca_dir().join("ca.key")] {
                if let Some(why) = file::readable_by_all(&secret) {
                    findings.add("key", Verdict::Warning, why);
                }
            }
        }
        Err(error) => {
            let detail = format!("{error}; `collector ca init` makes an authority and a certificate");
            findings.add("certificate", Verdict::Error, detail);
        }
    }
    match revocation::read(&config.revoked()) {
        Ok(list) => {
            for line in &list.unreadable {
                let detail = format!("{}:{line}: no serial number; the line is skipped", config.revoked().display());
                findings.add("revoked", Verdict::Warning, detail);
            }
            let count = list.serials.len();
            findings.add("revoked", Verdict::Ok, format!("{count} certificates in {}", config.revoked().display()));
        }
        Err(error) => {
            findings.add("revoked", Verdict::Error, format!("{}: {error}", config.revoked().display()));
        }
    }
}

fn expiry(what: &'static str, path: &Path, found: &About, findings: &mut Findings) {
    let date = found.last_day();
    let (verdict, words) = match found.expiry(Timestamp::wall_clock()) {
        Expiry::Ended => (Verdict::Error, format!("ended on {date}")),
        Expiry::Soon(days) => (Verdict::Warning, format!("ends on {date}, in {days} days")),
        Expiry::Later => (Verdict::Ok, format!("holds until {date}")),
    };
    findings.add(what, verdict, format!("{} ({}) {words}", path.display(), found.names.join(", ")));
}

fn grants(config: &Config, findings: &mut Findings) {
    if config.grants.is_empty() {
        let detail = "no gateway may write anything: add lines like STATION_7 = [\"DIST_*\"]";
        findings.add("[grants]", Verdict::Warning, detail);
    }
    for (gateway, nodes) in config.grants.iter() {
        let verdict = if nodes.is_empty() { Verdict::Warning } else { Verdict::Ok };
        let nodes = if nodes.is_empty() { "nothing".to_owned() } else { nodes.join(", ") };
        findings.add("[grants]", verdict, format!("{gateway} may write {nodes}"));
    }
}
