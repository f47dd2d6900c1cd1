//! The commands on names.

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// The commands on names.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Ask for a name as a container does, and say why the answer is what it is
    #[command(after_help = "\
Examples:
  netctl dns query web --from client
  netctl dns query _http._tcp.web --from client
  netctl dns query 10.89.0.2 --json

Ends with 0 where there is such a name, 3 where there is none (NXDOMAIN), 7 where who asks is refused, and
9 where nobody could answer (SERVFAIL).")]
    Query(Query),
    /// Have each question written to netd's log, or no longer
    Log {
        /// Whether to
        each: Switch,
    },
}

/// `dns query`.
#[derive(Args, Debug)]
pub(crate) struct Query {
    /// The name, or an address of which the name is wanted
    pub(crate) name: String,
    /// The type of records; A of a name, SRV of a service and PTR of an address if not given
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// The container that asks, by name or id; the host itself if not given
    #[arg(long, value_name = "CONTAINER")]
    pub(crate) from: Option<String>,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
}

/// On or off.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Switch {
    /// From now on
    On,
    /// No longer
    Off,
}
