//! What others do to the host while containers work, and that it is put right by itself: each kind of
//! damage by the command that does it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use cnm::{
    network::{CreateNetwork, Subnet},
    system::Reconcile,
};
use netd_tests::{
    Asking as _, Container, Host, HostOptions, Namespace, Snapshot, World, eventually,
};
use serde_json::Value;

/// What the kernel tells of is put right within this.
const PROMISED: Duration = Duration::from_secs(1);

/// What it does not tell of is looked at once a second, and then put right.
const LOOKED_AT: Duration = Duration::from_secs(2);

/// A host with a network of both families, on which one container publishes a port.
struct Site {
    host: Host,
    lan: Namespace,
    web: Container,
    db: Container,
    bridge: String,
    port: String,
    addresses: Vec<IpAddr>,
    before: Snapshot,
}

const SERVERS: [&str; 2] = ["192.0.2.1:8080", "[2001:db8::1]:8080"];

impl Site {
    fn new(world: &World, config: &str) -> Self {
        let config = config.to_owned();
        let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
        let lan = host.lan();
        let mut netd = host.client();
        let mut create = CreateNetwork::named("app");
        create.subnets =
            ["10.21.0.0/24", "fd00:21::/64"].map(|s| Subnet::new(s.parse().unwrap())).to_vec();
        let network = netd.call(&create).unwrap();
        let (web, db) = (world.container("web"), world.container("db"));
        let mut attach = web.to("app");
        attach.ports = vec!["8080:80".parse().unwrap()];
        let endpoint = netd.attach(&attach);
        netd.attach(&db.to("app"));
        web.netns.serve_tcp(80);
        let site = Self {
            lan,
            web,
            db,
            bridge: network.link.unwrap().to_string(),
            port: endpoint.id.link_name().to_string(),
            addresses: endpoint.addresses.iter().map(|address| address.ip()).collect(),
            before: host.snapshot(),
            host,
        };
        site.works().unwrap();
        site
    }

    /// From the neighbour through the published port, and from one container to the other.
    fn works(&self) -> Result<(), String> {
        let reach = |from: &Namespace, server: SocketAddr| {
            from.try_tcp(server).map_err(|error| format!("{server}: {error}"))
        };
        for server in SERVERS {
            reach(&self.lan, server.parse().unwrap())?;
        }
        for address in &self.addresses {
            reach(&self.db.netns, SocketAddr::new(*address, 80))?;
        }
        Ok(())
    }

    /// Whether the bridge has it written down who is behind the container's port, and learns nothing.
    fn knows_who_is_there(&self) -> Result<(), String> {
        let Self { host, port, web, .. } = self;
        let link = host.netns.json(&format!("ip -j -d link show {port}"));
        let rows = host.netns.json(&format!("bridge -j fdb show brport {port}"));
        let inside = web.netns.json("ip -j link show eth0");
        let is_it = |row: &Value| row["state"] == "static" && row["mac"] == inside[0]["address"];
        let learns = link[0]["linkinfo"]["info_slave_data"]["learning"] != false;
        let knows = rows.as_array().is_some_and(|rows| rows.iter().any(is_it));
        if learns || !knows { Err(format!("learns: {learns}, rows: {rows}")) } else { Ok(()) }
    }

    /// Does damage, after which everything works again in time and is as it was.
    #[track_caller]
    fn survives(&self, time: Duration, damage: &str) {
        let damage_and_wait = || {
            self.host.netns.run(damage);
            eventually(&format!("it works after {damage}"), || self.works());
        };
        in_time(time, damage, damage_and_wait, || {
            eventually("the host is as before", || self.host.snapshot().same_as(&self.before));
        });
    }
}

/// How often something may take longer than is promised, since others use the machine, too.
const TRIES: usize = 5;

/// Something that takes no longer than is promised at least once in a few tries; what is to be after
/// each of them comes in its own time.
#[track_caller]
fn in_time(time: Duration, what: &str, act: impl Fn(), then: impl Fn()) {
    let mut took = Vec::new();
    while took.len() < TRIES && took.last().is_none_or(|last| *last > time) {
        let start = Instant::now();
        act();
        took.push(start.elapsed());
        then();
    }
    assert!(took.last().is_some_and(|last| *last <= time), "{what}: it took {took:?}");
}

#[test]
fn a_transfer_survives_the_flush_of_all_rules() {
    let world = World::new();
    let site = Site::new(&world, "");
    let mut streams = SERVERS.map(|server| {
        let server: SocketAddr = server.parse().unwrap();
        let mut stream = site.lan.inside(|| TcpStream::connect(server)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // The first line is who it is seen as.
        while read_byte(&mut stream) != b'\n' {}
        stream
    });
    for command in ["nft flush ruleset", "iptables-nft -F", "nft flush ruleset"] {
        site.host.netns.run(command);
        for stream in &mut streams {
            stream.write_all(&[b'x'; 1000]).unwrap();
            for _ in 0..1000 {
                assert_eq!(read_byte(stream), b'x', "after {command}");
            }
        }
    }
    site.works().unwrap();
    site.host.snapshot().same_as(&site.before).unwrap();
    for command in ["nft delete table inet netd", "nft flush chain inet netd forward"] {
        assert!(!site.host.netns.output(command).status.success(), "{command}");
    }
    site.host.snapshot().same_as(&site.before).unwrap();
}

fn read_byte(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    byte[0]
}

#[test]
fn rules_that_nobody_owns_are_laid_again() {
    let world = World::new();
    let site = Site::new(&world, "[firewall]\ntables = \"plain\"\n");
    site.survives(PROMISED, "nft flush ruleset");
    site.survives(PROMISED, "nft flush chain inet netd prerouting");
    site.survives(PROMISED, "nft delete table inet netd");
    assert!(site.host.log().contains("disturbed by somebody else"));
}

#[test]
fn a_bridge_that_was_set_down_comes_up() {
    let world = World::new();
    let site = Site::new(&world, "");
    site.survives(PROMISED, &format!("ip link set {} down", site.bridge));
    site.survives(PROMISED, &format!("ip link set {} down", site.bridge));
}

#[test]
fn a_bridge_that_was_deleted_is_made_again() {
    let world = World::new();
    let site = Site::new(&world, "");
    site.survives(PROMISED, &format!("ip link delete {}", site.bridge));
    // It is the same to the containers, and its port has the flags that it had.
    let port = site.host.netns.json(&format!("ip -j -d link show {}", site.port));
    assert_eq!(port[0]["linkinfo"]["info_slave_data"]["hairpin"], true);
    site.knows_who_is_there().unwrap();
    site.web.netns.ask_tcp(SERVERS[0].parse().unwrap()).unwrap();
}

#[test]
fn a_bridge_is_told_again_who_is_behind_a_port() {
    let world = World::new();
    let site = Site::new(&world, "");
    site.knows_who_is_there().unwrap();
    let Site { host, port, .. } = &site;
    host.netns.run(&format!("bridge link set dev {port} learning on"));
    site.knows_who_is_there().unwrap_err();
    // The kernel tells nobody; whoever looks is told.
    host.client().call(&Reconcile {}).unwrap();
    site.knows_who_is_there().unwrap();
    host.netns.run(&format!("ip link set {port} nomaster"));
    eventually("it is there again", || site.knows_who_is_there());
}

#[test]
fn a_port_that_was_taken_off_its_bridge_is_put_back() {
    let world = World::new();
    let site = Site::new(&world, "");
    site.survives(PROMISED, &format!("ip link set {} nomaster", site.port));
    site.survives(PROMISED, &format!("ip link set {} down", site.port));
}

#[test]
fn links_that_were_called_otherwise_get_their_names_back() {
    let world = World::new();
    let site = Site::new(&world, "");
    let Site { host, port, bridge, .. } = &site;
    let as_before = || {
        eventually("the host is as before", || host.snapshot().same_as(&site.before));
        site.works().unwrap();
    };
    for link in [port, bridge] {
        let rename = || {
            host.netns.run(&format!("ip link set {link} name mine"));
            eventually("it has its name back", || {
                let shown = host.netns.output(&format!("ip link show {link}"));
                if shown.status.success() { Ok(()) } else { Err(host.log()) }
            });
        };
        in_time(PROMISED, "a new name", rename, as_before);
    }
    assert!(host.log().contains(&format!("call mine {port} again")), "{}", host.log());
    // One that looks like another of netd's own.
    host.netns.run(&format!("ip link set {port} name nd00000000000f"));
    host.client().call(&Reconcile {}).unwrap();
    as_before();
    assert_eq!(host.client().status().problems, [""; 0]);
}

#[test]
fn a_link_that_was_away_and_is_back_is_no_problem_any_more() {
    let world = World::new();
    let site = Site::new(&world, "");
    let Site { host, port, .. } = &site;
    let aside = world.container("aside").netns;
    let problems = || {
        host.client().call(&Reconcile {}).unwrap();
        host.client().status().problems
    };
    host.netns.run(&format!("ip link set {port} netns {}", aside.path()));
    let lost = problems();
    assert!(lost.len() == 1 && lost[0].contains("has lost its link"), "{lost:?}");
    aside.run(&format!("ip link set {port} netns {}", host.netns.path()));
    assert_eq!(problems(), [""; 0]);
    eventually("it works again", || site.works());
}

#[test]
fn an_endpoint_whose_link_was_called_otherwise_goes_without_a_trace() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let before = host.snapshot();
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("app"));
    let port = endpoint.id.link_name();
    // Nobody is told in time.
    host.netns.run(&format!("ip link set {port} name nd00000000000f"));
    netd.detach("web");
    eventually("the host is as before", || host.snapshot().same_as(&before));
    netd.attach(&web.to("app"));
}

#[test]
fn addresses_that_were_taken_away_are_given_again() {
    let world = World::new();
    let site = Site::new(&world, "");
    site.survives(PROMISED, &format!("ip address flush dev {} scope global", site.bridge));
}

#[test]
fn routes_to_a_bridges_subnets_are_put_back_and_named() {
    let world = World::new();
    let site = Site::new(&world, "");
    let routes = || {
        let of = |v| site.host.netns.run(&format!("ip {v} route show dev {}", site.bridge));
        [of("-4"), of("-6")]
    };
    let before = routes();
    for subnet in ["10.21.0.0/24", "fd00:21::/64"] {
        site.survives(PROMISED, &format!("ip route del {subnet} dev {}", site.bridge));
        eventually("it is the same route", || {
            let now = routes();
            if now == before { Ok(()) } else { Err(now) }
        });
        let noticed = format!("the bridge {} has no route to {subnet}", site.bridge);
        assert!(site.host.log().contains(&noticed), "{}", site.host.log());
        let repaired = format!("add the route to {subnet} on {}", site.bridge);
        assert!(site.host.log().contains(&repaired), "{}", site.host.log());
    }
}

#[test]
fn routes_to_a_bridges_subnets_that_somebody_replaced_lead_there_again() {
    let world = World::new();
    let site = Site::new(&world, "");
    let via = |to: &str| {
        let route = site.host.netns.json(&format!("ip -j route get {to}"));
        route[0]["dev"].as_str().unwrap().to_owned()
    };
    site.host.netns.run("ip route add 198.51.100.0/24 via 192.0.2.2");
    for (subnet, member, instead) in [
        ("10.21.0.0/24", "10.21.0.2", "via 192.0.2.2"),
        ("fd00:21::/64", "fd00:21::2", "via 2001:db8::2 metric 256"),
    ] {
        assert_eq!(via(member), site.bridge);
        site.survives(PROMISED, &format!("ip route replace {subnet} {instead}"));
        assert_eq!(via(member), site.bridge);
        let noticed = format!("the bridge {} has no route to {subnet}", site.bridge);
        assert!(site.host.log().contains(&noticed), "{}", site.host.log());
    }
    // What is nobody's but the administrator's stays as it is.
    let before = site.host.log().matches("disturbed").count();
    site.host.netns.run("ip route replace 198.51.100.0/24 via 192.0.2.9");
    site.survives(PROMISED, &format!("ip link set {} down", site.bridge));
    let own = site.host.netns.json("ip -j route show 198.51.100.0/24");
    assert_eq!(own[0]["gateway"], "192.0.2.9");
    assert!(!site.host.log().contains("198.51.100.0/24"), "{}", site.host.log());
    assert!(site.host.log().matches("disturbed").count() > before);
}

#[test]
fn parameters_that_were_turned_back_are_set_again() {
    let world = World::new();
    let site = Site::new(&world, "");
    site.survives(LOOKED_AT, "sysctl -q net.ipv4.ip_forward=0");
    site.survives(LOOKED_AT, "sysctl -q net.ipv6.conf.all.forwarding=0");
    let local = format!("net.ipv4.conf.{}.route_localnet", site.bridge);
    site.host.netns.run(&format!("sysctl -q {local}=0"));
    eventually("it is on again", || {
        let now = site.host.netns.run(&format!("sysctl -n {local}"));
        if now.trim() == "1" { Ok(()) } else { Err(now) }
    });
}

/// The rules of iptables, of both families.
fn rules(host: &Host, kind: &str) -> Vec<String> {
    let list = |program: String| host.netns.run(&format!("{program} -S"));
    let text = list(format!("iptables-{kind}")) + &list(format!("ip6tables-{kind}"));
    text.lines().map(str::to_owned).collect()
}

/// Another program's chains would drop: it gets one rule in each, and keeps it.
fn chains_that_drop_get_a_rule(kind: &str, time: Duration) {
    let world = World::new();
    let site = Site::new(&world, "");
    let netns = &site.host.netns;
    netns.run("sysctl -q net.bridge.bridge-nf-call-iptables=1");
    netns.run("sysctl -q net.bridge.bridge-nf-call-ip6tables=1");
    let ours = |rules: &[String]| {
        let rules = rules.iter().filter(|rule| rule.contains("netd: "));
        rules.map(|rule| rule.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ours(&rules(&site.host, kind)), [""; 0]);
    netns.run(&format!("iptables-{kind} -P INPUT DROP"));
    netns.run(&format!("iptables-{kind} -P FORWARD DROP"));
    // Of IPv6 only what goes through: neighbours are asked for over it.
    netns.run(&format!("ip6tables-{kind} -P FORWARD DROP"));
    let all = ["INPUT", "FORWARD", "FORWARD"];
    let there = || {
        let found = ours(&rules(&site.host, kind));
        if found == all { Ok(()) } else { Err(found) }
    };
    eventually("it works beside chains that drop", || site.works());
    eventually("the rules are there", there);
    // Names, too; and nothing else.
    let gateway = "10.21.0.1".parse().unwrap();
    let known = Host::ask_name(&site.db.netns, gateway, "web A");
    assert_eq!(known, ["10.21.0.2"]);
    assert!(site.lan.pings_in_vain("192.0.2.1".parse().unwrap()));
    let flush = || {
        netns.run(&format!("iptables-{kind} -F"));
        netns.run(&format!("ip6tables-{kind} -F"));
        eventually("it works after iptables -F", || site.works());
    };
    in_time(time, "iptables -F", flush, || {
        eventually("the rules are there again", there);
    });
    assert_eq!(site.host.client().status().problems, Vec::<String>::new());
}

#[test]
fn chains_of_iptables_that_drop_get_a_rule() {
    chains_that_drop_get_a_rule("nft", PROMISED);
}

#[test]
fn chains_of_legacy_iptables_that_drop_get_a_rule() {
    chains_that_drop_get_a_rule("legacy", LOOKED_AT);
}

#[test]
fn chains_of_somebodys_nft_that_drop_get_a_rule() {
    let world = World::new();
    let site = Site::new(&world, "");
    site.host.netns.run("nft add table inet mine");
    let chain = "{ type filter hook forward priority 10 ; policy drop ; }";
    site.host.netns.run(&format!("nft add chain inet mine forward {chain}"));
    eventually("it works beside a chain that drops", || site.works());
    let rules = site.host.netns.run("nft list chain inet mine forward");
    assert_eq!(rules.matches("accept").count(), 1, "{rules}");
}

#[test]
fn rules_are_heard_of_after_many_ports_came_and_went() {
    let world = World::new();
    let site = Site::new(&world, "");
    let many = world.container("many");
    let mut attach = many.to("app");
    attach.ports = vec!["20000-20099:30000-30099".parse().unwrap()];
    site.host.client().attach(&attach);
    site.host.netns.run("nft add table inet mine");
    let chain = "{ type filter hook forward priority 10 ; policy drop ; }";
    site.host.netns.run(&format!("nft add chain inet mine forward {chain}"));
    eventually("it works beside a chain that drops", || site.works());
    site.host.client().detach("many");
    site.host.netns.run("nft flush chain inet mine forward");
    eventually("it works again", || site.works());
}

#[test]
fn where_nothing_is_to_be_inserted_it_is_reported() {
    let world = World::new();
    let site = Site::new(&world, "[firewall]\ncoexist = \"report\"\n");
    site.host.netns.run("iptables-nft -P FORWARD DROP");
    eventually("it is reported", || {
        let problems = site.host.client().status().problems;
        let named = |problem: &String| {
            problem.contains("ip filter FORWARD drops") && problem.contains("iptables-nft -w -I")
        };
        if problems.iter().any(named) { Ok(()) } else { Err(problems) }
    });
    assert_eq!(site.host.netns.run("iptables-nft -S").lines().count(), 3);
    assert!(site.works().is_err());
    site.host.netns.run("iptables-nft -P FORWARD ACCEPT");
    site.works().unwrap();
    eventually("it is reported no more", || {
        let problems = site.host.client().status().problems;
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    });
}

#[test]
fn a_link_of_others_in_the_place_of_a_bridge_is_named_until_it_is_gone() {
    let world = World::new();
    let mut site = Site::new(&world, "");
    site.host.kill();
    let bridge = site.bridge.clone();
    let netns = &site.host.netns;
    netns.run(&format!("ip link delete {bridge}"));
    // The end of a pair: of its going the watch hears nothing.
    netns.run(&format!("ip link add {bridge} type veth peer name theirs"));
    site.host.start();
    let named = |said: &[String]| {
        let words = [&*format!("a link {bridge} exists already"), "ip link delete", "network app"];
        said.iter().any(|one| words.iter().all(|word| one.contains(word)))
    };
    let problems = site.host.client().status().problems;
    assert!(named(&problems), "{problems:?}");
    for _ in 0..2 {
        let reconciled = site.host.client().call(&Reconcile {}).unwrap();
        assert!(named(&reconciled.problems), "{reconciled:?}");
    }
    let said = site.host.netctl(&["reconcile"]).success().to_owned();
    assert!(said.contains(&format!("not put right: a link {bridge} exists already")), "{said}");
    // As long as it is there nobody is told again and again.
    assert_eq!(site.host.log().matches("disturbed by somebody else").count(), 0);
    site.host.netns.run("ip link delete theirs");
    eventually("it works again", || site.works());
    eventually("the host is as before", || site.host.snapshot().same_as(&site.before));
    assert_eq!(site.host.client().status().problems, [""; 0]);
}
