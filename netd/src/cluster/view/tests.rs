use ::cluster::{
    Layout,
    rows::{Schema, write},
};

use super::{
    super::peers::{About, News, Untold},
    *,
};

fn node(n: usize) -> NodeId {
    format!("{n:025}").parse().expect("a node")
}

fn network(n: u8) -> NetworkId {
    NetworkId::from_bytes([n; 32])
}

fn endpoint(n: u8) -> EndpointId {
    EndpointId::from_bytes([n; 32])
}

fn layout() -> Layout {
    Layout::new(&"c".repeat(25).parse().expect("a cluster"))
}

fn put(key: &Key, value: &impl serde::Serialize) -> Event {
    let (key, value) = (layout().key(key), write(value));
    Event::Put(Row { key, value, created: 1, modified: 1, version: 1, lease: None })
}

fn delete(key: &Key) -> Event {
    Event::Delete { key: layout().key(key), revision: 2 }
}

fn member(n: usize) -> rows::Node {
    rows::Node {
        schema: Schema::default(),
        id: node(n),
        role: ::cluster::Role::Worker,
        availability: Default::default(),
        epoch: 1,
        ingress: format!("100.126.0.{n}").parse().expect("an address"),
        public_key: String::new(),
        joined_with: None,
        joined: 0,
        facts: rows::Facts { vtep4: Some([192, 0, 2, 9].into()), ..Default::default() },
    }
}

fn remote(address: &str) -> rows::Endpoint {
    rows::Endpoint {
        schema: Schema::default(),
        addresses: vec![address.parse().expect("an address")],
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        names: vec!["web".to_owned()],
        ports: Vec::new(),
        sequence: 0,
    }
}

/// As netd does.
fn take(view: &mut View, event: &Event) -> Option<Changed> {
    view.apply(layout().parse(event.key())?, event)
}

fn view() -> View {
    let mut view = View::new(node(1));
    for n in 1..=2 {
        take(&mut view, &put(&Key::Node(node(n)), &member(n)));
    }
    view
}

#[test]
fn an_endpoint_elsewhere_comes_changes_and_goes() {
    let mut view = view();
    let key = Key::Endpoint(node(2), network(7), endpoint(1));
    let came = take(&mut view, &put(&key, &remote("10.0.0.2")));
    assert_eq!(came, Some(Changed::Remote(network(7), endpoint(1), None)));
    assert_eq!(take(&mut view, &put(&key, &remote("10.0.0.2"))), None);
    let before = view.remote_of(&network(7), &endpoint(1)).cloned();
    let moved = take(&mut view, &put(&key, &remote("10.0.0.3")));
    assert_eq!(moved, Some(Changed::Remote(network(7), endpoint(1), before)));
    let there = view.elsewhere(|id| *id == network(7));
    assert_eq!(there.nodes.len(), 1, "not this host");
    assert_eq!((there.nodes[0].number, there.peers[0].node), (2, 2));
    assert_eq!(there.peers[0].addresses, ["10.0.0.3".parse::<IpAddr>().expect("an address")]);
    assert_eq!(view.elsewhere(|_| false).peers, []);
    assert!(matches!(take(&mut view, &delete(&key)), Some(Changed::Remote(_, _, Some(_)))));
    assert_eq!(take(&mut view, &delete(&key)), None);
    assert_eq!(view.count_remotes(), 0);
}

#[test]
fn an_endpoint_elsewhere_is_found_by_its_link_layer_address() {
    let mut view = view();
    let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
    let with = |last| rows::Endpoint { mac: mac(last), ..remote("10.0.0.2") };
    let key = |n| Key::Endpoint(node(2), network(7), endpoint(n));
    let holder =
        |view: &View, last| view.holder_of_mac(&network(7), mac(last)).map(|(name, _)| name);
    take(&mut view, &put(&key(1), &with(1)));
    assert_eq!(holder(&view, 1).as_deref(), Some("web"));
    assert_eq!(view.holder_of_mac(&network(8), mac(1)), None);
    take(&mut view, &put(&key(1), &with(2)));
    assert_eq!((holder(&view, 1), holder(&view, 2).is_some()), (None, true));
    // Two that took the same at once: who is left has it.
    take(&mut view, &put(&key(2), &with(2)));
    take(&mut view, &delete(&key(1)));
    assert!(holder(&view, 2).is_some());
    take(&mut view, &delete(&key(2)));
    assert_eq!(holder(&view, 2), None);
    assert!(view.macs.is_empty());
}

#[test]
fn an_endpoint_may_be_known_before_its_node() {
    let mut view = View::new(node(1));
    take(&mut view, &put(&Key::Endpoint(node(3), network(7), endpoint(1)), &remote("10.0.0.2")));
    assert_eq!(view.elsewhere(|_| true), Elsewhere::default());
    take(&mut view, &put(&Key::Node(node(3)), &member(3)));
    assert_eq!(view.elsewhere(|_| true).peers.len(), 1);
    assert_eq!(view.on_node(&node(3)), [(network(7), endpoint(1))]);
}

#[test]
fn own_rows_are_no_peers() {
    let mut view = view();
    let key = Key::Endpoint(node(1), network(7), endpoint(1));
    assert_eq!(
        take(&mut view, &put(&key, &remote("10.0.0.2"))),
        Some(Changed::Written(network(7), endpoint(1)))
    );
    assert_eq!(view.written.len(), 1);
    assert_eq!(view.elsewhere(|_| true).peers, []);
    assert_eq!(take(&mut view, &delete(&key)), Some(Changed::Unwritten));
    assert!(view.written.is_empty());
}

#[test]
fn blocks_and_loans_are_told_apart() {
    let mut view = view();
    let (mine, lent): (IpNetwork, IpAddr) =
        ("10.0.0.0/28".parse().expect("a block"), "10.0.0.3".parse().expect("an address"));
    let block = |owner, holder| rows::Block {
        lent: BTreeMap::from([(lent, node(holder))]),
        ..rows::Block::new(node(owner), 1)
    };
    take(&mut view, &put(&Key::Block(network(7), mine), &block(1, 2)));
    assert_eq!(
        view.own_blocks(&network(7)),
        (BTreeMap::from([(mine, BTreeSet::from([lent]))]), BTreeSet::new())
    );
    take(&mut view, &put(&Key::Block(network(7), mine), &block(2, 1)));
    assert_eq!(view.own_blocks(&network(7)), (BTreeMap::new(), BTreeSet::from([lent])));
    assert!(view.is_ours(&network(7), lent));
    assert!(!view.is_ours(&network(7), "10.0.0.4".parse().expect("an address")));
}

#[test]
fn what_is_asked_for_is_neither_ours_nor_theirs_until_it_is_answered() {
    let mut view = view();
    let (block, address): (IpNetwork, IpAddr) =
        ("10.0.0.0/28".parse().expect("a block"), "10.0.0.3".parse().expect("an address"));
    let row = |owner, asker| rows::Block {
        asked: BTreeMap::from([(address, node(asker))]),
        ..rows::Block::new(node(owner), 1)
    };
    take(&mut view, &put(&Key::Block(network(7), block), &row(1, 2)));
    assert_eq!(view.asked(&network(7)), [(block, address)]);
    assert_eq!(view.own_blocks(&network(7)).0[&block], BTreeSet::from([address]));
    take(&mut view, &put(&Key::Block(network(7), block), &row(2, 1)));
    assert!(!view.is_answered(&network(7), address) && !view.is_ours(&network(7), address));
    let mut refused = rows::Block::new(node(2), 1);
    refused.refused.insert(address, node(1));
    take(&mut view, &put(&Key::Block(network(7), block), &refused));
    assert!(view.is_answered(&network(7), address) && !view.is_ours(&network(7), address));
}

#[test]
fn only_what_differs_from_what_was_told_is_told() {
    let mut view = view();
    let mut untold = Untold::default();
    let key = Key::Endpoint(node(2), network(7), endpoint(1));
    let happen = |view: &mut View, untold: &mut Untold, event: Event| {
        if let Some(Changed::Remote(network, id, before)) = take(view, &event) {
            untold.remote(network, id, before);
        }
    };
    happen(&mut view, &mut untold, put(&key, &remote("10.0.0.2")));
    happen(&mut view, &mut untold, delete(&key));
    assert_eq!(untold.take(&view, |_| true), None, "it came and went");
    happen(&mut view, &mut untold, put(&key, &remote("10.0.0.2")));
    let News { call: told, about } = untold.take(&view, |_| true).expect("it came");
    assert_eq!(about, About::Some(BTreeSet::new(), vec![(network(7), endpoint(1))]));
    assert_eq!((told.complete, told.there.peers.len()), (false, 1));
    happen(&mut view, &mut untold, put(&key, &remote("10.0.0.3")));
    happen(&mut view, &mut untold, put(&key, &remote("10.0.0.4")));
    let told = untold.take(&view, |_| true).expect("it changed").call;
    let addresses = |peers: &[Peer]| peers[0].addresses[0].to_string();
    assert_eq!(addresses(&told.gone.peers), "10.0.0.2", "as it was told last");
    assert_eq!(addresses(&told.there.peers), "10.0.0.4");
    happen(&mut view, &mut untold, delete(&key));
    assert_eq!(untold.take(&view, |_| false), None, "its network is not up");
    assert!(!untold.is_about(&network(7), &endpoint(1)));
    untold.everything();
    assert!(untold.is_about(&network(7), &endpoint(1)));
    let told = untold.take(&view, |_| true).expect("everything");
    assert_eq!(told.about, About::All);
    assert!(!told.call.complete, "nothing says that everything is known");
    view.complete = true;
    untold.everything();
    assert!(untold.take(&view, |_| true).expect("everything").call.complete);
}

#[test]
fn an_address_that_is_anothers_by_now_is_not_told_as_gone() {
    let mut view = view();
    let mut untold = Untold::default();
    let key = |n| Key::Endpoint(node(2), network(7), endpoint(n));
    let mut happen = |view: &mut View, event: Event| {
        if let Some(Changed::Remote(network, id, before)) = take(view, &event) {
            untold.remote(network, id, before);
        }
        untold.take(view, |_| true).expect("news").call
    };
    for n in [1, 2] {
        happen(&mut view, put(&key(n), &remote("10.0.0.2")));
    }
    let gone = happen(&mut view, delete(&key(1))).gone.peers;
    assert_eq!((gone.len(), gone[0].addresses.len()), (1, 0));
    let gone = happen(&mut view, delete(&key(2))).gone.peers;
    assert_eq!(gone[0].addresses.len(), 1);
}

#[test]
fn a_network_that_comes_up_is_told_whole_and_alone() {
    let mut view = view();
    for (n, of) in [(1, 7), (2, 8)] {
        let key = Key::Endpoint(node(2), network(of), endpoint(n));
        take(&mut view, &put(&key, &remote("10.0.0.2")));
    }
    let mut untold = Untold::default();
    untold.network(&network(7));
    assert!(
        untold.is_about(&network(7), &endpoint(1)) && !untold.is_about(&network(8), &endpoint(2))
    );
    untold.remote(network(8), endpoint(2), None);
    assert!(untold.is_about(&network(8), &endpoint(2)));
    untold = Untold::default();
    untold.network(&network(7));
    // It is not told twice for being news besides.
    untold.remote(network(7), endpoint(1), None);
    let News { call, about } = untold.take(&view, |_| true).expect("news");
    assert_eq!((call.complete, call.there.nodes.len(), call.there.peers.len()), (false, 1, 1));
    assert_eq!(call.there.peers[0].network, network(7));
    let said = vec![(network(7), endpoint(1))];
    assert_eq!(about, About::Some(BTreeSet::from([network(7)]), said));
    untold.network(&network(7));
    assert_eq!(untold.take(&view, |_| false), None, "it went down again");
}

#[test]
fn a_node_that_comes_back_at_once_is_told_with_all_it_has() {
    let mut view = view();
    let key = Key::Endpoint(node(2), network(7), endpoint(1));
    take(&mut view, &put(&key, &remote("10.0.0.2")));
    let mut untold = Untold::default();
    untold.node_came(&node(2), 2, view.on_node(&node(2)));
    let told = untold.take(&view, |_| true).expect("it came").call;
    assert_eq!((told.there.nodes.len(), told.there.peers.len()), (1, 1));
    untold.node_gone(2);
    untold.node_came(&node(2), 2, view.on_node(&node(2)));
    assert_eq!(untold.take(&view, |_| true).expect("it went and came").about, About::All);
}

#[test]
fn the_blocks_of_others_are_nobodys_business() {
    let mut view = view();
    let block = "10.0.0.0/28".parse().expect("a block");
    let row = |owner, lent: &[(IpAddr, NodeId)]| rows::Block {
        lent: lent.iter().cloned().collect(),
        ..rows::Block::new(node(owner), 1)
    };
    let key = Key::Block(network(7), block);
    let changed = Some(Changed::Blocks(network(7)));
    assert_eq!(take(&mut view, &put(&key, &row(2, &[]))), None);
    let lent = ("10.0.0.3".parse().expect("an address"), node(1));
    assert_eq!(take(&mut view, &put(&key, &row(2, &[lent]))), changed);
    assert_eq!(take(&mut view, &put(&key, &row(2, &[]))), changed);
    assert_eq!(take(&mut view, &delete(&key)), None);
    assert!(view.blocks.is_empty());
}

#[test]
fn a_node_has_the_same_number_in_both_families() {
    let mut view = view();
    let config =
        Config { node_subnet6: Some("fd64::/64".parse().expect("a subnet")), ..Config::default() };
    assert_eq!(take(&mut view, &put(&Key::Config, &config)), Some(Changed::Config));
    let there = view.node(&node(2)).expect("it is known");
    let addresses: Vec<_> = there.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        (there.number, &*addresses),
        (2, &["100.126.0.2/16".into(), "fd64::2/64".into()][..])
    );
}

#[test]
fn two_nodes_may_say_that_they_are_at_one_address() {
    let mut view = view();
    let at = |n, last| {
        let facts = rows::Facts { vtep4: Some([192, 0, 2, last].into()), ..Default::default() };
        put(&Key::Node(node(n)), &rows::Node { facts, ..member(n) })
    };
    for (n, last) in [(2, 50), (3, 51), (4, 50)] {
        take(&mut view, &at(n, last));
    }
    let is_anothers = |last: u8, n| view.is_anothers([192, 0, 2, last].into(), &node(n));
    assert!(is_anothers(50, 2) && is_anothers(50, 4) && is_anothers(51, 2));
    assert!(!is_anothers(51, 3) && !is_anothers(52, 2));
}
