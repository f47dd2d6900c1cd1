use std::collections::BTreeSet;

use kernel::{links::Link, shaping::Bucket};

use super::*;

const MARKS: Marks = Marks::BRIDGE;

fn segment() -> Segment {
    Segment {
        bridge: "br-a".into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: None,
        gateways: vec!["10.1.0.1/24".parse().unwrap()],
        ipv4: true,
        ipv6: false,
        shards: Vec::new(),
        facts: vec![Fact::Bridge("br-a".into()), Fact::Within("br-a".into())],
    }
}

fn port(number: u8) -> Port {
    Port {
        host: format!("nd{number}"),
        bridge: "br-a".into(),
        name: "eth0".into(),
        delivered: false,
        mac: [2, 0, 0, 0, 1, number],
        addresses: vec![format!("10.1.0.{number}/24").parse().unwrap()],
        gateways: vec!["10.1.0.1".parse().unwrap()],
        routes: Vec::new(),
        bandwidth: None,
        flags: Flags { hairpin: true, ..Flags::default() },
        parameters: Vec::new(),
        neighbours: Vec::new(),
        door: Door { gets_no_ipv6: true, ..Door::default() },
        metric: 0,
        facts: vec![Fact::Publish {
            protocol: 6,
            address: None,
            port: 8000 + u16::from(number),
            to: format!("10.1.0.{number}:80").parse().unwrap(),
        }],
        resolver: None,
    }
}

/// What the kernel has once everything was done.
fn settled(ports: &[Port]) -> Observed {
    let segment = segment();
    let bridge = Link {
        index: 5,
        name: "br-a".into(),
        kind: Some("bridge".into()),
        up: true,
        mtu: 1500,
        mac: Some(segment.mac),
        group: MARKS.owned,
        ..Link::default()
    };
    let end = |(index, port): (u32, &Port)| Link {
        index,
        name: port.host.clone(),
        kind: Some("veth".into()),
        up: true,
        group: MARKS.owned,
        master: Some(5),
        flags: port.flags,
        ..Link::default()
    };
    let mut facts: BTreeSet<_> = segment.facts.iter().cloned().collect();
    facts.extend(ports.iter().flat_map(|port| port.facts.clone()));
    Observed {
        links: std::iter::once(bridge).chain((10..).zip(ports).map(end)).collect(),
        addresses: vec![Address {
            link: 5,
            address: "10.1.0.1/24".parse().unwrap(),
            link_local: false,
        }],
        parameters: segment
            .parameters()
            .into_iter()
            .map(|(path, value)| (path, value.to_owned()))
            .collect(),
        facts,
        uplink_mtu: None,
        kept_mtus: BTreeMap::new(),
        limits: Limits::default(),
        doors: (10..).zip(ports).map(|(index, port)| (index, port.door.clone())).collect(),
        leads: BTreeSet::new(),
        near: [(5, "10.1.0.0/24".parse().unwrap())].into(),
    }
}

fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::to_string).collect()
}

#[test]
fn a_network_out_of_nothing() {
    let observed = Observed { uplink_mtu: Some(9000), ..Observed::default() };
    assert_eq!(
        lines(&network(&segment(), &observed)),
        [
            "make the bridge br-a with address 02:00:00:00:00:01 and mtu 9000",
            "set net.ipv4.ip_forward to 1",
            "set net.ipv4.conf.br-a.route_localnet to 1",
            "set net.ipv6.conf.br-a.disable_ipv6 to 1",
            "add 10.1.0.1/24 to br-a",
            "add the guard of br-a to the firewall",
            "add the traffic within br-a to the firewall",
        ]
    );
}

#[test]
fn an_endpoint_out_of_nothing() {
    assert_eq!(
        lines(&attach(&port(2), Some(1450))),
        [
            "make eth0 with address 02:00:00:00:01:02 and mtu 1450 in the container, its other \
             end nd2 on br-a, hairpin on",
            "set eth0 up in the container, address 10.1.0.2/24, default route via 10.1.0.1",
            "add the port 8002 to 10.1.0.2:80 tcp to the firewall",
            "see to it that the container at nd2 gets no IPv6",
        ]
    );
}

#[test]
fn what_is_settled_needs_nothing() {
    let ports = [port(2), port(3)];
    let observed = settled(&ports);
    assert_eq!(everything(&MARKS, &[segment()], &ports, &observed), []);
    assert_eq!(network(&segment(), &observed), []);
}

#[test]
fn a_route_that_is_gone_alone_is_made_again() {
    let mut observed = settled(&[]);
    observed.near.clear();
    assert_eq!(lines(&network(&segment(), &observed)), ["add the route to 10.1.0.0/24 on br-a"]);
    // With what it belongs to it comes back by itself.
    let mut without = observed.clone();
    without.addresses.clear();
    assert_eq!(lines(&network(&segment(), &without)), ["add 10.1.0.1/24 to br-a"]);
    observed.links[0].up = false;
    assert_eq!(lines(&network(&segment(), &observed)), ["change the bridge br-a: up"]);
    observed.links[0].up = true;
    observed.links[0].master = Some(9);
    assert_eq!(network(&segment(), &observed), [], "it is in the table of the VRF");
    let alone = Segment { gateways: vec!["10.1.0.1/32".parse().unwrap()], ..segment() };
    observed.links[0].master = None;
    observed.addresses[0].address = alone.gateways[0];
    assert_eq!(network(&alone, &observed), [], "a single address has none");
}

#[test]
fn what_differs_is_put_right_and_what_is_not_wanted_goes() {
    let mut observed = settled(&[port(2), port(3), port(4)]);
    observed.links[1].master = None;
    observed.links[3].name = "eth7".into();
    observed.links[0].mtu = 1400;
    observed.links[0].up = false;
    let mut segment = segment();
    segment.mtu = Some(1450);
    assert_eq!(
        lines(&everything(&MARKS, &[segment], &[port(2), port(4)], &observed)),
        [
            "change the bridge br-a: mtu 1450 up",
            "put nd2 on br-a, up",
            "give nd2 and its other end mtu 1450",
            "take nd3 away",
            "delete the port 8003 to 10.1.0.3:80 tcp from the firewall",
            "delete the port 8004 to 10.1.0.4:80 tcp from the firewall",
        ]
    );
    let all = everything(&MARKS, &[], &[], &observed);
    assert!(lines(&all).contains(&"remove the bridge br-a".to_owned()));
    assert!(!lines(&all).iter().any(|line| line.contains("eth7")), "not netd's");
}

#[test]
fn a_port_has_the_flags_and_the_mtu_that_its_network_has_by_now() {
    let flags = Flags { hairpin: true, isolated: true, learning: false };
    let apart = [Port { flags, ..port(2) }];
    let mut observed = settled(&[port(2)]);
    observed.links[0].mtu = 1450;
    observed.links[1].mtu = 1500;
    // Of one that was given no MTU the bridge's is whatever it is.
    assert_eq!(
        lines(&everything(&MARKS, &[segment()], &apart, &observed)),
        ["set hairpin on, isolated on and learning off of nd2"]
    );
    observed.links[1].flags = flags;
    let told = [Segment { mtu: Some(1450), ..segment() }];
    assert_eq!(
        lines(&everything(&MARKS, &told, &apart, &observed)),
        ["give nd2 and its other end mtu 1450"]
    );
    observed.links[1].mtu = 1450;
    assert_eq!(everything(&MARKS, &told, &apart, &observed), []);
}

#[test]
fn a_door_that_somebody_took_away_is_hung_again() {
    let mut port = port(2);
    let speakers = Door::speakers(port.mac, port.addresses.iter().map(IpNetwork::ip));
    port.door = Door { speakers: Some(speakers), ..port.door };
    let words = "see to it that the container at nd2 speaks as 02:00:00:00:01:02, 10.1.0.2 alone, \
                 gets no IPv6";
    assert_eq!(lines(&attach(&port, None)).last().unwrap(), words);
    let ports = std::slice::from_ref(&port);
    let mut observed = settled(ports);
    assert_eq!(everything(&MARKS, &[segment()], ports, &observed), []);
    observed.doors.clear();
    assert_eq!(lines(&everything(&MARKS, &[segment()], ports, &observed)), [words]);
    // One that lets everybody through has none.
    port.door = Door::default();
    assert_eq!(everything(&MARKS, &[segment()], &[port], &observed), []);
}

#[test]
fn a_detour_is_made_again_with_the_door_that_it_hung_at() {
    let mut port = port(2);
    port.bandwidth = Bandwidth::of(None, "5mbit".parse().ok());
    port.door.detour = true;
    let mut observed = limited(&port);
    assert_eq!(everything(&MARKS, &[segment()], std::slice::from_ref(&port), &observed), []);
    observed.doors.clear();
    assert_eq!(
        lines(&everything(&MARKS, &[segment()], &[port], &observed)),
        ["see to it that the container at nd2 gets no IPv6", "limit nd2, from it 5mbit"]
    );
}

/// What the kernel has of a port that is limited both ways, once everything was done.
fn limited(port: &Port) -> Observed {
    let mut observed = settled(std::slice::from_ref(port));
    observed.links[1].mtu = 1500;
    observed.links.push(Link {
        index: 20,
        name: "nq2".into(),
        kind: Some("ifb".into()),
        up: true,
        group: MARKS.owned,
        ..Link::default()
    });
    let seen = |rate| Bucket::of_bits(rate, None, 1500).into();
    observed.limits.buckets = BTreeMap::from([(10, seen(10_000_000)), (20, seen(5_000_000))]);
    observed.limits.detours = BTreeMap::from([(10, 20)]);
    observed
}

#[test]
fn a_limit_is_put_back_and_what_limits_nobody_goes() {
    let mut port = port(2);
    port.bandwidth = Bandwidth::of("10mbit".parse().ok(), "5mbit".parse().ok());
    let steps = lines(&attach(&port, None));
    assert_eq!(steps[1], "limit nd2, to the container 10mbit, from it 5mbit");
    assert!(steps[2].starts_with("set eth0 up"), "nothing goes before: {steps:?}");
    let ports = [port];
    let everything =
        |observed: &Observed| lines(&everything(&MARKS, &[segment()], &ports, observed));
    let right = limited(&ports[0]);
    assert_eq!(everything(&right), [""; 0]);
    let wrong: [fn(&mut Observed); 6] = [
        |o| o.limits.buckets.retain(|link, _| *link != 10),
        |o| o.limits.buckets.extend([(20, Bucket::of_bits(6_000_000, None, 1500).into())]),
        |o| o.limits.detours.clear(),
        |o| o.limits.detours.extend([(10, 21)]),
        |o| o.links[2].up = false,
        |o| drop(o.links.remove(2)),
    ];
    for (n, wrong) in wrong.into_iter().enumerate() {
        let mut observed = limited(&ports[0]);
        wrong(&mut observed);
        assert_eq!(everything(&observed), [steps[1].as_str()], "{n}");
    }
    let mut observed = right;
    let other = |name: &str, group| Link {
        index: 21,
        name: name.into(),
        group,
        ..observed.links[2].clone()
    };
    let more = [other("nq3", MARKS.owned), other("nq4", MARKS.condemned), other("nq5", 0)];
    observed.links.extend(more);
    assert_eq!(everything(&observed), ["take nq3 away"]);
}

#[test]
fn a_step_is_readable_as_json() {
    let step = Step::Learn(port(2).facts.remove(0));
    assert_eq!(
        serde_json::to_string(&step).unwrap(),
        r#"{"learn":{"publish":{"protocol":6,"address":null,"port":8002,"to":"10.1.0.2:80"}}}"#
    );
}

#[test]
fn what_is_left_on_the_host_is_set_up_by_others() {
    let usual = lines(&attach(&port(2), Some(1450)));
    let delivered = Port { delivered: true, ..port(2) };
    let steps = lines(&attach(&delivered, Some(1450)));
    let set_up = |steps: &[String]| steps.iter().any(|step| step.contains("up in the container"));
    assert!(set_up(&usual) && !set_up(&steps));
    assert_eq!(steps.len(), usual.len() - 1);
}

#[test]
fn a_bridge_has_the_mtu_that_it_had_unless_that_is_too_small_for_its_ipv6() {
    let four = Segment { mtu: None, ..segment() };
    let six = Segment { ipv6: true, ..four.clone() };
    let seen = |there: u32, kept: Option<u32>, uplink_mtu: Option<u32>| {
        let mut observed = settled(&[]);
        observed.links[0].mtu = there;
        observed.kept_mtus.extend(kept.map(|mtu| ("br-a".to_owned(), mtu)));
        Observed { uplink_mtu, ..observed }
    };
    let known = seen(1000, Some(1400), Some(9000));
    assert_eq!(mtu(&four, &known), 1400);
    assert_eq!(mtu(&Segment { mtu: Some(1300), ..four.clone() }, &known), 1300);
    let found = seen(1000, None, Some(9000));
    assert_eq!(mtu(&four, &found), 1000);
    assert_eq!(mtu(&six, &found), 9000);
    assert_eq!(mtu(&six, &seen(1000, Some(1200), None)), 1500);
    assert_eq!(mtu(&six, &seen(1000, None, Some(1200))), 1280);
    assert_eq!(
        lines(&network(&Segment { mtu: Some(1500), ..four }, &seen(1000, None, None))),
        ["change the bridge br-a: mtu 1500"]
    );
}
