//! `netctl cluster` and `netctl node`: the words of `docker swarm` and `docker node`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};

use super::{
    Format,
    values::{count, duration, place},
};

/// What the columns of nodes say.
const NODES: &str = "\
Ready: it says so every few seconds. Unknown: it has not said so for a moment, or the store is away
and nobody knows; since when is said then. Down: its names do not resolve, or it was given up.
Active, Pause, Drain: whether it takes new containers on networks of the cluster, and how many are
left on a drained one. The host itself has an asterisk.

Examples:
  netctl node ls
  netctl node ls --json";

/// The commands on clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Begin a cluster, of which this host is the first node
    #[command(after_help = "\
Without --etcd netd starts an etcd of its own, with certificates of the cluster's CA: Debian's
package is etcd-server. Networks of this host stay as they are. The answer has the command by which
another host joins. Between the hosts TCP 2377 (joining, deciding), TCP 2379 and 2380 (etcd) and UDP
4789 (VXLAN) have to be open.

The address that others reach this host at has to be its own; loopback and link-local ones are
refused. An etcd that is named with --etcd has to answer within seconds, or nothing is begun.

Examples:
  netctl cluster init --advertise-addr 10.0.0.1
  netctl cluster init --advertise-addr fd00::1
  netctl cluster init --etcd http://10.0.0.9:2379
  netctl cluster init --etcd https://etcd.example:2379 \\
    --etcd-ca ca.pem --etcd-cert client.pem --etcd-key client.key")]
    Init(Init),
    /// Join a cluster
    #[command(after_help = "\
The token says by which CA the manager is to be known, so that no other cluster is joined by
mistake, and whether this host becomes a worker or a manager. A manager runs a member of etcd: it
needs Debian's etcd-server, and decides once its member has caught up and got its vote.

The clocks of the hosts have to agree to within an hour: certificates are good for a time only.

Examples:
  netctl cluster join --token NETD-1-... 10.0.0.1:2377
  netctl cluster join --token NETD-1-... [fd00::1]:2377")]
    Join(Join),
    /// Leave the cluster; networks of this host stay
    #[command(after_help = "\
A manager's member of etcd is taken out first, as long as the others can decide without it; members
that have just joined are waited for. Where they could not, leaving is refused and nothing changes.
When netd ends in the middle, it goes on with leaving at its next start.

With --force the host leaves whatever comes of it: containers are taken off the cluster's networks,
and a cluster that has no majority of managers left decides nothing more. A host that was removed by
others leaves so, too, before it can join again.

Examples:
  netctl cluster leave
  netctl cluster leave --force")]
    Leave {
        /// Also with containers on its networks, which are taken off, as its last manager, and when
        /// no manager can be told
        #[arg(short, long)]
        force: bool,
    },
    /// Show how the cluster looks from here
    #[command(after_help = "\
It says since when the store is away, how many changes of this host's wait to be written there, and
whether others have removed this host, and by what to go on then.

Examples:
  netctl cluster status
  netctl cluster status --json")]
    Status(Format),
    /// Show the nodes, as netctl node ls
    #[command(visible_alias = "list", after_help = NODES)]
    Ls(Format),
    /// Make, show and remove tokens, with which hosts join
    Token {
        /// What to do.
        #[command(subcommand)]
        command: TokenCommand,
    },
}

/// `cluster init`.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// Where other nodes reach this host; the address of its default route if not given
    #[arg(long, value_name = "ADDRESS", value_parser = advertised)]
    pub(crate) advertise_addr: Option<IpAddr>,
    /// The TCP port for joining and deciding
    #[arg(long, value_name = "PORT", default_value_t = cnm::cluster::CLUSTER_PORT)]
    pub(crate) port: u16,
    /// Where an etcd is that is to be used; several of its URLs with commas
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) etcd: Vec<String>,
    /// The CA of that etcd's certificates, as PEM
    #[arg(long, value_name = "FILE", requires_all = ["etcd", "etcd_cert", "etcd_key"])]
    pub(crate) etcd_ca: Option<PathBuf>,
    /// The certificate by which it knows the cluster's nodes, which get it when they join
    #[arg(long, value_name = "FILE", requires = "etcd_ca")]
    pub(crate) etcd_cert: Option<PathBuf>,
    /// The key to that
    #[arg(long, value_name = "FILE", requires = "etcd_ca")]
    pub(crate) etcd_key: Option<PathBuf>,
    /// The UDP port of VXLAN, on all nodes
    #[arg(long, value_name = "PORT", default_value_t = cnm::peers::VXLAN_PORT)]
    pub(crate) data_path_port: u16,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
}

/// `cluster join`.
#[derive(Args, Debug)]
pub(crate) struct Join {
    /// The token, from `netctl cluster init` or `netctl cluster token create`
    #[arg(long)]
    pub(crate) token: String,
    /// Where other nodes reach this host; the address with which it reaches the manager if not given
    #[arg(long, value_name = "ADDRESS", value_parser = advertised)]
    pub(crate) advertise_addr: Option<IpAddr>,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
    /// Where a manager listens: its address and port
    #[arg(value_name = "HOST:PORT", value_parser = place)]
    pub(crate) manager: SocketAddr,
}

/// What those who join become.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// It decides.
    Manager,
    /// It asks managers to decide.
    Worker,
}

/// The commands on tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token
    #[command(after_help = "\
It is shown this once; by its id it is listed and removed. Tokens are made, shown and removed on
managers.

Examples:
  netctl cluster token create --ttl 10m --uses 1
  netctl cluster token create --role manager")]
    Create(Token),
    /// Show the tokens, without their secrets
    #[command(
        visible_alias = "list",
        after_help = "\
A token that has expired is listed for a day. Its id is the beginning of its secret's SHA-256.

Examples:
  netctl cluster token ls
  netctl cluster token ls --json"
    )]
    Ls(Format),
    /// Make a token in the place of all others of its role
    #[command(after_help = "\
Hosts that have joined stay. A token that somebody else may have seen is worth nothing then.

Examples:
  netctl cluster token rotate
  netctl cluster token rotate --role manager --ttl 24h")]
    Rotate(Token),
    /// Remove a token
    #[command(
        visible_alias = "remove",
        after_help = "\
Nobody joins with it any more; hosts that have joined stay.

Examples:
  netctl cluster token rm 9f86d081884c"
    )]
    Rm {
        /// Each one's id, or the beginning of it
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
}

/// A new token.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Token {
    /// What those who join with it become
    #[arg(long, value_enum, default_value = "worker")]
    pub(crate) role: Role,
    /// How long it is good for, such as 90s, 10m, 24h or 7d; for good if not given
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) ttl: Option<u64>,
    /// How often it can be used; as often as one likes if not given
    #[arg(long, value_name = "NUMBER", value_parser = count)]
    pub(crate) uses: Option<u32>,
    /// Print the token alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
}

/// Whether a node takes new containers on networks of the cluster.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Availability {
    /// It does.
    Active,
    /// Not for now.
    Pause,
    /// Not any more, and those that it has are to go: they are listed for whoever runs them.
    Drain,
}

/// The commands on nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Show the nodes of the cluster
    #[command(visible_alias = "list", after_help = NODES)]
    Ls(Format),
    /// Change nodes
    #[command(after_help = "\
A node that is paused or drained takes no new containers on networks of the cluster. netd runs no
containers and moves none: draining cuts nobody off, but lists what is still there, for whoever runs
it to take away, and node ls counts it down (Docker's drain ends the tasks, which Swarm itself runs).
Networks of the host itself are as before. Nodes are changed on managers.

Examples:
  netctl node update --availability drain two")]
    Update {
        /// Whether new containers come to networks of the cluster there
        #[arg(long, value_enum)]
        availability: Availability,
        /// Each one's name, id, or the beginning of its id
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Remove nodes from the cluster: they are let in no more
    #[command(
        visible_alias = "remove",
        after_help = "\
For hosts that will not come back; one that can leaves by itself, with netctl cluster leave there. Of
a manager the member of etcd is removed first, as long as the others can decide without it. A host
that runs is told that it was removed: what leads to others goes, its containers reach each other
still, and it can join again after netctl cluster leave --force.

Examples:
  netctl node rm two
  netctl node rm --force two"
    )]
    Rm {
        /// Also while they are not down
        #[arg(short, long)]
        force: bool,
        /// Each one's name, id, or the beginning of its id
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
}

/// An address of this host.
fn advertised(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        "it is no IP address: give one that this host has on the way to the others, such as \
         10.0.0.1 or fd00::1"
            .to_owned()
    })
}
