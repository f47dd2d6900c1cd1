//! A container and all its networks, as Podman hands them to netavark: taken apart, it is what a
//! plugin is handed for each of them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::part::Part;
use crate::{Error, Result};

/// What `setup` and `teardown` are given.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Container {
    container_id: String,
    #[serde(default)]
    container_name: Value,
    #[serde(default)]
    container_hostname: Value,
    #[serde(default)]
    port_mappings: Value,
    #[serde(default)]
    dns_servers: Value,
    /// What the container is on each network: an object by the networks' names, or from Podman 6 on
    /// an array of objects with their names in them, whose order counts.
    networks: Value,
    #[serde(default)]
    network_info: Map<String, Value>,
}

impl Container {
    /// One document for each network.
    ///
    /// # Errors
    /// `invalid` where a network is named of which nothing else is said.
    pub(super) fn parts(&self) -> Result<Vec<Part>> {
        let part = |(name, here): (String, Value)| {
            let network = self.network_info.get(&name).ok_or_else(|| {
                Error::invalid(format_args!(
                    "network_info has no network {name}, which is asked for"
                ))
                .with("network", name.as_str())
            })?;
            Ok(self.part(name, network.clone(), here))
        };
        self.places()?.into_iter().map(part).collect()
    }

    /// As [`Container::parts`], where the name of a network is enough: nothing more is needed to take
    /// a container off it.
    pub(super) fn parts_left(&self) -> Result<Vec<Part>> {
        let part = |(name, here): (String, Value)| {
            let network = self.network_info.get(&name).cloned();
            let network = network.unwrap_or_else(|| json!({ "name": name }));
            self.part(name, network, here)
        };
        Ok(self.places()?.into_iter().map(part).collect())
    }

    fn part(&self, name: String, network: Value, here: Value) -> Part {
        let text = |key: &str| network[key].as_str().unwrap_or_default().to_owned();
        let (driver, id) = (text("driver"), text("id"));
        let document = json!({
            "container_id": self.container_id, "container_name": self.container_name,
            "container_hostname": self.container_hostname, "port_mappings": self.port_mappings,
            "dns_servers": self.dns_servers, "network": network, "network_options": here,
        });
        Part { name, id, driver, document }
    }

    /// The networks' names and what the container is there, in their order: where none is told, that
    /// of the interfaces.
    fn places(&self) -> Result<Vec<(String, Value)>> {
        match &self.networks {
            Value::Object(by_name) => {
                let mut places: Vec<_> =
                    by_name.iter().map(|(name, here)| (name.clone(), here.clone())).collect();
                places.sort_by_key(|(_, here)| {
                    let interface = here["interface_name"].as_str().unwrap_or_default();
                    (interface.len(), interface.to_owned())
                });
                Ok(places)
            }
            Value::Array(list) => {
                let named = |here: &Value| {
                    let name = here["name"].as_str().ok_or_else(|| {
                        Error::invalid(format_args!(
                            "a network of the container has no name: {here}"
                        ))
                    })?;
                    Ok((name.to_owned(), here.clone()))
                };
                list.iter().map(named).collect()
            }
            Value::Null => Ok(Vec::new()),
            other => Err(Error::invalid(format_args!(
                "networks should be an object or an array, and is {other}"
            ))),
        }
    }
}

/// What was said of a container, of some of its networks alone: to the byte where these are all.
///
/// # Errors
/// `invalid` where it is not understood.
pub(super) fn on(networks: &[String], text: &[u8]) -> Result<String> {
    let mut said: Value = serde_json::from_slice(text).map_err(Error::invalid)?;
    let is_meant = |name: &str| networks.iter().any(|network| network == name);
    let mut is_whole = true;
    let mut look = |meant: bool| {
        is_whole &= meant;
        meant
    };
    match said.get_mut("networks") {
        Some(Value::Object(by_name)) => by_name.retain(|name, _| look(is_meant(name))),
        Some(Value::Array(list)) => {
            list.retain(|here| look(is_meant(here["name"].as_str().unwrap_or_default())));
        }
        _ => {}
    }
    if is_whole {
        return String::from_utf8(text.to_vec()).map_err(Error::invalid);
    }
    if let Some(Value::Object(info)) = said.get_mut("network_info") {
        info.retain(|name, _| is_meant(name));
    }
    Ok(said.to_string())
}
