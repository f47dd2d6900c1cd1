//! The commands on CNI.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cni::conformance::Conformance;

/// The commands on CNI.
#[derive(Debug, Subcommand)]
pub(crate) enum CniCommand {
    /// Try any CNI plugin on the rules of the specification
    Conformance(Conformance),
    /// Put netd's plugins where runtimes look for them
    #[command(after_help = "\
`loopback` is put there too, which containerd needs, unless somebody else's is there.

Examples:
  netctl cni install
  netctl cni install --bin-dir /usr/lib/cni --dry-run")]
    Install(Install),
    /// Take netd's plugins away from there
    Uninstall(Uninstall),
}

/// Where runtimes look for plugins unless told, which is made where it is not there.
pub(crate) const DEFAULT_BIN: &str = "/opt/cni/bin";

/// `cni uninstall`.
#[derive(Args, Debug)]
pub(crate) struct Uninstall {
    /// Also while containers are on netd's networks through the plugins
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Where the lists are of which those are named that lead to no plugin any more
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/cni/net.d")]
    pub(crate) cni_dir: PathBuf,
    /// Where.
    #[command(flatten)]
    pub(crate) places: Install,
}

/// `cni install`, and where that was.
#[derive(Args, Debug)]
pub(crate) struct Install {
    /// Where runtimes look for plugins; another directory than this has to be there
    #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_BIN)]
    pub(crate) bin_dir: PathBuf,
    /// Where netd's plugins are; beside netctl, or in /usr/libexec/netd if not given
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) plugin_dir: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}
