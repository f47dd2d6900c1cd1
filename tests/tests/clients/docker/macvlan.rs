//! Docker's containers on the LAN itself, through macvlans of netd's.

use cnm::{
    endpoint::{CheckEndpoint, Endpoint},
    system::Reconcile,
};

use super::*;

/// Of the LAN 192.0.2.0/24, on which .1 is the host and .2 its neighbour.
const CREATE: [&str; 16] = [
    "network",
    "create",
    "-d",
    "netd",
    "--ipam-driver",
    "netd",
    "--subnet",
    "192.0.2.0/24",
    "--ip-range",
    "192.0.2.64/26",
    "--gateway",
    "192.0.2.2",
    "-o",
    "type=macvlan",
    "-o",
    "parent=lan0",
];

/// The host's macvlans, by name.
fn macvlans(host: &Host) -> Vec<String> {
    let links = host.netns.json("ip -j link show type macvlan");
    let links = links.as_array().into_iter().flatten();
    // What is not of the kind is listed as an empty object.
    links.filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect()
}

/// Docker's containers there, each as it should be in the kernel.
#[track_caller]
fn are_right(host: &Host, count: usize) -> Vec<Endpoint> {
    let endpoints = host.client().endpoints();
    assert_eq!(endpoints.len(), count, "{endpoints:?}");
    for endpoint in &endpoints {
        let check = CheckEndpoint { endpoint: endpoint.id.to_string(), mac: None, netns: None };
        let checked = host.client().call(&check).unwrap();
        assert_eq!(checked.differences, [""; 0], "{endpoint:?}");
    }
    let reconciled = host.client().call(&Reconcile {}).unwrap();
    assert_eq!(reconciled.repaired, [""; 0]);
    assert_eq!(reconciled.lost, [""; 0]);
    endpoints
}

#[test]
fn dockers_containers_live_on_the_lan_through_restarts() {
    let mut place = Place::new();
    let neighbour: IpAddr = "192.0.2.2".parse().unwrap();
    let mut dockerd = Dockerd::start(&place.machine);
    let before = place.host.snapshot();
    dockerd.docker(&[&CREATE[..], &["-o", "network=phys", "phys"]].concat()).success();
    dockerd.run("web", "phys", &[], &SERVE);
    dockerd.run("db", "phys", &["--mac-address", "02:00:5e:10:00:07"], &["sleep", "1000"]);
    let address = |dockerd: &Dockerd<'_>, name: &str| {
        let told = dockerd.inspect(&["inspect", name]);
        let ip = &told["NetworkSettings"]["Networks"]["phys"]["IPAddress"];
        ip.as_str().unwrap().to_owned()
    };
    let web = address(&dockerd, "web");
    let reach = |dockerd: &Dockerd<'_>, web: &str, lan: &Namespace| {
        eventually("they reach each other, by name as well", || {
            pings(dockerd, "web", "db").and_then(|()| pings(dockerd, "db", "web"))
        });
        pings(dockerd, "db", &neighbour.to_string()).unwrap();
        eventually("the LAN reaches them", || greeted(lan, &format!("http://{web}/")));
    };
    reach(&dockerd, &web, &place.lan);
    let octet: u8 = web.rsplit('.').next().unwrap().parse().unwrap();
    assert!((64..128).contains(&octet), "{web}");
    let links = dockerd.docker(&["exec", "db", "ip", "-o", "link"]);
    assert!(links.success().contains("02:00:5e:10:00:07"), "{links:?}");
    let ways = dockerd.docker(&["exec", "db", "ip", "route"]);
    assert!(ways.success().contains("default via 192.0.2.2"), "{ways:?}");
    assert_eq!(macvlans(&place.host), [""; 0], "dockerd has moved them");
    are_right(&place.host, 2);

    // Who is on the network by netd finds them by name; and gets none of their addresses.
    let other = place.world.container("other");
    let endpoint = place.host.client().attach(&other.to("phys"));
    assert_ne!(endpoint.addresses[0].ip().to_string(), web);
    eventually("its name resolves", || {
        let answers = Host::ask_name(&other.netns, "127.0.0.11".parse().unwrap(), "web A");
        if answers == [web.as_str()] { Ok(()) } else { Err(answers) }
    });
    greeted(&other.netns, &format!("http://{web}/")).unwrap();
    place.host.client().detach("other");

    // Off, and on again.
    dockerd.docker(&["network", "disconnect", "phys", "db"]).success();
    are_right(&place.host, 1);
    assert_eq!(macvlans(&place.host), [""; 0], "what it gave back is gone");
    dockerd.docker(&["network", "connect", "phys", "db"]).success();
    reach(&dockerd, &web, &place.lan);

    // netd is away, and comes back.
    place.host.kill();
    greeted(&place.lan, &format!("http://{web}/")).unwrap();
    place.host.start();
    reach(&dockerd, &web, &place.lan);
    are_right(&place.host, 2);

    // A dockerd that is killed ends its containers when it comes back, and starts them anew.
    dockerd.end("KILL");
    greeted(&place.lan, &format!("http://{web}/")).unwrap();
    dockerd.start_again();
    eventually("what it left is gone", || {
        let left = place.host.client().endpoints();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    dockerd.docker(&["start", "web", "db"]).success();
    let web = address(&dockerd, "web");
    reach(&dockerd, &web, &place.lan);
    are_right(&place.host, 2);

    dockerd.docker(&["rm", "-f", "web", "db"]).success();
    dockerd.docker(&["network", "rm", "phys"]).success();
    place.bare();
    let networks = place.host.netctl(&["network", "ls", "-q"]);
    assert_eq!(networks.success().lines().count(), 3, "{networks:?}");
    eventually("the host is as it was", || before.same_as(&place.host.snapshot()));
}

/// Docker's own IPAM gives the addresses, and who has one on the LAN already is not met.
#[test]
fn docker_may_give_the_addresses_of_a_lan_itself() {
    let place = Place::new();
    let dockerd = Dockerd::start(&place.machine);
    let before = place.host.snapshot();
    let create = [&CREATE[..4], &CREATE[6..], &["own"]].concat();
    dockerd.docker(&create).success();
    dockerd.run("web", "own", &[], &SERVE);
    let told = dockerd.inspect(&["inspect", "web"]);
    let ip = told["NetworkSettings"]["Networks"]["own"]["IPAddress"].as_str().unwrap();
    assert!(ip.starts_with("192.0.2."), "{ip}");
    eventually("the LAN reaches it", || greeted(&place.lan, &format!("http://{ip}/")));
    let fixed = ["run", "--rm", "--network", "own", "--ip", "192.0.2.1", "box", "true"];
    let refused = dockerd.docker(&fixed);
    assert!(refused.stderr.contains("address 192.0.2.1 of network"), "{refused:?}");
    let published = ["run", "--rm", "--network", "own", "-p", "8080:80", "box", "true"];
    let refused = dockerd.docker(&published);
    assert!(refused.stderr.contains("publishes no ports"), "{refused:?}");
    dockerd.docker(&["rm", "-f", "web"]).success();
    eventually("nothing of it is left", || {
        let left = (macvlans(&place.host), place.host.client().endpoints());
        if left == (vec![], vec![]) { Ok(()) } else { Err(left) }
    });
    dockerd.docker(&["network", "rm", "own"]).success();
    eventually("the host is as it was", || before.same_as(&place.host.snapshot()));
}

/// Who knew another at an address hears who has it now, though the container says nothing itself.
#[test]
fn the_lan_is_told_where_a_container_is() {
    let place = Place::new();
    let dockerd = Dockerd::start(&place.machine);
    let six = ["--ipv6", "--subnet", "2001:db8::/64", "--gateway", "2001:db8::2"];
    dockerd.docker(&[&CREATE[..], &six, &["-o", "network=phys", "phys"]].concat()).success();
    let addresses = ["192.0.2.70", "2001:db8::70"];
    for address in addresses {
        let other = "lladdr 02:00:5e:10:00:99 dev eth0 nud stale";
        place.lan.run(&format!("ip neighbour replace {address} {other}"));
    }
    let mac = "02:00:5e:10:00:07";
    let fixed = ["--ip", addresses[0], "--ip6", addresses[1], "--mac-address", mac];
    dockerd.run("db", "phys", &fixed, &["sleep", "1000"]);
    for address in addresses {
        eventually("its neighbours know", || {
            let known = place.lan.run(&format!("ip neighbour show {address} dev eth0"));
            if known.contains(mac) { Ok(()) } else { Err(known) }
        });
    }
}
