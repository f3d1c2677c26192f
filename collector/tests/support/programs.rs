//! The programs, for tests of the whole system.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder with `edge-agent`, `collector` and `examples/demo`, built from the sources as they are: cargo builds
/// only the programs of the package under test by itself.
pub(crate) fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_collector")).parent().expect("a folder").to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        // As `make test` does: with other packages, features and so everything below them would be built anew.
        cargo.args(["build", "--quiet", "--workspace", "--bins", "--examples"]);
        // What cargo says to a test about its package would make some build scripts run again, and all above them.
        for (name, _) in std::env::vars_os() {
            let about = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_EXE_", "OUT_DIR"];
            if name.to_str().is_some_and(|name| about.iter().any(|prefix| name.starts_with(prefix))) {
                cargo.env_remove(&name);
            }
        }
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(built.success(), "the programs can't be built");
        folder
    })
}
