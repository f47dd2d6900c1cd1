//! The resolver inside a container: where its network has no gateway on the host, and where that is
//! asked for. A server of the container's own on port 53 is not touched.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use cnm::{
    Kind, Request,
    client::With,
    endpoint::{Attach, CheckEndpoint, Endpoint, Netns},
    network::{CreateNetwork, Subnet},
    sandbox::ListSandboxes,
    system::Reconcile,
};
use netd_tests::{
    Asking as _, Container, Executed, Host, HostOptions, Namespace, World, eventually, kind_of,
};
use serde_json::json;

const INSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 11));

/// A network on the LAN that is `192.0.2.0/24`.
fn lan_network(name: &str) -> CreateNetwork {
    let mut subnet = Subnet::new("192.0.2.0/24".parse().unwrap());
    subnet.range = Some("192.0.2.128/25".parse().unwrap());
    CreateNetwork {
        driver: Some("macvlan".into()),
        subnets: vec![subnet],
        options: [("parent".to_owned(), "lan0".to_owned())].into(),
        ..CreateNetwork::named(name)
    }
}

fn inside(container: &Container, network: &str) -> Attach {
    let options = [("resolver".to_owned(), "inside".to_owned())].into();
    Attach { options, ..container.to(network) }
}

fn ask(netns: &Namespace, words: &str) -> Vec<String> {
    Host::ask_name(netns, INSIDE, words)
}

fn ip(endpoint: &Endpoint) -> String {
    endpoint.addresses[0].ip().to_string()
}

#[test]
fn on_the_lan_a_container_asks_inside_itself() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let elsewhere = lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    netd.call(&lan_network("lan")).unwrap();
    let (web, client) = (world.container("web"), world.container("client"));
    let endpoint = netd.attach(&web.to("lan"));
    let own = netd.attach(&client.to("lan"));
    assert_eq!(own.dns, [INSIDE]);
    for words in ["web A", "+tcp web A", "web.lan A", "WEB.lan.netd A"] {
        assert_eq!(ask(&client.netns, words), [ip(&endpoint)], "{words}");
    }
    assert_eq!(ask(&client.netns, &format!("-x {}", ip(&endpoint))), ["web.lan."]);
    // Asked by the host: the container's own way out has no part in it.
    assert_eq!(ask(&client.netns, "example.org A"), ["203.0.113.7"]);
    assert_eq!(elsewhere.from(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(ask(&client.netns, "nosuch.lan.netd A"), Vec::<String>::new());
    assert_eq!(elsewhere.from().len(), 1, "what is ours goes nowhere else");
    netd.detach("web");
    assert!(ask(&client.netns, "web.lan.netd A").is_empty());
}

#[test]
fn a_server_of_the_containers_own_keeps_port_53() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.call(&lan_network("lan")).unwrap();
    let (early, late) = (world.container("early"), world.container("late"));
    for (container, first) in [(&early, true), (&late, false)] {
        let serve = || {
            container.netns.run("ip link set lo up");
            container.netns.serve_udp(53);
            container.netns.serve_tcp(53);
        };
        if first {
            serve();
        }
        let endpoint = netd.attach(&container.to("lan"));
        if !first {
            serve();
        }
        let at = SocketAddr::new(endpoint.addresses[0].ip(), 53);
        // The LAN finds the container's server, and so does the container at its other addresses.
        let seen = lan.ask_udp(at).unwrap();
        assert_eq!(seen, "192.0.2.2".parse::<IpAddr>().unwrap());
        assert_eq!(lan.ask_tcp(at).unwrap(), seen);
        container.netns.ask_udp("127.0.0.1:53".parse().unwrap()).unwrap();
        assert_eq!(ask(&container.netns, "+notcp early.lan A").len(), 1);
        assert_eq!(ask(&container.netns, "+tcp early.lan A").len(), 1);
    }
}

#[test]
fn it_is_there_again_after_a_kill() {
    let world = World::new();
    let mut host = world.host("a");
    let _lan = host.lan();
    let mut netd = host.client();
    netd.call(&lan_network("lan")).unwrap();
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("lan"));
    for _ in 0..3 {
        host.kill();
        host.start();
        eventually("it answers", || match ask(&web.netns, "web A") {
            answer if answer == [ip(&endpoint)] => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    host.stop();
    host.start();
    assert_eq!(ask(&web.netns, "+tcp web A"), [ip(&endpoint)]);
}

#[test]
fn it_keeps_no_container_alive() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let mut netd = host.client();
    netd.call(&lan_network("lan")).unwrap();
    let mut web = world.container("web");
    netd.attach(&web.to("lan"));
    let before = host.netns.run("ip netns list-id").lines().count();
    web.netns.kill();
    eventually("it is released", || match netd.endpoints().len() {
        0 => Ok(()),
        left => Err(format!("{left} endpoints")),
    });
    // The kernel has let it go as well.
    eventually("its namespace is gone", || {
        let now = host.netns.run("ip netns list-id").lines().count();
        if now < before { Ok(()) } else { Err(format!("{now} of {before}")) }
    });
}

#[test]
fn on_request_it_is_inside_whatever_the_network() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let options = [("resolver".to_owned(), "inside".to_owned())].into();
    netd.call(&CreateNetwork { options, ..CreateNetwork::named("all") }).unwrap();
    netd.create("app");
    let (web, client) = (world.container("web"), world.container("client"));
    let on_all = netd.attach(&web.to("all"));
    assert_eq!(on_all.dns, [INSIDE]);
    let own = netd.attach(&inside(&client, "app"));
    assert_eq!(own.dns, [INSIDE]);
    assert_eq!(ask(&web.netns, "web"), [ip(&on_all)]);
    assert_eq!(ask(&client.netns, "client"), [ip(&own)]);
    assert!(ask(&client.netns, "web.all").is_empty(), "it is not on that network");
    // One listener for all of its networks, for as long as it is on one with it.
    let second = netd.attach(&client.to("all"));
    assert_eq!(second.options.get("dns-port"), own.options.get("dns-port"));
    assert_eq!(ask(&client.netns, "web"), [ip(&on_all)]);
    netd.call(&cnm::endpoint::Detach {
        network: Some("app".into()),
        container: "client".into(),
        ifname: None,
    })
    .unwrap();
    assert_eq!(ask(&client.netns, "web"), [ip(&on_all)]);
    netd.detach("client");
    let left = client.netns.run("ss -Hlnut") + &client.netns.run("nft list tables");
    assert!(left.trim().is_empty(), "{left}");
}

#[test]
fn where_a_network_is_isolated_names_resolve_and_nothing_else_is_asked() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let elsewhere = lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    let subnets =
        ["10.5.0.0/24", "fd00:5::/64"].map(|text| Subnet::new(text.parse().unwrap())).into();
    let options = [("gateway-mode".to_owned(), "isolated".to_owned())].into();
    let vault = CreateNetwork { internal: true, subnets, options, ..CreateNetwork::named("vault") };
    let bridge = netd.call(&vault).unwrap().link.unwrap();
    let (web, client) = (world.container("web"), world.container("client"));
    let endpoint = netd.attach(&web.to("vault"));
    netd.attach(&client.to("vault"));
    for _ in 0..2 {
        let addresses = host.netns.run(&format!("ip address show dev {bridge} scope global"));
        assert!(!addresses.contains("inet"), "the host is not on it: {addresses}");
        for words in ["web A", "+tcp web A", "web.vault A", "WEB.vault.netd A"] {
            eventually("it resolves", || {
                let found = ask(&client.netns, words);
                (found == [ip(&endpoint)]).then_some(()).ok_or((words, found))
            });
        }
        let six = endpoint.addresses[1].ip().to_string();
        assert_eq!(ask(&client.netns, "web AAAA"), [six]);
        assert_eq!(ask(&client.netns, &format!("-x {}", ip(&endpoint))), ["web.vault."]);
        assert!(ask(&client.netns, "example.org A").is_empty());
        assert!(client.netns.pings(endpoint.addresses[0].ip()));
        assert!(client.netns.pings_in_vain("192.0.2.2".parse().unwrap()));
        host.kill();
        host.start();
    }
    assert!(elsewhere.from().is_empty(), "nobody outside was asked");
    host.client().detach("web");
    assert!(ask(&client.netns, "web A").is_empty());
}

#[test]
fn what_cannot_be_is_refused() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let with = |key: &str, value: &str| {
        let options = [(key.to_owned(), value.to_owned())].into();
        Attach { options, ..web.to("app") }
    };
    assert_eq!(kind_of(netd.call(&with("resolver", "outside"))).0, Kind::Invalid);
    let (kind, error) = kind_of(netd.call(&with("dns-port", "5353")));
    assert_eq!(kind, Kind::Invalid);
    assert!(error.message.contains("resolver=inside"), "{error}");
    let none = Attach { network: "none".into(), ..inside(&web, "none") };
    assert_eq!(kind_of(netd.call(&none)).0, Kind::Unsupported);
    assert!(netd.endpoints().is_empty());

    // Where the host is not there is nobody at a gateway.
    let vault = |options: &[(&str, &str)]| CreateNetwork {
        internal: true,
        options: options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        ..CreateNetwork::named("vault")
    };
    let (isolated, gateway) = (("gateway-mode", "isolated"), ("resolver", "gateway"));
    let (kind, error) = kind_of(netd.call(&vault(&[isolated, gateway])));
    assert_eq!(kind, Kind::Invalid);
    assert!(error.message.contains("vault is isolated"), "{error}");
    netd.call(&vault(&[isolated])).unwrap();
    let options = [("resolver".to_owned(), "gateway".to_owned())].into();
    let attach = Attach { options, ..web.to("vault") };
    assert_eq!(kind_of(netd.call(&attach)).0, Kind::Invalid);
    assert_eq!(netd.attach(&web.to("vault")).dns, [INSIDE]);
}

#[test]
fn what_was_attached_by_a_descriptor_alone_asks_inside_as_well() {
    let world = World::new();
    let mut host = world.host("a");
    let _lan = host.lan();
    let mut netd = host.client();
    netd.call(&lan_network("lan")).unwrap();
    let mut web = world.container("web");
    let netns = std::fs::File::open(web.netns.path()).unwrap();
    let attach = Attach { netns: Some(Netns::Fd), ..web.to("lan") };
    let fds = [std::os::fd::AsFd::as_fd(&netns)];
    let endpoint = netd.call_with(&attach, With { fds: &fds, ..With::default() }).unwrap();
    drop(netns);
    assert_eq!(endpoint.dns, [INSIDE]);
    assert_eq!(ask(&web.netns, "web A"), [ip(&endpoint)]);
    host.kill();
    host.start();
    eventually("it answers", || match ask(&web.netns, "web A") {
        answer if answer == [ip(&endpoint)] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let mut netd = host.client();
    web.netns.kill();
    eventually("it is released", || match netd.endpoints().len() {
        0 => Ok(()),
        left => Err(format!("{left} endpoints")),
    });
}

#[test]
fn nothing_of_it_is_left_in_a_namespace_that_outlives_it() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let mut netd = host.client();
    netd.call(&lan_network("lan")).unwrap();
    netd.create("app");
    let web = world.container("web");
    // Somebody else's there stays.
    web.netns.run("nft add table ip others");
    let tables = || web.netns.run("nft list tables");
    let before = tables();
    let off = |network: &str| cnm::endpoint::Detach {
        network: Some(network.into()),
        container: "web".into(),
        ifname: None,
    };
    for _ in 0..2 {
        netd.attach(&web.to("lan"));
        netd.attach(&inside(&web, "app"));
        assert!(tables().contains("table ip netd_names"));
        netd.call(&off("lan")).unwrap();
        assert!(tables().contains("table ip netd_names"), "one is left that has it");
        netd.attach(&web.to("lan"));
        netd.call(&off("app")).unwrap();
        assert!(tables().contains("table ip netd_names"));
        assert_eq!(ask(&web.netns, "web A").len(), 1);
        netd.call(&off("lan")).unwrap();
        assert_eq!(tables(), before);
    }
}

#[test]
fn what_leads_there_is_looked_at_and_put_right() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let mut netd = host.client();
    netd.call(&lan_network("lan")).unwrap();
    netd.create("app");
    let (on_lan, on_app) = (world.container("on-lan"), world.container("on-app"));
    let attached = [netd.attach(&on_lan.to("lan")), netd.attach(&inside(&on_app, "app"))];
    for (container, endpoint) in [(&on_lan, &attached[0]), (&on_app, &attached[1])] {
        let name = &container.name;
        let mut check = || {
            let params = CheckEndpoint {
                endpoint: endpoint.id.to_string(),
                netns: Some(Netns::Path(container.netns.path())),
                mac: None,
            };
            netd.call(&params).unwrap().differences
        };
        assert_eq!(check(), Vec::<String>::new(), "{name}");
        let port = endpoint.options["dns-port"].clone();
        for damage in [
            "nft delete table ip netd_names".to_owned(),
            "nft flush chain ip netd_names output".to_owned(),
            format!("nft add rule ip netd_names output tcp dport 53 dnat to 127.0.0.11:{port}"),
        ] {
            container.netns.run(&damage);
            let said = check();
            assert!(said.len() == 1 && said[0].contains("127.0.0.11"), "{damage}: {said:?}");
            let reconciled = host.client().call(&Reconcile {}).unwrap();
            let led = format!("lead {name} to the resolver inside it");
            assert!(reconciled.repaired.contains(&led), "{damage}: {reconciled:?}");
            assert_eq!(check(), Vec::<String>::new(), "{damage}");
            assert_eq!(ask(&container.netns, &format!("{name} A")), [ip(endpoint)]);
        }
    }
}

#[test]
fn where_nobody_is_yet_it_listens_by_the_path_that_was_handed_over_with_the_descriptor() {
    let world = World::new();
    let mut host = world.host("a");
    let _lan = host.lan();
    host.client().call(&lan_network("lan")).unwrap();
    let at = |name: &str| format!("/run/netns/{name}");
    let listens = |host: &Host, name: &str| {
        let sockets = host.netns.run(&format!("ip netns exec {name} ss -Hlnut"));
        sockets.lines().filter(|line| line.contains("127.0.0.11:")).count()
    };
    for name in ["by-netctl", "by-plugin", "by-cni"] {
        host.netns.run(&format!("ip netns add {name}"));
        let container = || cnm::endpoint::Container {
            name: name.parse().ok(),
            ..cnm::endpoint::Container::new(name.parse().unwrap())
        };
        match name {
            "by-netctl" => {
                let words = ["attach", "--netns", &at(name), "--name", name, "lan"];
                host.netctl(&words).success();
            }
            "by-plugin" => {
                let attach = Attach::new("lan", container(), Some(Netns::Path(at(name))));
                host.plugin("macvlan", &Request::new(1, &attach).to_line()).success();
            }
            _ => {
                let config = json!({"cniVersion": "1.0.0", "name": "lan", "type": "netd-macvlan"});
                let mut command = host.plugin_command("macvlan");
                command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", name);
                command.env("CNI_NETNS", at(name)).env("CNI_IFNAME", "eth0");
                let mut child = command.env("CNI_PATH", world.programs()).spawn().unwrap();
                child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
                Executed::from(child.wait_with_output().unwrap()).success();
            }
        }
        assert_eq!(listens(&host, name), 2, "{name}: UDP and TCP");
        let known = host.client().call(&ListSandboxes {}).unwrap().sandboxes;
        let own = known.iter().find(|sandbox| sandbox.container.id.as_str() == name).unwrap();
        assert_eq!(own.path.as_deref(), Some(&*at(name)));
    }
    host.kill();
    host.start();
    for name in ["by-netctl", "by-plugin", "by-cni"] {
        eventually("it listens again", || match listens(&host, name) {
            2 => Ok(()),
            other => Err(format!("{name}: {other}")),
        });
    }
}

#[test]
fn a_path_that_leads_elsewhere_from_netd_is_not_taken() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let other = world.container("other");
    for path in [other.netns.path(), "/nowhere".into(), "run/netns/x".into()] {
        let web = world.container("web");
        let netns = std::fs::File::open(web.netns.path()).unwrap();
        let attach =
            Attach { netns: Some(Netns::Fd), netns_path: Some(path), ..inside(&web, "app") };
        let fds = [std::os::fd::AsFd::as_fd(&netns)];
        let endpoint = netd.call_with(&attach, With { fds: &fds, ..With::default() }).unwrap();
        let [sandbox] = &*netd.call(&ListSandboxes {}).unwrap().sandboxes else { panic!("one") };
        assert_eq!(sandbox.path, None);
        assert_eq!(ask(&web.netns, "web A"), [ip(&endpoint)]);
        netd.detach("web");
    }
}

#[test]
fn a_path_that_has_come_to_lead_elsewhere_is_not_the_containers() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    netd.create("back");
    host.netns.run("ip netns add lab");
    let mut inside = host.netns.command(["ip", "netns", "exec", "lab", "sleep", "infinity"]);
    let mut inside = inside.spawn().unwrap();
    eventually("it is there", || match host.netns.run("ip netns pids lab") {
        pids if pids.trim().is_empty() => Err("nobody is"),
        _ => Ok(()),
    });
    host.netctl(&["attach", "--netns", "/run/netns/lab", "--name", "lab", "app"]).success();
    let container = cnm::endpoint::Container::new("lab".parse().unwrap());
    let second = Attach::new("back", container, None);
    let attached = netd.attach(&second);
    assert_eq!(attached.ifname.as_str(), "eth1");
    netd.call(&cnm::endpoint::Detach {
        network: Some("back".into()),
        container: "lab".into(),
        ifname: None,
    })
    .unwrap();
    host.netns.run("ip netns del lab");
    host.netns.run("ip netns add lab");
    let (kind, error) = kind_of(netd.call(&second));
    assert_eq!(kind, Kind::Invalid, "{error}");
    assert!(error.message.contains("name it again"), "{error}");
    assert_eq!(netd.endpoints().len(), 1);
    inside.kill().unwrap();
    inside.wait().unwrap();
}

#[test]
fn where_a_network_has_no_ipv4_it_is_asked_over_ipv4_all_the_same() {
    let world = World::new();
    let config = "dns_upstreams = [\"[2001:db8::2]:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let elsewhere = lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    let mut six = CreateNetwork {
        options: [("resolver".to_owned(), "inside".to_owned())].into(),
        ..CreateNetwork::named("six")
    };
    (six.ipv4, six.ipv6) = (Some(false), Some(true));
    netd.call(&six).unwrap();
    let (web, client) = (world.container("web"), world.container("client"));
    let endpoint = netd.attach(&web.to("six"));
    let own = netd.attach(&client.to("six"));
    assert_eq!(own.dns, [INSIDE]);
    for words in ["web AAAA", "+tcp web.six AAAA", "WEB.six.netd AAAA"] {
        assert_eq!(ask(&client.netns, words), [ip(&endpoint)], "{words}");
    }
    assert_eq!(ask(&client.netns, "web A"), [""; 0]);
    assert_eq!(ask(&client.netns, &format!("-x {}", ip(&endpoint))), ["web.six."]);
    assert_eq!(ask(&client.netns, "localhost AAAA"), ["::1"]);
    assert_eq!(ask(&client.netns, "example.org A"), ["203.0.113.7"]);
    assert_eq!(elsewhere.from(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn an_attach_that_fails_leaves_nothing_of_it_inside() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let mut netd = host.client();
    let mut lan = lan_network("lan");
    lan.subnets[0].gateway = Some("192.0.2.2".parse().unwrap());
    netd.call(&lan).unwrap();
    netd.create("app");
    netd.create("back");
    let web = world.container("web");
    // In its way are a link of the container's own, and a route.
    web.netns.run("nft add table ip others");
    web.netns.run("ip link add mine0 type veth peer mine1");
    web.netns.run("ip link set mine0 up");
    web.netns.run("ip route add default dev mine0 metric 10000");
    let tables = || web.netns.run("nft list tables");
    let before = tables();
    let taken = |attach: Attach| Attach { ifname: Some("mine0".parse().unwrap()), ..attach };
    let published =
        |attach: Attach| Attach { ports: vec!["8000-8999:8000-8999".parse().unwrap()], ..attach };
    let held = host.netns.inside(|| std::net::TcpListener::bind("127.0.0.1:8085").unwrap());
    for (what, attach, refused) in [
        ("a macvlan's name is taken", taken(web.to("lan")), Kind::Exists),
        ("a macvlan's route is there", web.to("lan"), Kind::Kernel),
        ("a bridge's route is there", inside(&web, "app"), Kind::Kernel),
    ] {
        let (kind, error) = kind_of(netd.call(&attach));
        assert_eq!(kind, refused, "{what}: {error}");
        assert_eq!(tables(), before, "{what}");
    }
    web.netns.run("ip route del default dev mine0");
    // The driver was done with it when it turned out that the host has one of its ports.
    let (kind, error) = kind_of(netd.call(&published(inside(&web, "app"))));
    assert_eq!(kind, Kind::Exists, "{error}");
    assert_eq!(tables(), before);
    // What another of its endpoints needs stays.
    netd.attach(&inside(&web, "back"));
    let with = tables();
    assert!(with.contains("table ip netd_names"), "{with}");
    for attach in [taken(web.to("lan")), published(inside(&web, "app"))] {
        kind_of(netd.call(&attach));
        assert_eq!(tables(), with);
        assert_eq!(ask(&web.netns, "web A").len(), 1);
    }
    drop(held);
    netd.attach(&published(inside(&web, "app")));
    netd.detach("web");
    assert_eq!(tables(), before);
}
