//! Who is not let in, and what is not let through: refused, logged and counted.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
};

use cnm::{
    Call as _, Kind,
    cluster::ListNodes,
    endpoint::Attach,
    network::{CreateNetwork, Subnet, UpdateNetwork},
    system::Reconcile,
};
use netd_tests::{Asking as _, eventually, kind_of};
use serde_json::{Value, json};

use crate::fleet::{Fleet, reaches, resolves, underlay};

#[test]
fn who_may_not_is_refused_and_counted() {
    let mut fleet = Fleet::bare(4);
    let token = fleet.init().token.unwrap();
    let count = |name: &str| fleet.figure(0, &format!("netd_cluster_{name}_total"));
    let logged = |words: &str| fleet.hosts[0].log().contains(words);

    // A secret that is not the token's.
    let (body, secret) = token.rsplit_once('-').unwrap();
    let wrong: String = secret.chars().rev().collect();
    let (kind, _) = kind_of(fleet.join(1, &format!("{body}-{wrong}")));
    assert_eq!((kind, count("tokens_refused")), (Kind::Denied, 1));
    assert!(logged("a call was refused"));
    fleet.join(1, &token).unwrap();
    fleet.join(2, &token).unwrap();
    assert_eq!(count("joined"), 2);

    // A worker asks for what is for managers.
    let create = CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named("shop") };
    let (kind, error) = kind_of(fleet.hosts[1].client().call(&create));
    assert_eq!((kind, count("denied")), (Kind::Denied, 1), "{error}");

    // A worker writes what is another's, or everybody's; what is its own it may.
    let nodes = fleet.hosts[0].client().call(&ListNodes {}).unwrap().nodes;
    let id = |name: &str| nodes.iter().find(|node| node.name == name).unwrap().id.clone();
    let cluster = fleet.status(0).cluster.unwrap();
    let put = |key: &str| {
        let kept = fleet.hosts[1].state_dir().join("cluster");
        let kept = kept.display();
        let ran = fleet.hosts[1].netns.output(&format!(
            "env ETCDCTL_API=3 etcdctl --endpoints https://{}:2379 --cacert {kept}/ca.pem \
             --cert {kept}/node.pem --key {kept}/node-key.pem put /netd/{cluster}/{key} x",
            underlay(0)
        ));
        (ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let h2 = id("h2");
    assert!(put(&format!("n/{h2}/own")).0);
    let others = [format!("n/{}/live", id("h3")), format!("node/{h2}"), "cfg".to_owned()];
    for key in &others {
        let (done, said) = put(key);
        assert!(!done && said.contains("permission denied"), "{key}: {said}");
    }
    let kept = fleet.hosts[0].state_dir().join("cluster");
    let kept = kept.display();
    let figures = fleet.hosts[0].netns.run(&format!(
        "curl -s --cacert {kept}/ca.pem --cert {kept}/node.pem --key {kept}/node-key.pem \
         https://{}:2379/metrics",
        underlay(0)
    ));
    let denied = figures.lines().find(|line| {
        line.starts_with("grpc_server_handled_total")
            && line.contains("PermissionDenied")
            && line.contains("\"Put\"")
    });
    let denied = denied.and_then(|line| line.rsplit(' ').next()).map(str::to_owned);
    assert_eq!(denied.as_deref(), Some("3"), "etcd counts them");

    // The certificate of another cluster opens neither the managers' door nor etcd's.
    let other = &fleet.hosts[3];
    other
        .client()
        .call(&cnm::cluster::InitCluster { advertise: Some(underlay(3)), ..Default::default() })
        .unwrap();
    let kept = other.state_dir().join("cluster");
    let kept = kept.display();
    let before = count("strangers");
    for port in [2377, 2379] {
        let ran = other.netns.output(&format!(
            "curl -s -k --max-time 5 --cert {kept}/node.pem --key {kept}/node-key.pem \
             https://{}:{port}/health",
            underlay(0)
        ));
        assert!(!ran.status.success(), "{ran:?}");
    }
    eventually("it is counted", || match count("strangers") - before {
        0 => Err(0),
        n => Ok(n),
    });
    assert!(logged("a caller was refused or lost"));
}

#[test]
fn refusals_have_the_names_of_networks_and_nodes() {
    let fleet = Fleet::new(2);
    let network = fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let c = fleet.world.container("c");
    let taken = Attach { addresses: vec![b.ip()], ..c.to("shop") };
    let (kind, error) = kind_of(fleet.hosts[0].client().call(&taken));
    assert_eq!(kind, Kind::Exists);
    let endpoint = b.endpoint.id.short();
    let whose = format!(
        "address {} is in use: container b (endpoint {endpoint}) has it on node h2",
        b.ip()
    );
    assert_eq!(error.message, whose);
    assert_eq!(error.operands["container"], "b", "{error}");
    let subnet = network.subnets[0].subnet;
    let outside =
        fleet.hosts[0].netctl(&["run", "--network", "shop", "--ip", "10.1.2.3", "--", "true"]);
    let said = format!("network shop contains IP address 10.1.2.3: it has {subnet}");
    assert!(outside.stderr.contains(&said), "{outside:?}");
    for words in [["cluster", "token", "rm", ""], ["node", "rm", "", "--force"]] {
        let refused = fleet.hosts[0].netctl(&words);
        assert!(
            refused.code == 2 && refused.stderr.contains(" is missing: netctl "),
            "{refused:?}"
        );
    }
    fleet.hosts[0].client().detach("a");
    let refused = fleet.hosts[0].netctl(&["network", "rm", "shop"]).stderr;
    assert!(refused.contains("network shop is in use"), "{refused}");
    assert!(refused.contains("on h2") && !refused.contains(network.id.short()), "{refused}");
    let refused = fleet.hosts[1].netctl(&["network", "create", "-d", "overlay", "x"]).stderr;
    assert!(refused.contains("node h2, a worker, may not"), "{refused}");
    let refused = fleet.hosts[1].netctl(&["node", "rm", "h1"]).stderr;
    let whom = format!("ask on one, such as h1 ({})", underlay(0));
    assert!(refused.contains(&whom) && !refused.contains("--force"), "{refused}");
    let refused = fleet.hosts[0].netctl(&["cluster", "init", "--advertise-addr", "eth0"]).stderr;
    assert!(refused.contains("such as 10.0.0.1 or fd00::1"), "{refused}");
}

#[test]
fn vxlan_from_no_member_is_dropped_counted_and_logged() {
    let fleet = Fleet::new(2);
    let network = fleet.create("shop");
    let vni = network.overlay.as_ref().unwrap().vni;
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    reaches(&a.container.netns, b.ip());
    let heard = a.container.netns.serve_udp(99);
    let target = SocketAddr::new(a.ip(), 99);
    b.container.netns.ask_udp(target).unwrap();

    // On the same wire, with everything that has to be known, even a member's address in front.
    let stranger = fleet.beside("198.51.100.66/24");
    stranger.run(&format!(
        "ip link add vx type vxlan id {vni} local 198.51.100.66 remote {} dstport 4789",
        underlay(0)
    ));
    stranger.run("ip link set vx up");
    stranger.run("ip address add 10.255.255.1/32 dev vx");
    stranger.run(&format!("ip route add {} dev vx", a.ip()));
    let mac = a.endpoint.mac.unwrap();
    stranger.run(&format!("ip neighbour add {} lladdr {mac} dev vx", a.ip()));
    let dropped = || {
        let shown =
            fleet.hosts[0].netns.json("nft -j list counter inet netd-overlay vxlan_strangers");
        let all = shown["nftables"].as_array().unwrap();
        let counter = all.iter().find_map(|object| object.get("counter")).unwrap();
        counter["packets"].as_u64().unwrap()
    };
    let before = dropped();
    eventually("it is dropped and counted", || {
        stranger.send_udp(target).unwrap();
        let now = dropped();
        if now > before { Ok(()) } else { Err(now) }
    });
    assert_eq!(heard.from(), [b.ip()], "members alone were heard");
    fleet.hosts[0].client().call(&Reconcile {}).unwrap();
    eventually("it is logged", || {
        let log = fleet.hosts[0].log();
        let said = log.contains("packets of VXLAN of nobody in the cluster were dropped");
        if said { Ok(()) } else { Err(()) }
    });
}

#[test]
fn a_network_of_the_cluster_asks_no_netd() {
    let fleet = Fleet::new(2);
    let overlay = |name: &str, subnet: &str, dns: &str| CreateNetwork {
        driver: Some("overlay".into()),
        subnets: vec![Subnet::new(subnet.parse().unwrap())],
        options: [("dns".to_owned(), dns.to_owned())].into(),
        ..CreateNetwork::named(name)
    };
    let mut first = fleet.hosts[0].client();
    let (kind, error) = kind_of(first.call(&overlay("shop", "10.9.0.0/24", "10.9.0.1")));
    assert_eq!(kind, Kind::Invalid);
    assert!(
        error.message.contains("10.9.0.1 is netd itself, at the gateway of network shop"),
        "{error}"
    );
    first.call(&overlay("shop", "10.9.0.0/24", "192.0.2.53")).unwrap();
    let local = CreateNetwork {
        options: [("dns".to_owned(), "10.8.0.1".to_owned())].into(),
        ..CreateNetwork::named("local")
    };
    fleet.hosts[1].client().call(&local).unwrap();
    let gateway = "192.0.2.53".parse().ok();
    let subnet = Subnet { gateway, ..Subnet::new("192.0.2.0/24".parse().unwrap()) };
    let grown = UpdateNetwork {
        network: "shop".into(),
        add_subnets: vec![subnet],
        ..UpdateNetwork::default()
    };
    let (kind, error) = kind_of(first.call(&grown));
    assert!(
        kind == Kind::Invalid && error.message.contains("192.0.2.53 is netd itself"),
        "{error}"
    );
    // Another host cannot know of it, and so it is said there.
    let problems = || fleet.hosts[1].client().status().problems;
    assert_eq!(problems(), Vec::<String>::new());
    first.call(&overlay("late", "10.8.0.0/24", "192.0.2.53")).unwrap();
    eventually("it is said", || {
        let found = problems();
        let says = "the name server 10.8.0.1 of network local is netd itself, at the gateway of \
                    network late";
        if found.iter().any(|problem| problem.starts_with(says)) { Ok(()) } else { Err(found) }
    });
}

#[test]
fn a_network_that_is_gone_meanwhile_is_called_by_its_name() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    // Its driver runs since there was somebody on another network.
    fleet.create("other");
    fleet.run(1, "other", "first");
    // Somebody is about to come while the driver stands still.
    let drivers = fleet.hosts[1].client().status().drivers;
    let driver = drivers.iter().find(|driver| driver.name == "overlay").unwrap().pid.unwrap();
    netd_tests::run(&format!("kill -STOP {driver}"));
    let late = fleet.world.container("late");
    let mut asking = UnixStream::connect(fleet.hosts[1].socket()).unwrap();
    let attach =
        json!({"jsonrpc": "2.0", "id": 1, "method": Attach::METHOD, "params": late.to("shop")});
    writeln!(asking, "{attach}").unwrap();
    // Who asks after it is answered after it was heard.
    fleet.status(1);
    fleet.hosts[0].netctl(&["network", "rm", "shop"]).success();
    eventually("the other has heard of it", || match fleet.status(1).networks {
        1 => Ok(()),
        n => Err(n),
    });
    netd_tests::run(&format!("kill -CONT {driver}"));
    let refused = BufReader::new(asking).lines().next().unwrap().unwrap();
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(refused["error"]["data"]["kind"], "not_found", "{refused}");
    assert_eq!(refused["error"]["message"], "network shop not found in the cluster");
}
