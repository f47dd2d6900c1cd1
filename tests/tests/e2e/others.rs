//! Beside the firewalls of others, with the rules that they really write: ports, names and neighbours
//! work, and nothing of theirs is changed but for the one rule that is marked.

use std::{io::Write as _, net::SocketAddr, process::Stdio};

use netd_tests::{Asking as _, Namespace, World, eventually};

/// What dockerd 20.10 leaves in a host's tables with one container that publishes port 9000.
const DOCKER: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o dock0 -j MASQUERADE
-A DOCKER -i dock0 -j RETURN
-A DOCKER ! -i dock0 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o dock0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o dock0 -j DOCKER
-A FORWARD -i dock0 ! -o dock0 -j ACCEPT
-A FORWARD -i dock0 -o dock0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i dock0 -o dock0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i dock0 ! -o dock0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o dock0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
";

/// What `ufw enable` of ufw 0.36 leaves, as far as a packet meets it: incoming and routed traffic is
/// denied, but for ssh.
const UFW: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
:ufw-user-input - [0:0]
:ufw-skip-to-policy-input - [0:0]
:ufw-reject-forward - [0:0]
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-before-input -p udp -j ufw-skip-to-policy-input
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-skip-to-policy-input -j DROP
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
";

fn restore(netns: &Namespace, program: &str, rules: &str) {
    let mut child = netns.command([program]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The rules of a program, without counters.
fn saved(netns: &Namespace, program: &str) -> Vec<String> {
    let text = netns.run(program);
    let rules = text.lines().filter(|line| !line.starts_with('#'));
    rules.map(|line| line.split(" [").next().unwrap().to_owned()).collect()
}

fn works_beside(rules: &str, kind: &str, expected: &[&str]) {
    let world = World::new();
    let host = world.host("a");
    let netns = &host.netns;
    netns.run("sysctl -q net.bridge.bridge-nf-call-iptables=1");
    let lan = host.lan();
    let save = format!("iptables-{kind}-save");
    let restore = |netns| restore(netns, &format!("iptables-{kind}-restore"), rules);
    // What they are without netd, which adds its rule at once.
    let alone = world.namespace();
    restore(&alone);
    let before = saved(&alone, &save);
    restore(netns);
    let mut netd = host.client();
    netd.create("app");
    let (web, db) = (world.container("web"), world.container("db"));
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap(), "8053:53/udp".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    netd.attach(&db.to("app"));
    web.netns.serve_tcp(80);
    web.netns.serve_udp(53);
    lan.serve_tcp(80);
    let address = endpoint.addresses[0].ip();
    let all = || -> std::io::Result<()> {
        lan.try_tcp("192.0.2.1:8080".parse().unwrap())?;
        db.netns.try_tcp(SocketAddr::new(address, 80))?;
        web.netns.try_tcp("192.0.2.2:80".parse().unwrap())
    };
    eventually("it works", all);
    lan.ask_udp("192.0.2.1:8053".parse().unwrap()).unwrap();
    let names = netd_tests::Host::ask_name(&db.netns, endpoint.gateways[0], "web A");
    assert_eq!(names, [address.to_string()]);
    // Who is not on a network of ours is where the others left him.
    let stranger = world.namespace();
    netns.run(&format!("ip link add far0 type veth peer name eth0 netns {}", stranger.path()));
    netns.run("ip link set far0 up");
    netns.run("ip address add 198.51.100.1/24 dev far0");
    stranger.run("ip link set eth0 up");
    stranger.run("ip address add 198.51.100.2/24 dev eth0");
    stranger.run("ip route add default via 198.51.100.1");
    lan.run("ip route add 198.51.100.0/24 via 192.0.2.1");
    assert!(stranger.try_tcp("192.0.2.2:80".parse().unwrap()).is_err());

    let after = saved(netns, &save);
    let more: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert_eq!(more.len(), expected.len(), "{more:#?}");
    for (line, begin) in more.iter().zip(expected) {
        assert!(line.starts_with(begin), "{line}");
    }
    assert!(before.iter().all(|line| after.contains(line)), "{after:#?}");
    assert_eq!(netd.status().problems, Vec::<String>::new());
}

#[test]
fn it_works_beside_docker() {
    works_beside(DOCKER, "nft", &["-A DOCKER-USER -m mark --mark 0x40000000/0x40000000"]);
}

#[test]
fn it_works_beside_docker_on_legacy_iptables() {
    works_beside(DOCKER, "legacy", &["-A DOCKER-USER -m mark --mark 0x40000000/0x40000000"]);
}

#[test]
fn it_works_beside_ufw() {
    let mark = "-m mark --mark 0x40000000/0x40000000";
    let rules = ["INPUT", "FORWARD"].map(|chain| format!("-A {chain} {mark}"));
    works_beside(UFW, "nft", &[&rules[0], &rules[1]]);
}
