//! `netctl driver`: what is for those who write drivers.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    Format,
    values::{Pair, pair},
};

/// The commands on drivers.
#[derive(Debug, Subcommand)]
pub(crate) enum DriverCommand {
    /// Start a driver by itself and see whether it keeps to the protocol
    #[command(after_help = "\
Each rule has a host of its own: network and mount namespaces in which there is nothing but the
driver. Nothing of this machine is touched, and netd need not run. It needs root.

Exit codes: 0 when it keeps to every rule that is for it, 1 when it does not.

Examples:
  netctl driver test /usr/libexec/netd/netd-bridge
  netctl driver test ./driver.py --rule detach --rule reaches-the-others
  netctl driver test ./driver.py --json | jq -r '.rules[] | select(.outcome == \"failed\") | .reason'")]
    Test(TestDriver),
}

/// `driver test`.
#[derive(Args, Debug)]
pub(crate) struct TestDriver {
    /// An option of the networks that it is given
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) options: Vec<Pair>,
    /// Only this rule
    #[arg(long = "rule", value_name = "RULE")]
    pub(crate) rules: Vec<String>,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
    /// The driver
    pub(crate) executable: PathBuf,
}
