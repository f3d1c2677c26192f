//! HTTPS: a listener whose connections have shaken hands, with certificates that are read again when their files change.

use crate::ingest::waiting::Waiting;
use axum::serve::Listener;
use rustls::ServerConfig;
use shared::tls::TlsError;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long a handshake may take, and how many at a time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
const HANDSHAKES_MAX: usize = 64;
/// Connections that wait to be served.
const READY_MAX: usize = 16;
/// After an error of accepting, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Between looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A certificate and its key, as of the files' last change.
pub struct Identity {
    cert: PathBuf,
    key: PathBuf,
    now: Mutex<Arc<ServerConfig>>,
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn open(cert: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let now = Mutex::new(shared::tls::public_server_config(cert, key)?);
        Ok(Arc::new(Self { cert: cert.into(), key: key.into(), now }))
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    fn changed(&self) -> Vec<Option<SystemTime>> {
        [&self.cert, &self.key].map(|file| std::fs::metadata(file).and_then(|meta| meta.modified()).ok()).into()
    }

    /// Reads them again when they change; what can't be used is told, and the old ones hold.
    async fn keep(self: Arc<Self>, every: Duration) {
        let mut before = self.changed();
        loop {
            tokio::time::sleep(every).await;
            let now = self.changed();
            if now == before {
                continue;
            }
            before = now;
            match shared::tls::public_server_config(&self.cert, &self.key) {
                Ok(config) => {
                    *self.now.lock().unwrap_or_else(PoisonError::into_inner) = config;
                    tracing::info!(cert = %self.cert.display(), "the API has a new certificate");
                }
                Err(error) => tracing::error!(%error, "the API's new certificate can't be used; the old one holds"),
            }
        }
    }
}

/// Gives connections that have shaken hands.
pub struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    _end: tokio_util::sync::DropGuard,
}

impl TlsListener {
    /// Over a bound listener.
    ///
    /// # Errors
    /// When it doesn't know its own address.
    pub fn new(listener: TcpListener, identity: Arc<Identity>) -> io::Result<Self> {
        Self::looking_every(listener, identity, LOOK_EVERY)
    }

    fn looking_every(listener: TcpListener, identity: Arc<Identity>, every: Duration) -> io::Result<Self> {
        let (address, (ready, connections)) = (listener.local_addr()?, mpsc::channel(READY_MAX));
        let end = CancellationToken::new();
        let (accepting, keeping) = (end.clone(), end.clone());
        let keeper = identity.clone();
        tokio::spawn(async move { keeping.run_until_cancelled(keeper.keep(every)).await });
        tokio::spawn(async move { accepting.run_until_cancelled(accept(listener, identity, ready)).await });
        Ok(Self { address, ready: connections, _end: end.drop_guard() })
    }
}

async fn accept(
    listener: TcpListener,
    identity: Arc<Identity>,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let waiting = Waiting::new(HANDSHAKES_MAX);
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "a connection to the API can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (place, _) = waiting.enter(peer.ip());
        let (acceptor, ready) = (identity.acceptor(), ready.clone());
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            let shaking = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(tcp));
            let shaken = place.pushed_out.run_until_cancelled(shaking).await;
            drop(place);
            match shaken {
                Some(Ok(Ok(tls))) => {
                    let _ = ready.send((tls, peer)).await;
                }
                Some(Ok(Err(error))) => tracing::debug!(%peer, %error, "no TLS on the API's port"),
                _ => {}
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await, // only at the end
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{Authority, Role};
    use rustls_pki_types::ServerName;
    use rustls_pki_types::pem::PemObject as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// The serial number that is shown, after an exchange of a byte.
    async fn shown(address: SocketAddr, ca: &Path) -> Vec<u8> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls_pki_types::CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        tls.write_all(b"x").await.unwrap();
        let mut answer = [0];
        tls.read_exact(&mut answer).await.unwrap();
        let chain = tls.get_ref().1.peer_certificates().unwrap();
        x509_parser::parse_x509_certificate(&chain[0]).unwrap().1.raw_serial().to_vec()
    }

    #[tokio::test]
    async fn a_new_certificate_is_shown_as_soon_as_it_lies_there_and_a_wrong_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, files) = Authority::init(folder.path(), &["localhost".into()]).unwrap();
        let identity = Identity::open(&files.cert, &files.key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ca) = (listener.local_addr().unwrap(), folder.path().join("ca.pem"));
        let mut listener = TlsListener::looking_every(listener, identity, Duration::from_millis(10)).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await;
                tokio::spawn(async move {
                    let mut byte = [0];
                    let _ = connection.read_exact(&mut byte).await;
                    let _ = connection.write_all(&byte).await;
                });
            }
        });
        // Someone who says nothing keeps nobody out.
        let _silent = TcpStream::connect(address).await.unwrap();
        let first = shown(address, &ca).await;
        let next = authority.issue("collector-2", Role::Server, &["localhost".into()], false).unwrap();
        std::fs::write(&files.cert, "no certificate").unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(shown(address, &ca).await, first);
        std::fs::copy(&next.key, &files.key).unwrap();
        std::fs::copy(&next.cert, &files.cert).unwrap();
        let changed = async {
            while shown(address, &ca).await == first {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), changed).await.unwrap();
    }
}
