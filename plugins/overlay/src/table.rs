//! The rows that say where remote endpoints are: what they should be, what differs, and in which
//! order that is put right. Pure; [`crate::plan`] is about the devices that have the rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use cnm::{
    Error, NetworkId, Result,
    peers::{Elsewhere, Gone, MAX_NODE, Node, Peer},
};
use ipnetwork::IpNetwork;
use kernel::{fdb::By, firewall::Fact, links::Mac};

use crate::{NEXTHOPS, tunnel::node_mac};

/// Which row. In the order in which rows are written, and taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// To which VTEP frames go.
    Forward {
        /// The VXLAN device.
        link: u32,
        /// To whom.
        mac: Mac,
    },
    /// By which port of the bridge they leave.
    Port {
        /// The VXLAN device.
        link: u32,
        /// To whom.
        mac: Mac,
    },
    /// A VTEP that gets what goes to everybody.
    Flood {
        /// The VXLAN device.
        link: u32,
        /// The VTEP.
        vtep: IpAddr,
    },
    /// A VTEP that gets what goes to everybody by more than its address. None is wanted.
    OddFlood {
        /// The VXLAN device.
        link: u32,
        /// The VTEP.
        vtep: IpAddr,
        /// By what besides.
        by: By,
    },
    /// Through which node an address is reached without VXLAN.
    Route {
        /// The address.
        to: Ipv4Addr,
    },
    /// Who has an address.
    Neighbour {
        /// The bridge, or the device between the nodes.
        link: u32,
        /// The address.
        address: IpAddr,
    },
    /// A nexthop that a netd of before had rows point at. None is wanted, and what points at it goes with it.
    Nexthop {
        /// Its number.
        id: u32,
    },
}

/// What a row says, where it is not all in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing more, or not what it should.
    There,
    /// The VTEP of a node.
    Vtep(IpAddr),
    /// Who has an address.
    Mac(Mac),
}

/// Rows by what tells them apart.
pub type Table = BTreeMap<Key, Value>;

/// Whether a nexthop, or a group of one, is of a netd of before: each node had two.
pub fn is_own_nexthop(id: u32) -> bool {
    let node = id.checked_sub(NEXTHOPS).map(|number| number / 2);
    node.is_some_and(|node| (1..=MAX_NODE).contains(&node))
}

/// A network of this host, as its rows need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number on the wire.
    pub vni: u32,
    /// Its bridge, by index.
    pub bridge: u32,
    /// Its VXLAN device, by index.
    pub tunnel: u32,
    /// Whether what goes to everybody goes to other hosts.
    pub broadcast: bool,
    /// The bridge's name, where members on nodes of this host's link are reached by routes.
    pub routed: Option<String>,
}

/// The link by which this host reaches the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The link, by index.
    pub link: u32,
    /// This host's address there.
    pub address: IpNetwork,
}

impl Underlay {
    /// The address of a node that is on the link, as far as its addresses tell.
    fn near(&self, vtep: IpAddr) -> Option<Ipv4Addr> {
        match vtep {
            IpAddr::V4(near) if self.address.contains(vtep) => Some(near),
            _ => None,
        }
    }
}

/// What this host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Its own number.
    pub number: u32,
    /// Its networks.
    pub networks: BTreeMap<NetworkId, Place>,
    /// The device between the nodes: its index and its number on the wire.
    pub ingress: Option<(u32, u32)>,
    /// Whether that device has IPv6.
    pub ingress_ipv6: bool,
    /// Where the other nodes take VXLAN, by number, as far as it was told or is seen in the kernel.
    pub nodes: BTreeMap<u32, IpAddr>,
    /// Where this host takes VXLAN, once it is known.
    pub underlay: Option<Underlay>,
}

/// What should be there because of something elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Rows.
    pub table: Table,
    /// Where the nodes that are named take VXLAN, by number.
    pub nodes: BTreeMap<u32, IpAddr>,
    /// What the firewall is to know.
    pub facts: BTreeSet<Fact>,
}

impl Here {
    /// Where a node takes VXLAN.
    fn vtep(&self, of: u32, there: &BTreeMap<u32, IpAddr>) -> Result<IpAddr> {
        there.get(&of).or_else(|| self.nodes.get(&of)).copied().ok_or_else(|| {
            Error::not_found(format_args!("node {of} is not known here: name it before its peers"))
                .with("node", of)
        })
    }

    /// What should be there because of this. What is on this very host, or on networks that it does
    /// not have, is passed over.
    ///
    /// # Errors
    /// `not_found` when something is on a node that nobody named, `invalid` when a node cannot be.
    pub fn want(&self, there: &Elsewhere) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        for node in there.nodes.iter().filter(|node| node.number != self.number) {
            if !(1..=MAX_NODE).contains(&node.number) {
                return Err(Error::invalid(format_args!(
                    "a node's number is within 1 and {MAX_NODE}, and not {}",
                    node.number
                ))
                .with("node", node.number));
            }
            wanted.node(node, self.ingress, self.ingress_ipv6);
        }
        let elsewhere = |node: u32| node != self.number;
        for member in there.members.iter().filter(|member| elsewhere(member.node)) {
            if let Some(place) = self.networks.get(&member.network) {
                let vtep = self.vtep(member.node, &wanted.nodes)?;
                wanted.member(place, vtep);
            }
        }
        for peer in there.peers.iter().filter(|peer| elsewhere(peer.node)) {
            if let Some(place) = self.networks.get(&peer.network) {
                let vtep = self.vtep(peer.node, &wanted.nodes)?;
                let near = self.near(vtep).filter(|_| place.routed.is_some());
                wanted.member(place, vtep);
                wanted.table.extend(rows_of(peer, place, Value::Vtep(vtep), near.is_some()));
                wanted.directly(peer, place, vtep, near);
            }
        }
        Ok(wanted)
    }

    /// Where a node is reached without VXLAN.
    pub fn near(&self, vtep: IpAddr) -> Option<Ipv4Addr> {
        self.underlay.and_then(|underlay| underlay.near(vtep))
    }

    /// The rows and facts that go with what is gone, but for whole nodes.
    pub fn leave(&self, gone: &Gone) -> (Vec<Key>, Vec<Fact>) {
        let (mut keys, mut facts) = (Vec::new(), Vec::new());
        for peer in &gone.peers {
            if let Some(place) = self.networks.get(&peer.network) {
                let rows = rows_of(peer, place, Value::There, false);
                keys.extend(rows.map(|(key, _)| key));
                for (bridge, to) in
                    place.routed.iter().flat_map(|b| v4(peer).map(move |to| (b, to)))
                {
                    keys.push(Key::Route { to });
                    facts.push(Fact::Routed { bridge: bridge.clone(), address: to });
                    facts.push(Fact::Afar(to));
                }
            }
        }
        for member in &gone.members {
            let vtep = self.nodes.get(&member.node).copied();
            if let (Some(place), Some(vtep)) = (self.networks.get(&member.network), vtep) {
                facts.push(Fact::Tunnel { vtep, vni: place.vni });
                if place.broadcast {
                    keys.push(Key::Flood { link: place.tunnel, vtep });
                }
            }
        }
        (keys, facts)
    }

    /// The rows that lead to VTEPs that are gone, and those that led to an endpoint that no VTEP has.
    pub fn orphans(&self, table: &Table, gone: &BTreeSet<IpAddr>) -> Vec<Key> {
        let is_gone = |value: &Value| matches!(value, Value::Vtep(vtep) if gone.contains(vtep));
        let mut led = BTreeMap::<u32, BTreeSet<Mac>>::new();
        for (key, value) in table {
            if let Key::Forward { link, mac } = key
                && !is_gone(value)
            {
                led.entry(*link).or_default().insert(*mac);
            }
        }
        let tunnel_of: BTreeMap<u32, u32> =
            self.networks.values().map(|place| (place.bridge, place.tunnel)).collect();
        let leads = |link: &u32, mac: &Mac| led.get(link).is_some_and(|macs| macs.contains(mac));
        let is_orphan = |(key, value): &(&Key, &Value)| match (key, value) {
            (Key::Port { link, mac }, _) => !leads(link, mac),
            (Key::Neighbour { link, .. }, Value::Mac(mac)) => {
                !leads(tunnel_of.get(link).unwrap_or(link), mac)
            }
            (Key::Flood { vtep, .. } | Key::OddFlood { vtep, .. }, _) => gone.contains(vtep),
            (_, value) => is_gone(value),
        };
        table.iter().filter(is_orphan).map(|(key, _)| *key).collect()
    }
}

impl Wanted {
    fn node(&mut self, node: &Node, ingress: Option<(u32, u32)>, ipv6: bool) {
        self.nodes.insert(node.number, node.vtep);
        self.facts.insert(Fact::Vtep(node.vtep));
        let Some((link, vni)) = ingress else { return };
        let mac = node_mac(node.number);
        self.facts.insert(Fact::Tunnel { vtep: node.vtep, vni });
        self.table.insert(Key::Forward { link, mac }, Value::Vtep(node.vtep));
        let addresses = node.addresses.iter().filter(|address| ipv6 || address.is_ipv4());
        let neighbours = addresses.map(|address| Key::Neighbour { link, address: address.ip() });
        self.table.extend(neighbours.map(|key| (key, Value::Mac(mac))));
    }

    /// What it takes to reach a peer by routes, and to be reached by it so: each sees for itself
    /// who is near.
    fn directly(&mut self, peer: &Peer, place: &Place, vtep: IpAddr, near: Option<Ipv4Addr>) {
        let Some(bridge) = place.routed.as_ref().filter(|_| vtep.is_ipv4()) else { return };
        for to in v4(peer) {
            self.facts.insert(Fact::Routed { bridge: bridge.clone(), address: to });
            self.facts.insert(Fact::Afar(to));
            if let Some(through) = near {
                self.table.insert(Key::Route { to }, Value::Vtep(through.into()));
            }
        }
    }

    fn member(&mut self, place: &Place, vtep: IpAddr) {
        // The node itself comes so, too.
        if let (Some(bridge), IpAddr::V4(address)) = (&place.routed, vtep) {
            self.facts.insert(Fact::Routed { bridge: bridge.clone(), address });
        }
        self.facts.insert(Fact::Tunnel { vtep, vni: place.vni });
        if place.broadcast {
            self.table.insert(Key::Flood { link: place.tunnel, vtep }, Value::There);
        }
    }
}

/// The addresses of a peer that can be reached by routes.
fn v4(peer: &Peer) -> impl Iterator<Item = Ipv4Addr> + use<'_> {
    peer.addresses.iter().filter_map(|address| match address {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    })
}

/// The rows of a peer that is at `vtep`, but for routes; where there are any, nobody says that it is on the bridge.
fn rows_of<'a>(
    peer: &'a Peer,
    place: &Place,
    vtep: Value,
    routed: bool,
) -> impl Iterator<Item = (Key, Value)> + use<'a> {
    let Place { tunnel: link, bridge, .. } = *place;
    let mac = peer.mac.0;
    let bridged = peer.addresses.iter().filter(move |address| !routed || address.is_ipv6());
    [(Key::Forward { link, mac }, vtep), (Key::Port { link, mac }, Value::There)].into_iter().chain(
        bridged.map(move |address| {
            (Key::Neighbour { link: bridge, address: *address }, Value::Mac(mac))
        }),
    )
}

/// What makes one table of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows to write, each in place of what its key has.
    pub write: Vec<(Key, Value)>,
    /// Rows that the kernel writes in place of nothing only, to delete and write, after that.
    pub anew: Vec<(Key, Value)>,
    /// Rows to delete, after that.
    pub delete: Vec<Key>,
}

impl Here {
    /// What has rows lead to where nodes have moved, from one VTEP to another, and routes as far as that is on the link.
    pub fn redirect(&self, ways: &Table, moved: &BTreeMap<IpAddr, IpAddr>) -> Difference {
        let mut difference = Difference::default();
        for (key, value) in ways {
            match (*key, value) {
                (Key::Flood { link, vtep: from }, _) => {
                    if let Some(to) = moved.get(&from) {
                        let there = Key::Flood { link, vtep: *to };
                        difference.write.push((there, Value::There));
                        difference.delete.push(*key);
                    }
                }
                (Key::Forward { .. }, Value::Vtep(from)) => {
                    let to = moved.get(from).map(|to| (*key, Value::Vtep(*to)));
                    difference.write.extend(to);
                }
                (Key::Route { .. }, Value::Vtep(from)) => {
                    match moved.get(from).map(|to| self.near(*to)) {
                        Some(Some(near)) => {
                            difference.write.push((*key, Value::Vtep(near.into())));
                        }
                        Some(None) => difference.delete.push(*key),
                        None => {}
                    }
                }
                _ => {}
            }
        }
        // Where one moves to another's former place.
        let written: BTreeSet<_> = difference.write.iter().map(|(key, _)| *key).collect();
        difference.delete.retain(|key| !written.contains(key));
        difference
    }
}

/// What makes `wanted` of `current`. A frame to whom there is no row just then goes where what goes to everybody
/// does: that leads to the VTEPs of rows that are made anew, for as long as it takes.
pub fn difference(wanted: &Table, current: &Table) -> Difference {
    let differs = wanted.iter().filter(|(key, value)| current.get(key) != Some(value));
    let (anew, mut write): (Vec<_>, Vec<_>) =
        differs.map(|(key, value)| (*key, *value)).partition(|(key, _)| {
            matches!((key, current.get(key)), (Key::Forward { .. }, Some(Value::There)))
        });
    let lent: BTreeSet<_> = anew.iter().filter_map(|(key, value)| lent(key, value)).collect();
    let new = lent.iter().filter(|key| !current.contains_key(key) && !wanted.contains_key(key));
    write.extend(new.map(|key| (*key, Value::There)));
    let goes = |key: &&Key| !wanted.contains_key(key);
    let delete: BTreeSet<_> = current.keys().chain(&lent).filter(goes).copied().collect();
    Difference { write, anew, delete: delete.into_iter().collect() }
}

/// What has frames get to where a row leads while there is none.
fn lent(key: &Key, value: &Value) -> Option<Key> {
    match (key, value) {
        (Key::Forward { link, .. }, Value::Vtep(vtep)) => {
            Some(Key::Flood { link: *link, vtep: *vtep })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
