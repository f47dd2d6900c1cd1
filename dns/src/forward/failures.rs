//! Questions that nobody could answer a moment ago. For a while they fail at once, without anybody
//! being asked: who asks again and again, as programs do, neither waits each time nor keeps servers
//! busy that are in trouble (RFC 9520).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::cache::Key;
use crate::answer::Transport;

/// For how long one fails that has failed once, which is twice as long each time after that, and the
/// longest (RFC 9520, section 3.2: a second at least, five minutes at most).
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// This many are known at most.
const MOST: usize = 4096;

/// What was asked, and how.
pub(super) type Put = (Key, Transport);

/// What has failed, how often since it succeeded last, and until when it does.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<Put, (u32, Instant)>);

impl Failures {
    /// Whether it fails now.
    pub(super) fn holds(&self, put: &Put, now: Instant) -> bool {
        self.0.get(put).is_some_and(|(_, until)| now < *until)
    }

    /// It has failed, of which so many are no matter yet: not all of its servers were asked.
    pub(super) fn note(&mut self, put: Put, forgiven: u32, now: Instant) {
        if self.0.len() >= MOST && !self.0.contains_key(&put) {
            self.0.retain(|_, (_, until)| now < *until + LONGEST);
            if self.0.len() >= MOST {
                self.0.clear();
            }
        }
        let (times, until) = self.0.entry(put).or_insert((0, now));
        if now >= *until + LONGEST {
            *times = 0;
        }
        let doubled = times.checked_sub(forgiven).map(|again| FIRST * 2_u32.pow(again.min(5)));
        *until = now + doubled.unwrap_or_default().min(LONGEST);
        *times = times.saturating_add(1);
    }

    /// It was answered.
    pub(super) fn forget(&mut self, put: &Put) {
        self.0.remove(put);
    }

    /// There are other servers, or the same at another place.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question;

    fn put(name: u8) -> Put {
        let packet = [&b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01"[..], &[name], b"\0\0\x01\0\x01"];
        let packet = packet.concat();
        (Key::of(&question::plain(&packet).unwrap(), [].into()), Transport::Udp)
    }

    #[test]
    fn a_failure_holds_for_longer_each_time_until_an_answer() {
        let (mut failures, mut now, put) = (Failures::default(), Instant::now(), put(b'a'));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(!failures.holds(&put, now));
            failures.note(put.clone(), 0, now);
            now += Duration::from_secs(seconds);
            assert!(failures.holds(&put, now - Duration::from_millis(1)));
        }
        failures.forget(&put);
        failures.note(put.clone(), 0, now);
        assert!(!failures.holds(&put, now + FIRST));
        // Nor does one that is long ago count.
        failures.note(put.clone(), 0, now + FIRST * 2 + LONGEST);
        assert!(!failures.holds(&put, now + FIRST * 3 + LONGEST));
        let over_tcp = (put.0.clone(), Transport::Tcp);
        assert!(!failures.holds(&over_tcp, now));
        failures.clear();
        assert!(!failures.holds(&put, now));
    }

    #[test]
    fn where_some_servers_were_not_asked_it_is_asked_again_at_once() {
        let (mut failures, now, put) = (Failures::default(), Instant::now(), put(b'a'));
        failures.note(put.clone(), 1, now);
        assert!(!failures.holds(&put, now));
        failures.note(put.clone(), 1, now);
        assert!(failures.holds(&put, now) && !failures.holds(&put, now + FIRST));
    }

    #[test]
    fn there_are_so_many_at_most() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for number in 0..u16::try_from(MOST).unwrap() + 10 {
            let [high, low] = number.to_be_bytes();
            let header = b"\0\0\x01\0\0\x01\0\0\0\0\0\0";
            let packet = [header, &[1, high, 1, low][..], b"\0\0\x01\0\x01"].concat();
            let key = Key::of(&question::plain(&packet).unwrap(), [].into());
            failures.note((key, Transport::Udp), 0, now);
        }
        assert!((1..=MOST).contains(&failures.0.len()));
    }
}
