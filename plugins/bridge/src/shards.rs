//! Networks of more endpoints than the kernel lets one bridge have ports ([`PORTS`]). Their endpoints
//! are routed: each has its address for itself alone, on one of several bridges, and reaches
//! everybody through the host, which knows by a route and a neighbour that is written down where
//! each one is. Nobody asks for neighbours, and no broadcast reaches all of them. Which bridge an
//! endpoint is on follows from its id, so there is nothing to remember.

use cnm::{EndpointId, Error, Result, network::Network};
use ipnetwork::IpNetwork;

use crate::options::LAYOUT;

/// How many ports a bridge may have (`BR_MAX_PORTS` is `1 << 10` and number 0 is not used,
/// net/bridge/br_private.h).
pub(crate) const PORTS: u16 = 1023;

/// The value of [`LAYOUT`] for networks whose endpoints are routed.
pub(crate) const ROUTED: &str = "routed";

/// How many bridges such a network has: one for each value of the first digit of an id.
const SHARDS: u8 = 16;

/// Whether the endpoints of a network are routed.
pub(crate) fn is_routed(network: &Network) -> bool {
    LAYOUT.given(&network.options).is_some_and(|(_, layout)| layout == ROUTED)
}

/// Refuses a layout that there is not.
pub(crate) fn check(network: &Network) -> Result<()> {
    match LAYOUT.given(&network.options) {
        None | Some((_, "bridged" | ROUTED)) => Ok(()),
        Some((name, other)) => Err(Error::invalid(format_args!(
            "invalid {name} {other:?}: it should be bridged or {ROUTED}"
        ))
        .with("option", name)
        .with("network", network.name.as_str())),
    }
}

/// The bridges of a network that its endpoints are on; none where that is the network's own.
pub(crate) fn names(network: &Network) -> Vec<String> {
    let count = if is_routed(network) { SHARDS } else { 0 };
    (0..count).map(|shard| name(network, char::from_digit(u32::from(shard), 16))).collect()
}

/// The bridge of an endpoint; none where it is the network's own.
pub(crate) fn of(network: &Network, endpoint: &EndpointId) -> Option<String> {
    is_routed(network).then(|| name(network, endpoint.as_str().chars().next()))
}

/// Such as `b3-0123456789ab`, as long as a link's name may be.
fn name(network: &Network, digit: Option<char>) -> String {
    let id = network.id.as_str().get(..12).expect("an id has 64 digits");
    format!("b{}-{id}", digit.unwrap_or('0'))
}

/// An address for itself alone.
pub(crate) fn alone(address: IpNetwork) -> IpNetwork {
    IpNetwork::from(address.ip())
}
