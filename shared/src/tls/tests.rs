//! TLS between two real ends over a loopback connection, with certificates made for each test.

use super::*;
use crate::ids::hex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SerialNumber, date_time_ymd,
};
use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::{ServerName, UnixTime};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A clock that stands still.
#[derive(Debug)]
struct At(u64);
impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}
fn year(year: u64) -> Arc<dyn TimeProvider> {
    Arc::new(At((year - 1970) * 31_557_600))
}
fn now() -> Arc<dyn TimeProvider> {
    Arc::new(rustls::time_provider::DefaultTimeProvider)
}

const SERIAL: [u8; 4] = [0x0a, 0xbb, 0x00, 0x01];

/// An authority and the folder its files are in.
struct Ca {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let (folder, key) = (tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::default();
        params.distinguished_name = name("test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("ca.pem"), cert.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// With a server's certificate, and a gateway's.
    fn with_both() -> Self {
        let ca = Self::new();
        ca.issue("server", ExtendedKeyUsagePurpose::ServerAuth, |_| {});
        ca.issue("STATION_7", ExtendedKeyUsagePurpose::ClientAuth, |_| {});
        ca
    }

    fn issue(&self, common_name: &str, usage: ExtendedKeyUsagePurpose, change: impl Fn(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        params.distinguished_name = name(common_name);
        params.serial_number = Some(SerialNumber::from_slice(&SERIAL));
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2090, 1, 1);
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{common_name}.pem")), cert.pem()).unwrap();
        fs::write(self.path(&format!("{common_name}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }
    fn server(&self) -> Arc<ServerConfig> {
        server_config(&self.path("ca.pem"), &self.path("server.pem"), &self.path("server.key")).unwrap()
    }
    fn client(&self, time: Arc<dyn TimeProvider>) -> Arc<ClientConfig> {
        let (cert, key) = (self.path("STATION_7.pem"), self.path("STATION_7.key"));
        client_config(&self.path("ca.pem"), &cert, &key, time).unwrap()
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// What an end knows of a connection over which a byte went there and back.
#[derive(Debug)]
struct Seen {
    version: Option<ProtocolVersion>,
    alpn: Option<Vec<u8>>,
    kind: Option<HandshakeKind>,
    peer: Vec<CertificateDer<'static>>,
}

impl Seen {
    fn of(connection: &rustls::CommonState) -> Self {
        Self {
            version: connection.protocol_version(),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            kind: connection.handshake_kind(),
            peer: connection.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect(),
        }
    }
}

/// Connects the two; what the client and what the server saw. In TLS 1.3 the client is done before the server has
/// looked at its certificate, so a byte goes there and back first.
async fn connect(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    host: &'static str,
) -> (Result<Seen, String>, Result<Seen, String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (tcp, _) = listener.accept().await?;
        let mut tls = TlsAcceptor::from(server).accept(tcp).await?;
        let byte = tls.read_u8().await?;
        tls.write_u8(byte).await?;
        tls.flush().await?;
        Ok::<_, io::Error>(Seen::of(tls.get_ref().1))
    };
    let client = async {
        let tcp = tokio::net::TcpStream::connect(address).await?;
        let mut tls = TlsConnector::from(client).connect(ServerName::try_from(host).unwrap(), tcp).await?;
        tls.write_u8(7).await?;
        tls.flush().await?;
        assert_eq!(tls.read_u8().await?, 7);
        Ok::<_, io::Error>(Seen::of(tls.get_ref().1))
    };
    let both = async { tokio::join!(client, server) };
    let (client, server) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    (client.map_err(|error| error.to_string()), server.map_err(|error| error.to_string()))
}

/// That neither end got through, and that `said` is in what one of them said.
fn refused((client, server): (Result<Seen, String>, Result<Seen, String>), said: &str) {
    let (client, server) = (client.unwrap_err(), server.unwrap_err());
    assert!(client.contains(said) || server.contains(said), "client: {client}; server: {server}");
}

#[tokio::test]
async fn both_ends_know_each_other_over_tls_1_3() {
    let ca = Ca::with_both();
    let (client, server) = connect(ca.client(now()), ca.server(), "localhost").await;
    let (client, server) = (client.unwrap(), server.unwrap());
    for seen in [&client, &server] {
        assert_eq!(seen.version, Some(ProtocolVersion::TLSv1_3));
        assert_eq!(seen.alpn.as_deref(), Some(ALPN));
    }
    let (gateway, serial) = peer_name(&server.peer).unwrap();
    assert_eq!(gateway.as_str(), "STATION_7");
    assert_eq!(serial, hex(&SERIAL).trim_start_matches('0'));
}

#[tokio::test]
async fn every_connection_shows_its_certificate_anew() {
    let ca = Ca::with_both();
    // A client that would rather go on where it was; ours never asks.
    let mut client_config = ClientConfig::clone(&ca.client(now()));
    client_config.resumption = Resumption::default();
    let (client_config, server_config) = (Arc::new(client_config), ca.server());
    for _ in 0..3 {
        let (client, server) = connect(client_config.clone(), server_config.clone(), "localhost").await;
        assert_eq!(client.unwrap().kind, Some(HandshakeKind::Full));
        assert_eq!(server.unwrap().kind, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_collector_of_another_authority_is_refused() {
    let (ca, other) = (Ca::with_both(), Ca::with_both());
    // The gateway's own certificate is the collector's kind, so that only the collector's is in doubt.
    let client =
        client_config(&other.path("ca.pem"), &ca.path("STATION_7.pem"), &ca.path("STATION_7.key"), now()).unwrap();
    refused(connect(client, ca.server(), "localhost").await, "invalid peer certificate");
}

#[tokio::test]
async fn a_gateway_of_another_authority_is_refused() {
    let (ca, other) = (Ca::with_both(), Ca::with_both());
    let client =
        client_config(&ca.path("ca.pem"), &other.path("STATION_7.pem"), &other.path("STATION_7.key"), now()).unwrap();
    refused(connect(client, ca.server(), "localhost").await, "invalid peer certificate");
}

#[tokio::test]
async fn certificates_are_checked_at_the_time_that_is_given() {
    let ca = Ca::with_both();
    refused(connect(ca.client(year(2095)), ca.server(), "localhost").await, "expired");
    refused(connect(ca.client(year(1971)), ca.server(), "localhost").await, "not valid yet");
    for good in [2025, 2040, 2089] {
        let (client, server) = connect(ca.client(year(good)), ca.server(), "localhost").await;
        assert!(client.is_ok() && server.is_ok(), "{good}: {client:?} {server:?}");
    }
}

#[tokio::test]
async fn a_gateway_whose_certificate_has_run_out_is_refused() {
    let ca = Ca::with_both();
    ca.issue("STATION_7", ExtendedKeyUsagePurpose::ClientAuth, |p| p.not_after = date_time_ymd(2025, 1, 1));
    refused(connect(ca.client(now()), ca.server(), "localhost").await, "expired");
}

/// A client that does what it likes, trusting `ca`.
fn free_client(ca: &Ca, version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots(&ca.path("ca.pem")).unwrap())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = Ca::with_both();
    let client = Arc::new(free_client(&ca, &TLS13));
    refused(connect(client, ca.server(), "localhost").await, "peer sent no certificates");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let ca = Ca::with_both();
    let client = Arc::new(free_client(&ca, &rustls::version::TLS12));
    refused(connect(client, ca.server(), "localhost").await, "peer is incompatible");
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let ca = Ca::with_both();
    let mut client = ClientConfig::clone(&ca.client(now()));
    client.alpn_protocols = vec![b"h2".to_vec()];
    refused(connect(Arc::new(client), ca.server(), "localhost").await, "NoApplicationProtocol");
}

#[tokio::test]
async fn a_collector_at_another_address_than_its_certificate_says_is_refused() {
    let ca = Ca::with_both();
    refused(connect(ca.client(now()), ca.server(), "collector.example").await, "not valid for name");
}

#[tokio::test]
async fn a_gateway_cannot_pass_for_a_collector_nor_a_collector_for_a_gateway() {
    let ca = Ca::with_both();
    let posing = server_config(&ca.path("ca.pem"), &ca.path("STATION_7.pem"), &ca.path("STATION_7.key")).unwrap();
    refused(connect(ca.client(now()), posing, "localhost").await, "invalid peer certificate");
    let posing = client_config(&ca.path("ca.pem"), &ca.path("server.pem"), &ca.path("server.key"), now()).unwrap();
    refused(connect(posing, ca.server(), "localhost").await, "invalid peer certificate");
}

fn leaf(ca: &Ca, common_name: &str, change: impl Fn(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
    ca.issue("leaf", ExtendedKeyUsagePurpose::ClientAuth, |params| {
        params.distinguished_name = name(common_name);
        change(params);
    });
    certificates(&ca.path("leaf.pem")).unwrap()
}

#[test]
fn a_name_that_no_gateway_may_have_is_refused() {
    let ca = Ca::new();
    assert!(matches!(peer_name(&[]), Err(TlsError::NoCertificate)));
    assert!(matches!(peer_name(&[vec![1, 2, 3].into()]), Err(TlsError::Certificate(_))));
    assert!(matches!(peer_name(&leaf(&ca, "../etc", |_| {})), Err(TlsError::Name(_))));
    let nameless = leaf(&ca, "x", |params| params.distinguished_name = DistinguishedName::new());
    assert!(matches!(peer_name(&nameless), Err(TlsError::Certificate(_))));
}

#[test]
fn an_error_names_the_file() {
    let ca = Ca::with_both();
    fs::write(ca.path("empty.pem"), "").unwrap();
    fs::write(ca.path("broken.pem"), "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n").unwrap();
    let fails = |ca_file: &str, cert: &str, key: &str, named: &str, why: &str| {
        let paths = [ca.path(ca_file), ca.path(cert), ca.path(key)];
        let client = client_config(&paths[0], &paths[1], &paths[2], now()).unwrap_err().to_string();
        let server = server_config(&paths[0], &paths[1], &paths[2]).unwrap_err().to_string();
        for said in [client, server] {
            assert!(said.starts_with(&format!("{}: ", ca.path(named).display())) && said.contains(why), "{said}");
        }
    };
    fails("gone.pem", "server.pem", "server.key", "gone.pem", "No such file");
    fails("ca.pem", "gone.pem", "server.key", "gone.pem", "No such file");
    fails("ca.pem", "server.pem", "gone.key", "gone.key", "No such file");
    fails("empty.pem", "server.pem", "server.key", "empty.pem", "no certificate in it");
    fails("broken.pem", "server.pem", "server.key", "broken.pem", "no PEM");
    fails("ca.pem", "server.key", "server.key", "server.key", "no certificate in it");
    fails("ca.pem", "server.pem", "server.pem", "server.pem", "no private key in it");
    fails("ca.pem", "server.pem", "STATION_7.key", "STATION_7.key", "not the key of");
}

#[test]
fn a_look_at_a_file_tells_what_its_certificate_is_good_for_and_who_can_read_its_key() {
    use std::os::unix::fs::PermissionsExt;
    let ca = Ca::with_both();
    let about = |name: &str| file::about(&ca.folder.path().join(format!("{name}.pem"))).unwrap();
    let (server, gateway) = (about("server"), about("STATION_7"));
    assert_eq!(gateway.names, ["STATION_7", "localhost"]);
    assert_eq!((server.for_servers, server.for_clients), (true, false));
    assert_eq!((gateway.for_servers, gateway.for_clients), (false, true));
    assert!(gateway.begins < gateway.ends);
    let day = 86_400_000_000;
    let left = |micros: i64| gateway.expiry(gateway.ends.plus_micros(-micros));
    assert_eq!((left(-1), left(-day)), (file::Expiry::Ended, file::Expiry::Ended), "a moment ago is over, too");
    assert_eq!((left(0), left(59 * day)), (file::Expiry::Soon(0), file::Expiry::Soon(59)));
    assert_eq!(left(60 * day), file::Expiry::Later);
    assert!(gateway.ends.to_string().starts_with(&gateway.last_day()));
    let key = ca.folder.path().join("STATION_7.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(file::readable_by_all(&key), None);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(file::readable_by_all(&key).unwrap().ends_with(&format!("chmod 600 {}", key.display())));
    let said = file::about(&key).unwrap_err().to_string();
    assert!(said.contains("no certificate in it"), "{said}");
}
