//! `create`: a network is looked at before Podman writes it down. Nothing is made yet.

use super::{
    document::{LeaseRange, Network},
    translate::{self, DHCP, HOST_LOCAL, NETD, NONE},
};
use crate::{Error, Name, Result, driver::Info, split::upper_half};

/// The network as it is to be written down. Where nobody is to give addresses but who is asked, it is
/// netd, under a name that Podman takes for somebody else's: it gives none itself then, and its own
/// `none` would take the network's names away.
pub(super) fn create(info: &Info, mut network: Network) -> Result<String> {
    let _: Name = network
        .name
        .parse()
        .map_err(|error| Error::invalid(error).with("network", network.name.as_str()))?;
    match network.ipam() {
        None | Some(NETD) => network.set_ipam(NETD),
        Some(NONE) => {}
        Some(HOST_LOCAL) => leave_half(&mut network)?,
        Some(DHCP) => {
            return Err(Error::unsupported(
                "netd takes no addresses by DHCP: leave the IPAM driver out, and netd gives them",
            ));
        }
        Some(other) => {
            return Err(Error::invalid(format_args!(
                "unknown IPAM driver {other:?}: leave it out, and netd gives the addresses"
            )));
        }
    }
    let create = translate::create(info, &network)?;
    if let Some(options) = &info.options {
        options.check_network(&info.name, create.options.keys().map(String::as_str))?;
    }
    serde_json::to_string(&network).map_err(Error::internal)
}

/// Has Podman give addresses of the lower half of each subnet, so that others on the network get
/// those of the upper one from netd.
pub(super) fn leave_half(network: &mut Network) -> Result<()> {
    let subnets = network.subnets.as_deref_mut().unwrap_or_default();
    if subnets.is_empty() {
        return Err(Error::invalid(
            "the IPAM driver host-local needs a subnet: give one, or leave the driver out and netd \
             chooses",
        ));
    }
    for subnet in subnets.iter_mut().filter(|subnet| subnet.lease_range.is_none()) {
        if let Some(upper) = upper_half(subnet.subnet) {
            let end_ip = Some(translate::before(upper.network()));
            subnet.lease_range = Some(LeaseRange { start_ip: None, end_ip });
        }
    }
    Ok(())
}
