//! Where the resolver listens and whom it knows: netd's side of the `dns` crate.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use cnm::{EndpointId, NetworkId, endpoint::Endpoint, network::Network};
use socket2::{Domain, Socket, Type};

use crate::{cluster::Remote, config::Config, netd::Netd};

/// The port that resolvers are asked on (RFC 1035, section 4.2).
const PORT: u16 = 53;

/// How long a forwarded question may take before the asker is told that it failed.
const FORWARD_DEADLINE: Duration = Duration::from_secs(4);

/// The resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    names: dns::Names,
    server: dns::Server,
}

impl Resolver {
    /// A resolver that listens nowhere yet.
    pub(crate) fn start(config: &Config) -> Result<Self, dns::Error> {
        let upstreams = if config.dns_upstreams.is_empty() {
            dns::Upstreams::ResolvConf(PathBuf::from("/etc/resolv.conf"))
        } else {
            dns::Upstreams::Fixed(config.dns_upstreams.clone())
        };
        let options = dns::Options {
            upstreams,
            timeout: FORWARD_DEADLINE,
            domain: config.dns_domain.clone(),
        };
        let names = dns::Names::new();
        let server = dns::Server::start(names.clone(), options)?;
        Ok(Self { names, server })
    }

    fn network_up(&self, network: &Network) {
        let zone = dns::Zone {
            name: network.name.to_string(),
            forward: !network.internal,
            upstreams: Vec::new(),
            subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
            gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
        };
        self.names.network_up(network.id.as_str(), zone);
    }

    /// Forgets a network and closes its sockets.
    pub(crate) fn network_down(&self, id: &NetworkId) {
        self.server.stop_listening(id.as_str());
        self.names.network_down(id.as_str());
    }

    /// Makes an endpoint's names resolve, from when this returns.
    pub(crate) fn publish(&self, endpoint: &Endpoint) {
        let container = &endpoint.container;
        let names = names_of(endpoint);
        let member = dns::Member {
            endpoint: endpoint.id.to_string(),
            container: container.id.to_string(),
            names,
            addresses: endpoint.addresses.iter().map(|address| address.ip()).collect(),
        };
        self.names.publish(endpoint.network.as_str(), member);
    }

    /// Makes an endpoint's names resolve no more, from when this returns.
    pub(crate) fn retract(&self, endpoint: &Endpoint) {
        self.names.retract(endpoint.network.as_str(), endpoint.id.as_str());
    }

    /// As [`Resolver::publish`] and [`Resolver::retract`], for endpoints on other hosts: those
    /// resolve that are there and of which `resolves` holds.
    pub(crate) fn publish_remotes<'a>(
        &self,
        remotes: impl Iterator<Item = (&'a NetworkId, &'a str, Option<&'a Remote>)>,
        resolves: impl Fn(&Remote) -> bool,
    ) {
        self.names.change_all(remotes.map(|(network, endpoint, remote)| {
            let change = match remote.filter(|remote| resolves(remote)) {
                Some(remote) => dns::Change::Publish(remote.member.clone()),
                None => dns::Change::Retract(endpoint),
            };
            (network.as_str(), change)
        }));
    }

    /// As [`Resolver::retract`], for an endpoint on another host.
    pub(crate) fn retract_remote(&self, network: &NetworkId, endpoint: &EndpointId) {
        self.names.retract(network.as_str(), endpoint.as_str());
    }

    /// What the resolver has counted.
    pub(crate) fn counters(&self) -> dns::Counters {
        self.server.counters()
    }
}

/// Everything that an endpoint answers to.
pub(crate) fn names_of(endpoint: &Endpoint) -> Vec<String> {
    let container = &endpoint.container;
    let mut names: Vec<String> = Vec::new();
    names.extend(container.name.iter().map(ToString::to_string));
    names.extend(container.hostname.iter().map(ToString::to_string));
    names.extend(endpoint.aliases.iter().map(ToString::to_string));
    names.push(container.id.short().to_owned());
    names
}

impl Netd {
    /// Makes a network's names resolve for its members. Where its gateway cannot be listened on,
    /// the network works without, and the status says so.
    pub(crate) fn resolve_on(self: &Rc<Self>, network: &Network) {
        self.resolver.server.stop_listening(network.id.as_str());
        if let Some(entry) = self.registry.borrow_mut().network_mut(&network.id) {
            entry.dns.clear();
        }
        self.problems.borrow_mut().remove(&about(network));
        self.resolve_also(network);
    }

    /// As [`Netd::resolve_on`], for a network that has changed: where it is listened already, that
    /// goes on.
    pub(crate) fn resolve_also(self: &Rc<Self>, network: &Network) {
        self.resolver.network_up(network);
        let before = self.registry.borrow().network(&network.id).map(|entry| entry.dns.clone());
        let mut listening = before.unwrap_or_default();
        let gateways = network.subnets.iter().filter_map(|subnet| subnet.gateway);
        for gateway in gateways.filter(|_| network.link.is_some()) {
            if listening.contains(&gateway) {
                continue;
            }
            let listened = listen(gateway).map_err(|error| error.to_string()).and_then(|sockets| {
                let (udp, tcp) = sockets;
                let id = network.id.as_str();
                self.resolver.server.listen(id, udp, tcp).map_err(|error| error.to_string())
            });
            match listened {
                Ok(()) => listening.push(gateway),
                Err(error) => {
                    let problem = format!(
                        "names do not resolve on network {}: cannot listen on {gateway} port \
                         {PORT}: {error}",
                        network.name
                    );
                    tracing::warn!(network = %network.name, "{problem}");
                    self.problems.borrow_mut().insert(about(network), problem);
                }
            }
        }
        if let Some(entry) = self.registry.borrow_mut().network_mut(&network.id) {
            entry.dns = listening;
        }
    }
}

/// Under what a network's trouble with names is known.
fn about(network: &Network) -> String {
    format!("dns {}", network.id)
}

/// Sockets on a gateway's address, which need not be there yet.
fn listen(gateway: IpAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let address = SocketAddr::new(gateway, PORT);
    let bind = |kind: Type| {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        if gateway.is_ipv6() {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
        if kind == Type::STREAM {
            socket.set_reuse_address(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        std::io::Result::Ok(socket)
    };
    let udp = bind(Type::DGRAM)?;
    let tcp = bind(Type::STREAM)?;
    tcp.listen(128)?;
    Ok((udp.into(), tcp.into()))
}
