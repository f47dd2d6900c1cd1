//! Deaths: of netd, of the driver, of a container, and at each step.

use super::*;

#[test]
fn restarts_lose_no_packet() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let (web, db) = (world.container("web"), world.container("db"));
    let (one, two) = (put(&host, &web, "lan"), put(&host, &db, "lan"));
    let among = Ping::start(&web.netns, ip(&two));
    let outside = Ping::start(&lan, ip(&one));
    host.kill();
    host.start();
    among.goes_on();
    assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());
    let driver = |host: &Host| {
        let drivers = host.client().status().drivers;
        drivers.into_iter().find(|driver| driver.name == "macvlan").unwrap()
    };
    let killed = driver(&host);
    kill(killed.pid.unwrap());
    eventually("the driver is started again", || {
        let now = driver(&host);
        if now.pid.is_some() && now.restarts > killed.restarts { Ok(()) } else { Err(now) }
    });
    outside.goes_on();
    assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());
    host.stop();
    host.start();
    among.goes_on();
    among.lost_none();
    outside.lost_none();
    for endpoint in [&one, &two] {
        assert_eq!(differences(&host, endpoint), Vec::<String>::new());
    }
    let next = world.container("next");
    assert!(lan.pings(ip(&put(&host, &next, "lan"))));
    assert_eq!(host.client().detach("web").endpoints, [one.id]);
    assert_eq!(web.netns.json("ip -j link").as_array().unwrap().len(), 1);
}

#[test]
fn a_killed_container_is_released_within_a_second() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let before = host.snapshot();
    let mut web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    web.netns.kill();
    within(SECOND, "the endpoint is released", || {
        let endpoints = host.client().endpoints();
        if endpoints.is_empty() { Ok(()) } else { Err(endpoints) }
    });
    assert_eq!(host.client().status().sandboxes, 0);
    host.snapshot().same_as(&before).unwrap();
    let next = world.container("web");
    let mut attach = next.to("lan");
    attach.addresses = vec![ip(&endpoint)];
    host.client().attach(&attach);
}

#[test]
fn a_reconcile_says_what_it_cannot_put_right() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let network = make(&host, &lan_network("lan", &[("parent", "lan0"), ("host-access", "true")]));
    let (web, db) = (world.container("web"), world.container("db"));
    let (one, two) = (put(&host, &web, "lan"), put(&host, &db, "lan"));
    assert_eq!(host.netctl(&["reconcile"]).success(), "nothing differed\n");
    web.netns.run("ip link delete eth0");
    let said = host.netctl(&["reconcile"]);
    let expected = format!(
        "not put right: endpoint {} of web on lan has lost its link: detach it and attach it again\n",
        one.id.short()
    );
    assert_eq!(said.success(), expected);
    assert_eq!(host.client().status().problems.len(), 1);

    // What belongs to the host is put right, and each of it is said.
    let own = format!("mh-{}", network.id.short());
    for (damage, word) in [
        (format!("ip route delete {}", ip(&two)), "lead the host to"),
        (format!("ip address flush dev {own}"), "add 192.0.2.128/32"),
        (format!("ip address add 192.0.2.250/32 dev {own}"), "delete 192.0.2.250/32"),
        (format!("ip link set {own} down"), "set mh-"),
        (format!("ip link delete {own}"), "make the host's macvlan"),
    ] {
        host.netns.run(&damage);
        let said = host.netctl(&["reconcile"]);
        assert!(said.success().contains(word), "{damage}: {said:?}");
        assert!(host.netns.pings(ip(&two)), "{damage}");
        assert_eq!(host.netctl(&["reconcile"]).success(), expected, "{damage}");
    }
    host.client().detach("web");
    assert_eq!(host.netctl(&["reconcile"]).success(), "nothing differed\n");
    assert_eq!(host.client().status().problems, Vec::<String>::new());
    assert!(lan.pings(ip(&put(&host, &web, "lan"))));
}

/// Death at a step: afterwards the kernel is as the record says.
fn dies_at(point: &str) {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0"), ("host-access", "true")]));
    let (bystander, web) = (world.container("bystander"), world.container("web"));
    let beside = put(&host, &bystander, "lan");
    let routes = host.netns.run("ip route");
    let died = host.arm(point);
    let line = Request::new(1, &web.to("lan")).to_line();
    let attached = host.plugin("macvlan", &line);
    let detach = cnm::endpoint::Detach { network: None, container: web.id.clone(), ifname: None };
    let detach = || host.plugin("macvlan", &Request::new(1, &detach).to_line());
    detach().success();
    assert!(died(), "nobody comes to {point}: {attached:?}");
    detach().success();
    eventually("nothing is left in the container", || {
        let links = web.netns.json("ip -j link");
        if links.as_array().unwrap().len() == 1 { Ok(()) } else { Err(links) }
    });
    eventually("nor on the host", || {
        let now = host.netns.run("ip route");
        if now == routes { Ok(()) } else { Err(now) }
    });
    eventually("it can be attached again", || match host.plugin("macvlan", &line) {
        executed if executed.code == 0 => Ok(()),
        executed => Err(executed),
    });
    let endpoint =
        host.client().endpoints().into_iter().find(|e| e.container.id.as_str() == web.id);
    let endpoint = endpoint.unwrap();
    assert!(lan.pings(ip(&endpoint)) && host.netns.pings(ip(&endpoint)));
    assert!(web.netns.pings(ip(&beside)));
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

/// A test for each point, and one that no point is missing.
macro_rules! points {
    ($($test:ident: $point:literal,)*) => {
        $(
            #[test]
            fn $test() {
                dies_at($point);
            }
        )*

        #[test]
        fn every_point_is_visited() {
            let own = cnm::fault::POINTS.iter().filter(|point| point.starts_with("macvlan."));
            assert_eq!(own.copied().collect::<Vec<_>>(), [$($point),*]);
        }
    };
}

points! {
    before_link: "macvlan.attach.before-link",
    after_link: "macvlan.attach.after-link",
    after_config: "macvlan.attach.after-config",
    after_routes: "macvlan.attach.after-routes",
    detach_before_routes: "macvlan.detach.before-routes",
    detach_after_routes: "macvlan.detach.after-routes",
    detach_after_link: "macvlan.detach.after-link",
}
