//! A network of a host and one of the cluster that have the same name: which one is meant is never
//! guessed, and the host says what is to be done.

use cnm::{
    Kind,
    endpoint::Detach,
    network::{CreateNetwork, InspectNetwork},
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::fleet::{Fleet, reaches, resolves};

fn overlay(name: &str) -> CreateNetwork {
    CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named(name) }
}

/// Waits until a host says that a name means two networks, or that none does.
#[track_caller]
fn says_so(fleet: &Fleet, host: usize, ids: &[&str]) {
    eventually("the host says what is in the way", || {
        let problems = fleet.hosts[host].client().status().problems;
        let said = problems.len() == usize::from(!ids.is_empty())
            && ids.iter().all(|id| problems[0].contains(&id[..12]));
        if said { Ok(()) } else { Err(problems) }
    });
}

/// A name of both is refused wherever it would have to be guessed, with both ids.
fn is_never_guessed(fleet: &Fleet, host: usize, ids: [&str; 2]) {
    let stray = fleet.world.container("stray");
    let mut netd = fleet.hosts[host].client();
    for given in ["app", "=app"] {
        let (kind, error) = kind_of(netd.call(&stray.to(given)));
        assert_eq!(kind, Kind::Invalid, "{error}");
        assert!(ids.iter().all(|id| error.message.contains(&id[..12])), "{error}");
    }
    let (kind, _) = kind_of(netd.call(&InspectNetwork { network: "app".into() }));
    assert_eq!(kind, Kind::Invalid);
    for words in [&["network", "rm", "app"][..], &["network", "inspect", "app"]] {
        let refused = fleet.hosts[host].netctl(words);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("ambiguous (2 matches found on name)"), "{refused:?}");
    }
    let listed = fleet.hosts[host].netctl(&["network", "ls", "-f", "name=app"]);
    let listed = listed.success();
    assert!(ids.iter().all(|id| listed.contains(&id[..12])), "{listed}");
    assert!(listed.contains("bridge") && listed.contains("overlay"), "{listed}");
}

#[test]
fn a_name_of_a_host_and_of_the_cluster_is_never_guessed() {
    let mut fleet = Fleet::new(2);
    let own = fleet.hosts[1].client().create("app");
    let before = fleet.world.container("before");
    let before_at = fleet.hosts[1].client().attach(&before.to("app")).addresses[0].ip();
    let shared = fleet.hosts[0].client().call(&overlay("app")).unwrap();
    let ids = [own.id.as_str(), shared.id.as_str()];
    says_so(&fleet, 1, &ids);
    is_never_guessed(&fleet, 1, ids);
    assert_eq!(fleet.hosts[0].client().status().problems, [""; 0]);

    // Each by its id; names resolve on the network that the asker is on.
    let a = fleet.run(0, "app", "a");
    let b = fleet.run(1, shared.id.as_str(), "b");
    let c = fleet.run(1, own.id.as_str(), "c");
    resolves(&b, "a", &[a.ip()]);
    resolves(&b, "a.app", &[a.ip()]);
    resolves(&a, "b", &[b.ip()]);
    reaches(&b.container.netns, a.ip());
    resolves(&c, "before.app", &[before_at]);
    resolves(&c, "a.app", &[]);

    // Not otherwise after a start, in which the cluster's are known first.
    fleet.hosts[1].kill();
    fleet.hosts[1].start();
    says_so(&fleet, 1, &ids);
    is_never_guessed(&fleet, 1, ids);

    // Who is on one of them can be taken off by its name; who is on none is off.
    let detach = |container: &str| Detach {
        network: Some("app".into()),
        container: container.into(),
        ifname: None,
    };
    let mut netd = fleet.hosts[1].client();
    for (of, gone) in [(&b, 1), (&c, 1), (&b, 0)] {
        let detached = netd.call(&detach(&of.container.id)).unwrap();
        assert_eq!(detached.endpoints.len(), gone);
    }
    netd.detach(&before.id);
    assert_eq!(fleet.hosts[1].netctl(&["network", "rm", own.id.as_str()]).code, 0);
    says_so(&fleet, 1, &[]);
    let b = fleet.run(1, "app", "b");
    assert_eq!(b.endpoint.network, shared.id);
}

#[test]
fn a_second_one_is_refused_where_both_would_be_and_named_where_they_are() {
    let mut fleet = Fleet::bare(3);
    let token = fleet.init().token.unwrap();
    let shared = fleet.hosts[0].client().call(&overlay("app")).unwrap();
    fleet.join(1, &token).unwrap();
    eventually("the network is known", || {
        let seen = fleet.networks(1);
        if seen.contains(&"app".to_owned()) { Ok(()) } else { Err(seen) }
    });
    for host in 0..2 {
        let own = CreateNetwork::named("app");
        let (kind, error) = kind_of(fleet.hosts[host].client().call(&own));
        assert_eq!(kind, Kind::Exists, "{error}");
        let named = format!("{} is the cluster's", &shared.id.as_str()[..12]);
        assert!(error.message.contains(&named), "{error}");
    }
    let local = fleet.hosts[0].client().create("local");
    let (kind, error) = kind_of(fleet.hosts[0].client().call(&overlay("local")));
    assert_eq!(kind, Kind::Exists, "{error}");
    let named = format!("{} is this host's own", &local.id.as_str()[..12]);
    assert!(error.message.contains(&named), "{error}");

    // A host that comes with one of its own joins, keeps it, and says so.
    let own = fleet.hosts[2].client().create("app");
    fleet.join(2, &token).unwrap();
    let ids = [own.id.as_str(), shared.id.as_str()];
    says_so(&fleet, 2, &ids);
    is_never_guessed(&fleet, 2, ids);
    fleet.hosts[0].client().call(&cnm::network::RemoveNetwork { network: "app".into() }).unwrap();
    says_so(&fleet, 2, &[]);
    let c = fleet.world.container("c");
    assert_eq!(fleet.hosts[2].client().attach(&c.to("app")).network, own.id);
}
