//! Whom the host knows as neighbours for good, and how many neighbours the machine may know.

use std::{collections::HashSet, net::IpAddr};

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage},
};

use super::Host;

/// How many neighbours of a family the machine may know, in all namespaces together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    /// Whether the family is IPv6.
    pub(crate) v6: bool,
    /// `gc_thresh3` (ip-sysctl.rst); those that are known for good are not counted.
    pub(crate) neighbours: u32,
}

impl Host {
    /// Addresses of neighbours that were written down for good.
    pub(crate) async fn neighbours_for_good(&self) -> HashSet<IpAddr> {
        let all: Result<Vec<_>, _> = self.handle.neighbours().get().execute().try_collect().await;
        let all = all.unwrap_or_else(|error| {
            tracing::debug!(%error, "no neighbours");
            Vec::new()
        });
        let for_good = |n: &&NeighbourMessage| n.header.state == NeighbourState::Permanent;
        all.iter().filter(for_good).filter_map(address).collect()
    }

    /// How many neighbours there may be; nothing where the kernel does not tell.
    pub(crate) async fn most_neighbours(&self) -> Vec<Most> {
        let message = RouteNetlinkMessage::GetNeighbourTable(NeighbourTableMessage::default());
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let Ok(mut replies) = self.handle.clone().request(request) else { return Vec::new() };
        let mut limits = Vec::new();
        while let Some(reply) = replies.next().await {
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbourTable(table)) =
                reply.payload
            {
                limits.extend(most(&table));
            }
        }
        limits
    }
}

fn address(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}

/// What the message about a table itself says; those about its links say nothing of it.
fn most(table: &NeighbourTableMessage) -> Option<Most> {
    let v6 = match table.header.family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    table.attributes.iter().find_map(|attribute| match attribute {
        NeighbourTableAttribute::Threshold3(most) => Some(Most { v6, neighbours: *most }),
        _ => None,
    })
}
