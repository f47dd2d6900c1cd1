//! netd's plugin between others: the reference's before and after it, and another one that gives
//! the addresses.

use std::fs;

use netd_tests::{Asking as _, World};
use serde_json::{Value, json};

use super::runtime::{Attachment, REFERENCE, config, refusal};

fn block(subnet: &str) -> Value {
    json!({
        "type": "netd-bridge",
        "isGateway": true,
        "ipMasq": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    })
}

#[test]
fn the_references_after_ours() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let list = json!({"cniVersion": "0.4.0", "name": "pods", "plugins": [
        block("10.91.0.0/24"),
        {"type": "portmap", "runtimeConfig": {"portMappings": mappings}},
        {"type": "firewall"},
        {"type": "tuning", "mac": "02:00:00:00:00:42", "sysctl": {"net.core.somaxconn": "500"}},
        {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000},
    ]});
    let result = attachment.add_list(&list);
    assert_eq!(result["ips"][0]["address"], "10.91.0.2/24");
    let link = web.netns.json("ip -j link show eth0");
    assert_eq!(link[0]["address"], "02:00:00:00:00:42", "tuning has changed it");
    let at = "192.0.2.1:8080".parse().unwrap();
    web.netns.serve_tcp(80);
    lan.ask_tcp(at).expect("through portmap's own rules");
    attachment.check_list(&list, &result);
    attachment.del_list(&list, &result);
    attachment.del_list(&list, &result);
    assert!(host.client().endpoints().is_empty());
}

#[test]
fn the_references_before_ours() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let tuning = json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "501"}});
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let list = json!({"cniVersion": version, "name": "pods", "plugins": [
            {"type": "loopback"},
            tuning,
            block("10.91.0.0/24"),
        ]});
        let result = attachment.add_list(&list);
        let interfaces = result["interfaces"].as_array().unwrap();
        assert_eq!(interfaces[0]["name"], "lo", "{result}");
        let own = interfaces.iter().position(|link| link["name"] == "eth0").unwrap();
        let ips = result["ips"].as_array().unwrap();
        assert_eq!(ips.last().unwrap()["interface"], own);
        assert_eq!(ips[0]["address"], "127.0.0.1/8");
        if version != "0.3.1" {
            attachment.check_list(&list, &result);
        }
        attachment.del_list(&list, &result);
        assert!(host.client().endpoints().is_empty());
    }
}

#[test]
fn an_empty_result_of_others_is_none() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    for previous in [Value::Null, json!({}), json!({"cniVersion": "1.0.0"})] {
        let mut config = config("1.0.0", "pods", block("10.91.0.0/24"));
        config["prevResult"] = previous;
        let result = attachment.run("ADD", &config);
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
        for previous in [json!({}), Value::Null, json!("junk"), json!({"ips": 3})] {
            config["prevResult"] = previous;
            attachment.run("DEL", &config);
        }
        assert!(host.client().endpoints().is_empty());
    }
}

#[test]
fn another_gives_the_addresses() {
    let world = World::new();
    let host = world.host("a");
    let (web, db) = (world.container("web"), world.container("db"));
    let plugins = host.run_dir().join("cni");
    fs::create_dir_all(&plugins).unwrap();
    fs::copy(format!("{REFERENCE}/host-local"), plugins.join("acme")).unwrap();
    let mut attachment = Attachment::new(&host, world.programs(), &web);
    attachment.path += &format!(":{}", plugins.display());
    let leases = plugins.join("leases");
    let taken = || {
        let files = fs::read_dir(leases.join("pods")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("10.")).collect::<Vec<_>>()
    };
    let config = config(
        "1.0.0",
        "pods",
        json!({"isGateway": true, "ipam": {
            "type": "acme",
            "ranges": [[{"subnet": "10.92.0.0/24", "rangeStart": "10.92.0.40"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8"}],
            "dataDir": leases.display().to_string(),
        }}),
    );
    let result = attachment.run("ADD", &config);
    assert_eq!(result["ips"][0]["address"], "10.92.0.40/24");
    assert_eq!(result["ips"][0]["gateway"], "10.92.0.1");
    assert!(host.netns.pings("10.92.0.40".parse().unwrap()));
    let routes = web.netns.run("ip route");
    assert!(
        routes.contains("default via 10.92.0.1") && routes.contains("10.0.0.0/8 via 10.92.0.1")
    );
    assert_eq!(taken(), ["10.92.0.40"]);
    let mut later = config.clone();
    later["prevResult"] = result;
    attachment.run("CHECK", &later);
    // netd keeps the address for itself from nobody else's container.
    let mut attach = db.to("pods");
    attach.addresses = vec!["10.92.0.40".parse().unwrap()];
    assert!(host.client().call(&attach).is_err());

    // What fails after it takes its address back.
    let mut other = Attachment::new(&host, world.programs(), &db);
    other.path.clone_from(&attachment.path);
    db.netns.run("ip link add eth0 type veth peer name eth1");
    assert_eq!(other.refused("ADD", &config).0, 104);
    assert_eq!(taken(), ["10.92.0.40"]);
    assert!(db.netns.run("ip link show eth0").contains("eth0"), "the other's is left alone");

    attachment.run("DEL", &later);
    attachment.run("DEL", &later);
    assert_eq!(taken(), [""; 0]);
    assert!(host.client().endpoints().is_empty());
    assert_eq!(host.client().pools().iter().map(|pool| pool.leased).sum::<u64>(), 0);

    let mut missing = config.clone();
    missing["ipam"]["type"] = json!("nobody");
    let (code, msg) = attachment.refused("ADD", &missing);
    assert!(code == 7 && msg.contains("nobody"), "{code} {msg}");
    missing["ipam"]["type"] = json!("../acme");
    assert_eq!(attachment.refused("ADD", &missing).0, 7);
}

#[test]
fn another_that_fails_is_quoted() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let plugins = host.run_dir().join("cni");
    fs::create_dir_all(&plugins).unwrap();
    let attachment = Attachment {
        path: format!("{}:{}", plugins.display(), world.programs().display()),
        ..Attachment::new(&host, world.programs(), &web)
    };
    let config = config("1.1.0", "pods", json!({"ipam": {"type": "acme"}}));
    for (script, code, said) in [
        ("echo '{\"code\": 11, \"msg\": \"later\"}'; exit 1", 11, "acme: later"),
        ("echo oh no >&2; exit 3", 113, "oh no"),
        ("echo nonsense", 113, "not understood"),
        ("echo '{\"cniVersion\": \"1.1.0\", \"ips\": []}'", 113, "no address"),
    ] {
        let program = plugins.join("acme");
        fs::write(&program, format!("#!/bin/sh\ncat >/dev/null\n{script}\n")).unwrap();
        netd_tests::run(&format!("chmod 755 {}", program.display()));
        let executed = attachment.execute("ADD", "netd-bridge", &config);
        let (got, msg) = refusal(&executed);
        assert!(got == code && msg.contains(said), "{got} {msg}");
    }
    assert!(host.client().endpoints().is_empty());
}
