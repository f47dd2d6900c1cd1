//! Subnets with which a network would cut this host off: those that have an address by which it is
//! reached itself, or that of a router by which it reaches others.

use cnm::{Error, Result};
use ipnetwork::IpNetwork;

use crate::{host::Hop, netd::Netd};

impl Netd {
    /// Refuses subnets that have an address of one of the host's links, or of a router on one: what is
    /// sent there, and what comes from there, would go by the network from then on. `own` is the
    /// network's link, if it may be there already. A link without a carrier reaches nobody.
    ///
    /// # Errors
    /// `exists`, with the address and the link.
    pub(crate) async fn check_cut(&self, subnets: &[IpNetwork], own: Option<&str>) -> Result<()> {
        if subnets.is_empty() {
            return Ok(());
        }
        for holder in self.host.holders(subnets).await {
            let Some(link) = self.host.live_link(&holder).await else { continue };
            let is_own = |subnet: &&IpNetwork| subnet.contains(holder.address);
            let Some(subnet) = subnets.iter().find(is_own).filter(|_| own != Some(&link)) else {
                continue;
            };
            let address = holder.address;
            return Err(Error::exists(format_args!(
                "subnet {subnet} would cut this host off: {address} is {}; choose another",
                self.host.describe(&holder).await
            ))
            .with("subnet", subnet.to_string())
            .with("address", address.to_string())
            .with("link", link));
        }
        let hops = self.host.hops(subnets).await;
        match hops.into_iter().find(|hop| own != Some(&hop.link)) {
            Some(hop) => Err(cut(subnets, hop)),
            None => Ok(()),
        }
    }
}

fn cut(subnets: &[IpNetwork], Hop { to, router, link }: Hop) -> Error {
    let mut over = subnets.iter().filter(|subnet| subnet.contains(router));
    let subnet = over.next().map_or_else(String::new, ToString::to_string);
    let route = to.map_or_else(|| "default".to_owned(), |to| to.to_string());
    Error::exists(format_args!(
        "subnet {subnet} would cut this host off: {router} is the router of its route {route} via {router} \
         dev {link}; choose another"
    ))
    .with("subnet", subnet)
    .with("address", router.to_string())
    .with("link", link)
}
