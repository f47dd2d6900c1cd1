//! Results: what an ADD made, in the words of each version.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use super::{
    keys::{Item, Keys},
    refusal::{Refusal, Result},
    version::Version,
};
use crate::endpoint::Route;

/// What an ADD made, with all that the newest version can say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) interfaces: Vec<Interface>,
    pub(super) ips: Vec<Ip>,
    pub(super) routes: Vec<Way>,
    pub(super) dns: Dns,
}

/// A link, on the host or in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) mac: Option<String>,
    pub(super) mtu: Option<u64>,
    /// The path of its namespace; none on the host.
    pub(super) sandbox: Option<String>,
    pub(super) socket_path: Option<String>,
    pub(super) pci_id: Option<String>,
}

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ip {
    /// Whose it is, as a place among the interfaces.
    pub(super) interface: Option<u64>,
    pub(super) address: IpNetwork,
    pub(super) gateway: Option<IpAddr>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) dst: IpNetwork,
    pub(super) gw: Option<IpAddr>,
    /// What else the newest version can say of it, as it was said.
    pub(super) details: Map<String, Value>,
}

/// How names are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dns {
    pub(super) nameservers: Vec<String>,
    pub(super) domain: Option<String>,
    pub(super) search: Vec<String>,
    pub(super) options: Vec<String>,
}

const ROUTE_DETAILS: [&str; 5] = ["mtu", "advmss", "priority", "table", "scope"];

impl Dns {
    pub(super) fn parse(keys: &Keys<'_>) -> Result<Self> {
        Ok(Self {
            nameservers: keys.texts("nameservers")?,
            domain: keys.text("domain")?.map(str::to_owned),
            search: keys.texts("search")?,
            options: keys.texts("options")?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn document(&self) -> Value {
        let mut map = Map::new();
        let list = |texts: &[String]| Value::from(texts.to_vec());
        if !self.nameservers.is_empty() {
            map.insert("nameservers".to_owned(), list(&self.nameservers));
        }
        if let Some(domain) = &self.domain {
            map.insert("domain".to_owned(), Value::from(domain.as_str()));
        }
        if !self.search.is_empty() {
            map.insert("search".to_owned(), list(&self.search));
        }
        if !self.options.is_empty() {
            map.insert("options".to_owned(), list(&self.options));
        }
        Value::Object(map)
    }
}

impl Outcome {
    /// Reads a result of any version: what it has tells which it is.
    pub(super) fn parse(keys: &Keys<'_>) -> Result<Self> {
        let mut outcome = Self::default();
        for item in keys.list("interfaces")? {
            let keys = item.object()?;
            let text = |key: &str| keys.text(key).map(|text| text.map(str::to_owned));
            outcome.interfaces.push(Interface {
                name: text("name")?.unwrap_or_default(),
                mac: text("mac")?,
                mtu: keys.number("mtu")?,
                sandbox: text("sandbox")?,
                socket_path: text("socketPath")?,
                pci_id: text("pciID")?,
            });
        }
        for item in keys.list("ips")? {
            let keys = item.object()?;
            outcome.ips.push(Ip {
                interface: keys.number("interface")?,
                address: required(&keys, "address")?,
                gateway: keys.parsed("gateway")?,
            });
        }
        for item in keys.list("routes")? {
            outcome.routes.push(route(item)?);
        }
        for key in ["ip4", "ip6"] {
            let Some(keys) = keys.object(key)? else { continue };
            outcome.ips.push(Ip {
                interface: None,
                address: required(&keys, "ip")?,
                gateway: keys.parsed("gateway")?,
            });
            for item in keys.list("routes")? {
                outcome.routes.push(route(item)?);
            }
        }
        if let Some(dns) = keys.object("dns")? {
            outcome.dns = Dns::parse(&dns)?;
        }
        Ok(outcome)
    }

    /// Puts what another plugin made before what this one did.
    pub(super) fn after(self, previous: Self) -> Self {
        let Self { mut interfaces, mut ips, mut routes, dns } = previous;
        let before = u64::try_from(interfaces.len()).unwrap_or(u64::MAX);
        interfaces.extend(self.interfaces);
        ips.extend(
            self.ips
                .into_iter()
                .map(|ip| Ip { interface: ip.interface.map(|at| at.saturating_add(before)), ..ip }),
        );
        routes.extend(self.routes);
        Self { interfaces, ips, routes, dns: if dns.is_empty() { self.dns } else { dns } }
    }

    /// The document of a version.
    ///
    /// # Errors
    /// When the version cannot say it: before 0.3.0 there is no result without an address.
    pub(super) fn to_text(&self, version: Version) -> Result<String> {
        let mut map = Map::new();
        map.insert("cniVersion".to_owned(), Value::from(version.as_str()));
        if version.has_ip4_and_ip6() {
            if self.ips.is_empty() {
                return Err(Refusal::new(
                    Refusal::UNSUPPORTED,
                    format_args!(
                        "cniVersion {version} is not supported for an interface without an \
                         address: its results have no place for one; 0.3.0 and later do"
                    ),
                ));
            }
            for (key, v4) in [("ip4", true), ("ip6", false)] {
                if let Some(ip) = self.ips.iter().find(|ip| ip.address.is_ipv4() == v4) {
                    map.insert(key.to_owned(), self.family(ip, v4));
                }
            }
        } else {
            let interfaces = self.interfaces.iter().map(|link| link.document(version));
            map.insert("interfaces".to_owned(), interfaces.collect());
            map.insert("ips".to_owned(), self.ips.iter().map(|ip| ip.document(version)).collect());
            let routes: Value = self.routes.iter().map(|way| way.document(version)).collect();
            map.insert("routes".to_owned(), routes);
        }
        map.insert("dns".to_owned(), self.dns.document());
        Ok(Value::Object(map).to_string())
    }

    fn family(&self, ip: &Ip, v4: bool) -> Value {
        let mut document = json!({"ip": ip.address.to_string()});
        if let Some(gateway) = ip.gateway {
            document["gateway"] = Value::from(gateway.to_string());
        }
        let routes = self.routes.iter().filter(|route| route.dst.is_ipv4() == v4);
        document["routes"] = routes.map(|way| way.document(Version::V0_2_0)).collect();
        document
    }
}

fn required<T: std::str::FromStr<Err: std::fmt::Display>>(keys: &Keys<'_>, key: &str) -> Result<T> {
    keys.parsed(key)?
        .ok_or_else(|| Refusal::new(Refusal::CONFIG, format_args!("{} is missing", keys.path(key))))
}

fn route(item: Item<'_>) -> Result<Way> {
    let keys = item.object()?;
    let details = keys
        .items()
        .filter_map(|(key, item)| {
            let known = ROUTE_DETAILS.iter().find(|known| known.eq_ignore_ascii_case(key))?;
            (!item.value.is_null()).then(|| ((*known).to_owned(), item.value.clone()))
        })
        .collect();
    Ok(Way { dst: required(&keys, "dst")?, gw: keys.parsed("gw")?, details })
}

impl Interface {
    fn document(&self, version: Version) -> Value {
        let mut map = Map::new();
        map.insert("name".to_owned(), Value::from(self.name.as_str()));
        let mut text = |key: &str, text: &Option<String>| {
            if let Some(text) = text {
                map.insert(key.to_owned(), Value::from(text.as_str()));
            }
        };
        text("mac", &self.mac);
        text("sandbox", &self.sandbox);
        if version.has_details() {
            text("socketPath", &self.socket_path);
            text("pciID", &self.pci_id);
            if let Some(mtu) = self.mtu {
                map.insert("mtu".to_owned(), Value::from(mtu));
            }
        }
        Value::Object(map)
    }
}

impl Ip {
    fn document(&self, version: Version) -> Value {
        let mut map = Map::new();
        if version.names_families() {
            let family = if self.address.is_ipv4() { "4" } else { "6" };
            map.insert("version".to_owned(), Value::from(family));
        }
        if let Some(interface) = self.interface {
            map.insert("interface".to_owned(), Value::from(interface));
        }
        map.insert("address".to_owned(), Value::from(self.address.to_string()));
        if let Some(gateway) = self.gateway {
            map.insert("gateway".to_owned(), Value::from(gateway.to_string()));
        }
        Value::Object(map)
    }
}

impl Way {
    /// A route of a destination and a gateway.
    pub(super) fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, details: Map::new() }
    }

    /// A route as it was made.
    pub(super) fn of(route: &Route) -> Self {
        let details = [
            ("mtu", route.mtu),
            ("advmss", route.advmss),
            ("priority", route.priority),
            ("table", route.table),
            ("scope", route.scope.map(u32::from)),
        ];
        let details = details
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key.to_owned(), Value::from(value))));
        Self { details: details.collect(), ..Self::new(route.dst, route.gateway) }
    }

    fn document(&self, version: Version) -> Value {
        let mut map = Map::new();
        map.insert("dst".to_owned(), Value::from(self.dst.to_string()));
        if let Some(gw) = self.gw {
            map.insert("gw".to_owned(), Value::from(gw.to_string()));
        }
        if version.has_details() {
            map.extend(self.details.clone());
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests;
