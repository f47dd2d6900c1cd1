//! A container speaks for nobody but itself: not as another link, nor from another's address.

use cnm::{endpoint::Endpoint, network::CreateNetwork};
use netd_tests::{Asking as _, Container, Host, World, eventually};

/// Two containers of both families on a network with these options.
fn pair(world: &World, options: &[(&str, &str)]) -> (Host, [(Container, Endpoint); 2]) {
    let host = world.host("a");
    let mut netd = host.client();
    let mut create = CreateNetwork { ipv6: Some(true), ..CreateNetwork::named("app") };
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    create.options.extend(options);
    netd.call(&create).unwrap();
    let pair = ["web", "db"].map(|name| {
        let container = world.container(name);
        let endpoint = netd.attach(&container.to("app"));
        (container, endpoint)
    });
    (host, pair)
}

/// Whether links have queues for filters, as tc shows them.
fn has_filters(queues: &str) -> bool {
    ["ingress", "clsact"].iter().any(|kind| queues.contains(kind))
}

fn pings_from(container: &Container, from: &str, to: &str) -> bool {
    let line = format!("ping -n -c 1 -W 1 -I {from} {to}");
    container.netns.output(&line).status.success()
}

#[test]
fn a_container_cannot_send_as_another() {
    let world = World::new();
    let (host, [(web, web_endpoint), (db, db_endpoint)]) = pair(&world, &[]);
    let [four, six] = [0, 1].map(|n| web_endpoint.addresses[n].ip());
    assert!(four.is_ipv4() && six.is_ipv6());
    assert!(db.netns.pings(four) && db.netns.pings(six));
    let (own, others) = (db_endpoint.mac.unwrap(), web_endpoint.mac.unwrap());

    // With an address of its own making.
    let gateways: Vec<_> = db_endpoint.gateways.iter().map(ToString::to_string).collect();
    for (address, gateway) in [("10.99.0.9/32", &gateways[0]), ("fd99::9/128", &gateways[1])] {
        db.netns.run(&format!("ip address add {address} dev eth0 noprefixroute"));
        let from = address.split('/').next().unwrap();
        assert!(!pings_from(&db, from, gateway), "{address}");
        db.netns.run(&format!("ip address delete {address} dev eth0"));
    }
    // With the other's, which it announces, too: the host does not believe it.
    let address = format!("{four}/24");
    db.netns.run(&format!("ip address add {address} dev eth0"));
    drop(db.netns.output(&format!("arping -c 2 -w 1 -U -I eth0 {four}")));
    assert!(host.netns.pings(four));
    let neighbours = host.netns.run(&format!("ip neighbour show {four}"));
    assert!(neighbours.contains(&others.to_string()), "{neighbours}");
    db.netns.run(&format!("ip address delete {address} dev eth0"));
    // As another link.
    db.netns.run("ip link set eth0 address 02:00:00:00:00:99");
    assert!(db.netns.pings_in_vain(web_endpoint.gateways[0]));
    assert!(db.netns.pings_in_vain(six));
    db.netns.run(&format!("ip link set eth0 address {own}"));
    assert!(db.netns.pings(four) && db.netns.pings(web_endpoint.gateways[0]));
    assert!(web.netns.pings(db_endpoint.addresses[0].ip()));
    eventually("IPv6 is there again", || if db.netns.pings(six) { Ok(()) } else { Err(six) });

    // Nothing of it stays behind.
    host.client().detach("web");
    host.client().detach("db");
    eventually("no port is known", || {
        let known = host.netns.run("tc qdisc show");
        if has_filters(&known) { Err(known) } else { Ok(()) }
    });
}

#[test]
fn a_network_may_let_its_containers_send_as_they_like() {
    let world = World::new();
    let (host, [_, (db, endpoint)]) = pair(&world, &[("spoof-check", "false")]);
    db.netns.run("ip link set eth0 address 02:00:00:00:00:99");
    assert!(db.netns.pings(endpoint.gateways[0]));
    let port = endpoint.id.link_name();
    assert!(!has_filters(&host.netns.run(&format!("tc qdisc show dev {port}"))));
}
