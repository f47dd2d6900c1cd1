//! Fairness between those who ask one listener: who floods it is not answered beyond a share while
//! somebody else asks, so that nobody waits behind the flood.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long one account lasts.
const ROUND: Duration = Duration::from_millis(100);

/// Questions of one source in a round, beyond which it yields to others: 20,000 a second.
const SHARE: u32 = 2_000;

/// Sources that are told apart in one round. Those beyond yield.
const SOURCES: usize = 4_096;

/// Who has asked how often in this round.
#[derive(Debug)]
pub(super) struct Shares {
    since: Instant,
    asked: HashMap<IpAddr, u32>,
    /// Whether several asked in the last round: a flood goes on from one to the next.
    crowded: bool,
}

impl Shares {
    /// Nobody yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, asked: HashMap::new(), crowded: false }
    }

    /// Who has asked most in this round.
    pub(super) fn loudest(&self) -> Option<IpAddr> {
        self.asked.iter().max_by_key(|(_, asked)| **asked).map(|(source, _)| *source)
    }

    /// Whether one more question of a source is answered.
    pub(super) fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= ROUND {
            self.since = now;
            self.crowded = self.asked.len() > 1;
            self.asked.clear();
        }
        if self.asked.len() >= SOURCES && !self.asked.contains_key(&source) {
            return false;
        }
        let asked = self.asked.entry(source).or_default();
        *asked = asked.saturating_add(1);
        *asked <= SHARE || !(self.crowded || self.asked.len() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_may_ask_as_much_as_it_likes() {
        let start = Instant::now();
        let mut shares = Shares::new(start);
        let one = IpAddr::from([10, 0, 0, 2]);
        assert!((0..SHARE * 3).all(|_| shares.admit(one, start)));
        assert!((0..SHARE * 3).all(|_| shares.admit(one, start + ROUND)));
    }

    #[test]
    fn who_floods_yields_to_others_and_they_do_not() {
        let start = Instant::now();
        let mut shares = Shares::new(start);
        let (flood, other) = (IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 3]));
        assert!(shares.admit(other, start));
        let answered = (0..SHARE * 3).filter(|_| shares.admit(flood, start)).count();
        assert_eq!(u32::try_from(answered).unwrap(), SHARE);
        assert!(shares.admit(other, start));
        // The next round begins as the last one was.
        let next = start + ROUND;
        let answered = (0..SHARE * 3).filter(|_| shares.admit(flood, next)).count();
        assert_eq!(u32::try_from(answered).unwrap(), SHARE);
        // Nobody else has asked in that one.
        let later = next + ROUND;
        assert!((0..SHARE * 3).all(|_| shares.admit(flood, later)));
    }
}
