//! What an attach to a network of the cluster needs before it goes the way of every other: the
//! network up on this host, and addresses that are this host's to give. Nobody is asked for either
//! as long as there is room in a block; where no block is left, others spare single addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use ::cluster::{
    decide::{Avoid, Claimed, Idle, wants_another},
    messages::{Decided, Decision},
};
use cnm::{Error, Kind, NetworkId, Result, network::Network};
use ipnetwork::IpNetwork;
use tokio::{sync::Mutex, time::timeout};

use super::{Cluster, DECISION, wording::named};
use crate::{netd::Netd, registry::Room};

/// An attach that is under way: its network stays up.
pub(crate) struct Coming {
    netd: Rc<Netd>,
    network: NetworkId,
    /// Addresses of others' blocks that it asked for, by name or because there was no other.
    awaited: Vec<IpAddr>,
    /// Those that it got though it had not named any.
    borrowed: Vec<IpAddr>,
}

impl Coming {
    /// The addresses that it is to have, since this host has no others.
    pub(crate) fn borrowed(&self) -> &[IpAddr] {
        &self.borrowed
    }

    /// Nobody gives this address back before it is used.
    fn awaits(&mut self, address: IpAddr) {
        self.awaited.push(address);
        if let Some(entry) = self.netd.registry.borrow_mut().network_mut(&self.network)
            && let Some(shared) = &mut entry.shared
        {
            shared.awaited.push(address);
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(entry) = self.netd.registry.borrow_mut().network_mut(&self.network)
            && let Some(shared) = &mut entry.shared
        {
            shared.coming -= 1;
            for address in &self.awaited {
                if let Some(at) = shared.awaited.iter().position(|other| other == address) {
                    shared.awaited.swap_remove(at);
                }
            }
        }
        if !self.awaited.is_empty() {
            self.netd.return_loans(&self.network);
        }
        self.netd.settle_down(&self.network);
    }
}

impl Netd {
    /// Makes ready what an endpoint on a network of the cluster needs. What it gives is kept until
    /// the endpoint is there or is not: there is room for it until something else is waited for.
    pub(crate) async fn make_room(
        self: &Rc<Self>,
        network: &Network,
        wanted: &[IpAddr],
    ) -> Result<Coming> {
        // It may be gone by now for everybody who would know its name.
        let name = network.name.as_str();
        self.make_room_on(network, wanted).await.map_err(|error| Error {
            message: named(&error.message, network.id.short(), name),
            ..error
        })
    }

    async fn make_room_on(self: &Rc<Self>, network: &Network, wanted: &[IpAddr]) -> Result<Coming> {
        let cluster = self.member()?;
        cluster.takes_endpoints()?;
        let id = &network.id;
        match self.registry.borrow_mut().network_mut(id).and_then(|entry| entry.shared.as_mut()) {
            Some(shared) => shared.coming += 1,
            None => {
                return Err(Error::not_found(format_args!("network {} not found", network.name)));
            }
        }
        let (netd, awaited, borrowed) = (self.clone(), Vec::new(), Vec::new());
        let mut coming = Coming { netd, network: id.clone(), awaited, borrowed };
        self.rise(&cluster, id).await?;
        for address in wanted {
            coming.awaits(*address);
            self.claim_this(&cluster, id, *address).await?;
        }
        // Others may have what was there for one family while this one waited for the other.
        while let Some(v6) = self.families(id).into_iter().find(|v6| {
            let mut named = wanted.iter().chain(&coming.borrowed);
            !named.any(|address| address.is_ipv6() == *v6) && self.room(id, *v6).free() == 0
        }) {
            self.claim_some(&cluster, &mut coming, v6).await?;
        }
        Ok(coming)
    }

    fn families(&self, id: &NetworkId) -> Vec<bool> {
        let registry = self.registry.borrow();
        let shared = registry.network(id).and_then(|entry| entry.shared.as_ref());
        shared.map(|shared| shared.blocks.families()).unwrap_or_default()
    }

    /// How much room there is.
    fn room(&self, id: &NetworkId, v6: bool) -> Room {
        let now = self.now();
        let registry = self.registry.borrow();
        let shared = registry.network(id).and_then(|entry| entry.shared.as_ref());
        shared.map(|shared| shared.blocks.room(v6, now)).unwrap_or_default()
    }

    /// Has this host have a block with room, or failing that the attach an address of another's.
    async fn claim_some(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        coming: &mut Coming,
        v6: bool,
    ) -> Result<()> {
        let id = coming.network.clone();
        let turn = self.claiming_of(&id)?;
        let _turn = turn.lock().await;
        // Whose turn it was before may have got enough for many.
        if self.room(&id, v6).free() > 0 {
            return Ok(());
        }
        match self.claim_block(cluster, &id, v6, false).await {
            Err(error) if error.kind == Kind::Exhausted => self.borrow(cluster, coming, v6).await,
            claimed => claimed,
        }
    }

    /// Who claims blocks of a network does so while holding this.
    fn claiming_of(&self, id: &NetworkId) -> Result<Arc<Mutex<()>>> {
        let registry = self.registry.borrow();
        let shared = registry.network(id).and_then(|entry| entry.shared.as_ref());
        shared.map(|shared| shared.claiming.clone()).ok_or_else(|| {
            Error::not_found(format_args!("network {} not found", id.short()))
                .with("network", id.as_str())
        })
    }

    /// Has another host spare an address for an attach. Hosts that are silent are not asked, and of
    /// one that does not answer no other address is.
    async fn borrow(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        coming: &mut Coming,
        ipv6: bool,
    ) -> Result<()> {
        let id = coming.network.clone();
        let mut avoid = cluster.silent();
        loop {
            let (network, avoided) = (id.clone(), avoid.clone());
            let decision = Decision::BorrowAddress { network, ipv6, avoid: avoided };
            let Decided::Asked { asked } = cluster.decide(decision).await? else {
                return Err(Error::internal("a manager answered something else"));
            };
            let (address, owner) = (asked.address, asked.node);
            coming.awaits(address);
            let answered = cluster.until("an address", |view| view.is_answered(&id, address)).await;
            let lent = cluster.view.borrow().own_blocks(&id).1.contains(&address);
            if lent && self.has_address(&id, address) {
                tracing::debug!(network = id.short(), %address, "address borrowed");
                coming.borrowed.push(address);
                return Ok(());
            }
            let network = id.clone();
            cluster.decide(Decision::ReleaseAddress { network, address }).await?;
            if answered.is_err() {
                avoid.nodes.insert(owner);
            }
            avoid.addresses.insert(address);
        }
    }

    /// Whether an address of a network is this host's to give.
    fn has_address(&self, id: &NetworkId, address: IpAddr) -> bool {
        let registry = self.registry.borrow();
        let shared = registry.network(id).and_then(|entry| entry.shared.as_ref());
        shared.is_some_and(|shared| shared.blocks.has(address))
    }

    async fn claim_block(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        id: &NetworkId,
        ipv6: bool,
        ahead: bool,
    ) -> Result<()> {
        let network = id.clone();
        let decided = cluster.decide(Decision::ClaimBlock { network, ipv6, ahead }).await?;
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
        // What somebody here had is not this host's for that.
        if self.has_address(id, address) && cluster.view.borrow().is_ours(id, address) {
            return Ok(());
        }
        let claim = || Decision::ClaimAddress { network: id.clone(), address };
        let mut decided = cluster.decide(claim()).await?;
        let asked = Instant::now();
        let mut news = cluster.seen.subscribe();
        while let Decided::Address { claimed: Claimed::Asked(block) } = decided {
            // Only who has the block knows whether somebody has the address.
            let answered = cluster.until("an address", |view| view.is_answered(id, address)).await;
            if answered.is_err() || asked.elapsed() > DECISION {
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
            news.mark_unchanged();
            decided = cluster.decide(claim()).await?;
            if let Decided::Address { claimed: Claimed::Asked(_) } = decided {
                // The answer that this host knows of is to what it asked before, and gave back since.
                timeout(DECISION, news.changed()).await.ok();
            }
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
        let is_short = |netd: &Self, id: &NetworkId, v6: bool| {
            let Room { total, used, .. } = netd.room(id, v6);
            wants_another(total, used)
        };
        let families = self.families(id);
        let Ok(turn) = self.claiming_of(id) else { return };
        if !families.iter().any(|v6| is_short(self, id, *v6)) {
            return;
        }
        cluster.claiming.set(true);
        let (netd, id) = (self.clone(), id.clone());
        tokio::task::spawn_local(async move {
            let _turn = turn.lock().await;
            for v6 in families {
                if is_short(&netd, &id, v6)
                    && let Err(error) = netd.claim_block(&cluster, &id, v6, true).await
                {
                    tracing::debug!(network = id.short(), %error, "no spare block");
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
        } else {
            self.drop_if_gone(id);
        }
    }

    /// One look at what this host holds and does not need: blocks that were empty twice go back,
    /// and so do addresses that were asked for.
    pub(super) async fn give_back(self: &Rc<Self>, cluster: &Rc<Cluster>, idle: &mut Idle) {
        let now = self.now();
        let mut held = BTreeMap::new();
        for entry in self.registry.borrow().networks() {
            let Some(shared) = &entry.shared else { continue };
            held.insert(entry.network.id.clone(), shared.blocks.usage(now));
        }
        for (id, usage) in held {
            for block in idle.look(&id, &usage) {
                if let Err(error) = self.release_block(cluster, &id, block).await {
                    tracing::info!(network = id.short(), %block, %error, "block kept");
                }
            }
            self.return_loans(&id);
        }
    }

    /// Gives addresses of others' blocks back that nobody here has or is about to have: their owner
    /// may need them.
    pub(crate) fn return_loans(self: &Rc<Self>, id: &NetworkId) {
        let Some(cluster) = self.cluster() else { return };
        let unused = {
            let mut registry = self.registry.borrow_mut();
            let shared = registry.network_mut(id).and_then(|entry| entry.shared.as_mut());
            // What cannot be given back stays until the next look.
            let Some(shared) = shared.filter(|_| !cluster.is_away()) else { return };
            let mut unused = shared.blocks.unused_loans();
            unused.retain(|address| !shared.awaited.contains(address));
            unused.iter().for_each(|address| shared.blocks.return_loan(*address, true));
            unused
        };
        if unused.is_empty() {
            return;
        }
        let (netd, id) = (self.clone(), id.clone());
        tokio::task::spawn_local(async move {
            for address in unused {
                let network = id.clone();
                let decision = Decision::ReleaseAddress { network, address };
                match cluster.decide(decision).await {
                    // What is seen of it until then is old.
                    Ok(_) => {
                        let gone = |view: &super::View| !view.own_blocks(&id).1.contains(&address);
                        drop(cluster.until("a release", gone).await);
                    }
                    Err(error) => {
                        tracing::info!(network = id.short(), %address, %error, "address kept");
                    }
                }
                if let Some(entry) = netd.registry.borrow_mut().network_mut(&id)
                    && let Some(shared) = &mut entry.shared
                {
                    shared.blocks.return_loan(address, false);
                }
                netd.blocks_changed(&cluster, &id);
            }
        });
    }

    /// A block goes back: nobody here gets an address of it from before the others may.
    pub(super) async fn release_block(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        id: &NetworkId,
        block: IpNetwork,
    ) -> Result<()> {
        {
            let mut registry = self.registry.borrow_mut();
            let shared = registry.network_mut(id).and_then(|entry| entry.shared.as_mut());
            let Some(shared) = shared else { return Ok(()) };
            if shared.coming > 0 || shared.blocks.is_leased(block) {
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

impl Cluster {
    /// The nodes that do not answer anybody.
    fn silent(&self) -> Avoid {
        let view = self.view.borrow();
        let nodes = view.nodes.keys().filter(|node| !view.live.contains(*node)).cloned().collect();
        Avoid { nodes, ..Avoid::default() }
    }
}
