use super::*;
use crate::firewall::BASE;

fn facts() -> Vec<Fact> {
    let publish = |address: Option<&str>, to: &str| Fact::Publish {
        protocol: 17,
        address: address.map(|a| a.parse().unwrap()),
        port: 8080,
        to: to.parse().unwrap(),
    };
    let range = |address: Option<&str>, to: &str| Fact::PublishRange {
        protocol: 132,
        address: address.map(|a| a.parse().unwrap()),
        first: 8000,
        last: 8999,
        to: to.parse().unwrap(),
    };
    let members = |subnet: &str| Fact::Members {
        bridge: "br-0123456789ab".into(),
        subnet: subnet.parse().unwrap(),
    };
    vec![
        Fact::Bridge("br-0123456789ab".into()),
        Fact::Within("a".into()),
        Fact::Between { from: "a".into(), to: "b".into() },
        Fact::Internal("netd0".into()),
        Fact::Outward { bridge: "netd0".into(), v6: false },
        members("10.1.0.0/16"),
        members("10.1.0.4/32"),
        members("fd00:1::/64"),
        publish(None, "10.1.0.2:80"),
        publish(Some("192.0.2.1"), "10.1.0.2:80"),
        publish(None, "[fd00::2]:80"),
        publish(Some("2001:db8::1"), "[fd00::2]:80"),
        range(None, "10.1.0.2"),
        range(Some("192.0.2.1"), "10.1.0.2"),
        range(None, "fd00::2"),
        range(Some("2001:db8::1"), "fd00::2"),
        Fact::Through { bridge: "br-0123456789ab".into(), link: "nx001000".into() },
        Fact::Node { bridge: "a".into(), address: "100.64.0.1".parse().unwrap() },
        Fact::Node { bridge: "a".into(), address: "fd64::1".parse().unwrap() },
        Fact::Halved("a".into()),
        Fact::Near { bridge: "a".into(), start: "100.126.0.0".parse().unwrap() },
        Fact::Near { bridge: "a".into(), start: "fd64::".parse().unwrap() },
        Fact::Nodes { bridge: "a".into(), subnet: "100.126.0.0/16".parse().unwrap() },
        Fact::Nodes { bridge: "a".into(), subnet: "fd64::/64".parse().unwrap() },
        Fact::Kin { bridge: "a".into(), subnet: "10.1.0.0/24".parse().unwrap() },
        Fact::Kin { bridge: "a".into(), subnet: "fd00:1::/64".parse().unwrap() },
        Fact::Routed { bridge: "a".into(), address: "10.1.0.2".parse().unwrap() },
        Fact::Afar("10.1.0.2".parse().unwrap()),
        Fact::VxlanPort(4789),
        Fact::Vni(0x12_3456),
        Fact::Vtep("192.0.2.1".parse().unwrap()),
        Fact::Vtep("2001:db8::1".parse().unwrap()),
        Fact::Tunnel { vtep: "192.0.2.1".parse().unwrap(), vni: 0x12_3456 },
        Fact::Tunnel { vtep: "2001:db8::1".parse().unwrap(), vni: 1 },
        Fact::Outward { bridge: "netd0".into(), v6: true },
        Fact::Outbound { bridge: "netd0".into(), address: "192.0.2.1".parse().unwrap() },
        Fact::Outbound { bridge: "netd0".into(), address: "2001:db8::1".parse().unwrap() },
        Fact::Open { bridge: "netd0".into(), v6: false },
        Fact::Open { bridge: "netd0".into(), v6: true },
        Fact::Gate { bridge: "netd0".into(), v6: false },
        Fact::Gate { bridge: "netd0".into(), v6: true },
        Fact::Trusted { link: "wg0".into(), bridge: "netd0".into() },
        Fact::Admitted { protocol: 17, to: "10.1.0.2:80".parse().unwrap() },
        Fact::Admitted { protocol: 6, to: "[fd00::2]:80".parse().unwrap() },
    ]
}

#[test]
fn a_fact_reads_as_it_was_written() {
    for fact in facts() {
        assert_eq!(Fact::parse(&fact.element()), Some(fact.clone()), "{fact}");
    }
}

#[test]
fn a_published_port_is_padded_field_by_field() {
    let element = facts()[9].element();
    assert_eq!(element.set, "publish4_at");
    assert_eq!(element.key, [192, 0, 2, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0]);
    assert_eq!(element.data.as_deref(), Some(&[10, 1, 0, 2, 0, 80, 0, 0][..]));
}

#[test]
fn published_ports_meet_where_one_is_in_both() {
    let facts = facts();
    let (one, row) = (&facts[8], &facts[12]);
    assert!(one.meets(one) && row.meets(row));
    assert!(!row.meets(one), "another protocol");
    let at = |port| Fact::Publish {
        protocol: 132,
        address: None,
        port,
        to: "10.1.0.9:1".parse().unwrap(),
    };
    assert!(row.meets(&at(8000)) && at(8999).meets(row));
    assert!(!row.meets(&at(7999)) && !row.meets(&at(9000)));
    assert!(!facts[13].meets(&at(8000)) && !facts[0].meets(row));
}

#[test]
fn facts_are_of_sets_that_the_rules_declare() {
    for set in SETS {
        assert!(
            BASE.contains(&format!("set {set} {{")) || BASE.contains(&format!("map {set} {{")),
            "{set}"
        );
    }
    for fact in facts() {
        let element = fact.element();
        assert!(SETS.contains(&element.set), "{fact}");
    }
}

#[test]
fn packets_are_looked_at_closely_where_nodes_or_subnets_may_begin() {
    let starts = |subnet: &str| {
        let fact = Fact::Kin { bridge: "a".into(), subnet: subnet.parse().unwrap() };
        let start = |near| match near {
            Fact::Near { bridge, start } if bridge == "a" => start.to_string(),
            other => panic!("{other}"),
        };
        fact.near().into_iter().map(start).collect::<Vec<_>>()
    };
    assert_eq!(starts("10.1.2.0/24"), ["10.1.0.0"]);
    assert_eq!(starts("10.2.0.0/15"), ["10.2.0.0", "10.3.0.0"]);
    assert_eq!(starts("fd64:1:2::/64"), ["fd64::"]);
    assert_eq!(starts("fd64::/15"), ["fd64::", "fd65::"]);
    assert_eq!(Fact::Bridge("a".into()).near(), []);
}
