//! From the API's words to netd's: pure functions of what was decoded.

use std::{collections::BTreeMap, net::IpAddr};

use cnm::{
    Error, Kind, Result, decode,
    endpoint::{Attach, Container},
    network::{CreateNetwork, Subnet},
    options::ATTACHABLE,
};
use ipnetwork::IpNetwork;
use serde_json::Value;

use super::messages::{Config, Connect, Create};

/// What Docker calls the driver of the network `none`, and what netd calls it.
const NULL: &str = "null";
const NONE: &str = "none";

/// Docker's other name of the network `bridge`, which nothing else is called.
const DEFAULT: &str = "default";

/// The driver whose networks are on all hosts of a cluster.
const OVERLAY: &str = "overlay";

/// A network to be made.
pub(super) fn create(given: Create) -> Result<CreateNetwork> {
    let denied = |sentence: &str| Err(Error::new(Kind::Denied, sentence));
    if given.name == DEFAULT {
        return denied("operation is not permitted on predefined default network");
    }
    if given.config_only || given.config_from.is_some_and(|from| !from.network.is_empty()) {
        return denied("netd has no networks of configuration alone: give each its own");
    }
    let is_shared = given.driver == OVERLAY;
    if given.ingress || given.scope == "swarm" && !is_shared {
        return denied(
            "This node is not a swarm manager: make a network of netd's cluster instead",
        );
    }
    let own = if is_shared { "swarm" } else { "local" };
    if !given.scope.is_empty() && given.scope != own {
        return Err(Error::invalid(format_args!(
            "invalid scope {:?}: a network of the driver {} is of the scope {own}, so leave it out",
            given.scope,
            if given.driver.is_empty() { "bridge" } else { &given.driver }
        )));
    }
    if !matches!(given.ipam.driver.as_str(), "" | "default" | "netd") {
        return Err(Error::invalid(format_args!(
            "invalid network config:\nIPAM driver {:?} is not netd's: leave it out",
            given.ipam.driver
        )));
    }
    if let Some((name, _)) = given.ipam.options.first_key_value() {
        return Err(Error::invalid(format_args!(
            "invalid network config:\nIPAM option {name:?} is not known: leave it out"
        )));
    }
    let driver = match given.driver.as_str() {
        "" => None,
        NULL => Some(NONE.to_owned()),
        other => Some(other.to_owned()),
    };
    let mut options = given.options;
    if given.attachable {
        options.insert(ATTACHABLE.names[0].to_owned(), "true".to_owned());
    }
    Ok(CreateNetwork {
        name: given.name,
        driver,
        subnets: subnets(&given.ipam.config)?,
        ipv4: given.enable_ipv4,
        // Docker's clients of old say `false` where they mean nothing.
        ipv6: given.enable_ipv6.filter(|wanted| *wanted),
        internal: given.internal,
        options,
        labels: given.labels,
    })
}

/// The subnets, or all that is wrong with them, a line each.
fn subnets(configs: &[Config]) -> Result<Vec<Subnet>> {
    let mut problems = Vec::new();
    let mut subnets = Vec::new();
    for config in configs.iter().filter(|config| !is_empty(config)) {
        match subnet(config) {
            Ok(subnet) => subnets.push(subnet),
            Err(lines) => problems.extend(lines),
        }
    }
    if problems.is_empty() {
        return Ok(subnets);
    }
    Err(Error::invalid(format_args!("invalid network config:\n{}", problems.join("\n"))))
}

/// One that says nothing is none.
fn is_empty(Config { subnet, range, gateway, aux }: &Config) -> bool {
    subnet.is_empty() && range.is_empty() && gateway.is_empty() && aux.is_empty()
}

fn subnet(config: &Config) -> Result<Subnet, Vec<String>> {
    let text = &config.subnet;
    if text.is_empty() {
        return Err(vec![
            "Subnet is missing, such as 10.9.0.0/24: leave the IPRange, Gateway and AuxiliaryAddresses of it \
             out, or say it"
                .to_owned(),
        ]);
    }
    let whole: IpNetwork = text
        .parse()
        .map_err(|error| vec![format!("invalid subnet {text}: {}", decode::why(text, error))])?;
    let masked = IpNetwork::new(whole.network(), whole.prefix()).unwrap_or(whole);
    let mut problems = Vec::new();
    if masked != whole {
        problems.push(format!("invalid subnet {whole}: it should be {masked}"));
    }
    let mut subnet = Subnet::new(masked);
    if !config.range.is_empty() {
        match range(masked, &config.range) {
            Ok(range) => subnet.range = Some(range),
            Err(problem) => problems.push(problem),
        }
    }
    let mut within = |what: &str, text: &str| -> Option<IpAddr> {
        let outside = || {
            format!("invalid {what} {text}: parent subnet {masked} doesn't contain this address")
        };
        match text.parse::<IpAddr>() {
            Ok(ip) if masked.contains(ip) => return Some(ip),
            Ok(_) => problems.push(outside()),
            Err(error) => {
                problems.push(format!("invalid {what} {text}: {}", decode::why(text, error)));
            }
        }
        None
    };
    if !config.gateway.is_empty() {
        subnet.gateway = within("gateway", &config.gateway);
    }
    for (name, address) in &config.aux {
        if let Some(ip) = within("auxiliary address", address) {
            subnet.aux.insert(name.clone(), ip);
        }
    }
    if problems.is_empty() { Ok(subnet) } else { Err(problems) }
}

fn range(subnet: IpNetwork, text: &str) -> Result<IpNetwork, String> {
    let range: IpNetwork =
        text.parse().map_err(|error| format!("invalid ip-range {text}: {error}"))?;
    if range.prefix() < subnet.prefix() {
        return Err(format!(
            "invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if !subnet.contains(range.network()) {
        return Err(format!(
            "invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
    Ok(range)
}

/// The attach of a container that netd knows.
pub(super) fn attach(network: &str, container: Container, given: &Connect) -> Result<Attach> {
    let given = &given.endpoint_config;
    let wrong = |problem: String| Error::invalid(format!("invalid endpoint settings:\n{problem}"));
    if !given.links.is_empty() || !given.ipam.link_local.is_empty() {
        return Err(wrong("netd knows neither links nor link-local addresses: use aliases".into()));
    }
    let mut attach = Attach::new(network, container, None);
    for text in [&given.ipam.ipv4, &given.ipam.ipv6].into_iter().filter(|text| !text.is_empty()) {
        attach.addresses.push(text.parse().map_err(|error| {
            wrong(format!("invalid IP address {text}: {}", decode::why(text, error)))
        })?);
    }
    for alias in &given.aliases {
        attach.aliases.push(alias.parse().map_err(|error| wrong(format!("{error}")))?);
    }
    if !given.mac_address.is_empty() {
        let parsed = given.mac_address.parse();
        attach.mac = Some(parsed.map_err(|error| wrong(format!("{error}")))?);
    }
    attach.gateway_priority = given.gw_priority;
    attach.options = given.driver_opts.clone();
    Ok(attach)
}

/// The filters of a query, in both of the forms that clients write: lists, and maps of values.
pub(super) fn filters(text: &str) -> Result<BTreeMap<String, Vec<String>>> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wrong = || Error::invalid(format_args!("invalid filter: {text}"));
    let given: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
    let mut filters = BTreeMap::new();
    for (key, values) in given {
        let values: Vec<String> = match values {
            Value::Array(list) => list
                .into_iter()
                .map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect::<Result<_>>()?,
            Value::Object(map) => map.into_iter().map(|(value, _)| value).collect(),
            _ => return Err(wrong()),
        };
        let own =
            |value: String| if key == "driver" && value == NULL { NONE.into() } else { value };
        filters.insert(key.clone(), values.into_iter().map(own).collect());
    }
    Ok(filters)
}

#[cfg(test)]
mod tests;
