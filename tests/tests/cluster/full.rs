//! A store without room: what runs goes on, containers come and go from the blocks that their hosts have, what
//! is to be decided is refused and says why, and once there is room all know what is.

use std::time::{Duration, Instant};

use cnm::{
    Kind,
    cluster::{InitCluster, ListNodes, NodeInfo, NodeState},
    network::CreateNetwork,
};
use netd_tests::{Asking as _, Host, Ping, eventually, kind_of};

use crate::another::Another;
use crate::fleet::{Fleet, reaches, resolves, underlay};

/// How much a put adds: what a word on a command line may be.
const MUCH: usize = 100_000;

fn overlay(name: &str) -> CreateNetwork {
    CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named(name) }
}

/// Puts values until there is no room. What puts one says what etcd says of it.
fn fill(put: impl Fn(usize, &str) -> Result<(), String>) {
    let value = "x".repeat(MUCH);
    let refused = (0..200).find_map(|n| put(n, &value).err()).expect("it has a quota");
    assert!(refused.contains("database space exceeded"), "{refused}");
}

/// The problems of a host that are about the store's room.
fn of_room(fleet: &Fleet, host: usize) -> Vec<String> {
    let problems = fleet.hosts[host].client().status().problems;
    problems.into_iter().filter(|one| one.contains("store is full since")).collect()
}

fn there_is_room(fleet: &Fleet) {
    for host in 0..fleet.hosts.len() {
        eventually("there is room, as far as is known", || {
            let (problems, status) = (of_room(fleet, host), fleet.status(host));
            if problems.is_empty() && status.unwritten == 0 { Ok(()) } else { Err(problems) }
        });
    }
}

/// What `etcdctl` says to an etcd.
fn ctl(etcd: &Another, line: &str) -> Result<String, String> {
    let ran =
        etcd.netns.output(&format!("env ETCDCTL_API=3 etcdctl --endpoints {} {line}", etcd.url));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if ran.status.success() { Ok(said(&ran.stdout)) } else { Err(said(&ran.stderr)) }
}

#[test]
fn in_a_store_that_is_full_hosts_go_on_and_say_so() {
    let mut fleet = Fleet::bare(2);
    let etcd = Another::start(&fleet, "http", "--quota-backend-bytes 4000000");
    eventually("it answers", || ctl(&etcd, "endpoint health"));
    let init = InitCluster {
        advertise: Some(underlay(0)),
        etcd: vec![etcd.url.clone()],
        ..InitCluster::default()
    };
    let token = fleet.hosts[0].client().call(&init).unwrap().token.unwrap();
    fleet.join(1, &token).unwrap();
    fleet.create_of("shop", "10.60.0.0/22");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let gone = fleet.run(1, "shop", "gone");
    resolves(&a, "b", &[b.ip()]);
    resolves(&a, "gone", &[gone.ip()]);
    let ping = Ping::start(&a.container.netns, b.ip());
    fill(|n, value| ctl(&etcd, &format!("put filler/{n} {value}")).map(drop));

    let stranded = fleet.world.container("far");
    let mut far = stranded.to("shop");
    far.addresses = vec!["10.60.3.77".parse().unwrap()];
    let by_manager = fleet.hosts[0].client().call(&overlay("other")).map(drop);
    let by_worker = fleet.hosts[1].client().call(&far).map(drop);
    for refused in [by_manager, by_worker] {
        let (kind, error) = kind_of(refused);
        assert_eq!(kind, Kind::Exhausted, "{error}");
        let said = &error.message;
        assert!(said.contains("is full") && said.contains("disarm"), "{said}");
    }
    let c = fleet.run(1, "shop", "c");
    fleet.hosts[1].client().detach(&gone.container.id);
    reaches(&c.container.netns, b.ip());
    resolves(&b, "c", &[c.ip()]);
    resolves(&b, "gone", &[]);
    for host in 0..2 {
        eventually("it is said", || match &of_room(&fleet, host)[..] {
            [one] if one.contains("defragment it") => Ok(()),
            other => Err(other.to_vec()),
        });
    }
    // It forgets all the same.
    resolves(&a, "gone", &[]);
    eventually("the endpoint that came waits alone", || match fleet.status(1).unwritten {
        1 => Ok(()),
        other => Err(other),
    });
    // Hosts live longer than what they said before, and so does one whose netd starts anew.
    fleet.hosts[1].kill();
    fleet.hosts[1].start();
    let d = fleet.run(1, "shop", "d");
    resolves(&b, "d", &[d.ip()]);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(15) {
        ping.goes_on();
        let nodes = fleet.hosts[0].client().call(&ListNodes {}).unwrap().nodes;
        let ready = |node: &NodeInfo| node.state == NodeState::Ready;
        assert!(nodes.len() == 2 && nodes.iter().all(ready), "{nodes:?}");
        resolves(&a, "b", &[b.ip()]);
    }

    ctl(&etcd, "del --prefix filler/").unwrap();
    let revision = fleet.status(0).revision;
    ctl(&etcd, &format!("compact {revision} --physical")).unwrap();
    ctl(&etcd, "defrag").unwrap();
    ctl(&etcd, "alarm disarm").unwrap();
    for come in [&c, &d] {
        resolves(&a, &come.container.name, &[come.ip()]);
        reaches(&a.container.netns, come.ip());
    }
    there_is_room(&fleet);
    fleet.create("other");
    ping.lost_none();
}

#[test]
fn managers_make_room_in_an_etcd_of_their_own() {
    let fleet = Fleet::managed(3, 3, "etcd_quota = 4");
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let ping = Ping::start(&a.container.netns, b.ip());
    // History alone, of which nothing is needed.
    fill(|_, value| fleet.etcdctl(0, &format!("put filler {value}")).map(drop));
    let c = fleet.run(1, "shop", "c");
    resolves(&a, "c", &[c.ip()]);
    there_is_room(&fleet);
    fleet.create("other");
    let made = |host: &Host| host.log().contains("etcd was full, and has been compacted");
    assert!(fleet.hosts.iter().any(made), "nobody says so");
    ping.lost_none();
}
