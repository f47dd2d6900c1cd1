//! Names and services of containers on other hosts.

use cnm::endpoint::{Attach, UpdateEndpoint};
use netd_tests::{Asking as _, eventually};

use crate::fleet::{Fleet, Running};

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
