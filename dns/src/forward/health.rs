//! Which of several servers to ask first: the one that has answered fastest lately, and among
//! equals the one that was configured first.
//!
//! One number per server, and no clock of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an estimate is believed. After it the server is tried in its configured place again,
/// by one query: that is how one that was dead is found to be back.
const BELIEVED: Duration = Duration::from_secs(30);

/// Differences below this are none. The order somebody wrote servers down in means something (the
/// first may know names that the second does not), and a few milliseconds are no reason to leave it.
const EQUAL: Duration = Duration::from_millis(50);

/// Estimates are of servers, which are configured and few; this many are kept at most, and those
/// out of date go first.
const KEPT: usize = 256;

/// How a server has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The server.
    pub server: SocketAddr,
    /// How long it takes, as far as is known.
    pub latency: Duration,
    /// How often it answered.
    pub answered: u64,
    /// How often it could not be asked, or had not answered when another one had or time was up.
    pub failed: u64,
}

/// What is known of the servers' speed.
#[derive(Debug, Default)]
pub(super) struct Health(HashMap<SocketAddr, Estimate>);

#[derive(Debug)]
struct Estimate {
    latency: Duration,
    at: Instant,
    answered: u64,
    failed: u64,
}

impl Health {
    /// How each has done.
    pub(super) fn standings(&self) -> Vec<Standing> {
        let standing = |(server, estimate): (&SocketAddr, &Estimate)| Standing {
            server: *server,
            latency: estimate.latency,
            answered: estimate.answered,
            failed: estimate.failed,
        };
        self.0.iter().map(standing).collect()
    }

    /// One has answered, or has not.
    pub(super) fn count(&mut self, server: SocketAddr, answered: bool) {
        if let Some(estimate) = self.0.get_mut(&server) {
            *(if answered { &mut estimate.answered } else { &mut estimate.failed }) += 1;
        }
    }

    /// Sorts servers, best first. One of which nothing is known counts as fast.
    pub(super) fn order(&mut self, servers: &mut [SocketAddr], now: Instant) {
        servers.sort_by_cached_key(|server| {
            let Some(estimate) = self.0.get_mut(server) else { return 0 };
            if now.duration_since(estimate.at) < BELIEVED {
                return estimate.latency.as_millis() / EQUAL.as_millis();
            }
            // Only this query tries it; those meanwhile still believe the old number.
            estimate.at = now;
            0
        });
    }

    /// A server has answered, or failed to, after `latency`. Smoothed, a quarter at a time.
    pub(super) fn observe(&mut self, server: SocketAddr, latency: Duration, now: Instant) {
        if self.0.len() >= KEPT && !self.0.contains_key(&server) {
            self.0.retain(|_, estimate| now.duration_since(estimate.at) < BELIEVED);
            if self.0.len() >= KEPT {
                return;
            }
        }
        self.0
            .entry(server)
            .and_modify(|known| {
                known.latency = (known.latency * 3 + latency) / 4;
                known.at = now;
            })
            .or_insert(Estimate { latency, at: now, answered: 0, failed: 0 });
    }

    /// A server has not answered after `latency`, when somebody else did: it is that slow at least.
    pub(super) fn outrun(&mut self, server: SocketAddr, latency: Duration, now: Instant) {
        if self.0.get(&server).is_none_or(|known| known.latency < latency) {
            self.observe(server, latency, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn servers() -> [SocketAddr; 3] {
        [1, 2, 3].map(|host| SocketAddr::from(([192, 0, 2, host], 53)))
    }

    #[test]
    fn unknown_servers_keep_their_order() {
        let mut order = servers();
        Health::default().order(&mut order, Instant::now());
        assert_eq!(order, servers());
    }

    #[test]
    fn the_fastest_is_first_and_a_failed_one_last() {
        let (mut health, now, [a, b, c]) = (Health::default(), Instant::now(), servers());
        health.observe(a, 4000 * MS, now);
        health.observe(b, 120 * MS, now);
        health.observe(c, 60 * MS, now);
        let mut order = servers();
        health.order(&mut order, now);
        assert_eq!(order, [c, b, a]);
    }

    #[test]
    fn a_little_faster_is_not_first() {
        let (mut health, now, [a, b, c]) = (Health::default(), Instant::now(), servers());
        health.observe(a, 40 * MS, now);
        health.observe(b, MS, now);
        health.observe(c, 20 * MS, now);
        let mut order = servers();
        health.order(&mut order, now);
        assert_eq!(order, [a, b, c]);
    }

    #[test]
    fn a_failed_one_is_tried_again_once_when_its_estimate_is_old() {
        let (mut health, start, [a, b, c]) = (Health::default(), Instant::now(), servers());
        let later = start + BELIEVED;
        health.observe(a, 4000 * MS, start);
        let mut order = servers();
        health.order(&mut order, later);
        assert_eq!(order, [a, b, c], "the first query tries it");
        health.order(&mut order, later);
        assert_eq!(order, [b, c, a], "the next one does not");
    }

    #[test]
    fn one_slow_answer_is_smoothed_and_losing_never_makes_better() {
        let (mut health, now, [a, ..]) = (Health::default(), Instant::now(), servers());
        health.observe(a, 10 * MS, now);
        health.observe(a, 50 * MS, now);
        assert_eq!(health.0[&a].latency, 20 * MS);
        health.outrun(a, 5 * MS, now);
        assert_eq!(health.0[&a].latency, 20 * MS);
        health.outrun(a, 60 * MS, now);
        assert_eq!(health.0[&a].latency, 30 * MS);
    }
}
