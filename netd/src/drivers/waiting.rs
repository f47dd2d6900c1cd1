//! Calls of a driver without an answer yet, and when the driver is given up. It does one after the
//! other, so that the time of each begins when the one before it is answered: a driver that is kept
//! busy by many is not one that hangs.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::oneshot, time::Instant};

/// Takes the answer; nothing when the call is given up.
pub(super) type Answer = oneshot::Sender<Option<String>>;

/// Calls by id, which is their order.
pub(super) struct Waiting {
    calls: BTreeMap<u64, (Answer, Duration)>,
    /// Since when the first of them has the driver for itself.
    since: Instant,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { calls: BTreeMap::new(), since: Instant::now() }
    }

    /// A call is made, with its deadline.
    pub(super) fn put(&mut self, id: u64, answer: Answer, deadline: Duration, now: Instant) {
        if self.calls.is_empty() {
            self.since = now;
        }
        self.calls.insert(id, (answer, deadline));
    }

    /// A call is answered; none when nobody waits for it.
    pub(super) fn take(&mut self, id: u64, now: Instant) -> Option<Answer> {
        let first = self.calls.first_key_value().is_some_and(|(first, _)| *first == id);
        let (answer, _) = self.calls.remove(&id)?;
        if first {
            self.since = now;
        }
        Some(answer)
    }

    /// When the first of them is late.
    pub(super) fn until(&self) -> Option<Instant> {
        self.calls.first_key_value().map(|(_, (_, deadline))| self.since + *deadline)
    }

    /// The first of them, if it is late.
    pub(super) fn late(&mut self, now: Instant) -> Option<Answer> {
        self.until().filter(|until| *until <= now)?;
        self.calls.pop_first().map(|(_, (answer, _))| answer)
    }

    /// None of them will be answered.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn put(waiting: &mut Waiting, id: u64, deadline: u32, now: Instant) {
        waiting.put(id, oneshot::channel().0, SECOND * deadline, now);
    }

    #[test]
    fn each_has_its_time_from_when_the_one_before_it_is_answered() {
        let start = Instant::now();
        let mut waiting = Waiting::new();
        for id in 1..=5 {
            put(&mut waiting, id, 10, start);
        }
        for id in 1..5 {
            let now = start + SECOND * 9 * u32::try_from(id).unwrap();
            assert!(waiting.late(now).is_none(), "{id}");
            assert!(waiting.take(id, now).is_some());
        }
        assert_eq!(waiting.until(), Some(start + SECOND * 46));
        assert!(waiting.late(start + SECOND * 45).is_none());
        assert!(waiting.late(start + SECOND * 46).is_some());
        assert_eq!(waiting.until(), None);
    }

    #[test]
    fn who_is_passed_over_is_late_all_the_same() {
        let start = Instant::now();
        let mut waiting = Waiting::new();
        for id in 1..=3 {
            put(&mut waiting, id, 10, start);
        }
        assert!(waiting.take(2, start + SECOND * 9).is_some());
        assert!(waiting.take(2, start + SECOND * 9).is_none());
        assert!(waiting.late(start + SECOND * 10).is_some());
    }

    #[test]
    fn behind_a_long_call_a_short_one_waits() {
        let start = Instant::now();
        let mut waiting = Waiting::new();
        put(&mut waiting, 1, 60, start);
        put(&mut waiting, 2, 10, start);
        assert!(waiting.late(start + SECOND * 30).is_none());
        assert!(waiting.take(1, start + SECOND * 30).is_some());
        assert_eq!(waiting.until(), Some(start + SECOND * 40));
        // One that is made when there is no other has its time from then on.
        assert!(waiting.take(2, start + SECOND * 31).is_some());
        put(&mut waiting, 3, 10, start + SECOND * 50);
        assert_eq!(waiting.until(), Some(start + SECOND * 60));
    }
}
