//! Addresses and routes.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
        RouteScope, RouteType,
    },
};

use crate::{
    Result,
    netlink::{Attributes, Batch, PROTOCOL, Received, Socket, ip, read_u32},
};

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_message(link: u32, address: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.ip());
    message.header.prefix_len = address.prefix();
    message.header.index = link;
    message.attributes =
        vec![AddressAttribute::Local(address.ip()), AddressAttribute::Address(address.ip())];
    message
}

/// Gives a link an address, at once: without duplicate address detection (RFC 4862, section 5.4),
/// since who gives it knows that nobody else has it. One that it has already is a success.
pub fn add_address(batch: &mut Batch, link: u32, address: IpNetwork) {
    let mut message = address_message(link, address);
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    if let IpNetwork::V4(network) = address
        && network.prefix() < 31
    {
        message.attributes.push(AddressAttribute::Broadcast(network.broadcast()));
    }
    let message = RouteNetlinkMessage::NewAddress(message);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.push(&message, flags, "add the address", address.to_string());
}

/// Takes an address from a link.
pub fn delete_address(batch: &mut Batch, link: u32, address: IpNetwork) {
    let message = RouteNetlinkMessage::DelAddress(address_message(link, address));
    batch.push(&message, 0, "delete the address", address.to_string());
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link, by index.
    pub link: u32,
    /// The address with its prefix length.
    pub address: IpNetwork,
    /// Whether it is valid on this link alone: what IPv6 gives every link by itself.
    pub link_local: bool,
}

impl Address {
    /// What a message of the kernel says of an address (linux/if_addr.h).
    pub(crate) fn parse(message: Received<'_>) -> Option<Self> {
        const RTM_NEWADDR: u16 = 20;
        const RT_SCOPE_LINK: u8 = 253;
        const IFA_ADDRESS: u16 = 1;
        const IFA_LOCAL: u16 = 2;
        if message.kind != RTM_NEWADDR {
            return None;
        }
        let (prefix, scope) = (*message.payload.get(1)?, *message.payload.get(3)?);
        let attributes = Attributes(message.payload.get(8..)?);
        let bytes = attributes.value(IFA_LOCAL).or_else(|| attributes.value(IFA_ADDRESS))?;
        Some(Self {
            link: read_u32(message.payload.get(4..)?)?,
            address: IpNetwork::new(ip(bytes)?, prefix).ok()?,
            link_local: scope == RT_SCOPE_LINK,
        })
    }
}

/// All addresses of all links.
///
/// # Errors
/// What the kernel refuses.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>> {
    let mut batch = Batch::new();
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    batch.push(&message, NLM_F_DUMP, "list", "addresses");
    socket.dump_frame(batch, Address::parse)
}

/// Adds the default route of the gateway's family; the lower of two metrics wins, 0 is the
/// kernel's own choice.
pub fn add_default_route(batch: &mut Batch, link: u32, gateway: IpAddr, metric: u32) {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes =
        vec![RouteAttribute::Gateway(RouteAddress::from(gateway)), RouteAttribute::Oif(link)];
    if metric != 0 {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    let message = RouteNetlinkMessage::NewRoute(message);
    let what = format!("via {gateway}");
    batch.push(&message, NLM_F_CREATE | NLM_F_EXCL, "add the default route", what);
}

/// Has the host itself reach one address on a link, whatever way it took before. The route is
/// marked as netd's.
pub fn lead(batch: &mut Batch, link: u32, address: IpAddr) {
    let message = RouteNetlinkMessage::NewRoute(lead_message(link, address));
    batch.push(&message, NLM_F_CREATE | NLM_F_REPLACE, "add the route", format!("to {address}"));
}

/// Takes back what [`lead`] did.
pub fn unlead(batch: &mut Batch, link: u32, address: IpAddr) {
    let message = RouteNetlinkMessage::DelRoute(lead_message(link, address));
    batch.push(&message, 0, "delete the route", format!("to {address}"));
}

fn lead_message(link: u32, address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.scope = if address.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    let to = match address {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    };
    message.attributes = vec![RouteAttribute::Destination(to), RouteAttribute::Oif(link)];
    message
}

/// The subnet that the kernel makes a route to where a link is given an address: none for a single
/// address of IPv4 (`fib_add_ifaddr`, net/ipv4/fib_frontend.c).
pub fn subnet_of(address: IpNetwork) -> Option<IpNetwork> {
    let alone = address.is_ipv4() && address.prefix() == 32;
    IpNetwork::new(address.network(), address.prefix()).ok().filter(|_| !alone)
}

/// Makes the route that the kernel made to the subnet of a link's address, so that it goes with the
/// address as if it were the same. One to there that took its place, and so costs the same, gives way.
pub fn connect(batch: &mut Batch, link: u32, address: IpNetwork) {
    /// `IP6_RT_PRIO_ADDRCONF` (linux/ipv6_route.h).
    const COST: u32 = 256;
    let mut message = RouteMessage::default();
    message.header.address_family = family(address.ip());
    message.header.destination_prefix_length = address.prefix();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Kernel;
    message.header.kind = RouteType::Unicast;
    let to = RouteAttribute::Destination(RouteAddress::from(address.network()));
    message.attributes = vec![to, RouteAttribute::Oif(link)];
    if address.is_ipv4() {
        message.header.scope = RouteScope::Link;
        message.attributes.push(RouteAttribute::PrefSource(RouteAddress::from(address.ip())));
    } else {
        message.attributes.push(RouteAttribute::Priority(COST));
    }
    let message = RouteNetlinkMessage::NewRoute(message);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.push(&message, flags, "add the route", format!("to {address}"));
}

/// The link of a route, of which a message of the kernel tells.
pub(crate) fn link_of(payload: &[u8]) -> Option<u32> {
    const RTA_OIF: u16 = 4;
    Attributes(payload.get(12..)?).value(RTA_OIF).and_then(read_u32)
}

/// Where a route leads, of which a message of the kernel tells; none for one that leads everywhere.
pub(crate) fn target_of(payload: &[u8]) -> Option<IpNetwork> {
    const RTA_DST: u16 = 1;
    let to = Attributes(payload.get(12..)?).value(RTA_DST).and_then(ip)?;
    IpNetwork::new(to, *payload.get(1)?).ok()
}

/// A way that packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNetwork,
    /// Through whom; nobody when it is on the link itself.
    pub through: Option<IpAddr>,
    /// The link, by index.
    pub link: u32,
    /// The MTU of the path, in bytes.
    pub mtu: Option<u32>,
    /// The largest segment of TCP to tell others of, in bytes.
    pub advmss: Option<u32>,
    /// What it costs.
    pub priority: Option<u32>,
    /// The routing table; the main one unless told.
    pub table: Option<u32>,
    /// How far away it leads; what follows from the rest unless told.
    pub scope: Option<u8>,
    /// What it is that leads nowhere: a way, unless told.
    pub refusal: Option<Refusal>,
}

/// What becomes of packets that take a route which leads nowhere (`rtm_type`, linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// They vanish.
    Blackhole = 6,
    /// Who sent them is told that there is no way.
    Unreachable = 7,
    /// Who sent them is told that it is not allowed.
    Prohibit = 8,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Blackhole, Self::Unreachable, Self::Prohibit];
}

impl Route {
    /// A route of which no more is said than where it leads, and how.
    pub fn new(link: u32, to: IpNetwork, through: Option<IpAddr>) -> Self {
        let (mtu, advmss, priority, table, scope, refusal) = Default::default();
        Self { to, through, link, mtu, advmss, priority, table, scope, refusal }
    }

    /// Whether it leads everywhere, and by the main table.
    pub fn is_default(&self) -> bool {
        self.to.prefix() == 0 && self.table.unwrap_or(MAIN) == MAIN
    }

    /// Whether it leads to what is on its link itself, and by the main table.
    fn is_near(&self) -> bool {
        self.through.is_none() && self.refusal.is_none() && self.table.unwrap_or(MAIN) == MAIN
    }

    /// Whether this one, which is there, is what the other one says; what that leaves open may be
    /// anything.
    pub fn is(&self, wanted: &Self) -> bool {
        let place = |ip: IpNetwork| (ip.network(), ip.prefix());
        let table = |route: &Self| route.table.unwrap_or(MAIN);
        let same = |own: Option<u32>, wanted: Option<u32>| wanted.is_none() || own == wanted;
        place(self.to) == place(wanted.to)
            && self.refusal == wanted.refusal
            && self.through == wanted.through
            // What leads nowhere is on no link.
            && (self.link == wanted.link || wanted.refusal.is_some())
            && table(self) == table(wanted)
            && same(self.mtu, wanted.mtu)
            && same(self.advmss, wanted.advmss)
            && same(self.priority.or(Some(0)), wanted.priority.filter(|cost| *cost != 0))
            // IPv6 knows no scopes of routes.
            && (self.to.is_ipv6() || wanted.scope.is_none() || self.scope == wanted.scope)
    }

    /// What a message of the kernel says of a route (linux/rtnetlink.h).
    fn parse(message: Received<'_>) -> Option<Self> {
        const RTM_NEWROUTE: u16 = 24;
        const RTN_UNICAST: u8 = 1;
        const AF_INET: u8 = 2;
        const RTA_DST: u16 = 1;
        const RTA_OIF: u16 = 4;
        const RTA_GATEWAY: u16 = 5;
        const RTA_PRIORITY: u16 = 6;
        const RTA_METRICS: u16 = 8;
        const RTA_TABLE: u16 = 15;
        const RTAX_MTU: u16 = 2;
        const RTAX_ADVMSS: u16 = 8;
        let header = message.payload.get(..12)?;
        let refusal = Refusal::ALL.into_iter().find(|refusal| *refusal as u8 == header[7]);
        if message.kind != RTM_NEWROUTE || (refusal.is_none() && header[7] != RTN_UNICAST) {
            return None;
        }
        let v4 = header[0] == AF_INET;
        let attributes = Attributes(message.payload.get(12..)?);
        let to = match attributes.value(RTA_DST) {
            Some(bytes) => ip(bytes)?,
            None if v4 => IpAddr::from([0; 4]),
            None => IpAddr::from([0; 16]),
        };
        let number = |kind| attributes.value(kind).and_then(read_u32);
        let metrics = Attributes(attributes.value(RTA_METRICS).unwrap_or_default());
        Some(Self {
            to: IpNetwork::new(to, header[1]).ok()?,
            through: attributes.value(RTA_GATEWAY).and_then(ip),
            link: number(RTA_OIF).or_else(|| refusal.map(|_| 0))?,
            refusal,
            mtu: metrics.value(RTAX_MTU).and_then(read_u32),
            advmss: metrics.value(RTAX_ADVMSS).and_then(read_u32),
            priority: number(RTA_PRIORITY),
            table: number(RTA_TABLE).or_else(|| Some(u32::from(header[4]))),
            scope: Some(header[6]),
        })
    }
}

/// The routing table in which everything is unless told (`RT_TABLE_MAIN`, linux/rtnetlink.h).
const MAIN: u32 = 254;

/// Adds a route: through somebody, on the link itself, or one that leads nowhere.
pub fn add_route(batch: &mut Batch, route: &Route) {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.to.ip());
    message.header.destination_prefix_length = route.to.prefix();
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = match route.refusal {
        None => RouteType::Unicast,
        Some(Refusal::Blackhole) => RouteType::BlackHole,
        Some(Refusal::Unreachable) => RouteType::Unreachable,
        Some(Refusal::Prohibit) => RouteType::Prohibit,
    };
    let leads_on = route.refusal.is_none();
    message.header.scope = match (route.scope, route.through) {
        (Some(scope), _) => RouteScope::from(scope),
        (None, None) if route.to.is_ipv4() && leads_on => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(route.to.network()))];
    message.attributes.extend(leads_on.then_some(RouteAttribute::Oif(route.link)));
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    if let Some(table) = route.table {
        // Those that are too large for the header's eight bits are told in full.
        message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.attributes.push(RouteAttribute::Table(table));
    }
    message.attributes.extend(route.through.map(|ip| RouteAttribute::Gateway(ip.into())));
    message.attributes.extend(route.priority.map(RouteAttribute::Priority));
    let metrics: Vec<_> = [route.mtu.map(RouteMetric::Mtu), route.advmss.map(RouteMetric::Advmss)]
        .into_iter()
        .flatten()
        .collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    let message = RouteNetlinkMessage::NewRoute(message);
    // What leads nowhere is on no link, and stays when that goes.
    let flags = NLM_F_CREATE | if leads_on { NLM_F_EXCL } else { NLM_F_REPLACE };
    batch.push(&message, flags, "add the route", format!("to {}", route.to));
}

/// All routes of both families, of all tables.
///
/// # Errors
/// What the kernel refuses.
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let mut batch = Batch::new();
        batch.push(&RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, "list", "routes");
        routes.extend(socket.dump_frame(batch, Route::parse)?);
    }
    Ok(routes)
}

/// What is reached on links themselves, by the main table: each with the link's index.
pub fn near(routes: &[Route]) -> BTreeSet<(u32, IpNetwork)> {
    routes.iter().filter(|route| route.is_near()).map(|route| (route.link, route.to)).collect()
}

/// The link of the default route that wins, IPv4's before IPv6's.
///
/// # Errors
/// What the kernel refuses.
pub fn default_route_link(socket: &mut Socket) -> Result<Option<u32>> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let mut batch = Batch::new();
        batch.push(&RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, "list", "routes");
        let routes = socket.dump_frame(batch, default_route)?;
        if let Some((_, link)) = routes.into_iter().min() {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// Metric and link of a default route of the main table (linux/rtnetlink.h).
fn default_route(message: Received<'_>) -> Option<(u32, u32)> {
    const RTM_NEWROUTE: u16 = 24;
    const RT_TABLE_MAIN: u8 = 254;
    const RTN_UNICAST: u8 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_PRIORITY: u16 = 6;
    let header = message.payload.get(..12)?;
    let wanted = message.kind == RTM_NEWROUTE
        && header[1] == 0
        && header[4] == RT_TABLE_MAIN
        && header[7] == RTN_UNICAST;
    let attributes = Attributes(message.payload.get(12..)?);
    let metric = attributes.value(RTA_PRIORITY).and_then(read_u32).unwrap_or(0);
    let link = attributes.value(RTA_OIF).and_then(read_u32)?;
    wanted.then_some((metric, link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_another_where_that_says_something_else() {
        let to: IpNetwork = "10.7.0.0/16".parse().expect("a network");
        let through = "10.0.0.1".parse().ok();
        let wanted = Route::new(3, to, through);
        let there = Route {
            mtu: Some(1400),
            advmss: Some(1360),
            priority: Some(50),
            table: Some(MAIN),
            scope: Some(0),
            ..wanted
        };
        assert!(there.is(&wanted) && there.is(&there));
        assert!(!wanted.is(&there));
        for other in [
            Route { through: None, ..wanted },
            Route { link: 4, ..wanted },
            Route { mtu: Some(1500), ..wanted },
            Route { advmss: Some(1), ..wanted },
            Route { priority: Some(51), ..wanted },
            Route { table: Some(100), ..wanted },
            Route { scope: Some(253), ..wanted },
            Route { to: "10.7.0.0/17".parse().expect("a network"), ..wanted },
        ] {
            assert!(!there.is(&other), "{other:?}");
        }
        // IPv4 tells of no cost where it is 0.
        let free = Route { priority: Some(0), ..wanted };
        assert!(Route { priority: None, ..there }.is(&free));
    }
}
