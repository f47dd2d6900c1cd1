//! Published ports beyond one of TCP: many in a row, of other protocols, held by somebody else,
//! and by whom they are reached and who they say it is.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use cnm::{
    Kind,
    endpoint::{Attach, InspectEndpoint, Port},
    network::CreateNetwork,
};
use netd_tests::{Asking as _, Container, Heard, Host, Namespace, World, eventually, kind_of};
use socket2::{Domain, Protocol, Socket, Type};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A request that puts a container on the network `app` and publishes.
fn publishing(container: &Container, ports: &[&str]) -> Attach {
    let mut attach = container.to("app");
    attach.ports = ports.iter().map(|port| port.parse().unwrap()).collect();
    attach
}

/// A host with a network of both families, and a neighbour of it.
fn dual_stack(world: &World) -> (Host, Namespace) {
    let host = world.host("a");
    let lan = host.lan();
    let create = CreateNetwork { ipv6: Some(true), ..CreateNetwork::named("app") };
    host.client().call(&create).unwrap();
    (host, lan)
}

/// How many elements a map of the firewall has.
fn elements(host: &Host, map: &str) -> usize {
    let listed = host.netns.json(&format!("nft -j list map inet netd {map}"));
    let of_map = |entry: &serde_json::Value| entry["map"]["elem"].as_array().map(Vec::len);
    listed["nftables"].as_array().unwrap().iter().find_map(of_map).unwrap_or(0)
}

#[test]
fn ports_in_a_row_are_each_reached() {
    let world = World::new();
    let (host, lan) = dual_stack(&world);
    let mut netd = host.client();
    let before = host.snapshot();
    let web = world.container("web");
    let heard: Vec<_> =
        [8000, 8015, 8031, 8032].map(|port| (port, web.netns.serve_tcp(port))).into();
    let wanted = ["8000-8031:8000-8031", "9000-9031:8000-8031", "192.0.2.1:7000-7002:8014-8016"];
    let endpoint = netd.attach(&publishing(&web, &wanted));
    let shown: Vec<_> = endpoint.ports.iter().map(Port::to_string).collect();
    assert_eq!(shown[1], "9000-9031->8000-8031/tcp");
    for (port, inside) in [(8000, 8000), (8015, 8015), (8031, 8031), (9015, 8015), (9031, 8031)] {
        let heard = &heard.iter().find(|(of, _)| *of == inside).unwrap().1;
        let before = heard.from().len();
        for (address, own) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let server = SocketAddr::new(ip(address), port);
            assert_eq!(lan.ask_tcp(server).unwrap(), ip(own), "{server}");
        }
        host.netns.ask_tcp(SocketAddr::new(ip("127.0.0.1"), port)).expect("from the host");
        assert_eq!(heard.from().len(), before + 3, "{port} leads to {inside}");
    }
    lan.ask_tcp(at("192.0.2.1:7001")).unwrap();
    for port in [7999, 8032, 8999, 9032, 7003] {
        let server = SocketAddr::new(ip("192.0.2.1"), port);
        assert!(lan.try_tcp(server).is_err(), "{port} is not published");
    }
    // Of equal numbers one element for all of them.
    assert_eq!((elements(&host, "ranges4"), elements(&host, "ranges6")), (1, 1));
    assert_eq!((elements(&host, "publish4"), elements(&host, "publish4_at")), (32, 3));
    netd.detach("web");
    eventually("the host is as before", || host.snapshot().same_as(&before));
}

#[test]
fn a_port_is_one_containers_unless_the_hosts_addresses_differ() {
    let world = World::new();
    let (host, _lan) = dual_stack(&world);
    let mut netd = host.client();
    let (web, api) = (world.container("web"), world.container("api"));
    netd.attach(&publishing(&web, &["8000-8099:8000-8099", "0.0.0.0:7000:80"]));
    for text in ["8050:80", "8099-8100:1-2", "127.0.0.1:8000:80", "192.0.2.1:7000:80"] {
        let (kind, error) = kind_of(netd.call(&publishing(&api, &[text])));
        assert_eq!(kind, Kind::Exists, "{text}");
        assert!(error.message.contains("container web on network app"), "{text}: {error}");
    }
    let (kind, error) = kind_of(netd.call(&publishing(&api, &["6000:80", "127.0.0.1:6000:81"])));
    assert!(kind == Kind::Exists && error.message.contains("twice"), "{error}");
    let mut beyond = publishing(&api, &["65530:65535"]);
    beyond.ports[0].count = 2;
    assert_eq!(kind_of(netd.call(&beyond)).0, Kind::Invalid);
    netd.attach(&publishing(&api, &["[::]:7000:80", "127.0.0.2:6000:80", "127.0.0.1:6000:81"]));
}

#[test]
fn the_process_that_holds_a_port_is_named() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let (tcp, udp) = host.netns.inside(|| {
        (TcpListener::bind("[::]:8085").unwrap(), UdpSocket::bind("127.0.0.1:5353").unwrap())
    });
    let own = format!("(pid {})", std::process::id());
    for text in ["8085:80", "0.0.0.0:8080-8089:8080-8089", "5353:53/udp", "127.0.0.1:5353:53/udp"] {
        let (kind, error) = kind_of(netd.call(&publishing(&web, &[text])));
        assert_eq!(kind, Kind::Exists, "{text}");
        assert!(error.message.contains(&own), "{text}: {error}");
        assert_eq!(error.operands["pid"], std::process::id(), "{text}");
    }
    netd.attach(&publishing(&web, &["8085:80/udp", "127.0.0.2:5353:53/udp"]));
    drop((tcp, udp));
}

#[test]
fn the_process_that_holds_one_of_many_ports_is_named_and_nothing_is_left() {
    let world = World::new();
    let (host, lan) = dual_stack(&world);
    let mut netd = host.client();
    let before = host.snapshot();
    let web = world.container("web");
    let held = host.netns.inside(|| {
        (TcpListener::bind("127.0.0.1:8085").unwrap(), UdpSocket::bind("[::]:8999").unwrap())
    });
    let own = format!("(pid {})", std::process::id());
    let many = ["8000-8999:8000-8999", "8000-8999:18000-18999", "0.0.0.0:8000-8999:1-1000/udp"];
    for text in many {
        let (kind, error) = kind_of(netd.call(&publishing(&web, &[text])));
        assert_eq!(kind, Kind::Exists, "{text}");
        assert!(error.message.contains(&own), "{text}: {error}");
        assert_eq!(error.operands["pid"], std::process::id(), "{text}");
        // The ports at once, the link in a moment.
        assert_eq!((elements(&host, "ranges4"), elements(&host, "publish4")), (0, 0), "{text}");
        eventually("nothing is left", || host.snapshot().same_as(&before));
    }
    netd.attach(&publishing(&web, &["127.0.0.2:8000-8999:8000-8999", "8000-8999:8000-8999/sctp"]));
    netd.detach("web");
    drop(held);
    web.netns.serve_tcp(18085);
    netd.attach(&publishing(&web, &many[1..]));
    lan.ask_tcp(at("192.0.2.1:8085")).unwrap();
}

#[test]
fn more_single_ports_than_there_is_room_for_are_refused_and_nothing_is_left() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let (web, api) = (world.container("web"), world.container("api"));
    netd.attach(&publishing(&web, &["1024-65535:1023-65534"]));
    let links = || host.netns.run("ip -o link show type veth").lines().count();
    for text in ["2000-3999:2001-4000/udp", "2000-9999:2001-10000/udp"] {
        let (kind, error) = kind_of(netd.call(&publishing(&api, &[text])));
        assert_eq!(kind, Kind::Exhausted, "{error}");
        assert!(error.message.contains("65536 ports"), "{error}");
        eventually("nothing is left", || if links() == 1 { Ok(()) } else { Err(links()) });
    }
    netd.attach(&publishing(&api, &["2000-3023:2001-3024/udp", "4000-9999:4000-9999/udp"]));
    assert_eq!((elements(&host, "publish4"), elements(&host, "ranges4")), (65536, 1));
}

#[test]
fn a_process_that_takes_a_published_port_is_reported() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    netd.attach(&publishing(&web, &["8080-8089:8080-8089", "127.0.0.1:5353:53/udp"]));
    assert_eq!(netd.status().problems, [""; 0]);
    let (tcp, udp) = host.netns.inside(|| {
        // One that is on an address where nothing is published.
        drop(UdpSocket::bind("127.0.0.2:5353").unwrap());
        (TcpListener::bind("127.0.0.1:8085").unwrap(), UdpSocket::bind("0.0.0.0:5353").unwrap())
    });
    let problems = netd.status().problems;
    let own = format!("(pid {})", std::process::id());
    for port in ["5353/udp", "8085/tcp"] {
        let of_port = |problem: &&String| problem.contains(port) && problem.contains(&own);
        assert!(problems.iter().any(|problem| of_port(&problem)), "{port}: {problems:?}");
    }
    assert_eq!(problems.len(), 2, "{problems:?}");
    drop((tcp, udp));
    assert_eq!(netd.status().problems, [""; 0]);
}

#[test]
fn ports_that_netd_chose_are_shown() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    web.netns.serve_tcp(82);
    let made = netd.attach(&publishing(&web, &["80-83", "80/udp", "192.0.2.1::82"]));
    let shown = netd.call(&InspectEndpoint { endpoint: made.id.to_string(), plan: false }).unwrap();
    assert_eq!(shown.endpoint.ports, made.ports);
    let [run, _, one] = &made.ports[..] else { panic!("{:?}", made.ports) };
    assert_eq!(run.count, 4);
    for port in [run.host_port + 2, one.host_port] {
        let server = SocketAddr::new(ip("192.0.2.1"), port);
        assert_eq!(lan.ask_tcp(server).unwrap(), ip("192.0.2.2"), "{server}");
    }
}

#[test]
fn the_source_of_who_comes_is_preserved() {
    let world = World::new();
    let (host, lan) = dual_stack(&world);
    let mut netd = host.client();
    netd.create("other");
    let (web, stranger) = (world.container("web"), world.container("stranger"));
    web.netns.serve_tcp(80);
    web.netns.serve_udp(80);
    netd.attach(&publishing(&web, &["8080:80", "8080:80/udp"]));
    let stranger_ip = netd.attach(&stranger.to("other")).addresses[0].ip();
    for (server, own) in [("192.0.2.1:8080", "192.0.2.2"), ("[2001:db8::1]:8080", "2001:db8::2")] {
        assert_eq!(lan.ask_tcp(at(server)).unwrap(), ip(own));
        assert_eq!(lan.ask_udp(at(server)).unwrap(), ip(own));
    }
    assert_eq!(stranger.netns.ask_tcp(at("192.0.2.1:8080")).unwrap(), stranger_ip);
    assert_eq!(stranger.netns.ask_udp(at("192.0.2.1:8080")).unwrap(), stranger_ip);
}

#[test]
fn a_container_reaches_itself_where_the_host_answers_for_it() {
    let world = World::new();
    let (host, _lan) = dual_stack(&world);
    let mut netd = host.client();
    let web = world.container("web");
    web.netns.serve_tcp(80);
    web.netns.serve_udp(80);
    let made = netd.attach(&publishing(&web, &["8080:80", "8080:80/udp"]));
    for (server, gateway) in
        [("192.0.2.1:8080", made.gateways[0]), ("[2001:db8::1]:8080", made.gateways[1])]
    {
        // The one path on which the source cannot be kept: it would be answered past the host.
        assert_eq!(web.netns.ask_tcp(at(server)).unwrap(), gateway);
        assert_eq!(web.netns.ask_udp(at(server)).unwrap(), gateway);
    }
}

#[test]
fn what_is_published_on_the_loopback_is_the_hosts_alone() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    netd.create("other");
    let (web, friend, stranger) =
        (world.container("web"), world.container("friend"), world.container("stranger"));
    let heard = (web.netns.serve_tcp(80), web.netns.serve_udp(80));
    let made = netd.attach(&publishing(&web, &["127.0.0.1:8080:80", "127.0.0.1:8080:80/udp"]));
    netd.attach(&friend.to("app"));
    netd.attach(&stranger.to("other"));
    host.netns.ask_tcp(at("127.0.0.1:8080")).unwrap();
    host.netns.ask_udp(at("127.0.0.1:8080")).unwrap();
    let (tcp, udp) = (heard.0.from().len(), heard.1.from().len());

    // As other programs have it that publish on the loopback, and with every route there can be.
    host.netns.run("sysctl -q net.ipv4.conf.all.route_localnet=1");
    let subnet = made.addresses[0];
    lan.run(&format!("ip route add {}/{} via 192.0.2.1", subnet.network(), subnet.prefix()));
    for (from, via) in [(&lan, ip("192.0.2.1")), (&friend.netns, made.gateways[0])] {
        from.run("sysctl -q net.ipv4.conf.all.route_localnet=1");
        from.run(&format!("ip route add 127.0.0.1 via {via} table 7"));
        from.run("ip rule add priority 0 to 127.0.0.1 lookup 7");
    }
    for from in [&lan, &friend.netns] {
        assert!(from.try_tcp(at("127.0.0.1:8080")).is_err());
        drop(from.send_udp(at("127.0.0.1:8080")));
    }
    for from in [&lan, &stranger.netns] {
        assert!(from.try_tcp(at("192.0.2.1:8080")).is_err());
        assert!(from.try_tcp(SocketAddr::new(made.addresses[0].ip(), 80)).is_err());
        drop(from.send_udp(at("192.0.2.1:8080")));
        drop(from.send_udp(SocketAddr::new(made.addresses[0].ip(), 80)));
    }
    host.netns.ask_udp(at("127.0.0.1:8080")).unwrap();
    assert_eq!((heard.0.from().len(), heard.1.from().len()), (tcp, udp + 1));
}

/// Speaks on one flow until a server hears it.
fn is_heard(socket: &UdpSocket, heard: &Heard) {
    let before = heard.from().len();
    eventually("the container hears the flow", || {
        // Whether the last one was refused does not matter to the next.
        drop(socket.send(b"hello"));
        let now = heard.from().len();
        if now > before { Ok(()) } else { Err(now) }
    });
}

#[test]
fn a_flow_of_either_family_goes_where_its_port_goes() {
    let world = World::new();
    let (host, lan) = dual_stack(&world);
    let mut netd = host.client();
    let (old, new) = (world.container("old"), world.container("new"));
    let (old_heard, new_heard) = (old.netns.serve_udp(80), new.netns.serve_udp(80));
    let flows = lan.inside(|| {
        let flow = |from: &str, to: &str| {
            let socket = UdpSocket::bind(from).unwrap();
            socket.connect(to).unwrap();
            socket
        };
        [flow("192.0.2.2:4000", "192.0.2.1:8080"), flow("[2001:db8::2]:4000", "[2001:db8::1]:8080")]
    });
    // It began when nobody had the port: the kernel remembers that too.
    flows.iter().for_each(|flow| drop(flow.send(b"hello")));
    netd.attach(&publishing(&old, &["8080:80/udp"]));
    flows.iter().for_each(|flow| is_heard(flow, &old_heard));
    netd.detach("old");
    netd.attach(&publishing(&new, &["8070-8089:70-89/udp"]));
    flows.iter().for_each(|flow| is_heard(flow, &new_heard));
    let before = old_heard.from().len();
    flows.iter().for_each(|flow| is_heard(flow, &new_heard));
    assert_eq!(old_heard.from().len(), before);
}

/// The first chunk of an association (RFC 9260, sections 3 and 6.8), as this kernel cannot send it
/// by itself.
fn sctp_init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let mut sum = !0_u32;
    for byte in &packet {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    packet[8..12].copy_from_slice(&(!sum).to_le_bytes());
    packet
}

#[test]
fn sctp_is_published() {
    const SCTP: i32 = 132;
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let raw = |netns: &Namespace| {
        netns.inside(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(SCTP))).unwrap())
    };
    let sender = raw(&lan);
    // To whom an association goes that began at one port: its packet, with addresses, ports last.
    let arrives = |container: &Container, from: u16| {
        let receiver = raw(&container.netns);
        receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut bytes = [0; 256];
        let length = eventually("the container is asked", || {
            sender.send_to(&sctp_init(from, 3868), &at("192.0.2.1:0").into()).unwrap();
            std::io::Read::read(&mut &receiver, &mut bytes)
        });
        let (header, packet) = bytes[..length].split_at(20);
        let source = IpAddr::from(<[u8; 4]>::try_from(&header[12..16]).unwrap());
        (source, u16::from_be_bytes([packet[2], packet[3]]))
    };
    let (old, new) = (world.container("old"), world.container("new"));
    netd.attach(&publishing(&old, &["3868:3900/sctp"]));
    assert_eq!(arrives(&old, 4000), (ip("192.0.2.2"), 3900));
    netd.detach("old");
    netd.attach(&publishing(&new, &["3860-3879:3860-3879/sctp"]));
    // The same association, which the kernel would remember.
    assert_eq!(arrives(&new, 4000), (ip("192.0.2.2"), 3868));
    assert_eq!(arrives(&new, 4001), (ip("192.0.2.2"), 3868));
}

/// Asks at the host's loopback of IPv6, where a port is relayed a moment after it is published.
fn ask_loopback(host: &Host, port: u16) -> IpAddr {
    let server = SocketAddr::new(ip("::1"), port);
    eventually("the relay listens", || {
        host.netns.ask_tcp(server)?;
        host.netns.ask_udp(server)
    })
}

#[test]
fn a_port_is_reached_at_the_loopback_of_either_family() {
    let world = World::new();
    let (mut host, lan) = dual_stack(&world);
    let mut netd = host.client();
    netd.create("four");
    let (web, old) = (world.container("web"), world.container("old"));
    for container in [&web, &old] {
        container.netns.serve_tcp(80);
        container.netns.serve_udp(80);
    }
    let ports = ["8080:80", "8080:80/udp", "[::1]:81:80", "[::1]:81:80/udp"];
    let made = netd.attach(&publishing(&web, &ports));
    let mut attach = old.to("four");
    attach.ports = vec!["[::]:82:80".parse().unwrap()];
    let (_, error) = kind_of(netd.call(&attach));
    assert!(error.message.contains("no address of that family"), "{error}");
    let of_old = ["82:80", "82:80/udp", "[::1]:83:80", "[::1]:83:80/udp"];
    attach.ports = of_old.map(|port| port.parse().unwrap()).into();
    netd.attach(&attach);
    host.netns.ask_tcp(at("127.0.0.1:8080")).unwrap();
    host.netns.ask_udp(at("127.0.0.1:8080")).unwrap();
    // The one path that is no kernel's: the container sees the host.
    assert_eq!(ask_loopback(&host, 8080), made.gateways[1]);
    ask_loopback(&host, 81);
    ask_loopback(&host, 82);
    // Of a container without IPv6 as well.
    ask_loopback(&host, 83);
    assert!(host.netns.try_tcp(at("127.0.0.1:83")).is_err());
    assert!(lan.try_tcp(at("[2001:db8::1]:81")).is_err());
    assert_eq!(netd.status().problems, [""; 0]);

    // It outlives netd, which takes it over, and starts it again when it ends.
    host.kill();
    ask_loopback(&host, 81);
    host.start();
    let mut netd = host.client();
    netd.detach("old");
    eventually("the port is given up", || match host.netns.try_tcp(at("[::1]:82")) {
        Err(_) => Ok(()),
        Ok(()) => Err("it is taken"),
    });
    ask_loopback(&host, 81);
    let relay = |host: &Host| {
        let listed = host.netns.run("ss -Htlpn src [::1]:81");
        let pid = listed.split("pid=").nth(1)?.split(',').next()?.parse::<u32>().ok();
        assert!(listed.contains("netd-relay"), "{listed}");
        pid
    };
    let first = relay(&host).unwrap();
    netd_tests::kill(first);
    eventually("another one listens", || match relay(&host) {
        Some(pid) if pid != first => Ok(()),
        other => Err(other),
    });
    ask_loopback(&host, 8080);
    netd.detach("web");
    let socket = host.run_dir().join("relay.sock");
    eventually("it ends when there is nothing to relay", || {
        if socket.exists() { Err("it is there") } else { Ok(()) }
    });
    // A port that it had is nobody's at once.
    netd.attach(&publishing(&old, &["8080:80", "8080:80/udp"]));
    ask_loopback(&host, 8080);
}
