//! The connection to Redis. It comes back by itself; while Redis is away, whoever only asks is told so at once instead
//! of waiting each time.

use super::TIER;
use crate::tiers::TierError;
use crate::tiers::hot::settings::HotSettings;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisError, ScriptInvocation,
    ServerErrorKind, TlsCertificates,
};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

/// After a failure nobody who only asks waits for Redis, for so long.
const QUIET: Duration = Duration::from_secs(1);

/// The connections.
pub(super) struct Link {
    settings: HotSettings,
    lines: Mutex<Lines>,
    place: String,
    quiet_until: Mutex<Option<Instant>>,
}

/// How the server is reached. They come back by themselves after a failure, but not when the server refused them: then they
/// are made anew, with the password as it stands in its file then.
struct Lines {
    client: Client,
    /// For what is put, in large pieces:
    putting: ConnectionManager,
    /// who asks doesn't wait behind that.
    asking: ConnectionManager,
    made: Instant,
}

/// Asks a server what it is, and whether it is set up so that nothing is lost.
///
/// # Errors
/// When it can't be reached, or drops data when its memory is full.
pub fn probe(settings: &HotSettings) -> Result<String, TierError> {
    let client = client(settings)?;
    let failed = |error: RedisError| TierError::Unavailable { tier: TIER, why: explained(&place(settings), &error) };
    let mut connection = client.get_connection_with_timeout(settings.timeout.0).map_err(failed)?;
    let info: String = redis::cmd("INFO").query(&mut connection).map_err(failed)?;
    if let Some(why) = fault(&info) {
        return Err(TierError::Unavailable { tier: TIER, why: format!("{}: {why}", place(settings)) });
    }
    Ok(format!("version {} at {}", field(&info, "redis_version"), place(settings)))
}

/// What is wrong with a server, as it tells itself: it would lose data, or takes none.
pub(super) fn fault(info: &str) -> Option<String> {
    let policy = field(info, "maxmemory_policy");
    if policy != "noeviction" {
        return Some(format!(
            "maxmemory-policy is {policy}: when memory is full it drops readings, alerts and sessions of its own accord; \
             set maxmemory-policy noeviction"
        ));
    }
    if field(info, "role") == "slave" && field(info, "slave_read_only") == "1" {
        return Some(format!("it is a replica that takes no writes{PRIMARY}"));
    }
    let bytes = |name| field(info, name).parse::<u64>().ok();
    let (used, most) = (bytes("used_memory")?, bytes("maxmemory")?);
    (most > 0 && used >= most).then(|| format!("its memory is full, {used} of {most} bytes{ROOM}"))
}

const PRIMARY: &str = "; [hot] host / REDIS_HOST must name the primary";
const ROOM: &str = "; raise Redis' maxmemory, or lower [hot] readings_max";

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(value).unwrap_or("unknown").trim()
}

fn place(settings: &HotSettings) -> String {
    if settings.host.starts_with('/') { settings.host.clone() } else { format!("{}:{}", settings.host, settings.port) }
}

fn client(settings: &HotSettings) -> Result<Client, TierError> {
    let broken = |why: String| TierError::Broken { tier: TIER, why };
    let address = if settings.host.starts_with('/') {
        ConnectionAddr::Unix(settings.host.clone().into())
    } else if settings.tls {
        let (host, port) = (settings.host.clone(), settings.port);
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(settings.host.clone(), settings.port)
    };
    let wrong = |error: RedisError| broken(format!("[hot] host = \"{}\": {error}", settings.host));
    let info = address.into_connection_info().map_err(wrong)?;
    let mut login = info.redis_settings().clone().set_db(i64::from(settings.database));
    if let Some(user) = &settings.user {
        login = login.set_username(user);
    }
    if let Some(password) = password(settings)? {
        login = login.set_password(password);
    }
    let info = info.set_redis_settings(login);
    if settings.tls {
        let certificates = TlsCertificates { client_tls: None, root_cert: authority(settings)? };
        return Client::build_with_tls(info, certificates).map_err(wrong);
    }
    Client::open(info).map_err(wrong)
}

fn authority(settings: &HotSettings) -> Result<Option<Vec<u8>>, TierError> {
    let Some(path) = &settings.tls_ca else { return Ok(None) };
    fs::read(path).map(Some).map_err(|error| unreadable("tls_ca", path, &error))
}

fn unreadable(key: &str, path: &Path, error: &io::Error) -> TierError {
    TierError::Broken { tier: TIER, why: format!("[hot] {key} = \"{}\": {error}", path.display()) }
}

impl Lines {
    fn new(settings: &HotSettings) -> Result<Self, TierError> {
        let client = client(settings)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(settings.timeout.0))
            .set_response_timeout(Some(settings.timeout.0));
        let manager = || {
            let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone());
            manager.map_err(|error| TierError::Broken { tier: TIER, why: error.to_string() })
        };
        let (putting, asking) = (manager()?, manager()?);
        Ok(Self { client, putting, asking, made: Instant::now() })
    }
}

impl Link {
    /// Not connected yet: that is made when it is first needed.
    ///
    /// # Errors
    /// When the settings make no address, or the password can't be read.
    pub(super) fn new(settings: &HotSettings) -> Result<Self, TierError> {
        let lines = Mutex::new(Lines::new(settings)?);
        Ok(Self { settings: settings.clone(), lines, place: place(settings), quiet_until: Mutex::default() })
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another connection, for subscriptions.
    pub(super) fn client(&self) -> Client {
        self.lines().client.clone()
    }

    /// Where it is, for messages.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Runs a script for someone who only asks.
    pub(super) async fn ask<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, TierError> {
        self.not_quiet()?;
        let asking = self.lines().asking.clone();
        self.run(call, asking).await
    }

    /// Runs a script for someone who tries until it works.
    pub(super) async fn tell<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, TierError> {
        let putting = self.lines().putting.clone();
        self.run(call, putting).await
    }

    async fn run<T>(&self, call: &ScriptInvocation<'_>, mut by: ConnectionManager) -> Result<T, TierError>
    where
        T: FromRedisValue,
    {
        let mut outcome = call.invoke_async(&mut by).await;
        // The connection may have been dead for long: that shows when it is used. Nothing is wrong when it is done twice.
        if outcome.as_ref().is_err_and(|e: &RedisError| e.is_connection_dropped()) {
            outcome = call.invoke_async(&mut by).await;
        }
        self.watched(outcome)
    }

    /// Runs a command for someone who only asks.
    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, TierError> {
        self.not_quiet()?;
        let mut asking = self.lines().asking.clone();
        let outcome = command.query_async(&mut asking).await;
        self.watched(outcome)
    }

    /// The bytes that the server takes, when it says so.
    pub(super) async fn memory(&self) -> Option<u64> {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let memory: String = self.command(&info).await.ok()?;
        field(&memory, "used_memory").parse().ok()
    }

    /// Whether it is worth asking.
    ///
    /// # Errors
    /// When it didn't answer a moment ago.
    pub(super) fn not_quiet(&self) -> Result<(), TierError> {
        let quiet = *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
        match quiet {
            Some(until) if Instant::now() < until => Err(self.unavailable("it didn't answer a moment ago")),
            _ => Ok(()),
        }
    }

    fn watched<T>(&self, outcome: Result<T, RedisError>) -> Result<T, TierError> {
        let away = outcome.as_ref().is_err_and(|e| e.is_io_error() || e.is_timeout() || e.is_connection_dropped());
        *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = away.then(|| Instant::now() + QUIET);
        if outcome.as_ref().is_err_and(is_refusal) {
            self.renew();
        }
        outcome.map_err(|error| self.explain(&error))
    }

    /// Whoever is still on the old ones notes their failure later, and they are not made anew for that.
    fn renew(&self) {
        let mut lines = self.lines();
        if lines.made.elapsed() < QUIET {
            return;
        }
        match Lines::new(&self.settings) {
            Ok(new) => *lines = new,
            Err(error) => {
                tracing::debug!(%error, "no new connection to Redis");
                lines.made = Instant::now();
            }
        }
    }

    /// What to do about an error.
    pub(super) fn explain(&self, error: &RedisError) -> TierError {
        TierError::Unavailable { tier: TIER, why: explained(&self.place, error) }
    }

    fn unavailable(&self, why: &str) -> TierError {
        TierError::Unavailable { tier: TIER, why: format!("{}: {why}", self.place) }
    }
}

/// Whether a server refuses whoever connects so.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::AuthenticationFailed)
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
        || error.to_string().contains("DB index is out of range")
}

fn explained(place: &str, error: &RedisError) -> String {
    let text = error.to_string();
    let advice = match (error.kind(), error.code()) {
        // What a server says to whoever shows no password and asks for more than a few words.
        _ if text.contains("unauthenticated") => "; see [hot] password_file, or REDIS_PASSWORD",
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
            "; see [hot] user and password_file, or REDIS_PASSWORD"
        }
        _ if text.contains("certificate") => "; see [hot] tls_ca, and the name in host",
        (_, Some("NOPERM")) => "; the user of [hot] needs all commands on the keys and channels of [hot] prefix",
        _ if text.contains("DB index is out of range") => "; see [hot] database / REDIS_DB",
        (_, Some("OOM")) => ROOM,
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => PRIMARY,
        (ErrorKind::Io, _) => "; check [hot] host / REDIS_HOST and port / REDIS_PORT",
        _ => "",
    };
    format!("{place}: {text}{advice}")
}

fn password(settings: &HotSettings) -> Result<Option<String>, TierError> {
    if let Some(password) = &settings.password {
        return Ok(Some(password.reveal().to_owned()));
    }
    let Some(path) = &settings.password_file else { return Ok(None) };
    let text = fs::read_to_string(path).map_err(|error| unreadable("password_file", path, &error))?;
    Ok(text.lines().next().map(str::to_owned))
}
