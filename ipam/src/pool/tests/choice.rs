use std::time::Duration;

use super::*;

const NOW: Moment = Moment(0);

#[test]
fn small_subnets_give_all_a_host_may_have() {
    for (subnet, all) in [
        (
            "10.0.0.0/29",
            &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"][..],
        ),
        ("10.0.0.0/30", &["10.0.0.1", "10.0.0.2"]),
        ("10.0.0.0/31", &["10.0.0.0", "10.0.0.1"]),
        ("10.0.0.7/32", &["10.0.0.7"]),
        ("255.255.255.252/30", &["255.255.255.253", "255.255.255.254"]),
        ("255.255.255.254/31", &["255.255.255.254", "255.255.255.255"]),
        ("fd00::/126", &["fd00::1", "fd00::2", "fd00::3"]),
        ("fd00::/127", &["fd00::", "fd00::1"]),
        ("fd00::7/128", &["fd00::7"]),
    ] {
        let mut pool = pool(subnet);
        assert_eq!(pool.utilisation(NOW).total, all.len() as u128, "{subnet}");
        assert_eq!(drain(&mut pool, NOW), all, "{subnet}");
    }
}

#[test]
fn the_end_of_all_addresses_is_no_obstacle() {
    let mut pool = pool("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126");
    let all = drain(&mut pool, NOW);
    assert_eq!(all.len(), 3);
    assert_eq!(all[2], "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    assert!(pool.release(ip(&all[0]), NOW) && pool.release(ip(&all[2]), NOW));
    assert_eq!(drain(&mut pool, NOW), [all[0].clone(), all[2].clone()]);
}

#[test]
fn even_the_whole_address_space_is_a_pool() {
    let mut four = pool("0.0.0.0/0");
    assert_eq!(four.allocate(NOW).unwrap(), ip("0.0.0.1"));
    assert_eq!(four.utilisation(NOW).total, (1 << 32) - 2);
    let mut six = pool("::/0");
    assert_eq!(six.allocate(NOW).unwrap(), ip("::1"));
    assert_eq!(six.utilisation(NOW).total, u128::MAX);
    assert_eq!(six.utilisation(NOW).available, u128::MAX - 1);
}

#[test]
fn a_wide_subnet_starts_after_the_anycast_address() {
    let mut pool = Pool::new(PoolConfig { gateway: Some(ip("fd00::1")), ..config("fd00::/64") });
    let pool = pool.as_mut().unwrap();
    assert_eq!(pool.allocate(NOW).unwrap(), ip("fd00::2"));
    assert_eq!(pool.utilisation(NOW).total, (1 << 64) - 1);
    assert_eq!(pool.utilisation(NOW).reserved, 1);
    pool.allocate_static(ip("fd00::ffff:ffff:ffff:ffff"), NOW).unwrap();
    assert_eq!(pool.allocate(NOW).unwrap(), ip("fd00::3"));
}

#[test]
fn the_next_address_follows_the_last_and_wraps() {
    let mut pool = pool("10.0.0.0/29");
    for _ in 0..5 {
        pool.allocate(NOW).unwrap();
    }
    for address in ["10.0.0.2", "10.0.0.4"] {
        assert!(pool.release(ip(address), NOW));
    }
    assert_eq!(drain(&mut pool, NOW), ["10.0.0.6", "10.0.0.2", "10.0.0.4"]);
}

#[test]
fn a_static_lease_does_not_move_the_search() {
    let mut pool = pool("10.0.0.0/24");
    pool.allocate_static(ip("10.0.0.100"), NOW).unwrap();
    pool.allocate_static(ip("10.0.0.2"), NOW).unwrap();
    assert_eq!(pool.allocate(NOW).unwrap(), ip("10.0.0.1"));
    assert_eq!(pool.allocate(NOW).unwrap(), ip("10.0.0.3"));
}

#[test]
fn a_range_bounds_what_is_chosen() {
    let range = |range: &str| PoolConfig { range: Some(net(range)), ..config("10.0.0.0/24") };
    let chosen = |config| drain(&mut Pool::new(config).unwrap(), NOW);
    // Only the subnet has a network and a broadcast address, its range has none of its own.
    assert_eq!(chosen(range("10.0.0.8/31")), ["10.0.0.8", "10.0.0.9"]);
    assert_eq!(chosen(range("10.0.0.252/30")), ["10.0.0.252", "10.0.0.253", "10.0.0.254"]);
    assert_eq!(chosen(range("10.0.0.0/30")), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert!(chosen(range("10.0.0.0/32")).is_empty());
}

#[test]
fn gateway_auxiliary_and_excluded_addresses_are_left_out() {
    let mut pool = Pool::new(PoolConfig {
        gateway: Some(ip("10.0.0.1")),
        aux: [("nas".to_owned(), ip("10.0.0.6"))].into(),
        exclude: vec![net("10.0.0.2/31"), net("10.0.0.3/32"), net("10.0.0.8/29")],
        ..config("10.0.0.0/28")
    })
    .unwrap();
    let use_of = pool.utilisation(NOW);
    // The exclusions overlap each other and the broadcast address, which count once and not at all.
    assert_eq!((use_of.total, use_of.reserved, use_of.available), (14, 11, 3));
    assert_eq!(drain(&mut pool, NOW), ["10.0.0.4", "10.0.0.5", "10.0.0.7"]);
}

#[test]
fn a_static_address_may_be_excluded_or_outside_the_range() {
    let mut pool = Pool::new(PoolConfig {
        range: Some(net("10.0.0.128/25")),
        exclude: vec![net("10.0.0.192/26")],
        reuse_delay: Duration::from_secs(1),
        ..config("10.0.0.0/24")
    })
    .unwrap();
    for address in ["10.0.0.5", "10.0.0.200"] {
        pool.allocate_static(ip(address), NOW).unwrap();
        assert!(pool.is_leased(ip(address)));
        assert!(pool.release(ip(address), NOW));
    }
    // They were never to be chosen, so there is nothing to wait for.
    assert_eq!(pool.utilisation(NOW).quarantined, 0);
    assert_eq!(drain(&mut pool, Moment(9_000)).len(), 64);
}

#[test]
fn a_static_address_that_somebody_has_is_refused() {
    let mut pool = Pool::new(PoolConfig {
        gateway: Some(ip("10.0.0.1")),
        aux: [("nas".to_owned(), ip("10.0.0.2"))].into(),
        ..config("10.0.0.0/24")
    })
    .unwrap();
    pool.allocate_static(ip("10.0.0.9"), NOW).unwrap();
    for (address, sentence) in [
        ("10.0.0.9", "address 10.0.0.9 is already in use on subnet 10.0.0.0/24"),
        ("10.0.0.1", "address 10.0.0.1 is already in use on subnet 10.0.0.0/24: it is the gateway"),
        (
            "10.0.0.2",
            "address 10.0.0.2 is already in use on subnet 10.0.0.0/24: \
             it is the auxiliary address nas",
        ),
    ] {
        let error = pool.allocate_static(ip(address), NOW).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (sentence, Kind::Exists));
    }
}

#[test]
fn a_static_address_that_no_host_may_have_is_refused() {
    let mut pool = pool("10.0.0.0/24");
    for (address, sentence) in [
        ("10.0.0.0", "invalid address 10.0.0.0: it is the network address of subnet 10.0.0.0/24"),
        (
            "10.0.0.255",
            "invalid address 10.0.0.255: it is the broadcast address of subnet 10.0.0.0/24",
        ),
        (
            "10.0.1.1",
            "invalid address 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
        ),
        ("fd00::1", "invalid address fd00::1: parent subnet is an IPv4 block"),
        ("::a00:1", "invalid address ::a00:1: parent subnet is an IPv4 block"),
    ] {
        for error in [
            pool.allocate_static(ip(address), NOW).unwrap_err(),
            pool.restore(ip(address)).unwrap_err(),
            pool.restore_sticky("web", ip(address)).unwrap_err(),
        ] {
            assert_eq!((error.to_string().as_str(), error.kind()), (sentence, Kind::Invalid));
        }
        assert!(!pool.is_leased(ip(address)));
        assert!(!pool.release(ip(address), NOW));
    }
    assert_eq!(pool.sticky().count(), 0);
}

#[test]
fn an_empty_pool_says_how_many_it_had() {
    let range = Some(net("10.0.0.4/30"));
    let mut ranged = Pool::new(PoolConfig { range, ..config("10.0.0.0/24") }).unwrap();
    let mut whole = pool("10.0.0.0/29");
    drain(&mut ranged, NOW);
    drain(&mut whole, NOW);
    assert_eq!(
        whole.allocate_sticky("web", NOW).unwrap_err().to_string(),
        "no address left in 10.0.0.0/29: 6 of 6 leased"
    );
    assert_eq!(
        ranged.allocate(NOW).unwrap_err().to_string(),
        "no address left in ip-range 10.0.0.4/30 of 10.0.0.0/24: 4 of 4 leased"
    );
}

#[test]
fn a_lease_ends_once() {
    let mut pool = pool("10.0.0.0/24");
    let address = pool.allocate(NOW).unwrap();
    assert!(pool.is_leased(address));
    assert!(pool.release(address, NOW));
    assert!(!pool.release(address, NOW));
    assert!(!pool.is_leased(address));
}

#[test]
fn a_released_address_waits_for_its_delay() {
    let reuse_delay = Duration::from_millis(100);
    let mut pool = Pool::new(PoolConfig { reuse_delay, ..config("10.0.0.0/29") }).unwrap();
    drain(&mut pool, NOW);
    for (address, at) in [("10.0.0.3", 10), ("10.0.0.2", 50), ("10.0.0.5", 60)] {
        assert!(pool.release(ip(address), Moment(at)));
    }
    assert_eq!(pool.utilisation(Moment(109)).quarantined, 3);
    assert_eq!(pool.utilisation(Moment(110)).quarantined, 2);
    assert_eq!(pool.utilisation(Moment(110)).available, 3);
    // At 150 two have waited long enough: the lowest is next after the wrap.
    assert_eq!(pool.allocate(Moment(150)).unwrap(), ip("10.0.0.2"));
    assert_eq!(pool.allocate(Moment(150)).unwrap(), ip("10.0.0.3"));
    assert!(pool.release(ip("10.0.0.1"), Moment(151)));
    // Nothing else is free: the oldest release is the least harm.
    assert_eq!(pool.allocate(Moment(152)).unwrap(), ip("10.0.0.5"));
    assert_eq!(pool.allocate(Moment(152)).unwrap(), ip("10.0.0.1"));
}

#[test]
fn a_delay_is_no_obstacle_for_a_static_address() {
    let reuse_delay = Duration::from_secs(60);
    let mut pool = Pool::new(PoolConfig { reuse_delay, ..config("10.0.0.0/24") }).unwrap();
    let address = pool.allocate(NOW).unwrap();
    pool.release(address, NOW);
    pool.allocate_static(address, NOW).unwrap();
    assert_eq!(pool.utilisation(NOW).quarantined, 0);
    assert!(pool.release(address, Moment(70_000)));
    assert_eq!(pool.utilisation(Moment(129_999)).quarantined, 1);
    assert_eq!(pool.utilisation(Moment(130_000)).quarantined, 0);
}

#[test]
fn leases_survive_a_restart() {
    let mut before = pool("10.0.0.0/29");
    for _ in 0..3 {
        before.allocate(NOW).unwrap();
    }
    before.release(ip("10.0.0.1"), NOW);
    let mut after = restart(&before);
    after.restore(ip("10.0.0.2")).unwrap();
    assert!(after.leases().eq(before.leases()));
    assert_eq!(drain(&mut after, NOW), ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.1"]);
}

#[test]
fn a_lease_put_back_outside_the_range_does_not_move_the_search() {
    let range = Some(net("10.0.0.0/25"));
    let mut pool = Pool::new(PoolConfig { range, ..config("10.0.0.0/24") }).unwrap();
    pool.restore(ip("10.0.0.2")).unwrap();
    pool.restore(ip("10.0.0.200")).unwrap();
    assert_eq!(pool.allocate(NOW).unwrap(), ip("10.0.0.3"));
}

#[test]
fn what_somebody_else_has_cannot_be_put_back() {
    let mut pool = Pool::new(PoolConfig { gateway: Some(ip("10.0.0.1")), ..config("10.0.0.0/24") });
    let error = pool.as_mut().unwrap().restore(ip("10.0.0.1")).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
}

/// Look-ups in the set of free addresses made by one lease, one static lease and two releases.
fn looks(pool: &mut Pool, unused: IpAddr) -> u64 {
    let before = pool.free.looks();
    let address = pool.allocate(NOW).unwrap();
    pool.allocate_static(unused, NOW).unwrap();
    assert!(pool.release(address, NOW));
    assert!(pool.release(unused, NOW));
    pool.advance(NOW);
    pool.free.looks() - before
}

#[test]
fn sixty_five_thousand_leases_need_no_more_look_ups_than_none() {
    let mut pool = pool("10.0.0.0/15");
    let unused = ip("10.1.255.250");
    // 3 to choose, 6 to take an address out of the middle of a run, 7 to merge one with both its
    // neighbours; of these one choice, two takings and two mergings.
    let limit = 3 + 2 * 6 + 2 * 7;
    assert!(looks(&mut pool, unused) <= limit);
    let leases: Vec<_> = (0..65_000).map(|_| pool.allocate(NOW).unwrap()).collect();
    assert!(looks(&mut pool, unused) <= limit);
    // The worst case for intervals: every second address free.
    for address in leases.iter().step_by(2) {
        pool.release(*address, NOW);
    }
    pool.last = None;
    assert!(looks(&mut pool, leases[32_000]) <= limit);
}

#[test]
fn a_pool_never_asked_for_much_stays_small() {
    let mut pool = pool("fd00::/64");
    for _ in 0..1_000 {
        let address = pool.allocate(NOW).unwrap();
        pool.release(address, NOW);
    }
    pool.advance(NOW);
    assert_eq!(pool.leased.len() + pool.waiting.len() + pool.kept.len(), 0);
    assert_eq!(
        pool.free.run_end(pool.free.first().unwrap()),
        Some(u128::from(u64::MAX) | 0xfd << 120)
    );
}

#[test]
fn between_two_addresses_is_chosen_as_everywhere() {
    let mut pool = Pool::new(PoolConfig {
        gateway: Some(ip("10.0.0.1")),
        exclude: vec![net("10.0.0.6/32")],
        reuse_delay: Duration::from_secs(1),
        ..config("10.0.0.0/28")
    })
    .unwrap();
    let between = |pool: &mut Pool, first: &str, last: &str, now| {
        pool.allocate_between(ip(first), ip(last), Moment(now)).map(|ip| ip.to_string())
    };
    let ok = |text: &str| Ok(text.to_owned());
    // Beyond the ends there is nothing, and neither gateway nor exclusion is chosen.
    assert_eq!(between(&mut pool, "9.0.0.0", "10.0.0.2", 0), ok("10.0.0.2"));
    let full = between(&mut pool, "10.0.0.0", "10.0.0.2", 0).unwrap_err();
    assert_eq!(full.kind(), Kind::Exhausted);
    assert_eq!(full.to_string(), "no address left from 10.0.0.0 to 10.0.0.2 in 10.0.0.0/28");
    assert_eq!(between(&mut pool, "10.0.0.5", "10.0.0.7", 0), ok("10.0.0.5"));
    assert_eq!(between(&mut pool, "10.0.0.5", "10.0.0.7", 0), ok("10.0.0.7"));
    assert!(between(&mut pool, "10.0.0.5", "10.0.0.7", 0).is_err());
    // It goes on after the last one, and comes round.
    assert_eq!(between(&mut pool, "10.0.0.3", "10.0.0.8", 0), ok("10.0.0.8"));
    assert_eq!(between(&mut pool, "10.0.0.3", "10.0.0.8", 0), ok("10.0.0.3"));
    // What was just released waits, unless there is nothing else.
    assert!(pool.release(ip("10.0.0.7"), Moment(1)) && pool.release(ip("10.0.0.5"), Moment(2)));
    assert_eq!(between(&mut pool, "10.0.0.4", "10.0.0.8", 3), ok("10.0.0.4"));
    assert_eq!(between(&mut pool, "10.0.0.5", "10.0.0.6", 3), ok("10.0.0.5"));
    assert_eq!(between(&mut pool, "10.0.0.4", "10.0.0.8", 3), ok("10.0.0.7"));
    assert!(between(&mut pool, "10.0.0.9", "10.0.0.3", 3).is_err(), "the wrong way round");
    assert!(between(&mut pool, "fd00::", "fd00::9", 3).is_err(), "another family");
}

#[test]
fn what_was_released_before_a_restart_waits_as_what_is_released_after_it() {
    let delay = Duration::from_secs(60);
    let mut before = Pool::new(PoolConfig { reuse_delay: delay, ..config("10.0.0.0/29") }).unwrap();
    let [a, b] = [1, 2].map(|_| before.allocate(Moment(0)).unwrap());
    before.release(b, Moment(0));
    let mut after = restart(&before);
    for gone in [a, b, ip("10.0.0.0"), ip("192.0.2.1"), ip("fd00::1")] {
        after.let_wait(gone, Moment(5));
    }
    assert!(after.is_leased(a), "somebody has it");
    assert_eq!(after.utilisation(Moment(5)).quarantined, 1);
    let given = drain(&mut after, Moment(5));
    assert_eq!(given.last().map(String::as_str), Some(b.to_string().as_str()), "{given:?}");
    let mut later = restart(&before);
    later.let_wait(b, Moment(5));
    assert_eq!(later.allocate(Moment(60_005)), Ok(b), "its time is over");
}

#[test]
fn another_range_leaves_everybody_what_they_have() {
    let mut pool = pool("10.0.0.0/28");
    let taken: Vec<_> = (0..3).map(|_| pool.allocate(NOW).unwrap()).collect();
    pool.reserve("db", ip("10.0.0.12"), NOW).unwrap();
    assert_eq!(pool.allocate_sticky("web", NOW), Ok(ip("10.0.0.4")));
    pool.release(ip("10.0.0.4"), NOW);
    let mut split = pool.with_range(Some("10.0.0.8/29".parse().unwrap())).unwrap();
    assert_eq!(split.leases().collect::<Vec<_>>(), taken);
    assert_eq!(split.reservation("db"), Some(ip("10.0.0.12")));
    assert_eq!(split.allocate_sticky("web", NOW), Ok(ip("10.0.0.8")), "the other one is beyond");
    let mut rest = drain(&mut split, NOW);
    rest.sort_by_key(|address| ip(address));
    assert_eq!(rest, ["10.0.0.9", "10.0.0.10", "10.0.0.11", "10.0.0.13", "10.0.0.14"]);
    assert!(split.allocate_static(taken[0], NOW).is_err(), "it is leased");
    // Back again: what was beyond is free, and what is leased is not.
    split.release(ip("10.0.0.8"), NOW);
    let mut whole = split.with_range(None).unwrap();
    assert_eq!(whole.allocate_sticky("web", NOW), Ok(ip("10.0.0.8")));
    let mut rest = drain(&mut whole, NOW);
    rest.sort_by_key(|address| ip(address));
    assert_eq!(rest, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"]);
}
