//! Everything of netd's can be seen, and taken out of the kernel again.

use std::collections::BTreeSet;

use netd_tests::{Asking as _, World, eventually};

#[test]
fn what_is_netds_is_shown_and_taken_out_and_nothing_else() {
    let world = World::new();
    let mut host = world.host("a");
    host.netns.run("iptables-nft -P FORWARD DROP");
    host.netns.run("ip link add foreign type veth peer name other");
    host.netns.run("nft add table inet mine");
    let links = |host: &netd_tests::Host| {
        let links = host.netns.json("ip -j link");
        let names = links.as_array().unwrap().iter().map(|link| link["ifname"].to_string());
        names.collect::<BTreeSet<_>>()
    };
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    let port = endpoint.id.link_name().to_string();
    let loopback = "[::1]:8080".parse().unwrap();
    web.netns.serve_tcp(80);
    eventually("the port is relayed", || host.netns.try_tcp(loopback));

    let shown = host.netctl(&["uninstall", "--check"]);
    let text = shown.success();
    let link = format!("the link {port}");
    for wanted in [
        link.as_str(),
        "the bridge netd0",
        "the bridge br-",
        "the table inet netd of nftables",
        "a rule in the chain ip filter FORWARD",
        "net.ipv4.ip_forward is 1",
        "the relay netd-relay (pid ",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
    }
    assert!(!text.contains("foreign") && !text.contains("mine"), "{text}");
    // Nothing of it is gone, and nothing can be taken while netd works, wherever its socket is.
    let before = host.snapshot();
    let refused = host.netctl(&["uninstall"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (6, ""), "{refused:?}");
    assert!(refused.stderr.contains("netd is running"), "{refused:?}");
    let refused = host.netctl(&["--socket", "/run/nowhere", "uninstall"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("belongs to another process"), "{refused:?}");
    assert!(!refused.stdout.contains("nothing of netd's"), "{refused:?}");
    eventually("all is there", || host.snapshot().same_as(&before));
    assert!(web.netns.pings(endpoint.gateways[0]));
    host.netns.try_tcp(loopback).unwrap();

    host.stop();
    host.netns.try_tcp(loopback).unwrap();
    let executed = eventually("the drivers have ended", || {
        let executed = host.netctl(&["uninstall"]);
        if executed.code == 0 { Ok(executed) } else { Err(executed) }
    });
    assert!(executed.stdout.contains("the relay netd-relay (pid "), "{executed:?}");
    eventually("nobody has the port", || {
        let listening = host.netns.run("ss -Htln src [::1]:8080");
        if listening.is_empty() { Ok(()) } else { Err(listening) }
    });
    let others = ["\"foreign\"", "\"lo\"", "\"other\""].map(str::to_owned);
    assert_eq!(links(&host), BTreeSet::from(others));
    let rules = host.netns.run("nft list ruleset");
    assert!(!rules.contains("netd") && rules.contains("table inet mine"), "{rules}");
    assert_eq!(
        host.netns.run("iptables-nft -S"),
        "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n"
    );
    let shown = host.netctl(&["uninstall", "--check"]);
    assert_eq!(shown.success(), "nothing of netd's is in the kernel\n");

    // A netd that is started makes its networks again, and says whose links it cannot.
    host.start();
    let lost = format!("endpoint {} of web on app has lost its link", endpoint.id.short());
    eventually("it says whose links are gone", || {
        let problems = host.client().status().problems;
        if problems.iter().any(|what| what.starts_with(&lost)) { Ok(()) } else { Err(problems) }
    });
    let web = world.container("again");
    let again = host.client().attach(&web.to("app"));
    assert!(web.netns.pings(again.gateways[0]));
}
