//! Subnets for networks that name none: cut from default pools (IPv4) or from the host's own
//! unique local prefix (IPv6), clear of everything the host already knows.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::config::check_host_bits;
use crate::error::{Error, NetworkRole};
use crate::free::Intervals;
use crate::span::{Family, Span, block};

/// A range of addresses from which subnets of one size are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DefaultPool {
    /// The range, without host bits.
    pub base: IpNetwork,
    /// Prefix length of the subnets.
    pub size: u8,
}

/// 1,024 networks of `10.76.0.0/14`, and 128 more of `198.19.0.0/17`; all are /24s.
///
/// `10.76.0.0/14` is nobody's default. Taken are, in the same /8: `10.0` and up (cloud networks,
/// Swarm, Cilium), `10.8` (OpenVPN), `10.32/12` (Weave), `10.42` and `10.43` (k3s), `10.64.0` and
/// `10.66.66` (WireGuard services and scripts), `10.85` (CRI-O), `10.88` to `10.95` (Podman),
/// `10.96/12` (Kubernetes services), `10.100` (EKS), `10.104` to `10.127` (DigitalOcean),
/// `10.128/9` (Google's own subnets, OpenShift), `10.152` (MicroK8s), `10.233` (Kubespray),
/// `10.240/13` (IBM Cloud, flannel); and round numbers, which people choose by hand. `172.16/12` is
/// Docker's, `192.168/16` is in every home, `100.64/10` is carriers' and Tailscale's.
///
/// `198.19.0.0/17` is for hosts whose VPN routes all of `10/8`: it belongs to the benchmarking block
/// `198.18/15` (RFC 2544), which is not routed on the Internet, in the half of it that proxies with
/// made-up addresses leave alone.
pub fn default_pools() -> Vec<DefaultPool> {
    let pool = |address, prefix| {
        let base = Ipv4Network::new(address, prefix).expect("a constant prefix of at most 32");
        DefaultPool { base: IpNetwork::V4(base), size: 24 }
    };
    vec![pool(Ipv4Addr::new(10, 76, 0, 0), 14), pool(Ipv4Addr::new(198, 19, 0, 0), 17)]
}

/// The first subnet of the pools, in their order, that overlaps nothing taken.
///
/// `taken` are the subnets of other networks and whatever the host has a route, a rule or a
/// resolver for, in any order and overlapping at will. Default routes do not count, nor do the
/// halves of the address space by which VPNs override them (`0.0.0.0/1`, `128.0.0.0/1`).
///
/// The taken networks are merged once, in `n log n`, and each step then leaps over a whole merged
/// run of them.
///
/// # Errors
/// Of kind [`Invalid`](crate::Kind::Invalid) if a pool that is looked at has host bits or cannot be
/// cut so, [`Exhausted`](crate::Kind::Exhausted) if nothing is free.
pub fn choose_subnet(pools: &[DefaultPool], taken: &[IpNetwork]) -> Result<IpNetwork, Error> {
    let taken_v4 = merge(Family::V4, taken);
    let taken_v6 = merge(Family::V6, taken);
    for &DefaultPool { base, size } in pools {
        check_host_bits(NetworkRole::DefaultPool, base)?;
        let family = Family::of(base.ip());
        if !(base.prefix()..=family.width()).contains(&size) {
            return Err(Error::DefaultPoolSize { base, size });
        }
        let taken = match family {
            Family::V4 => &taken_v4,
            Family::V6 => &taken_v6,
        };
        if let Some(subnet) = first_free(base, size, taken) {
            return Ok(subnet);
        }
    }
    Err(Error::NoSubnet { pools: pools.to_vec() })
}

/// The first /64 of the host's unique local prefix that overlaps nothing taken; what counts as
/// taken is as for [`choose_subnet`].
///
/// The prefix is a /48 of `fd00::/8` whose 40-bit global id is mixed from all bits of `host_id`, so
/// that it stays the same on one host and differs between hosts (RFC 4193, section 3.2). The id
/// cannot be read back from it: 88 of its 128 bits are lost.
///
/// # Errors
/// Of kind [`Exhausted`](crate::Kind::Exhausted) if all of the /48 is taken.
pub fn choose_ula(host_id: u128, taken: &[IpNetwork]) -> Result<IpNetwork, Error> {
    let bits = (0xfd << 120) | (u128::from(global_id(host_id)) << 80);
    let prefix = network(IpAddr::V6(Ipv6Addr::from_bits(bits)), 48);
    first_free(prefix, 64, &merge(Family::V6, taken)).ok_or(Error::NoUla { prefix })
}

/// Whether two networks have an address in common. Those of different families never do.
pub fn overlaps(a: IpNetwork, b: IpNetwork) -> bool {
    Span::of(a).overlaps(Span::of(b))
}

/// All addresses of one family that are taken.
fn merge(family: Family, taken: &[IpNetwork]) -> Intervals {
    let mut merged = Intervals::default();
    let spans = taken.iter().filter(|network| network.prefix() > 1).map(|&taken| Span::of(taken));
    for span in spans.filter(|span| span.family == family) {
        merged.insert_run(span.first, span.last);
    }
    merged
}

/// The first block with a prefix of `size` in `base` that has no taken address.
fn first_free(base: IpNetwork, size: u8, taken: &Intervals) -> Option<IpNetwork> {
    let base = Span::of(base);
    let rest = block(base.family.width() - size);
    let mut first = base.first;
    while base.holds(first) {
        let Some(obstacle) = taken.at_or_after(first).filter(|&obstacle| obstacle <= first | rest)
        else {
            return Some(network(base.address(first), size));
        };
        let end = taken.run_end(obstacle).expect("a member is in a run");
        first = (end | rest).checked_add(1)?;
    }
    None
}

fn network(address: IpAddr, prefix: u8) -> IpNetwork {
    IpNetwork::new(address, prefix).expect("a prefix no longer than the family allows")
}

/// 40 bits mixed from 128 by two rounds of the finaliser of SplitMix64, in which every bit of the
/// input changes half of the output.
fn global_id(host_id: u128) -> u64 {
    let mix = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("masked to 64 bits");
    let high = mix(half(host_id >> 64).wrapping_add(0x9e37_79b9_7f4a_7c15));
    mix(high ^ half(host_id)) >> 24
}
