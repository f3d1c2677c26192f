//! A server that speaks S3: moto's, in memory.

use super::Service;
use collector::tiers::cold::settings::ColdSettings;
use futures::TryStreamExt as _;
use object_store::ObjectStore as _;
use object_store::aws::AmazonS3Builder;
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

const BUCKET: &str = "water";
const KEYS: &str = "AWS_ACCESS_KEY_ID=collector\nAWS_SECRET_ACCESS_KEY=hush-hush\nAWS_REGION=us-east-1\n";

/// A server with one bucket.
#[derive(Debug)]
pub struct S3Server {
    service: Service,
    folder: tempfile::TempDir,
    port: u16,
    prefixes: AtomicU32,
}

impl S3Server {
    pub fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../.venv/bin/python");
        assert!(python.exists(), "S3: no Python at {}; run `make test-deps`", python.display());
        let script = root.join("tests/services/s3.py").display().to_string();
        let python = python.display().to_string();
        let mut service = Service::start(&[&python, &script, "0"], None, Signal::TERM, Stdio::piped());
        let mut line = String::new();
        BufReader::new(service.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("S3 said {line:?} instead of its port"));
        let folder = tempfile::Builder::new().prefix("s3-").tempdir().unwrap();
        Self { service, folder, port, prefixes: AtomicU32::new(0) }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Settings for a prefix that nobody else has.
    pub fn settings(&self) -> ColdSettings {
        let number = self.prefixes.fetch_add(1, Ordering::Relaxed);
        ColdSettings {
            url: Some(format!("s3://{BUCKET}/archive/{number}")),
            endpoint: Some(self.endpoint()),
            allow_http: true,
            credentials_file: Some(self.keys(KEYS)),
            ..ColdSettings::default()
        }
    }

    /// A file of credentials.
    pub fn keys(&self, text: &str) -> PathBuf {
        let file = self.folder.path().join(format!("keys-{}", crc32c::crc32c(text.as_bytes())));
        std::fs::write(&file, text).unwrap();
        file
    }

    /// All that is in the bucket.
    pub async fn objects(&self) -> Vec<String> {
        let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_region("us-east-1");
        let keys = builder.with_access_key_id("collector").with_secret_access_key("hush-hush");
        let store = keys.with_endpoint(self.endpoint()).with_allow_http(true).build().unwrap();
        store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap()
    }
}
