//! What the macvlans hang on: chosen, made, and gone.

use super::*;

#[test]
fn the_default_routes_link_is_the_parent_and_stays_it() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip route add default via 192.0.2.2");
    let network = make(&host, &lan_network("lan", &[]));
    assert_eq!(network.options["parent"], "lan0");
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    host.kill();
    host.netns.run("ip route delete default");
    host.start();
    assert_eq!(
        host.client().call(&InspectNetwork { network: "lan".into() }).unwrap().network,
        network
    );
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    let db = world.container("db");
    assert!(lan.pings(ip(&put(&host, &db, "lan"))));
}

#[test]
fn an_internal_network_leads_nowhere() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let before = host.snapshot();
    let internal = CreateNetwork { internal: true, ..lan_network("vault", &[("parent", "lan0")]) };
    // As Docker has it, so does one without a parent; here there is no default route to take.
    let alone = CreateNetwork { driver: Some("macvlan".into()), ..CreateNetwork::named("alone") };
    for network in [internal, alone] {
        let name = network.name.clone();
        let network = make(&host, &network);
        let own = format!("dm-{}", network.id.short());
        assert!(host.snapshot().lines(&format!("link {own} ")).next().is_some());
        let (web, db) = (world.container("web"), world.container("db"));
        let (one, two) = (put(&host, &web, &name), put(&host, &db, &name));
        assert!(web.netns.pings(ip(&two)), "{name}");
        assert!(web.netns.pings_in_vain(NEIGHBOUR.parse().unwrap()));
        assert!(web.netns.pings_in_vain("192.0.2.1".parse().unwrap()));
        assert!(lan.pings_in_vain(ip(&one)));
        assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());
        host.client().detach("web");
        host.client().detach("db");
        host.client().call(&RemoveNetwork { network: name }).unwrap();
        host.snapshot().same_as(&before).unwrap();
    }
}

#[test]
fn a_vlan_is_made_with_its_first_network_and_removed_with_its_last() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let before = host.snapshot();
    let has_vlans =
        host.netns.output("ip link add link lan0 name probe type vlan id 5").status.success();
    if !has_vlans {
        // CONFIG_VLAN_8021Q is missing: what would be sent is tested with the kernel's messages.
        let (kind, error) =
            kind_of(host.client().call(&lan_network("lan", &[("parent", "lan0.100")])));
        assert_eq!(kind, Kind::Unsupported, "{error}");
        assert!(error.message.contains("802.1Q"), "{error}");
        host.snapshot().same_as(&before).unwrap();
        return;
    }
    host.netns.run("ip link delete probe");
    make(&host, &lan_network("one", &[("parent", "lan0.100")]));
    make(&host, &lan_network("two", &[("parent", "lan0.100")]));
    assert_eq!(link(&host.netns, "lan0.100")["linkinfo"]["info_data"]["id"], 100);
    host.client().call(&RemoveNetwork { network: "one".into() }).unwrap();
    link(&host.netns, "lan0.100");
    host.client().call(&RemoveNetwork { network: "two".into() }).unwrap();
    host.snapshot().same_as(&before).unwrap();
}

#[test]
fn a_parent_that_goes_takes_its_containers_links_along_and_netd_says_so() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    host.netns.run("ip link delete lan0");
    assert!(!differences(&host, &endpoint).is_empty());
    host.client().call(&Reconcile {}).unwrap();
    eventually("it is reported", || {
        let problems = host.client().status().problems;
        if problems.iter().any(|p| p.contains("has lost its link")) {
            Ok(())
        } else {
            Err(problems)
        }
    });
    let (kind, error) = kind_of(host.client().call(&world.container("db").to("lan")));
    assert_eq!(kind, Kind::NotFound, "{error}");
    assert!(error.message.contains("lan0"), "{error}");
    host.client().detach("web");
    let _lan = host.lan();
    assert!(web.netns.pings_in_vain(NEIGHBOUR.parse().unwrap()));
    put(&host, &web, "lan");
    assert!(web.netns.pings(NEIGHBOUR.parse().unwrap()));
    host.client().call(&RemoveNetwork { network: "lan".into() }).unwrap_err();
}

#[test]
fn a_network_whose_parent_is_gone_is_in_the_status_until_it_is_back() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    host.netns.run("ip link delete lan0");
    let told = |problems: &[String]| {
        let mut all = problems.iter();
        all.any(|one| one.contains("network lan is not as it should be") && one.contains("lan0"))
    };
    let reconciled = host.client().call(&Reconcile {}).unwrap();
    assert!(told(&reconciled.problems), "{reconciled:?}");
    let status = host.client().status();
    assert!(told(&status.problems), "{:?}", status.problems);
    drop(lan);
    let _lan = host.lan();
    let reconciled = host.client().call(&Reconcile {}).unwrap();
    assert_eq!(reconciled.problems, Vec::<String>::new());
    let status = host.client().status();
    assert!(!told(&status.problems), "{:?}", status.problems);
}

#[test]
fn a_lan_without_a_subnet_is_made_and_said() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let create = |words: &[&str]| {
        host.netctl(&[&["network", "create", "-d", "macvlan", "-o", "parent=lan0"], words].concat())
    };
    let made = create(&["lan"]);
    made.success();
    assert!(
        made.stderr.contains("of the default pools") && made.stderr.contains("lan0"),
        "{made:?}"
    );
    let quiet = [
        create(&["--subnet", "192.0.2.0/24", "ours"]),
        create(&["--internal", "vault"]),
        host.netctl(&["network", "create", "bridged"]),
        host.netctl(&["network", "create", "-d", "macvlan", "-o", "parent=", "nowhere"]),
    ];
    for made in quiet {
        made.success();
        assert_eq!(made.stderr, "");
    }
}
