//! The ways that packets go between hosts: what others' rules do to them, how large they may be, and
//! by which port they go.

use std::net::{SocketAddr, UdpSocket};

use cnm::{
    Kind,
    cluster::{CLUSTER_PORT, InitCluster, JoinCluster},
    network::CreateNetwork,
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::{
    fleet::{Fleet, Running, reaches, resolves, underlay},
    growing::distrust,
};

/// A node reaches containers elsewhere, and is answered over the network between the nodes: each
/// host sees half of it.
fn half_a_flow_is_no_invalid_connection(bridge_filter: &str) {
    // The rules are the socket's of their driver, unless told, and nobody's to take away.
    let mut fleet = Fleet::new_with(2, "[firewall]\ntables = \"plain\"");
    fleet.create("shop");
    distrust(&fleet);
    let running = [fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b")];
    for (host, one) in fleet.hosts.iter().zip(&running) {
        host.netns.run(&format!("sysctl -q net.bridge.bridge-nf-call-iptables={bridge_filter}"));
        one.container.netns.serve_tcp(80);
    }
    for host in &fleet.hosts {
        for to in &running {
            reaches(&host.netns, to.ip());
            host.netns.ask_tcp(SocketAddr::new(to.ip(), 80)).unwrap();
        }
    }
    let target = SocketAddr::new(running[1].ip(), 80);
    running[0].container.netns.ask_tcp(target).unwrap();
    if bridge_filter == "0" {
        // It would be, without the rules that say so; and nobody is there to put them back.
        fleet.hosts[1].kill();
        fleet.hosts[1].netns.run("nft flush chain inet netd-overlay halves");
        fleet.hosts[0].netns.try_tcp(target).unwrap_err();
    }
}

#[test]
fn half_a_flow_is_no_invalid_connection_with_bridge_filter() {
    half_a_flow_is_no_invalid_connection("1");
}

#[test]
fn half_a_flow_is_no_invalid_connection_without_bridge_filter() {
    half_a_flow_is_no_invalid_connection("0");
}

#[test]
fn the_smallest_underlay_says_how_large_packets_are() {
    let mut fleet = Fleet::bare(3);
    fleet.hosts[1].netns.run("ip link set eth0 mtu 1400");
    fleet.hosts[2].netns.run("ip link set eth0 mtu 1300");
    let token = fleet.init().token.unwrap();
    fleet.join(1, &token).unwrap();
    eventually("the manager knows of the other", || match fleet.status(0).nodes {
        2 => Ok(()),
        n => Err(n),
    });
    let shop = CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named("shop") };
    assert_eq!(fleet.hosts[0].client().call(&shop).unwrap().mtu, Some(1350));
    let mut big = CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named("big") };
    big.options.insert("mtu".into(), "1450".into());
    let (kind, error) = kind_of(fleet.hosts[0].client().call(&big));
    assert_eq!(kind, Kind::Invalid, "{error}");
    eventually("the other sees the network", || {
        let seen = fleet.networks(1);
        if seen.contains(&"shop".to_owned()) { Ok(()) } else { Err(seen) }
    });
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let full = format!("ping -n -c 1 -W 5 -M do -s {} {}", 1350 - 28, b.ip());
    a.container.netns.run(&full);

    // One that is smaller still is let in, is told, and gets no container on that network.
    fleet.join(2, &token).unwrap();
    let problem = eventually("it says so", || {
        let problems = fleet.hosts[2].client().status().problems;
        problems.iter().find(|one| one.contains("network shop")).cloned().ok_or(problems)
    });
    assert!(problem.contains("1350") && problem.contains("1300"), "{problem}");
    let late = fleet.world.container("late");
    let (kind, error) = kind_of(fleet.hosts[2].client().call(&late.to("shop")));
    assert_eq!(kind, Kind::Invalid, "{error}");
    assert_eq!(error.operands["underlay_mtu"], 1300, "{error}");
    // The next network is small enough for all.
    eventually("the manager knows of the third", || match fleet.status(0).nodes {
        3 => Ok(()),
        n => Err(n),
    });
    assert_eq!(fleet.create("small").mtu, Some(1250));
    let (c, d) = (fleet.run(2, "small", "c"), fleet.run(0, "small", "d"));
    resolves(&c, "d", &[d.ip()]);
    reaches(&c.container.netns, d.ip());
}

/// The problems of a host that are about a network's size.
fn too_large(fleet: &Fleet, host: usize) -> Vec<String> {
    let problems = fleet.hosts[host].client().status().problems;
    problems.into_iter().filter(|one| one.contains("of VXLAN around it")).collect()
}

#[test]
fn an_underlay_that_changes_while_it_is_in_use_is_noticed_by_all() {
    let fleet = Fleet::new(3);
    assert_eq!(fleet.create("shop").mtu, Some(1450));
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    // The device between the hosts follows what is below it.
    let between = |mtu: u64| {
        eventually("what hosts send each other's containers fits the underlay", || {
            let shown = fleet.hosts[1].netns.json("ip -j link show dev nx000fff")[0]["mtu"].clone();
            if shown == mtu { Ok(()) } else { Err(shown) }
        });
    };
    between(1450);
    fleet.hosts[1].netns.run("ip link set eth0 mtu 1400");
    between(1350);
    for (host, place) in [(1, "this host"), (0, "node h2"), (2, "node h2")] {
        eventually("it is said", || match &too_large(&fleet, host)[..] {
            [one] if one.contains(&format!("network shop cannot be used in full on {place}")) => {
                assert!(one.contains("1450") && one.contains("mtu 1400 of"), "{one}");
                Ok(())
            }
            other => Err(other.to_vec()),
        });
    }
    // The next network is small enough.
    assert_eq!(fleet.create("small").mtu, Some(1350));
    let (c, d) = (fleet.run(0, "small", "c"), fleet.run(1, "small", "d"));
    resolves(&c, "d", &[d.ip()]);
    c.container.netns.run(&format!("ping -n -c 1 -W 5 -M do -s {} {}", 1350 - 28, d.ip()));

    fleet.hosts[1].netns.run("ip link set eth0 mtu 1500");
    between(1450);
    for host in 0..3 {
        eventually("it is over", || match too_large(&fleet, host) {
            none if none.is_empty() => Ok(()),
            some => Err(some),
        });
    }
    assert_eq!(fleet.create("large").mtu, Some(1450));
    a.container.netns.run(&format!("ping -n -c 1 -W 5 -M do -s {} {}", 1450 - 28, b.ip()));
}

#[test]
fn vxlan_goes_to_the_port_that_is_given() {
    let fleet = Fleet::bare(2);
    let advertise = Some(underlay(0));
    let init = InitCluster { advertise, vxlan_port: Some(8472), ..InitCluster::default() };
    let token = fleet.hosts[0].client().call(&init).unwrap().token.unwrap();
    let manager = SocketAddr::new(underlay(0), CLUSTER_PORT);
    let join = JoinCluster { token, manager, advertise: None };
    fleet.hosts[1].client().call(&join).unwrap();
    fleet.create("shop");
    // Nothing at the usual one gets through.
    for host in &fleet.hosts {
        host.netns.run("nft add table inet other");
        let chain = "{ type filter hook prerouting priority -400 ; policy accept ; }";
        host.netns.run(&format!("nft add chain inet other every {chain}"));
        host.netns.run("nft add rule inet other every udp dport 4789 drop");
    }
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    reaches(&a.container.netns, b.ip());
    reaches(&fleet.hosts[0].netns, b.ip());
    let shown = fleet.hosts[0].netns.json("ip -j -d link show type vxlan");
    for device in shown.as_array().unwrap() {
        assert_eq!(device["linkinfo"]["info_data"]["port"], 8472, "{device}");
    }
}

/// Sends one datagram to everybody, or to a group.
fn shout(from: &Running, to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    from.container.netns.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"hello", to).unwrap();
    });
}

#[test]
fn what_goes_to_everybody_goes_to_all_hosts_where_that_is_wanted() {
    let fleet = Fleet::new(3);
    let subnets = [("quiet", "10.81.0.0/24"), ("loud", "10.82.0.0/24")];
    for (name, subnet) in subnets {
        let mut words = vec!["network", "create", "-d", "overlay", "--subnet", subnet];
        if name == "loud" {
            words.extend(["--opt", "broadcast=on"]);
        }
        words.push(name);
        fleet.hosts[0].netctl(&words).success();
    }
    for host in 0..3 {
        eventually("every host sees the networks", || {
            let seen = fleet.networks(host);
            if subnets.iter().all(|(name, _)| seen.contains(&(*name).to_owned())) {
                Ok(())
            } else {
                Err(seen)
            }
        });
    }
    let on = |network: &str| -> Vec<Running> {
        (0..3).map(|host| fleet.run(host, network, &format!("{network}{host}"))).collect()
    };
    let (quiet, loud) = (on("quiet"), on("loud"));
    let group = "239.1.2.3".parse().unwrap();
    let hear = |running: &Running| {
        let socket = running.container.netns.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:99").unwrap();
            let std::net::IpAddr::V4(own) = running.ip() else { unreachable!("it has IPv4") };
            socket.join_multicast_v4(&group, &own).unwrap();
            socket
        });
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let heard = |socket: &UdpSocket| socket.recv_from(&mut [0; 64]).map(|(_, from)| from.ip());
    let (deaf, ears): (Vec<_>, Vec<_>) = (1..3).map(|n| (hear(&quiet[n]), hear(&loud[n]))).unzip();
    for running in [&quiet, &loud] {
        resolves(&running[0], &running[2].container.name, &[running[2].ip()]);
        reaches(&running[0].container.netns, running[2].ip());
    }
    for (to_quiet, to_loud) in
        [("10.81.0.255:99", "10.82.0.255:99"), ("239.1.2.3:99", "239.1.2.3:99")]
    {
        for ear in &ears {
            eventually("it is heard on every host", || {
                shout(&quiet[0], to_quiet);
                shout(&loud[0], to_loud);
                match heard(ear) {
                    Ok(from) if from == loud[0].ip() => Ok(()),
                    other => Err(other),
                }
            });
        }
    }
    // What was sent before that has had its time.
    reaches(&quiet[0].container.netns, quiet[1].ip());
    for one in &deaf {
        assert_eq!(heard(one).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
