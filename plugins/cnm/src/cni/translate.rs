//! From the dialect to the protocol and back: pure functions of what was decoded.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    addressing::{self, Ipam},
    config::Config,
    environment::Attachment,
    keys::Keys,
    outcome::{Interface, Ip, Outcome, Way},
    refusal::{Refusal, Result},
    version::Version,
};
use crate::plugin::held;
pub(super) use crate::plugin::making::exactly;
use crate::{
    MacAddr, Name,
    endpoint::{Assigned, Attach, Container, Endpoint, Netns, Route},
    network::{CreateNetwork, Network, Subnet},
    options::search,
};

/// The label that tells an attachment of this dialect, with the version it was made in.
pub const LABEL: &str = "cni";

/// The network of a configuration, for the first ADD on it.
pub(super) fn create(
    name: &str,
    driver: &str,
    config: &Config,
    given: Option<&Outcome>,
) -> CreateNetwork {
    let subnets = match (&config.ipam, given) {
        (Ipam::Given { subnets, .. }, _) => subnets.clone(),
        (_, Some(given)) => subnets_of(given),
        _ => Vec::new(),
    };
    let four = subnets.is_empty() || subnets.iter().any(|subnet| subnet.subnet.is_ipv4());
    let mut options = BTreeMap::new();
    let mut option = |key: &str, value: Option<String>| {
        options.extend(value.map(|value| (key.to_owned(), value)));
    };
    option("link", config.bridge.clone());
    option("mtu", config.mtu.map(|mtu| mtu.to_string()));
    option("hairpin", config.hairpin.then(|| "true".to_owned()));
    option("masquerade", (!config.masquerade).then(|| "false".to_owned()));
    for (name, value) in &config.options {
        option(name, Some(value.clone()));
    }
    CreateNetwork {
        name: name.to_owned(),
        driver: Some(driver.to_owned()),
        subnets,
        ipv4: Some(four),
        options,
        labels: BTreeMap::from([(LABEL.to_owned(), "true".to_owned())]),
        ..CreateNetwork::default()
    }
}

/// The subnets that another plugin's addresses are in: the first of each family.
fn subnets_of(given: &Outcome) -> Vec<Subnet> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for ip in &given.ips {
        let Ok(subnet) = IpNetwork::new(ip.address.network(), ip.address.prefix()) else {
            continue;
        };
        let host = if subnet.is_ipv4() { 32 } else { 128 };
        let known = subnets.iter().any(|s| s.subnet.is_ipv4() == subnet.is_ipv4());
        // An address by itself tells of no subnet.
        if !known && subnet.prefix() < host {
            let gateway = ip.gateway.filter(|gateway| subnet.contains(*gateway));
            subnets.push(Subnet { gateway, ..Subnet::new(subnet) });
        }
    }
    subnets
}

/// The attach of an ADD.
pub(super) fn attach(
    name: &str,
    version: Version,
    attachment: &Attachment,
    config: &Config,
    given: Option<&Outcome>,
) -> Result<Attach> {
    let container = container(attachment);
    let mut attach = Attach::new(&exactly(name), container, Some(Netns::Fd));
    attach.ifname = Some(attachment.ifname.clone());
    attach.aliases = config.aliases.clone();
    if let Some(alias) = pod_alias(attachment) {
        attach.aliases.push(alias);
    }
    attach.ports = config.ports.clone();
    if is_podmans(attachment) {
        held::by_podman(&mut attach)?;
    }
    attach.bandwidth = config.bandwidth;
    attach.mac = mac(attachment, config)?;
    attach.labels = labels(version, attachment, config);
    attach.routes = config.routes.clone();
    // Runtimes look whether the interface is gone as soon as a DEL has ended.
    attach.options.insert("linger".to_owned(), "false".to_owned());
    // A plugin that comes after may change the interface's addresses, and tells nobody.
    attach.options.insert("spoof-check".to_owned(), "false".to_owned());
    match (given, &config.ipam) {
        (Some(given), _) => {
            let gateway = |v4: bool| {
                let mut own = given.ips.iter().filter_map(|ip| ip.gateway);
                own.find(|gateway| gateway.is_ipv4() == v4)
            };
            attach.assigned = Some(Assigned {
                addresses: given.ips.iter().map(|ip| ip.address).collect(),
                gateways: [gateway(true), gateway(false)].into_iter().flatten().collect(),
            });
            let mut routes = Vec::new();
            for way in &given.routes {
                routes.push(addressing::details(
                    &Keys::root(&way.details),
                    Route::new(way.dst, way.gw),
                )?);
            }
            let more = config.routes.iter().flatten();
            for route in more {
                if routes.iter().all(|other| other.dst != route.dst) {
                    routes.push(*route);
                }
            }
            attach.routes = Some(routes);
        }
        (None, Ipam::Nobody) => {
            attach.assigned = Some(Assigned::default());
            attach.routes = Some(Vec::new());
        }
        (None, _) => {
            attach.addresses = wanted(attachment, config)?;
            if let Ipam::Given { ranges, .. } = &config.ipam {
                attach.ranges = ranges.clone();
            }
        }
    }
    Ok(attach)
}

/// The container, by the runtime's id, and by name where that is one container's alone: Kubernetes has
/// equal names in every name space.
fn container(attachment: &Attachment) -> Container {
    let mut container = Container::new(attachment.container.clone());
    if is_podmans(attachment) {
        container.name = attachment.args.get("K8S_POD_NAME").and_then(|name| name.parse().ok());
    }
    container
}

/// Whether it is Podman's, which says no more than a name.
fn is_podmans(attachment: &Attachment) -> bool {
    let says = |key: &str| attachment.args.get(key).is_some_and(|text| !text.is_empty());
    says("K8S_POD_NAME") && !says("K8S_POD_NAMESPACE")
}

/// What a pod of Kubernetes is called: `pod.namespace`.
fn pod_alias(attachment: &Attachment) -> Option<Name> {
    let arg = |key: &str| attachment.args.get(key).filter(|text| !text.is_empty());
    let (space, pod) = (arg("K8S_POD_NAMESPACE")?, arg("K8S_POD_NAME")?);
    format!("{pod}.{space}").parse().ok()
}

fn labels(version: Version, attachment: &Attachment, config: &Config) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = config.labels.iter().cloned().collect();
    let pod = attachment.args.iter().filter(|(key, _)| key.starts_with("K8S_POD_"));
    labels.extend(pod.map(|(key, value)| (key.clone(), value.clone())));
    labels.insert(LABEL.to_owned(), version.to_string());
    labels
}

/// What the runtime says goes before what was written down, and that before `CNI_ARGS`.
fn mac(attachment: &Attachment, config: &Config) -> Result<Option<MacAddr>> {
    let arg = attachment.args.get("MAC").filter(|mac| !mac.is_empty());
    let from_args = arg.map(|mac| ("CNI_ARGS MAC".to_owned(), mac.clone()));
    let Some((place, text)) = config.mac.clone().or(from_args) else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|error| Refusal::config(&place, &Value::from(text.as_str()), error))
}

/// The addresses that somebody wants; last of all by `CNI_ARGS`.
fn wanted(attachment: &Attachment, config: &Config) -> Result<Vec<IpAddr>> {
    let arg = attachment.args.get("IP").filter(|text| !text.is_empty());
    let Some(text) = arg.filter(|_| config.ips.is_empty()) else { return Ok(config.ips.clone()) };
    let parse = |text: &str| {
        text.parse::<IpNetwork>()
            .map(|ip| ip.ip())
            .map_err(|error| Refusal::config("CNI_ARGS IP", &Value::from(text), error))
    };
    text.split(',').map(parse).collect()
}

/// What an ADD made, as a result.
pub(super) fn outcome(
    endpoint: &Endpoint,
    network: &Network,
    netns: &str,
    config: &Config,
    given: Option<Outcome>,
) -> Outcome {
    let mut interfaces = Vec::new();
    if let Some(link) = &network.link {
        let host = |name: String| Interface { name, ..Interface::default() };
        interfaces.push(host(link.to_string()));
        interfaces.push(host(endpoint.id.link_name().to_string()));
    }
    let own = u64::try_from(interfaces.len()).unwrap_or_default();
    interfaces.push(Interface {
        name: endpoint.ifname.to_string(),
        mac: endpoint.mac.map(|mac| mac.to_string()),
        mtu: endpoint.mtu.map(u64::from),
        sandbox: Some(netns.to_owned()),
        ..Interface::default()
    });
    let gateway = |address: &IpNetwork| match &given {
        Some(given) => given.ips.iter().find(|ip| ip.address == *address)?.gateway,
        None => network.subnet_of(address.ip())?.gateway,
    };
    let ip = |address: &IpNetwork| Ip {
        interface: Some(own),
        address: *address,
        gateway: gateway(address),
    };
    let ips = endpoint.addresses.iter().map(ip).collect();
    let default = |gateway: &IpAddr| {
        let any = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        Way::new(any.parse().expect("a network"), Some(*gateway))
    };
    let mut routes: Vec<_> = endpoint.gateways.iter().map(default).collect();
    routes.extend(endpoint.routes.iter().map(Way::of));
    let mut dns = config.dns.clone();
    if dns.nameservers.is_empty() {
        if let Some(given) = given.filter(|given| dns.is_empty() && !given.dns.is_empty()) {
            dns = given.dns;
        } else {
            dns.nameservers = endpoint.dns.iter().map(IpAddr::to_string).collect();
            if dns.search.is_empty() {
                dns.search = search(&endpoint.options).into_iter().map(str::to_owned).collect();
            }
        }
    }
    Outcome { interfaces, ips, routes, dns }
}
