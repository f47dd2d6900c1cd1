//! Limits of the kernel that the containers of this host come near to, for who asks how netd is.

use std::{collections::HashSet, net::IpAddr};

use crate::{host::Most, netd::Netd};

/// What is said when so many percent of a limit are reached.
const NEAR: usize = 80;

impl Netd {
    /// One sentence for each family of whose neighbours there may be too many.
    pub(crate) async fn crowding(&self) -> Vec<String> {
        let limits = self.host.most_neighbours();
        let addresses = self.addresses_here();
        // Most hosts are far from it, and need not look any closer.
        let fewest = limits.iter().map(|limit| limit.neighbours).min();
        if fewest.is_none_or(|fewest| !is_near(addresses.len(), fewest)) {
            return Vec::new();
        }
        let for_good = self.host.neighbours_for_good().await;
        limits.into_iter().filter_map(|limit| too_many(limit, &addresses, &for_good)).collect()
    }

    /// Addresses of containers that the host reaches as neighbours.
    fn addresses_here(&self) -> Vec<IpAddr> {
        let registry = self.registry.borrow();
        let on_a_link = registry.networks().filter(|entry| entry.network.link.is_some());
        on_a_link
            .flat_map(|entry| registry.endpoints_on(&entry.network.id))
            .flat_map(|endpoint| endpoint.addresses.iter().map(|address| address.ip()))
            .collect()
    }
}

/// Each container is a neighbour to the host, and the gateway is one to it.
fn is_near(addresses: usize, most: u32) -> bool {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    2 * addresses * 100 >= most.saturating_mul(NEAR)
}

fn too_many(limit: Most, addresses: &[IpAddr], for_good: &HashSet<IpAddr>) -> Option<String> {
    let Most { v6, neighbours: most } = limit;
    let counted = addresses.iter().filter(|ip| ip.is_ipv6() == v6 && !for_good.contains(ip));
    let count = counted.count();
    is_near(count, most).then(|| {
        let (family, parameter) = if v6 { ("IPv6", "ipv6") } else { ("IPv4", "ipv4") };
        format!(
            "{count} containers with {family} may know {} neighbours, and the kernel keeps {most} \
             for the whole machine: packets are lost when there are more; raise \
             net.{parameter}.neigh.default.gc_thresh3, or make large networks with the option \
             layout=routed",
            2 * count
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u32) -> Vec<IpAddr> {
        (1..=count).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes())).collect()
    }

    #[test]
    fn it_is_said_from_four_fifths_on() {
        let limit = Most { v6: false, neighbours: 1000 };
        let none = HashSet::new();
        assert_eq!(too_many(limit, &addresses(399), &none), None);
        let said = too_many(limit, &addresses(400), &none).unwrap();
        assert!(said.contains("800 neighbours") && said.contains("ipv4.neigh"), "{said}");
        assert_eq!(too_many(Most { v6: true, ..limit }, &addresses(900), &none), None);
    }

    #[test]
    fn who_is_known_for_good_is_not_counted() {
        let limit = Most { v6: false, neighbours: 1000 };
        let all = addresses(500);
        let known = all[..101].iter().copied().collect();
        assert_eq!(too_many(limit, &all, &known), None);
        assert_eq!(too_many(limit, &all, &all.iter().copied().collect()), None);
    }
}
