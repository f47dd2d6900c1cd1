//! What others on the host have done since that is in a network's way: processes at published ports, rules
//! that lead these elsewhere, and routes over subnets. They are looked for when somebody asks how netd is,
//! and not before.

use std::net::IpAddr;

use cnm::{endpoint::Endpoint, network::Network, system::Status};
use ipnetwork::IpNetwork;

use crate::{
    host::sockets::{self, Process},
    netd::Netd,
    registry::{Registry, protocols},
    relay,
};

mod rules;

/// A route of the host that is none of netd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Where to.
    pub(crate) to: IpNetwork,
    /// By which link; none where it leads nowhere.
    pub(crate) link: Option<String>,
}

impl Netd {
    /// `system.status`.
    pub(crate) async fn status_now(&self) -> Status {
        let mut status = self.status();
        status.problems.extend(usurpations(&self.registry.borrow()));
        status.problems.extend(self.led_astray().await);
        let ways = self.host.ways().await;
        status.problems.extend(self.all_clashes(&ways));
        status.problems.extend(self.shared_with_docker().await);
        status.problems.extend(self.not_agreed_with_docker().await);
        status.problems.extend(self.crowding().await);
        status.problems.extend(self.unreached().await);
        status
    }
}

impl Netd {
    fn all_clashes(&self, ways: &[Way]) -> Vec<String> {
        let registry = self.registry.borrow();
        clashes(registry.networks().map(|entry| &entry.network), ways)
    }

    /// What is in the way of a network that is about to be made, or has just been.
    pub(crate) async fn in_the_way_of(&self, network: &Network) -> Vec<String> {
        // Where there is nothing that could be, the host's routes need not be listed.
        if network.link.is_none() || network.subnets.is_empty() {
            return Vec::new();
        }
        clashes(std::iter::once(network), &self.host.ways().await)
    }
}

/// Processes of the host that have taken a published port, one sentence each. Where nothing is
/// published there is nothing to look for.
fn usurpations(registry: &Registry) -> Vec<String> {
    let wanted = registry.endpoints().flat_map(|endpoint| protocols(&endpoint.ports)).collect();
    let bound = match sockets::bound(&wanted) {
        Ok(bound) => bound,
        Err(error) => return vec![format!("cannot see which ports the host holds: {error}")],
    };
    let mut sentences = Vec::new();
    for socket in bound {
        let endpoint = registry.ports.holder_at(&socket).and_then(|id| registry.endpoint(id));
        let Some(endpoint) = endpoint else { continue };
        let holders = sockets::holders(&[socket]);
        let own = |process: &Process| {
            process.is_for(&endpoint.container.id) || process.name == relay::PROGRAM
        };
        if let Some(holder) = holders.first().filter(|_| !holders.iter().any(own)) {
            let port = format!("{}/{}", socket.port, socket.protocol);
            sentences.push(usurpation(&port, endpoint, holder));
        }
    }
    sentences.sort();
    sentences.dedup();
    sentences
}

fn usurpation(port: &str, endpoint: &Endpoint, holder: &Process) -> String {
    format!(
        "process {} (pid {}) has taken port {port} of the host, which is published for container \
         {} on network {}: nobody reaches it there",
        holder.name,
        holder.pid,
        endpoint.container.label(),
        endpoint.network_name
    )
}

/// Subnets of networks that a route of the host has addresses in common with, one sentence each:
/// one that was chosen had none when it was.
fn clashes<'a>(networks: impl Iterator<Item = &'a Network>, ways: &[Way]) -> Vec<String> {
    let mut sentences = Vec::new();
    for network in networks {
        // Where the gateway is not on the host, the subnet is somebody else's to begin with.
        let Some(own) = network.link.as_ref() else { continue };
        for subnet in &network.subnets {
            let others = ways.iter().filter(|way| way.link.as_deref() != Some(own.as_str()));
            for way in others.filter(|way| ipam::overlaps(way.to, subnet.subnet)) {
                let by = match &way.link {
                    Some(link) => format!("the host's route to {} by {link}", way.to),
                    None => format!("the host's rule that {} is not to be reached", way.to),
                };
                let loser = if way.to.prefix() > subnet.subnet.prefix() {
                    "containers at these addresses are not reached"
                } else {
                    "what is there is not reached where a container could have its address"
                };
                sentences.push(format!(
                    "subnet {} of network {} clashes with {by}: {loser}",
                    subnet.subnet, network.name
                ));
            }
        }
    }
    sentences.sort();
    sentences.dedup();
    sentences
}

/// Whether a route leads to a part of the addresses, and not everywhere but for what others say: a
/// default route, or one of the halves by which VPNs override it.
pub(crate) fn is_somewhere(to: IpNetwork) -> bool {
    let everybody = match to.ip() {
        IpAddr::V4(ip) => ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local(),
    };
    to.prefix() > 1 && !everybody
}
