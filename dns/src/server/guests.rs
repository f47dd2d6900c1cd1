//! Who asks where all networks' containers may: whose container it is, or whether it may ask at all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::answer::At;
use crate::names::Snapshot;

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
