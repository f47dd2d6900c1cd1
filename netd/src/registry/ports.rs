//! Which port of the host belongs to whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    process,
};

use cnm::{
    ContainerId, EndpointId, Error, Kind, Result,
    endpoint::{Port, Protocol},
};

use crate::{
    host::sockets::{self, Bound, Process},
    relay,
};

/// Where free ports are looked for when a request leaves the choice: what the kernel itself gives
/// to clients (`ip_local_port_range`, ip(7)).
const FREE: std::ops::RangeInclusive<u16> = 32768..=60999;

/// The port that netd's own resolver listens on.
const DNS: u16 = 53;

/// Ports in a row that an endpoint holds; which is the first of them is where it is kept.
#[derive(Clone, Debug)]
struct Hold {
    /// Of which of the host's addresses; all of them when it is none.
    ip: Option<IpAddr>,
    /// The last of them.
    last: u16,
    endpoint: EndpointId,
}

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
    /// What processes of the host hold, of the protocols that are asked for.
    pub(crate) bound: &'a [Bound],
}

/// The ports that endpoints hold, each by those of one container, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: BTreeMap<(Protocol, u16), Vec<Hold>>,
    /// The most ports in a row that anybody has held: one that has a port begins no further before.
    longest: u16,
    next: u16,
}

impl Ports {
    /// Takes all of `ports` for an endpoint, or none; a port 0 becomes one that is free. In whichever
    /// order they stand, one that may be another gives way to one that may not.
    ///
    /// # Errors
    /// `exists` with the holder's id under `endpoint` when another container has one, `exists` with
    /// its number under `pid` when a process of the host has, `exhausted` when there is none left
    /// to choose.
    pub(crate) fn take(&mut self, taker: Taker<'_>, ports: &mut [Port]) -> Result<()> {
        let mut order: Vec<usize> = (0..ports.len()).collect();
        order.sort_by_key(|at| freedom(&ports[*at]));
        for (taken, at) in order.iter().enumerate() {
            if let Err(error) = self.take_one(taker, &mut ports[*at]) {
                for at in &order[..taken] {
                    self.release(taker.endpoint, &ports[*at..=*at]);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn take_one(&mut self, taker: Taker<'_>, port: &mut Port) -> Result<()> {
        if let Some(last) = port.host_port_to.take() {
            port.host_port = self.choose_to(taker, port, last)?;
        } else if port.host_port == 0 {
            port.host_port = self.choose(taker, port)?;
        } else {
            self.check(taker, port)?;
        }
        self.put(taker.endpoint, port);
        Ok(())
    }

    /// Whether it is this endpoint through which a port that it holds leads to its container.
    pub(crate) fn leads_through(&self, endpoint: &EndpointId, port: &Port) -> bool {
        self.overlapping(port).next().is_some_and(|(_, hold)| hold.endpoint == *endpoint)
    }

    /// Whose the port is at which a process of the host has a socket.
    pub(crate) fn holder_at(&self, socket: &Bound) -> Option<&EndpointId> {
        let Bound { protocol, address, port, both, .. } = *socket;
        let host_ip = (!both).then_some(address);
        let there = Port {
            protocol,
            host_ip,
            host_port: port,
            host_port_to: None,
            container_port: port,
            count: 1,
        };
        self.holder(&there)
    }

    /// Whose a port is, or one of several in a row.
    pub(crate) fn holder(&self, port: &Port) -> Option<&EndpointId> {
        self.overlapping(port).next().map(|(_, hold)| &hold.endpoint)
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
            let last = *port.host_ports().end();
            if let Some(holds) = self.held.get_mut(&key) {
                holds.retain(|hold| {
                    hold.endpoint != *endpoint || hold.ip != port.host_ip || hold.last != last
                });
                if holds.is_empty() {
                    self.held.remove(&key);
                }
            }
        }
    }

    fn put(&mut self, endpoint: &EndpointId, port: &Port) {
        self.longest = self.longest.max(port.count);
        let (ip, last) = (port.host_ip, *port.host_ports().end());
        let holds = self.held.entry((port.protocol, port.host_port)).or_default();
        holds.push(Hold { ip, last, endpoint: endpoint.clone() });
    }

    /// What is held of the ports, with the first port of each.
    fn overlapping(&self, port: &Port) -> impl Iterator<Item = (u16, &Hold)> {
        let (protocol, ip) = (port.protocol, port.host_ip);
        let (first, last) = port.host_ports().into_inner();
        let from = first.saturating_sub(self.longest.saturating_sub(1));
        self.held
            .range((protocol, from)..=(protocol, last))
            .flat_map(|((_, at), holds)| holds.iter().map(|hold| (*at, hold)))
            .filter(move |(_, hold)| hold.last >= first && meet(hold.ip, ip))
    }

    fn check(&self, taker: Taker<'_>, port: &Port) -> Result<()> {
        let last = *port.host_ports().end();
        if let Some((first, hold)) = self.overlapping(port).next() {
            let at = first.max(port.host_port);
            if hold.endpoint == *taker.endpoint {
                return Err(taken(port, at, "the same request, which asks for it twice"));
            }
            let same = (first, hold.last) == (port.host_port, last);
            if taker.others.contains(&hold.endpoint) && same {
                return Ok(());
            }
            return Err(taken(port, at, &format!("endpoint {}", hold.endpoint.short()))
                .with("endpoint", hold.endpoint.as_str()));
        }
        check_bound(port, taker.bound, taker.container)
    }

    /// The first port from a port's own to `last` that nobody has.
    fn choose_to(&self, taker: Taker<'_>, port: &Port, last: u16) -> Result<u16> {
        let first = port.host_port;
        let mut why = None;
        for host_port in first..=last {
            match self.check(taker, &Port { host_port, ..*port }) {
                Ok(()) => return Ok(host_port),
                Err(error) => why = why.or(Some(error)),
            }
        }
        let protocol = port.protocol;
        let mut error =
            Error::exists(format_args!("no port is free from {first} to {last}/{protocol}"))
                .with("port", first)
                .with("protocol", protocol.to_string());
        if let Some(why) = why {
            error.message = format!("{}: {}", error.message, why.message);
            error.operands.extend(why.operands);
        }
        Err(error)
    }

    fn choose(&mut self, taker: Taker<'_>, port: &Port) -> Result<u16> {
        for _ in FREE {
            self.next = if FREE.contains(&self.next) && self.next != *FREE.end() {
                self.next + 1
            } else {
                *FREE.start()
            };
            let wanted = Port { host_port: self.next, ..*port };
            if FREE.contains(wanted.host_ports().end())
                && wanted.is_possible()
                && self.overlapping(&wanted).next().is_none()
                && !taker.bound.iter().any(|socket| socket.meets(&wanted))
            {
                self.next = *wanted.host_ports().end();
                return Ok(wanted.host_port);
            }
        }
        let what = match port.count {
            1 => format!("{} port of the host is", port.protocol),
            count => format!("{count} {} ports of the host in a row are", port.protocol),
        };
        Err(Error::new(Kind::Exhausted, format_args!("no {what} free between {FREE:?}")))
    }
}

/// How much of a choice there is of a port: the less, the sooner it is taken. Of those that may be one
/// of several, that whose last is the lowest goes first: each takes the first that is free, and so it
/// leaves the others what they need.
fn freedom(port: &Port) -> (u8, u16) {
    match port.host_port_to {
        Some(last) => (1, last),
        None if port.host_port == 0 => (2, 0),
        None => (0, 0),
    }
}

/// The protocols of ports.
pub(crate) fn protocols(ports: &[Port]) -> BTreeSet<Protocol> {
    ports.iter().map(|port| port.protocol).collect()
}

/// Whether two addresses of the host have one in common; none stands for all, an unspecified one
/// for all of its family.
fn meet(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn still_there(seen: &[Bound]) -> bool {
    let protocols = seen.iter().map(|socket| socket.protocol).collect();
    sockets::bound(&protocols).is_ok_and(|now| now.iter().any(|socket| seen.contains(socket)))
}

/// Refuses a port for a container where one of the host's sockets has it.
///
/// # Errors
/// `exists` with the number of the process under `pid`.
pub(crate) fn check_bound(port: &Port, bound: &[Bound], container: &ContainerId) -> Result<()> {
    let meeting: Vec<_> = bound.iter().filter(|socket| socket.meets(port)).copied().collect();
    let Some(socket) = meeting.first() else { return Ok(()) };
    let holders = sockets::holders(&meeting);
    // Who had it may have ended since, and then nobody has.
    if holders.is_empty() && !still_there(&meeting) {
        return Ok(());
    }
    held_by(port, socket.port, container, &holders)
}

fn taken(port: &Port, number: u16, whose: &str) -> Error {
    Error::exists(format_args!("port {number}/{} is already held by {whose}", port.protocol))
        .with("port", number)
        .with("protocol", port.protocol.to_string())
}

/// Refuses a port that processes of the host have, unless a runtime holds it for the very container
/// that it is published for.
fn held_by(port: &Port, number: u16, container: &ContainerId, holders: &[Process]) -> Result<()> {
    // What was relayed for an earlier owner gives way in a moment.
    if holders.iter().any(|process| process.is_for(container) || process.name == relay::PROGRAM) {
        return Ok(());
    }
    let Some(holder) = holders.first() else {
        return Err(taken(port, number, "a process of the host"));
    };
    if holder.pid == process::id() && number == DNS {
        return Err(taken(
            port,
            number,
            "netd's own resolver on the networks' gateway addresses: publish it on one address of \
             the host",
        ));
    }
    Err(taken(port, number, &holder.to_string())
        .with("process", holder.name.as_str())
        .with("pid", holder.pid))
}

#[cfg(test)]
mod tests;
