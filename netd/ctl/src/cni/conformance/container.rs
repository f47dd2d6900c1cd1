//! A container as a runtime has it before the plugin comes: an id and a network namespace, and the
//! kernel's own account of what is in it.

use std::{net::IpAddr, path::PathBuf};

use serde_json::Value;

use super::{
    machine::{eventually, json, list, tool},
    rule::{Checked, Flaw, ensure},
};
use crate::sandbox;

/// A container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    /// Its id.
    pub(super) id: String,
    /// The name of its namespace for `ip`.
    pub(super) name: String,
    /// The path of its namespace.
    pub(super) netns: PathBuf,
}

impl Container {
    /// An interface of it, as `ip` shows it.
    pub(super) fn link(&self, ifname: &str) -> Checked<Option<Value>> {
        let links = json(&format!("ip -n {} -j address", self.name))?;
        Ok(links.into_iter().find(|link| link["ifname"] == ifname))
    }

    /// An interface of it that has to be there.
    pub(super) fn has(&self, ifname: &str) -> Checked<Value> {
        let missing = || Flaw::Broken(format!("there is no {ifname} in the container"));
        self.link(ifname)?.ok_or_else(missing)
    }

    /// That an interface is not there, or goes in a moment: a plugin may answer first.
    pub(super) fn lacks(&self, ifname: &str) -> Checked {
        eventually(|| {
            ensure!(self.link(ifname)?.is_none(), "{ifname} is left in the container");
            Ok(())
        })
    }

    /// The addresses of an interface that reach beyond its link, with their prefix lengths.
    pub(super) fn addresses(&self, ifname: &str) -> Checked<Vec<String>> {
        let link = self.has(ifname)?;
        let addresses = list(&link["addr_info"]).filter(|address| address["scope"] != "link");
        let text = |address: &Value| {
            format!("{}/{}", address["local"].as_str().unwrap_or_default(), address["prefixlen"])
        };
        Ok(addresses.map(text).collect())
    }

    /// The first address of an interface.
    pub(super) fn address(&self, ifname: &str) -> Checked<IpAddr> {
        let addresses = self.addresses(ifname)?;
        let first = addresses.first().and_then(|text| text.split('/').next()?.parse().ok());
        first.ok_or_else(|| Flaw::Broken(format!("{ifname} in the container has no address")))
    }

    /// Its routes, as `ip` shows them.
    pub(super) fn routes(&self) -> Checked<Vec<Value>> {
        let mut routes = json(&format!("ip -n {} -j route", self.name))?;
        routes.extend(json(&format!("ip -n {} -j -6 route", self.name))?);
        Ok(routes)
    }

    /// Runs `ip` in it.
    pub(super) fn ip(&self, words: &str) -> Checked {
        tool(&format!("ip -n {} {words}", self.name)).map(drop).map_err(Flaw::Broken)
    }

    /// That an address answers its ping.
    pub(super) fn pings(&self, address: impl ToString) -> Checked {
        let address = address.to_string();
        let netns = self.netns.display();
        match tool(&format!("nsenter --net={netns} ping -n -c 1 -W 5 {address}")) {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(Flaw::Broken(format!("{address} does not answer a ping from a container")))
            }
        }
    }

    /// Ends its namespace, as the death of its last process would.
    pub(super) fn vanish(&self) -> Checked {
        sandbox::let_go(&self.netns).map_err(|error| Flaw::Broken(error.to_string()))
    }
}
