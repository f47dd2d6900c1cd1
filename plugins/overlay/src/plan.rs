//! What is to be done about the VXLAN devices and what the firewall knows of them, as a pure
//! function of what should be and what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::{
    firewall::Fact,
    links::Mac,
    routes::Address,
    vxlan::{Found, PortFlags},
};

use crate::{TUNNELS, Tunnel};

/// What the kernel has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All VXLAN devices.
    pub tunnels: Vec<Found>,
    /// The bridges of networks, by name.
    pub bridges: BTreeMap<String, u32>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// Kernel parameters that somebody may want changed.
    pub parameters: BTreeMap<String, String>,
    /// What the firewall knows of VXLAN and nodes.
    pub facts: BTreeSet<Fact>,
}

impl Observed {
    /// The VXLAN device of a name, if it is netd's.
    pub fn tunnel(&self, name: &str) -> Option<&Found> {
        self.tunnels.iter().find(|found| found.link.name == name && is_own(found))
    }
}

/// Whether a VXLAN device is netd's own.
pub fn is_own(found: &Found) -> bool {
    found.link.group == TUNNELS
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take a device away, and all its rows with it.
    Remove {
        /// Its name.
        name: String,
    },
    /// Make a device, with an empty table.
    Make(Box<Tunnel>),
    /// Have a device send from another address.
    Move {
        /// Its name.
        name: String,
        /// Its number on the wire.
        vni: u32,
        /// The address.
        to: IpAddr,
    },
    /// Put a device right that is there.
    Mend {
        /// Its name.
        name: String,
        /// The address that it should have.
        mac: Option<Mac>,
        /// The MTU that it should have.
        mtu: Option<u32>,
        /// The bridge that it should be a port of.
        bridge: Option<String>,
        /// Whether it is to come up.
        up: bool,
    },
    /// Have a device treat frames as a port should.
    Tune {
        /// Its name.
        name: String,
        /// Its MTU.
        mtu: u32,
        /// Whether what goes to everybody leaves by it.
        broadcast: bool,
    },
    /// Set a kernel parameter.
    SetParameter {
        /// Its path under `/proc/sys`.
        path: String,
        /// Its value.
        value: String,
    },
    /// Give a device an address.
    AddAddress {
        /// The device.
        link: String,
        /// The address.
        address: IpNetwork,
    },
    /// Take an address from a device.
    DeleteAddress {
        /// The device.
        link: String,
        /// The address.
        address: IpNetwork,
    },
    /// Have the firewall know something.
    Learn(Fact),
    /// Have it know something no longer.
    Forget(Fact),
}

impl Step {
    /// The link that it is about: a device, or the bridge of one.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Make(tunnel) => Some(&tunnel.name),
            Self::Remove { name }
            | Self::Move { name, .. }
            | Self::Mend { name, .. }
            | Self::Tune { name, .. } => Some(name),
            Self::AddAddress { link, .. } | Self::DeleteAddress { link, .. } => Some(link),
            // `net/FAMILY/KIND/LINK/NAME`
            Self::SetParameter { path, .. } => path.split('/').nth(3),
            Self::Learn(_) | Self::Forget(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove { name } => write!(f, "remove the VXLAN device {name}"),
            Self::Make(tunnel) => {
                let Tunnel { name, vni, local, port, mtu, .. } = &**tunnel;
                write!(f, "make the VXLAN device {name} of VNI {vni} at {local} port {port}")?;
                write!(f, " with mtu {mtu}")?;
                match &tunnel.bridge {
                    Some(bridge) => write!(f, " on {bridge}"),
                    None => Ok(()),
                }
            }
            Self::Move { name, to, .. } => write!(f, "have {name} send from {to}"),
            Self::Mend { name, mac, mtu, bridge, up } => {
                write!(f, "change the VXLAN device {name}:")?;
                if let Some(mac) = mac {
                    write!(f, " address {}", cnm::MacAddr(*mac))?;
                }
                if let Some(mtu) = mtu {
                    write!(f, " mtu {mtu}")?;
                }
                if let Some(bridge) = bridge {
                    write!(f, " on {bridge}")?;
                }
                if *up { f.write_str(" up") } else { Ok(()) }
            }
            Self::Tune { name, .. } => write!(f, "set the port flags of {name}"),
            Self::SetParameter { path, value } => {
                write!(f, "set {} to {value}", path.replace('/', "."))
            }
            Self::AddAddress { link, address } => write!(f, "add {address} to {link}"),
            Self::DeleteAddress { link, address } => write!(f, "delete {address} from {link}"),
            Self::Learn(fact) => write!(f, "add the {fact} to the firewall"),
            Self::Forget(fact) => write!(f, "delete the {fact} from the firewall"),
        }
    }
}

/// What brings one device to what it should be.
pub fn tunnel(tunnel: &Tunnel, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = &tunnel.name;
    let found = observed.tunnel(name);
    // What the kernel does not change of one that is there.
    let alike = |found: &&Found| {
        (found.vni, found.port, found.learning) == (tunnel.vni, tunnel.port, false)
            && found.local.is_some_and(|local| local.is_ipv4() == tunnel.local.is_ipv4())
    };
    match found.filter(alike) {
        None => {
            steps.extend(found.map(|_| Step::Remove { name: name.clone() }));
            steps.push(Step::Make(Box::new(tunnel.clone())));
        }
        Some(found) => mend(tunnel, found, observed, &mut steps),
    }
    for (path, value) in tunnel.parameters() {
        if observed.parameters.get(&path).is_none_or(|current| current != value) {
            steps.push(Step::SetParameter { path, value: value.to_owned() });
        }
    }
    let current: Vec<_> = observed
        .addresses
        .iter()
        .filter(|address| found.is_some_and(|found| found.link.index == address.link))
        .filter(|address| !address.link_local)
        .map(|address| address.address)
        .collect();
    let (link, wanted) = (name, &tunnel.addresses);
    steps.extend(
        current
            .iter()
            .filter(|address| !wanted.contains(address))
            .map(|address| Step::DeleteAddress { link: link.clone(), address: *address }),
    );
    steps.extend(
        wanted
            .iter()
            .filter(|address| !current.contains(address))
            .map(|address| Step::AddAddress { link: link.clone(), address: *address }),
    );
    let new = tunnel.facts().into_iter().filter(|fact| !observed.facts.contains(fact));
    steps.extend(new.map(Step::Learn));
    steps
}

fn mend(tunnel: &Tunnel, found: &Found, observed: &Observed, steps: &mut Vec<Step>) {
    let name = &tunnel.name;
    if found.local != Some(tunnel.local) {
        steps.push(Step::Move { name: name.clone(), vni: tunnel.vni, to: tunnel.local });
    }
    let mac = (found.link.mac != Some(tunnel.mac)).then_some(tunnel.mac);
    let mtu = (found.link.mtu != tunnel.mtu).then_some(tunnel.mtu);
    let bridge = tunnel.bridge.clone().filter(|bridge| {
        found.link.master.is_none() || observed.bridges.get(bridge) != found.link.master.as_ref()
    });
    if mac.is_some() || mtu.is_some() || bridge.is_some() || !found.link.up {
        let (name, up) = (name.clone(), !found.link.up);
        steps.push(Step::Mend { name, mac, mtu, bridge: bridge.clone(), up });
    }
    let tuned = found.flags == PortFlags::tuned(tunnel.broadcast) && bridge.is_none();
    if tunnel.bridge.is_some() && !tuned {
        let (mtu, broadcast) = (tunnel.mtu, tunnel.broadcast);
        steps.push(Step::Tune { name: name.clone(), mtu, broadcast });
    }
}

/// What takes one network's device away; the rest too where it was the last.
pub fn without(vni: u32, observed: &Observed, ingress: Option<u32>) -> Vec<Step> {
    let left = |found: &&Found| is_own(found) && found.vni != vni && Some(found.vni) != ingress;
    let last = !observed.tunnels.iter().any(|found| left(&found));
    let goes = |of: u32| of == vni || last;
    let mut steps = Vec::new();
    let devices = observed.tunnels.iter().filter(|found| is_own(found) && goes(found.vni));
    steps.extend(devices.map(|found| Step::Remove { name: found.link.name.clone() }));
    let stale = observed.facts.iter().filter(|fact| match fact {
        Fact::Vni(of) | Fact::Tunnel { vni: of, .. } => goes(*of),
        _ => last,
    });
    steps.extend(stale.cloned().map(Step::Forget));
    steps
}

/// What brings all devices to what they should be. What is known of other hosts stays, but for what
/// was known for the sake of a device that goes.
pub fn everything(tunnels: &[Tunnel], observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let wanted: BTreeSet<_> = tunnels.iter().map(|tunnel| tunnel.vni).collect();
    let names: BTreeSet<_> = tunnels.iter().map(|tunnel| tunnel.name.as_str()).collect();
    let unknown = observed
        .tunnels
        .iter()
        .filter(|found| is_own(found) && !names.contains(found.link.name.as_str()));
    steps.extend(unknown.map(|found| Step::Remove { name: found.link.name.clone() }));
    for one in tunnels {
        steps.extend(tunnel(one, observed));
    }
    let ports: BTreeSet<_> = tunnels.iter().map(|tunnel| tunnel.port).collect();
    let stale = observed.facts.iter().filter(|fact| match fact {
        Fact::VxlanPort(port) => !ports.contains(port),
        Fact::Vni(vni) | Fact::Tunnel { vni, .. } => !wanted.contains(vni),
        _ => wanted.is_empty(),
    });
    steps.extend(stale.cloned().map(Step::Forget));
    // Two devices have a port in common.
    let mut seen = BTreeSet::new();
    steps.retain(|step| match step {
        Step::Learn(fact) => seen.insert(fact.clone()),
        _ => true,
    });
    steps
}

#[cfg(test)]
mod tests;
