//! Values that read well and mean nothing are refused where they are said, with one sentence that
//! names them: in netd.toml at the start, in options when a network or an endpoint is made.

use std::fs;

use cnm::{
    Kind,
    endpoint::Attach,
    network::{CreateNetwork, UpdateNetwork},
};
use netd_tests::{Asking as _, Executed, World, kind_of};

#[test]
fn netd_does_not_start_with_settings_that_mean_nothing() {
    let world = World::new();
    let host = world.host("a");
    let (program, path) = (world.programs().join("netd"), "/run/meaning.toml");
    for (key, value) in [
        ("dns_domain", "\"a..b\""),
        ("dns_domain", "\"\""),
        ("dns_port", "0"),
        ("node_name", "\"my host\""),
        ("docker_api", "\"docker.sock\""),
        ("driver_deadline", "0"),
    ] {
        // Of several that are wrong one is named.
        fs::write(path, format!("{key} = {value}\ncertificate_life = 0\n")).unwrap();
        let line = format!("{} --config {path} --run-dir /run/none", program.display());
        let started = Executed::from(host.netns.output(&line));
        assert_ne!(started.code, 0, "{key} = {value}: {started:?}");
        let said = format!("netd: {path}: invalid {key} {value}: it should be ");
        assert!(started.stderr.starts_with(&said), "{said}: {started:?}");
        assert_eq!(started.stderr.lines().count(), 1, "{started:?}");
    }
    assert!(!fs::exists("/run/none").unwrap(), "it touched nothing");
}

#[test]
fn networks_are_not_made_with_options_that_mean_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    for (option, value) in [
        ("dns", "0.0.0.0"),
        ("dns", "10.0.0.53:0"),
        ("dns.example.corp", "224.0.0.251"),
        ("outbound-ipv4", "198.51.100.7"),
        ("com.docker.network.host_ipv4", "255.255.255.255"),
        ("outbound-ipv6", "2001:db8:9::9"),
        ("host-binding", "224.0.0.1"),
        ("trusted-interfaces", "eth0:a/b"),
        ("spoof-check", "banana"),
    ] {
        let options = [(option.to_owned(), value.to_owned())];
        let create =
            CreateNetwork { options: options.clone().into(), ..CreateNetwork::named("new") };
        let update = UpdateNetwork {
            network: "app".into(),
            options: options.into(),
            ..UpdateNetwork::default()
        };
        for (kind, error) in [kind_of(netd.call(&create)), kind_of(netd.call(&update))] {
            assert_eq!(kind, Kind::Invalid, "{option}={value}: {error}");
            let names = error.message.contains(option) || error.message.contains(value);
            assert!(names, "{option}={value}: {error}");
        }
    }
    let made = netd.call(&cnm::network::ListNetworks::default()).unwrap().networks;
    assert!(made.iter().all(|network| network.name.as_str() != "new"));
    // What is said of names is among the options that there are.
    let error = kind_of(netd.call(&CreateNetwork {
        options: [("colour".to_owned(), "red".to_owned())].into(),
        ..CreateNetwork::named("new")
    }));
    for own in ["mtu", "dns", "dns.DOMAIN", "dns-search", "resolver"] {
        assert!(error.1.message.split([' ', ',']).any(|word| word == own), "{own}: {}", error.1);
    }
}

#[test]
fn endpoints_are_not_made_with_options_that_mean_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let with = |network: &str, option: &str, value: &str| Attach {
        options: [(option.to_owned(), value.to_owned())].into(),
        ..web.to(network)
    };
    for (network, option, value) in [
        ("app", "linger", "banana"),
        ("none", "linger", "banana"),
        ("app", "spoof-check", "perhaps"),
        ("app", "deliver", "elsewhere"),
        ("app", "dns", "::"),
        ("app", "dns", "10.0.0.53:0"),
    ] {
        let (kind, error) = kind_of(netd.call(&with(network, option, value)));
        assert_eq!(kind, Kind::Invalid, "{option}={value}: {error}");
        assert!(error.message.contains(value), "{option}={value}: {error}");
    }
    let (_, error) = kind_of(netd.call(&with("app", "colour", "red")));
    assert!(error.message.contains("resolver, expose"), "{error}");
    assert_eq!(netd.endpoints(), []);
    netd.attach(&with("app", "linger", "FALSE"));
}

#[test]
fn ports_are_published_only_where_somebody_can_connect_to() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip address add 192.0.2.9/24 broadcast 192.0.2.255 dev lan0");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let with = |port: &str| Attach { ports: vec![port.parse().unwrap()], ..web.to("app") };
    for (port, why) in [
        ("224.0.0.1:8080:80", "multicast"),
        ("[ff02::1]:8080:80", "multicast"),
        ("255.255.255.255:8080:80", "broadcast"),
        ("192.0.2.255:8080:80", "broadcast"),
        ("198.51.100.1:8080:80", "none of the host's addresses"),
    ] {
        let (kind, error) = kind_of(netd.call(&with(port)));
        assert_eq!(kind, Kind::Invalid, "{port}: {error}");
        assert!(error.message.contains(why), "{port}: {error}");
    }
    let endpoint = netd.attach(&with("[::ffff:192.0.2.9]:8080:80"));
    assert_eq!(endpoint.ports[0].to_string(), "192.0.2.9:8080->80/tcp");
    web.netns.serve_tcp(80);
    lan.ask_tcp("192.0.2.9:8080".parse().unwrap()).unwrap();
}
