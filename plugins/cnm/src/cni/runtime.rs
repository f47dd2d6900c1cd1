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
    bandwidth::{Bandwidth, Limit},
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
            Some("sctp") => Protocol::Sctp,
            Some(other) => {
                return Err(Refusal::config(
                    &keys.path("protocol"),
                    &Value::from(other),
                    "it should be tcp, udp or sctp",
                ));
            }
        };
        let mapping = Port {
            protocol,
            host_ip: keys.parsed("hostIP")?,
            host_port: port("hostPort")?,
            host_port_to: None,
            container_port: port("containerPort")?,
            count: 1,
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

/// `bandwidth`, of what the runtime adds or of the configuration itself: rates in bits a second and
/// bursts in bits. A rate of 0 is no limit; a burst of 0, or of all that 32 bits can say, which is how
/// some runtimes leave it open, is none.
pub(super) fn bandwidth(place: Option<&Keys<'_>>) -> Result<Option<Bandwidth>> {
    let Some(keys) = place.map(|keys| keys.object("bandwidth")).transpose()?.flatten() else {
        return Ok(None);
    };
    let limit = |rate: &str, burst: &str| -> Result<Option<Limit>> {
        let open = |burst: &u64| *burst == 0 || *burst == u64::from(u32::MAX);
        let burst = keys.number(burst)?.filter(|burst| !open(burst));
        let Some(given) = keys.number(rate)?.filter(|rate| *rate != 0) else { return Ok(None) };
        if given < 8 {
            let rule = "it should be 8 bits a second or more, or 0 for no limit";
            return Err(Refusal::config(&keys.path(rate), &Value::from(given), rule));
        }
        Ok(Some(Limit { rate: given, burst }))
    };
    let ingress = limit("ingressRate", "ingressBurst")?;
    Ok(Bandwidth::of(ingress, limit("egressRate", "egressBurst")?))
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
