//! Names: a container asks the resolver of its network, over UDP and TCP.

use cnm::network::CreateNetwork;
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

/// A name server that has one address for every name.
fn answer_everything(netns: &netd_tests::Namespace) -> netd_tests::Heard {
    netns.serve_udp_with(53, |question| {
        let mut answer = question.to_vec();
        // A response, recursion available, one answer, no additional records (RFC 1035, 4.1.1).
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        let name_end = 12 + question[12..].iter().position(|b| *b == 0).expect("a name") + 5;
        answer.truncate(name_end);
        // The name above, A, IN, a minute, and the address.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]);
        answer
    })
}
