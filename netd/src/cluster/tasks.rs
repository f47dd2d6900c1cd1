//! What goes on in the background for as long as this host is in a cluster: writing its own
//! endpoints, saying that it lives, and keeping house.

use std::{rc::Rc, time::Duration};

use ::cluster::{
    Error as ClusterError, Key, NodeId, Role,
    decide::Idle,
    etcd::Housekeeper,
    messages::{Decided, Decision},
    rows::Facts,
    says_removed,
};
use ::store::{Compare, Error as StoreError, Known, Txn};
use cnm::{Error, Kind, Result};
use tokio::time::sleep;

use super::{
    Cluster, DRIVER, Decisions, Instant, full::room_due, outbox::operations, underlay::Watched,
};
use crate::netd::Netd;

/// How soon what did not work is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// The same for what was refused.
pub(super) const REFUSED: Duration = Duration::from_secs(5);

/// The same while the store is full: etcd raises its alarm anew for each write that it refuses, which
/// is written down by all members.
pub(super) const FULL: Duration = Duration::from_secs(2);

/// How long others are let be after they were told something: what comes by itself is told at once,
/// and what comes fast together, since each message costs every host more than what is in it. The
/// busier they are, and so the longer it took, the longer they are let be.
const BREATH: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(5)..=Duration::from_millis(60);

/// How long others are let be after something that began then.
pub(super) fn breath(began: Instant) -> Duration {
    (began.elapsed() * 2).clamp(*BREATH.start(), *BREATH.end())
}

/// How often nodes that are silent are looked at, and everything else that goes by time.
const TICK: Duration = Duration::from_secs(1);

/// How often this host's rows are compared with its endpoints, what it holds with what it needs, and
/// what the kernel has of other hosts with what there is.
const LOOK: u32 = 60;

/// How often managers are asked what this host is to them, while the store is away.
const ASK: u32 = 3;

/// How often it is noted for how long nodes have been away.
const NOTE: u32 = 30;

/// How often etcd is made to forget.
const ROUND: u32 = 300;

/// How often it is seen whether the store has room.
const ROOM: u32 = 3;

impl Netd {
    /// Begins everything that goes on in the background.
    pub(super) fn start_tasks(self: &Rc<Self>, cluster: &Rc<Cluster>, known: Known) {
        let spawn = |task: tokio::task::JoinHandle<()>| {
            cluster.tasks.borrow_mut().push(task.abort_handle());
        };
        let netd = || (self.clone(), cluster.clone());
        let (n, c) = netd();
        spawn(tokio::task::spawn_local(n.follow_cluster(c, known)));
        let (n, c) = netd();
        spawn(tokio::task::spawn_local(n.be_known(c)));
        let (n, c) = netd();
        spawn(tokio::task::spawn_local(n.keep_addresses(c)));
        if cluster.kept.borrow().own_etcd {
            let (n, c) = netd();
            spawn(tokio::task::spawn_local(n.keep_etcd(c)));
        }
        let (n, c) = netd();
        spawn(tokio::task::spawn_local(n.tell_driver_of_changes(c)));
        let (n, c) = netd();
        spawn(tokio::task::spawn_local(n.keep_house(c)));
        spawn(tokio::task::spawn_local(cluster.clone().write_own()));
        spawn(tokio::task::spawn_local(cluster.clone().live()));
        spawn(tokio::task::spawn_local(cluster.clone().keep_certificate()));
    }

    /// This host has started, or was given up and is back: tells the others what it is, learns its
    /// epoch, and makes sure of the addresses that it has.
    async fn be_known(self: Rc<Self>, cluster: Rc<Cluster>) {
        loop {
            self.return_to(&cluster).await;
            cluster.anew.notified().await;
        }
    }

    async fn return_to(self: &Rc<Self>, cluster: &Rc<Cluster>) {
        while cluster.epoch.get().is_none() {
            match self.begin_epoch(cluster).await {
                Ok(epoch) => tracing::info!(epoch, "the cluster knows of this host's start"),
                // A manager reads that in the store itself.
                Err(error) if says_removed(&error) || error.kind == Kind::NotFound => {
                    return self.removed_by_others(cluster);
                }
                Err(error) => {
                    tracing::debug!(%error, "the cluster does not know of this host's start yet");
                    // What is refused will be for a while.
                    sleep(match error.kind {
                        Kind::Denied => REFUSED,
                        Kind::Exhausted => FULL,
                        _ => AGAIN,
                    })
                    .await;
                }
            }
        }
        // Whatever was taken back from it before is known once its own row is.
        let mut seen = cluster.seen.subscribe();
        while cluster.view.borrow().here().map(|node| node.epoch) < cluster.epoch.get() {
            if seen.changed().await.is_err() {
                return;
            }
        }
        while cluster.epoch.get().is_some() && !self.claim_strays(cluster).await {
            sleep(AGAIN).await;
        }
        cluster.settled.set(true);
        self.compare_own(cluster);
    }

    async fn begin_epoch(self: &Rc<Self>, cluster: &Rc<Cluster>) -> Result<u64> {
        let kept = cluster.kept.borrow().clone();
        let facts = self.facts(kept.address, Some(&kept)).await?;
        let decided = cluster.decide(Decision::Start { facts }).await?;
        let Decided::Node { node } = decided else {
            return Err(Error::internal("a manager answered something else"));
        };
        cluster.epoch.set(Some(node.epoch));
        Ok(node.epoch)
    }

    /// What this host says of itself.
    pub(super) async fn facts(
        self: &Rc<Self>,
        address: std::net::IpAddr,
        kept: Option<&super::Kept>,
    ) -> Result<Facts> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let underlay = self.host.underlay_of(address).await?;
        let mut facts = Facts {
            name: name.trim().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mtu: underlay.mtu,
            link: Some(underlay.subnet),
            ..Facts::default()
        };
        if let Some(name) = &self.config.node_name {
            facts.name.clone_from(name);
        }
        match address {
            std::net::IpAddr::V4(address) => facts.vtep4 = Some(address),
            std::net::IpAddr::V6(address) => facts.vtep6 = Some(address),
        }
        if let Some(kept) = kept.filter(|kept| kept.role == Role::Manager) {
            facts.listens = Some(std::net::SocketAddr::new(address, kept.port).to_string());
            facts.etcd = kept.own_etcd.then(|| {
                format!("https://{}", std::net::SocketAddr::new(address, super::join::ETCD_PORT))
            });
        }
        Ok(facts)
    }

    async fn keep_house(self: Rc<Self>, cluster: Rc<Cluster>) {
        let (mut idle, mut housekeeper) = (Idle::default(), Housekeeper::default());
        let mut made_room = None;
        let mut underlay = Watched::default();
        let mut seconds: u32 = 0;
        loop {
            sleep(TICK).await;
            seconds = seconds.wrapping_add(1);
            if cluster.is_away() && seconds.is_multiple_of(ASK) {
                self.ask_standing(&cluster).await;
            }
            self.watch_underlay(&cluster, &mut underlay).await;
            if cluster.is_away() || !cluster.view.borrow().complete {
                continue;
            }
            let changes = cluster.liveness.borrow_mut().tick(Instant::now());
            self.liveness_changed(&cluster, changes);
            if seconds.is_multiple_of(NOTE) {
                cluster.note_away();
            }
            if seconds.is_multiple_of(LOOK) {
                // What others did to the kernel's tables, which nobody tells of, is put right.
                self.driver_started(DRIVER);
                cluster.claim.notify_one();
                self.compare_own(&cluster);
                self.give_back(&cluster, &mut idle).await;
            }
            let full = seconds.is_multiple_of(ROOM) && cluster.look_for_room().await;
            if seconds.is_multiple_of(ROUND) || full && room_due(&mut made_room) {
                cluster.look_after_etcd(&mut housekeeper).await;
            }
        }
    }
}

impl Cluster {
    /// Writes this host's rows, for as long as it is polled.
    async fn write_own(self: Rc<Self>) {
        loop {
            self.write.notified().await;
            // Without it this host is about to begin anew, and says so when it has.
            while let Some(guard) = self.guard() {
                let rows = self.outbox.borrow_mut().take();
                if rows.is_empty() {
                    break;
                }
                let began = Instant::now();
                match self.store.txn(operations(guard, &rows)).await {
                    Ok(outcome) if outcome.held => sleep(breath(began)).await,
                    // This host is another than it believed: what it is now is on its way.
                    Ok(_) => {
                        self.outbox.borrow_mut().put_back(rows);
                        sleep(AGAIN).await;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "own rows wait");
                        self.outbox.borrow_mut().put_back(rows);
                        if matches!(error, StoreError::NoSpace { .. }) {
                            self.withdraw_gone().await;
                            sleep(FULL).await;
                        } else {
                            sleep(AGAIN).await;
                        }
                    }
                }
            }
        }
    }

    /// Deletes rows of endpoints that are gone: a store that is full takes nothing else.
    async fn withdraw_gone(&self) {
        let Some(guard) = self.guard() else { return };
        let rows = self.outbox.borrow_mut().take_gone();
        if rows.is_empty() {
            return;
        }
        match self.store.txn(operations(guard, &rows)).await {
            Ok(outcome) if outcome.held => {}
            refused => {
                tracing::debug!(?refused, "rows that are to go wait");
                self.outbox.borrow_mut().put_back(rows);
            }
        }
    }

    /// A transaction that holds as long as this host is who it believes to be; none while it does
    /// not know.
    fn guard(&self) -> Option<Txn> {
        let view = self.view.borrow();
        let known = self.settled.get() && view.here().map(|node| node.epoch) == self.epoch.get();
        let node = self.layout.key(&Key::Node(self.node.clone()));
        known.then(|| Txn::new().when(Compare::modified(node, view.here_modified)))
    }

    /// This host is not who it was: it has to begin anew.
    pub(super) fn begin_anew(&self) {
        self.epoch.set(None);
        self.settled.set(false);
        self.anew.notify_one();
    }

    /// Notes for how long nodes have been away, for who watches them after this host.
    pub(super) fn note_away(self: &Rc<Self>) {
        let Decisions::Here { manager, .. } = &self.decisions else { return };
        let down: Vec<_> = {
            let liveness = self.liveness.borrow();
            let down = liveness.down(Instant::now());
            down.map(|(node, long)| (node.clone(), long)).collect()
        };
        if down.is_empty() {
            return;
        }
        let manager = manager.clone();
        tokio::task::spawn_local(async move {
            for (node, long) in down {
                if let Err(error) = manager.decider.note_away(&node, long).await {
                    tracing::debug!(%node, %error, "it is not noted for how long it has been away");
                }
            }
        });
    }

    /// A node is given up: it may come back in another epoch only.
    pub(super) fn fence(self: &Rc<Self>, node: &NodeId) {
        let Decisions::Here { manager, .. } = &self.decisions else { return };
        let Some(epoch) = self.view.borrow().nodes.get(node).map(|node| node.epoch) else { return };
        let (manager, node) = (manager.clone(), node.clone());
        tokio::task::spawn_local(async move {
            match manager.decider.fence_node(&node, epoch).await {
                Ok(()) => tracing::warn!(%node, "node given up"),
                // Another manager did, or it is back.
                Err(ClusterError::Fenced { .. }) => {}
                Err(error) => tracing::warn!(%node, %error, "node not given up"),
            }
        });
    }

    /// Managers may listen elsewhere than they did, and etcd may have other members.
    pub(super) fn managers_changed(self: &Rc<Self>) {
        let (managers, etcd) = {
            let view = self.view.borrow();
            let facts = || view.nodes.values().map(|node| &node.facts);
            let managers: Vec<_> = facts().filter_map(|facts| facts.listens.clone()).collect();
            let etcd: Vec<_> = facts().filter_map(|facts| facts.etcd.clone()).collect();
            (managers, etcd)
        };
        let mut kept = self.kept.borrow_mut();
        let before = kept.clone();
        if !managers.is_empty() {
            kept.managers = managers;
        }
        if !etcd.is_empty() {
            kept.etcd = etcd;
        }
        if *kept == before {
            return;
        }
        if let Err(error) = self.place.write(&kept) {
            tracing::error!(%error, "membership not kept");
        }
        if kept.etcd != before.etcd {
            let cluster = self.clone();
            tokio::task::spawn_local(async move { cluster.reconnect().await });
        }
        if let Decisions::There(client) = &self.decisions
            && let Ok(Some(identity)) = self.place.identity().identity()
            && let Ok(new) = ::cluster::client::Client::new(&identity, kept.managers.clone())
        {
            client.replace(new);
        }
    }
}
