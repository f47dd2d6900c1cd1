//! What one container does to the resolver keeps no answer from another: connections that say
//! nothing, connections that are never made, questions without end, and servers elsewhere that are
//! silent.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cnm::network::CreateNetwork;
use netd_tests::{Asking as _, Container, Host, HostOptions, Namespace, World};

/// Two containers on one network, and where they ask.
struct Pair {
    greedy: Container,
    modest: Container,
    server: SocketAddr,
    /// Where the modest one is.
    ip: String,
    _host: Host,
}

fn pair(world: &World) -> Pair {
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let (greedy, modest) = (world.container("greedy"), world.container("modest"));
    netd.attach(&greedy.to("app"));
    let endpoint = netd.attach(&modest.to("app"));
    let server = SocketAddr::new(endpoint.dns[0], 53);
    let ip = endpoint.addresses[0].ip().to_string();
    Pair { greedy, modest, server, ip, _host: host }
}

fn ask(netns: &Namespace, server: IpAddr, words: &str) -> Vec<String> {
    Host::ask_name(netns, server, words)
}

/// A question for the IPv4 addresses of a name of one label (RFC 1035, section 4).
fn question(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, length];
    [&header[..], name.as_bytes(), &[0, 0, 1, 0, 1]].concat()
}

#[test]
fn connections_that_say_nothing_are_in_nobodys_way() {
    let world = World::new();
    let Pair { greedy, modest, server, ip, _host } = pair(&world);
    let held: Vec<TcpStream> = greedy.netns.inside(|| {
        let open = |_| {
            let mut stream = TcpStream::connect(server).unwrap();
            // The length of a message, and half of it.
            stream.write_all(&[0, 24, 0, 7]).ok()?;
            Some(stream)
        };
        (0..100).filter_map(open).collect()
    });
    for _ in 0..20 {
        assert_eq!(ask(&modest.netns, server.ip(), "+tcp modest"), [&*ip]);
    }
    // Some wait for the rest of it, and those that were too many have been closed.
    let mut closed = 0;
    for mut stream in held {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        closed += usize::from(!matches!(stream.read(&mut [0]), Err(error)
            if error.kind() == std::io::ErrorKind::WouldBlock));
    }
    assert!((84..100).contains(&closed), "{closed} of 100");
}

#[test]
fn connections_that_are_never_made_are_in_nobodys_way() {
    let world = World::new();
    let Pair { greedy, modest, server, ip, _host } = pair(&world);
    // What should complete a connection does not leave: there are more half-open ones than the
    // resolver has room for.
    for line in [
        "nft add table ip half",
        "nft add chain ip half out { type filter hook output priority 0 ; }",
        "nft add rule ip half out tcp flags & (syn | ack) == ack drop",
    ] {
        greedy.netns.run(line);
    }
    let held: Vec<TcpStream> =
        greedy.netns.inside(|| (0..700).map(|_| TcpStream::connect(server).unwrap()).collect());
    assert_eq!(held.len(), 700);
    for _ in 0..5 {
        assert_eq!(ask(&modest.netns, server.ip(), "+tcp modest"), [&*ip]);
        assert_eq!(ask(&modest.netns, server.ip(), "+notcp modest"), [&*ip]);
    }
}

#[test]
fn who_asks_without_end_is_in_nobodys_way() {
    let world = World::new();
    let Pair { greedy, modest, server, ip, _host } = pair(&world);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let flood = greedy.netns.meanwhile(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let question = question("modest");
        let mut sent = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            sent += u64::from(socket.send_to(&question, server).is_ok());
        }
        sent
    });
    // Who floods is known by what the socket had no room for, and that may be another's questions: all
    // that he asks while he is heard again, which is as long as some thousands of questions take. What waits is
    // answered after as much of the flood as waits before it.
    let mut lost = 0;
    for _ in 0..20 {
        let mut answer = ask(&modest.netns, server.ip(), "+tries=9 +time=3 modest");
        lost += usize::from(answer.iter().any(|line| line.contains("timed out")));
        answer.retain(|line| !line.contains("timed out"));
        assert_eq!(answer, [&*ip]);
        assert_eq!(ask(&modest.netns, server.ip(), "+tcp modest"), [&*ip]);
    }
    assert!(lost < 10, "in {lost} of 20 times some were lost");
    stop.store(true, Ordering::Relaxed);
    assert!(flood.join().unwrap() > 1_000, "it did flood");
}

#[test]
fn whose_servers_are_silent_is_in_nobodys_way() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    lan.run("ip address add 192.0.2.3/24 dev eth0");
    let answering: SocketAddr = "192.0.2.2:53".parse().unwrap();
    let heard = lan.serve_udp_at(answering, |_, question| netd_tests::one_address(question));
    let _silent = lan.inside(|| UdpSocket::bind("192.0.2.3:53").unwrap());
    let mut netd = host.client();
    let options = [("dns".to_owned(), "192.0.2.3".to_owned())].into();
    netd.call(&CreateNetwork { options, ..CreateNetwork::named("slow") }).unwrap();
    netd.create("app");
    let (greedy, modest) = (world.container("greedy"), world.container("modest"));
    let slow = SocketAddr::new(netd.attach(&greedy.to("slow")).dns[0], 53);
    let endpoint = netd.attach(&modest.to("app"));
    let ip = endpoint.addresses[0].ip().to_string();
    // As many as may wait, and more.
    greedy.netns.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for n in 0..2_200 {
            socket.send_to(&question(&format!("nobody-{n}")), slow).unwrap();
        }
    });
    for n in 0..20 {
        assert_eq!(ask(&modest.netns, endpoint.dns[0], "modest"), [&*ip]);
        let words = format!("www-{n}.example.org");
        assert_eq!(ask(&modest.netns, endpoint.dns[0], &words), ["203.0.113.7"], "{words}");
    }
    assert_eq!(heard.from().len(), 20);
    assert!(netd.status().problems.is_empty(), "there is room for others");
}
