//! Root's containers of Podman that run, and whose network they have: netd's own, by its records, and
//! the distribution's netavark's, as far as the processes that hold containers (conmon(8)) and the
//! bridges tell.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use cnm::{
    client::Client,
    endpoint::{Endpoint, ListEndpoints},
};
use serde::Deserialize;
use toml::Table;

use super::settings;

/// The label of what came to netd through Podman.
const LABEL: &str = "netavark";

/// The network that Podman has unasked, and its bridge.
const DEFAULT: (&str, &str) = ("podman", "podman0");

/// What the ends of netd's own pairs begin with.
const END: &str = "nd";

/// A process that holds a container.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    id: String,
    name: String,
    pidfile: PathBuf,
}

/// A network, as far as Podman has its bridge written down.
#[derive(Debug, Deserialize)]
struct Written {
    name: String,
    #[serde(default)]
    network_interface: String,
}

/// The names of Podman's containers on netd's networks; none where netd is away.
pub(super) fn on_netd(socket: &Path) -> Vec<String> {
    let is_podmans = |endpoint: &Endpoint| endpoint.labels.contains_key(LABEL);
    let own = endpoints(socket).into_iter().filter(is_podmans);
    own.map(|endpoint| endpoint.container.label().to_owned())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Containers that have a network and none of netd's, and the networks that others' containers are on, in
/// words; none where there are none.
pub(super) fn on_netavark(socket: &Path, files: &[Table]) -> Option<String> {
    let on_record: BTreeSet<String> =
        endpoints(socket).into_iter().map(|endpoint| endpoint.container.id.to_string()).collect();
    let held: Vec<(Holder, u64)> =
        holders().into_iter().filter_map(|one| network(&one).map(|netns| (one, netns))).collect();
    // Who shares a namespace with one on record has its network.
    let own: BTreeSet<u64> =
        held.iter().filter(|(one, _)| on_record.contains(&one.id)).map(|(_, ns)| *ns).collect();
    let theirs: BTreeSet<&str> =
        held.iter().filter(|(_, ns)| !own.contains(ns)).map(|(one, _)| one.name.as_str()).collect();
    let networks: Vec<String> = bridges(&settings::networks(files))
        .into_iter()
        .filter(|(_, bridge)| has_others_ports(bridge))
        .map(|(name, _)| name)
        .collect();
    match (theirs.is_empty(), networks.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("running: {}", list(theirs))),
        (true, false) => Some(format!("networks in use: {}", networks.join(", "))),
        (false, false) => {
            Some(format!("running: {}; networks in use: {}", list(theirs), networks.join(", ")))
        }
    }
}

fn list(names: BTreeSet<&str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn endpoints(socket: &Path) -> Vec<Endpoint> {
    let listed = Client::connect(socket).and_then(|mut netd| netd.call(&ListEndpoints::default()));
    listed.map(|list| list.endpoints).unwrap_or_default()
}

/// Root's processes that hold containers.
fn holders() -> Vec<Holder> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_root = entries.filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == 0));
    of_root
        .filter_map(|entry| {
            let said = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            holder(&said.split('\0').collect::<Vec<_>>())
        })
        .collect()
}

/// A holder, by what it was executed with.
fn holder(words: &[&str]) -> Option<Holder> {
    if Path::new(words.first()?).file_name()? != "conmon" {
        return None;
    }
    let own = words.iter().position(|word| *word == "--exit-command").unwrap_or(words.len());
    let after = |flag: &str| {
        let at = words[..own].iter().position(|word| *word == flag)?;
        words.get(at + 1).filter(|word| !word.is_empty())
    };
    Some(Holder {
        id: (*after("-c")?).to_owned(),
        name: (*after("-n")?).to_owned(),
        pidfile: after("-p")?.into(),
    })
}

/// The namespace of a container that has a network of its own, with an interface in it.
fn network(holder: &Holder) -> Option<u64> {
    let pid: u32 = fs::read_to_string(&holder.pidfile).ok()?.trim().parse().ok()?;
    let process = Path::new("/proc").join(pid.to_string());
    let netns = fs::metadata(process.join("ns/net")).ok()?.ino();
    if netns == fs::metadata("/proc/self/ns/net").ok()?.ino() {
        return None;
    }
    let links = fs::read_to_string(process.join("net/dev")).ok()?;
    // Two lines of head (proc(5)).
    let mut names = links.lines().skip(2).filter_map(|line| line.split(':').next());
    names.any(|name| name.trim() != "lo").then_some(netns)
}

/// Podman's networks with their bridges, as far as they can be read.
fn bridges(directory: &Path) -> Vec<(String, String)> {
    let mut bridges = vec![(DEFAULT.0.to_owned(), DEFAULT.1.to_owned())];
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let Ok(Written { name, network_interface }) = serde_json::from_str(&text) else { continue };
        // No way out of where links are.
        if !network_interface.is_empty() && !network_interface.contains('/') {
            bridges.push((name, network_interface));
        }
    }
    bridges.sort();
    bridges.dedup();
    bridges
}

/// Whether somebody is on a bridge, and not by netd.
fn has_others_ports(bridge: &str) -> bool {
    let ports = fs::read_dir(Path::new("/sys/class/net").join(bridge).join("brif"));
    let mut ports = ports.into_iter().flatten().flatten();
    ports.any(|port| !port.file_name().to_string_lossy().starts_with(END))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_known_by_its_words() {
        let words = "/usr/bin/conmon --api-version 1 -c 0123 -u 0123 -r /usr/bin/crun -b /b -p \
                     /run/c/pidfile -n web --exit-dir /e --exit-command /usr/bin/podman \
                     --exit-command-arg -n --exit-command-arg no";
        let words: Vec<&str> = words.split(' ').collect();
        let known = holder(&words).expect("a holder");
        assert_eq!((known.id.as_str(), known.name.as_str()), ("0123", "web"));
        assert_eq!(known.pidfile, Path::new("/run/c/pidfile"));
        assert_eq!(holder(&[]), None);
        assert_eq!(holder(&["/usr/bin/podman", "-c", "1", "-n", "a", "-p", "b"]), None);
        assert_eq!(holder(&["conmon", "-c", "1", "-p", "b", "--exit-command", "-n", "a"]), None);
        assert_eq!(holder(&["conmon", "-c"]), None);
    }
}
