use super::*;

const NOW: Moment = Moment(0);

#[test]
fn an_owner_gets_its_address_again() {
    let mut pool = pool("10.0.0.0/24");
    let web = pool.allocate_sticky("web", NOW).unwrap();
    let db = pool.allocate_sticky("db", NOW).unwrap();
    assert_ne!(web, db);
    for owner in ["db", "web", "db"] {
        let address = if owner == "db" { db } else { web };
        assert!(pool.release(address, NOW));
        assert_eq!(pool.allocate_sticky(owner, NOW).unwrap(), address);
    }
    assert_eq!(pool.sticky().collect::<Vec<_>>(), [("db", db), ("web", web)]);
}

#[test]
fn an_owner_does_not_wait_for_its_own_delay() {
    let reuse_delay = Duration::from_secs(60);
    let mut pool = Pool::new(PoolConfig { reuse_delay, ..config("10.0.0.0/24") }).unwrap();
    let web = pool.allocate_sticky("web", NOW).unwrap();
    pool.release(web, Moment(1));
    assert_eq!(pool.utilisation(Moment(1)).quarantined, 0);
    assert_eq!(pool.allocate_sticky("web", Moment(2)).unwrap(), web);
}

#[test]
fn a_kept_address_is_the_last_resort_of_others() {
    let reuse_delay = Duration::from_secs(60);
    let mut pool = Pool::new(PoolConfig { reuse_delay, ..config("10.0.0.0/29") }).unwrap();
    for (owner, at) in [("a", 9), ("b", 3)] {
        let address = pool.allocate_sticky(owner, NOW).unwrap();
        pool.release(address, Moment(at));
    }
    let third = pool.allocate(NOW).unwrap();
    pool.release(third, Moment(10));
    assert_eq!(pool.utilisation(Moment(10)).available, 6);
    // Free ones, then the one that should wait, then those of the owners gone longest.
    assert_eq!(
        drain(&mut pool, Moment(10)),
        ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2", "10.0.0.1"]
    );
}

#[test]
fn an_owner_whose_address_was_taken_gets_and_keeps_another() {
    let mut pool = pool("10.0.0.0/24");
    let first = pool.allocate_sticky("web", NOW).unwrap();
    pool.release(first, NOW);
    pool.allocate_static(first, NOW).unwrap();
    let second = pool.allocate_sticky("web", NOW).unwrap();
    assert_ne!(second, first);
    pool.release(first, NOW);
    pool.release(second, NOW);
    assert_eq!(pool.allocate_sticky("web", NOW).unwrap(), second);
    assert_eq!(pool.sticky().collect::<Vec<_>>(), [("web", second)]);
}

#[test]
fn an_owner_whose_address_was_lent_gets_it_back() {
    let mut pool = pool("10.0.0.0/32");
    let address = pool.allocate_sticky("web", NOW).unwrap();
    pool.release(address, NOW);
    assert_eq!(pool.allocate_sticky("db", NOW).unwrap(), address);
    assert_eq!(pool.allocate_sticky("web", NOW).unwrap_err().kind(), Kind::Exhausted);
    assert_eq!(pool.sticky().collect::<Vec<_>>(), [("db", address), ("web", address)]);
    pool.release(address, NOW);
    assert_eq!(pool.allocate_sticky("web", NOW).unwrap(), address);
}

#[test]
fn two_leases_of_one_owner_are_two_addresses() {
    let mut pool = pool("10.0.0.0/24");
    let first = pool.allocate_sticky("web", NOW).unwrap();
    let second = pool.allocate_sticky("web", NOW).unwrap();
    assert_ne!(first, second);
    assert_eq!(pool.sticky().collect::<Vec<_>>(), [("web", second)]);
}

#[test]
fn a_forgotten_owner_leaves_its_address_to_all_after_the_delay() {
    let reuse_delay = Duration::from_millis(100);
    let mut pool = Pool::new(PoolConfig { reuse_delay, ..config("10.0.0.0/29") }).unwrap();
    let web = pool.allocate_sticky("web", NOW).unwrap();
    pool.release(web, Moment(10));
    assert_eq!(pool.forget_sticky("web"), Some(web));
    assert_eq!(pool.forget_sticky("web"), None);
    assert_eq!(pool.utilisation(Moment(109)).quarantined, 1);
    assert_eq!(pool.utilisation(Moment(110)).quarantined, 0);
    assert!(drain(&mut pool, Moment(110)).contains(&web.to_string()));
}

#[test]
fn forgetting_an_owner_ends_no_lease() {
    let mut pool = pool("10.0.0.0/24");
    let web = pool.allocate_sticky("web", NOW).unwrap();
    assert_eq!(pool.forget_sticky("web"), Some(web));
    assert!(pool.is_leased(web));
}

#[test]
fn sticky_addresses_survive_a_restart() {
    let mut before = pool("10.0.0.0/28");
    let web = before.allocate_sticky("web", NOW).unwrap();
    let db = before.allocate_sticky("db", NOW).unwrap();
    before.release(web, NOW);
    let mut after = restart(&before);
    assert!(after.sticky().eq(before.sticky()));
    assert!(after.is_leased(db) && !after.is_leased(web));
    assert_eq!(after.allocate(NOW).unwrap(), ip("10.0.0.3"));
    assert_eq!(after.allocate_sticky("web", NOW).unwrap(), web);
    after.release(db, NOW);
    assert_eq!(after.allocate_sticky("db", NOW).unwrap(), db);
}

#[test]
fn the_order_of_restoring_does_not_matter() {
    let address = ip("10.0.0.3");
    let mut leases_first = pool("10.0.0.0/29");
    leases_first.restore(address).unwrap();
    leases_first.restore_sticky("web", address).unwrap();
    let mut owners_first = pool("10.0.0.0/29");
    owners_first.restore_sticky("web", address).unwrap();
    owners_first.restore(address).unwrap();
    for pool in [&mut leases_first, &mut owners_first] {
        pool.restore_sticky("web", address).unwrap();
        assert!(pool.is_leased(address));
        assert!(pool.release(address, NOW));
        let others = drain(pool, NOW);
        assert_eq!(others.last().unwrap(), "10.0.0.3");
    }
}

#[test]
fn restoring_replaces_what_an_owner_had() {
    let mut pool = pool("10.0.0.0/29");
    pool.restore_sticky("web", ip("10.0.0.3")).unwrap();
    pool.restore_sticky("web", ip("10.0.0.5")).unwrap();
    assert_eq!(pool.sticky().collect::<Vec<_>>(), [("web", ip("10.0.0.5"))]);
    assert_eq!(drain(&mut pool, NOW).last().unwrap(), "10.0.0.5");
}

#[test]
fn an_address_no_longer_in_the_range_is_replaced() {
    let range = Some(net("10.0.0.8/29"));
    let mut pool = Pool::new(PoolConfig { range, ..config("10.0.0.0/24") }).unwrap();
    pool.restore_sticky("web", ip("10.0.0.3")).unwrap();
    assert_eq!(pool.allocate_sticky("web", NOW).unwrap(), ip("10.0.0.8"));
    assert_eq!(pool.sticky().collect::<Vec<_>>(), [("web", ip("10.0.0.8"))]);
}

#[test]
fn an_address_kept_while_it_waited_still_waits_when_forgotten() {
    let reuse_delay = Duration::from_millis(100);
    let mut pool = Pool::new(PoolConfig { reuse_delay, ..config("10.0.0.0/29") }).unwrap();
    let address = pool.allocate(NOW).unwrap();
    pool.release(address, Moment(50));
    pool.restore_sticky("web", address).unwrap();
    assert_eq!(pool.utilisation(Moment(60)).quarantined, 0);
    pool.forget_sticky("web");
    assert_eq!(pool.utilisation(Moment(149)).quarantined, 1);
}
