//! How large packets between the hosts may be: each host watches the link by which the others reach
//! it, and says so where a network is too large for one of them.

use std::{net::IpAddr, rc::Rc};

use ::cluster::{messages::Decision, rows};
use cnm::network::Network;

use super::{Cluster, DRIVER, view::View};
use crate::netd::Netd;

/// The link by which others reach this host, as it was at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    link: Option<u32>,
    mtu: Option<u32>,
}

/// What VXLAN puts around a packet, in bytes.
fn overhead(vtep: IpAddr) -> u32 {
    if vtep.is_ipv4() { 50 } else { 70 }
}

/// The largest MTU of a network that fits a node, where that is known.
fn room(node: &rows::Node) -> Option<u32> {
    let vtep = node.facts.vtep()?;
    (node.facts.mtu > 0).then(|| node.facts.mtu.saturating_sub(overhead(vtep)))
}

impl View {
    /// The largest MTU that fits between all nodes.
    pub(super) fn agreed_mtu(&self) -> Option<u32> {
        self.nodes.values().filter_map(room).min()
    }
}

impl Netd {
    /// Looks at the link by which others reach this host. When its MTU is another, the driver is told
    /// everything again, whose device between the hosts is as large as that allows, and so are the
    /// others, as soon as the store is there.
    pub(super) async fn watch_underlay(self: &Rc<Self>, cluster: &Rc<Cluster>, seen: &mut Watched) {
        let Some(said) = cluster.view.borrow().here().map(|here| here.facts.mtu) else { return };
        let now = match seen.link {
            Some(index) => self.host.mtu_of(index).await,
            None => None,
        };
        if now == Some(said) && now == seen.mtu {
            return;
        }
        let kept = cluster.kept.borrow().clone();
        // Where no link has the address its driver says so.
        let Ok(underlay) = self.host.underlay_of(kept.address).await else {
            seen.link = None;
            return;
        };
        seen.link = Some(underlay.index);
        let before = seen.mtu.replace(underlay.mtu).unwrap_or(said);
        if before != underlay.mtu && !self.fit_underlay(cluster, underlay.mtu).await {
            seen.mtu = Some(before);
        }
        if underlay.mtu == said || cluster.is_away() || !cluster.view.borrow().complete {
            return;
        }
        let Ok(facts) = self.facts(kept.address, Some(&kept)).await else { return };
        match cluster.decide(Decision::Update { facts }).await {
            Ok(_) => tracing::info!(mtu = underlay.mtu, was = said, "the underlay has another MTU"),
            Err(error) => tracing::debug!(%error, "the others do not know of the underlay's MTU"),
        }
    }

    /// Has the driver look at the underlay again, if any network is up; whether that is done.
    async fn fit_underlay(self: &Rc<Self>, cluster: &Cluster, mtu: u32) -> bool {
        let up = cluster.view.borrow().networks.keys().any(|network| self.is_up(network));
        if !up {
            return true;
        }
        match self.sync(DRIVER).await {
            Ok(synced) => {
                self.after_sync(DRIVER, synced);
                self.driver_started(DRIVER);
                true
            }
            Err(error) => {
                tracing::warn!(mtu, %error, "the link between the hosts does not fit the underlay");
                false
            }
        }
    }

    /// Says of each network of the cluster whether it fits, after a node changed.
    pub(super) fn flag_mtus(&self, cluster: &Cluster) {
        for row in cluster.view.borrow().networks.values() {
            self.flag_mtu(cluster, &row.network);
        }
    }

    /// Says that a network does not fit this host or others, whose underlay is too small for it.
    pub(super) fn flag_mtu(&self, cluster: &Cluster, network: &Network) {
        let (about, view) = (format!("mtu {}", network.id), cluster.view.borrow());
        let why = network.mtu.and_then(|mtu| {
            let is_small = |node: &&rows::Node| room(node).is_some_and(|room| mtu > room);
            // What is wrong here comes before what is wrong elsewhere.
            let small = view.here().filter(is_small).or_else(|| view.nodes.values().find(is_small))?;
            let (vtep, there) = (small.facts.vtep()?, small.facts.mtu);
            let place = if small.id == cluster.node {
                "this host".to_owned()
            } else {
                format!("node {}", small.facts.name)
            };
            Some(format!(
                "network {} cannot be used in full on {place}: its mtu is {mtu}, and with {} bytes of \
                 VXLAN around it that does not fit the mtu {there} of the link with {vtep}",
                network.name,
                overhead(vtep)
            ))
        });
        let mut problems = self.problems.borrow_mut();
        match why {
            Some(why) => drop(problems.insert(about, why)),
            None => drop(problems.remove(&about)),
        }
    }
}
