//! An underlay of IPv6 alone, and networks of both families over it.

use std::net::{IpAddr, SocketAddr};

use cnm::{
    Kind,
    cluster::{CLUSTER_PORT, JoinCluster, Joined},
};
use netd_tests::{Host, Namespace, eventually, kind_of};

use crate::fleet::{Fleet, Running, reaches, underlay};

/// The address of the host of this number on the underlay, from 0.
fn address(host: usize) -> IpAddr {
    format!("2001:db8::{:x}", host + 1).parse().unwrap()
}

/// So many hosts on such an underlay, of which the first has begun a cluster; and its token.
fn begun(count: usize) -> (Fleet, String) {
    let fleet = Fleet::bare(count);
    for (number, host) in fleet.hosts.iter().enumerate() {
        host.netns.run(&format!("ip address del {}/24 dev eth0", underlay(number)));
        host.netns.run(&format!("ip address add {}/64 dev eth0 nodad", address(number)));
    }
    let advertise = address(0).to_string();
    let init = ["cluster", "init", "--json", "--advertise-addr", &advertise];
    let init = fleet.hosts[0].netctl(&init);
    let joined: Joined = serde_json::from_str(init.success()).unwrap();
    assert_eq!(joined.managers, [format!("[{advertise}]:{CLUSTER_PORT}")]);
    (fleet, joined.token.unwrap())
}

/// As [`begun`], with all hosts in the cluster and a network of both families.
fn fleet(count: usize) -> Fleet {
    let (fleet, token) = begun(count);
    let manager = format!("[{}]:{CLUSTER_PORT}", address(0));
    for host in &fleet.hosts[1..] {
        host.netctl(&["cluster", "join", "--token", &token, &manager]).success();
    }
    fleet.hosts[0].netctl(&["network", "create", "-d", "overlay", "--ipv6", "shop"]).success();
    for host in 0..count {
        eventually("every host sees the network", || {
            let seen = fleet.networks(host);
            if seen.contains(&"shop".to_owned()) { Ok(()) } else { Err(seen) }
        });
    }
    fleet
}

fn addresses(running: &Running) -> [IpAddr; 2] {
    let found: Vec<_> = running.endpoint.addresses.iter().map(|address| address.ip()).collect();
    let [four, six] = found[..] else { panic!("one of each family: {found:?}") };
    assert!(four.is_ipv4() && six.is_ipv6());
    [four, six]
}

#[test]
fn containers_on_three_hosts_reach_each_other_by_both_families() {
    let fleet = fleet(3);
    let running = [fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"), fleet.run(2, "shop", "c")];
    for one in &running {
        assert_eq!(one.endpoint.mtu, Some(1430), "the underlay's less what VXLAN over IPv6 adds");
        one.container.netns.serve_tcp(80);
    }
    for from in &running {
        for to in &running {
            for (n, ip) in addresses(to).into_iter().enumerate() {
                let name = &to.container.name;
                let kind = ["A", "AAAA"][n];
                for server in from.endpoint.gateways.clone() {
                    eventually("a name resolves in both families, asked over both", || {
                        let words = format!("-t {kind} -q {name}");
                        let found = Host::ask_name(&from.container.netns, server, &words);
                        if found == [ip.to_string()] { Ok(()) } else { Err(found) }
                    });
                }
                reaches(&from.container.netns, ip);
                let seen = from.container.netns.ask_tcp(SocketAddr::new(ip, 80)).unwrap();
                assert_eq!(seen, addresses(from)[n], "the address of who asks is kept");
            }
        }
    }
    for host in &fleet.hosts {
        for to in &running {
            for ip in addresses(to) {
                reaches(&host.netns, ip);
                host.netns.ask_tcp(SocketAddr::new(ip, 80)).unwrap();
            }
        }
    }
    // It is VXLAN over IPv6, and a packet of full size goes through.
    let shown = fleet.hosts[0].netns.json("ip -j -d link show type vxlan");
    let devices = shown.as_array().unwrap();
    assert!(!devices.is_empty());
    for device in devices {
        assert_eq!(device["linkinfo"]["info_data"]["local6"], address(0).to_string(), "{device}");
    }
    for (ip, headers) in addresses(&running[1]).into_iter().zip([28, 48]) {
        let size = 1430 - headers;
        running[0].container.netns.run(&format!("ping -n -c 1 -W 5 -M do -s {size} {ip}"));
    }
}

#[test]
fn direct_routes_are_refused_where_nodes_reach_each_other_by_ipv6() {
    let (fleet, _) = begun(1);
    let words = ["network", "create", "-d", "overlay", "--opt", "mode=routed", "fast"];
    let ran = fleet.hosts[0].netctl(&words);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("IPv6") && ran.stderr.contains("leave it out"), "{}", ran.stderr);
}

#[test]
fn a_host_is_reached_as_the_others_are() {
    let (fleet, token) = begun(2);
    let host = &fleet.hosts[1];
    host.netns.run(&format!("ip address add {}/24 dev eth0", underlay(1)));
    let manager = SocketAddr::new(address(0), CLUSTER_PORT);
    let join = |advertise| JoinCluster { token: token.clone(), manager, advertise };
    let (kind, error) = kind_of(host.client().call(&join(Some(underlay(1)))));
    assert_eq!(kind, Kind::Invalid, "{error}");
    assert!(
        error.message.contains("IPv6") && error.message.contains("--advertise-addr"),
        "{error}"
    );
    host.client().call(&join(None)).unwrap();
}

/// Somebody on the underlay with a VXLAN device of his own.
fn stranger(fleet: &Fleet, vni: u64, victim_mac: &str) -> Namespace {
    let netns = fleet.beside("2001:db8::66/64 nodad");
    let remote = address(0);
    netns.run(&format!(
        "ip link add vx type vxlan id {vni} local 2001:db8::66 remote {remote} dstport 4789"
    ));
    netns.run("ip link set vx up");
    netns.run("ip address add 10.255.255.66/8 dev vx");
    netns.run(&format!("ip link set vx address {victim_mac}"));
    netns
}

#[test]
fn vxlan_over_ipv6_is_taken_from_members_alone() {
    let fleet = fleet(2);
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let heard = a.container.netns.serve_udp(99);
    let [victim, _] = addresses(&a);
    let devices = fleet.hosts[0].netns.json("ip -j -d link show type vxlan");
    let of_network = |device: &&serde_json::Value| device["master"].is_string();
    let device = devices.as_array().unwrap().iter().find(of_network).unwrap();
    let vni = device["linkinfo"]["info_data"]["id"].as_u64().unwrap();
    let netns = stranger(&fleet, vni, "02:00:00:00:00:66");
    let mac = a.endpoint.mac.unwrap();
    netns.run(&format!("ip neighbour add {victim} lladdr {mac} dev vx"));
    let dropped = || {
        let shown =
            fleet.hosts[0].netns.json("nft -j list counter inet netd-overlay vxlan_strangers");
        let all = shown["nftables"].as_array().unwrap();
        all.iter().find_map(|one| one["counter"]["packets"].as_u64()).unwrap()
    };
    let before = dropped();
    eventually("the datagram is dropped and counted", || {
        netns.send_udp(SocketAddr::new(victim, 99)).unwrap();
        let now = dropped();
        if now > before { Ok(()) } else { Err(now) }
    });
    assert!(heard.from().is_empty());
    b.container.netns.ask_udp(SocketAddr::new(victim, 99)).unwrap();
}
