//! An ADD that fails leaves no network that it made, and takes none away that somebody needs; and a
//! network that goes takes its list along.

use std::{fs, io::Write as _, process::Child};

use cnm::network::ListNetworks;
use netd_tests::{Asking as _, Executed, Host, World};
use serde_json::json;

use super::runtime::{Attachment, config, host_local};

fn networks(host: &Host) -> Vec<String> {
    let listed = host.client().call(&ListNetworks::default()).unwrap();
    listed.networks.into_iter().map(|network| network.name.to_string()).collect()
}

fn has_pods(host: &Host) -> bool {
    networks(host).contains(&"pods".to_owned())
}

#[test]
fn a_network_that_it_made_goes_with_it() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let before = host.snapshot();
    let config = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let attachment = Attachment::new(&host, world.programs(), &web);
    let outside = Attachment { args: "IP=10.99.0.5".into(), ..attachment.clone() };
    let (code, msg) = outside.refused("ADD", &config);
    assert!(code == 7 && msg.contains("10.99.0.5"), "{code} {msg}");
    assert!(!has_pods(&host), "{:?}", networks(&host));
    host.snapshot().same_as(&before).unwrap();
    // One that was there stays, with somebody on it or without.
    attachment.run("ADD", &config);
    let other = world.container("other");
    let beside = Attachment::new(&host, world.programs(), &other);
    let outside = Attachment { args: "IP=10.99.0.5".into(), ..beside };
    outside.refused("ADD", &config);
    assert!(has_pods(&host));
    attachment.run("DEL", &config);
    outside.refused("ADD", &config);
    assert!(has_pods(&host));
}

#[test]
fn of_many_at_once_those_that_can_succeed() {
    let world = World::new();
    let host = world.host("a");
    let config = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let containers: Vec<_> = (0..12).map(|n| world.container(&format!("c{n}"))).collect();
    for round in 0..3 {
        let start = |(n, container)| -> Child {
            let mut attachment = Attachment::new(&host, world.programs(), container);
            if n % 3 != round {
                attachment.args = "IP=10.99.0.5".into();
            }
            let mut child = attachment.command("ADD", "netd-bridge").spawn().unwrap();
            child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
            child
        };
        let children: Vec<_> = containers.iter().enumerate().map(start).collect();
        for (n, child) in children.into_iter().enumerate() {
            let executed = Executed::from(child.wait_with_output().unwrap());
            assert_eq!(executed.code == 0, n % 3 == round, "{n}: {executed:?}");
        }
        assert_eq!(host.client().endpoints().len(), 4);
        assert!(has_pods(&host));
        for container in &containers {
            Attachment::new(&host, world.programs(), container).run("DEL", &config);
        }
        host.netctl(&["network", "rm", "pods"]).success();
    }
}

#[test]
fn a_namespace_that_is_none_is_named_by_its_path() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let config = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let attachment = Attachment::new(&host, world.programs(), &web);
    for path in ["/etc/passwd", "/proc/self/ns/uts"] {
        let wrong = Attachment { netns: path.into(), ..attachment.clone() };
        let (code, msg) = wrong.refused("ADD", &config);
        assert_eq!((code, msg), (8, format!("{path} is no network namespace")));
        let executed = host.netctl(&["attach", "--netns", path, "--name", "x", "bridge"]);
        assert!(
            executed.stderr.contains(&format!("{path} is no network namespace")),
            "{executed:?}"
        );
    }
    assert!(!has_pods(&host));
}

#[test]
fn a_list_goes_with_its_network_unless_somebody_changed_it() {
    let world = World::new();
    let host = world.host("a");
    let directory = host.run_dir().join("net.d");
    let dir = directory.display().to_string();
    let create = |name: &str| {
        host.netctl(&["network", "create", "--cni", "--cni-dir", &dir, name]).success().to_owned()
    };
    let list = |name: &str| directory.join(format!("{name}.conflist"));
    for name in ["one", "two", "three"] {
        create(name);
        assert!(list(name).exists());
    }
    let id = create("four");
    host.netctl(&["network", "rm", "--cni-dir", &dir, "one", id.trim()]).success();
    assert!(!list("one").exists() && !list("four").exists());
    let changed = fs::read_to_string(list("two")).unwrap() + "\n";
    fs::write(list("two"), &changed).unwrap();
    let removed = host.netctl(&["network", "prune", "-f", "--cni-dir", &dir]);
    assert!(removed.success().contains("two") && removed.stdout.contains("three"), "{removed:?}");
    assert!(removed.stderr.contains("two.conflist stays"), "{removed:?}");
    assert!(!list("three").exists());
    assert_eq!(fs::read_to_string(list("two")).unwrap(), changed);
}

#[test]
fn keys_of_the_reference_say_what_they_can_to_each_driver() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let web = world.container("web");
    let mut more = host_local("192.0.2.0/24");
    more["ipam"]["ranges"][0][0]["rangeStart"] = json!("192.0.2.128");
    for (key, value) in [
        ("type", json!("netd-macvlan")),
        ("bridge", json!("cni0")),
        ("ipMasq", json!(false)),
        ("hairpinMode", json!(true)),
        ("mtu", json!(1400)),
        // These are the reference's macvlan's: nothing else says which link it is.
        ("master", json!("lan0")),
        ("mode", json!("private")),
        ("bcqueuelen", json!(2000)),
    ] {
        more[key] = value;
    }
    let config = config("1.0.0", "pods", more);
    let attachment = Attachment::new(&host, world.programs(), &web);
    let result = attachment.run("ADD", &config);
    let address: ipnetwork::IpNetwork =
        result["ips"][0]["address"].as_str().unwrap().parse().unwrap();
    assert!(lan.pings(address.ip()));
    let shown = web.netns.json("ip -j -d link show eth0")[0].clone();
    assert_eq!(shown["mtu"], 1400);
    assert_eq!(shown["linkinfo"]["info_data"]["mode"], "private");
    assert_eq!(shown["linkinfo"]["info_data"]["bcqueuelen"], 2000);
    attachment.run("DEL", &config);
    let mut inside = config.clone();
    inside["linkInContainer"] = json!(true);
    assert_eq!(attachment.refused("ADD", &inside).0, 2);
}
