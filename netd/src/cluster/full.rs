//! A store that is full takes no writes: nothing is decided, what is new here the others hear of later,
//! and what runs goes on. Managers make room in an etcd of the cluster's own.

use std::time::{Duration, Instant};

use ::cluster::etcd::Housekeeper;
use ::store::Store;

use super::{Cluster, Decisions};
use crate::clock;

/// The shortest time between two attempts to make room, for which every member stands still.
const PAUSE: Duration = Duration::from_secs(30);

/// Whether room is to be made in a store that is full; notes that it is.
pub(super) fn room_due(made: &mut Option<Instant>) -> bool {
    let due = made.is_none_or(|made| made.elapsed() >= PAUSE);
    if due {
        *made = Some(Instant::now());
    }
    due
}

impl Cluster {
    /// Sees whether the store is full.
    pub(super) async fn look_for_room(&self) -> bool {
        let Store::Etcd(etcd) = &self.store else { return false };
        match etcd.is_full().await {
            Ok(true) => {
                let mut full = self.full.borrow_mut();
                if full.is_none() {
                    tracing::error!("the cluster's store is full");
                    *full = Some(clock::timestamp());
                }
            }
            Ok(false) => {
                if self.full.take().is_some() {
                    tracing::info!("the cluster's store has room again");
                }
            }
            Err(error) => tracing::debug!(%error, "it is not known whether the store is full"),
        }
        self.full.borrow().is_some()
    }

    /// Keeps house in etcd, on managers.
    pub(super) async fn look_after_etcd(&self, housekeeper: &mut Housekeeper) {
        let (Store::Etcd(etcd), Decisions::Here { .. }) = (&self.store, &self.decisions) else {
            return;
        };
        let own = self.kept.borrow().own_etcd;
        match housekeeper.round(etcd, self.layout.all(), own).await {
            Ok(found) if found.full.is_empty() => {}
            Ok(found) => {
                tracing::warn!(members = found.full.len(), "etcd was full, and has been compacted");
                self.look_for_room().await;
            }
            Err(error) => tracing::warn!(%error, "etcd was not looked after"),
        }
    }

    /// One sentence when the store is full.
    pub(super) fn fullness(&self) -> Option<String> {
        let full = self.full.borrow();
        let since = full.as_ref()?;
        let is_own = self.view.borrow().nodes.values().any(|node| node.facts.etcd.is_some());
        let help = match is_own {
            true => {
                "managers compact it; where that does not help, raise etcd_quota in their netd.toml and \
                 restart their etcd"
            }
            false => "compact and defragment it, or raise its quota, and disarm its alarm",
        };
        Some(format!(
            "the cluster's store is full since {since}: nothing can be decided, and others hear later \
             of containers that come here; what runs goes on, and attaches and detaches do: {help}"
        ))
    }
}
