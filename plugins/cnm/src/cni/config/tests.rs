use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{bandwidth::Limit, cni::addressing::Ipam};

fn parse(config: &Value) -> Result<Config> {
    Config::parse(&Header::parse(config.to_string().as_bytes(), Verb::Add)?)
}

fn parsed(more: Value) -> Config {
    let mut config = json!({"cniVersion": "1.0.0", "name": "pods", "type": "netd-bridge"});
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    parse(&config).expect("a configuration")
}

#[test]
fn what_every_verb_needs() {
    let header = |text: &str| Header::parse(text.as_bytes(), Verb::Add);
    let good =
        header(r#"{"NAME":"pods","CniVersion":"0.4.0","Type":"netd-bridge"}"#).expect("any case");
    assert_eq!((good.version, good.name.as_str()), (Version::V0_4_0, "pods"));
    assert_eq!(good.kind.as_deref(), Some("netd-bridge"));
    assert_eq!(header(r#"{"name":"pods"}"#).expect("an old one").version, Version::V0_1_0);
    assert_eq!(
        header(r#"{"name":"pods","cniVersion":""}"#).expect("same").version,
        Version::V0_1_0
    );
    for (text, code) in [
        ("", 6),
        ("{", 6),
        ("[]", 6),
        ("7", 6),
        (r#"{"name":"pods","cniVersion":"2.0.0"}"#, 1),
        (r#"{"name":"pods","cniVersion":1}"#, 7),
        (r#"{"cniVersion":"1.0.0"}"#, 7),
        (r#"{"cniVersion":"1.0.0","name":""}"#, 7),
        (r#"{"cniVersion":"1.0.0","name":"-a"}"#, 7),
        (r#"{"cniVersion":"1.0.0","name":7}"#, 7),
        (r#"{"cniVersion":"1.0.0","name":"pods","ipam":{"type":"a/b"}}"#, 7),
    ] {
        assert_eq!(header(text).expect_err(text).code, code, "{text}");
    }
    let unknown = header(r#"{"name":"pods","cniVersion":"2.0.0"}"#).expect_err("unknown");
    assert!(unknown.details.contains("1.1.0"), "{}", unknown.details);
}

#[test]
fn a_bare_configuration_is_left_to_netd() {
    let config = parsed(json!({}));
    assert_eq!(config.ipam, Ipam::Left);
    assert!(config.masquerade && !config.hairpin && config.routes.is_none());
    // What asks for nothing is nothing, and what is not known is another's.
    let nothing = parsed(json!({
        "vlan": 0, "vlanTrunk": [], "macspoofchk": false, "mtu": 0, "bridge": "", "prevResult": null,
        "runtimeConfig": null, "args": {"podman_labels": {}}, "capabilities": {"x": true},
        "ipRange": 7, "cni.dev/x": 1,
    }));
    assert_eq!((nothing.mtu, nothing.bridge), (None, None));
}

#[test]
fn the_words_of_the_reference() {
    let config = parsed(json!({
        "BRIDGE": "cni0", "mtu": 1400, "isgateway": true, "isDefaultGateway": true, "hairpinMode": true,
        "dns": {"nameservers": ["10.0.0.1"], "domain": "example.com"},
        "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": "/x", "ipRange": "y"},
    }));
    assert_eq!(config.bridge.as_deref(), Some("cni0"));
    assert_eq!(config.mtu, Some(1400));
    assert!(!config.masquerade, "which is so unless told there");
    assert!(config.hairpin);
    let routes = config.routes.expect("told");
    let all: Vec<_> = routes.iter().map(|route| route.dst.to_string()).collect();
    assert_eq!(all, ["0.0.0.0/0", "::/0"]);
    assert_eq!(config.dns.domain.as_deref(), Some("example.com"));
    let none = parsed(json!({"ipam": {}}));
    assert_eq!(none.ipam, Ipam::Nobody);
    let delegated = parsed(json!({"ipam": {"type": "dhcp", "routes": 7}}));
    assert_eq!(delegated.ipam, Ipam::Delegated);
}

#[test]
fn aliases_have_two_shapes() {
    let of = |aliases: Value| parsed(json!({"runtimeConfig": {"aliases": aliases}})).aliases;
    let names =
        |names: &[&str]| names.iter().map(|n| n.parse().expect("a name")).collect::<Vec<_>>();
    assert_eq!(of(json!(["a", "b", "a", ""])), names(&["a", "b"]));
    assert_eq!(of(json!({"pods": ["a"], "other": ["b"]})), names(&["a"]));
    assert_eq!(of(json!({"other": ["b"]})), names(&[]));
    assert_eq!(of(Value::Null), names(&[]));
}

#[test]
fn ports_as_go_writes_them() {
    let mappings = json!([
        {"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""},
        {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "::1"},
        {"hostPort": 8080, "containerPort": 80},
    ]);
    let ports = parsed(json!({"RuntimeConfig": {"PortMappings": mappings}})).ports;
    let all: Vec<_> = ports.iter().map(Port::to_string).collect();
    assert_eq!(all, ["8080->80/tcp", "[::1]:53->53/udp"]);
}

#[test]
fn limits_are_in_bits_and_what_leaves_them_open_is_none() {
    let of = |rates: Value| parsed(json!({"runtimeConfig": {"bandwidth": rates}})).bandwidth;
    let limit = |rate, burst| Some(Limit { rate, burst });
    assert_eq!(of(json!({"IngressRate": 0, "IngressBurst": 4_294_967_295_u64})), None);
    assert_eq!(of(Value::Null), None);
    assert_eq!(
        of(json!({"EgressRate": 1000, "EgressBurst": 4_294_967_295_u64, "IngressRate": 0})),
        Some(Bandwidth { ingress: None, egress: limit(1000, None) })
    );
    assert_eq!(
        of(json!({"ingressRate": 8, "ingressBurst": 9, "egressrate": 16})),
        Some(Bandwidth { ingress: limit(8, Some(9)), egress: limit(16, None) })
    );
    let static_one = parsed(json!({"bandwidth": {"ingressRate": 8}})).bandwidth;
    assert_eq!(static_one, Some(Bandwidth { ingress: limit(8, None), egress: None }));
    for bad in [json!({"ingressRate": 7}), json!({"ingressRate": -1}), json!({"egressRate": "1m"})]
    {
        let config = json!({"cniVersion": "1.0.0", "name": "pods",
            "runtimeConfig": {"bandwidth": bad}});
        let refusal = parse(&config).expect_err("no limit");
        assert!(
            refusal.code == 7 && refusal.msg.contains("runtimeConfig.bandwidth."),
            "{refusal:?}"
        );
    }
}

#[test]
fn what_a_gc_leaves() {
    let valid = |more: Value| {
        let mut config = json!({"cniVersion": "1.1.0", "name": "pods"});
        for (key, value) in more.as_object().expect("an object") {
            config[key] = value.clone();
        }
        valid_attachments(
            &Header::parse(config.to_string().as_bytes(), Verb::Add).expect("a configuration"),
        )
    };
    assert_eq!(valid(json!({})), Ok(None));
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(valid(json!({key: null})), Ok(Some(vec![])));
        assert_eq!(valid(json!({key: []})), Ok(Some(vec![])));
        let one = json!({key: [{"containerID": "c", "ifname": "eth0"}]});
        assert_eq!(valid(one), Ok(Some(vec![("c".to_owned(), "eth0".to_owned())])));
        assert!(valid(json!({key: [{"containerID": "c"}]})).is_err());
        assert!(valid(json!({key: "all"})).is_err());
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        Just(Value::from("10.0.0.0/24")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            "[a-zA-Z]{1,8}",
            prop::sample::select(vec![
                "subnet",
                "ranges",
                "type",
                "routes",
                "dst",
                "gw",
                "portMappings",
                "hostPort",
                "ips",
                "address",
                "interface",
                "aliases",
                "dns",
                "servers",
                "rangeStart",
            ])
            .prop_map(str::to_owned),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever stands under the keys that are read, it is read or refused by number.
    #[test]
    fn any_value_is_read_or_refused(
        key in prop::sample::select(vec![
            "ipam", "runtimeConfig", "args", "dns", "prevResult", "bridge", "mtu", "vlan", "ipMasq",
            "cni.dev/valid-attachments",
        ]),
        value in any_json(),
    ) {
        let mut config = json!({"cniVersion": "1.1.0", "name": "pods"});
        config[key] = value;
        match Header::parse(config.to_string().as_bytes(), Verb::Add) {
            Err(refusal) => prop_assert!(matches!(refusal.code, 2 | 7)),
            Ok(header) => {
                for code in [
                    Config::parse(&header).map(drop),
                    header.previous().map(drop),
                    valid_attachments(&header).map(drop),
                ] {
                    prop_assert!(code.err().is_none_or(|refusal| matches!(refusal.code, 2 | 7)));
                }
            }
        }
    }

    /// Keys mean the same in any case.
    #[test]
    fn case_does_not_matter(upper in prop::collection::vec(any::<bool>(), 12)) {
        let cased: String = "portMappings"
            .chars()
            .zip(&upper)
            .map(|(c, up)| if *up { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        let mapping = json!([{"hostPort": 1, "containerPort": 2}]);
        prop_assert_eq!(parsed(json!({"runtimeConfig": {cased: mapping}})).ports.len(), 1);
    }
}
