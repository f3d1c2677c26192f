//! Agent and collector as children of the demo: started, watched, ended in order, their words kept in files.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// How long a program may take to end after SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Lines of a log that are shown when its program has died.
const TAIL_LINES: usize = 15;

/// A program that runs.
pub(crate) struct Program {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts it; what it says goes to `log`, what it said before to `log` with `.old`.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(name: &'static str, path: &Path, config: &Path, log: PathBuf) -> anyhow::Result<Self> {
        if log.exists() {
            fs::rename(&log, log.with_extension("log.old")).with_context(|| log.display().to_string())?;
        }
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(path);
        command.arg("run").arg("--config").arg(config);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // A group of its own: Ctrl-C is for the demo, which ends its children in order.
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().with_context(|| path.display().to_string())?;
        Ok(Self { name, log, child })
    }

    /// Waits for its end, which nobody asked for, and tells it with the end of its log.
    pub(crate) async fn died(&mut self) -> String {
        let status = self.child.wait().await;
        let how = status.map_or_else(|error| error.to_string(), how);
        let tail = tail(&fs::read(&self.log).unwrap_or_default(), TAIL_LINES);
        format!("{} ended by itself ({how}); the end of {}:\n{tail}", self.name, self.log.display())
    }

    /// Ends it by SIGTERM, and by force when it takes too long.
    ///
    /// # Errors
    /// When it had to be forced, or didn't end well.
    pub(crate) async fn stop(mut self) -> anyhow::Result<String> {
        let asked = Instant::now();
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            kill_process(pid, Signal::TERM).with_context(|| self.name)?;
        }
        let Ok(status) = tokio::time::timeout(ENDS_WITHIN, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("{} didn't end within {ENDS_WITHIN:?} and was killed; see {}", self.name, self.log.display());
        };
        let status = status?;
        if !status.success() {
            bail!("{} ended badly ({}); see {}", self.name, how(status), self.log.display());
        }
        Ok(format!("{} after {:.2} s", self.name, asked.elapsed().as_secs_f64()))
    }
}

/// Runs a program to its end and gives back what it printed.
///
/// # Errors
/// When it fails, with what it said.
pub(crate) async fn run(path: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let command = || format!("{} {}", path.display(), arguments.join(" "));
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output().await.with_context(command)?;
    if !output.status.success() {
        let said = tail(&[output.stdout, output.stderr].concat(), TAIL_LINES);
        bail!("`{}` failed ({}):\n{said}", command(), how(output.status));
    }
    Ok(())
}

/// Runs a program to its end; what it says goes behind what is in `log`. Who stops waiting ends it.
///
/// # Errors
/// When it fails, with its last words.
pub(crate) async fn run_logged(path: &Path, arguments: &[&str], log: &Path) -> anyhow::Result<()> {
    let command = format!("{} {}", path.display(), arguments.join(" "));
    let file = File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
    let mut child = Command::new(path);
    child.args(arguments).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    child.process_group(0).kill_on_drop(true);
    let status = child.status().await.with_context(|| command.clone())?;
    if !status.success() {
        let said = tail(&fs::read(log).unwrap_or_default(), TAIL_LINES);
        bail!("`{command}` failed ({}); the end of {}:\n{said}", how(status), log.display());
    }
    Ok(())
}

fn how(status: ExitStatus) -> String {
    status.to_string() // "exit status: 2", "signal: 9 (SIGKILL)"
}

/// The last lines of a text, without colours and other controls, indented.
fn tail(text: &[u8], lines: usize) -> String {
    let text = anstream::adapter::strip_bytes(text).into_vec();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let last: Vec<String> = all[all.len().saturating_sub(lines)..].iter().map(|line| format!("  {line}")).collect();
    if last.is_empty() { "  (it said nothing)".into() } else { last.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(folder: &Path, text: &str) -> Program {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("program");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Program::start("program", &path, Path::new("x.toml"), folder.join("program.log")).unwrap()
    }

    #[tokio::test]
    async fn a_program_that_dies_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let told = script(folder.path(), "echo \"$@\"; echo no disk >&2; exit 3").died().await;
        assert!(told.starts_with("program ended by itself (exit status: 3); the end of "), "{told}");
        assert!(told.ends_with("\n  run --config x.toml\n  no disk"), "{told}");
    }

    #[tokio::test]
    async fn a_program_is_ended_by_sigterm() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done");
        let until = Instant::now() + Duration::from_secs(20);
        while fs::read(folder.path().join("program.log")).unwrap_or_default().is_empty() {
            assert!(Instant::now() < until, "the script doesn't start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let said = program.stop().await.unwrap();
        assert!(said.starts_with("program after "), "{said}");
    }

    #[test]
    fn the_end_of_a_log_is_shown_without_colours() {
        assert_eq!(tail(b"one\n\x1b[31mtwo\x1b[0m\nthree\n", 2), "  two\n  three");
        assert_eq!(tail(b"", 2), "  (it said nothing)");
    }
}
