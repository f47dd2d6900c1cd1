//! Nodes that take no new containers, and workers that may not decide.

use cnm::{
    Kind,
    cluster::{Availability, ListNodes, UpdateNode},
    network::{CreateNetwork, RemoveNetwork, UpdateNetwork},
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::fleet::{Fleet, reaches};

/// Waits until a host knows of a node's availability.
fn known(fleet: &Fleet, host: usize, node: &str, availability: &str) {
    eventually("a node's availability is known", || {
        let nodes = fleet.hosts[host].client().call(&ListNodes {}).unwrap().nodes;
        let found = nodes.into_iter().find(|one| one.name == node).unwrap();
        if found.availability == availability { Ok(()) } else { Err(found.availability) }
    });
}

#[test]
fn a_node_that_is_drained_takes_no_new_containers() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    fleet.hosts[1].client().create("own");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    crate::fleet::resolves(&a, "b", &[b.ip()]);
    let late = fleet.world.container("late");
    let local = fleet.world.container("local");
    for availability in ["drain", "pause"] {
        let update = ["node", "update", "--availability", availability, "h2"];
        let updated = fleet.hosts[0].netctl(&update);
        assert_eq!(updated.success(), "h2\n");
        let listed = format!("b           shop      {}", b.ip());
        assert_eq!(updated.stderr.contains(&listed), availability == "drain", "{updated:?}");
        known(&fleet, 1, "h2", availability);
        let (kind, error) = kind_of(fleet.hosts[1].client().call(&late.to("shop")));
        assert_eq!(kind, Kind::Denied, "{error}");
        assert_eq!(error.operands["availability"], availability);
        assert!(error.message.contains("netctl node update --availability active h2"), "{error}");
    }
    fleet.hosts[0].netctl(&["node", "update", "--availability", "drain", "h2"]).success();
    known(&fleet, 1, "h2", "drain");
    for host in 0..2 {
        let shown = fleet.hosts[host].netctl(&["node", "ls"]);
        assert!(shown.success().contains("Drain (1 left)"), "{shown:?}");
    }
    fleet.hosts[0].netctl(&["node", "update", "--availability", "pause", "h2"]).success();
    known(&fleet, 1, "h2", "pause");
    let shown = fleet.hosts[1].netctl(&["node", "ls"]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // An id may have these two letters, too.
    let mut lines = shown.success().lines().map(words);
    let line = lines.find(|words| words.iter().any(|word| word == "h2")).unwrap();
    assert!(line.contains(&"Pause".to_owned()), "{line:?}");
    // What is there stays, and what is of the host alone is as before.
    reaches(&a.container.netns, b.ip());
    fleet.hosts[1].client().attach(&local.to("own"));
    fleet.hosts[0].netctl(&["node", "update", "--availability", "active", "h2"]).success();
    known(&fleet, 1, "h2", "active");
    let late = fleet.hosts[1].client().attach(&late.to("shop"));
    reaches(&a.container.netns, late.addresses[0].ip());
}

#[test]
fn what_is_for_managers_says_so_on_a_worker() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let mut worker = fleet.hosts[1].client();
    let refused = |(kind, error): (Kind, cnm::Error)| {
        assert_eq!(kind, Kind::Denied, "{error}");
        assert!(error.message.ends_with("ask on a manager"), "{error}");
    };
    let name = "other";
    let create = CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named(name) };
    refused(kind_of(worker.call(&create)));
    refused(kind_of(worker.call(&RemoveNetwork { network: "shop".into() })));
    let label = [("tier".to_owned(), "web".to_owned())].into();
    let update = UpdateNetwork { network: "shop".into(), labels: label, ..Default::default() };
    refused(kind_of(worker.call(&update)));
    let update = UpdateNode { node: "h1".into(), availability: Availability::Drain };
    refused(kind_of(worker.call(&update)));
    let (kind, _) = kind_of(
        fleet.hosts[0]
            .client()
            .call(&UpdateNode { node: "nobody".into(), availability: Availability::Drain }),
    );
    assert_eq!(kind, Kind::NotFound);
}
