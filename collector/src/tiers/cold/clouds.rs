//! The object store that `[cold] url` means: S3 and what speaks like it, Google Cloud Storage, Azure.
//!
//! Credentials come from the variables that each cloud's own tools know (`AWS_…`, `GOOGLE_…`, `AZURE_…`) or from the machine
//! the collector runs on, or from a file. They are no part of the configuration, and nothing here shows them.

use super::settings::ColdSettings;
use super::wire::Listening;
use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Error, ObjectStore, ObjectStoreExt, RetryConfig};
use shared::ids::StreamId;
use std::path::Path as File;
use std::sync::Arc;
use std::time::Duration;

/// Longest file of credentials, bytes.
const CREDENTIALS_BYTES_MAX: u64 = 64 << 10;
/// A question of a person waits for the answer: no longer than half of what the API gives it.
const RETRIES: RetryConfig = RetryConfig {
    backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(3), base: 2.0 },
    max_retries: 4,
    retry_timeout: Duration::from_secs(15),
};
const CONNECT_WITHIN: &str = "5 seconds";
const ANSWER_WITHIN: &str = "60 seconds";

/// Whose protocol is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cloud {
    S3,
    Google,
    Azure,
}

/// What a URL names.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Address {
    cloud: Cloud,
    bucket: String,
    prefix: Path,
}

impl Address {
    /// Reads `s3://bucket/prefix`, `gs://…` or `az://…`. What is refused is not repeated: it may hold a secret.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let cloud = match scheme {
            "s3" => Cloud::S3,
            "gs" => Cloud::Google,
            "az" => Cloud::Azure,
            _ => return Err("s3://bucket/prefix, gs://bucket/prefix and az://container/prefix are possible"),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err("after :// the bucket's name is needed, and nothing else: credentials never stand here");
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.contains(['?', '#', '\\']) {
            return Err("after the bucket only a plain prefix is possible: credentials never stand here");
        }
        let prefix = Path::parse(prefix).map_err(|_| "the prefix has an empty part or one of dots")?;
        Ok(Self { cloud, bucket: bucket.to_owned(), prefix })
    }
}

/// Why an endpoint can't be used.
pub(super) fn endpoint_mistake(endpoint: &str, allow_http: bool) -> Option<&'static str> {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", ""));
    match scheme {
        _ if rest.is_empty() || rest.contains(['@', '?', '#']) => {
            Some("like https://minio.example.net:9000: credentials never stand here")
        }
        "https" => None,
        "http" if allow_http => None,
        "http" => Some("without TLS everything can be read on the way; allow_http = true says that this is meant"),
        _ => Some("https://… is needed"),
    }
}

/// What is written in the file of credentials: names as in the environment, and values.
fn credentials(file: &File, cloud: Cloud) -> Result<Vec<(String, String)>, String> {
    let shown = |why: &dyn std::fmt::Display| format!("[cold] credentials_file = \"{}\": {why}", file.display());
    let bytes = std::fs::metadata(file).map_err(|e| shown(&e))?.len();
    if bytes > CREDENTIALS_BYTES_MAX {
        return Err(shown(&format!("{bytes} bytes are no credentials")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| shown(&e))?;
    if text.trim_start().starts_with('{') {
        return match cloud {
            Cloud::Google => Ok(vec![("google_application_credentials".into(), file.display().to_string())]),
            _ => Err(shown(&"JSON is a key of Google's; lines like AWS_ACCESS_KEY_ID=… are needed")),
        };
    }
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(n, line)| {
        let (name, value) = line.split_once('=').ok_or_else(|| shown(&format!("line {n} is not NAME=value")))?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        Ok((name.trim().to_ascii_lowercase(), value.to_owned()))
    })
    .collect()
}

/// A store out of the environment, and what goes before it. An unknown name is refused, since a key with a slip in its name
/// would be missed only when it is needed.
macro_rules! store {
    ($builder:ty, $options:expr, $endpoints:expr) => {{
        let mut builder = <$builder>::from_env().with_retry(RETRIES).with_http_connector(Listening::default());
        for (name, value) in $options {
            let key =
                name.parse().map_err(|_| format!("[cold] credentials_file: {name} is nothing this cloud knows"))?;
            builder = builder.with_config(key, value);
        }
        let said = |name: &&str| name.parse().is_ok_and(|key| builder.get_config_value(&key).is_some());
        let trusted = !$endpoints.iter().any(said);
        Opened { store: Arc::new(builder.build().map_err(|error| error.to_string())?), trusted }
    }};
}

/// A store that isn't asked for anything yet.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The clouds themselves see to it that bytes come back as they were written; of what lies at another endpoint that
    /// isn't known.
    pub(super) trusted: bool,
}

/// Opens the store.
///
/// # Errors
/// When what is configured can't be used.
pub(super) fn open(address: &Address, settings: &ColdSettings) -> Result<Opened, String> {
    let file = settings.credentials_file.as_deref();
    let mut options = file.map(|file| credentials(file, address.cloud)).transpose()?.unwrap_or_default();
    let mut set = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
    set(if address.cloud == Cloud::Azure { "container_name" } else { "bucket" }, &address.bucket);
    set("connect_timeout", CONNECT_WITHIN);
    set("timeout", ANSWER_WITHIN);
    if let Some(endpoint) = &settings.endpoint {
        set(if address.cloud == Cloud::Google { "base_url" } else { "endpoint" }, endpoint);
        set("allow_http", if settings.allow_http { "true" } else { "false" });
    }
    let mut opened = match address.cloud {
        Cloud::S3 => store!(AmazonS3Builder, options, ["aws_endpoint", "aws_endpoint_url_s3"]),
        Cloud::Google => store!(GoogleCloudStorageBuilder, options, ["google_base_url"]),
        Cloud::Azure => store!(MicrosoftAzureBuilder, options, ["azure_storage_endpoint"]),
    };
    if !address.prefix.as_ref().is_empty() {
        opened.store = Arc::new(PrefixStore::new(opened.store, address.prefix.clone()));
    }
    Ok(opened)
}

/// Writes a few bytes, reads them back, finds them in the list, removes them.
///
/// # Errors
/// With what couldn't be done, and the setting that may put it right.
pub(super) async fn probe(store: &dyn ObjectStore) -> Result<(), String> {
    let path = Path::from(format!("aside/check-{}", StreamId::random()));
    let bytes = Bytes::from_static(b"written by collector check");
    let said = |what: &'static str| move |error: Error| format!("{what}: {error}{}", remedy(&error));
    store.put(&path, bytes.clone().into()).await.map_err(said("it can't be written"))?;
    let read = async { store.get(&path).await?.bytes().await };
    let back = read.await.map_err(said("what is written can't be read"));
    let listed = store.list_with_delimiter(Some(&Path::from("aside"))).await.map_err(said("it can't be listed"));
    let removed = store.delete(&path).await.map_err(said("what isn't needed any more can't be removed"));
    let found = listed?.objects.iter().any(|object| object.location == path);
    removed?;
    match back? == bytes && found {
        true => Ok(()),
        false => Err("what was written isn't what is read back".into()),
    }
}

fn remedy(error: &Error) -> &'static str {
    match error {
        Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => {
            "; look at the credentials: the cloud's variables in the environment, or [cold] credentials_file"
        }
        Error::NotFound { .. } => "; is the bucket of [cold] url there?",
        _ => "; look at [cold] url and endpoint, the cloud's variables in the environment, and the network",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_cloud_bucket_and_prefix() {
        let said = |url: &str| Address::parse(url).map(|a| (a.cloud, a.bucket, a.prefix.to_string()));
        assert_eq!(said("s3://water/archive/a"), Ok((Cloud::S3, "water".into(), "archive/a".into())));
        assert_eq!(said("gs://water"), Ok((Cloud::Google, "water".into(), String::new())));
        assert_eq!(said("az://water/archive/"), Ok((Cloud::Azure, "water".into(), "archive".into())));
    }

    #[test]
    fn what_a_url_can_not_be_is_refused_and_not_repeated() {
        for url in [
            "",
            "water",
            "http://water/a",
            "s3://",
            "s3:///archive",
            "s3://KEY:HUSH@water/a",
            "s3://water/a?secret=HUSH",
            "s3://water/a//b",
            "s3://water/../b",
        ] {
            let why = Address::parse(url).unwrap_err();
            assert!(!why.contains("HUSH"), "{url}: {why}");
        }
    }

    #[test]
    fn an_endpoint_without_tls_must_be_meant() {
        assert_eq!(endpoint_mistake("https://minio:9000", false), None);
        assert_eq!(endpoint_mistake("http://minio:9000", true), None);
        for wrong in ["http://minio:9000", "minio:9000", "https://", "https://key:hush@minio", "ftp://minio"] {
            assert!(endpoint_mistake(wrong, false).is_some(), "{wrong}");
        }
    }

    #[test]
    fn a_file_of_credentials_has_the_names_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let said = |text: &str, cloud| {
            std::fs::write(&file, text).unwrap();
            credentials(&file, cloud)
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            said("# ours\nAWS_ACCESS_KEY_ID = A=\n\nAWS_SECRET_ACCESS_KEY=\"b c\"\n", Cloud::S3),
            Ok(vec![pair("aws_access_key_id", "A="), pair("aws_secret_access_key", "b c")])
        );
        let key = said("{\"type\": \"service_account\"}", Cloud::Google).unwrap();
        assert_eq!(key, [pair("google_application_credentials", file.to_str().unwrap())]);
        for (text, cloud, place) in [("hush", Cloud::S3, "line 1"), ("{}", Cloud::Azure, "JSON")] {
            let why = said(text, cloud).unwrap_err();
            assert!(why.contains(place) && why.contains("credentials_file") && !why.contains("hush"), "{why}");
        }
        let settings = ColdSettings { credentials_file: Some(file.clone()), ..ColdSettings::default() };
        std::fs::write(&file, "AWS_SECRET_KEY=hush").unwrap();
        let why = open(&Address::parse("s3://water").unwrap(), &settings).err().unwrap();
        assert!(why.contains("aws_secret_key") && !why.contains("hush"), "{why}");
    }
}
