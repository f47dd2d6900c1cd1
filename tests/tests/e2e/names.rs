//! Names: a container asks the resolver of its network, over UDP and TCP.

use cnm::{endpoint::Attach, network::CreateNetwork};
use netd_tests::{Asking as _, Host, HostOptions, World};

#[test]
fn a_container_is_found_by_each_of_its_names() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let (web, client) = (world.container("web"), world.container("client"));
    let mut attach = web.to("app");
    attach.aliases = vec!["www".parse().unwrap(), "shop".parse().unwrap()];
    attach.container.hostname = Some("web-1".parse().unwrap());
    let endpoint = netd.attach(&attach);
    let ip = endpoint.addresses[0].ip();
    let asker = netd.attach(&client.to("app"));
    assert_eq!(asker.dns.len(), 1, "{asker:?}");
    let ask = |words: &str| Host::ask_name(&client.netns, asker.dns[0], words);
    let short = &web.id[..12];
    for name in ["web", "www", "shop", "web-1", short, "WEB", "web.app", "web.app.netd"] {
        assert_eq!(ask(&format!("{name} A")), [ip.to_string()], "{name}");
        assert_eq!(ask(&format!("+tcp {name} A")), [ip.to_string()], "{name} over TCP");
    }
    assert!(ask("web AAAA").is_empty(), "it has no such address");
    let pointer = ask(&format!("-x {ip}"));
    assert!(pointer.len() == 1 && pointer[0].starts_with("web."), "{pointer:?}");
    let answer = client.netns.run(&format!("dig +tries=2 @{} nobody.app.netd A", asker.dns[0]));
    assert!(answer.contains("NXDOMAIN"), "{answer}");
}

#[test]
fn names_come_and_go_with_their_container() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let client = world.container("client");
    let server = netd.attach(&client.to("app")).dns[0];
    let ask = |words: &str| Host::ask_name(&client.netns, server, words);
    let web = world.container("web");
    assert!(ask("web.app A").is_empty());
    let ip = netd.attach(&web.to("app")).addresses[0].ip();
    assert_eq!(ask("web.app A"), [ip.to_string()]);
    netd.detach("web");
    assert!(ask("web.app A").is_empty());
}

#[test]
fn an_alias_of_several_has_all_their_addresses() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let client = world.container("client");
    let server = netd.attach(&client.to("app")).dns[0];
    let backends: Vec<_> = (0..3).map(|n| world.container(&format!("back{n}"))).collect();
    let mut expected: Vec<String> = backends
        .iter()
        .map(|backend| {
            let mut attach = backend.to("app");
            attach.aliases = vec!["pool".parse().unwrap()];
            netd.attach(&attach).addresses[0].ip().to_string()
        })
        .collect();
    let mut answer = Host::ask_name(&client.netns, server, "pool A");
    expected.sort();
    answer.sort();
    assert_eq!(answer, expected);
}

#[test]
fn another_networks_names_are_not_told() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("front");
    netd.create("back");
    let (client, db) = (world.container("client"), world.container("db"));
    let server = netd.attach(&client.to("front")).dns[0];
    netd.attach(&db.to("back"));
    for name in ["db", "db.back", "db.back.netd"] {
        assert!(Host::ask_name(&client.netns, server, &format!("{name} A")).is_empty(), "{name}");
    }
}

#[test]
fn other_names_are_asked_outside_except_by_internal_networks() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let asked = answer_everything(&lan);
    let mut netd = host.client();
    netd.create("app");
    let vault = CreateNetwork { internal: true, ..CreateNetwork::named("vault") };
    netd.call(&vault).unwrap();
    let (web, safe) = (world.container("web"), world.container("safe"));
    let server = netd.attach(&web.to("app")).dns[0];
    assert_eq!(Host::ask_name(&web.netns, server, "example.org A"), ["203.0.113.7"]);
    assert_eq!(asked.from(), ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    let own = netd.attach(&safe.to("vault"));
    for server in own.dns {
        assert!(Host::ask_name(&safe.netns, server, "example.com A").is_empty());
    }
    assert_eq!(asked.from().len(), 1, "the internal network's question went nowhere");
}

#[test]
fn nothing_of_ours_leaves_the_host() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let asked = answer_everything(&lan);
    let mut netd = host.client();
    netd.create("front");
    netd.create("back");
    let (client, db) = (world.container("client"), world.container("db"));
    let endpoint = netd.attach(&client.to("front"));
    let (server, own) = (endpoint.dns[0], endpoint.addresses[0].ip());
    let there = netd.attach(&db.to("back")).addresses[0].ip();
    let dig = |words: &str| client.netns.run(&format!("dig +tries=1 @{server} {words}"));
    for (words, code) in [
        ("db A", "NXDOMAIN"),
        ("db.back A", "NXDOMAIN"),
        ("db.back.netd A", "NXDOMAIN"),
        ("db TXT", "NXDOMAIN"),
        ("client TXT", "NOERROR"),
        ("client.front HTTPS", "NOERROR"),
        ("_http._tcp.client SRV", "NXDOMAIN"),
        ("other.netd.internal MX", "NXDOMAIN"),
        (&format!("-x {there}"), "NXDOMAIN"),
        (&format!("-x {own}"), "NOERROR"),
    ] {
        let answer = dig(words);
        assert!(answer.contains(&format!("status: {code}")), "{words}: {answer}");
    }
    assert!(asked.from().is_empty(), "{:?}", asked.from());
    assert!(dig("example.org A").contains("203.0.113.7"), "others do leave it");
    assert_eq!(asked.from().len(), 1);
}

/// How many packets to port 53, of anything, have left by the uplink, as nftables counted them.
fn left_the_host(host: &Host) -> u64 {
    let shown = host.netns.json("nft -j list counters table inet uplink");
    let items = shown["nftables"].as_array().expect("a list");
    let counters = items.iter().filter_map(|item| item.get("counter"));
    counters.map(|counter| counter["packets"].as_u64().expect("a number")).sum()
}

#[test]
fn names_of_other_networks_are_not_there_and_nothing_is_seen_on_the_uplink() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let _asked = answer_everything(&lan);
    for line in [
        "nft add table inet uplink",
        "nft add counter inet uplink questions",
        "nft add chain inet uplink post { type filter hook postrouting priority 300 ; }",
        "nft add rule inet uplink post oifname lan0 th dport 53 counter name questions",
    ] {
        host.netns.run(line);
    }
    let mut netd = host.client();
    netd.create("front");
    netd.create("back");
    let (client, db) = (world.container("client"), world.container("db"));
    let server = netd.attach(&client.to("front")).dns[0];
    let mut attach = db.to("back");
    attach.aliases = vec!["store".parse().unwrap()];
    let there = netd.attach(&attach).addresses[0].ip();
    let reverse = format!("-x {there}");
    for name in ["db", "store", "DB", "db.back", "db.back.netd", "_http._tcp.db.back", &reverse] {
        for words in ["", "+tcp", "AAAA", "TXT", "SRV", "HTTPS", "ANY", "+dnssec DS"] {
            // What `-x` asks for has a type.
            let words = if name.starts_with('-') { "" } else { words };
            let line = format!("dig +tries=1 +time=5 @{server} {name} {words}");
            let said = client.netns.run(&line);
            assert!(said.contains("status: NXDOMAIN"), "{line}: {said}");
        }
    }
    assert_eq!(left_the_host(&host), 0);
    assert_eq!(Host::ask_name(&client.netns, server, "example.org A"), ["203.0.113.7"]);
    assert!(left_the_host(&host) > 0, "what does leave is seen");
}

#[test]
fn servers_that_an_internal_network_does_not_ask_are_told() {
    let world = World::new();
    let host = world.host("a");
    let create = ["network", "create", "--internal", "vault", "-o", "dns=10.0.0.53"];
    let said = host.netctl(&create);
    said.success();
    let why = "network vault is internal, and asks nobody for names of others";
    assert!(said.stderr.contains(why), "{said:?}");
    host.netctl(&["network", "create", "open", "-o", "dns=10.0.0.53"]).success();
    let web = world.container("web");
    let netns = web.netns.path();
    for (network, told) in [("vault", true), ("open", false)] {
        let ifname = format!("{network}0");
        let attach =
            ["attach", "--name", "web", "--driver-opt", "dns=10.0.0.54", "--ifname", &ifname];
        let said = host.netctl(&[&attach[..], &["--netns", &netns, network]].concat());
        said.success();
        assert_eq!(said.stderr.contains(why), told, "{said:?}");
    }
}

#[test]
fn services_are_found_by_port() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let client = world.container("client");
    let server = netd.attach(&client.to("app")).dns[0];
    let backends: Vec<_> = (0..2).map(|n| world.container(&format!("back{n}"))).collect();
    for backend in &backends {
        let mut attach = backend.to("app");
        attach.aliases = vec!["shop".parse().unwrap()];
        attach.ports = vec!["80".parse().unwrap()];
        attach.options = [("expose".to_owned(), "dns=53/udp,http=80".to_owned())].into();
        netd.attach(&attach);
    }
    let ask = |words: &str| Host::ask_name(&client.netns, server, words);
    let mut places = ask("_http._tcp.shop SRV");
    places.sort();
    assert_eq!(places, ["0 0 80 back0.app.netd.", "0 0 80 back1.app.netd."]);
    assert_eq!(ask("_53._udp.back1.app.netd SRV"), ["0 0 53 back1.app.netd."]);
    assert_eq!(ask("netd NS"), ["ns.netd."]);
    assert!(ask("netd SOA")[0].starts_with("ns.netd. hostmaster.netd. "));
    assert!(ask("+notcp shop ANY").len() == 2);
    for name in ["host.netd.internal", "gateway.netd.internal", "ns.netd"] {
        assert_eq!(ask(name), [server.to_string()], "{name}");
    }
    // The rotation shows each first.
    let firsts: std::collections::BTreeSet<_> = (0..32).map(|_| ask("shop")[0].clone()).collect();
    assert_eq!(firsts.len(), 2);
}

#[test]
fn what_cannot_be_a_name_is_refused_when_it_is_given() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let mut attach = web.to("app");
    attach.aliases = vec!["a..b".parse().unwrap()];
    let error = netd.call(&attach).unwrap_err();
    assert_eq!(error.kind, cnm::Kind::Invalid);
    assert!(error.message.contains("a..b"), "{error}");
    for (key, value) in [("dns", "nowhere"), ("expose", "http")] {
        let options = [(key.to_owned(), value.to_owned())].into();
        let error = netd.call(&Attach { options, ..web.to("app") }).unwrap_err();
        assert_eq!(error.kind, cnm::Kind::Invalid, "{error}");
    }
    let options = [("dns.corp".to_owned(), "x".to_owned())].into();
    let error = netd.call(&CreateNetwork { options, ..CreateNetwork::named("b") }).unwrap_err();
    assert_eq!(error.kind, cnm::Kind::Invalid, "{error}");
    netd.attach(&Attach { aliases: vec!["xn--bcher-kva".parse().unwrap()], ..web.to("app") });
}

#[test]
fn who_is_on_two_networks_is_answered_from_both_whichever_it_asks() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("front");
    netd.create("back");
    let (both, web, db) = (world.container("both"), world.container("web"), world.container("db"));
    let mut servers = netd.attach(&both.to("front")).dns;
    servers.extend(netd.attach(&both.to("back")).dns);
    let web = netd.attach(&web.to("front")).addresses[0].ip();
    let db = netd.attach(&db.to("back")).addresses[0].ip();
    assert_eq!(servers.len(), 2);
    for server in servers {
        let ask = |words: &str| Host::ask_name(&both.netns, server, words);
        assert_eq!(ask("web"), [web.to_string()], "{server}");
        assert_eq!(ask("db.back.netd"), [db.to_string()], "{server}");
    }
}

#[test]
fn the_hosts_own_programs_ask_where_they_are_told_to() {
    let world = World::new();
    let config = "dns_host = \"127.0.0.77:53\"\ndns_domain = \"cluster.local\"".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let ip = netd.attach(&web.to("app")).addresses[0].ip();
    let ask = |words: &str| Host::ask_name(&host.netns, "127.0.0.77".parse().unwrap(), words);
    assert_eq!(ask("web.app.cluster.local"), [ip.to_string()]);
    assert_eq!(ask(&format!("-x {ip}")), ["web.app.cluster.local."]);
    assert_eq!(ask("host.netd.internal"), ["127.0.0.1"]);
    assert!(ask("web").is_empty());
}

#[test]
fn servers_are_the_containers_own_or_its_networks_or_a_domains() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    lan.run("ip address add 192.0.2.3/24 dev eth0");
    lan.run("ip address add 192.0.2.4/24 dev eth0");
    let servers: Vec<_> = ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
        .iter()
        .map(|address| answer_at(&lan, address.parse().unwrap()))
        .collect();
    let mut netd = host.client();
    let options = [("dns", "192.0.2.2"), ("dns.corp.test", "192.0.2.3:53")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    netd.call(&CreateNetwork { options, ..CreateNetwork::named("app") }).unwrap();
    let (plain, own) = (world.container("plain"), world.container("own"));
    let server = netd.attach(&plain.to("app")).dns[0];
    let options = [("dns".to_owned(), "192.0.2.4".to_owned())].into();
    netd.attach(&Attach { options, ..own.to("app") });
    let counts = || servers.iter().map(|heard| heard.from().len()).collect::<Vec<_>>();
    Host::ask_name(&plain.netns, server, "one.example A");
    assert_eq!(counts(), [1, 0, 0]);
    Host::ask_name(&plain.netns, server, "x.CORP.test A");
    assert_eq!(counts(), [1, 1, 0]);
    Host::ask_name(&own.netns, server, "one.example A");
    assert_eq!(counts(), [1, 1, 1], "what others were told elsewhere is not its answer");
    Host::ask_name(&own.netns, server, "y.corp.test A");
    assert_eq!(counts(), [1, 2, 1]);
    Host::ask_name(&plain.netns, server, "ONE.example A");
    assert_eq!(counts(), [1, 2, 1], "it was told a minute ago");
}

#[test]
fn netctl_says_what_is_answered_and_why() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let (web, client) = (world.container("web"), world.container("client"));
    let ip = netd.attach(&web.to("app")).addresses[0].ip();
    let server = netd.attach(&client.to("app")).dns[0];
    let said = host.netctl(&["dns", "query", "web", "--from", "client"]);
    let said = said.success();
    assert!(said.starts_with("NOERROR\n") && said.contains(&ip.to_string()), "{said}");
    assert!(said.contains("who asks is on app") && said.contains("a name of web"), "{said}");
    let json = host.netctl(&["dns", "query", "x.app.netd", "--json", "-t", "AAAA"]);
    assert!(json.stdout.contains("\"result\": \"NXDOMAIN\""), "{json:?}");
    assert_eq!(json.code, 3, "there is no such name");
    assert!(json.stdout.contains("--from CONTAINER"), "{json:?}");
    assert_eq!(host.netctl(&["dns", "query", "web", "--from", "nobody"]).code, 3);
    assert_eq!(host.netctl(&["dns", "query", "web", "-t", "nonsense"]).code, 2);
    let address = ip.to_string();
    for words in [
        &["dns", "query", &address, "-t", "PTR", "--from", "client"][..],
        &["dns", "query", &address, "--from", "client"],
    ] {
        let said = host.netctl(words);
        assert!(said.success().contains("IN PTR web.app"), "{said:?}");
    }
    host.netctl(&["dns", "log", "on"]).success();
    Host::ask_name(&client.netns, server, "logged.app.netd A");
    assert!(host.log().contains("logged.app.netd"), "{}", host.log());
    host.netctl(&["dns", "log", "off"]).success();
    Host::ask_name(&client.netns, server, "silent.app.netd A");
    assert!(!host.log().contains("silent.app.netd"));
    let metrics = host.run_dir().join("metrics.sock");
    let figures = host
        .netns
        .run(&format!("curl -sS --unix-socket {} http://netd/metrics", metrics.display()));
    let line =
        "netd_dns_answers_total{network=\"app\",type=\"A\",result=\"NXDOMAIN\",by=\"netd\"} 2";
    assert!(figures.contains(line), "{figures}");
}

/// A name server at one of several addresses, that has one address for every name.
fn answer_at(netns: &netd_tests::Namespace, address: std::net::IpAddr) -> netd_tests::Heard {
    netns.serve_udp_at(std::net::SocketAddr::new(address, 53), |_, question| {
        netd_tests::one_address(question)
    })
}

/// A name server that has one address for every name.
fn answer_everything(netns: &netd_tests::Namespace) -> netd_tests::Heard {
    netns.serve_udp_with(53, netd_tests::one_address)
}
