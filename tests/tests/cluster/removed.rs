//! A host that others removed says so and how to go on, bothers nobody, and can join again.

use cnm::{
    Kind,
    cluster::{CreateToken, LeaveCluster, RemoveNode, Role},
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::fleet::{Fleet, reaches, resolves};

/// Waits until a host says that it was removed, in every way in which it is asked.
#[track_caller]
fn says_so(fleet: &Fleet, host: usize) {
    eventually("it knows that it was removed", || {
        let status = fleet.status(host);
        if status.removed_since.is_some() { Ok(()) } else { Err(Box::new(status)) }
    });
    let shown = fleet.hosts[host].netctl(&["cluster", "status"]);
    assert!(shown.success().contains("netctl cluster leave --force"), "{shown:?}");
    for words in
        [&["cluster", "ls"][..], &["node", "ls"], &["network", "create", "-d", "overlay", "x"]]
    {
        let refused = fleet.hosts[host].netctl(words);
        assert!(refused.code != 0 && refused.stderr.contains("was removed"), "{refused:?}");
        assert!(refused.stderr.contains("netctl cluster leave --force"), "{refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
    let problems = fleet.hosts[host].client().status().problems;
    assert!(problems.len() == 1 && problems[0].contains("was removed"), "{problems:?}");
}

/// How many lines a host logs within five seconds.
fn noise(fleet: &Fleet, host: usize) -> usize {
    let before = fleet.hosts[host].log().lines().count();
    let since = std::time::Instant::now();
    eventually("time goes by", || if since.elapsed().as_secs() >= 5 { Ok(()) } else { Err(()) });
    fleet.hosts[host].log().lines().count() - before
}

#[test]
fn a_worker_that_was_removed_keeps_its_own_and_joins_again() {
    let mut fleet = Fleet::new(2);
    fleet.create("shop");
    fleet.create("unused");
    let a = fleet.run(0, "shop", "a");
    let (b, c) = (fleet.run(1, "shop", "b"), fleet.run(1, "shop", "c"));
    resolves(&b, "a", &[a.ip()]);
    reaches(&b.container.netns, a.ip());
    let remove = RemoveNode { node: "h2".into(), force: true };
    fleet.hosts[0].client().call(&remove).unwrap();
    says_so(&fleet, 1);
    // What leads to others is gone; its own containers reach each other.
    resolves(&b, "a", &[]);
    resolves(&b, "c", &[c.ip()]);
    reaches(&b.container.netns, c.ip());
    let mac = a.endpoint.mac.unwrap().to_string();
    eventually("nothing leads to others", || {
        let rows = fleet.hosts[1].netns.run("bridge fdb show");
        if rows.contains(&mac) { Err(rows) } else { Ok(()) }
    });
    let seen = fleet.networks(1);
    assert!(seen.contains(&"shop".to_owned()) && !seen.contains(&"unused".to_owned()), "{seen:?}");
    let late = fleet.world.container("late");
    let (kind, error) = kind_of(fleet.hosts[1].client().call(&late.to("shop")));
    assert!(kind == Kind::Denied && error.message.contains("was removed"), "{error}");
    let lines = noise(&fleet, 1);
    assert!(lines < 3, "{lines} lines for nothing");
    // It knows after a restart, too.
    fleet.hosts[1].kill();
    fleet.hosts[1].start();
    says_so(&fleet, 1);
    reaches(&b.container.netns, c.ip());
    // A network goes with the last one who is on it.
    fleet.hosts[1].client().detach(&b.container.id);
    fleet.hosts[1].client().detach(&c.container.id);
    eventually("the network is gone", || {
        let seen = fleet.networks(1);
        let links = fleet.hosts[1].netns.run("ip -o link show type vxlan");
        if seen.contains(&"shop".to_owned()) || links.contains("nx") {
            Err((seen, links))
        } else {
            Ok(())
        }
    });
    fleet.hosts[1].client().call(&LeaveCluster { force: true }).unwrap();
    assert_eq!(fleet.hosts[1].client().status().problems, [""; 0]);
    let token = fleet.hosts[0].client().call(&CreateToken::default()).unwrap().token;
    fleet.join(1, &token).unwrap();
    let d = fleet.run(1, "shop", "d");
    resolves(&a, "d", &[d.ip()]);
    reaches(&a.container.netns, d.ip());
}

#[test]
fn a_host_that_was_removed_while_it_was_cut_off_is_told_when_it_is_back() {
    let mut fleet = Fleet::new(3);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    fleet.cable(1, false);
    fleet.hosts[2].kill();
    for node in ["h2", "h3"] {
        let remove = RemoveNode { node: node.into(), force: true };
        fleet.hosts[0].client().call(&remove).unwrap();
    }
    eventually("the store is away", || {
        let status = fleet.status(1);
        if status.away_since.is_some() { Ok(()) } else { Err(Box::new(status)) }
    });
    fleet.cable(1, true);
    fleet.hosts[2].start();
    for host in 1..3 {
        says_so(&fleet, host);
    }
    fleet.hosts[2].client().call(&LeaveCluster::default()).unwrap();
    fleet.hosts[1].client().call(&LeaveCluster { force: true }).unwrap();
    assert_eq!(fleet.hosts[1].client().endpoints().len(), 0);
}

#[test]
fn a_manager_that_was_removed_ends_its_etcd() {
    let fleet = Fleet::managed(3, 3, "");
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(2, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let remove = RemoveNode { node: "h3".into(), force: true };
    eventually("it is removed", || match fleet.hosts[0].client().call(&remove) {
        Err(error) if error.kind != Kind::NotFound => Err(error),
        _ => Ok(()),
    });
    let members = fleet.etcdctl(0, "member list").unwrap();
    assert_eq!(members.lines().count(), 2, "{members}");
    says_so(&fleet, 2);
    eventually("its etcd has ended", || match fleet.etcd_of(2) {
        None => Ok(()),
        pid => Err(pid),
    });
    let lines = noise(&fleet, 2);
    assert!(lines < 3, "{lines} lines for nothing");
    assert_eq!(fleet.etcd_of(2), None, "nobody starts it again");
    fleet.hosts[2].client().call(&LeaveCluster { force: true }).unwrap();
    let token = CreateToken { role: Role::Manager, ..CreateToken::default() };
    let token = fleet.hosts[0].client().call(&token).unwrap().token;
    eventually("it joins", || fleet.join(2, &token));
    let c = fleet.run(2, "shop", "c");
    resolves(&a, "c", &[c.ip()]);
}
