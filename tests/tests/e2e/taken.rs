//! Port 53 of the host is another program's: names resolve all the same, and nobody notices.

use std::net::{IpAddr, SocketAddr};

use netd_tests::{Asking as _, Host, HostOptions, World, eventually};

fn ask(netns: &netd_tests::Namespace, server: IpAddr, words: &str) -> Vec<String> {
    Host::ask_name(netns, server, words)
}

#[test]
fn where_port_53_is_taken_containers_ask_at_it_all_the_same() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    host.stop();
    let theirs = host.netns.serve_udp(53);
    host.netns.serve_tcp(53);
    host.start();
    let mut netd = host.client();
    let before = host.snapshot();
    netd.create("app");
    let (web, client) = (world.container("web"), world.container("client"));
    let ip = [netd.attach(&web.to("app")).addresses[0].ip().to_string()];
    let server = netd.attach(&client.to("app")).dns[0];
    for words in ["web A", "+tcp web A", "web.app.netd A"] {
        assert_eq!(ask(&client.netns, server, words), ip, "{words}");
    }
    // The host itself asks there as well, and the default network has moved, too.
    assert_eq!(ask(&host.netns, server, "web.app A"), ip);
    let usual = world.container("usual");
    let endpoint = netd.attach(&usual.to("bridge"));
    assert_eq!(
        ask(&usual.netns, endpoint.dns[0], "usual A"),
        [endpoint.addresses[0].ip().to_string()]
    );
    assert!(theirs.from().is_empty(), "{:?}", theirs.from());
    // Who had the port has it on its own addresses.
    let at: SocketAddr = "192.0.2.1:53".parse().unwrap();
    assert_eq!(lan.ask_udp(at).unwrap(), "192.0.2.2".parse::<IpAddr>().unwrap());
    assert_eq!(lan.ask_tcp(at).unwrap(), "192.0.2.2".parse::<IpAddr>().unwrap());
    assert_eq!(netd.status().problems, Vec::<String>::new());

    host.kill();
    host.start();
    let mut netd = host.client();
    assert_eq!(ask(&client.netns, server, "+tcp web A"), ip);
    assert_eq!(ask(&client.netns, server, "+notcp web A"), ip);
    assert_eq!(netd.status().problems, Vec::<String>::new());
    netd.detach("web");
    netd.detach("client");
    netd.detach("usual");
    netd.call(&cnm::network::RemoveNetwork { network: "app".into() }).unwrap();
    eventually("nothing is left", || host.snapshot().same_as(&before));
}

#[test]
fn port_53_may_be_left_to_others_from_the_start() {
    let world = World::new();
    let config = "dns_port = 5300".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("app"));
    let (server, ip) = (endpoint.dns[0], [endpoint.addresses[0].ip().to_string()]);
    // Somebody takes the port of all addresses, which nobody has.
    host.netns.serve_udp(53);
    host.netns.serve_tcp(53);
    for words in ["web A", "+tcp web A", "-p 5300 web A"] {
        assert_eq!(ask(&web.netns, server, words), ip, "{words}");
    }
}

#[test]
fn a_network_may_have_its_resolver_at_a_port_of_its_own_and_of_both_families() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let options = [("dns-port".to_owned(), "5353".to_owned())].into();
    let network = cnm::network::CreateNetwork {
        options,
        ipv6: Some(true),
        ..cnm::network::CreateNetwork::named("app")
    };
    netd.call(&network).unwrap();
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("app"));
    assert_eq!(endpoint.dns.len(), 2, "{endpoint:?}");
    for server in endpoint.dns {
        for words in ["+notcp web A", "+tcp web AAAA"] {
            assert_eq!(ask(&web.netns, server, words).len(), 1, "{server} {words}");
        }
    }
}
