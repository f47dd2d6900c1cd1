//! Addresses that are kept for a name.

use super::*;

fn small() -> Pool {
    let config =
        PoolConfig { gateway: Some(ip("10.0.0.1")), ..PoolConfig::new(net("10.0.0.0/29")) };
    Pool::new(config).unwrap()
}

#[test]
fn nobody_else_gets_it_by_chance_or_by_name() {
    let mut pool = small();
    pool.reserve("web", ip("10.0.0.3"), Moment(0)).unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| pool.allocate(Moment(1)).ok()).collect();
    assert_eq!(rest, ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(ip));
    let error = pool.allocate_static(ip("10.0.0.3"), Moment(2)).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    assert!(error.to_string().contains("web"), "{error}");
    assert!(pool.allocate_static_as(Some("db"), ip("10.0.0.3"), Moment(2)).is_err());
    assert!(pool.allocate_between(ip("10.0.0.3"), ip("10.0.0.3"), Moment(2)).is_err());
    pool.allocate_static_as(Some("web"), ip("10.0.0.3"), Moment(3)).unwrap();
    assert!(pool.is_leased(ip("10.0.0.3")));
}

#[test]
fn it_stays_kept_when_its_owner_goes() {
    let mut pool = small();
    pool.reserve("web", ip("10.0.0.2"), Moment(0)).unwrap();
    for _ in 0..2 {
        pool.allocate_static_as(Some("web"), ip("10.0.0.2"), Moment(0)).unwrap();
        assert!(pool.release(ip("10.0.0.2"), Moment(0)));
    }
    assert_eq!(pool.allocate(Moment(1)), Ok(ip("10.0.0.3")));
    assert_eq!(pool.reservation("web"), Some(ip("10.0.0.2")));
    let used = pool.utilisation(Moment(1));
    assert_eq!((used.reserved, used.leased, used.available), (2, 1, 3));
    assert_eq!(pool.unreserve("web"), Some(ip("10.0.0.2")));
    assert_eq!(pool.unreserve("web"), None);
    let used = pool.utilisation(Moment(1));
    assert_eq!((used.reserved, used.leased, used.available), (1, 1, 4));
    let rest: Vec<_> = std::iter::from_fn(|| pool.allocate(Moment(2)).ok()).collect();
    assert!(rest.contains(&ip("10.0.0.2")), "{rest:?}");
}

#[test]
fn an_owner_has_one_and_an_address_one_owner() {
    let mut pool = small();
    pool.reserve("web", ip("10.0.0.2"), Moment(0)).unwrap();
    pool.reserve("web", ip("10.0.0.2"), Moment(0)).unwrap();
    assert_eq!(
        pool.reserve("db", ip("10.0.0.2"), Moment(0)).map_err(|error| error.kind()),
        Err(Kind::Exists)
    );
    pool.reserve("web", ip("10.0.0.5"), Moment(0)).unwrap();
    assert_eq!(pool.reservation("web"), Some(ip("10.0.0.5")));
    pool.reserve("db", ip("10.0.0.2"), Moment(0)).unwrap();
    assert_eq!(
        pool.reserve("db", ip("10.0.0.1"), Moment(0)).map_err(|error| error.kind()),
        Err(Kind::Exists),
        "the gateway's"
    );
    assert_eq!(pool.reservation("db"), Some(ip("10.0.0.2")), "as it was");
}

#[test]
fn one_that_is_leased_is_kept_from_its_release_on() {
    let mut pool = small();
    let address = pool.allocate(Moment(0)).unwrap();
    pool.reserve("web", address, Moment(0)).unwrap();
    assert!(pool.is_leased(address));
    pool.release(address, Moment(0));
    assert_eq!(pool.allocate(Moment(1)), Ok(ip("10.0.0.3")));
    // One that is given up while its owner has it stays that one's.
    pool.allocate_static_as(Some("web"), address, Moment(2)).unwrap();
    assert_eq!(pool.unreserve("web"), Some(address));
    assert!(pool.is_leased(address));
    assert!(pool.release(address, Moment(3)));
    assert_eq!(pool.utilisation(Moment(4)).available, 4);
}

#[test]
fn the_next_one_is_chosen_where_none_is_said() {
    let mut pool = small();
    assert_eq!(pool.reserve_any("web", Moment(0)), Ok(ip("10.0.0.2")));
    assert_eq!(pool.reserve_any("web", Moment(0)), Ok(ip("10.0.0.2")), "it has one");
    assert_eq!(pool.allocate(Moment(0)), Ok(ip("10.0.0.3")));
    pool.allocate_sticky("db", Moment(0)).unwrap();
    while pool.allocate(Moment(0)).is_ok() {}
    assert_eq!(pool.reserve_any("x", Moment(0)).map_err(|e| e.kind()), Err(Kind::Exhausted));
}

#[test]
fn a_sticky_address_that_is_kept_for_another_is_not_had_again() {
    let mut pool = small();
    let before = pool.allocate_sticky("db", Moment(0)).unwrap();
    pool.release(before, Moment(0));
    pool.reserve("web", before, Moment(1)).unwrap();
    assert_ne!(pool.allocate_sticky("db", Moment(2)), Ok(before));
    pool.restore_sticky("db", before).unwrap();
    assert_ne!(pool.allocate(Moment(3)), Ok(before));
    assert_eq!(pool.reservation("web"), Some(before));
}
