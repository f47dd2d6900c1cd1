//! The commands that put something on a network, and those that show it there.

use std::{ffi::OsString, net::IpAddr, path::PathBuf};

use clap::{ArgAction, Args, Subcommand};
use cnm::{
    ContainerId, IfName, MacAddr, Name,
    bandwidth::{Bandwidth, Limit},
    endpoint::{self, Container, Netns, Port},
};

use super::{
    Format,
    join::Join,
    values::{ExtraHost, Pair, netns, pair, resolver_option},
};

/// What an endpoint is to have. What is not said is chosen.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// An address it must have, one of each family at most
    #[arg(long = "ip", visible_alias = "ip6", value_name = "ADDRESS")]
    pub(crate) addresses: Vec<IpAddr>,
    /// What else it is called on the network
    #[arg(long = "alias", visible_alias = "network-alias", value_name = "NAME")]
    pub(crate) aliases: Vec<Name>,
    /// The name of the interface; the first free ethN if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) ifname: Option<IfName>,
    /// Leave by the network with the highest priority, -999 to 999; of equals by the first
    #[arg(
        long = "gw-priority",
        value_name = "NUMBER",
        default_value_t,
        allow_negative_numbers = true
    )]
    pub(crate) gateway_priority: i32,
    /// A link-layer address it must have
    #[arg(long = "mac-address", visible_alias = "mac", value_name = "MAC")]
    pub(crate) mac: Option<MacAddr>,
    /// A port the host answers for, or FIRST-LAST: `[[HOST_IP:]HOST_PORT:]PORT[/udp|/sctp]`
    #[arg(short = 'p', long = "publish", value_name = "PORT")]
    pub(crate) ports: Vec<Port>,
    /// How fast packets may come to it, in bits a second: 10mbit, or 1gbit:8mbit with a burst
    #[arg(long, value_name = "RATE[:BURST]")]
    pub(crate) rate_in: Option<Limit>,
    /// How fast it may send packets, likewise
    #[arg(long, value_name = "RATE[:BURST]")]
    pub(crate) rate_out: Option<Limit>,
    /// Give a container of this name the address that it had before
    #[arg(long)]
    pub(crate) sticky: bool,
    /// An option of the driver
    #[arg(long = "driver-opt", visible_alias = "opt", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) options: Vec<Pair>,
    /// A label of your own
    #[arg(long = "label", value_name = "KEY[=VALUE]", value_parser = pair)]
    pub(crate) labels: Vec<Pair>,
}

impl Wanted {
    /// The request for it.
    pub(crate) fn on(
        self,
        network: &str,
        container: Container,
        netns: Option<Netns>,
    ) -> endpoint::Attach {
        endpoint::Attach {
            ifname: self.ifname,
            addresses: self.addresses,
            mac: self.mac,
            aliases: self.aliases,
            ports: self.ports,
            bandwidth: Bandwidth::of(self.rate_in, self.rate_out),
            gateway_priority: self.gateway_priority,
            sticky: self.sticky,
            options: self.options.into_iter().collect(),
            labels: self.labels.into_iter().collect(),
            ..endpoint::Attach::new(network, container, netns)
        }
    }
}

/// `attach`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netctl attach --netns /run/netns/lab --name lab app
  netctl attach --netns PID:4711 --name web -p 8080:80 --alias www app
  netctl detach lab")]
pub(crate) struct Attach {
    /// The namespace: a path, or PID:N for that of a process
    #[arg(long, value_name = "PATH|PID:N", value_parser = netns)]
    pub(crate) netns: PathBuf,
    /// What to call the container; a name in DNS
    #[arg(long)]
    pub(crate) name: Name,
    /// The container's id; its name if not given
    #[arg(long)]
    pub(crate) id: Option<ContainerId>,
    /// A process whose end is the container's, for the host's own namespace
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// What it is to have there.
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
    /// The network's name, id, or the beginning of its id
    pub(crate) network: String,
}

/// `detach`.
#[derive(Args, Debug)]
#[command(after_help = "\
What is not attached is already detached: that is no fault.

Examples:
  netctl detach web
  netctl detach --network app --ifname eth1 web")]
pub(crate) struct Detach {
    /// Only off this network
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Only with this interface
    #[arg(long)]
    pub(crate) ifname: Option<IfName>,
    /// How the answer is to look.
    #[command(flatten)]
    pub(crate) output: Format,
    /// The container's name or id
    pub(crate) container: String,
}

/// `run`.
#[derive(Args, Debug)]
#[command(after_help = "\
The command gets a network namespace, a hostname, /etc/hosts and /etc/resolv.conf of its own; it
shares everything else with the host. It leaves its networks when it ends, and so does it when
netctl is killed. With `--network host` it has the host's network, with `--network none` none.

With several networks, addresses, ports, interface name and driver options are those of the first;
aliases hold on all. What else a network is to be joined with is said with it: name=NETWORK and, with
commas between them, ip=, ip6=, alias=, ifname=, mac-address=, gw-priority= and driver-opt=KEY=VALUE.

Examples:
  netctl run -- ip address
  netctl run --network app --name web -p 8080:80 -- python3 -m http.server 80
  netctl run --network front --network back --name proxy -- haproxy -f proxy.cfg
  netctl run --network back --network name=front,gw-priority=1,ip=10.1.0.9 -- ip route
  netctl run --network app --add-host db:10.1.0.7 --add-host host:host-gateway -- getent hosts db

Exit codes: the command's own, 128 and the signal's number if one ended it, 127 if there is no such
command, 126 if it cannot be run.")]
#[command(disable_help_flag = true)]
pub(crate) struct Run {
    /// A network to put it on: the first is eth0, the next eth1
    #[arg(
        long = "network",
        visible_alias = "net",
        value_name = "NETWORK",
        default_value = "bridge"
    )]
    pub(crate) networks: Vec<Join>,
    /// What to call it; a name in DNS
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// What it calls itself; its name if not given
    #[arg(short = 'h', short_alias = 'H', long)]
    pub(crate) hostname: Option<Name>,
    /// A line in its /etc/hosts; host-gateway instead of an address means this host
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<ExtraHost>,
    /// Ask this name server, of three at most, instead of netd's, which alone knows the names of containers
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<IpAddr>,
    /// Try this domain behind names, instead of its networks' or the host's; `.` for none; several with
    /// commas between them, or one after another
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub(crate) dns_search: Vec<String>,
    /// An option of its resolv.conf, such as timeout:1, instead of the host's
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_parser = resolver_option)]
    pub(crate) dns_option: Vec<String>,
    /// What it is to have there.
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// The commands on endpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Show the endpoints
    #[command(visible_alias = "list")]
    Ls {
        /// Only those on this network
        #[arg(long)]
        network: Option<String>,
        /// Only those of this container
        #[arg(long)]
        container: Option<String>,
        /// How the answer is to look.
        #[command(flatten)]
        output: Format,
    },
    /// Show everything about an endpoint, as JSON
    Inspect {
        /// Ask its driver too: how it would make it, and what the kernel has of it
        #[arg(long)]
        plan: bool,
        /// Print what netd answers, as JSON: there is no other form
        #[arg(long)]
        json: bool,
        /// The endpoint's id, or the beginning of it
        endpoint: String,
    },
    /// Compare an endpoint with the kernel; ends with 1 if they differ
    #[command(after_help = "\
Examples:
  netctl endpoint check 7d1f0c5e2b9a
  netctl endpoint check --netns PID:4711 7d1f0c5e2b9a")]
    Check {
        /// Look inside as well, in the container's namespace: a path, or PID:N for that of a process
        #[arg(long, value_name = "PATH|PID:N", value_parser = netns)]
        netns: Option<PathBuf>,
        /// How the answer is to look.
        #[command(flatten)]
        output: Format,
        /// The endpoint's id, or the beginning of it
        endpoint: String,
    },
}
