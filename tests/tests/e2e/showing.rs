//! What netd tells of itself, and what the flags of `network create` come to.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, thread};

use cnm::{Kind, network::CreateNetwork};
use netd_tests::{Asking as _, Executed, Host, HostOptions, World, eventually, kind_of};
use serde_json::Value;

#[test]
fn an_endpoints_plan_and_what_there_is_of_it_are_shown() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("bridge"));
    let shown = host.netctl(&["endpoint", "inspect", "--plan", endpoint.id.short()]);
    let shown: Value = serde_json::from_str(shown.success()).unwrap();
    let shown = shown.get(0).unwrap_or(&shown);
    assert_eq!(shown["id"], endpoint.id.as_str());
    let steps = shown["plan"]["steps"].to_string();
    let (link, ip) = (endpoint.id.link_name(), endpoint.addresses[0].to_string());
    assert!(steps.contains(link.as_str()) && steps.contains(&ip), "{steps}");
    assert!(shown["plan"]["observed"].to_string().contains(link.as_str()), "{shown}");

    let check = || host.netctl(&["endpoint", "check", endpoint.id.short()]);
    check().success();
    // Nothing that netd notices by itself, and puts right.
    host.netns.run(&format!("bridge link set dev {link} hairpin on"));
    let differs = check();
    assert_eq!(differs.code, 1, "{differs:?}");
    assert!(differs.stdout.contains(link.as_str()), "{differs:?}");
}

#[test]
fn what_differs_inside_a_container_is_shown_to_who_looks_there() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let endpoint = host.client().attach(&web.to("bridge"));
    let path = web.netns.path();
    let check = |inside: &[&str]| {
        host.netctl(&[&["endpoint", "check"], inside, &[endpoint.id.short()]].concat())
    };
    check(&["--netns", &path]).success();
    web.netns.run("ip route del default");
    check(&[]).success();
    let differs = check(&["--netns", &path]);
    assert_eq!(differs.code, 1, "{differs:?}");
    assert!(differs.stdout.contains(&endpoint.gateways[0].to_string()), "{differs:?}");
    let wrong = check(&["--netns", "/run/nothing"]);
    assert_eq!(wrong.code, i32::from(Kind::NotFound.exit_code()), "{wrong:?}");
}

#[test]
fn the_status_is_good_until_something_is_not() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let status = netd.status();
    assert_eq!((status.networks, status.pid), (4, host.pid()));
    assert_eq!(status.problems, Vec::<String>::new());
    let names: Vec<_> = status.drivers.iter().map(|driver| driver.name.as_str()).collect();
    assert_eq!(names, ["bridge", "host", "none"]);
    let shown = host.netctl(&["status"]);
    assert!(shown.success().contains("bridge"), "{shown:?}");
    let shown = host.netctl(&["status", "--json"]);
    let shown: Value = serde_json::from_str(shown.success()).unwrap();
    assert_eq!(shown["networks"], 4);
}

#[test]
fn there_are_metrics() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let web = world.container("web");
    netd.attach(&web.to("bridge"));
    let socket = host.run_dir().join("metrics.sock");
    let line = format!("curl -sS --unix-socket {} http://netd/metrics", socket.display());
    let metrics = Executed::from(netd_tests::output(&line));
    let lines: Vec<_> = metrics.success().lines().filter(|line| !line.starts_with('#')).collect();
    let endpoints = lines.iter().find(|line| line.starts_with("netd_endpoints"));
    assert!(endpoints.is_some_and(|line| line.ends_with(" 1")), "{lines:#?}");
}

#[test]
fn a_networks_range_gateway_and_reservations_hold() {
    let world = World::new();
    let host = world.host("a");
    let words = "network create --subnet 10.51.0.0/24 --ip-range 10.51.0.128/29 \
                 --gateway 10.51.0.254 --aux-address printer=10.51.0.129 \
                 --exclude 10.51.0.130/31 -o mtu=1400 --label team=shop app";
    let words: Vec<_> = words.split_whitespace().collect();
    let id = host.netctl(&words).success().trim().to_owned();
    assert_eq!(id.len(), 64, "{id}");
    let mut netd = host.client();
    let containers: Vec<_> = (0..5).map(|n| world.container(&format!("c{n}"))).collect();
    for container in &containers {
        let endpoint = netd.attach(&container.to("app"));
        let IpAddr::V4(ip) = endpoint.addresses[0].ip() else { panic!("{endpoint:?}") };
        let last = ip.octets()[3];
        assert!((128..136).contains(&last) && ![129, 130, 131].contains(&last), "{ip}");
        assert_eq!(endpoint.gateways, ["10.51.0.254".parse::<IpAddr>().unwrap()]);
        assert_eq!(endpoint.mtu, Some(1400));
        assert!(container.netns.pings(endpoint.gateways[0]));
    }
    let next = world.container("next");
    let (kind, error) = kind_of(netd.call(&next.to("app")));
    assert_eq!(kind, Kind::Exhausted, "{error}");
    // Outside the range there are others, for those who ask.
    let mut attach = next.to("app");
    attach.addresses = vec!["10.51.0.7".parse().unwrap()];
    netd.attach(&attach);
    let shown = host.netctl(&["ipam", "ls"]);
    assert!(shown.success().contains("10.51.0.0/24"), "{shown:?}");
}

#[test]
fn a_dual_stack_network_has_both_families() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    host.netctl(&["network", "create", "--ipv6", "app"]).success();
    let (web, client) = (world.container("web"), world.container("client"));
    let endpoint = netd.attach(&web.to("app"));
    let asker = netd.attach(&client.to("app"));
    assert_eq!(endpoint.addresses.len(), 2);
    for address in &endpoint.addresses {
        assert!(client.netns.pings(address.ip()), "{address}");
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        for server in &asker.dns {
            let answer = Host::ask_name(&client.netns, *server, &format!("web {kind}"));
            assert_eq!(answer, [address.ip().to_string()], "{server}");
        }
    }
    assert_eq!(asker.dns.len(), 2);
}

#[test]
fn prune_takes_what_nobody_is_on() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("used");
    netd.create("unused");
    let web = world.container("web");
    netd.attach(&web.to("used"));
    let pruned = host.netctl(&["network", "prune", "-f"]);
    assert!(pruned.success().contains("unused"), "{pruned:?}");
    let left = host.netctl(&["network", "ls", "--format", "{{.Name}}"]);
    assert_eq!(left.success(), "bridge\nhost\nnone\nused\n");
    let busy = host.netctl(&["network", "rm", "used"]);
    assert_eq!(busy.code, i32::from(Kind::Busy.exit_code()), "{busy:?}");
    assert!(busy.stderr.contains("web"), "{busy:?}");
}

#[test]
fn a_driver_that_does_not_start_is_a_problem_and_the_others_work() {
    let world = World::new();
    fs::create_dir("/run/plugins").unwrap();
    std::os::unix::fs::symlink("/bin/false", "/run/plugins/netd-broken").unwrap();
    let plugin_dirs = vec!["/run/plugins".into()];
    let host = world.host_with("a", HostOptions { plugin_dirs, ..HostOptions::default() });
    let before = host.snapshot();
    let mut netd = host.client();
    let create = CreateNetwork { driver: Some("broken".into()), ..CreateNetwork::named("app") };
    let (kind, error) = kind_of(netd.call(&create));
    assert_eq!(kind, Kind::Unavailable, "{error}");
    assert!(error.message.contains("broken"), "{error}");
    assert_eq!(netd.status().networks, 3);
    host.snapshot().same_as(&before).unwrap();
    let web = world.container("web");
    netd.attach(&web.to("bridge"));
}

/// A driver that waits with making a network until it is told that it cannot.
const HESITANT: &str = r#"#!/usr/bin/python3
import json, sys

for line in sys.stdin:
    request = json.loads(line)
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    method = request["method"]
    if method == "driver.network_up":
        open("/run/asked", "w").close()
        open("/run/told").read()
        answer["error"] = {"code": -32004, "message": "it cannot be", "data": {"kind": "busy"}}
    elif method == "driver.info":
        answer["result"] = {"name": "hesitant", "version": "1", "protocols": [1],
                            "capabilities": {"addresses": True}}
    elif method == "driver.sync":
        answer["result"] = {"repaired": [], "missing": []}
    else:
        answer["result"] = {}
    print(json.dumps(answer), flush=True)
"#;

#[test]
fn nobody_gets_on_a_network_that_is_not_made_in_the_end() {
    let world = World::new();
    fs::create_dir("/run/plugins").unwrap();
    fs::write("/run/plugins/netd-hesitant", HESITANT).unwrap();
    fs::set_permissions("/run/plugins/netd-hesitant", fs::Permissions::from_mode(0o755)).unwrap();
    netd_tests::run("mkfifo /run/told");
    let plugin_dirs = vec!["/run/plugins".into()];
    let host = world.host_with("a", HostOptions { plugin_dirs, ..HostOptions::default() });
    let mut netd = host.client();
    let web = world.container("web");
    thread::scope(|scope| {
        let creating = scope.spawn(|| {
            let driver = Some("hesitant".into());
            host.client().call(&CreateNetwork { driver, ..CreateNetwork::named("app") })
        });
        eventually("the driver is asked", || fs::metadata("/run/asked"));
        let (kind, error) = kind_of(netd.call(&web.to("app")));
        assert_eq!(kind, Kind::Busy, "{error}");
        fs::write("/run/told", "").unwrap();
        let (kind, error) = kind_of(creating.join().unwrap());
        assert_eq!((kind, error.message.as_str()), (Kind::Busy, "it cannot be"));
    });
    let (kind, _) = kind_of(netd.call(&web.to("app")));
    assert_eq!(kind, Kind::NotFound);
    let status = netd.status();
    assert_eq!((status.networks, status.endpoints, status.sandboxes), (3, 0, 0));
}
