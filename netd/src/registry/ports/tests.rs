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
    Taker { endpoint, container: &CONTAINER, others: &[] }
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
fn port_0_becomes_one_that_is_free() {
    let mut ports = Ports::default();
    let first = take(&mut ports, 1, "127.0.0.1:0:80").expect("free");
    let second = take(&mut ports, 1, "127.0.0.1:0:80").expect("free");
    assert!(FREE.contains(&first) && FREE.contains(&second));
    assert_ne!(first, second);
}

#[test]
fn a_port_of_a_process_is_refused() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let mut ports = Ports::default();
    let tcp_port = tcp.local_addr().expect("bound").port();
    let udp_port = udp.local_addr().expect("bound").port();
    for text in
        [format!("{tcp_port}:80"), format!("127.0.0.1:{tcp_port}:80"), format!("{udp_port}:80/udp")]
    {
        let error = take(&mut ports, 1, &text).expect_err("held");
        assert_eq!(error.kind, Kind::Exists, "{text}");
        assert!(error.message.contains("a process of the host"), "{error}");
    }
    drop(tcp);
    assert!(take(&mut ports, 1, &format!("127.0.0.1:{tcp_port}:80")).is_ok());
}
