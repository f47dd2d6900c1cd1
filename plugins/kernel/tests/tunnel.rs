//! VXLAN devices, their rows and neighbours against the kernel, seen with iproute2.

#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

use std::{net::IpAddr, process::Command};

use kernel::{
    Errno,
    fdb::{self, Row},
    links::{self, Bridge, Change, Mac},
    neighbours::{self, Neighbour},
    netlink::{Batch, PROTOCOL, Socket},
    nexthop,
    vxlan::{self, PortFlags, Vxlan},
};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

const MAC: Mac = [2, 0, 0, 0, 0, 7];
const VTEP: &str = "192.0.2.9";

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(command: &str) -> Value {
    serde_json::from_str(&run(command)).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vxlan<'a>(name: &'a str, vni: u32, local: &str, bridge: Option<u32>) -> Vxlan<'a> {
    Vxlan {
        name,
        vni,
        local: ip(local),
        port: 4789,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1400,
        group: 9,
        bridge,
    }
}

/// A bridge `br` with a device `vx` on it, both up; their indexes.
fn world(local: &str) -> (Socket, u32, u32) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
    let mut socket = Socket::route().unwrap();
    let mut batch = Batch::new();
    links::make_bridge(&mut batch, &Bridge { name: "br", mac: [2; 6], mtu: 1400, group: 7 });
    socket.run(batch).unwrap();
    let bridge = links::by_name(&mut socket, "br").unwrap().unwrap().index;
    let mut batch = Batch::new();
    vxlan::make(&mut batch, &vxlan("vx", 0x12_3456, local, Some(bridge)));
    vxlan::tune_port(&mut batch, "vx", 1400, false);
    links::change(&mut batch, "vx", &Change { up: Some(true), ..Change::default() });
    socket.run(batch).unwrap();
    let device = links::by_name(&mut socket, "vx").unwrap().unwrap().index;
    (socket, bridge, device)
}

fn write(socket: &mut Socket, device: u32, row: &Row) {
    let mut batch = Batch::new();
    fdb::write(&mut batch, device, row);
    socket.run(batch).unwrap();
}

#[test]
fn a_device_is_read_as_it_was_made() {
    let (mut socket, bridge, device) = world("192.0.2.1");
    run("ip link add foreign type bridge");
    let found = vxlan::all(&mut socket).unwrap();
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!((found.link.index, found.link.master, found.link.group), (device, Some(bridge), 9));
    assert_eq!((found.vni, found.port, found.learning), (0x12_3456, 4789, false));
    assert_eq!((found.local, found.link.up), (Some(ip("192.0.2.1")), true));
    assert_eq!(found.flags, PortFlags::tuned(false));
    let shown = &json("ip -j -d link show vx")[0];
    let data = &shown["linkinfo"]["info_data"];
    assert_eq!((&data["id"], &data["local"]), (&json!(0x12_3456), &json!("192.0.2.1")));
    assert_eq!((&data["port"], &data["ttl"]), (&json!(4789), &json!(64)));
    assert_eq!((&data["learning"], &data["udp_csum"]), (&json!(false), &json!(false)));
    let port = &shown["linkinfo"]["info_slave_data"];
    assert_eq!((&port["learning"], &port["flood"]), (&json!(false), &json!(false)));
    assert_eq!((&port["mcast_flood"], &port["bcast_flood"]), (&json!(false), &json!(false)));
    assert_eq!((&port["neigh_suppress"], &shown["mtu"]), (&json!(true), &json!(1400)));

    let mut batch = Batch::new();
    vxlan::move_to(&mut batch, "vx", 0x12_3456, ip("192.0.2.2"));
    vxlan::tune_port(&mut batch, "vx", 1400, true);
    socket.run(batch).unwrap();
    let found = vxlan::all(&mut socket).unwrap().remove(0);
    assert_eq!(found.local, Some(ip("192.0.2.2")));
    assert_eq!(found.flags, PortFlags::tuned(true));
    assert_eq!(
        json("ip -j -d link show vx")[0]["linkinfo"]["info_slave_data"]["bcast_flood"],
        true
    );
}

#[test]
fn a_device_over_ipv6_has_checksums() {
    let (mut socket, ..) = world("2001:db8::1");
    let found = vxlan::all(&mut socket).unwrap().remove(0);
    assert_eq!(found.local, Some(ip("2001:db8::1")));
    let data = &json("ip -j -d link show vx")[0]["linkinfo"]["info_data"];
    assert_eq!(
        (&data["local6"], &data["udp_zero_csum6_tx"]),
        (&json!("2001:db8::1"), &json!(false))
    );
}

#[test]
fn the_same_number_twice_is_refused_with_the_kernels_words() {
    let (mut socket, ..) = world("192.0.2.1");
    let mut batch = Batch::new();
    vxlan::make(&mut batch, &vxlan("again", 0x12_3456, "192.0.2.1", None));
    let error = socket.run(batch).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
    assert!(error.text().unwrap().contains("VNI"), "{error}");
}

#[test]
fn rows_are_read_as_they_were_written() {
    let (mut socket, _, device) = world("192.0.2.1");
    let rows = [
        Row::Forward { mac: MAC, vtep: ip(VTEP) },
        Row::Flood { vtep: ip("192.0.2.8") },
        Row::Flood { vtep: ip(VTEP) },
        Row::Port { mac: MAC },
    ];
    // Twice: what is there already is as it should be.
    for _ in 0..2 {
        let mut batch = Batch::new();
        rows.iter().for_each(|row| fdb::write(&mut batch, device, row));
        socket.run(batch).unwrap();
        let mut found = fdb::rows(&mut socket, device).unwrap();
        found.sort_unstable();
        assert_eq!(found, rows);
    }
    let shown = run("bridge fdb show dev vx");
    for line in [
        "02:00:00:00:00:07 dst 192.0.2.9 self permanent",
        "02:00:00:00:00:07 master br static",
        "00:00:00:00:00:00 dst 192.0.2.8 self permanent",
        "00:00:00:00:00:00 dst 192.0.2.9 self permanent",
    ] {
        assert!(shown.lines().any(|shown| shown.trim() == line), "{line} in {shown}");
    }
    let mut batch = Batch::new();
    rows.iter().for_each(|row| fdb::delete(&mut batch, device, row));
    socket.run(batch).unwrap();
    assert_eq!(fdb::rows(&mut socket, device).unwrap(), []);
    let mut batch = Batch::new();
    rows.iter().for_each(|row| fdb::delete(&mut batch, device, row));
    assert_eq!(socket.run_but(&[Errno::ENOENT], batch, |_| ()).unwrap(), 0);
}

#[test]
fn a_row_is_written_in_place_of_one_that_leads_elsewhere() {
    for (local, vteps) in [
        ("192.0.2.1", [VTEP, "198.51.100.9", VTEP]),
        ("2001:db8::1", ["2001:db8::9", "2001:db8::10", "2001:db8::9"]),
    ] {
        let (mut socket, _, device) = world(local);
        for vtep in vteps {
            let row = Row::Forward { mac: MAC, vtep: ip(vtep) };
            write(&mut socket, device, &row);
            assert_eq!(fdb::rows(&mut socket, device).unwrap(), [row]);
            assert!(
                run("bridge fdb show dev vx").contains(&format!("07 dst {vtep} self permanent"))
            );
        }
    }
}

#[test]
fn what_the_bridge_learned_is_not_taken_for_written_and_what_others_wrote_is() {
    let (mut socket, _, device) = world("192.0.2.1");
    run("bridge fdb add 02:00:00:00:00:54 dev vx dst 192.0.2.5 port 99 self");
    run("bridge fdb add 02:00:00:00:00:55 dev vx dst 192.0.2.5 self");
    run("bridge fdb add 02:00:00:00:00:56 dev vx master dynamic");
    let last = |last| [2, 0, 0, 0, 0, last];
    let mut found = fdb::rows(&mut socket, device).unwrap();
    found.sort_unstable();
    let plain = Row::Forward { mac: last(0x55), vtep: ip("192.0.2.5") };
    assert_eq!(found, [plain, Row::Odd { mac: last(0x54) }]);
    let mut batch = Batch::new();
    found.iter().for_each(|row| fdb::delete(&mut batch, device, row));
    socket.run(batch).unwrap();
    assert_eq!(fdb::rows(&mut socket, device).unwrap(), []);
}

#[test]
fn a_row_of_a_nexthop_is_told_from_others_and_made_anew() {
    let (mut socket, _, device) = world("192.0.2.1");
    run("ip nexthop add id 5 dev br");
    run("ip nexthop add id 70 via 192.0.2.9 fdb proto 110");
    run("ip nexthop add id 71 group 70 fdb proto 110");
    run("bridge fdb add 02:00:00:00:00:07 dev vx nhid 71 self");
    run("bridge fdb add 02:00:00:00:00:08 dev vx nhid 71 self");
    assert_eq!(nexthop::all(&mut socket).unwrap(), [70, 71], "another's is not of rows");
    let (odd, row) = (Row::Odd { mac: MAC }, Row::Forward { mac: MAC, vtep: ip(VTEP) });
    // What the kernel says that it did it did not.
    write(&mut socket, device, &row);
    assert!(fdb::rows(&mut socket, device).unwrap().contains(&odd));
    let mut batch = Batch::new();
    fdb::delete(&mut batch, device, &odd);
    fdb::write(&mut batch, device, &row);
    nexthop::delete(&mut batch, 70);
    socket.run(batch).unwrap();
    assert_eq!(fdb::rows(&mut socket, device).unwrap(), [row], "the other's went with its nexthop");
    assert!(nexthop::all(&mut socket).unwrap().is_empty());
    assert_eq!(json("ip -j nexthop").as_array().unwrap().len(), 1, "another's stays");
    let mut batch = Batch::new();
    nexthop::delete(&mut batch, 70);
    assert_eq!(socket.run(batch).unwrap_err().errno(), Some(Errno::ENOENT));
}

#[test]
fn neighbours_are_read_as_they_were_written() {
    let (mut socket, bridge, _) = world("192.0.2.1");
    let all = ["10.1.0.2", "fd00::2"].map(|address| Neighbour {
        link: bridge,
        address: ip(address),
        mac: MAC,
    });
    run("ip neighbour add 10.1.0.2 lladdr 02:00:00:00:00:99 dev br nud reachable");
    for _ in 0..2 {
        let mut batch = Batch::new();
        all.iter().for_each(|one| neighbours::write(&mut batch, one));
        socket.run(batch).unwrap();
        assert_eq!(neighbours::of(&mut socket, bridge).unwrap(), all);
    }
    run("ip neighbour add 10.1.0.3 lladdr 02:00:00:00:00:98 dev br nud reachable");
    assert_eq!(neighbours::of(&mut socket, bridge).unwrap(), all, "one that was learned is not");
    let shown = run("ip neighbour show dev br");
    assert!(
        shown.contains(&format!("10.1.0.2 lladdr 02:00:00:00:00:07 PERMANENT proto {PROTOCOL}")),
        "{shown}"
    );
    let mut batch = Batch::new();
    all.iter().for_each(|one| neighbours::delete(&mut batch, bridge, one.address));
    socket.run(batch).unwrap();
    assert_eq!(neighbours::of(&mut socket, bridge).unwrap(), []);
}
