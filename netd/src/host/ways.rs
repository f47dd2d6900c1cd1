//! The routes of the host that are none of netd's, of every table.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    link::LinkAttribute,
    route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};

use super::{Host, route};
use crate::intrusions::{Way, is_somewhere};

/// Who made a route that is netd's own ("n" in ASCII, as its drivers write it).
const OWN: u8 = b'n';

impl Host {
    /// Them all, but for those that lead everywhere.
    pub(crate) async fn ways(&self) -> Vec<Way> {
        let names = self.link_names().await;
        let mut ways = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let found: Result<Vec<_>, _> =
                self.handle.route().get(request).execute().try_collect().await;
            match found {
                Ok(routes) => ways.extend(routes.iter().filter_map(|route| way(route, &names))),
                Err(error) => tracing::debug!(?family, %error, "no routes"),
            }
        }
        ways
    }

    async fn link_names(&self) -> HashMap<u32, String> {
        let links: Result<Vec<_>, _> = self.handle.link().get().execute().try_collect().await;
        let name = |attribute: &LinkAttribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        };
        let named = links.unwrap_or_default();
        named
            .iter()
            .filter_map(|link| Some((link.header.index, link.attributes.iter().find_map(name)?)))
            .collect()
    }
}

fn way(message: &RouteMessage, names: &HashMap<u32, String>) -> Option<Way> {
    let link = match message.header.kind {
        RouteType::Unicast => {
            let index = message.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            Some(index.and_then(|index| names.get(&index)).map_or("several links", |name| name))
        }
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => None,
        // Of the host's own addresses.
        _ => return None,
    };
    let to = route(message).filter(|to| is_somewhere(*to))?;
    let foreign = message.header.protocol != RouteProtocol::Other(OWN);
    foreign.then(|| Way { to, link: link.map(str::to_owned) })
}
