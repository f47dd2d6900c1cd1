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
        options: Default::default(),
        labels: Default::default(),
        idempotency_key: None,
    }
}

pub(crate) fn endpoint(network: &Network, number: u16) -> Endpoint {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    id[2] = network.id.as_str().as_bytes()[0];
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
        gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
        metric: 0,
        dns: Vec::new(),
        aliases: Vec::new(),
        ports: Vec::new(),
        netns: None,
        mtu: None,
        options: Default::default(),
        labels: Default::default(),
        created: "2026-01-01T00:00:00.000000000Z".into(),
        idempotency_key: None,
    }
}
