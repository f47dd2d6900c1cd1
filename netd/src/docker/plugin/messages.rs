//! The documents of the protocol, as dockerd 20.10 to 29 write and read them. What is not needed is
//! passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Options by name, of any kind.
pub(super) type Options = Map<String, Value>;

/// The options that a network or an endpoint was made with by its user.
pub(super) const GENERIC: &str = "com.docker.network.generic";
/// Whether a network has no way out.
pub(super) const INTERNAL: &str = "com.docker.network.internal";
/// The ports that are published.
pub(super) const PORTMAP: &str = "com.docker.network.portmap";

/// `NetworkDriver.CreateNetwork`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "Options", default)]
    pub(super) options: Option<Options>,
    #[serde(rename = "IPv4Data", default)]
    pub(super) ipv4: Option<Vec<IpamData>>,
    #[serde(rename = "IPv6Data", default)]
    pub(super) ipv6: Option<Vec<IpamData>>,
}

/// A subnet of a network.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct IpamData {
    #[serde(rename = "AddressSpace", default)]
    pub(super) space: String,
    #[serde(rename = "Pool", default)]
    pub(super) pool: String,
    /// With a prefix length.
    #[serde(rename = "Gateway", default)]
    pub(super) gateway: String,
    /// Each with a prefix length.
    #[serde(rename = "AuxAddresses", default)]
    pub(super) aux: Option<BTreeMap<String, String>>,
}

/// What names no more than a network.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct OfNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
}

/// What names an endpoint, and the options that some say with it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct OfEndpoint {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    #[serde(rename = "Options", default)]
    pub(super) options: Option<Options>,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    #[serde(rename = "Interface", default)]
    pub(super) interface: Option<Interface>,
    #[serde(rename = "Options", default)]
    pub(super) options: Option<Options>,
}

/// What an endpoint's interface is to have; in an answer, what was chosen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Interface {
    #[serde(rename = "Address", default, skip_serializing_if = "String::is_empty")]
    pub(super) address: String,
    #[serde(rename = "AddressIPv6", default, skip_serializing_if = "String::is_empty")]
    pub(super) address_v6: String,
    #[serde(rename = "MacAddress", default, skip_serializing_if = "String::is_empty")]
    pub(super) mac: String,
}

/// The answer to `NetworkDriver.CreateEndpoint`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Created {
    #[serde(rename = "Interface")]
    pub(super) interface: Interface,
}

/// A port of `com.docker.network.portmap`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PortMap {
    #[serde(rename = "Proto", default)]
    pub(super) protocol: u8,
    #[serde(rename = "Port", default)]
    pub(super) port: u16,
    #[serde(rename = "HostIP", default)]
    pub(super) host_ip: String,
    #[serde(rename = "HostPort", default)]
    pub(super) host_port: u16,
    #[serde(rename = "HostPortEnd", default)]
    pub(super) host_port_end: u16,
}

/// The answer to `NetworkDriver.Join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Joined {
    #[serde(rename = "InterfaceName")]
    pub(super) interface: InterfaceName,
    #[serde(rename = "Gateway", skip_serializing_if = "String::is_empty")]
    pub(super) gateway: String,
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "String::is_empty")]
    pub(super) gateway_v6: String,
    #[serde(rename = "StaticRoutes", skip_serializing_if = "Vec::is_empty")]
    pub(super) routes: Vec<StaticRoute>,
    #[serde(rename = "DisableGatewayService")]
    pub(super) no_gateway: bool,
}

/// The link to move, and what its name in the container begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct InterfaceName {
    #[serde(rename = "SrcName")]
    pub(super) source: String,
    #[serde(rename = "DstPrefix")]
    pub(super) prefix: String,
}

/// A route besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct StaticRoute {
    #[serde(rename = "Destination")]
    pub(super) destination: String,
    /// 0 through somebody, 1 on the link.
    #[serde(rename = "RouteType")]
    pub(super) kind: u8,
    #[serde(rename = "NextHop", skip_serializing_if = "String::is_empty")]
    pub(super) next_hop: String,
}

/// `IpamDriver.RequestPool`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RequestPool {
    #[serde(rename = "Pool", default)]
    pub(super) pool: String,
    #[serde(rename = "SubPool", default)]
    pub(super) sub_pool: String,
    #[serde(rename = "Options", default)]
    pub(super) options: Option<BTreeMap<String, String>>,
    #[serde(rename = "V6", default)]
    pub(super) v6: bool,
}

/// `IpamDriver.RequestAddress` and `IpamDriver.ReleaseAddress`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct OfAddress {
    #[serde(rename = "PoolID")]
    pub(super) pool: String,
    #[serde(rename = "Address", default)]
    pub(super) address: String,
    #[serde(rename = "Options", default)]
    pub(super) options: Option<BTreeMap<String, String>>,
}

/// `IpamDriver.ReleasePool`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct OfPool {
    #[serde(rename = "PoolID")]
    pub(super) pool: String,
}
