//! Networks of which Docker gives a part of the addresses out itself, and cannot be told who has one of
//! them already.

use cnm::{
    docker::is_of_dockerd,
    endpoint::Endpoint,
    network::Network,
    split::{self, parts},
};

/// Who has an address that Docker might give to a container as well, which would be refused.
pub(super) fn unknown_to_docker(network: &Network, endpoints: &[Endpoint]) -> Option<String> {
    let dockers: Vec<_> = parts(network)
        .filter(|(label, _)| label.starts_with(split::DOCKER))
        .map(|(_, part)| part)
        .collect();
    let others = endpoints.iter().filter(|endpoint| !is_of_dockerd(endpoint));
    let held: Vec<_> = others
        .flat_map(|endpoint| endpoint.addresses.iter().map(move |address| (endpoint, address.ip())))
        .filter(|(_, address)| dockers.iter().any(|part| part.contains(*address)))
        .map(|(endpoint, address)| format!("{address} ({})", endpoint.container.label()))
        .collect();
    (!held.is_empty()).then(|| {
        format!(
            "Docker gives addresses of {} of network {} out itself, and no driver can tell it that these \
             are in use: {}; a container that it gives one of them is refused, unless Docker's network is made \
             with --aux-address for each, or with --ipam-driver netd",
            split::label(dockers),
            network.name,
            held.join(", ")
        )
    })
}
