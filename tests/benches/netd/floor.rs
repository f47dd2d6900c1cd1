//! The bare kernel: what an attach costs with every socket opened beforehand and nothing checked,
//! allocated, stored or published. Two sends and six messages.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use kernel::{
    bridge_port::{self, Flags},
    links::{self, Bridge, Change, Link, Pair},
    netlink::{Batch, Socket},
    routes,
};

use crate::sandbox::Sandbox;

/// The group of the links to be deleted.
const AWAY: u32 = 0xf1;

const MTU: u32 = 1500;

/// A bridge and what is attached to it by hand.
pub(crate) struct Floor {
    /// A socket in the host's namespace.
    pub(crate) socket: Socket,
    name: &'static str,
    subnet: u8,
    bridge: u32,
    next: u16,
    attached: Vec<String>,
}

impl Floor {
    /// A bridge with the address `10.SUBNET.255.254/16`; the name is a letter or two.
    pub(crate) fn new(name: &'static str, subnet: u8) -> Result<Self> {
        let mut socket = Socket::route()?;
        let mut batch = Batch::new();
        let (mac, mtu, group) = ([2, 0, 0, 0, 0, subnet], MTU, 0);
        links::make_bridge(&mut batch, &Bridge { name, mac, mtu, group });
        socket.run(batch)?;
        let bridge = links::by_name(&mut socket, name)?.context("the bridge is gone")?.index;
        let mut batch = Batch::new();
        routes::add_address(&mut batch, bridge, IpNetwork::new([10, subnet, 255, 254].into(), 16)?);
        socket.run(batch)?;
        Ok(Self { socket, name, subnet, bridge, next: 0, attached: Vec::new() })
    }

    /// Attaches, and says how long it took.
    pub(crate) fn attach(&mut self, sandbox: &mut Sandbox) -> Result<Duration> {
        self.next += 1;
        let [high, low] = self.next.to_be_bytes();
        let host = format!("{}{}", self.name, self.next);
        let address = IpNetwork::new([10, self.subnet, high, low].into(), 16)?;
        let start = Instant::now();
        let mut batch = Batch::new();
        let pair = Pair {
            host: &host,
            bridge: self.bridge,
            group: 0,
            netns: sandbox.as_fd(),
            name: "eth0",
            mac: [2, 0x42, 10, self.subnet, high, low],
            mtu: MTU,
            up: true,
        };
        links::make_pair(&mut batch, &pair);
        bridge_port::tune(&mut batch, &host, MTU, Flags::default());
        let mut index = 0;
        self.socket.run_with(batch, |message| {
            index = Link::parse(message).and_then(|link| link.peer).unwrap_or(index);
        })?;
        let mut batch = Batch::new();
        let up = Change { up: Some(true), ..Change::default() };
        links::change_index(&mut batch, links::LOOPBACK, &up);
        routes::add_address(&mut batch, index, address);
        links::change_index(&mut batch, index, &up);
        routes::add_default_route(&mut batch, index, [10, self.subnet, 255, 254].into(), 0);
        sandbox.inside.run(batch)?;
        let took = start.elapsed();
        self.attached.push(host);
        Ok(took)
    }

    /// The names of what was attached since number `keep`, which are no longer its own.
    pub(crate) fn give_up(&mut self, keep: usize) -> Vec<String> {
        self.attached.split_off(keep)
    }

    /// How many are attached.
    pub(crate) fn len(&self) -> usize {
        self.attached.len()
    }
}

/// Deletes links as one group: one message for each, and one for all.
pub(crate) fn delete(socket: &mut Socket, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for name in names {
        links::change(&mut batch, name, &Change { group: Some(AWAY), ..Change::default() });
    }
    links::delete_group(&mut batch, AWAY);
    Ok(socket.run(batch)?)
}
