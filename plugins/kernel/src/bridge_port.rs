//! How a bridge treats what comes and goes by one of its ports (linux/if_link.h, `IFLA_BRPORT_*`).

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo, LinkMessage},
};

use crate::{
    links::no_link_local,
    netlink::{Attributes, Batch},
};

/// The flags of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Flags {
    /// Whether frames may leave by it that came by it (needed by a container that reaches its own
    /// published port where br_netfilter rewrites bridged frames).
    pub hairpin: bool,
    /// Whether it is kept from the bridge's other isolated ports.
    pub isolated: bool,
    /// Whether the bridge learns from its frames who is behind it, at the price of a look into its
    /// table for each. Without, it has to be [written down](crate::fdb::Row::Port).
    pub learning: bool,
}

impl Default for Flags {
    /// As the kernel makes a port.
    fn default() -> Self {
        Self { hairpin: false, isolated: false, learning: true }
    }
}

impl Flags {
    /// From what a link says of itself as a port.
    pub(crate) fn parse(port: Attributes<'_>) -> Self {
        const IFLA_BRPORT_MODE: u16 = 4;
        const IFLA_BRPORT_LEARNING: u16 = 8;
        const IFLA_BRPORT_ISOLATED: u16 = 33;
        let is_on = |flag| port.value(flag).is_some_and(|value| value == [1]);
        Self {
            hairpin: is_on(IFLA_BRPORT_MODE),
            isolated: is_on(IFLA_BRPORT_ISOLATED),
            learning: is_on(IFLA_BRPORT_LEARNING),
        }
    }

    fn all(self) -> Vec<InfoBridgePort> {
        vec![
            InfoBridgePort::HairpinMode(self.hairpin),
            InfoBridgePort::Isolated(self.isolated),
            InfoBridgePort::Learning(self.learning),
        ]
    }
}

fn of_port(name: &str, flags: Vec<InfoBridgePort>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    if !flags.is_empty() {
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(flags)),
        ]));
    }
    message
}

/// What the kernel refuses in the message that makes a port: no link-local address of its own, and
/// flags.
pub fn tune(batch: &mut Batch, name: &str, mtu: u32, flags: Flags) {
    let flags = if flags == Flags::default() { Vec::new() } else { flags.all() };
    let mut message = of_port(name, flags);
    message.attributes.extend(no_link_local(mtu));
    if message.attributes.len() > 1 {
        batch.push(&RouteNetlinkMessage::NewLink(message), 0, "set the port flags of", name);
    }
}

/// Sets the flags of a port that is there, all of them.
pub fn set(batch: &mut Batch, name: &str, flags: Flags) {
    let message = RouteNetlinkMessage::NewLink(of_port(name, flags.all()));
    batch.push(&message, 0, "set the port flags of", name);
}
