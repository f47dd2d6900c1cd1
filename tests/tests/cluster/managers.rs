//! Managers come and go: what is left of them can decide, and nothing of those who went is left.

use std::thread;

use cnm::{
    Kind,
    client::Client,
    cluster::{CreateToken, LeaveCluster, RemoveNode, Role},
    network::CreateNetwork,
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::fleet::{Fleet, reaches, resolves, underlay};

const LEAVE: LeaveCluster = LeaveCluster { force: false };

/// Waits until a cluster is these hosts, of which so many have a vote in etcd, as its members say.
#[track_caller]
fn is_whole(fleet: &Fleet, hosts: &[usize], voters: usize) {
    for host in hosts {
        eventually("all know who is left", || match fleet.status(*host).nodes {
            nodes if nodes == hosts.len() as u64 => Ok(()),
            nodes => Err(nodes),
        });
    }
    eventually("etcd has so many members", || {
        let members = fleet.etcdctl(hosts[0], "member list")?;
        let learners = members.lines().filter(|line| line.ends_with("true")).count();
        if members.lines().count() == voters && learners == 0 { Ok(()) } else { Err(members) }
    });
}

/// That a manager decides: it makes a network, which all of these hosts see.
#[track_caller]
fn decides(fleet: &Fleet, host: usize, name: &str, all: &[usize]) {
    let create = CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named(name) };
    eventually("it decides", || match fleet.hosts[host].client().call(&create) {
        Err(error) if error.kind == Kind::Exists => Ok(()),
        made => made.map(drop),
    });
    for host in all {
        eventually("every host sees the network", || {
            let seen = fleet.networks(*host);
            if seen.contains(&name.to_owned()) { Ok(()) } else { Err(seen) }
        });
    }
}

/// That nothing of the cluster is on a host.
#[track_caller]
fn is_out(fleet: &Fleet, host: usize) {
    eventually("it is in no cluster", || match fleet.status(host).cluster {
        None => Ok(()),
        cluster => Err(cluster),
    });
    assert_eq!(fleet.etcd_of(host), None, "its etcd has ended");
    assert!(!fleet.hosts[host].state_dir().join("cluster").exists());
}

fn token(fleet: &Fleet, host: usize, role: Role) -> String {
    let token = CreateToken { role, ..CreateToken::default() };
    eventually("a token", || fleet.hosts[host].client().call(&token)).token
}

#[test]
fn managers_leave_in_any_order_down_to_one() {
    let fleet = Fleet::managed(4, 3, "");
    fleet.create("shop");
    let a = fleet.run(3, "shop", "a");
    let mut left = vec![0, 1, 2, 3];
    // Who leads goes first, and then the one with which the cluster began or another.
    for _ in 0..2 {
        let leader = fleet.leader();
        fleet.hosts[leader].client().call(&LEAVE).unwrap_or_else(|error| panic!("{error}"));
        is_out(&fleet, leader);
        left.retain(|host| *host != leader);
        is_whole(&fleet, &left, left.len() - 1);
        decides(&fleet, left[0], &format!("n{leader}"), &left);
    }
    let last = left[0];
    let (kind, error) = kind_of(fleet.hosts[last].client().call(&LEAVE));
    assert!(kind == Kind::Busy && error.message.contains("last manager"), "{error}");
    let b = fleet.run(last, "shop", "b");
    resolves(&a, "b", &[b.ip()]);
    reaches(&a.container.netns, b.ip());
    // Those who left are as any other host.
    let manager = token(&fleet, last, Role::Manager);
    let back = (0..3).find(|host| *host != last).unwrap();
    let join = cnm::cluster::JoinCluster {
        token: manager,
        manager: (underlay(last), cnm::cluster::CLUSTER_PORT).into(),
        advertise: None,
    };
    eventually("it joins", || fleet.hosts[back].client().call(&join));
    is_whole(&fleet, &[last, back, 3], 2);
}

#[test]
fn a_manager_leaves_right_after_another_joined() {
    let mut fleet = Fleet::bare(3);
    fleet.init();
    decides(&fleet, 0, "shop", &[0]);
    let manager = token(&fleet, 0, Role::Manager);
    fleet.join(1, &manager).unwrap();
    // The other has no vote yet, and the first is all of etcd.
    let leave = LeaveCluster { force: true };
    fleet.hosts[0].client().call(&leave).unwrap();
    is_out(&fleet, 0);
    is_whole(&fleet, &[1], 1);
    decides(&fleet, 1, "later", &[1]);
    let worker = token(&fleet, 1, Role::Worker);
    let manager = (underlay(1), cnm::cluster::CLUSTER_PORT).into();
    let join = cnm::cluster::JoinCluster { token: worker, manager, advertise: None };
    fleet.hosts[2].client().call(&join).unwrap();
    let (a, b) = (fleet.run(1, "shop", "a"), fleet.run(2, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    reaches(&a.container.netns, b.ip());
}

#[test]
fn a_manager_that_has_just_joined_leaves_again_and_may_do_so_twice() {
    let mut fleet = Fleet::bare(2);
    fleet.init();
    for _ in 0..2 {
        let manager = token(&fleet, 0, Role::Manager);
        eventually("it joins", || fleet.join(1, &manager));
        // Asked for twice at the same time, it is done once.
        let socket = fleet.hosts[1].socket();
        let leaving = [(); 2].map(|()| {
            let socket = socket.clone();
            thread::spawn(move || Client::connect(&socket)?.call(&LEAVE))
        });
        let left = leaving.map(|leaving| leaving.join().unwrap());
        assert_eq!(left.iter().filter(|left| left.is_ok()).count(), 1, "{left:?}");
        let (kind, error) = kind_of(left.into_iter().find(Result::is_err).unwrap());
        assert!(kind == Kind::Denied && error.message.contains("in no cluster"), "{error}");
        is_out(&fleet, 1);
        is_whole(&fleet, &[0], 1);
    }
    decides(&fleet, 0, "shop", &[0]);
}

#[test]
fn leaving_is_refused_where_no_majority_would_be_left() {
    let fleet = Fleet::managed(3, 3, "");
    fleet.signal_etcd_of(2, "STOP").unwrap();
    let (kind, error) = kind_of(fleet.hosts[0].client().call(&LEAVE));
    assert!(kind == Kind::Busy && error.message.contains("bring another manager"), "{error}");
    assert!(error.message.contains("--force"), "{error}");
    // It is a manager as before.
    decides(&fleet, 0, "shop", &[0, 1]);
    fleet.signal_etcd_of(2, "CONT").unwrap();
    eventually("it leaves", || fleet.hosts[0].client().call(&LEAVE));
    is_out(&fleet, 0);
    is_whole(&fleet, &[1, 2], 2);
    decides(&fleet, 1, "later", &[1, 2]);
}

#[test]
fn a_learner_that_never_came_is_in_nobodys_way() {
    let mut fleet = Fleet::bare(3);
    fleet.init();
    // One that no node is known of.
    fleet.etcdctl(0, "member add ghost --learner --peer-urls=https://198.51.100.77:2380").unwrap();
    // And one that is never in touch with the others.
    let apart = &fleet.hosts[1].netns;
    apart.run("nft add table inet apart");
    for way in ["input", "output"] {
        apart.run(&format!(
            "nft add chain inet apart {way} {{ type filter hook {way} priority 0 ; }}"
        ));
        apart.run(&format!("nft add rule inet apart {way} tcp dport 2380 drop"));
    }
    let manager = token(&fleet, 0, Role::Manager);
    fleet.join(1, &manager).unwrap();
    let (kind, error) = kind_of(fleet.join(2, &manager));
    assert!(kind == Kind::Busy && error.message.contains("has no vote in etcd yet"), "{error}");
    fleet.hosts[0].client().call(&RemoveNode { node: "h2".into(), force: true }).unwrap();
    is_whole(&fleet, &[0], 1);
    eventually("it joins", || fleet.join(2, &manager));
    is_whole(&fleet, &[0, 2], 2);
}

/// Netd of a manager dies at a point of its leaving, and goes on with it when it is back.
fn dies_at(point: &str) {
    let mut fleet = Fleet::managed(2, 2, "");
    fleet.create("shop");
    let a = fleet.run(0, "shop", "a");
    let b = fleet.run(1, "shop", "b");
    resolves(&a, "b", &[b.ip()]);
    let died = fleet.hosts[1].arm(point);
    fleet.hosts[1].client().call(&LeaveCluster { force: true }).unwrap_err();
    fleet.hosts[1].wait_for_death();
    assert!(died());
    fleet.hosts[1].start();
    is_out(&fleet, 1);
    is_whole(&fleet, &[0], 1);
    resolves(&a, "b", &[]);
    assert_eq!(fleet.hosts[1].client().endpoints().len(), 0);
    decides(&fleet, 0, "later", &[0]);
}

macro_rules! points {
    ($($test:ident: $point:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                dies_at($point);
            }
        )*

        #[test]
        fn every_point_is_visited() {
            let own = cnm::fault::POINTS.iter().filter(|point| point.starts_with("cluster."));
            let own: Vec<_> = own.copied().collect();
            assert_eq!(own, [$($point),*]);
        }
    };
}

points! {
    a_manager_dies_when_it_is_asked_to_leave: "cluster.leave.after-asked",
    a_manager_dies_when_its_member_is_out: "cluster.leave.after-member",
    a_manager_dies_when_its_rows_are_gone: "cluster.leave.after-rows",
    a_manager_dies_when_the_others_know: "cluster.leave.after-told",
    a_manager_dies_when_its_etcd_has_ended: "cluster.leave.after-etcd",
}
