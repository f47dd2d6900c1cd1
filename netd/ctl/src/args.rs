//! The command line's definition: help, manual pages and completions are all made of it.

mod cluster;
pub(crate) mod cni;
mod compose;
mod dns;
pub(crate) mod docker;
mod driver;
mod endpoint;
mod join;
mod network;
pub(crate) mod podman;
pub(crate) mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use cnm::Name;

pub(crate) use cluster::{
    Availability, ClusterCommand, Init, NodeCommand, Role, Token, TokenCommand,
};
pub(crate) use cni::CniCommand;
pub(crate) use compose::Compose;
pub(crate) use dns::{DnsCommand, Switch};
pub(crate) use docker::DockerCommand;
pub(crate) use driver::{DriverCommand, TestDriver};
pub(crate) use endpoint::{Attach, Detach, EndpointCommand, Run, Wanted};
pub(crate) use join::Join;
pub(crate) use network::{
    Connect, Create, Disconnect, Inspect, List, NetworkCommand, Prune, Remove, Reserve, Unreserve,
    Update,
};
pub(crate) use podman::PodmanCommand;
pub(crate) use values::ExtraHost;

/// Networks for containers, whatever started them
#[derive(Debug, Parser)]
#[command(
    name = "netctl",
    version,
    after_help = "\
Examples:
  netctl network create app
  netctl run --network app --name web -- python3 -m http.server 80
  netctl run --network app -- curl http://web
  netctl network inspect app

Exit codes: 0 done, 2 wrong request, 3 not found, 4 exists, 5 nothing left, 6 busy, 7 denied,
8 unsupported, 9 netd or a driver not there, 10 refused by the kernel, 1 a fault of netd's own.
`run` and `sandbox exec` end as the command they run does."
)]
pub(crate) struct Cli {
    /// Where netd listens
    #[arg(
        long,
        global = true,
        env = "NETD_SOCKET",
        hide_env_values = true,
        value_name = "PATH",
        display_order = 900,
        default_value = cnm::DEFAULT_SOCKET
    )]
    pub(crate) socket: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make, show and remove networks, and put containers on them
    #[command(alias = "networks")]
    Network {
        /// What to do.
        #[command(subcommand)]
        command: NetworkCommand,
    },
    /// Put a network namespace on a network
    Attach(Attach),
    /// Take a container off its networks
    Detach(Detach),
    /// Run a command in a network namespace of its own
    Run(Run),
    /// Make, show, enter and remove network namespaces that stay
    Sandbox {
        /// What to do.
        #[command(subcommand)]
        command: SandboxCommand,
    },
    /// Show and check who is on which network
    Endpoint {
        /// What to do.
        #[command(subcommand)]
        command: EndpointCommand,
    },
    /// Show how many addresses are taken
    Ipam {
        /// What to do.
        #[command(subcommand)]
        command: IpamCommand,
    },
    /// Ask the resolver for names, and see why it answers as it does
    Dns {
        /// What to do.
        #[command(subcommand)]
        command: DnsCommand,
    },
    /// Prove that an executable is a driver
    Driver {
        /// What to do.
        #[command(subcommand)]
        command: DriverCommand,
    },
    /// What has to do with the Container Network Interface
    Cni {
        /// What to do.
        #[command(subcommand)]
        command: CniCommand,
    },
    /// What has to do with Podman
    Podman {
        /// What to do.
        #[command(subcommand)]
        command: PodmanCommand,
    },
    /// What has to do with Docker
    Docker {
        /// What to do.
        #[command(subcommand)]
        command: DockerCommand,
    },
    /// Make the networks of a Compose file
    #[command(after_help = "\
Networks that are there as the file has them stay; where one differs, that is said. Labels are changed.
Services are somebody else's.

Examples:
  netctl apply -f compose.yaml
  netctl apply -p shop")]
    Apply(Compose),
    /// Remove the networks that `apply` made of a Compose file, but for those that somebody is on
    Down(Compose),
    /// Begin, join and leave a cluster: many hosts whose networks are one
    Cluster {
        /// What to do.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Show and remove the nodes of a cluster
    Node {
        /// What to do.
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Print what happens, as it happens
    #[command(after_help = "\
Examples:
  netctl events
  netctl events --json | jq 'select(.action == \"vanish\")'")]
    Events(Format),
    /// Show how netd is, and what is not as it should be
    Status(Format),
    /// Compare the kernel with what netd has stored, and put right what differs
    Reconcile(Format),
    /// Release what belongs to namespaces that are gone
    Gc(Format),
    /// Take everything of netd's out of the kernel, or show what that is
    #[command(after_help = "\
netd must not run. What is stored stays: a netd that is started makes its networks again, with their
bridges, addresses and rules, but no links of containers that were attached. It reports them as lost,
and each has to be detached and attached again. The relay for [::1] is ended; kernel parameters stay as
they are.

Examples:
  netctl uninstall --check
  systemctl stop netd.socket netd.service && netctl uninstall")]
    Uninstall(Uninstall),
    /// Print the versions of netctl and netd
    Version(Format),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  netctl completions bash > /usr/share/bash-completion/completions/netctl
  netctl completions zsh > /usr/share/zsh/site-functions/_netctl")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages
    Man {
        /// The directory to write them to; made if it is not there
        #[arg(long, value_name = "DIRECTORY")]
        out: PathBuf,
    },
}

/// What to take out of the kernel.
#[derive(Args, Clone, Debug)]
pub(crate) struct Uninstall {
    /// Only show what there is
    #[arg(long)]
    pub(crate) check: bool,
    /// Where netd's drivers are; beside netctl, and in /usr/libexec/netd if not given
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_dir: Option<PathBuf>,
    /// How to show it.
    #[command(flatten)]
    pub(crate) output: Format,
}

/// How an answer is to look.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Format {
    /// Print what netd answers, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The commands on sandboxes.
#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Make a network namespace that stays until it is removed
    #[command(after_help = "\
Examples:
  netctl sandbox create lab
  netctl network connect app lab
  netctl sandbox exec lab -- ping -c1 web
  netctl sandbox rm lab")]
    Create {
        /// What to call it
        name: Name,
    },
    /// Show the sandboxes
    #[command(visible_alias = "list")]
    Ls(Format),
    /// Take sandboxes off their networks and remove them
    #[command(visible_alias = "remove")]
    Rm {
        /// Each one's name or id
        #[arg(required = true, value_name = "SANDBOX")]
        sandboxes: Vec<String>,
    },
    /// Run a command in a sandbox
    Exec {
        /// The sandbox's name or id
        sandbox: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
}

/// The commands on addresses.
#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// Show every pool of addresses and how full it is
    #[command(visible_alias = "list")]
    Ls(Format),
}

#[cfg(test)]
mod tests;
