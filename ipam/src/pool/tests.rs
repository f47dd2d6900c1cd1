mod choice;
mod config;
mod reserved;
mod sticky;

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::*;
use crate::Kind;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(subnet: &str) -> PoolConfig {
    PoolConfig::new(net(subnet))
}

fn pool(subnet: &str) -> Pool {
    Pool::new(config(subnet)).unwrap()
}

/// Leases addresses until there are none.
fn drain(pool: &mut Pool, now: Moment) -> Vec<String> {
    let leases = std::iter::from_fn(|| pool.allocate(now).ok()).map(|a| a.to_string()).collect();
    assert_eq!(pool.allocate(now).unwrap_err().kind(), Kind::Exhausted);
    leases
}

/// Puts all that is stored of one pool into a new one.
fn restart(pool: &Pool) -> Pool {
    let mut restarted = Pool::new(pool.config().clone()).unwrap();
    for (owner, address) in pool.sticky() {
        restarted.restore_sticky(owner, address).unwrap();
    }
    for address in pool.leases() {
        restarted.restore(address).unwrap();
    }
    restarted
}
