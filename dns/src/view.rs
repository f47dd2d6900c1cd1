//! What one asker sees of a snapshot: the networks its container is on, and what a name is there.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::answer::Asker;
use crate::names::{Network, NetworkKey, Snapshot, Zone};
use crate::reverse;

/// What this host is called on a network, unless a member has taken the name.
const GATEWAY: &str = "gateway";

/// What is known about a name. `zone` is the offset, in the name as text or in wire format alike,
/// at which the zone begins that vouches for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Ours, and these are its addresses, of both families; perhaps none.
    Name { addresses: Vec<IpAddr>, zone: usize },
    /// An address of ours in reverse, and the name it is called by, in wire format.
    Address { name: Vec<u8>, zone: usize },
    /// In a zone of ours, with nothing to it but names below.
    Hollow { zone: usize },
    /// In a zone of ours, and not there.
    Missing { zone: usize },
    /// Not ours.
    Foreign,
}

/// A snapshot, seen by one asker.
pub(crate) struct View<'a> {
    snapshot: &'a Snapshot,
    key: &'a NetworkKey,
    /// The network whose listener was asked.
    asked: Option<&'a Network>,
    /// What the asker's container is on, that network among them.
    attachments: &'a [(NetworkKey, usize)],
}

impl<'a> View<'a> {
    /// The networks of the container whose address asks, or the listener's alone when it is
    /// nobody's address.
    pub(crate) fn of(snapshot: &'a Snapshot, asker: &'a Asker) -> Self {
        let key = &asker.listener;
        let asked = snapshot.networks.get(key);
        let member = asked.and_then(|it| it.addresses.get(&asker.source.to_canonical()));
        let attachments = member.map_or(&[][..], |it| snapshot.attachments(&it.container));
        Self { snapshot, key, asked, attachments }
    }

    /// Whether the asker is on the network whose listener it asks. Somebody else's container, or a
    /// neighbour of the host with a route to it, is told nothing.
    pub(crate) fn is_member(&self, source: IpAddr) -> bool {
        let zone = self.asked.and_then(|network| network.zone.as_deref());
        let source = source.to_canonical();
        zone.is_none_or(|zone| {
            zone.subnets.is_empty() || zone.subnets.iter().any(|subnet| subnet.contains(source))
        })
    }

    /// The networks, the one asked first.
    fn networks(&self) -> impl Iterator<Item = &'a Network> {
        let others = self.attachments.iter().map(|(key, _)| key).filter(|&key| key != self.key);
        self.asked.into_iter().chain(others.filter_map(|key| self.snapshot.networks.get(key)))
    }

    fn zones(&self) -> impl Iterator<Item = &'a Zone> {
        self.networks().filter_map(|network| network.zone.as_deref())
    }

    /// The first network that forwards, if one does.
    pub(crate) fn forwards(&self) -> Option<&'a Zone> {
        self.zones().find(|zone| zone.forward)
    }

    /// Looks a name up, given as text.
    pub(crate) fn find(&self, text: &[u8]) -> Finding {
        match reverse::range(text) {
            Some(range) => self.find_range(text, range),
            None => self.find_name(text),
        }
    }

    fn find_name(&self, text: &[u8]) -> Finding {
        let domain = &self.snapshot.domain;
        let below = strip(text, domain);
        let local = below.unwrap_or(text);
        let mut exists = below.is_some_and(<[u8]>::is_empty);
        let mut addresses = Vec::new();
        for network in self.networks() {
            // Below the domain a name is always said with its network's.
            let plain = if below.is_none() { network.names.get(local) } else { None };
            let inner = network.name.as_deref().and_then(|name| strip(local, name));
            if let Some(bearers) = plain.or_else(|| inner.and_then(|it| network.names.get(it))) {
                exists = true;
                addresses.extend(bearers.values().flat_map(|member| &member.addresses));
            } else if inner == Some(GATEWAY.as_bytes())
                && let Some(zone) = &network.zone
                && !zone.gateways.is_empty()
            {
                exists = true;
                addresses.extend(&zone.gateways);
            } else if inner == Some(&[]) && below.is_some() {
                exists = true;
            }
        }
        match below {
            Some(_) if exists => Finding::Name { addresses, zone: text.len() - domain.len() },
            Some(_) => Finding::Missing { zone: text.len() - domain.len() },
            // Names outside the domain share no zone; each is one of its own.
            None if exists => Finding::Name { addresses, zone: 0 },
            None => Finding::Foreign,
        }
    }

    fn find_range(&self, text: &[u8], range: IpNetwork) -> Finding {
        let zone = self
            .zones()
            .flat_map(|zone| &zone.subnets)
            .find(|subnet| subnet.prefix() <= range.prefix() && subnet.contains(range.ip()))
            .map(|subnet| reverse::zone(text, *subnet));
        let whole = range.prefix() == if range.is_ipv4() { 32 } else { 128 };
        if whole && let Some(name) = self.called(range.ip()) {
            return Finding::Address { name, zone: zone.unwrap_or(0) };
        }
        match zone {
            Some(zone) if whole => Finding::Missing { zone },
            Some(zone) => Finding::Hollow { zone },
            None => Finding::Foreign,
        }
    }

    /// The name of an address, `<name>.<network>` as Docker has it, in wire format.
    fn called(&self, address: IpAddr) -> Option<Vec<u8>> {
        self.networks().find_map(|network| {
            let zone = network.zone.as_deref();
            let name = match network.addresses.get(&address) {
                Some(member) => member.names.first()?,
                None if zone?.gateways.contains(&address) => GATEWAY,
                None => return None,
            };
            let network = zone.map_or("", |zone| &zone.name);
            wire(format!("{name}.{network}").trim_end_matches('.').as_bytes())
        })
    }
}

/// What stands before `suffix` and the dot, nothing when `name` is `suffix` itself.
fn strip<'n>(name: &'n [u8], suffix: &[u8]) -> Option<&'n [u8]> {
    if suffix.is_empty() {
        return None;
    }
    match name.strip_suffix(suffix)? {
        [] => Some(&[]),
        [before @ .., b'.'] => Some(before),
        _ => None,
    }
}

/// A name in wire format. `None` when it cannot be said in DNS: labels have 1 to 63 bytes, names
/// at most 255 (RFC 1035 §3.1).
pub(crate) fn wire(text: &[u8]) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(text.len() + 2);
    for label in text.split(|&byte| byte == b'.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        wire.push(length);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    Some(wire).filter(|wire| wire.len() <= 255)
}
