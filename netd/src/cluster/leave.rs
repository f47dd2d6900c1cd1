//! Being a node of a cluster no more: by one's own wish, which is gone on with when netd ended in
//! the middle of it.

use std::{rc::Rc, time::Duration};

use ::cluster::{Role, messages::Decision, says_removed};
use cnm::{
    ContainerId, Empty, EndpointId, Error, Kind, Result, cluster::LeaveCluster,
    driver::NetworkDown, fault,
};
use tokio::time::{sleep, timeout};

use super::{
    Cluster, DECISION, Decisions, Kept, Place, follow::NAMESAKES, kept::Leaving, telling::UNTOLD,
};
use crate::netd::Netd;

/// How long leaving may take, which changes the members of etcd: it takes nobody out before all have
/// been in touch for five seconds.
const LEAVING: Duration = Duration::from_secs(30);

/// How soon it is tried again after a start.
const AGAIN: Duration = Duration::from_secs(1);

impl Netd {
    /// `cluster.leave`.
    pub(crate) async fn leave_cluster(self: &Rc<Self>, params: LeaveCluster) -> Result<Empty> {
        let _turn = self.network_turn.lock().await;
        if params.force && self.cluster().is_none() {
            let place = Place::new(&self.config.state_dir);
            if let Ok(Some(kept)) = place.read() {
                self.abandon(&place, &kept).await;
                self.problems.borrow_mut().remove("cluster");
                return Ok(Empty {});
            }
        }
        let cluster = self.cluster().ok_or_else(Self::alone)?;
        let users = self.users();
        if !users.is_empty() && !params.force {
            return Err(Error::new(
                Kind::Busy,
                format_args!(
                    "{} endpoints of this host are on networks of the cluster: detach them first, \
                     or leave with --force",
                    users.len()
                ),
            ));
        }
        let told = cluster.kept.borrow().leaving == Some(Leaving::Told);
        if !told && !cluster.is_removed() {
            if cluster.is_last().await {
                if !params.force {
                    return Err(Error::new(
                        Kind::Busy,
                        "this host is the last manager of its cluster, which ends with it: leave \
                         with --force",
                    ));
                }
                cluster.end().await;
            } else {
                let said = cluster.say_goodbye(params.force).await;
                if said.is_err() && cluster.leaving.get() {
                    self.go_on_leaving(&cluster, Leaving::Asked { force: params.force });
                }
                said?;
            }
        }
        self.part_with(&cluster).await
    }

    /// Goes on with leaving, which netd ended in the middle of.
    pub(super) fn go_on_leaving(self: &Rc<Self>, cluster: &Rc<Cluster>, leaving: Leaving) {
        tracing::info!(?leaving, "this host goes on leaving its cluster");
        let (netd, cluster) = (self.clone(), cluster.clone());
        tokio::task::spawn_local(async move {
            let force = match leaving {
                Leaving::Asked { force } => Some(force),
                Leaving::Told => None,
            };
            loop {
                let turn = netd.network_turn.lock().await;
                if !cluster.is_current(&netd) {
                    return;
                }
                let said = match force {
                    Some(force) if !cluster.is_removed() => cluster.say_goodbye(force).await,
                    _ => Ok(()),
                };
                match said {
                    Ok(()) => match netd.part_with(&cluster).await {
                        Ok(_) => return,
                        Err(error) => tracing::error!(%error, "the cluster is not left"),
                    },
                    // It said so before it ended: it is tried until there is an answer.
                    Err(error) if error.kind == Kind::Unavailable || cluster.leaving.get() => {
                        tracing::debug!(%error, "the cluster is not left yet");
                        if let Err(error) = cluster.note_leaving(Some(leaving)) {
                            tracing::error!(%error, "membership not kept");
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "the cluster is not left");
                        return;
                    }
                }
                drop(turn);
                sleep(AGAIN).await;
            }
        });
    }

    /// The endpoints here that are on networks of the cluster.
    fn users(&self) -> Vec<(ContainerId, EndpointId)> {
        let registry = self.registry.borrow();
        let shared = registry.networks().filter(|entry| entry.shared.is_some());
        shared
            .flat_map(|entry| registry.endpoints_on(&entry.network.id))
            .map(|endpoint| (endpoint.container.id.clone(), endpoint.id.clone()))
            .collect()
    }

    /// Removes all that this host has of the cluster.
    async fn part_with(self: &Rc<Self>, cluster: &Rc<Cluster>) -> Result<Empty> {
        cluster.note_leaving(Some(Leaving::Told))?;
        cluster.leaving.set(true);
        fault::point("cluster.leave.after-told");
        for (container, id) in self.users() {
            self.detach_where(&container, "detach", |endpoint| endpoint.id == id).await?;
        }
        cluster.stop();
        let kept = cluster.kept.borrow().clone();
        let networks: Vec<_> = {
            let registry = self.registry.borrow();
            let shared = registry.networks().filter(|entry| entry.shared.is_some());
            shared.map(|entry| entry.network.clone()).collect()
        };
        for network in networks {
            // It may be on its way down already, after its last endpoint.
            let Ok(turn) = self.turn_of(&network.id) else { continue };
            let _turn = turn.lock().await;
            // What is told to the driver from now on is without it, whoever tells it.
            let was_up = self.no_longer_up(&network.id);
            self.resolve_no_more(&network.id);
            if was_up && let Ok(driver) = self.driver(&network.driver) {
                let down = driver.call(&NetworkDown { network: network.clone() }).await;
                if let Err(error) = down {
                    tracing::warn!(network = %network.name, %error, "network not taken down");
                }
            }
            self.registry.borrow_mut().drop_network(&network.id);
        }
        if kept.own_etcd {
            self.stop_etcd(&cluster.place, &kept, &cluster.etcd_is_over).await;
        }
        fault::point("cluster.leave.after-etcd");
        cluster.place.forget()?;
        self.stores.forget_cached()?;
        self.cluster.replace(None);
        self.problems.borrow_mut().retain(|about, _| {
            !matches!(
                about.as_str(),
                "cluster"
                    | "etcd"
                    | "managers"
                    | "liveness"
                    | "store"
                    | "clocks"
                    | NAMESAKES
                    | UNTOLD
            ) && !about.starts_with("mtu ")
        });
        tracing::info!(cluster = %kept.cluster, "left");
        self.tell("cluster", "leave", kept.cluster.as_str(), &[("node", kept.node.as_str())]);
        Ok(Empty {})
    }
}

impl Cluster {
    /// Writes down how far this host has come with leaving; nothing when it stays.
    fn note_leaving(&self, leaving: Option<Leaving>) -> Result<()> {
        let mut kept = self.kept.borrow_mut();
        let next = Kept { leaving, ..kept.clone() };
        self.place.write(&next)?;
        *kept = next;
        Ok(())
    }

    /// Writes down where all members of etcd are reached: its own is not there any more when netd
    /// ends in the middle.
    async fn note_members(&self) {
        let Decisions::Here { manager, .. } = &self.decisions else { return };
        let Some(etcd) = &manager.etcd else { return };
        let Ok(Ok(members)) = timeout(DECISION, etcd.members()).await else { return };
        if let Err(error) = etcd.reach(&members, None).await {
            tracing::warn!(%error, "etcd is reached as before");
        }
        self.kept.borrow_mut().etcd = etcd.endpoints();
    }

    /// Whether it is known that this manager's member of etcd has been taken out.
    async fn is_out_of_etcd(&self) -> bool {
        let Decisions::Here { manager, .. } = &self.decisions else { return false };
        let Some(etcd) = &manager.etcd else { return false };
        let members = timeout(DECISION, etcd.members()).await;
        // One that is there has started: this host has been a manager with it.
        matches!(members, Ok(Ok(members)) if members.iter().all(|m| m.name != self.node.as_str()))
    }

    /// Whether this host is the cluster's last manager, as the store has it, or as was known last
    /// while that is away.
    async fn is_last(&self) -> bool {
        let Decisions::Here { manager, .. } = &self.decisions else { return false };
        let is_other =
            |node: &::cluster::rows::Node| node.role == Role::Manager && node.id != self.node;
        match timeout(DECISION, manager.decider.nodes()).await {
            Ok(Ok(nodes)) => !nodes.iter().any(is_other),
            _ => !self.view.borrow().nodes.values().any(is_other),
        }
    }

    /// The cluster ends with its last manager: the other nodes hear from the store, while that is there,
    /// that they are of none any more.
    async fn end(&self) {
        let Decisions::Here { manager, .. } = &self.decisions else { return };
        let nodes = match timeout(DECISION, manager.decider.nodes()).await {
            Ok(Ok(nodes)) => nodes,
            Ok(Err(error)) => {
                return tracing::warn!(%error, "the others are not told that it is over");
            }
            Err(_) => return tracing::warn!("the others are not told in time that it is over"),
        };
        for node in nodes.into_iter().map(|node| node.id).filter(|node| *node != self.node) {
            match timeout(DECISION, manager.decider.remove_node(&node)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%node, %error, "it is not told that it is over"),
                // The store is away, for the others as well.
                Err(_) => return tracing::warn!(%node, "not told in time that it is over"),
            }
        }
    }

    /// Has the cluster take this host out: the member of its etcd, where there is one, if the others
    /// are a majority without it, then the rows, then the rights. With `force` it is over whatever
    /// comes of it; without, this host stays what it is when it is refused.
    async fn say_goodbye(&self, force: bool) -> Result<()> {
        self.note_members().await;
        self.note_leaving(Some(Leaving::Asked { force }))?;
        self.leaving.set(true);
        fault::point("cluster.leave.after-asked");
        let error = match self.decide_within(Decision::Leave, LEAVING).await {
            Ok(_) => return Ok(()),
            // It was heard before.
            Err(error) if says_removed(&error) => return Ok(()),
            // Who has no rights any more is told by others why.
            Err(error) if error.kind == Kind::Denied => match self.standing().await {
                Err(::cluster::Error::Remote(said)) if says_removed(&said) => return Ok(()),
                _ => error,
            },
            Err(error) => error,
        };
        if force {
            tracing::warn!(%error, "the others were not told");
            return Ok(());
        }
        if self.is_out_of_etcd().await {
            let what =
                "; netd goes on with leaving, since this host's member of etcd is out already";
            return Err(Error { message: error.message.clone() + what, ..error });
        }
        self.leaving.set(false);
        self.note_leaving(None)?;
        let what = match (error.kind, &self.decisions) {
            (Kind::Busy, Decisions::Here { .. }) => {
                "; with --force it leaves all the same, and the cluster decides nothing more"
            }
            _ => "; with --force it leaves all the same, and the others still list it",
        };
        Err(Error { message: error.message.clone() + what, ..error })
    }
}
