//! Who has addresses on the LANs that this host is on: itself, and the routers that it goes by.

use std::{collections::BTreeSet, net::IpAddr};

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage},
    link::LinkFlags,
    route::{RouteAddress, RouteAttribute, RouteMessage},
};

use super::{Host, links, underlay::ANYWHERE};

/// An address of a LAN that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The address.
    pub(crate) address: IpAddr,
    /// The host's link there, by index.
    link: u32,
    /// Whether it is the router's that the host goes by there; its own if not.
    router: bool,
}

impl Host {
    /// Who has which addresses of these subnets. Asked for at each attach to a LAN, so it costs one
    /// list of the host's addresses and, for each link with one of the subnets, the way to anywhere:
    /// the list of all routes would grow with the containers.
    pub(crate) async fn holders(&self, subnets: &[IpNetwork]) -> Vec<Holder> {
        let on = |ip: IpAddr| subnets.iter().any(|subnet| subnet.contains(ip));
        let found: Result<Vec<_>, _> = self.handle.address().get().execute().try_collect().await;
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the host's addresses are not known");
            Vec::new()
        });
        let own = |message: &AddressMessage| {
            let link = message.header.index;
            let has = addresses(message).filter(|address| on(*address));
            has.map(move |address| Holder { address, link, router: false }).collect::<Vec<_>>()
        };
        let mut holders: Vec<_> = found.iter().flat_map(own).collect();
        let ways: BTreeSet<_> =
            holders.iter().map(|own| (own.link, own.address.is_ipv4())).collect();
        for (link, v4) in ways {
            let router = self.router(link, v4).await.filter(|router| on(*router));
            holders.extend(router.map(|address| Holder { address, link, router: true }));
        }
        holders
    }

    /// What there is to say of a holder.
    pub(crate) async fn describe(&self, holder: &Holder) -> String {
        let name = self.link_name(holder.link).await;
        if holder.router {
            format!("the router's that this host goes by on {name}")
        } else {
            format!("this host's own, on {name}")
        }
    }

    /// The link on which a holder is, by name, when something is at its other end.
    pub(crate) async fn live_link(&self, holder: &Holder) -> Option<String> {
        let link = self.link(holder.link).await?;
        let flags = link.header.flags;
        let live = flags.contains(LinkFlags::LowerUp) && !flags.contains(LinkFlags::Loopback);
        links::name(link).filter(|_| live)
    }

    /// The gateway by which something far away is reached over a link, if there is one.
    async fn router(&self, link: u32, v4: bool) -> Option<IpAddr> {
        let mut anywhere = ANYWHERE.iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
        let anywhere = anywhere.find(|ip| ip.is_ipv4() == v4)?;
        let mut request = RouteMessage::default();
        (request.header.address_family, request.header.destination_prefix_length) = match anywhere {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        let anywhere = match anywhere {
            IpAddr::V4(ip) => RouteAddress::Inet(ip),
            IpAddr::V6(ip) => RouteAddress::Inet6(ip),
        };
        request.attributes = vec![RouteAttribute::Destination(anywhere), RouteAttribute::Oif(link)];
        let mut routes = Box::pin(self.handle.route().get(request).execute());
        // A link without a default route leads nowhere: the kernel refuses.
        let route = routes.try_next().await.ok().flatten()?;
        route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
            _ => None,
        })
    }
}

/// Those of a message: of both ends, where the link has but two.
fn addresses(message: &AddressMessage) -> impl Iterator<Item = IpAddr> {
    message.attributes.iter().filter_map(|attribute| match attribute {
        AddressAttribute::Address(ip) | AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    })
}
