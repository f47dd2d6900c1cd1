//! Rules of others that lead a published port elsewhere: netd says which.

use netd_tests::{Asking as _, World};

#[test]
fn a_rule_that_leads_a_published_port_elsewhere_is_named() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    for line in [
        "iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.89.0.3:80",
        "iptables -t nat -A PREROUTING -p tcp --dport 8079 -j DNAT --to-destination 10.89.0.3:80",
        "nft add table inet theirs",
        "nft add chain inet theirs nat { type nat hook prerouting priority -110 ; }",
        "nft add rule inet theirs nat udp dport 9000-9009 dnat ip to 10.89.0.4",
        "nft add rule inet theirs nat ip daddr 192.0.2.77 tcp dport 8081 dnat ip to 10.89.0.4",
    ] {
        host.netns.run(line);
    }
    netd.create("app");
    assert_eq!(netd.status().problems, [""; 0], "nothing is published");
    let web = world.container("web");
    let mut attach = web.to("app");
    let ports = ["8080:80", "9005:53/udp", "127.0.0.1:8081:81"];
    attach.ports = ports.map(|port| port.parse().unwrap()).into();
    netd.attach(&attach);
    let problems = netd.status().problems;
    let [first, second] = &problems[..] else { panic!("{problems:?}") };
    assert!(
        first.contains("inet theirs, which is not netd's, leads port 9000-9009/udp"),
        "{first}"
    );
    assert!(second.contains("ip nat, which is not netd's, leads port 8080/tcp"), "{second}");
    for said in ["to 10.89.0.3:80", "container web on network app", "nft list table ip nat"] {
        assert!(second.contains(said), "{second}");
    }
    netd.detach("web");
    assert_eq!(netd.status().problems, [""; 0]);
}
