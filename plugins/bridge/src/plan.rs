//! What is to be done, as a pure function of what should be and what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use cnm::{bandwidth::Bandwidth, endpoint::Route};
use ipnetwork::IpNetwork;
use kernel::{
    bridge_port::Flags,
    firewall::Fact,
    guard::Door,
    links::{Change, Link, Mac},
    routes::{self, Address},
};
use serde::Serialize;

use crate::{
    Marks, Port, Segment, door,
    shape::{self, Limits},
};

/// What the kernel has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// Kernel parameters that somebody may want changed; those that do not exist are absent.
    pub parameters: BTreeMap<String, String>,
    /// What the firewall knows.
    pub facts: BTreeSet<Fact>,
    /// Where the host leads to members of routed networks.
    pub leads: BTreeSet<Lead>,
    /// The MTU of the way out of the host, which bridges take unless told.
    pub uplink_mtu: Option<u32>,
    /// The MTU that networks without a given one have had, by their bridge's name.
    pub kept_mtus: BTreeMap<String, u32>,
    /// What limits there are, where an endpoint should have one.
    pub limits: Limits,
    /// What goes through host ends, by their index; those that let everything through are absent.
    pub doors: BTreeMap<u32, Door>,
    /// What the host reaches on links themselves, each with the link's index.
    pub near: BTreeSet<(u32, IpNetwork)>,
}

/// A member of a routed network, as the host knows it: by a route to it and a neighbour that is
/// written down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Lead {
    /// The bridge that it is on.
    pub link: String,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address.
    pub mac: Mac,
}

impl Observed {
    /// The link of a name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Make a bridge.
    MakeBridge {
        /// Its name.
        name: String,
        /// Its address.
        mac: Mac,
        /// Its MTU.
        mtu: u32,
    },
    /// Put a bridge right that is there.
    MendBridge {
        /// Its name.
        name: String,
        /// The address it should have.
        mac: Option<Mac>,
        /// The MTU it should have.
        mtu: Option<u32>,
        /// Whether it is to come up.
        up: bool,
    },
    /// Take a bridge away.
    RemoveBridge {
        /// Its name.
        name: String,
    },
    /// Give a bridge an address.
    AddAddress {
        /// The bridge.
        link: String,
        /// The address.
        address: IpNetwork,
    },
    /// Take an address from a bridge.
    DeleteAddress {
        /// The bridge.
        link: String,
        /// The address.
        address: IpNetwork,
    },
    /// Lead the host to the subnet of an address that a bridge has, as the kernel had done.
    Connect {
        /// The bridge.
        link: String,
        /// The address.
        address: IpNetwork,
    },
    /// Set a kernel parameter.
    SetParameter {
        /// Its path under `/proc/sys`.
        path: String,
        /// Its value.
        value: String,
    },
    /// Make a veth pair, in place.
    MakePair {
        /// The host end.
        host: String,
        /// The bridge it joins.
        bridge: String,
        /// The container's end.
        name: String,
        /// The address of that.
        mac: Mac,
        /// The MTU of both; the bridge's where it is not known yet.
        mtu: Option<u32>,
        /// How the bridge treats it.
        #[serde(flatten)]
        flags: Flags,
    },
    /// Set up the container's end.
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
    },
    /// Limit how fast packets come and go.
    Shape {
        /// The host end.
        host: String,
        /// How fast.
        bandwidth: Bandwidth,
    },
    /// Put a host end on its bridge, and up.
    Join {
        /// The host end.
        host: String,
        /// The bridge.
        bridge: String,
        /// Who is behind it, which the bridge is told where it does not learn it.
        mac: Mac,
        /// How the bridge treats it.
        #[serde(flatten)]
        flags: Flags,
    },
    /// Put the flags of a port right that is on its bridge.
    Tune {
        /// The host end.
        host: String,
        /// Who is behind it, which the bridge is told where it does not learn it.
        mac: Mac,
        /// How the bridge treats it.
        #[serde(flatten)]
        flags: Flags,
    },
    /// Have a host end let through what its container may send and get, and nothing else.
    Guard {
        /// The host end.
        host: String,
        /// What goes through it.
        door: Door,
    },
    /// Give both ends of a pair another MTU.
    Resize {
        /// The host end.
        host: String,
        /// The MTU.
        mtu: u32,
    },
    /// Lead the host to a member of a routed network.
    Lead(Lead),
    /// Lead it there no more.
    Unlead(Lead),
    /// Take a host end off its bridge and leave it to the reaper.
    Condemn {
        /// The host end.
        host: String,
    },
    /// Have the firewall know something.
    Learn(Fact),
    /// Have it know something no longer.
    Forget(Fact),
}

impl Step {
    /// The link on the host that it is about, or none.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::MakeBridge { name, .. }
            | Self::MendBridge { name, .. }
            | Self::RemoveBridge { name } => Some(name),
            Self::AddAddress { link, .. }
            | Self::DeleteAddress { link, .. }
            | Self::Connect { link, .. }
            | Self::Lead(Lead { link, .. })
            | Self::Unlead(Lead { link, .. }) => Some(link),
            // As in `net/ipv6/conf/LINK/accept_ra`.
            Self::SetParameter { path, .. } => path.split('/').nth(3),
            Self::MakePair { host, .. }
            | Self::Shape { host, .. }
            | Self::Join { host, .. }
            | Self::Tune { host, .. }
            | Self::Guard { host, .. }
            | Self::Resize { host, .. }
            | Self::Condemn { host } => Some(host),
            Self::Configure { .. } | Self::Learn(_) | Self::Forget(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeBridge { name, mac, mtu } => {
                write!(f, "make the bridge {name} with address {} and mtu {mtu}", Hex(mac))
            }
            Self::MendBridge { name, mac, mtu, up } => {
                write!(f, "change the bridge {name}:")?;
                if let Some(mac) = mac {
                    write!(f, " address {}", Hex(mac))?;
                }
                if let Some(mtu) = mtu {
                    write!(f, " mtu {mtu}")?;
                }
                if *up { f.write_str(" up") } else { Ok(()) }
            }
            Self::RemoveBridge { name } => write!(f, "remove the bridge {name}"),
            Self::AddAddress { link, address } => write!(f, "add {address} to {link}"),
            Self::DeleteAddress { link, address } => write!(f, "delete {address} from {link}"),
            Self::Connect { link, address } => {
                write!(f, "add the route to {}/{} on {link}", address.network(), address.prefix())
            }
            Self::SetParameter { path, value } => {
                write!(f, "set {} to {value}", path.replace('/', "."))
            }
            Self::MakePair { host, bridge, name, mac, mtu, flags } => {
                write!(f, "make {name} with address {}", Hex(mac))?;
                if let Some(mtu) = mtu {
                    write!(f, " and mtu {mtu}")?;
                }
                write!(f, " in the container, its other end {host} on {bridge}")?;
                if flags.hairpin {
                    f.write_str(", hairpin on")?;
                }
                if !flags.learning {
                    f.write_str(", its address written down")?;
                }
                if flags.isolated { f.write_str(", isolated") } else { Ok(()) }
            }
            Self::Configure { name, addresses, gateways, metric, routes } => {
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
                routes.iter().try_for_each(|route| write!(f, ", route to {route}"))
            }
            Self::Shape { host, bandwidth: Bandwidth { ingress, egress } } => {
                write!(f, "limit {host}")?;
                if let Some(limit) = ingress {
                    write!(f, ", to the container {limit}")?;
                }
                egress.map_or(Ok(()), |limit| write!(f, ", from it {limit}"))
            }
            Self::Lead(Lead { link, address, .. }) => write!(f, "lead to {address} on {link}"),
            Self::Unlead(Lead { link, address, .. }) => {
                write!(f, "lead to {address} on {link} no more")
            }
            Self::Join { host, bridge, .. } => write!(f, "put {host} on {bridge}, up"),
            Self::Guard { host, door } => {
                write!(f, "see to it that the container at {host} {}", door::words(door))
            }
            Self::Tune { host, flags: Flags { hairpin, isolated, learning }, .. } => {
                let on = |flag: &bool| if *flag { "on" } else { "off" };
                let (hairpin, isolated, learning) = (on(hairpin), on(isolated), on(learning));
                write!(
                    f,
                    "set hairpin {hairpin}, isolated {isolated} and learning {learning} of {host}"
                )
            }
            Self::Resize { host, mtu } => write!(f, "give {host} and its other end mtu {mtu}"),
            Self::Condemn { host } => write!(f, "take {host} away"),
            Self::Learn(fact) => write!(f, "add the {fact} to the firewall"),
            Self::Forget(fact) => write!(f, "delete the {fact} from the firewall"),
        }
    }
}

struct Hex<'a>(&'a Mac);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cnm::MacAddr(*self.0).fmt(f)
    }
}

/// The MTU of Ethernet, for a host without a way out.
const ETHERNET_MTU: u32 = 1500;

/// The smallest MTU of a link that has IPv6 (RFC 8200, section 5): from a smaller one the kernel takes
/// it, and everything that belongs to it.
const IPV6_MTU: u32 = 1280;

/// Whether a link is too small for IPv6.
pub(crate) fn is_too_small(mtu: u32) -> bool {
    mtu < IPV6_MTU
}

/// The MTU of a network's bridges. Where it was given none it keeps the one that it had, whatever the
/// uplink's is by now: its endpoints have it too.
pub fn mtu(segment: &Segment, observed: &Observed) -> u32 {
    let least = if segment.ipv6 { IPV6_MTU } else { 0 };
    let kept = observed.kept_mtus.get(&segment.bridge).copied();
    let there = || observed.link(&segment.bridge).map(|link| link.mtu);
    let fits = |mtu: &u32| *mtu >= least;
    let had = segment.mtu.or_else(|| kept.filter(fits)).or_else(|| there().filter(fits));
    had.unwrap_or_else(|| observed.uplink_mtu.unwrap_or(ETHERNET_MTU).max(least))
}

/// What brings one network to what it should be.
pub fn network(segment: &Segment, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = &segment.bridge;
    let link = observed.link(name);
    let mtu = mtu(segment, observed);
    for name in segment.bridges() {
        steps.extend(bridge(name, mtu, segment, observed));
    }
    // Before the addresses: IPv6 has to be on for them, and link-local ones go when it is off.
    for (path, value) in segment.parameters() {
        let current = observed.parameters.get(&path);
        // What a link is too small for has no parameters there.
        let none = current.is_none() && is_too_small(mtu) && path.starts_with("net/ipv6/conf/");
        if !none && current.is_none_or(|current| current != value) {
            steps.push(Step::SetParameter { path, value: value.to_owned() });
        }
    }
    let current: Vec<_> = observed
        .addresses
        .iter()
        .filter(|address| link.is_some_and(|link| link.index == address.link))
        .filter(|address| !address.link_local)
        .map(|address| address.address)
        .collect();
    for address in current.iter().filter(|address| !segment.gateways.contains(address)) {
        steps.push(Step::DeleteAddress { link: name.clone(), address: *address });
    }
    for address in segment.gateways.iter().filter(|address| !current.contains(address)) {
        steps.push(Step::AddAddress { link: name.clone(), address: *address });
    }
    // The others come with the link or the address; what a VRF has is in its own table.
    if let Some(link) = link.filter(|link| link.up && link.master.is_none()) {
        let is_gone = |address: &&IpNetwork| {
            let subnet = routes::subnet_of(**address);
            subnet.is_some_and(|subnet| !observed.near.contains(&(link.index, subnet)))
        };
        let there = segment.gateways.iter().filter(|address| current.contains(address));
        steps.extend(
            there.filter(is_gone).map(|a| Step::Connect { link: name.clone(), address: *a }),
        );
    }
    let of_this = |fact: &&Fact| match fact {
        Fact::Bridge(link) | Fact::Within(link) | Fact::Internal(link) | Fact::Halved(link) => {
            segment.bridges().any(|bridge| bridge == link)
        }
        Fact::Between { from: bridge, .. }
        | Fact::Outward { bridge, .. }
        | Fact::Outbound { bridge, .. }
        | Fact::Open { bridge, .. }
        | Fact::Gate { bridge, .. }
        | Fact::Trusted { bridge, .. }
        | Fact::Members { bridge, .. }
        | Fact::Through { bridge, .. }
        | Fact::Node { bridge, .. }
        | Fact::Near { bridge, .. }
        | Fact::Nodes { bridge, .. }
        | Fact::Kin { bridge, .. } => segment.bridges().any(|own| own == bridge),
        _ => false,
    };
    let stale = observed.facts.iter().filter(of_this).filter(|fact| !segment.facts.contains(fact));
    steps.extend(stale.cloned().map(Step::Forget));
    let new = segment.facts.iter().filter(|fact| !observed.facts.contains(fact));
    steps.extend(new.cloned().map(Step::Learn));
    steps
}

/// What brings one bridge of a network to what it should be.
fn bridge(name: &str, mtu: u32, segment: &Segment, observed: &Observed) -> Option<Step> {
    let Some(link) = observed.link(name) else {
        return Some(Step::MakeBridge { name: name.to_owned(), mac: segment.mac, mtu });
    };
    let mac = (link.mac != Some(segment.mac)).then_some(segment.mac);
    let mtu = (mtu != link.mtu).then_some(mtu);
    (mac.is_some() || mtu.is_some() || !link.up).then(|| Step::MendBridge {
        name: name.to_owned(),
        mac,
        mtu,
        up: !link.up,
    })
}

/// Where the host leads to a member of a routed network; nowhere for others.
pub fn leads(port: &Port) -> impl Iterator<Item = Lead> {
    let routed = port.is_routed().then_some(port).into_iter();
    routed.flat_map(|port| {
        let lead = |address: &IpNetwork| Lead {
            link: port.bridge.clone(),
            address: address.ip(),
            mac: port.mac,
        };
        port.addresses.iter().map(lead)
    })
}

/// What makes an endpoint out of nothing.
pub fn attach(port: &Port, mtu: Option<u32>) -> Vec<Step> {
    let mut steps = vec![Step::MakePair {
        host: port.host.clone(),
        bridge: port.bridge.clone(),
        name: port.name.clone(),
        mac: port.mac,
        mtu,
        flags: port.flags,
    }];
    steps.extend(leads(port).map(Step::Lead));
    steps.extend(shaped(port));
    if !port.delivered {
        steps.push(Step::Configure {
            name: port.name.clone(),
            addresses: port.addresses.clone(),
            gateways: port.gateways.clone(),
            metric: port.metric,
            routes: port.routes.clone(),
        });
    }
    steps.extend(port.facts.iter().cloned().map(Step::Learn));
    if port.door != Door::default() {
        steps.push(guarded(port));
    }
    steps
}

fn guarded(port: &Port) -> Step {
    Step::Guard { host: port.host.clone(), door: port.door.clone() }
}

fn shaped(port: &Port) -> Option<Step> {
    port.bandwidth.map(|bandwidth| Step::Shape { host: port.host.clone(), bandwidth })
}

/// What brings everything of a driver's own to what it should be. Endpoints without a host end are
/// passed over: what is gone with its namespace cannot be made from here.
pub fn everything(
    marks: &Marks,
    segments: &[Segment],
    ports: &[Port],
    observed: &Observed,
) -> Vec<Step> {
    let links: BTreeMap<_, _> =
        observed.links.iter().map(|link| (link.name.as_str(), link)).collect();
    let mut steps = Vec::new();
    let mut wanted = BTreeSet::new();
    for segment in segments {
        let own = |step: &Step| !matches!(step, Step::Learn(_) | Step::Forget(_));
        steps.extend(network(segment, observed).into_iter().filter(own));
        wanted.extend(segment.facts.iter());
    }
    let mut ends = BTreeSet::new();
    let mut detours = BTreeSet::new();
    let mut leading = BTreeSet::new();
    for port in ports {
        let Some(link) = links.get(port.host.as_str()).filter(|link| marks.is_end(link)) else {
            continue;
        };
        ends.insert(port.host.as_str());
        if port.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some()) {
            detours.insert(shape::detour_of(&port.host));
        }
        let ajar = !door::is_right(port, link.index, observed);
        if ajar {
            steps.push(guarded(port));
        }
        // A detour goes with the door that it hangs at.
        if ajar && port.door.detour || !shape::missing(marks, port, observed).is_empty() {
            steps.extend(shaped(port));
        }
        wanted.extend(port.facts.iter());
        // Of a network whose bridge is another's nothing can be put right.
        let mut its = segments.iter().filter(|s| s.bridges().any(|bridge| *bridge == port.bridge));
        let Some(segment) = its.next() else { continue };
        leading.extend(leads(port));
        let bridge = links.get(port.bridge.as_str()).map(|bridge| bridge.index);
        if !link.up || link.group != marks.owned || bridge.is_none() || link.master != bridge {
            steps.push(Step::Join {
                host: port.host.clone(),
                bridge: port.bridge.clone(),
                mac: port.mac,
                flags: port.flags,
            });
        } else if link.flags != port.flags {
            let (host, mac, flags) = (port.host.clone(), port.mac, port.flags);
            steps.push(Step::Tune { host, mac, flags });
        }
        if let Some(mtu) = segment.mtu.filter(|mtu| *mtu != link.mtu) {
            steps.push(Step::Resize { host: port.host.clone(), mtu });
            // What may go at once follows from it.
            steps.extend(shaped(port));
        }
    }
    let of_nobody = observed.leads.difference(&leading).cloned();
    steps.extend(of_nobody.map(Step::Unlead));
    let missing = leading.difference(&observed.leads).cloned();
    steps.extend(missing.map(Step::Lead));
    let undesired = |link: &&Link| {
        !marks.is_condemned(link)
            && (marks.is_end(link) && !ends.contains(link.name.as_str())
                || marks.is_detour(link) && !detours.contains(&link.name))
    };
    steps.extend(
        observed.links.iter().filter(undesired).map(|l| Step::Condemn { host: l.name.clone() }),
    );
    let unknown = |link: &&Link| {
        marks.is_bridge(link)
            && segments.iter().all(|segment| segment.bridges().all(|own| *own != link.name))
    };
    steps.extend(
        observed.links.iter().filter(unknown).map(|l| Step::RemoveBridge { name: l.name.clone() }),
    );
    let stale = observed.facts.iter().filter(|fact| !wanted.contains(fact));
    steps.extend(stale.cloned().map(Step::Forget));
    let new = wanted.into_iter().filter(|fact| !observed.facts.contains(*fact));
    steps.extend(new.cloned().map(Step::Learn));
    steps
}

/// What is to change of a bridge.
pub(crate) fn mend(mac: Option<Mac>, mtu: Option<u32>, up: bool) -> Change {
    Change { mac, mtu, up: up.then_some(true), ..Change::default() }
}

#[cfg(test)]
mod tests;
