//! Names of others, where nobody can be asked for them: netd itself, what is its own, and nobody.

use cnm::{
    endpoint::Attach,
    network::{CreateNetwork, Subnet, UpdateNetwork},
};
use netd_tests::{Asking as _, HostOptions, World};

#[test]
fn a_network_is_no_server_of_another_one() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let subnet = |gateway: &str| {
        let gateway: std::net::Ipv4Addr = gateway.parse().unwrap();
        let [a, b, c, _] = gateway.octets();
        let subnet = format!("{a}.{b}.{c}.0/24").parse().unwrap();
        vec![Subnet { gateway: Some(gateway.into()), ..Subnet::new(subnet) }]
    };
    let asking = |server: &str| [("dns".to_owned(), server.to_owned())].into();
    let back = CreateNetwork { subnets: subnet("10.2.0.1"), ..CreateNetwork::named("back") };
    netd.call(&back).unwrap();
    let app = CreateNetwork { options: asking("10.2.0.1"), ..CreateNetwork::named("app") };
    let refusal = netd.call(&app).unwrap_err();
    assert_eq!(refusal.kind, cnm::Kind::Invalid);
    assert!(refusal.message.contains("connect containers to both networks"), "{refusal}");
    let app = CreateNetwork { options: asking("10.5.0.53"), ..CreateNetwork::named("app") };
    netd.call(&app).unwrap();
    let update = UpdateNetwork {
        options: asking("10.2.0.1"),
        network: "app".into(),
        ..UpdateNetwork::default()
    };
    assert_eq!(netd.call(&update).unwrap_err().message, refusal.message);
    // Nor does one come up where somebody's server is.
    let dns = CreateNetwork { subnets: subnet("10.5.0.53"), ..CreateNetwork::named("dns") };
    let refusal = netd.call(&dns).unwrap_err();
    assert!(refusal.message.contains("a name server of network app"), "{refusal}");
    let grown = UpdateNetwork {
        add_subnets: subnet("10.5.0.53"),
        network: "back".into(),
        ..UpdateNetwork::default()
    };
    assert_eq!(netd.call(&grown).unwrap_err().kind, cnm::Kind::Invalid);
    netd.call(&UpdateNetwork {
        options: asking("192.0.2.53"),
        network: "app".into(),
        ..UpdateNetwork::default()
    })
    .unwrap();
    netd.call(&dns).unwrap();
}

#[test]
fn nobody_is_asked_for_what_is_netds_own() {
    let world = World::new();
    let config = "dns_host = \"127.0.0.77:53\"\ndns_link_local = \"169.254.76.53\"".to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let mut netd = host.client();
    let with = |option: &str, server: &str| [(option.to_owned(), server.to_owned())].into();
    let subnets = || vec![Subnet::new("10.2.3.0/24".parse().unwrap())];
    netd.call(&CreateNetwork { subnets: subnets(), ..CreateNetwork::named("back") }).unwrap();
    let app = |option: &str, server: &str| CreateNetwork {
        options: with(option, server),
        subnets: vec![Subnet::new("10.9.0.0/16".parse().unwrap())],
        ..CreateNetwork::named("app")
    };
    let zones = [
        "netd",
        "x.app.Netd",
        "netd.internal",
        "localhost",
        "3.2.10.in-addr.arpa",
        "9.10.in-addr.arpa",
    ];
    let options = zones.map(|zone| format!("dns.{zone}"));
    for option in &options {
        let refusal = netd.call(&app(option, "192.0.2.53")).unwrap_err();
        assert_eq!(refusal.kind, cnm::Kind::Invalid, "{option}");
        assert!(refusal.message.starts_with("no server is ever asked for names"), "{refusal}");
    }
    let own = ["127.0.0.77", "169.254.76.53", "10.9.0.1"];
    for server in own {
        let refusal = netd.call(&app("dns", server)).unwrap_err();
        assert!(refusal.message.contains(&format!("{server} is netd itself")), "{refusal}");
    }
    netd.call(&app("dns.2.10.in-addr.arpa", "192.0.2.53")).unwrap();
    let update = |option: &str, server: &str| UpdateNetwork {
        options: with(option, server),
        network: "app".into(),
        ..UpdateNetwork::default()
    };
    for (option, server) in
        [(&*options[0], "192.0.2.53"), (&options[5], "192.0.2.53"), ("dns", own[0])]
    {
        assert_eq!(
            netd.call(&update(option, server)).unwrap_err().kind,
            cnm::Kind::Invalid,
            "{option}"
        );
    }
    let web = world.container("web");
    for server in own {
        let attach = Attach { options: with("dns", server), ..web.to("app") };
        assert_eq!(netd.call(&attach).unwrap_err().kind, cnm::Kind::Invalid, "{server}");
    }

    // What cannot be refused, as it becomes so later, is said.
    netd.attach(&Attach { options: with("dns", "127.0.0.78,10.8.0.1"), ..web.to("app") });
    assert_eq!(netd.status().problems, Vec::<String>::new());
    let subnets = vec![Subnet::new("10.8.0.0/24".parse().unwrap())];
    netd.call(&CreateNetwork { subnets, ..CreateNetwork::named("late") }).unwrap();
    let said = |problem: &str| {
        let problems = host.client().status().problems;
        assert!(problems.len() == 1 && problems[0].starts_with(problem), "{problems:?}");
    };
    said(
        "the name server 10.8.0.1 of container web on network app is netd itself, at the gateway of network late",
    );
    netd.call(&cnm::network::RemoveNetwork { network: "late".into() }).unwrap();
    assert_eq!(netd.status().problems, Vec::<String>::new());
    netd.call(&update("dns.7.10.in-addr.arpa", "192.0.2.53")).unwrap();
    let subnets = vec![Subnet::new("10.6.0.0/15".parse().unwrap())];
    netd.call(&CreateNetwork { subnets, ..CreateNetwork::named("late") }).unwrap();
    said(
        "of the servers of network app: no server is ever asked for names at or below 7.10.in-addr.arpa",
    );
    netd.call(&cnm::network::RemoveNetwork { network: "late".into() }).unwrap();
    assert_eq!(netd.status().problems, Vec::<String>::new());
    host.stop();
    std::fs::write(host.run_dir().with_file_name("netd.toml"), "dns_host = \"127.0.0.78:53\"\n")
        .unwrap();
    host.start();
    let problems = host.client().status().problems;
    assert!(
        problems.iter().any(|problem| problem.contains("127.0.0.78 of container web")),
        "{problems:?}"
    );
}

#[test]
fn who_asks_nobody_is_told_so() {
    let world = World::new();
    super::hook::own_etc();
    std::fs::write("/etc/resolv.conf", "search corp.example\n").unwrap();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let client = world.container("client");
    netd.attach(&client.to("app"));
    let said = host.netctl(&["dns", "query", "example.org", "--from", "client"]);
    assert!(said.stdout.starts_with("SERVFAIL\n"), "{said:?}");
    assert_eq!(said.code, 9, "{said:?}");
    assert!(said.stdout.contains("nobody is asked: the host's /etc/resolv.conf"), "{said:?}");
    assert!(!said.stdout.contains("nobody answered"), "{said:?}");
    for bad in ["", "a b", "b\u{fc}cher.example"] {
        let said = host.netctl(&["dns", "query", bad]);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(
            said.stderr.contains("cannot be asked for: it should be a name of letters"),
            "{said:?}"
        );
    }
    assert!(host.netctl(&["dns", "query", "."]).stdout.starts_with("SERVFAIL"));
}
