//! Subnets of which a runtime gives addresses out as well as netd: each has one half, so that neither
//! has to ask the other. Which part is the runtime's is a label of the network's, netd's is its range.

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;

use crate::{docker::ENDPOINT, network::Network};

/// What the labels begin with that tell which parts a dockerd gives out, for each network that it has
/// there; its id of that follows.
pub const DOCKER: &str = "docker-addresses/";

/// The label that tells which parts Podman gives out.
pub const NETAVARK: &str = "netavark/addresses";

/// What the labels begin with that tell which addresses a dockerd was told to leave out, beside the
/// parts that it gives out; its id of the network follows.
pub const DOCKER_AUX: &str = "docker-aux/";

/// The label of a network that was made for Podman, with Podman's id of it, and of its endpoints.
pub const PODMAN: &str = "netavark";

/// The runtimes that give addresses out themselves, as people call them.
pub const BY_DOCKER: &str = "Docker";
const BY_PODMAN: &str = "Podman";

/// What is netd's of each subnet; all of it where that is none.
pub type Ranges = BTreeMap<IpNetwork, Option<IpNetwork>>;

/// Both halves of a subnet, the lower one first, where both have addresses to give.
pub fn halves(subnet: IpNetwork) -> Option<(IpNetwork, IpNetwork)> {
    let (prefix, width) = (subnet.prefix() + 1, if subnet.is_ipv4() { 32 } else { 128 });
    if prefix + 2 > width {
        return None;
    }
    let bit = 1_u128 << (width - prefix);
    let first = match subnet.network() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() | u32::try_from(bit).ok()?)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() | bit)),
    };
    let lower = IpNetwork::new(subnet.network(), prefix).ok()?;
    Some((lower, IpNetwork::new(first, prefix).ok()?))
}

/// The upper half of a subnet: netd's part of one whose lower half somebody else gives out.
pub fn upper_half(subnet: IpNetwork) -> Option<IpNetwork> {
    halves(subnet).map(|(_, upper)| upper)
}

/// The parts of a network's subnets that runtimes give out, each with the label that tells so.
pub fn parts(network: &Network) -> impl Iterator<Item = (&str, IpNetwork)> {
    let tells = |key: &str| key == NETAVARK || key.starts_with(DOCKER);
    let labels = network.labels.iter().filter(move |(key, _)| tells(key));
    labels.flat_map(|(key, parts)| {
        parts.split(',').filter_map(|part| Some((key.as_str(), part.parse().ok()?)))
    })
}

/// Parts, or addresses, as a label has them.
pub fn label(parts: impl IntoIterator<Item: Display>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(",")
}

/// The parts of a network's subnets that dockerds give out.
pub fn dockers(network: &Network) -> impl Iterator<Item = IpNetwork> {
    parts(network).filter(|(label, _)| label.starts_with(DOCKER)).map(|(_, part)| part)
}

/// The runtime that gives out an address by itself, and the part that it is of, unless that runtime is the
/// one that asks, whose labels these are, or was told to leave the address out.
pub fn anothers<'a>(
    network: &'a Network,
    address: IpAddr,
    asks: &BTreeMap<String, String>,
) -> Option<(&'static str, IpNetwork)> {
    let runtime = |label: &'a str| match label.strip_prefix(DOCKER) {
        Some(id) => (BY_DOCKER, asks.contains_key(ENDPOINT), Some(id)),
        None => (BY_PODMAN, asks.contains_key(PODMAN), None),
    };
    let own = parts(network).filter(|(_, part)| part.contains(address));
    let mut own: Vec<_> = own.map(|(label, part)| (runtime(label), part)).collect();
    if own.iter().any(|((_, asks, _), _)| *asks) {
        return None;
    }
    own.retain(|((_, _, id), _)| id.is_none_or(|id| !is_left_out(network, id, address)));
    own.first().map(|((runtime, ..), part)| (*runtime, *part))
}

/// Whether a dockerd was told to leave an address out, of a network by its id there.
pub fn is_left_out(network: &Network, id: &str, address: IpAddr) -> bool {
    let told = network.labels.get(&format!("{DOCKER_AUX}{id}"));
    let mut told = told.into_iter().flat_map(|told| told.split(','));
    told.any(|told| told.parse() == Ok(address))
}

/// What becomes of a network that is there when a runtime comes that gives out those parts: netd's
/// ranges as they are to be, and what is the runtime's. Where a range was said when the network was
/// made, it stays: the halves were chosen by who did.
pub fn joined(network: &Network, theirs: &[IpNetwork]) -> (Ranges, Vec<IpNetwork>) {
    let (mut ranges, mut own) = (Ranges::new(), Vec::new());
    for part in theirs {
        let mut subnets = network.subnets.iter();
        let Some(subnet) = subnets.find(|subnet| other_half(subnet.subnet, *part).is_some()) else {
            continue;
        };
        if subnet.range.is_none() {
            ranges.insert(subnet.subnet, other_half(subnet.subnet, *part));
        } else if !parts(network).any(|(_, known)| known == *part) {
            continue;
        }
        own.push(*part);
    }
    (ranges, own)
}

/// What netd gives out again once nobody gives out what a label tells.
pub fn left(network: &Network, label: &str) -> Ranges {
    let of = |is: bool| parts(network).filter(move |(key, _)| (*key == label) == is);
    let free = of(true).filter(|(_, part)| of(false).all(|(_, other)| other != *part));
    let subnets = free.filter_map(|(_, part)| {
        let is = |range| network.subnets.iter().find(|s| other_half(s.subnet, part) == Some(range));
        network.subnets.iter().filter_map(|subnet| subnet.range).find_map(is)
    });
    subnets.map(|subnet| (subnet.subnet, None)).collect()
}

/// The other half, of a half of a subnet.
fn other_half(subnet: IpNetwork, half: IpNetwork) -> Option<IpNetwork> {
    match halves(subnet)? {
        (lower, upper) if half == lower => Some(upper),
        (lower, upper) if half == upper => Some(lower),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetworkId, network::Subnet};

    fn network(subnets: &[(&str, Option<&str>)], labels: &[(&str, &str)]) -> Network {
        let mut network: Network = serde_json::from_value(serde_json::json!({
            "id": NetworkId::from_bytes([1; 32]), "name": "app", "driver": "bridge", "created": "",
        }))
        .expect("a network");
        network.subnets = subnets
            .iter()
            .map(|(subnet, range)| Subnet { range: range.map(net), ..Subnet::new(net(subnet)) })
            .collect();
        network.labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        network
    }

    #[test]
    fn an_address_is_of_the_runtime_that_gives_it_out_unless_that_leaves_it_out() {
        let (part, aux) = (format!("{DOCKER}1"), format!("{DOCKER_AUX}1"));
        let labels = [(&*part, "10.0.0.0/25"), (&*aux, "10.0.0.7,10.0.0.8")];
        let divided = network(&[("10.0.0.0/24", Some("10.0.0.128/25"))], &labels);
        let ip = |text: &str| text.parse().expect("an address");
        let by = |key: &str| BTreeMap::from([(key.to_owned(), String::new())]);
        let docker = Some(("Docker", net("10.0.0.0/25")));
        assert_eq!(anothers(&divided, ip("10.0.0.5"), &BTreeMap::new()), docker);
        assert_eq!(anothers(&divided, ip("10.0.0.5"), &by(PODMAN)), docker);
        assert_eq!(anothers(&divided, ip("10.0.0.5"), &by(ENDPOINT)), None);
        assert_eq!(anothers(&divided, ip("10.0.0.8"), &BTreeMap::new()), None, "left out");
        assert_eq!(anothers(&divided, ip("10.0.0.200"), &BTreeMap::new()), None, "netd's");
        // Both have it where both came before one was refused.
        let labels = [(&*part, "10.0.0.0/25"), (NETAVARK, "10.0.0.0/25")];
        let both = network(&[("10.0.0.0/24", Some("10.0.0.128/25"))], &labels);
        assert_eq!(anothers(&both, ip("10.0.0.5"), &by(PODMAN)), None);
        assert_eq!(anothers(&both, ip("10.0.0.5"), &by(ENDPOINT)), None);
        assert_eq!(anothers(&both, ip("10.0.0.5"), &BTreeMap::new()), docker);
    }

    fn net(text: &str) -> IpNetwork {
        text.parse().expect("a subnet")
    }

    #[test]
    fn who_comes_gets_a_half_of_what_nobody_has_divided() {
        let there = network(
            &[("10.0.0.0/24", None), ("10.0.1.0/24", Some("10.0.1.0/28")), ("fd00::/64", None)],
            &[],
        );
        let theirs = [net("10.0.0.0/25"), net("10.0.1.0/25"), net("fd00::/65"), net("10.9.0.0/25")];
        let (ranges, own) = joined(&there, &theirs);
        assert_eq!(
            ranges,
            [
                (net("10.0.0.0/24"), Some(net("10.0.0.128/25"))),
                (net("fd00::/64"), Some(net("fd00::8000:0:0:0/65"))),
            ]
            .into()
        );
        assert_eq!(label(own), "10.0.0.0/25,fd00::/65");
        // Who comes second has the same half, and nothing changes.
        let split =
            network(&[("10.0.0.0/24", Some("10.0.0.128/25"))], &[(NETAVARK, "10.0.0.0/25")]);
        let (ranges, own) = joined(&split, &[net("10.0.0.0/25")]);
        assert_eq!((ranges, own), (Ranges::new(), vec![net("10.0.0.0/25")]));
    }

    #[test]
    fn the_last_who_goes_leaves_all_of_it() {
        let one = format!("{DOCKER}1");
        let subnets = [("10.0.0.0/24", Some("10.0.0.128/25"))];
        let alone = network(&subnets, &[(&one, "10.0.0.0/25")]);
        assert_eq!(left(&alone, &one), [(net("10.0.0.0/24"), None)].into());
        let both = network(&subnets, &[(&one, "10.0.0.0/25"), (NETAVARK, "10.0.0.0/25")]);
        assert_eq!(left(&both, &one), Ranges::new());
        assert_eq!(left(&network(&subnets, &[]), &one), Ranges::new(), "it was said so");
    }
}
