//! The host's own macvlan, past the rule that a parent and its macvlans never meet.

use super::*;

#[test]
fn with_host_access_host_and_containers_reach_each_other() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    let before = host.snapshot();
    let network = lan_network("lan", &[("parent", "lan0"), ("host-access", "true")]);
    let network = make(&host, &network);
    let own = network.subnets[0].aux["host"];
    assert_eq!(own, "192.0.2.128".parse::<IpAddr>().unwrap());
    let empty = host.snapshot();
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    host.netns.serve_tcp(80);
    web.netns.serve_tcp(81);
    // At the address that it has for them, and at the one that it has for everybody.
    for at in [own, "192.0.2.1".parse().unwrap()] {
        assert_eq!(web.netns.ask_tcp((at, 80).into()).unwrap(), ip(&endpoint));
    }
    assert_eq!(host.netns.ask_tcp((ip(&endpoint), 81).into()).unwrap(), own);
    assert!(lan.pings(ip(&endpoint)) && lan.pings("192.0.2.1".parse().unwrap()));
    let with_web = host.snapshot();

    // Whatever somebody takes away comes back.
    let name = format!("mh-{}", network.id.short());
    host.netns.run(&format!("ip link delete {name}"));
    assert!(host.netns.pings_in_vain(ip(&endpoint)));
    assert!(!differences(&host, &endpoint).is_empty());
    let repaired = host.client().call(&Reconcile {}).unwrap().repaired;
    assert!(repaired.iter().any(|line| line.contains(&name)), "{repaired:?}");
    host.snapshot().same_as(&with_web).unwrap();
    assert!(host.netns.pings(ip(&endpoint)));
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    host.kill();
    host.start();
    assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());

    let mut db = world.container("db");
    let killed = ip(&put(&host, &db, "lan"));
    let routes = |ip: IpAddr| host.netns.run("ip route").contains(&format!("{ip} "));
    assert!(routes(killed));
    db.netns.kill();
    within(SECOND, "the way there is gone", || if routes(killed) { Err(()) } else { Ok(()) });
    assert!(routes(ip(&endpoint)));
    host.client().detach("web");
    assert!(!routes(ip(&endpoint)));
    host.snapshot().same_as(&empty).unwrap();
    host.client().call(&RemoveNetwork { network: "lan".into() }).unwrap();
    host.snapshot().same_as(&before).unwrap();
}
