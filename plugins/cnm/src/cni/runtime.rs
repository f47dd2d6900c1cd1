//! What a runtime adds for one container: `runtimeConfig` and `args.cni`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    keys::Keys,
    outcome::Dns,
    refusal::{Refusal, Result},
};
use crate::{
    Name,
    endpoint::{Port, Protocol},
};

/// `runtimeConfig.portMappings`.
pub(super) fn ports(runtime: Option<&Keys<'_>>) -> Result<Vec<Port>> {
    let Some(runtime) = runtime else { return Ok(Vec::new()) };
    let mut ports = Vec::new();
    for item in runtime.list("portMappings")? {
        let keys = item.object()?;
        let port = |key: &str| -> Result<u16> {
            let number = keys.number(key)?.unwrap_or(0);
            u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| {
                Refusal::config(
                    &keys.path(key),
                    &Value::from(number),
                    "it should be a port from 1 to 65535",
                )
            })
        };
        let protocol = match keys.text("protocol")?.map(str::to_ascii_lowercase).as_deref() {
            None | Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some("sctp") => {
                return Err(Refusal::unsupported(
                    &keys.path("protocol"),
                    &Value::from("sctp"),
                    "tcp and udp are published",
                ));
            }
            Some(other) => {
                return Err(Refusal::config(
                    &keys.path("protocol"),
                    &Value::from(other),
                    "it should be tcp or udp",
                ));
            }
        };
        let mapping = Port {
            protocol,
            host_ip: keys.parsed("hostIP")?,
            host_port: port("hostPort")?,
            container_port: port("containerPort")?,
        };
        if !ports.contains(&mapping) {
            ports.push(mapping);
        }
    }
    Ok(ports)
}

/// `runtimeConfig.aliases`: the specification's list, or Podman's map of networks.
pub(super) fn aliases(runtime: Option<&Keys<'_>>, network: &str) -> Result<Vec<Name>> {
    let Some(item) = runtime.and_then(|runtime| runtime.get("aliases")) else {
        return Ok(Vec::new());
    };
    let list = if item.value.is_object() {
        match item.object()?.get(network) {
            Some(item) => item.list()?,
            None => Vec::new(),
        }
    } else {
        item.list()?
    };
    let mut aliases = Vec::new();
    for item in list {
        if item.text()?.is_empty() {
            continue;
        }
        let alias = item.parsed()?;
        if !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    Ok(aliases)
}

/// `dns`, and `runtimeConfig.dns` before it.
pub(super) fn dns(keys: &Keys<'_>, runtime: Option<&Keys<'_>>) -> Result<Dns> {
    let mut dns = match keys.object("dns")? {
        Some(keys) => Dns::parse(&keys)?,
        None => Dns::default(),
    };
    if let Some(given) = runtime.map(|keys| keys.object("dns")).transpose()?.flatten() {
        for (key, texts) in [
            ("servers", &mut dns.nameservers),
            ("searches", &mut dns.search),
            ("options", &mut dns.options),
        ] {
            let given = given.texts(key)?;
            if !given.is_empty() {
                *texts = given;
            }
        }
    }
    Ok(dns)
}

/// Whether a bandwidth is limited: a rate other than 0.
pub(super) fn limits(place: Option<&Keys<'_>>) -> Result<bool> {
    let Some(keys) = place.map(|keys| keys.object("bandwidth")).transpose()?.flatten() else {
        return Ok(false);
    };
    for key in ["ingressBurst", "egressBurst"] {
        keys.number(key)?;
    }
    Ok(keys.number("ingressRate")?.unwrap_or(0) > 0 || keys.number("egressRate")?.unwrap_or(0) > 0)
}

/// `args.cni.labels`: a list of key and value.
pub(super) fn labels(args: &Keys<'_>) -> Result<Vec<(String, String)>> {
    let mut labels = Vec::new();
    for item in args.list("labels")? {
        let keys = item.object()?;
        if let Some(key) = keys.text("key")? {
            labels.push((key.to_owned(), keys.text("value")?.unwrap_or_default().to_owned()));
        }
    }
    Ok(labels)
}

/// `runtimeConfig.ips`, or else `args.cni.ips`, with a prefix length or without.
pub(super) fn ips(runtime: Option<&Keys<'_>>, args: Option<&Keys<'_>>) -> Result<Vec<IpAddr>> {
    let mut ips = Vec::new();
    for keys in [runtime, args].into_iter().flatten() {
        for item in keys.list("ips")? {
            if !item.text()?.is_empty() {
                ips.push(item.parsed::<IpNetwork>()?.ip());
            }
        }
        if !ips.is_empty() {
            break;
        }
    }
    Ok(ips)
}
