use std::{
    net::{TcpListener, UdpSocket},
    sync::LazyLock,
};

use super::*;

fn id(byte: u8) -> EndpointId {
    EndpointId::from_bytes([byte; 32])
}

fn take(ports: &mut Ports, byte: u8, text: &str) -> Result<u16> {
    let mut wanted = [text.parse().expect("a port")];
    ports.take(alone(&id(byte)), &mut wanted).map(|()| wanted[0].host_port)
}

/// The only endpoint of a container.
fn alone(endpoint: &EndpointId) -> Taker<'_> {
    static CONTAINER: LazyLock<ContainerId> = LazyLock::new(|| "web".parse().expect("an id"));
    Taker { endpoint, container: &CONTAINER, others: &[], bound: &[] }
}

#[test]
fn a_container_may_ask_for_its_port_on_each_of_its_networks() {
    let mut ports = Ports::default();
    let wanted = ["18100:80".parse().expect("a port")];
    let (first, second) = (id(1), id(2));
    ports.take(alone(&first), &mut wanted.clone()).expect("free");
    let others = [first.clone()];
    let again = Taker { others: &others, ..alone(&second) };
    ports.take(again, &mut wanted.clone()).expect("its own");
    assert!(ports.leads_through(&first, &wanted[0]) && !ports.leads_through(&second, &wanted[0]));
    assert!(take(&mut ports, 3, "18100:80").is_err(), "another one may not");
    ports.release(&first, &wanted);
    assert!(ports.leads_through(&second, &wanted[0]));
    assert!(take(&mut ports, 3, "18100:80").is_err(), "it is still held");
    ports.release(&second, &wanted);
    assert_eq!(take(&mut ports, 3, "18100:80"), Ok(18100));
}

#[test]
fn of_several_that_it_may_be_the_first_that_is_free_is_taken() {
    let mut ports = Ports::default();
    for (byte, wanted) in [(1, 18200), (2, 18201), (3, 18202)] {
        assert_eq!(take(&mut ports, byte, "18200-18202:80"), Ok(wanted));
    }
    let error = take(&mut ports, 4, "18200-18202:80").expect_err("all are taken");
    assert_eq!(
        (error.kind, error.operands["endpoint"].as_str()),
        (Kind::Exists, Some(id(1).as_str()))
    );
    assert!(error.message.contains("from 18200 to 18202/tcp"), "{error}");
    assert_eq!(take(&mut ports, 4, "18200-18202:80/udp"), Ok(18200));
    ports.release(&id(2), &["18201:80".parse().expect("a port")]);
    assert_eq!(take(&mut ports, 4, "18200-18202:80"), Ok(18201));
    let holder = TcpListener::bind("0.0.0.0:0").expect("bound");
    let port = holder.local_addr().expect("bound").port();
    let own = sockets::bound(&[Protocol::Tcp].into()).expect("a dump");
    let bound: Vec<_> = own.into_iter().filter(|socket| socket.port == port).collect();
    let mut wanted = [format!("{port}-{}:80", port + 1).parse().expect("ports")];
    let endpoint = id(5);
    ports.take(Taker { bound: &bound, ..alone(&endpoint) }, &mut wanted).expect("the next");
    assert_eq!((wanted[0].host_port, wanted[0].host_port_to), (port + 1, None));
}

#[test]
fn a_port_is_held_by_one_unless_the_hosts_addresses_differ() {
    let mut ports = Ports::default();
    assert_eq!(take(&mut ports, 1, "127.0.0.1:18080:80"), Ok(18080));
    assert_eq!(take(&mut ports, 2, "127.0.0.2:18080:80"), Ok(18080));
    assert_eq!(take(&mut ports, 3, "18080:80/udp"), Ok(18080));
    for text in ["18080:81", "127.0.0.1:18080:81"] {
        let error = take(&mut ports, 4, text).expect_err("held");
        assert_eq!(error.kind, Kind::Exists);
        assert_eq!(error.operands["endpoint"], id(1).as_str());
    }
    ports.release(&id(4), &["18080:80".parse().expect("a port")]);
    assert!(take(&mut ports, 4, "127.0.0.1:18080:81").is_err(), "others' ports stay theirs");
    ports.release(&id(1), &["127.0.0.1:18080:80".parse().expect("a port")]);
    assert_eq!(take(&mut ports, 4, "127.0.0.1:18080:81"), Ok(18080));
}

#[test]
fn all_of_a_request_or_none() {
    let mut ports = Ports::default();
    assert_eq!(take(&mut ports, 1, "18090:80"), Ok(18090));
    let mut wanted = ["18091:80", "18090:80"].map(|text| text.parse().expect("a port"));
    assert!(ports.take(alone(&id(2)), &mut wanted).is_err());
    assert_eq!(take(&mut ports, 3, "18091:80"), Ok(18091));
}

#[test]
fn what_may_be_another_gives_way_in_whichever_order_they_stand() {
    let wanted = |texts: &[&str]| {
        let mut wanted: Vec<Port> =
            texts.iter().map(|text| text.parse().expect("a port")).collect();
        let mut ports = Ports::default();
        ports.take(alone(&id(1)), &mut wanted).map(|()| {
            assert_eq!(ports.held.values().map(Vec::len).sum::<usize>(), texts.len());
            wanted.iter().map(|port| port.host_port).collect::<Vec<_>>()
        })
    };
    assert_eq!(wanted(&["2000-2010:81", "2000:80"]), Ok(vec![2001, 2000]));
    assert_eq!(wanted(&["2000:80", "2000-2010:81"]), Ok(vec![2000, 2001]));
    assert_eq!(wanted(&["2000-2002:81", "2000-2001:82", "2000:80"]), Ok(vec![2002, 2001, 2000]));
    let any = wanted(&["0:81", "32769:80"]).expect("there are many");
    assert!(any[0] != 32769 && any[1] == 32769);
    // None is kept of a request that fails, in whichever order they were taken.
    let mut ports = Ports::default();
    let mut wanted =
        ["2000-2001:81", "2001:80", "2000:82"].map(|text| text.parse().expect("ports"));
    ports.take(alone(&id(1)), &mut wanted).expect_err("two of three");
    assert!(ports.held.is_empty());
}

#[test]
fn port_0_becomes_one_that_is_free() {
    let mut ports = Ports::default();
    let first = take(&mut ports, 1, "127.0.0.1:0:80").expect("free");
    let second = take(&mut ports, 1, "127.0.0.1:0:80").expect("free");
    assert!(FREE.contains(&first) && FREE.contains(&second));
    assert_ne!(first, second);
}

#[test]
fn unspecified_is_all_of_a_family() {
    let mut ports = Ports::default();
    assert_eq!(take(&mut ports, 1, "0.0.0.0:18080:80"), Ok(18080));
    assert!(take(&mut ports, 2, "192.0.2.1:18080:80").is_err());
    assert!(take(&mut ports, 2, "18080:80").is_err());
    assert_eq!(take(&mut ports, 2, "[::]:18080:80"), Ok(18080));
    assert!(take(&mut ports, 3, "[2001:db8::1]:18080:80").is_err());
}

#[test]
fn ports_in_a_row_are_held_one_and_all() {
    let mut ports = Ports::default();
    assert_eq!(take(&mut ports, 1, "18000-18999:8000-8999"), Ok(18000));
    for text in ["18000:80", "18999:80", "18500:80", "17990-18000:1-11", "18999-19001:1-3"] {
        let error = take(&mut ports, 2, text).expect_err(text);
        assert_eq!(error.kind, Kind::Exists, "{text}");
        assert_eq!(error.operands["endpoint"], id(1).as_str());
    }
    assert_eq!(take(&mut ports, 2, "17990-17999:1-10"), Ok(17990));
    assert_eq!(take(&mut ports, 2, "19000:80"), Ok(19000));
    assert_eq!(take(&mut ports, 2, "18500:80/udp"), Ok(18500));
    let error = take(&mut ports, 3, "17000-17990:17000-17990").expect_err("held");
    assert_eq!(error.operands["port"], 17990, "the port that is held is named");
    ports.release(&id(1), &["18000-18998:8000-8998".parse().expect("ports")]);
    assert!(take(&mut ports, 3, "18500:80").is_err(), "it gave others back");
    ports.release(&id(1), &["18000-18999:8000-8999".parse().expect("ports")]);
    assert_eq!(take(&mut ports, 3, "18500:80"), Ok(18500));
}

#[test]
fn a_request_does_not_meet_itself() {
    let mut ports = Ports::default();
    let mut twice = ["18000-18010:1-11", "18010:80"].map(|text| text.parse().expect("a port"));
    let error = ports.take(alone(&id(1)), &mut twice).expect_err("twice");
    assert!(error.message.contains("the same request"), "{error}");
    assert!(ports.held.is_empty());
}

#[test]
fn free_ports_in_a_row_are_found() {
    let mut ports = Ports::default();
    let first = take(&mut ports, 1, "80-89").expect("free");
    let second = take(&mut ports, 2, "80-89").expect("free");
    assert!(first.abs_diff(second) >= 10);
    assert!(take(&mut ports, 3, &format!("{}:80", first + 9)).is_err());
    let error = take(&mut ports, 3, "1-40000").expect_err("so many are never free");
    assert_eq!(error.kind, Kind::Exhausted);
}

#[test]
fn a_port_of_a_process_is_refused_by_its_name() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let mut ports = Ports::default();
    let tcp_port = tcp.local_addr().expect("bound").port();
    let udp_port = udp.local_addr().expect("bound").port();
    let bound = || sockets::bound(&[Protocol::Tcp, Protocol::Udp].into()).expect("a dump");
    let (there, id) = (bound(), id(1));
    let mut take = |text: &str, bound: &[Bound]| {
        let mut wanted = [text.parse().expect("a port")];
        ports.take(Taker { bound, ..alone(&id) }, &mut wanted)
    };
    for text in
        [format!("{tcp_port}:80"), format!("127.0.0.1:{tcp_port}:80"), format!("{udp_port}:80/udp")]
    {
        let error = take(&text, &there).expect_err("held");
        assert_eq!(error.kind, Kind::Exists, "{text}");
        assert_eq!(error.operands["pid"], process::id());
        assert!(error.message.contains(&format!("(pid {})", process::id())), "{error}");
    }
    assert!(take(&format!("127.0.0.2:{tcp_port}:80"), &there).is_ok());
    drop(tcp);
    assert!(take(&format!("127.0.0.1:{tcp_port}:80"), &bound()).is_ok());
}
