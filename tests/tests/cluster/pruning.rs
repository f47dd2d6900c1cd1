//! Networks of the cluster that nobody is on go with a prune, and one that somebody is about to be on stays.

use std::thread;

use cnm::{
    Kind,
    network::{CreateNetwork, PruneNetworks, Pruned},
};
use netd_tests::{Asking as _, eventually};

use crate::fleet::{Fleet, reaches};

impl Fleet {
    fn prune(&self, host: usize) -> Pruned {
        self.hosts[host].client().call(&PruneNetworks::default()).unwrap()
    }
}

fn names(pruned: &Pruned) -> Vec<&str> {
    pruned.removed.iter().map(cnm::Name::as_str).collect()
}

#[test]
fn what_nobody_on_any_host_uses_is_pruned_on_a_manager() {
    let mut fleet = Fleet::new(3);
    for name in ["never", "once", "here", "there"] {
        fleet.create(name);
    }
    fleet.hosts[0].client().create("own");
    fleet.hosts[1].client().create("own");
    // Its addresses are that host's for a while after.
    let gone = fleet.run(1, "once", "gone");
    fleet.hosts[1].client().detach(&gone.container.id);
    let here = fleet.run(0, "here", "x");
    let there = fleet.run(2, "there", "y");

    let of_worker = fleet.prune(1);
    assert_eq!(names(&of_worker), ["own"]);
    assert!(
        of_worker.notes.len() == 1 && of_worker.notes[0].contains("prune on a manager"),
        "{of_worker:?}"
    );

    let pruned = fleet.prune(0);
    assert_eq!((names(&pruned), &pruned.notes), (vec!["never", "once", "own"], &vec![]));
    for host in 0..3 {
        eventually("what was pruned is gone everywhere, and the rest is there", || {
            let mut seen = fleet.networks(host);
            seen.retain(|name| !["bridge", "host", "none"].contains(&name.as_str()));
            if seen == ["here", "there"] { Ok(()) } else { Err(seen) }
        });
        let problems = fleet.hosts[host].client().status().problems;
        assert_eq!(problems, [""; 0]);
    }
    let beside = fleet.run(1, "here", "beside");
    reaches(&beside.container.netns, here.ip());
    let beside = fleet.run(1, "there", "along");
    reaches(&beside.container.netns, there.ip());

    // The name and the filters are as for others.
    let keep = CreateNetwork {
        driver: Some("overlay".into()),
        labels: [("keep".to_owned(), String::new())].into(),
        ..CreateNetwork::named("once")
    };
    fleet.hosts[0].client().call(&keep).unwrap();
    let but = PruneNetworks { filters: [("label!".to_owned(), vec!["keep".to_owned()])].into() };
    let pruned = fleet.hosts[0].client().call(&but).unwrap();
    assert_eq!(names(&pruned), [""; 0]);

    // A host that does not answer may be attaching somebody.
    let elsewhere = |count: u64| {
        eventually("the others have heard of it", || match fleet.status(0).elsewhere {
            seen if seen == count => Ok(()),
            seen => Err(seen),
        });
    };
    let held = fleet.run(2, "once", "held");
    elsewhere(4);
    fleet.hosts[2].client().detach(&held.container.id);
    elsewhere(3);
    fleet.hosts[2].kill();
    let shown = fleet.hosts[0].netctl(&["network", "prune", "-f"]);
    assert_eq!(shown.success(), "");
    assert!(
        shown.stderr.contains("network once stays") && shown.stderr.contains("h3"),
        "{shown:?}"
    );
    fleet.hosts[2].start();
    eventually("it goes when the host is back", || {
        let pruned = fleet.prune(0);
        if names(&pruned) == ["once"] { Ok(()) } else { Err(pruned) }
    });
}

#[test]
fn of_a_prune_and_an_attach_elsewhere_one_wins() {
    let fleet = Fleet::new(2);
    let (mut attached, mut pruned) = (0, 0);
    for round in 0..24 {
        let name = format!("n{round}");
        fleet.create(&name);
        // With a block of its own the other host asks nobody.
        if round % 2 == 0 {
            let first = fleet.run(1, &name, "first");
            fleet.hosts[1].client().detach(&first.container.id);
        }
        let container = fleet.world.container("web");
        let attach = container.to(&name);
        let mut netd = fleet.hosts[1].client();
        let gone = thread::scope(|scope| {
            let attaching = scope.spawn(move || netd.call(&attach));
            let gone = names(&fleet.prune(0)).contains(&name.as_str());
            match (attaching.join().unwrap(), gone) {
                (Ok(_), false) => attached += 1,
                (Err(error), true) => {
                    assert_eq!(error.kind, Kind::NotFound, "{error}");
                    pruned += 1;
                }
                (attached, _) => panic!("gone {gone}, and {attached:?}"),
            }
            gone
        });
        for host in 0..2 {
            eventually("all hosts agree", || {
                let there = fleet.networks(host).contains(&name);
                if there == gone { Err(there) } else { Ok(()) }
            });
            assert_eq!(fleet.hosts[host].client().status().problems, [""; 0]);
        }
        fleet.hosts[1].client().detach(&container.id);
    }
    println!("{attached} attaches and {pruned} prunes were first");
}
