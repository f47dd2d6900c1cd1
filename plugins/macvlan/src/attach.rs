//! The hot path: a visit to the container's namespace opens a socket there, one send makes the
//! macvlan under its final name, address and MTU, one more sets it up, and one on the host leads
//! there where the host has access.

use std::net::IpAddr;

use cnm::{Error, Kind, Result, fault};
use kernel::{
    Errno,
    announce::{self, Advertiser},
    host_routes::{self, HostRoute},
    links::{self, Link, Mac},
    macvlan::{self, Mode},
    netlink::{Batch, Socket},
    netns::Netns,
    routes, shaping, sysctl,
};

use words::{bucket, condemned, names, refusal, way};

use crate::{OWNED, Port, Segment, apply::Kernel, plan};

/// A network that is up, as an attach needs to know it.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    /// What it should look like.
    pub(crate) segment: Segment,
    /// What its macvlans hang on.
    pub(crate) base: plan::Base,
    /// That, by index.
    pub(crate) parent: u32,
    /// The MTU of its endpoints.
    pub(crate) mtu: u32,
    /// The host's own macvlan, by index.
    pub(crate) host: Option<u32>,
}

/// An endpoint that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    /// The index of the interface in the container.
    pub(crate) index: u32,
    /// Its address.
    pub(crate) mac: Mac,
    /// The namespace it is in, as the host's knows it; none for that itself.
    pub(crate) nsid: Option<i32>,
    /// The same, as nobody else is ever called.
    pub(crate) cookie: u64,
}

/// What was opened in a container's namespace.
struct Inside {
    socket: Socket,
    cookie: u64,
    advertiser: Option<Advertiser>,
    /// Whether what the container asks inside is led to the resolver since.
    led: bool,
}

impl Kernel {
    /// Makes an endpoint; leaves nothing of it if that fails.
    pub(crate) fn attach(&mut self, port: &Port, joined: &Joined, netns: &Netns) -> Result<Made> {
        if port.delivered {
            return self.deliver(port, joined).map_err(|error| explain(error, port, joined));
        }
        match self.attempt(port, joined, netns) {
            // What the container had before may have its name or its way until it is reaped.
            Err(error) if condemned::may_be_why(&error) => {
                condemned::clear(&mut self.socket, &self.home, netns).map_err(refusal)?;
                self.attempt(port, joined, netns)
            }
            outcome => outcome,
        }
    }

    /// Makes an endpoint's macvlan on the host, down and bare, for others to move and to set up.
    fn deliver(&mut self, port: &Port, joined: &Joined) -> kernel::Result<Made> {
        let cookie = self.socket.cookie()?;
        let (index, mac) = make(&mut self.socket, port, joined, None)?;
        fault::point("macvlan.attach.after-link");
        let led = self.lead(port, joined);
        fault::point("macvlan.attach.after-routes");
        if led.is_err() {
            unmake(&mut self.socket, port);
            self.undo_lead(port, joined);
        }
        led.map(|()| Made { index, mac, nsid: None, cookie })
    }

    fn attempt(&mut self, port: &Port, joined: &Joined, netns: &Netns) -> Result<Made> {
        // Before there is anything: by its id a link is found again, whatever ends meanwhile.
        let nsid = netns.assign_nsid(&mut self.socket).map_err(refusal)?;
        fault::point("macvlan.attach.before-link");
        let mut inside = self.enter(port, netns).map_err(refusal)?;
        let made = self.make_in(port, joined, netns, nsid, &mut inside);
        if made.is_err() && inside.led {
            names::lead_nowhere(&self.home, netns);
        }
        made
    }

    /// Makes what an endpoint is but for its names; leaves nothing of it if that fails.
    fn make_in(
        &mut self,
        port: &Port,
        joined: &Joined,
        netns: &Netns,
        nsid: i32,
        inside: &mut Inside,
    ) -> Result<Made> {
        let made = self.home.assign_nsid(&mut inside.socket);
        let (index, mac) = made
            .and_then(|home| make(&mut inside.socket, port, joined, Some(home)))
            .map_err(|error| explain(error, port, joined))?;
        fault::point("macvlan.attach.after-link");
        let finished = self.set_up(port, index, mac, joined, netns, inside).and_then(|()| {
            fault::point("macvlan.attach.after-config");
            self.lead(port, joined)
        });
        fault::point("macvlan.attach.after-routes");
        match finished {
            Ok(()) => Ok(Made { index, mac, nsid: Some(nsid), cookie: inside.cookie }),
            Err(error) => {
                unmake(&mut inside.socket, port);
                self.undo_lead(port, joined);
                Err(explain(error, port, joined))
            }
        }
    }

    fn enter(&self, port: &Port, netns: &Netns) -> kernel::Result<Inside> {
        netns.inside(&self.home, || {
            let socket = Socket::route_small()?;
            let cookie = socket.cookie()?;
            let advertiser = if port.ipv6() { Some(Advertiser::open()?) } else { None };
            // Last here: what fails before has made nothing.
            let led = names::lead(port.resolver);
            Ok(Inside { socket, cookie, advertiser, led })
        })?
    }

    /// Sets the container's macvlan up and tells its neighbours.
    fn set_up(
        &self,
        port: &Port,
        index: u32,
        mac: Mac,
        joined: &Joined,
        netns: &Netns,
        inside: &mut Inside,
    ) -> kernel::Result<()> {
        // Reaching for /proc/sys takes longer the more namespaces there are, and writing there
        // waits for whoever changes links; so not for a container that has no IPv6.
        if port.ipv6() {
            netns.inside(&self.home, || {
                for (name, value) in
                    [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")]
                {
                    sysctl::write(&format!("net/ipv6/conf/{}/{name}", port.name), value)?;
                }
                Ok(())
            })??;
        }
        let mut batch = Batch::new();
        let up = links::Change { up: Some(true), ..links::Change::default() };
        links::change_index(&mut batch, links::LOOPBACK, &up);
        if !port.ipv6() {
            links::without_link_local(&mut batch, index, joined.mtu);
        }
        announce::arp_when_up(&mut batch, index);
        // There is no end of it on the host that the container could not reach.
        if let Some(limit) = port.limit {
            shaping::limit(&mut batch, index, bucket(limit, joined.mtu));
        }
        for address in &port.addresses {
            routes::add_address(&mut batch, index, *address);
        }
        links::change_index(&mut batch, index, &up);
        for gateway in &port.gateways {
            routes::add_default_route(&mut batch, index, *gateway, port.metric);
        }
        for route in &port.routes {
            routes::add_route(&mut batch, &way(route, index));
        }
        inside.socket.run(batch)?;
        for address in &port.addresses {
            // A parent that is down has no neighbours to tell.
            if let (IpAddr::V6(ip), Some(advertiser)) = (address.ip(), &inside.advertiser)
                && let Err(error) = advertiser.advertise(index, ip, mac)
            {
                eprintln!("{error}");
            }
        }
        Ok(())
    }

    /// Leads the host to the container, where it has access.
    fn lead(&mut self, port: &Port, joined: &Joined) -> kernel::Result<()> {
        let Some(link) = joined.host else { return Ok(()) };
        let mut batch = Batch::new();
        for (_, to, from) in plan::ways(&joined.segment, port) {
            host_routes::add(&mut batch, &HostRoute { link, to, from });
        }
        self.socket.run(batch)
    }

    fn undo_lead(&mut self, port: &Port, joined: &Joined) {
        if let Some(host) = joined.host {
            self.lead_no_more(port, &joined.segment, host);
        }
    }

    /// Leads it there no longer, through its macvlan `link`.
    pub(crate) fn lead_no_more(&mut self, port: &Port, segment: &Segment, link: u32) {
        for (_, to, _) in plan::ways(segment, port) {
            let mut batch = Batch::new();
            host_routes::delete(&mut batch, &HostRoute { link, to, from: None });
            if let Err(error) = self.socket.run(batch).or_else(crate::apply::gone_is_done) {
                eprintln!("{error}");
            }
        }
    }
}

/// Makes a macvlan in the socket's namespace, which knows that of the parent by this id where it is
/// another.
fn make(
    socket: &mut Socket,
    port: &Port,
    joined: &Joined,
    parent_nsid: Option<i32>,
) -> kernel::Result<(u32, Mac)> {
    let mut batch = Batch::new();
    let link = macvlan::Macvlan {
        name: &port.name,
        parent: joined.parent,
        parent_nsid,
        mode: joined.segment.mode,
        queue: joined.segment.queue,
        mac: port.mac,
        mtu: joined.mtu,
        group: OWNED,
    };
    macvlan::make(&mut batch, &link);
    let mut made = Link::default();
    socket.run_with(batch, |message| {
        if let Some(link) = Link::parse(message) {
            made = link;
        }
    })?;
    Ok((made.index, made.mac.unwrap_or(port.mac)))
}

/// Deletes the macvlan of an attach that fails, in the socket's namespace.
fn unmake(socket: &mut Socket, port: &Port) {
    let mut batch = Batch::new();
    links::delete(&mut batch, &port.name);
    if let Err(error) = socket.run(batch) {
        eprintln!("cannot undo the attach of {}: {error}", port.name);
    }
}

/// Why an endpoint could not be made, where the kernel's word alone would not tell.
fn explain(error: kernel::Error, port: &Port, joined: &Joined) -> Error {
    let (network, parent) = (&joined.segment.network, joined.base.name());
    let answer = match (error.errno(), error.index()) {
        (Some(Errno::EEXIST), Some(0)) => {
            let place = if port.delivered { "on the host" } else { "in the container" };
            Error::exists(format_args!("a link {} exists already {place}", port.name))
                .with("interface", port.name.as_str())
        }
        // macvlan_common_newlink, drivers/net/macvlan.c: one alone, of either mode.
        (Some(Errno::EINVAL), Some(0)) if joined.segment.mode == Mode::Passthru => Error::new(
            Kind::Busy,
            format_args!(
                "network {network} has mode passthru, which leaves room for one container, and \
                 {parent} has one already"
            ),
        )
        .with("parent", parent),
        (Some(Errno::EINVAL | Errno::EBUSY), Some(0)) => Error::new(
            Kind::Busy,
            format_args!(
                "the parent {parent} of network {network} takes no more macvlans: {error}; it is a \
                 port of something else, or the only one's that has it in mode passthru"
            ),
        )
        .with("parent", parent),
        (Some(Errno::ENODEV), Some(0)) => {
            Error::new(Kind::Busy, format_args!("the parent {parent} of network {network} is gone"))
                .with("parent", parent)
        }
        // Looked for when it comes up (macvlan_addr_busy, drivers/net/macvlan.c).
        (Some(Errno::EADDRINUSE), _) => Error::exists(format_args!(
            "the address {} is another link's on {parent}",
            cnm::MacAddr(port.mac)
        ))
        .with("mac", cnm::MacAddr(port.mac).to_string()),
        (Some(Errno::ENOENT), _) if port.limit.is_some() => Error::unsupported(format_args!(
            "cannot limit the bandwidth of {}: {error}; the kernel needs sch_tbf",
            port.name
        )),
        _ => return refusal(error),
    };
    answer.with("errno", error.errno().map_or(0, |errno| errno as i32))
}
