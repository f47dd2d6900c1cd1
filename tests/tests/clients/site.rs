//! A host with a neighbour, a machine for runtimes, and networks of one kind of plugins.

use std::{net::IpAddr, os::unix::fs::symlink, path::PathBuf};

use netd_tests::{Executed, Host, HostOptions, Machine, Namespace, World, eventually};
use serde_json::{Value, json};

/// Whose plugins a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plugins {
    /// netd's: one does everything.
    Ours,
    /// The reference's: a bridge, and another for ports.
    Reference,
}

/// Everything that a test has. What is first ends first.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) machine: Machine,
    pub(crate) lan: Namespace,
    pub(crate) host: Host,
    pub(crate) programs: PathBuf,
    plugins: Plugins,
}

impl Site {
    pub(crate) fn new(plugins: Plugins) -> Self {
        Self::made(plugins, "", World::machine)
    }

    /// One on which netd is told more.
    pub(crate) fn told(plugins: Plugins, config: &str) -> Self {
        Self::made(plugins, config, World::machine)
    }

    /// As [`Site::new`], with another machine on it.
    pub(crate) fn with(
        plugins: Plugins,
        machine: impl FnOnce(&World, &str, &Namespace) -> Machine,
    ) -> Self {
        Self::made(plugins, "", machine)
    }

    fn made(
        plugins: Plugins,
        config: &str,
        machine: impl FnOnce(&World, &str, &Namespace) -> Machine,
    ) -> Self {
        let world = World::new();
        let options = HostOptions { config: config.to_owned(), ..HostOptions::default() };
        let host = world.host_with("a", options);
        // Where a plugin looks for netd that is told nothing.
        symlink(host.run_dir(), "/run/netd").unwrap();
        let lan = host.lan();
        let machine = machine(&world, "a", &host.netns);
        Self { machine, lan, host, programs: world.programs().to_owned(), plugins }
    }

    /// The configuration of the plugin that makes the interface.
    pub(crate) fn interface(&self, name: &str, number: u8) -> Value {
        let kind = match self.plugins {
            Plugins::Ours => "netd-bridge",
            Plugins::Reference => "bridge",
        };
        json!({
            "type": kind,
            "bridge": format!("cni-{name}"),
            "isGateway": true,
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": format!("10.83.{number}.0/24") }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        })
    }

    /// A network of these plugins.
    pub(crate) fn chain(&self, name: &str, plugins: &[Value]) {
        self.machine.configure(&json!({ "cniVersion": "0.4.0", "name": name, "plugins": plugins }));
    }

    /// A network with published ports: `10.83.NUMBER.0/24`.
    pub(crate) fn network(&self, name: &str, number: u8) {
        let mut interface = self.interface(name, number);
        match self.plugins {
            Plugins::Ours => {
                interface["capabilities"] = json!({ "portMappings": true, "aliases": true });
                self.chain(name, &[interface]);
            }
            Plugins::Reference => {
                let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
                self.chain(name, &[interface, ports]);
            }
        }
    }

    /// Waits until somebody gets a server's greeting.
    #[track_caller]
    pub(crate) fn greeted(&self, who: &Namespace, place: &str, server: &str) {
        let line = format!("curl -sS --noproxy * --max-time 5 http://{place}/");
        eventually("the server answers", || {
            let executed = Executed::from(who.output(&line));
            if executed.stdout == format!("I am {server}\n") { Ok(()) } else { Err(executed) }
        });
    }

    /// Waits until nothing of a container is left on the host.
    #[track_caller]
    pub(crate) fn bare(&self) {
        eventually("no link of a container is left", || {
            let links = self.host.netns.json("ip -j -d link");
            let links = links.as_array().unwrap().iter();
            let left: Vec<_> = links
                .filter(|link| link["linkinfo"]["info_kind"] == "veth" && link["ifname"] != "lan0")
                .map(|link| link["ifname"].clone())
                .collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        if self.plugins == Plugins::Ours {
            let listed = self.host.netctl(&["endpoint", "ls", "--json"]);
            let listed: Value = serde_json::from_str(listed.success()).unwrap();
            assert_eq!(listed["endpoints"], json!([]));
        }
    }

    /// Where on its network a container should be.
    #[track_caller]
    pub(crate) fn within(address: IpAddr, number: u8) {
        let network: ipnetwork::IpNetwork = format!("10.83.{number}.0/24").parse().unwrap();
        assert!(network.contains(address), "{address} is not in {network}");
    }
}
