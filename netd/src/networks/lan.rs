//! Networks whose containers are on a LAN of the host's: what others have there is nobody's to get.

use std::{net::IpAddr, rc::Rc};

use cnm::{Error, Result, driver::Capabilities, network::Network};

use crate::{host::Holder, netd::Netd};

/// Whether the containers of a driver's networks are where the host and its routers are themselves:
/// on a network with a gateway of netd's own there is nobody else.
pub(crate) fn is_lan(capabilities: Capabilities) -> bool {
    capabilities.addresses && !capabilities.gateway
}

impl Netd {
    /// Who has addresses of a network that is a LAN's.
    pub(crate) async fn holders(&self, network: &Network) -> Vec<Holder> {
        let subnets: Vec<_> = network.subnets.iter().map(|subnet| subnet.subnet).collect();
        self.host.holders(&subnets).await
    }

    /// Keeps what the host and its routers have from being given out on a network that has just been
    /// made, so that people see how full it is.
    pub(crate) async fn keep_off_from_now(self: &Rc<Self>, network: &Network) {
        let Ok(driver) = self.driver(&network.driver) else { return };
        if driver.capabilities().await.is_ok_and(is_lan) {
            // Nobody asks for anything yet that could be refused.
            self.keep_off(network, &[]).await.ok();
        }
    }

    /// Keeps what the host and its routers have now from being given out, and refuses it to who asks
    /// for it. The host may have got an address since the network was made.
    ///
    /// # Errors
    /// `exists`, and says whose it is.
    pub(crate) async fn keep_off(&self, network: &Network, wanted: &[IpAddr]) -> Result<()> {
        let holders = self.holders(network).await;
        let addresses = holders.iter().map(|holder| holder.address).collect();
        self.registry.borrow_mut().keep_off(&network.id, addresses, self.now());
        let taken = holders.iter().find(|holder| wanted.contains(&holder.address));
        let Some(holder) = taken else { return Ok(()) };
        Err(Error::exists(format_args!(
            "address {} of network {} is {}",
            holder.address,
            network.name,
            self.host.describe(holder).await
        ))
        .with("address", holder.address.to_string())
        .with("network", network.id.as_str()))
    }
}
