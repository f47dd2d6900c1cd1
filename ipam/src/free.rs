//! [`Intervals`]: a set of whole numbers kept as its runs of neighbours. It holds a /64 with three
//! leases in four entries, finds the next member after any number, and takes one out or puts one
//! back, each with a fixed number of look-ups in an ordered map however many members are missing.

use std::collections::BTreeMap;

/// Disjoint runs that do not touch one another: first number of a run to its last.
///
/// The set must never hold all 2¹²⁸ numbers: its size would not fit. Pools cannot reach that,
/// since the first address of an IPv6 subnet is never in one.
#[derive(Clone, Default, Debug)]
pub(crate) struct Intervals {
    runs: BTreeMap<u128, u128>,
    len: u128,
    #[cfg(test)]
    looks: std::cell::Cell<u64>,
}

impl Intervals {
    /// How many numbers are in the set.
    pub(crate) fn len(&self) -> u128 {
        self.len
    }

    pub(crate) fn contains(&self, number: u128) -> bool {
        self.last_run_from(number).is_some_and(|(_, last)| number <= last)
    }

    /// The smallest member.
    pub(crate) fn first(&self) -> Option<u128> {
        self.look();
        self.runs.first_key_value().map(|(&first, _)| first)
    }

    /// The smallest member that is not below `number`.
    pub(crate) fn at_or_after(&self, number: u128) -> Option<u128> {
        if self.contains(number) {
            return Some(number);
        }
        self.look();
        self.runs.range(number..).next().map(|(&first, _)| first)
    }

    /// The last number of the run that has `number` in it, if one has.
    pub(crate) fn run_end(&self, number: u128) -> Option<u128> {
        self.last_run_from(number).map(|(_, last)| last).filter(|&last| number <= last)
    }

    /// Adds one number; whether it was missing.
    pub(crate) fn insert(&mut self, number: u128) -> bool {
        let missing = !self.contains(number);
        if missing {
            self.insert_run(number, number);
        }
        missing
    }

    /// Takes out one number; whether it was there.
    pub(crate) fn remove(&mut self, number: u128) -> bool {
        let there = self.contains(number);
        if there {
            self.remove_run(number, number);
        }
        there
    }

    /// Adds all numbers from `first` to `last`, merging the runs they overlap or touch.
    pub(crate) fn insert_run(&mut self, mut first: u128, mut last: u128) {
        while let Some((low, high)) = self.last_run_from(last.saturating_add(1))
            && first.saturating_sub(1) <= high
        {
            self.cut(low, high);
            first = first.min(low);
            last = last.max(high);
        }
        self.put(first, last);
    }

    /// Takes out all numbers from `first` to `last`.
    pub(crate) fn remove_run(&mut self, first: u128, last: u128) {
        while let Some((low, high)) = self.last_run_from(last)
            && first <= high
        {
            self.cut(low, high);
            if low < first {
                self.put(low, first - 1);
            }
            if last < high {
                self.put(last + 1, high);
            }
        }
    }

    /// The last run that starts at `number` or before it.
    fn last_run_from(&self, number: u128) -> Option<(u128, u128)> {
        self.look();
        self.runs.range(..=number).next_back().map(|(&first, &last)| (first, last))
    }

    fn put(&mut self, first: u128, last: u128) {
        self.look();
        self.runs.insert(first, last);
        self.len += last - first + 1;
    }

    fn cut(&mut self, first: u128, last: u128) {
        self.look();
        self.runs.remove(&first);
        self.len -= last - first + 1;
    }

    /// Counts the look-ups in the map, so that tests can see that their number does not grow.
    fn look(&self) {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
    }

    #[cfg(test)]
    pub(crate) fn looks(&self) -> u64 {
        self.looks.get()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(runs: &[(u128, u128)]) -> Intervals {
        let mut set = Intervals::default();
        for &(first, last) in runs {
            set.insert_run(first, last);
        }
        set
    }

    #[test]
    fn runs_that_touch_become_one() {
        let set = of(&[(1, 3), (7, 9), (4, 6)]);
        assert_eq!(set.runs, BTreeMap::from([(1, 9)]));
        assert_eq!(set.len(), 9);
    }

    #[test]
    fn a_run_swallows_those_it_covers() {
        assert_eq!(of(&[(2, 3), (5, 6), (8, 9), (1, 8)]).runs, BTreeMap::from([(1, 9)]));
    }

    #[test]
    fn taking_out_the_middle_splits_a_run() {
        let mut set = of(&[(1, 9)]);
        assert!(set.remove(5));
        assert!(!set.remove(5));
        assert_eq!(set.runs, BTreeMap::from([(1, 4), (6, 9)]));
        assert!(set.insert(5));
        assert!(!set.insert(5));
        assert_eq!(set.runs, BTreeMap::from([(1, 9)]));
    }

    #[test]
    fn taking_out_a_run_clips_both_neighbours() {
        let mut set = of(&[(1, 3), (5, 6), (8, 9)]);
        set.remove_run(2, 8);
        assert_eq!(set.runs, BTreeMap::from([(1, 1), (9, 9)]));
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn the_ends_of_the_number_line_are_numbers_too() {
        let mut set = of(&[(u128::MAX, u128::MAX), (0, 0)]);
        assert_eq!(set.len(), 2);
        assert_eq!(set.at_or_after(1), Some(u128::MAX));
        assert_eq!(set.run_end(0), Some(0));
        assert!(set.remove(0) && set.remove(u128::MAX));
        assert_eq!((set.first(), set.at_or_after(0), set.len()), (None, None, 0));
        set.insert_run(1, u128::MAX);
        assert_eq!(set.len(), u128::MAX);
    }

    proptest! {
        #[test]
        fn equals_a_plain_set(
            steps in prop::collection::vec((any::<bool>(), 0u128..60, 0u128..8), 0..60),
            probe in 0u128..70,
        ) {
            let mut set = Intervals::default();
            let mut plain = BTreeSet::new();
            for (add, first, more) in steps {
                if add {
                    set.insert_run(first, first + more);
                    plain.extend(first..=first + more);
                } else {
                    set.remove_run(first, first + more);
                    plain.retain(|number| !(first..=first + more).contains(number));
                }
                let members: Vec<_> = set.runs.iter().flat_map(|(&a, &b)| a..=b).collect();
                prop_assert_eq!(members, plain.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.len(), plain.len() as u128);
                prop_assert_eq!(set.contains(probe), plain.contains(&probe));
                prop_assert_eq!(set.at_or_after(probe), plain.range(probe..).next().copied());
                prop_assert!(set.runs.iter().zip(set.runs.keys().skip(1)).all(|((_, b), a)| b + 1 < *a));
            }
        }
    }
}
