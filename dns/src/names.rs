//! Who is called what, and where: the one mutable thing of this crate.
//!
//! It owns the published names and never looks at a packet. Readers take a [`Snapshot`] and keep
//! it as long as they like; writers make the next one from the last, sharing all that did not
//! change.

use std::net::{IpAddr, SocketAddr};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use ipnetwork::IpNetwork;

mod bearers;
mod members;
mod text;
mod trie;

pub(crate) use bearers::Bearers;
use members::Members;
pub(crate) use text::Text;
use trie::Trie;

/// The id of a network, as netd keeps it.
pub type NetworkKey = Arc<str>;

/// The domain below which every network's names stand, unless another one is chosen.
pub const DEFAULT_DOMAIN: &str = "netd";

/// Seconds that an answer of ours may be kept, unless told.
///
/// A name vanishes with the detach that took it, and its address may be given to somebody else
/// soon after; whoever kept the answer connects to the wrong container until then. The resolver is
/// one hop away and answers in microseconds, so asking again costs little. Not zero, because some
/// stub resolvers take zero for "never reuse, not even for the connection being made". An address
/// is kept back for longer than this before somebody else gets it.
pub const DEFAULT_TTL: u32 = 5;

/// One endpoint's names and addresses on one network. There may be very many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The endpoint's id: what a later publish replaces and a retract removes.
    pub endpoint: Box<str>,
    /// The id of the container that the endpoint belongs to; empty for one on another host, which
    /// never asks anything here.
    pub container: Box<str>,
    /// What it is called: container name, aliases, short id, hostname. Case does not matter. The
    /// first one is what its addresses are called in reverse.
    pub names: Box<[Box<str>]>,
    /// Its addresses on this network, of either family.
    pub addresses: Box<[IpAddr]>,
    /// The ports it serves, for who asks for `_80._tcp.web` (RFC 2782).
    pub ports: Box<[Port]>,
    /// Whom its container has asked for names that are not ours, in place of its networks'
    /// servers; empty where it does not say.
    pub servers: Box<[SocketAddr]>,
    /// Whether it cannot be reached at the time. Nobody is told its names, and nobody else is asked
    /// for them: they are ours still.
    pub away: bool,
}

impl Member {
    /// The same while it cannot be reached: nothing of it but its names.
    #[must_use]
    pub fn gone_away(&self) -> Self {
        let (endpoint, names) = (self.endpoint.clone(), self.names.clone());
        Self { endpoint, names, away: true, ..Self::default() }
    }
}

/// A port that an endpoint serves, or several in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Over what: `_tcp` or `_udp` in a name.
    pub protocol: Protocol,
    /// Its number, which is a name for it, too: `_80`.
    pub number: u16,
    /// The number of the last one of the row; the same where it is one.
    pub last: u16,
    /// What the service there is called: `http` for `_http`.
    pub service: Option<String>,
}

/// What a port is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `_tcp`.
    Tcp,
    /// `_udp`.
    Udp,
    /// `_sctp`.
    Sctp,
}

/// What is to become of an endpoint's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// As [`Names::publish`]; whoever has it as well shares it.
    Publish(Arc<Member>),
    /// As [`Names::retract`], of the endpoint with this id.
    Retract(&'a str),
}

/// What a network is, as far as names are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// The network's name, for `web.<name>` and `web.<name>.<domain>`.
    pub name: String,
    /// Whether names that are not ours are asked elsewhere. Internal networks never forward.
    pub forward: bool,
    /// Where they are asked, in order of preference. Empty means the host's servers.
    pub upstreams: Vec<SocketAddr>,
    /// The network's subnets. Their reverse zones are ours and never forwarded.
    pub subnets: Vec<IpNetwork>,
    /// The ways out of the network: `gateway.<name>`, and back.
    pub gateways: Vec<IpAddr>,
    /// The addresses of this host on the network: `host.netd.internal`.
    pub hosts: Vec<IpAddr>,
    /// Domains that are asked of servers of their own, by their members. Where several hold a
    /// name, the longest counts.
    pub stubs: Vec<Stub>,
}

impl Zone {
    /// Whether an address may be a member's: where it has no subnets of its own, whichever.
    pub(crate) fn may_have(&self, address: IpAddr) -> bool {
        self.subnets.is_empty() || self.has(address)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(address))
    }
}

/// A domain that certain servers know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stub {
    /// The domain, such as `example.corp`.
    pub domain: String,
    /// Who is asked for what is below it, in order of preference.
    pub servers: Vec<SocketAddr>,
}

impl Stub {
    /// Its domain as names are looked up.
    fn normal(mut self) -> Self {
        self.domain = self.domain.trim_matches('.').to_ascii_lowercase();
        self
    }
}

/// One network's part of a [`Snapshot`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// `None` while members were published before the network came up.
    pub(crate) zone: Option<Arc<Zone>>,
    /// The zone's name as text.
    pub(crate) name: Option<Text>,
    pub(crate) names: Trie<Text, Bearers>,
    /// The names of those who cannot be reached at the time.
    pub(crate) away: Trie<Text, Bearers>,
    pub(crate) addresses: Trie<IpAddr, Arc<Member>>,
}

impl Network {
    /// The names of those who can be reached, or of those who cannot.
    fn names_mut(&mut self, away: bool) -> &mut Trie<Text, Bearers> {
        if away { &mut self.away } else { &mut self.names }
    }

    /// Whether somebody is called so, reached or not.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.names.contains_key(name) || self.away.contains_key(name)
    }
}

/// The networks one container is on, each with the number of its endpoints there. Nearly always it is
/// one, which lies where it is kept.
#[derive(Clone, Debug)]
pub(crate) enum Attachments {
    One((NetworkKey, usize)),
    Many(Arc<[(NetworkKey, usize)]>),
}

impl Attachments {
    fn of(mut all: Vec<(NetworkKey, usize)>) -> Self {
        match all.pop() {
            Some(one) if all.is_empty() => Self::One(one),
            last => Self::Many(all.into_iter().chain(last).collect()),
        }
    }

    fn all(&self) -> &[(NetworkKey, usize)] {
        match self {
            Self::One(one) => slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

/// Everything that is known at one moment. Immutable; cloning it costs a few reference counts.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) domain: Text,
    pub(crate) networks: Trie<NetworkKey, Network>,
    pub(crate) containers: Trie<Arc<str>, Attachments>,
    /// The containers that have asked for servers of their own, and the endpoint that said so.
    pub(crate) servers: Trie<Arc<str>, Arc<Member>>,
    /// Domains that are asked of servers of their own by everybody who may ask outside.
    pub(crate) stubs: Arc<[Stub]>,
    /// Seconds that an answer of ours may be kept.
    pub(crate) ttl: u32,
    /// The networks by their names: nearly always one by each.
    pub(crate) called: Trie<Text, Arc<[NetworkKey]>>,
    /// Counts changes; the serial number of every zone of ours.
    pub(crate) serial: u32,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            domain: text(DEFAULT_DOMAIN),
            networks: Trie::default(),
            containers: Trie::default(),
            servers: Trie::default(),
            stubs: Arc::default(),
            ttl: DEFAULT_TTL,
            called: Trie::default(),
            serial: 1,
        }
    }
}

/// The published names, shared between who changes them and who answers. Clones are the same
/// names.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    current: ArcSwap<Snapshot>,
    /// Held by who changes anything.
    members: Mutex<Members>,
}

/// A member's names, all but published.
#[derive(Debug)]
pub struct Prepared {
    network: NetworkKey,
    member: Arc<Member>,
    /// What was known when this was made, and what would be.
    base: Arc<Snapshot>,
    next: Snapshot,
}

impl Names {
    /// No networks, no names, the domain [`DEFAULT_DOMAIN`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the domain that stands above the networks' names: `web.app.<domain>`.
    pub fn set_domain(&self, domain: &str) {
        self.change(|next, _| next.domain = text(domain));
    }

    /// Sets how many seconds an answer of ours may be kept.
    pub fn set_ttl(&self, ttl: u32) {
        self.change(|next, _| next.ttl = ttl);
    }

    /// Sets the domains that are asked of servers of their own, whichever network asks.
    pub fn set_stubs(&self, stubs: Vec<Stub>) {
        let stubs = stubs.into_iter().map(Stub::normal).collect();
        self.change(|next, _| next.stubs = stubs);
    }

    /// Makes a network known, or changes what is known about it. Its members stay.
    pub fn network_up(&self, key: &str, mut zone: Zone) {
        zone.stubs = zone.stubs.into_iter().map(Stub::normal).collect();
        self.change(|next, _| {
            next.uncall(key);
            let name = Some(text(&zone.name)).filter(|name| !name.is_empty());
            if let Some(name) = &name {
                let others = next.called.get(name).map_or(&[][..], |keys| keys);
                let keys = others.iter().cloned().chain([key.into()]).collect();
                next.called.insert_mut(name.clone(), keys);
            }
            let network = next.network_mut(key);
            network.name = name;
            network.zone = Some(Arc::new(zone));
        });
    }

    /// Forgets a network with all its members. An unknown one is forgotten already.
    pub fn network_down(&self, key: &str) {
        self.change(|next, members| {
            next.uncall(key);
            next.networks.remove_mut(key);
            for member in members.remove_all(key) {
                next.forget_servers(&member);
                next.leave(&member.container, key);
            }
        });
    }

    /// Publishes an endpoint's names on a network, in place of what the same endpoint published
    /// there before. Visible to every query that is read after this returns.
    pub fn publish(&self, network: &str, member: Member) {
        self.publish_prepared(self.prepare(network, member));
    }

    /// Makes what [`Names::publish`] would make visible, and shows it to nobody yet.
    pub fn prepare(&self, network: &str, member: Member) -> Prepared {
        let (members, member) = (self.members(), Arc::new(member));
        let base = self.load();
        let known = members.get(network, &member.endpoint).cloned();
        drop(members);
        let mut next = Snapshot::clone(&base);
        if let Some(known) = known {
            next.retract(network, &known);
        }
        next.publish(network, Arc::clone(&member));
        next.serial = next.serial.wrapping_add(1);
        Prepared { network: network.into(), member, base, next }
    }

    /// Publishes what was prepared, as [`Names::publish`] does: at once where nothing else has
    /// changed since, made again where something has.
    pub fn publish_prepared(&self, prepared: Prepared) {
        let Prepared { network, member, base, next } = prepared;
        let mut members = self.members();
        if Arc::ptr_eq(&base, &self.0.current.load()) {
            self.0.current.store(Arc::new(next));
            members.insert(&network, member);
        } else {
            drop(members);
            self.change(|next, members| next.replace(members, &network, member));
        }
    }

    /// Takes an endpoint's names back. What is not published is retracted already.
    pub fn retract(&self, network: &str, endpoint: &str) {
        self.change(|next, members| next.remove(members, network, endpoint));
    }

    /// Many changes, each on the network that it comes with, seen together. Those that change
    /// nothing cost next to nothing.
    pub fn change_all<'a>(&self, changes: impl IntoIterator<Item = (&'a str, Change<'a>)>) {
        self.change(|next, members| {
            for (network, change) in changes {
                match change {
                    Change::Publish(member) => {
                        if members.get(network, &member.endpoint) != Some(&member) {
                            next.replace(members, network, member);
                        }
                    }
                    Change::Retract(endpoint) => next.remove(members, network, endpoint),
                }
            }
        });
    }

    /// What is known now.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// As [`load`](Self::load), for a look that lasts one packet.
    pub(crate) fn peek(&self) -> Guard<Arc<Snapshot>> {
        self.0.current.load()
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot, &mut Members)) {
        let mut members = self.members();
        let mut next = Snapshot::clone(&self.0.current.load());
        change(&mut next, &mut members);
        next.serial = next.serial.wrapping_add(1);
        self.0.current.store(Arc::new(next));
    }
}

impl Snapshot {
    fn network_mut(&mut self, key: &str) -> &mut Network {
        if !self.networks.contains_key(key) {
            self.networks.insert_mut(key.into(), Network::default());
        }
        self.networks.get_mut(key).expect("the network was put there when it was missing")
    }

    /// Forgets a network's name, which others may have as well.
    fn uncall(&mut self, key: &str) {
        let name = self.networks.get(key).and_then(|network| network.name.clone());
        let Some(name) = name else { return };
        let Some(keys) = self.called.get(&name) else { return };
        let others: Arc<[NetworkKey]> =
            keys.iter().filter(|other| &***other != key).cloned().collect();
        if others.is_empty() {
            self.called.remove_mut(&name);
        } else {
            self.called.insert_mut(name, others);
        }
    }

    /// Puts a member in the place of what its endpoint published before.
    fn replace(&mut self, members: &mut Members, key: &str, member: Arc<Member>) {
        if let Some(known) = members.remove(key, &member.endpoint) {
            self.retract(key, &known);
        }
        members.insert(key, Arc::clone(&member));
        self.publish(key, member);
    }

    /// Takes away what an endpoint has published.
    fn remove(&mut self, members: &mut Members, key: &str, endpoint: &str) {
        let Some(member) = members.remove(key, endpoint) else { return };
        self.retract(key, &member);
        let unknown = self.networks.get(key).is_some_and(|network| network.zone.is_none());
        if unknown && members.is_empty(key) {
            self.networks.remove_mut(key);
        }
    }

    fn publish(&mut self, key: &str, member: Arc<Member>) {
        let network = self.network_mut(key);
        for &address in &*member.addresses {
            network.addresses.insert_mut(address, Arc::clone(&member));
        }
        for name in member.names.iter().map(|name| text(name)).filter(|name| !name.is_empty()) {
            let names = network.names_mut(member.away);
            let mut bearers = names.get(&name).cloned().unwrap_or_default();
            bearers.insert_mut(Arc::clone(&member));
            names.insert_mut(name, bearers);
        }
        if !member.servers.is_empty() {
            self.servers.insert_mut((&*member.container).into(), Arc::clone(&member));
        }
        self.join(&member.container, key);
    }

    fn retract(&mut self, key: &str, member: &Member) {
        let (network, endpoint) = (self.network_mut(key), &*member.endpoint);
        for address in &*member.addresses {
            // Who took the address over since must keep it.
            if network.addresses.get(address).is_some_and(|holder| &*holder.endpoint == endpoint) {
                network.addresses.remove_mut(address);
            }
        }
        for name in &*member.names {
            let name = text(name);
            let names = network.names_mut(member.away);
            let Some(mut bearers) = names.get(&name).cloned() else { continue };
            bearers.remove_mut(endpoint);
            if bearers.is_empty() {
                names.remove_mut(&name);
            } else {
                names.insert_mut(name, bearers);
            }
        }
        self.forget_servers(member);
        self.leave(&member.container, key);
    }

    /// Forgets the servers that a container asked for, when this is the endpoint that said so.
    fn forget_servers(&mut self, member: &Member) {
        let said = |by: &Arc<Member>| by.endpoint == member.endpoint;
        if !member.servers.is_empty() && self.servers.get(&*member.container).is_some_and(said) {
            self.servers.remove_mut(&*member.container);
        }
    }

    fn join(&mut self, container: &str, network: &str) {
        if container.is_empty() {
            return;
        }
        let mut attachments = self.attachments(container).to_vec();
        match attachments.iter_mut().find(|(key, _)| &**key == network) {
            Some((_, endpoints)) => *endpoints += 1,
            None => {
                let known = self.networks.get_key(network).cloned();
                attachments.push((known.unwrap_or_else(|| network.into()), 1));
            }
        }
        self.containers.insert_mut(container.into(), Attachments::of(attachments));
    }

    fn leave(&mut self, container: &str, network: &str) {
        if container.is_empty() {
            return;
        }
        let mut attachments = self.attachments(container).to_vec();
        if let Some((_, endpoints)) = attachments.iter_mut().find(|(key, _)| &**key == network) {
            *endpoints -= 1;
        }
        attachments.retain(|(_, endpoints)| *endpoints > 0);
        if attachments.is_empty() {
            self.containers.remove_mut(container);
        } else {
            self.containers.insert_mut(container.into(), Attachments::of(attachments));
        }
    }

    /// The network that has an address of one of its subnets.
    pub(crate) fn network_of(&self, address: IpAddr) -> Option<&NetworkKey> {
        let has = |network: &Network| network.zone.as_deref().is_some_and(|zone| zone.has(address));
        self.networks.iter().find(|(_, network)| has(network)).map(|(key, _)| key)
    }

    pub(crate) fn attachments(&self, container: &str) -> &[(NetworkKey, usize)] {
        self.containers.get(container).map_or(&[], Attachments::all)
    }
}

/// A name as text: lower case, without the final dot.
pub(crate) fn text(name: &str) -> Text {
    name.trim_end_matches('.').to_ascii_lowercase().as_bytes().into()
}

#[cfg(test)]
mod tests;
