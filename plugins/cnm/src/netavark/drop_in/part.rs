//! One container on one network: netd's, or another plugin's.

use std::path::PathBuf;

use serde_json::Value;

use super::{
    super::{
        connect,
        document::{Setup, Teardown},
        setup, teardown,
        translate::{DHCP, HOST_LOCAL, LABEL, NONE, PARENT},
    },
    another, earlier,
};
use crate::{
    Error, Kind, PROTOCOL, Result,
    decode::ByName,
    driver::{Capabilities, Info},
    network::{ListNetworks, RemoveNetwork, WHILE_USED},
    options::{LINK, Options, Setting},
};

/// The driver whose interfaces have no other end.
const MACVLAN: &str = "macvlan";

/// What macvlans hang on, as their driver calls it.
const OF_MACVLAN: Setting = Setting { names: &[PARENT], about: "a link of the host's" };

/// A driver of Podman's that netd has: what translating for it has to know.
pub(super) fn own(driver: &str) -> Option<Info> {
    let (name, interface) = match driver {
        "" | "bridge" => ("bridge", LINK),
        MACVLAN => ("macvlan", OF_MACVLAN),
        _ => return None,
    };
    Some(Info {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocols: vec![PROTOCOL],
        capabilities: Capabilities { addresses: true, ..Capabilities::default() },
        options: Some(Options::of(&[interface], &[])),
    })
}

/// A driver of Podman's that netavark has, and netd has not.
const IPVLAN: &str = "ipvlan";

/// What is said where addresses are to come by DHCP.
pub(super) fn no_dhcp() -> Error {
    Error::unsupported("netd takes no addresses by DHCP: give a subnet, or the IPAM driver none")
}

/// A container on a network, as a plugin is told of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// The network's name.
    pub(super) name: String,
    /// The network's id.
    pub(super) id: String,
    /// The network's driver.
    pub(super) driver: String,
    /// All of it.
    pub(super) document: Value,
}

impl Part {
    /// Puts the container on the network; gives what Podman is to know of it.
    pub(super) fn setup(&self, plugin_dirs: &[PathBuf], netns: &str) -> Result<String> {
        let Some(info) = own(&self.driver) else {
            let document = self.document.to_string();
            return another::plugin(plugin_dirs, &self.driver, &["setup", netns], &document);
        };
        let mut setup: Setup = self.decode()?;
        match setup.network.ipam() {
            Some(NONE | HOST_LOCAL) => {}
            Some(DHCP) => return Err(no_dhcp()),
            // It is Podman that gives addresses, unless there are none.
            _ if setup.network.subnets().is_empty() => setup.network.set_ipam(NONE),
            _ => setup.network.set_ipam(HOST_LOCAL),
        }
        let labels = setup.network.labels.get_or_insert_default();
        labels.insert(WHILE_USED.to_owned(), "true".to_owned());
        setup::setup(&info, &setup, netns)
    }

    /// Takes the container off the network, and the network away if it was made for Podman and
    /// nobody is left on it: nobody else would ever do so. Tells whether it is on the network still,
    /// by the distribution's netavark.
    pub(super) fn teardown(&self, plugin_dirs: &[PathBuf], netns: &str) -> Result<bool> {
        let Some(info) = own(&self.driver) else {
            if self.driver == IPVLAN {
                return Ok(self.is_theirs(netns));
            }
            let document = self.document.to_string();
            return another::plugin(plugin_dirs, &self.driver, &["teardown", netns], &document)
                .map(|_| false);
        };
        let teardown: Teardown = self.decode()?;
        let detached = teardown::teardown(&info, &teardown)?;
        match self.remove_network() {
            // It is there again with the next container, or was never netd's to take away.
            Err(error)
                if !matches!(error.kind, Kind::Busy | Kind::NotFound | Kind::Unavailable) =>
            {
                eprintln!("network {} is left: {error}", self.name);
            }
            _ => {}
        }
        Ok(match detached {
            Some(detached) if !detached.endpoints.is_empty() => false,
            // What one of its interfaces hangs on tells nothing of who made it.
            None if self.driver == MACVLAN => false,
            _ => self.is_theirs(netns),
        })
    }

    fn is_theirs(&self, netns: &str) -> bool {
        let ifname = self.document["network_options"]["interface_name"].as_str();
        ifname.is_some_and(|ifname| earlier::is_theirs(netns, ifname))
    }

    fn remove_network(&self) -> Result<()> {
        let mut client = connect()?;
        let mut left = ListNetworks::default();
        let label =
            if self.id.is_empty() { LABEL.to_owned() } else { format!("{LABEL}={}", self.id) };
        for (key, value) in [("name", &self.name), ("label", &label)] {
            left.filters.insert(key.to_owned(), vec![value.clone()]);
        }
        left.filters.insert("dangling".to_owned(), vec!["true".to_owned()]);
        for network in client.call(&left)?.networks {
            if network.name.as_str() == self.name {
                client.call(&RemoveNetwork { network: network.id.to_string() })?;
            }
        }
        Ok(())
    }

    fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let ByName(document) = serde_json::from_value(self.document.clone()).map_err(|error| {
            Error::invalid(format_args!(
                "cannot decode what is said of network {}: {error}",
                self.name
            ))
        })?;
        Ok(document)
    }
}
