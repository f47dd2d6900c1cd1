//! What IPv6 does where a network has it, and that none arrives where it has not.

use std::{io::Write, net::Ipv6Addr, process::Stdio};

use cnm::{
    driver::{Driver, Sync},
    endpoint::Endpoint,
    network::Network,
};
use netd_bridge::Bridge;

use crate::world::{Sandbox, endpoint, eventually, leave_home, link, network, run};

const ICMP: u8 = 58;
/// A tag of 802.1Q, or 802.1p: of VLAN 0, which every interface takes off.
const TAG: [u8; 4] = [0x81, 0, 0, 0];

/// A frame with a router advertisement (RFC 4861, section 4.2) of the prefix fd00:66::/64.
fn advertisement(tags: usize) -> Vec<u8> {
    let from: Ipv6Addr = "fe80::1".parse().unwrap();
    let to: Ipv6Addr = "ff02::1".parse().unwrap();
    let prefix: Ipv6Addr = "fd00:66::".parse().unwrap();
    let mut body = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&[3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0]);
    body.extend_from_slice(&prefix.octets());
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let addresses = [from.octets(), to.octets()].concat();
    let summed = [&addresses[..], &[0, 0], &length, &[0, 0, 0, ICMP], &body].concat();
    let sum: u32 = summed.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    body[2..4].copy_from_slice(&(!folded).to_be_bytes());
    let header = [&[0x60, 0, 0, 0][..], &length, &[ICMP, 255]].concat();
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x66];
    frame.extend(TAG.repeat(tags));
    frame.extend([&[0x86, 0xdd][..], &header, &addresses, &body].concat());
    frame
}

impl Sandbox {
    fn send(&self, frame: &[u8]) {
        let mut sender =
            self.command("socat -u - INTERFACE:eth0").stdin(Stdio::piped()).spawn().expect("socat");
        sender.stdin.take().expect("piped").write_all(frame).unwrap();
        assert!(sender.wait().unwrap().success());
    }

    /// How many packets of IPv6 came in.
    fn received6(&self) -> u32 {
        let text = self.run("cat /proc/net/snmp6");
        let line = text.lines().find(|line| line.starts_with("Ip6InReceives")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn has_ipv6(&self) -> bool {
        let global = self.run("ip -6 addr show dev eth0") + &self.run("ip -6 route show default");
        !global.is_empty()
    }
}

/// Two containers, the first of which advertises itself as a router, with as many tags as matter.
fn advertised(driver: &mut Bridge, network: &Network, ends: &[Endpoint; 2]) -> [Sandbox; 2] {
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    for (end, sandbox) in ends.iter().zip(&sandboxes) {
        driver.attach(network, end, &sandbox.path()).unwrap();
    }
    driver.after_answer();
    for tags in 0..3 {
        sandboxes[0].send(&advertisement(tags));
    }
    sandboxes
}

#[test]
fn no_neighbour_gives_ipv6_to_a_container_without() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let ends = [1, 2].map(|n| endpoint(&network, n));
    let [neighbour, victim] = advertised(&mut driver, &network, &ends);
    neighbour.run("ip addr add fe80::2/64 dev eth0 nodad");
    assert!(!neighbour.output("ping -L -c1 -W1 ff02::1%eth0").status.success());
    // Frames stay in order: what was sent before has been there.
    neighbour.run("ping -c1 -W2 10.1.0.4");
    assert_eq!(victim.received6(), 0);
    assert!(!victim.has_ipv6());
    // It is the neighbour's door that keeps them in: without it, each kind arrives.
    drop(driver);
    run(&format!("tc qdisc del dev {} ingress", ends[0].id.link_name()));
    for tags in 0..3 {
        let before = victim.received6();
        neighbour.send(&advertisement(tags));
        eventually("the advertisement arrives", || victim.received6() > before);
    }
    eventually("it configures the container", || victim.has_ipv6());
    // A driver that starts notices.
    let mut driver = Bridge::default();
    let everything = Sync { networks: vec![network], endpoints: ends.into(), ..Sync::default() };
    assert_eq!(driver.sync(&everything).unwrap().repaired.len(), 1);
    let before = victim.received6();
    neighbour.send(&advertisement(0));
    neighbour.run("ping -c1 -W2 10.1.0.4");
    assert_eq!(victim.received6(), before);
}

#[test]
fn nor_does_one_that_may_speak_as_anybody() {
    leave_home();
    let mut driver = Bridge::default();
    let mut network = network(1, &["10.1.0.0/24"]);
    network.options.insert("spoof-check".to_owned(), "false".to_owned());
    let ends = [1, 2].map(|n| endpoint(&network, n));
    let [neighbour, victim] = advertised(&mut driver, &network, &ends);
    neighbour.run("ping -c1 -W2 10.1.0.4");
    assert_eq!(victim.received6(), 0);
}

/// Whether a port has the guard of whom its container speaks as, and the one that keeps IPv6 from it.
fn guards(port: &Endpoint) -> (bool, bool) {
    let has = |side, guard| {
        run(&format!("tc filter show dev {} {side}", port.id.link_name())).contains(guard)
    };
    (has("ingress", "netd_speakers"), has("egress", "netd_no_ipv6"))
}

#[test]
fn a_door_is_shut_before_anybody_is_answered() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24", "fd00:1::/64"]);
    let mut ends = [1, 2, 3].map(|n| endpoint(&network, n));
    ends[1].addresses.truncate(1);
    ends[1].gateways.truncate(1);
    let sandboxes = [Sandbox::new(), Sandbox::new(), Sandbox::new()];
    let mut attach = |n: usize| {
        driver.attach(&network, &ends[n], &sandboxes[n].path()).unwrap();
        guards(&ends[n])
    };
    assert_eq!(attach(0), (true, false));
    assert_eq!(attach(1), (true, true), "the first that gets none");
    driver.detach(&network, &ends[0]).unwrap();
    driver.detach(&network, &ends[1]).unwrap();
    eventually("both are gone", || {
        ends[..2].iter().all(|end| link(end.id.link_name().as_str()).is_none())
    });
    driver.attach(&network, &ends[2], &sandboxes[2].path()).unwrap();
    assert!(guards(&ends[2]).0, "the filter went with the others");
}

#[test]
fn a_container_without_ipv6_gets_none_where_others_have_it() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24", "fd00:1::/64"]);
    let mut ends = [1, 2].map(|n| endpoint(&network, n));
    ends[1].addresses.truncate(1);
    ends[1].gateways.truncate(1);
    let [neighbour, victim] = advertised(&mut driver, &network, &ends);
    neighbour.run("ping -c1 -W2 10.1.0.4");
    assert_eq!(victim.received6(), 0);
    assert!(!victim.has_ipv6());
}

#[test]
fn ipv6_passes_on_a_network_that_has_it() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24", "fd00:1::/64"]);
    let (one, two) = (Sandbox::new(), Sandbox::new());
    driver.attach(&network, &endpoint(&network, 1), &one.path()).unwrap();
    driver.attach(&network, &endpoint(&network, 2), &two.path()).unwrap();
    one.run("ping -c1 -W2 fd00:1::4");
    one.run("ping -L -c1 -W2 ff02::1%eth0");
    let before = two.received6();
    one.send(&advertisement(0));
    eventually("the advertisement arrives", || two.received6() > before);
    assert!(!two.run("ip -6 addr").contains("fd00:66:"), "it is not believed");
}
