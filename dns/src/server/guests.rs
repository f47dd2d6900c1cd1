//! Who asks where others than a network's own members may: whose container it is, or whether it may
//! ask at all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::answer::At;
use crate::names::{NetworkKey, Snapshot};

/// How long what is known of somebody holds.
const HOLDS: Duration = Duration::from_secs(10);

/// As whom somebody asks at such an address: one of a network of ours as if it had asked there,
/// the host by its own address, and others as guests, or not at all.
pub(super) fn place(
    snapshot: &Snapshot,
    source: IpAddr,
    own: IpAddr,
    may_ask: impl FnOnce() -> bool,
) -> At {
    let source = source.to_canonical();
    if source == own {
        At::Host
    } else if let Some(network) = snapshot.network_of(source) {
        At::Network(network.clone())
    } else if may_ask() {
        At::Guest
    } else {
        At::Shared
    }
}

/// The network of a container that asks another one's listener: that of a network which it was on
/// when it was told whom to ask, and has been taken off since. It is answered as at its own.
/// `None` for who may be a member where he asks, and for who is nobody's container.
pub(super) fn moved(snapshot: &Snapshot, asked: &NetworkKey, source: IpAddr) -> Option<NetworkKey> {
    let source = source.to_canonical();
    let zone = snapshot.networks.get(asked)?.zone.as_deref()?;
    if zone.may_have(source) {
        return None;
    }
    let own = snapshot.network_of(source)?;
    snapshot.networks.get(own)?.addresses.contains_key(&source).then(|| own.clone())
}

/// Who may ask though it is on no network of ours. Finding that out takes a look at the host, so
/// it is known for a while.
#[derive(Debug)]
pub(super) struct Guests {
    find_out: fn(IpAddr) -> bool,
    known: Mutex<(Instant, HashMap<IpAddr, bool>)>,
}

impl Guests {
    pub(super) fn new(find_out: fn(IpAddr) -> bool) -> Self {
        Self { find_out, known: Mutex::new((Instant::now(), HashMap::new())) }
    }

    /// Whether it may.
    pub(super) fn may_ask(&self, source: IpAddr, now: Instant) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(known.0) >= HOLDS {
            *known = (now, HashMap::new());
        }
        *known.1.entry(source).or_insert_with(|| (self.find_out)(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Member, Names, Zone};

    #[test]
    fn who_was_moved_asks_as_at_its_own_network_and_strangers_do_not() {
        let names = Names::new();
        for (key, subnet) in [("n1", "10.1.0.0/24"), ("n2", "10.2.0.0/24")] {
            let subnets = vec![subnet.parse().unwrap()];
            names.network_up(key, Zone { name: key.into(), subnets, ..Zone::default() });
        }
        names.network_up("lan", Zone { name: "lan".into(), ..Zone::default() });
        let addresses = ["10.2.0.2".parse().unwrap()].into();
        let member =
            Member { endpoint: "e".into(), container: "c".into(), addresses, ..Member::default() };
        names.publish("n2", member);
        let snapshot = names.load();
        let at = |asked: &str, source: &str| {
            moved(&snapshot, &asked.into(), source.parse().unwrap()).map(|key| key.to_string())
        };
        assert_eq!(at("n1", "10.2.0.2").as_deref(), Some("n2"));
        assert_eq!(at("n1", "::ffff:10.2.0.2").as_deref(), Some("n2"));
        assert_eq!(at("n2", "10.2.0.2"), None, "it is where it asks");
        assert_eq!(at("n1", "10.2.0.3"), None, "nobody has that address");
        assert_eq!(at("n1", "192.0.2.9"), None);
        assert_eq!(at("n1", "10.1.0.7"), None);
        assert_eq!(at("lan", "10.2.0.2"), None, "who may be there is not known");
        assert_eq!(at("gone", "10.2.0.2"), None);
    }
}
