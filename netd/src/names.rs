//! Where the resolver listens and whom it knows: netd's side of the `dns` crate.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use cnm::{
    ContainerId, EndpointId, NetworkId, driver::NetworkUp, endpoint::Endpoint, network::Network,
    options::DNS_PORT,
};
use dns::At;

use crate::{cluster::Remote, config::Config, netd::Netd, notify};

mod ask;
pub(crate) mod called;
mod fixed;
pub(crate) mod given;
mod guests;
pub(crate) mod hook;
mod inside;
pub(crate) mod outside;
mod sockets;

use sockets::Kept;

/// The port that resolvers are asked on (RFC 1035, section 4.2).
pub(crate) const PORT: u16 = 53;

/// How long a forwarded question may take before the asker is told that it failed.
const FORWARD_DEADLINE: Duration = Duration::from_secs(4);

/// What the host's own address is called on a network that has no gateway here; and the driver of
/// the host's own namespace.
const HOST: &str = "host";

/// How long the end of netd waits for answers from elsewhere. Who has not got one by then is told
/// that it failed, and new questions have waited as long for the next netd.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long it is told that too much was asked of others.
const LATELY: Duration = Duration::from_secs(60);

/// How many names of other hosts change together: what answers go by until then and from then on is
/// there twice for a moment, and pieces of memory between what stays are hard to give back.
const AT_ONCE: usize = 128;

/// The resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    names: dns::Names,
    server: dns::Server,
    kept: Kept,
    /// What leads to the containers in which it listens, and whether that is looked at.
    doors: RefCell<BTreeMap<ContainerId, inside::Door>>,
    /// Containers in which it is to listen as soon as something leads there.
    awaited: RefCell<BTreeSet<ContainerId>>,
    looking: Cell<bool>,
    /// The host's programs are told no more to ask here.
    unhooked: Cell<bool>,
}

impl Resolver {
    /// A resolver that listens nowhere yet, but has what the netd before this one listened on.
    pub(crate) fn start(config: &Config, inherited: notify::Sockets) -> Result<Self, dns::Error> {
        dns::check_name("ns", &[&config.dns_domain])?;
        let upstreams = if config.dns_upstreams.is_empty() {
            dns::Upstreams::ResolvConf(PathBuf::from("/etc/resolv.conf"))
        } else {
            dns::Upstreams::Fixed(config.dns_upstreams.clone())
        };
        let options = dns::Options {
            upstreams,
            timeout: FORWARD_DEADLINE,
            domain: config.dns_domain.clone(),
            ttl: config.dns_ttl,
            stubs: config.dns_stubs.clone(),
            log: config.dns_log,
            guests: guests::is_near,
            ..dns::Options::default()
        };
        let names = dns::Names::new();
        let server = dns::Server::start(names.clone(), options)?;
        let (doors, awaited, looking, unhooked) = Default::default();
        Ok(Self { names, server, kept: Kept::new(inherited), doors, awaited, looking, unhooked })
    }

    fn network_up(&self, network: &Network) {
        // Both were checked when they were given.
        let upstreams = given::upstreams(&network.options).unwrap_or_default();
        let stubs = given::stubs(&network.options).unwrap_or_default();
        let gateways: Vec<IpAddr> =
            network.subnets.iter().filter_map(|subnet| subnet.gateway).collect();
        let hosts = match network.link {
            Some(_) => gateways.clone(),
            None => {
                network.subnets.iter().filter_map(|subnet| subnet.aux.get(HOST)).copied().collect()
            }
        };
        let zone = dns::Zone {
            name: network.name.to_string(),
            forward: !network.internal,
            upstreams,
            subnets: outside::own_zones(network).collect(),
            gateways,
            hosts,
            stubs,
        };
        self.names.network_up(network.id.as_str(), zone);
    }

    /// Forgets a network and closes its sockets.
    pub(crate) fn network_down(&self, id: &NetworkId) {
        self.server.stop_listening(&at(id));
        sockets::forget(&kept_name(id.as_str()));
        self.names.network_down(id.as_str());
    }

    /// Makes an endpoint's names resolve, from when this returns.
    pub(crate) fn publish(&self, endpoint: &Endpoint) {
        self.publish_prepared(self.prepare(endpoint));
    }

    /// Does the work of [`Resolver::publish`] ahead of it.
    pub(crate) fn prepare(&self, endpoint: &Endpoint) -> dns::Prepared {
        let container = &endpoint.container;
        let names = names_of(endpoint);
        let options = &endpoint.options;
        let member = dns::Member {
            endpoint: endpoint.id.as_str().into(),
            container: container.id.as_str().into(),
            names: names.into_iter().map(String::into_boxed_str).collect(),
            addresses: endpoint.addresses.iter().map(|address| address.ip()).collect(),
            // Both were checked when they were given.
            ports: given::ports(endpoint).unwrap_or_default().into(),
            servers: given::upstreams(options).unwrap_or_default().into(),
            away: false,
        };
        self.names.prepare(endpoint.network.as_str(), member)
    }

    /// Makes names resolve that were prepared, from when this returns.
    pub(crate) fn publish_prepared(&self, prepared: dns::Prepared) {
        self.names.publish_prepared(prepared);
    }

    /// Makes an endpoint's names resolve no more, from when this returns.
    pub(crate) fn retract(&self, endpoint: &Endpoint) {
        self.names.retract(endpoint.network.as_str(), endpoint.id.as_str());
    }

    /// As [`Resolver::publish`] and [`Resolver::retract`], for endpoints on other hosts: those
    /// resolve that are there and of which `resolves` holds. Others that are there keep their names,
    /// which nobody is told.
    pub(crate) fn publish_remotes<'a>(
        &self,
        remotes: impl Iterator<Item = (&'a NetworkId, &'a str, Option<&'a Remote>)>,
        resolves: impl Fn(&Remote) -> bool,
    ) {
        let mut changes = remotes.map(|(network, endpoint, remote)| {
            let change = match remote {
                Some(remote) if resolves(remote) => dns::Change::Publish(remote.member.clone()),
                Some(remote) => dns::Change::Publish(remote.member.gone_away().into()),
                None => dns::Change::Retract(endpoint),
            };
            (network.as_str(), change)
        });
        loop {
            let some: Vec<_> = changes.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            self.names.change_all(some);
        }
    }

    /// As [`Resolver::retract`], for an endpoint on another host.
    pub(crate) fn retract_remote(&self, network: &NetworkId, endpoint: &EndpointId) {
        self.names.retract(network.as_str(), endpoint.as_str());
    }

    /// The resolver itself, for figures and questions about it.
    pub(crate) fn server(&self) -> &dns::Server {
        &self.server
    }

    /// That others cannot keep up with what is asked of them, if so it was a moment ago.
    pub(crate) fn pressed(&self) -> Option<String> {
        let pressure = self.server.pressure();
        pressure.last.filter(|last| last.elapsed() < LATELY)?;
        Some(format!(
            "{} questions for names of others are out, of {} that may be at a time, and {} have had \
             to wait: the servers that are asked do not keep up; name faster ones (dns_upstreams), or \
             see in the metrics (dns_upstream_failed) which fail",
            pressure.out, pressure.most, pressure.waited
        ))
    }
}

/// Everything that an endpoint answers to.
pub(crate) fn names_of(endpoint: &Endpoint) -> Vec<String> {
    let container = &endpoint.container;
    let mut names: Vec<String> = Vec::new();
    names.extend(container.name.iter().map(ToString::to_string));
    names.extend(container.hostname.iter().map(ToString::to_string));
    names.extend(endpoint.aliases.iter().map(ToString::to_string));
    names.extend(container.id.as_name().map(String::from));
    names
}

/// Whose the listener of a network is.
fn at(network: &NetworkId) -> At {
    At::Network(network.as_str().into())
}

/// The name under which the sockets of a network, or of something else, are kept over a restart.
fn kept_name(of: &str) -> String {
    format!("{}{of}", notify::DNS)
}

impl Netd {
    /// Answers for all names that are on record, before anything else is looked at: who asked while
    /// no netd ran has waited long enough.
    pub(crate) fn resolve_first(self: &Rc<Self>) {
        let networks: Vec<Network> =
            self.registry.borrow().networks().map(|entry| entry.network.clone()).collect();
        for network in &networks {
            self.resolver.network_up(network);
        }
        for endpoint in self.registry.borrow().endpoints() {
            self.resolver.publish(endpoint);
        }
        // Nobody is told that there is no such name before all names are there.
        for network in &networks {
            if !Self::is_shared(&network.driver) || self.is_up(&network.id) {
                // Their drivers are told of a change with everything else.
                self.listen_on(network);
            }
        }
        self.take_over_inside();
        self.resolve_at_fixed();
        self.resolver.kept.close();
    }

    /// What a driver is told of the resolver that is of no network.
    pub(crate) fn resolver_setting(&self, driver: &str) -> Option<(String, String)> {
        let address = self.config.dns_link_local.filter(|_| driver == HOST)?;
        Some(("resolver".to_owned(), address.to_string()))
    }

    /// Has nobody asked here any more, answers who has, and leaves the rest to the next netd.
    pub(crate) fn finish_resolving(&self) {
        self.unhook();
        self.resolver.server.finish(FAREWELL);
    }

    /// Makes a network's names resolve for nobody any more.
    pub(crate) fn resolve_no_more(&self, network: &NetworkId) {
        self.resolver.network_down(network);
        self.problems.borrow_mut().remove(&about(network));
    }

    /// Makes a network's names resolve for its members. Where its gateway cannot be listened on,
    /// the network works without, and the status says so. Gives the network as it is from then on,
    /// where that has changed.
    pub(crate) async fn resolve_on(self: &Rc<Self>, network: &Network) -> Option<Network> {
        let network = self.listen_on(network)?;
        let told = match self.driver(&network.driver) {
            Ok(driver) => driver.call(&NetworkUp { network: network.clone() }).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            self.no_names(&network, &format!("nobody is led to its port there: {error}"));
        }
        Some(network)
    }

    /// Listens on a network's gateways: at the port of resolvers, or at another one where somebody
    /// has that, to which the network's driver then has to lead. All at the same.
    fn listen_on(&self, network: &Network) -> Option<Network> {
        self.resolver.network_up(network);
        self.problems.borrow_mut().remove(&about(&network.id));
        let gateways = network.subnets.iter().filter_map(|subnet| subnet.gateway);
        let wanted: Vec<IpAddr> = gateways.filter(|_| network.link.is_some()).collect();
        let there = self.resolver.server.addresses(&at(&network.id));
        let mut listening: Vec<IpAddr> = there.iter().map(SocketAddr::ip).collect();
        // A socket that is closed loses what waits in it: those that are wanted stay.
        if listening.iter().any(|address| !wanted.contains(address)) {
            self.resolver.server.stop_listening(&at(&network.id));
            listening.clear();
        }
        let known = DNS_PORT.port(&network.options);
        let usual = known.unwrap_or(self.config.dns_port);
        let mut port = there.first().map_or(usual, SocketAddr::port);
        for gateway in &wanted {
            if listening.contains(gateway) {
                continue;
            }
            match self.resolver.kept.open(SocketAddr::new(*gateway, port), &kept(network)) {
                Ok(pair) => self.listen_with(network, *gateway, pair, &mut listening),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    port = self.listen_elsewhere(network, &wanted, &mut listening).unwrap_or(port);
                    break;
                }
                Err(error) => self.cannot_listen(network, *gateway, port, &error),
            }
        }
        let mut registry = self.registry.borrow_mut();
        let entry = registry.network_mut(&network.id)?;
        entry.dns = listening;
        if wanted.is_empty() || port == known.unwrap_or(PORT) {
            return None;
        }
        let mut network = network.clone();
        network.options.insert(DNS_PORT.names[0].to_owned(), port.to_string());
        entry.network.options.clone_from(&network.options);
        if !Self::is_shared(&network.driver)
            && let Err(error) = self.stores.put_network(&network)
        {
            tracing::warn!(network = %network.name, %error, "the resolver's port is not on record");
        }
        Some(network)
    }

    /// Listens at another port of the gateways, any that is free; gives it.
    fn listen_elsewhere(
        &self,
        network: &Network,
        wanted: &[IpAddr],
        listening: &mut Vec<IpAddr>,
    ) -> Option<u16> {
        self.resolver.server.stop_listening(&at(&network.id));
        sockets::forget(&kept(network));
        listening.clear();
        match sockets::open_any(wanted, &kept(network)) {
            Ok((port, pairs)) => {
                for (gateway, pair) in wanted.iter().zip(pairs) {
                    self.listen_with(network, *gateway, pair, listening);
                }
                tracing::info!(network = %network.name, port, "port 53 is taken: another one is it");
                Some(port)
            }
            Err(error) => {
                self.cannot_listen(network, *wanted.first()?, 0, &error);
                None
            }
        }
    }

    fn listen_with(
        &self,
        network: &Network,
        gateway: IpAddr,
        (udp, tcp): sockets::Pair,
        listening: &mut Vec<IpAddr>,
    ) {
        match self.resolver.server.listen(at(&network.id), udp, tcp) {
            Ok(()) => listening.push(gateway),
            Err(error) => self.no_names(network, &error.to_string()),
        }
    }

    fn cannot_listen(&self, network: &Network, gateway: IpAddr, port: u16, error: &io::Error) {
        let port = if port == 0 { "any port".to_owned() } else { format!("port {port}") };
        self.no_names(network, &format!("cannot listen on {gateway} {port}: {error}"));
    }

    fn no_names(&self, network: &Network, why: &str) {
        let problem = format!("names do not resolve on network {}: {why}", network.name);
        tracing::warn!(network = %network.name, "{problem}");
        self.problems.borrow_mut().insert(about(&network.id), problem);
    }
}

/// Under what name a network's sockets are kept.
fn kept(network: &Network) -> String {
    kept_name(network.id.as_str())
}

/// Under what a network's trouble with names is known.
fn about(network: &NetworkId) -> String {
    format!("dns {network}")
}
