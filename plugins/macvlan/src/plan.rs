//! What is to be done, as a pure function of what should be and what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use cnm::{Error, MacAddr, Result, bandwidth::Limit, endpoint::Route};
use ipnetwork::IpNetwork;
use kernel::{
    host_routes::HostRoute,
    links::{Link, Mac},
    macvlan::{Found, Mode},
    routes::Address,
};
use serde::Serialize;

use crate::{DELIVERED_PREFIX, HOST_PREFIX, NOWHERE_PREFIX, OWNED, Parent, Port, Segment};

/// What the kernel has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All links of the host.
    pub links: Vec<Link>,
    /// Its macvlans.
    pub macvlans: Vec<Found>,
    /// All its addresses.
    pub addresses: Vec<Address>,
    /// Its routes to single addresses that netd made.
    pub routes: Vec<HostRoute>,
    /// Kernel parameters that somebody may want changed; those that do not exist are absent.
    pub parameters: BTreeMap<String, String>,
    /// The link of the default route, by name.
    pub uplink: Option<String>,
    /// The macvlans in other namespaces that netd made on links of the host.
    pub elsewhere: Vec<Found>,
}

impl Observed {
    /// The link of a name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// What a network's macvlans really hang on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// A link that is there.
    Link(String),
    /// A sub-interface for a VLAN that is yet to be made.
    Vlan {
        /// Its name.
        name: String,
        /// The link that it is of.
        on: String,
        /// Its number.
        id: u16,
    },
    /// A link of the network's own that leads nowhere.
    Nowhere(String),
}

impl Base {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Link(name) | Self::Vlan { name, .. } | Self::Nowhere(name) => name,
        }
    }

    /// What a network's macvlans hang on.
    ///
    /// # Errors
    /// `not_found` when there is no such link, and it is none that could be made.
    pub fn of(segment: &Segment, observed: &Observed) -> Result<Self> {
        let name = match &segment.parent {
            Parent::Nowhere(name) => return Ok(Self::Nowhere(name.clone())),
            Parent::Uplink { otherwise } => {
                return Ok(match &observed.uplink {
                    Some(uplink) => Self::Link(uplink.clone()),
                    None => Self::Nowhere(otherwise.clone()),
                });
            }
            Parent::Named(name) => name,
        };
        if observed.link(name).is_some() {
            return Ok(Self::Link(name.clone()));
        }
        if let Some((on, id)) = vlan(name)
            && observed.link(on).is_some()
        {
            return Ok(Self::Vlan { name: name.clone(), on: on.to_owned(), id });
        }
        Err(Error::not_found(format_args!(
            "the parent {name} of network {} is not there: name a link of this host, or NAME.VID \
             for a VLAN of one",
            segment.network
        ))
        .with("parent", name.as_str()))
    }
}

/// The link and the number that a name such as `eth0.100` means (IEEE 802.1Q: 1 to 4094).
fn vlan(name: &str) -> Option<(&str, u16)> {
    let (on, id) = name.rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| (1..=4094).contains(id))?;
    Some((on, id))
}

/// Whether a link is a sub-interface for a VLAN that netd made.
pub fn is_own_vlan(link: &Link) -> bool {
    link.group == OWNED && link.kind.as_deref() == Some("vlan")
}

/// Whether a link is one of netd's own that leads nowhere.
pub fn is_own_nowhere(link: &Link) -> bool {
    link.group == OWNED
        && matches!(link.kind.as_deref(), Some("dummy" | "ifb"))
        && link.name.starts_with(NOWHERE_PREFIX)
}

/// Whether a link is a macvlan of the host's that netd made.
pub fn is_own_host_end(link: &Link) -> bool {
    link.group == OWNED
        && link.kind.as_deref() == Some("macvlan")
        && link.name.starts_with(HOST_PREFIX)
}

/// Whether a link is a macvlan that netd made on the host for others to move.
pub fn is_own_delivered(link: &Link) -> bool {
    link.group == OWNED
        && link.kind.as_deref() == Some("macvlan")
        && link.name.starts_with(DELIVERED_PREFIX)
}

/// Whether a macvlan is the one of a port: the name alone would say little, and of one that others
/// moved nothing.
pub fn is_of(found: &Found, port: &Port) -> bool {
    let named = found.link.name == port.name;
    let like = found.mode == Some(Mode::Passthru) || found.link.mac == Some(port.mac);
    found.link.group == OWNED && if port.delivered { named || like } else { named && like }
}

/// Whether it is the one of a port, in the namespace of this id; one that others move may be in any.
pub fn is_there(found: &Found, nsid: Option<i32>, port: &Port) -> bool {
    (port.delivered || nsid == found.nsid) && is_of(found, port)
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Make a sub-interface for a VLAN.
    MakeVlan {
        /// Its name.
        name: String,
        /// The link that it is of.
        on: String,
        /// Its number.
        id: u16,
    },
    /// Make a link that leads nowhere.
    MakeNowhere {
        /// Its name.
        name: String,
        /// Its MTU.
        mtu: u32,
    },
    /// Set a link up.
    SetUp {
        /// Its name.
        name: String,
    },
    /// Make a macvlan of the host's.
    MakeHostEnd {
        /// Its name.
        name: String,
        /// What it hangs on.
        parent: String,
        /// Its address.
        mac: Mac,
        /// Its MTU; the parent's unless told.
        mtu: Option<u32>,
    },
    /// Set a kernel parameter.
    SetParameter {
        /// Its path under `/proc/sys`.
        path: String,
        /// Its value.
        value: String,
    },
    /// Give a macvlan of the host's an address.
    AddAddress {
        /// The macvlan.
        link: String,
        /// The address.
        address: IpNetwork,
    },
    /// Take one away.
    DeleteAddress {
        /// The macvlan.
        link: String,
        /// The address.
        address: IpNetwork,
    },
    /// Lead the host to a container.
    AddRoute {
        /// Through which macvlan of the host's.
        link: String,
        /// The container's address.
        to: IpAddr,
        /// The host's.
        from: Option<IpAddr>,
    },
    /// Lead it there no longer.
    DeleteRoute {
        /// Through which macvlan of the host's.
        link: String,
        /// The container's address.
        to: IpAddr,
    },
    /// Make a macvlan in a container, in place.
    MakeLink {
        /// Its name.
        name: String,
        /// Whether it is made on the host instead, for others to move.
        delivered: bool,
        /// What it hangs on; as it turns out.
        parent: Option<String>,
        /// How it sees the others.
        mode: Mode,
        /// Its address.
        mac: Mac,
        /// Its MTU; the parent's unless told.
        mtu: Option<u32>,
    },
    /// Set it up.
    Configure {
        /// Its name.
        name: String,
        /// Its network addresses.
        addresses: Vec<IpNetwork>,
        /// Its default routes.
        gateways: Vec<IpAddr>,
        /// What those cost; 0 leaves it to the kernel.
        metric: u32,
        /// Its other routes.
        routes: Vec<Route>,
        /// How fast its packets may go.
        limit: Option<Limit>,
    },
    /// Take a container's macvlan away.
    RemoveLink {
        /// Its namespace, as the host knows it.
        nsid: i32,
        /// Its index there.
        index: u32,
        /// Its name there.
        name: String,
    },
    /// Take a link of the host's away.
    Remove {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeVlan { name, on, id } => write!(f, "make {name} for VLAN {id} of {on}"),
            Self::MakeNowhere { name, mtu } => {
                write!(f, "make {name}, which leads nowhere, with mtu {mtu}")
            }
            Self::SetUp { name } => write!(f, "set {name} up"),
            Self::MakeHostEnd { name, parent, mac, mtu } => {
                let mac = MacAddr(*mac);
                write!(f, "make the host's macvlan {name} on {parent} with address {mac}")?;
                mtu.map_or(Ok(()), |mtu| write!(f, " and mtu {mtu}"))
            }
            Self::SetParameter { path, value } => {
                write!(f, "set {} to {value}", path.replace('/', "."))
            }
            Self::AddAddress { link, address } => write!(f, "add {address} to {link}"),
            Self::DeleteAddress { link, address } => write!(f, "delete {address} from {link}"),
            Self::AddRoute { link, to, from } => {
                write!(f, "lead the host to {to} through {link}")?;
                from.map_or(Ok(()), |from| write!(f, " from {from}"))
            }
            Self::DeleteRoute { link, to } => write!(f, "delete the way to {to} through {link}"),
            Self::MakeLink { name, delivered, parent, mode, mac, mtu } => {
                let mac = MacAddr(*mac);
                write!(f, "make the macvlan {name} with address {mac}")?;
                if let Some(mtu) = mtu {
                    write!(f, " and mtu {mtu}")?;
                }
                f.write_str(if *delivered {
                    " on the host, to be moved"
                } else {
                    " in the container"
                })?;
                if let Some(parent) = parent {
                    write!(f, " on {parent}")?;
                }
                write!(f, ", mode {}", word(*mode))
            }
            Self::Configure { name, addresses, gateways, metric, routes, limit } => {
                write!(f, "set {name} up in the container")?;
                for address in addresses {
                    write!(f, ", address {address}")?;
                }
                for gateway in gateways {
                    write!(f, ", default route via {gateway}")?;
                    if *metric != 0 {
                        write!(f, " metric {metric}")?;
                    }
                }
                routes.iter().try_for_each(|route| write!(f, ", route to {route}"))?;
                limit.map_or(Ok(()), |limit| write!(f, ", from it at most {limit}"))
            }
            Self::RemoveLink { nsid, name, .. } => {
                write!(f, "take {name} away from the container in network namespace {nsid}")
            }
            Self::Remove { name } => write!(f, "remove {name}"),
        }
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Bridge => "bridge",
        Mode::Private => "private",
        Mode::Vepa => "vepa",
        Mode::Passthru => "passthru",
    }
}

/// The MTU of Ethernet, for a network that leads nowhere.
const ETHERNET_MTU: u32 = 1500;

/// What brings one network to what it should be.
pub fn network(segment: &Segment, base: &Base, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let link = observed.link(base.name());
    match (base, link) {
        (Base::Vlan { name, on, id }, None) => {
            steps.push(Step::MakeVlan { name: name.clone(), on: on.clone(), id: *id });
        }
        (Base::Nowhere(name), None) => {
            let mtu = segment.mtu.unwrap_or(ETHERNET_MTU);
            steps.push(Step::MakeNowhere { name: name.clone(), mtu });
        }
        // What is not netd's own is as its owner wants it.
        (_, Some(link)) if !link.up && (is_own_vlan(link) || is_own_nowhere(link)) => {
            steps.push(Step::SetUp { name: link.name.clone() });
        }
        _ => {}
    }
    let Some(host) = &segment.host else { return steps };
    let name = &host.name;
    let there = observed.macvlans.iter().find(|found| found.link.name == *name);
    let right = there.filter(|found| {
        link.is_some_and(|link| found.link.peer == Some(link.index))
            && found.mode == Some(Mode::Bridge)
            && found.link.mac == Some(host.mac)
    });
    if there.is_some() && right.is_none() {
        steps.push(Step::Remove { name: name.clone() });
    }
    match right {
        None => steps.push(Step::MakeHostEnd {
            name: name.clone(),
            parent: base.name().to_owned(),
            mac: host.mac,
            mtu: segment.mtu,
        }),
        Some(found) if !found.link.up => steps.push(Step::SetUp { name: name.clone() }),
        Some(_) => {}
    }
    for (path, value) in parameters(host) {
        if observed.parameters.get(&path).is_none_or(|current| current != value) {
            steps.push(Step::SetParameter { path, value: value.to_owned() });
        }
    }
    let index = right.map(|found| found.link.index);
    let current: Vec<_> = observed
        .addresses
        .iter()
        .filter(|address| index == Some(address.link) && !address.link_local)
        .map(|address| address.address)
        .collect();
    let wanted: Vec<_> = host.addresses.iter().copied().map(IpNetwork::from).collect();
    for address in current.iter().filter(|address| !wanted.contains(address)) {
        steps.push(Step::DeleteAddress { link: name.clone(), address: *address });
    }
    for address in wanted.into_iter().filter(|address| !current.contains(address)) {
        steps.push(Step::AddAddress { link: name.clone(), address });
    }
    steps
}

/// The kernel parameters of the host's macvlan, and their values.
pub(crate) fn parameters(host: &crate::HostEnd) -> Vec<(String, &'static str)> {
    let of = |name: &str| format!("net/ipv6/conf/{}/{name}", host.name);
    if host.ipv6 {
        // The host's router advertisements are for the parent.
        vec![(of("disable_ipv6"), "0"), (of("accept_ra"), "0"), (of("accept_dad"), "0")]
    } else {
        vec![(of("disable_ipv6"), "1")]
    }
}

/// The ways from the host to a port.
pub(crate) fn ways<'a>(
    segment: &'a Segment,
    port: &'a Port,
) -> impl Iterator<Item = (&'a str, IpAddr, Option<IpAddr>)> {
    segment.host.iter().flat_map(move |host| {
        let to = port.addresses.iter().map(|address| address.ip());
        to.map(move |to| (host.name.as_str(), to, segment.speaks_from(to)))
    })
}

/// What makes an endpoint out of nothing.
pub fn attach(segment: &Segment, base: Option<&Base>, port: &Port) -> Vec<Step> {
    let mut steps = vec![Step::MakeLink {
        name: port.name.clone(),
        delivered: port.delivered,
        parent: base.map(|base| base.name().to_owned()),
        mode: segment.mode,
        mac: port.mac,
        mtu: segment.mtu,
    }];
    if !port.delivered {
        steps.push(Step::Configure {
            name: port.name.clone(),
            addresses: port.addresses.clone(),
            gateways: port.gateways.clone(),
            metric: port.metric,
            routes: port.routes.clone(),
            limit: port.limit,
        });
    }
    steps.extend(ways(segment, port).map(|(link, to, from)| Step::AddRoute {
        link: link.into(),
        to,
        from,
    }));
    steps
}

/// A network and what its macvlans hang on, as far as that is known.
pub type Based<'a> = (&'a Segment, Option<&'a Base>);

/// What brings everything of netd's own to what it should be. `ports` are endpoints with the
/// namespace they are in and their network; one whose macvlan is gone is passed over: it cannot be
/// made from here.
pub fn everything(
    segments: &[Based<'_>],
    ports: &[(Option<i32>, &Port, &Segment)],
    observed: &Observed,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut kept = BTreeSet::new();
    for (segment, base) in segments {
        if let Some(base) = base {
            steps.extend(network(segment, base, observed));
            kept.insert(base.name());
        }
        kept.extend(segment.host.as_ref().map(|host| host.name.as_str()));
    }
    let wanted = |found: &Found| ports.iter().any(|(nsid, port, _)| is_there(found, *nsid, port));
    let waiting = observed.macvlans.iter().filter(|found| !wanted(found));
    let waiting = waiting.filter(|found| is_own_delivered(&found.link));
    steps.extend(waiting.map(|found| Step::Remove { name: found.link.name.clone() }));
    let ends = observed.elsewhere.iter().filter(|found| !wanted(found));
    steps.extend(ends.filter_map(|found| {
        let (index, name) = (found.link.index, found.link.name.clone());
        Some(Step::RemoveLink { nsid: found.nsid?, index, name })
    }));
    steps.extend(routes(ports, &kept, observed));
    let own = |link: &&Link| is_own_vlan(link) || is_own_nowhere(link) || is_own_host_end(link);
    let unknown = observed.links.iter().filter(own).filter(|l| !kept.contains(l.name.as_str()));
    steps.extend(unknown.map(|link| Step::Remove { name: link.name.clone() }));
    steps
}

fn routes(
    ports: &[(Option<i32>, &Port, &Segment)],
    kept: &BTreeSet<&str>,
    observed: &Observed,
) -> Vec<Step> {
    let ways: Vec<_> = ports.iter().flat_map(|(_, port, segment)| ways(segment, port)).collect();
    let mut steps = Vec::new();
    let name = |route: &HostRoute| {
        let link = observed.links.iter().find(|link| link.index == route.link);
        link.filter(|link| is_own_host_end(link)).map(|link| link.name.as_str())
    };
    let there: BTreeSet<_> = observed
        .routes
        .iter()
        .filter_map(|route| Some((name(route)?, route.to, route.from)))
        .collect();
    for (link, to, _) in there.iter().filter(|way| kept.contains(way.0) && !ways.contains(way)) {
        steps.push(Step::DeleteRoute { link: (*link).to_owned(), to: *to });
    }
    for (link, to, from) in ways.into_iter().filter(|way| !there.contains(way)) {
        steps.push(Step::AddRoute { link: link.to_owned(), to, from });
    }
    steps
}

#[cfg(test)]
mod tests;
