//! Subnets with which a network would cut this host off: those that have an address by which it is
//! reached itself.

use cnm::{Error, Result};
use ipnetwork::IpNetwork;

use crate::netd::Netd;

impl Netd {
    /// Refuses subnets that have an address of one of the host's links: what is sent there, and what
    /// comes from there, would go by the network from then on. `own` is the network's link, if it
    /// may be there already. A link without a carrier reaches nobody.
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
        Ok(())
    }
}
