use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::names::{Member, Zone};

/// Long enough that only a fault runs into it.
const DEADLINE: Duration = Duration::from_secs(10);

/// A resolver that serves the network `n`, called `app`, on an address of its own.
struct Fixture {
    server: Server,
    names: Names,
    address: SocketAddr,
}

fn start(upstreams: Vec<SocketAddr>, timeout: Duration) -> Fixture {
    let names = Names::new();
    names.network_up("n", Zone { name: "app".into(), forward: true, ..Zone::default() });
    let upstreams = Upstreams::Fixed(upstreams);
    let options = Options { upstreams, timeout, ..Options::default() };
    let server = Server::start(names.clone(), options).unwrap();
    let (udp, tcp) = sockets();
    let address = udp.local_addr().unwrap();
    server.listen(at("n"), udp, tcp).unwrap();
    Fixture { server, names, address }
}

/// A pair of sockets on one free port. The address is this process's own, so that nobody else is
/// given a port that a test has just left and wants back.
fn sockets() -> (UdpSocket, TcpListener) {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = std::net::Ipv4Addr::new(127, 128 | high, middle, low);
    loop {
        let udp = UdpSocket::bind((address, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn at(network: &str) -> At {
    At::Network(network.into())
}

fn member(endpoint: &str, name: &str, address: &str) -> Member {
    Member {
        endpoint: endpoint.into(),
        container: endpoint.into(),
        names: [name.into()].into(),
        addresses: [address.parse().unwrap()].into(),
        ..Member::default()
    }
}

/// An A query for a name of one label.
fn query(id: u8, name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let header = [0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, length];
    [&header[..], name.as_bytes(), &[0, 0, 1, 0, 1]].concat()
}

fn client(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let length = client.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

fn ask(fixture: &Fixture, name: &str) -> Vec<u8> {
    let client = client(fixture.address);
    client.send(&query(7, name)).unwrap();
    let reply = receive(&client);
    assert_eq!(reply[..2], [0, 7]);
    reply
}

fn code(reply: &[u8]) -> u8 {
    reply[3] & 15
}

/// A server elsewhere, on a thread that ends with the process.
fn upstream(answer: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(reply) = answer(buffer[..length].to_vec()) {
                socket.send_to(&reply, from).unwrap();
            }
        }
    });
    address
}

/// An answer that says 192.0.2.1.
fn elsewhere(query: Vec<u8>) -> Option<Vec<u8>> {
    let mut reply = query;
    reply[2] |= 0x80;
    reply[7] = 1;
    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    Some(reply)
}

#[test]
fn the_next_query_sees_what_was_published_and_retracted() {
    let fixture = start(Vec::new(), DEADLINE);
    for round in 0..20 {
        assert_eq!(code(&ask(&fixture, "web")), 2, "nobody to ask: round {round}");
        fixture.names.publish("n", member("e", "web", "10.0.0.2"));
        assert!(ask(&fixture, "web").ends_with(&[10, 0, 0, 2]));
        fixture.names.retract("n", "e");
    }
    let counters = fixture.server.counters();
    assert_eq!((counters.queries, counters.local), (40, 20));
    assert_eq!((counters.forwarded, counters.servfail), (20, 20));
}

#[test]
fn a_burst_is_answered_whole() {
    let fixture = start(Vec::new(), DEADLINE);
    fixture.names.publish("n", member("e", "web", "10.0.0.2"));
    let client = client(fixture.address);
    for id in 0..100 {
        client.send(&query(id, "web")).unwrap();
    }
    let mut ids: Vec<u8> = (0..100).map(|_| receive(&client)[1]).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}

#[test]
fn both_families_rotate_for_who_asks_for_them_in_turn() {
    let fixture = start(Vec::new(), DEADLINE);
    fixture.names.publish("n", member("e1", "web", "10.0.0.2"));
    fixture.names.publish("n", member("e2", "web", "10.0.0.3"));
    let mut firsts = Vec::new();
    for _ in 0..16 {
        let reply = ask(&fixture, "web");
        firsts.push(reply[reply.len() - 17]);
        let client = client(fixture.address);
        let mut aaaa = query(9, "web");
        let kind = aaaa.len() - 3;
        aaaa[kind] = 28;
        client.send(&aaaa).unwrap();
        receive(&client);
    }
    assert!(firsts.contains(&2) && firsts.contains(&3), "{firsts:?}");
}

#[test]
fn a_connection_carries_several_queries() {
    let fixture = start(vec![upstream(elsewhere)], DEADLINE);
    fixture.names.publish("n", member("e", "web", "10.0.0.2"));
    let mut client = TcpStream::connect(fixture.address).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    for id in [1, 2] {
        let packet = query(id, "web");
        let length = u16::try_from(packet.len()).unwrap();
        client.write_all(&[&length.to_be_bytes()[..], &packet].concat()).unwrap();
        let mut length = [0; 2];
        client.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..2], [0, id]);
        assert!(reply.ends_with(&[10, 0, 0, 2]));
    }
}

#[test]
fn what_is_not_ours_is_asked_elsewhere() {
    let fixture = start(vec![upstream(elsewhere)], DEADLINE);
    assert!(ask(&fixture, "example").ends_with(&[192, 0, 2, 1]));
    let counters = fixture.server.counters();
    assert_eq!((counters.forwarded, counters.servfail, counters.local), (1, 0, 0));
}

#[test]
fn a_slow_server_elsewhere_holds_up_nobody() {
    let (release, held) = mpsc::channel::<()>();
    let slow = upstream(move |query| {
        held.recv().ok()?;
        elsewhere(query)
    });
    let fixture = start(vec![slow], DEADLINE);
    fixture.names.publish("n", member("e", "web", "10.0.0.2"));
    let client = client(fixture.address);
    client.send(&query(1, "example")).unwrap();
    client.send(&query(2, "web")).unwrap();
    assert_eq!(receive(&client)[1], 2);
    release.send(()).unwrap();
    assert_eq!(receive(&client)[1], 1);
}

#[test]
fn when_everybody_elsewhere_is_dead_the_answer_is_servfail() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(code(&ask(&start(vec![closed], DEADLINE), "example")), 2);
    let silent = upstream(|_| None);
    assert_eq!(code(&ask(&start(vec![silent], Duration::from_millis(20)), "example")), 2);
    assert_eq!(code(&ask(&start(Vec::new(), DEADLINE), "example")), 2);
}

#[test]
fn a_resolver_does_not_ask_itself() {
    let fixture = start(Vec::new(), DEADLINE);
    let upstreams = vec![fixture.address];
    fixture.names.network_up("n", Zone { forward: true, upstreams, ..Zone::default() });
    assert_eq!(code(&ask(&fixture, "example")), 2);
    assert_eq!(fixture.server.counters().queries, 1);
}

#[test]
fn a_network_that_is_no_longer_served_leaves_its_addresses_free() {
    let (release, held) = mpsc::channel::<()>();
    let (arrived, waiting) = mpsc::channel();
    let stuck = upstream(move |_| {
        arrived.send(()).ok()?;
        held.recv().ok()?;
        None
    });
    let fixture = start(vec![stuck], DEADLINE);
    let (other_udp, other_tcp) = sockets();
    let other = other_udp.local_addr().unwrap();
    fixture.server.listen(at("m"), other_udp, other_tcp).unwrap();
    fixture.names.network_up("m", Zone { name: "lab".into(), ..Zone::default() });
    fixture.names.publish("m", member("e", "web", "10.0.0.2"));

    // A forwarded query is out and a connection is open, and neither keeps the sockets.
    let asking = client(fixture.address);
    asking.send(&query(1, "example")).unwrap();
    waiting.recv_timeout(DEADLINE).unwrap();
    let mut open = TcpStream::connect(fixture.address).unwrap();
    open.set_read_timeout(Some(DEADLINE)).unwrap();

    fixture.server.stop_listening(&at("n"));
    fixture.server.stop_listening(&at("n"));
    let udp = UdpSocket::bind(fixture.address).unwrap();
    let tcp = TcpListener::bind(fixture.address).unwrap();
    assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)), "the connection is closed");

    let still = client(other);
    still.send(&query(2, "web")).unwrap();
    assert!(receive(&still).ends_with(&[10, 0, 0, 2]), "the other network is served on");

    fixture.server.listen(at("n"), udp, tcp).unwrap();
    fixture.names.publish("n", member("e", "web", "10.0.0.3"));
    assert!(ask(&fixture, "web").ends_with(&[10, 0, 0, 3]));
    drop(release);
}

#[test]
fn one_network_may_be_served_on_several_addresses() {
    let fixture = start(Vec::new(), DEADLINE);
    fixture.names.publish("n", member("e", "web", "10.0.0.2"));
    let (udp, tcp) = sockets();
    let second = udp.local_addr().unwrap();
    fixture.server.listen(at("n"), udp, tcp).unwrap();
    for address in [fixture.address, second] {
        let client = client(address);
        client.send(&query(1, "web")).unwrap();
        assert!(receive(&client).ends_with(&[10, 0, 0, 2]));
    }
    fixture.server.stop_listening(&at("n"));
    for address in [fixture.address, second] {
        UdpSocket::bind(address).unwrap();
        TcpListener::bind(address).unwrap();
    }
}

#[test]
fn a_stopped_server_closes_everything() {
    let fixture = start(Vec::new(), DEADLINE);
    drop(fixture.server);
    UdpSocket::bind(fixture.address).unwrap();
    TcpListener::bind(fixture.address).unwrap();
}

#[test]
fn the_handle_minds_no_event_loop_around_it() {
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let fixture = start(Vec::new(), DEADLINE);
        fixture.names.publish("n", member("e", "web", "10.0.0.2"));
        assert!(ask(&fixture, "web").ends_with(&[10, 0, 0, 2]));
        fixture.server.stop_listening(&at("n"));
    });
}

/// `web` on app and `db` on lab, each with a subnet of its own.
fn two_networks() -> Names {
    let names = Names::new();
    let zone = |name: &str, subnet: &str| Zone {
        name: name.into(),
        subnets: vec![subnet.parse().unwrap()],
        forward: true,
        ..Zone::default()
    };
    names.network_up("n", zone("app", "127.1.0.0/24"));
    names.network_up("m", zone("lab", "127.2.0.0/24"));
    names.publish("n", member("e", "web", "127.1.0.2"));
    names.publish("m", member("f", "db", "127.2.0.2"));
    names
}

#[test]
fn at_a_shared_address_who_asks_is_known_by_its_own() {
    let names = two_networks();
    let guests = |source: IpAddr| source == IpAddr::from([127, 3, 0, 2]);
    let upstreams = Upstreams::Fixed(vec![upstream(elsewhere)]);
    let server = Server::start(names, Options { upstreams, guests, ..Options::default() }).unwrap();
    let (udp, tcp) = sockets();
    let address = udp.local_addr().unwrap();
    server.listen(At::Shared, udp, tcp).unwrap();
    let ask = |source: [u8; 4], name: &str| {
        let client = UdpSocket::bind((std::net::Ipv4Addr::from(source), 0)).unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send(&query(7, name)).unwrap();
        receive(&client)
    };
    assert!(ask([127, 1, 0, 2], "web").ends_with(&[127, 1, 0, 2]));
    assert_eq!(code(&ask([127, 1, 0, 2], "db")), 3, "it is not on that network");
    assert!(ask([127, 2, 0, 9], "db").ends_with(&[127, 2, 0, 2]), "a neighbour of its");
    assert!(ask([127, 3, 0, 2], "example").ends_with(&[192, 0, 2, 1]));
    assert_eq!(code(&ask([127, 3, 0, 2], "web")), 3);
    assert_eq!(code(&ask([127, 4, 0, 2], "example")), 5, "nobody knows it");
    let IpAddr::V4(own) = address.ip() else { unreachable!("it is IPv4") };
    let reply = ask(own.octets(), "web");
    assert!(
        reply.ends_with(&[192, 0, 2, 1]),
        "the host says whole names, and others know this one"
    );
}

#[test]
fn who_was_moved_is_answered_from_where_it_is() {
    let names = two_networks();
    let upstreams = Upstreams::Fixed(vec![upstream(elsewhere)]);
    let server = Server::start(names, Options { upstreams, ..Options::default() }).unwrap();
    let (udp, tcp) = sockets();
    let address = udp.local_addr().unwrap();
    server.listen(at("n"), udp, tcp).unwrap();
    let ask = |source: [u8; 4], name: &str| {
        let client = UdpSocket::bind((std::net::Ipv4Addr::from(source), 0)).unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send(&query(7, name)).unwrap();
        receive(&client)
    };
    assert!(ask([127, 2, 0, 2], "db").ends_with(&[127, 2, 0, 2]));
    assert_eq!(code(&ask([127, 2, 0, 2], "web")), 3, "it is not on that network any more");
    assert!(ask([127, 2, 0, 2], "example").ends_with(&[192, 0, 2, 1]));
    assert_eq!(code(&ask([127, 2, 0, 9], "db")), 5, "nobody's address");
    assert_eq!(code(&ask([127, 3, 0, 2], "example")), 5);
    assert!(ask([127, 1, 0, 2], "web").ends_with(&[127, 1, 0, 2]));
    // What is no business of its network's is refused all the same.
    let mut chaos = query(1, "db");
    *chaos.last_mut().unwrap() = 3;
    let client = UdpSocket::bind("127.2.0.2:0").unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.connect(address).unwrap();
    client.send(&chaos).unwrap();
    assert_eq!(code(&receive(&client)), 5);

    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 2, 0, 2], 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(&[framed(&query(1, "db")), framed(&query(2, "web"))].concat()).unwrap();
    assert!(next_framed(&mut client).ends_with(&[127, 2, 0, 2]));
    assert_eq!(code(&next_framed(&mut client)), 3);
}

#[test]
fn scraps_and_refusals_are_counted() {
    let fixture = start(Vec::new(), DEADLINE);
    fixture.names.publish("n", member("e", "web", "10.0.0.2"));
    let client = client(fixture.address);
    client.send(b"scrap").unwrap();
    let mut chaos = query(1, "web");
    *chaos.last_mut().unwrap() = 3;
    client.send(&chaos).unwrap();
    assert_eq!(code(&receive(&client)), 5);
    let counters = fixture.server.counters();
    assert_eq!((counters.queries, counters.dropped, counters.refused), (2, 1, 1));
}

#[test]
fn at_the_end_who_has_asked_is_answered_and_the_rest_is_left_to_the_next() {
    let (release, held) = mpsc::channel::<()>();
    let (arrived, waiting) = mpsc::channel();
    let slow = upstream(move |query| {
        arrived.send(()).ok()?;
        held.recv().ok()?;
        elsewhere(query)
    });
    let fixture = start(vec![slow], DEADLINE);
    let (udp, tcp) = sockets();
    let address = udp.local_addr().unwrap();
    // Somebody else has them, too, as a service manager does.
    let (kept_udp, kept_tcp) = (udp.try_clone().unwrap(), tcp.try_clone().unwrap());
    fixture.server.listen(at("n"), udp, tcp).unwrap();
    let client = client(address);
    client.send(&query(1, "example")).unwrap();
    waiting.recv_timeout(DEADLINE).unwrap();
    let names = fixture.names.clone();
    let ending = thread::spawn(move || fixture.server.finish(DEADLINE));
    // It is asked while it ends: nobody reads that.
    while !ending.is_finished() {
        client.send(&query(2, "web")).unwrap();
        release.send(()).unwrap_or_default();
        thread::park_timeout(Duration::from_millis(5));
    }
    ending.join().unwrap();
    client.send(&query(3, "web")).unwrap();
    assert_eq!(receive(&client)[1], 1);

    names.publish("n", member("e", "web", "10.0.0.2"));
    let options = Options { upstreams: Upstreams::Fixed(Vec::new()), ..Options::default() };
    let next = Server::start(names, options).unwrap();
    next.listen(at("n"), kept_udp, kept_tcp).unwrap();
    let reply = std::iter::repeat_with(|| receive(&client)).find(|reply| reply[1] == 3).unwrap();
    assert!(reply.ends_with(&[10, 0, 0, 2]));
}

#[test]
fn who_waits_in_vain_at_the_end_is_told_so() {
    let fixture = start(vec![upstream(|_| None)], DEADLINE);
    let client = client(fixture.address);
    client.send(&query(1, "example")).unwrap();
    while fixture.server.counters().forwarded == 0 {
        thread::park_timeout(Duration::from_millis(2));
    }
    fixture.server.finish(Duration::from_millis(20));
    assert_eq!(code(&receive(&client)), 2);
}

/// A message behind its length.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes()[..], message].concat()
}

fn next_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

#[test]
fn over_a_connection_nobody_waits_for_what_was_asked_before() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let fixture = start(vec![slow.local_addr().unwrap()], DEADLINE);
    fixture.names.publish("n", member("e", "web", "10.0.0.2"));
    let mut client = TcpStream::connect(fixture.address).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let both = [framed(&query(1, "example")), framed(&query(2, "web"))].concat();
    // In pieces, so that something comes in the middle of a message.
    let (first, rest) = both.split_at(both.len() - 5);
    client.write_all(first).unwrap();
    let (mut server, _) = slow.accept().unwrap();
    let asked = next_framed(&mut server);
    client.write_all(rest).unwrap();
    let reply = next_framed(&mut client);
    assert!(reply[1] == 2 && reply.ends_with(&[10, 0, 0, 2]), "{reply:?}");
    // Half a message is there when the other answer comes.
    let third = framed(&query(3, "web"));
    client.write_all(&third[..7]).unwrap();
    server.write_all(&framed(&elsewhere(asked).unwrap())).unwrap();
    let reply = next_framed(&mut client);
    assert!(reply[1] == 1 && reply.ends_with(&[192, 0, 2, 1]), "{reply:?}");
    client.write_all(&third[7..]).unwrap();
    assert_eq!(next_framed(&mut client)[1], 3);
}

#[test]
fn who_has_no_more_to_ask_over_a_connection_still_has_its_answers() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let fixture = start(vec![slow.local_addr().unwrap()], DEADLINE);
    let mut client = TcpStream::connect(fixture.address).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    // More than are out at a time: the rest is read when these have come back.
    for id in 0..40 {
        client.write_all(&framed(&query(id, &format!("x{id}")))).unwrap();
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut held: Vec<_> = (0..32).map(|_| slow.accept().unwrap().0).collect();
    while fixture.server.counters().forwarded < 32 {
        thread::park_timeout(Duration::from_millis(2));
    }
    assert_eq!(fixture.server.counters().forwarded, 32);
    let answer = |server: &mut TcpStream| {
        let asked = next_framed(server);
        server.write_all(&framed(&elsewhere(asked).unwrap())).unwrap();
    };
    held.iter_mut().rev().for_each(answer);
    for _ in 32..40 {
        answer(&mut slow.accept().unwrap().0);
    }
    let mut ids: Vec<_> = (0..40).map(|_| next_framed(&mut client)[1]).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..40).collect::<Vec<u8>>());
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "and then it ends");
}

#[test]
fn counts_are_told_apart_and_standings_known() {
    let server = upstream(elsewhere);
    let fixture = start(vec![server], DEADLINE);
    fixture.names.publish("n", member("e", "web", "10.0.0.2"));
    for name in ["web", "web", "example", "example"] {
        ask(&fixture, name);
    }
    let tallies = fixture.server.tallies();
    let [(whose, counts)] = &*tallies else { panic!("{tallies:?}") };
    assert_eq!(*whose, at("n"));
    let count = |by| counts.iter().filter(|it| it.by == by).map(|it| it.count).sum::<u64>();
    assert_eq!((count(By::Netd), count(By::Upstream), count(By::Cache)), (2, 1, 1));
    assert!(counts.iter().all(|it| (it.kind, it.result) == ("A", "NOERROR")));
    let standings = fixture.server.standings();
    assert_eq!(standings.len(), 1);
    assert_eq!((standings[0].server, standings[0].answered), (server, 1));
    assert_eq!(fixture.server.kept(), 1);
    fixture.server.stop_listening(&at("n"));
    assert!(fixture.server.tallies().is_empty());
}

/// A server elsewhere that is slow: it answers what has come in once nothing more has for a while.
fn slow() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    thread::spawn(move || {
        let (mut buffer, mut waiting) = ([0; 4096], Vec::new());
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => waiting.push((buffer[..length].to_vec(), from)),
                Err(_) => {
                    for (query, from) in waiting.drain(..) {
                        socket.send_to(&elsewhere(query).unwrap(), from).unwrap();
                    }
                }
            }
        }
    });
    address
}

/// Asks for so many names at once, and waits until all of it has been read. Each hundred has a socket
/// of its own, so that there is room for all of its answers, however late they are looked at.
fn flood(fixture: &Fixture, count: u64) -> Vec<UdpSocket> {
    let before = fixture.server.counters().queries;
    let mut clients: Vec<UdpSocket> = Vec::new();
    for n in 0..count {
        if n % 100 == 0 {
            clients.push(client(fixture.address));
        }
        let client = clients.last().unwrap();
        client.send(&query(0, &format!("x{n}"))).unwrap();
        // No more than the kernel keeps.
        while n % 100 == 99 && fixture.server.counters().queries <= before + n {
            thread::yield_now();
        }
    }
    while fixture.server.counters().queries < before + count {
        thread::yield_now();
    }
    clients
}

#[test]
fn a_thousand_names_at_once_are_all_answered_and_delay_nobody() {
    let fixture = start(vec![slow()], DEADLINE);
    let other = UdpSocket::bind("127.0.0.2:0").unwrap();
    other.connect(fixture.address).unwrap();
    other.set_read_timeout(Some(DEADLINE)).unwrap();
    let many = flood(&fixture, 1000);
    other.send(&query(7, "other")).unwrap();
    assert!(receive(&other).ends_with(&[192, 0, 2, 1]));
    let [standing] = &fixture.server.standings()[..] else { panic!("one was asked") };
    assert!(standing.answered < 1000, "before the last of these: {standing:?}");
    let mut answered = std::collections::BTreeSet::new();
    for client in many.iter().flat_map(|client| [client; 100]) {
        let reply = receive(client);
        assert!(reply.ends_with(&[192, 0, 2, 1]), "{reply:?}");
        let length = usize::from(reply[12]);
        assert!(answered.insert(reply[13..13 + length].to_vec()));
    }
    let counters = fixture.server.counters();
    assert_eq!((counters.servfail, counters.dropped), (0, 0));
    assert_eq!(fixture.server.pressure().crowded, 0);
}

#[test]
fn what_finds_no_place_is_dropped_and_nobodys_failure() {
    let fixture = start(vec![upstream(|_| None)], DEADLINE);
    let _clients = flood(&fixture, 2100);
    while fixture.server.counters().dropped < 2100 - 2048 {
        thread::yield_now();
    }
    let counters = fixture.server.counters();
    assert_eq!((counters.servfail, counters.dropped), (0, 2100 - 2048));
    assert_eq!(fixture.server.pressure().crowded, 2100 - 2048);
    let [(_, counts)] = &fixture.server.tallies()[..] else { panic!("one is served") };
    let [count] = &counts[..] else { panic!("nobody was answered: {counts:?}") };
    assert_eq!((count.result, count.by, count.count), ("dropped", By::Netd, 2100 - 2048));
}
