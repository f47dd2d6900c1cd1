//! What may be called how, where DNS takes names for one another or for names of its own.

use std::fs;

use cnm::{Kind, endpoint::Attach, network::CreateNetwork};
use netd_tests::{Asking as _, Host, HostOptions, World, kind_of};

#[test]
fn names_that_differ_by_case_alone_are_one_name() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let asked = lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    let six = netd.create("Six");
    netd.create("app");
    let (kind, error) = kind_of(netd.call(&CreateNetwork::named("SIX")));
    assert_eq!(kind, Kind::Exists);
    assert!(error.message.contains("SIX already exists, spelled Six"), "{error}");
    assert_eq!(error.operands["network"], six.id.as_str());
    assert_eq!(host.netctl(&["network", "inspect", "SIX"]).code, 3, "it is shown as it is spelled");
    let web = world.container("Web");
    let there = netd.attach(&web.to("Six"));
    let other = world.container("wEB");
    let (kind, error) = kind_of(netd.call(&other.to("Six")));
    assert_eq!(kind, Kind::Exists);
    assert!(error.message.contains("wEB already exists in network Six, spelled Web"), "{error}");
    assert_eq!(error.operands["endpoint"], there.id.as_str());
    let sandbox = host.netctl(&["sandbox", "create", "WEB"]);
    assert!(sandbox.code != 0 && sandbox.stderr.contains("spelled Web"), "{sandbox:?}");
    // On another network it is another name.
    let asker = netd.attach(&other.to("app"));
    let near = world.container("near");
    let beside = netd.attach(&near.to("Six"));
    for restarted in [false, true] {
        if restarted {
            host.stop();
            host.start();
        }
        for name in ["web.six", "WEB.SIX", "web.Six.netd", "NEAR.six"] {
            let words = format!("{name} A");
            let found = Host::ask_name(&other.netns, asker.dns[0], &words);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
        let ip = there.addresses[0].ip().to_string();
        for name in ["web", "WEB.SIX", "Web.six", "web.sIX.Netd"] {
            let words = format!("{name} A");
            assert_eq!(Host::ask_name(&near.netns, beside.dns[0], &words), [&*ip], "{name}");
        }
    }
    assert!(asked.from().is_empty(), "nothing of it leaves the host");
}

#[test]
fn localhost_is_who_asks_and_invalid_is_nobody() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let asked = lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    netd.create("app");
    let client = world.container("client");
    let server = netd.attach(&client.to("app")).dns[0];
    let ask = |words: &str| Host::ask_name(&client.netns, server, words);
    for name in ["localhost", "LOCALHOST", "db.localhost"] {
        assert_eq!(ask(&format!("{name} A")), ["127.0.0.1"], "{name}");
        assert_eq!(ask(&format!("+tcp {name} AAAA")), ["::1"], "{name}");
        assert!(ask(&format!("{name} HTTPS")).is_empty(), "{name}");
    }
    for name in ["invalid", "www.Invalid"] {
        let said = client.netns.run(&format!("dig +tries=1 @{server} {name} A"));
        assert!(said.contains("status: NXDOMAIN"), "{name}: {said}");
    }
    assert!(asked.from().is_empty(), "nobody else was asked: {:?}", asked.from());
    assert_eq!(ask("example.org A"), ["203.0.113.7"]);
    // Who is asked answers datagrams alone, and so it is asked here as well.
    let why = host.netctl(&["dns", "query", "www.example.org", "--from", "client"]);
    assert!(why.success().contains("203.0.113.7"), "{why:?}");
    let why = host.netctl(&["dns", "query", "db.localhost", "--from", "client"]);
    assert!(why.success().contains("it is whoever asks"), "{why:?}");
}

#[test]
fn what_has_another_answer_is_nobodys_name() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let taken = ["netd", "Web.netd", "host.netd.internal", "localhost", "db.LocalHost"];
    let own = "is no name for a container or a network";
    for name in taken {
        let (kind, error) = kind_of(netd.call(&CreateNetwork::named(name)));
        assert_eq!(kind, Kind::Invalid, "{name}");
        assert!(error.message.contains(own), "{error}");
        assert_eq!(error.operands["name"], name);
    }
    for name in taken.into_iter().chain(["10.0.0.7", "a..b"]) {
        let (kind, error) = kind_of(netd.call(&world.container(name).to("app")));
        assert_eq!(kind, Kind::Invalid, "{name}: {error}");
        assert_eq!(error.operands["name"], name);
        let aliases = vec![name.parse().unwrap()];
        let also = Attach { aliases, ..web.to("app") };
        assert_eq!(kind_of(netd.call(&also)).1.message, error.message, "{name}");
        let sandbox = host.netctl(&["sandbox", "create", name]);
        assert_eq!((sandbox.code, &*sandbox.stderr), (2, &*format!("netctl: {error}\n")));
    }
    let left = fs::read_dir(host.run_dir().join("netns")).unwrap().count();
    assert_eq!(left, 0, "of sandboxes that are none nothing is left");
    // What a container calls itself is its own business, as long as it can be asked for.
    let mut attach = web.to("app");
    attach.container.hostname = Some("web.app.netd".parse().unwrap());
    let endpoint = netd.attach(&attach);
    let ip = endpoint.addresses[0].ip().to_string();
    assert_eq!(Host::ask_name(&web.netns, endpoint.dns[0], "web.app.netd A"), [ip]);
}

#[test]
fn nobody_calls_himself_what_has_another_answer() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    for name in ["x.netd", "netd", "x.Netd.internal", "localhost", "10.0.0.7", "x.app.netd"] {
        let mut attach = web.to("app");
        attach.container.hostname = Some(name.parse().unwrap());
        let (kind, error) = kind_of(netd.call(&attach));
        assert_eq!((kind, &error.operands["name"]), (Kind::Invalid, &name.into()), "{error}");
        let ran = host.netctl(&["run", "--network", "app", "-h", name, "--", "true"]);
        assert_eq!((ran.code, &*ran.stderr), (2, &*format!("netctl: {error}\n")), "{name}");
    }
    assert!(netd.endpoints().is_empty());
    let words = ["run", "--network", "app", "--name", "db", "-h", "db.app.netd", "--", "hostname"];
    assert_eq!(host.netctl(&words).success(), "db.app.netd\n");
}

#[test]
fn a_service_has_a_name_that_can_be_asked_for() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let (web, client) = (world.container("web"), world.container("client"));
    let exposing = |list: &str| Attach {
        options: [("expose".to_owned(), list.to_owned())].into(),
        ..web.to("app")
    };
    for bad in ["a..b=80", "a.b=80", "tcp=80", "81=80", "a b=80", "http=80,web=80"] {
        let error = netd.call(&exposing(bad)).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{bad}: {error}");
    }
    netd.attach(&exposing("http-alt=8080,xmpp_s=5222"));
    let server = netd.attach(&client.to("app")).dns[0];
    for (name, port) in [("_http-alt._tcp.web", "8080"), ("_XMPP_s._tcp.web", "5222")] {
        let found = Host::ask_name(&client.netns, server, &format!("{name} SRV"));
        assert_eq!(found, [format!("0 0 {port} web.app.netd.")], "{name}");
    }
}

#[test]
fn a_domain_that_is_a_networks_name_is_said() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    netd.create("corp");
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("corp"));
    assert_eq!(netd.status().problems, Vec::<String>::new());
    host.stop();
    fs::write(host.run_dir().with_file_name("netd.toml"), "dns_domain = \"Corp\"\n").unwrap();
    host.start();
    let problems = host.client().status().problems;
    let said =
        "nobody finds containers by the name of their network on corp, as netd itself answers";
    assert!(problems.len() == 1 && problems[0].starts_with(said), "{problems:?}");
    assert!(Host::ask_name(&web.netns, endpoint.dns[0], "web.corp A").is_empty());
    let whole = Host::ask_name(&web.netns, endpoint.dns[0], "web.corp.corp A");
    assert_eq!(whole, [endpoint.addresses[0].ip().to_string()]);
}
