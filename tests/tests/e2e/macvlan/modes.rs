//! How the macvlans of a network are made: modes, MTU, queue.

use super::*;

#[test]
fn in_private_mode_nobody_sees_the_others() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0"), ("macvlan_mode", "private")]));
    let (web, db) = (world.container("web"), world.container("db"));
    let (one, two) = (put(&host, &web, "lan"), put(&host, &db, "lan"));
    assert!(lan.pings(ip(&one)) && lan.pings(ip(&two)));
    assert!(web.netns.pings_in_vain(ip(&two)));
    assert_eq!(link(&web.netns, "eth0")["linkinfo"]["info_data"]["mode"], "private");
    assert_eq!(differences(&host, &one), Vec::<String>::new());
}

#[test]
fn passthru_is_for_one_network_and_one_container() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0"), ("mode", "passthru")]));
    let (kind, error) = kind_of(host.client().call(&lan_network("other", &[("parent", "lan0")])));
    assert_eq!(kind, Kind::Exists, "{error}");
    let (web, db) = (world.container("web"), world.container("db"));
    let endpoint = put(&host, &web, "lan");
    let parent = link(&host.netns, "lan0")["address"].as_str().unwrap().to_owned();
    assert_eq!(endpoint.mac.unwrap().to_string(), parent);
    assert!(lan.pings(ip(&endpoint)));
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    let (kind, error) = kind_of(host.client().call(&db.to("lan")));
    assert_eq!(kind, Kind::Busy, "{error}");
    assert!(lan.pings(ip(&endpoint)));
    host.client().detach("web");
    assert!(lan.pings(ip(&put(&host, &db, "lan"))));
}

#[test]
fn the_mtu_is_the_parents_or_a_smaller_one() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip link set lan0 mtu 1400");
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    make(
        &host,
        &lan_network(
            "small",
            &[
                ("parent", "lan0"),
                ("com.docker.network.driver.mtu", "1300"),
                ("bcqueuelen", "2000"),
            ],
        ),
    );
    let too_much = lan_network("large", &[("parent", "lan0"), ("mtu", "1500")]);
    let (kind, error) = kind_of(host.client().call(&too_much));
    assert_eq!(kind, Kind::Invalid, "{error}");
    assert!(error.message.contains("1400"), "{error}");
    let (web, db) = (world.container("web"), world.container("db"));
    let (one, two) = (put(&host, &web, "lan"), put(&host, &db, "small"));
    assert_eq!((one.mtu, two.mtu), (Some(1400), Some(1300)));
    assert_eq!(link(&web.netns, "eth0")["mtu"], 1400);
    assert_eq!(link(&db.netns, "eth0")["mtu"], 1300);
    assert_eq!(link(&db.netns, "eth0")["linkinfo"]["info_data"]["bcqueuelen"], 2000);
    assert!(lan.pings(ip(&two)));
}
