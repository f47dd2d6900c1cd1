//! Addresses of a network that many hosts give out: each gives out those of its own blocks, and
//! those that it was lent. Pure, as the pools are that it is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use cnm::{
    Error, Kind, Result,
    network::{Network, Subnet},
};
use ipam::{Moment, Pool, PoolConfig};
use ipnetwork::IpNetwork;

use crate::netd::address_error;

/// The addresses of one network that are this host's to give.
#[derive(Debug)]
pub(crate) struct Blocks {
    network: String,
    subnets: Vec<Subnet>,
    reuse_delay: Duration,
    own: BTreeMap<IpNetwork, Own>,
    /// Blocks that are about to go back: nothing is given of them any more.
    leaving: BTreeSet<IpNetwork>,
    /// Addresses in others' blocks that are this host's, and whether somebody has them.
    borrowed: BTreeMap<IpAddr, bool>,
    /// Addresses that somebody had before a restart, until the blocks around them are known.
    waiting: BTreeMap<IpAddr, Moment>,
    /// Such addresses that are about to go back.
    returning: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Own {
    pool: Pool,
    /// How many addresses it has when nobody has one.
    size: u128,
    /// Of those the ones that other hosts have.
    lent: BTreeSet<IpAddr>,
}

/// A block that is this host's, or a single address of another's that is, and how full it is.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The subnet that it is of.
    pub(crate) subnet: Subnet,
    /// Which.
    pub(crate) block: IpNetwork,
    /// How many of its addresses endpoints of this host can have.
    pub(crate) usable: u128,
    /// How many have.
    pub(crate) leased: u128,
    /// How many wait after their last owner.
    pub(crate) quarantined: u128,
    /// How many more endpoints can be given one.
    pub(crate) available: u128,
}

/// How many addresses of one family there are and how many are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// All of them.
    pub(crate) total: usize,
    /// Those in use.
    pub(crate) used: usize,
    /// In how many blocks they are.
    pub(crate) blocks: usize,
}

impl Room {
    /// How many more can be given out.
    pub(crate) fn free(self) -> usize {
        self.total.saturating_sub(self.used)
    }
}

fn count(n: u128) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl Blocks {
    /// None of the network's addresses.
    pub(crate) fn new(network: &Network, reuse_delay: Duration) -> Self {
        Self {
            network: network.name.to_string(),
            subnets: network.subnets.clone(),
            reuse_delay,
            own: BTreeMap::new(),
            leaving: BTreeSet::new(),
            borrowed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            returning: BTreeSet::new(),
        }
    }

    /// The network has other subnets from now on.
    pub(crate) fn set_subnets(&mut self, subnets: &[Subnet]) {
        self.subnets = subnets.to_vec();
    }

    /// A block is this host's, or others have other addresses of it, or ask for some; which of them
    /// somebody here has.
    ///
    /// # Errors
    /// When it is none of the network's.
    pub(crate) fn add(
        &mut self,
        block: IpNetwork,
        mut lent: BTreeSet<IpAddr>,
        now: Moment,
    ) -> Result<BTreeSet<IpAddr>> {
        let stray = || {
            Error::internal(format_args!("block {block} is outside of network {}", self.network))
        };
        let mut refused = BTreeSet::new();
        if self.leaving.contains(&block) {
            return Ok(refused);
        }
        if !self.own.contains_key(&block) {
            let subnet = self.subnets.iter().find(|s| s.subnet.contains(block.network()));
            let subnet = subnet.ok_or_else(stray)?;
            let mut pool = Pool::new(PoolConfig {
                range: Some(block),
                gateway: subnet.gateway,
                aux: subnet.aux.clone(),
                exclude: subnet.exclude.clone(),
                reuse_delay: self.reuse_delay,
                ..PoolConfig::new(subnet.subnet)
            })
            .map_err(|error| address_error(&error))?;
            let size = pool.utilisation(now).available;
            // What was borrowed before the block around it came.
            let inside: Vec<IpAddr> =
                self.borrowed.keys().copied().filter(|a| block.contains(*a)).collect();
            for address in inside {
                if self.borrowed.remove(&address) == Some(true)
                    && let Err(error) = pool.restore(address)
                {
                    tracing::error!(%address, %error, "no lease");
                }
            }
            self.waiting.retain(|address, since| {
                let inside = block.contains(*address);
                if inside {
                    pool.let_wait(*address, *since);
                }
                !inside
            });
            self.own.insert(block, Own { pool, size, lent: BTreeSet::new() });
        }
        let Some(own) = self.own.get_mut(&block) else { return Ok(refused) };
        for address in own.lent.difference(&lent) {
            own.pool.release(*address, now);
        }
        for address in lent.difference(&own.lent) {
            if own.pool.allocate_static(*address, now).is_err() {
                refused.insert(*address);
            }
        }
        lent.retain(|address| !refused.contains(address));
        own.lent = lent;
        Ok(refused)
    }

    /// A block is this host's no more. Addresses of it that somebody has stay his.
    pub(crate) fn remove(&mut self, block: IpNetwork) {
        let Some(own) = self.own.remove(&block) else { return };
        let held = own.pool.leases().filter(|address| !own.lent.contains(address));
        self.borrowed.extend(held.map(|address| (address, true)));
    }

    /// A block is about to go back, or stays after all.
    pub(crate) fn leave(&mut self, block: IpNetwork, leaving: bool) {
        if leaving {
            self.remove(block);
            self.leaving.insert(block);
        } else {
            self.leaving.remove(&block);
        }
    }

    /// The blocks that are this host's.
    pub(crate) fn own(&self) -> impl Iterator<Item = IpNetwork> {
        self.own.keys().copied()
    }

    /// Each block and how many of its addresses are in use.
    pub(crate) fn usage(&self, now: Moment) -> Vec<(IpNetwork, usize)> {
        let used = |own: &Own| {
            let quarantined = own.pool.utilisation(now).quarantined;
            count(own.pool.leases().count() as u128 + quarantined)
        };
        self.own.iter().map(|(block, own)| (*block, used(own))).collect()
    }

    /// All that is this host's to give, and how full it is.
    pub(crate) fn held(&self, now: Moment) -> Vec<Held> {
        let subnet = |block: IpNetwork| {
            self.subnets.iter().find(|subnet| subnet.subnet.contains(block.ip())).cloned()
        };
        let own = self.own.iter().filter_map(|(block, own)| {
            let (used, lent) = (own.pool.utilisation(now), own.lent.len() as u128);
            Some(Held {
                subnet: subnet(*block)?,
                block: *block,
                usable: own.size.saturating_sub(lent),
                leased: used.leased.saturating_sub(lent),
                quarantined: used.quarantined,
                available: used.available,
            })
        });
        // One that nobody has is given to whoever asked for it, and to nobody else.
        let borrowed = self.borrowed.iter().filter_map(|(address, used)| {
            let (block, leased) = (IpNetwork::from(*address), u128::from(*used));
            let (usable, quarantined, available) = (1, 0, 0);
            Some(Held { subnet: subnet(block)?, block, usable, leased, quarantined, available })
        });
        own.chain(borrowed).collect()
    }

    /// Whether somebody has an address of a block.
    pub(crate) fn is_leased(&self, block: IpNetwork) -> bool {
        self.own.get(&block).is_some_and(|own| own.pool.leases().next().is_some())
    }

    /// An address that another host's block is about is this host's.
    pub(crate) fn borrow(&mut self, address: IpAddr) {
        if !self.returning.contains(&address) {
            self.borrowed.entry(address).or_insert(false);
        }
    }

    /// Addresses that were borrowed and that nobody has.
    pub(crate) fn unused_loans(&self) -> Vec<IpAddr> {
        self.borrowed.iter().filter(|(_, used)| !**used).map(|(address, _)| *address).collect()
    }

    /// An address goes back to whose block it is in.
    pub(crate) fn give_back(&mut self, address: IpAddr) {
        if self.borrowed.get(&address) == Some(&false) {
            self.borrowed.remove(&address);
        }
    }

    /// An address that nobody has is about to go back, so that nobody gets it here, or has gone.
    pub(crate) fn return_loan(&mut self, address: IpAddr, returning: bool) {
        if returning {
            self.give_back(address);
            self.returning.insert(address);
        } else {
            self.returning.remove(&address);
        }
    }

    /// Whether this host may give that address out.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.borrowed.contains_key(&address)
            || self
                .own
                .iter()
                .any(|(block, own)| block.contains(address) && !own.lent.contains(&address))
    }

    /// Which families the network has.
    pub(crate) fn families(&self) -> Vec<bool> {
        let has = |v6: bool| self.subnets.iter().any(|s| s.subnet.is_ipv6() == v6);
        [false, true].into_iter().filter(|v6| has(*v6)).collect()
    }

    /// How much room there is for endpoints that want any address.
    pub(crate) fn room(&self, v6: bool, now: Moment) -> Room {
        let mut room = Room::default();
        for (_, own) in self.own.iter().filter(|(block, _)| block.is_ipv6() == v6) {
            let available = count(own.pool.utilisation(now).available);
            room.total = room.total.saturating_add(count(own.size));
            room.used = room.used.saturating_add(count(own.size).saturating_sub(available));
            room.blocks += 1;
        }
        room
    }

    /// An address of each family: the one that is wanted, or any. All or none.
    pub(super) fn lease(&mut self, wanted: &[IpAddr], now: Moment) -> Result<Vec<IpNetwork>> {
        let mut leased: Vec<IpNetwork> = Vec::new();
        for v6 in self.families() {
            let wanted = wanted.iter().copied().find(|address| address.is_ipv6() == v6);
            match self.lease_one(v6, wanted, now) {
                Ok(address) => leased.push(address),
                Err(error) => {
                    leased.iter().for_each(|address| self.release(address.ip(), now));
                    return Err(error);
                }
            }
        }
        Ok(leased)
    }

    fn lease_one(&mut self, v6: bool, wanted: Option<IpAddr>, now: Moment) -> Result<IpNetwork> {
        let given = match wanted {
            Some(address) => {
                self.lease_this(address, now)?;
                address
            }
            None => {
                let own = self.own.iter_mut().filter(|(block, _)| block.is_ipv6() == v6);
                let given = own.map(|(_, own)| own).find_map(|own| own.pool.allocate(now).ok());
                given.ok_or_else(|| {
                    Error::new(
                        Kind::Exhausted,
                        format_args!("this host has no free address of network {}", self.network),
                    )
                })?
            }
        };
        let subnet = self.subnets.iter().find(|subnet| subnet.subnet.contains(given));
        let length = subnet.map_or(if v6 { 128 } else { 32 }, |subnet| subnet.subnet.prefix());
        IpNetwork::new(given, length).map_err(Error::internal)
    }

    fn lease_this(&mut self, address: IpAddr, now: Moment) -> Result<()> {
        if let Some((_, own)) = self.own.iter_mut().find(|(block, _)| block.contains(address)) {
            let leased = own.pool.allocate_static(address, now);
            return leased.map_err(|error| address_error(&error));
        }
        match self.borrowed.get_mut(&address) {
            Some(used) if !*used => {
                *used = true;
                Ok(())
            }
            Some(_) => Err(Error::exists(format_args!("address {address} is in use"))
                .with("address", address.to_string())),
            None => Err(Error::unavailable(format_args!(
                "address {address} of network {} is not this host's to give",
                self.network
            ))
            .with("address", address.to_string())),
        }
    }

    /// Takes an address as it was stored.
    pub(super) fn restore(&mut self, address: IpAddr) {
        match self.own.iter_mut().find(|(block, _)| block.contains(address)) {
            Some((_, own)) => {
                if let Err(error) = own.pool.restore(address) {
                    tracing::error!(%address, %error, "no lease");
                }
            }
            None => drop(self.borrowed.insert(address, true)),
        }
    }

    /// Keeps an address that somebody had from being given to others at once.
    pub(super) fn let_wait(&mut self, address: IpAddr, since: Moment) {
        match self.own.iter_mut().find(|(block, _)| block.contains(address)) {
            Some((_, own)) => own.pool.let_wait(address, since),
            None => drop(self.waiting.insert(address, since)),
        }
    }

    /// Gives an address back.
    pub(super) fn release(&mut self, address: IpAddr, now: Moment) {
        if let Some(used) = self.borrowed.get_mut(&address) {
            *used = false;
        }
        for (_, own) in self.own.iter_mut().filter(|(block, _)| block.contains(address)) {
            own.pool.release(address, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(0);

    fn blocks() -> Blocks {
        let mut subnet = Subnet::new("10.0.0.0/24".parse().expect("a subnet"));
        subnet.gateway = Some("10.0.0.1".parse().expect("an address"));
        Blocks {
            network: "shop".to_owned(),
            subnets: vec![subnet],
            reuse_delay: Duration::ZERO,
            own: BTreeMap::new(),
            leaving: BTreeSet::new(),
            borrowed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            returning: BTreeSet::new(),
        }
    }

    fn block(text: &str) -> IpNetwork {
        text.parse().expect("a block")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_come_of_own_blocks_alone() {
        let mut blocks = blocks();
        assert_eq!(blocks.lease(&[], NOW).expect_err("none").kind, Kind::Exhausted);
        blocks.add(block("10.0.0.0/28"), BTreeSet::new(), NOW).expect("a block");
        // Neither the network's address nor the gateway's.
        assert_eq!(blocks.room(false, NOW), Room { total: 14, used: 0, blocks: 1 });
        let mut seen = BTreeSet::new();
        for _ in 0..14 {
            let leased = blocks.lease(&[], NOW).expect("room");
            assert_eq!(leased[0].prefix(), 24);
            assert!(block("10.0.0.0/28").contains(leased[0].ip()) && seen.insert(leased[0].ip()));
        }
        assert_eq!(blocks.lease(&[], NOW).expect_err("full").kind, Kind::Exhausted);
        assert_eq!(blocks.room(false, NOW).free(), 0);
        blocks.release(address("10.0.0.5"), NOW);
        assert_eq!(blocks.lease(&[], NOW).expect("room")[0].ip(), address("10.0.0.5"));
    }

    #[test]
    fn what_is_lent_is_not_given_and_what_is_borrowed_is_only_on_request() {
        let mut blocks = blocks();
        let lent = BTreeSet::from([address("10.0.0.17")]);
        blocks.add(block("10.0.0.16/31"), lent, NOW).expect("a block");
        assert_eq!(blocks.lease(&[], NOW).expect("one")[0].ip(), address("10.0.0.16"));
        assert!(blocks.lease(&[], NOW).is_err());
        assert!(!blocks.has(address("10.0.0.17")) && !blocks.has(address("10.0.0.99")));
        blocks.borrow(address("10.0.0.99"));
        assert!(blocks.lease(&[], NOW).is_err());
        let wanted = [address("10.0.0.99")];
        assert_eq!(blocks.lease(&wanted, NOW).expect("lent")[0].ip(), wanted[0]);
        assert_eq!(blocks.lease(&wanted, NOW).expect_err("used").kind, Kind::Exists);
        assert!(blocks.unused_loans().is_empty());
        blocks.release(wanted[0], NOW);
        assert_eq!(blocks.unused_loans(), wanted);
        // On its way back it is nobody's here, whatever is still seen of it.
        blocks.return_loan(wanted[0], true);
        blocks.borrow(wanted[0]);
        assert!(!blocks.has(wanted[0]) && blocks.unused_loans().is_empty());
        blocks.return_loan(wanted[0], false);
        blocks.borrow(wanted[0]);
        assert!(blocks.has(wanted[0]));
        // Nobody needs it any more here: given again.
        blocks.add(block("10.0.0.16/31"), BTreeSet::new(), NOW).expect("a block");
        assert_eq!(blocks.lease(&[], NOW).expect("one")[0].ip(), address("10.0.0.17"));
    }

    #[test]
    fn what_somebody_had_before_a_restart_waits_in_its_block() {
        for known_before in [true, false] {
            let mut blocks = Blocks { reuse_delay: Duration::from_secs(60), ..blocks() };
            let add = |blocks: &mut Blocks| {
                blocks.add(block("10.0.0.16/30"), BTreeSet::new(), NOW).expect("a block");
            };
            if known_before {
                add(&mut blocks);
            }
            blocks.let_wait(address("10.0.0.16"), NOW);
            blocks.let_wait(address("10.0.0.99"), NOW);
            add(&mut blocks);
            assert_eq!(blocks.usage(NOW), [(block("10.0.0.16/30"), 1)], "it goes to nobody yet");
            let next = blocks.lease(&[], NOW).expect("room")[0].ip();
            assert_eq!(next, address("10.0.0.17"));
        }
    }

    #[test]
    fn what_somebody_has_is_not_lent() {
        let mut blocks = blocks();
        blocks.add(block("10.0.0.16/30"), BTreeSet::new(), NOW).expect("a block");
        let taken = blocks.lease(&[], NOW).expect("room")[0].ip();
        let asked = BTreeSet::from([taken, address("10.0.0.19")]);
        let refused = blocks.add(block("10.0.0.16/30"), asked.clone(), NOW).expect("a block");
        assert_eq!(refused, BTreeSet::from([taken]));
        assert!(blocks.has(taken) && !blocks.has(address("10.0.0.19")));
        // Once it is free it is free for whoever asks.
        blocks.release(taken, NOW);
        let refused = blocks.add(block("10.0.0.16/30"), asked, NOW).expect("a block");
        assert_eq!(refused, BTreeSet::new());
        assert!(!blocks.has(taken));
    }

    #[test]
    fn a_block_that_is_lost_takes_no_address_away() {
        let mut blocks = blocks();
        blocks.restore(address("10.0.0.18"));
        blocks.add(block("10.0.0.16/28"), BTreeSet::new(), NOW).expect("a block");
        assert_eq!(blocks.usage(NOW), [(block("10.0.0.16/28"), 1)]);
        blocks.leave(block("10.0.0.32/28"), true);
        blocks.add(block("10.0.0.32/28"), BTreeSet::new(), NOW).expect("it is leaving");
        assert_eq!(blocks.own().count(), 1);
        blocks.leave(block("10.0.0.32/28"), false);
        let wanted = [address("10.0.0.18")];
        assert_eq!(blocks.lease(&wanted, NOW).expect_err("used").kind, Kind::Exists);
        blocks.remove(block("10.0.0.16/28"));
        assert_eq!(blocks.lease(&wanted, NOW).expect_err("used").kind, Kind::Exists);
        blocks.release(wanted[0], NOW);
        assert_eq!(blocks.unused_loans(), wanted);
    }
}
