//! Podman on a machine, with the CNI backend.

use std::{fs, process::Command};

use crate::{Executed, Machine};

/// Podman 4 with CNI, and everything of its own on the machine.
#[derive(Debug)]
pub struct Podman<'a> {
    machine: &'a Machine,
}

impl<'a> Podman<'a> {
    /// Sets it up.
    pub fn new(machine: &'a Machine) -> Self {
        let config = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"/usr/lib/cni\"]\n\
             network_config_dir = \"/etc/cni/net.d\"\n\
             [engine]\nruntime = \"crun\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
             [engine.runtimes]\ncrun = [\"{}\"]\n",
            machine.crun()
        );
        fs::write(machine.directory().join("containers.conf"), config)
            .expect("/run is the test's own");
        Self { machine }
    }

    /// A command of it, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let global = ["podman", "--storage-driver", "vfs"];
        let mut command = self.machine.command(global.iter().chain(words));
        command.env("CONTAINERS_CONF", self.machine.directory().join("containers.conf"));
        command
    }

    /// Executes a command of it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn execute(&self, words: &[&str]) -> Executed {
        self.command(words).output().expect("setpriv is a part of util-linux").into()
    }

    /// Runs a container: `options` of `podman run`, then a command in it.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Executed {
        let root = self.machine.root();
        let fixed = ["--cgroups=disabled", "--security-opt", "seccomp=unconfined"];
        // Those of the machine may be lower than what it would set.
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let parts = [&["run"], &fixed[..], &limits, options, &["--rootfs", &root], command];
        self.execute(&parts.concat())
    }

    /// Runs a server that says its name over HTTP, as a container that stays.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn serve(&self, name: &str, options: &[&str]) {
        let options = [&["--detach", "--name", name], options].concat();
        self.run(&options, &Machine::server(name)).success();
    }

    /// The address that it tells of a container on a network.
    ///
    /// # Panics
    /// When it tells none.
    #[track_caller]
    pub fn address(&self, name: &str, network: &str) -> std::net::IpAddr {
        let template = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let told = self.execute(&["inspect", "--format", &template, name]);
        told.success().trim().parse().unwrap_or_else(|error| panic!("{error}: {told:?}"))
    }
}
