//! What the reference plugins are known to get wrong and no other test here is about.

use std::{fs, os::unix::fs::PermissionsExt as _};

use netd_tests::{Asking as _, World, eventually};
use serde_json::{Value, json};

use super::runtime::{Attachment, config, host_local, refusal};

fn published(port: u16) -> Value {
    let mappings = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
    let mut more = host_local("10.91.0.0/24");
    more["runtimeConfig"] = json!({"portMappings": mappings});
    config("1.0.0", "pods", more)
}

/// `firewall` knows containers by address alone, so that a DEL that comes late closes the next
/// owner's way.
#[test]
fn a_late_del_takes_nothing_of_the_next_owner() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let (mut old, new) = (world.container("old"), world.container("new"));
    let mut config = published(8080);
    config["runtimeConfig"]["ips"] = json!(["10.91.0.9"]);
    let first = Attachment::new(&host, world.programs(), &old);
    let mut late = config.clone();
    late["prevResult"] = first.run("ADD", &config);
    old.netns.kill();
    eventually("netd has noticed", || {
        let endpoints = host.client().endpoints();
        endpoints.is_empty().then_some(()).ok_or(endpoints)
    });
    let second = Attachment::new(&host, world.programs(), &new);
    let mut later = config.clone();
    later["prevResult"] = second.run("ADD", &config);
    new.netns.serve_tcp(80);
    first.run("DEL", &late);
    first.run("DEL", &late);
    second.run("CHECK", &later);
    assert!(host.netns.pings("10.91.0.9".parse().unwrap()));
    lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).expect("it is the new one's");
}

/// `host-local` gives a second address to who asks for one by itself.
#[test]
fn an_interface_has_one_address_whatever_is_asked() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let mut config = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    attachment.run("ADD", &config);
    config["runtimeConfig"] = json!({"ips": ["10.91.0.77"]});
    let (code, msg) = attachment.refused("ADD", &config);
    assert!(code == 104 && msg.contains("eth0"), "{code} {msg}");
    assert_eq!(host.client().pools().iter().map(|pool| pool.leased).sum::<u64>(), 1);
    assert!(!web.netns.run("ip address show eth0").contains("10.91.0.77"));
}

/// `bandwidth` knows its links by container alone, `portmap` its rules.
#[test]
fn two_interfaces_are_limited_by_themselves() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let (one, two) = (
        Attachment::new(&host, world.programs(), &web),
        Attachment::new(&host, world.programs(), &web).named("eth1"),
    );
    let rates = json!({"bandwidth": {"ingressRate": 10_000_000, "egressRate": 10_000_000}});
    let limited = |name: &str, subnet: &str| {
        let mut more = host_local(subnet);
        more["runtimeConfig"] = rates.clone();
        config("1.0.0", name, more)
    };
    let (pods, other) = (limited("pods", "10.91.0.0/24"), limited("other", "10.92.0.0/24"));
    let mut later = pods.clone();
    later["prevResult"] = one.run("ADD", &pods);
    for config in [&pods, &other] {
        two.run("ADD", config);
        two.run("DEL", config);
        one.run("CHECK", &later);
        eventually("its limits are gone", || {
            let detours = host.snapshot().lines("link nq").count();
            (detours == 1).then_some(()).ok_or(detours)
        });
        one.run("CHECK", &later);
    }
}

/// An empty `hostIP` means both families, `0.0.0.0` and `::` one each.
#[test]
fn a_host_address_tells_the_family() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let web = world.container("web");
    web.netns.serve_tcp(80);
    let attachment = Attachment::new(&host, world.programs(), &web);
    let ranges = json!([[{"subnet": "10.91.0.0/24"}], [{"subnet": "fd91::/64"}]]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    for (address, four, six) in [
        (json!(""), true, true),
        (Value::Null, true, true),
        (json!("0.0.0.0"), true, false),
        (json!("::"), false, true),
    ] {
        let mappings = json!([{"hostPort": 8080, "containerPort": 80, "hostIP": address}]);
        let config = config(
            "1.0.0",
            "pods",
            json!({
                "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
                "runtimeConfig": {"portMappings": mappings},
            }),
        );
        attachment.run("ADD", &config);
        for (at, reached) in [("192.0.2.1:8080", four), ("[2001:db8::1]:8080", six)] {
            let at = at.parse().unwrap();
            if reached {
                lan.ask_tcp(at).unwrap_or_else(|error| panic!("{address} {at}: {error}"));
            } else {
                lan.try_tcp(at).expect_err("it is of the other family");
            }
        }
        attachment.run("DEL", &config);
    }
}

/// `macvlan` leaves its link in the container when there is no address, and passes over what its
/// IPAM plugin says of names.
#[test]
fn a_macvlan_that_failed_leaves_nothing() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let plugins = host.run_dir().join("cni");
    fs::create_dir_all(&plugins).unwrap();
    let acme = |script: &str| {
        let program = plugins.join("acme");
        fs::write(&program, format!("#!/bin/sh\ncat >/dev/null\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    host.netctl(&[
        "network",
        "create",
        "-d",
        "macvlan",
        "-o",
        "parent=lan0",
        "--subnet",
        "192.0.2.0/24",
        "--ip-range",
        "192.0.2.64/32",
        "lan",
    ])
    .success();
    let (web, db) = (world.container("web"), world.container("db"));
    let at = |container| Attachment {
        path: plugins.display().to_string(),
        ..Attachment::new(&host, world.programs(), container)
    };
    let execute = |attachment: &Attachment<'_>, verb: &str, config: &Value| {
        let here =
            Attachment { path: world.programs().display().to_string(), ..attachment.clone() };
        let mut command = here.command(verb, "netd-macvlan");
        command.env("CNI_PATH", &attachment.path);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, config.to_string().as_bytes()).unwrap();
        drop(stdin);
        netd_tests::Executed::from(child.wait_with_output().unwrap())
    };
    let of = |ipam: Value| json!({"cniVersion": "1.0.0", "name": "lan", "type": "netd-macvlan", "ipam": ipam});
    let links = |container: &netd_tests::Container| {
        container.netns.json("ip -j link").as_array().unwrap().len()
    };
    let (own, foreign) = (of(json!({"type": "netd"})), of(json!({"type": "acme"})));
    let result = execute(&at(&web), "ADD", &own);
    let result: Value = serde_json::from_str(result.success()).unwrap();
    assert_eq!(result["ips"][0]["interface"], 0, "which is not the same as none: {result}");
    assert_eq!(refusal(&execute(&at(&db), "ADD", &own)).0, 105);
    assert_eq!(links(&db), 1);
    for script in ["echo '{\"code\": 11, \"msg\": \"later\"}'; exit 1", "echo nonsense"] {
        acme(script);
        refusal(&execute(&at(&db), "ADD", &foreign));
        assert_eq!(links(&db), 1, "{script}");
    }
    acme(
        "test $CNI_COMMAND != ADD || echo '{\"cniVersion\": \"1.0.0\",
            \"ips\": [{\"address\": \"192.0.2.80/24\"}], \"dns\": {\"nameservers\": [\"192.0.2.53\"]}}'",
    );
    let result = execute(&at(&db), "ADD", &foreign);
    let result: Value = serde_json::from_str(result.success()).unwrap();
    assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53"]));
    assert_eq!(result["ips"][0]["address"], "192.0.2.80/24");
}

/// The specification has `CNI_PATH` optional; only who asks another plugin needs it.
#[test]
fn a_path_is_needed_for_others_alone() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let execute = |verb: &str, config: &Value| {
        let mut command = attachment.command(verb, "netd-bridge");
        command.env_remove("CNI_PATH");
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, config.to_string().as_bytes()).unwrap();
        drop(stdin);
        netd_tests::Executed::from(child.wait_with_output().unwrap())
    };
    let mut config = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let result = execute("ADD", &config);
    config["prevResult"] = serde_json::from_str(result.success()).unwrap();
    execute("CHECK", &config).success();
    execute("DEL", &config).success();
    config["ipam"] = json!({"type": "acme"});
    let (code, msg) = refusal(&execute("ADD", &config));
    assert!(code == 4 && msg.contains("CNI_PATH"), "{code} {msg}");
    execute("DEL", &config).success();
    assert!(host.client().endpoints().is_empty());
}
