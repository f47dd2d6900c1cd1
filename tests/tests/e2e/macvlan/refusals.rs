//! What cannot be is refused, and leaves nothing.

use super::*;

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let before = host.snapshot();
    for (options, expected, word) in [
        (vec![("parent", "lo")], Kind::Invalid, "lo"),
        (vec![("parent", "eth7")], Kind::NotFound, "eth7"),
        (vec![("parent", "eth7.100")], Kind::NotFound, "eth7.100"),
        (vec![("parent", "lan0.4095")], Kind::NotFound, "lan0.4095"),
        (vec![("parent", "lan0"), ("macvlan_mode", "source")], Kind::Invalid, "source"),
        (vec![("parent", "lan0"), ("bcqueuelen", "many")], Kind::Invalid, "many"),
        (vec![("parent", "lan0"), ("host-access", "yes")], Kind::Invalid, "yes"),
        (
            vec![("parent", "lan0"), ("host-access", "true"), ("mode", "vepa")],
            Kind::Invalid,
            "host-access",
        ),
    ] {
        let (kind, error) = kind_of(host.client().call(&lan_network("lan", &options)));
        assert_eq!(kind, expected, "{options:?}: {error}");
        assert!(error.message.contains(word), "{options:?}: {error}");
        host.snapshot().same_as(&before).unwrap();
    }
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let web = world.container("web");
    let mut attach = web.to("lan");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let (kind, error) = kind_of(host.client().call(&attach));
    assert_eq!(kind, Kind::Invalid, "{error}");
}

#[test]
fn an_option_that_nobody_would_act_on_is_refused_with_what_may_be_meant() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let before = host.snapshot();
    for (option, driver, hint) in [
        ("modee", "macvlan", "did you mean \"mode\"?"),
        ("macvlan-mode", "macvlan", "did you mean \"macvlan_mode\"?"),
        ("masquerade", "macvlan", "there are parent, mode,"),
        ("parent", "bridge", "there are mtu, link,"),
        (
            "com.docker.network.driver.mut",
            "bridge",
            "did you mean \"com.docker.network.driver.mtu\"?",
        ),
    ] {
        let mut network = lan_network("lan", &[(option, "1")]);
        network.driver = Some(driver.into());
        let (kind, error) = kind_of(host.client().call(&network));
        assert_eq!(kind, Kind::Invalid, "{option}: {error}");
        assert!(
            error.message.contains(&format!("no option {option:?} for {driver}; {hint}")),
            "{error}"
        );
        assert_eq!(error.operands["option"], option);
        host.snapshot().same_as(&before).unwrap();
    }
    // All of Docker's words that mean something go on meaning it.
    make(
        &host,
        &lan_network(
            "lan",
            &[
                ("com.docker.network.parent", "lan0"),
                ("com.docker.network.macvlan_mode", "bridge"),
                ("com.docker.network.driver.mtu", "1400"),
            ],
        ),
    );
    let mut bridge = CreateNetwork::named("bridged");
    for (option, value) in [
        ("com.docker.network.bridge.name", "br-own"),
        ("com.docker.network.bridge.enable_ip_masquerade", "false"),
    ] {
        bridge.options.insert(option.into(), value.into());
    }
    assert_eq!(make(&host, &bridge).link.unwrap().as_str(), "br-own");

    let web = world.container("web");
    let mut attach = web.to("lan");
    attach.options.insert("lingr".into(), "false".into());
    let (kind, error) = kind_of(host.client().call(&attach));
    assert_eq!(kind, Kind::Invalid, "{error}");
    assert!(error.message.contains("did you mean \"linger\"?"), "{error}");
    assert_eq!(web.netns.json("ip -j link").as_array().unwrap().len(), 1);
}
