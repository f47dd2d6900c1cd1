//! [`Quarantine`]: addresses that nobody uses but that should not be given out yet, ordered by the
//! [`Moment`] of their release. It neither reads a clock nor knows how long anything has to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Milliseconds of a monotonic clock, passed in by the caller.
///
/// Any origin will do, as long as all moments told to one [`Pool`](crate::Pool) share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(pub u64);

impl Moment {
    /// Whether `delay` has passed between this moment and `now`. A part of a millisecond counts as
    /// a whole one, so that nothing ends early.
    pub(crate) fn has_passed(self, delay: Duration, now: Self) -> bool {
        let waited = u128::from(now.0.saturating_sub(self.0));
        delay.as_nanos().div_ceil(1_000_000) <= waited
    }
}

/// Released addresses, each once. Every operation is a look-up in an ordered map or two.
#[derive(Clone, Default, Debug)]
pub(crate) struct Quarantine {
    released: BTreeMap<u128, Moment>,
    order: BTreeSet<(Moment, u128)>,
}

impl Quarantine {
    pub(crate) fn len(&self) -> usize {
        self.released.len()
    }

    /// All of them, and when each was released.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, Moment)> {
        self.released.iter().map(|(address, released)| (*address, *released))
    }

    pub(crate) fn insert(&mut self, address: u128, released: Moment) {
        self.remove(address);
        self.released.insert(address, released);
        self.order.insert((released, address));
    }

    /// Takes an address out, wherever it stands in the order; when it was released.
    pub(crate) fn remove(&mut self, address: u128) -> Option<Moment> {
        let released = self.released.remove(&address)?;
        self.order.remove(&(released, address));
        Some(released)
    }

    /// Takes out the address released first; the lowest one if several were released at once.
    pub(crate) fn pop_oldest(&mut self) -> Option<u128> {
        let (_, address) = self.order.pop_first()?;
        self.released.remove(&address);
        Some(address)
    }

    /// The address released first of those from `first` to `last`, at the cost of a look at each that
    /// was released before it.
    pub(crate) fn oldest_between(&self, first: u128, last: u128) -> Option<u128> {
        self.order.iter().map(|(_, address)| *address).find(|a| (first..=last).contains(a))
    }

    /// Takes out the address released first, if that was at least `delay` ago.
    pub(crate) fn pop_passed(&mut self, delay: Duration, now: Moment) -> Option<u128> {
        let &(released, _) = self.order.first()?;
        if released.has_passed(delay, now) { self.pop_oldest() } else { None }
    }

    /// How many were released less than `delay` ago.
    pub(crate) fn waiting(&self, delay: Duration, now: Moment) -> usize {
        let passed = |&&(released, _): &&(Moment, u128)| released.has_passed(delay, now);
        self.len() - self.order.iter().take_while(passed).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_release_comes_first_and_the_lowest_of_equals() {
        let mut quarantine = Quarantine::default();
        for (address, released) in [(9, 5), (7, 3), (4, 5), (8, 1)] {
            quarantine.insert(address, Moment(released));
        }
        assert_eq!(quarantine.remove(7), Some(Moment(3)));
        assert_eq!(quarantine.remove(7), None);
        let order: Vec<_> = std::iter::from_fn(|| quarantine.pop_oldest()).collect();
        assert_eq!(order, [8, 4, 9]);
        assert_eq!(quarantine.len(), 0);
    }

    #[test]
    fn a_second_release_replaces_the_first() {
        let mut quarantine = Quarantine::default();
        quarantine.insert(1, Moment(0));
        quarantine.insert(1, Moment(9));
        assert_eq!(quarantine.len(), 1);
        assert_eq!(quarantine.pop_passed(Duration::from_millis(5), Moment(13)), None);
        assert_eq!(quarantine.pop_passed(Duration::from_millis(5), Moment(14)), Some(1));
    }

    #[test]
    fn waiting_leaves_out_those_whose_delay_has_passed() {
        let mut quarantine = Quarantine::default();
        for address in 0..10 {
            quarantine.insert(address, Moment(address.try_into().unwrap()));
        }
        let delay = Duration::from_millis(5);
        assert_eq!(quarantine.waiting(delay, Moment(4)), 10);
        assert_eq!(quarantine.waiting(delay, Moment(5)), 9);
        assert_eq!(quarantine.waiting(delay, Moment(14)), 0);
    }

    #[test]
    fn a_part_of_a_millisecond_is_waited_out_whole() {
        let delay = Duration::from_micros(1_500);
        assert!(!Moment(10).has_passed(delay, Moment(11)));
        assert!(Moment(10).has_passed(delay, Moment(12)));
    }

    #[test]
    fn a_clock_that_steps_back_ends_nothing_early() {
        assert!(!Moment(10).has_passed(Duration::from_millis(1), Moment(3)));
        assert!(Moment(10).has_passed(Duration::ZERO, Moment(3)));
    }
}
