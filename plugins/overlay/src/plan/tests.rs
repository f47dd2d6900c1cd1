use kernel::links::Link;

use super::*;

fn network(vni: u32) -> Tunnel {
    Tunnel {
        name: format!("nx{vni:06x}"),
        vni,
        local: "192.0.2.1".parse().unwrap(),
        port: 4789,
        mac: [2, b'n', b'x', 0, 0x10, 1],
        mtu: 1450,
        bridge: Some("br-a".into()),
        broadcast: false,
        routed: false,
        addresses: Vec::new(),
    }
}

fn ingress() -> Tunnel {
    Tunnel {
        name: "nx001000".into(),
        vni: 0x1000,
        bridge: None,
        addresses: vec!["100.64.0.1/16".parse().unwrap()],
        ..network(0x1001)
    }
}

/// What the kernel has once everything was done.
fn settled(tunnels: &[Tunnel]) -> Observed {
    let mut observed = Observed { bridges: [("br-a".into(), 5)].into(), ..Observed::default() };
    for (index, tunnel) in (10..).zip(tunnels) {
        let link = Link {
            index,
            name: tunnel.name.clone(),
            kind: Some("vxlan".into()),
            up: true,
            mtu: tunnel.mtu,
            mac: Some(tunnel.mac),
            group: TUNNELS,
            master: tunnel.bridge.as_ref().map(|_| 5),
            ..Link::default()
        };
        let flags = tunnel.bridge.as_ref().map(|_| PortFlags::tuned(tunnel.broadcast));
        observed.tunnels.push(Found {
            link,
            vni: tunnel.vni,
            local: Some(tunnel.local),
            port: tunnel.port,
            learning: false,
            flags: flags.unwrap_or_default(),
        });
        let address =
            |address: &IpNetwork| Address { link: index, address: *address, link_local: false };
        observed.addresses.extend(tunnel.addresses.iter().map(address));
        let parameters = tunnel.parameters().into_iter();
        observed.parameters.extend(parameters.map(|(path, value)| (path, value.to_owned())));
        observed.facts.extend(tunnel.facts());
    }
    observed
}

fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::to_string).collect()
}

fn vtep(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

#[test]
fn devices_out_of_nothing() {
    assert_eq!(
        lines(&everything(&[network(0x1001), ingress()], &Observed::default())),
        [
            "make the VXLAN device nx001001 of VNI 4097 at 192.0.2.1 port 4789 with mtu 1450 on br-a",
            "add the guard of VXLAN at port 4789 to the firewall",
            "add the guard of VNI 4097 to the firewall",
            "make the VXLAN device nx001000 of VNI 4096 at 192.0.2.1 port 4789 with mtu 1450",
            "set net.ipv4.conf.nx001000.rp_filter to 2",
            "set net.ipv6.conf.nx001000.disable_ipv6 to 1",
            "add 100.64.0.1/16 to nx001000",
            "add the guard of VNI 4096 to the firewall",
        ]
    );
}

#[test]
fn what_is_settled_needs_nothing() {
    let mut tunnels = [network(0x1001), ingress()];
    assert_eq!(everything(&tunnels, &settled(&tunnels)), []);
    tunnels[0].broadcast = true;
    assert_eq!(everything(&tunnels, &settled(&tunnels)), []);
}

#[test]
fn what_differs_is_put_right() {
    let tunnels = [network(0x1001), ingress()];
    let mut observed = settled(&tunnels);
    let found = &mut observed.tunnels[0];
    found.local = Some(vtep(9));
    found.flags.learning = true;
    found.link.mtu = 1400;
    found.link.up = false;
    observed.tunnels[1].link.master = Some(7);
    observed.addresses[0].address = "100.64.0.9/16".parse().unwrap();
    assert_eq!(
        lines(&everything(&tunnels, &observed)),
        [
            "have nx001001 send from 192.0.2.1",
            "change the VXLAN device nx001001: mtu 1450 up",
            "set the port flags of nx001001",
            "delete 100.64.0.9/16 from nx001000",
            "add 100.64.0.1/16 to nx001000",
        ]
    );
    let mut observed = settled(&tunnels);
    observed.tunnels[0].link.master = None;
    assert_eq!(
        lines(&everything(&tunnels, &observed)),
        ["change the VXLAN device nx001001: on br-a", "set the port flags of nx001001"]
    );
}

#[test]
fn what_cannot_be_changed_is_made_anew() {
    type Spoil = fn(&mut Found);
    let spoilt: [Spoil; 4] = [
        |found| found.port = 8472,
        |found| found.vni = 1,
        |found| found.learning = true,
        |found| found.local = Some("2001:db8::1".parse().unwrap()),
    ];
    for spoil in spoilt {
        let tunnels = [network(0x1001)];
        let mut observed = settled(&tunnels);
        spoil(&mut observed.tunnels[0]);
        let steps = lines(&everything(&tunnels, &observed));
        assert_eq!(steps[0], "remove the VXLAN device nx001001");
        assert!(steps[1].starts_with("make the VXLAN device nx001001"), "{steps:?}");
        assert_eq!(steps.len(), 2);
    }
}

#[test]
fn only_what_is_ours_goes_and_what_is_known_of_others_stays() {
    let tunnels = [network(0x1001), network(0x1002), ingress()];
    let mut observed = settled(&tunnels);
    observed.tunnels.push(Found::default());
    observed.facts.insert(Fact::Vtep(vtep(2)));
    observed.facts.insert(Fact::Tunnel { vtep: vtep(2), vni: 0x1001 });
    observed.facts.insert(Fact::Tunnel { vtep: vtep(2), vni: 0x1002 });
    let gone = [
        "remove the VXLAN device nx001002",
        "delete the guard of VNI 4098 from the firewall",
        "delete the node at 192.0.2.2 on VNI 4098 from the firewall",
    ];
    let kept = [network(0x1001), ingress()];
    assert_eq!(lines(&everything(&kept, &observed)), gone);
    assert_eq!(lines(&without(0x1002, &observed, Some(0x1000))), gone);
    let all = everything(&[], &observed);
    assert_eq!(all.len(), 3 + observed.facts.len());
}

#[test]
fn the_last_network_takes_the_rest_along() {
    let tunnels = [network(0x1001), ingress()];
    let mut observed = settled(&tunnels);
    observed.facts.insert(Fact::Vtep(vtep(2)));
    let steps = without(0x1001, &observed, Some(0x1000));
    assert_eq!(steps.len(), 2 + observed.facts.len());
}
