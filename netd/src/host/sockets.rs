//! Which ports of the host its processes hold, as the kernel tells it (sock_diag(7)), and which
//! process it is that holds one. netd keeps none of them.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    ops::RangeInclusive,
    path::Path,
};

use cnm::{
    ContainerId,
    endpoint::{Port, Protocol},
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use socket2::{Domain, Type};

/// A socket of the host that takes what comes to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// Its address; unspecified for all of the family.
    pub(crate) address: IpAddr,
    /// Its port.
    pub(crate) port: u16,
    /// Whether a socket of IPv6 takes what comes over IPv4 too.
    pub(crate) both: bool,
    /// By what its process's descriptors show it.
    pub(crate) inode: u32,
}

impl Bound {
    /// Whether what is to go to a published port would be meant for this socket.
    pub(crate) fn meets(&self, port: &Port) -> bool {
        self.protocol == port.protocol
            && port.host_ports().contains(&self.port)
            && self.is_at(port.host_ip)
    }

    fn is_at(&self, host: Option<IpAddr>) -> bool {
        let Some(host) = host else { return true };
        let of_family = self.both || self.address.is_ipv4() == host.is_ipv4();
        of_family
            && (self.address.is_unspecified()
                || host.is_unspecified()
                || self.address.to_canonical() == host)
    }
}

/// A process that has a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// Its name (`comm`, proc(5)).
    pub(crate) name: String,
    arguments: Vec<u8>,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} of the host (pid {})", self.name, self.pid)
    }
}

impl Process {
    /// Whether it has the id of a container among its arguments: some runtimes hold the ports of
    /// their containers by a process of their own, as Podman does as long as the container runs.
    pub(crate) fn is_for(&self, container: &ContainerId) -> bool {
        self.arguments.split(|byte| *byte == 0).any(|word| word == container.as_str().as_bytes())
    }
}

/// The sockets at which programs wait for somebody, of some protocols: TCP's listeners, and of UDP
/// those that are not connected, since to the others only their peer speaks. (SCTP has its own
/// where the kernel knows them.)
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn bound(protocols: &BTreeSet<Protocol>) -> io::Result<Vec<Bound>> {
    bound_within(protocols, 0..=u16::MAX)
}

/// As [`bound`], of some ports alone: what the kernel tells of others takes longer the more there are.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn bound_within(
    protocols: &BTreeSet<Protocol>,
    ports: RangeInclusive<u16>,
) -> io::Result<Vec<Bound>> {
    let mut found = Vec::new();
    if protocols.is_empty() {
        return Ok(found);
    }
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    for protocol in protocols {
        for request in requests(*protocol, &ports) {
            match dump(&mut socket, &request, *protocol, &mut found) {
                // No such sockets on this host.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
    }
    Ok(found)
}

/// Who of the host's processes hears TCP at an address, if one does: a clause.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn listener(address: std::net::SocketAddr) -> io::Result<Option<String>> {
    let port = address.port();
    let mut there = bound_within(&BTreeSet::from([Protocol::Tcp]), port..=port)?;
    there.retain(|socket| socket.port == port && socket.is_at(Some(address.ip())));
    if there.is_empty() {
        return Ok(None);
    }
    let holder = holders(&there).first().map(ToString::to_string);
    Ok(Some(holder.unwrap_or_else(|| "a process of the host".to_owned())))
}

/// How many ports are asked for one by one at most: of more the list is sooner there.
const MANY: usize = 32;

/// Whether ports of the host are surely free for these: who would bind them may. The kernel says so
/// in the same time however many others are bound, where a list of those is longer the more there are;
/// where it says no, the list tells who is meant, and whether it matters.
pub(crate) fn are_free(ports: &[Port]) -> bool {
    count(ports) <= MANY
        && ports.iter().all(|port| is_known(port) && is_free(port).unwrap_or(false))
}

/// Whether these are so many that only the list tells, and nothing is to be chosen by it.
pub(crate) fn are_many(ports: &[Port]) -> bool {
    count(ports) > MANY && ports.iter().all(is_known)
}

fn count(ports: &[Port]) -> usize {
    ports.iter().map(|port| usize::from(port.count)).sum()
}

fn is_known(port: &Port) -> bool {
    port.host_port != 0 && port.host_port_to.is_none()
}

fn is_free(port: &Port) -> io::Result<bool> {
    let address = port.host_ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let kind = match port.protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Sctp => return Ok(false),
    };
    for number in port.host_ports() {
        let socket = socket2::Socket::new(domain, kind, None)?;
        if domain == Domain::IPV6 {
            // One of all addresses of both families meets whoever has the port.
            socket.set_only_v6(port.host_ip.is_some())?;
        }
        // Of TCP only listeners are in the way then, and no connection that was; of UDP whoever says
        // the same would not be.
        socket.set_reuse_address(port.protocol == Protocol::Tcp)?;
        socket.bind(&std::net::SocketAddr::new(address, number).into())?;
    }
    Ok(true)
}

/// Refuses ports on an address that the host does not have, or where nobody can connect to. One of
/// IPv4 that is spelt as of IPv6 is taken for what it is.
///
/// # Errors
/// `invalid` with the address.
pub(crate) fn check_addresses(ports: &mut [Port]) -> cnm::Result<()> {
    for port in ports {
        port.host_ip = port.host_ip.map(|ip| ip.to_canonical());
        let Some(ip) = port.host_ip.filter(|ip| !ip.is_unspecified()) else { continue };
        let why = match of_many(ip) {
            Ok(None) => continue,
            Ok(Some(kind)) => nobody_connects(kind),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                "it is none of the host's addresses".to_owned()
            }
            // It would have to be said of which link.
            Err(_) if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) => {
                "it is a link-local address, which every link may have".to_owned()
            }
            Err(error) => error.to_string(),
        };
        return Err(cnm::Error::invalid(format_args!(
            "port {port} cannot be published on {ip}: {why}"
        ))
        .with("address", ip.to_string()));
    }
    Ok(())
}

/// Why nothing is published on an address of such a kind.
pub(crate) fn nobody_connects(kind: &str) -> String {
    format!("it is a {kind} address, to which nobody connects")
}

/// What kind of address it is, where it is of several at once.
///
/// # Errors
/// Where it is none of the host's.
pub(crate) fn of_many(ip: IpAddr) -> io::Result<Option<&'static str>> {
    if ip.is_multicast() {
        return Ok(Some("multicast"));
    }
    if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Ok(Some("broadcast"));
    }
    // Any port of it will do, for a moment.
    let socket = UdpSocket::bind((ip, 0))?;
    // A subnet's broadcast address may be bound, but nothing may go there unless that is asked for
    // (`ip4_datagram_connect`, net/ipv4/datagram.c). Nothing does: a datagram's socket only notes it.
    match socket.connect((ip, DISCARD)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Some("broadcast")),
        _ => Ok(None),
    }
}

/// A port that is not 0 (`discard`, RFC 863).
const DISCARD: u16 = 9;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Length of `struct nlmsghdr` and of `struct inet_diag_msg` (linux/inet_diag.h).
const HEADER: usize = 16;
const INET_DIAG_MSG: usize = 72;

fn dump(
    socket: &mut Socket,
    request: &[u8],
    protocol: Protocol,
    found: &mut Vec<Bound>,
) -> io::Result<()> {
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    socket.send_to(request, &SocketAddr::new(0, 0), 0)?;
    let mut chunk = Vec::with_capacity(32 << 10);
    loop {
        chunk.clear();
        socket.recv_from(&mut chunk, 0)?;
        let mut rest = chunk.as_slice();
        while let Some((kind, payload, more)) = message(rest) {
            rest = more;
            match kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                    return match code {
                        0.. => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                _ => found.extend(parse(payload, protocol)),
            }
        }
    }
}

/// What asks for the sockets of a protocol: a `struct inet_diag_req_v2` for each family. All of TCP's
/// sockets are walked for each, whatever namespace they are in, so of these the older `struct
/// inet_diag_req` asks, which is for both (linux/inet_diag.h).
fn requests(protocol: Protocol, ports: &RangeInclusive<u16>) -> Vec<Vec<u8>> {
    const TCPDIAG_GETSOCK: u16 = 18;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    /// States of TCP (net/tcp_states.h), as bits; a UDP socket is closed unless it is connected.
    const CLOSE: u32 = 1 << 7;
    const LISTEN: u32 = 1 << 10;
    if protocol == Protocol::Tcp {
        let mut body = [0; 60];
        body[52..56].copy_from_slice(&LISTEN.to_ne_bytes());
        return vec![request(TCPDIAG_GETSOCK, &body, ports)];
    }
    let states = if protocol == Protocol::Udp { CLOSE } else { LISTEN };
    let of_family = |family| {
        let mut body = [0; 56];
        (body[0], body[1]) = (family, protocol.number());
        body[4..8].copy_from_slice(&states.to_ne_bytes());
        request(SOCK_DIAG_BY_FAMILY, &body, ports)
    };
    [AF_INET, AF_INET6].map(of_family).into()
}

/// `struct nlmsghdr`, what is asked for, and a filter of ports (linux/inet_diag.h).
fn request(kind: u16, body: &[u8], ports: &RangeInclusive<u16>) -> Vec<u8> {
    const REQUEST_AND_DUMP: u16 = 0x301;
    /// `INET_DIAG_REQ_BYTECODE`, and two comparisons of the own port: with an operation each comes
    /// where to go on if it holds and if not, in bytes, behind all of them to refuse; and the number.
    const BYTECODE: u16 = 1;
    const AT_LEAST: u8 = 2;
    const AT_MOST: u8 = 3;
    let comparisons = [(AT_LEAST, 20_u16, *ports.start()), (AT_MOST, 12, *ports.end())];
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST_AND_DUMP.to_ne_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&20_u16.to_ne_bytes());
    bytes.extend_from_slice(&BYTECODE.to_ne_bytes());
    for (operation, refuse, number) in comparisons {
        bytes.extend_from_slice(&[operation, 8]);
        bytes.extend_from_slice(&refuse.to_ne_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    let length = u32::try_from(bytes.len()).expect("a request is short");
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// Type and payload of the first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let payload = bytes.get(HEADER..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// `struct inet_diag_msg`, and the attribute behind it that says of a socket of IPv6 whether it is
/// of IPv6 only.
fn parse(bytes: &[u8], protocol: Protocol) -> Option<Bound> {
    let port = u16::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    let source = bytes.get(8..)?;
    let address: IpAddr = match *bytes.first()? {
        AF_INET => Ipv4Addr::from(*source.first_chunk()?).into(),
        _ => Ipv6Addr::from(*source.first_chunk()?).into(),
    };
    let inode = u32::from_ne_bytes(*bytes.get(68..INET_DIAG_MSG)?.first_chunk()?);
    let both =
        address == IpAddr::from(Ipv6Addr::UNSPECIFIED) && !v6_only(bytes.get(INET_DIAG_MSG..)?);
    // One that is not bound yet takes nothing.
    let address = if both { address } else { address.to_canonical() };
    (port != 0).then_some(Bound { protocol, address, port, both, inode })
}

fn v6_only(mut attributes: &[u8]) -> bool {
    const INET_DIAG_SKV6ONLY: u16 = 11;
    while let &[a, b, c, d, ..] = attributes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        if u16::from_ne_bytes([c, d]) == INET_DIAG_SKV6ONLY {
            return attributes.get(4).is_some_and(|only| *only != 0);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// The processes that have one of these sockets open. It looks at all of them, so it is asked only
/// where there is something to tell.
pub(crate) fn holders(sockets: &[Bound]) -> Vec<Process> {
    let wanted: BTreeSet<String> =
        sockets.iter().map(|socket| format!("socket:[{}]", socket.inode)).collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbered = processes.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
    });
    let mut holders: Vec<_> = numbered
        .filter(|(_, process)| has_one_of(process, &wanted))
        .map(|(pid, process)| {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
            Process { pid, name: name.trim_end().to_owned(), arguments }
        })
        .collect();
    holders.sort_by_key(|process| process.pid);
    holders
}

/// Whether a process has one of these sockets open.
fn has_one_of(process: &Path, sockets: &BTreeSet<String>) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter_map(|link| Some(link.to_str()?.to_owned())).any(|link| sockets.contains(&link))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn port(text: &str) -> Port {
        text.parse().expect("a port")
    }

    fn at(address: &str, port: u16, both: bool) -> Bound {
        let address = address.parse().expect("an address");
        Bound { protocol: Protocol::Tcp, address, port, both, inode: 1 }
    }

    #[test]
    fn a_socket_meets_the_ports_that_it_would_hear() {
        assert!(at("0.0.0.0", 80, false).meets(&port("80:80")));
        assert!(at("0.0.0.0", 80, false).meets(&port("192.0.2.1:80:80")));
        assert!(at("192.0.2.1", 80, false).meets(&port("0.0.0.0:80:80")));
        assert!(at("::", 80, true).meets(&port("192.0.2.1:80:80")));
        assert!(at("192.0.2.1", 85, false).meets(&port("80-89:80-89")));
        for (socket, text) in [
            (at("0.0.0.0", 80, false), "80:80/udp"),
            (at("0.0.0.0", 80, false), "81:80"),
            (at("0.0.0.0", 80, false), "[::]:80:80"),
            (at("192.0.2.1", 80, false), "192.0.2.2:80:80"),
            (at("::", 80, false), "192.0.2.1:80:80"),
            (at("192.0.2.1", 90, false), "80-89:80-89"),
        ] {
            assert!(!socket.meets(&port(text)), "{socket:?} {text}");
        }
    }

    #[test]
    fn a_port_is_free_where_nobody_of_the_same_addresses_has_it() {
        let listener = |at: &str| TcpListener::bind(at).expect("bound");
        let number = |one: &TcpListener| one.local_addr().expect("bound").port();
        let free = |text: &str| are_free(&[port(text)]);
        for (at, meets, others) in [
            ("127.0.0.1:0", ["", "0.0.0.0:", "127.0.0.1:"], ["[::]:", "[::1]:", "127.0.0.2:"]),
            ("0.0.0.0:0", ["", "0.0.0.0:", "127.0.0.1:"], ["[::]:", "[::1]:", "[::1]:"]),
            ("[::1]:0", ["", "[::]:", "[::1]:"], ["0.0.0.0:", "127.0.0.1:", "127.0.0.2:"]),
        ] {
            // The standard library's listeners have SO_REUSEADDR, as most servers do.
            let one = listener(at);
            let of = |host: &str| free(&format!("{host}{}:80", number(&one)));
            assert_eq!(meets.map(of), [false; 3], "{at} {meets:?}");
            assert_eq!(others.map(of), [true; 3], "{at} {others:?}");
        }
        let both = listener("[::]:0");
        assert!(!free(&format!("127.0.0.1:{}:80", number(&both))));
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let taken = datagrams.local_addr().expect("bound").port();
        assert!(!free(&format!("{taken}:80/udp")));
    }

    #[test]
    fn ports_are_published_where_somebody_can_connect_to() {
        let checked = |text: &str| {
            let mut ports = [port(text)];
            check_addresses(&mut ports).map(|()| ports[0].to_string())
        };
        for good in ["127.0.0.1:80:80", "127.8.9.1:80:80", "80:80", "0.0.0.0:80:80", "[::1]:80:80"]
        {
            assert_eq!(checked(good), Ok(port(good).to_string()));
        }
        assert_eq!(checked("[::ffff:127.0.0.1]:80:80").as_deref(), Ok("127.0.0.1:80->80/tcp"));
        for (bad, why) in [
            ("224.0.0.1:80:80", "a multicast address"),
            ("[ff02::1]:80:80", "a multicast address"),
            ("255.255.255.255:80:80", "a broadcast address"),
            // What the loopback link's own subnet has.
            ("127.255.255.255:80:80", "a broadcast address"),
            ("[::ffff:224.0.0.1]:80:80", "a multicast address"),
            ("198.51.100.1:80:80", "none of the host's"),
            ("[fe80::1]:80:80", "a link-local address"),
        ] {
            let error = checked(bad).expect_err(bad);
            assert_eq!(error.kind, cnm::Kind::Invalid);
            assert!(error.message.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_connection_that_was_leaves_its_port_free_for_others() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("bound");
        let here = std::net::TcpStream::connect(at).expect("connected");
        let (there, _) = listener.accept().expect("accepted");
        drop((listener, there, here));
        assert!(are_free(&[port(&format!("{}:80", at.port()))]));
    }

    #[test]
    fn of_a_range_every_port_is_to_be_free_and_any_port_is_no_answer() {
        let held = TcpListener::bind("127.0.0.1:0").expect("bound");
        let number = held.local_addr().expect("bound").port();
        let range = |first: u16, last: u16| port(&format!("{first}-{last}:{first}-{last}"));
        assert!(!are_free(&[range(number - 1, number)]));
        assert!(!are_free(&[port("0:80")]) && !are_free(&[port("127.0.0.9:0:80")]));
    }

    #[test]
    fn what_listens_is_seen_and_whose_it_is() {
        let both = TcpListener::bind("[::]:0").expect("bound");
        let own = TcpListener::bind("127.0.0.1:0").expect("bound");
        let open = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let closed = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let to = open.local_addr().expect("bound");
        closed.connect(to).expect("connected");
        let found = bound(&BTreeSet::from([Protocol::Tcp, Protocol::Udp])).expect("a dump");
        let at = |port: u16, protocol: Protocol| {
            found.iter().find(|socket| (socket.port, socket.protocol) == (port, protocol))
        };
        let socket = at(both.local_addr().expect("bound").port(), Protocol::Tcp).expect("seen");
        assert!(socket.both && socket.address.is_unspecified());
        let socket = at(own.local_addr().expect("bound").port(), Protocol::Tcp).expect("seen");
        assert_eq!((socket.address, socket.both), ("127.0.0.1".parse().expect("ip"), false));
        let [holder] = &holders(&[*socket])[..] else { panic!("one process has it") };
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.name.is_empty());
        assert!(!holder.is_for(&"stranger".parse().expect("an id")));
        assert!(at(to.port(), Protocol::Udp).is_some());
        assert_eq!(at(closed.local_addr().expect("bound").port(), Protocol::Udp), None);
    }

    #[test]
    fn a_process_is_for_a_container_whose_id_is_among_its_arguments() {
        let arguments = b"podman\0start\0web\0".to_vec();
        let process = Process { pid: 7, name: "conmon".into(), arguments };
        assert!(process.is_for(&"web".parse().expect("an id")));
        assert!(!process.is_for(&"we".parse().expect("an id")));
    }

    #[test]
    fn the_kernel_tells_of_the_ports_that_are_asked_for() {
        let held = [0; 2].map(|any| TcpListener::bind(("127.0.0.1", any)).unwrap());
        let [first, second] = held.each_ref().map(|one| one.local_addr().unwrap().port());
        let of = |ports| {
            let found = bound_within(&[Protocol::Tcp].into(), ports).unwrap();
            found.into_iter().map(|socket| socket.port).collect::<BTreeSet<_>>()
        };
        assert_eq!(of(first..=first), [first].into());
        assert_eq!(of(second..=second), [second].into());
        assert!(of(first.min(second)..=first.max(second)).is_superset(&[first, second].into()));
        assert!(of(0..=u16::MAX).is_superset(&[first, second].into()));
    }
}
