//! A link-layer address that a request brings along is nobody else's on the network: two of a bridge
//! take each other's frames in turn.

use cnm::{Error, MacAddr, Result, network::Network};

use crate::netd::Netd;

impl Netd {
    /// Refuses a link-layer address that somebody on the network has.
    ///
    /// # Errors
    /// `exists`, and says whose it is.
    pub(super) fn check_mac(&self, network: &Network, mac: MacAddr) -> Result<()> {
        let taken = |whose: std::fmt::Arguments<'_>| {
            Error::exists(format_args!("MAC address {mac} of network {} is {whose}", network.name))
                .with("mac", mac.to_string())
                .with("network", network.id.as_str())
        };
        if mac == MacAddr::of_id(network.id.as_str()) {
            return Err(taken(format_args!("the host's own there")));
        }
        if let Some(holder) = self.registry.borrow().holder_of_mac(&network.id, mac) {
            let label = holder.container.label();
            return Err(taken(format_args!("held by container {label} already"))
                .with("endpoint", holder.id.as_str()));
        }
        match self.cluster().and_then(|cluster| cluster.holder_of_mac(&network.id, mac)) {
            Some((name, node)) => {
                Err(taken(format_args!("held by container {name} on node {node} already")))
            }
            None => Ok(()),
        }
    }
}
