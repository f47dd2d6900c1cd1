//! A network that netd had before Podman wrote one down under its name, with other addresses: the same
//! network, unless its subnets were said. Podman up to 5 chooses some by itself, takes none that the
//! host has already, and so could not be told netd's.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::{
    document::{self, Subnet},
    translate::{HOST_LOCAL, LABEL},
};
use crate::{
    Error, Result,
    client::Client,
    endpoint::{Attach, Endpoint},
    network::{ListNetworks, Network},
    split,
};

/// Where Podman chooses subnets, unless its configuration says other ones.
const POOLS: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(10, 89, 0, 0), 16),
    (Ipv4Addr::new(10, 90, 0, 0), 15),
    (Ipv4Addr::new(10, 92, 0, 0), 14),
    (Ipv4Addr::new(10, 96, 0, 0), 11),
    (Ipv4Addr::new(10, 128, 0, 0), 9),
];

/// netd's network of this name, where it was not made for Podman and none of its subnets is one of
/// those of which Podman gives addresses, or Docker gives those out.
pub(super) fn with_others(
    client: &mut Client,
    given: &document::Network,
    attach: &Attach,
) -> Option<Network> {
    if given.ipam() != Some(HOST_LOCAL) {
        return None;
    }
    let mut list = ListNetworks::default();
    list.filters.insert("name".to_owned(), vec![given.name.clone()]);
    let mut found = client.call(&list).ok()?.networks.into_iter();
    let network = found.find(|network| network.name.as_str() == given.name)?;
    let is_own = |given: &Subnet| network.subnet_of(given.subnet.ip()).is_some();
    let is_podmans = network.labels.contains_key(LABEL) || given.subnets().iter().any(is_own);
    let is_others = !is_podmans && !network.subnets.is_empty();
    (is_others || of_docker(&network, attach).is_some()).then_some(network)
}

/// The part that Docker gives out of which an address is that Podman brings: each would give what the
/// other has.
fn of_docker(network: &Network, attach: &Attach) -> Option<IpNetwork> {
    let of = |address: &IpAddr| split::anothers(network, *address, &attach.labels);
    attach.addresses.iter().find_map(of).map(|(_, part)| part)
}

/// Has netd choose the addresses, where Podman has chosen the subnets by itself, or Docker gives out those
/// that Podman would.
///
/// # Errors
/// `invalid` where they were said.
pub(super) fn leave_to_netd(
    attach: &mut Attach,
    network: &Network,
    given: &document::Network,
) -> Result<()> {
    if of_docker(network, attach).is_some() || given.subnets().iter().all(is_chosen) {
        attach.addresses = Vec::new();
        return Ok(());
    }
    let all = |subnets: Vec<IpNetwork>| {
        subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let name = &network.name;
    Err(Error::invalid(format_args!(
        "netd has a network {name} already, with {}, and Podman's {name} has {}: make Podman's again \
         without --subnet, and its containers get addresses of netd's, or give it another name",
        all(network.subnets.iter().map(|subnet| subnet.subnet).collect()),
        all(given.subnets().iter().map(|subnet| subnet.subnet).collect()),
    ))
    .with("network", network.id.as_str()))
}

/// Whether Podman may have chosen the subnet by itself.
fn is_chosen(given: &Subnet) -> bool {
    if given.lease_range.is_some() {
        return false;
    }
    match given.subnet {
        IpNetwork::V4(subnet) => {
            let first = Ipv4Addr::from_bits(subnet.network().to_bits() | 1);
            let within = |(first, prefix): &(Ipv4Addr, u8)| {
                Ipv4Network::new(*first, *prefix).is_ok_and(|pool| pool.contains(subnet.network()))
            };
            subnet.prefix() == 24
                && POOLS.iter().any(within)
                && given.gateway.is_none_or(|gateway| gateway == IpAddr::V4(first))
        }
        IpNetwork::V6(subnet) => subnet.prefix() == 64 && subnet.network().octets()[0] == 0xfd,
    }
}

/// Says so: `podman network inspect` shows what Podman chose.
pub(super) fn tell(endpoint: &Endpoint, given: &document::Network, network: &Network) {
    let own: Vec<_> = endpoint.addresses.iter().map(|address| address.ip().to_string()).collect();
    let is_own = |given: &Subnet| network.subnet_of(given.subnet.ip()).is_some();
    let why = match given.subnets().iter().any(is_own) {
        true => "what Podman chose is of the half that Docker gives out",
        false => "what Podman chose is not in its subnets",
    };
    eprintln!(
        "network {} is netd's, which gave the address {}: {why}",
        given.name,
        own.join(" and ")
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn podmans_own_choice_is_told_from_what_was_said() {
        for (subnet, gateway, chosen) in [
            ("10.89.0.0/24", "10.89.0.1", true),
            ("10.200.3.0/24", "10.200.3.1", true),
            ("fd12:3456::/64", "fd12:3456::1", true),
            ("10.89.0.0/24", "10.89.0.254", false),
            ("10.89.0.0/25", "10.89.0.1", false),
            ("10.83.1.0/24", "10.83.1.1", false),
            ("192.168.7.0/24", "192.168.7.1", false),
        ] {
            let given = json!({"subnet": subnet, "gateway": gateway});
            let given: Subnet = serde_json::from_value(given).expect("a subnet");
            assert_eq!(is_chosen(&given), chosen, "{subnet} {gateway}");
        }
        let part = json!({"subnet": "10.89.0.0/24", "lease_range": {"start_ip": "10.89.0.9"}});
        assert!(!is_chosen(&serde_json::from_value(part).expect("a subnet")));
    }
}
