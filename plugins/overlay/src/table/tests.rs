use cnm::{MacAddr, peers::Member};
use proptest::{collection::vec, prelude::*};

use super::*;

fn id(byte: u8) -> NetworkId {
    NetworkId::from_bytes([byte; 32])
}

fn node(number: u32) -> Node {
    Node {
        number,
        vtep: format!("192.0.2.{number}").parse().unwrap(),
        addresses: vec![format!("100.64.0.{number}/16").parse().unwrap()],
    }
}

fn peer(network: u8, node: u32, last: u8) -> Peer {
    let mac = MacAddr([2, 0, 0, 0, network, last]);
    let addresses = vec![[10, network, 0, last].into(), format!("fd00::{last:x}").parse().unwrap()];
    Peer { network: id(network), node, mac, addresses }
}

/// Host 1 with networks 1 and 2, of which the second has broadcast.
fn here() -> Here {
    let place = |number: u32| Place {
        vni: 0x1000 + number,
        bridge: 10 + number,
        tunnel: 20 + number,
        broadcast: number == 2,
        routed: None,
    };
    Here {
        number: 1,
        networks: [(id(1), place(1)), (id(2), place(2))].into(),
        ingress: Some((20, 0x1000)),
        ingress_ipv6: true,
        nodes: BTreeMap::new(),
        underlay: None,
    }
}

fn there(nodes: &[u32], peers: Vec<Peer>) -> Elsewhere {
    Elsewhere { nodes: nodes.iter().copied().map(node).collect(), members: Vec::new(), peers }
}

#[test]
fn a_peer_is_a_row_in_each_table() {
    let wanted = here().want(&there(&[2], vec![peer(1, 2, 5)])).unwrap();
    let (vtep, mac, node_mac) = (node(2).vtep, peer(1, 2, 5).mac.0, node_mac(2));
    let expected: Table = [
        (Key::Forward { link: 20, mac: node_mac }, Value::Vtep(vtep)),
        (Key::Neighbour { link: 20, address: [100, 64, 0, 2].into() }, Value::Mac(node_mac)),
        (Key::Forward { link: 21, mac }, Value::Vtep(vtep)),
        (Key::Port { link: 21, mac }, Value::There),
        (Key::Neighbour { link: 11, address: [10, 1, 0, 5].into() }, Value::Mac(mac)),
        (Key::Neighbour { link: 11, address: "fd00::5".parse().unwrap() }, Value::Mac(mac)),
    ]
    .into();
    assert_eq!(wanted.table, expected);
    assert_eq!(wanted.nodes, [(2, vtep)].into());
    let tunnel = |vni| Fact::Tunnel { vtep, vni };
    assert_eq!(wanted.facts, [Fact::Vtep(vtep), tunnel(0x1000), tunnel(0x1001)].into());
}

#[test]
fn members_get_what_goes_to_everybody_where_that_is_wanted() {
    let mut there = there(&[2, 3], vec![peer(2, 2, 5)]);
    there.members = vec![Member { network: id(2), node: 3 }, Member { network: id(1), node: 3 }];
    let table = here().want(&there).unwrap().table;
    let floods: Vec<_> = table.keys().filter(|key| matches!(key, Key::Flood { .. })).collect();
    let flood = |number| Key::Flood { link: 22, vtep: node(number).vtep };
    assert_eq!(floods, [&flood(2), &flood(3)]);
}

#[test]
fn what_is_here_or_on_no_network_of_ours_is_passed_over() {
    let wanted = here().want(&there(&[1, 2], vec![peer(1, 1, 5), peer(7, 2, 6)])).unwrap();
    assert_eq!(wanted, here().want(&there(&[2], Vec::new())).unwrap());
}

#[test]
fn a_peer_without_a_node_is_refused() {
    let error = here().want(&there(&[2], vec![peer(1, 3, 5)])).unwrap_err();
    assert_eq!((error.kind, &error.operands["node"]), (cnm::Kind::NotFound, &3.into()));
    let mut here = here();
    here.nodes.insert(3, node(3).vtep);
    assert!(here.want(&there(&[2], vec![peer(1, 3, 5)])).is_ok());
    assert!(here.want(&there(&[0], Vec::new())).is_err());
    let mut there = there(&[2], Vec::new());
    there.nodes[0].number = MAX_NODE + 1;
    assert!(here.want(&there).is_err());
}

#[test]
fn with_a_node_goes_everything_that_led_to_it() {
    let here = here();
    let mut two = there(&[2, 3], vec![peer(1, 2, 5), peer(2, 3, 6)]);
    two.members = vec![Member { network: id(2), node: 3 }];
    let mut table = here.want(&two).unwrap().table;
    let one = here.want(&there(&[2], vec![peer(1, 2, 5)])).unwrap().table;
    let gone = [node(3).vtep].into();
    for orphan in here.orphans(&table, &gone) {
        table.remove(&orphan);
    }
    assert_eq!(table, one);
    assert_eq!(here.orphans(&one, &gone), []);
}

#[test]
fn a_node_that_moves_takes_its_rows_along() {
    let mut there = there(&[2, 3], vec![peer(1, 2, 5), peer(2, 3, 6), peer(2, 2, 7)]);
    there.members = vec![Member { network: id(2), node: 2 }, Member { network: id(2), node: 3 }];
    let before = here().want(&there).unwrap().table;
    // One moves to where the other was.
    let (from, between) = (node(2).vtep, node(3).vtep);
    there.nodes[0].vtep = between;
    there.nodes[1].vtep = "192.0.2.9".parse().unwrap();
    let moved = [(from, between), (between, there.nodes[1].vtep)].into();
    let difference = here().redirect(&before, &moved);
    assert_eq!(done(before, &difference), here().want(&there).unwrap().table);
    assert_eq!(difference.delete, [Key::Flood { link: 22, vtep: from }]);
}

#[test]
fn rows_of_a_netd_of_before_are_made_anew_and_frames_get_there_meanwhile() {
    let wanted = here().want(&there(&[2], vec![peer(1, 2, 5)])).unwrap().table;
    let nexthops = [70, 71].map(|number| Key::Nexthop { id: NEXTHOPS + number });
    let mut current = wanted.clone();
    current.extend(nexthops.map(|key| (key, Value::There)));
    let forwards: Vec<_> =
        wanted.iter().filter(|(key, _)| matches!(key, Key::Forward { .. })).collect();
    current.extend(forwards.iter().map(|(key, _)| (**key, Value::There)));
    let difference = difference(&wanted, &current);
    assert!(difference.anew.iter().map(|(key, value)| (key, value)).eq(forwards));
    let lent = [20, 21].map(|link| Key::Flood { link, vtep: node(2).vtep });
    assert_eq!(difference.write, lent.map(|key| (key, Value::There)));
    assert_eq!(difference.delete, [&lent[..], &nexthops[..]].concat());
    assert_eq!(done(current, &difference), wanted);
}

#[test]
fn nexthops_of_others_are_left_alone() {
    for number in [1, 2, 77, MAX_NODE] {
        assert!([0, 1].iter().all(|more| is_own_nexthop(NEXTHOPS + 2 * number + more)));
    }
    for foreign in [0, 1000, NEXTHOPS - 1, NEXTHOPS, NEXTHOPS + 2 * (MAX_NODE + 1)] {
        assert!(!is_own_nexthop(foreign), "{foreign}");
    }
}

/// What the kernel makes of a table: it writes what is to be made anew in place of nothing only.
fn done(mut table: Table, difference: &Difference) -> Table {
    table.extend(difference.write.iter().copied());
    for (key, value) in &difference.anew {
        table.remove(key);
        table.insert(*key, *value);
    }
    for key in &difference.delete {
        table.remove(key);
    }
    table
}

fn cluster() -> impl Strategy<Value = Elsewhere> {
    let peers = vec((1..4_u8, 2..6_u32, 1..9_u8), 0..24);
    (peers, vec(2..6_u32, 0..4)).prop_map(|(peers, members)| {
        let mut there = there(
            &[2, 3, 4, 5],
            peers.iter().map(|(network, node, last)| peer(*network, *node, *last)).collect(),
        );
        // Nodes that have nothing may be gone.
        let used = |number| peers.iter().any(|p| p.1 == number) || members.contains(&number);
        there.nodes.retain(|node| used(node.number));
        there.members = members.iter().map(|node| Member { network: id(2), node: *node }).collect();
        there
    })
}

proptest! {
    #[test]
    fn a_difference_leads_from_any_table_to_any_other(from in cluster(), to in cluster()) {
        let (from, to) = (here().want(&from).unwrap().table, here().want(&to).unwrap().table);
        let difference = difference(&to, &from);
        prop_assert_eq!(&done(from.clone(), &difference), &to);
        prop_assert!(difference.write.iter().all(|(key, value)| from.get(key) != Some(value)));
        prop_assert_eq!(super::difference(&to, &to), Difference::default());
    }

    #[test]
    fn a_row_that_leads_to_a_vtep_is_never_away(from in cluster(), to in cluster()) {
        let (from, to) = (here().want(&from).unwrap().table, here().want(&to).unwrap().table);
        let difference = difference(&to, &from);
        prop_assert_eq!(&difference.anew, &[]);
        prop_assert!(difference.delete.iter().all(|key| !to.contains_key(key)));
    }

    #[test]
    fn a_peer_that_leaves_takes_its_rows_and_no_others(to in cluster(), last in 9..12_u8) {
        let here = here();
        let before = here.want(&to).unwrap().table;
        let mut more = to.clone();
        let leaver = peer(1, 2, last);
        more.nodes.push(node(2));
        more.peers.push(leaver.clone());
        let mut table = here.want(&more).unwrap().table;
        let gone = Gone { peers: vec![leaver.clone()], ..Gone::default() };
        for key in here.leave(&gone).0 {
            prop_assert!(table.remove(&key).is_some());
        }
        prop_assert!(before.iter().all(|(key, value)| table.get(key) == Some(value)));
        let is_leavers = |key: &Key| match key {
            Key::Forward { mac, .. } | Key::Port { mac, .. } => *mac == leaver.mac.0,
            Key::Neighbour { address, .. } => leaver.addresses.contains(address),
            _ => false,
        };
        // The same address may be another's on another network.
        let on_it = |key: &Key| !matches!(key, Key::Neighbour { link, .. } if *link != 11);
        prop_assert!(!table.keys().any(|key| is_leavers(key) && on_it(key)));
    }
}

#[test]
fn a_peer_on_a_node_of_the_link_is_a_route_where_that_is_wanted() {
    let mut here = here();
    here.networks.get_mut(&id(1)).unwrap().routed = Some("br-a".to_owned());
    let address = "192.0.2.1/24".parse().unwrap();
    here.underlay = Some(Underlay { link: 3, address });
    let mut there = there(&[2, 3], vec![peer(1, 2, 5), peer(1, 3, 6), peer(2, 2, 7)]);
    there.nodes[1].vtep = [198, 51, 100, 3].into();
    let wanted = here.want(&there).unwrap();
    let routes: Vec<_> =
        wanted.table.iter().filter(|(key, _)| matches!(key, Key::Route { .. })).collect();
    let to = [10, 1, 0, 5].into();
    assert_eq!(
        routes,
        [(&Key::Route { to }, &Value::Vtep(node(2).vtep))],
        "on the link, and routed"
    );
    let bridged = |last: u8| {
        let address = [10, 1, 0, last].into();
        wanted.table.contains_key(&Key::Neighbour { link: 11, address })
    };
    assert!(!bridged(5) && bridged(6));
    let six = Key::Neighbour { link: 11, address: "fd00::5".parse().unwrap() };
    assert!(wanted.table.contains_key(&six), "IPv6 goes by VXLAN");
    let facts: Vec<_> = wanted
        .facts
        .iter()
        .filter(|fact| matches!(fact, Fact::Routed { .. } | Fact::Afar(_)))
        .cloned()
        .collect();
    let routed = |address: [u8; 4]| Fact::Routed { bridge: "br-a".into(), address: address.into() };
    let far = [routed([10, 1, 0, 6]), routed([192, 0, 2, 2]), routed([198, 51, 100, 3])];
    let afar = [Fact::Afar(to), Fact::Afar([10, 1, 0, 6].into())];
    let mut expected = [vec![routed([10, 1, 0, 5])], far.to_vec(), afar.to_vec()].concat();
    expected.sort();
    assert_eq!(facts, expected, "whether it is near or not");
    let gone = Gone { peers: vec![peer(1, 2, 5)], ..Gone::default() };
    let (keys, stale) = here.leave(&gone);
    assert!(keys.contains(&Key::Route { to }));
    assert_eq!(stale, [routed([10, 1, 0, 5]), Fact::Afar(to)]);
    assert_eq!(
        here.orphans(&wanted.table, &[node(2).vtep].into())
            .iter()
            .filter(|key| **key == Key::Route { to })
            .count(),
        1
    );
}
