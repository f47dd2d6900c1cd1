//! The hot path: one send makes the pair, one visit opens a socket inside, one send sets the
//! container's end up, one transaction publishes its ports. Nothing is looked up on the way.

use std::os::fd::AsFd;

use cnm::{Error, Kind, Result, fault};
use kernel::{
    Errno, bridge_port,
    firewall::Fact,
    links::{self, Link, Pair},
    neighbours::{self, Neighbour},
    netlink::{Batch, Socket},
    netns::Netns,
    routes, sysctl,
};

use words::{condemned, names, refusal, way};

use crate::{
    Port,
    apply::{self, Kernel},
    door,
    options::LAYOUT,
    plan, publish,
    reaper::free_ports,
    shape, shards,
};

/// A bridge, as an attach needs to know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    /// Its index.
    pub(crate) index: u32,
    /// Its MTU, which is its endpoints' too.
    pub(crate) mtu: u32,
}

/// An endpoint that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    /// The index of the host end.
    pub(crate) host: u32,
    /// The index of the interface in the container.
    pub(crate) index: u32,
    /// The container's namespace, as this one knows it.
    pub(crate) nsid: Option<i32>,
    /// The same, as nobody else is ever called.
    pub(crate) cookie: u64,
}

impl Kernel {
    /// Makes an endpoint; leaves nothing of it if that fails.
    pub(crate) fn attach(&mut self, port: &Port, bridge: Joined, netns: &Netns) -> Result<Made> {
        self.reaper.settle_flows();
        let _busy = self.reaper.attaching();
        match self.attempt(port, bridge, netns) {
            Err(error) if condemned::may_be_why(&error) => {
                // An interface of another name may still have the way that this one is to have.
                condemned::clear(&mut self.socket, &self.home, netns).map_err(refusal)?;
                self.attempt(port, bridge, netns)
            }
            outcome => outcome,
        }
    }

    fn attempt(&mut self, port: &Port, bridge: Joined, netns: &Netns) -> Result<Made> {
        fault::point("bridge.attach.before-veth");
        let (host, index, nsid) = match self.make_pair(port, bridge, netns) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                self.clear_the_way(port, netns)?;
                self.make_pair(port, bridge, netns)
            }
            // Ports of endpoints that are gone are yet to be given back.
            Err(error) if error.errno() == Some(Errno::EXFULL) => {
                free_ports(&mut self.socket, self.marks.condemned).map_err(refusal)?;
                self.make_pair(port, bridge, netns)
            }
            outcome => outcome,
        }
        .map_err(|error| self.explain(error, port, bridge))?;
        fault::point("bridge.attach.after-veth");
        // Before the container's end is up: nothing goes without its limit.
        let shaped = port.bandwidth.map_or(Ok(()), |bandwidth| {
            if port.door.detour {
                self.hang(host, &port.door).map_err(door::explain)?;
            }
            let shaped = self.shape(&port.host, bandwidth, host, bridge.mtu);
            fault::point("bridge.attach.after-limits");
            shaped.map_err(|error| shape::explain(error, port))
        });
        let mut led = false;
        let finished =
            shaped.and_then(|()| self.finish(port, (host, index), bridge.mtu, netns, &mut led));
        match finished {
            Ok(cookie) => Ok(Made { host, index, nsid, cookie }),
            Err(error) => {
                self.undo(port);
                if led {
                    names::lead_nowhere(&self.home, netns);
                }
                Err(error)
            }
        }
    }

    /// Sets the container's end up and publishes its ports; gives the namespace's cookie, and whether
    /// what the container asks inside is `led` to the resolver since, also where it fails.
    fn finish(
        &mut self,
        port: &Port,
        (host, index): (u32, u32),
        mtu: u32,
        netns: &Netns,
        led: &mut bool,
    ) -> Result<u64> {
        let set_up = if port.delivered {
            self.socket.cookie()
        } else {
            self.set_up(port, index, mtu, netns, led)
        };
        let finished = set_up.and_then(|cookie| {
            fault::point("bridge.attach.after-config");
            self.bring_up(port, host)?;
            self.publish(&port.facts)?;
            self.redirected(&port.facts);
            fault::point("bridge.attach.after-elements");
            Ok(cookie)
        });
        finished.map_err(publish::explain)
    }

    fn make_pair(
        &mut self,
        port: &Port,
        bridge: Joined,
        netns: &Netns,
    ) -> kernel::Result<(u32, u32, Option<i32>)> {
        let mut batch = Batch::new();
        let pair = Pair {
            host: &port.host,
            bridge: bridge.index,
            group: self.marks.owned,
            netns: netns.as_fd(),
            name: &port.name,
            mac: port.mac,
            mtu: bridge.mtu,
            up: false,
        };
        links::make_pair(&mut batch, &pair);
        bridge_port::tune(&mut batch, &port.host, bridge.mtu, port.flags);
        for lead in plan::leads(port) {
            apply::lead_to(&mut batch, bridge.index, &lead);
        }
        let mut made = Link::default();
        let outcome = self.socket.run_with(batch, |message| {
            if let Some(link) = Link::parse(message).filter(|link| link.peer.is_some()) {
                made = link;
            }
        });
        match outcome {
            // The pair is there, and only its flags were refused.
            Err(error) if error.index() != Some(0) => {
                self.undo(port);
                Err(error)
            }
            outcome => outcome.map(|()| (made.index, made.peer.unwrap_or(0), made.peer_nsid)),
        }
    }

    /// Sets the container's end up; gives what [`finish`](Self::finish) does.
    fn set_up(
        &mut self,
        port: &Port,
        index: u32,
        mtu: u32,
        netns: &Netns,
        led: &mut bool,
    ) -> kernel::Result<u64> {
        let (mut socket, cookie) = netns.inside(&self.home, || {
            let socket = Socket::route_small()?;
            let cookie = socket.cookie()?;
            // Reaching for /proc/sys takes longer the more namespaces there are, and writing there
            // waits for whoever changes links; so not for a container that has no IPv6.
            if port.ipv6() {
                for (name, value) in
                    [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")]
                {
                    sysctl::write(&format!("net/ipv6/conf/{}/{name}", port.name), value)?;
                }
            }
            for (path, value) in &port.parameters {
                if !sysctl::write(path, value)? {
                    return Err(kernel::Error::call("set", path.as_str(), Errno::EOPNOTSUPP));
                }
            }
            *led = names::lead(port.resolver);
            Ok((socket, cookie))
        })??;
        let mut batch = Batch::new();
        let up = links::Change { up: Some(true), ..links::Change::default() };
        links::change_index(&mut batch, links::LOOPBACK, &up);
        if !port.ipv6() {
            links::without_link_local(&mut batch, index, mtu);
        }
        for address in &port.addresses {
            routes::add_address(&mut batch, index, *address);
        }
        links::change_index(&mut batch, index, &up);
        for (address, mac) in &port.neighbours {
            let (address, mac) = (*address, *mac);
            neighbours::write(&mut batch, &Neighbour { link: index, address, mac });
        }
        // One that is routed reaches its gateway by the first of its routes.
        let (before, after) = if port.is_routed() {
            (&port.routes[..], &[][..])
        } else {
            (&[][..], &port.routes[..])
        };
        for route in before {
            routes::add_route(&mut batch, &way(route, index));
        }
        for gateway in &port.gateways {
            routes::add_default_route(&mut batch, index, *gateway, port.metric);
        }
        for route in after {
            routes::add_route(&mut batch, &way(route, index));
        }
        socket.run(batch)?;
        self.spent = Some(socket);
        Ok(cookie)
    }

    /// Brings the host end up, and with it the line: last, since a worker of the kernel then takes
    /// the lock that every message of this conversation needs, to say so (`linkwatch_event`,
    /// net/core/link_watch.c), and the container's routes would wait for it. What that worker does is
    /// done here, for both ends: whoever is told that the endpoint is there may send at once.
    fn bring_up(&mut self, port: &Port, host: u32) -> kernel::Result<()> {
        let mut batch = Batch::new();
        if let Some(guards) = self.guards.as_mut().filter(|_| !port.door.detour)
            && guards.queue(&mut batch, host, &port.door)?
        {
            self.socket.run(std::mem::take(&mut batch))?;
            guards.filters(&mut batch, host, &port.door);
            self.socket.run_but(&[Errno::EEXIST], std::mem::take(&mut batch), |_| ())?;
        }
        apply::behind(&mut batch, host, port.mac, port.flags);
        let up = links::Change { up: Some(true), ..links::Change::default() };
        links::change_index(&mut batch, host, &up);
        self.socket.run(batch)?;
        // Mostly it is already: unless the worker was there since the pair was made, the port was let in
        // as it came up, and what is left to be noted concerns nobody but those who are told of it.
        if !links::is_running(&self.socket, &port.host)? {
            links::settle(&self.socket, &port.host)?;
        }
        match &self.spent {
            Some(inside) if !port.delivered => links::settle(inside, &port.name),
            _ => Ok(()),
        }
    }

    /// Publishes ports. What is left of an earlier owner of one gives way: netd decides whose a
    /// port is, and asks for none that is held.
    pub(crate) fn publish(&mut self, facts: &[Fact]) -> kernel::Result<()> {
        match self.firewall.change(&[], facts) {
            Err(error) if matches!(error.errno(), Some(Errno::EBUSY | Errno::EEXIST)) => {
                let stale: Vec<_> = self
                    .firewall
                    .everyones()?
                    .into_iter()
                    .filter(|old| facts.iter().any(|new| new != old && new.meets(old)))
                    .collect();
                for fact in &stale {
                    eprintln!("the {fact} was left over and gives way");
                }
                self.firewall.change(&stale, facts)
            }
            outcome => outcome,
        }
    }

    fn undo(&mut self, port: &Port) {
        if let Err(error) = self.firewall.forget(&port.facts) {
            eprintln!("cannot undo the attach of {}: {error}", port.host);
        }
        self.leave(port);
        if let Some(guards) = &mut self.guards {
            guards.gone(&port.door);
        }
        let mut batch = Batch::new();
        links::delete(&mut batch, &port.host);
        match self.socket.run(batch) {
            Err(error) if error.errno() != Some(Errno::ENODEV) => {
                eprintln!("cannot undo the attach of {}: {error}", port.host);
            }
            _ => {}
        }
        if port.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some())
            && let Err(error) = self.delete_detour(&port.host)
        {
            eprintln!("cannot undo the attach of {}: {error}", port.host);
        }
    }

    /// Leads the host to a routed endpoint no more.
    pub(crate) fn leave(&mut self, port: &Port) {
        if !port.is_routed() {
            return;
        }
        let left = links::by_name(&mut self.socket, &port.bridge).and_then(|bridge| {
            let mut batch = Batch::new();
            if let Some(bridge) = bridge {
                for lead in plan::leads(port) {
                    apply::unlead(&mut batch, bridge.index, lead.address);
                }
            }
            self.socket.run_but(&apply::NOT_THERE, batch, |_| ()).map(drop)
        });
        if let Err(error) = left {
            eprintln!("cannot take the way to {} back: {error}", port.host);
        }
    }

    /// One of the pair's names is taken. Where by a condemned pair, that pair goes at once: the one
    /// slow path.
    fn clear_the_way(&mut self, port: &Port, netns: &Netns) -> Result<()> {
        let inside = self.look_inside(port, netns)?;
        let host_end = match &inside {
            Some(link) => match link.peer {
                Some(peer) => links::by_index(&mut self.socket, peer).map_err(refusal)?,
                None => None,
            }
            .filter(|host| host.peer == Some(link.index)),
            None => links::by_name(&mut self.socket, &port.host).map_err(refusal)?,
        };
        let in_the_way = host_end.is_some();
        let Some(host_end) = host_end.filter(condemned::is_condemned) else {
            // The reaper may have been faster.
            let (place, name) = match &inside {
                Some(link) => {
                    let now = self.look_inside(port, netns)?;
                    if now.is_none_or(|now| now.index != link.index) {
                        return Ok(());
                    }
                    ("the container", &port.name)
                }
                None if !in_the_way => return Ok(()),
                None => ("the host", &port.host),
            };
            return Err(Error::exists(format_args!(
                "a link {name} exists already in {place}: choose another name, or take that one away"
            ))
                .with("interface", name.as_str())
                .with("netns", netns.path())
                .with("errno", Errno::EEXIST as i32));
        };
        let mut batch = Batch::new();
        links::delete(&mut batch, &host_end.name);
        match self.socket.run(batch) {
            Err(error) if error.errno() != Some(Errno::ENODEV) => Err(refusal(error)),
            _ => Ok(()),
        }
    }

    /// What has the name of the container's end in the container.
    fn look_inside(&self, port: &Port, netns: &Netns) -> Result<Option<Link>> {
        netns
            .inside(&self.home, || links::by_name(&mut Socket::route_small()?, &port.name))
            .and_then(|link| link)
            .map_err(refusal)
    }

    /// Why a pair could not be made, where the kernel's word alone would not tell.
    fn explain(&mut self, error: kernel::Error, port: &Port, bridge: Joined) -> Error {
        match error.errno() {
            // br_add_if, net/bridge/br_if.c.
            Some(Errno::EXFULL) if port.is_routed() => Error::new(
                Kind::Exhausted,
                format_args!(
                    "the bridge {} is full: the kernel takes at most {} endpoints on one bridge, and \
                     the network has no other one for this endpoint; make another network",
                    port.bridge,
                    shards::PORTS
                ),
            )
            .with("bridge", port.bridge.as_str()),
            Some(Errno::EXFULL) => Error::new(
                Kind::Exhausted,
                format_args!(
                    "the bridge {} is full: the kernel takes at most {} endpoints on one bridge; \
                     make the network with the option {}={}, which takes more",
                    port.bridge,
                    shards::PORTS,
                    LAYOUT.names[0],
                    shards::ROUTED
                ),
            )
            .with("bridge", port.bridge.as_str()),
            Some(Errno::EINVAL | Errno::ENODEV) if !self.is_there(port, bridge) => {
                Error::new(Kind::Busy, format_args!("the bridge {} is gone", port.bridge))
                    .with("bridge", port.bridge.as_str())
            }
            _ => refusal(error),
        }
    }

    fn is_there(&mut self, port: &Port, bridge: Joined) -> bool {
        links::by_name(&mut self.socket, &port.bridge)
            .is_ok_and(|link| link.is_some_and(|link| link.index == bridge.index))
    }
}
