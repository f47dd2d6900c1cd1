//! Which frames go through a port: the kernel's own program beside the same rules in plain words, and
//! what hangs where, seen with tc.

#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

use std::{
    cell::Cell,
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    process::Command,
};

use kernel::{
    Errno,
    guard::{Blocks, Door, Guards},
    links::{self, Mac},
    netlink::{Batch, Socket},
    shaping,
};
use nix::sched::{CloneFlags, unshare};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};

const BLOCKS: Blocks = Blocks { speakers: 0x6e65_7464, no_ipv6: 0x6e65_7466 };
const OWN: Mac = [2, 0, 0, 0, 0, 7];
const OTHER: Mac = [2, 0, 0, 0, 0, 8];
const V4: [&str; 4] = ["10.1.0.2", "10.1.0.3", "0.0.0.0", "10.1.0.9"];
const V6: [&str; 5] = ["fd00::2", "fd00::9", "fe80::7", "::", "ff02::1"];

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A host with two links.
fn host() -> (Socket, [u32; 2]) {
    unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
    run("ip link add nd1 type veth peer name c1");
    run("ip link add nd2 type veth peer name c2");
    let mut socket = Socket::route().unwrap();
    let found = ["nd1", "nd2"].map(|name| links::by_name(&mut socket, name).unwrap().unwrap());
    (socket, found.map(|link| link.index))
}

fn door(addresses: &[&str]) -> Door {
    let addresses: Vec<_> = addresses.iter().map(|address| ip(address)).collect();
    Door {
        gets_no_ipv6: !addresses.iter().any(IpAddr::is_ipv6),
        speakers: Some(Door::speakers(OWN, addresses.into_iter())),
        ..Door::default()
    }
}

fn filters(of: &str) -> String {
    run(&format!("tc filter show {of}"))
}

#[test]
fn a_door_is_hung_and_hung_anew() {
    let (mut socket, [one, two]) = host();
    let mut guards = Guards::open(&mut socket, BLOCKS).unwrap();
    assert!(guards.doors(&mut socket).unwrap().is_empty());
    let (four, six) = (door(&["10.1.0.2"]), door(&["10.1.0.3", "fd00::2"]));
    guards.hang(&mut socket, one, &four).unwrap();
    guards.hang(&mut socket, two, &six).unwrap();
    let hung = [(one, four.clone()), (two, six.clone())].into();
    assert_eq!(guards.doors(&mut socket).unwrap(), hung);
    assert!(filters(&format!("block {}", BLOCKS.speakers)).contains("netd_speakers"));
    assert!(filters(&format!("block {}", BLOCKS.no_ipv6)).contains("netd_no_ipv6"));

    // Another process goes on with what this one knew.
    drop(guards);
    let mut guards = Guards::open(&mut socket, BLOCKS).unwrap();
    assert_eq!(guards.doors(&mut socket).unwrap(), hung);
    let changed = door(&["10.1.0.4"]);
    guards.rehang(&mut socket, two, Some(&six), &changed).unwrap();
    assert_eq!(guards.doors(&mut socket).unwrap(), [(one, four.clone()), (two, changed)].into());

    // What somebody took away is seen.
    assert!(run("tc qdisc show dev nd1").contains("clsact"));
    assert!(run("tc qdisc show dev nd2").contains("ingress"));
    run("tc qdisc del dev nd1 clsact");
    assert!(!guards.doors(&mut socket).unwrap().contains_key(&one));
    guards.rehang(&mut socket, one, None, &four).unwrap();
    run(&format!("tc filter del block {}", BLOCKS.speakers));
    let left = guards.doors(&mut socket).unwrap();
    assert_eq!(left[&one], Door { speakers: None, ..four.clone() });
    guards.rehang(&mut socket, one, left.get(&one), &four).unwrap();
    assert_eq!(guards.doors(&mut socket).unwrap()[&one], four);
    // One may speak as anybody, but for IPv6.
    let silent = Door { sends_no_ipv6: true, ..Door::default() };
    for door in [silent.clone(), Door { detour: true, ..silent }] {
        guards.rehang(&mut socket, one, Some(&four), &door).unwrap();
        assert_eq!(guards.doors(&mut socket).unwrap()[&one], door);
    }

    // The last port takes its block with it, and the next one brings it again.
    run("ip link delete nd1");
    run("ip link delete nd2");
    assert!(guards.doors(&mut socket).unwrap().is_empty());
    run("ip link add nd3 type veth peer name c3");
    let three = links::by_name(&mut socket, "nd3").unwrap().unwrap().index;
    guards.hang(&mut socket, three, &four).unwrap();
    assert_eq!(guards.doors(&mut socket).unwrap(), [(three, four)].into());
}

#[test]
fn a_link_that_is_gone_needs_no_door() {
    let (mut socket, _) = host();
    let mut guards = Guards::open(&mut socket, BLOCKS).unwrap();
    let error = guards.hang(&mut socket, 99, &door(&["10.1.0.2"])).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENODEV));
}

#[test]
fn a_detour_and_a_guard_hang_at_one_door() {
    let (mut socket, [one, _]) = host();
    let mut guards = Guards::open(&mut socket, BLOCKS).unwrap();
    let guarded = Door { detour: true, ..door(&["10.1.0.2"]) };
    guards.hang(&mut socket, one, &guarded).unwrap();
    let mut batch = Batch::new();
    shaping::make_detour(&mut batch, "nq1", 1500, 7);
    socket.run(batch).unwrap();
    let over = links::by_name(&mut socket, "nq1").unwrap().unwrap().index;
    let mut batch = Batch::new();
    shaping::detour(&mut batch, one, over);
    socket.run(batch).unwrap();
    assert_eq!(shaping::detour_of(&mut socket, one).unwrap(), Some(over));
    assert_eq!(guards.doors(&mut socket).unwrap(), [(one, guarded.clone())].into());
    let there = filters("dev nd1 ingress");
    assert!(there.find("netd_speakers") < there.find("mirred"), "{there}");
    // Without the detour the guard stays.
    shaping::no_detour(&mut socket, one).unwrap();
    shaping::no_detour(&mut socket, one).unwrap();
    assert_eq!(shaping::detour_of(&mut socket, one).unwrap(), None);
    assert_eq!(guards.doors(&mut socket).unwrap(), [(one, guarded.clone())].into());
    let plain = Door { detour: false, ..guarded.clone() };
    guards.rehang(&mut socket, one, Some(&guarded), &plain).unwrap();
    assert_eq!(guards.doors(&mut socket).unwrap(), [(one, plain)].into());
}

/// Which frames go through, in plain words.
fn may_pass(own: &BTreeSet<IpAddr>, frame: &[u8]) -> bool {
    let Some((ethernet, packet)) = frame.split_at_checked(14) else { return false };
    if ethernet[6..12] != OWN {
        return false;
    }
    match ethernet[12..] {
        [0x08, 0x00] => packet
            .get(12..16)
            .is_some_and(|from| own.contains(&<[u8; 4]>::try_from(from).unwrap().into())),
        [0x08, 0x06] => packet.get(..28).is_some_and(|arp| {
            arp[..6] == [0, 1, 8, 0, 6, 4]
                && arp[8..14] == OWN
                && own.contains(&<[u8; 4]>::try_from(&arp[14..18]).unwrap().into())
        }),
        [0x86, 0xdd] => own.iter().any(IpAddr::is_ipv6) && may_pass_v6(own, packet),
        _ => false,
    }
}

fn may_pass_v6(own: &BTreeSet<IpAddr>, packet: &[u8]) -> bool {
    let is_fine = |bytes: Option<&[u8]>, or_none: bool| {
        let Some(bytes) = bytes else { return false };
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap());
        own.contains(&address.into())
            || address.is_unicast_link_local()
            || or_none && address.is_unspecified()
    };
    let from = || is_fine(packet.get(8..24), true);
    let Some(first) = packet.get(6) else { return false };
    let (mut next, mut at) = (*first, 40);
    for _ in 0..6 {
        match next {
            58 => {
                return match packet.get(at) {
                    None => false,
                    // "::" as a target is nobody's, and told to nobody.
                    Some(136) => is_fine(packet.get(at + 8..at + 24), true),
                    Some(_) => from(),
                };
            }
            44 => {
                let Some(header) = packet.get(at..at + 4) else { return false };
                if header[2] != 0 || header[3] & 0xf8 != 0 {
                    return from();
                }
                (next, at) = (header[0], at + 8);
            }
            0 | 43 | 60 | 135 | 139 | 140 => {
                let Some(header) = packet.get(at..at + 2) else { return false };
                (next, at) = (header[0], at + 8 * (usize::from(header[1]) + 1));
            }
            _ => return from(),
        }
    }
    false
}

fn arp() -> impl Strategy<Value = Vec<u8>> {
    (select(&[OWN, OTHER][..]), select(&V4[..]), 0..40_u8).prop_map(|(mac, from, bend)| {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend(mac);
        let IpAddr::V4(from) = ip(from) else { unreachable!() };
        arp.extend(from.octets());
        arp.extend([0; 10]);
        // Mostly as it should be.
        if let Some(byte) = arp.get_mut(usize::from(bend)).filter(|_| bend < 6) {
            *byte ^= 1;
        }
        arp
    })
}

fn v4() -> impl Strategy<Value = Vec<u8>> {
    select(&V4[..]).prop_map(|from| {
        let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0];
        let IpAddr::V4(from) = ip(from) else { unreachable!() };
        packet.extend(from.octets());
        packet.extend([10, 1, 0, 1]);
        packet
    })
}

fn v6() -> impl Strategy<Value = Vec<u8>> {
    let extension = (select(&[0_u8, 43, 44, 51, 60, 135, 139, 140][..]), 0..3_u8, 0..4_u8);
    let last = (select(&[6_u8, 17, 50, 58, 59][..]), select(&[128_u8, 133, 134, 135, 136][..]));
    let addresses = (select(&V6[..]), select(&V6[..]));
    (addresses, vec(extension, 0..8), last).prop_map(|((from, target), extensions, last)| {
        let octets = |text: &str| match ip(text) {
            IpAddr::V6(ip) => ip.octets(),
            IpAddr::V4(_) => unreachable!(),
        };
        let first = extensions.first().map_or(last.0, |(kind, ..)| *kind);
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, first, 255];
        packet.extend(octets(from));
        packet.extend([0xff; 16]);
        for (n, (kind, length, offset)) in extensions.iter().enumerate() {
            let next = extensions.get(n + 1).map_or(last.0, |(kind, ..)| *kind);
            // Of a fragment's the second byte is to be passed over, whatever it says.
            let bytes = if *kind == 44 { 8 } else { 8 * (usize::from(*length) + 1) };
            let mut header = vec![0; bytes];
            (header[0], header[1]) = (next, *length);
            if *kind == 44 {
                header[3] = offset << 2;
            }
            packet.extend(header);
        }
        packet.extend([last.1, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(octets(target));
        packet
    })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let carried = prop_oneof![
        4 => v4().prop_map(|packet| ([0x08, 0x00], packet)),
        4 => arp().prop_map(|packet| ([0x08, 0x06], packet)),
        8 => v6().prop_map(|packet| ([0x86, 0xdd], packet)),
        1 => vec(any::<u8>(), 0..64).prop_map(|bytes| ([0x81, 0x00], bytes)),
        1 => (any::<[u8; 2]>(), vec(any::<u8>(), 0..64)),
    ];
    let mac = prop_oneof![5 => Just(OWN), 1 => Just(OTHER)];
    (mac, carried, prop_oneof![3 => Just(usize::MAX), 1 => 0..120_usize]).prop_map(
        |(mac, (carried, packet), length)| {
            let mut frame = vec![0xff; 6];
            frame.extend(mac);
            frame.extend(carried);
            frame.extend(packet);
            // The kernel tries no IP packet that is shorter than its header.
            let least = match carried {
                [0x08, 0x00] => 34,
                [0x86, 0xdd] => 54,
                _ => 15,
            };
            frame.truncate(length.max(least));
            frame.resize(frame.len().max(least), 0);
            frame
        },
    )
}

#[test]
fn the_kernels_program_says_what_the_rules_say() {
    let (mut socket, [one, two]) = host();
    let mut guards = Guards::open(&mut socket, BLOCKS).unwrap();
    for (link, own) in [(one, vec!["10.1.0.2", "10.1.0.3", "fd00::2"]), (two, vec!["10.1.0.2"])] {
        guards.hang(&mut socket, link, &door(&own)).unwrap();
        let own: BTreeSet<_> = own.into_iter().map(ip).collect();
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 5_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let [passed, dropped] = [Cell::new(0), Cell::new(0)];
        runner
            .run(&frame(), |frame| {
                let passes = guards
                    .passes(link, &frame)
                    .map_err(|error| TestCaseError::fail(format!("{error}")))?;
                let count = if passes { &passed } else { &dropped };
                count.set(count.get() + 1);
                prop_assert_eq!(passes, may_pass(&own, &frame));
                Ok(())
            })
            .unwrap();
        let (passed, dropped) = (passed.get(), dropped.get());
        assert!(passed > 100 && dropped > 500, "{passed} passed, {dropped} did not");
    }
    // What is one port's is not another's.
    let frame = |from: [u8; 4]| {
        let mut frame = [vec![0xff; 6], OWN.to_vec(), vec![8, 0, 0x45]].concat();
        frame.resize(14 + 12, 0);
        frame.extend(from);
        frame.extend([10, 1, 0, 1]);
        frame
    };
    assert!(guards.passes(one, &frame([10, 1, 0, 3])).unwrap());
    assert!(!guards.passes(two, &frame([10, 1, 0, 3])).unwrap());
}

#[test]
fn whose_row_another_link_has_is_found_all_the_same() {
    let (mut socket, [one, _]) = host();
    // So many numbers further there is one that has the same row.
    let other = one + (1 << 12);
    run(&format!("ip link add nd3 index {other} type veth peer name c3"));
    let mut guards = Guards::open(&mut socket, BLOCKS).unwrap();
    let frame = |from: IpAddr, mac: Mac| {
        let IpAddr::V4(from) = from else { unreachable!() };
        let mut frame = [vec![0xff; 6], mac.to_vec(), vec![8, 0, 0x45]].concat();
        frame.resize(14 + 12, 0);
        frame.extend(from.octets());
        frame.extend([10, 1, 0, 1]);
        frame
    };
    let own = |n: usize| ip(V4[n]);
    let check = |guards: &Guards, may: [bool; 2]| {
        for (link, n) in [(one, 0), (other, 1)] {
            for from in 0..2 {
                let passes = guards.passes(link, &frame(own(from), OWN)).unwrap();
                assert_eq!(passes, may[n] && from == n, "by {link} from {}", own(from));
                assert!(!guards.passes(link, &frame(own(from), OTHER)).unwrap());
            }
        }
    };
    for (link, n) in [(one, 0), (other, 1)] {
        guards.hang(&mut socket, link, &door(&[V4[n]])).unwrap();
    }
    check(&guards, [true; 2]);
    // Another process finds them, and what one says no more goes from its row too.
    drop(guards);
    let mut guards = Guards::open(&mut socket, BLOCKS).unwrap();
    check(&guards, [true; 2]);
    let silent = Door { speakers: Some(BTreeSet::new()), ..Door::default() };
    guards.rehang(&mut socket, other, Some(&door(&[V4[1]])), &silent).unwrap();
    check(&guards, [true, false]);
    guards.rehang(&mut socket, one, Some(&door(&[V4[0]])), &door(&[V4[0]])).unwrap();
    guards.rehang(&mut socket, one, Some(&door(&[V4[0]])), &silent).unwrap();
    check(&guards, [false; 2]);
}
