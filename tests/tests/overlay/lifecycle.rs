//! What is made of a network on a host, what is refused, and that nothing is left.

use cnm::{
    Kind,
    bandwidth::Bandwidth,
    driver::{AttachEndpoint, CheckAttached, DetachEndpoint, PlanEndpoint, Sync},
    peers::{ChangePeers, Elsewhere},
};
use netd_tests::{Snapshot, eventually};
use serde_json::json;

use crate::{
    cluster::{Cluster, Underlay, endpoint, network, peer, plug},
    session::Session,
};

#[test]
fn a_network_is_complete_and_goes_without_a_trace() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let before = Snapshot::of(&cluster.hosts[0].netns);
    let network = network(1, &["10.1.0.0/16", "fd00:1::/64"], 1450);
    cluster.up(&network);
    let here = cluster.attach(&network, 0, 10);
    cluster.attach(&network, 1, 11);
    let host = &mut cluster.hosts[0];
    let link = |name: &str| host.netns.json(&format!("ip -j -d link show {name}"))[0].clone();
    let vxlan = link("nx001001");
    assert_eq!(vxlan["master"], "br-010101010101");
    assert_eq!((&vxlan["mtu"], &vxlan["operstate"]), (&json!(1450), &json!("UNKNOWN")));
    let data = &vxlan["linkinfo"]["info_data"];
    assert_eq!(
        (&data["id"], &data["local"], &data["port"]),
        (&json!(4097), &json!("192.0.2.1"), &json!(4789))
    );
    assert_eq!(
        (&data["learning"], &data["ttl"], &data["udp_csum"]),
        (&json!(false), &json!(64), &json!(false))
    );
    let port = &vxlan["linkinfo"]["info_slave_data"];
    for flag in ["learning", "flood", "mcast_flood", "bcast_flood"] {
        assert_eq!(port[flag], false, "{flag}");
    }
    assert_eq!(port["neigh_suppress"], true);
    assert_eq!(vxlan["inet6_addr_gen_mode"], "none");
    let bridge = link("br-010101010101");
    assert_eq!((&bridge["address"], &bridge["mtu"]), (&json!("02:01:01:01:01:01"), &json!(1450)));
    assert_eq!(bridge["linkinfo"]["info_data"]["mcast_snooping"], 0);
    assert_eq!(link("nx001000")["linkinfo"]["info_data"]["id"], 4096);

    let local = host.local(&network);
    let endpoint = here.endpoint.clone();
    let check = CheckAttached { network: local.clone(), endpoint: endpoint.clone(), netns: None };
    assert_eq!(host.session.call(&check).unwrap().differences, [""; 0]);
    host.netns.run("ip link set nx001001 type bridge_slave flood on");
    let differences = host.session.call(&check).unwrap().differences;
    assert_eq!(differences, ["still to do: set the port flags of nx001001"]);
    let plan = host.session.call(&PlanEndpoint { network: local, endpoint }).unwrap();
    assert_eq!(plan.observed["nodes"], json!({"2": "192.0.2.2"}));

    cluster.detach(&network, &here);
    let host = &mut cluster.hosts[0];
    host.down(&network).unwrap();
    host.down(&network).unwrap();
    assert!(host.rows().is_empty(), "{:?}", host.rows());
    eventually("nothing is left", || {
        let now = Snapshot::of(&host.netns);
        let left: Vec<_> = now
            .same_as(&before)
            .err()
            .into_iter()
            .flatten()
            .filter(|l| !l.contains("more: table"))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn one_network_of_two_leaves_the_other_as_it_is() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let (one, two) = (network(1, &["10.1.0.0/16"], 1450), network(2, &["10.2.0.0/16"], 1450));
    for network in [&one, &two] {
        cluster.up(network);
    }
    let [a, b] = [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&one, host, number));
    let rows = cluster.hosts[0].rows();
    cluster.attach(&two, 1, 21);
    cluster.hosts[0].down(&two).unwrap();
    assert_eq!(cluster.hosts[0].rows(), rows);
    assert!(a.netns.pings(b.v4()));
    assert!(cluster.hosts[0].netns.pings(b.v4()));
    // What is told of a network that is not here is passed over.
    assert_eq!(cluster.tell_all()[0], 0);
    assert_eq!(cluster.hosts[0].sync().repaired, [""; 0]);
}

#[test]
fn an_underlay_that_is_too_small_is_refused_with_figures() {
    let mut cluster = Cluster::new(Underlay::V4, 1);
    let host = &mut cluster.hosts[0];
    let error = host.up(&network(1, &["10.1.0.0/16"], 1451)).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    let operands = ["mtu", "underlay_mtu", "overhead"].map(|key| error.operands[key].clone());
    assert_eq!(operands, [json!(1451), json!(1500), json!(50)]);
    assert!(error.message.contains("make the network with mtu 1450"), "{error}");
    assert!(host.netns.json("ip -j link").as_array().unwrap().len() == 2);
    host.netns.run("ip link set eth0 mtu 1400");
    assert_eq!(host.up(&network(1, &["10.1.0.0/16"], 1450)).unwrap_err().kind, Kind::Invalid);
    assert_eq!(host.up(&network(1, &["10.1.0.0/16"], 1350)).unwrap(), Some(1350));
    host.node.vtep = "2001:db8::77".parse().unwrap();
    let error = host.up(&network(2, &["10.2.0.0/16"], 1280)).unwrap_err();
    assert_eq!((error.kind, &error.operands["vtep"]), (Kind::NotFound, &json!("2001:db8::77")));
}

#[test]
fn what_is_wrong_or_anothers_is_said() {
    let mut cluster = Cluster::new(Underlay::V4, 1);
    let host = &mut cluster.hosts[0];
    let fine = network(1, &["10.1.0.0/16"], 1450);
    let mut without = fine.clone();
    without.mtu = None;
    assert_eq!(host.up(&without).unwrap_err().kind, Kind::Invalid);
    let mut odd = fine.clone();
    odd.options.insert("broadcast".into(), "perhaps".into());
    assert_eq!(host.up(&odd).unwrap_err().operands["option"], "broadcast");
    let bare = cnm::driver::NetworkUp { network: fine.clone() };
    assert_eq!(host.session.call(&bare).unwrap_err().kind, Kind::Invalid);

    host.netns.run("ip link add nx001001 type bridge");
    let error = host.up(&fine).unwrap_err();
    assert_eq!((error.kind, &error.operands["link"]), (Kind::Exists, &json!("nx001001")));
    host.netns.run("ip link delete nx001001");
    host.up(&fine).unwrap();
    let mut twin = network(2, &["10.2.0.0/16"], 1450);
    for vni in [4097, 4096] {
        twin.overlay = host.local(&fine).overlay;
        let overlay = twin.overlay.as_mut().unwrap();
        (overlay.vni, overlay.ingress) = (vni, None);
        let error =
            host.session.call(&cnm::driver::NetworkUp { network: twin.clone() }).unwrap_err();
        assert_eq!((error.kind, &error.operands["vni"]), (Kind::Exists, &json!(vni)));
    }
    assert_eq!(host.sync().repaired, [""; 0]);

    let there =
        Elsewhere { peers: vec![peer(&endpoint(&fine, 9, &[]), 7)], ..Elsewhere::default() };
    let change = ChangePeers { there, ..ChangePeers::default() };
    let error = host.session.call(&change).unwrap_err();
    assert_eq!((error.kind, &error.operands["node"]), (Kind::NotFound, &json!(7)));
    let error = host.session.call(&ChangePeers { complete: true, ..change }).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
}

#[test]
fn sync_and_a_complete_account_put_everything_right() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let network = network(1, &["10.1.0.0/16", "fd00:1::/64"], 1450);
    cluster.up(&network);
    let [a, b] = [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&network, host, number));
    let spoil = [
        "ip link set nx001001 nomaster",
        "ip link set nx001001 type vxlan learning",
        "ip link delete nx001000",
        "ip link delete nx001001",
        "ip link delete br-010101010101",
        "bridge fdb delete 02:42:00:31:00:0b dev nx001001 self",
        "bridge fdb replace 02:42:00:31:00:0b dev nx001001 dst 192.0.2.99 self",
        "bridge fdb replace 02:42:00:31:00:0b dev nx001001 dst 192.0.2.2 port 99 self",
        "bridge fdb delete 02:42:00:31:00:0b dev nx001001 master",
        "ip neighbour delete 10.1.0.11 dev br-010101010101",
        "ip neighbour add 10.1.0.99 lladdr 02:00:00:00:00:99 dev br-010101010101",
        "bridge fdb add 02:00:00:00:00:99 dev nx001001 dst 192.0.2.99 self",
        "nft flush ruleset",
    ];
    let before = cluster.hosts[0].rows();
    for command in spoil {
        let output = cluster.hosts[0].netns.output(command);
        if command.contains("learning") {
            // This kernel may not change it: what cannot be spoilt needs no mending.
            drop(output);
        } else {
            assert!(output.status.success(), "{command}: {output:?}");
        }
        cluster.hosts[0].sync();
        cluster.tell_all();
        assert!(a.netns.pings(b.v4()), "after {command}");
        assert!(b.netns.pings(a.v6()), "after {command}");
        assert!(cluster.hosts[0].netns.pings(b.v4()), "after {command}");
        assert_eq!(cluster.hosts[0].sync().repaired, [""; 0], "after {command}");
        assert_eq!(cluster.tell_all(), [0, 0], "after {command}");
        assert_eq!(cluster.hosts[0].rows(), before, "after {command}");
    }
}

#[test]
fn rows_for_everybody_that_lead_by_more_than_an_address_go() {
    let mut cluster = Cluster::new(Underlay::V4, 3);
    for (number, broadcast) in [(1, "on"), (2, "off")] {
        let mut network = network(number, &[&format!("10.{number}.0.0/16")], 1450);
        network.options.insert("broadcast".into(), broadcast.into());
        cluster.up(&network);
        let before = cluster.hosts[0].rows();
        let everybody = format!("00:00:00:00:00:00 dev nx00100{number} dst 192.0.2.2 self");
        for by in ["port 99", "vni 77", "via eth0", "port 99 vni 77 via eth0"] {
            let host = &cluster.hosts[0].netns;
            host.run(&format!("bridge fdb append {everybody} {by}"));
            if broadcast == "on" {
                host.run(&format!("bridge fdb delete {everybody}"));
            }
            assert_ne!(cluster.hosts[0].rows(), before);
            cluster.tell_all();
            assert_eq!(cluster.hosts[0].rows(), before, "{by}, with broadcast {broadcast}");
            assert_eq!(cluster.tell_all(), [0, 0, 0], "{by}, with broadcast {broadcast}");
        }
    }
}

#[test]
fn a_device_that_cannot_be_made_is_its_own_networks_trouble() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let [one, two] = [1, 2].map(|n| network(n, &[&format!("10.{n}.0.0/16")], 1450));
    for network in [&one, &two] {
        cluster.up(network);
    }
    let [a, b] = [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&one, host, number));
    let [c, d] = [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&two, host, number));
    for device in ["nx001001", "nx001002"] {
        cluster.hosts[0].netns.run(&format!("ip link delete {device}"));
    }
    // Its number is taken.
    let theirs = "ip link add theirs type vxlan id 4098 dstport 4789 local 192.0.2.1";
    cluster.hosts[0].netns.run(theirs);

    let synced = cluster.hosts[0].sync();
    let [problem] = &synced.problems[..] else { panic!("{:?}", synced.problems) };
    let said = ["network net2 is not as it should be", "nx001002", "netctl reconcile"];
    assert!(said.iter().all(|word| problem.contains(word)), "{problem}");
    let made = |network: u8| format!("make the VXLAN device nx00100{network} ");
    let repaired = |network| synced.repaired.iter().any(|one| one.starts_with(&made(network)));
    assert!(repaired(1) && !repaired(2), "{:?}", synced.repaired);
    cluster.tell_all();
    assert!(a.netns.pings(b.v4()) && c.netns.pings_in_vain(d.v4()));
    // Who comes to it hears why.
    let more = endpoint(&two, 20, &[]);
    let netns = cluster.world.namespace();
    let host = &mut cluster.hosts[0];
    let attach =
        AttachEndpoint { network: host.local(&two), endpoint: more.clone(), netns: netns.path() };
    let error = host.session.call(&attach).unwrap_err();
    assert!(["nx001002", "theirs"].iter().all(|word| error.message.contains(word)), "{error}");

    host.netns.run("ip link delete theirs");
    host.session.call(&attach).unwrap();
    host.endpoints.push(more);
    assert_eq!(host.sync().problems, [""; 0]);
    cluster.tell_all();
    assert!(c.netns.pings(d.v4()) && netns.pings(d.v4()));
}

#[test]
fn two_drivers_share_the_firewall() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let shop = network(1, &["10.1.0.0/16"], 1450);
    cluster.up(&shop);
    let web = cluster.publish(&shop, 0, 10, &["8080:80"]);
    web.netns.serve_tcp(80);
    let mut bridge = Session::start(&cluster.hosts[0].netns, cluster.world.programs(), "bridge");
    let mut local = network(2, &["10.2.0.0/24"], 1500);
    local.driver = "bridge".into();
    let mut everything = Sync { networks: vec![local.clone()], ..Sync::default() };
    bridge.call(&everything).unwrap();
    let sandbox = cluster.world.namespace();
    let endpoint = endpoint(&local, 5, &["9090:80"]);
    let netns = sandbox.path();
    let attach = AttachEndpoint { network: local, endpoint: endpoint.clone(), netns };
    bridge.call(&attach).unwrap();
    everything.endpoints.push(endpoint);
    sandbox.serve_tcp(80);

    // Neither takes away what is the other's, whoever speaks last.
    for _ in 0..2 {
        assert_eq!(bridge.call(&everything).unwrap().repaired, [""; 0]);
        assert_eq!(cluster.hosts[0].sync().repaired, [""; 0]);
    }
    let lan = plug(&cluster.world, &cluster.wire, 100);
    for port in [8080, 9090] {
        lan.ask_tcp(format!("192.0.2.1:{port}").parse().unwrap()).unwrap();
    }
    // A published port is the way between networks of two drivers, and the only one; who comes by
    // it comes as himself.
    let seen = sandbox.ask_tcp("192.0.2.1:8080".parse().unwrap()).unwrap();
    assert_eq!(seen, "10.2.0.5".parse::<std::net::IpAddr>().unwrap());
    sandbox.try_tcp("10.1.0.10:80".parse().unwrap()).unwrap_err();
    web.netns.try_tcp("10.2.0.5:80".parse().unwrap()).unwrap_err();

    bridge.call(&Sync::default()).unwrap();
    assert_eq!(cluster.hosts[0].sync().repaired, [""; 0]);
    lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).unwrap();
}

#[test]
fn an_endpoint_is_limited_as_on_a_bridge() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let network = network(1, &["10.1.0.0/16"], 1450);
    cluster.up(&network);
    let before = Snapshot::of(&cluster.hosts[0].netns);
    let mut endpoint = endpoint(&network, 10, &[]);
    endpoint.bandwidth = Bandwidth::of("10mbit".parse().ok(), "5mbit".parse().ok());
    let netns = cluster.world.namespace();
    let host = &mut cluster.hosts[0];
    let local = host.local(&network);
    let attach =
        AttachEndpoint { network: local.clone(), endpoint: endpoint.clone(), netns: netns.path() };
    host.session.call(&attach).unwrap();
    let check = CheckAttached { network: local.clone(), endpoint: endpoint.clone(), netns: None };
    assert_eq!(host.session.call(&check).unwrap().differences, [""; 0]);
    let end = endpoint.id.link_name().to_string();
    for (link, rate) in [(end.clone(), 1_250_000), (end.replacen("nd", "nq", 1), 625_000)] {
        let queues = host.netns.json(&format!("tc -j qdisc show dev {link} root"));
        assert_eq!(
            (&queues[0]["kind"], &queues[0]["options"]["rate"]),
            (&json!("tbf"), &json!(rate))
        );
    }
    host.netns.run(&format!("tc qdisc del dev {end} root"));
    assert_eq!(host.session.call(&check).unwrap().differences.len(), 1);
    let sync = Sync {
        networks: vec![local.clone()],
        endpoints: vec![endpoint.clone()],
        ..Sync::default()
    };
    host.session.call(&sync).unwrap();
    assert_eq!(host.session.call(&check).unwrap().differences, [""; 0]);
    let detach = DetachEndpoint { network: local, endpoint, netns: None, stays: false };
    host.session.call(&detach).unwrap();
    eventually("nothing is left of it", || Snapshot::of(&host.netns).same_as(&before));
}
