//! Callers that have not shown yet who they are. A connection costs nothing whoever opens it, so that
//! many of them must not keep out those who have something to say: of each source there are few, of
//! all there is an end, and the oldest gives way to the next.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// How many there may be, of one source and all together.
const OF_ONE: usize = 16;
const OF_ALL: usize = 256;

/// How long it is not said again that somebody gave way: many do, where one does.
const QUIET: Duration = Duration::from_secs(60);

/// All of them, in the order in which they came; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Unproven(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    callers: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    said: Option<Instant>,
}

/// A place among them, which ends with it.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    gives_way: oneshot::Receiver<()>,
    all: Unproven,
}

impl Unproven {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, and whether another gave way to it.
    pub(super) fn enter(&self, address: IpAddr) -> (Place, bool) {
        let source = source(address);
        let mut waiting = self.waiting();
        let of_one = waiting.callers.iter().filter(|(_, (other, _))| *other == source);
        let oldest = if of_one.clone().count() >= OF_ONE {
            of_one.map(|(number, _)| *number).next()
        } else if waiting.callers.len() >= OF_ALL {
            waiting.callers.keys().next().copied()
        } else {
            None
        };
        let oldest = oldest.and_then(|number| waiting.callers.remove(&number));
        if let Some((source, _)) = &oldest
            && waiting.said.is_none_or(|said| said.elapsed() > QUIET)
        {
            waiting.said = Some(Instant::now());
            tracing::warn!(
                %source,
                "many connections to this manager show no certificate and no token: the oldest are \
                 dropped for newer ones"
            );
        }
        let number = waiting.next;
        waiting.next += 1;
        let (keep, gives_way) = oneshot::channel();
        waiting.callers.insert(number, (source, keep));
        (Place { number, gives_way, all: self.clone() }, oldest.is_some())
    }
}

impl Place {
    /// Waits until it gives way to a newer one.
    pub(super) async fn gives_way(&mut self) {
        // Nobody ever says anything there: the other end is dropped.
        (&mut self.gives_way).await.ok();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.waiting().callers.remove(&self.number);
    }
}

/// Who has an address: of IPv6 a host has 64 bits' worth.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        let number = u32::try_from(number).expect("a small number");
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    fn stays(place: &mut Place) -> bool {
        matches!(place.gives_way.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    #[test]
    fn the_oldest_of_a_source_gives_way_and_no_other() {
        let unproven = Unproven::default();
        let (mut other, _) = unproven.enter(address(2));
        let mut of_one: Vec<_> = (0..OF_ONE).map(|_| unproven.enter(address(1))).collect();
        assert!(of_one.iter_mut().all(|(place, gave_way)| stays(place) && !*gave_way));
        let (mut newer, gave_way) = unproven.enter("::ffff:10.0.0.1".parse().expect("an address"));
        assert!(gave_way && stays(&mut newer) && stays(&mut other));
        let left: Vec<_> = of_one.iter_mut().map(|(place, _)| stays(place)).collect();
        assert!(!left[0] && left[1..].iter().all(|stays| *stays), "{left:?}");
        // Who has shown who it is makes room.
        drop(of_one);
        assert!(!unproven.enter(address(1)).1);
        assert_eq!(unproven.waiting().callers.len(), 2);
    }

    #[test]
    fn the_oldest_of_all_gives_way_where_there_are_too_many() {
        let unproven = Unproven::default();
        let mut all: Vec<_> = (0..OF_ALL).map(|n| unproven.enter(address(n))).collect();
        assert!(all.iter().all(|(_, gave_way)| !gave_way));
        assert!(unproven.enter(address(OF_ALL)).1);
        assert!(!stays(&mut all[0].0) && stays(&mut all[1].0));
    }

    #[test]
    fn a_host_has_many_addresses_of_ipv6() {
        let [one, same, other] = ["fd00::1", "fd00::2:3", "fd00:0:0:1::1"]
            .map(|text| source(text.parse().expect("an address")));
        assert!(one == same && one != other);
    }
}
