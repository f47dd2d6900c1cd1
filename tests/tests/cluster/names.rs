//! Names and services of containers on other hosts: where they are, and where nobody else is to be
//! asked for them.

use cnm::{
    cluster::NodeState,
    endpoint::{Attach, UpdateEndpoint},
};
use netd_tests::{Asking as _, Host, Namespace, eventually};

use crate::{
    fleet::{Fleet, Running, reaches, resolves},
    liveness::{hasten, state},
};

/// Runs a container that serves these ports, and is called `all`, too.
fn serve(fleet: &Fleet, host: usize, name: &str, published: &[&str], exposed: &str) -> Running {
    let container = fleet.world.container(name);
    let attach = Attach {
        aliases: vec!["all".parse().unwrap()],
        ports: published.iter().map(|port| port.parse().unwrap()).collect(),
        options: [("expose".to_owned(), exposed.to_owned())].into(),
        ..container.to("shop")
    };
    let endpoint = fleet.hosts[host].client().attach(&attach);
    Running { container, endpoint }
}

/// Waits until a service is in these places.
#[track_caller]
fn serves(asker: &Running, service: &str, places: &[&str]) {
    eventually("a service is found", || {
        let mut found = asker.asks(&format!("{service} -t SRV"));
        found.sort();
        if found == places { Ok(()) } else { Err((service.to_owned(), found)) }
    });
}

#[test]
fn services_of_containers_on_other_hosts_are_found() {
    let mut fleet = Fleet::new(2);
    fleet.create("shop");
    let one = serve(&fleet, 0, "one", &["9000:80", "9001:53/udp"], "api=81/tcp,http=80");
    let two = serve(&fleet, 1, "two", &[], "http=8080");
    let asker = fleet.run(1, "shop", "asker");
    let beside = fleet.run(0, "shop", "beside");
    for asker in [&asker, &beside] {
        serves(asker, "_80._tcp.one", &["0 0 80 one.shop.netd."]);
        serves(asker, "_http._tcp.one.shop", &["0 0 80 one.shop.netd."]);
        serves(asker, "_api._tcp.one.shop.netd", &["0 0 81 one.shop.netd."]);
        serves(asker, "_53._udp.one", &["0 0 53 one.shop.netd."]);
        serves(asker, "_http._tcp.all", &["0 0 80 one.shop.netd.", "0 0 8080 two.shop.netd."]);
    }
    // A row says nothing of ports where there are none.
    let cluster = fleet.status(0).cluster.unwrap();
    let rows = format!("get --prefix --print-value-only /netd/{cluster}/");
    let rows = fleet.etcdctl(0, &rows).unwrap();
    let row = |name: &str| rows.lines().find(|row| row.contains(&format!("[\"{name}\""))).unwrap();
    assert!(row("one").contains("\"p\""), "{rows}");
    assert!(!row("asker").contains("\"p\""), "{rows}");

    // What it publishes from now on.
    let update = UpdateEndpoint {
        endpoint: one.endpoint.id.to_string(),
        container: None,
        ports: Some(vec!["9002:90".parse().unwrap()]),
    };
    fleet.hosts[0].client().call(&update).unwrap();
    serves(&asker, "_90._tcp.one", &["0 0 90 one.shop.netd."]);
    serves(&asker, "_53._udp.one", &[]);
    // Known still to a netd that starts anew, and gone with the container.
    fleet.hosts[1].kill();
    fleet.hosts[1].start();
    serves(&asker, "_api._tcp.one", &["0 0 81 one.shop.netd."]);
    fleet.hosts[0].client().detach(&one.container.id);
    serves(&asker, "_http._tcp.all", &["0 0 8080 two.shop.netd."]);
    drop(two);
}

/// The underlay's name server, which knows every name there is.
fn know_everything(fleet: &Fleet) -> (Namespace, netd_tests::Heard) {
    let lan = fleet.beside("198.51.100.200/24");
    let heard = lan.serve_udp_with(53, netd_tests::one_address);
    (lan, heard)
}

#[test]
fn names_of_a_host_that_is_down_are_asked_nowhere_else() {
    let fleet = Fleet::new_with(2, "dns_upstreams = [\"198.51.100.200:53\"]");
    let (_lan, asked) = know_everything(&fleet);
    fleet.create("shop");
    fleet.create("back");
    hasten(&fleet, 1, 900);
    let (a, b) = (fleet.run(0, "shop", "a"), serve(&fleet, 1, "b", &[], "http=80"));
    let other = fleet.run(0, "back", "other");
    resolves(&a, "b", &[b.ip()]);
    fleet.cable(1, false);
    eventually("it is down", || match state(&fleet, 0, "h2") {
        NodeState::Down => Ok(()),
        state => Err(state),
    });
    resolves(&a, "b", &[]);
    let before = asked.from().len();
    for asker in [&a, &other] {
        for name in
            ["b", "all", "b.shop", "ALL.shop", "b.shop.netd", "_http._tcp.b", "_80._tcp.all.shop"]
        {
            for words in ["A", "AAAA", "TXT", "SRV"] {
                let server = asker.endpoint.gateways[0];
                let line = format!("dig +tries=1 @{server} {name} {words}");
                let said = asker.container.netns.run(&line);
                assert!(said.contains("status: NXDOMAIN"), "{line}: {said}");
            }
        }
    }
    assert_eq!(asked.from().len(), before, "nothing of it was asked outside");
    let why = fleet.hosts[0].netctl(&["dns", "query", "b", "--from", "a"]);
    assert!(why.stdout.contains("on shop it is a name, whose host is down"), "{why:?}");
    // Other names leave still, and what is reached again is told again.
    let server = a.endpoint.gateways[0];
    assert_eq!(Host::ask_name(&a.container.netns, server, "b.example"), ["203.0.113.7"]);
    fleet.cable(1, true);
    resolves(&a, "b", &[b.ip()]);
    serves(&a, "_http._tcp.all", &["0 0 80 b.shop.netd."]);
    reaches(&a.container.netns, b.ip());
    // Who is gone for good has no name any more: it is one like others.
    fleet.hosts[1].client().detach(&b.container.id);
    let outside = ["203.0.113.7".parse().unwrap()];
    resolves(&a, "b", &outside);
    fleet.hosts[0].client().detach(&other.container.id);
    resolves(&a, "other", &outside);
}
