//! What networks and endpoints should look like in the kernel, as far as it follows from what netd
//! says of them.

use std::net::IpAddr;

use cnm::{
    Error, Result,
    bandwidth::Limit,
    endpoint::{Endpoint, Route},
    network::Network,
    options::{DNS_PORT, is_delivered_on_host},
};
use ipnetwork::IpNetwork;
use kernel::{links::Mac, macvlan::Mode};

use crate::{
    HOST_PREFIX, NOWHERE_PREFIX,
    options::{HOST_ACCESS, MODE, PARENT, QUEUE},
};

/// Under what name a subnet has the address that the host has for them.
const HOST_ADDRESS: &str = "host";

/// What a network's macvlans hang on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// A link of the host's, or a sub-interface for a VLAN of one.
    Named(String),
    /// The link of the default route; where there is none, as [`Parent::Nowhere`].
    Uplink {
        /// The name of a link that leads nowhere.
        otherwise: String,
    },
    /// A link of its own of this name, which leads nowhere.
    Nowhere(String),
}

/// A network on this host: what its macvlans hang on and how they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What people call the network.
    pub network: String,
    /// What its macvlans hang on.
    pub parent: Parent,
    /// How they see each other.
    pub mode: Mode,
    /// How many broadcasts may wait to be copied to one.
    pub queue: Option<u32>,
    /// The MTU that it was given.
    pub mtu: Option<u32>,
    /// The host's own macvlan, where it has one.
    pub host: Option<HostEnd>,
}

/// The host's own macvlan on a network, past the rule that a parent and its macvlans never meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEnd {
    /// Its name.
    pub name: String,
    /// Its address, which follows from the network's id.
    pub mac: Mac,
    /// Its network addresses, each by itself: the way to the others is theirs.
    pub addresses: Vec<IpAddr>,
    /// The subnets that those are of.
    pub subnets: Vec<IpNetwork>,
    /// Whether it has IPv6.
    pub ipv6: bool,
}

impl Segment {
    /// What a network should look like.
    ///
    /// # Errors
    /// `invalid` for options that mean nothing.
    pub fn of(network: &Network) -> Result<Self> {
        let mode = match MODE.given(&network.options) {
            None | Some((_, "" | "bridge")) => Mode::Bridge,
            Some((_, "private")) => Mode::Private,
            Some((_, "vepa")) => Mode::Vepa,
            Some((_, "passthru")) => Mode::Passthru,
            Some((key, value)) => {
                return Err(wrong(network, key, value, "bridge, private, vepa or passthru"));
            }
        };
        let queue = match QUEUE.given(&network.options) {
            None => None,
            Some((key, value)) => {
                let right = "a number of broadcasts";
                Some(value.parse().map_err(|_| wrong(network, key, value, right))?)
            }
        };
        let nowhere = format!("{NOWHERE_PREFIX}{}", network.id.short());
        let parent = match PARENT.given(&network.options) {
            // As Docker has it: an internal network leads nowhere, whatever parent it is given.
            _ if network.internal => Parent::Nowhere(nowhere),
            Some((_, "")) => Parent::Nowhere(nowhere),
            Some((_, "lo")) => {
                return Err(Error::invalid(format_args!(
                    "the parent of network {} is lo, which has no macvlans: name another link",
                    network.name
                ))
                .with("parent", "lo"));
            }
            Some((_, name)) => Parent::Named(name.to_owned()),
            None => Parent::Uplink { otherwise: nowhere },
        };
        let host = Self::host_end(network, mode)?;
        let (name, mtu) = (network.name.to_string(), network.mtu);
        Ok(Self { network: name, parent, mode, queue, mtu, host })
    }

    fn host_end(network: &Network, mode: Mode) -> Result<Option<HostEnd>> {
        match HOST_ACCESS.given(&network.options) {
            None | Some((_, "false")) => return Ok(None),
            Some((_, "true" | "")) => {}
            Some((key, value)) => return Err(wrong(network, key, value, "true or false")),
        }
        if network.internal || mode != Mode::Bridge {
            return Err(Error::invalid(format_args!(
                "network {} has host-access, which only one of mode bridge can have that is not \
                 internal",
                network.name
            ))
            .with("network", network.name.as_str()));
        }
        let own = network.subnets.iter().filter_map(|subnet| subnet.aux.get(HOST_ADDRESS));
        Ok(Some(HostEnd {
            name: format!("{HOST_PREFIX}{}", network.id.short()),
            mac: local_mac(network.id.as_str()),
            addresses: own.copied().collect(),
            subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
            ipv6: network.subnets.iter().any(|subnet| subnet.subnet.is_ipv6()),
        }))
    }

    /// The address that the host speaks from to an endpoint: of its subnet, to which it has a way.
    pub(crate) fn speaks_from(&self, to: IpAddr) -> Option<IpAddr> {
        let host = self.host.as_ref()?;
        let subnet = host.subnets.iter().find(|subnet| subnet.contains(to));
        let near = |own: &&IpAddr| subnet.is_some_and(|subnet| subnet.contains(**own));
        let family = |own: &&IpAddr| own.is_ipv4() == to.is_ipv4();
        host.addresses.iter().find(near).or_else(|| host.addresses.iter().find(family)).copied()
    }
}

fn wrong(network: &Network, key: &str, value: &str, right: &str) -> Error {
    Error::invalid(format_args!(
        "invalid {key} {value:?} of network {}: it should be {right}",
        network.name
    ))
    .with(key, value)
}

/// A unicast, locally administered address (IEEE 802, section 8.4) out of an id's first digits.
fn local_mac(id: &str) -> Mac {
    cnm::MacAddr::of_id(id).0
}

/// An endpoint: a macvlan in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The interface in the container; of one that is delivered the one on the host, to which who
    /// moves it gives another.
    pub name: String,
    /// Whether it is left on the host, for others to move and to set up.
    pub delivered: bool,
    /// Its address; the parent's in mode passthru, whatever it was to be.
    pub mac: Mac,
    /// Its network addresses.
    pub addresses: Vec<IpNetwork>,
    /// Its default routes.
    pub gateways: Vec<IpAddr>,
    /// What those cost.
    pub metric: u32,
    /// Its other routes.
    pub routes: Vec<Route>,
    /// How fast its packets may go.
    pub limit: Option<Limit>,
    /// The port inside where netd's resolver is, where it is there.
    pub resolver: Option<u16>,
}

impl Port {
    /// What an endpoint should look like.
    ///
    /// # Errors
    /// `invalid` when it has ports to publish, `unsupported` when what comes to it is to be limited:
    /// the host is not on the way to it; or what leaves it, and others set it up.
    pub fn of(network: &Network, endpoint: &Endpoint) -> Result<Self> {
        if !endpoint.ports.is_empty() {
            return Err(Error::invalid(format_args!(
                "network {} publishes no ports: its containers are on the LAN themselves",
                network.name
            ))
            .with("network", network.name.as_str()));
        }
        if endpoint.bandwidth.is_some_and(|bandwidth| bandwidth.ingress.is_some()) {
            return Err(Error::unsupported(format_args!(
                "network {} cannot limit what comes to a container: it comes from the LAN and from \
                 other containers without passing the host; limit what it sends, or use a bridge \
                 network",
                network.name
            ))
            .with("network", network.name.as_str()));
        }
        let delivered = is_delivered_on_host(&endpoint.options);
        if delivered && endpoint.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some()) {
            return Err(Error::unsupported(format_args!(
                "network {} cannot limit what a container sends whose interface others set up: leave the \
                 limit out, or use a bridge network",
                network.name
            ))
            .with("network", network.name.as_str()));
        }
        Ok(Self {
            name: endpoint.made_as().as_str().to_owned(),
            delivered,
            mac: endpoint.mac.map_or_else(|| local_mac(endpoint.id.as_str()), |mac| mac.0),
            addresses: endpoint.addresses.clone(),
            gateways: endpoint.gateways.clone(),
            metric: endpoint.metric,
            routes: endpoint.routes.clone(),
            limit: endpoint.bandwidth.and_then(|bandwidth| bandwidth.egress),
            resolver: DNS_PORT.port(&endpoint.options),
        })
    }

    /// Whether it has an address of IPv6.
    pub fn ipv6(&self) -> bool {
        self.addresses.iter().any(IpNetwork::is_ipv6)
    }
}
