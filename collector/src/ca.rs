//! The collector's own certificate authority: it names gateways and collectors, and takes names back.
//!
//! Everything lies in one folder (0700), keys in files of their own (0600):
//!
//! | file | content |
//! |---|---|
//! | `ca.pem`, `ca.key` | the authority |
//! | `server.pem`, `server.key` | this collector's own certificate, made by `ca init` |
//! | `NAME.pem`, `NAME.key` | one issued certificate each |
//! | `issued` | one line per certificate ever issued: serial, role, name, time |
//! | `revoked` | one line per certificate taken back: serial, name, time (see [`crate::revocation`]) |
//!
//! A certificate is written to `issued` before it exists, so that none can exist that `revoke` doesn't find.

use crate::revocation::{self, Serial};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use shared::ids::{GatewayId, NameError};
use shared::reading::Timestamp;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Years an authority holds, and what it issues: a gateway in a pit is not visited for renewal every year.
const YEARS: i32 = 20;

/// What a certificate may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A field computer: connects to collectors under its name.
    Gateway,
    /// A collector: gateways connect to it at its host names.
    Server,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Gateway => "gateway",
            Role::Server => "server",
        })
    }
}

/// What went wrong, with the file it went wrong in.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is one already: a second one would cut off every gateway.
    #[error("{} is already there; a new authority would cut off every gateway that trusts the old one", .0.display())]
    Exists(PathBuf),
    /// There is no authority yet.
    #[error("{} is missing; make an authority with `collector ca init`", .0.display())]
    NotInitialised(PathBuf),
    /// The key of the authority can be read by others.
    #[error("{} can be read by other users (mode {mode:o}); run `chmod 600` on it and think about who read it", path.display())]
    KeyExposed {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The name has a certificate that holds.
    #[error("'{0}' has a certificate already; revoke it first, or ask for a second one with --renew")]
    Issued(String),
    /// Nothing to revoke.
    #[error("no certificate for '{0}' is in force")]
    Unknown(String),
    /// Not a name a certificate may have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Reserved for the files of the authority.
    #[error("'{0}' is reserved for the collector's own files; choose another name")]
    Reserved(String),
    /// Nothing a certificate can be asked for by.
    #[error(
        "--host '{0}': a name like collector.example.net or an address is needed, without https:// and port; of other \
         letters the xn-- form (COLLECTOR_HOST in .env, with Docker Compose)"
    )]
    Host(String),
    /// The certificate could not be made.
    #[error("certificate for '{name}': {source}")]
    Certificate {
        /// Whose.
        name: String,
        /// What the maker said.
        source: rcgen::Error,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> CaError + '_ {
    move |source| CaError::File { path: path.into(), source }
}

/// The authority in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Where an issued certificate and its key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key: to be moved to the gateway and deleted here.
    pub key: PathBuf,
    /// Its serial number.
    pub serial: Serial,
}

impl Authority {
    /// Makes a new authority in `folder`, and the server certificate of this collector for `hosts`.
    ///
    /// # Errors
    /// When there is one already, or the folder cannot be written.
    pub fn init(folder: &Path, hosts: &[String]) -> Result<(Self, Issued), CaError> {
        let (cert_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        if cert_path.exists() || key_path.exists() {
            return Err(CaError::Exists(cert_path));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file_error(folder))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(file_error(folder))?;
        let failed = |source| CaError::Certificate { name: "ca".into(), source };
        alternative_names(hosts)?; // before anything is written: an authority that is half made is none
        let key = KeyPair::generate().map_err(failed)?;
        let serial = Serial::random();
        // The common name differs between authorities, so that a mixed-up trust file fails with a clear name.
        let mut params = params(&format!("collector CA {}", &serial.as_str()[..8]), &serial);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(failed)?;
        let key_text = key.serialize_pem();
        let authority = Self { folder: folder.into(), issuer: Issuer::new(params, key) };
        // Last of all the authority: as long as it isn't there it can be made again.
        let server = authority.issue_as("server", hosts, Role::Server)?;
        write_new(&key_path, key_text.as_bytes(), 0o600)?;
        write_new(&cert_path, cert.pem().as_bytes(), 0o644)?;
        Ok((authority, server))
    }

    /// The authority that is in `folder`.
    ///
    /// # Errors
    /// When there is none, or its key can be read by others.
    pub fn open(folder: &Path) -> Result<Self, CaError> {
        let (cert_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        let read = |path: &Path| match fs::read_to_string(path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CaError::NotInitialised(path.into())),
            Err(source) => Err(CaError::File { path: path.into(), source }),
        };
        let (cert, key) = (read(&cert_path)?, read(&key_path)?);
        let mode = fs::metadata(&key_path).map_err(file_error(&key_path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CaError::KeyExposed { path: key_path, mode });
        }
        let failed = |source| CaError::Certificate { name: "ca".into(), source };
        let issuer = KeyPair::from_pem(&key).and_then(|key| Issuer::from_ca_cert_pem(&cert, key)).map_err(failed)?;
        Ok(Self { folder: folder.into(), issuer })
    }

    /// Issues a certificate for a gateway, or for a collector that gateways reach at `name` and `hosts`.
    ///
    /// # Errors
    /// When the name is not allowed, or has a certificate that holds and `renew` is not said.
    pub fn issue(&self, name: &str, role: Role, hosts: &[String], renew: bool) -> Result<Issued, CaError> {
        GatewayId::new(name)?;
        if ["ca", "server", "issued", "revoked"].contains(&name) {
            return Err(CaError::Reserved(name.into()));
        }
        if !renew && self.folder.join(format!("{name}.pem")).exists() {
            return Err(CaError::Issued(name.into()));
        }
        let mut hosts = hosts.to_vec();
        if role == Role::Server {
            hosts.insert(0, name.into());
        }
        self.issue_as(name, &hosts, role)
    }

    fn issue_as(&self, name: &str, hosts: &[String], role: Role) -> Result<Issued, CaError> {
        let failed = |source| CaError::Certificate { name: name.into(), source };
        let names = alternative_names(hosts)?;
        let key = KeyPair::generate().map_err(failed)?;
        let serial = Serial::random();
        let mut params = params(name, &serial);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Gateway => ExtendedKeyUsagePurpose::ClientAuth,
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.subject_alt_names = names;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let line = format!("{serial} {role} {name} {}\n", Timestamp::wall_clock());
        append_line(&self.folder.join("issued"), &line)?;
        let issued = Issued {
            cert: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
            serial,
        };
        replace(&issued.key, key.serialize_pem().as_bytes(), 0o600)?;
        replace(&issued.cert, cert.pem().as_bytes(), 0o644)?;
        Ok(issued)
    }

    /// Takes back every certificate of that name. A running collector notices within a second or two.
    ///
    /// # Errors
    /// When none is in force, or the list cannot be written.
    pub fn revoke(&self, name: &str) -> Result<Vec<Serial>, CaError> {
        let (issued_path, revoked_path) = (self.folder.join("issued"), self.folder.join("revoked"));
        let issued = fs::read_to_string(&issued_path).map_err(file_error(&issued_path))?;
        let revoked = revocation::read(&revoked_path).map_err(file_error(&revoked_path))?;
        let serials: Vec<Serial> = issued
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let serial = Serial::parse(words.next()?)?;
                (words.nth(1)? == name).then_some(serial)
            })
            .filter(|serial| !revoked.serials.contains(serial))
            .collect();
        if serials.is_empty() {
            return Err(CaError::Unknown(name.into()));
        }
        let now = Timestamp::wall_clock();
        let lines: String = serials.iter().map(|serial| format!("{serial} {name} {now}\n")).collect();
        append_line(&revoked_path, &lines)?;
        // The name is free for a new certificate; the old one has no use left.
        for ending in ["pem", "key"] {
            let path = self.folder.join(format!("{name}.{ending}"));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&path)(error)),
                _ => {}
            }
        }
        Ok(serials)
    }
}

/// As a certificate bears them.
fn alternative_names(hosts: &[String]) -> Result<Vec<SanType>, CaError> {
    let name = |host: &String| match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) if !is_host(host) => Err(CaError::Host(host.clone())),
        Err(_) => host.as_str().try_into().map(SanType::DnsName).map_err(|_| CaError::Host(host.clone())),
    };
    hosts.iter().map(name).collect()
}

/// A name that others can connect to; its first part may be `*`.
fn is_host(name: &str) -> bool {
    let of_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(of_label)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(fits)
}

fn params(name: &str, serial: &Serial) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial.to_bytes()));
    // A gateway without a clock checks certificates at its program's build time, which may lie before the day of
    // issue: so they hold from a day that no build of this program precedes.
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(OffsetDateTime::now_utc().year().max(2024) + YEARS, 1, 1);
    params
}

/// Appends with one durable write.
fn append_line(path: &Path, line: &str) -> Result<(), CaError> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(file_error(path))?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error(path))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), CaError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(file_error(path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(file_error(path))
}

/// Replaces a file in one step: a reader sees the old content or the new, never half.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), CaError> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&fresh)(error)),
        _ => {}
    }
    write_new(&fresh, content, mode)?;
    fs::rename(&fresh, path).map_err(file_error(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_no_certificate_can_bear_is_refused_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("ca");
        for host in
            ["", "citt\u{e0}.example", "https://collector.example.net:8443", "collector:8443", "a b", "-a", "a..b"]
        {
            let refused = Authority::init(&folder, &["localhost".into(), host.into()]).unwrap_err().to_string();
            assert!(refused.contains(&format!("--host '{host}'")) && refused.contains("COLLECTOR_HOST"), "{refused}");
            assert!(fs::read_dir(&folder).unwrap().next().is_none(), "{host}: nothing is left behind");
        }
        let fine =
            ["localhost", "10.0.0.5", "::1", "*.example.net", "xn--citt-0na.example", "my_host"].map(String::from);
        Authority::init(&folder, &fine).unwrap();
    }

    fn authority() -> (tempfile::TempDir, Authority) {
        let folder = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::init(&folder.path().join("ca"), &["localhost".into()]).unwrap();
        (folder, authority)
    }

    #[test]
    fn keys_are_for_their_owner_only_and_an_exposed_one_is_refused() {
        let (folder, authority) = authority();
        let ca = folder.path().join("ca");
        let issued = authority.issue("STATION_7", Role::Gateway, &[], false).unwrap();
        assert_eq!(mode(&ca), 0o700);
        for key in [&ca.join("ca.key"), &ca.join("server.key"), &issued.key] {
            assert_eq!(mode(key), 0o600, "{}", key.display());
        }
        assert!(Authority::open(&ca).is_ok());
        fs::set_permissions(ca.join("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Authority::open(&ca), Err(CaError::KeyExposed { mode: 0o640, .. })));
    }

    #[test]
    fn an_authority_is_never_overwritten() {
        let (folder, _) = authority();
        assert!(matches!(Authority::init(&folder.path().join("ca"), &[]), Err(CaError::Exists(_))));
    }

    #[test]
    fn a_missing_authority_says_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = Authority::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("collector ca init"), "{error}");
    }

    #[test]
    fn revoking_takes_back_every_certificate_of_the_name_and_frees_it() {
        let (folder, authority) = authority();
        let first = authority.issue("STATION_7", Role::Gateway, &[], false).unwrap();
        assert!(matches!(authority.issue("STATION_7", Role::Gateway, &[], false), Err(CaError::Issued(_))));
        let second = authority.issue("STATION_7", Role::Gateway, &[], true).unwrap();
        let other = authority.issue("STATION_8", Role::Gateway, &[], false).unwrap();
        assert_eq!(authority.revoke("STATION_7").unwrap(), [first.serial.clone(), second.serial]);
        let list = revocation::read(&folder.path().join("ca/revoked")).unwrap();
        assert!(list.serials.contains(&first.serial) && !list.serials.contains(&other.serial));
        assert!(matches!(authority.revoke("STATION_7"), Err(CaError::Unknown(_))));
        assert!(authority.issue("STATION_7", Role::Gateway, &[], false).is_ok());
    }

    #[test]
    fn names_that_would_escape_or_overwrite_are_refused() {
        let (_folder, authority) = authority();
        for name in ["../x", "", "a b", ".hidden"] {
            assert!(matches!(authority.issue(name, Role::Gateway, &[], false), Err(CaError::Name(_))), "{name}");
        }
        for name in ["ca", "server"] {
            assert!(matches!(authority.issue(name, Role::Gateway, &[], true), Err(CaError::Reserved(_))), "{name}");
        }
    }

    #[test]
    fn the_certificate_says_name_role_and_serial() {
        let (_folder, authority) = authority();
        let issued = authority.issue("STATION_7", Role::Gateway, &[], false).unwrap();
        let pem = fs::read(&issued.cert).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let cert = pem.parse_x509().unwrap();
        let name = cert.subject().iter_common_name().next().unwrap().as_str().unwrap();
        assert_eq!(name, "STATION_7");
        assert_eq!(Serial::parse(&cert.raw_serial_as_string()), Some(issued.serial));
        let usage = cert.extended_key_usage().unwrap().unwrap();
        assert!(usage.value.client_auth && !usage.value.server_auth);
    }
}
