//! Hosts on one underlay, each with a netd of its own; the first runs the cluster's etcd.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
};

use cnm::{
    Result,
    cluster::{ClusterStatus, GetCluster, InitCluster, JoinCluster, Joined},
    endpoint::Endpoint,
    network::{CreateNetwork, ListNetworks, Network, Subnet},
};
use netd_tests::{Asking as _, Container, Host, HostOptions, Namespace, World, eventually};

/// The machine, its hosts, and the wire between them.
pub(crate) struct Fleet {
    pub(crate) hosts: Vec<Host>,
    pub(crate) wire: Namespace,
    pub(crate) world: World,
    token: String,
    config: String,
}

/// A container and what it is on a network.
pub(crate) struct Running {
    pub(crate) container: Container,
    pub(crate) endpoint: Endpoint,
}

impl Running {
    pub(crate) fn ip(&self) -> IpAddr {
        self.endpoint.addresses[0].ip()
    }

    /// What a name resolves to for it.
    pub(crate) fn asks(&self, name: &str) -> Vec<String> {
        Host::ask_name(&self.container.netns, self.endpoint.gateways[0], &format!("-q {name}"))
    }
}

/// The address of the host of this number on the underlay, from 0.
pub(crate) fn underlay(host: usize) -> IpAddr {
    IpAddr::from([198, 51, 100, u8::try_from(host + 1).unwrap()])
}

impl Fleet {
    /// So many hosts, in no cluster.
    pub(crate) fn bare(count: usize) -> Self {
        Self::bare_with(count, "")
    }

    /// As [`Fleet::bare`], with each netd told this, too.
    pub(crate) fn bare_with(count: usize, config: &str) -> Self {
        let world = World::new();
        let wire = world.namespace();
        wire.run("ip link add wire type bridge mcast_snooping 0");
        wire.run("ip link set wire up");
        let (token, config) = (String::new(), config.to_owned());
        let mut fleet = Self { world, wire, hosts: Vec::new(), token, config };
        for _ in 0..count {
            fleet.add_host();
        }
        fleet
    }

    /// So many hosts, in one cluster.
    pub(crate) fn new(count: usize) -> Self {
        Self::new_with(count, "")
    }

    /// As [`Fleet::new`], with each netd told this, too, in which `NODE` is the host's name.
    pub(crate) fn new_with(count: usize, config: &str) -> Self {
        let mut fleet = Self::bare_with(count, config);
        fleet.init();
        for host in 1..count {
            let joined = fleet.join(host, &fleet.token.clone());
            joined.unwrap_or_else(|error| panic!("host {host} does not join: {error}"));
        }
        eventually("all hosts know each other", || {
            let known: Vec<_> = (0..count).map(|host| fleet.status(host).nodes).collect();
            let all = u64::try_from(count).unwrap();
            if known.iter().all(|nodes| *nodes == all) { Ok(()) } else { Err(known) }
        });
        fleet
    }

    fn add_host(&mut self) {
        let name = format!("h{}", self.hosts.len() + 1);
        self.add_host_named(&name);
    }

    /// One more host, in no cluster. Gives its number.
    pub(crate) fn add_host_named(&mut self, name: &str) -> usize {
        let number = self.hosts.len();
        let options = HostOptions {
            config: format!("node_name = \"{name}\"\n{}", self.config.replace("NODE", name)),
            ..HostOptions::default()
        };
        let host = self.world.host_with(&format!("h{}", number + 1), options);
        self.plug(&host.netns, &format!("p{number}"), &format!("{}/24", underlay(number)));
        self.hosts.push(host);
        number
    }

    /// Somebody on the underlay who is no host of the fleet, at this address of it; there is one at most.
    pub(crate) fn beside(&self, address: &str) -> Namespace {
        let netns = self.world.namespace();
        netns.run("ip link set lo up");
        self.plug(&netns, "beside", address);
        netns
    }

    fn plug(&self, netns: &Namespace, port: &str, address: &str) {
        let there = netns.path();
        self.wire.run(&format!("ip link add {port} type veth peer name eth0 netns {there}"));
        self.wire.run(&format!("ip link set {port} master wire up"));
        netns.run("ip link set eth0 up");
        netns.run(&format!("ip address add {address} dev eth0"));
    }

    /// The first host begins the cluster.
    pub(crate) fn init(&mut self) -> Joined {
        let init = InitCluster { advertise: Some(underlay(0)), ..InitCluster::default() };
        let joined = self.hosts[0].client().call(&init);
        let joined = joined.unwrap_or_else(|error| panic!("no cluster: {error}"));
        self.token = joined.token.clone().unwrap();
        joined
    }

    /// A host joins by the first.
    pub(crate) fn join(&self, host: usize, token: &str) -> Result<Joined> {
        let manager = (underlay(0), cnm::cluster::CLUSTER_PORT).into();
        let join = JoinCluster { token: token.to_owned(), manager, advertise: None };
        self.hosts[host].client().call(&join)
    }

    /// The token that hosts join with.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn status(&self, host: usize) -> ClusterStatus {
        self.hosts[host].client().call(&GetCluster {}).unwrap()
    }

    /// Makes a network, and waits until every host has it.
    pub(crate) fn create(&self, name: &str) -> Network {
        self.create_with(CreateNetwork::named(name))
    }

    /// As [`Fleet::create`], of this subnet.
    pub(crate) fn create_of(&self, name: &str, subnet: &str) -> Network {
        let subnets = vec![Subnet::new(subnet.parse().unwrap())];
        self.create_with(CreateNetwork { subnets, ..CreateNetwork::named(name) })
    }

    fn create_with(&self, create: CreateNetwork) -> Network {
        let name = create.name.clone();
        let create = CreateNetwork { driver: Some("overlay".into()), ..create };
        let made = self.hosts[0].client().call(&create);
        let made = made.unwrap_or_else(|error| panic!("{error}: {:?}", error.operands));
        for host in 0..self.hosts.len() {
            eventually("every host sees the network", || {
                let seen = self.networks(host);
                if seen.contains(&name) { Ok(()) } else { Err(seen) }
            });
        }
        made
    }

    /// The names of the networks that a host sees.
    pub(crate) fn networks(&self, host: usize) -> Vec<String> {
        let listed = self.hosts[host].client().call(&ListNetworks::default()).unwrap();
        listed.networks.iter().map(|network| network.name.to_string()).collect()
    }

    /// Puts a new container on a network.
    pub(crate) fn run(&self, host: usize, network: &str, name: &str) -> Running {
        let container = self.world.container(name);
        let endpoint = self.hosts[host].client().attach(&container.to(network));
        Running { container, endpoint }
    }

    /// The pid of the cluster's etcd.
    pub(crate) fn etcd(&self) -> u32 {
        let file = self.hosts[0].run_dir().join("etcd.pid");
        let kept = fs::read_to_string(file).unwrap();
        kept.split(' ').next().unwrap().trim().parse().unwrap()
    }

    /// Sends the cluster's etcd a signal.
    pub(crate) fn signal_etcd(&self, signal: &str) {
        netd_tests::run(&format!("kill -{signal} {}", self.etcd()));
    }

    /// As [`reaches`]; where not, what each host has of the others is seen while it is there.
    #[track_caller]
    pub(crate) fn reaches(&self, from: &Namespace, to: IpAddr) {
        eventually("a ping is answered", || {
            let output = from.output(&format!("ping -n -c 1 -W 1 {to}"));
            if output.status.success() {
                return Ok(());
            }
            let places = self.hosts.iter().map(|host| &host.netns).chain([from]);
            let seen = places.flat_map(|place| {
                ["ip neigh", "bridge fdb"].map(|line| {
                    let there = place.output(line).stdout;
                    format!("{line}\n{}", String::from_utf8_lossy(&there))
                })
            });
            Err(Unseen(seen.collect::<Vec<_>>().join("\n")))
        });
    }

    /// Takes a host's cable away, or puts it back.
    pub(crate) fn cable(&self, host: usize, there: bool) {
        let state = if there { "up" } else { "down" };
        self.wire.run(&format!("ip link set p{host} {state}"));
    }
}

/// What was there instead, with its lines.
struct Unseen(String);

impl std::fmt::Debug for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Waits until one is reached from the other by ping.
#[track_caller]
pub(crate) fn reaches(from: &Namespace, to: IpAddr) {
    eventually("a ping is answered", || {
        let output = from.output(&format!("ping -n -c 1 -W 1 {to}"));
        if output.status.success() { Ok(()) } else { Err(output) }
    });
}

/// Waits until a name resolves so.
#[track_caller]
pub(crate) fn resolves(asker: &Running, name: &str, to: &[IpAddr]) {
    let wanted: Vec<_> = to.iter().map(ToString::to_string).collect();
    eventually("a name resolves", || {
        let found = asker.asks(name);
        if found == wanted { Ok(()) } else { Err((name.to_owned(), found)) }
    });
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // They outlive their netd, which would start them again, and must not outlive the test. One that was being
        // started when its netd was killed may not be on record. Nobody else's namespace is taken for a host's, as
        // long as that is open.
        let opened: Vec<_> =
            self.hosts.iter().filter_map(|host| File::open(host.netns.path()).ok()).collect();
        let inode = |opened: &File| opened.metadata().ok().map(|of| of.ino());
        let own: BTreeSet<_> = opened.iter().filter_map(inode).collect();
        self.hosts.clear();
        let is_own = |pid: &String| {
            let network = fs::metadata(format!("/proc/{pid}/ns/net"));
            network.is_ok_and(|network| own.contains(&network.ino()))
        };
        loop {
            let left: Vec<_> = processes().into_iter().filter(is_own).collect();
            if left.is_empty() {
                break;
            }
            drop(netd_tests::output(&format!("kill -KILL {}", left.join(" "))));
        }
    }
}

/// The pids of all processes.
fn processes() -> Vec<String> {
    let listed = fs::read_dir("/proc").into_iter().flatten().filter_map(std::result::Result::ok);
    let names = listed.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}
