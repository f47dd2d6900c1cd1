//! Every error, by its number, and nothing left of what was refused.

use std::fs::File;

use netd_tests::{Asking as _, World};
use serde_json::{Value, json};

use super::runtime::{Attachment, config, host_local, refusal};

#[test]
fn a_configuration_is_refused_by_number() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let before = host.snapshot();
    let good = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let with = |path: &str, value: Value| {
        let mut config = good.clone();
        *config.pointer_mut(path).unwrap() = value;
        config
    };
    let add = |key: &str, value: Value| {
        let mut config = good.clone();
        config[key] = value;
        config
    };
    for (config, code, said) in [
        (add("cniVersion", json!("9.9.9")), 1, "9.9.9"),
        (add("vlan", json!(7)), 2, "vlan 7"),
        (add("macspoofchk", json!(true)), 2, "macspoofchk true"),
        (add("portIsolation", json!(true)), 2, "portIsolation true"),
        (add("name", Value::Null), 7, "name"),
        (add("name", json!("a/b")), 7, "a/b"),
        (add("mtu", json!("big")), 7, "mtu"),
        (add("mtu", json!(5)), 7, "mtu"),
        (add("bridge", json!("a b")), 7, "a b"),
        (with("/ipam/ranges/0/0/subnet", json!("10.91.0.0/99")), 7, "ipam.ranges[0][0].subnet"),
        (
            with("/ipam/ranges/0/0/subnet", json!("10.91.0.0/99")),
            7,
            "\"99\" should be from 0 to 32",
        ),
        (
            add("ipam", json!({"type": "host-local", "subnet": "10.300.0.0/24"})),
            7,
            "invalid ipam.subnet \"10.300.0.0/24\": \"10.300.0.0\" is no IP address",
        ),
        (add("ipam", json!({"type": "host-local"})), 7, "ranges"),
        (add("ipam", json!({"type": "nobody"})), 7, "nobody"),
        (
            add(
                "ipam",
                json!({"type": "host-local", "ranges": [
                [{"subnet": "10.91.0.0/16"}], [{"subnet": "10.91.7.0/24"}]]}),
            ),
            2,
            "10.91.7.0/24",
        ),
        (with("/ipam/routes/0", json!({"dst": "10.0.0.0/8", "scope": 256})), 7, "scope"),
        (with("/ipam/routes/0", json!({"dst": "10.0.0.0/8", "gw": "10.99.0.1"})), 7, "10.99.0.1"),
        (with("/ipam/routes/0", json!({"dst": "10.0.0.0/8", "gw": "fd00::1"})), 7, "other family"),
        (with("/ipam/routes/0", json!({"dst": "10.0.0.0/8", "gw": "10.91.0.0"})), 7, "10.91.0.0"),
        (
            add(
                "runtimeConfig",
                json!({"portMappings": [{"hostPort": 70000, "containerPort": 1}]}),
            ),
            7,
            "hostPort",
        ),
        (
            add(
                "runtimeConfig",
                json!({"portMappings": [
                {"hostPort": 7, "containerPort": 1, "protocol": "icmp"}]}),
            ),
            7,
            "icmp",
        ),
        (add("runtimeConfig", json!({"mac": "hello"})), 7, "runtimeConfig.mac"),
        (add("runtimeConfig", json!({"ips": ["10.99.0.1"]})), 7, "10.99.0.1"),
        (add("prevResult", json!({"ips": [{"address": "x"}]})), 7, "prevResult.ips[0].address"),
    ] {
        let (got, msg) = attachment.refused("ADD", &config);
        assert!(got == code && msg.contains(said), "{code} {said}: {got} {msg}");
        assert!(host.client().endpoints().is_empty(), "{said}");
        host.netctl(&["network", "rm", "-f", "pods"]);
    }
    let (code, _) = attachment.refused("CHECK", &add("cniVersion", json!("0.3.1")));
    assert_eq!(code, 1);
    for verb in ["GC", "STATUS"] {
        assert_eq!(attachment.refused(verb, &good).0, 1, "{verb}");
    }
    for text in ["", "{", "[]", "null", "\u{0}"] {
        let mut child = attachment.command("ADD", "netd-bridge").spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        drop(std::io::Write::write_all(&mut stdin, text.as_bytes()));
        drop(stdin);
        let executed = child.wait_with_output().unwrap().into();
        assert_eq!(refusal(&executed).0, 6, "{text:?}");
    }
    let mut command = attachment.command("ADD", "netd-bridge");
    command.stdin(File::open("/").unwrap());
    assert_eq!(refusal(&command.output().unwrap().into()).0, 5);
    assert!(web.netns.json("ip -j link").as_array().unwrap().len() == 1);
    netd_tests::eventually("all is as before", || {
        (host.snapshot() == before).then_some(()).ok_or("it is not")
    });
}

#[test]
fn an_environment_is_refused_by_number() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let good = config("1.0.0", "pods", json!({}));
    let at = |netns: &str| Attachment { netns: netns.into(), ..attachment.clone() };
    assert_eq!(attachment.named("a/b").refused("ADD", &good).0, 4);
    assert_eq!(attachment.named("").refused("ADD", &good).0, 4);
    assert_eq!(attachment.refused("UPDATE", &good).0, 4);
    assert_eq!(at("").refused("ADD", &good).0, 4);
    let loopback = Attachment { ifname: "lo".into(), ..attachment.clone() };
    let (code, msg) = loopback.refused("ADD", &good);
    assert!(code == 4 && msg.contains("CNI_IFNAME lo"), "{code} {msg}");
    for (netns, said) in [
        ("/run/netns/nobody", "/run/netns/nobody"),
        ("/etc/passwd", "no network namespace"),
        (&host.netns.path(), "host's own"),
    ] {
        let (code, msg) = at(netns).refused("ADD", &good);
        assert!(code == 8 && msg.contains(said), "{code} {msg}");
    }
    let networks = host.netctl(&["network", "ls"]);
    assert!(!networks.success().contains("pods"), "nothing was begun: {networks:?}");
}

#[test]
fn a_refusal_is_in_the_version_of_the_configuration() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let answered = |verb: &str, config: &Value| {
        let executed = attachment.execute(verb, "netd-bridge", config);
        refusal(&executed);
        let said: Value = serde_json::from_str(&executed.stdout).unwrap();
        said["cniVersion"].as_str().unwrap().to_owned()
    };
    for version in ["0.1.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let good = config(version, "pods", json!({}));
        let mut nameless = good.clone();
        nameless["name"] = json!("a/b");
        assert_eq!(answered("ADD", &nameless), version, "before anything else of it is known");
        assert_eq!(answered("UPDATE", &good), version, "and where the environment is wrong");
    }
    assert_eq!(
        answered("ADD", &config("9.9.9", "pods", json!({}))),
        "1.1.0",
        "the newest there is"
    );
}

#[test]
fn what_is_taken_and_what_is_left() {
    let world = World::new();
    let host = world.host("a");
    let (web, db, more) = (world.container("web"), world.container("db"), world.container("more"));
    let attachment = Attachment::new(&host, world.programs(), &web);
    // A gateway and two more.
    let good = config("1.1.0", "pods", host_local("10.91.0.0/30"));
    let tiny = config(
        "1.1.0",
        "pods",
        json!({"ipam": {"type": "host-local", "ranges": [[
        {"subnet": "10.91.0.0/29", "rangeStart": "10.91.0.2", "rangeEnd": "10.91.0.3"}]]}}),
    );
    attachment.run("STATUS", &good);
    attachment.run("ADD", &tiny);
    assert_eq!(attachment.refused("ADD", &tiny).0, 104, "again");
    assert!(web.netns.run("ip link show eth0").contains("UP"), "and the first is undisturbed");
    attachment.run("STATUS", &tiny);
    let second = Attachment::new(&host, world.programs(), &db);
    second.run("ADD", &tiny);
    let (code, msg) = attachment.refused("STATUS", &tiny);
    assert!(code == 50 && msg.contains("10.91.0.0/29"), "{code} {msg}");
    let third = Attachment::new(&host, world.programs(), &more);
    assert_eq!(third.refused("ADD", &tiny).0, 105);
    assert_eq!(more.netns.json("ip -j link").as_array().unwrap().len(), 1);
    second.run("DEL", &tiny);
    attachment.run("STATUS", &tiny);
    third.run("ADD", &tiny);
}

#[test]
fn a_port_that_is_taken_names_its_holder() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let (web, db) = (world.container("web"), world.container("db"));
    let mapped = |port: u16| {
        let mappings = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
        config("1.0.0", "pods", json!({"runtimeConfig": {"portMappings": mappings}}))
    };
    let mut first = Attachment::new(&host, world.programs(), &web);
    first.args = "K8S_POD_NAME=web".into();
    first.run("ADD", &mapped(8080));
    let second = Attachment::new(&host, world.programs(), &db);
    let (code, msg) = second.refused("ADD", &mapped(8080));
    assert!(code == 104 && msg.contains("web") && msg.contains("8080"), "{code} {msg}");
    assert_eq!(db.netns.json("ip -j link").as_array().unwrap().len(), 1);
    web.netns.serve_tcp(80);
    lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).expect("it is still the first's");
    host.netns.serve_tcp(8082);
    assert_eq!(second.refused("ADD", &mapped(8082)).0, 104, "a process of the host has it");
}

#[test]
fn nobody_there() {
    let world = World::new();
    let mut host = world.host("a");
    host.stop();
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let good = config("1.1.0", "pods", host_local("10.91.0.0/24"));
    assert_eq!(attachment.refused("ADD", &good).0, 11);
    assert_eq!(attachment.refused("STATUS", &good).0, 51);
    let mut gc = good.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    assert_eq!(attachment.refused("GC", &gc).0, 11);
    attachment.run("DEL", &good);
}
