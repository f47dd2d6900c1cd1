//! What the kernel tells of itself: links, addresses and routes that change, and rules of any program
//! that come and go. Who asks for it learns of what others do within the moment.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use ipnetwork::IpNetwork;
use netlink_sys::{
    Socket as RawSocket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{CHUNK, Messages, Received, Socket, read_u32};
use crate::{Error, Result, links::Link, routes};

mod filter;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link came up or went down, was taken off its bridge, or got another name than one's own.
    Link(Link),
    /// A link is gone, other than the end of a pair.
    LinkGone(Link),
    /// A link lost an address.
    AddressGone {
        /// The link, by index.
        link: u32,
    },
    /// A route of the main table is gone that the kernel made for an address of a link.
    RouteGone {
        /// The link, by index.
        link: u32,
    },
    /// A route of the main table took the place of another.
    RouteReplaced {
        /// Where both lead.
        to: IpNetwork,
    },
    /// Somebody's rules, chains or tables changed.
    Rules,
    /// More than could be kept: anything may have changed.
    Missed,
}

/// `RTNLGRP_IPV4_IFADDR` (linux/rtnetlink.h).
const IPV4_ADDRESSES: u32 = 5;

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink_compat.h).
const RULES: u32 = 7;

/// Whether a monitor hears of rules. As long as anybody does, the kernel writes a message for each
/// element that changes, a microsecond each, whatever is made of it then.
#[derive(Clone, Debug)]
pub struct Ear(Arc<RawSocket>);

impl Ear {
    /// Hears nothing of rules from now on.
    ///
    /// # Errors
    /// What `setsockopt(2)` refuses.
    pub fn cover(&self) -> Result<()> {
        self.0
            .drop_membership(RULES)
            .map_err(|error| Error::io("listen no more to", "rules", &error))
    }

    /// Hears of rules again. What was said meanwhile is lost.
    ///
    /// # Errors
    /// What `setsockopt(2)` refuses.
    pub fn uncover(&self) -> Result<()> {
        self.0.add_membership(RULES).map_err(|error| Error::io("listen to", "rules", &error))
    }
}

/// By what a monitor knows links whose changes are somebody's own.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The link group of ports of bridges.
    pub group: u32,
    /// What the names of these begin with.
    pub prefix: [u8; 2],
    /// The link group of those that were taken down.
    pub condemned: u32,
}

/// Two sockets on which the kernel speaks, of the namespace that they were opened in.
#[derive(Debug)]
pub struct Monitor {
    links: Socket,
    rules: Socket,
    chunk: Vec<u8>,
}

impl Monitor {
    /// Begins to listen. Of links that are new, or down and condemned, nothing is said.
    ///
    /// # Errors
    /// What `socket(2)` and `setsockopt(2)` refuse.
    pub fn open(own: &Own) -> Result<Self> {
        /// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_IFADDR` and
        /// `RTNLGRP_IPV6_ROUTE` (linux/rtnetlink.h).
        const LINKS: [u32; 5] = [1, IPV4_ADDRESSES, 7, 9, 11];
        let (links, rules) = (bound(NETLINK_ROUTE)?, bound(NETLINK_NETFILTER)?);
        let unfiltered = |error| Error::io("filter", "a netlink socket", &error);
        filter::damage_alone(&links.raw, own).map_err(unfiltered)?;
        filter::no_elements(&rules.raw).map_err(unfiltered)?;
        for group in LINKS {
            join(&links.raw, group)?;
        }
        join(&rules.raw, RULES)?;
        Ok(Self { links, rules, chunk: Vec::with_capacity(CHUNK) })
    }

    /// By what others decide whether it hears of rules.
    pub fn ear(&self) -> Ear {
        Ear(Arc::clone(&self.rules.raw))
    }

    /// Waits until something changed, or for so long. Whether something did.
    ///
    /// # Errors
    /// What `poll(2)` refuses.
    pub fn wait(&self, time: Duration) -> Result<bool> {
        let mut fds =
            [&self.links, &self.rules].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        ready(&mut fds, Some(time))
    }

    /// What changed since it was asked last; waits for nothing.
    ///
    /// # Errors
    /// What `recv(2)` refuses.
    pub fn changes(&mut self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for socket in [&self.links, &self.rules] {
            loop {
                self.chunk.clear();
                match socket.raw.recv(&mut self.chunk, libc::MSG_DONTWAIT) {
                    Ok(0) => break,
                    Ok(_) => {
                        let parsed = Messages(&self.chunk)
                            .filter_map(|m| parse(Received { kind: m.kind, payload: m.payload }));
                        changes.extend(parsed);
                    }
                    Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                        Some(Errno::EAGAIN) => break,
                        Some(Errno::EINTR) => {}
                        Some(Errno::ENOBUFS) => changes.push(Change::Missed),
                        _ => return Err(Error::io("read", "changes", &error)),
                    },
                }
            }
        }
        changes.dedup();
        Ok(changes)
    }
}

/// A socket on which the kernel speaks of the addresses of IPv4 of links, of the namespace that it was
/// opened in.
#[derive(Debug)]
pub struct Addresses(Socket);

impl Addresses {
    /// Begins to listen.
    ///
    /// # Errors
    /// What `socket(2)` and `setsockopt(2)` refuse.
    pub fn open() -> Result<Self> {
        let socket = bound(NETLINK_ROUTE)?;
        join(&socket.raw, IPV4_ADDRESSES)?;
        Ok(Self(socket))
    }

    /// Waits until addresses may have changed, for so long at most, or for good.
    ///
    /// # Errors
    /// What `poll(2)` and `recv(2)` refuse.
    pub fn wait(&self, time: Option<Duration>) -> Result<()> {
        ready(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], time)?;
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            chunk.clear();
            match self.0.raw.recv(&mut chunk, libc::MSG_DONTWAIT) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(()),
                    // What could not be kept changed as well.
                    Some(Errno::EINTR | Errno::ENOBUFS) => {}
                    _ => return Err(Error::io("read", "changes of addresses", &error)),
                },
            }
        }
    }
}

fn join(socket: &RawSocket, group: u32) -> Result<()> {
    let joined = socket.add_membership(group);
    joined.map_err(|error| Error::io("listen to", format!("group {group}"), &error))
}

/// Waits until there is something to read, for so long at most, or for good. Whether there is.
fn ready(fds: &mut [PollFd<'_>], time: Option<Duration>) -> Result<bool> {
    let time = time.map_or(PollTimeout::NONE, |time| {
        // It is told whole milliseconds, and what is left of one would not be waited for.
        let time = time + Duration::from_millis(u64::from(!time.is_zero()));
        PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
    });
    match poll(fds, time) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(Error::call("wait for", "changes", errno)),
    }
}

/// A socket with a number of its own: to one without, which has the kernel's, nothing is told.
fn bound(protocol: isize) -> Result<Socket> {
    let mut socket = Socket::open(protocol)?;
    let raw = Arc::get_mut(&mut socket.raw).expect("it is not shared yet");
    raw.bind_auto().map_err(|error| Error::io("bind", "a netlink socket", &error))?;
    Ok(socket)
}

fn parse(message: Received<'_>) -> Option<Change> {
    const NEWLINK: u16 = 16;
    const DELLINK: u16 = 17;
    const DELADDR: u16 = 21;
    const NEWROUTE: u16 = 24;
    const DELROUTE: u16 = 25;
    const NFTABLES: u16 = 10;
    let payload = message.payload;
    let link = || {
        // Of the family of bridges it is about a port, of which the link itself tells as well.
        let is_link = i32::from(*payload.first()?) == libc::AF_UNSPEC;
        is_link.then(|| Link::parse(Received { kind: NEWLINK, payload }))?
    };
    match message.kind {
        NEWLINK => link().map(Change::Link),
        DELLINK => link().map(Change::LinkGone),
        DELADDR => Some(Change::AddressGone { link: read_u32(payload.get(4..)?)? }),
        NEWROUTE => Some(Change::RouteReplaced { to: routes::target_of(payload)? }),
        DELROUTE => Some(Change::RouteGone { link: routes::link_of(payload)? }),
        kind if kind >> 8 == NFTABLES => Some(Change::Rules),
        _ => None,
    }
}
