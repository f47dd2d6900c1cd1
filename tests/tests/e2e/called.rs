//! What may be called how, where DNS takes names for one another or for names of its own.

use cnm::{Kind, network::CreateNetwork};
use netd_tests::{Asking as _, Host, HostOptions, World, kind_of};

#[test]
fn names_that_differ_by_case_alone_are_one_name() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let asked = lan.serve_udp_with(53, super::names::one_address);
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
