//! Gateway modes: what of a network the outside reaches, and as whom its members go out. They are
//! Docker's (`com.docker.network.bridge.gateway_mode_ipv4`), one for each family.

use std::net::{IpAddr, SocketAddr};

use cnm::{
    Error, IfName, Result,
    endpoint::Endpoint,
    network::Network,
    options::{OUTBOUND_IPV4, OUTBOUND_IPV6, gateway_mode},
};
use kernel::firewall::Fact;

use crate::options::{AMONG_THEMSELVES, MASQUERADE, TRUSTED, is_on};

/// How one family of a network meets the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Out as the host, in through published ports.
    #[default]
    Nat,
    /// As that, and everything comes in at a container's own address.
    Unprotected,
    /// Out as itself; in come pings, and published ports at the container's own address.
    Routed,
    /// As an internal network, and the host has no address on it.
    Isolated,
}

impl Mode {
    /// What a network says of a family. What is no mode is as if it were not there.
    pub fn of(network: &Network, v6: bool) -> Self {
        Self::said(network, v6).and_then(|(_, text)| Self::parse(text)).unwrap_or_default()
    }

    fn said(network: &Network, v6: bool) -> Option<(&'static str, &str)> {
        gateway_mode(&network.options, v6)
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "nat" => Self::Nat,
            "nat-unprotected" => Self::Unprotected,
            "routed" => Self::Routed,
            "isolated" => Self::Isolated,
            _ => return None,
        })
    }
}

/// Refuses what is no mode, and what a network that has a way out cannot have.
pub(crate) fn check(network: &Network) -> Result<()> {
    for v6 in [false, true] {
        let Some((key, text)) = Mode::said(network, v6) else { continue };
        let why = match Mode::parse(text) {
            None => "it should be nat, nat-unprotected, routed or isolated",
            Some(Mode::Isolated) if !network.internal => {
                "only an internal network can be isolated: make it internal, or say another mode"
            }
            Some(_) => continue,
        };
        return Err(Error::invalid(format_args!("invalid {key} {text:?}: {why}"))
            .with("option", key)
            .with("network", network.name.as_str()));
    }
    Ok(())
}

/// Refuses an address to go out as that is none of its family.
pub(crate) fn check_outbound(network: &Network) -> Result<()> {
    for (setting, v6) in [(OUTBOUND_IPV4, false), (OUTBOUND_IPV6, true)] {
        let Some((key, text)) = setting.given(&network.options) else { continue };
        if outbound(network, v6).is_none() {
            let family = if v6 { "IPv6" } else { "IPv4" };
            return Err(Error::invalid(format_args!(
                "invalid {key} {text:?}: it should be an address of {family} of the host's"
            ))
            .with("option", key)
            .with("network", network.name.as_str()));
        }
    }
    Ok(())
}

/// Refuses links to trust that none can be called.
pub(crate) fn check_trusted(network: &Network) -> Result<()> {
    let Some((key, _)) = TRUSTED.given(&network.options) else { return Ok(()) };
    match trusted(network).find_map(|link| link.parse::<IfName>().err()) {
        Some(error) => Err(Error::invalid(format_args!("invalid {key}: {error}"))
            .with("option", key)
            .with("network", network.name.as_str())),
        None => Ok(()),
    }
}

/// The address that what leaves the network takes, where it is told one.
fn outbound(network: &Network, v6: bool) -> Option<IpAddr> {
    let setting = if v6 { OUTBOUND_IPV6 } else { OUTBOUND_IPV4 };
    let (_, text) = setting.given(&network.options)?;
    text.parse().ok().filter(|address: &IpAddr| address.is_ipv6() == v6)
}

/// Whether the members of a network reach each other.
pub(crate) fn reach_each_other(network: &Network) -> bool {
    is_on(&network.options, AMONG_THEMSELVES, true)
}

/// The links from which published ports are reached at the container's own address.
fn trusted(network: &Network) -> impl Iterator<Item = &str> {
    let said = TRUSTED.given(&network.options).map(|(_, text)| text);
    said.into_iter()
        .flat_map(|text| text.split([':', ',']))
        .map(str::trim)
        .filter(|l| !l.is_empty())
}

/// What the firewall is to know of how a bridge of the network meets the outside.
pub(crate) fn facts(network: &Network, bridge: &str) -> Vec<Fact> {
    let name = || bridge.to_owned();
    if network.internal {
        return vec![Fact::Internal(name())];
    }
    let mut facts = Vec::new();
    for v6 in [false, true] {
        if network.subnets.iter().all(|subnet| subnet.subnet.is_ipv6() != v6) {
            continue;
        }
        let mode = Mode::of(network, v6);
        match mode {
            Mode::Unprotected => facts.push(Fact::Open { bridge: name(), v6 }),
            Mode::Routed => facts.push(Fact::Gate { bridge: name(), v6 }),
            Mode::Nat | Mode::Isolated => {}
        }
        if mode != Mode::Routed && is_on(&network.options, MASQUERADE, true) {
            facts.push(Fact::Outward { bridge: name(), v6 });
            let address = outbound(network, v6);
            facts.extend(address.map(|address| Fact::Outbound { bridge: name(), address }));
        }
    }
    facts.extend(
        trusted(network).map(|link| Fact::Trusted { link: link.to_owned(), bridge: name() }),
    );
    facts
}

/// What remains of an endpoint's published ports, and what comes to them, as its network's modes
/// have it: the host answers for none of a routed family; who may come to the container's own
/// address finds them there.
pub(crate) fn publish(network: &Network, endpoint: &Endpoint, published: Vec<Fact>) -> Vec<Fact> {
    let trusting = trusted(network).next().is_some();
    let routed = [Mode::of(network, false), Mode::of(network, true)].map(|m| m == Mode::Routed);
    let of_host = |fact: &Fact| match fact {
        Fact::Publish { to, .. } => !routed[usize::from(to.is_ipv6())],
        Fact::PublishRange { to, .. } => !routed[usize::from(to.is_ipv6())],
        _ => true,
    };
    let mut facts: Vec<_> = published.into_iter().filter(of_host).collect();
    for address in &endpoint.addresses {
        if !trusting && !routed[usize::from(address.is_ipv6())] {
            continue;
        }
        for port in &endpoint.ports {
            let protocol = port.protocol.number();
            let to = port.container_ports().map(|port| SocketAddr::new(address.ip(), port));
            facts.extend(to.map(|to| Fact::Admitted { protocol, to }));
        }
    }
    facts
}
