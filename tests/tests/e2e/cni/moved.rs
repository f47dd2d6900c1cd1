//! Configurations of the reference's `bridge` whose `type` is changed and nothing else: what is the
//! same afterwards, by what the reference itself does, and what is not.

use std::collections::BTreeSet;

use netd_tests::{Asking as _, Container, Host, World, eventually};
use serde_json::{Value, json};

use super::runtime::{Attachment, config, refusal};

/// What somebody sees who moved: addresses and gateways, the container's routes, what is said of
/// names, the link.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    ips: Vec<(Value, Value)>,
    told: BTreeSet<String>,
    dns: Value,
    routes: BTreeSet<(String, String)>,
    mtu: Value,
    hairpin: Value,
}

impl Seen {
    fn of(host: &Host, container: &Container, result: &Value) -> Self {
        // The reference leaves out what is empty.
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let port = text(&result["interfaces"][1]["name"]);
        let bridge = host.netns.json(&format!("bridge -j -d link show dev {port}"));
        let four = list(&container.netns.json("ip -j route show"));
        let six = list(&container.netns.json("ip -j -6 route show")).into_iter();
        let six = six.filter(|route| {
            let own = text(&route["dst"]);
            !own.starts_with("fe80") && !own.starts_with("ff00") && own != "multicast"
        });
        Self {
            ips: list(&result["ips"])
                .iter()
                .map(|ip| (ip["address"].clone(), ip["gateway"].clone()))
                .collect(),
            told: list(&result["routes"]).iter().map(|route| text(&route["dst"])).collect(),
            dns: result["dns"].clone(),
            routes: four
                .into_iter()
                .chain(six)
                .map(|route| (text(&route["dst"]), route["gateway"].to_string()))
                .collect(),
            mtu: container.netns.json("ip -j link show eth0")[0]["mtu"].clone(),
            hairpin: bridge[0]["hairpin"].clone(),
        }
    }
}

fn subnet(more: Value) -> Value {
    let mut ipam = json!({"type": "host-local", "subnet": "10.61.0.0/24"});
    for (key, value) in more.as_object().unwrap() {
        ipam[key] = value.clone();
    }
    ipam
}

/// Configurations, by what they are about.
fn table() -> Vec<(&'static str, Value)> {
    let everywhere = json!({"routes": [{"dst": "0.0.0.0/0"}]});
    let ranges = |ranges: Value| json!({"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]});
    let with = |key: &str, value: Value| {
        let mut config = json!({"isGateway": true, "ipam": subnet(everywhere.clone())});
        config[key] = value;
        config
    };
    vec![
        ("nothing but addresses", json!({"ipam": subnet(json!({}))})),
        ("isGateway false", with("isGateway", json!(false))),
        ("isGateway true", with("isGateway", json!(true))),
        ("isDefaultGateway", json!({"isDefaultGateway": true, "ipam": subnet(json!({}))})),
        ("forceAddress", with("forceAddress", json!(true))),
        ("ipMasq false", with("ipMasq", json!(false))),
        ("ipMasq true", with("ipMasq", json!(true))),
        ("hairpinMode", with("hairpinMode", json!(true))),
        ("hairpinMode false", with("hairpinMode", json!(false))),
        ("mtu", with("mtu", json!(1400))),
        ("mtu 0", with("mtu", json!(0))),
        ("vlan 0", with("vlan", json!(0))),
        (
            "dns",
            with(
                "dns",
                json!({"nameservers": ["192.0.2.53"], "domain": "example.com",
                    "search": ["a.example.com"], "options": ["ndots:2"]}),
            ),
        ),
        (
            "routes",
            with(
                "ipam",
                subnet(json!({"routes": [
            {"dst": "10.0.0.0/8"}, {"dst": "172.16.0.0/12", "gw": "10.61.0.7"}]})),
            ),
        ),
        (
            "gateway",
            with(
                "ipam",
                subnet(json!({"gateway": "10.61.0.254",
            "routes": [{"dst": "0.0.0.0/0"}]})),
            ),
        ),
        (
            "gateway in ranges",
            with(
                "ipam",
                ranges(json!([[
            {"subnet": "10.61.0.0/24", "rangeStart": "10.61.0.9", "rangeEnd": "10.61.0.12",
             "gateway": "10.61.0.9"}]])),
            ),
        ),
        ("a small range", with("ipam", ranges(json!([[{"subnet": "10.61.0.0/30"}]])))),
        // The reference's bridge takes one gateway of a family, netd's all of them.
        (
            "two range sets",
            json!({"ipam": ranges(json!([
                [{"subnet": "10.61.0.0/24"}],
                [{"subnet": "10.62.0.0/24", "rangeStart": "10.62.0.50"}],
            ]))}),
        ),
        (
            "two ranges in a set",
            json!({"ipam": ranges(json!([[
                {"subnet": "10.61.0.0/30", "rangeStart": "10.61.0.2"},
                {"subnet": "10.62.0.0/24"},
            ]]))}),
        ),
        (
            "both families",
            with(
                "ipam",
                json!({"type": "host-local",
            "ranges": [[{"subnet": "10.61.0.0/24"}], [{"subnet": "fd61::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}),
            ),
        ),
    ]
}

#[test]
fn what_is_moved_looks_the_same() {
    let world = World::new();
    let host = world.host("a");
    let leases = host.run_dir().join("leases").display().to_string();
    for (what, more) in table() {
        let mut config = config("1.0.0", "pods", more);
        config["type"] = json!("bridge");
        config["bridge"] = json!("cni0");
        config["ipam"]["dataDir"] = json!(leases);
        let mut seen = Vec::new();
        for kind in ["bridge", "netd-bridge"] {
            let container = world.container("web");
            let attachment = Attachment::new(&host, world.programs(), &container);
            config["type"] = json!(kind);
            let result = attachment.run("ADD", &config);
            seen.push(Seen::of(&host, &container, &result));
            let mut later = config.clone();
            later["prevResult"] = result;
            // The reference's looks for routes as they are written, without the gateway.
            if kind == "netd-bridge" {
                attachment.run("CHECK", &later);
            }
            attachment.run("DEL", &later);
            if kind == "bridge" {
                host.netns.run("ip link del cni0");
                // It goes on after the last address that it gave.
                std::fs::remove_dir_all(&leases).unwrap();
            } else {
                host.netctl(&["network", "rm", "pods"]).success();
            }
        }
        let (mut ours, theirs) = (seen.pop().unwrap(), &seen[0]);
        // Where nothing is said of names, netd's resolver is.
        if theirs.dns == json!({}) {
            assert!(ours.dns["nameservers"][0].is_string(), "{what}");
            ours.dns = json!({});
        }
        assert_eq!(ours, *theirs, "{what}");
    }
    assert!(host.client().endpoints().is_empty());
}

#[test]
fn what_is_moved_and_different() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip route add default via 192.0.2.2");
    lan.run("ip route add 10.61.0.0/24 via 192.0.2.1");
    lan.serve_udp(9);
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let everywhere = || subnet(json!({"routes": [{"dst": "0.0.0.0/0"}]}));
    let on = |more: Value, see: &dyn Fn(&Value)| {
        let config = config("1.0.0", "pods", more);
        let result = attachment.run("ADD", &config);
        see(&result);
        attachment.run("DEL", &config);
        eventually("it is gone", || {
            let links = web.netns.json("ip -j link");
            if links.as_array().unwrap().len() == 1 { Ok(()) } else { Err(links) }
        });
        host.netctl(&["network", "rm", "pods"]).success();
    };
    // The reference leaves the gateway to somebody else; netd's bridge has it in any case.
    on(json!({"isGateway": false, "ipam": everywhere()}), &|_| {
        assert!(web.netns.pings("10.61.0.1".parse().unwrap()));
    });
    // Promiscuous, the reference's bridge lets frames turn back; ours turns them back by itself.
    on(json!({"promiscMode": true, "ipam": everywhere()}), &|result| {
        let port = result["interfaces"][1]["name"].as_str().unwrap();
        let port = host.netns.json(&format!("bridge -j -d link show dev {port}"));
        assert_eq!(port[0]["hairpin"], true);
    });
    // Masquerading is the network's.
    for (asked, seen) in [(false, "10.61.0.2"), (true, "192.0.2.1")] {
        on(json!({"ipMasq": asked, "ipam": everywhere()}), &|_| {
            let at = "192.0.2.2:9".parse().unwrap();
            assert_eq!(web.netns.ask_udp(at).unwrap().to_string(), seen, "ipMasq {asked}");
        });
    }
    // Subnets of two addresses have room for a gateway and a container, which the reference refuses.
    let two = json!({"isGateway": true, "ipam": {"type": "host-local", "subnet": "10.61.0.0/31"}});
    on(two, &|result| {
        assert_eq!(result["ips"][0]["address"], "10.61.0.1/31");
        assert_eq!(result["ips"][0]["gateway"], "10.61.0.0");
        assert!(web.netns.pings("10.61.0.0".parse().unwrap()));
    });
}

#[test]
fn what_cannot_be_moved_says_so() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let before = host.snapshot();
    for (key, value, code, said) in [
        (
            "vlan",
            json!(100),
            2,
            "vlan 100 is not supported: the bridge has no VLANs; make a network",
        ),
        ("vlanTrunk", json!([{"id": 100}]), 2, "vlanTrunk"),
        ("preserveDefaultVlan", json!(true), 2, "preserveDefaultVlan"),
        ("macspoofchk", json!(true), 2, "macspoofchk"),
        ("portIsolation", json!(true), 2, "portIsolation"),
        ("disableContainerInterface", json!(true), 2, "disableContainerInterface"),
        ("ipam", json!({"type": "host-local", "subnet": "10.61.0.0/32"}), 7, "10.61.0.0/32"),
        ("isGateway", json!("yes"), 7, "isGateway"),
        ("hairpinMode", json!(1), 7, "hairpinMode"),
        ("mtu", json!(70_000), 7, "mtu"),
        ("dns", json!({"nameservers": "192.0.2.53"}), 7, "dns.nameservers"),
    ] {
        let mut config = config("1.0.0", "pods", json!({"ipam": subnet(json!({}))}));
        config[key] = value;
        let executed = attachment.execute("ADD", "netd-bridge", &config);
        let (got, msg) = refusal(&executed);
        assert!(got == code && msg.contains(said), "{key}: {got} {msg}");
        assert_eq!(web.netns.json("ip -j link").as_array().unwrap().len(), 1, "{key}");
        host.netctl(&["network", "rm", "-f", "pods"]);
    }
    eventually("all is as before", || host.snapshot().same_as(&before));
}

#[test]
fn a_limit_of_a_runtime_is_kept_to_and_checked() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    // As containerd writes it, which knows no bursts.
    let mut config = config("0.4.0", "pods", json!({"ipam": subnet(json!({}))}));
    config["runtimeConfig"] = json!({"bandwidth": {
        "IngressRate": 10_000_000, "IngressBurst": 4_294_967_295_u64,
        "EgressRate": 5_000_000, "EgressBurst": 4_294_967_295_u64}});
    let result = attachment.run("ADD", &config);
    let end = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
    let rate = |link: &str| {
        let queues = host.netns.json(&format!("tc -j qdisc show dev {link}"));
        let bucket = queues.as_array().unwrap().iter().find(|q| q["kind"] == "tbf").cloned();
        bucket.unwrap_or_else(|| panic!("{link}: {queues}"))["options"].clone()
    };
    let detour = end.replacen("nd", "nq", 1);
    assert_eq!((&rate(&end)["rate"], &rate(&detour)["rate"]), (&json!(1_250_000), &json!(625_000)));
    assert!(rate(&end)["burst"].as_u64().unwrap() < 100_000, "a burst of 512 MB is no limit");
    let mut later = config.clone();
    later["prevResult"] = result;
    attachment.run("CHECK", &later);
    host.netns.run(&format!("tc qdisc del dev {end} root"));
    let (code, msg) = attachment.refused("CHECK", &later);
    assert!(code == 112 && msg.contains("not limited to 10mbit"), "{code} {msg}");
    attachment.run("DEL", &later);
    eventually("nothing of it is left", || {
        let links = host.netns.run("ip -br link");
        if links.contains(&detour) || links.contains(&end) { Err(links) } else { Ok(()) }
    });
    // What a driver cannot do it does not pretend to do.
    let none = json!({"cniVersion": "1.0.0", "name": "none", "type": "netd-none",
        "runtimeConfig": config["runtimeConfig"]});
    let (code, msg) = attachment.refused("ADD", &none);
    assert!(code == 108 && msg.contains("bandwidth"), "{code} {msg}");
    let wrong = json!({"bandwidth": {"ingressRate": 3}});
    config["runtimeConfig"] = wrong;
    let (code, msg) = attachment.refused("ADD", &config);
    assert!(code == 7 && msg.contains("runtimeConfig.bandwidth.ingressRate"), "{code} {msg}");
    assert!(host.client().endpoints().is_empty());
}
