//! What a check works with: the plugin, configurations for it, containers, and the machine.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::{
    container::Container,
    machine::Machine,
    options::{Conformance, Tried},
    plugin::{Call, Reply},
    rule::{Checked, Flaw},
};

/// The versions of the specification, from the oldest to the newest.
pub(super) const VERSIONS: [&str; 7] =
    ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Where the rules put plugins of their own.
pub(super) const OWN_PLUGINS: &str = "/run/conformance-plugins";

/// What a check works with.
#[derive(Debug)]
pub(super) struct Bench {
    /// The machine.
    pub(super) machine: Machine,
    plugin: Tried,
    ipam: String,
    patch: Value,
    offered: Vec<String>,
    containers: AtomicU32,
}

impl Bench {
    /// Puts it together, and asks the plugin for its versions.
    pub(super) fn new(machine: Machine, plugin: Tried, options: &Conformance) -> Self {
        let mut bench = Self {
            machine,
            plugin,
            ipam: options.ipam.clone(),
            patch: options.config.clone(),
            offered: Vec::new(),
            containers: AtomicU32::new(0),
        };
        // What is wrong with the answer the rules of VERSION tell.
        let answer = bench.ask_version().and_then(|reply| reply.document("VERSION"));
        let listed = answer.unwrap_or_default()["supportedVersions"].take();
        bench.offered = serde_json::from_value(listed).unwrap_or_default();
        bench
    }

    /// Executes VERSION, as libcni does it.
    pub(super) fn ask_version(&self) -> Checked<Reply> {
        self.call("VERSION", &json!({ "cniVersion": "1.0.0" }))
            .set("CNI_CONTAINERID", "dummy")
            .set("CNI_NETNS", "dummy")
            .set("CNI_IFNAME", "dummy")
            .set("CNI_PATH", "dummy")
            .run()
    }

    /// That the plugin lists a version.
    pub(super) fn offers(&self, version: &str) -> Checked {
        if self.offered.iter().any(|offered| offered == version) {
            return Ok(());
        }
        Err(Flaw::NotOffered(format!("VERSION does not list {version}")))
    }

    /// The newest version that the plugin lists.
    pub(super) fn newest(&self) -> &'static str {
        let listed = |version: &&&str| self.offered.iter().any(|offered| offered == **version);
        VERSIONS.iter().rev().find(listed).copied().unwrap_or("1.0.0")
    }

    /// That the plugin offers a verb that came with `version`; a configuration of that version or
    /// a newer one.
    pub(super) fn since(&self, version: &str) -> Checked<Value> {
        let newest = VERSIONS.iter().rev().find(|known| self.offers(known).is_ok());
        let rank = |wanted: &str| VERSIONS.iter().position(|known| *known == wanted);
        match newest {
            Some(newest) if rank(newest) >= rank(version) => Ok(self.network()),
            _ => Err(Flaw::NotOffered(format!("VERSION lists nothing from {version} on"))),
        }
    }

    /// That the configuration declares a capability.
    pub(super) fn capable(&self, capability: &str) -> Checked {
        if self.patch["capabilities"][capability] == true {
            return Ok(());
        }
        Err(Flaw::NotOffered(format!("--config declares no capability {capability}")))
    }

    /// The configuration of the network on which most rules are tried.
    pub(super) fn network(&self) -> Value {
        self.network_of("conformance0", "conf0", "10.83.0.0/24")
    }

    /// That of another network.
    pub(super) fn other_network(&self) -> Value {
        self.network_of("conformance1", "conf1", "10.83.1.0/24")
    }

    /// That of a network with an address for one container.
    pub(super) fn network_of_one(&self) -> Value {
        self.network_of("conformance2", "conf2", "10.83.2.0/30")
    }

    fn network_of(&self, name: &str, bridge: &str, subnet: &str) -> Value {
        let mut config = json!({
            "cniVersion": self.newest(),
            "name": name,
            "type": self.plugin.kind,
            "bridge": bridge,
            "isGateway": true,
            "ipMasq": true,
            "ipam": {
                "type": self.ipam,
                "subnet": subnet,
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        merge(&mut config, &self.patch);
        config
    }

    /// A container.
    pub(super) fn container(&self) -> Checked<Container> {
        let number = self.containers.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("c{number}");
        let netns = self.machine.namespace(&name);
        let netns = netns.map_err(|error| Flaw::Broken(error.to_string()))?;
        Ok(Container { id: format!("{number:02x}").repeat(32), name, netns })
    }

    /// An execution of the plugin with a command, a configuration and the path of plugins.
    pub(super) fn call(&self, command: &str, config: &Value) -> Call {
        let own = [OWN_PLUGINS.to_owned()];
        let path = self.plugin.path.iter().map(|dir| dir.display().to_string()).chain(own);
        Call::new(self.plugin.program.clone())
            .set("CNI_COMMAND", command)
            .set("CNI_PATH", path.collect::<Vec<_>>().join(":"))
            .config(config)
    }

    /// As [`Bench::call`], for an interface of a container.
    pub(super) fn call_for(
        &self,
        command: &str,
        container: &Container,
        ifname: &str,
        config: &Value,
    ) -> Call {
        self.call(command, config)
            .set("CNI_CONTAINERID", &container.id)
            .set("CNI_NETNS", container.netns.display())
            .set("CNI_IFNAME", ifname)
    }

    /// As [`Bench::call`], for a whole network; libcni sets what is not needed to nothing.
    pub(super) fn call_for_all(&self, command: &str, config: &Value) -> Call {
        let unused = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
        unused.iter().fold(self.call(command, config), |call, name| call.set(name, ""))
    }

    /// Executes ADD.
    pub(super) fn try_add(
        &self,
        container: &Container,
        ifname: &str,
        config: &Value,
    ) -> Checked<Reply> {
        self.call_for("ADD", container, ifname, config).run()
    }

    /// Executes an ADD that has to succeed, and gives its result.
    pub(super) fn add(
        &self,
        container: &Container,
        ifname: &str,
        config: &Value,
    ) -> Checked<Value> {
        self.try_add(container, ifname, config)?.document("ADD")
    }

    /// A container on a network, under `eth0`, and the result.
    pub(super) fn attached(&self, config: &Value) -> Checked<(Container, Value)> {
        let container = self.container()?;
        let result = self.add(&container, "eth0", config)?;
        Ok((container, result))
    }

    /// Executes a DEL that has to succeed.
    pub(super) fn del(&self, container: &Container, ifname: &str, config: &Value) -> Checked {
        self.call_for("DEL", container, ifname, config).run()?.silence("DEL")
    }

    /// Executes CHECK.
    pub(super) fn try_check(
        &self,
        container: &Container,
        config: &Value,
        result: &Value,
    ) -> Checked<Reply> {
        self.call_for("CHECK", container, "eth0", &with(config, "prevResult", result)).run()
    }
}

/// A configuration with one key set to something else.
pub(super) fn with(config: &Value, key: &str, value: impl serde::Serialize) -> Value {
    let mut config = config.clone();
    config[key] = json!(value);
    config
}

/// Merges a patch into a document, as RFC 7396 has it.
pub(super) fn merge(document: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = json!({});
    }
    let Value::Object(document) = document else { return };
    for (key, value) in patch {
        if value.is_null() {
            document.remove(key);
        } else {
            merge(document.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_sets_changes_and_removes() {
        let mut document = json!({ "a": { "b": 1, "c": 2 }, "d": [1, 2], "e": 3 });
        merge(&mut document, &json!({ "a": { "b": null, "x": { "y": null } }, "d": [3], "e": 4 }));
        assert_eq!(document, json!({ "a": { "c": 2, "x": {} }, "d": [3], "e": 4 }));
    }
}
