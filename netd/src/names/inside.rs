//! The resolver inside a container: where no gateway of a network is on this host, or where that is
//! asked for. It listens at 127.0.0.11 there, on any port, and the driver leads port 53 of that
//! address to it, so that the container may have a server of its own on port 53.
//!
//! A socket keeps its namespace alive. So what leads there, a process or a file, is looked at, and
//! the sockets are closed when nothing does any more: only then does the kernel say that it is gone.
//! Who attached by a descriptor alone has named nothing that leads there: the first process in it
//! does then, and until there is one nobody can ask.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use cnm::{
    ContainerId, EndpointId, Error, Result,
    endpoint::Endpoint,
    network::Network,
    options::{DNS_PORT, is_delivered_on_host},
};
use dns::At;

use super::{
    Resolver,
    given::{self, Place},
    kept_name, sockets,
};
use crate::{drivers::Session, netd::Netd};

mod door;
mod look;

pub(super) use door::Door;
use door::paths;

/// Where a container asks, as it does in Docker's.
pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Whose the listener inside a container is.
fn at(container: &ContainerId) -> At {
    At::Container(Arc::from(container.as_str()))
}

/// Under what a container's trouble with names is known.
fn about(container: &ContainerId) -> String {
    format!("dns in {container}")
}

fn name_of(container: &ContainerId) -> String {
    kept_name(&format!("in-{container}"))
}

impl Resolver {
    /// What leads to the containers of endpoints in which it listens, by endpoint, for a driver that
    /// has something to keep there.
    pub(crate) fn ways_inside(&self, endpoints: &[Endpoint]) -> BTreeMap<EndpointId, String> {
        let doors = self.doors.borrow();
        let inside = endpoints.iter().filter(|one| DNS_PORT.port(&one.options).is_some());
        let ways = inside
            .filter_map(|one| Some((one.id.clone(), doors.get(&one.container.id)?.path.clone())));
        ways.collect()
    }
}

impl Netd {
    /// Has an endpoint's container ask inside itself, where that is wanted or it could ask nowhere
    /// else. The endpoint says at which port from then on; nobody listens there yet, since that has
    /// to wait until the driver has set loopback up: a socket that was bound before has no address
    /// to answer from (`inet_addr_type`, net/ipv4/fib_frontend.c).
    ///
    /// # Errors
    /// `unsupported` when it is asked for and the driver does not lead there.
    pub(crate) fn plan_inside(
        &self,
        driver: &Session,
        network: &Network,
        endpoint: &mut Endpoint,
        netns: &File,
    ) -> Result<()> {
        // The namespace is the host's yet, and who moves the interface answers inside by itself.
        if is_delivered_on_host(&endpoint.options) {
            return Ok(());
        }
        // Both were checked before.
        let said = given::place(&endpoint.options, &network.options).unwrap_or_default();
        match said {
            Some(Place::Gateway) => return Ok(()),
            None if !driver.leads_inside() => return Ok(()),
            // A container that asks inside goes on doing so, whichever network it is taken off.
            None if !endpoint.dns.is_empty() && !self.is_inside(&endpoint.container.id) => {
                return Ok(());
            }
            Some(Place::Inside) if !driver.leads_inside() => {
                return Err(Error::unsupported(format_args!(
                    "the driver {} of network {} has no resolver inside a container: leave \
                     resolver=inside out",
                    network.driver, network.name
                ))
                .with("network", network.id.as_str()));
            }
            _ => {}
        }
        let container = &endpoint.container;
        let there = self.resolver.server.addresses(&at(&container.id));
        let port = match there.first() {
            Some(address) => Ok(address.port()),
            None => match self.awaited_at(&container.id) {
                Some(port) => Ok(port),
                None => sockets::free_inside(netns, ADDRESS),
            },
        };
        match port {
            Ok(port) => {
                endpoint.options.insert(DNS_PORT.names[0].to_owned(), port.to_string());
                endpoint.dns = vec![ADDRESS];
            }
            // It works without names.
            Err(error) => {
                let container = container.label();
                tracing::warn!(container, %error, "names do not resolve inside the container");
            }
        }
        Ok(())
    }

    /// Listens inside an endpoint's container, where that was planned.
    pub(crate) fn resolve_inside(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        netns: &File,
        path: Option<&str>,
    ) {
        let container = &endpoint.container;
        let Some(port) = DNS_PORT.port(&endpoint.options) else { return };
        if !self.resolver.server.addresses(&at(&container.id)).is_empty() {
            return;
        }
        let known = Door::to(netns, paths(path, container.pid));
        let Some(door) = known.or_else(|| Door::through_a_process_in(netns)) else {
            self.await_door(&container.id);
            return;
        };
        if let Err(why) = self.listen_inside(&container.id, netns, port, door) {
            self.no_names_inside(endpoint, &why);
        }
    }

    fn no_names_inside(&self, endpoint: &Endpoint, why: &str) {
        let container = endpoint.container.label();
        let problem =
            format!("names do not resolve inside {container}: {why}; detach and attach it again");
        tracing::warn!("{problem}");
        self.problems.borrow_mut().insert(about(&endpoint.container.id), problem);
    }

    /// Listens at a port in a container's namespace.
    fn listen_inside(
        self: &Rc<Self>,
        container: &ContainerId,
        netns: &File,
        port: u16,
        door: Door,
    ) -> Result<(), String> {
        let address = SocketAddr::new(ADDRESS, port);
        let (udp, tcp) = sockets::open_inside(netns, address, &name_of(container))
            .map_err(|error| format!("cannot listen at {address} there: {error}"))?;
        let listened = self.resolver.server.listen(at(container), udp, tcp);
        listened.map_err(|error| error.to_string())?;
        self.look_after(container, door);
        Ok(())
    }

    /// Whether a container asks inside itself, or is to as soon as something leads there.
    fn is_inside(&self, container: &ContainerId) -> bool {
        self.awaited_at(container).is_some()
    }

    /// The port at which it is to listen in a container to which nothing leads yet.
    fn awaited_at(&self, container: &ContainerId) -> Option<u16> {
        let registry = self.registry.borrow();
        let mut endpoints = registry.endpoints_of(container);
        endpoints.find_map(|endpoint| DNS_PORT.port(&endpoint.options))
    }

    /// Gives what led there.
    fn close_inside(&self, container: &ContainerId) -> Option<String> {
        let door = self.resolver.doors.borrow_mut().remove(container);
        self.resolver.awaited.borrow_mut().remove(container);
        self.problems.borrow_mut().remove(&about(container));
        self.resolver.server.stop_listening(&at(container));
        sockets::forget(&name_of(container));
        door.map(|door| door.path)
    }

    /// Closes the listener inside a container with the last endpoint that has one. Gives what led
    /// there then.
    pub(crate) fn resolve_inside_no_more(&self, endpoint: &Endpoint) -> Option<String> {
        let last = self.is_last_inside(endpoint);
        if last { self.close_inside(&endpoint.container.id) } else { None }
    }

    /// Whether an endpoint's container asks inside itself for the sake of this endpoint alone.
    pub(crate) fn is_last_inside(&self, endpoint: &Endpoint) -> bool {
        let asks = |endpoint: &Endpoint| DNS_PORT.port(&endpoint.options).is_some();
        let registry = self.registry.borrow();
        let mut others =
            registry.endpoints_of(&endpoint.container.id).filter(|other| other.id != endpoint.id);
        asks(endpoint) && !others.any(asks)
    }

    /// Where the netd before this one listened inside containers, and at which port.
    fn known_inside(&self) -> Vec<(Endpoint, SocketAddr)> {
        let registry = self.registry.borrow();
        let mut known: Vec<(Endpoint, SocketAddr)> = Vec::new();
        for endpoint in registry.endpoints() {
            let Some(port) = DNS_PORT.port(&endpoint.options) else { continue };
            if known.iter().all(|(other, _)| other.container.id != endpoint.container.id) {
                known.push((Endpoint::clone(endpoint), SocketAddr::new(ADDRESS, port)));
            }
        }
        known
    }

    /// Goes on answering at the sockets inside containers that were kept.
    pub(super) fn take_over_inside(&self) {
        for (endpoint, address) in self.known_inside() {
            let container = &endpoint.container.id;
            let Some((udp, tcp)) = self.resolver.kept.take(address, &name_of(container)) else {
                continue;
            };
            if let Err(error) = self.resolver.server.listen(at(container), udp, tcp) {
                tracing::warn!(container = container.short(), %error, "not taken over");
            }
        }
    }

    /// Listens inside those containers that are there still, as the netd before this one did.
    pub(crate) async fn resume_inside(self: &Rc<Self>) {
        let mut ways = None;
        for (endpoint, address) in self.known_inside() {
            let container = &endpoint.container.id;
            let path = {
                let registry = self.registry.borrow();
                registry.sandbox(container).and_then(|entry| entry.record.sandbox.path.clone())
            };
            let mut found = None;
            for path in paths(path.as_deref(), endpoint.container.pid) {
                let Ok(netns) = File::open(&path) else { continue };
                let known = endpoint.netns.and_then(|netns| netns.nsid);
                if known.is_none() || self.host.nsid(&netns).await.ok() == known {
                    found = Door::to(&netns, [path]).map(|door| (netns, door));
                    break;
                }
            }
            if found.is_none() {
                if ways.is_none() {
                    ways = Some(self.ways_by_id().await);
                }
                if let Some(ways) = &ways {
                    found = self.find_process(&endpoint, ways).await;
                }
            }
            let Some((netns, door)) = found else {
                self.close_inside(container);
                self.await_door(container);
                continue;
            };
            if !self.resolver.server.addresses(&at(container)).is_empty() {
                self.look_after(container, door);
            } else if let Err(why) = self.listen_inside(container, &netns, address.port(), door) {
                self.no_names_inside(&endpoint, &why);
            }
        }
    }
}
