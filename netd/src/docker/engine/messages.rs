//! The documents of the API as its clients write them. What is not needed is passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// `null` as if nothing were there.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A network to be made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Create {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) driver: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) scope: String,
    #[serde(rename = "EnableIPv4")]
    pub(super) enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    pub(super) enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM", deserialize_with = "or_default")]
    pub(super) ipam: Ipam,
    #[serde(deserialize_with = "or_default")]
    pub(super) internal: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) attachable: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) ingress: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) config_only: bool,
    pub(super) config_from: Option<ConfigFrom>,
    #[serde(deserialize_with = "or_default")]
    pub(super) options: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: BTreeMap<String, String>,
}

/// Where a network's addresses come from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Ipam {
    #[serde(deserialize_with = "or_default")]
    pub(super) driver: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) options: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) config: Vec<Config>,
}

/// A subnet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    #[serde(deserialize_with = "or_default")]
    pub(super) subnet: String,
    #[serde(rename = "IPRange", deserialize_with = "or_default")]
    pub(super) range: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) gateway: String,
    #[serde(rename = "AuxiliaryAddresses", alias = "AuxAddress", deserialize_with = "or_default")]
    pub(super) aux: BTreeMap<String, String>,
}

/// Another network, whose configuration is to be this one's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ConfigFrom {
    #[serde(deserialize_with = "or_default")]
    pub(super) network: String,
}

/// A network that was made.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) id: String,
    pub(super) warning: String,
}

/// A container to be put on a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Connect {
    #[serde(deserialize_with = "or_default")]
    pub(super) container: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) endpoint_config: EndpointConfig,
}

/// What it is to have there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct EndpointConfig {
    #[serde(rename = "IPAMConfig", deserialize_with = "or_default")]
    pub(super) ipam: EndpointIpam,
    #[serde(deserialize_with = "or_default")]
    pub(super) links: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) aliases: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) gw_priority: i32,
    #[serde(deserialize_with = "or_default")]
    pub(super) mac_address: String,
}

/// The addresses that it must have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EndpointIpam {
    #[serde(rename = "IPv4Address", deserialize_with = "or_default")]
    pub(super) ipv4: String,
    #[serde(rename = "IPv6Address", deserialize_with = "or_default")]
    pub(super) ipv6: String,
    #[serde(rename = "LinkLocalIPs", deserialize_with = "or_default")]
    pub(super) link_local: Vec<String>,
}

/// A container to be taken off a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Disconnect {
    #[serde(deserialize_with = "or_default")]
    pub(super) container: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) force: bool,
}

/// What a prune removed: `null` where that was nothing.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pruned {
    pub(super) networks_deleted: Option<Vec<String>>,
}
