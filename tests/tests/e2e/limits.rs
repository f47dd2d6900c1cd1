//! How fast packets come and go: measured by what a limit makes impossible, since how fast the rest
//! is depends on the machine.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use cnm::{
    Kind,
    bandwidth::{Bandwidth, Limit},
    endpoint::{CheckEndpoint, Endpoint},
    network::{CreateNetwork, Subnet},
    system::Reconcile,
};
use netd_tests::{Asking as _, Container, Host, Namespace, World, eventually, kind_of};
use serde_json::Value;

/// What is sent to measure a limit, in bytes, and how fast it may go.
const AMOUNT: usize = 2 << 20;
const RATE: &str = "10mbit";

/// How long it takes at least at [`RATE`]: but for what may go at once, 1.6 s.
const LEAST: Duration = Duration::from_secs(1);

fn both(rate: &str) -> Option<Bandwidth> {
    Bandwidth::of(rate.parse().ok(), rate.parse().ok())
}

/// How long [`AMOUNT`] takes from one namespace to an address of another.
fn takes(from: &Namespace, to: &Namespace, address: IpAddr, port: u16) -> Duration {
    let at = SocketAddr::new(address, port);
    let listener = to.inside(|| TcpListener::bind(at)).unwrap();
    let reading = to.meanwhile(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    });
    let took = from.inside(|| {
        let began = Instant::now();
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(&vec![0; AMOUNT]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // It is closed once all of it has come.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        began.elapsed()
    });
    reading.join().unwrap();
    took
}

/// Whether what a link receives goes over another one.
fn is_led_away(host: &Host, link: &str) -> bool {
    host.netns.run(&format!("tc filter show dev {link} ingress")).contains("mirred")
}

/// The queues of a link that are of a kind, as `tc` shows them.
fn queues(netns: &Namespace, link: &str, kind: &str) -> Vec<Value> {
    let queues = netns.json(&format!("tc -j qdisc show dev {link}"));
    queues.as_array().unwrap().iter().filter(|queue| queue["kind"] == kind).cloned().collect()
}

fn differences(host: &Host, endpoint: &Endpoint) -> Vec<String> {
    let check = CheckEndpoint::new(endpoint.id.to_string());
    host.client().call(&check).unwrap().differences
}

fn detour(endpoint: &Endpoint) -> String {
    endpoint.id.link_name().as_str().replacen("nd", "nq", 1)
}

fn put(host: &Host, container: &Container, network: &str, rate: &str) -> Endpoint {
    let mut attach = container.to(network);
    attach.bandwidth = both(rate);
    host.client().attach(&attach)
}

#[test]
fn what_comes_and_what_goes_is_limited() {
    let world = World::new();
    let host = world.host("a");
    host.client().create_on("app", "10.31.0.0/24");
    let before = host.snapshot();
    let (web, free) = (world.container("web"), world.container("free"));
    let unlimited = host.client().attach(&free.to("app"));
    let with_other = host.snapshot();
    let endpoint = put(&host, &web, "app", RATE);
    let (own, other) = (endpoint.addresses[0].ip(), unlimited.addresses[0].ip());
    let comes = takes(&host.netns, &web.netns, own, 7000);
    assert!(comes > LEAST, "{AMOUNT} bytes came in {comes:?}");
    let goes = takes(&web.netns, &free.netns, other, 7001);
    assert!(goes > LEAST, "{AMOUNT} bytes went in {goes:?}");
    let end = endpoint.id.link_name();
    assert_eq!(queues(&host.netns, end.as_str(), "tbf")[0]["options"]["rate"], 1_250_000);
    assert_eq!(queues(&host.netns, &detour(&endpoint), "tbf")[0]["options"]["rate"], 1_250_000);
    // The other one costs nothing.
    let end = unlimited.id.link_name();
    assert_eq!(queues(&host.netns, end.as_str(), "noqueue").len(), 1);
    assert!(!is_led_away(&host, end.as_str()));
    assert_eq!(host.snapshot().lines("link nq").count(), 1);
    assert_eq!(web.netns.json("ip -j link").as_array().unwrap().len(), 2, "nothing of it inside");

    assert_eq!(differences(&host, &endpoint), [""; 0]);
    host.client().detach(&web.id);
    eventually("nothing is left of it", || host.snapshot().same_as(&with_other));
    host.client().detach(&free.id);
    eventually("the host is as before", || host.snapshot().same_as(&before));
}

#[test]
fn a_limit_in_one_direction_is_none_in_the_other() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let container = world.container("web");
    let mut attach = container.to("app");
    let limit: Limit = "10mbit:1mbit".parse().unwrap();
    attach.bandwidth = Bandwidth::of(Some(limit), None);
    let endpoint = host.client().attach(&attach);
    let end = endpoint.id.link_name();
    assert_eq!(queues(&host.netns, end.as_str(), "tbf")[0]["options"]["burst"], 125_000);
    assert!(!is_led_away(&host, end.as_str()));
    assert_eq!(host.snapshot().lines("link nq").count(), 0);
    host.client().detach(&container.id);

    attach.bandwidth = Bandwidth::of(None, Some(limit));
    let endpoint = host.client().attach(&attach);
    let end = endpoint.id.link_name();
    assert!(queues(&host.netns, end.as_str(), "tbf").is_empty());
    assert!(is_led_away(&host, end.as_str()));
    assert_eq!(queues(&host.netns, &detour(&endpoint), "tbf")[0]["options"]["burst"], 125_000);
    assert_eq!(differences(&host, &endpoint), [""; 0]);
    assert!(container.netns.pings(endpoint.gateways[0]));
}

#[test]
fn a_limit_that_was_taken_off_is_seen_and_put_back() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let container = world.container("web");
    let endpoint = put(&host, &container, "app", RATE);
    let (end, detour) = (endpoint.id.link_name(), detour(&endpoint));
    let gateway = endpoint.gateways[0];
    for line in [
        format!("tc qdisc del dev {end} root"),
        format!("tc qdisc replace dev {end} root tbf rate 9mbit burst 32k latency 50ms"),
        format!("tc qdisc del dev {end} clsact"),
        format!("tc qdisc del dev {detour} root"),
        format!("ip link set {detour} down"),
        format!("ip link del {detour}"),
    ] {
        host.netns.run(&line);
        let differs = differences(&host, &endpoint);
        // Who may speak hangs where the detour does.
        let with_guard = usize::from(line.ends_with("clsact"));
        assert_eq!(differs.len(), 1 + with_guard, "{line}: {differs:?}");
        assert!(
            differs[0].contains("not limited to 10mbit") || with_guard > 0,
            "{line}: {differs:?}"
        );
        let repaired = host.client().call(&Reconcile {}).unwrap().repaired;
        assert!(repaired.iter().any(|what| what.contains("limit ")), "{line}: {repaired:?}");
        assert_eq!(differences(&host, &endpoint), [""; 0], "{line}");
        assert!(container.netns.pings(gateway), "{line}");
        // What is as it should be is not touched.
        let repaired = host.client().call(&Reconcile {}).unwrap().repaired;
        assert_eq!(repaired, [""; 0], "{line}");
    }
    // One of nobody's goes.
    host.netns.run("ip link add nqffffffffffff group 1852142692 type ifb");
    host.client().call(&Reconcile {}).unwrap();
    eventually("it is taken away", || {
        let detours = host.snapshot().lines("link nq").count();
        if detours == 1 { Ok(()) } else { Err(detours) }
    });
    assert_eq!(differences(&host, &endpoint), [""; 0]);
}

#[test]
fn a_limit_survives_netd() {
    let world = World::new();
    let mut host = world.host("a");
    host.client().create("app");
    let container = world.container("web");
    let endpoint = put(&host, &container, "app", RATE);
    host.kill();
    let comes = takes(&host.netns, &container.netns, endpoint.addresses[0].ip(), 7000);
    assert!(comes > LEAST, "{AMOUNT} bytes came in {comes:?}");
    host.start();
    assert_eq!(differences(&host, &endpoint), [""; 0]);
    assert_eq!(host.client().endpoints()[0].bandwidth, both(RATE));
}

#[test]
fn a_limit_goes_with_its_container() {
    let world = World::new();
    let mut host = world.host("a");
    host.client().create("app");
    let before = host.snapshot();
    let (mut first, mut second) = (world.container("first"), world.container("second"));
    put(&host, &first, "app", RATE);
    first.netns.kill();
    eventually("all of it is gone", || host.snapshot().same_as(&before));
    // And when nobody was there to see it go.
    put(&host, &second, "app", RATE);
    host.kill();
    second.netns.kill();
    eventually("its link is gone", || {
        let links = host.snapshot().lines("link nd").count();
        if links == 0 { Ok(()) } else { Err(links) }
    });
    host.start();
    eventually("all of it is gone", || host.snapshot().same_as(&before));
}

#[test]
fn what_a_macvlan_sends_is_limited() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut subnet = Subnet::new("192.0.2.0/24".parse().unwrap());
    subnet.range = Some("192.0.2.128/25".parse().unwrap());
    let create = CreateNetwork {
        driver: Some("macvlan".into()),
        subnets: vec![subnet],
        options: [("parent".to_owned(), "lan0".to_owned())].into(),
        ..CreateNetwork::named("lan")
    };
    host.client().call(&create).unwrap();
    let web = world.container("web");
    let mut attach = web.to("lan");
    attach.bandwidth = both(RATE);
    let (kind, error) = kind_of(host.client().call(&attach));
    assert!(kind == Kind::Unsupported && error.message.contains("what comes to"), "{error}");
    assert!(host.client().endpoints().is_empty());

    attach.bandwidth = Bandwidth::of(None, RATE.parse().ok());
    let endpoint = host.client().attach(&attach);
    let goes = takes(&web.netns, &lan, "192.0.2.2".parse().unwrap(), 7000);
    assert!(goes > LEAST, "{AMOUNT} bytes went in {goes:?}");
    assert_eq!(queues(&web.netns, "eth0", "tbf")[0]["options"]["rate"], 1_250_000);
    let mut check = CheckEndpoint::new(endpoint.id.to_string());
    check.netns = Some(cnm::endpoint::Netns::Path(web.netns.path()));
    assert_eq!(host.client().call(&check).unwrap().differences, [""; 0]);
    web.netns.run("tc qdisc del dev eth0 root");
    let differs = host.client().call(&check).unwrap().differences;
    assert!(differs.len() == 1 && differs[0].contains("10mbit"), "{differs:?}");
}

#[test]
fn who_has_no_interface_has_no_limit() {
    let world = World::new();
    let host = world.host("a");
    let container = world.container("web");
    let mut attach = container.to("none");
    attach.bandwidth = both(RATE);
    let (kind, error) = kind_of(host.client().call(&attach));
    assert!(kind == Kind::Unsupported && error.message.contains("limits no bandwidth"), "{error}");
    assert!(host.client().endpoints().is_empty());
}

#[test]
fn a_command_line_limits() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let attach = ["attach", "--netns", &web.netns.path(), "--name", "web"];
    let limits = ["--rate-in", "10mbit", "--rate-out", "5m:64k", "bridge"];
    host.netctl(&[&attach[..], &limits[..]].concat()).success();
    let bandwidth = host.client().endpoints()[0].bandwidth;
    let egress = Some(Limit { rate: 5_000_000, burst: Some(64_000) });
    let ingress = Some(Limit { rate: 10_000_000, burst: None });
    assert_eq!(bandwidth, Some(Bandwidth { ingress, egress }));
    let wrong = host.netctl(&[&attach[..], &["--rate-in", "fast", "bridge"]].concat());
    assert!(wrong.code == 2 && wrong.stderr.contains("10mbit"), "{wrong:?}");
}
