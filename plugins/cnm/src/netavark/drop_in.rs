//! netavark itself: a plugin that is executed under that name does for a whole container what
//! Podman asks of netavark, and hands to other plugins what is not netd's.
//!
//! Podman's own drivers `bridge` and `macvlan` are netd's. Who is not root is served by the
//! distribution's netavark, as before.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{self, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use serde_json::{json, value::RawValue};

mod another;
mod complete;
mod container;
mod earlier;
mod line;
mod part;

use super::document::Network;
use crate::{Error, Result, plugin::answer};
use container::Container;
use line::{Line, Verb};

/// The version of netavark whose words these are.
const VERSION: &str = "2.1.0";

/// As what the program was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The one that Podman asks for networks.
    Netavark,
    /// The resolver, which netd has within itself: there is only to say that it is there.
    Resolver,
}

impl Program {
    /// Told by the program's name.
    pub(crate) fn executed() -> Option<Self> {
        let program = PathBuf::from(env::args_os().next()?);
        match program.file_name()?.to_str()? {
            "netavark" => Some(Self::Netavark),
            "aardvark-dns" => Some(Self::Resolver),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Netavark => "netavark",
            Self::Resolver => "aardvark-dns",
        }
    }

    /// What it says of itself.
    fn version(self) -> String {
        format!("{} {VERSION} (netd {})", self.name(), env!("CARGO_PKG_VERSION"))
    }
}

/// Does what the command line asks for. The exit code is 0 or 1, an error is a document on standard
/// output, and a command line that is none is told on standard error with exit code 2.
pub(crate) fn main(program: Program) -> ExitCode {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let asks_version = words.iter().any(|word| word == "--version" || word == "-V");
    if asks_version {
        return answer(&program.version(), ExitCode::SUCCESS);
    }
    if program == Program::Resolver || line::is_rootless(&words) {
        let error = another::distribution(program.name(), &words);
        eprintln!("{error}");
        return answer(&super::refusal(&error), ExitCode::FAILURE);
    }
    let line = match Line::parse(words) {
        Ok(line) => line,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(error.kind.exit_code());
        }
    };
    match run(&line) {
        Ok(text) => answer(&text, ExitCode::SUCCESS),
        Err(error) => answer(&super::refusal(&error), ExitCode::FAILURE),
    }
}

/// What a verb prints.
fn run(line: &Line) -> Result<String> {
    match &line.verb {
        Verb::Version => Ok(json!({
            "version": VERSION, "commit": format!("netd {}", env!("CARGO_PKG_VERSION")),
            "build_time": "", "target": env::consts::ARCH, "default_fw_driver": "nftables",
        })
        .to_string()),
        Verb::Setup(netns) => {
            let container: Container = super::decode("setup", &read(line)?)?;
            setup(&container, line, netns)
        }
        Verb::Teardown(netns) => {
            let text = read(line)?;
            let container: Container = super::decode("teardown", &text)?;
            teardown(&container, line, netns, &text)
        }
        Verb::Update { network, servers } => {
            let text = update(servers)?;
            update_theirs(line, network)?;
            Ok(text)
        }
        Verb::Create => {
            let wanted: complete::Create = super::decode("create", &read(line)?)?;
            create(wanted, line)
        }
    }
}

/// What is to be done: on standard input, or in a file.
fn read(line: &Line) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let (place, outcome) = match &line.file {
        Some(path) => {
            (path.as_path(), fs::File::open(path).and_then(|mut f| f.read_to_end(&mut text)))
        }
        None => (Path::new("standard input"), io::stdin().lock().read_to_end(&mut text)),
    };
    outcome.map_err(|error| {
        Error::invalid(format_args!("cannot read {}: {error}", place.display()))
    })?;
    Ok(text)
}

/// Puts a container on all its networks, or on none.
fn setup(container: &Container, line: &Line, netns: &str) -> Result<String> {
    let parts = container.parts()?;
    if parts.is_empty() {
        // With no network there is no plugin that would look.
        fs::metadata(netns).map_err(|error| {
            Error::not_found(format_args!("cannot open the network namespace {netns}: {error}"))
        })?;
    }
    let mut told: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    for (place, part) in parts.iter().enumerate() {
        let text = part.setup(&line.plugin_dirs, netns).and_then(|text| {
            RawValue::from_string(text.trim().to_owned()).map_err(|error| {
                let driver = &part.driver;
                Error::invalid(format_args!("the answer of {driver} is not understood: {error}"))
            })
        });
        match text {
            Ok(text) => drop(told.insert(&part.name, text)),
            Err(error) => {
                for before in parts[..place].iter().rev() {
                    if let Err(left) = before.teardown(&line.plugin_dirs, netns) {
                        eprintln!("{}: cannot undo the setup: {left}", before.name);
                    }
                }
                return Err(error);
            }
        }
    }
    serde_json::to_string(&told).map_err(Error::internal)
}

/// Takes a container off its networks: each of them, whatever becomes of the others. Those on which it
/// has been since before netd was in netavark's place are netavark's to take it off.
fn teardown(container: &Container, line: &Line, netns: &str, text: &[u8]) -> Result<String> {
    let mut refused: Option<Error> = None;
    let mut refuse = |error: Error| {
        refused = Some(match refused.take() {
            None => error,
            Some(first) => Error::new(first.kind, format_args!("{first}; {error}")),
        });
    };
    let mut theirs = Vec::new();
    for part in container.parts_left()? {
        match part.teardown(&line.plugin_dirs, netns) {
            Ok(true) => theirs.push(part.name),
            Ok(false) => {}
            Err(error) => refuse(error),
        }
    }
    if !theirs.is_empty() {
        let handed_over = container::on(&theirs, text).and_then(|document| {
            let about = format!("the container's place on {}", theirs.join(", "));
            another::hand_over(Program::Netavark.name(), &about, &document)
        });
        handed_over.unwrap_or_else(refuse);
    }
    refused.map_or(Ok(String::new()), Err)
}

/// Podman has written the servers down itself, and says them with each container from now on.
fn update(servers: &str) -> Result<String> {
    for server in servers.split(',').filter(|server| !server.is_empty()) {
        let _: IpAddr = server.parse().map_err(|error| {
            Error::invalid(format_args!("invalid DNS server {server:?}: {error}"))
        })?;
    }
    Ok(String::new())
}

/// Has netavark hear of an update of a network on which it has containers from before.
fn update_theirs(line: &Line, network: &str) -> Result<()> {
    if !earlier::serves(line.config.as_deref(), network) {
        return Ok(());
    }
    another::hand_over(Program::Netavark.name(), &format!("network {network}"), "null")
}

/// A network with everything that was not said. One of another driver's is that plugin's.
fn create(wanted: complete::Create, line: &Line) -> Result<String> {
    match part::own(&wanted.network.driver) {
        Some(info) => {
            let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
            let network = complete::complete(&info, wanted, now, random)?;
            serde_json::to_string(&network).map_err(Error::internal)
        }
        None => {
            let Network { driver, .. } = &wanted.network;
            let document = serde_json::to_string(&wanted.network).map_err(Error::internal)?;
            another::plugin(&line.plugin_dirs, driver, &["create"], &document)
        }
    }
}

/// Bytes that nobody guesses, for a network of IPv6 that nobody else has.
fn random() -> Result<[u8; 7]> {
    let mut bytes = [0; 7];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::internal(format_args!("cannot read /dev/urandom: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
