//! Batches, namespaces and elements against the kernel, seen with iproute2 and nft.

#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

use std::{
    collections::BTreeSet, fs::File, os::fd::AsFd, os::fd::AsRawFd, process::Command, thread,
};

use kernel::{
    Errno, Error,
    bridge_port::{self, Flags},
    firewall::{Fact, Firewall},
    links::{self, Bridge, Change, Link, Pair},
    netlink::{Batch, Socket},
    netns::{self, Netns},
    nft::{Element, Nft, Transaction},
    resolver, routes, sysctl,
};
use nix::sched::{CloneFlags, unshare};

fn leave_home() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
}

fn sandbox() -> (File, Netns) {
    let open = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    let file = thread::spawn(open).join().unwrap();
    let netns = Netns::open(&format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    (file, netns)
}

fn output(command: &str) -> std::process::Output {
    let mut words = command.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().unwrap()
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(command: &str) -> serde_json::Value {
    serde_json::from_str(&run(command)).unwrap()
}

fn make_bridge(socket: &mut Socket, name: &str) -> u32 {
    let mut batch = Batch::new();
    let (mac, mtu, group) = ([2, 0, 0, 0, 0, 1], 1400, 7);
    links::make_bridge(&mut batch, &Bridge { name, mac, mtu, group });
    let mut index = 0;
    socket.run_with(batch, |message| index = Link::parse(message).unwrap().index).unwrap();
    index
}

#[test]
fn the_echo_of_a_pair_tells_its_peer_and_whose_it_is() {
    leave_home();
    let mut socket = Socket::route().unwrap();
    let bridge = make_bridge(&mut socket, "br");
    let (_file, netns) = sandbox();
    let mut batch = Batch::new();
    let pair = Pair {
        host: "host0",
        bridge,
        group: 9,
        netns: netns.as_fd(),
        name: "eth0",
        mac: [2, 0, 0, 0, 0, 2],
        mtu: 1300,
        up: true,
    };
    links::make_pair(&mut batch, &pair);
    let flags = Flags { hairpin: true, isolated: true, learning: false };
    bridge_port::tune(&mut batch, "host0", 1500, flags);
    let mut echo = Link::default();
    socket.run_with(batch, |message| echo = Link::parse(message).unwrap()).unwrap();
    assert_eq!((echo.name.as_str(), echo.group, echo.mtu), ("host0", 9, 1300));
    assert_eq!(echo.peer_nsid, netns.nsid(&mut socket).unwrap());
    let nsid = echo.peer_nsid.unwrap();
    let asked = [nsid, nsid + 1].into();
    assert_eq!(netns::living(&mut socket, &asked).unwrap(), [nsid].into());
    assert_eq!(netns.assign_nsid(&mut socket).unwrap(), echo.peer_nsid.unwrap());
    let home = Netns::own().unwrap();
    let mut inside = netns.inside(&home, Socket::route_small).unwrap().unwrap();
    let end = links::by_index(&mut inside, echo.peer.unwrap()).unwrap().unwrap();
    assert_eq!((end.name.as_str(), end.mac), ("eth0", Some(pair.mac)));
    assert_eq!(links::by_name(&mut socket, "host0").unwrap().unwrap().master, Some(bridge));
    assert_eq!(links::by_name(&mut socket, "none").unwrap(), None);

    let all = links::all(&mut socket).unwrap();
    let free = links::without_master(&mut socket).unwrap();
    let names = |links: &[Link]| links.iter().map(|l| l.name.clone()).collect::<BTreeSet<_>>();
    let expected = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    assert_eq!(names(&all), expected(&["lo", "br", "host0"]));
    assert_eq!(names(&free), expected(&["lo", "br"]));

    let mut batch = Batch::new();
    links::delete_group(&mut batch, 9);
    socket.run(batch).unwrap();
    assert_eq!(links::all(&mut inside).unwrap().len(), 1);
}

/// A port whose line the kernel has seen down passes nothing on as soon as it is up, but does when it
/// is said to be running, and once it is settled.
#[test]
fn a_port_that_is_running_or_settled_passes_on() {
    leave_home();
    let mut socket = Socket::route().unwrap();
    let bridge = make_bridge(&mut socket, "br");
    let forwards = |name: &str| {
        json(&format!("bridge -j link show dev {name}"))[0]["state"].as_str().unwrap().to_owned()
    };
    let (_file, netns) = sandbox();
    let home = Netns::own().unwrap();
    let mut inside = netns.inside(&home, Socket::route_small).unwrap().unwrap();
    let names: Vec<_> = (0..16).map(|n| (format!("host{n}"), format!("eth{n}"))).collect();
    for (n, (host, name)) in names.iter().enumerate() {
        let mut batch = Batch::new();
        let mac = [2, 0, 0, 0, 1, u8::try_from(n).unwrap()];
        let (group, mtu, netns) = (9, 1300, netns.as_fd());
        links::make_pair(
            &mut batch,
            &Pair { host, bridge, group, netns, name, mac, mtu, up: true },
        );
        socket.run(batch).unwrap();
    }
    let set = |socket: &mut Socket, name: &str, up: bool| {
        let mut batch = Batch::new();
        links::change(&mut batch, name, &Change { up: Some(up), ..Change::default() });
        socket.run(batch).unwrap();
    };
    for (host, name) in &names {
        // Its other end is down, which the kernel notes within a second.
        while links::is_running(&socket, host).unwrap() {
            thread::yield_now();
        }
        assert_eq!(forwards(host), "disabled");
        set(&mut socket, host, false);
        set(&mut inside, name, true);
        set(&mut socket, host, true);
        if !links::is_running(&socket, host).unwrap() {
            links::settle(&socket, host).unwrap();
        }
        assert!(links::is_running(&socket, host).unwrap());
        assert_eq!(forwards(host), "forwarding");
    }
}

#[test]
fn a_refusal_names_the_message_and_gives_the_kernels_words() {
    leave_home();
    let mut socket = Socket::route().unwrap();
    let index = make_bridge(&mut socket, "br");
    let mut batch = Batch::new();
    routes::add_address(&mut batch, index, "10.0.0.1/24".parse().unwrap());
    routes::add_default_route(&mut batch, index, "192.0.2.9".parse().unwrap(), 0);
    links::change(&mut batch, "br", &Change { mtu: Some(1200), ..Change::default() });
    let error = socket.run(batch).unwrap_err();
    assert_eq!(error.index(), Some(1));
    assert_eq!(error.errno(), Some(Errno::ENETUNREACH));
    assert_eq!(error.text(), Some("Nexthop has invalid gateway"));
    assert_eq!(
        error.to_string(),
        "cannot add the default route via 192.0.2.9: Network is unreachable (Nexthop has invalid \
         gateway)"
    );
    // Those before and after it were done, and the socket goes on.
    let link = &json("ip -j addr show dev br")[0];
    assert_eq!((&link["mtu"], &link["addr_info"][0]["local"]), (&1200.into(), &"10.0.0.1".into()));
    socket.run(Batch::new()).unwrap();
    assert_eq!(links::by_index(&mut socket, index).unwrap().unwrap().mtu, 1200);
}

#[test]
fn a_large_batch_is_answered() {
    leave_home();
    let mut socket = Socket::route().unwrap();
    let index = make_bridge(&mut socket, "br");
    let mut batch = Batch::new();
    for n in 0..4000u16 {
        let [high, low] = n.to_be_bytes();
        routes::add_address(&mut batch, index, format!("10.0.{high}.{low}/32").parse().unwrap());
    }
    socket.run(batch).unwrap();
    assert_eq!(routes::addresses(&mut socket).unwrap().len(), 4000);
}

/// It runs itself again, as its own child, without `/proc`.
#[test]
fn what_a_parent_holds_open_is_taken_from_it() {
    const HELD: &str = "NETD_TEST_HELD";
    if let Ok(path) = std::env::var(HELD) {
        run("umount -l /proc");
        Netns::open(&path).unwrap();
        let other = path.replace("/fd/", "/fd/9");
        assert_eq!(Netns::open(&other).unwrap_err().errno(), Some(Errno::ENOENT));
        return;
    }
    leave_home();
    run("mount --make-rprivate /");
    let (file, _netns) = sandbox();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_a_parent_holds_open_is_taken_from_it"])
        .env(HELD, format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

#[test]
fn a_namespace_is_known_by_its_cookie() {
    leave_home();
    let home = Netns::own().unwrap();
    let ((_a, a), (_b, b)) = (sandbox(), sandbox());
    let cookie = |netns: &Netns| {
        netns.inside(&home, || Socket::route_small().unwrap().cookie().unwrap()).unwrap()
    };
    assert_ne!(cookie(&a), cookie(&b));
    assert_eq!(cookie(&a), cookie(&a));
    assert!(a.same_as(&a).unwrap() && !a.same_as(&b).unwrap() && !a.same_as(&home).unwrap());
    assert!(home.same_as(&Netns::own().unwrap()).unwrap(), "it came home");
    a.inside(&home, || sysctl::write("net/ipv4/ip_forward", "1").unwrap()).unwrap();
    let forward = |netns: &Netns| netns.inside(&home, || sysctl::read("net/ipv4/ip_forward"));
    assert_eq!(forward(&a).unwrap().as_deref(), Some("1"));
    assert_ne!(forward(&a).unwrap(), forward(&b).unwrap());
    assert!(!sysctl::write("net/ipv4/nothing", "1").unwrap());
    assert!(matches!(Netns::open("/dev/null"), Err(Error::NoNamespace(_))));
    assert_eq!(Netns::open("/nowhere").unwrap_err().errno(), Some(Errno::ENOENT));
    // With it went what led to the resolver inside.
    let mut ended = Command::new("true").spawn().unwrap();
    let path = format!("/proc/{}/ns/net", ended.id());
    ended.wait().unwrap();
    resolver::forget(&home, &path, Some(cookie(&a))).unwrap();
    assert!(resolver::forget(&home, "/dev/null", None).is_err());
}

#[test]
fn the_uplink_is_that_of_the_default_route() {
    leave_home();
    let mut socket = Socket::route().unwrap();
    assert_eq!(routes::default_route_link(&mut socket).unwrap(), None);
    for (name, net) in [("a", "10.1.0"), ("b", "10.2.0")] {
        run(&format!("ip link add name {name} up type bridge"));
        run(&format!("ip addr add {net}.1/24 dev {name}"));
    }
    run("ip route add default via 10.1.0.2 metric 20");
    run("ip route add default via 10.2.0.2 metric 10");
    let link = links::by_name(&mut socket, "b").unwrap().unwrap().index;
    assert_eq!(routes::default_route_link(&mut socket).unwrap(), Some(link));
}

fn facts() -> Vec<Fact> {
    let publish = |address: Option<&str>, port, to: &str| Fact::Publish {
        protocol: 6,
        address: address.map(|address| address.parse().unwrap()),
        port,
        to: to.parse().unwrap(),
    };
    vec![
        Fact::Bridge("br-0123456789ab".into()),
        Fact::Within("br-0123456789ab".into()),
        Fact::Outward { bridge: "br-0123456789ab".into(), v6: false },
        Fact::Internal("other".into()),
        Fact::Members { bridge: "br-0123456789ab".into(), subnet: "10.1.0.0/16".parse().unwrap() },
        Fact::Members { bridge: "br-0123456789ab".into(), subnet: "fd00::/64".parse().unwrap() },
        publish(None, 8080, "10.1.0.2:80"),
        publish(Some("192.0.2.1"), 8080, "10.1.0.3:80"),
        publish(None, 8080, "[fd00::2]:80"),
        publish(Some("2001:db8::1"), 8080, "[fd00::3]:80"),
    ]
}

#[test]
fn nft_reads_facts_as_they_were_meant() {
    leave_home();
    let mut firewall = Firewall::open().unwrap();
    assert!(!firewall.lay().unwrap());
    firewall.change(&[], &facts()).unwrap();
    let elements = |wanted: &str| {
        let objects = json("nft -j list table inet netd");
        let mut sets = objects["nftables"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|object| ["set", "map"].into_iter().filter_map(|kind| object.get(kind)));
        let set = sets.find(|set| set["name"] == wanted);
        set.unwrap_or_else(|| panic!("there is no set {wanted}"))["elem"].to_string()
    };
    assert_eq!(elements("bridges"), r#"["br-0123456789ab"]"#);
    assert_eq!(elements("within"), r#"[{"concat":["br-0123456789ab","br-0123456789ab"]}]"#);
    assert_eq!(elements("internal"), r#"["other"]"#);
    assert_eq!(
        elements("members4"),
        r#"[{"concat":["br-0123456789ab",{"prefix":{"addr":"10.1.0.0","len":16}}]}]"#
    );
    assert_eq!(elements("publish4"), r#"[[{"concat":["tcp",8080]},{"concat":["10.1.0.2",80]}]]"#);
    assert_eq!(
        elements("publish4_at"),
        r#"[[{"concat":["192.0.2.1","tcp",8080]},{"concat":["10.1.0.3",80]}]]"#
    );
    assert_eq!(
        elements("publish6_at"),
        r#"[[{"concat":["2001:db8::1","tcp",8080]},{"concat":["fd00::3",80]}]]"#
    );
}

#[test]
fn facts_are_idempotent_and_all_or_nothing() {
    leave_home();
    let mut firewall = Firewall::open().unwrap();
    assert_eq!(firewall.facts().unwrap(), BTreeSet::new());
    firewall.lay().unwrap();
    firewall.change(&[], &facts()).unwrap();
    firewall.change(&[], &facts()).unwrap();
    assert_eq!(firewall.facts().unwrap(), facts().into_iter().collect());
    // The same port to another container is refused, and what came with it.
    let other = Fact::Publish {
        protocol: 6,
        address: None,
        port: 8080,
        to: "10.1.0.9:80".parse().unwrap(),
    };
    let error = firewall.change(&[], &[Fact::Bridge("new".into()), other.clone()]).unwrap_err();
    assert!(matches!(error.errno(), Some(Errno::EBUSY | Errno::EEXIST)), "{error}");
    assert_eq!(error.index(), Some(2), "0 is the frame");
    assert!(!firewall.facts().unwrap().contains(&Fact::Bridge("new".into())));
    // In one transaction it changes hands.
    firewall.change(&facts()[6..7], &[other]).unwrap();
    // Laying the rules again keeps what is known; a second value finds it.
    let mut second = Firewall::open().unwrap();
    assert!(matches!(second.lay(), Err(Error::Held { .. })), "the first one owns it");
    assert_eq!(second.facts().unwrap().len(), facts().len(), "who does not own it may read it");
    drop(firewall);
    assert!(!second.lay().unwrap());
    assert_eq!(second.facts().unwrap().len(), facts().len());
    // Nobody else can change what a socket owns.
    assert!(second.is_owner());
    let rules = || run("nft list table inet netd");
    let before = rules();
    run("nft flush ruleset");
    assert!(!output("nft flush chain inet netd forward").status.success());
    assert_eq!(rules(), before);
    // Where tables have no owners, rules that are gone are noticed.
    second.set_owning(false);
    second.lay().unwrap();
    assert!(!second.is_owner());
    run("nft flush chain inet netd forward");
    assert!(second.lay().unwrap());
    assert!(!second.lay().unwrap());
    assert_eq!(second.facts().unwrap().len(), facts().len());
    run("nft flush ruleset");
    assert!(second.lay().unwrap());
    second.change(&[], &facts()).unwrap();
    // The tables of before owners are made anew.
    second.set_owning(true);
    second.lay().unwrap();
    assert!(second.is_owner());
    second.change(&[], &facts()).unwrap();
    // Forgetting takes what is there.
    let all: Vec<_> = second.facts().unwrap().into_iter().collect();
    second.forget(&all[2..]).unwrap();
    second.forget(&all).unwrap();
    second.forget(&all).unwrap();
    assert_eq!(second.facts().unwrap(), BTreeSet::new());
}

#[test]
fn many_elements_are_listed_in_full() {
    leave_home();
    let mut firewall = Firewall::open().unwrap();
    firewall.lay().unwrap();
    let published = |port: u16| Fact::Publish {
        protocol: 17,
        address: None,
        port,
        to: "10.1.0.2:80".parse().unwrap(),
    };
    let many: Vec<_> = (1..=10_000).map(published).collect();
    firewall.change(&[], &many).unwrap();
    assert_eq!(firewall.facts().unwrap().len(), 10_000);
    firewall.change(&many, &[]).unwrap();
    assert_eq!(firewall.facts().unwrap().len(), 0);
}

#[test]
fn without_the_table_nothing_is_listed_and_nothing_added() {
    leave_home();
    let mut nft = Nft::open().unwrap();
    assert_eq!(nft.elements("netd", "bridges").unwrap(), None);
    assert_eq!(nft.rules("netd").unwrap(), 0);
    let mut transaction = Transaction::new("netd");
    let element = Element { set: "bridges", key: vec![0; 16], end: None, data: None };
    transaction.add(&element, "nothing");
    assert_eq!(nft.commit(transaction).unwrap_err().errno(), Some(Errno::ENOENT));
    nft.commit(Transaction::new("netd")).unwrap();
}
