use proptest::prelude::*;
use serde_json::Map;

use super::*;

fn ipam(block: &Value) -> Result<Ipam> {
    let document: Map<String, Value> = [("ipam".to_owned(), block.clone())].into_iter().collect();
    Ipam::parse(&Keys::root(&document), None)
}

fn subnets_of(block: &Value) -> Vec<Subnet> {
    match ipam(block).expect("a block") {
        Ipam::Given { subnets, .. } => subnets,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_subnet_in_either_shape() {
    let flat = subnets_of(&json!({"type": "host-local", "subnet": "10.1.0.0/24"}));
    let sets = subnets_of(&json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}));
    assert_eq!(flat, sets);
    assert_eq!(flat[0].gateway, Some("10.1.0.1".parse().expect("an address")));
    assert!(flat[0].exclude.is_empty() && flat[0].range.is_none());
    let both = subnets_of(&json!({"ranges": [
        [{"subnet": "10.1.0.0/24"}], [{"Subnet": "fd00::/64", "Gateway": "fd00::9"}]]}));
    assert_eq!(both[1].gateway, Some("fd00::9".parse().expect("an address")));
    // Host bits are the reference's habit.
    let bits = subnets_of(&json!({"type": "host-local", "subnet": "10.1.0.7/24"}));
    assert_eq!(bits[0].subnet.to_string(), "10.1.0.0/24");
}

#[test]
fn several_ranges_of_a_subnet_are_what_is_not_excluded() {
    let subnets = subnets_of(&json!({"type": "host-local", "ranges": [[
        {"subnet": "10.1.0.0/28", "rangeStart": "10.1.0.4", "rangeEnd": "10.1.0.7"},
        {"subnet": "10.1.0.0/28", "rangeStart": "10.1.0.12"},
    ]]}));
    let excluded: Vec<_> = subnets[0].exclude.iter().map(ToString::to_string).collect();
    assert_eq!(excluded, ["10.1.0.1/32", "10.1.0.2/31", "10.1.0.8/30"]);
}

#[test]
fn each_range_set_is_a_set_of_subnets() {
    let subnets = subnets_of(&json!({"type": "host-local", "ranges": [
        [{"subnet": "10.1.0.0/24", "gateway": "10.1.0.9"}, {"subnet": "10.2.0.0/24"},
         {"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.254"}],
        [],
        [{"subnet": "fd00::/64"}],
        [{"subnet": "10.3.0.0/31"}],
    ]}));
    let all: Vec<_> = subnets
        .iter()
        .map(|s| (s.subnet.to_string(), s.set, s.gateway.expect("one").to_string()))
        .collect();
    let subnet = |subnet: &str, set, gateway: &str| (subnet.to_owned(), set, gateway.to_owned());
    let wanted = [
        subnet("10.1.0.0/24", 0, "10.1.0.9"),
        subnet("10.2.0.0/24", 0, "10.2.0.1"),
        subnet("fd00::/64", 0, "fd00::1"),
        subnet("10.3.0.0/31", 1, "10.3.0.0"),
    ];
    assert_eq!(all, wanted);
}

#[test]
fn what_the_runtime_says_of_ranges_is_for_one_container() {
    let document = json!({"ipRanges": [[
        {"Subnet": "10.1.0.0/24", "RangeStart": "10.1.0.40", "RangeEnd": "", "Gateway": ""}]]});
    let runtime = document.as_object().expect("an object");
    let none = Map::new();
    let given = Ipam::parse(&Keys::root(&none), Some(&Keys::root(runtime))).expect("ranges");
    let Ipam::Given { subnets, ranges, moved: false } = given else { panic!("{given:?}") };
    assert!(subnets[0].exclude.is_empty(), "the next container may have others");
    let ranges: Vec<_> = ranges.iter().map(|r| (r.first.to_string(), r.last.to_string())).collect();
    assert_eq!(ranges, [("10.1.0.40".to_owned(), "10.1.0.254".to_owned())]);
}

#[test]
fn a_route_has_what_the_newest_version_can_say() {
    let of = |more: Value| {
        let mut route = json!({"dst": "10.7.0.0/16"});
        for (key, value) in more.as_object().expect("an object") {
            route[key] = value.clone();
        }
        let block = json!({"ipam": {"routes": [route]}});
        let keys = Keys::root(block.as_object().expect("an object"));
        let given = Ipam::Given { subnets: Vec::new(), ranges: Vec::new(), moved: true };
        given.routes(&keys, false).map(|routes| routes.expect("routes")[0])
    };
    let all = of(json!({"MTU": 1400, "advmss": 1360, "Priority": 50, "table": 100, "scope": 253}));
    let all = all.expect("a route");
    assert_eq!((all.mtu, all.advmss, all.priority), (Some(1400), Some(1360), Some(50)));
    assert_eq!((all.table, all.scope), (Some(100), Some(253)));
    assert!(!of(json!({"mtu": 0, "table": null})).expect("nothing is said").has_details());
    for bad in [
        json!({"mtu": -1}),
        json!({"scope": 256}),
        json!({"table": "main"}),
        json!({"priority": 4_294_967_296_u64}),
    ] {
        assert_eq!(of(bad.clone()).expect_err("no route").code, 7, "{bad}");
    }
}

#[test]
fn what_netd_cannot_give_is_said() {
    for (block, code) in [
        (json!({"type": "host-local"}), 7),
        (json!({"type": "host-local", "subnet": "10.1.0.0"}), 2),
        (json!({"type": "host-local", "subnet": "10.1.0.0/33"}), 7),
        (json!({"type": "host-local", "subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}), 7),
        (json!({"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}), 7),
        (
            json!({"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9",
                "rangeEnd": "10.1.0.8"}),
            7,
        ),
        (json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}), 7),
        (json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]}), 2),
        (json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/16"}]]}), 2),
        (json!({"ranges": {}}), 7),
        (json!({"type": "a/b"}), 7),
        (json!([]), 7),
    ] {
        match ipam(&block) {
            Err(refusal) => assert_eq!(refusal.code, code, "{block}"),
            // A single address is a subnet of one, which netd itself refuses.
            Ok(given) => assert_eq!(block["subnet"], "10.1.0.0", "{given:?}"),
        }
    }
}

#[test]
fn a_delegate_is_anybody_else() {
    let of = |block: Value| {
        let document: Map<String, Value> = [("ipam".to_owned(), block)].into_iter().collect();
        delegate(&Keys::root(&document)).expect("a name")
    };
    assert_eq!(of(json!({"type": "host-local"})), None);
    assert_eq!(of(json!({"type": "host-local", "delegate": true})).as_deref(), Some("host-local"));
    assert_eq!(of(json!({"type": "netd"})), None);
    assert_eq!(of(json!({"type": "dhcp"})).as_deref(), Some("dhcp"));
    assert_eq!(of(json!({"type": ""})), None);
    assert_eq!(of(Value::Null), None);
}

#[test]
fn the_whole_of_a_family_has_an_end() {
    let mut networks = Vec::new();
    cover(0, u128::MAX, false, &mut networks);
    assert_eq!(networks.len(), 1);
    assert_eq!(networks[0].to_string(), "::/0");
    let mut networks = Vec::new();
    cover(0, u128::from(u32::MAX), true, &mut networks);
    assert_eq!(networks[0].to_string(), "0.0.0.0/0");
}

proptest! {
    /// Every address of the subnet is either excluded, or in a range, or at an edge, and never two
    /// of these.
    #[test]
    fn what_is_excluded_is_what_is_in_no_range(
        prefix in 24u8..=29,
        ranges in prop::collection::vec((0u32..256, 0u32..256), 1..4),
    ) {
        let subnet: IpNetwork = format!("10.1.0.0/{prefix}").parse().expect("a network");
        let (first, last) = usable(subnet);
        let (low, high) = (number(first), number(last));
        let ranges: Vec<Range> = ranges
            .into_iter()
            .map(|(a, b)| {
                let place = |n: u32| (number(subnet.network()) + u128::from(n)).clamp(low, high);
                let (a, b) = (place(a), place(b));
                Range {
                    subnet,
                    first: address(a.min(b), true),
                    last: address(a.max(b), true),
                    gateway: None,
                    path: String::new(),
                }
            })
            .collect();
        let outside = outside(subnet, &ranges.iter().collect::<Vec<_>>());
        for n in low..=high {
            let ip = address(n, true);
            let within = ranges.iter().any(|r| r.first <= ip && ip <= r.last);
            let excluded = outside.iter().filter(|network| network.contains(ip)).count();
            prop_assert_eq!(excluded, usize::from(!within), "{}", ip);
        }
        prop_assert!(outside.iter().all(|network| network.network() == network.ip()));
    }
}
