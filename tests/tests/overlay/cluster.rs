//! Hosts on one underlay, and what netd would know of them.

use std::{collections::BTreeSet, net::IpAddr};

use cnm::{
    EndpointId, IfName, MacAddr, NetworkId, Result,
    driver::{AttachEndpoint, DetachEndpoint, NetworkDown, NetworkUp, Sync, Synced},
    endpoint::{Container, Endpoint, Port, State},
    network::{Network, Subnet},
    peers::{ChangePeers, Elsewhere, Gone, Ingress, Member, Node, Overlay, Peer},
};
use ipnetwork::IpNetwork;
use netd_tests::{Namespace, World};
use serde_json::Value;

use crate::session::Session;

/// The number on the wire of the network between the nodes.
pub(crate) const INGRESS: u32 = 4096;

/// The underlay's family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Underlay {
    V4,
    V6,
}

/// A machine with several hosts.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) wire: Namespace,
    pub(crate) underlay: Underlay,
    pub(crate) hosts: Vec<Host>,
}

/// A host.
pub(crate) struct Host {
    pub(crate) netns: Namespace,
    pub(crate) session: Session,
    pub(crate) node: Node,
    pub(crate) networks: Vec<Network>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A container, where it is and what it is called there.
pub(crate) struct Running {
    pub(crate) netns: Namespace,
    pub(crate) host: usize,
    pub(crate) endpoint: Endpoint,
}

impl Running {
    /// Its address of a family.
    pub(crate) fn ip(&self, v4: bool) -> IpAddr {
        let addresses = &self.endpoint.addresses;
        addresses.iter().find(|address| address.is_ipv4() == v4).unwrap().ip()
    }

    pub(crate) fn v4(&self) -> IpAddr {
        self.ip(true)
    }

    pub(crate) fn v6(&self) -> IpAddr {
        self.ip(false)
    }
}

/// Something with a link to the underlay: `192.0.2.LAST` and `2001:db8::LAST`.
pub(crate) fn plug(world: &World, wire: &Namespace, last: usize) -> Namespace {
    let netns = world.namespace();
    netns.run("ip link set lo up");
    let there = netns.path();
    wire.run(&format!("ip link add p{last} type veth peer name eth0 netns {there}"));
    wire.run(&format!("ip link set p{last} master wire up"));
    netns.run("ip link set eth0 up");
    netns.run(&format!("ip address add 192.0.2.{last}/24 dev eth0"));
    netns.run(&format!("ip address add 2001:db8::{last:x}/64 dev eth0 nodad"));
    netns
}

fn node(number: u32, vtep: IpAddr) -> Node {
    let addresses =
        vec![format!("100.64.0.{number}/16"), format!("fd64::{number:x}/64")].into_iter();
    Node { number, vtep, addresses: addresses.map(|text| text.parse().unwrap()).collect() }
}

/// A network whose gateways are the first of its addresses.
pub(crate) fn network(number: u8, subnets: &[&str], mtu: u32) -> Network {
    let id = NetworkId::from_bytes([number; 32]);
    let subnet = |text: &&str| {
        let mut subnet = Subnet::new(text.parse().unwrap());
        subnet.gateway = subnet.subnet.iter().nth(1);
        subnet
    };
    Network {
        link: Some(id.link_name()),
        id,
        name: format!("net{number}").parse().unwrap(),
        driver: "overlay".into(),
        created: "2026-01-01T00:00:00.000000000Z".into(),
        subnets: subnets.iter().map(subnet).collect(),
        internal: false,
        predefined: false,
        mtu: Some(mtu),
        overlay: None,
        options: Default::default(),
        labels: Default::default(),
        idempotency_key: None,
    }
}

/// An endpoint with the address of that number, and published ports.
pub(crate) fn endpoint(network: &Network, number: u16, ports: &[&str]) -> Endpoint {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    id[2] = network.id.as_str().as_bytes()[1];
    let address = |subnet: &Subnet| {
        let ip = subnet.subnet.iter().nth(number.into()).unwrap();
        IpNetwork::new(ip, subnet.subnet.prefix()).unwrap()
    };
    Endpoint {
        id: EndpointId::from_bytes(id),
        network: network.id.clone(),
        network_name: network.name.clone(),
        container: Container::new(format!("c{number}").parse().unwrap()),
        ifname: IfName::eth0(),
        state: State::Attaching,
        mac: Some(MacAddr([2, 0x42, 0, id[2], id[0], id[1]])),
        addresses: network.subnets.iter().map(address).collect(),
        gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
        routes: Vec::new(),
        metric: 0,
        dns: Vec::new(),
        aliases: Vec::new(),
        ports: ports.iter().map(|text| text.parse::<Port>().unwrap()).collect(),
        ports_bound: false,
        bandwidth: None,
        netns: None,
        mtu: None,
        options: Default::default(),
        labels: Default::default(),
        created: "2026-01-01T00:00:00.000000000Z".into(),
        idempotency_key: None,
    }
}

/// An endpoint, as other hosts are told of it.
pub(crate) fn peer(endpoint: &Endpoint, node: u32) -> Peer {
    Peer {
        network: endpoint.network.clone(),
        node,
        mac: endpoint.mac.unwrap(),
        addresses: endpoint.addresses.iter().map(IpNetwork::ip).collect(),
    }
}

impl Host {
    /// A network, as this host's driver is handed it.
    pub(crate) fn local(&self, network: &Network) -> Network {
        let overlay = Overlay {
            vni: 4096 + u32::from_str_radix(&network.id.as_str()[..2], 16).unwrap(),
            port: 4789,
            node: self.node.clone(),
            ingress: Some(Ingress { vni: INGRESS, mtu: None }),
        };
        Network { overlay: Some(overlay), ..network.clone() }
    }

    pub(crate) fn up(&mut self, network: &Network) -> Result<Option<u32>> {
        let network = self.local(network);
        let state = self.session.call(&NetworkUp { network: network.clone() })?;
        self.networks.push(network);
        Ok(state.mtu)
    }

    pub(crate) fn down(&mut self, network: &Network) -> Result<()> {
        let network = self.local(network);
        self.session.call(&NetworkDown { network: network.clone() })?;
        self.networks.retain(|one| one.id != network.id);
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Synced {
        let (networks, endpoints) = (self.networks.clone(), self.endpoints.clone());
        self.session.call(&Sync { networks, endpoints, ..Sync::default() }).unwrap()
    }

    pub(crate) fn peers(&mut self, change: &ChangePeers) -> usize {
        self.session.call(change).unwrap().rows
    }

    /// A packet counter of a link.
    pub(crate) fn packets(&self, link: &str, direction: &str) -> u64 {
        let shown = self.netns.json(&format!("ip -j -s link show {link}"));
        shown[0]["stats64"][direction]["packets"].as_u64().unwrap()
    }

    /// A counter of the firewall's.
    pub(crate) fn dropped(&self, counter: &str) -> u64 {
        let shown = self.netns.json(&format!("nft -j list counter inet netd-overlay {counter}"));
        let counters: Vec<&Value> =
            shown["nftables"].as_array().unwrap().iter().filter_map(|o| o.get("counter")).collect();
        counters[0]["packets"].as_u64().unwrap()
    }

    /// The rows of all VXLAN devices that lead to a VTEP: the device, to whom, and the VTEP.
    pub(crate) fn forwards(&self) -> BTreeSet<[String; 3]> {
        let rows = self.netns.json("bridge -j fdb show");
        let word = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
        let forward =
            |row: &Value| Some([word(row, "ifname")?, word(row, "mac")?, word(row, "dst")?]);
        rows.as_array().unwrap().iter().filter_map(forward).collect()
    }

    /// Rows about others: forwarding, neighbours and nexthops, a line each, as iproute2 shows them.
    pub(crate) fn rows(&self) -> BTreeSet<String> {
        let mut rows = BTreeSet::new();
        let mut add = |kind: &str, lines: String, wanted: &dyn Fn(&str) -> bool| {
            let lines = lines.lines().map(str::trim).filter(|line| wanted(line));
            rows.extend(lines.map(|line| format!("{kind} {line}")));
        };
        let forwards = |line: &str| {
            line.contains("dev nx") && !line.contains("permanent")
                || line.contains("nhid")
                || line.contains(" dst ")
        };
        add("fdb", self.netns.run("bridge fdb show"), &forwards);
        add("neighbour", self.netns.run("ip neighbour show nud permanent"), &|_| true);
        add("nexthop", self.netns.run("ip nexthop"), &|_| true);
        rows
    }
}

impl Cluster {
    /// So many hosts, whose networks have these subnets.
    pub(crate) fn new(underlay: Underlay, hosts: usize) -> Self {
        let world = World::new();
        let wire = world.namespace();
        wire.run("ip link add wire type bridge mcast_snooping 0");
        wire.run("ip link set wire up");
        let mut cluster = Self { world, wire, underlay, hosts: Vec::new() };
        for _ in 0..hosts {
            cluster.add_host();
        }
        cluster
    }

    /// A host more, without a network.
    pub(crate) fn add_host(&mut self) {
        let number = self.hosts.len() + 1;
        let netns = plug(&self.world, &self.wire, number);
        let session = Session::start(&netns, self.world.programs(), "overlay");
        let node = node(u32::try_from(number).unwrap(), self.vtep(number));
        let (networks, endpoints) = Default::default();
        self.hosts.push(Host { netns, session, node, networks, endpoints });
    }

    pub(crate) fn vtep(&self, last: usize) -> IpAddr {
        match self.underlay {
            Underlay::V4 => format!("192.0.2.{last}").parse().unwrap(),
            Underlay::V6 => format!("2001:db8::{last:x}").parse().unwrap(),
        }
    }

    /// The largest MTU that fits.
    pub(crate) fn mtu(&self) -> u32 {
        match self.underlay {
            Underlay::V4 => 1450,
            Underlay::V6 => 1430,
        }
    }

    /// Everything that a host should know of the others.
    pub(crate) fn elsewhere(&self, host: usize) -> Elsewhere {
        let mut there = Elsewhere::default();
        for other in self.hosts.iter().filter(|one| one.node != self.hosts[host].node) {
            let node = other.node.number;
            there.nodes.push(other.node.clone());
            let member = |network: &Network| Member { network: network.id.clone(), node };
            there.members.extend(other.networks.iter().map(member));
            there.peers.extend(other.endpoints.iter().map(|endpoint| peer(endpoint, node)));
        }
        there
    }

    /// Has each host know everything; how many rows each had to change.
    pub(crate) fn tell_all(&mut self) -> Vec<usize> {
        let everything: Vec<_> = (0..self.hosts.len()).map(|host| self.elsewhere(host)).collect();
        let tell = |(host, there): (&mut Host, Elsewhere)| {
            host.peers(&ChangePeers { complete: true, there, ..Default::default() })
        };
        self.hosts.iter_mut().zip(everything).map(tell).collect()
    }

    /// Brings a network up on every host, and has all know each other.
    pub(crate) fn up(&mut self, network: &Network) {
        for host in &mut self.hosts {
            assert_eq!(host.up(network).unwrap(), network.mtu);
        }
        self.tell_all();
    }

    /// Attaches a container on a host, and tells the others.
    pub(crate) fn attach(&mut self, network: &Network, host: usize, number: u16) -> Running {
        self.publish(network, host, number, &[])
    }

    /// As [`Cluster::attach`], with published ports.
    pub(crate) fn publish(
        &mut self,
        network: &Network,
        host: usize,
        number: u16,
        ports: &[&str],
    ) -> Running {
        let endpoint = endpoint(network, number, ports);
        let netns = self.world.namespace();
        let here = &mut self.hosts[host];
        let params = AttachEndpoint {
            network: here.local(network),
            endpoint: endpoint.clone(),
            netns: netns.path(),
        };
        let attached = here.session.call(&params).unwrap();
        assert_eq!(attached.interface.unwrap().mtu, network.mtu.unwrap());
        here.endpoints.push(endpoint.clone());
        let there = Elsewhere {
            nodes: vec![here.node.clone()],
            peers: vec![peer(&endpoint, here.node.number)],
            ..Elsewhere::default()
        };
        self.tell_others(host, &ChangePeers { there, ..ChangePeers::default() });
        Running { netns, host, endpoint }
    }

    /// Detaches a container, and tells the others.
    pub(crate) fn detach(&mut self, network: &Network, running: &Running) {
        let here = &mut self.hosts[running.host];
        let endpoint = running.endpoint.clone();
        here.endpoints.retain(|one| one.id != endpoint.id);
        let gone = Gone { peers: vec![peer(&endpoint, here.node.number)], ..Gone::default() };
        here.session
            .call(&DetachEndpoint {
                network: here.local(network),
                endpoint,
                netns: None,
                stays: false,
            })
            .unwrap();
        self.tell_others(running.host, &ChangePeers { gone, ..ChangePeers::default() });
    }

    /// Tells all hosts but one.
    pub(crate) fn tell_others(&mut self, host: usize, change: &ChangePeers) {
        let others = self.hosts.iter_mut().enumerate().filter(|(other, _)| *other != host);
        for (_, other) in others {
            other.peers(change);
        }
    }

    /// Ends a host's driver as `kill -9` does and starts another.
    pub(crate) fn restart(&mut self, host: usize) {
        let programs = self.world.programs().to_owned();
        let host = &mut self.hosts[host];
        host.session.kill();
        host.session = Session::start(&host.netns, &programs, "overlay");
    }
}

/// Whether bridged frames pass the firewall too, in all namespaces of hosts.
pub(crate) fn filter_bridged(cluster: &Cluster, on: bool) {
    for host in &cluster.hosts {
        host.netns.run(&format!("sysctl -q net.bridge.bridge-nf-call-iptables={}", u8::from(on)));
        host.netns.run(&format!("sysctl -q net.bridge.bridge-nf-call-ip6tables={}", u8::from(on)));
    }
}
