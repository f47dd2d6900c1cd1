//! `create` of netavark 2: a network that Podman 6 is about to write down, with everything chosen
//! that was not said. Pure: what is in use and what is random is passed in.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::{IpNetwork, Ipv4Network};
use serde::Deserialize;

use super::{
    super::{
        create::leave_half,
        document::{Network, Subnet},
        translate::{self, DHCP, HOST_LOCAL, NONE},
    },
    part::no_dhcp,
};
use crate::{Error, IfName, Name, Result, driver::Info};

/// What `create` is given.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Create {
    pub(super) network: Network,
    #[serde(default)]
    used: Used,
    #[serde(default)]
    options: Choices,
}

/// What Podman knows to be in use.
#[derive(Clone, Debug, Default, Deserialize)]
struct Used {
    #[serde(default)]
    interfaces: Option<Vec<String>>,
    /// Ids by name.
    #[serde(default)]
    names: Option<BTreeMap<String, String>>,
    #[serde(default)]
    subnets: Option<Vec<IpNetwork>>,
}

/// What is chosen from.
#[derive(Clone, Debug, Default, Deserialize)]
struct Choices {
    #[serde(default)]
    subnet_pools: Option<Vec<Pool>>,
    #[serde(default)]
    default_interface_name: Option<String>,
    #[serde(default)]
    check_used_subnets: bool,
}

/// Addresses of which subnets are cut.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Pool {
    base: IpNetwork,
    /// The prefix length of a subnet.
    size: u8,
}

/// The network as it is to be written down.
///
/// # Errors
/// `exists` for a name or a subnet that is in use, `unsupported` and `invalid` for what cannot be.
pub(super) fn complete(
    info: &Info,
    wanted: Create,
    now: String,
    random: impl Fn() -> Result<[u8; 7]>,
) -> Result<Network> {
    let Create { mut network, used, options } = wanted;
    let name: Name = network
        .name
        .parse()
        .map_err(|error| Error::invalid(error).with("network", network.name.as_str()))?;
    if used.names.iter().flatten().any(|(other, id)| other == name.as_str() || *id == network.id) {
        // Podman looks for these words.
        return Err(Error::exists(format_args!("network name {name}: network already exists"))
            .with("network", name.as_str()));
    }
    network.driver.clone_from(&info.name);
    let is_bridge = info.name == "bridge";
    if is_bridge && network.network_interface.is_none() {
        network.network_interface = Some(free_interface(&used, &options)?);
    }
    if let Some(interface) = &network.network_interface {
        let _: IfName = interface.parse().map_err(Error::invalid)?;
    }
    choose_ipam(&mut network, is_bridge)?;
    if network.ipam() == Some(HOST_LOCAL) {
        let in_use = used.subnets.unwrap_or_default();
        let in_use = if options.check_used_subnets { in_use } else { Vec::new() };
        if is_bridge {
            choose_subnets(&mut network, &in_use, options.subnet_pools.as_deref(), random)?;
        }
        check_subnets(&network, &in_use)?;
        leave_half(&mut network)?;
    }
    if !is_bridge || network.ipam() == Some(NONE) {
        network.dns_enabled = false;
    }
    if !network.internal || network.dns_enabled {
        choose_gateways(&mut network);
    }
    network.created = Some(now.into());
    // What netd would refuse with the first container is refused now.
    translate::create(info, &network)?;
    Ok(network)
}

/// Who gives addresses: Podman, of subnets, unless it is told otherwise.
fn choose_ipam(network: &mut Network, is_bridge: bool) -> Result<()> {
    let has_subnets = !network.subnets().is_empty();
    match network.ipam() {
        Some(NONE) => Ok(()),
        None | Some(HOST_LOCAL) if is_bridge || has_subnets => {
            network.set_ipam(HOST_LOCAL);
            Ok(())
        }
        None | Some(HOST_LOCAL | DHCP) => Err(no_dhcp()),
        Some(other) => Err(Error::invalid(format_args!(
            "unknown IPAM driver {other:?}: it should be host-local or none"
        ))),
    }
}

/// The first free name of a bridge.
fn free_interface(used: &Used, options: &Choices) -> Result<String> {
    let prefix = options.default_interface_name.as_deref().filter(|name| !name.is_empty());
    let prefix = prefix.unwrap_or("podman");
    let is_used = |name: &String| {
        used.interfaces.iter().flatten().any(|other| other == name)
            || used.names.iter().flatten().any(|(other, _)| other == name)
    };
    let mut names = (1..=u32::MAX).map(|number| format!("{prefix}{number}"));
    names.find(|name| !is_used(name)).ok_or_else(|| {
        Error::invalid(format_args!("all bridge names that begin with {prefix} are in use"))
    })
}

/// A subnet of each family that is wanted and was not given.
fn choose_subnets(
    network: &mut Network,
    used: &[IpNetwork],
    pools: Option<&[Pool]>,
    random: impl Fn() -> Result<[u8; 7]>,
) -> Result<()> {
    let subnets = network.subnets.get_or_insert_default();
    let has = |subnets: &[Subnet], v4: bool| subnets.iter().any(|s| s.subnet.is_ipv4() == v4);
    let plain = |subnet| Subnet { subnet, gateway: None, lease_range: None };
    if !has(subnets, true) && (subnets.is_empty() || network.ipv6_enabled) {
        subnets.push(plain(free_subnet(used, pools.unwrap_or_default())?));
    }
    if network.ipv6_enabled && !has(subnets, false) {
        subnets.push(plain(unique_local(random()?)?));
    }
    network.ipv6_enabled |= has(subnets, false);
    Ok(())
}

/// The first subnet of the pools that nobody uses.
fn free_subnet(used: &[IpNetwork], pools: &[Pool]) -> Result<IpNetwork> {
    for Pool { base, size } in pools {
        let IpNetwork::V4(base) = base else { continue };
        if *size < base.prefix() || *size > 30 {
            continue;
        }
        let count = 1_u64 << (size - base.prefix());
        for number in 0..count {
            let first = u64::from(base.network().to_bits()) + (number << (32 - size));
            let Ok(first) = u32::try_from(first) else { break };
            let Ok(subnet) = Ipv4Network::new(first.into(), *size) else { break };
            if !used.iter().any(|other| overlap(*other, subnet.into())) {
                return Ok(subnet.into());
            }
        }
    }
    Err(Error::new(
        crate::Kind::Exhausted,
        "no subnet is left in the default subnet pools: give one",
    ))
}

/// A subnet that nobody else has chosen (RFC 4193).
fn unique_local(random: [u8; 7]) -> Result<IpNetwork> {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    IpNetwork::new(IpAddr::from(octets), 64).map_err(Error::internal)
}

fn check_subnets(network: &Network, used: &[IpNetwork]) -> Result<()> {
    for (place, Subnet { subnet, .. }) in network.subnets().iter().enumerate() {
        let before = network.subnets()[..place].iter().map(|subnet| &subnet.subnet);
        if let Some(other) = used.iter().chain(before).find(|other| overlap(**other, *subnet)) {
            return Err(Error::exists(format_args!(
                "subnet {subnet} is already used: it overlaps with {other}"
            ))
            .with("subnet", subnet.to_string()));
        }
    }
    Ok(())
}

/// Two subnets are apart, or one is within the other.
fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

/// The first address of each subnet is its gateway, unless it is told.
fn choose_gateways(network: &mut Network) {
    for subnet in network.subnets.iter_mut().flatten().filter(|s| s.gateway.is_none()) {
        subnet.gateway = subnet.subnet.iter().nth(1);
    }
}
