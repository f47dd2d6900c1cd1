use proptest::prelude::*;

use super::*;
use crate::Kind;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| net(text)).collect()
}

fn pool(base: &str, size: u8) -> DefaultPool {
    DefaultPool { base: net(base), size }
}

#[test]
fn default_pools_give_hundreds_of_networks_away_from_everybody_else() {
    let pools = default_pools();
    let networks: u32 = pools.iter().map(|pool| 1 << (pool.size - pool.base.prefix())).sum();
    assert_eq!(networks, 1_152);
    for others in [
        "172.16.0.0/12",
        "10.88.0.0/13",
        "10.96.0.0/12",
        "10.244.0.0/16",
        "10.42.0.0/15",
        "192.168.0.0/16",
        "10.0.0.0/16",
        "10.8.0.0/16",
        "10.128.0.0/9",
        "100.64.0.0/10",
        "10.85.0.0/16",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "127.0.0.0/8",
        "198.18.0.0/16",
    ] {
        assert!(pools.iter().all(|pool| !overlaps(pool.base, net(others))), "{others}");
    }
}

#[test]
fn networks_overlap_when_they_share_an_address() {
    for (a, b, shared) in [
        ("10.0.0.0/24", "10.0.0.0/24", true),
        ("10.0.0.0/24", "10.0.0.128/25", true),
        ("10.0.0.0/8", "10.9.8.7/32", true),
        ("10.0.0.77/24", "10.0.0.1/32", true),
        ("10.0.0.0/25", "10.0.0.128/25", false),
        ("0.0.0.0/0", "255.255.255.255/32", true),
        ("::/0", "0.0.0.0/0", false),
        ("::/96", "0.0.0.0/0", false),
        ("fd00::/64", "fd00::1/128", true),
        ("fd00::/64", "fd00:0:0:1::/64", false),
    ] {
        assert_eq!(overlaps(net(a), net(b)), shared, "{a} {b}");
        assert_eq!(overlaps(net(b), net(a)), shared, "{b} {a}");
    }
}

#[test]
fn the_first_subnet_clear_of_everything_is_chosen() {
    let pools = [pool("10.0.0.0/22", 24), pool("10.9.0.0/24", 24)];
    for (taken, chosen) in [
        (&[][..], "10.0.0.0/24"),
        (&["10.0.0.0/24"], "10.0.1.0/24"),
        (&["10.0.1.0/24"], "10.0.0.0/24"),
        (&["10.0.0.255/32", "10.0.1.0/32"], "10.0.2.0/24"),
        (&["10.0.0.0/23", "10.0.2.77/24"], "10.0.3.0/24"),
        (&["10.0.0.0/16"], "10.9.0.0/24"),
        (&["fd00::/8", "::/0"], "10.0.0.0/24"),
        (&["10.0.3.0/24", "10.0.1.7/32", "10.0.0.0/25"], "10.0.2.0/24"),
    ] {
        assert_eq!(choose_subnet(&pools, &nets(taken)).unwrap(), net(chosen), "{taken:?}");
    }
}

#[test]
fn default_routes_and_their_halves_take_nothing() {
    let routes = nets(&["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "::/1", "8000::/1"]);
    let chosen = choose_subnet(&default_pools(), &routes).unwrap();
    assert_eq!(chosen, net("10.76.0.0/24"));
    assert!(choose_ula(1, &routes).is_ok());
    let vpn = nets(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]);
    assert_eq!(choose_subnet(&default_pools(), &vpn).unwrap(), net("198.19.0.0/24"));
}

#[test]
fn all_taken_is_said_in_words_people_know() {
    let error = choose_subnet(&[pool("10.0.0.0/23", 24)], &nets(&["10.0.0.1/32", "10.0.1.1/32"]));
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted);
    assert_eq!(
        error.to_string(),
        "all predefined address pools have been fully subnetted (10.0.0.0/23 by /24)"
    );
    assert_eq!(choose_subnet(&[], &[]).unwrap_err().kind(), Kind::Exhausted);
}

#[test]
fn a_pool_that_cannot_be_cut_is_refused() {
    for (base, size, sentence) in [
        (
            "10.0.0.0/24",
            16,
            "invalid default address pool 10.0.0.0/24: subnets of /16 cannot be cut from it",
        ),
        (
            "10.0.0.0/24",
            33,
            "invalid default address pool 10.0.0.0/24: subnets of /33 cannot be cut from it",
        ),
        ("10.0.0.9/24", 24, "invalid default address pool 10.0.0.9/24: it should be 10.0.0.0/24"),
    ] {
        let error = choose_subnet(&[pool(base, size)], &[]).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (sentence, Kind::Invalid));
    }
}

#[test]
fn a_pool_may_reach_the_last_address() {
    let last = pool("255.255.255.0/24", 25);
    let chosen = |taken| choose_subnet(&[last], &nets(taken));
    assert_eq!(chosen(&["255.255.255.0/25"]).unwrap(), net("255.255.255.128/25"));
    assert!(chosen(&["255.255.255.0/24"]).is_err());
    let six = pool("ffff:ffff:ffff:ffff::/64", 65);
    assert!(choose_subnet(&[six], &nets(&["ffff::/16"])).is_err());
    assert_eq!(
        choose_subnet(&[six], &nets(&["ffff:ffff:ffff:ffff::/65"])).unwrap(),
        net("ffff:ffff:ffff:ffff:8000::/65")
    );
    assert_eq!(choose_subnet(&[pool("::/0", 0)], &[]).unwrap(), net("::/0"));
}

#[test]
fn a_thousand_networks_are_chosen_one_after_the_other() {
    let mut taken = Vec::new();
    while let Ok(subnet) = choose_subnet(&default_pools(), &taken) {
        assert!(taken.iter().all(|&other| !overlaps(subnet, other)));
        taken.push(subnet);
    }
    assert_eq!(taken.len(), 1_152);
}

#[test]
fn a_host_has_a_prefix_of_its_own_that_never_changes() {
    // Networks outlive an update of netd: these values must stay what they are.
    assert_eq!(choose_ula(0, &[]).unwrap(), net("fd48:2182:26ff::/64"));
    assert_eq!(choose_ula(1, &[]).unwrap(), net("fd9e:160:293a::/64"));
    assert_eq!(choose_ula(1 << 127, &[]).unwrap(), net("fd9e:6265:a28e::/64"));
}

#[test]
fn every_bit_of_the_host_id_changes_the_prefix() {
    let id = 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978;
    let mut prefixes: Vec<_> =
        (0..128).map(|bit| choose_ula(id ^ (1 << bit), &[]).unwrap()).collect();
    prefixes.push(choose_ula(id, &[]).unwrap());
    assert!(
        prefixes.iter().all(|&prefix| overlaps(prefix, net("fd00::/8")) && prefix.prefix() == 64)
    );
    prefixes.sort();
    prefixes.dedup();
    assert_eq!(prefixes.len(), 129);
}

#[test]
fn a_unique_local_subnet_avoids_what_is_taken() {
    let first = choose_ula(7, &[]).unwrap();
    let second = choose_ula(7, &[first]).unwrap();
    assert!(!overlaps(first, second));
    let prefix = IpNetwork::new(first.ip(), 48).unwrap();
    assert!(overlaps(prefix, second));
    let error = choose_ula(7, &[prefix]).unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted);
    assert_eq!(
        error.to_string(),
        format!("no /64 left in {prefix}, the unique local prefix of this host")
    );
}

fn any_v4(prefixes: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = IpNetwork> {
    // Within 10.0.0.0/16, so that networks meet.
    (any::<u16>(), prefixes).prop_map(|(low, prefix)| {
        let address = Ipv4Addr::from_bits(0x0a00_0000 | u32::from(low));
        network(IpAddr::V4(address), prefix)
    })
}

proptest! {
    #[test]
    fn the_choice_is_that_of_trying_all_subnets_in_turn(
        taken in prop::collection::vec(any_v4(18..=32), 0..40),
        base in any_v4(16..=24),
        more in 0u8..=6,
    ) {
        let base = network(base.network(), base.prefix());
        let pool = DefaultPool { base, size: base.prefix() + more };
        let in_turn = (0u32..1 << more)
            .map(|index| {
                let IpAddr::V4(first) = base.ip() else { unreachable!() };
                let address = first.to_bits() + (index << (32 - pool.size));
                network(IpAddr::V4(Ipv4Addr::from_bits(address)), pool.size)
            })
            .find(|&subnet| taken.iter().all(|other| {
                !subnet.contains(other.network()) && !other.contains(subnet.network())
            }));
        prop_assert_eq!(choose_subnet(&[pool], &taken).ok(), in_turn);
    }
}
