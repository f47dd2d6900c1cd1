//! dockerd's own default bridge. Where it finds a `docker0` it takes it over with the address that is
//! there, and gives the addresses of that subnet out once more; told to have no bridge, it deletes the
//! link (moby 20.10, daemon/daemon_unix.go: `initBridgeDriver`, `removeDefaultBridgeInterface`). So a
//! network of netd's has that name where it was told to, or had it before Docker came, and who asks how
//! netd is hears of it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    time::Duration,
};

use cnm::{Error, IfName, Kind, Name, Result, network::Network};

use super::daemon;
use crate::netd::Netd;

/// The bridge that dockerd takes for its own unless it is told another.
const DOCKERS: &str = "docker0";

/// The bridge of netd's default network unless it is told another.
const OWN: &str = "netd0";

/// What the names of all host ends of netd's own begin with.
const END: &str = "nd";

/// How dockerd is told the addresses of its own bridge: those that it takes where it finds none.
const BIP: &str = "\"bip\": \"172.17.0.1/16\"";

/// How long dockerd may take to say which networks it has, while somebody waits to hear how netd is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where packages put dockerd.
const PROGRAMS: [&str; 3] = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];

impl Netd {
    /// The link of the default network when it is made.
    ///
    /// # Errors
    /// None but of netd's own.
    pub(crate) fn default_link(&self) -> Result<IfName> {
        match &self.config.default_link {
            Some(told) => Ok(told.clone()),
            None => OWN.parse().map_err(Error::internal),
        }
    }

    /// Has a predefined network be where it is to be from now on: on the link that netd was told for it
    /// since, or off the one that dockerd takes, where Docker came after it. The driver's first sync
    /// moves whoever is on it.
    pub(crate) fn settle(&self, networks: &mut [Network]) {
        let Ok(wanted) = self.default_link() else { return };
        let Some(at) = networks.iter().position(|n| n.predefined && n.link.is_some()) else {
            return;
        };
        let Some(from) = networks[at].link.clone() else { return };
        let told = self.config.default_link.is_some();
        let is_dockers = || from.as_str() == DOCKERS && self.has_dockerd();
        if from == wanted || !(told || is_dockers()) {
            return;
        }
        let name = networks[at].name.clone();
        let moved = Network { link: Some(wanted.clone()), ..networks[at].clone() };
        let outcome = can_move(networks, &name, &from, &wanted)
            .and_then(|()| Ok(self.stores.put_network(&moved)?));
        match outcome {
            Ok(()) => {
                tracing::info!(network = %name, %from, to = %wanted, "network moved");
                networks[at] = moved;
            }
            Err(error) => {
                tracing::error!(network = %name, %error, "network not moved");
                self.problems.borrow_mut().insert(format!("link of {name}"), error.message);
            }
        }
    }

    /// Networks of netd's whose link is dockerd's as well, or is about to be, one sentence each.
    pub(crate) async fn shared_with_docker(&self) -> Vec<String> {
        let own: BTreeMap<String, Network> = {
            let registry = self.registry.borrow();
            let networks = registry.networks().map(|entry| entry.network.clone());
            networks.filter_map(|n| Some((n.link.as_ref()?.to_string(), n))).collect()
        };
        let socket = &self.config.docker_socket;
        // Asking would start one that waits to be asked.
        let theirs = match socket.exists() && self.has_running_dockerd() {
            true => tokio::time::timeout(PATIENCE, daemon::bridges(socket)).await,
            false => Ok(Ok(Vec::new())),
        };
        let theirs = theirs.ok().and_then(Result::ok).unwrap_or_default();
        let mut sentences = Vec::new();
        for theirs in &theirs {
            let name = &theirs.name;
            if let Some(network) = own.get(&theirs.link) {
                sentences.push(format!(
                    "dockerd's network {name} is on {}, which is network {}'s of netd, and gives its \
                     addresses out a second time: {}",
                    theirs.link,
                    network.name,
                    self.way_out(name, &theirs.link, network)
                ));
                continue;
            }
            let mut pairs = own.values().flat_map(|network| {
                let subnets = network.subnets.iter().map(move |subnet| (network, subnet.subnet));
                subnets.filter(|(_, own)| theirs.subnets.iter().any(|s| ipam::overlaps(*s, *own)))
            });
            if let Some((network, subnet)) = pairs.next() {
                sentences.push(format!(
                    "dockerd's network {name} has addresses of {subnet}, which is network {}'s of netd, \
                     and gives them out a second time: {}",
                    network.name,
                    self.other_addresses(name)
                ));
            }
        }
        if let Some(network) = own.get(DOCKERS).filter(|_| sentences.is_empty())
            && self.has_dockerd()
        {
            sentences.push(format!(
                "network {} is on {DOCKERS}, and dockerd, which is on this host, takes that for its own \
                 or deletes it when it starts: {}",
                network.name,
                self.way_out("bridge", DOCKERS, network)
            ));
        }
        sentences
    }

    /// Whether there is a dockerd on this host.
    fn has_dockerd(&self) -> bool {
        PROGRAMS.iter().any(|path| Path::new(path).exists()) || self.has_running_dockerd()
    }

    /// Whether one runs, and in the host's network namespace.
    pub(super) fn has_running_dockerd(&self) -> bool {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut processes = entries.map(|entry| entry.path());
        processes.any(|process| {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            name.trim_end() == "dockerd"
                && File::open(process.join("ns/net")).is_ok_and(|netns| self.host.is_own(&netns))
        })
    }

    /// What is to be done about addresses that both have. dockerd keeps those that its default bridge
    /// once had (moby, libnetwork/drivers/bridge: `populateNetworks`).
    fn other_addresses(&self, theirs: &str) -> String {
        match theirs {
            "bridge" => {
                let config = self.config.docker_config.display();
                format!("say {BIP} in {config}, and start dockerd again")
            }
            _ => format!("make Docker's network {theirs} anew with another subnet"),
        }
    }

    /// What is to be done about a link that both have.
    fn way_out(&self, theirs: &str, link: &str, network: &Network) -> String {
        let config = self.config.docker_config.display();
        match (theirs, link) {
            ("bridge", DOCKERS) if network.predefined => format!(
                "say default_link = {OWN:?} in netd's configuration, and, where dockerd has run on it, \
                 {BIP} in {config}, since it keeps its addresses; end dockerd, start netd again, which \
                 moves the network with all that is on it, and then dockerd"
            ),
            ("bridge", DOCKERS) => {
                format!("end dockerd, make network {} anew without that name", network.name)
            }
            ("bridge", _) => format!("take {link:?} out of {config}, and start dockerd again"),
            _ => format!("make Docker's network {theirs} anew without that name"),
        }
    }
}

/// Refuses to move a network from a link to another that is somebody else's, or away from others that
/// are on it.
fn can_move(networks: &[Network], name: &Name, from: &IfName, to: &IfName) -> Result<()> {
    let links = Path::new("/sys/class/net");
    let is_taken = networks.iter().any(|network| network.link.as_ref() == Some(to));
    if is_taken || links.join(to.as_str()).exists() {
        return Err(Error::exists(format_args!(
            "network {name} stays on {from}, since there is another link {to}: remove that, or name \
             another as default_link, and start netd again"
        )));
    }
    let ports =
        fs::read_dir(links.join(from.as_str()).join("brif")).into_iter().flatten().flatten();
    let mut ports = ports.filter_map(|port| port.file_name().into_string().ok());
    match ports.find(|port| !port.starts_with(END)) {
        Some(other) => Err(Error::new(
            Kind::Busy,
            format_args!(
                "network {name} stays on {from}, since {other} is on it, which is not netd's: take that \
                 off (where it is a Docker container's, end dockerd), and start netd again"
            ),
        )),
        None => Ok(()),
    }
}
