//! A network of a runtime's is a network of netd's.

use std::{fs, io::Write as _, net::IpAddr};

use cnm::network::ListNetworks;
use netd_tests::{Asking as _, Executed, Host, World};
use serde_json::{Value, json};

use super::runtime::{Attachment, REFERENCE, config, host_local};

#[test]
fn its_members_are_found_by_name_and_reached() {
    let world = World::new();
    let host = world.host("a");
    let (web, client) = (world.container("web"), world.container("client"));
    let mut attachment = Attachment::new(&host, world.programs(), &web);
    attachment.args = "IgnoreUnknown=1;K8S_POD_NAME=web".into();
    let aliases = json!({"runtimeConfig": {"aliases": {"pods": ["www"], "other": ["no"]}}});
    let config = config("0.4.0", "pods", aliases);
    attachment.run("ADD", &config);
    let listed = host.netctl(&["network", "ls"]);
    assert!(listed.success().contains("pods"), "{listed:?}");
    let endpoint = host.client().attach(&client.to("pods"));
    let server = endpoint.dns[0];
    for name in ["web", "www", "web.pods"] {
        let found = Host::ask_name(&client.netns, server, name);
        let address: IpAddr = found[0].parse().unwrap();
        assert!(client.netns.pings(address), "{name}");
    }
    assert!(Host::ask_name(&client.netns, server, "no").is_empty());
    attachment.run("DEL", &config);
    assert!(Host::ask_name(&client.netns, server, "web").is_empty());
}

#[test]
fn pods_of_one_name_in_two_name_spaces() {
    let world = World::new();
    let host = world.host("a");
    // The last one's pods would be called as nobody is: they run all the same.
    let pods = ["blue", "green", "netd"].map(|space| (space, world.container(space)));
    for (space, pod) in &pods {
        let mut attachment = Attachment::new(&host, world.programs(), pod);
        attachment.args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={space};K8S_POD_NAME=web-0;\
             K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=",
            pod.id
        );
        attachment.run("ADD", &config("1.0.0", "pods", json!({})));
    }
    let endpoints = host.client().endpoints();
    assert_eq!(endpoints.len(), 3);
    let blue = endpoints.iter().find(|e| e.labels["K8S_POD_NAMESPACE"] == "blue").unwrap();
    let found = Host::ask_name(&pods[1].1.netns, blue.dns[0], "web-0.blue");
    assert_eq!(found, [blue.addresses[0].ip().to_string()]);
}

#[test]
fn a_network_that_is_there_is_used_as_it_is() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let directory = host.run_dir().join("net.d");
    let dir = directory.display().to_string();
    let words = ["network", "create", "--cni", "--cni-dir", &dir, "--subnet", "10.93.0.0/24"];
    host.netctl(&[&words[..], &["--ipv6", "pods"]].concat()).success();
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(files, [directory.join("pods.conflist")]);
    let list: Value = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
    assert_eq!(list["name"], "pods");
    assert_eq!(list["plugins"][0]["capabilities"]["portMappings"], true);
    let attachment = Attachment::new(&host, world.programs(), &web);
    let result = attachment.add_list(&list);
    assert_eq!(result["ips"][0]["address"], "10.93.0.2/24");
    assert_eq!(result["ips"].as_array().unwrap().len(), 2, "both families");
    assert_eq!(result["routes"].as_array().unwrap().len(), 2);
    assert_eq!(result["dns"]["nameservers"][0], "10.93.0.1");
    attachment.check_list(&list, &result);
    attachment.del_list(&list, &result);
    // One that is of another driver is not taken over.
    let none = json!({"cniVersion": "1.0.0", "name": "pods", "type": "netd-none"});
    let (code, msg) = attachment.refused("ADD", &none);
    assert!(code == 7 && msg.contains("netd-bridge"), "{code} {msg}");
    assert!(host.client().endpoints().is_empty());
}

#[test]
fn somebody_elses_list_is_not_written_over() {
    let world = World::new();
    let host = world.host("a");
    let directory = host.run_dir().join("net.d");
    let dir = directory.display().to_string();
    let create = || host.netctl(&["network", "create", "--cni", "--cni-dir", &dir, "pods"]);
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("pods.conflist");
    for theirs in [r#"{"name":"pods","plugins":[{"type":"bridge"}]}"#, "{\"mine\":\"precious\"}"] {
        fs::write(&file, theirs).unwrap();
        let refused = create();
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains("pods.conflist is there already"), "{refused:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
    }
    fs::remove_file(&file).unwrap();
    create().success();
    let ours = fs::read_to_string(&file).unwrap();
    assert!(ours.contains("netd-bridge"), "{ours}");
    // One that a network left behind is taken for another of its name.
    host.netctl(&["network", "rm", "pods"]).success();
    fs::write(&file, &ours).unwrap();
    create().success();
}

#[test]
fn a_list_is_moved_by_its_type_alone() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let web = world.container("web");
    // As Podman 4 writes it.
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let mut list = json!({"cniVersion": "0.4.0", "name": "podman1", "plugins": [
        {
            "type": "bridge",
            "bridge": "cni-podman1",
            "isGateway": true,
            "ipMasq": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "routes": [{"dst": "0.0.0.0/0"}],
                "ranges": [[{"subnet": "10.89.7.0/24", "gateway": "10.89.7.1"}]],
                "dataDir": "/run/leases",
            },
            "capabilities": {"ips": true},
        },
        {"type": "portmap", "capabilities": {"portMappings": true},
            "runtimeConfig": {"portMappings": mappings}},
        {"type": "firewall", "backend": ""},
        {"type": "tuning"},
    ]});
    let attachment = Attachment::new(&host, world.programs(), &web);
    let theirs = attachment.add_list(&list);
    web.netns.serve_tcp(80);
    let at = "192.0.2.1:8080".parse().unwrap();
    lan.ask_tcp(at).expect("by the reference");
    attachment.del_list(&list, &theirs);
    host.netns.run("ip link del cni-podman1");

    list["plugins"][0]["type"] = json!("netd-bridge");
    let ours = attachment.add_list(&list);
    lan.ask_tcp(at).expect("by netd");
    for key in ["name", "sandbox"] {
        for at in [0, 2] {
            assert_eq!(ours["interfaces"][at][key], theirs["interfaces"][at][key], "{key}");
        }
    }
    assert_eq!(ours["ips"][0]["gateway"], theirs["ips"][0]["gateway"]);
    assert_eq!(ours["ips"][0]["interface"], theirs["ips"][0]["interface"]);
    attachment.check_list(&list, &ours);
    attachment.del_list(&list, &ours);
    assert!(host.client().endpoints().is_empty());
    assert!(fs::metadata(REFERENCE).is_ok());
}

#[test]
fn keys_of_the_bridge_become_the_networks() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip route add default via 192.0.2.2");
    let web = world.container("web");
    let mut more = host_local("10.94.0.0/24");
    for (key, value) in [
        ("bridge", json!("pods0")),
        ("mtu", json!(1400)),
        ("hairpinMode", json!(true)),
        ("ipMasq", json!(false)),
        ("isGateway", json!(true)),
    ] {
        more[key] = value;
    }
    let config = config("1.1.0", "pods", more);
    let attachment = Attachment::new(&host, world.programs(), &web);
    let result = attachment.run("ADD", &config);
    let bridge = host.netns.json("ip -j address show pods0");
    assert_eq!(bridge[0]["mtu"], 1400);
    assert_eq!(bridge[0]["addr_info"][0]["local"], "10.94.0.1");
    assert_eq!(result["interfaces"][2]["mtu"], 1400);
    let end = result["interfaces"][1]["name"].as_str().unwrap();
    let port = host.netns.json(&format!("bridge -j -d link show dev {end}"));
    assert_eq!(port[0]["hairpin"], true);
    // Not masqueraded: its neighbour sees who it is.
    let heard = lan.serve_udp(9);
    lan.run("ip route add 10.94.0.0/24 via 192.0.2.1");
    let seen = web.netns.ask_udp("192.0.2.2:9".parse().unwrap()).unwrap();
    assert_eq!(seen.to_string(), "10.94.0.2");
    drop(heard);
}

#[test]
fn an_interface_without_an_address() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let bare = config("1.0.0", "wires", json!({"ipam": {}}));
    let result = attachment.run("ADD", &bare);
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
    assert_eq!((&result["ips"], &result["routes"]), (&json!([]), &json!([])));
    assert!(!web.netns.run("ip address show eth0").contains("inet"));
    assert!(web.netns.run("ip link show eth0").contains("UP"));
    let mut later = bare.clone();
    later["prevResult"] = result;
    attachment.run("CHECK", &later);
    attachment.run("DEL", &later);
    let old = config("0.2.0", "wires", json!({"ipam": {}}));
    assert_eq!(attachment.refused("ADD", &old).0, 2);
    assert!(host.client().endpoints().is_empty());
}

#[test]
fn plugins_are_installed_for_runtimes_and_taken_away() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let directory = host.run_dir().join("bin");
    let dir = directory.display().to_string();
    let programs = world.programs().display().to_string();
    let cni = |verb: &str, more: &[&str]| {
        let words = ["cni", verb, "--bin-dir", &dir, "--plugin-dir", &programs];
        host.netctl(&[&words[..], more].concat()).success().to_owned()
    };
    let there = || {
        let files = fs::read_dir(&directory).map(|files| {
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
        });
        let mut names: Vec<String> = files.unwrap_or_default();
        names.sort();
        names
    };
    // What may be a slip of the pen is not made.
    let nowhere = host.netctl(&["cni", "install", "--bin-dir", &dir, "--plugin-dir", &programs]);
    assert!(nowhere.stderr.contains(&format!("no directory {dir}: make it")), "{nowhere:?}");
    assert!(nowhere.code != 0 && !directory.exists());
    fs::create_dir(&directory).unwrap();
    assert!(cni("install", &["--dry-run"]).contains("netd-bridge"));
    assert!(there().is_empty());
    cni("install", &[]);
    for name in ["loopback", "netd-bridge", "netd-host", "netd-loopback", "netd-none"] {
        assert!(there().contains(&name.to_owned()), "{name} in {:?}", there());
    }
    assert_eq!(cni("install", &[]), "", "all of it is there");
    let attachment =
        Attachment { path: dir.clone(), ..Attachment::new(&host, world.programs(), &web) };
    let conf = config("1.0.0", "pods", json!({}));
    attachment.run("ADD", &conf);
    attachment.run("DEL", &conf);
    // Another's loopback stays another's.
    fs::copy(format!("{REFERENCE}/loopback"), directory.join("loopback")).unwrap();
    assert!(cni("install", &[]).contains("stays"));
    cni("uninstall", &["--dry-run"]);
    assert!(there().len() > 4);
    cni("uninstall", &[]);
    assert_eq!(there(), ["loopback"]);
    fs::remove_file(directory.join("loopback")).unwrap();
    cni("install", &[]);
    cni("uninstall", &[]);
    assert!(there().is_empty());
}

#[test]
fn plugins_are_not_taken_from_under_those_who_need_them() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let [bin, lists] = ["bin", "net.d"].map(|name| host.run_dir().join(name));
    fs::create_dir(&bin).unwrap();
    let [bin_dir, cni_dir] = [&bin, &lists].map(|path| path.display().to_string());
    let programs = world.programs().display().to_string();
    let cni = |verb: &str, more: &[&str]| {
        let words = ["cni", verb, "--bin-dir", &bin_dir, "--plugin-dir", &programs];
        host.netctl(&[&words[..], more].concat())
    };
    cni("install", &[]).success();
    host.netctl(&["network", "create", "--cni", "--cni-dir", &cni_dir, "pods"]).success();
    fs::write(lists.join("20-other.conf"), r#"{"name": "other", "type": "bridge"}"#).unwrap();
    fs::write(lists.join("30-own.conf"), r#"{"name": "own", "type": "netd-macvlan"}"#).unwrap();
    let attachment =
        Attachment { path: bin_dir.clone(), ..Attachment::new(&host, world.programs(), &web) };
    let conf = config("1.0.0", "pods", json!({}));
    attachment.run("ADD", &conf);
    // Who came otherwise needs no plugin.
    host.client().attach(&world.container("other").to("pods"));

    let uninstall = ["--cni-dir", &cni_dir];
    let would = cni("uninstall", &[&uninstall[..], &["--dry-run"]].concat());
    assert!(would.success().contains("netd-bridge") && would.stderr.is_empty(), "{would:?}");
    let refused = cni("uninstall", &uninstall);
    let label = host.client().endpoints();
    let label = label.iter().find(|e| e.labels.contains_key("cni")).unwrap().container.label();
    let said = format!("containers {label} came to netd's networks through plugins");
    assert!(refused.code != 0 && refused.stderr.contains(&said), "{refused:?}");
    assert!(refused.stderr.contains("--force") && bin.join("netd-bridge").is_file());
    attachment.run("DEL", &conf);
    attachment.run("ADD", &conf);

    let forced = cni("uninstall", &[&uninstall[..], &["--force"]].concat());
    assert!(forced.success().contains("netd-bridge"), "{forced:?}");
    assert_eq!(fs::read_dir(&bin).unwrap().count(), 0);
    for (part, is_said) in [
        (format!("{label} stay on netd's networks"), true),
        (format!("{cni_dir}/pods.conflist names plugins of netd's"), true),
        (format!("{cni_dir}/30-own.conf names"), true),
        ("20-other".to_owned(), false),
    ] {
        assert_eq!(forced.stderr.contains(&part), is_said, "{part}: {forced:?}");
    }
    assert_eq!(cni("uninstall", &uninstall).success(), "", "what is not there is no fault");
}

#[test]
fn a_list_that_does_not_come_first_is_told() {
    let world = World::new();
    let host = world.host("a");
    let directory = host.run_dir().join("net.d");
    fs::create_dir(&directory).unwrap();
    let dir = directory.display().to_string();
    let create = |name: &str| {
        let made = host.netctl(&["network", "create", "--cni", "--cni-dir", &dir, name]);
        made.success();
        made.stderr
    };
    assert_eq!(create("alone"), "");
    host.netctl(&["network", "rm", "--cni-dir", &dir, "alone"]).success();
    // As Debian's Podman brings it, and what no runtime reads.
    let theirs = directory.join("87-podman-bridge.conflist");
    fs::write(&theirs, r#"{"name": "podman", "plugins": [{"type": "bridge"}]}"#).unwrap();
    fs::write(directory.join("00-readme.txt"), "").unwrap();
    let told = create("pods");
    for part in
        [&*theirs.display().to_string(), "pods.conflist", "call the network 10-pods instead"]
    {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(create("10-pods"), "", "it comes first");
    fs::write(directory.join("00-.conf"), "{}").unwrap();
    let told = create("late");
    assert!(told.contains("00-.conf comes before late.conflist"), "{told}");
    assert!(told.contains("rename one of the two files, or move"), "{told}");
}

#[test]
fn what_a_runtime_may_ask_for_in_any_case() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    // As containerd and nerdctl write it, whose library has no JSON names for its keys.
    let runtime = json!({
        "portMappings": [
            {"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""},
            {"HostPort": 8080, "ContainerPort": 80, "Protocol": "udp", "HostIP": "0.0.0.0"},
        ],
        "bandwidth": {"IngressRate": 0, "IngressBurst": 4_294_967_295_u64,
            "EgressRate": 0, "EgressBurst": 4_294_967_295_u64},
        "dns": {"Servers": null, "Searches": ["example.com"], "Options": []},
        "ipRanges": [[{"Subnet": "10.95.0.0/24", "RangeStart": "10.95.0.20",
            "RangeEnd": "10.95.0.30", "Gateway": ""}]],
        "ips": ["10.95.0.25"],
        "mac": "02:00:00:00:00:07",
        "aliases": ["www"],
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
        "cgroupPath": "/x",
    });
    let web = world.container("web");
    let attachment = Attachment::new(&host, world.programs(), &web);
    let conf =
        config("1.0.0", "pods", json!({"runtimeConfig": runtime, "capabilities": {"x": true}}));
    let result = attachment.run("ADD", &conf);
    assert_eq!(result["ips"][0]["address"], "10.95.0.25/24");
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:07");
    assert_eq!(result["dns"]["search"], json!(["example.com"]));
    web.netns.serve_tcp(80);
    lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).expect("published");
    attachment.run("DEL", &conf);

    // The runtime's word goes before the file's, and that before CNI_ARGS.
    let mut attachment = attachment;
    attachment.args = "IP=10.95.0.21;MAC=02:00:00:00:00:08".into();
    let bare = config("1.0.0", "pods", json!({}));
    let result = attachment.run("ADD", &bare);
    assert_eq!(result["ips"][0]["address"], "10.95.0.21/24");
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:08");
    attachment.run("DEL", &bare);
    let args = json!({"args": {"cni": {"ips": ["10.95.0.22/24"], "mac": "02:00:00:00:00:09",
        "labels": [{"key": "team", "value": "shop"}]}}});
    let said = config("1.0.0", "pods", args);
    let result = attachment.run("ADD", &said);
    assert_eq!(result["ips"][0]["address"], "10.95.0.22/24");
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:09");
    assert_eq!(host.client().endpoints()[0].labels["team"], "shop");
}

#[test]
fn forty_at_once_make_one_network() {
    let world = World::new();
    let host = world.host("a");
    let containers: Vec<_> = (0..40).map(|n| world.container(&format!("c{n}"))).collect();
    let config = config("1.0.0", "pods", host_local("10.96.0.0/24"));
    let text = config.to_string();
    let run = |verb: &str| {
        let started: Vec<_> = containers
            .iter()
            .map(|container| {
                let attachment = Attachment::new(&host, world.programs(), container);
                let mut child = attachment.command(verb, "netd-bridge").spawn().unwrap();
                child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
                child
            })
            .collect();
        for child in started {
            Executed::from(child.wait_with_output().unwrap()).success();
        }
    };
    run("ADD");
    let mut netd = host.client();
    let networks = netd.call(&ListNetworks::default()).unwrap().networks;
    assert_eq!(networks.iter().filter(|network| network.name.as_str() == "pods").count(), 1);
    let endpoints = netd.endpoints();
    assert_eq!(endpoints.len(), 40);
    let addresses: std::collections::BTreeSet<_> =
        endpoints.iter().map(|endpoint| endpoint.addresses[0].ip()).collect();
    assert_eq!(addresses.len(), 40);
    let farthest = addresses.last().unwrap();
    assert!(containers[0].netns.pings(*farthest));
    run("DEL");
    assert!(netd.endpoints().is_empty());
}

#[test]
fn two_interfaces_of_one_container_are_two() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let web = world.container("web");
    let first = Attachment::new(&host, world.programs(), &web);
    let second = first.named("eth1");
    let mapped = |port: u16| {
        let mappings = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
        let mut more = host_local("10.97.0.0/24");
        more["runtimeConfig"] = json!({"portMappings": mappings});
        more["ipMasq"] = json!(true);
        config("1.0.0", "pods", more)
    };
    first.run("ADD", &mapped(8080));
    second.run("ADD", &mapped(8081));
    assert_eq!(host.client().endpoints().len(), 2);
    web.netns.serve_tcp(80);
    second.run("DEL", &mapped(8081));
    lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).expect("the first stays");
    assert!(lan.try_tcp("192.0.2.1:8081".parse().unwrap()).is_err());
    first.run("DEL", &mapped(8080));
    assert!(host.client().endpoints().is_empty());
}
