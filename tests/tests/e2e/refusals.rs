//! Bad requests, by each of the doors: each has its kind, names the thing, and changes nothing.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
};

use cnm::{
    Kind,
    client::Client,
    endpoint::{Attach, Netns},
    network::{CreateNetwork, InspectNetwork, ListNetworks, Subnet},
};
use netd_tests::{Asking as _, Container, Host, Snapshot, World, kind_of};
use serde_json::{Value, json};

/// Everything that a refusal must leave as it is.
#[derive(Debug)]
struct Scene {
    kernel: Snapshot,
    sandboxes: Vec<Snapshot>,
    registry: (Vec<cnm::network::Network>, Vec<cnm::endpoint::Endpoint>, u64, u64),
}

impl Scene {
    fn of(host: &Host, containers: &[&Container]) -> Self {
        let mut netd = host.client();
        let leased = netd.pools().iter().map(|pool| pool.leased).sum();
        Self {
            kernel: host.snapshot(),
            sandboxes: containers.iter().map(|c| Snapshot::of(&c.netns)).collect(),
            registry: (
                netd.call(&ListNetworks::default()).unwrap().networks,
                netd.endpoints(),
                netd.status().sandboxes,
                leased,
            ),
        }
    }

    #[track_caller]
    fn is_unchanged(&self, host: &Host, containers: &[&Container], what: &str) {
        let now = Self::of(host, containers);
        assert_eq!(now.registry, self.registry, "{what}");
        if let Err(differences) = now.kernel.same_as(&self.kernel) {
            panic!("{what}: {differences:#?}");
        }
        for (now, before) in now.sandboxes.iter().zip(&self.sandboxes) {
            if let Err(differences) = now.same_as(before) {
                panic!("{what}: {differences:#?}");
            }
        }
    }
}

fn kind(reply: &Value) -> &str {
    reply["error"]["data"]["kind"].as_str().unwrap_or_else(|| panic!("no error: {reply}"))
}

/// Lines that are no requests, or none that netd knows, and what they are answered with.
fn bad_lines() -> Vec<(String, i64, &'static str)> {
    let request = |rest: &str| format!(r#"{{"jsonrpc":"2.0","id":1,{rest}}}"#);
    let long = request(&format!(
        r#""method":"network.inspect","params":{{"network":"{}"}}"#,
        "x".repeat(1 << 20)
    ));
    vec![
        ("not json".into(), -32700, "invalid"),
        ("{\"jsonrpc\":".into(), -32700, "invalid"),
        ("17".into(), -32600, "invalid"),
        ("{}".into(), -32600, "invalid"),
        ("[]".into(), -32600, "invalid"),
        ("[".repeat(100_000), -32700, "invalid"),
        (r#"{"jsonrpc":"1.0","id":1,"method":"system.version"}"#.into(), -32600, "invalid"),
        (request(r#""method":7"#), -32600, "invalid"),
        (request(r#""method":"network.burn""#), -32601, "unsupported"),
        (request(r#""method":"network.inspect","params":{"network":1}"#), -32602, "invalid"),
        (request(r#""method":"network.inspect","params":["app"]"#), -32602, "invalid"),
        (request(r#""method":"network.inspect""#), -32602, "invalid"),
        (request(r#""method":"endpoint.attach","params":{"network":"app"}"#), -32602, "invalid"),
        (long, -32600, "invalid"),
    ]
}

#[test]
fn bad_lines_are_answered_and_the_next_is_read() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let before = Scene::of(&host, &[]);
    let stream = UnixStream::connect(host.socket()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for (line, code, expected) in bad_lines() {
        let shown: String = line.chars().take(80).collect();
        (&stream).write_all(line.as_bytes()).unwrap();
        (&stream).write_all(b"\n").unwrap();
        let reply: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(
            (kind(&reply), reply["error"]["code"].as_i64()),
            (expected, Some(code)),
            "{shown}: {reply}"
        );
    }
    (&stream).write_all(b"\xff\xfe\n").unwrap();
    let reply: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
    assert_eq!(kind(&reply), "invalid", "no UTF-8");
    (&stream).write_all(b"{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"system.version\"}\n").unwrap();
    let reply: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
    assert_eq!((&reply["id"], &reply["result"]["protocols"]), (&json!(9), &json!([1])));
    before.is_unchanged(&host, &[], "bad lines at the socket");
}

#[test]
fn bad_lines_at_a_plugin_are_answered_and_the_next_is_read() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let before = Scene::of(&host, &[]);
    let mut lines = String::new();
    for (line, ..) in bad_lines() {
        lines += &line;
        lines.push('\n');
    }
    lines += "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"system.version\"}\n";
    let executed = host.plugin("bridge", &lines);
    let replies = executed.replies();
    assert_eq!(replies.len(), bad_lines().len() + 1);
    for (reply, (line, code, expected)) in replies.iter().zip(bad_lines()) {
        let shown: String = line.chars().take(80).collect();
        assert_eq!(
            (kind(reply), reply["error"]["code"].as_i64()),
            (expected, Some(code)),
            "{shown}: {reply}"
        );
    }
    assert_eq!(replies.last().unwrap()["result"]["protocols"], json!([1]));
    executed.success();
    before.is_unchanged(&host, &[], "bad lines at a plugin");

    for (line, _, expected) in bad_lines() {
        let executed = host.plugin("none", &line);
        let code = if expected == "unsupported" { Kind::Unsupported } else { Kind::Invalid };
        assert_eq!(executed.code, i32::from(code.exit_code()), "{}", executed.stdout);
    }
}

#[test]
fn bad_networks_are_refused() {
    let world = World::new();
    let host = world.host("a");
    host.netns.run("ip route add unreachable 10.66.0.0/16");
    let mut netd = host.client();
    netd.create_on("app", "10.31.0.0/24");
    let before = Scene::of(&host, &[]);
    let subnet = |text: &str| Subnet::new(text.parse().unwrap());
    let with = |subnets: Vec<Subnet>| CreateNetwork { subnets, ..CreateNetwork::named("new") };
    let gateway = |text: &str, gateway: &str| Subnet {
        gateway: Some(gateway.parse().unwrap()),
        ..subnet(text)
    };
    let range =
        |text: &str, range: &str| Subnet { range: Some(range.parse().unwrap()), ..subnet(text) };
    let driver =
        |name: &str| CreateNetwork { driver: Some(name.into()), ..CreateNetwork::named("new") };
    let cases = [
        ("empty name", CreateNetwork::named(""), Kind::Invalid),
        ("bad name", CreateNetwork::named("a b"), Kind::Invalid),
        ("long name", CreateNetwork::named(&"x".repeat(64)), Kind::Invalid),
        ("taken name", CreateNetwork::named("app"), Kind::Exists),
        ("predefined name", CreateNetwork::named("bridge"), Kind::Denied),
        ("host bits", with(vec![subnet("10.32.0.1/24")]), Kind::Invalid),
        ("overlap", with(vec![subnet("10.31.0.128/25")]), Kind::Exists),
        ("overlap around", with(vec![subnet("10.0.0.0/8")]), Kind::Exists),
        (
            "overlap of its own",
            with(vec![subnet("10.32.0.0/24"), subnet("10.32.0.0/25")]),
            Kind::Invalid,
        ),
        ("foreign gateway", with(vec![gateway("10.32.0.0/24", "10.33.0.1")]), Kind::Invalid),
        (
            "network address as gateway",
            with(vec![gateway("10.32.0.0/24", "10.32.0.0")]),
            Kind::Invalid,
        ),
        ("foreign range", with(vec![range("10.32.0.0/24", "10.33.0.0/25")]), Kind::Invalid),
        ("no room", with(vec![subnet("10.32.0.0/32")]), Kind::Invalid),
        ("multicast", with(vec![subnet("224.0.0.0/24")]), Kind::Invalid),
        ("IPv4 spelt as IPv6", with(vec![subnet("::ffff:10.0.0.0/120")]), Kind::Invalid),
        ("loopback", with(vec![subnet("127.0.5.0/24")]), Kind::Invalid),
        ("unknown driver", driver("carrier-pigeon"), Kind::NotFound),
        ("driver as a path", driver("../netd"), Kind::Invalid),
        ("second host", driver("host"), Kind::Denied),
    ];
    for (what, create, expected) in cases {
        let (kind, error) = kind_of(netd.call(&create));
        assert_eq!(kind, expected, "{what}: {error}");
        before.is_unchanged(&host, &[], what);
    }
    let executed = host.netctl(&["network", "create", "--subnet", "10.31.0.0/25", "new"]);
    assert_eq!(executed.code, i32::from(Kind::Exists.exit_code()), "{executed:?}");
    assert!(executed.stderr.contains("app"), "it names the other: {executed:?}");
    for words in [
        &["network", "create", "--subnet", "10.31.0.0/99", "new"][..],
        &["network", "create", "--subnet", "10.32.0.1/24", "new"],
        &["network", "create"],
        &["network", "burn"],
    ] {
        let executed = host.netctl(words);
        assert_eq!(executed.code, i32::from(Kind::Invalid.exit_code()), "{words:?}: {executed:?}");
    }
    before.is_unchanged(&host, &[], "netctl");
    let (kind, _) = kind_of(netd.call(&cnm::network::RemoveNetwork { network: "nowhere".into() }));
    assert_eq!(kind, Kind::NotFound);
}

#[test]
fn bad_attaches_are_refused_and_leave_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "10.31.0.0/24");
    netd.create_on("tiny", "10.32.0.0/30");
    let (holder, web) = (world.container("holder"), world.container("web"));
    let mut attach = holder.to("app");
    attach.ports = vec!["8080:80".parse().unwrap(), "8053:53/udp".parse().unwrap()];
    attach.addresses = vec!["10.31.0.77".parse().unwrap()];
    let held = netd.attach(&attach);
    let bridge = netd.call(&InspectNetwork { network: "app".into() }).unwrap();
    let bridge = host.netns.json(&format!("ip -j link show {}", bridge.network.link.unwrap()));
    let bridge = bridge[0]["address"].as_str().unwrap().parse().unwrap();
    let other = world.container("other");
    netd.attach(&other.to("tiny"));
    web.netns.run("ip link add eth7 type veth peer name eth8");
    let (_tcp, _udp) = host.netns.inside(|| {
        (TcpListener::bind("0.0.0.0:9090").unwrap(), UdpSocket::bind("0.0.0.0:9090").unwrap())
    });
    fs::write("/run/file", "").unwrap();
    let before = Scene::of(&host, &[&web, &holder, &other]);

    let case = |change: &dyn Fn(&mut Attach)| {
        let mut attach = web.to("app");
        change(&mut attach);
        attach
    };
    let ports = |texts: &'static [&'static str]| {
        case(&|a| a.ports = texts.iter().map(|text| text.parse().unwrap()).collect())
    };
    let netns = |path: &str| case(&|a| a.netns = Some(Netns::Path(path.into())));
    let address = |text: &str| case(&|a| a.addresses = vec![text.parse().unwrap()]);
    let cases = [
        ("unknown network", case(&|a| a.network = "nowhere".into()), Kind::NotFound, "nowhere"),
        ("taken port", ports(&["8080:80"]), Kind::Exists, "holder"),
        ("taken port after a free one", ports(&["81:80", "8053:53/udp"]), Kind::Exists, "holder"),
        ("port twice", ports(&["82:80", "82:81"]), Kind::Exists, "82"),
        ("port of a process", ports(&["9090:80"]), Kind::Exists, "9090"),
        ("port of a process, UDP", ports(&["9090:80/udp"]), Kind::Exists, "9090"),
        (
            "port on an address the host does not have",
            ports(&["198.51.100.1:83:80"]),
            Kind::Invalid,
            "198.51.100.1",
        ),
        ("taken address", address("10.31.0.77"), Kind::Exists, "10.31.0.77"),
        ("the gateway's address", address("10.31.0.1"), Kind::Exists, "10.31.0.1"),
        ("foreign address", address("10.99.0.2"), Kind::Invalid, "10.99.0.2"),
        (
            "two addresses",
            case(&|a| {
                a.addresses = vec!["10.31.0.5".parse().unwrap(), "10.31.0.6".parse().unwrap()]
            }),
            Kind::Invalid,
            "10.31.0.6",
        ),
        ("taken MAC address", case(&|a| a.mac = held.mac), Kind::Exists, "container holder"),
        ("the bridge's MAC address", case(&|a| a.mac = Some(bridge)), Kind::Exists, "host's own"),
        (
            "a MAC address on none",
            case(&|a| {
                a.network = "none".into();
                a.mac = Some("02:00:00:00:00:09".parse().unwrap());
            }),
            Kind::Invalid,
            "none",
        ),
        ("full network", case(&|a| a.network = "tiny".into()), Kind::Exhausted, "10.32.0.0/30"),
        ("no namespace there", netns("/run/netns/nothing"), Kind::NotFound, "/run/netns/nothing"),
        ("no namespace", netns("/run/file"), Kind::Invalid, "/run/file"),
        (
            "another kind of namespace",
            netns("/proc/self/ns/mnt"),
            Kind::Invalid,
            "/proc/self/ns/mnt",
        ),
        ("a relative path", netns("netns"), Kind::Invalid, "netns"),
        ("the host's own", netns(&host.netns.path()), Kind::Invalid, "host"),
        ("no descriptor", case(&|a| a.netns = Some(Netns::Fd)), Kind::Invalid, "fd"),
        ("no namespace known", case(&|a| a.netns = None), Kind::NotFound, &web.id[..12]),
        (
            "interface is there",
            case(&|a| a.ifname = Some("eth7".parse().unwrap())),
            Kind::Exists,
            "eth7",
        ),
        (
            "name of another",
            case(&|a| a.container.name = Some("holder".parse().unwrap())),
            Kind::Exists,
            "holder",
        ),
        (
            "ports on none",
            case(&|a| {
                a.network = "none".into();
                a.ports = vec!["84:80".parse().unwrap()];
            }),
            Kind::Invalid,
            "none",
        ),
        (
            "an address on none",
            case(&|a| {
                a.network = "none".into();
                a.addresses = vec!["10.31.0.9".parse().unwrap()];
            }),
            Kind::Invalid,
            "none",
        ),
    ];
    for (what, attach, expected, named) in cases {
        let (kind, error) = kind_of(netd.call(&attach));
        assert_eq!(kind, expected, "{what}: {error}");
        let operands = format!("{error} {:?}", error.operands);
        assert!(operands.contains(named), "{what}: {operands}");
        before.is_unchanged(&host, &[&web, &holder, &other], what);
    }
    let again = kind_of(netd.call(&holder.to("app")));
    assert_eq!(again.0, Kind::Exists, "the same once more");
    before.is_unchanged(&host, &[&web, &holder, &other], "the same once more");

    let path = web.netns.path();
    for (words, expected) in [
        (&["-p", "8080:80", "app"][..], Kind::Exists),
        (&["--ip", "10.99.0.2", "app"], Kind::Invalid),
        (&["--mac", "01:00:5e:00:00:01", "app"], Kind::Invalid),
        (&["--mac", "00:00:00:00:00:00", "app"], Kind::Invalid),
        (&["--ifname", "eth7", "app"], Kind::Exists),
        (&["nowhere"], Kind::NotFound),
        (&["-p", "80:80/icmp", "app"], Kind::Invalid),
        (&["--ifname", "much-too-long-a-name", "app"], Kind::Invalid),
    ] {
        let mut all = vec!["attach", "--netns", &path, "--name", "web"];
        all.extend(words);
        let executed = host.netctl(&all);
        assert_eq!(executed.code, i32::from(expected.exit_code()), "{words:?}: {executed:?}");
        assert!(!executed.stderr.is_empty() && executed.stdout.is_empty(), "{executed:?}");
    }
    before.is_unchanged(&host, &[&web, &holder, &other], "netctl attach");
    // What nobody has any more is free again.
    netd.detach("holder");
    netd.attach(&case(&|a| a.mac = held.mac));
}

#[test]
fn bad_values_are_refused_where_they_stand() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let before = Scene::of(&host, &[&web]);
    let good = serde_json::to_value(web.to("bridge")).unwrap();
    for (field, value) in [
        ("ifname", json!("a/b")),
        ("ifname", json!("sixteen-letters-")),
        ("mac", json!("01:00:5e:00:00:01")),
        ("mac", json!("nonsense")),
        ("addresses", json!(["10.0.0.256"])),
        ("aliases", json!(["a b"])),
        ("ports", json!([{"container_port": 0}])),
        ("ports", json!([{"container_port": 70000}])),
        ("ports", json!([{"container_port": 80, "protocol": "icmp"}])),
        ("container", json!({"id": ""})),
        ("container", json!({"id": "../x"})),
        ("network", json!(null)),
    ] {
        let mut params = good.clone();
        params[field] = value.clone();
        let line =
            json!({"jsonrpc": "2.0", "id": 1, "method": "endpoint.attach", "params": params});
        let answer = host.client().exchange(&format!("{line}\n"), &[]).unwrap();
        let reply: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(kind(&reply), "invalid", "{field} {value}: {reply}");
        let executed = host.plugin("bridge", &format!("{line}\n"));
        assert_eq!(executed.code, 2, "{field} {value}: {executed:?}");
    }
    before.is_unchanged(&host, &[&web], "bad values");
}

#[test]
fn a_user_without_rights_is_denied_and_may_not_change_anything() {
    let world = World::new();
    let host = world.host("a");
    let before = Scene::of(&host, &[]);
    // Nobody is to be able to start it from where it was built.
    fs::copy(world.programs().join("netctl"), "/run/netctl").unwrap();
    let nobody = |words: &str| {
        let line = format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups /run/netctl --socket {} {words}",
            host.socket().display()
        );
        netd_tests::Executed::from(host.netns.output(&line))
    };
    let denied = i32::from(Kind::Denied.exit_code());
    assert_eq!(nobody("network ls").code, denied, "{:?}", nobody("network ls"));
    // However the socket came to be open to all.
    fs::set_permissions(host.run_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(host.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    for words in [
        "network create app",
        "network rm bridge",
        "network prune -f",
        "attach --netns /proc/self/ns/net --name web bridge",
        "detach web",
        "reconcile",
        "gc",
    ] {
        let executed = nobody(words);
        assert_eq!(executed.code, denied, "{words}: {executed:?}");
    }
    before.is_unchanged(&host, &[], "what nobody asked for");
}

#[test]
fn the_socket_is_for_root_and_the_group() {
    let world = World::new();
    let host = world.host("a");
    let mode = fs::metadata(host.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    Client::connect(&host.socket()).unwrap();
}

#[test]
fn who_may_not_open_a_namespace_is_denied_it() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let web = world.container("web");
    let netctl = world.programs().join("netctl").display().to_string();
    let pid = format!("PID:{}", web.netns.pid());
    let words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", &netctl, "attach"];
    let operands = ["--netns", &pid, "--name", "web", "app"];
    let command = &mut host.netns.command(words.iter().chain(&operands));
    let executed = netd_tests::Executed::from(command.output().unwrap());
    assert_eq!(executed.code, 7, "{executed:?}");
    assert!(executed.stderr.contains("cannot open the network namespace"), "{executed:?}");
}
