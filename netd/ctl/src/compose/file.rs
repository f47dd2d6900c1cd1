//! What a Compose file says of networks (Compose specification, "Networks top-level element"). What it
//! says of anything else is passed over, but for the networks that its services name; what it says of
//! networks and is not known is refused.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use cnm::{
    network::{CreateNetwork, Subnet},
    options::ATTACHABLE,
};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::variables::{Variables, interpolate};

mod services;

/// A network of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// What the file calls it.
    pub(super) key: String,
    /// What netd calls it.
    name: String,
    /// Where it comes from.
    pub(super) origin: Origin,
}

/// Where a network comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    /// The project has it made.
    Own(CreateNetwork),
    /// It is there already, and stays.
    External,
}

impl Wanted {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The sections of a file beside its name and its networks, which say nothing of what networks are; and what
/// begins like this is anybody's.
const OTHERS: [&str; 6] = ["version", "services", "volumes", "configs", "secrets", "models"];
const ANYBODYS: &str = "x-";

/// Why a file is none, in words.
type Result<T> = std::result::Result<T, String>;

/// The project's name and its networks, sorted. The name is what it was `called`, what the file has, or
/// what is `beside` both.
///
/// # Errors
/// Which value is not as it should be, and how it should be.
pub(super) fn parse(
    text: &str,
    variables: &Variables,
    called: Option<&str>,
    beside: &str,
) -> Result<(String, Vec<Wanted>)> {
    let file: Value =
        serde_saphyr::from_str(text).map_err(|error| format!("it is no YAML: {error}"))?;
    let mut file = match file {
        Value::Object(file) => file,
        Value::Null => Map::new(),
        _ => return Err("it is no Compose file: it has no sections".to_owned()),
    };
    let mut own = file.remove("name").unwrap_or_default();
    resolve("name", &mut own, variables)?;
    let said = match called.filter(|called| !called.is_empty()) {
        Some(called) => called.to_owned(),
        None => text_of("name", &own)?,
    };
    let project = normal(if said.is_empty() { beside } else { &said });
    if project.is_empty() {
        return Err("the project has no name: say --project-name".to_owned());
    }
    if !said.is_empty() && project != said {
        return Err(format!("invalid project name {said:?}: say {project}"));
    }
    let mut networks = file.remove("networks").unwrap_or_default();
    if file.contains_key("include") {
        return Err("include is not followed: apply the files that it names".to_owned());
    }
    let known = |key: &str| OTHERS.contains(&key) || key.starts_with(ANYBODYS);
    if let Some(key) = file.keys().find(|key| !known(key)) {
        return Err(format!("{key} is not known: a Compose file has no such section"));
    }
    resolve("networks", &mut networks, variables)?;
    let mut wanted = Vec::new();
    for (key, value) in map("networks", networks)? {
        let place = format!("networks.{key}");
        wanted.push(network(&place, &project, key, map(&place, value)?)?);
    }
    wanted.sort_by(|a, b| a.key.cmp(&b.key));
    services::check(file.remove("services").unwrap_or_default(), &wanted, variables)?;
    Ok((project, each_once(wanted)?))
}

/// Each network once: two keys may stand for one that is there already, and for no other, of which it
/// could not be said whose it is. Names that differ by case alone are one.
fn each_once(all: Vec<Wanted>) -> Result<Vec<Wanted>> {
    let mut once: Vec<Wanted> = Vec::new();
    for wanted in all {
        match once.iter().find(|other| other.name.eq_ignore_ascii_case(&wanted.name)) {
            None => once.push(wanted),
            Some(other) if [&other.origin, &wanted.origin] == [&Origin::External; 2] => {}
            Some(other) => {
                return Err(format!(
                    "networks.{} and networks.{} are both network {}: give one another name, or make both \
                     external",
                    other.key, wanted.key, wanted.name
                ));
            }
        }
    }
    Ok(once)
}

/// A project's name out of a text (Compose specification, "Name top-level element").
fn normal(text: &str) -> String {
    let lower = text.to_lowercase();
    let known = lower.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    known.collect::<String>().trim_start_matches(['_', '-']).to_owned()
}

fn network(place: &str, project: &str, key: String, said: Map<String, Value>) -> Result<Wanted> {
    let mut create = CreateNetwork::default();
    let (mut name, mut external, mut attachable) = (String::new(), false, false);
    let is_alone = said.keys().all(|key| matches!(key.as_str(), "external" | "name"));
    for (setting, value) in said.into_iter().filter(|(_, value)| !value.is_null()) {
        let place = format!("{place}.{setting}");
        match setting.as_str() {
            "name" => name = text_of(&place, &value)?,
            "driver" => {
                let driver = text_of(&place, &value)?;
                create.driver =
                    Some(driver).filter(|driver| !matches!(driver.as_str(), "" | "default"));
            }
            "driver_opts" => create.options = texts(&place, value)?,
            "labels" => create.labels = texts(&place, value)?,
            "internal" => create.internal = flag(&place, &value)?,
            "enable_ipv4" => create.ipv4 = Some(flag(&place, &value)?),
            "enable_ipv6" => create.ipv6 = Some(flag(&place, &value)?),
            "attachable" => attachable = flag(&place, &value)?,
            "external" => match value {
                // As files of version 2 have it.
                Value::Object(mut inner) => {
                    external = true;
                    if let Some(inner) = inner.remove("name") {
                        name = text_of(&place, &inner)?;
                    }
                }
                value => external = flag(&place, &value)?,
            },
            "ipam" => create.subnets = ipam(&place, value)?,
            extension if extension.starts_with("x-") => {}
            _ => return Err(format!("{place} is not known")),
        }
    }
    if external && !is_alone {
        return Err(format!("{place} is external, and so its options are not this file's"));
    }
    if attachable {
        create.options.insert(ATTACHABLE.names[0].to_owned(), "true".to_owned());
    }
    if name.is_empty() {
        name = if external { key.clone() } else { format!("{project}_{key}") };
    }
    create.name.clone_from(&name);
    let origin = if external { Origin::External } else { Origin::Own(create) };
    Ok(Wanted { key, name, origin })
}

fn ipam(place: &str, value: Value) -> Result<Vec<Subnet>> {
    let mut subnets = Vec::new();
    for (setting, value) in map(place, value)?.into_iter().filter(|(_, value)| !value.is_null()) {
        let place = format!("{place}.{setting}");
        match setting.as_str() {
            "driver" => match text_of(&place, &value)?.as_str() {
                "" | "default" | "netd" => {}
                other => return Err(format!("{place} {other:?} is not netd's: leave it out")),
            },
            "options" => {
                if let Some((name, _)) = texts(&place, value)?.first_key_value() {
                    return Err(format!("{place}.{name} is not known: leave it out"));
                }
            }
            "config" => {
                let Value::Array(list) = value else { return Err(format!("{place} is no list")) };
                for (at, one) in list.into_iter().enumerate() {
                    let place = format!("{place}[{at}]");
                    subnets.extend(subnet(&place, map(&place, one)?)?);
                }
            }
            extension if extension.starts_with("x-") => {}
            _ => return Err(format!("{place} is not known")),
        }
    }
    Ok(subnets)
}

/// One that says nothing is none.
fn subnet(place: &str, said: Map<String, Value>) -> Result<Option<Subnet>> {
    let text = |setting: &str| {
        let value = said.get(setting).unwrap_or(&Value::Null);
        let text = text_of(&format!("{place}.{setting}"), value)?;
        Ok::<_, String>(Some(text).filter(|text| !text.is_empty()))
    };
    let known = ["subnet", "gateway", "ip_range", "aux_addresses"];
    if let Some(other) =
        said.keys().find(|key| !known.contains(&key.as_str()) && !key.starts_with("x-"))
    {
        return Err(format!("{place}.{other} is not known"));
    }
    let Some(whole) = text("subnet")? else {
        return match said.is_empty() {
            true => Ok(None),
            false => Err(format!("{place} has no subnet")),
        };
    };
    let whole: IpNetwork = parsed(place, "subnet", &whole)?;
    let masked = IpNetwork::new(whole.network(), whole.prefix()).unwrap_or(whole);
    if masked != whole {
        return Err(format!("{place}.subnet is {whole}: it should be {masked}"));
    }
    let mut subnet = Subnet::new(masked);
    subnet.gateway = text("gateway")?.map(|text| parsed(place, "gateway", &text)).transpose()?;
    subnet.range = text("ip_range")?.map(|text| parsed(place, "ip_range", &text)).transpose()?;
    let aux = said.get("aux_addresses").cloned().unwrap_or_default();
    for (name, text) in texts(&format!("{place}.aux_addresses"), aux)? {
        let address = parsed(place, "aux_addresses", &text)?;
        subnet.aux.insert(name, address);
    }
    Ok(Some(subnet))
}

fn parsed<T: FromStr<Err: Display>>(place: &str, setting: &str, text: &str) -> Result<T> {
    let why = |error| format!("{place}.{setting} is {text:?}: {}", cnm::decode::why(text, error));
    text.parse().map_err(why)
}

/// Puts in what variables stand for, in values of any depth.
fn resolve(place: &str, value: &mut Value, variables: &Variables) -> Result<()> {
    match value {
        Value::String(text) => {
            *text = interpolate(text, variables).map_err(|why| format!("{place}: {why}"))?;
            Ok(())
        }
        Value::Array(list) => {
            list.iter_mut().try_for_each(|value| resolve(place, value, variables))
        }
        Value::Object(map) => map
            .iter_mut()
            .try_for_each(|(key, value)| resolve(&format!("{place}.{key}"), value, variables)),
        _ => Ok(()),
    }
}

fn map(place: &str, value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(format!("{place} is no mapping")),
    }
}

/// Texts by name, as a mapping or as a list of `NAME=TEXT`.
fn texts(place: &str, value: Value) -> Result<BTreeMap<String, String>> {
    match value {
        Value::Array(list) => list
            .iter()
            .map(|one| {
                let text = text_of(place, one)?;
                let (key, value) = text.split_once('=').unwrap_or((&text, ""));
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect(),
        value => map(place, value)?
            .into_iter()
            .map(|(key, value)| Ok((key.clone(), text_of(&format!("{place}.{key}"), &value)?)))
            .collect(),
    }
}

fn text_of(place: &str, value: &Value) -> Result<String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err(format!("{place} is no text")),
    }
}

fn flag(place: &str, value: &Value) -> Result<bool> {
    match (value, value.as_str().map(str::to_ascii_lowercase).as_deref()) {
        (Value::Bool(flag), _) => Ok(*flag),
        (_, Some("true" | "yes" | "on" | "y" | "1")) => Ok(true),
        (_, Some("false" | "no" | "off" | "n" | "0")) => Ok(false),
        _ => Err(format!("{place} is {value}: it should be true or false")),
    }
}

#[cfg(test)]
mod tests;
