//! The commands on Podman.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The commands on Podman.
#[derive(Debug, Subcommand)]
pub(crate) enum PodmanCommand {
    /// Tell Podman where netd's drivers are, or put netd in netavark's place
    #[command(after_help = "\
Without --drop-in, networks made with `podman network create -d netd-bridge` are netd's (Podman 4.5 and
later). With it all networks of root's containers are. Those that run stay with the distribution's netavark
until they end. Once there, the drop-in stays until `uninstall`.

Examples:
  netctl podman install
  netctl podman install --drop-in --dry-run")]
    Install(Install),
    /// Take away what `install` has written
    Uninstall(Uninstall),
    /// Remove networks that were made for Podman, that it has no more, and that nobody is on; give netd back
    /// what Podman gave of addresses of others that it has no more
    #[command(after_help = "\
Podman tells no plugin that a network is removed. With netd in netavark's place networks go by themselves.

Examples:
  podman network rm app && netctl podman prune")]
    Prune(Prune),
}

/// `podman install`.
#[derive(Args, Debug)]
pub(crate) struct Install {
    /// Stand in netavark's place, too
    #[arg(long)]
    pub(crate) drop_in: bool,
    /// Where.
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `podman uninstall`.
#[derive(Args, Debug)]
pub(crate) struct Uninstall {
    /// Also while containers of Podman's are on netd's networks, and what was changed by hand since
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Where.
    #[command(flatten)]
    pub(crate) places: Places,
}

/// Where things are.
#[derive(Args, Debug)]
pub(crate) struct Places {
    /// Where Podman reads its configuration
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/containers/containers.conf.d")]
    pub(crate) conf_dir: PathBuf,
    /// Where netd's plugins are; beside netctl, or in /usr/libexec/netd if not given
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) plugin_dir: Option<PathBuf>,
    /// Where netavark's stand-in goes; `podman` below the plugins if not given
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) helper_dir: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `podman prune`.
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Where Podman has its networks; where its configuration says, or in /etc/containers/networks, if not
    /// given
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) network_dir: Option<PathBuf>,
    /// Where Podman reads its configuration
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/containers/containers.conf.d")]
    pub(crate) conf_dir: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}
