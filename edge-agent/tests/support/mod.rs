//! Certificates for tests: an authority, a collector's certificate for `localhost`, a gateway's.

use edge_agent::config::Uplink;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    /// The collector's certificate is valid between two days; the gateway's always.
    pub(crate) fn new(from: (i32, u8, u8), to: (i32, u8, u8)) -> Self {
        let (folder, key) = (tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::default();
        params.distinguished_name = name("test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2100, 1, 1);
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let pki = Self { folder };
        for (file, usage, from, to) in [
            ("server", ExtendedKeyUsagePurpose::ServerAuth, from, to),
            ("STATION_7", ExtendedKeyUsagePurpose::ClientAuth, (2000, 1, 1), (2100, 1, 1)),
        ] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
            params.distinguished_name = name(file);
            params.extended_key_usages = vec![usage];
            params.not_before = date_time_ymd(from.0, from.1, from.2);
            params.not_after = date_time_ymd(to.0, to.1, to.2);
            fs::write(pki.path(&format!("{file}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
            fs::write(pki.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
        }
        pki
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn server(&self) -> Arc<rustls::ServerConfig> {
        shared::tls::server_config(&self.path("ca.pem"), &self.path("server.pem"), &self.path("server.key")).unwrap()
    }

    pub(crate) fn uplink(&self, collectors: Vec<String>) -> Uplink {
        let [ca, cert, key] = ["ca.pem", "STATION_7.pem", "STATION_7.key"].map(|file| self.path(file));
        Uplink { collectors, ca, cert, key }
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
