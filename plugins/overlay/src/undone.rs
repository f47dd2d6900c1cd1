//! Which network is the worse for what of a plan was not done.

use std::collections::{BTreeMap, BTreeSet};

use cnm::{
    Error, NetworkId,
    driver::{ANOTHER_PROGRAM, UDP_PORT},
    network::Network,
};
use kernel::{Errno, vxlan::Found};
use netd_bridge::Segment;
use words::Undone;

use crate::{
    Tunnel,
    plan::{self, Step},
};

/// The networks that are not as they should be, and one sentence for each device that is not.
pub(crate) fn of_networks(
    undone: Undone<Step>,
    networks: &[&Network],
    tunnels: &[Tunnel],
) -> (BTreeSet<NetworkId>, Vec<String>) {
    let mut first = BTreeMap::<String, kernel::Error>::new();
    for (step, error) in undone.failed {
        // What fails next does so because of it.
        first.entry(step.link().unwrap_or_default().to_owned()).or_insert(error);
    }
    let (mut unfinished, mut problems) = (BTreeSet::new(), undone.besides);
    for (link, error) in first {
        let is_its = |tunnel: &&Tunnel| {
            tunnel.name == link || tunnel.bridge.as_ref().is_some_and(|bridge| *bridge == link)
        };
        let Some(tunnel) = tunnels.iter().find(is_its) else {
            problems.push(error.to_string());
            continue;
        };
        let on_it = |network: &&&Network| Some(Segment::of(network).bridge) == tunnel.bridge;
        let network = networks.iter().find(on_it);
        unfinished.extend(network.map(|network| network.id.clone()));
        let name = network.map(|network| format!("network {}", network.name));
        let whose = name.as_deref().unwrap_or("the network between the nodes");
        problems.push(format!(
            "{whose} is not as it should be on its VXLAN device {}: {error}; netd tries again by itself: find \
             what is in its way (ip -d link show type vxlan), and have it try at once with netctl reconcile",
            tunnel.name
        ));
    }
    (unfinished, problems)
}

/// What of others' is in the way of a device, where that is known: its number on the wire, or its port.
pub(crate) fn obstacle(
    undone: &Undone<Step>,
    tunnels: &[Tunnel],
    there: &[Found],
) -> Option<Error> {
    undone.failed.iter().find_map(|(step, error)| {
        let tunnel = tunnels.iter().find(|tunnel| step.link() == Some(&tunnel.name))?;
        let Tunnel { ref name, vni, port, .. } = *tunnel;
        match error.errno()? {
            Errno::EEXIST => {
                let is_in_place =
                    |found: &&Found| !plan::is_own(found) && (found.vni, found.port) == (vni, port);
                let other = &there.iter().find(is_in_place)?.link.name;
                let refused = Error::exists(format_args!(
                    "another VXLAN device of the host, {other}, has VNI {vni} at UDP port {port}, which \
                     netd's {name} needs: end what uses it, and delete it (ip link delete {other})"
                ));
                Some(refused.with("link", other.as_str()).with("vni", vni))
            }
            Errno::EADDRINUSE => {
                let refused = Error::exists(format_args!(
                    "{ANOTHER_PROGRAM} has UDP port {port} of the host, at which the cluster's nodes take VXLAN: \
                     stop it, or begin the cluster with another port (netctl cluster init --data-path-port)"
                ));
                Some(refused.with(UDP_PORT, port))
            }
            _ => None,
        }
    })
}
