//! The one address at which everybody on the host may ask: containers of all networks, as at their
//! gateways, and those of others for names of others. Neighbours may not.

use std::net::{TcpListener, UdpSocket};

use cnm::{network::CreateNetwork, system::Reconcile};
use netd_tests::{Asking as _, Host, HostOptions, Namespace, World, eventually};

const SHARED: &str = "169.254.76.53";

const CONFIG: &str = "dns_upstreams = [\"192.0.2.2:53\"]\ndns_link_local = \"169.254.76.53\"";

fn ask(netns: &Namespace, words: &str) -> Vec<String> {
    Host::ask_name(netns, SHARED.parse().unwrap(), words)
}

fn status(netns: &Namespace, words: &str) -> String {
    let said = netns.run(&format!("dig +tries=1 +time=5 @{SHARED} {words}"));
    let line = said.lines().find_map(|line| line.split("status: ").nth(1));
    line.unwrap_or_default().split(',').next().unwrap_or_default().to_owned()
}

#[test]
fn containers_of_all_networks_ask_at_one_address() {
    let world = World::new();
    let config = CONFIG.to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let elsewhere = lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    netd.create("front");
    netd.create("back");
    let [web, db, both] = ["web", "db", "both"].map(|name| world.container(name));
    let at = |endpoint: cnm::endpoint::Endpoint| endpoint.addresses[0].ip().to_string();
    let (web_at, db_at) = (at(netd.attach(&web.to("front"))), at(netd.attach(&db.to("back"))));
    netd.attach(&both.to("front"));
    netd.attach(&both.to("back"));

    for words in ["web A", "+tcp web A", "web.front.netd A"] {
        assert_eq!(ask(&web.netns, words), [&*web_at], "{words}");
        assert_eq!(ask(&both.netns, words), [&*web_at], "{words}");
    }
    assert_eq!(ask(&both.netns, "db A"), [&*db_at]);
    assert_eq!(status(&web.netns, "db A"), "NXDOMAIN");
    assert_eq!(status(&web.netns, &format!("-x {db_at}")), "NXDOMAIN");
    assert_eq!(ask(&web.netns, "example.org A"), ["203.0.113.7"]);
    assert_eq!(elsewhere.from().len(), 1, "of ours nothing was asked there");

    // It is there again after a crash, and goes with the option.
    host.kill();
    host.start();
    assert_eq!(ask(&both.netns, "db A"), [&*db_at]);
    assert!(host.netctl(&["uninstall", "--check"]).success().contains(SHARED));
}

#[test]
fn others_containers_ask_for_names_of_others_and_neighbours_for_nothing() {
    let world = World::new();
    let config = CONFIG.to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    netd.call(&CreateNetwork::named("app")).unwrap();
    let web = world.container("web");
    netd.attach(&web.to("app"));
    // A bridge as Docker's, with a container on it, and a way out of the host.
    let other = world.namespace();
    for line in [
        "ip link add theirs type bridge".to_owned(),
        "ip address add 172.31.0.1/24 dev theirs".to_owned(),
        "ip link set theirs up".to_owned(),
        format!("ip link add port master theirs type veth peer name eth0 netns {}", other.path()),
        "ip link set port up".to_owned(),
        "ip route add default via 192.0.2.2".to_owned(),
    ] {
        host.netns.run(&line);
    }
    for line in [
        "ip address add 172.31.0.2/24 dev eth0",
        "ip link set eth0 up",
        "ip route add default via 172.31.0.1",
    ] {
        other.run(line);
    }
    assert_eq!(ask(&other, "example.org A"), ["203.0.113.7"]);
    for name in ["web", "web.app", "web.app.netd"] {
        assert_eq!(status(&other, name), "NXDOMAIN", "{name}");
    }
    lan.run("ip route add 169.254.76.53 via 192.0.2.1");
    for name in ["example.org", "web.app.netd"] {
        assert_eq!(status(&lan, name), "REFUSED", "{name}");
    }
    // Nor does the address answer where nobody wants it.
    assert_eq!(ask(&host.netns, "web.app.netd A").len(), 1, "the host may ask as well");
}

#[test]
fn a_port_that_another_program_had_is_listened_on_when_it_has_gone() {
    let world = World::new();
    let config = format!("{CONFIG}\ndns_host = \"127.0.0.77:53\"");
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let web_at = netd.attach(&web.to("app")).addresses[0].ip().to_string();
    let own = "127.0.0.77".parse().unwrap();
    assert_eq!(Host::ask_name(&host.netns, own, "web.app.netd A"), [&*web_at]);
    let problems = |host: &Host| -> Vec<String> {
        let all = host.client().status().problems;
        all.into_iter().filter(|problem| problem.contains("names do not resolve")).collect()
    };
    let take = |host: &Host| {
        host.netns.inside(|| {
            let of_udp = UdpSocket::bind("0.0.0.0:53").unwrap();
            (of_udp, TcpListener::bind("0.0.0.0:53").unwrap())
        })
    };
    for at_once in [false, true] {
        host.stop();
        let taken = take(&host);
        host.start();
        assert_eq!(problems(&host).len(), 2, "{:?}", problems(&host));
        drop(taken);
        if at_once {
            host.client().call(&Reconcile {}).unwrap();
            assert_eq!(problems(&host), Vec::<String>::new());
        }
        eventually("nothing is the matter", || match problems(&host) {
            none if none.is_empty() => Ok(()),
            some => Err(some),
        });
        assert_eq!(Host::ask_name(&host.netns, own, "web.app.netd A"), [&*web_at]);
        assert_eq!(ask(&web.netns, "web A"), [&*web_at]);
        assert_eq!(ask(&web.netns, "+tcp web A"), [&*web_at]);
    }
}

#[test]
fn the_address_is_put_back_when_somebody_takes_it_away() {
    let world = World::new();
    let config = CONFIG.to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let web_at = netd.attach(&web.to("app")).addresses[0].ip().to_string();
    let before = host.snapshot();
    // As often as somebody does, and beside a driver that was started again.
    for round in 0..4 {
        if round == 2 {
            host.kill();
            host.start();
        }
        host.netns.run(&format!("ip address delete {SHARED}/32 dev lo"));
        eventually("the host is as before", || host.snapshot().same_as(&before));
        assert_eq!(ask(&web.netns, "web A"), [&*web_at]);
    }
    assert!(host.log().contains(&format!("the address {SHARED} of lo is gone")), "{}", host.log());
    // What others do to loopback is not netd's business.
    let disturbed = host.log().matches("disturbed").count();
    host.netns.run("ip address add 127.0.0.9/8 dev lo");
    host.netns.run("ip address delete 127.0.0.9/8 dev lo");
    host.netns.run(&format!("ip address delete {SHARED}/32 dev lo"));
    eventually("the host is as before", || host.snapshot().same_as(&before));
    assert_eq!(host.log().matches("disturbed").count(), disturbed + 1);
}

#[test]
fn only_a_link_local_address_will_do() {
    let world = World::new();
    let host = world.host("a");
    let file = host.run_dir().join("other.toml");
    std::fs::write(&file, "dns_link_local = \"192.0.2.9\"\n").unwrap();
    let netd = world.programs().join("netd").display().to_string();
    let said = host.netns.output(&format!("{netd} --config {}", file.display()));
    assert!(!said.status.success());
    let why = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(why.contains("dns_link_local 192.0.2.9 is not link-local"), "{why}");
}
