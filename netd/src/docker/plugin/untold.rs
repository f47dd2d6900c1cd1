//! `--ip-range` where Docker gives the addresses out itself: no driver is told of it, and it may lie where
//! netd gives out its own. The gateway tells: Docker takes the range's first address unless told another.

use std::net::IpAddr;

use cnm::{
    Error, Result,
    network::{Network, Subnet},
    split::{self, Ranges},
};
use ipnetwork::IpNetwork;

use super::translate::Wanted;

/// Refuses a network to be made of which Docker gives out what netd does.
pub(super) fn check(wanted: &Wanted) -> Result<()> {
    let mut subnets = wanted.create.subnets.iter();
    subnets.try_for_each(|subnet| check_gateway(subnet, subnet.range))
}

/// As [`check`], of one that is there, with netd's ranges as they are to be.
pub(super) fn check_joined(network: &Network, wanted: &Wanted, ranges: &Ranges) -> Result<()> {
    let is_own = |gateway| network.subnets.iter().any(|own| own.gateway == Some(gateway));
    let subnets = &wanted.create.subnets;
    for subnet in subnets.iter().filter(|subnet| !subnet.gateway.is_some_and(is_own)) {
        let own = network.subnets.iter().find(|own| own.subnet == subnet.subnet);
        let range = ranges.get(&subnet.subnet).copied();
        check_gateway(subnet, range.unwrap_or_else(|| own.and_then(|own| own.range)))?;
    }
    Ok(())
}

/// Refuses a gateway with which a range begins that netd gives out.
fn check_gateway(subnet: &Subnet, netds: Option<IpNetwork>) -> Result<()> {
    let is_dockers = subnet.range.is_some();
    let found = netds.zip(subnet.gateway).filter(|(range, gateway)| range.contains(*gateway));
    let Some((range, gateway)) = found.filter(|(_, gateway)| is_dockers && begins(*gateway)) else {
        return Ok(());
    };
    let rest = match split::halves(subnet.subnet) {
        Some((lower, upper)) if upper == range => format!("one within {lower}"),
        _ => format!("one outside {range}"),
    };
    Err(Error::invalid(format_args!(
        "gateway {gateway} is what Docker takes of an --ip-range that begins there, where netd gives out \
         {range} itself: say --ipam-driver netd as well, or leave --ip-range out, or name {rest} (a \
         --gateway of your own needs --ipam-driver netd there)"
    ))
    .with("gateway", gateway.to_string())
    .with("subnet", subnet.subnet.to_string()))
}

/// Whether a part of a subnet with addresses to give may begin with an address: one of four at least.
fn begins(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.to_bits().trailing_zeros() >= 2,
        IpAddr::V6(ip) => ip.to_bits().trailing_zeros() >= 2,
    }
}

/// What to do about an address that Docker brings and somebody has, of netd's part of a subnet.
pub(super) fn hint(network: &Network, address: IpAddr) -> Option<String> {
    split::dockers(network).next()?;
    let range = network.subnet_of(address)?.range.filter(|range| range.contains(address))?;
    Some(format!(
        "netd gives addresses of {range} out itself, of which Docker does not know: take another --ip, or, \
         where its network has an --ip-range there, make that again without, or with --ipam-driver netd"
    ))
}
