//! What an attach and a detach cost beside the kernel's own part of them: both in one process, one
//! after the other in turn, each with a fresh namespace made beforehand.
//!
//! `attach_cost [ROUNDS [STANDING]]`, as root; everything happens in a network namespace of its
//! own, with STANDING other endpoints there all the while.

#![allow(clippy::unwrap_used, reason = "a measurement has nobody to tell")]

use std::{
    env,
    fs::File,
    os::fd::{AsFd, AsRawFd},
    thread,
    time::{Duration, Instant},
};

use cnm::{
    EndpointId, IfName, MacAddr, NetworkId,
    driver::Driver,
    endpoint::{Container, Endpoint},
    network::{Network, Subnet},
};
use ipnetwork::IpNetwork;
use kernel::{
    bridge_port::{self, Flags},
    links::{self, Change, Link, Pair},
    netlink::{Batch, Socket},
    netns::Netns,
    routes,
};
use netd_bridge::Bridge;
use nix::sched::{CloneFlags, unshare};

fn main() {
    let argument = |at| env::args().nth(at).and_then(|n| n.parse::<u16>().ok());
    let (rounds, standing) = (argument(1).unwrap_or(300), argument(2).unwrap_or(0));
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root");
    let (network, mut driver) = (network(), Bridge::default());
    driver.network_up(&network).unwrap();
    let others: Vec<_> = (0..standing).map(|_| Sandbox::new()).collect();
    for (n, sandbox) in (2 * rounds..).zip(&others) {
        driver.attach(&network, &endpoint(&network, n), &sandbox.path()).unwrap();
    }
    let mut bare = Bare::new();
    let rows = [
        "bare kernel: 2 sends, 6 messages",
        "driver: attach",
        "driver: attach, one port published",
        "driver: detach",
        "driver: detach, one port published",
    ];
    let mut times: [Vec<Duration>; 5] = Default::default();
    for n in 0..rounds {
        let (for_bare, sandbox, third) = (Sandbox::new(), Sandbox::new(), Sandbox::new());
        let plain = endpoint(&network, 2 * n);
        let mut publishing = endpoint(&network, 2 * n + 1);
        publishing.ports = vec![format!("{}:80", 10_000 + n).parse().unwrap()];
        // Each goes first as often as the others.
        for turn in 0..3 {
            match (turn + n) % 3 {
                0 => times[0].push(bare.attach(n, &for_bare)),
                1 => times[1].push(timed(|| driver.attach(&network, &plain, &sandbox.path()))),
                _ => times[2].push(timed(|| driver.attach(&network, &publishing, &third.path()))),
            }
        }
        times[3].push(timed(|| driver.detach(&network, &plain)));
        times[4].push(timed(|| driver.detach(&network, &publishing)));
        bare.detach(n);
    }
    println!("{:>40} {:>10} {:>10} {:>8}", "", "p50", "p95", "× bare");
    let base = at(&mut times[0], 50);
    for (row, times) in rows.iter().zip(&mut times) {
        let (p50, p95) = (at(times, 50), at(times, 95));
        let ratio = p50.as_secs_f64() / base.as_secs_f64();
        println!("{row:>40} {p50:>10.1?} {p95:>10.1?} {ratio:>8.2}");
    }
}

fn timed<T, E: std::fmt::Debug>(work: impl FnOnce() -> Result<T, E>) -> Duration {
    let start = Instant::now();
    work().unwrap();
    start.elapsed()
}

fn at(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}

struct Sandbox(File);

impl Sandbox {
    fn new() -> Self {
        let open = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Self(File::open("/proc/thread-self/ns/net").unwrap())
        };
        thread::spawn(open).join().unwrap()
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

/// What the kernel alone charges: a bridge of its own, the socket inside opened beforehand, and no
/// check of anything.
struct Bare {
    socket: Socket,
    bridge: u32,
}

impl Bare {
    fn new() -> Self {
        let mut socket = Socket::route().unwrap();
        let mut batch = Batch::new();
        let (mac, mtu, group) = ([2, 0, 0, 0, 0, 9], 1500, 0);
        links::make_bridge(&mut batch, &links::Bridge { name: "bare", mac, mtu, group });
        socket.run(batch).unwrap();
        let bridge = links::by_name(&mut socket, "bare").unwrap().unwrap().index;
        kernel::sysctl::write("net/ipv6/conf/bare/disable_ipv6", "1").unwrap();
        Self { socket, bridge }
    }

    fn attach(&mut self, n: u16, sandbox: &Sandbox) -> Duration {
        let netns = Netns::open(&sandbox.path()).unwrap();
        let name = format!("bare{n}");
        let [high, low] = (n + 2).to_be_bytes();
        let home = Netns::own().unwrap();
        let mut inner = netns.inside(&home, Socket::route_small).unwrap().unwrap();
        let start = Instant::now();
        let mut batch = Batch::new();
        let pair = Pair {
            host: &name,
            bridge: self.bridge,
            group: 0,
            netns: netns.as_fd(),
            name: "eth0",
            mac: [2, 0, 0, 0, high, low],
            mtu: 1500,
            up: true,
        };
        links::make_pair(&mut batch, &pair);
        bridge_port::tune(&mut batch, &name, 1500, Flags::default());
        let mut index = 0;
        self.socket
            .run_with(batch, |message| {
                index = Link::parse(message).and_then(|link| link.peer).unwrap_or(index);
            })
            .unwrap();
        let mut batch = Batch::new();
        let up = Change { up: Some(true), ..Change::default() };
        links::change_index(&mut batch, links::LOOPBACK, &up);
        routes::add_address(&mut batch, index, format!("10.9.{high}.{low}/16").parse().unwrap());
        links::change_index(&mut batch, index, &up);
        routes::add_default_route(&mut batch, index, "10.9.255.254".parse().unwrap(), 0);
        inner.run(batch).unwrap();
        start.elapsed()
    }

    fn detach(&mut self, n: u16) {
        let mut batch = Batch::new();
        links::delete(&mut batch, &format!("bare{n}"));
        self.socket.run(batch).unwrap();
    }
}

fn network() -> Network {
    let id = NetworkId::from_bytes([1; 32]);
    let mut subnet = Subnet::new("10.1.0.0/16".parse().unwrap());
    subnet.gateway = Some("10.1.0.1".parse().unwrap());
    Network {
        link: Some(id.link_name()),
        id,
        name: "cost".parse().unwrap(),
        driver: "bridge".to_owned(),
        created: String::new(),
        subnets: vec![subnet],
        internal: false,
        predefined: false,
        mtu: None,
        overlay: None,
        options: Default::default(),
        labels: Default::default(),
        idempotency_key: None,
    }
}

fn endpoint(network: &Network, n: u16) -> Endpoint {
    let [high, low] = (n + 2).to_be_bytes();
    let mut id = [0; 32];
    id[..2].copy_from_slice(&[high, low]);
    Endpoint {
        id: EndpointId::from_bytes(id),
        network: network.id.clone(),
        network_name: network.name.clone(),
        container: Container::new("cost".parse().unwrap()),
        ifname: IfName::eth0(),
        state: cnm::endpoint::State::Attaching,
        mac: Some(MacAddr([2, 0x42, 10, 1, high, low])),
        addresses: vec![IpNetwork::new([10, 1, high, low].into(), 16).unwrap()],
        routes: Vec::new(),
        gateways: vec!["10.1.0.1".parse().unwrap()],
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
    }
}
