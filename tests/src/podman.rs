//! Podman on a machine: with CNI, or with netd as it is installed for it.

use std::{fs, path::PathBuf, process::Command};

use crate::{Executed, Machine};

/// Podman, and everything of its own on the machine.
#[derive(Debug)]
pub struct Podman<'a> {
    machine: &'a Machine,
    /// Its configuration, where that is not in the usual places.
    config: Option<PathBuf>,
}

impl<'a> Podman<'a> {
    /// Sets Podman 4 up with CNI.
    pub fn new(machine: &'a Machine) -> Self {
        let config = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"/usr/lib/cni\"]\n\
             network_config_dir = \"/etc/cni/net.d\"\n{}",
            engine(machine)
        );
        let place = machine.directory().join("containers.conf");
        fs::write(&place, config).expect("/run is the test's own");
        Self { machine, config: Some(place) }
    }

    /// Sets it up with netavark, and nothing said of networks.
    pub fn unchanged(machine: &'a Machine) -> Self {
        let place = machine.directory().join("containers");
        fs::create_dir(&place).expect("/run is the test's own");
        let shown = place.display().to_string();
        let over = r#"mkdir -p /etc/containers && cp -a /etc/containers/. "$0" &&
            mount --bind "$0" /etc/containers"#;
        machine.run(&["sh", "-c", over, &shown]).success();
        let config = format!("[network]\nnetwork_backend = \"netavark\"\n{}", engine(machine));
        fs::write(place.join("containers.conf"), config).expect("/run is the test's own");
        Self { machine, config: None }
    }

    /// As [`Podman::unchanged`], with netd installed for it as a person would: `words` go to
    /// `netctl podman install`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn with_netd(machine: &'a Machine, words: &[&str]) -> Self {
        let podman = Self::unchanged(machine);
        podman.netctl(&[&["install"], words].concat()).success();
        podman
    }

    /// Executes `netctl podman` on the machine.
    pub fn netctl(&self, words: &[&str]) -> Executed {
        let programs = self.machine.programs();
        let [netctl, plugins, helpers] = [&programs.join("netctl"), programs, &self.helpers()]
            .map(|path| path.display().to_string());
        let places = ["--plugin-dir", &plugins, "--helper-dir", &helpers];
        self.machine.run(&[&[netctl.as_str(), "podman"], words, &places].concat())
    }

    /// The networks that netd is found to have for it alone, now removed.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn prune(&self) -> String {
        let netctl = self.machine.programs().join("netctl").display().to_string();
        self.machine.run(&[&netctl, "podman", "prune"]).success().to_owned()
    }

    /// Where netd's stand-in for netavark is.
    pub fn helpers(&self) -> PathBuf {
        self.machine.directory().join("helpers")
    }

    /// A command of it, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let global = ["podman", "--storage-driver", "vfs"];
        let mut command = self.machine.command(global.iter().chain(words));
        if let Some(config) = &self.config {
            command.env("CONTAINERS_CONF", config);
        }
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
        self.run_command(options, command).output().expect("setpriv is a part of util-linux").into()
    }

    /// As [`Podman::run`], not yet run.
    pub fn run_command(&self, options: &[&str], command: &[&str]) -> Command {
        let root = self.machine.root();
        let fixed = ["--cgroups=disabled", "--security-opt", "seccomp=unconfined"];
        // Those of the machine may be lower than what it would set.
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let parts = [&["run"], &fixed[..], &limits, options, &["--rootfs", &root], command];
        self.command(&parts.concat())
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

/// What a machine without control groups needs.
fn engine(machine: &Machine) -> String {
    format!(
        "[engine]\nruntime = \"crun\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
         [engine.runtimes]\ncrun = [\"{}\"]\n",
        machine.crun()
    )
}
