//! Range sets, and what a runtime says of them for one container.

use netd_tests::{Asking as _, Host, World};
use serde_json::{Value, json};

use super::runtime::{Attachment, config};

fn addresses(result: &Value) -> Vec<&str> {
    result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect()
}

fn leased(host: &Host) -> u64 {
    host.client().pools().iter().map(|pool| pool.leased).sum()
}

#[test]
fn each_range_set_gives_an_address() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    let (web, db) = (world.container("web"), world.container("db"));
    let more = json!({
        "isGateway": true,
        "ipam": {
            "type": "host-local",
            "ranges": [
                [{"subnet": "10.91.0.0/24"}],
                [{"subnet": "10.92.0.0/24", "rangeStart": "10.92.0.40", "gateway": "10.92.0.254"}],
                [{"subnet": "fd91::/64"}],
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]},
    });
    let config = config("1.0.0", "pods", more);
    let attachment = Attachment::new(&host, world.programs(), &web);
    let result = attachment.run("ADD", &config);
    assert_eq!(addresses(&result), ["10.91.0.2/24", "10.92.0.40/24", "fd91::2/64"]);
    let gateways: Vec<_> =
        result["ips"].as_array().unwrap().iter().map(|ip| ip["gateway"].clone()).collect();
    assert_eq!(gateways, ["10.91.0.1", "10.92.0.254", "fd91::1"]);
    for address in ["10.91.0.2", "10.92.0.40", "fd91::2"] {
        assert!(host.netns.pings(address.parse().unwrap()), "{address}");
    }
    for gateway in ["10.91.0.1", "10.92.0.254", "fd91::1"] {
        assert!(web.netns.pings(gateway.parse().unwrap()), "{gateway}");
    }
    let routes = web.netns.json("ip -j route show default");
    assert_eq!(routes.as_array().unwrap().len(), 1, "{routes}");
    assert_eq!(routes[0]["gateway"], "10.91.0.1");
    web.netns.serve_tcp(80);
    for at in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
        lan.ask_tcp(at.parse().unwrap()).expect("once for each family");
    }
    let mut later = config.clone();
    later["prevResult"] = result.clone();
    attachment.run("CHECK", &later);
    web.netns.run("ip address del 10.92.0.40/24 dev eth0");
    assert_eq!(attachment.refused("CHECK", &later).0, 112);
    web.netns.run("ip address add 10.92.0.40/24 dev eth0");
    // Both addresses are known by name, and asked for by hand one of each set.
    let mut other = config.clone();
    other["runtimeConfig"] = json!({"ips": ["10.91.0.77", "10.92.0.77"]});
    let second = Attachment::new(&host, world.programs(), &db);
    assert_eq!(
        addresses(&second.run("ADD", &other)),
        ["10.91.0.77/24", "10.92.0.77/24", "fd91::3/64"]
    );
    second.run("DEL", &other);
    other["runtimeConfig"] = json!({"ips": ["10.91.0.77", "10.91.0.78"]});
    let (code, msg) = second.refused("ADD", &other);
    assert!(code == 7 && msg.contains("10.91.0.78"), "{code} {msg}");
    assert_eq!(leased(&host), 3);

    // netd knows them again.
    host.kill();
    host.start();
    assert_eq!(leased(&host), 3);
    let attachment = Attachment::new(&host, world.programs(), &web);
    attachment.run("CHECK", &later);
    attachment.run("DEL", &later);
    assert_eq!(leased(&host), 0);
}

#[test]
fn the_ranges_of_a_set_are_used_one_after_the_other() {
    let world = World::new();
    let host = world.host("a");
    let containers: Vec<_> = (0..4).map(|n| world.container(&format!("c{n}"))).collect();
    let config = config(
        "1.1.0",
        "pods",
        json!({"isGateway": true, "ipam": {"type": "host-local",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[
            {"subnet": "10.91.0.0/30"},
            {"subnet": "10.92.0.0/24", "rangeStart": "10.92.0.9", "rangeEnd": "10.92.0.9"},
            {"subnet": "10.92.0.0/24", "rangeStart": "10.92.0.20", "rangeEnd": "10.92.0.20"},
        ]]}}),
    );
    let attachments: Vec<_> =
        containers.iter().map(|c| Attachment::new(&host, world.programs(), c)).collect();
    let mut given = Vec::new();
    for attachment in &attachments[..3] {
        attachment.run("STATUS", &config);
        let result = attachment.run("ADD", &config);
        given.push(addresses(&result).join(" "));
    }
    assert_eq!(given, ["10.91.0.2/30", "10.92.0.9/24", "10.92.0.20/24"]);
    assert_eq!(attachments[3].refused("STATUS", &config).0, 50);
    assert_eq!(attachments[3].refused("ADD", &config).0, 105);
    // Each goes through the gateway of its own subnet, and they reach each other.
    for (container, gateway) in containers.iter().zip(["10.91.0.1", "10.92.0.1"]) {
        let routes = container.netns.json("ip -j route show default");
        assert_eq!(routes[0]["gateway"], gateway);
    }
    assert!(containers[0].netns.pings("10.92.0.9".parse().unwrap()));
    assert!(containers[1].netns.pings("10.91.0.2".parse().unwrap()));
    attachments[0].run("DEL", &config);
    attachments[3].run("STATUS", &config);
    assert_eq!(addresses(&attachments[3].run("ADD", &config)), ["10.91.0.2/30"]);
}

#[test]
fn a_runtime_may_say_another_range_each_time() {
    let world = World::new();
    let host = world.host("a");
    let base = config("1.1.0", "pods", json!({"isGateway": true}));
    let ranged = |ranges: Value| {
        let mut config = base.clone();
        config["runtimeConfig"] = json!({"ipRanges": ranges});
        config
    };
    let one = |address: &str| json!({"Subnet": "10.93.0.0/24", "RangeStart": address, "RangeEnd": address});
    let containers: Vec<_> = (0..4).map(|n| world.container(&format!("c{n}"))).collect();
    let at = |n: usize| Attachment::new(&host, world.programs(), &containers[n]);
    let first = ranged(json!([[one("10.93.0.40")]]));
    assert_eq!(addresses(&at(0).run("ADD", &first)), ["10.93.0.40/24"]);
    let second = ranged(json!([[one("10.93.0.40"), one("10.93.0.41")]]));
    assert_eq!(addresses(&at(1).run("ADD", &second)), ["10.93.0.41/24"]);
    let (code, msg) = at(2).refused("ADD", &second);
    assert!(code == 105 && msg.contains("10.93.0.41"), "{code} {msg}");
    // Of what the network does not have there is nothing, and who says nothing has any of it.
    let (code, msg) = at(2).refused("ADD", &ranged(json!([[{"subnet": "10.94.0.0/24"}]])));
    assert!(code == 7 && msg.contains("10.94.0.1"), "{code} {msg}");
    assert_eq!(addresses(&at(3).run("ADD", &base)), ["10.93.0.42/24"]);
    assert_eq!(containers[2].netns.json("ip -j link").as_array().unwrap().len(), 1);
    assert_eq!(leased(&host), 3);
}

#[test]
fn routes_have_what_the_newest_version_says_of_them() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    lan.run("ip link set eth0 mtu 1500");
    let routes = json!([
        {"dst": "0.0.0.0/0", "priority": 50, "mtu": 1400},
        {"dst": "10.7.0.0/16", "advmss": 1200, "table": 1000},
        {"dst": "10.8.0.0/16", "scope": 253},
        {"dst": "10.9.0.0/16", "gw": "10.91.0.9", "priority": 7},
        {"dst": "10.9.0.0/16", "gw": "10.91.0.8", "priority": 8},
        {"dst": "fd77::/32", "priority": 9, "mtu": 1300},
    ]);
    let ranges = json!([[{"subnet": "10.91.0.0/24"}], [{"subnet": "fd91::/64"}]]);
    let bridge = json!({"ipam": {"type": "host-local", "ranges": ranges, "routes": routes}});
    let create = [
        "network",
        "create",
        "-d",
        "macvlan",
        "-o",
        "parent=lan0",
        "--subnet",
        "10.91.0.0/24",
        "--gateway",
        "10.91.0.1",
        "--subnet",
        "fd91::/64",
        "--gateway",
        "fd91::1",
        "lan",
    ];
    host.netctl(&create).success();
    let mut macvlan = config("1.1.0", "lan", bridge.clone());
    macvlan["type"] = json!("netd-macvlan");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    for config in [macvlan, config("1.1.0", "pods", bridge)] {
        if config["name"] == "pods" {
            host.netctl(&["network", "rm", "lan"]).success();
        }
        let result = attachment.run("ADD", &config);
        let shown = |words: &str| web.netns.json(&format!("ip -j {words}"));
        let default = shown("route show default");
        assert_eq!(default[0]["metric"], 50, "{default}");
        assert_eq!(default[0]["gateway"], "10.91.0.1");
        assert_eq!(default[0]["metrics"][0]["mtu"], 1400, "{default}");
        let own = shown("route show table 1000");
        assert_eq!(own[0]["metrics"][0]["advmss"], 1200, "{own}");
        assert_eq!(own[0]["gateway"], "10.91.0.1");
        let near = shown("route show 10.8.0.0/16");
        assert!(near[0]["scope"] == "link" && near[0].get("gateway").is_none(), "{near}");
        let two = shown("route show 10.9.0.0/16");
        let costs: Vec<_> = two.as_array().unwrap().iter().map(|r| &r["metric"]).collect();
        assert_eq!(costs, [7, 8]);
        let six = shown("-6 route show fd77::/32");
        assert!(six[0]["metric"] == 9 && six[0]["metrics"][0]["mtu"] == 1300, "{six}");
        let told = result["routes"].as_array().unwrap();
        let of = |dst: &str| told.iter().find(|route| route["dst"] == dst).unwrap();
        assert_eq!(
            (&of("0.0.0.0/0")["priority"], &of("0.0.0.0/0")["mtu"]),
            (&json!(50), &json!(1400))
        );
        assert_eq!(of("10.7.0.0/16")["table"], 1000);
        assert_eq!(of("10.8.0.0/16")["scope"], 253);

        let mut later = config.clone();
        later["prevResult"] = result;
        attachment.run("CHECK", &later);
        for (line, back) in [
            (
                "ip route change default via 10.91.0.1 metric 50 mtu 1500",
                "ip route change default via 10.91.0.1 metric 50 mtu 1400",
            ),
            (
                "ip route flush table 1000",
                "ip route add 10.7.0.0/16 via 10.91.0.1 advmss 1200 table 1000",
            ),
            (
                "ip route del 10.9.0.0/16 metric 8",
                "ip route add 10.9.0.0/16 via 10.91.0.8 metric 8 dev eth0",
            ),
        ] {
            web.netns.run(line);
            let (code, msg) = attachment.refused("CHECK", &later);
            assert!(code == 112 && msg.contains("no route to"), "{line}: {code} {msg}");
            web.netns.run(back);
            attachment.run("CHECK", &later);
        }
        attachment.run("DEL", &later);
        // An older version has no words for it, and the routes are the same.
        let mut older = config.clone();
        older["cniVersion"] = json!("1.0.0");
        let result = attachment.run("ADD", &older);
        assert!(!result["routes"].to_string().contains("priority"), "{result}");
        assert_eq!(shown("route show default")[0]["metric"], 50);
        attachment.run("DEL", &older);
    }
}

#[test]
fn a_second_networks_default_route_costs_more_than_the_first_ones() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let on = |name: &str, subnet: &str, route: Value| {
        config(
            "1.1.0",
            name,
            json!({"ipam": {"type": "host-local", "subnet": subnet, "routes": [route]}}),
        )
    };
    let detailed = json!({"dst": "0.0.0.0/0", "mtu": 1400});
    attachment.run("ADD", &on("one", "10.91.0.0/24", detailed.clone()));
    attachment.named("eth1").run("ADD", &on("two", "10.92.0.0/24", detailed));
    attachment.named("eth2").run("ADD", &on("three", "10.93.0.0/24", json!({"dst": "0.0.0.0/0"})));
    let routes = web.netns.json("ip -j route show default");
    let costs: Vec<_> = routes.as_array().unwrap().iter().map(|r| r["metric"].as_u64()).collect();
    assert_eq!(costs, [Some(10_000), Some(10_001), Some(10_002)], "{routes}");
}
