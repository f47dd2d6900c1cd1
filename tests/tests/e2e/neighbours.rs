//! Two netds, each in a namespace of its own, on one machine.

use cnm::network::CreateNetwork;
use netd_tests::{Asking as _, World, eventually};

#[test]
fn two_netds_do_not_disturb_each_other() {
    let world = World::new();
    let (mut one, two) = (world.host("one"), world.host("two"));
    let (mut first, mut second) = (one.client(), two.client());
    first.create_on("app", "10.41.0.0/24");
    second.create_on("app", "10.41.0.0/24");
    let before = two.snapshot();
    let (web, db) = (world.container("web"), world.container("db"));
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let web_endpoint = first.attach(&attach);
    two.snapshot().same_as(&before).unwrap();
    assert!(second.endpoints().is_empty());
    let mut attach = db.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let db_endpoint = second.attach(&attach);
    assert_eq!(web_endpoint.addresses, db_endpoint.addresses, "their worlds are apart");
    let with_db = two.snapshot();

    one.kill();
    one.start();
    two.snapshot().same_as(&with_db).unwrap();
    assert_eq!(one.client().endpoints(), [web_endpoint]);
    one.client().detach("web");
    eventually("nothing of it is left", || {
        let snapshot = one.snapshot();
        if snapshot.lines("link nd").next().is_none() { Ok(()) } else { Err(snapshot) }
    });
    assert_eq!(second.endpoints(), [db_endpoint]);
    two.snapshot().same_as(&with_db).unwrap();
    assert!(db.netns.pings("10.41.0.1".parse().unwrap()));
}

#[test]
fn one_container_may_be_on_networks_of_both() {
    let world = World::new();
    let (one, two) = (world.host("one"), world.host("two"));
    let (mut first, mut second) = (one.client(), two.client());
    first.create_on("app", "10.41.0.0/24");
    // One default route is enough.
    let subnet = cnm::network::Subnet::new("10.42.0.0/24".parse().unwrap());
    let vault =
        CreateNetwork { internal: true, subnets: vec![subnet], ..CreateNetwork::named("app") };
    second.call(&vault).unwrap();
    let web = world.container("web");
    let mut attach = web.to("app");
    let here = first.attach(&attach);
    attach.ifname = Some("eth1".parse().unwrap());
    let there = second.attach(&attach);
    assert!(one.netns.pings(here.addresses[0].ip()));
    assert!(two.netns.pings(there.addresses[0].ip()));
    first.detach("web");
    assert!(two.netns.pings(there.addresses[0].ip()));
}
