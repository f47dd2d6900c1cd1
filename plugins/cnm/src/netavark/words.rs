//! The options that netavark's own drivers have, in netd's words: what is netd's own way is left out,
//! and what nobody would act on is refused.

use std::collections::BTreeMap;

use super::document::Network;
use crate::{Error, Result};

/// What the options of a network come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Those that its driver is told.
    pub(super) options: BTreeMap<String, String>,
    /// What default routes cost.
    pub(super) metric: Option<u32>,
    /// Whether containers have no default routes.
    pub(super) no_default_route: bool,
}

/// Reads the options of a network of a driver.
///
/// # Errors
/// `unsupported` for what netd does not do, `invalid` for what is no value of an option.
pub(super) fn of(driver: &str, network: &Network) -> Result<Words> {
    let mut words = Words::default();
    for (name, value) in network.options.iter().flatten() {
        let is_empty = value.is_empty();
        match name.as_str() {
            "metric" => words.metric = Some(value.parse().map_err(|_| invalid(name, value))?),
            "no_default_route" => words.no_default_route = truth(name, value)?,
            "isolate" if is_empty || value == "strict" || truth(name, value)? => {}
            "isolate" => {
                return Err(refused(name, value, "networks of netd are isolated from each other"));
            }
            "mtu" | "vlan" if is_empty || value == "0" => {}
            "vlan" => {
                return Err(refused(name, value, "a VLAN is the parent LINK.VID of a macvlan"));
            }
            "vrf" | "bclim" | "mode" if is_empty => {}
            "vrf" => return Err(refused(name, value, "netd's links are in no VRF")),
            "bclim" => return Err(refused(name, value, "netd's macvlan has bcqueuelen instead")),
            "mode" if driver == "bridge" && value == "managed" => {}
            "mode" if driver == "bridge" => {
                return Err(refused(name, value, "netd makes its bridges itself"));
            }
            "outbound_addr4" | "outbound_addr6" => {
                let own = if name.ends_with('4') { "outbound-ipv4" } else { "outbound-ipv6" };
                words.options.insert(own.to_owned(), value.clone());
            }
            _ => drop(words.options.insert(name.clone(), value.clone())),
        }
    }
    Ok(words)
}

/// A truth value as Podman takes it (`strconv.ParseBool` of Go).
fn truth(name: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(invalid(name, value)),
    }
}

fn invalid(name: &str, value: &str) -> Error {
    Error::invalid(format_args!("invalid value {value:?} of the option {name}"))
        .with("option", name)
}

fn refused(name: &str, value: &str, why: &str) -> Error {
    Error::unsupported(format_args!("the option {name}={value} is not to be had: {why}"))
        .with("option", name)
}
