use cnm::network::{Network, Subnet};

use super::*;

const ID: &str = "7d1f0c5e2b9a4488a1c07f3d92e6b5148c0d7fa2935be61470dd28f3c9a15e6b";

fn network(options: &[(&str, &str)]) -> Network {
    let mut network: Network = serde_json::from_value(serde_json::json!({
        "id": ID, "name": "lan", "driver": "macvlan", "created": "2026-03-01T09:30:00.000000000Z",
    }))
    .unwrap();
    let mut subnet = Subnet::new("192.0.2.0/24".parse().unwrap());
    subnet.aux.insert("host".into(), "192.0.2.9".parse().unwrap());
    network.subnets.push(subnet);
    network.options = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    network
}

fn segment(options: &[(&str, &str)]) -> Segment {
    Segment::of(&network(options)).unwrap()
}

fn port(number: u8) -> Port {
    Port {
        name: "eth0".into(),
        delivered: false,
        mac: [2, 0, 0, 0, 1, number],
        addresses: vec![format!("192.0.2.{number}/24").parse().unwrap()],
        gateways: vec!["192.0.2.1".parse().unwrap()],
        metric: 0,
        routes: Vec::new(),
        limit: None,
        resolver: None,
    }
}

fn link(index: u32, name: &str, kind: Option<&str>, group: u32) -> Link {
    let kind = kind.map(str::to_owned);
    Link { index, name: name.into(), kind, up: true, mtu: 1500, group, ..Link::default() }
}

fn host(links: Vec<Link>) -> Observed {
    Observed { links, uplink: Some("eth0".into()), ..Observed::default() }
}

fn eth0() -> Observed {
    host(vec![link(1, "lo", None, 0), link(2, "eth0", None, 0)])
}

fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::to_string).collect()
}

/// The macvlan of a port, in the namespace of this id.
fn end(nsid: i32, port: &Port) -> Found {
    let mut link = link(2, &port.name, Some("macvlan"), OWNED);
    link.mac = Some(port.mac);
    Found { nsid: Some(nsid), link, mode: Some(Mode::Bridge) }
}

#[test]
fn a_parent_is_named_chosen_or_nowhere() {
    let base = |options: &[(&str, &str)], observed: &Observed| {
        Base::of(&segment(options), observed).map_err(|error| error.kind)
    };
    let nowhere = Base::Nowhere("dm-7d1f0c5e2b9a".into());
    assert_eq!(base(&[], &eth0()), Ok(Base::Link("eth0".into())));
    assert_eq!(base(&[], &Observed { uplink: None, ..eth0() }), Ok(nowhere.clone()));
    assert_eq!(base(&[("parent", "")], &eth0()), Ok(nowhere.clone()));
    assert_eq!(base(&[("parent", "eth1")], &eth0()), Err(cnm::Kind::NotFound));
    assert_eq!(
        base(&[("parent", "eth0.100")], &eth0()),
        Ok(Base::Vlan { name: "eth0.100".into(), on: "eth0".into(), id: 100 })
    );
    for wrong in ["eth0.0", "eth0.4095", "eth0.x", "eth0.", "eth1.100"] {
        assert_eq!(base(&[("parent", wrong)], &eth0()), Err(cnm::Kind::NotFound), "{wrong}");
    }
    let internal = Network { internal: true, ..network(&[("parent", "eth0")]) };
    let internal = Segment::of(&internal).unwrap();
    assert_eq!(Base::of(&internal, &eth0()).unwrap(), nowhere);
}

#[test]
fn a_vlan_is_made_once_and_removed_with_its_last_network() {
    let one = segment(&[("parent", "eth0.100")]);
    let base = Base::of(&one, &eth0()).unwrap();
    assert_eq!(
        lines(&super::network(&one, &base, &eth0())),
        ["make eth0.100 for VLAN 100 of eth0"]
    );
    let mut there = eth0();
    there.links.push(link(3, "eth0.100", Some("vlan"), OWNED));
    let base = Base::of(&one, &there).unwrap();
    assert_eq!(super::network(&one, &base, &there), []);
    assert_eq!(everything(&[(&one, Some(&base))], &[], &there), []);
    assert_eq!(lines(&everything(&[], &[], &there)), ["remove eth0.100"]);
    // One that somebody else made stays.
    there.links[2].group = 0;
    assert_eq!(everything(&[], &[], &there), []);
    there.links[2].up = false;
    assert_eq!(super::network(&one, &base, &there), []);
}

#[test]
fn an_endpoint_out_of_nothing() {
    let segment = segment(&[("parent", "eth0"), ("host-access", "true"), ("mode", "bridge")]);
    let base = Base::Link("eth0".into());
    assert_eq!(
        lines(&attach(&segment, Some(&base), &port(5))),
        [
            "make the macvlan eth0 with address 02:00:00:00:01:05 in the container on eth0, mode \
             bridge",
            "set eth0 up in the container, address 192.0.2.5/24, default route via 192.0.2.1",
            "lead the host to 192.0.2.5 through mh-7d1f0c5e2b9a from 192.0.2.9",
        ]
    );
}

#[test]
fn the_hosts_end_is_made_and_mended() {
    let segment = segment(&[("parent", "eth0"), ("host-access", "true")]);
    let base = Base::Link("eth0".into());
    let port = port(5);
    let mut observed = eth0();
    observed.elsewhere.push(end(7, &port));
    let all = |observed: &Observed| {
        lines(&everything(&[(&segment, Some(&base))], &[(Some(7), &port, &segment)], observed))
    };
    assert_eq!(
        all(&observed),
        [
            "make the host's macvlan mh-7d1f0c5e2b9a on eth0 with address 02:7d:1f:0c:5e:2b",
            "set net.ipv6.conf.mh-7d1f0c5e2b9a.disable_ipv6 to 1",
            "add 192.0.2.9/32 to mh-7d1f0c5e2b9a",
            "lead the host to 192.0.2.5 through mh-7d1f0c5e2b9a from 192.0.2.9",
        ]
    );
    let name = "mh-7d1f0c5e2b9a";
    let mut own = link(4, name, Some("macvlan"), OWNED);
    own.peer = Some(2);
    own.mac = Some([2, 0x7d, 0x1f, 0x0c, 0x5e, 0x2b]);
    observed.links.push(own.clone());
    observed.macvlans.push(Found { nsid: None, link: own, mode: Some(Mode::Bridge) });
    let address = "192.0.2.9/32".parse().unwrap();
    observed.addresses.push(Address { link: 4, address, link_local: false });
    let parameter = format!("net/ipv6/conf/{name}/disable_ipv6");
    observed.parameters.insert(parameter, "1".into());
    let (to, from) = ("192.0.2.5".parse().unwrap(), Some("192.0.2.9".parse().unwrap()));
    observed.routes.push(HostRoute { link: 4, to, from });
    assert_eq!(all(&observed), Vec::<String>::new(), "what is settled needs nothing");

    observed.routes.push(HostRoute { link: 4, to: "192.0.2.6".parse().unwrap(), from });
    assert_eq!(all(&observed), ["delete the way to 192.0.2.6 through mh-7d1f0c5e2b9a"]);
    observed.macvlans[0].link.peer = Some(3);
    assert_eq!(all(&observed)[0], "remove mh-7d1f0c5e2b9a");
}

#[test]
fn a_macvlan_that_nobody_wants_is_taken_away_and_others_are_not() {
    let segment = segment(&[("parent", "eth0")]);
    let (wanted, other) = (port(5), port(6));
    let mut observed = eth0();
    observed.elsewhere = vec![end(7, &wanted), end(7, &other), end(8, &wanted)];
    let base = Base::Link("eth0".into());
    let steps = everything(&[(&segment, Some(&base))], &[(Some(7), &wanted, &segment)], &observed);
    assert_eq!(
        lines(&steps),
        [
            "take eth0 away from the container in network namespace 7",
            "take eth0 away from the container in network namespace 8",
        ]
    );
}

#[test]
fn options_that_mean_nothing_are_refused() {
    for options in [
        &[("parent", "lo")][..],
        &[("macvlan_mode", "source")],
        &[("bcqueuelen", "-1")],
        &[("host-access", "maybe")],
        &[("host-access", "true"), ("mode", "private")],
    ] {
        let error = Segment::of(&network(options)).expect_err("it means nothing");
        assert_eq!(error.kind, cnm::Kind::Invalid, "{error}");
    }
    assert_eq!(segment(&[("macvlan_mode", "vepa")]).mode, Mode::Vepa);
    assert_eq!(segment(&[("com.docker.network.macvlan_mode", "passthru")]).mode, Mode::Passthru);
    assert_eq!(segment(&[("mode", "private"), ("bcqueuelen", "5")]).queue, Some(5));
}

#[test]
fn what_others_move_is_kept_wherever_it_is_and_goes_from_the_host_when_nobody_waits() {
    let mut port = Port { delivered: true, name: "nce5a20b7791d3".into(), ..port(5) };
    let lan = segment(&[]);
    let made = lines(&attach(&lan, Some(&Base::Link("eth0".into())), &port));
    assert_eq!(
        made,
        [
            "make the macvlan nce5a20b7791d3 with address 02:00:00:00:01:05 on the host, to be moved on \
          eth0, mode bridge"
        ]
    );
    let base = Base::of(&lan, &eth0()).unwrap();
    let mut here = end(0, &port);
    here.nsid = None;
    let mut moved = end(7, &port);
    moved.link.name = "eth0".into();
    let observed = Observed { macvlans: vec![here], elsewhere: vec![moved], ..eth0() };
    let steps =
        |port: &Port| lines(&everything(&[(&lan, Some(&base))], &[(None, port, &lan)], &observed));
    assert_eq!(steps(&port), [""; 0]);
    port.mac[5] = 6;
    port.name = "nc000000000000".into();
    assert_eq!(
        steps(&port),
        ["remove nce5a20b7791d3", "take eth0 away from the container in network namespace 7"]
    );
}
