//! This host is a node of its cluster no more, since others removed it. It says so, and by what to
//! go on; what it runs stays as it is, with nobody elsewhere, until the host leaves.

use std::{net::SocketAddr, rc::Rc};

use ::cluster::{Error as ClusterError, client::Client, says_removed};
use cnm::{Error, Kind};

use super::{Cluster, Kept, follow::NAMESAKES, now, peers::About, rfc3339};
use crate::netd::Netd;

/// What clocks that differ are filed under, among netd's problems.
const CLOCKS: &str = "clocks";

impl Cluster {
    /// Whether it is known that others removed this host.
    pub(super) fn is_removed(&self) -> bool {
        self.kept.borrow().removed.is_some()
    }

    /// One sentence, when others removed this host.
    pub(super) fn removal(&self) -> Option<Error> {
        let kept = self.kept.borrow();
        let since = kept.removed.as_deref()?;
        let what = format_args!(
            "this host was removed from its cluster, as it has known since {since}: leave it with \
             netctl cluster leave --force, and join again with a new token"
        );
        Some(Error::new(Kind::Denied, what).with("removed", self.node.as_str()))
    }

    /// Asks the other managers whether this host is a node still.
    ///
    /// # Errors
    /// One of which [`says_removed`] holds when it is not; when nobody can be asked.
    pub(super) async fn standing(&self) -> ::cluster::Result<()> {
        let Some(identity) = self.place.identity().identity()? else { return Ok(()) };
        let managers = {
            let kept = self.kept.borrow();
            let own = SocketAddr::new(kept.address, kept.port).to_string();
            kept.managers.iter().filter(|manager| **manager != own).cloned().collect()
        };
        Client::new(&identity, managers)?.standing().await
    }
}

impl Netd {
    /// The store cannot be read, or is not for this host: finds out whether the host is still of the
    /// cluster, and whether a clock is at fault.
    pub(super) async fn ask_standing(self: &Rc<Self>, cluster: &Rc<Cluster>) {
        let clocks = match cluster.standing().await {
            Err(ClusterError::Remote(error)) if says_removed(&error) => {
                return self.removed_by_others(cluster);
            }
            Err(error @ (ClusterError::Clocks { .. } | ClusterError::Untimely { .. })) => {
                Some(error.to_string())
            }
            // Nobody who could say.
            Err(_) => return,
            Ok(()) => None,
        };
        let mut problems = self.problems.borrow_mut();
        match clocks {
            Some(why) => drop(problems.insert(CLOCKS.to_owned(), why)),
            None => drop(problems.remove(CLOCKS)),
        }
    }

    /// Others removed this host: it is on its own from now on.
    pub(super) fn removed_by_others(self: &Rc<Self>, cluster: &Rc<Cluster>) {
        if cluster.leaving.get() || cluster.is_removed() || !cluster.is_current(self) {
            return;
        }
        let kept = Kept { removed: Some(rfc3339(now())), ..cluster.kept.borrow().clone() };
        if let Err(error) = cluster.place.write(&kept) {
            tracing::error!(%error, "membership not kept");
        }
        *cluster.kept.borrow_mut() = kept;
        self.tell("cluster", "removed", cluster.id.as_str(), &[("node", cluster.node.as_str())]);
        self.stay_apart(cluster);
    }

    /// Nobody elsewhere is known from now on, and nobody is asked.
    pub(super) fn stay_apart(self: &Rc<Self>, cluster: &Rc<Cluster>) {
        if let Some(removal) = cluster.removal() {
            tracing::error!("{removal}");
            let mut problems = self.problems.borrow_mut();
            problems.retain(|about, _| {
                !matches!(about.as_str(), "managers" | "liveness" | "store" | CLOCKS | NAMESAKES)
            });
            problems.insert("cluster".to_owned(), removal.message);
        }
        let (netd, cluster) = (self.clone(), cluster.clone());
        tokio::task::spawn_local(async move { netd.part_from_others(&cluster).await });
    }

    async fn part_from_others(self: &Rc<Self>, cluster: &Rc<Cluster>) {
        cluster.stop();
        cluster.away.take();
        cluster.rewound.take();
        let elsewhere = cluster.view.borrow_mut().forget_others();
        let gone = elsewhere.into_iter().collect();
        self.publish(cluster, &About::Some(Default::default(), gone));
        cluster.outbox.take();
        // What leads to others goes, and networks that nobody here is on.
        cluster.untold.borrow_mut().everything();
        self.tell_driver(cluster).await;
        let ids: Vec<_> = {
            let registry = self.registry.borrow();
            let shared = registry.networks().filter(|entry| entry.shared.is_some());
            shared.map(|entry| entry.network.id.clone()).collect()
        };
        for id in ids {
            self.rest(&id).await;
        }
        let kept = cluster.kept.borrow().clone();
        // After it has left, and joined again, there is another one.
        if kept.own_etcd && cluster.is_current(self) {
            self.stop_etcd(&cluster.place, &kept, &cluster.etcd_is_over).await;
            self.problems.borrow_mut().remove("etcd");
        }
        tracing::info!("nothing of this host leads to others any more");
    }
}
