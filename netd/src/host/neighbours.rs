//! Whom the host knows as neighbours for good, and how many neighbours the machine may know.

use std::{collections::HashSet, io, net::IpAddr};

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage},
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

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
    pub(crate) fn most_neighbours(&self) -> Vec<Most> {
        [AddressFamily::Inet, AddressFamily::Inet6]
            .into_iter()
            .filter_map(|family| {
                most(family).unwrap_or_else(|error| {
                    tracing::debug!(%error, "no limit of neighbours");
                    None
                })
            })
            .collect()
    }
}

fn address(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}

/// What the kernel says of a family's table, which it does first. What follows, something for each link
/// of the host, is never taken: it would be 1.4 kB for each of a thousand containers.
fn most(family: AddressFamily) -> io::Result<Option<Most>> {
    let mut table = NeighbourTableMessage::default();
    table.header.family = family;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbourTable(table));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let (reply, _) = socket.recv_from_full()?;
    let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply);
    let reply = reply.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbourTable(table)) = reply.payload
    else {
        return Ok(None);
    };
    let v6 = family == AddressFamily::Inet6;
    Ok(table.attributes.iter().find_map(|attribute| match attribute {
        NeighbourTableAttribute::Threshold3(most) => Some(Most { v6, neighbours: *most }),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_kernel_says_how_many_it_keeps_of_each_family() {
        for (family, table) in
            [(AddressFamily::Inet, "arp_cache"), (AddressFamily::Inet6, "ndisc_cache")]
        {
            let told = most(family).unwrap().unwrap();
            let shown =
                Command::new("ip").args(["ntable", "show", "name", table]).output().unwrap();
            let shown = String::from_utf8(shown.stdout).unwrap();
            let mut words = shown.split_whitespace().skip_while(|word| *word != "thresh3");
            assert_eq!(words.nth(1), Some(told.neighbours.to_string().as_str()), "{shown}");
        }
    }
}
