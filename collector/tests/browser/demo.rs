//! The dashboard of the demo: real sensors, a real agent, and the past that the demo brings in, in a real browser.

use crate::{programs, script, wanted};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long the demo may take to begin, its past included, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long everything in the browser may take: weeks are summed up meanwhile, when nobody else wants the processor.
const BROWSER_WITHIN: Duration = Duration::from_secs(480);

/// The demo. It is asked to end, so that it ends its children.
struct Demo {
    child: Child,
    /// Where its dashboard is.
    base: String,
}

impl Demo {
    async fn start(data: &Path) -> Self {
        let mut command = Command::new(programs::built().join("examples/demo"));
        command.args(["--any-ports", "--past", "4w", "--every", "1h", "--burst-after", "1h", "--data"]).arg(data);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the demo starts");
        let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = async {
            while let Some(line) = said.next_line().await.unwrap() {
                if let Some(base) = line.strip_prefix("look").and_then(|rest| rest.trim().strip_suffix('/')) {
                    return base.to_owned();
                }
            }
            panic!("the demo ended");
        };
        let base = tokio::time::timeout(PATIENCE, address).await.expect("the demo doesn't say where it is");
        tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                println!("  {line}")
            }
        });
        Self { child, base }
    }

    fn interrupt(&self) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::INT);
        }
    }

    async fn stop(mut self) {
        self.interrupt();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the demo doesn't end").unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.interrupt();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_shows_what_the_demo_holds() {
    if wanted().is_some() {
        return; // pictures are of what `main.rs` makes
    }
    let data = tempfile::tempdir().unwrap();
    let demo = Demo::start(data.path()).await;
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screens-demo");
    let mut script = script(&demo.base, &pictures).arg("demo").stdin(Stdio::null()).spawn().expect("node is there");
    let status =
        tokio::time::timeout(BROWSER_WITHIN, script.wait()).await.expect("the browser takes too long").unwrap();
    assert!(status.success(), "{status}; pictures are in {}", pictures.display());
    demo.stop().await;
}
