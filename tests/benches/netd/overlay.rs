//! Networks over hosts: traffic beside a VXLAN made by hand between hosts that have nothing else,
//! and how fast a host knows what there is on others. Hosts are namespaces on one bridge.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    net::IpAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cnm::{
    Call, EndpointId, MacAddr, NetworkId, Reply, Request,
    driver::{AttachEndpoint, NetworkUp, Sync},
    endpoint::{Container, Endpoint, State},
    network::{Network, Subnet},
    peers::{ChangePeers, Elsewhere, Gone, Ingress, Node, Overlay, Peer},
};

use crate::{
    Options,
    place::binary,
    report::{Report, Row, Samples},
    sandbox::Sandbox,
    traffic::{BRIDGED, Measured, Side, filter_bridged_on, measure, run},
};

const PEERS: u32 = 10_000;
const NODES: u32 = 50;
const MTU: u32 = 1450;
const BY_HAND: &str = "VXLAN by hand";
const BARE: &str = "the same, hosts without a firewall";

/// The driver on one host.
pub(crate) struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Session {
    fn start(host: &Sandbox) -> Result<Self> {
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", host.path()))
            .arg(binary("netd-overlay")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        Ok(Self { child, input, output })
    }

    /// What is answered, and how long that took.
    fn call<P: Call>(&mut self, params: &P) -> Result<(P::Reply, Duration)> {
        let line = Request::new(1, params).to_line();
        let start = Instant::now();
        self.input.as_mut().context("it is piped")?.write_all(line.as_bytes())?;
        let answer = self.output.next().context("the driver ended")??;
        let took = start.elapsed();
        let reply: Reply<P::Reply> = serde_json::from_str(&answer)?;
        Ok((reply.outcome()?, took))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

/// A host on the underlay, as `192.0.2.LAST`.
pub(crate) fn plug(wire: &Sandbox, last: u32) -> Result<Sandbox> {
    let host = Sandbox::make(1)?.pop().context("one was asked for")?;
    plug_into(wire, last, &host.path())?;
    Ok(host)
}

/// Makes what a path leads to such a host.
pub(crate) fn plug_into(wire: &Sandbox, last: u32, there: &str) -> Result<()> {
    run(
        wire,
        &format!(
            "ip link add p{last} type veth peer name eth0 netns {there}; \
             ip link set p{last} master wire up; \
             inside() {{ nsenter --net={there} ip \"$@\"; }}; \
             inside link set lo up; inside link set eth0 up; \
             inside address add 192.0.2.{last}/24 dev eth0"
        ),
    )
}

fn node(number: u32) -> Result<Node> {
    let [.., high, low] = number.to_be_bytes();
    let vtep = IpAddr::from([192, 0, 2, low]);
    let addresses = vec![format!("100.64.{high}.{low}/16").parse()?];
    Ok(Node { number, vtep, addresses })
}

fn network(number: u32) -> Result<Network> {
    let id = NetworkId::from_bytes([1; 32]);
    let mut subnet = Subnet::new("10.1.0.0/16".parse()?);
    subnet.gateway = Some([10, 1, 0, 1].into());
    let ingress = Some(Ingress { vni: 4096, mtu: None });
    Ok(Network {
        link: Some(id.link_name()),
        id,
        name: "bench".parse()?,
        driver: "overlay".into(),
        created: String::new(),
        subnets: vec![subnet],
        internal: false,
        predefined: false,
        mtu: Some(MTU),
        overlay: Some(Overlay { vni: 4097, port: 4789, node: node(number)?, ingress }),
        options: Default::default(),
        labels: Default::default(),
        idempotency_key: None,
    })
}

fn endpoint(network: &Network, last: u8) -> Result<Endpoint> {
    Ok(Endpoint {
        id: EndpointId::from_bytes([last; 32]),
        network: network.id.clone(),
        network_name: network.name.clone(),
        container: Container::new(format!("c{last}").parse()?),
        ifname: cnm::IfName::eth0(),
        state: State::Attaching,
        mac: Some(MacAddr([2, 0x42, 0, 0, 0, last])),
        addresses: vec![format!("10.1.0.{last}/16").parse()?],
        gateways: vec![[10, 1, 0, 1].into()],
        routes: Vec::new(),
        metric: 0,
        dns: Vec::new(),
        aliases: Vec::new(),
        ports: Vec::new(),
        ports_bound: false,
        bandwidth: None,
        netns: None,
        mtu: None,
        options: Default::default(),
        labels: Default::default(),
        created: String::new(),
        idempotency_key: None,
    })
}

/// Ours: a session on each host, and a container on each.
pub(crate) fn ours(wire: &Sandbox) -> Result<(Side, Vec<Session>)> {
    let (mut sandboxes, mut sessions) = (Vec::new(), Vec::new());
    for number in [1, 2] {
        let host = plug(wire, number)?;
        let mut session = Session::start(&host)?;
        let network = network(number)?;
        session.call(&NetworkUp { network: network.clone() })?;
        let container = Sandbox::make(1)?.pop().context("one was asked for")?;
        let last = u8::try_from(10 + number)?;
        let (endpoint, netns) = (endpoint(&network, last)?, container.path());
        session.call(&AttachEndpoint { network, endpoint, netns })?;
        sandboxes.extend([host, container]);
        sessions.push(session);
    }
    for (session, other) in sessions.iter_mut().zip([2, 1]) {
        session.call(&ChangePeers { complete: true, there: two(other)?, ..Default::default() })?;
    }
    Ok((Side::new(sandboxes, [1, 3], [10, 1, 0, 12].into())?, sessions))
}

/// What a host knows of the other one of two.
fn two(other: u32) -> Result<Elsewhere> {
    let last = u8::try_from(10 + other)?;
    let peer = Peer {
        network: NetworkId::from_bytes([1; 32]),
        node: other,
        mac: MacAddr([2, 0x42, 0, 0, 0, last]),
        addresses: vec![[10, 1, 0, last].into()],
    };
    Ok(Elsewhere { nodes: vec![node(other)?], members: Vec::new(), peers: vec![peer] })
}

/// By hand, as one would with `ip` and `bridge`, between two hosts.
fn by_hand(hosts: [(&Sandbox, u32); 2]) -> Result<Side> {
    let mut sandboxes = Vec::new();
    for ((host, number), other) in hosts.into_iter().zip([hosts[1].1, hosts[0].1]) {
        let container = Sandbox::make(1)?.pop().context("one was asked for")?;
        let there = container.path();
        run(
            host,
            &format!(
                "ip link add br0 type bridge mcast_snooping 0; ip link set br0 mtu {MTU} up; \
                 ip link add vx0 type vxlan id 99 local 192.0.2.{number} dstport 4790 nolearning; \
                 ip link set vx0 mtu {MTU} master br0 up; \
                 bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.{other}; \
                 ip link add c0 mtu {MTU} numtxqueues 1 numrxqueues 1 type veth \
                   peer name eth0 mtu {MTU} numtxqueues 1 numrxqueues 1 netns {there}; \
                 ip link set c0 master br0 up"
            ),
        )?;
        let own = format!("ip link set eth0 up; ip address add 10.9.0.{number}/16 dev eth0");
        run(&container, &own)?;
        sandboxes.push(container);
    }
    let to = [10, 9, 0, u8::try_from(hosts[1].1)?].into();
    Side::new(sandboxes, [0, 1], to)
}

pub(crate) fn underlay() -> Result<Sandbox> {
    let wire = Sandbox::make(1)?.pop().context("one was asked for")?;
    run(&wire, "ip link add wire type bridge mcast_snooping 0; ip link set wire up")?;
    Ok(wire)
}

/// Traffic between containers on two hosts, beside the same made by hand on the same hosts and, for
/// what the firewall costs, on hosts that have none.
pub(crate) fn traffic(options: &Options, report: &mut Report) -> Result<()> {
    for (on, how) in BRIDGED {
        let make = || {
            let wire = underlay()?;
            let (ours, sessions) = ours(&wire)?;
            let hosts = [&ours.sandboxes[0], &ours.sandboxes[2]];
            let by_hand_there = by_hand([(hosts[0], 1), (hosts[1], 2)])?;
            let bare_hosts = [plug(&wire, 3)?, plug(&wire, 4)?];
            let bare = by_hand([(&bare_hosts[0], 3), (&bare_hosts[1], 4)])?;
            for host in hosts.into_iter().chain(&bare_hosts) {
                filter_bridged_on(host, on)?;
            }
            Ok(([ours, by_hand_there, bare], (wire, bare_hosts, sessions)))
        };
        for Measured { what, unit, samples } in measure(options, make)? {
            let what = format!("across hosts{how}: {what}");
            let [our, hand, bare] = samples;
            let row = Row::new(&what, unit, our.clone()).beside_by_turns(BY_HAND, hand);
            report.row(row.at_least_times(0.97));
            report.row(Row::new(what, unit, our).beside_by_turns(BARE, bare));
        }
    }
    Ok(())
}

fn many() -> Result<Elsewhere> {
    let mut there = two(2)?;
    for number in 100..100 + NODES {
        there.nodes.push(node(number)?);
    }
    there.peers.extend((0..PEERS).map(|n| far(n, 100 + n % NODES)));
    Ok(there)
}

/// A remote endpoint.
fn far(n: u32, node: u32) -> Peer {
    let [.., high, low] = n.to_be_bytes();
    Peer {
        network: NetworkId::from_bytes([1; 32]),
        node,
        mac: MacAddr([2, 0x77, 0, 0, high, low]),
        addresses: vec![[10, 1, 100 + high, low].into()],
    }
}

/// How long it takes until a host knows what there is elsewhere.
pub(crate) fn peers(options: &Options, report: &mut Report) -> Result<()> {
    let wire = underlay()?;
    let host = plug(&wire, 1)?;
    let mut session = Session::start(&host)?;
    let network = network(1)?;
    session.call(&NetworkUp { network: network.clone() })?;
    let complete = |there| ChangePeers { complete: true, there, ..Default::default() };
    let (all, few) = (complete(many()?), complete(two(2)?));
    let rounds = options.rounds.div_ceil(30);
    let (mut first, mut again) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        session.call(&few)?;
        first.add(session.call(&all)?.1);
        drop(session);
        let start = Instant::now();
        session = Session::start(&host)?;
        session.call(&Sync { networks: vec![network.clone()], ..Sync::default() })?;
        let (changed, _) = session.call(&all)?;
        again.add(start.elapsed());
        ensure!(changed.rows == 0, "{} rows differ after a restart", changed.rows);
    }
    report.row(Row::new("10,000 remote endpoints, told at once", "ms", first).at_most(2000.0));
    report.row(Row::new("a driver started again, 10,000 in sync", "ms", again).at_most(2000.0));
    let mut one = Samples::default();
    for _ in 0..options.rounds {
        let peer = far(PEERS + 1, 100);
        let there = Elsewhere { peers: vec![peer.clone()], ..Elsewhere::default() };
        one.add(session.call(&ChangePeers { there, ..Default::default() })?.1);
        let gone = Gone { peers: vec![peer], ..Gone::default() };
        session.call(&ChangePeers { gone, ..Default::default() })?;
    }
    report.row(Row::new("one more remote endpoint, of 10,000", "ms", one).at_most(1.0));
    Ok(())
}
