//! The routers by which the host's routes lead.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    link::LinkFlags,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
};

use super::{Host, links, route, ways::is_own};

/// A router by which a route of the host's leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Where the route leads; none where that is everywhere.
    pub(crate) to: Option<IpNetwork>,
    /// The router.
    pub(crate) router: IpAddr,
    /// The host's link to it, by name.
    pub(crate) link: String,
}

impl Host {
    /// The routers with an address of these subnets, of the routes of every table that are none of netd's, on
    /// links with something at their other end.
    pub(crate) async fn hops(&self, subnets: &[IpNetwork]) -> Vec<Hop> {
        let mut found = Vec::new();
        for (family, v4) in [(AddressFamily::Inet, true), (AddressFamily::Inet6, false)] {
            if !subnets.iter().any(|subnet| subnet.is_ipv4() == v4) {
                continue;
            }
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let mut routes = Box::pin(self.handle.route().get(request).execute());
            loop {
                match routes.try_next().await {
                    Ok(Some(message)) => found.extend(hops(&message)),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(?family, %error, "no routes");
                        break;
                    }
                }
            }
        }
        found.retain(|(_, router, _)| subnets.iter().any(|subnet| subnet.contains(*router)));
        let mut live = Vec::new();
        for (to, router, link) in found {
            let Some(link) = self.link(link).await else { continue };
            if link.header.flags.contains(LinkFlags::LowerUp)
                && let Some(link) = links::name(link)
            {
                live.push(Hop { to, router, link });
            }
        }
        live
    }
}

/// The routers of a route, and the links to them.
fn hops(message: &RouteMessage) -> Vec<(Option<IpNetwork>, IpAddr, u32)> {
    if message.header.kind != RouteType::Unicast || is_own(message) {
        return Vec::new();
    }
    let to = route(message);
    let hop = |link: Option<u32>, attributes: &[RouteAttribute]| {
        Some((to, attributes.iter().find_map(router)?, link?))
    };
    let link = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let mut all: Vec<_> = hop(link, &message.attributes).into_iter().collect();
    for attribute in &message.attributes {
        if let RouteAttribute::MultiPath(several) = attribute {
            let each = several.iter();
            all.extend(each.filter_map(|one| hop(Some(one.interface_index), &one.attributes)));
        }
    }
    all
}

fn router(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip))
        | RouteAttribute::Via(RouteVia::Inet(ip)) => Some((*ip).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(ip))
        | RouteAttribute::Via(RouteVia::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    }
}
