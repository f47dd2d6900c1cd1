//! A host and its containers as namespaces of their own, thrown away with the test.

use std::{
    fs::File,
    os::fd::AsRawFd,
    process::{Command, Output, id},
    thread,
    time::{Duration, Instant},
};

use cnm::{
    EndpointId, NetworkId,
    endpoint::{Container, Endpoint, State},
    network::{Network, Subnet},
};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// The first thing a test does: leaves the machine's namespaces.
pub(crate) fn leave_home() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
    run("ip link set lo up");
}

/// A network namespace, as a runtime hands it over.
pub(crate) struct Sandbox(File);

impl Sandbox {
    pub(crate) fn new() -> Self {
        let open = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may");
            File::open("/proc/thread-self/ns/net").expect("proc is mounted")
        };
        Self(thread::spawn(open).join().expect("it is opened"))
    }

    /// A path that every process of this machine can open.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", id(), self.0.as_raw_fd())
    }

    pub(crate) fn output(&self, command: &str) -> Output {
        output(&format!("nsenter --net={} {command}", self.path()))
    }

    pub(crate) fn run(&self, command: &str) -> String {
        run(&format!("nsenter --net={} {command}", self.path()))
    }

    pub(crate) fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.run(command)).expect("it prints JSON")
    }

    pub(crate) fn command(&self, command: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net={}", self.path())).args(command.split_whitespace());
        nsenter
    }
}

pub(crate) fn output(command: &str) -> Output {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command");
    Command::new(program).args(words).output().expect("the program is installed")
}

pub(crate) fn run(command: &str) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub(crate) fn json(command: &str) -> Value {
    serde_json::from_str(&run(command)).expect("it prints JSON")
}

/// The link of a name in `ip -j -d link`.
pub(crate) fn link(name: &str) -> Option<Value> {
    let links = json("ip -j -d link");
    links.as_array().expect("a list").iter().find(|link| link["ifname"] == name).cloned()
}

pub(crate) fn ruleset() -> String {
    run("nft list table inet netd")
}

/// Waits for what another thread or the kernel does in its own time.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        thread::yield_now();
    }
}

pub(crate) fn network(number: u8, subnets: &[&str]) -> Network {
    let id = NetworkId::from_bytes([number; 32]);
    Network {
        link: Some(id.link_name()),
        id,
        name: format!("net{number}").parse().unwrap(),
        driver: "bridge".into(),
        created: "2026-01-01T00:00:00.000000000Z".into(),
        subnets: subnets
            .iter()
            .map(|text| {
                let mut subnet = Subnet::new(text.parse().unwrap());
                subnet.gateway = subnet.subnet.iter().nth(1);
                subnet
            })
            .collect(),
        internal: false,
        predefined: false,
        mtu: None,
        overlay: None,
        options: Default::default(),
        labels: Default::default(),
        idempotency_key: None,
    }
}

pub(crate) fn endpoint(network: &Network, number: u16) -> Endpoint {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    id[2] = network.id.as_str().as_bytes()[1];
    Endpoint {
        id: EndpointId::from_bytes(id),
        network: network.id.clone(),
        network_name: network.name.clone(),
        container: Container::new(format!("c{number}").parse().unwrap()),
        ifname: cnm::IfName::eth0(),
        state: State::Attaching,
        mac: Some(cnm::MacAddr([2, 0x42, 0, id[2], id[0], id[1]])),
        addresses: network
            .subnets
            .iter()
            .map(|subnet| {
                let ip = subnet.subnet.iter().nth(usize::from(number) + 2).unwrap();
                ipnetwork::IpNetwork::new(ip, subnet.subnet.prefix()).unwrap()
            })
            .collect(),
        routes: Vec::new(),
        gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
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
        created: "2026-01-01T00:00:00.000000000Z".into(),
        idempotency_key: None,
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

impl Sandbox {
    /// Connects the host to it, as to a machine of the LAN: `.1` is the host's address.
    pub(crate) fn as_lan(name: &str, v4: &str, v6: &str) -> Self {
        let lan = Self::new();
        run(&format!("ip link add {name} type veth peer name eth0 netns {}", lan.path()));
        // A router's first packet to a neighbour would wait for its link-local address.
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").expect("IPv6");
        run(&format!("ip link set {name} up"));
        lan.run("ip link set eth0 up");
        for (net, route, prefix) in [(v4, "default", 24), (v6, "::/0", 64)] {
            run(&format!("ip addr add {net}1/{prefix} dev {name} {}", nodad(net)));
            lan.run(&format!("ip addr add {net}2/{prefix} dev eth0 {}", nodad(net)));
            lan.run(&format!("ip route add {route} via {net}1"));
        }
        lan
    }

    /// Answers whoever connects to a port with the address that it sees of them.
    pub(crate) fn serve(&self, kind: &str, port: u16) -> Server {
        let options = if kind.starts_with("TCP") { "reuseaddr,fork" } else { "fork" };
        let mut command = self.command(&format!("socat {kind}:{port},{options}"));
        let server = command.arg("SYSTEM:read line; echo $SOCAT_PEERADDR").spawn().expect("socat");
        eventually("the server listens", || self.run("ss -Hlntu").contains(&format!(":{port} ")));
        Server(server)
    }

    /// What the server at `address` sees of this one, if it answers.
    pub(crate) fn ask(&self, address: &str) -> Option<String> {
        said(self.command(&client(address)))
    }
}

fn nodad(net: &str) -> &'static str {
    if net.contains(':') { "nodad" } else { "" }
}

fn client(address: &str) -> String {
    match address.strip_prefix("UDP") {
        Some(_) => format!("socat -t0.5 -T0.5 - {address}"),
        None => format!("socat -t2 -T2 - {address},connect-timeout=0.5"),
    }
}

fn said(mut command: Command) -> Option<String> {
    use std::{io::Write, process::Stdio};
    let mut client = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("socat");
    // A client that was refused may have ended before it is spoken to.
    drop(client.stdin.take().expect("piped").write_all(b"who am I\n"));
    let output = client.wait_with_output().expect("socat");
    let text = String::from_utf8(output.stdout).expect("an address");
    let text = text.trim().trim_start_matches('[').trim_end_matches(']');
    (!text.is_empty()).then(|| text.to_owned())
}

/// As [`Sandbox::ask`], from the host.
pub(crate) fn ask(address: &str) -> Option<String> {
    let client = client(address);
    let mut words = client.split_whitespace();
    let mut command = Command::new(words.next().expect("socat"));
    command.args(words);
    said(command)
}
