//! TLS 1.3 with certificates on both sides, from PEM files.
//!
//! Sessions are never resumed: every connection shows its certificate again, so that one that has run out or was
//! taken back is noticed at the next connection at the latest.

pub mod file;

use crate::ids::{GatewayId, NameError};
use crate::wire::ALPN;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// What is wrong with certificates or keys; the file is named where there is one.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The library doesn't agree with itself.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
    /// The peer showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The peer's certificate can't be read.
    #[error("the peer's certificate can't be read: {0}")]
    Certificate(String),
    /// The name in the peer's certificate is no name.
    #[error("the peer's certificate: {0}")]
    Name(#[from] NameError),
}

/// For a program that connects: trusts `ca`, shows `cert`, and checks certificates at the time that `time` says.
///
/// # Errors
/// When a file can't be read or isn't what it should be.
pub fn client_config(
    ca: &Path,
    cert: &Path,
    key: &Path,
    time: Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = roots(ca)?;
    let (chain, secret) = (certificates(cert)?, private_key(key)?);
    let mut config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, secret)
        .map_err(|error| mismatch(cert, key, &error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// For a program that connects to what isn't ours, like a broker: TLS 1.2 or 1.3, trusts `ca`, shows a certificate
/// when it has one, and checks certificates at the time that `time` says.
///
/// # Errors
/// When a file can't be read or isn't what it should be.
pub fn foreign_client_config(
    ca: &Path,
    identity: Option<(&Path, &Path)>,
    time: Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_details(provider(), time)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?);
    let Some((cert, key)) = identity else { return Ok(Arc::new(config.with_no_client_auth())) };
    let (chain, secret) = (certificates(cert)?, private_key(key)?);
    let config = config.with_client_auth_cert(chain, secret).map_err(|error| mismatch(cert, key, &error))?;
    Ok(Arc::new(config))
}

/// For a program that is connected to: shows `cert` and wants a certificate that `ca` signed.
///
/// # Errors
/// When a file can't be read or isn't what it should be.
pub fn server_config(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider())
        .build()
        .map_err(|error: VerifierBuilderError| TlsError::Content { path: ca.into(), why: error.to_string() })?;
    let (chain, secret) = (certificates(cert)?, private_key(key)?);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, secret)
        .map_err(|error| mismatch(cert, key, &error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For a program that browsers connect to: shows `cert`, wants no certificate, TLS 1.2 or 1.3 and HTTP/1.1.
///
/// # Errors
/// When a file can't be read or isn't what it should be.
pub fn public_server_config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, secret) = (certificates(cert)?, private_key(key)?);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| mismatch(cert, key, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Who the peer is: the common name of its certificate, and the serial number in lower-case hexadecimal without
/// leading zeros. The chain must have been verified, as a connection of [`server_config`] has done.
///
/// # Errors
/// When there is no certificate, or its name is none that a gateway may have.
pub fn peer_name(chain: &[CertificateDer<'_>]) -> Result<(GatewayId, String), TlsError> {
    let leaf = chain.first().ok_or(TlsError::NoCertificate)?;
    let (_, cert) =
        x509_parser::parse_x509_certificate(leaf).map_err(|error| TlsError::Certificate(error.to_string()))?;
    let mut names = cert.subject().iter_common_name();
    let name = match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().map_err(|error| TlsError::Certificate(error.to_string()))?,
        (None, _) => return Err(TlsError::Certificate("it has no common name".into())),
        (Some(_), Some(_)) => return Err(TlsError::Certificate("it has several common names".into())),
    };
    let serial = crate::ids::hex(cert.raw_serial());
    Ok((GatewayId::new(name)?, serial.trim_start_matches('0').into()))
}

/// The name in our own certificate: what a gateway is called.
///
/// # Errors
/// When the file can't be read, or its first certificate has no name that a gateway may have.
pub fn own_name(cert: &Path) -> Result<GatewayId, TlsError> {
    peer_name(&certificates(cert)?).map(|(name, _)| name)
}

/// Always the same cryptography, whatever else is linked in.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.into(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |why: String| TlsError::Content { path: path.into(), why };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| content(format!("no PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(content("no certificate in it".into()));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| {
        let why = match error {
            pem::Error::NoItemsFound => "no private key in it".into(),
            error => format!("no PEM: {error}"),
        };
        TlsError::Content { path: path.into(), why }
    })
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Content { path: path.into(), why: error.to_string() })?;
    }
    Ok(roots)
}

fn mismatch(cert: &Path, key: &Path, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Content { path: key.into(), why: format!("not the key of {}", cert.display()) }
        }
        rustls::Error::InvalidCertificate(_) => TlsError::Content { path: cert.into(), why: error.to_string() },
        _ => TlsError::Content { path: key.into(), why: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
