//! What a network is to be: everything that was not said is chosen, and what was is checked.

use std::{collections::BTreeMap, fmt, net::IpAddr, rc::Rc};

use cnm::{
    Error, IfName, Name, NetworkId, Result,
    network::{CreateNetwork, Network, Subnet},
    options::{IPAM, LINK, MTU, is_isolated},
};
use ipam::{Pool, PoolConfig};
use ipnetwork::IpNetwork;

use crate::{
    clock,
    netd::{Netd, address_error},
    registry::from_outside,
};

/// The name of the address that the host has on a network with host access.
const HOST_ADDRESS: &str = "host";

/// The smallest MTU of a link that has IPv6 (RFC 8200, section 5).
const IPV6_MTU: u32 = 1280;

/// The smallest MTU an IPv4 link may have (RFC 791), and the largest a veth may.
const MTUS: std::ops::RangeInclusive<u32> = 68..=65535;

impl Netd {
    /// Fills in what was not said and checks what was.
    pub(crate) async fn plan_network(
        self: &Rc<Self>,
        id: NetworkId,
        name: Name,
        driver: &str,
        params: CreateNetwork,
        predefined: bool,
        key: Option<String>,
    ) -> Result<Network> {
        let session = self.driver(driver)?;
        let capabilities = session.capabilities().await?;
        session.check_network_options(&params.options)?;
        let mut subnets = params.subnets;
        if capabilities.addresses {
            for subnet in &subnets {
                self.check_overlap(subnet.subnet, driver, capabilities.shared_subnets)?;
            }
            if capabilities.gateway && !predefined {
                let given: Vec<_> = subnets.iter().map(|subnet| subnet.subnet).collect();
                let link = LINK.given(&params.options).map(|(_, link)| link);
                self.check_cut(&given, link).await?;
            }
            match IPAM.given(&params.options) {
                None => {
                    let (ipv4, ipv6) = (params.ipv4, params.ipv6);
                    let gateway = |subnet: &Subnet| {
                        capabilities.gateway
                            && has_gateway(params.internal, &params.options, subnet)
                    };
                    self.choose_subnets(&mut subnets, ipv4, ipv6, gateway).await?;
                }
                Some((_, "none")) => {}
                Some((_, other)) => {
                    return Err(Error::invalid(format_args!(
                        "invalid ipam {other:?}: it should be none, where addresses come from \
                         outside, or be left out"
                    ))
                    .with("ipam", other));
                }
            }
        } else if !subnets.is_empty() {
            return Err(Error::invalid(format_args!(
                "driver {driver} gives its networks no addresses: leave the subnet out"
            ))
            .with("driver", driver));
        }
        let mtu = mtu(&params.options)?;
        for six in subnets.iter().map(|subnet| subnet.subnet).filter(IpNetwork::is_ipv6) {
            check_ipv6(mtu, six)?;
        }
        let link = match LINK.given(&params.options) {
            _ if !capabilities.gateway => None,
            Some((_, value)) => Some(self.free_link(value)?),
            None => Some(id.link_name()),
        };
        let mut network = Network {
            id,
            name,
            driver: driver.to_owned(),
            created: clock::timestamp(),
            subnets,
            internal: params.internal,
            predefined,
            link,
            mtu,
            overlay: None,
            options: params.options,
            labels: params.labels,
            idempotency_key: key,
        };
        if !capabilities.gateway
            && matches!(network.options.get("host-access").map(String::as_str), Some("" | "true"))
        {
            let holders = self.holders(&network).await;
            let others: Vec<_> = holders.iter().map(|holder| holder.address).collect();
            self.choose_host_addresses(&mut network, &others)?;
        }
        Ok(network)
    }

    /// Gives the host an address of its own on a network where it has no gateway's.
    fn choose_host_addresses(&self, network: &mut Network, others: &[IpAddr]) -> Result<()> {
        if from_outside(network) {
            return Ok(());
        }
        let taken = self.registry.borrow().shared_addresses(network);
        for subnet in network.subnets.iter_mut().filter(|s| !s.aux.contains_key(HOST_ADDRESS)) {
            let config = PoolConfig {
                range: subnet.range,
                gateway: subnet.gateway,
                aux: subnet.aux.clone(),
                exclude: subnet.exclude.clone(),
                ..PoolConfig::new(subnet.subnet)
            };
            let mut pool = Pool::new(config).map_err(|error| address_error(&error))?;
            for address in taken.iter().filter(|address| subnet.subnet.contains(**address)) {
                // One that is reserved is not chosen anyway.
                pool.restore(*address).ok();
            }
            for address in others {
                pool.allocate_static(*address, ipam::Moment(0)).ok();
            }
            let own = pool.allocate(ipam::Moment(0)).map_err(|error| address_error(&error))?;
            subnet.aux.insert(HOST_ADDRESS.to_owned(), own);
        }
        Ok(())
    }

    /// Checks the given subnets and chooses those that are wanted and not given.
    async fn choose_subnets(
        &self,
        subnets: &mut Vec<Subnet>,
        ipv4: Option<bool>,
        ipv6: Option<bool>,
        gateway: impl Fn(&Subnet) -> bool,
    ) -> Result<()> {
        let given = |v4: bool| subnets.iter().filter(|s| s.subnet.is_ipv4() == v4).count();
        for (v4, wanted) in [(true, ipv4), (false, ipv6)] {
            let family = if v4 { "IPv4" } else { "IPv6" };
            if wanted == Some(false) && given(v4) > 0 {
                return Err(Error::invalid(format_args!(
                    "{family} is switched off and has a subnet: leave one of them out"
                )));
            }
        }
        let want_v4 = ipv4.unwrap_or(true) && given(true) == 0;
        let want_v6 = ipv6.unwrap_or(false) && given(false) == 0;
        if ipv4 == Some(false) && given(false) == 0 && !want_v6 {
            return Err(Error::invalid("a network needs IPv4 or IPv6: both are switched off"));
        }
        for (place, subnet) in subnets.iter().enumerate() {
            check_unicast(subnet.subnet)?;
            let mut before = subnets[..place].iter();
            if let Some(other) = before.find(|o| ipam::overlaps(o.subnet, subnet.subnet)) {
                return Err(Error::invalid(format_args!(
                    "multiple overlapping subnet configuration is not supported: {} and {}",
                    other.subnet, subnet.subnet
                ))
                .with("subnet", subnet.subnet.to_string()));
            }
        }
        if want_v4 || want_v6 {
            let mut taken = self.host.taken().await;
            taken.extend(self.registry.borrow().networks().flat_map(|entry| {
                entry.network.subnets.iter().map(|subnet| subnet.subnet).collect::<Vec<_>>()
            }));
            if want_v4 {
                let chosen = ipam::choose_subnet(&self.config.default_pools, &taken);
                subnets.insert(0, Subnet::new(chosen.map_err(|error| address_error(&error))?));
            }
            if want_v6 {
                let chosen = ipam::choose_ula(self.host.id(), &taken);
                subnets.push(Subnet::new(chosen.map_err(|error| address_error(&error))?));
            }
        }
        for subnet in subnets.iter_mut().filter(|subnet| gateway(subnet)) {
            choose_gateway(subnet)?;
        }
        Ok(())
    }

    /// Refuses a subnet that another network has, unless their driver lets them share it.
    pub(crate) fn check_overlap(
        &self,
        subnet: IpNetwork,
        driver: &str,
        shared: bool,
    ) -> Result<()> {
        let registry = self.registry.borrow();
        for entry in registry.networks() {
            if shared && entry.network.driver == driver {
                continue;
            }
            for other in &entry.network.subnets {
                if ipam::overlaps(other.subnet, subnet) {
                    return Err(Error::exists(format_args!(
                        "invalid pool request: Pool overlaps with other one on this address space: \
                         {subnet} and {} of network {}",
                        other.subnet, entry.network.name
                    ))
                    .with("subnet", subnet.to_string())
                    .with("network", entry.network.id.as_str()));
                }
            }
        }
        Ok(())
    }

    /// A link's name that no other network has.
    fn free_link(&self, given: &str) -> Result<IfName> {
        let link: IfName = given.parse().map_err(Error::invalid)?;
        let registry = self.registry.borrow();
        let other = registry.networks().find(|entry| entry.network.link.as_ref() == Some(&link));
        match other {
            Some(other) => Err(Error::exists(format_args!(
                "the link {link} is network {}'s",
                other.network.name
            ))
            .with("network", other.network.id.as_str())),
            None => Ok(link),
        }
    }
}

/// The MTU that is asked for, if one is.
pub(crate) fn mtu(options: &BTreeMap<String, String>) -> Result<Option<u32>> {
    let asked = MTU.given(options).map(|(key, value)| {
        value.parse().ok().filter(|mtu| MTUS.contains(mtu)).ok_or_else(|| {
            Error::invalid(format_args!(
                "invalid {key} {value:?}: it should be a number from {} to {}",
                MTUS.start(),
                MTUS.end()
            ))
        })
    });
    asked.transpose()
}

/// Refuses `six`, which is IPv6, where packets are too small for it.
pub(crate) fn check_ipv6(mtu: Option<u32>, six: impl fmt::Display) -> Result<()> {
    match mtu.filter(|mtu| *mtu < IPV6_MTU) {
        Some(mtu) => Err(Error::invalid(format_args!(
            "IPv6 needs an MTU of at least {IPV6_MTU}, and this is {mtu}: raise it, or leave {six} \
             out"
        ))
        .with("mtu", mtu)),
        None => Ok(()),
    }
}

/// Refuses what no interface can have an address of (RFC 6890): its first address tells.
pub(crate) fn check_unicast(subnet: IpNetwork) -> Result<()> {
    let first = subnet.network();
    let what = match first {
        _ if first.is_multicast() => "multicast addresses",
        _ if first.is_loopback() => "every host's own addresses",
        _ if first.is_unspecified() && subnet.prefix() > 0 => "addresses of nobody",
        IpAddr::V4(ip) if ip.octets()[0] >= 240 => "reserved addresses",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => "addresses that every link has",
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => "those of IPv4 in another spelling",
        _ => return Ok(()),
    };
    Err(Error::invalid(format_args!("invalid subnet {subnet}: these are {what}"))
        .with("subnet", subnet.to_string()))
}

/// Whether the host is to be on a subnet of such a network.
pub(super) fn has_gateway(
    internal: bool,
    options: &BTreeMap<String, String>,
    subnet: &Subnet,
) -> bool {
    !internal || !is_isolated(options, subnet.subnet.is_ipv6())
}

/// The first address of the range, or of the subnet, that nothing else has.
pub(super) fn choose_gateway(subnet: &mut Subnet) -> Result<()> {
    if subnet.gateway.is_some() {
        return Ok(());
    }
    let config = PoolConfig {
        aux: subnet.aux.clone(),
        exclude: subnet.exclude.clone(),
        ..PoolConfig::new(subnet.subnet)
    };
    let mut pool = Pool::new(config).map_err(|error| address_error(&error))?;
    subnet.gateway = Some(pool.allocate(ipam::Moment(0)).map_err(|error| address_error(&error))?);
    Ok(())
}
