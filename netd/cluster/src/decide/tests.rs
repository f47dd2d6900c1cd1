//! The decisions, on the embedded store, which is as good as any.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use cnm::{EndpointId, NetworkId, network::Subnet};
use ipnetwork::IpNetwork;
use proptest::{collection::vec, prelude::*};
use store::{Embedded, EmbeddedOptions};

use super::*;
use crate::{
    Role,
    rows::{Facts, Live, NetworkOwner, Pool},
};

fn node(n: u8) -> NodeId {
    format!("{n:025}").parse().expect("a node")
}

fn joining(n: u8) -> Joining {
    Joining {
        node: node(n),
        role: if n == 0 { Role::Manager } else { Role::Worker },
        public_key: "k".to_owned(),
        joined_with: None,
        facts: Facts::default(),
        former: None,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn range(text: &str) -> IpNetwork {
    text.parse().expect("a range")
}

fn id(n: u8) -> NetworkId {
    NetworkId::from_bytes([n; 32])
}

fn network(n: u8, name: &str, subnets: &[&str]) -> cnm::network::Network {
    let subnets: Vec<_> = subnets.iter().map(|text| Subnet::new(range(text))).collect();
    let json = serde_json::json!({
        "id": id(n), "name": name, "driver": "overlay", "created": "now", "subnets": subnets,
    });
    serde_json::from_value(json).expect("a network")
}

const IPV4: Wanted = Wanted { ipv4: true, ipv6: false };
const GIVEN: Wanted = Wanted { ipv4: false, ipv6: false };

struct Stage {
    decider: Decider,
    path: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// A cluster of `nodes` nodes; the first of them is the manager.
fn stage<F: Future>(nodes: u8, test: impl FnOnce(Decider) -> F) -> F::Output {
    static RUN: AtomicU32 = AtomicU32::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("decide-{}-{run}", std::process::id()));
    let store = Embedded::open(&path, EmbeddedOptions::default()).expect("a store");
    let cluster: ClusterId = "c".repeat(25).parse().expect("a cluster");
    let decider = Decider::new(Store::Embedded(store), Layout::new(&cluster));
    let stage = Stage { decider: decider.clone(), path };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let decider = &stage.decider;
        let config = Config {
            pools: vec![Pool { base: range("10.0.0.0/22"), size: 24 }],
            ..Config::default()
        };
        decider.init(&cluster, &config, joining(0), 1).await.expect("a cluster");
        for n in 1..nodes {
            let txn = decider.join(Txn::new(), joining(n), 1).await.expect("planned");
            assert!(decider.store.txn(txn).await.expect("done").held);
        }
        test(decider.clone()).await
    })
}

async fn put_endpoint(decider: &Decider, node: &NodeId, network: &NetworkId, address: IpAddr) {
    let row = rows::Endpoint {
        schema: Schema::default(),
        addresses: vec![address],
        mac: "02:00:00:00:00:01".parse().expect("a MAC"),
        names: vec!["web".to_owned()],
        ports: Vec::new(),
        sequence: 1,
    };
    let endpoint = EndpointId::from_bytes([7; 32]);
    let key = Key::Endpoint(node.clone(), network.clone(), endpoint);
    decider.store.txn(Txn::new().then(decider.put(&key, &row))).await.expect("put");
}

/// Ends the rest of a network's addresses, as time does; how many blocks they were.
async fn rest_is_over(decider: &Decider, network: &NetworkId) -> usize {
    let rests = decider.store.all(decider.layout.rests(network)).await.expect("read").rows;
    for rest in &rests {
        decider.store.revoke(rest.lease.expect("it ends by itself")).await.expect("ended");
    }
    rests.len()
}

#[test]
fn a_cluster_begins_once_and_nodes_have_addresses_of_their_own() {
    stage(5, async |decider| {
        let nodes = decider.nodes().await.expect("nodes");
        assert_eq!(nodes.len(), 5);
        let ingress: BTreeSet<_> = nodes.iter().map(|node| node.ingress).collect();
        assert_eq!(ingress.len(), 5);
        let subnet = Config::default().node_subnet;
        assert!(ingress.iter().all(|address| subnet.contains(*address)));
        let cluster = "c".repeat(25).parse().expect("a cluster");
        let again = decider.init(&cluster, &Config::default(), joining(9), 1).await;
        assert!(matches!(again, Err(Error::Denied { .. })), "{again:?}");
    });
}

#[test]
fn names_and_subnets_are_given_once() {
    stage(1, async |decider| {
        let first = decider.create_network(network(1, "a", &["10.9.0.0/16"]), GIVEN).await;
        let first = first.expect("made");
        assert_eq!(first.network.subnets[0].gateway, Some(ip("10.9.0.1")));
        assert!((4096..1 << 24).contains(&first.vni));
        let same = decider.create_network(network(2, "a", &["10.8.0.0/16"]), GIVEN).await;
        assert!(matches!(same, Err(Error::NameTaken { .. })), "{same:?}");
        let alike = decider.create_network(network(2, "A", &["10.8.0.0/16"]), GIVEN).await;
        assert!(matches!(alike, Err(Error::NameTaken { .. })), "{alike:?}");
        for overlapping in ["10.9.0.0/16", "10.8.0.0/15", "10.9.255.0/24", "10.0.0.0/8"] {
            let made = decider.create_network(network(2, "b", &[overlapping]), GIVEN).await;
            let Err(Error::Overlap { subnet, other, network }) = made else { panic!("{made:?}") };
            assert_eq!((subnet, other), (range(overlapping), range("10.9.0.0/16")));
            assert_eq!(network, id(1).short());
        }
        let wrong = decider.create_network(network(2, "b", &["10.7.0.1/16"]), GIVEN).await;
        assert!(matches!(wrong, Err(Error::Subnet { .. })), "{wrong:?}");
        let growing = |subnets: &[&str], label: &str| Changes {
            subnets: subnets.iter().map(|text| Subnet::new(range(text))).collect(),
            labels: BTreeMap::from([(label.to_owned(), String::new())]),
            remove_labels: vec!["old".to_owned()],
        };
        let more = growing(&["10.10.0.0/16", "fd00:1::/64"], "old");
        let added = decider.change_network(&id(1), more).await.expect("added").network;
        assert_eq!(added.subnets.len(), 3);
        assert_eq!(added.subnets[2].gateway, Some(ip("fd00:1::1")));
        // All of it or nothing.
        let taken = growing(&["10.11.0.0/16", "10.10.3.0/24"], "new");
        let twice = decider.change_network(&id(1), taken).await;
        assert!(matches!(twice, Err(Error::Overlap { .. })), "{twice:?}");
        let itself = growing(&["10.11.0.0/16", "10.11.3.0/24"], "new");
        let twice = decider.change_network(&id(1), itself).await;
        assert!(matches!(twice, Err(Error::Subnet { .. })), "{twice:?}");
        let labelled = decider.change_network(&id(1), growing(&[], "new")).await.expect("labels");
        assert_eq!(labelled.network.labels.keys().collect::<Vec<_>>(), ["new"]);
        assert_eq!(labelled.network.subnets, added.subnets);
        decider.remove_network(&id(1)).await.expect("removed");
        let gone = decider.remove_network(&id(1)).await;
        assert!(matches!(gone, Err(Error::NoNetwork { .. })), "{gone:?}");
        // Nothing of it is left.
        decider.create_network(network(3, "a", &["10.8.0.0/14"]), GIVEN).await.expect("made");
    });
}

#[test]
fn a_name_that_was_spelled_in_two_ways_goes_with_its_own_network() {
    stage(1, async |decider| {
        decider.create_network(network(1, "six", &["10.6.0.0/16"]), GIVEN).await.expect("made");
        decider.create_network(network(2, "Other", &["10.7.0.0/16"]), GIVEN).await.expect("made");
        // As it was written when the two were two names.
        let mut row = decider.network(&id(2)).await.expect("there");
        row.network.name = "Six".parse().expect("a name");
        let owner = NetworkOwner { of: id(2) };
        let txn = Txn::new()
            .then(decider.put(&Key::Network(id(2)), &row))
            .then(decider.put(&Key::Name("Six".into()), &owner))
            .then(Op::delete(decider.layout.key(&Key::Name("other".into()))));
        decider.store.txn(txn).await.expect("written");
        decider.remove_network(&id(2)).await.expect("removed");
        let left = decider.store.get(decider.layout.key(&Key::Name("Six".into()))).await;
        assert!(left.expect("read").is_none());
        let taken = decider.create_network(network(3, "SIX", &["10.7.0.0/16"]), GIVEN).await;
        assert!(matches!(taken, Err(Error::NameTaken { .. })), "{taken:?}");
        decider.remove_network(&id(1)).await.expect("removed");
        decider.create_network(network(3, "SIX", &["10.7.0.0/16"]), GIVEN).await.expect("made");
    });
}

#[test]
fn of_a_network_and_a_node_that_would_be_cut_off_by_it_one_comes() {
    stage(1, async |decider| {
        let joins = async |n: u8, link: &str| {
            let link = range(link);
            let IpAddr::V4(first) = link.network() else { panic!("{link}") };
            let vtep4 = Some(std::net::Ipv4Addr::from_bits(first.to_bits() + 7));
            let facts = Facts { vtep4, link: Some(link), ..Facts::default() };
            let joining = Joining { facts, ..joining(n) };
            for _ in 0..ATTEMPTS {
                let txn = decider.join(Txn::new(), joining.clone(), 1).await?;
                if decider.store.txn(txn).await?.held {
                    return Ok(());
                }
            }
            Err(contended("joining"))
        };
        for n in 1..=40 {
            let link = format!("10.{}.3.0/24", 20 + n);
            let network = network(n, &format!("n{n}"), &[&format!("10.{}.0.0/16", 20 + n)]);
            let (made, joined) =
                tokio::join!(decider.create_network(network, GIVEN), joins(n, &link));
            match (made, joined) {
                (Ok(_), Err(Error::Within { .. })) | (Err(Error::Underlay { .. }), Ok(())) => {}
                other => panic!("{other:?}"),
            }
        }
        // And one of whose subnets is chosen.
        for n in 100..=104 {
            let link = format!("10.0.{}.0/24", n - 100);
            let network = network(n, &format!("n{n}"), &[]);
            let (made, joined) =
                tokio::join!(decider.create_network(network, IPV4), joins(n, &link));
            let made = made.map(|made| made.network.subnets[0].subnet);
            match (made, joined) {
                (Ok(subnet), Ok(())) => assert_ne!(subnet, range(&link)),
                (Ok(subnet), Err(Error::Within { .. })) => assert_eq!(subnet, range(&link)),
                (Err(Error::PoolsExhausted), Ok(())) => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_place_is_given_up_to_who_may_have_it_when_nothing_else_is_in_the_way() {
    stage(1, async |decider| {
        let facts = |last: u8| Facts {
            name: format!("h{last}"),
            vtep4: Some(std::net::Ipv4Addr::new(198, 51, 100, last)),
            ..Facts::default()
        };
        for (n, role) in [(1, Role::Manager), (2, Role::Worker)] {
            let there = Joining { facts: facts(n), role, ..joining(n) };
            let txn = decider.join(Txn::new(), there, 1).await.expect("joins");
            assert!(decider.store.txn(txn).await.expect("written").held);
        }
        for (n, role, former) in [
            (1, Role::Worker, None),
            (1, Role::Manager, Some(node(1))),
            (2, Role::Worker, Some(node(2))),
            (2, Role::Manager, Some(node(2))),
            (3, Role::Manager, None),
        ] {
            assert_eq!(decider.former(&facts(n), role).await.expect("read"), former, "{n} {role}");
        }
        let again = |former| Joining { facts: facts(2), former, ..joining(4) };
        let refused = decider.join(Txn::new(), again(None), 1).await;
        assert!(matches!(refused, Err(Error::Namesake { .. })), "{refused:?}");
        decider.join(Txn::new(), again(Some(node(2))), 1).await.expect("nothing is in the way");
        let v6 =
            Facts { vtep4: None, vtep6: Some("fd00::2".parse().expect("an address")), ..facts(2) };
        let other = Joining { facts: v6, ..again(Some(node(2))) };
        let refused = decider.join(Txn::new(), other, 1).await;
        assert!(matches!(refused, Err(Error::Family { .. })), "{refused:?}");
    });
}

#[test]
fn subnets_are_chosen_until_the_pools_are_empty() {
    stage(1, async |decider| {
        let both = Wanted { ipv4: true, ipv6: true };
        let mut chosen = BTreeSet::new();
        for n in 0..4 {
            let made = decider.create_network(network(n, &format!("n{n}"), &[]), both).await;
            let subnets = made.expect("made").network.subnets;
            assert_eq!(subnets.len(), 2);
            assert!(subnets[1].subnet.to_string().starts_with("fd"), "{subnets:?}");
            chosen.insert(subnets[0].subnet);
        }
        assert_eq!(chosen.first(), Some(&range("10.0.0.0/24")));
        assert_eq!(chosen.len(), 4);
        let full = decider.create_network(network(9, "n9", &[]), IPV4).await;
        assert!(matches!(full, Err(Error::PoolsExhausted)), "{full:?}");
    });
}

#[test]
fn many_at_once_make_different_networks() {
    stage(1, async |decider| {
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let decider = decider.clone();
                let network = network(n, &format!("n{n}"), &[]);
                tokio::spawn(async move { decider.create_network(network, IPV4).await })
            })
            .collect();
        let mut subnets = BTreeSet::new();
        let mut vnis = BTreeSet::new();
        for task in tasks {
            let made = task.await.expect("a task").expect("made");
            subnets.insert(made.network.subnets[0].subnet);
            vnis.insert(made.vni);
        }
        assert_eq!((subnets.len(), vnis.len()), (4, 4));
    });
}

#[test]
fn blocks_grow_and_never_overlap_and_say_who_holds_them() {
    stage(4, async |decider| {
        decider.create_network(network(1, "a", &["10.9.0.0/24"]), GIVEN).await.expect("made");
        // Each has one before they compete, or others might leave nothing for it.
        let mut all = Vec::new();
        for n in 0..4 {
            let claimed = decider.claim_block(&node(n), 1, &id(1), false, false).await;
            all.push(claimed.expect("a block"));
        }
        assert!(all.iter().all(|block| block.prefix() == 28), "{all:?}");
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let decider = decider.clone();
                tokio::spawn(async move {
                    let mut blocks = Vec::new();
                    loop {
                        match decider.claim_block(&node(n), 1, &id(1), false, false).await {
                            Ok(block) => blocks.push(block),
                            Err(Error::Contended { .. }) => {}
                            Err(error) => return (blocks, error),
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            let (blocks, error) = task.await.expect("a task");
            let Error::Exhausted { holders, .. } = &error else { panic!("{error}") };
            assert_eq!(holders.len(), 4);
            assert!(error.to_string().contains(&format!("node {} holds", node(0))), "{error}");
            all.extend(blocks);
        }
        let addresses: Vec<_> = all.iter().flat_map(|block| block.iter()).collect();
        let different: BTreeSet<_> = addresses.iter().collect();
        assert_eq!(addresses.len(), different.len());
        assert_eq!(addresses.len(), 256, "down to the last address");
        assert!(all.iter().any(|block| block.prefix() == 27), "they grow: {all:?}");
    });
}

#[test]
fn a_full_network_names_all_of_its_subnets() {
    stage(1, async |decider| {
        let subnets = ["10.9.0.0/29", "fd00:9::/64", "10.9.1.0/29"];
        decider.create_network(network(1, "a", &subnets), GIVEN).await.expect("made");
        let full = loop {
            match decider.claim_block(&node(0), 1, &id(1), false, false).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let said = full.to_string();
        assert!(said.contains("left in 10.9.0.0/29, 10.9.1.0/29: node "), "{said}");
    });
}

#[test]
fn a_claim_of_an_older_self_is_refused() {
    stage(2, async |decider| {
        decider.create_network(network(1, "a", &["10.9.0.0/24"]), GIVEN).await.expect("made");
        let mine = decider.claim_block(&node(1), 1, &id(1), false, false).await.expect("a block");
        let started = decider.start_node(&node(1), &Facts::default()).await.expect("started");
        assert_eq!(started.epoch, 2);
        let old = decider.claim_block(&node(1), 1, &id(1), false, false).await;
        assert!(matches!(old, Err(Error::Fenced { epoch: 1, now: 2, .. })), "{old:?}");
        // It keeps what it had, but for being fenced, which needs that it is gone.
        let live = Key::Live(node(1));
        let row = Live {
            schema: Schema::default(),
            epoch: 2,
            boot: String::new(),
            version: String::new(),
        };
        decider.store.txn(Txn::new().then(decider.put(&live, &row))).await.expect("put");
        let lives = decider.fence_node(&node(1), 2).await;
        assert!(matches!(lives, Err(Error::Fenced { .. })), "{lives:?}");
        decider.store.delete(Keys::One(decider.layout.key(&live))).await.expect("gone");
        put_endpoint(&decider, &node(1), &id(1), mine.ip()).await;
        decider.fence_node(&node(1), 2).await.expect("fenced");
        let left = decider.store.all(decider.layout.own(&node(1))).await.expect("read").rows;
        assert_eq!(left, []);
        let blocks = decider.store.all(decider.layout.blocks(&id(1))).await.expect("read").rows;
        assert_eq!(blocks, []);
        decider.claim_block(&node(1), 3, &id(1), false, false).await.expect("a block again");
    });
}

#[test]
fn addresses_of_who_is_gone_rest_before_others_get_them() {
    stage(3, async |decider| {
        decider.create_network(network(1, "a", &["10.9.0.0/27"]), GIVEN).await.expect("made");
        let claim =
            async |n: u8, epoch| decider.claim_block(&node(n), epoch, &id(1), false, false).await;
        let named = async |n: u8, epoch, address| {
            decider.claim_address(&node(n), epoch, &id(1), address).await
        };
        let first = claim(1, 1).await.expect("claimed");
        let second = claim(2, 1).await.expect("claimed");
        let (mine, other) = (first.iter().nth(3).expect("16"), second.iter().nth(3).expect("16"));
        // One that was given up comes back to what it had.
        decider.fence_node(&node(1), 1).await.expect("fenced");
        let early = named(2, 1, mine).await;
        assert!(matches!(early, Err(Error::Resting { .. })), "{early:?}");
        let Err(Error::Exhausted { holders, .. }) = claim(2, 1).await else { panic!("it rests") };
        let of = |range: IpNetwork| {
            let ends = [ip("10.9.0.0"), ip("10.9.0.1"), ip("10.9.0.31")];
            16 - ends.iter().filter(|end| range.contains(**end)).count() as u128
        };
        assert_eq!(holders, [(node(1), of(first)), (node(2), of(second))]);
        let back = named(1, 2, mine).await.expect("its own");
        assert_eq!(back, Claimed::Block(mine.into()));
        // One that is gone does not, and what it had is had again when that has rested.
        decider.remove_node(&node(2)).await.expect("removed");
        let early = named(1, 2, other).await;
        assert!(matches!(early, Err(Error::Resting { .. })), "{early:?}");
        assert!(matches!(claim(1, 2).await, Err(Error::Exhausted { .. })));
        assert_eq!(rest_is_over(&decider, &id(1)).await, 2);
        assert_eq!(named(1, 2, other).await.expect("free"), Claimed::Block(other.into()));
        claim(1, 2).await.expect("there is room again");
    });
}

#[test]
fn a_static_address_is_had_anywhere_but_once() {
    stage(3, async |decider| {
        decider.create_network(network(1, "a", &["10.9.0.0/24"]), GIVEN).await.expect("made");
        let block = decider.claim_block(&node(1), 1, &id(1), false, false).await.expect("a block");
        let claim = async |n: u8, address: IpAddr| {
            decider.claim_address(&node(n), 1, &id(1), address).await
        };
        let inside = block.iter().nth(5).expect("16 addresses");
        assert_eq!(claim(1, inside).await.expect("its own"), Claimed::Own(block));
        // Only its owner knows whether it is free.
        for _ in 0..2 {
            assert_eq!(claim(2, inside).await.expect("asked"), Claimed::Asked(block));
        }
        let asked = claim(0, inside).await;
        assert!(matches!(asked, Err(Error::AddressTaken { node: n, .. }) if n == node(2)));
        let lend = async |n: u8, free: bool| {
            decider.lend_address(&node(n), &id(1), block, inside, free).await
        };
        assert!(matches!(lend(2, true).await, Err(Error::Denied { .. })));
        lend(1, false).await.expect("answered");
        let refused = claim(2, inside).await;
        assert!(matches!(refused, Err(Error::AddressTaken { node: n, .. }) if n == node(1)));
        assert_eq!(claim(2, inside).await.expect("asked again"), Claimed::Asked(block));
        lend(1, true).await.expect("answered");
        lend(1, false).await.expect("nobody asks any more");
        assert_eq!(claim(2, inside).await.expect("lent"), Claimed::Lent(block));
        assert_eq!(claim(2, inside).await.expect("lent already"), Claimed::Lent(block));
        let taken = claim(0, inside).await;
        assert!(matches!(taken, Err(Error::AddressTaken { node: n, .. }) if n == node(2)));
        let used = block.iter().nth(6).expect("16 addresses");
        put_endpoint(&decider, &node(1), &id(1), used).await;
        let taken = claim(2, used).await;
        assert!(matches!(taken, Err(Error::AddressTaken { node: n, .. }) if n == node(1)));
        let outside = (0..=255).map(|n| ip(&format!("10.9.0.{n}")));
        let outside = outside.rev().skip(1).find(|a| !block.contains(*a)).expect("more than 16");
        let alone = IpNetwork::from(outside);
        assert_eq!(claim(2, outside).await.expect("nobody's"), Claimed::Block(alone));
        let kept = "is no endpoint's in subnet 10.9.0.0/24: it is";
        for (wrong, said) in [
            ("10.9.0.0", format!("address 10.9.0.0 {kept} the network's own")),
            ("10.9.0.1", format!("address 10.9.0.1 {kept} the gateway")),
            ("10.9.0.255", format!("address 10.9.0.255 {kept} the broadcast address")),
            (
                "10.8.0.9",
                format!(
                    "no configured subnet of network {} contains IP address 10.8.0.9: it has 10.9.0.0/24",
                    id(1)
                ),
            ),
        ] {
            let refused = claim(2, ip(wrong)).await.expect_err("it is no endpoint's");
            assert_eq!(refused.to_string(), said);
        }
        // What others have of a block survives its owner.
        let refused = decider.release_block(&node(1), &id(1), block).await;
        assert!(matches!(refused, Err(Error::Denied { .. })), "{refused:?}");
        decider.remove_node(&node(1)).await.expect("removed");
        let taken = claim(0, inside).await;
        assert!(matches!(taken, Err(Error::AddressTaken { node: n, .. }) if n == node(2)));
        decider.release_address(&node(2), &id(1), inside).await.expect("released");
        let early = claim(0, inside).await;
        assert!(matches!(early, Err(Error::Resting { .. })), "{early:?}");
        assert_eq!(rest_is_over(&decider, &id(1)).await, 1);
        assert_eq!(claim(0, inside).await.expect("free"), Claimed::Block(IpNetwork::from(inside)));
    });
}

#[test]
fn what_others_do_not_need_is_borrowed_down_to_the_last_address() {
    stage(3, async |decider| {
        decider.create_network(network(1, "a", &["10.9.0.0/29"]), GIVEN).await.expect("made");
        let claim =
            async |n: u8, ahead: bool| decider.claim_block(&node(n), 1, &id(1), false, ahead).await;
        let ahead = claim(1, true).await;
        assert!(matches!(ahead, Err(Error::Exhausted { .. })), "single ones are not for later");
        for _ in 0..5 {
            assert_eq!(claim(1, false).await.expect("an address").prefix(), 32);
        }
        let Err(Error::Exhausted { holders, .. }) = claim(2, false).await else { panic!("full") };
        assert_eq!(holders, [(node(1), 5)]);
        for last in 2..5 {
            put_endpoint(&decider, &node(1), &id(1), ip(&format!("10.9.0.{last}"))).await;
        }
        // The rows of three endpoints have one key here: only the last is known to be used.
        let mut avoid = Avoid::default();
        avoid.addresses.extend([ip("10.9.0.2"), ip("10.9.0.3")]);
        let borrow = async |n: u8, avoid: &Avoid| {
            decider.borrow_address(&node(n), 1, &id(1), false, avoid).await
        };
        let asked = borrow(2, &avoid).await.expect("asked");
        assert_eq!(asked, Asked { address: ip("10.9.0.5"), node: node(1) });
        let other = borrow(0, &avoid).await.expect("asked");
        assert_eq!(other.address, ip("10.9.0.6"));
        let answer = async |address: &str, free: bool| {
            let (address, block) = (ip(address), range(&format!("{address}/32")));
            decider.lend_address(&node(1), &id(1), block, address, free).await.expect("answered");
        };
        answer("10.9.0.5", true).await;
        answer("10.9.0.6", false).await;
        let lent = decider.claim_address(&node(2), 1, &id(1), ip("10.9.0.5")).await;
        assert_eq!(lent.expect("lent"), Claimed::Lent(range("10.9.0.5/32")));
        decider.release_address(&node(0), &id(1), other.address).await.expect("forgotten");
        avoid.addresses.insert(other.address);
        let Err(Error::Exhausted { holders, .. }) = borrow(0, &avoid).await else { panic!("full") };
        assert_eq!(holders, [(node(1), 4), (node(2), 1)]);
        avoid = Avoid { nodes: [node(1)].into(), ..Avoid::default() };
        assert!(matches!(borrow(0, &avoid).await, Err(Error::Exhausted { .. })), "it is silent");
    });
}

#[test]
fn a_network_in_use_is_not_removed() {
    stage(2, async |decider| {
        decider.create_network(network(1, "a", &["10.9.0.0/24"]), GIVEN).await.expect("made");
        let block = decider.claim_block(&node(1), 1, &id(1), false, false).await.expect("a block");
        put_endpoint(&decider, &node(1), &id(1), block.ip()).await;
        let used = decider.remove_network(&id(1)).await;
        let Err(Error::InUse { endpoints: 1, nodes, .. }) = used else { panic!("{used:?}") };
        assert_eq!(nodes, [node(1)]);
        decider.remove_node(&node(1)).await.expect("removed");
        decider.remove_network(&id(1)).await.expect("removed");
        let left = decider.store.all(decider.layout.all_blocks()).await.expect("read").rows;
        assert_eq!(left, []);
    });
}

#[test]
fn a_network_is_pruned_when_no_node_holds_addresses_of_it() {
    stage(2, async |decider| {
        decider.create_network(network(1, "app", &["10.9.0.0/24"]), GIVEN).await.expect("free");
        let block = decider.claim_block(&node(1), 1, &id(1), false, false).await.expect("room");
        let held = decider.prune_network(&id(1)).await;
        assert!(matches!(&held, Err(Error::Held { nodes, .. }) if *nodes == [node(1)]), "{held:?}");
        decider.recall_blocks(&id(1)).await.expect("it is there");
        assert_eq!(decider.network(&id(1)).await.expect("it is there").recalled, 1);
        let address = block.iter().nth(1).expect("an address");
        put_endpoint(&decider, &node(1), &id(1), address).await;
        decider.release_block(&node(1), &id(1), block).await.expect("whole");
        // Its node lost the addresses, and its endpoint is there all the same.
        let used = decider.prune_network(&id(1)).await;
        assert!(matches!(used, Err(Error::InUse { endpoints: 1, .. })), "{used:?}");
        let gone = Txn::new().then(Op::Delete(decider.layout().endpoints(&node(1))));
        decider.store().txn(gone).await.expect("the store");
        decider.prune_network(&id(1)).await.expect("unused");
        let gone = decider.prune_network(&id(1)).await;
        assert!(matches!(gone, Err(Error::NoNetwork { .. })), "{gone:?}");
        let late = decider.claim_block(&node(1), 1, &id(1), false, false).await;
        assert!(matches!(late, Err(Error::NoNetwork { .. })), "{late:?}");
        // The name and the number are free again.
        decider.create_network(network(2, "app", &["10.9.0.0/24"]), GIVEN).await.expect("free");
    });
}

#[test]
fn of_a_prune_and_an_attach_at_once_one_comes() {
    stage(2, async |decider| {
        for n in 1..40 {
            let wanted = network(n, "app", &["10.9.0.0/24"]);
            decider.create_network(wanted, GIVEN).await.expect("free");
            let (network, node) = (id(n), node(1));
            let claim = decider.claim_block(&node, 1, &network, false, false);
            let (pruned, claimed) = tokio::join!(decider.prune_network(&network), claim);
            match (&pruned, &claimed) {
                (Ok(()), Err(Error::NoNetwork { .. })) => continue,
                (Err(Error::Held { .. }), Ok(_)) => {
                    decider.remove_network(&network).await.expect("unused");
                }
                _ => panic!("{pruned:?}, {claimed:?}"),
            }
        }
    });
}

#[test]
fn a_port_is_published_once() {
    stage(3, async |decider| {
        let publish = async |n: u8| decider.publish_port(&node(n), 1, "tcp", 80, None).await;
        publish(1).await.expect("published");
        publish(1).await.expect("the same again");
        let taken = publish(2).await;
        assert!(matches!(taken, Err(Error::PortTaken { node: n, .. }) if n == node(1)));
        decider.publish_port(&node(2), 1, "udp", 80, None).await.expect("another protocol");
        decider.unpublish_port(&node(2), "tcp", 80).await.expect("not its own");
        assert!(publish(2).await.is_err());
        decider.unpublish_port(&node(1), "tcp", 80).await.expect("taken back");
        publish(2).await.expect("free");
        decider.remove_node(&node(2)).await.expect("removed");
        publish(1).await.expect("free again");
    });
}

#[test]
fn an_idle_block_is_seen_twice_before_it_goes() {
    let (a, b) = (range("10.0.0.0/28"), range("10.0.0.16/28"));
    let mut idle = Idle::default();
    assert_eq!(idle.look(&id(1), &[(a, 0), (b, 0)]), []);
    assert_eq!(idle.look(&id(2), &[(a, 0), (b, 0)]), []);
    assert_eq!(idle.look(&id(1), &[(a, 1), (b, 0)]), [b]);
    assert_eq!(idle.look(&id(1), &[(a, 0), (b, 0)]), []);
    assert_eq!(idle.look(&id(1), &[(a, 0), (b, 0)]), [a], "one is kept");
    assert_eq!(idle.look(&id(1), &[(b, 0)]), []);
}

#[test]
fn another_block_is_wanted_when_a_quarter_is_left() {
    assert!(wants_another(0, 0));
    assert!(!wants_another(16, 12));
    assert!(wants_another(16, 13));
    assert_eq!([0, 1, 2, 9].map(block_bits), [4, 5, 6, 6]);
}

proptest! {
    #[test]
    fn a_chosen_block_is_free(
        taken in vec((any::<u8>(), 26..=32_u8), 0..40),
        bits in 0..=6_u32,
        seed in any::<u64>(),
    ) {
        let range = range("10.9.0.0/24");
        let cut = |(last, length): (u8, u8)| {
            let block = IpNetwork::new(ip(&format!("10.9.0.{last}")), length).expect("a length");
            IpNetwork::new(block.network(), length).expect("a length")
        };
        let taken: Vec<_> = taken.into_iter().map(cut).collect();
        let reserved = [range.network(), ip("10.9.0.1"), range.broadcast()];
        let free = |first: u32| {
            (first..first + (1 << bits)).all(|last| {
                let address = ip(&format!("10.9.0.{last}"));
                !taken.iter().any(|block| block.contains(address))
                    && (bits > 0 || !reserved.contains(&address))
            })
        };
        let any = (0..256_u32 >> bits).any(|slot| free(slot << bits));
        match choose_block(range, &taken, &reserved, bits, seed) {
            Some(block) => {
                prop_assert!(range.contains(block.network()));
                prop_assert_eq!(u32::from(block.prefix()), 32 - bits);
                let IpAddr::V4(first) = block.network() else { unreachable!("as its range") };
                prop_assert_eq!(block.ip(), block.network());
                prop_assert!(free(u32::from(first.octets()[3])));
            }
            None => prop_assert!(!any),
        }
    }

    #[test]
    fn a_chosen_number_is_free(taken in proptest::collection::btree_set(4090..4200_u32, 0..100), start: u32) {
        let vni = choose_vni(&taken, start % 100).expect("there are many");
        prop_assert!(!taken.contains(&vni) && vni >= 4096);
    }
}
