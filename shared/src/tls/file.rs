//! What a look at the files of certificates and keys tells before anyone connects.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{TlsError, certificates};
use crate::reading::{MICROS_PER_SECOND, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// What a certificate says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// Its common name, then the host names and addresses it holds for.
    pub names: Vec<String>,
    /// From when on it holds.
    pub begins: Timestamp,
    /// Until when.
    pub ends: Timestamp,
    /// It may be shown to those who connect.
    pub for_servers: bool,
    /// It may be shown by those who connect.
    pub for_clients: bool,
}

/// How long a certificate still holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// It doesn't any more.
    Ended,
    /// It ends sooner than is comfortable: in so many whole days.
    Soon(i64),
    /// Long enough.
    Later,
}

/// A certificate that ends sooner than this is worth a word, days.
const SOON: i64 = 60;
const DAY: i64 = 86_400 * MICROS_PER_SECOND;

impl About {
    /// How long it still holds.
    #[must_use]
    pub fn expiry(&self, now: Timestamp) -> Expiry {
        let left = self.ends.since(now);
        match left / DAY {
            _ if left < 0 => Expiry::Ended,
            days @ 0..SOON => Expiry::Soon(days),
            _ => Expiry::Later,
        }
    }

    /// The day on which it ends, like 2046-01-01.
    #[must_use]
    pub fn last_day(&self) -> String {
        let ends = self.ends.to_string();
        ends.split('T').next().unwrap_or_default().to_owned()
    }
}

/// The first certificate of a PEM file.
///
/// # Errors
/// When the file can't be read, or there is no certificate in it.
pub fn about(path: &Path) -> Result<About, TlsError> {
    let chain = certificates(path)?;
    let content = |why: String| TlsError::Content { path: path.into(), why };
    let first = chain.first().ok_or_else(|| content("no certificate in it".into()))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(first).map_err(|error| content(format!("no certificate: {error}")))?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp(time.timestamp().saturating_mul(MICROS_PER_SECOND));
    // Without this extension it holds for everything (RFC 5280, 4.2.1.12).
    let usage = certificate.extended_key_usage().ok().flatten().map(|usage| usage.value);
    Ok(About {
        names: names(&certificate),
        begins: time(certificate.validity().not_before),
        ends: time(certificate.validity().not_after),
        for_servers: usage.is_none_or(|usage| usage.any || usage.server_auth),
        for_clients: usage.is_none_or(|usage| usage.any || usage.client_auth),
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let common = certificate.subject().iter_common_name();
    let mut names: Vec<String> = common.filter_map(|name| Some(name.as_str().ok()?.to_owned())).collect();
    let others = certificate.subject_alternative_name().ok().flatten().map(|others| &others.value.general_names);
    for other in others.into_iter().flatten() {
        match other {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
            _ => {}
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<String> {
    let address: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
        _ => return None,
    };
    Some(address.to_string())
}

/// What is wrong with who may read a secret, in words with the command that repairs it.
#[must_use]
pub fn readable_by_all(secret: &Path) -> Option<String> {
    let mode = std::fs::metadata(secret).ok()?.permissions().mode();
    let path = secret.display();
    (mode & 0o004 != 0).then(|| format!("{path} can be read by every user of this machine: chmod 600 {path}"))
}
