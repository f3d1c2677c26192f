//! Where the demo lives: its data folder, the ports it takes, and the configurations that it fills in.

use super::kept::Kept;
use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// The gateway's name; `config/demo/collector.toml` grants it its nodes.
pub(crate) const GATEWAY: &str = "demo-gateway";
/// Whose clocks count where the machine doesn't say where it is; `config/demo/collector.toml` has it.
const ZONE: &str = "Europe/Rome";

/// Folders and programs.
pub(crate) struct Place {
    /// Everything the demo writes.
    pub(crate) data: PathBuf,
    /// Where agent and collector are.
    programs: PathBuf,
    /// The folder with `agent.toml` and `collector.toml` as they are in the repository.
    config: PathBuf,
    /// Held while the demo runs.
    _lock: File,
}

impl Place {
    /// Finds the programs beside this one, and takes the data folder.
    ///
    /// # Errors
    /// When a program isn't built, or the folder can't be made or is used by another demo.
    pub(crate) fn take(data: Option<PathBuf>) -> anyhow::Result<Self> {
        let exe = std::env::current_exe().context("where this program lies")?;
        let Some(programs) = exe.parent().and_then(Path::parent) else { bail!("{} is in no folder", exe.display()) };
        for name in ["edge-agent", "collector"] {
            if !programs.join(name).is_file() {
                bail!("{} is missing; `make demo` builds it", programs.join(name).display());
            }
        }
        let data = match (data, programs.parent()) {
            (Some(data), _) => std::path::absolute(data)?,
            (None, Some(target)) => target.join("demo"),
            (None, None) => bail!("{} is in no folder; say where with --data", programs.display()),
        };
        fs::create_dir_all(data.join("logs")).with_context(|| data.display().to_string())?;
        let path = data.join("demo.lock");
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        if lock.try_lock().is_err() {
            bail!("another demo is running on {}; end it, or take another folder with --data", data.display());
        }
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/demo");
        Ok(Self { data, programs: programs.to_owned(), config, _lock: lock })
    }

    /// A program's file.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The log of a program.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.data.join("logs").join(format!("{name}.log"))
    }

    /// What the network is like.
    pub(crate) fn kept(&self) -> Kept {
        Kept::new(&self.data)
    }

    /// The link to the serial line of the basins.
    pub(crate) fn line(&self) -> PathBuf {
        self.data.join("basins")
    }

    /// A configuration of the repository with this place and these ports, written into the data folder.
    ///
    /// # Errors
    /// When it can't be read or written, or hasn't what is to be replaced.
    pub(crate) fn configure(&self, file: &str, ports: &Ports) -> anyhow::Result<PathBuf> {
        let (from, to) = (self.config.join(file), self.data.join(file));
        let text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
        let Some(data) = self.data.to_str().filter(|path| !path.contains(['"', '\\'])) else {
            bail!("{}: choose a data folder without quotes and backslashes in its name", self.data.display());
        };
        let text = filled_in(&text, data, ports).with_context(|| from.display().to_string())?;
        let text = text.replace(&format!("zone = \"{ZONE}\""), &format!("zone = \"{}\"", zone().0));
        let head =
            format!("# Written by the demo from config/demo/{file}; changes here are lost when it starts again.\n\n");
        fs::write(&to, head + &text).with_context(|| to.display().to_string())?;
        Ok(to)
    }
}

/// The clocks by which people get up: the machine's, if it says where it is. With their name.
pub(crate) fn zone() -> (String, TimeZone) {
    let here = TimeZone::system().iana_name().map_or_else(|| ZONE.to_owned(), str::to_owned);
    let known = TimeZone::get(&here).map(|zone| (here, zone));
    known.unwrap_or_else(|_| (ZONE.to_owned(), TimeZone::get(ZONE).unwrap_or(TimeZone::UTC)))
}

/// The address of everything, on loopback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ports {
    /// Where the agent connects to the collector.
    pub(crate) ingest: u16,
    /// The collector's API.
    pub(crate) api: u16,
    /// The agent's status page.
    pub(crate) status: u16,
    /// The Modbus TCP units.
    pub(crate) modbus: u16,
    /// The MQTT broker.
    pub(crate) mqtt: u16,
}

/// What `config/demo/*.toml` say.
pub(crate) const USUAL: Ports = Ports { ingest: 7443, api: 8080, status: 9101, modbus: 5020, mqtt: 1883 };

/// A port on loopback.
pub(crate) const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Ports {
    /// The usual ones where they are free, any others elsewhere or when `any`; with what there is to say about it.
    ///
    /// # Errors
    /// When there is no free port at all.
    pub(crate) fn choose(any: bool) -> anyhow::Result<(Self, Vec<String>)> {
        let (mut ports, mut notes, mut held) = (USUAL, Vec::new(), Vec::new());
        for (port, what) in [
            (&mut ports.ingest, "the collector's ingest"),
            (&mut ports.api, "the collector's API"),
            (&mut ports.status, "the agent's status page"),
            (&mut ports.modbus, "Modbus TCP"),
            (&mut ports.mqtt, "MQTT"),
        ] {
            let usual = TcpListener::bind(loopback(*port)).ok().filter(|_| !any);
            let listener = match usual {
                Some(listener) => listener,
                None => {
                    let listener = TcpListener::bind(loopback(0)).context("no free port on loopback")?;
                    let free = listener.local_addr()?.port();
                    if !any {
                        notes.push(format!("port {port} is taken: {what} is on {free}"));
                    }
                    *port = free;
                    listener
                }
            };
            held.push(listener); // until all are chosen, so that none is chosen twice
        }
        Ok((ports, notes))
    }
}

/// The text with another folder and other ports in it.
///
/// # Errors
/// When something that must be replaced isn't there.
fn filled_in(text: &str, data: &str, ports: &Ports) -> anyhow::Result<String> {
    if !text.contains("\"target/demo/") {
        bail!("it has no path that begins with \"target/demo/, so it isn't this demo's");
    }
    let mut text = text.replace("\"target/demo/", &format!("\"{data}/"));
    for (usual, chosen) in [
        (USUAL.ingest, ports.ingest),
        (USUAL.api, ports.api),
        (USUAL.status, ports.status),
        (USUAL.modbus, ports.modbus),
        (USUAL.mqtt, ports.mqtt),
    ] {
        text = text.replace(&format!("127.0.0.1:{usual}\""), &format!("127.0.0.1:\u{0}{chosen}\""));
    }
    Ok(text.replace('\u{0}', "")) // it kept a chosen port from being taken for the next usual one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_ports_are_filled_in_and_nothing_else_changes() {
        let text =
            "a = \"target/demo/x\"\nb = [\"127.0.0.1:7443\"]\nc = \"127.0.0.1:8080\" # 127.0.0.1:8080, target/demo\n";
        let ports = Ports { ingest: 8080, api: 9101, status: 1883, modbus: 2, mqtt: 3 };
        let expected =
            "a = \"/data/x\"\nb = [\"127.0.0.1:8080\"]\nc = \"127.0.0.1:9101\" # 127.0.0.1:8080, target/demo\n";
        assert_eq!(filled_in(text, "/data", &ports).unwrap(), expected);
        assert!(filled_in("a = 1", "/data", &ports).is_err());
    }

    #[test]
    fn a_taken_port_is_replaced_and_said() {
        let (any, notes) = Ports::choose(true).unwrap();
        assert!(notes.is_empty());
        assert!([any.ingest, any.api, any.status, any.modbus, any.mqtt].iter().all(|port| *port >= 1024));
        let taken = TcpListener::bind(loopback(USUAL.modbus)); // whoever has it, it is taken now
        let (ports, notes) = Ports::choose(false).unwrap();
        assert_ne!(ports.modbus, USUAL.modbus);
        assert!(notes.iter().any(|note| note.contains("port 5020 is taken: Modbus TCP is on")), "{notes:?}");
        drop(taken);
    }
}
