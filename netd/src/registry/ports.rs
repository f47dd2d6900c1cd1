//! Which port of the host belongs to whom.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use cnm::{
    ContainerId, EndpointId, Error, Kind, Result,
    endpoint::{Port, Protocol},
};
use socket2::{Domain, Socket, Type};

mod runtime;

/// Where free ports are looked for when a request leaves the choice: what the kernel itself gives
/// to clients (`ip_local_port_range`, ip(7)).
const FREE: std::ops::RangeInclusive<u16> = 32768..=60999;

/// Who holds a port, and on which of the host's addresses; all of them when it is none.
type Holder = (Option<IpAddr>, EndpointId);

/// The port that netd's own resolver listens on.
const DNS: u16 = 53;

/// Who asks for ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taker<'a> {
    /// The endpoint that is to have them.
    pub(crate) endpoint: &'a EndpointId,
    /// Its container.
    pub(crate) container: &'a ContainerId,
    /// The container's other endpoints. A runtime asks for a container's ports on each of its
    /// networks: they lead to it through the first one, and through the next when that is gone.
    pub(crate) others: &'a [EndpointId],
}

/// The ports that endpoints hold, each by those of one container, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: HashMap<(Protocol, u16), Vec<Holder>>,
    next: u16,
}

impl Ports {
    /// Takes all of `ports` for an endpoint, or none; a port 0 becomes one that is free.
    ///
    /// # Errors
    /// `exists` with the holder's id under `endpoint` when another container has one, `exists` when
    /// a process of the host has, `exhausted` when there is none left to choose.
    pub(crate) fn take(&mut self, taker: Taker<'_>, ports: &mut [Port]) -> Result<()> {
        for at in 0..ports.len() {
            if let Err(error) = self.take_one(taker, &mut ports[at]) {
                self.release(taker.endpoint, &ports[..at]);
                return Err(error);
            }
        }
        Ok(())
    }

    fn take_one(&mut self, taker: Taker<'_>, port: &mut Port) -> Result<()> {
        if port.host_port == 0 {
            port.host_port = self.choose(taker, port)?;
        } else {
            self.check(taker, port)?;
        }
        self.put(taker.endpoint, port);
        Ok(())
    }

    /// Whether it is this endpoint through which a port that it holds leads to its container.
    pub(crate) fn leads_through(&self, endpoint: &EndpointId, port: &Port) -> bool {
        self.holder(port) == Some(endpoint)
    }

    /// Takes ports as they were stored.
    pub(crate) fn restore(&mut self, endpoint: &EndpointId, ports: &[Port]) {
        for port in ports {
            self.put(endpoint, port);
        }
    }

    /// Gives ports back; those of others stay theirs.
    pub(crate) fn release(&mut self, endpoint: &EndpointId, ports: &[Port]) {
        for port in ports {
            let key = (port.protocol, port.host_port);
            if let Some(holders) = self.held.get_mut(&key) {
                holders.retain(|(ip, holder)| holder != endpoint || *ip != port.host_ip);
                if holders.is_empty() {
                    self.held.remove(&key);
                }
            }
        }
    }

    fn put(&mut self, endpoint: &EndpointId, port: &Port) {
        let key = (port.protocol, port.host_port);
        self.held.entry(key).or_default().push((port.host_ip, endpoint.clone()));
    }

    fn holder(&self, port: &Port) -> Option<&EndpointId> {
        let holders = self.held.get(&(port.protocol, port.host_port))?;
        let meets =
            |ip: &Option<IpAddr>| ip.is_none() || port.host_ip.is_none() || *ip == port.host_ip;
        holders.iter().find(|(ip, _)| meets(ip)).map(|(_, holder)| holder)
    }

    fn check(&self, taker: Taker<'_>, port: &Port) -> Result<()> {
        let number = port.host_port;
        let taken = |whose: String| {
            Error::exists(format_args!(
                "port {number}/{} is already held by {whose}",
                port.protocol
            ))
            .with("port", number)
            .with("protocol", port.protocol.to_string())
        };
        if let Some(holder) = self.holder(port) {
            if taker.others.contains(holder) {
                return Ok(());
            }
            if holder == taker.endpoint {
                return Err(taken("the same request, which asks for it twice".into()));
            }
            return Err(
                taken(format!("endpoint {}", holder.short())).with("endpoint", holder.as_str())
            );
        }
        match bind(port) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                if runtime::holds(port, taker.container) {
                    return Ok(());
                }
                Err(taken(match (number, port.host_ip) {
                    (DNS, None) => "netd's own resolver on the networks' gateway addresses: \
                                    publish it on one address of the host"
                        .into(),
                    _ => "a process of the host".into(),
                }))
            }
            Err(error) => Err(Error::invalid(format_args!(
                "port {port} cannot be published on this host: {error}"
            ))
            .with("port", number)),
        }
    }

    fn choose(&mut self, taker: Taker<'_>, port: &Port) -> Result<u16> {
        for _ in FREE {
            self.next = if FREE.contains(&self.next) && self.next != *FREE.end() {
                self.next + 1
            } else {
                *FREE.start()
            };
            let wanted = Port { host_port: self.next, ..*port };
            if self.holder(&wanted).is_none() && self.check(taker, &wanted).is_ok() {
                return Ok(self.next);
            }
        }
        Err(Error::new(
            Kind::Exhausted,
            format_args!("no {} port of the host is free between {FREE:?}", port.protocol),
        ))
    }
}

/// Whether a process of the host listens there: a socket that may share with anything but a
/// listener is bound and dropped. It never listens itself.
fn bind(port: &Port) -> std::io::Result<()> {
    let ips = match port.host_ip {
        Some(ip) => vec![ip],
        None => vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
    };
    let kind = match port.protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    for ip in ips {
        let address = SocketAddr::new(ip, port.host_port);
        let socket = match Socket::new(Domain::for_address(address), kind, None) {
            Ok(socket) => socket,
            // A host without IPv6 has no IPv6 listeners.
            Err(_) if ip.is_ipv6() && port.host_ip.is_none() => continue,
            Err(error) => return Err(error),
        };
        if ip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if port.protocol == Protocol::Tcp {
            socket.set_reuse_address(true)?;
        }
        match socket.bind(&address.into()) {
            Err(error)
                if ip.is_ipv6()
                    && port.host_ip.is_none()
                    && error.kind() == std::io::ErrorKind::AddrNotAvailable => {}
            bound => bound?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
