//! The routes of the host that are none of netd's, of every table.

use std::collections::{HashMap, hash_map::Entry};

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};

use super::{Host, route};
use crate::intrusions::{Way, is_somewhere};

/// Who made a route that is netd's own ("n" in ASCII, as its drivers write it), and one to a container
/// of another node that is sent its packets as they are.
const OWN: [u8; 2] = [b'n', 0x6f];

/// What a route leads over.
#[derive(Clone, Copy)]
enum Over {
    Nothing,
    Link(u32),
    Several,
}

impl Host {
    /// Them all, but for those that lead everywhere.
    pub(crate) async fn ways(&self) -> Vec<Way> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let routes = self.handle.route().get(request).execute();
            match routes.try_filter_map(async |route| Ok(foreign(&route))).try_collect().await {
                Ok::<Vec<_>, _>(routes) => found.extend(routes),
                Err(error) => tracing::debug!(?family, %error, "no routes"),
            }
        }
        let mut names = HashMap::new();
        let mut ways = Vec::new();
        for (to, over) in found {
            let link = match over {
                Over::Nothing => None,
                Over::Several => Some("several links".to_owned()),
                Over::Link(index) => {
                    let name = match names.entry(index) {
                        Entry::Occupied(name) => name.into_mut(),
                        Entry::Vacant(new) => new.insert(self.link_name(index).await),
                    };
                    Some(name.clone())
                }
            };
            ways.push(Way { to, link });
        }
        ways
    }
}

/// Whether a route is netd's own.
pub(super) fn is_own(message: &RouteMessage) -> bool {
    OWN.map(RouteProtocol::Other).contains(&message.header.protocol)
}

/// Where a route leads and over what, if it is none of netd's.
fn foreign(message: &RouteMessage) -> Option<(IpNetwork, Over)> {
    if is_own(message) {
        return None;
    }
    let over = match message.header.kind {
        RouteType::Unicast => message.attributes.iter().find_map(over).unwrap_or(Over::Several),
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Over::Nothing,
        // Of the host's own addresses.
        _ => return None,
    };
    let to = route(message).filter(|to| is_somewhere(*to))?;
    Some((to, over))
}

fn over(attribute: &RouteAttribute) -> Option<Over> {
    match attribute {
        RouteAttribute::Oif(index) => Some(Over::Link(*index)),
        _ => None,
    }
}
