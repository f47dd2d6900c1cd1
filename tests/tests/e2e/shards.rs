//! More endpoints on one network of one host than the kernel lets a bridge have ports.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    process, thread,
    time::Duration,
};

use cnm::{
    Call, Reply, Request,
    endpoint::{Attach, Container, Detach, Detached, Endpoint, Netns},
    network::{CreateNetwork, RemoveNetwork, Subnet},
};
use netd_tests::{Asking as _, Host, World, eventually};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// How many there are.
const COUNT: usize = 3000;

/// How many are asked for in one line.
const BATCH: usize = 250;

/// Namespaces of their own, each with nothing but what is put in.
fn namespaces() -> Vec<File> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let make = |_| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    thread::spawn(move || (0..COUNT).map(make).collect()).join().unwrap()
}

/// A socket in each of the namespaces.
fn sockets(namespaces: &[File]) -> Vec<UdpSocket> {
    let namespaces: Vec<_> = namespaces.iter().map(|file| file.try_clone().unwrap()).collect();
    let open = move |netns: File| {
        enter(&netns);
        let socket = UdpSocket::bind(("0.0.0.0", 7)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    };
    thread::spawn(move || namespaces.into_iter().map(open).collect()).join().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "only called on a thread that ends with its work")]
fn enter(netns: &File) {
    setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
}

/// The answers to many calls, a line at a time.
fn batched<C: Call>(host: &Host, calls: &[C]) -> Vec<C::Reply> {
    let stream = UnixStream::connect(host.socket()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut replies = Vec::new();
    for some in calls.chunks(BATCH) {
        let requests: Vec<_> =
            some.iter().zip(1_u64..).map(|(call, id)| Request::new(id, call).to_line()).collect();
        writeln!(&stream, "[{}]", requests.join(",").replace('\n', "")).unwrap();
        let line = lines.next().unwrap().unwrap();
        let answers: Vec<Reply<C::Reply>> = serde_json::from_str(&line).unwrap();
        replies.extend(answers.into_iter().map(|answer| answer.outcome().unwrap()));
    }
    assert_eq!(replies.len(), calls.len());
    replies
}

/// Each of the others gets what `from` sends, and `from` their answer.
fn reaches_all(from: usize, sockets: &[UdpSocket], addresses: &[IpAddr]) {
    let own = SocketAddr::new(addresses[from], 7);
    let mut bytes = [0; 8];
    for (n, (socket, address)) in sockets.iter().zip(addresses).enumerate() {
        if n == from {
            continue;
        }
        let there = SocketAddr::new(*address, 7);
        sockets[from].send_to(b"hello", there).unwrap();
        let (_, peer) = socket.recv_from(&mut bytes).unwrap_or_else(|e| panic!("{there}: {e}"));
        assert_eq!(peer, own);
        socket.send_to(b"hello", own).unwrap();
        let (_, peer) =
            sockets[from].recv_from(&mut bytes).unwrap_or_else(|e| panic!("{there}: {e}"));
        assert_eq!(peer, there);
    }
}

#[test]
fn three_thousand_endpoints_on_one_network_reach_each_other() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    let before = host.snapshot();
    let subnets = vec![Subnet::new("10.40.0.0/16".parse().unwrap())];
    let mut create = CreateNetwork { subnets, ..CreateNetwork::named("big") };
    create.options.insert("layout".into(), "routed".into());
    netd.call(&create).unwrap();
    let made = host.snapshot();

    let namespaces = namespaces();
    let attach = |(n, netns): (usize, &File)| {
        let container = Container::new(format!("c{n}").parse().unwrap());
        let path = format!("/proc/{}/fd/{}", process::id(), netns.as_raw_fd());
        Attach::new("big", container, Some(Netns::Path(path)))
    };
    let attaches: Vec<_> = namespaces.iter().enumerate().map(attach).collect();
    let endpoints: Vec<Endpoint> = batched(&host, &attaches);
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.addresses[0].ip()).collect();
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), COUNT);

    let sockets = sockets(&namespaces);
    reaches_all(0, &sockets, &addresses);
    reaches_all(COUNT - 1, &sockets, &addresses);
    // The outside, by the host's address.
    lan.serve_udp(7);
    sockets[COUNT - 1].send_to(b"hello", "192.0.2.2:7").unwrap();
    let mut bytes = [0; 64];
    let (length, _) = sockets[COUNT - 1].recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"192.0.2.1");

    // A container knows its gateway and nobody else, for good; the host knows all of them for good.
    let first = format!("nsenter --net=/proc/{}/fd/{}", process::id(), namespaces[0].as_raw_fd());
    let known = netd_tests::run(&format!("{first} ip neighbour"));
    assert_eq!(known.lines().count(), 1, "{known}");
    assert!(known.starts_with("10.40.0.1 ") && known.contains("PERMANENT"), "{known}");
    let known = host.netns.run("ip -4 neighbour show nud all");
    let of_network = known.lines().filter(|line| line.starts_with("10.40."));
    let (permanent, other): (Vec<_>, Vec<_>) = of_network.partition(|l| l.contains("PERMANENT"));
    assert_eq!((permanent.len(), other.len()), (COUNT, 0));

    // One is as good as another after its bridge was lost.
    let shard = host.netns.json(&format!("ip -j link show {}", endpoints[0].id.link_name()));
    let shard = shard[0]["master"].as_str().unwrap().to_owned();
    host.netns.run(&format!("ip link delete {shard}"));
    eventually("it is put right", || {
        let routes = host.netns.run("ip route show proto 110");
        let there = routes.lines().any(|line| line.starts_with(&format!("{} ", addresses[0])));
        let neighbours = host.netns.run(&format!("ip neighbour show {}", addresses[0]));
        if there && neighbours.contains("PERMANENT") { Ok(()) } else { Err(neighbours) }
    });
    sockets[0].send_to(b"hello", SocketAddr::new(addresses[COUNT - 1], 7)).unwrap();
    sockets[COUNT - 1].recv_from(&mut bytes).unwrap();

    let detach = |n| Detach { network: None, container: format!("c{n}"), ifname: None };
    let detached: Vec<Detached> = batched(&host, &(0..COUNT).map(detach).collect::<Vec<_>>());
    assert!(detached.iter().all(|detached| detached.endpoints.len() == 1));
    eventually("nothing of them is left", || host.snapshot().same_as(&made));
    assert_eq!(host.netns.run("ip route show proto 110"), "");
    netd.call(&RemoveNetwork { network: "big".into() }).unwrap();
    eventually("the network is gone", || host.snapshot().same_as(&before));
}

#[test]
fn a_routed_network_of_both_families_is_like_any_other() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    let before = host.snapshot();
    let subnets = ["10.41.0.0/16", "fd00:41::/64"].map(|s| Subnet::new(s.parse().unwrap()));
    let mut create = CreateNetwork { subnets: subnets.to_vec(), ..CreateNetwork::named("big") };
    create.options.insert("layout".into(), "routed".into());
    netd.call(&create).unwrap();
    let (web, db) = (world.container("web"), world.container("db"));
    let mut attach = web.to("big");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    let gateway = netd.attach(&db.to("big")).gateways[0];
    web.netns.serve_tcp(80);
    lan.serve_tcp(80);
    for (n, own) in ["192.0.2.1", "2001:db8::1"].into_iter().enumerate() {
        let (address, own): (_, IpAddr) = (endpoint.addresses[n].ip(), own.parse().unwrap());
        assert!(db.netns.pings(address), "{address}");
        assert!(host.netns.pings(address), "{address}");
        let seen = db.netns.ask_tcp(SocketAddr::new(address, 80)).unwrap();
        assert_eq!(seen.is_ipv4(), address.is_ipv4());
        lan.ask_tcp(SocketAddr::new(own, 8080)).unwrap();
        web.netns.ask_tcp(SocketAddr::new(own, 8080)).unwrap();
        db.netns.ask_tcp(SocketAddr::new(own, 8080)).unwrap();
    }
    assert_eq!(
        web.netns.ask_tcp("192.0.2.2:80".parse().unwrap()).unwrap().to_string(),
        "192.0.2.1"
    );
    let known = Host::ask_name(&db.netns, gateway, "web A");
    assert_eq!(known, [endpoint.addresses[0].ip().to_string()]);
    // Nobody from outside.
    lan.run("ip route add 10.41.0.0/16 via 192.0.2.1");
    assert!(lan.try_tcp(SocketAddr::new(endpoint.addresses[0].ip(), 80)).is_err());
    let check = cnm::endpoint::CheckEndpoint::new(endpoint.id.to_string());
    assert_eq!(netd.call(&check).unwrap().differences, [""; 0]);
    netd.detach("web");
    netd.detach("db");
    netd.call(&RemoveNetwork { network: "big".into() }).unwrap();
    eventually("the network is gone", || host.snapshot().same_as(&before));
}

#[test]
fn a_layout_that_there_is_not_is_refused() {
    let world = World::new();
    let host = world.host("a");
    let mut create = CreateNetwork::named("big");
    create.options.insert("layout".into(), "round".into());
    let (kind, error) = netd_tests::kind_of(host.client().call(&create));
    assert_eq!(kind, cnm::Kind::Invalid, "{error}");
}
