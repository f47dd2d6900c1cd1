//! `netctl network`: the words and flags of `docker network`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use cnm::Name;
use ipnetwork::IpNetwork;

use super::{
    Format, Wanted,
    values::{Pair, cidr, filter, pair},
};

/// The commands on networks.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network
    #[command(after_help = "\
A gateway, range, auxiliary address or exclusion belongs to the subnet that contains it.

Examples:
  netctl network create app
  netctl network create --subnet 10.5.0.0/16 --ip-range 10.5.1.0/24 --gateway 10.5.0.1 app
  netctl network create --ipv6 --internal vault
  netctl network create -d overlay shop
  netctl network create -o com.docker.network.driver.mtu=9000 storage
  netctl network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 lan
  netctl network create --cni pods")]
    Create(Create),
    /// Show the networks
    #[command(
        visible_alias = "list",
        after_help = "\
Filters: driver=NAME, id=PART, name=PART, label=KEY[=VALUE], type=builtin|custom,
dangling=true|false, scope=local|swarm. Several of one key: any of them; of several keys: all of them.

Examples:
  netctl network ls
  netctl network ls -q -f type=custom
  netctl network ls --format '{{.Name}}: {{.Driver}}'"
    )]
    Ls(List),
    /// Show networks and who is on them, as Docker shows them
    #[command(after_help = "\
Examples:
  netctl network inspect app
  netctl network inspect --json app | jq '.[0].endpoints[].addresses'")]
    Inspect(Inspect),
    /// Change a network while it is in use
    #[command(after_help = "\
Containers that are on it keep their addresses; new ones get those of the first subnet that has one
left. A gateway, range, auxiliary address or exclusion belongs to the subnet that contains it. Options
that can change (the page on options says which) hold at once, for the containers that are there, too.

Examples:
  netctl network update --add-subnet 10.6.0.0/16 app
  netctl network update -o mtu=1400 -o icc=false -o dns=10.0.0.53 app
  netctl network update --opt-rm dns app
  netctl network update --label tier=web --label-rm team app")]
    Update(Update),
    /// Keep addresses for the container of a name
    #[command(after_help = "\
The container of this name gets them when it comes, without asking, and nobody else does; they stay its
own while it is away and when netd starts again. Of each family the one address that was kept before
makes way. Without --ip it is what the container has by now, or else the next address.

Examples:
  netctl network reserve app db
  netctl network reserve --ip 10.5.0.9 --ip fd00:5::9 app db")]
    Reserve(Reserve),
    /// Keep addresses for the container of a name no longer
    Unreserve(Unreserve),
    /// Remove networks that nobody is on
    #[command(visible_alias = "remove")]
    Rm(Remove),
    /// Remove all networks that nobody is on
    Prune(Prune),
    /// Put a container on a network
    #[command(after_help = "\
The container must be one that netd knows: `netctl sandbox ls` shows them. Any other namespace is
put on a network with `netctl attach`.

Examples:
  netctl network connect app web
  netctl network connect --ip 10.5.0.9 --alias db -p 5432:5432 app postgres")]
    Connect(Connect),
    /// Take a container off a network
    Disconnect(Disconnect),
}

/// `network create`.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The driver that serves it
    #[arg(short, long, default_value = "bridge")]
    pub(crate) driver: String,
    /// Its addresses; chosen if not given
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub(crate) subnet: Vec<IpNetwork>,
    /// Give out addresses of this part of a subnet only
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub(crate) ip_range: Vec<IpNetwork>,
    /// A subnet's gateway; its first address if not given
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Vec<IpAddr>,
    /// An address of a subnet that something else has
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = pair)]
    pub(crate) aux_address: Vec<Pair>,
    /// Addresses of a subnet that are never given out by themselves
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub(crate) exclude: Vec<IpNetwork>,
    /// No way in or out but for its own members
    #[arg(long)]
    pub(crate) internal: bool,
    /// Show it to Docker's clients as one that any container may be put on, as it may anyway
    #[arg(long)]
    pub(crate) attachable: bool,
    /// Whether it has IPv4; yes if not given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) ipv4: Option<bool>,
    /// Whether it has IPv6; only with an IPv6 subnet if not given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) ipv6: Option<bool>,
    /// An option of the driver
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) options: Vec<Pair>,
    /// A label of your own
    #[arg(long = "label", value_name = "KEY[=VALUE]", value_parser = pair)]
    pub(crate) labels: Vec<Pair>,
    /// Write a CNI configuration list for it as well
    #[arg(long)]
    pub(crate) cni: bool,
    /// Where that goes; runtimes read it there
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/cni/net.d", requires = "cni")]
    pub(crate) cni_dir: PathBuf,
    /// Its name
    pub(crate) name: String,
}

/// `network ls`.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Show only those that match
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    pub(crate) filters: Vec<Pair>,
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// `table`, `json`, `raw`, or a template of {{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.IPv4}}
    /// {{.IPv6}} {{.Internal}} {{.Labels}} {{.Label "KEY"}} {{.CreatedAt}}
    #[arg(long, conflicts_with = "json")]
    pub(crate) format: Option<String>,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
}

/// `network inspect`.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// `docker` (Docker's shape), `json` (the same on one line), or `cnm` (as --json)
    #[arg(short, long, default_value = "docker", value_parser = ["docker", "json", "cnm"])]
    pub(crate) format: String,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
    /// Each one's name, id, or the beginning of its id
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
}

/// `network update`.
#[derive(Args, Debug)]
pub(crate) struct Update {
    /// Addresses that it has besides
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub(crate) add_subnet: Vec<IpNetwork>,
    /// Give out addresses of this part of a new subnet only
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub(crate) ip_range: Vec<IpNetwork>,
    /// A new subnet's gateway; its first address if not given
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Vec<IpAddr>,
    /// An address of a new subnet that something else has
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = pair)]
    pub(crate) aux_address: Vec<Pair>,
    /// Addresses of a new subnet that are never given out by themselves
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub(crate) exclude: Vec<IpNetwork>,
    /// A label of your own, new or in the place of another
    #[arg(long = "label", visible_alias = "label-add", value_name = "KEY[=VALUE]", value_parser = pair)]
    pub(crate) labels: Vec<Pair>,
    /// A label that goes
    #[arg(long = "label-rm", value_name = "KEY")]
    pub(crate) remove_labels: Vec<String>,
    /// An option, new or in the place of another value
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) options: Vec<Pair>,
    /// An option that is as if it had never been said
    #[arg(long = "opt-rm", value_name = "KEY")]
    pub(crate) remove_options: Vec<String>,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
    /// Its name, id, or the beginning of its id
    pub(crate) network: String,
}

/// `network reserve`.
#[derive(Args, Debug)]
pub(crate) struct Reserve {
    /// Which address, of each family at most one
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Vec<IpAddr>,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
    /// The network's name, id, or the beginning of its id
    pub(crate) network: String,
    /// The container's name
    pub(crate) name: Name,
}

/// `network unreserve`.
#[derive(Args, Debug)]
pub(crate) struct Unreserve {
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
    /// The network's name, id, or the beginning of its id
    pub(crate) network: String,
    /// The container's name
    pub(crate) name: Name,
}

/// `network rm`.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// It is no fault if one is not there, nor if dockerd has one as well
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Where `create --cni` wrote its list, which goes too unless somebody has changed it
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/cni/net.d")]
    pub(crate) cni_dir: PathBuf,
    /// Each one's name, id, or the beginning of its id
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
}

/// `network prune`.
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove only those that match: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME (RFC 3339,
    /// or how long ago, such as 24h)
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    pub(crate) filters: Vec<Pair>,
    /// Where `create --cni` wrote their lists, which go too unless somebody has changed them
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/cni/net.d")]
    pub(crate) cni_dir: PathBuf,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
}

/// `network connect`.
#[derive(Args, Debug)]
pub(crate) struct Connect {
    /// What it is to have there.
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// The network's name, id, or the beginning of its id
    pub(crate) network: String,
    /// The container's name, id, or the beginning of its id
    pub(crate) container: String,
}

/// `network disconnect`.
#[derive(Args, Debug)]
pub(crate) struct Disconnect {
    /// Though dockerd has it there; and it is no fault if it is not on the network
    #[arg(short, long)]
    pub(crate) force: bool,
    /// The network's name, id, or the beginning of its id
    pub(crate) network: String,
    /// The container's name or id
    pub(crate) container: String,
}
