//! Networks of which runtimes give a part of the addresses out themselves, and cannot be told who has one
//! of them already.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use cnm::{
    Error, Result,
    docker::is_of_dockerd,
    endpoint::Endpoint,
    network::{Network, Subnet},
    split,
};
use ipnetwork::IpNetwork;

use crate::registry::Registry;

/// Who has an address that Docker might give to a container as well, which would be refused.
pub(super) fn unknown_to_docker(network: &Network, endpoints: &[Endpoint]) -> Option<String> {
    let is_dockers = |address: IpAddr| {
        let anothers = split::anothers(network, address, &BTreeMap::new());
        anothers.is_some_and(|(runtime, _)| runtime == split::BY_DOCKER)
    };
    let others = endpoints.iter().filter(|endpoint| !is_of_dockerd(endpoint));
    let held: Vec<_> = others
        .flat_map(|endpoint| endpoint.addresses.iter().map(move |address| (endpoint, address.ip())))
        .filter(|(_, address)| is_dockers(*address))
        .map(|(endpoint, address)| format!("{address} ({})", endpoint.container.label()))
        .collect();
    (!held.is_empty()).then(|| {
        format!(
            "Docker gives addresses of {} of network {} out itself, and no driver can tell it that these \
             are in use: {}; a container that it gives one of them is refused, unless Docker's network is made \
             with --aux-address for each, or with --ipam-driver netd",
            split::label(split::dockers(network)),
            network.name,
            held.join(", ")
        )
    })
}

/// Refuses an address that a runtime gives out by itself to somebody who is not that runtime, whose labels
/// these are.
///
/// # Errors
/// `invalid`, with whose it is and which are netd's.
pub(crate) fn not_anothers(
    network: &Network,
    address: IpAddr,
    asks: &BTreeMap<String, String>,
) -> Result<()> {
    let Some((runtime, part)) = split::anothers(network, address, asks) else { return Ok(()) };
    let own = network.subnet_of(address).and_then(|subnet| subnet.range);
    let own = own.map_or_else(|| "another".to_owned(), |range| format!("one of {range}"));
    let or = match runtime {
        split::BY_DOCKER => {
            format!(", or make Docker's network again with {}", left_out(&[address].into()))
        }
        _ => String::new(),
    };
    Err(Error::invalid(format_args!(
        "address {address} of network {} is of {part}, which {runtime} gives out itself, and might give to \
         a container of its own: take {own}, which netd gives out{or}",
        network.name
    ))
    .with("address", address.to_string())
    .with("network", network.id.as_str()))
}

/// What Docker is to be told so that it leaves addresses out.
pub(crate) fn left_out(addresses: &BTreeSet<IpAddr>) -> String {
    let words = addresses.iter().map(|address| format!("--aux-address used-{address}={address}"));
    words.collect::<Vec<_>>().join(" ")
}

impl Registry {
    /// Every address of these parts of a network that Docker could not give to a container: whoever has
    /// it is none of dockerd's, or it is kept for somebody.
    pub(crate) fn taken_from_docker(
        &self,
        network: &Network,
        parts: &[IpNetwork],
    ) -> BTreeSet<IpAddr> {
        let of_docker = self.endpoints_on(&network.id).filter(|endpoint| is_of_dockerd(endpoint));
        let of_docker: BTreeSet<_> =
            of_docker.flat_map(|endpoint| &endpoint.addresses).map(IpNetwork::ip).collect();
        let pools = self.network(&network.id).into_iter().flat_map(|entry| &entry.pools);
        let kept = |subnet: &Subnet| {
            let kept: Vec<_> =
                subnet.reserved.values().chain(subnet.aux.values()).copied().collect();
            kept
        };
        pools
            .flat_map(ipam::Pool::leases)
            .filter(|address| !of_docker.contains(address))
            .chain(network.subnets.iter().flat_map(kept))
            .filter(|address| parts.iter().any(|part| part.contains(*address)))
            .collect()
    }
}
