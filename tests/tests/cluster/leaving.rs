//! A host leaves, or is removed: its part of the cluster goes, and nothing else.

use cnm::{
    Kind,
    cluster::{LeaveCluster, RemoveNode},
    network::RemoveNetwork,
    system::Reconcile,
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::fleet::{Fleet, reaches, resolves};

#[test]
fn a_host_leaves_and_keeps_its_own_networks() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let a = fleet.run(0, "shop", "a");
    let mut netd = fleet.hosts[1].client();
    netd.create("app");
    let local = fleet.world.container("local");
    netd.attach(&local.to("app"));
    let b = fleet.run(1, "shop", "b");
    resolves(&a, "b", &[b.ip()]);
    let remove = RemoveNetwork { network: "shop".into() };
    let (kind, _) = kind_of(fleet.hosts[0].client().call(&remove));
    assert_eq!(kind, Kind::Busy, "it is used");
    let (kind, _) = kind_of(netd.call(&LeaveCluster { force: false }));
    assert_eq!(kind, Kind::Busy, "b is on a network of the cluster");
    netd.detach(&b.container.id);
    netd.call(&LeaveCluster { force: false }).unwrap();
    assert_eq!(netd.endpoints().len(), 1);
    assert!(!fleet.networks(1).contains(&"shop".to_owned()));
    assert!(fleet.networks(1).contains(&"app".to_owned()));
    assert_eq!(fleet.status(1).cluster, None);
    let log = fleet.hosts[1].log();
    assert!(!log.contains("ERROR"), "it was its own wish: {log}");
    let vxlan = fleet.hosts[1].netns.run("ip -o link show type vxlan");
    assert!(!vxlan.contains("nx"), "{vxlan}");
    resolves(&a, "b", &[]);
    eventually("the others know", || match fleet.status(0).nodes {
        1 => Ok(()),
        n => Err(n),
    });
    fleet.hosts[0].client().detach(&a.container.id);
    eventually("nobody is on it", || {
        let remove = RemoveNetwork { network: "shop".into() };
        fleet.hosts[0].client().call(&remove)
    });
    assert!(!fleet.networks(0).contains(&"shop".to_owned()));
}

#[test]
fn who_stays_behind_is_told_that_the_cluster_is_over() {
    let fleet = Fleet::new(3);
    fleet.hosts[0].client().call(&LeaveCluster { force: true }).unwrap();
    for host in [1, 2] {
        eventually("it says so", || {
            let problems = fleet.hosts[host].client().status().problems;
            let told = problems.iter().any(|one| one.contains("was removed from its cluster"));
            if told { Ok(()) } else { Err(problems) }
        });
        fleet.hosts[host].client().call(&LeaveCluster { force: true }).unwrap();
        assert_eq!(fleet.status(host).cluster, None);
    }
}

#[test]
fn who_stays_behind_says_that_the_store_is_away_in_plain_words() {
    let mut fleet = Fleet::new(2);
    fleet.hosts[0].kill();
    fleet.signal_etcd_of(0, "KILL").unwrap();
    let problem = eventually("it says so", || {
        let problems = fleet.hosts[1].client().status().problems;
        let away = problems.iter().find(|one| one.contains("the cluster's store is away since"));
        away.cloned().ok_or(problems)
    });
    for word in ["grpc", "stream", "protocol error"] {
        assert!(!problem.contains(word), "{word} is a library's: {problem}");
    }
}

#[test]
fn while_the_store_is_away_a_removal_says_so() {
    let fleet = Fleet::new(2);
    fleet.signal_etcd("STOP");
    eventually("it says that, and not that the node is there", || {
        let remove = RemoveNode { node: "h2".into(), force: false };
        match fleet.hosts[0].client().call(&remove) {
            Err(error) if error.kind == Kind::Unavailable => {
                assert!(error.message.contains("store is away since"), "{error}");
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_host_that_is_removed_is_let_in_no_more() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    reaches(&a.container.netns, b.ip());
    let mut manager = fleet.hosts[0].client();
    eventually("it cannot be removed by mistake", || {
        match manager.call(&RemoveNode { node: "h2".into(), force: false }) {
            Err(error) if error.kind == Kind::Busy => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    manager.call(&RemoveNode { node: "h2".into(), force: true }).unwrap();
    resolves(&a, "b", &[]);
    let create = cnm::network::CreateNetwork {
        driver: Some("overlay".into()),
        ..cnm::network::CreateNetwork::named("other")
    };
    let (kind, error) = kind_of(fleet.hosts[1].client().call(&create));
    assert_eq!(kind, Kind::Denied, "{error}");
    fleet.hosts[1].client().call(&LeaveCluster { force: true }).unwrap();
    assert_eq!(fleet.status(1).cluster, None);
}

#[test]
fn who_leaves_by_force_with_a_container_attached_leaves_nothing_behind() {
    let fleet = Fleet::new(2);
    for round in 0..4 {
        let name = format!("shop{round}");
        fleet.create(&name);
        let _running = fleet.run(1, &name, &format!("b{round}"));
        let mut netd = fleet.hosts[1].client();
        netd.call(&LeaveCluster { force: true }).unwrap();
        assert_eq!(netd.endpoints().len(), 0);
        // Whatever was begun of what was there before is through.
        let reconciled = netd.call(&Reconcile {}).unwrap();
        assert_eq!(reconciled.repaired, [""; 0], "nothing was left to be put right");
        let links = fleet.hosts[1].netns.run("ip -br link");
        assert!(!links.contains("nx") && !links.contains("br-"), "{links}");
        fleet.join(1, fleet.token()).unwrap();
    }
    let log = fleet.hosts[1].log();
    assert!(!log.contains("disturbed"), "it was its own doing: {log}");
}
