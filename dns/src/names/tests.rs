use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Change as Told, *};

fn member(endpoint: &str, container: &str, names: &[&str], addresses: &[&str]) -> Member {
    Member {
        endpoint: endpoint.into(),
        container: container.into(),
        names: names.iter().map(|name| (*name).into()).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Member::default()
    }
}

/// The endpoints that bear a name on a network.
fn bearers(snapshot: &Snapshot, network: &str, name: &str) -> Vec<String> {
    let network = snapshot.networks.get(network);
    let bearers = network.and_then(|network| network.names.get(name.as_bytes()));
    bearers.map_or_else(Vec::new, |it| it.values().map(|it| it.endpoint.to_string()).collect())
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let names = Names::new();
    let before = names.load();
    names.publish("n", member("e", "c", &["web"], &["10.0.0.2"]));
    let between = names.load();
    names.retract("n", "e");
    assert!(bearers(&before, "n", "web").is_empty());
    assert_eq!(bearers(&between, "n", "web"), ["e"]);
    assert!(bearers(&names.load(), "n", "web").is_empty());
}

#[test]
fn publishing_again_replaces() {
    let names = Names::new();
    names.publish("n", member("e", "c", &["old", "both"], &["10.0.0.2"]));
    names.publish("n", member("e", "c", &["new", "BOTH."], &["10.0.0.3"]));
    let now = names.load();
    assert!(bearers(&now, "n", "old").is_empty());
    assert_eq!(bearers(&now, "n", "both"), ["e"]);
    assert_eq!(bearers(&now, "n", "new"), ["e"]);
    let network = now.networks.get("n").unwrap();
    assert!(!network.addresses.contains_key(&"10.0.0.2".parse::<IpAddr>().unwrap()));
    assert_eq!(now.attachments("c"), [("n".into(), 1)]);
}

#[test]
fn what_is_prepared_is_seen_once_it_is_published() {
    let names = Names::new();
    names.publish("n", member("e", "c", &["old"], &["10.0.0.2"]));
    let serial = names.load().serial;
    let prepared = names.prepare("n", member("e", "c", &["new"], &["10.0.0.3"]));
    assert_eq!(bearers(&names.load(), "n", "old"), ["e"]);
    assert!(bearers(&names.load(), "n", "new").is_empty());
    names.publish_prepared(prepared);
    assert!(bearers(&names.load(), "n", "old").is_empty());
    assert_eq!(bearers(&names.load(), "n", "new"), ["e"]);
    assert_eq!(names.load().serial, serial + 1);
}

#[test]
fn what_changed_since_it_was_prepared_stays_changed() {
    let names = Names::new();
    names.publish("n", member("gone", "c1", &["gone"], &["10.0.0.2"]));
    let first = names.prepare("n", member("e2", "c2", &["both", "first"], &["10.0.0.3"]));
    let second = names.prepare("n", member("e3", "c3", &["both"], &["10.0.0.4"]));
    names.retract("n", "gone");
    names.publish_prepared(second);
    names.publish_prepared(first);
    let now = names.load();
    assert!(bearers(&now, "n", "gone").is_empty());
    assert_eq!(bearers(&now, "n", "first"), ["e2"]);
    assert_eq!(bearers(&now, "n", "both"), ["e2", "e3"]);
}

#[test]
fn an_address_that_was_taken_over_stays_with_who_took_it() {
    let names = Names::new();
    names.publish("n", member("e1", "c1", &["one"], &["10.0.0.2"]));
    names.publish("n", member("e2", "c2", &["two"], &["10.0.0.2"]));
    names.retract("n", "e1");
    let now = names.load();
    let holder =
        now.networks.get("n").unwrap().addresses.get(&"10.0.0.2".parse::<IpAddr>().unwrap());
    assert_eq!(holder.map(|member| &*member.endpoint), Some("e2"));
}

#[test]
fn a_network_that_comes_up_late_or_again_keeps_its_members() {
    let names = Names::new();
    names.publish("n", member("e", "c", &["web"], &[]));
    for name in ["App", "Other"] {
        names.network_up("n", Zone { name: name.to_owned(), ..Zone::default() });
        let now = names.load();
        assert_eq!(bearers(&now, "n", "web"), ["e"]);
        let network = now.networks.get("n").unwrap();
        assert_eq!(network.name, Some(text(name)));
    }
}

#[test]
fn a_network_that_goes_takes_its_members_and_nothing_else() {
    let names = Names::new();
    names.network_up("n", Zone::default());
    names.publish("n", member("e1", "c", &["web"], &[]));
    names.publish("n", member("e2", "c", &["web"], &[]));
    names.publish("m", member("e3", "c", &["web"], &[]));
    assert_eq!(names.load().attachments("c"), [("n".into(), 2), ("m".into(), 1)]);
    names.network_down("n");
    names.network_down("n");
    let now = names.load();
    assert!(!now.networks.contains_key("n"));
    assert_eq!(bearers(&now, "m", "web"), ["e3"]);
    assert_eq!(now.attachments("c"), [("m".into(), 1)]);
}

#[test]
fn what_is_not_there_is_retracted_already() {
    let names = Names::new();
    names.retract("n", "e");
    names.publish("n", member("e", "c", &["web"], &[]));
    names.retract("n", "other");
    names.retract("other", "e");
    assert_eq!(bearers(&names.load(), "n", "web"), ["e"]);
    names.retract("n", "e");
    let now = names.load();
    assert!(now.networks.is_empty(), "a network that never came up goes with its last member");
    assert!(now.containers.is_empty());
}

#[test]
fn an_empty_name_is_none() {
    let names = Names::new();
    names.publish("n", member("e", "c", &["", ".", "web"], &[]));
    assert_eq!(names.load().networks.get("n").unwrap().names.size(), 1);
    names.retract("n", "e");
    assert!(names.load().networks.is_empty());
}

/// The same, held plainly: what is published is a set of members by network and endpoint.
type Model = BTreeMap<(u8, u8), (u8, Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug)]
enum Change {
    Publish { network: u8, endpoint: u8, container: u8, names: Vec<u8>, addresses: Vec<u8> },
    Retract { network: u8, endpoint: u8 },
    Down { network: u8 },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let some = || prop::collection::vec(0..4u8, 0..3);
    let change = prop_oneof![
        4 => (0..3u8, 0..5u8, 0..3u8, some(), some()).prop_map(
            |(network, endpoint, container, names, addresses)| Change::Publish {
                network, endpoint, container, names, addresses,
            }
        ),
        3 => (0..3u8, 0..5u8).prop_map(|(network, endpoint)| Change::Retract { network, endpoint }),
        1 => (0..3u8).prop_map(|network| Change::Down { network }),
    ];
    prop::collection::vec(change, 0..40)
}

proptest! {
    #[test]
    fn the_maps_are_those_of_the_members(changes in changes()) {
        let names = Names::new();
        let mut model = Model::new();
        let id = |kind: &str, number: u8| format!("{kind}{number}");
        for change in changes {
            match change {
                Change::Publish { network, endpoint, container, names: called, addresses } => {
                    names.publish(&id("n", network), Member {
                        endpoint: id("e", endpoint).into(),
                        container: id("c", container).into(),
                        names: called.iter().map(|&name| id("Name", name).into()).collect(),
                        addresses: addresses
                            .iter()
                            .map(|&host| IpAddr::from([10, 0, endpoint, host]))
                            .collect(),
                        ..Member::default()
                    });
                    model.insert((network, endpoint), (container, called, addresses));
                }
                Change::Retract { network, endpoint } => {
                    names.retract(&id("n", network), &id("e", endpoint));
                    model.remove(&(network, endpoint));
                }
                Change::Down { network } => {
                    names.network_down(&id("n", network));
                    model.retain(|(other, _), _| *other != network);
                }
            }
        }

        let now = names.load();
        for network in 0..3 {
            let members = || model.iter().filter(move |((other, _), _)| *other == network);
            for name in 0..4 {
                let expected: Vec<String> = members()
                    .filter(|(_, (_, names, _))| names.contains(&name))
                    .map(|((_, endpoint), _)| id("e", *endpoint))
                    .collect();
                prop_assert_eq!(bearers(&now, &id("n", network), &id("name", name)), expected);
            }
            let held: BTreeSet<IpAddr> = now
                .networks
                .get(&*id("n", network))
                .into_iter()
                .flat_map(|network| network.addresses.keys().copied())
                .collect();
            let expected: BTreeSet<IpAddr> = members()
                .flat_map(|((_, endpoint), (_, _, addresses))| {
                    addresses.iter().map(|&host| IpAddr::from([10, 0, *endpoint, host]))
                })
                .collect();
            prop_assert_eq!(held, expected);
        }
        for container in 0..3 {
            let mut attachments = now.attachments(&id("c", container)).to_vec();
            attachments.sort();
            let mut expected = BTreeMap::new();
            for ((network, _), (owner, ..)) in &model {
                if *owner == container {
                    *expected.entry(NetworkKey::from(id("n", *network))).or_insert(0) += 1;
                }
            }
            prop_assert_eq!(attachments, expected.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn many_changes_are_seen_together() {
    let names = Names::new();
    let far = |endpoint, name, address| Arc::new(member(endpoint, "", &[name, "both"], &[address]));
    let (one, two) = (far("e1", "a", "10.0.0.2"), far("e2", "b", "10.0.0.3"));
    names.change_all([one, two.clone()].map(|member| ("n", Told::Publish(member))));
    let now = names.load();
    assert_eq!(bearers(&now, "n", "both"), ["e1", "e2"]);
    assert_eq!(bearers(&now, "n", "a"), ["e1"]);
    assert!(now.containers.is_empty(), "none of them asks here");
    let changes = [Told::Retract("e1"), Told::Publish(two), Told::Retract("unknown")];
    names.change_all(changes.map(|change| ("n", change)));
    let now = names.load();
    assert_eq!(bearers(&now, "n", "both"), ["e2"]);
    assert!(bearers(&now, "n", "a").is_empty());
    names.retract("n", "e2");
    assert!(bearers(&names.load(), "n", "both").is_empty());
}
