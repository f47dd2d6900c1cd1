//! Beginning a cluster and joining it, and who is not let in.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use cnm::{
    Kind,
    cluster::{
        CLUSTER_PORT, CreateToken, JoinCluster, ListNodes, ListTokens, NodeState, RemoveToken,
        Role, RotateToken,
    },
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::fleet::{Fleet, underlay};

#[test]
fn local_networks_survive_the_beginning_of_a_cluster() {
    let mut fleet = Fleet::bare(1);
    let mut netd = fleet.hosts[0].client();
    netd.create("app");
    let (a, b) = (fleet.world.container("a"), fleet.world.container("b"));
    netd.attach(&a.to("app"));
    let to = netd.attach(&b.to("app")).addresses[0].ip();
    let ping = netd_tests::Ping::start(&a.netns, to);
    let joined = fleet.init();
    assert_eq!(joined.role, Role::Manager);
    let (kind, _) = kind_of(fleet.hosts[0].client().call(&cnm::cluster::InitCluster::default()));
    assert_eq!(kind, Kind::Exists, "a host is in one cluster");
    ping.goes_on();
    ping.lost_none();
    assert!(fleet.networks(0).contains(&"app".to_owned()));
}

#[test]
fn nodes_are_listed_as_docker_lists_them() {
    let fleet = Fleet::new(2);
    let nodes = eventually("both are ready", || {
        let nodes = fleet.hosts[1].client().call(&ListNodes {}).unwrap().nodes;
        if nodes.iter().all(|node| node.state == NodeState::Ready) { Ok(nodes) } else { Err(nodes) }
    });
    let names: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.role)).collect();
    assert_eq!(names, [("h1", Role::Manager), ("h2", Role::Worker)]);
    let shown = fleet.hosts[0].netctl(&["node", "ls"]);
    let lines: Vec<_> = shown.success().lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].contains("MANAGER STATUS"), "{lines:?}");
    assert!(lines[1].contains(" * ") && lines[1].contains("h1") && lines[1].contains("Reachable"));
    assert!(lines[2].contains("h2") && lines[2].contains("Ready"), "{lines:?}");
}

#[test]
fn a_token_lets_in_whom_it_should() {
    let mut fleet = Fleet::bare(4);
    let first = fleet.init().token.unwrap();
    let mut manager = fleet.hosts[0].client();
    let refused = |host: usize, token: &str, why: &str| {
        let (kind, error) = kind_of(fleet.join(host, token));
        assert_eq!(kind, Kind::Denied, "{error}");
        assert!(error.message.contains(why), "{error}");
    };
    refused(1, "NETD-1-nonsense", "malformed");
    let (body, secret) = first.rsplit_once('-').unwrap();
    let wrong: String = secret.chars().rev().collect();
    refused(1, &format!("{body}-{wrong}"), "unknown");
    let once = CreateToken { uses: Some(1), ..CreateToken::default() };
    let once = manager.call(&once).unwrap().token;
    fleet.join(1, &once).unwrap();
    refused(2, &once, "used up");
    let endless = CreateToken { ttl: Some(99_999_999_999 * 86_400), ..CreateToken::default() };
    let (kind, error) = kind_of(fleet.hosts[0].client().call(&endless));
    assert_eq!(kind, Kind::Invalid, "{error}");
    let short = CreateToken { ttl: Some(1), ..CreateToken::default() };
    let short = manager.call(&short).unwrap().token;
    let listed = manager.call(&ListTokens {}).unwrap().tokens;
    assert_eq!(listed.len(), 3);
    eventually("it expires", || match fleet.join(2, &short) {
        Err(error) if error.message.contains("expired") => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => {
            // It was in time; out again for the next look.
            let leave = cnm::cluster::LeaveCluster { force: true };
            fleet.hosts[2].client().call(&leave).unwrap();
            Err("it was let in".to_owned())
        }
    });
    let rotated = manager.call(&RotateToken::default()).unwrap().token;
    refused(2, &first, "unknown");
    fleet.join(2, &rotated).unwrap();
    let left = manager.call(&ListTokens {}).unwrap().tokens;
    assert_eq!(left.len(), 1);
    manager.call(&RemoveToken { token: left[0].id[..6].to_owned() }).unwrap();
    refused(3, &rotated, "unknown");
    let (kind, _) = kind_of(fleet.hosts[1].client().call(&CreateToken::default()));
    assert_eq!(kind, Kind::Denied, "tokens are for managers");
}

#[test]
fn the_token_of_another_cluster_finds_nobody() {
    let mut fleet = Fleet::bare(2);
    let token = fleet.init().token.unwrap();
    let mut parts: Vec<_> = token.split('-').map(str::to_owned).collect();
    parts[2] = parts[2].chars().rev().collect();
    let (kind, error) = kind_of(fleet.join(1, &parts.join("-")));
    assert_eq!(kind, Kind::Denied, "{error}");
    assert!(error.message.contains("of another cluster"), "{error}");
}

#[test]
fn a_second_host_of_a_name_is_not_let_in() {
    let mut fleet = Fleet::bare(1);
    let token = fleet.init().token.unwrap();
    let second = fleet.add_host_named("H1");
    let (kind, error) = kind_of(fleet.join(second, &token));
    assert_eq!(kind, Kind::Exists, "{error}");
    let first = fleet.status(0).node.unwrap();
    let told =
        format!("node {first} of the cluster, which is reached at 198.51.100.1, is called h1");
    let remove = format!("netctl node rm --force {first}");
    for part in [told.as_str(), "another node_name", remove.as_str()] {
        assert!(error.message.contains(part), "{error}");
    }
    assert_eq!(fleet.hosts[0].client().call(&ListNodes {}).unwrap().nodes.len(), 1);
    assert_eq!(fleet.status(second).cluster, None);
}

#[test]
fn a_second_host_at_a_living_nodes_address_is_not_let_in() {
    let mut fleet = Fleet::new(2);
    let token = fleet.token().to_owned();
    let third = fleet.add_host_named("h3");
    // The node does not follow its host's address, which another host has by now.
    let lost = underlay(1);
    fleet.hosts[1].netns.run(&format!("ip address delete {lost}/24 dev eth0"));
    fleet.hosts[1].netns.run("ip address add 198.51.100.77/24 dev eth0");
    fleet.hosts[third].netns.run(&format!("ip address replace {lost}/24 dev eth0"));
    let join = JoinCluster {
        token: token.clone(),
        manager: (underlay(0), CLUSTER_PORT).into(),
        advertise: Some(lost),
    };
    let (kind, error) = kind_of(fleet.hosts[third].client().call(&join));
    assert_eq!(kind, Kind::Exists, "{error}");
    for part in [format!("at {lost}, and so is node h2 ("), "--advertise-addr".to_owned()] {
        assert!(error.message.contains(&part), "{error}");
    }
    assert_eq!(fleet.status(third).cluster, None);
    // Who is gone is in nobody's way.
    fleet.hosts[1].kill();
    eventually("it is known to be gone", || match fleet.hosts[third].client().call(&join) {
        Err(error) if error.kind == Kind::Exists => Err(error.message),
        joined => Ok(joined.unwrap()),
    });
}

#[test]
fn a_host_that_forgot_its_cluster_takes_its_place_again() {
    let mut fleet = Fleet::new(2);
    let listed = |fleet: &Fleet| {
        let nodes = fleet.hosts[0].client().call(&ListNodes {}).unwrap().nodes;
        nodes.into_iter().map(|node| (node.name, node.id)).collect::<Vec<_>>()
    };
    let before = listed(&fleet);
    let token = fleet.hosts[0].client().call(&CreateToken::default()).unwrap().token;
    fleet.hosts[1].kill();
    std::fs::remove_dir_all(fleet.hosts[1].state_dir()).unwrap();
    fleet.hosts[1].start();
    eventually("it is known to be gone", || match fleet.join(1, &token) {
        Err(error) if error.kind == Kind::Busy => Err(error.message),
        joined => Ok(joined.unwrap()),
    });
    let after = listed(&fleet);
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1].0, "h2");
    assert_ne!(after[1].1, before[1].1);
}

#[test]
fn two_hosts_of_one_name_are_told_so() {
    let mut fleet = Fleet::bare(2);
    let token = fleet.init().token.unwrap();
    let third = fleet.add_host_named("h3");
    fleet.join(third, &token).unwrap();
    fleet.join(1, &token).unwrap();
    // It is called so from its next start on, when nobody can refuse it any more.
    fleet.hosts[third].stop();
    let config = fleet.hosts[third].run_dir().with_file_name("netd.toml");
    std::fs::write(config, "node_name = \"h1\"\n").unwrap();
    fleet.hosts[third].start();
    for (host, said) in [(0, true), (third, true), (1, false)] {
        eventually("those know whom it concerns", || {
            let problems = fleet.hosts[host].client().status().problems;
            let told = problems.iter().any(|problem| problem.contains("another node_name"));
            if told == said { Ok(()) } else { Err(problems) }
        });
    }
    fleet.hosts[third].client().call(&cnm::cluster::LeaveCluster { force: false }).unwrap();
    eventually("it is over", || {
        let problems = fleet.hosts[0].client().status().problems;
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    });
    assert!(fleet.hosts[third].client().status().problems.is_empty());
}

#[test]
fn a_second_manager_decides_too_and_brings_its_etcd() {
    let mut fleet = Fleet::bare(2);
    fleet.init();
    let token = CreateToken { role: Role::Manager, ..CreateToken::default() };
    let token = fleet.hosts[0].client().call(&token).unwrap().token;
    let joined = fleet.join(1, &token).unwrap();
    assert_eq!(joined.role, Role::Manager);
    eventually("it has its vote", || {
        let log = fleet.hosts[1].log();
        if log.contains("this host has a vote in etcd") { Ok(()) } else { Err(()) }
    });
    // It decides by itself: the network and the token are its own work.
    let create = cnm::network::CreateNetwork {
        driver: Some("overlay".into()),
        ..cnm::network::CreateNetwork::named("shop")
    };
    let mut second = fleet.hosts[1].client();
    second.call(&create).unwrap();
    second.call(&CreateToken::default()).unwrap();
    eventually("the first sees the network", || {
        let seen = fleet.networks(0);
        if seen.contains(&"shop".to_owned()) { Ok(()) } else { Err(seen) }
    });
    let (one, two) = (fleet.run(0, "shop", "one"), fleet.run(1, "shop", "two"));
    crate::fleet::resolves(&two, "one", &[one.ip()]);
    crate::fleet::reaches(&one.container.netns, two.ip());
}

#[test]
fn who_answers_and_is_no_manager_is_said_and_the_token_is_not_blamed() {
    let mut fleet = Fleet::bare(3);
    let token = fleet.init().token.unwrap();
    let other = cnm::cluster::InitCluster { advertise: Some(underlay(2)), ..Default::default() };
    fleet.hosts[2].client().call(&other).unwrap();
    let said = |host: usize, port: u16| {
        let manager = (underlay(host), port).into();
        let join = JoinCluster { token: token.clone(), manager, advertise: None };
        kind_of(fleet.hosts[1].client().call(&join))
    };
    let usual = |host: usize| format!("{}:2377", underlay(host));

    // A manager of another cluster: there the token is at fault.
    let (kind, error) = said(2, 2377);
    assert_eq!(kind, Kind::Denied, "{error}");
    assert!(error.message.contains("of another cluster than who answers there"), "{error}");

    let netns = &fleet.hosts[0].netns;
    let listen = |port: u16| {
        let address = SocketAddr::new(underlay(0), port);
        netns.inside(move || TcpListener::bind(address)).unwrap()
    };
    let answers = |port: u16, speak: fn(&mut TcpStream) -> io::Result<usize>| {
        let listener = listen(port);
        thread::spawn(move || speak(&mut listener.accept().unwrap().0).unwrap());
    };
    let (ssh, web, mute, deaf, nobody) = (22, 80, 81, 82, 83);
    answers(ssh, |stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n")?;
        stream.read_to_end(&mut Vec::new())
    });
    answers(web, |stream| {
        assert!(stream.read(&mut [0; 4096])? > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())
    });
    answers(mute, |stream| stream.read(&mut [0; 4096]));
    let _deaf = listen(deaf);
    for (host, port, what) in [
        (0, 2379, "it is the etcd of a cluster"),
        (0, 2380, "it is the etcd of a cluster"),
        (2, 2379, "it is the etcd of a cluster"),
        (0, ssh, "it is an SSH server"),
        (0, web, "it is a web server without TLS"),
        (0, mute, "it hung up"),
        (0, deaf, "it takes the connection and says nothing"),
        (0, nobody, "Connection refused"),
    ] {
        let (kind, error) = said(host, port);
        assert_eq!(kind, Kind::Unavailable, "{error}");
        let address = format!("{}:{port}", underlay(host));
        for words in [what, &address, &usual(host)] {
            assert!(error.message.contains(words), "{words}: {error}");
        }
        assert!(!error.message.contains("token is"), "{error}");
    }
    // With what it was told to give instead it joins.
    fleet.join(1, &token).unwrap();
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let mut fleet = Fleet::bare(3);
    let token = fleet.init().token.unwrap();
    let manager = SocketAddr::new(underlay(0), CLUSTER_PORT);
    let silent = fleet.hosts[1].netns.inside(|| {
        let connect = |_| TcpStream::connect(manager);
        (0..900).map(connect).collect::<io::Result<Vec<_>>>().unwrap()
    });
    // From where they are, and from elsewhere.
    for host in [1, 2] {
        fleet.join(host, &token).unwrap();
    }
    let unproven = fleet.figure(0, "netd_cluster_unproven_total");
    assert!(unproven >= 800, "{unproven} of them gave way");
    assert!(fleet.hosts[0].log().contains("show no certificate and no token"));
    // A host that has shown who it is goes on asking meanwhile.
    fleet.create("shop");
    fleet.run(2, "shop", "a");
    drop(silent);
    let log = fleet.hosts[0].log();
    assert!(!log.contains("close_notify"), "no call of a node ends with a warning: {log}");
}
