//! TLS and passwords.

use crate::listening::{Listening, broker};
use crate::mosquitto::Mosquitto;
use crate::{STAMPED, V5, V311, listen, stamped};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use shared::reading::Quality;
use std::path::Path;

const FIXED: &str = "[[mqtt.subscription]]\ntopic = \"tank\"\nnode = \"TANK\"\ninterval = \"1s\"\n\
    point = [{ metric = \"level\" }]\n";

fn named(hosts: Vec<String>, name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A CA with certificates for a broker on 127.0.0.1 and for us, and a CA of somebody else, as PEM files.
fn certificates(folder: &Path) {
    let authority = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = named(Vec::new(), name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.join(name), certificate.pem()).unwrap();
        Issuer::new(params, key)
    };
    let (ca, _) = (authority("ca.pem"), authority("other.pem"));
    for name in ["127.0.0.1", "edge"] {
        let key = KeyPair::generate().unwrap();
        let certificate = named(vec![name.into()], name).signed_by(&key, &ca).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

const TLS: &str = "allow_anonymous true\ncafile @/ca.pem\ncertfile @/127.0.0.1.pem\nkeyfile @/127.0.0.1.key";

#[tokio::test]
async fn tls_with_and_without_our_certificate() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let place = folder.path().display().to_string();
    for (protocol, wants_ours) in [(V311, false), (V311, true), (V5, false), (V5, true)] {
        let lines = format!("{TLS}\nrequire_certificate {wants_ours}").replace('@', &place);
        let mut mosquitto = Mosquitto::with(&lines, |_| {});
        let ours = if wants_ours {
            format!(", cert = \"{place}/edge.pem\", key = \"{place}/edge.key\"")
        } else {
            String::new()
        };
        let lines = format!("{protocol}tls = {{ ca = \"{place}/ca.pem\"{ours} }}\n{STAMPED}");
        let mut listening = listen(&mut mosquitto, &lines).await;
        let (ca, cert, key) = (format!("{place}/ca.pem"), format!("{place}/edge.pem"), format!("{place}/edge.key"));
        mosquitto.publish("stamped/A", &stamped(1), &["-q", "1", "--cafile", &ca, "--cert", &cert, "--key", &key]);
        assert_eq!(listening.sample().await.value, Some(1.0));
    }
}

#[tokio::test]
async fn a_broker_of_another_authority_and_one_that_misses_our_certificate_are_not_listened_to() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let place = folder.path().display().to_string();
    let mosquitto = Mosquitto::with(&format!("{TLS}\nrequire_certificate true").replace('@', &place), |_| {});
    for (tls, because) in [
        (
            format!("ca = \"{place}/other.pem\", cert = \"{place}/edge.pem\", key = \"{place}/edge.key\""),
            "UnknownIssuer",
        ),
        (format!("ca = \"{place}/ca.pem\""), "CertificateRequired"),
    ] {
        let mut listening = Listening::start(broker(mosquitto.port, &format!("tls = {{ {tls} }}\n{FIXED}")));
        assert_eq!(listening.sample().await.quality, Quality::BAD_LINK);
        listening.complained(&["the broker is away: ", because]).await;
        listening.stop().await;
    }
}

#[tokio::test]
async fn a_password_opens_and_a_wrong_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "open sesame\n"), file("wrong", "open simsim\n"));
    for protocol in [V311, V5] {
        let mut mosquitto = Mosquitto::with("allow_anonymous false\npassword_file @/passwords", |folder| {
            let path = folder.join("passwords");
            let mut made = std::process::Command::new("mosquitto_passwd");
            made.args(["-b", "-c"]).arg(&path).args(["edge", "open sesame"]);
            assert!(made.status().unwrap().success());
        });
        let lines = format!("{protocol}user = \"edge\"\npassword_file = \"{wrong}\"\n{FIXED}");
        let mut listening = Listening::start(broker(mosquitto.port, &lines));
        assert_eq!(listening.sample().await.quality, Quality::BAD_LINK);
        listening.complained(&["the broker refused us: "]).await;
        assert!(listening.points().iter().all(|point| !format!("{point:?}").contains("simsim")));
        listening.stop().await;
        let lines = format!("{protocol}user = \"edge\"\npassword_file = \"{right}\"\n{STAMPED}");
        let mut listening = listen(&mut mosquitto, &lines).await;
        mosquitto.publish("stamped/A", &stamped(1), &["-q", "1", "-u", "edge", "-P", "open sesame"]);
        assert_eq!(listening.sample().await.value, Some(1.0));
    }
}
