use proptest::prelude::*;

use super::*;

fn parse(document: &Value) -> Outcome {
    Outcome::parse(&Keys::root(document.as_object().expect("an object"))).expect("a result")
}

/// A result with everything in it.
fn full() -> Outcome {
    let host = Interface { name: "cni0".to_owned(), ..Interface::default() };
    let inside = Interface {
        name: "eth0".to_owned(),
        mac: Some("02:00:00:00:00:07".to_owned()),
        mtu: Some(1450),
        sandbox: Some("/run/netns/web".to_owned()),
        socket_path: Some("/run/socket".to_owned()),
        pci_id: Some("0000:00:1f.6".to_owned()),
    };
    let ip = |address: &str, gateway: &str| Ip {
        interface: Some(1),
        address: address.parse().expect("an address"),
        gateway: Some(gateway.parse().expect("an address")),
    };
    let way = |dst: &str, gw: &str| {
        Way::new(dst.parse().expect("a network"), Some(gw.parse().expect("an address")))
    };
    let mut detailed = way("10.0.0.0/8", "10.1.0.1");
    detailed.details.insert("mtu".to_owned(), json!(1400));
    Outcome {
        interfaces: vec![host, inside],
        ips: vec![ip("10.1.0.5/24", "10.1.0.1"), ip("fd00::5/64", "fd00::1")],
        routes: vec![way("0.0.0.0/0", "10.1.0.1"), detailed, way("::/0", "fd00::1")],
        dns: Dns {
            nameservers: vec!["10.1.0.1".to_owned()],
            domain: Some("example.com".to_owned()),
            search: vec!["a.example.com".to_owned()],
            options: vec!["ndots:5".to_owned()],
        },
    }
}

/// The same in each version, compared with the files in `golden`; `NETD_BLESS` writes them.
#[test]
fn a_result_of_every_version() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cni/outcome/golden");
    for version in Version::ALL {
        let text = full().to_text(version).expect("it has addresses");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let mut text = serde_json::to_string_pretty(&document).expect("JSON");
        text.push('\n');
        let path = golden.join(format!("{version}.json"));
        if std::env::var_os("NETD_BLESS").is_some() {
            std::fs::create_dir_all(&golden).expect("a checkout can be written");
            std::fs::write(&path, &text).expect("a checkout can be written");
        }
        let wanted = std::fs::read_to_string(&path).expect("NETD_BLESS=1 writes it");
        // In which order an object's keys are read depends on what else is built.
        let wanted: Value = serde_json::from_str(&wanted).expect("JSON");
        assert_eq!(document, wanted, "{version}");
    }
}

#[test]
fn a_result_is_read_as_it_was_written() {
    let newest = full().to_text(Version::V1_1_0).expect("it has addresses");
    assert_eq!(parse(&serde_json::from_str(&newest).expect("JSON")), full());
    let old = full().to_text(Version::V0_2_0).expect("it has addresses");
    let read = parse(&serde_json::from_str(&old).expect("JSON"));
    assert_eq!(read.ips.len(), 2);
    assert_eq!(read.routes.len(), 3);
    assert_eq!(read.dns, full().dns);
}

#[test]
fn an_old_version_has_no_word_for_no_address() {
    let bare = Outcome { ips: Vec::new(), ..full() };
    for version in Version::ALL {
        assert_eq!(bare.to_text(version).is_ok(), version >= Version::V0_3_0, "{version}");
    }
}

#[test]
fn interface_0_is_not_no_interface() {
    let ip = |interface| Ip { interface, ..full().ips[0] };
    let outcome = Outcome { ips: vec![ip(Some(0)), ip(None)], ..Outcome::default() };
    let text = outcome.to_text(Version::V1_0_0).expect("it has addresses");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["ips"][0]["interface"], 0);
    assert!(document["ips"][1].get("interface").is_none());
}

#[test]
fn what_was_before_stays_before() {
    let before = Outcome {
        interfaces: vec![Interface { name: "lo".to_owned(), ..Interface::default() }],
        ips: vec![Ip { interface: Some(0), ..full().ips[0] }],
        ..Outcome::default()
    };
    let after = full().after(before.clone());
    assert_eq!(after.interfaces[0], before.interfaces[0]);
    assert_eq!(after.ips[0], before.ips[0]);
    assert_eq!(after.ips[1].interface, Some(2), "one further on");
    assert_eq!(after.dns, full().dns);
    let named = Outcome { dns: Dns { domain: Some("x".to_owned()), ..Dns::default() }, ..before };
    assert_eq!(full().after(named).dns.domain.as_deref(), Some("x"));
    assert_eq!(full().after(Outcome::default()), full());
}

proptest! {
    /// From version to version nothing is lost that both can say.
    #[test]
    fn a_result_survives_the_wire(
        ips in prop::collection::vec((any::<[u8; 4]>(), 0u8..=32, prop::option::of(0u64..9)), 0..4),
        at in 2usize..7,
    ) {
        let outcome = Outcome {
            ips: ips
                .into_iter()
                .map(|(ip, prefix, interface)| Ip {
                    interface,
                    address: IpNetwork::new(ip.into(), prefix).expect("a prefix"),
                    gateway: None,
                })
                .collect(),
            ..Outcome::default()
        };
        let text = outcome.to_text(Version::ALL[at]).expect("0.3.0 and later");
        prop_assert_eq!(parse(&serde_json::from_str(&text).expect("JSON")), outcome);
    }
}
