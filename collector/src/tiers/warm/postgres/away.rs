//! A server that is away is left alone.
//!
//! When a connection is long in coming, one of its own is tried beside the pools: so a pool whose connections are all at
//! work isn't taken for a server that is away, and neither is a server that says no. When it says that it has no room for
//! another one, whoever waits is told that. While it is away everybody fails at
//! once, and it is tried in the background until it is back. A commit tries for itself now and then, so nothing that is
//! wrong here can keep it away.

use super::fault::{failed, is_away, is_full, unavailable, why};
use crate::tiers::TierError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A connection that is longer in coming may never come.
const SUSPICIOUS: Duration = Duration::from_millis(500);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// A server, and whether it is away.
#[derive(Clone)]
pub(super) struct Server(Arc<Watched>);

struct Watched {
    options: PgConnectOptions,
    /// A connection that takes longer is none.
    within: Duration,
    suspicious: Duration,
    pause: Duration,
    gone: watch::Sender<Option<Gone>>,
    /// Why it gives no further connection, though it is there.
    full: Mutex<Option<String>>,
    /// It is being tried.
    looking: AtomicBool,
}

/// That it is away.
#[derive(Clone)]
struct Gone {
    why: String,
    /// When that was found last.
    at: Instant,
}

impl Gone {
    fn error(&self) -> TierError {
        unavailable(&self.why)
    }
}

impl fmt::Debug for Server {
    /// Without the options: a password is among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("away", &self.gone().map(|gone| gone.why)).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn new(options: PgConnectOptions, within: Duration) -> Self {
        Self::with_pace(options, within, SUSPICIOUS, PAUSE)
    }

    fn with_pace(options: PgConnectOptions, within: Duration, suspicious: Duration, pause: Duration) -> Self {
        let (gone, full, looking) = (watch::channel(None).0, Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Watched { options, within, suspicious, pause, gone, full, looking }))
    }

    fn gone(&self) -> Option<Gone> {
        self.0.gone.borrow().clone()
    }

    /// Does what needs a connection, but not while the server is away, and no longer than until it turns out to be.
    pub(super) async fn unless_away<T>(
        &self,
        work: impl Future<Output = Result<T, TierError>>,
    ) -> Result<T, TierError> {
        if let Some(gone) = self.gone() {
            return Err(gone.error());
        }
        tokio::select! {
            biased;
            done = work => done,
            error = self.turns_out_away() => Err(error),
        }
    }

    async fn turns_out_away(&self) -> TierError {
        loop {
            if let Ok(gone) = tokio::time::timeout(self.0.suspicious, self.is_away()).await {
                return gone.error();
            }
            self.look();
            // Who waits for one that another has may wait; for a further one there is nothing to wait for.
            if let Some(why) = self.0.full().clone() {
                return unavailable(why);
            }
        }
    }

    async fn is_away(&self) -> Gone {
        let mut gone = self.0.gone.subscribe();
        match gone.wait_for(Option::is_some).await.ok().and_then(|gone| gone.clone()) {
            Some(gone) => gone,
            None => std::future::pending().await, // we hold the other end
        }
    }

    /// Connects all the same when the server is away, if that wasn't tried a moment ago. What succeeds says that it is back.
    pub(super) async fn try_again<T>(
        &self,
        connect: impl Future<Output = Result<T, TierError>>,
    ) -> Result<(), TierError> {
        let Some(gone) = self.gone() else { return Ok(()) };
        if gone.at.elapsed() < self.0.pause {
            return Err(gone.error());
        }
        connect.await?;
        self.0.say(None);
        Ok(())
    }

    /// Has it tried, one connection at a time and not too often, until one can be had.
    fn look(&self) {
        if self.0.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let watched = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some(server) = watched.upgrade() {
                let (there, pause) = (server.is_there().await, server.pause);
                drop(server);
                tokio::time::sleep(pause).await;
                if there {
                    break;
                }
            }
            if let Some(server) = watched.upgrade() {
                server.looking.store(false, Ordering::Release);
            }
        });
    }
}

/// What came of a connection of our own.
enum Tried {
    There,
    Full(String),
    Away(String),
}

impl Watched {
    /// Tries it, and says what came of it.
    async fn is_there(&self) -> bool {
        let was_away = self.gone.borrow().is_some();
        let (why, full) = match self.attempt().await {
            Tried::There => (None, None),
            Tried::Full(why) => (None, Some(why)),
            Tried::Away(why) => (Some(why), None),
        };
        *self.full() = full;
        // A try that hung says nothing against a commit that got through meanwhile.
        let overtaken = was_away && self.gone.borrow().is_none();
        let there = why.is_none() || overtaken;
        if !overtaken {
            self.say(why);
        }
        there
    }

    async fn attempt(&self) -> Tried {
        let connect = async { self.options.connect().await?.close().await };
        match tokio::time::timeout(self.within, connect).await {
            Ok(Err(error)) if is_away(&error) => Tried::Away(why(failed(error))),
            Ok(Err(error)) if is_full(&error) => Tried::Full(why(failed(error))),
            Ok(_) => Tried::There,
            Err(_) => Tried::Away(why(failed(sqlx::Error::PoolTimedOut))),
        }
    }

    fn full(&self) -> MutexGuard<'_, Option<String>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, why: Option<String>) {
        let gone = why.map(|why| Gone { why, at: Instant::now() });
        let before = self.gone.send_replace(gone.clone());
        match (before, gone) {
            (None, Some(Gone { why, .. })) => tracing::warn!(why, "PostgreSQL is away; nobody waits for it"),
            (Some(_), None) => tracing::info!("PostgreSQL is back"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::postgres::PgSslMode;
    use std::future::{pending, ready};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Semaphore;

    /// Longer than anything here takes.
    const HOUR: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(5);

    /// One at that place that is waited for as good as for ever, and tried again after so long.
    fn server(listener: &TcpListener, pause: Duration) -> Server {
        let port = listener.local_addr().unwrap().port();
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("nobody");
        Server::with_pace(options.ssl_mode(PgSslMode::Disable), HOUR, SHORT, pause)
    }

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    async fn came(listener: &TcpListener) -> TcpStream {
        listener.accept().await.unwrap().0
    }

    /// Lets everybody in who comes, and counts them.
    async fn greet(listener: TcpListener, count: Arc<Semaphore>) {
        loop {
            let mut socket = came(&listener).await;
            socket.read_buf(&mut Vec::with_capacity(1_000)).await.unwrap();
            socket.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
            count.add_permits(1);
        }
    }

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), future).await.expect("it took too long")
    }

    async fn is_told(server: &Server) -> bool {
        within(server.unless_away(pending::<Result<(), TierError>>())).await.is_err()
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_away_for_everybody_until_it_is_back() {
        let listener = listener().await;
        let (address, server) = (listener.local_addr().unwrap(), server(&listener, SHORT));
        drop(listener);
        assert!(is_told(&server).await, "whoever waits is told");
        let asked = async { panic!("nobody asks it") };
        assert!(server.unless_away::<()>(asked).await.is_err(), "and who comes after that needn't even wait");
        tokio::spawn(greet(TcpListener::bind(address).await.unwrap(), Arc::new(Semaphore::new(0))));
        within(server.0.gone.subscribe().wait_for(Option::is_none)).await.unwrap();
        server.unless_away(ready(Ok(()))).await.unwrap();
    }

    #[tokio::test]
    async fn a_pool_whose_connections_are_all_at_work_is_no_server_that_is_away() {
        let (listener, looks) = (listener().await, Arc::new(Semaphore::new(0)));
        let server = server(&listener, SHORT);
        tokio::spawn(greet(listener, looks.clone()));
        let waiting = async {
            looks.acquire_many(2).await.unwrap().forget();
            Ok(())
        };
        within(server.unless_away(waiting)).await.unwrap();
        assert!(server.gone().is_none());
    }

    #[tokio::test]
    async fn a_commit_that_comes_after_a_while_tries_for_itself() {
        let listener = listener().await;
        let (soon, later) = (server(&listener, HOUR), server(&listener, SHORT));
        let (told, _) = tokio::join!(is_told(&soon), async { drop(came(&listener).await) });
        assert!(told);
        let asked = async { panic!("it was tried just now") };
        assert!(soon.try_again::<()>(asked).await.is_err());

        let (told, _) = tokio::join!(is_told(&later), async { drop(came(&listener).await) });
        assert!(told);
        let hangs = within(came(&listener)).await;
        let refused = || ready(Err::<(), _>(unavailable("refused")));
        assert!(later.try_again(refused()).await.is_err());
        assert!(is_told(&later).await, "it is away still");
        later.try_again(ready(Ok(()))).await.unwrap();
        later.unless_away(ready(Ok(()))).await.unwrap();
        drop(hangs);
        let over = async {
            while later.0.looking.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
        };
        within(over).await;
        assert!(later.gone().is_none(), "a try that began before says nothing against that");
    }
}
