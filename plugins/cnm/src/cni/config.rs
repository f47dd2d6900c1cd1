//! A network configuration, decoded: what every verb needs of it ([`Header`]) and what an ADD does
//! ([`Config`]).

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{
    addressing::{self, Ipam},
    environment::Verb,
    keys::Keys,
    outcome::{Dns, Outcome},
    refusal::{Refusal, Result},
    runtime,
    version::{self, Version},
};
use crate::{
    Name,
    bandwidth::Bandwidth,
    endpoint::{Port, Route},
};

/// What every verb needs.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: Version,
    pub(super) name: String,
    /// The plugin that the configuration names.
    pub(super) kind: Option<String>,
    /// Who else gives addresses, if anybody.
    pub(super) delegate: Option<String>,
    document: Map<String, Value>,
}

impl Header {
    /// Reads the configuration as far as every verb needs it. What a DEL can do without is not held
    /// against it: a runtime would ask again and again, and the container would stay.
    ///
    /// # Errors
    /// 6 when it is no object of JSON, 1 when its version is not spoken, 7 when it has no name.
    pub(super) fn parse(text: &[u8], verb: Verb) -> Result<Self> {
        let undecoded = |error: &dyn std::fmt::Display| {
            Refusal::new(
                Refusal::DECODING,
                format_args!("cannot decode the network configuration: {error}"),
            )
        };
        let document: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| undecoded(&error))?;
        let keys = Keys::root(&document);
        let text = keys.text(version::KEY)?.unwrap_or(version::UNLESS_SAID);
        let version =
            Version::parse(text).or_else(|| (verb == Verb::Del).then_some(Version::NEWEST));
        let version = version.ok_or_else(|| {
            Refusal::new(Refusal::VERSION, format_args!("cniVersion {text} is not supported"))
                .with(format_args!("supported are {}", Version::texts().join(", ")))
        })?;
        let name = keys.text("name")?.ok_or_else(|| {
            Refusal::new(Refusal::CONFIG, "the network configuration has no name")
        })?;
        if name.len() > 63 || name.parse::<Name>().is_err() {
            let rule = "it should be 1 to 63 of a-z A-Z 0-9 _ . - and begin with a letter or digit";
            return Err(Refusal::config("name", &Value::from(name), rule));
        }
        let kind = keys.text("type")?.map(str::to_owned);
        let delegate = match addressing::delegate(&keys) {
            Err(_) if verb == Verb::Del => None,
            delegate => delegate?,
        };
        Ok(Self { version, name: name.to_owned(), kind, delegate, document })
    }

    /// All of it.
    pub(super) fn keys(&self) -> Keys<'_> {
        Keys::root(&self.document)
    }

    /// What plugins before this one gave, or all of them when it is asked later. An empty one is
    /// none.
    pub(super) fn previous(&self) -> Result<Option<Outcome>> {
        match self.keys().object("prevResult")? {
            Some(keys) if !keys.is_empty() => Outcome::parse(&keys).map(Some),
            _ => Ok(None),
        }
    }
}

/// What an ADD is to do.
#[derive(Debug)]
pub(super) struct Config {
    /// The bridge's name, where the configuration says.
    pub(super) bridge: Option<String>,
    pub(super) mtu: Option<u64>,
    /// Whether what leaves the network takes the host's address.
    pub(super) masquerade: bool,
    /// Whether frames may leave a port by which they came.
    pub(super) hairpin: bool,
    /// Options of the network that only some drivers have.
    pub(super) options: Vec<(&'static str, String)>,
    pub(super) ipam: Ipam,
    /// The routes of the container; the network's own when nothing is said.
    pub(super) routes: Option<Vec<Route>>,
    pub(super) mac: Option<Written>,
    /// The addresses that are asked for.
    pub(super) ips: Vec<IpAddr>,
    pub(super) ports: Vec<Port>,
    pub(super) aliases: Vec<Name>,
    /// What the result says of names; the network's resolver when nothing is said.
    pub(super) dns: Dns,
    /// How fast its packets may come and go.
    pub(super) bandwidth: Option<Bandwidth>,
    /// The labels of `args.cni`.
    pub(super) labels: Vec<(String, String)>,
}

/// Where something is written, and what.
pub(super) type Written = (String, String);

/// Keys of the reference plugin that ask for what is not done. What they have to be said for
/// nothing to be asked is `false`, 0, or nothing.
const NOT_DONE: [(&str, &str); 7] = [
    ("vlan", "the bridge has no VLANs; make a network for each"),
    ("vlanTrunk", "the bridge has no VLANs; make a network for each"),
    ("preserveDefaultVlan", "the bridge has no VLANs"),
    ("macspoofchk", "link addresses are not compared"),
    ("portIsolation", "make a network for each, they do not reach each other"),
    ("disableContainerInterface", "an interface is up when it is there"),
    ("linkInContainer", "the parent is a link of the host's"),
];

/// Keys of the reference's macvlan, and the network's options that they are.
const OPTIONS: [(&str, &str); 2] = [("master", "parent"), ("mode", "mode")];

impl Config {
    /// Reads all of it.
    pub(super) fn parse(header: &Header) -> Result<Self> {
        let keys = header.keys();
        for (key, why) in NOT_DONE {
            if let Some(item) = keys.get(key).filter(|item| asks(item.value)) {
                return Err(Refusal::unsupported(key, item.value, why));
            }
        }
        let dynamic = keys.object("runtimeConfig")?;
        let args = match keys.object("args")? {
            Some(args) => args.object("cni")?,
            None => None,
        };
        let ipam = Ipam::parse(&keys, dynamic.as_ref())?;
        let is_default_gateway = keys.flag("isDefaultGateway")?.unwrap_or(false);
        keys.flag("isGateway")?;
        keys.flag("forceAddress")?;
        let routes = ipam.routes(&keys, is_default_gateway)?;
        let hairpin = keys.flag("hairpinMode")?.unwrap_or(false);
        let promiscuous = keys.flag("promiscMode")?.unwrap_or(false);
        let mut options = Vec::new();
        for (key, option) in OPTIONS {
            options.extend(keys.text(key)?.map(|text| (option, text.to_owned())));
        }
        let queue = keys.number("bcqueuelen")?.filter(|length| *length != 0);
        options.extend(queue.map(|length| ("bcqueuelen", length.to_string())));
        let mut mac = None;
        for place in [dynamic.as_ref(), args.as_ref(), Some(&keys)].into_iter().flatten() {
            if mac.is_none() {
                mac = place.text("mac")?.map(|mac| (place.path("mac"), mac.to_owned()));
            }
        }
        Ok(Self {
            bridge: keys.text("bridge")?.map(str::to_owned),
            mtu: keys.number("mtu")?.filter(|mtu| *mtu != 0),
            masquerade: keys.flag("ipMasq")?.unwrap_or_else(|| ipam.is_left_to_netd()),
            hairpin: hairpin || promiscuous,
            options,
            ipam,
            routes,
            mac,
            ips: runtime::ips(dynamic.as_ref(), args.as_ref())?,
            ports: runtime::ports(dynamic.as_ref())?,
            aliases: runtime::aliases(dynamic.as_ref(), &header.name)?,
            dns: runtime::dns(&keys, dynamic.as_ref())?,
            bandwidth: match runtime::bandwidth(dynamic.as_ref())? {
                None => runtime::bandwidth(Some(&keys))?,
                given => given,
            },
            labels: args.as_ref().map(runtime::labels).transpose()?.unwrap_or_default(),
        })
    }
}

/// Whether a value asks for something.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(asked) => *asked,
        Value::Number(number) => number.as_u64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The attachments that a GC leaves, as (container, interface); none when it says nothing of them.
pub(super) fn valid_attachments(header: &Header) -> Result<Option<Vec<(String, String)>>> {
    let keys = header.keys();
    let Some(key) =
        ["cni.dev/valid-attachments", "cni.dev/attachments"].into_iter().find(|key| keys.has(key))
    else {
        return Ok(None);
    };
    let mut valid = Vec::new();
    for item in keys.list(key)? {
        let keys = item.object()?;
        let text = |key: &str| -> Result<String> {
            keys.text(key)?.map(str::to_owned).ok_or_else(|| {
                Refusal::new(Refusal::CONFIG, format_args!("{} is missing", keys.path(key)))
            })
        };
        valid.push((text("containerID")?, text("ifname")?));
    }
    Ok(Some(valid))
}

#[cfg(test)]
mod tests;
