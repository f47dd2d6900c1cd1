//! What each verb does when all is well.

use netd_tests::{Asking as _, World};
use serde_json::{Value, json};

use super::runtime::{Attachment, config, host_local};

fn moved(version: &str) -> Value {
    let more = json!({"isGateway": true, "ipMasq": true, "bridge": "cni0"});
    let mut config = config(version, "pods", host_local("10.91.0.0/24"));
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn an_attachment_comes_and_goes_in_every_version() {
    let world = World::new();
    let host = world.host("a");
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let web = world.container("web");
        let attachment = Attachment::new(&host, world.programs(), &web);
        let config = moved(version);
        let result = attachment.run("ADD", &config);
        assert_eq!(result["cniVersion"], version);
        let addresses = web.netns.json("ip -j address show eth0");
        let local = addresses[0]["addr_info"][0]["local"].as_str().unwrap();
        let written = match version {
            "0.1.0" | "0.2.0" => {
                assert_eq!(result["ip4"]["gateway"], "10.91.0.1");
                assert_eq!(
                    result["ip4"]["routes"],
                    json!([{"dst": "0.0.0.0/0", "gw": "10.91.0.1"}])
                );
                result["ip4"]["ip"].clone()
            }
            _ => {
                let interfaces = result["interfaces"].as_array().unwrap();
                assert_eq!(interfaces.len(), 3, "bridge, host end, container's end");
                assert_eq!(interfaces[0]["name"], "cni0");
                assert_eq!(interfaces[2]["name"], "eth0");
                assert_eq!(interfaces[2]["sandbox"], web.netns.path());
                assert_eq!(interfaces[2]["mac"], addresses[0]["address"]);
                let has_mtu = interfaces[2].get("mtu").is_some();
                assert_eq!(has_mtu, version == "1.1.0", "{version}");
                assert_eq!(result["ips"][0]["interface"], 2);
                let has_family = result["ips"][0].get("version").is_some();
                assert_eq!(has_family, version < "1.0.0", "{version}");
                assert_eq!(result["ips"][0]["gateway"], "10.91.0.1");
                result["ips"][0]["address"].clone()
            }
        };
        assert_eq!(written, format!("{local}/24"));
        assert!(host.netns.pings(local.parse().unwrap()));
        let mut later = config.clone();
        later["prevResult"] = result;
        if version >= "0.4.0" {
            assert_eq!(attachment.run("CHECK", &later), Value::Null);
        }
        assert_eq!(attachment.run("DEL", &later), Value::Null);
        assert_eq!(attachment.run("DEL", &later), Value::Null, "again");
        assert!(host.client().endpoints().is_empty());
    }
}

#[test]
fn a_version_is_said_without_a_configuration() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let mut attachment = Attachment::new(&host, world.programs(), &web);
    for ended in ["", "dummy"] {
        attachment.netns = ended.into();
        attachment.ifname = ended.into();
        let executed = attachment.execute("VERSION", "netd-bridge", &Value::Null);
        let versions: Value = serde_json::from_str(executed.success()).unwrap();
        assert_eq!(versions["cniVersion"], "1.1.0");
        assert_eq!(versions["supportedVersions"].as_array().unwrap().len(), 7);
        let asked = attachment.run("VERSION", &json!({"cniVersion": "0.4.0", "type": "netd-none"}));
        assert_eq!(asked["cniVersion"], "0.4.0");
    }
}

#[test]
fn a_check_sees_what_is_inside() {
    let world = World::new();
    let host = world.host("a");
    let config = moved("1.0.0");
    for (line, what) in [
        ("ip link set eth0 down", "is down"),
        ("ip address flush dev eth0", "does not have 10.91.0."),
        ("ip route del default", "default route"),
        ("ip link set eth0 address 02:00:00:00:00:99", "have the address"),
        ("ip link del eth0", "has no eth0"),
    ] {
        let web = world.container("web");
        let attachment = Attachment::new(&host, world.programs(), &web);
        let mut later = config.clone();
        later["prevResult"] = attachment.run("ADD", &config);
        attachment.run("CHECK", &later);
        // What others add is theirs.
        web.netns.run("ip address add 10.99.0.1/24 dev eth0");
        web.netns.run("ip route add 10.98.0.0/24 dev eth0");
        attachment.run("CHECK", &later);
        web.netns.run(line);
        let (code, msg) = attachment.refused("CHECK", &later);
        assert_eq!(code, 112, "{msg}");
        assert!(msg.contains(what), "{line}: {msg}");
        attachment.run("DEL", &later);
    }
}

#[test]
fn a_check_compares_with_what_was_answered() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let config = moved("1.0.0");
    let result = attachment.run("ADD", &config);
    let check = |previous: &Value| {
        let mut later = config.clone();
        later["prevResult"] = previous.clone();
        attachment.refused("CHECK", &later)
    };
    let mut other = result.clone();
    other["ips"][0]["address"] = json!("10.91.0.77/24");
    let (code, msg) = check(&other);
    assert!(code == 112 && msg.contains("prevResult"), "{code} {msg}");
    let mut other = result.clone();
    other["interfaces"].as_array_mut().unwrap().pop();
    assert_eq!(check(&other).0, 112);
    for empty in [Value::Null, json!({})] {
        assert_eq!(check(&empty).0, 7);
    }
    attachment.run("DEL", &config);
    assert_eq!(check(&result).0, 103, "it is not there any more");
}

#[test]
fn the_loopback_needs_no_daemon() {
    let world = World::new();
    let mut host = world.host("a");
    host.stop();
    let web = world.container("web");
    let directory = host.run_dir().join("bin");
    std::fs::create_dir_all(&directory).unwrap();
    for name in ["loopback", "netd-loopback"] {
        std::fs::copy(world.programs().join("netd-none"), directory.join(name)).unwrap();
    }
    let mut attachment = Attachment::new(&host, world.programs(), &web).named("lo");
    attachment.path = directory.display().to_string();
    for kind in ["loopback", "netd-loopback"] {
        let config = json!({"cniVersion": "0.4.0", "name": "cni-loopback", "type": kind});
        let result = attachment.run("ADD", &config);
        assert_eq!(result["interfaces"][0]["name"], "lo");
        assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
        let lo = web.netns.json("ip -j link show lo");
        assert!(lo[0]["flags"].as_array().unwrap().contains(&json!("UP")));
        attachment.run("CHECK", &config);
        web.netns.run("ip link set lo down");
        assert_eq!(attachment.refused("CHECK", &config).0, 112);
        attachment.run("DEL", &config);
        let config = json!({"cniVersion": "1.1.0", "name": "cni-loopback", "type": kind});
        attachment.run("STATUS", &config);
        attachment.run("GC", &config);
    }
}

#[test]
fn networks_without_an_interface_of_their_own() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let none = json!({"cniVersion": "1.0.0", "name": "none", "type": "netd-none"});
    let result = attachment.run("ADD", &none);
    assert_eq!(result["interfaces"][0]["name"], "lo");
    let mut later = none.clone();
    later["prevResult"] = result;
    attachment.run("CHECK", &later);
    attachment.run("DEL", &later);
    assert!(host.client().endpoints().is_empty());
    let mut old = none;
    old["cniVersion"] = json!("0.2.0");
    assert_eq!(attachment.refused("ADD", &old).0, 2, "it has no word for no address");
    assert!(host.client().endpoints().is_empty());

    let daemon = json!({"cniVersion": "1.0.0", "name": "host", "type": "netd-host"});
    assert_eq!(attachment.refused("ADD", &daemon).0, 7, "it is not the host's namespace");
    let mut attachment = attachment;
    attachment.netns = host.netns.path();
    let mut later = daemon.clone();
    later["prevResult"] = attachment.run("ADD", &daemon);
    attachment.run("CHECK", &later);
    attachment.run("DEL", &later);
    assert!(host.client().endpoints().is_empty());
}
