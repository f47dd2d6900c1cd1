//! Which networks a list or a prune is about: Docker's filters.

use std::collections::BTreeMap;

use cnm::{Error, Result, network::Network};

use crate::clock;

type Filters = BTreeMap<String, Vec<String>>;

/// Whether a network matches every key, each by one of its values; labels by all of them.
pub(super) fn matches(filters: &Filters, network: &Network, used: bool) -> Result<bool> {
    for (key, values) in filters {
        let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|value| test(value));
        let matched = match key.as_str() {
            "name" => any(&|value| network.name.as_str().contains(value)),
            "id" => any(&|value| network.id.as_str().contains(value)),
            "driver" => any(&|value| network.driver == value),
            "scope" => any(&|value| value == "local"),
            "label" => values.iter().all(|value| labelled(network, value)),
            "type" => {
                let own = if network.predefined { "builtin" } else { "custom" };
                one_of(key, values, &["builtin", "custom"])?;
                any(&|value| value == own)
            }
            "dangling" => {
                one_of(key, values, &["true", "false", "1", "0"])?;
                let dangling = !used && !network.predefined;
                any(&|value| matches!(value, "true" | "1") == dangling)
            }
            _ => return Err(unknown(key)),
        };
        if !matched {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a prune with these filters removes a network that nobody is on.
pub(super) fn prunes(filters: &Filters, network: &Network) -> Result<bool> {
    for (key, values) in filters {
        let matched = match key.as_str() {
            "label" => values.iter().all(|value| labelled(network, value)),
            "label!" => !values.iter().any(|value| labelled(network, value)),
            "until" => {
                let mut before = true;
                for value in values {
                    before &= clock::before(&network.created, value)?;
                }
                before
            }
            _ => return Err(unknown(key)),
        };
        if !matched {
            return Ok(false);
        }
    }
    Ok(true)
}

fn labelled(network: &Network, filter: &str) -> bool {
    match filter.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
        None => network.labels.contains_key(filter),
    }
}

fn one_of(key: &str, values: &[String], known: &[&str]) -> Result<()> {
    match values.iter().find(|value| !known.contains(&value.as_str())) {
        Some(value) => Err(Error::invalid(format_args!(
            "invalid filter '{key}={value}': it should be {}",
            known.join(" or ")
        ))),
        None => Ok(()),
    }
}

fn unknown(key: &str) -> Error {
    Error::invalid(format_args!("invalid filter '{key}'")).with("filter", key)
}
