//! What one asker sees of a snapshot: the networks its container is on, and what a name is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;

use crate::answer::{Asker, At};
use crate::names::{Bearers, Member, Network, NetworkKey, Port, Protocol, Snapshot, Stub, Zone};
use crate::reverse;
use crate::special::{self, INTERNAL, LOCALHOST};

/// What the way out is called on a network, unless a member has taken the name: what people call
/// their containers goes first, alone and with the network's name alike. The way out is still
/// `gateway.netd.internal`.
const GATEWAY: &[u8] = b"gateway";

/// The name server of our zones, below the domain; it is this host.
pub(crate) const SERVER: &[u8] = b"ns";

/// What is known about a name. `zone` is the offset, in the name as text or in wire format alike,
/// at which the zone begins that vouches for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding<'a> {
    /// Ours, and these are its addresses, of both families; perhaps none.
    Name { addresses: Vec<IpAddr>, zone: usize },
    /// Places that serve what was asked for, such as `_80._tcp.web`.
    Service { places: Vec<Place<'a>>, zone: usize },
    /// An address of ours in reverse, and the name it is called by, in wire format.
    Address { name: Vec<u8>, zone: usize },
    /// The name of a zone of ours.
    Apex,
    /// In a zone of ours, with nothing to it but names below.
    Hollow { zone: usize },
    /// In a zone of ours, and not there.
    Missing { zone: usize },
    /// Not ours.
    Foreign,
}

/// A port of a member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) port: u16,
    /// The member's name with its network's and the domain, in wire format.
    pub(crate) name: Vec<u8>,
    pub(crate) addresses: &'a [IpAddr],
}

/// A snapshot, seen by one asker.
pub(crate) struct View<'a> {
    snapshot: &'a Snapshot,
    /// The network whose listener was asked.
    key: Option<&'a NetworkKey>,
    asked: Option<&'a Network>,
    /// What the asker's container is on, that network among them.
    attachments: &'a [(NetworkKey, usize)],
    /// Whether the host itself asks, which is on all networks.
    host: bool,
    /// Whether somebody asks who is on none.
    guest: bool,
    /// Whom the asker's container asks for other names.
    servers: &'a [SocketAddr],
}

impl<'a> View<'a> {
    /// The networks of the container whose address asks, or the listener's alone when it is
    /// nobody's address.
    pub(crate) fn of(snapshot: &'a Snapshot, asker: &'a Asker) -> Self {
        let none = Self {
            snapshot,
            key: None,
            asked: None,
            attachments: &[],
            host: false,
            guest: false,
            servers: &[],
        };
        match &asker.at {
            At::Network(key) => {
                let asked = snapshot.networks.get(key);
                let member = asked.and_then(|it| it.addresses.get(&asker.source.to_canonical()));
                let view = Self { key: Some(key), asked, ..none };
                member.map_or(view, |it| Self {
                    key: Some(key),
                    asked,
                    ..Self::inside(snapshot, &it.container)
                })
            }
            At::Container(container) => Self::inside(snapshot, container),
            At::Host => Self { host: true, ..none },
            At::Guest => Self { guest: true, ..none },
            At::Shared => none,
        }
    }

    fn inside(snapshot: &'a Snapshot, container: &str) -> Self {
        let servers = snapshot.servers.get(container).map_or(&[][..], |by| &by.servers);
        let attachments = snapshot.attachments(container);
        Self { snapshot, key: None, asked: None, attachments, host: false, guest: false, servers }
    }

    /// Whether the asker is on the network whose listener it asks. Somebody else's container, or a
    /// neighbour of the host with a route to it, is told nothing.
    pub(crate) fn is_member(&self, source: IpAddr) -> bool {
        let zone = self.asked.and_then(|network| network.zone.as_deref());
        zone.is_none_or(|zone| zone.may_have(source.to_canonical()))
    }

    /// The networks, the one asked first.
    pub(crate) fn networks(&self) -> impl Iterator<Item = &'a Network> {
        let key = self.key;
        let others = self.attachments.iter().map(|(key, _)| key);
        let others = others.filter(move |&other| Some(other) != key);
        let all = self.host.then(|| self.snapshot.networks.values()).into_iter().flatten();
        self.asked
            .into_iter()
            .chain(others.filter_map(|key| self.snapshot.networks.get(key)))
            .chain(all)
    }

    fn zones(&self) -> impl Iterator<Item = &'a Zone> {
        self.networks().filter_map(|network| network.zone.as_deref())
    }

    /// Who is asked for a name that is not ours; nobody where no network of the asker's leads
    /// outside, the host's servers where the list is empty. A domain with servers of its own goes
    /// before what the container asked for, and that before what its networks have.
    pub(crate) fn upstreams(&self, text: &[u8]) -> Option<&'a [SocketAddr]> {
        let mut outside = self.zones().filter(|zone| zone.forward).peekable();
        if !self.host && !self.guest {
            outside.peek()?;
        }
        let stubs = self.zones().filter(|zone| zone.forward && !self.host);
        let stubs = stubs.flat_map(|zone| &zone.stubs).chain(&*self.snapshot.stubs);
        let holding = stubs.filter(|stub| is_below(text, stub.domain.as_bytes()));
        if let Some(stub) = longest(holding) {
            return Some(&stub.servers);
        }
        if !self.servers.is_empty() {
            return Some(self.servers);
        }
        let network = outside.peek().filter(|_| !self.host);
        Some(network.map_or(&[][..], |zone| &zone.upstreams))
    }

    /// Looks a name up, given as text.
    pub(crate) fn find(&self, text: &[u8]) -> Finding<'a> {
        match reverse::range(text) {
            Some(range) => self.find_range(text, range),
            None => self.find_name(text),
        }
    }

    fn find_name(&self, text: &[u8]) -> Finding<'a> {
        if let Some(below) = strip(text, INTERNAL.as_bytes()) {
            return self.find_internal(below, text.len() - INTERNAL.len());
        }
        let domain = &self.snapshot.domain;
        let below = strip(text, domain);
        if below.is_none()
            && let Some((addresses, zone)) = special::localhost(text)
        {
            return Finding::Name { addresses, zone };
        }
        if text.first() == Some(&b'_')
            && let Some(finding) = self.find_service(text)
        {
            return finding;
        }
        let zone = below.map_or(0, |_| text.len() - domain.len());
        if below.is_some_and(<[u8]>::is_empty) {
            return Finding::Apex;
        }
        let (mut exists, mut hollow) = (false, false);
        let mut addresses = Vec::new();
        let whole = self.may_be_whole(text, below);
        for network in self.networks() {
            match self.part(network, text, below, whole) {
                Part::Members(bearers) => {
                    exists = true;
                    addresses.extend(bearers.values().flat_map(|member| &member.addresses));
                }
                Part::Gateway(gateways) => {
                    exists = true;
                    addresses.extend(gateways);
                }
                Part::Network => hollow = true,
                Part::Nothing => {}
            }
        }
        if below == Some(SERVER) && addresses.is_empty() {
            exists = true;
            addresses.extend(self.host_addresses());
        }
        match below {
            // Names outside the domain share no zone; each is one of its own.
            _ if exists => Finding::Name { addresses, zone },
            Some(_) if hollow => Finding::Hollow { zone },
            Some(_) => Finding::Missing { zone },
            None if self.elsewhere(text).is_some() => Finding::Missing { zone: 0 },
            None => match special::nobodys(text) {
                Some(zone) => Finding::Missing { zone },
                None => Finding::Foreign,
            },
        }
    }

    /// Whether a name may be what somebody is called as a whole: `web.app`, dot and all. Not where
    /// a container `web` of the network `app` is there for the asker, so that nobody on another
    /// network takes its name. Below the domain a name is always said with its network's, and so it
    /// is by the host, which has neighbours of its own.
    pub(crate) fn may_be_whole(&self, text: &[u8], below: Option<&[u8]>) -> bool {
        let has = |network: &Network| {
            let inner = network.name.as_deref().and_then(|name| strip(text, name));
            inner.is_some_and(|inner| network.has(inner) || ways_out(network, inner).is_some())
        };
        below.is_none() && !self.host && !self.networks().any(has)
    }

    /// The network that a name is of which is not there, as the asker is not on it, or as who is called
    /// so cannot be reached at the time: `db`, or `db.back`. Other servers have no business knowing that it is asked for. A name of several
    /// labels that is not said with its network's may be anything in the world, and so may one that
    /// is and that the network has not: a network may be called as a domain is, `com` even. It is not
    /// kept from others because some network or container is called so.
    pub(crate) fn elsewhere(&self, text: &[u8]) -> Option<&'a Network> {
        if self.host {
            return None;
        }
        let text = without_service(text);
        let mut dots = text.iter().enumerate().filter(|(_, byte)| **byte == b'.').peekable();
        if dots.peek().is_none() {
            return self.snapshot.networks.values().find(|network| network.has(text));
        }
        dots.find_map(|(dot, _)| {
            let (inner, name) = (&text[..dot], &text[dot + 1..]);
            let has = |network: &&Network| network.has(inner) || ways_out(network, inner).is_some();
            self.networks_called(name).find(has)
        })
    }

    /// What the host's own programs have to ask for instead of a name that a member of a network has
    /// and they are not told: the whole name of it. `None` to whoever else asks.
    pub(crate) fn whole_name(&self, text: &[u8]) -> Option<String> {
        if !self.host || strip(text, &self.snapshot.domain).is_some() {
            return None;
        }
        let with = |parts: &[&[u8]]| parts.join(&b'.');
        let domain = &*self.snapshot.domain;
        let of_networks = self.networks().filter_map(|network| network.name.as_deref());
        let mut candidates = std::iter::once(with(&[text, domain]))
            .chain(of_networks.map(|network| with(&[text, network, domain])));
        let is_there = |name: &Vec<u8>| {
            matches!(self.find(name), Finding::Name { .. } | Finding::Service { .. })
        };
        let name = candidates.find(is_there)?;
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    /// The network, whoever is on it, below whose name a name is.
    pub(crate) fn above(&self, text: &[u8]) -> Option<&'a Network> {
        let mut dots = text.iter().enumerate().filter(|(_, byte)| **byte == b'.');
        dots.find_map(|(dot, _)| self.networks_called(&text[dot + 1..]).next())
    }

    /// Whether the asker is on a network.
    pub(crate) fn is_on(&self, network: &Network) -> bool {
        self.networks().any(|own| std::ptr::eq(own, network))
    }

    fn networks_called(&self, name: &[u8]) -> impl Iterator<Item = &'a Network> {
        let keys = self.snapshot.called.get(name).map_or(&[][..], |keys| keys);
        keys.iter().filter_map(|key| self.snapshot.networks.get(key))
    }

    /// What one network has under a name; `below` is what stands before the domain, and `whole` what
    /// [`View::may_be_whole`] says.
    pub(crate) fn part(
        &self,
        network: &'a Network,
        text: &[u8],
        below: Option<&[u8]>,
        whole: bool,
    ) -> Part<'a> {
        let local = below.unwrap_or(text);
        let plain = if whole { network.names.get(local) } else { None };
        let inner = network.name.as_deref().and_then(|name| strip(local, name));
        let inner = inner.filter(|_| below.is_some() || !self.host);
        if let Some(bearers) = plain.or_else(|| inner.and_then(|it| network.names.get(it))) {
            Part::Members(bearers)
        } else if let Some(gateways) = inner.and_then(|inner| ways_out(network, inner)) {
            Part::Gateway(gateways)
        } else if inner == Some(&[]) && below.is_some() {
            Part::Network
        } else {
            Part::Nothing
        }
    }

    /// `_80._tcp.web`, `_http._tcp.web.app` and the like: the places where the members called so
    /// serve it. `None` when what follows the two labels is not ours.
    fn find_service(&self, text: &[u8]) -> Option<Finding<'a>> {
        let (first, rest) = split_label(text)?;
        let (service, protocol, rest) = match (protocol(first), split_label(rest)) {
            (Some(protocol), _) => (None, protocol, rest),
            (None, Some((second, rest))) => (Some(&first[1..]), protocol(second)?, rest),
            (None, None) => return None,
        };
        let below = strip(rest, &self.snapshot.domain);
        let zone =
            below.map_or(text.len() - rest.len(), |_| text.len() - self.snapshot.domain.len());
        let (mut exists, mut places) = (false, Vec::new());
        let whole = self.may_be_whole(rest, below);
        for network in self.networks() {
            let Part::Members(bearers) = self.part(network, rest, below, whole) else { continue };
            exists = true;
            for member in bearers.values() {
                let Some(name) = self.full_name(network, member) else { continue };
                let of_protocol = member.ports.iter().filter(|port| port.protocol == protocol);
                let first = places.len();
                for port in of_protocol.filter_map(|port| port.called(service?)) {
                    // One that has a name may be one of a row as well.
                    if !places[first..].iter().any(|place: &Place<'_>| place.port == port) {
                        places.push(Place {
                            port,
                            name: name.clone(),
                            addresses: &member.addresses,
                        });
                    }
                }
            }
        }
        match (exists, service) {
            (false, _) => None,
            (true, None) => Some(Finding::Hollow { zone }),
            (true, Some(_)) if places.is_empty() => Some(Finding::Missing { zone }),
            (true, Some(_)) => Some(Finding::Service { places, zone }),
        }
    }

    /// What it is called by everybody who may know it, in wire format.
    fn full_name(&self, network: &Network, member: &Member) -> Option<Vec<u8>> {
        let labels =
            [member.names.first()?.as_bytes(), network.name.as_deref()?, &self.snapshot.domain];
        wire(&labels.join(&b'.'))
    }

    /// `host.netd.internal` and `gateway.netd.internal`, and their zone.
    fn find_internal(&self, below: &[u8], zone: usize) -> Finding<'a> {
        let addresses = match below {
            b"" => return Finding::Apex,
            b"host" => self.host_addresses(),
            GATEWAY => {
                let of = |zone: &&Zone| !zone.gateways.is_empty() && !self.host;
                self.zones().find(of).map_or_else(Vec::new, |zone| zone.gateways.clone())
            }
            _ => return Finding::Missing { zone },
        };
        Finding::Name { addresses, zone }
    }

    /// Where the asker reaches this host: on the first of its networks that the host is on.
    fn host_addresses(&self) -> Vec<IpAddr> {
        if self.host {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        let there = self.zones().find(|zone| !zone.hosts.is_empty());
        there.map_or_else(Vec::new, |zone| zone.hosts.clone())
    }

    fn find_range(&self, text: &[u8], range: IpNetwork) -> Finding<'a> {
        let zone = self
            .zones()
            .flat_map(|zone| &zone.subnets)
            .copied()
            .find(|subnet| reverse::holds(*subnet, range))
            .or_else(|| special::loopback(range))
            .map(|subnet| reverse::zone(text, subnet));
        let whole = range.prefix() == if range.is_ipv4() { 32 } else { 128 };
        if whole && let Some(name) = self.called(range.ip()) {
            return Finding::Address { name, zone: zone.unwrap_or(0) };
        }
        match zone {
            Some(zone) if whole => Finding::Missing { zone },
            Some(0) => Finding::Apex,
            Some(zone) => Finding::Hollow { zone },
            // Nor are addresses of other networks of ours anybody's outside.
            None => match self.zone_elsewhere(text, range) {
                Some(zone) => Finding::Missing { zone },
                None => Finding::Foreign,
            },
        }
    }

    /// Where the reverse zone of a network begins that the asker is not on.
    fn zone_elsewhere(&self, text: &[u8], range: IpNetwork) -> Option<usize> {
        let networks = self.snapshot.networks.values();
        let mut subnets =
            networks.filter_map(|network| network.zone.as_deref()).flat_map(|zone| &zone.subnets);
        let found = subnets.find(|subnet| reverse::holds(**subnet, range));
        found.map(|subnet| reverse::zone(text, *subnet))
    }

    /// The name of an address, `<name>.<network>` as Docker has it, in wire format.
    fn called(&self, address: IpAddr) -> Option<Vec<u8>> {
        if special::is_localhosts(address) {
            return wire(LOCALHOST.as_bytes());
        }
        self.networks().find_map(|network| {
            let zone = network.zone.as_deref();
            let name = match network.addresses.get(&address) {
                Some(member) => member.names.first()?.as_bytes(),
                // Where a member has taken the name, the way out keeps the one that nobody can take.
                None if zone?.gateways.contains(&address) => match network.names.get(GATEWAY) {
                    Some(_) => return wire(&[GATEWAY, INTERNAL.as_bytes()].join(&b'.')),
                    None => GATEWAY,
                },
                None => return None,
            };
            // The host's own programs ask for nothing but whole names.
            let domain = if self.host { &*self.snapshot.domain } else { b"" };
            let network = zone.map_or("", |zone| &zone.name).as_bytes();
            let labels = [name, network, domain];
            let said: Vec<&[u8]> = labels.into_iter().filter(|part| !part.is_empty()).collect();
            wire(&said.join(&b'.'))
        })
    }
}

/// A network's ways out, by what they are called on it.
fn ways_out<'n>(network: &'n Network, inner: &[u8]) -> Option<&'n [IpAddr]> {
    let zone = network.zone.as_deref().filter(|_| inner == GATEWAY)?;
    Some(&*zone.gateways).filter(|gateways| !gateways.is_empty())
}

/// What a network has under a name.
pub(crate) enum Part<'a> {
    Members(&'a Bearers),
    Gateway(&'a [IpAddr]),
    /// The name is the network's own.
    Network,
    Nothing,
}

impl Port {
    /// The number of the one that is called so, by its number or by its service.
    fn called(&self, called: &[u8]) -> Option<u16> {
        let is_service = |own: &String| own.as_bytes().eq_ignore_ascii_case(called);
        if self.service.as_ref().is_some_and(is_service) {
            return Some(self.number);
        }
        let number: u16 = std::str::from_utf8(called).ok()?.parse().ok()?;
        let is_plain = number.to_string().as_bytes() == called;
        (is_plain && (self.number..=self.last).contains(&number)).then_some(number)
    }
}

fn protocol(label: &[u8]) -> Option<Protocol> {
    match label {
        b"_tcp" => Some(Protocol::Tcp),
        b"_udp" => Some(Protocol::Udp),
        b"_sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// Whether a name is asked for as that of a service is: `_http._tcp.web` (RFC 2782).
pub(crate) fn is_of_service(text: &[u8]) -> bool {
    let behind = split_label(text).filter(|(service, _)| service.starts_with(b"_"));
    let label = behind.and_then(|(_, rest)| split_label(rest)).map(|(label, _)| label);
    label.is_some_and(|label| protocol(&label.to_ascii_lowercase()).is_some())
}

/// The name of which a service is asked for: `web.app` of `_http._tcp.web.app`.
pub(crate) fn without_service(text: &[u8]) -> &[u8] {
    match split_label(text) {
        Some((label, rest)) if label.starts_with(b"_") => without_service(rest),
        _ => text,
    }
}

/// The first label and what follows its dot.
fn split_label(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = text.iter().position(|&byte| byte == b'.')?;
    Some((&text[..dot], &text[dot + 1..]))
}

/// Whether a name is a domain's or below it, the root's among them.
fn is_below(text: &[u8], domain: &[u8]) -> bool {
    domain.is_empty() || strip(text, domain).is_some()
}

/// The one of several that says most; of equals the first.
fn longest<'a>(stubs: impl Iterator<Item = &'a Stub>) -> Option<&'a Stub> {
    stubs.fold(None, |best: Option<&Stub>, stub| match best {
        Some(best) if best.domain.len() >= stub.domain.len() => Some(best),
        _ => Some(stub),
    })
}

/// What stands before `suffix` and the dot, nothing when `name` is `suffix` itself.
pub(crate) fn strip<'n>(name: &'n [u8], suffix: &[u8]) -> Option<&'n [u8]> {
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
