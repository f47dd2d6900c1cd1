//! What an attach to a network of the cluster needs before it goes the way of every other: the
//! network up on this host, and addresses that are this host's to give. Nobody is asked for either
//! as long as there is room in a block.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
};

use ::cluster::{
    decide::{Claimed, Idle, wants_another},
    messages::{Decided, Decision},
};
use cnm::{Error, NetworkId, Result, network::Network};
use ipnetwork::IpNetwork;

use super::Cluster;
use crate::{netd::Netd, registry::Room};

/// An attach that is under way: its network stays up.
pub(crate) struct Coming {
    netd: Rc<Netd>,
    network: NetworkId,
}

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(entry) = self.netd.registry.borrow_mut().network_mut(&self.network)
            && let Some(shared) = &mut entry.shared
        {
            shared.coming -= 1;
        }
        self.netd.settle_down(&self.network);
    }
}

impl Netd {
    /// Makes ready what an endpoint on a network of the cluster needs. What it gives is kept until
    /// the endpoint is there or is not.
    pub(crate) async fn make_room(
        self: &Rc<Self>,
        network: &Network,
        wanted: &[IpAddr],
    ) -> Result<Coming> {
        let cluster = self.member()?;
        cluster.takes_endpoints()?;
        let id = &network.id;
        match self.registry.borrow_mut().network_mut(id).and_then(|entry| entry.shared.as_mut()) {
            Some(shared) => shared.coming += 1,
            None => {
                return Err(Error::not_found(format_args!("network {} not found", network.name)));
            }
        }
        let coming = Coming { netd: self.clone(), network: id.clone() };
        self.rise(&cluster, id).await?;
        for address in wanted {
            self.claim_this(&cluster, id, *address).await?;
        }
        for v6 in self.families(id) {
            if !wanted.iter().any(|address| address.is_ipv6() == v6) {
                self.claim_some(&cluster, id, v6).await?;
            }
        }
        Ok(coming)
    }

    fn families(&self, id: &NetworkId) -> Vec<bool> {
        let registry = self.registry.borrow();
        let shared = registry.network(id).and_then(|entry| entry.shared.as_ref());
        shared.map(|shared| shared.blocks.families()).unwrap_or_default()
    }

    /// How much room there is, and how many attaches are under way.
    fn room(&self, id: &NetworkId, v6: bool) -> (Room, usize) {
        let now = self.now();
        let registry = self.registry.borrow();
        let shared = registry.network(id).and_then(|entry| entry.shared.as_ref());
        shared.map(|shared| (shared.blocks.room(v6, now), shared.coming)).unwrap_or_default()
    }

    /// Claims blocks until every attach under way can have an address.
    async fn claim_some(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        id: &NetworkId,
        v6: bool,
    ) -> Result<()> {
        loop {
            let (room, coming) = self.room(id, v6);
            if room.free() >= coming {
                return Ok(());
            }
            if let Err(error) = self.claim_block(cluster, id, v6).await {
                // Some of those who come may have their addresses already.
                return if room.free() > 0 { Ok(()) } else { Err(error) };
            }
        }
    }

    async fn claim_block(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        id: &NetworkId,
        ipv6: bool,
    ) -> Result<()> {
        let network = id.clone();
        let decided = cluster.decide(Decision::ClaimBlock { network, ipv6 }).await?;
        let Decided::Block { block } = decided else {
            return Err(Error::internal("a manager answered something else"));
        };
        cluster.until("a block", |view| view.own_blocks(id).0.contains_key(&block)).await?;
        tracing::debug!(network = id.short(), %block, "block claimed");
        Ok(())
    }

    async fn claim_this(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        id: &NetworkId,
        address: IpAddr,
    ) -> Result<()> {
        let has = {
            let registry = self.registry.borrow();
            let shared = registry.network(id).and_then(|entry| entry.shared.as_ref());
            shared.is_some_and(|shared| shared.blocks.has(address))
        };
        // What somebody here had is not this host's for that.
        if has && cluster.view.borrow().is_ours(id, address) {
            return Ok(());
        }
        let claim = || Decision::ClaimAddress { network: id.clone(), address };
        let mut decided = cluster.decide(claim()).await?;
        if let Decided::Address { claimed: Claimed::Asked(block) } = decided {
            // Only who has the block knows whether somebody has the address.
            let answered = cluster.until("an address", |view| view.is_answered(id, address)).await;
            if answered.is_err() {
                let release = Decision::ReleaseAddress { network: id.clone(), address };
                if let Err(error) = cluster.decide(release).await {
                    tracing::info!(network = id.short(), %address, %error, "still asked for");
                }
                return Err(Error::unavailable(format_args!(
                    "address {address} lies in block {block} of another host, which does not \
                     answer: ask for another address, or again when that host is back"
                ))
                .with("address", address.to_string()));
            }
            decided = cluster.decide(claim()).await?;
        }
        match decided {
            Decided::Address { claimed: Claimed::Own(_) } => Ok(()),
            Decided::Address { claimed: Claimed::Block(block) } => {
                cluster.until("an address", |view| view.own_blocks(id).0.contains_key(&block)).await
            }
            Decided::Address { claimed: Claimed::Lent(_) } => {
                cluster.until("an address", |view| view.own_blocks(id).1.contains(&address)).await
            }
            _ => Err(Error::internal("a manager answered something else")),
        }
    }

    /// Claims a block ahead where little is left. Nobody waits for it.
    pub(crate) fn keep_spare(self: &Rc<Self>, id: &NetworkId) {
        let Some(cluster) = self.cluster() else { return };
        if cluster.is_away() || cluster.claiming.get() {
            return;
        }
        let short: Vec<bool> = self
            .families(id)
            .into_iter()
            .filter(|v6| {
                let (Room { total, used, .. }, _) = self.room(id, *v6);
                wants_another(total, used)
            })
            .collect();
        if short.is_empty() {
            return;
        }
        cluster.claiming.set(true);
        let (netd, id) = (self.clone(), id.clone());
        tokio::task::spawn_local(async move {
            for v6 in short {
                if let Err(error) = netd.claim_block(&cluster, &id, v6).await {
                    tracing::info!(network = id.short(), %error, "no spare block");
                }
            }
            cluster.claiming.set(false);
        });
    }

    /// The blocks of a network of the cluster are as the store has them.
    pub(super) fn blocks_changed(self: &Rc<Self>, cluster: &Rc<Cluster>, id: &NetworkId) {
        let (own, borrowed) = cluster.view.borrow().own_blocks(id);
        self.take_blocks(id, own, borrowed, cluster);
        if !self.strays(cluster, Some(id)).is_empty() {
            cluster.claim.notify_one();
        }
    }

    fn take_blocks(
        self: &Rc<Self>,
        id: &NetworkId,
        own: BTreeMap<IpNetwork, BTreeSet<IpAddr>>,
        borrowed: BTreeSet<IpAddr>,
        cluster: &Rc<Cluster>,
    ) {
        let now = self.now();
        let mut registry = self.registry.borrow_mut();
        let shared = registry.network_mut(id).and_then(|entry| entry.shared.as_mut());
        let Some(blocks) = shared.map(|shared| &mut shared.blocks) else { return };
        let lost: Vec<_> = blocks.own().filter(|block| !own.contains_key(block)).collect();
        lost.into_iter().for_each(|block| blocks.remove(block));
        let mut refused = BTreeSet::new();
        for (block, others) in own {
            match blocks.add(block, others, now) {
                Ok(taken) => refused.extend(taken),
                Err(error) => tracing::error!(%block, %error, "block passed over"),
            }
        }
        let held: Vec<_> = blocks.own().collect();
        for (block, address) in cluster.view.borrow().asked(id) {
            if held.contains(&block) {
                self.answer_asker(cluster, id, block, address, !refused.contains(&address));
            }
        }
        let unknown: Vec<_> =
            blocks.unused_loans().into_iter().filter(|a| !borrowed.contains(a)).collect();
        unknown.into_iter().for_each(|address| blocks.give_back(address));
        borrowed.into_iter().for_each(|address| blocks.borrow(address));
    }

    /// Says whether an address of this host's block is free that another asks for.
    fn answer_asker(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        id: &NetworkId,
        block: IpNetwork,
        address: IpAddr,
        free: bool,
    ) {
        let (cluster, network) = (cluster.clone(), id.clone());
        tokio::task::spawn_local(async move {
            let decision = Decision::LendAddress { network, block, address, free };
            match cluster.decide(decision).await {
                Ok(_) => tracing::info!(%address, free, "another host asked for an address"),
                Err(error) => tracing::info!(%address, %error, "who asked for it is not answered"),
            }
        });
    }

    /// Takes a network of the cluster down when nobody is on it, and nobody comes.
    pub(crate) fn settle_down(self: &Rc<Self>, id: &NetworkId) {
        let idle = {
            let registry = self.registry.borrow();
            registry.network(id).is_some_and(|entry| {
                let idle = |s: &crate::registry::Shared| s.up && s.coming == 0;
                entry.endpoints.is_empty() && entry.shared.as_ref().is_some_and(idle)
            })
        };
        if idle {
            let (netd, id) = (self.clone(), id.clone());
            tokio::task::spawn_local(async move { netd.rest(&id).await });
        }
    }

    /// One look at what this host holds and does not need: blocks that were empty twice go back,
    /// and so do addresses that were asked for.
    pub(super) async fn give_back(self: &Rc<Self>, cluster: &Rc<Cluster>, idle: &mut Idle) {
        let now = self.now();
        let mut held = BTreeMap::new();
        for entry in self.registry.borrow().networks() {
            let Some(shared) = &entry.shared else { continue };
            let usage = shared.blocks.usage(now);
            held.insert(entry.network.id.clone(), (usage, shared.blocks.unused_loans()));
        }
        for (id, (usage, loans)) in held {
            for block in idle.look(&id, &usage) {
                if let Err(error) = self.release_block(cluster, &id, block).await {
                    tracing::info!(network = id.short(), %block, %error, "block kept");
                }
            }
            for address in loans {
                let network = id.clone();
                let decision = Decision::ReleaseAddress { network, address };
                if let Err(error) = cluster.decide(decision).await {
                    tracing::info!(network = id.short(), %address, %error, "address kept");
                }
            }
        }
    }

    /// A block goes back: nobody here gets an address of it from before the others may.
    async fn release_block(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        id: &NetworkId,
        block: IpNetwork,
    ) -> Result<()> {
        let now = self.now();
        {
            let mut registry = self.registry.borrow_mut();
            let shared = registry.network_mut(id).and_then(|entry| entry.shared.as_mut());
            let Some(shared) = shared else { return Ok(()) };
            let empty = shared.blocks.usage(now).contains(&(block, 0));
            if shared.coming > 0 || !empty {
                return Ok(());
            }
            shared.blocks.leave(block, true);
        }
        let network = id.clone();
        let released = cluster.decide(Decision::ReleaseBlock { network, block }).await;
        if released.is_ok() {
            // What is seen of it until then is old.
            let gone = |view: &super::View| !view.own_blocks(id).0.contains_key(&block);
            drop(cluster.until("a release", gone).await);
        }
        let let_it_be = |registry: &mut crate::registry::Registry| {
            let shared = registry.network_mut(id).and_then(|entry| entry.shared.as_mut());
            shared.into_iter().for_each(|shared| shared.blocks.leave(block, false));
        };
        let_it_be(&mut self.registry.borrow_mut());
        self.blocks_changed(cluster, id);
        released.map(drop)
    }
}
