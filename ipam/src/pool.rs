//! [`Pool`]: the addresses of one subnet and who may have them next. It owns the rules of choice;
//! the sets behind them are [`Intervals`], [`Quarantine`], [`Sticky`] and [`Reservations`].

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::config::{Layout, PoolConfig};
use crate::error::{AddressRole, Error};
use crate::free::Intervals;
use crate::quarantine::{Moment, Quarantine};
use crate::reserved::Reservations;
use crate::sticky::Sticky;

/// The addresses and leases of one subnet.
///
/// **What is chosen.** An automatic address is the next free one after the last one chosen, and
/// after the last of all comes the first (next-fit), so that a released address is reused as late
/// as can be. Only when no address is free, one is taken whose reuse delay has not passed, the one
/// released first: better a stale neighbour entry than no container. Only when there is none of
/// those either, one is taken that is kept for a sticky owner, again the one released first.
///
/// **What is never chosen** is network and broadcast address (IPv4, but for /31 and /32), the
/// subnet-router anycast address (IPv6, but for /127 and /128), gateway, auxiliary addresses,
/// exclusions, what is reserved for an owner, and anything outside the range. A static address may be
/// excluded or outside the range, but none of the others, except that an owner may have what is
/// reserved for it.
///
/// **What it costs.** Every address is in exactly one of these sets if it may be chosen: free,
/// waiting for its reuse delay, kept for a sticky owner, reserved, leased. The free ones are a set of
/// intervals, the others ordered maps, and each operation makes a fixed number of look-ups: the
/// 65,000th lease costs what the first does but for the depth of a tree. Memory grows with leases,
/// releases and sticky owners, not with the subnet: a /64 is as cheap as a /24. (An address whose
/// delay has passed is moved by the first operation after that; each release pays for one move.)
///
/// **Time** is whatever the caller says. It should not go back; should it, delays grow longer.
#[derive(Clone, Debug)]
pub struct Pool {
    config: PoolConfig,
    layout: Layout,
    free: Intervals,
    waiting: Quarantine,
    kept: Quarantine,
    leased: BTreeSet<u128>,
    sticky: Sticky,
    reserved: Reservations,
    last: Option<u128>,
}

/// How full a pool is. All numbers count addresses and fit even for `::/0`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Utilisation {
    /// Addresses of the subnet an interface may have: all but network, broadcast and anycast.
    pub total: u128,
    /// Leased ones, also static ones outside the range or in an exclusion.
    pub leased: u128,
    /// Those released less than the reuse delay ago.
    pub quarantined: u128,
    /// Gateway, auxiliary and excluded addresses, and those reserved for an owner that has no lease of
    /// them.
    pub reserved: u128,
    /// How many more automatic leases are possible, those quarantined or kept for a sticky owner
    /// included.
    pub available: u128,
}

impl Pool {
    /// A pool without leases.
    ///
    /// # Errors
    /// Of kind [`Invalid`](crate::Kind::Invalid) if the subnet has host bits, range or exclusion
    /// is not a part of it, gateway or an auxiliary address is outside of it, is an address no
    /// interface may have or is named twice, or nothing is left beside those.
    pub fn new(config: PoolConfig) -> Result<Self, Error> {
        let layout = Layout::new(&config)?;
        Ok(Self {
            config,
            free: layout.automatic().clone(),
            layout,
            waiting: Quarantine::default(),
            kept: Quarantine::default(),
            leased: BTreeSet::new(),
            sticky: Sticky::default(),
            reserved: Reservations::default(),
            last: None,
        })
    }

    /// The same pool with another range: leases stay whose they are, wherever they are in the subnet,
    /// and so do reservations. Addresses that were beyond the range and are within it now are free.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_range(&self, range: Option<IpNetwork>) -> Result<Self, Error> {
        let mut pool = Self::new(PoolConfig { range, ..self.config.clone() })?;
        pool.reserved = self.reserved.clone();
        pool.sticky = self.sticky.clone();
        pool.last = self.last;
        for number in pool.reserved.addresses() {
            pool.free.remove(number);
        }
        for &number in &self.leased {
            pool.take(number);
        }
        for (number, released) in self.waiting.iter().chain(self.kept.iter()) {
            if pool.free.remove(number) {
                pool.rest(number, released);
            }
        }
        for (_, number) in self.sticky.iter() {
            if pool.free.remove(number) {
                pool.kept.insert(number, Moment(0));
            }
        }
        Ok(pool)
    }

    /// What the pool was made of.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Leases the next address.
    ///
    /// # Errors
    /// Of kind [`Exhausted`](crate::Kind::Exhausted) if all are leased.
    pub fn allocate(&mut self, now: Moment) -> Result<IpAddr, Error> {
        self.advance(now);
        let number = self.choose()?;
        self.take(number);
        Ok(self.layout.address(number))
    }

    /// As [`allocate`](Self::allocate), but none before `first` or after `last`, which are of the
    /// subnet's family and may be beyond its ends.
    ///
    /// # Errors
    /// Of kind [`Exhausted`](crate::Kind::Exhausted) if all that are to choose from are leased.
    pub fn allocate_between(
        &mut self,
        first: IpAddr,
        last: IpAddr,
        now: Moment,
    ) -> Result<IpAddr, Error> {
        self.advance(now);
        let nothing = Error::NoAddressBetween { subnet: self.config.subnet, first, last };
        let (Some(low), Some(high)) = (self.layout.number(first), self.layout.number(last)) else {
            return Err(nothing);
        };
        let next = self.last.and_then(|last| last.checked_add(1)).unwrap_or(0).max(low);
        let free = |from| self.free.at_or_after(from).filter(|number| *number <= high);
        let number = free(next)
            .or_else(|| free(low))
            .or_else(|| self.waiting.oldest_between(low, high))
            .or_else(|| self.kept.oldest_between(low, high))
            .ok_or(nothing)?;
        self.last = Some(number);
        self.take(number);
        Ok(self.layout.address(number))
    }

    /// Leases the address that `owner` had last, also within its reuse delay. If the owner is new
    /// or its address is leased (or no longer in the range), the next address is leased and
    /// remembered for it.
    ///
    /// Of all that is to be stored ([`sticky`](Self::sticky)), only the owner's own address
    /// changes.
    ///
    /// # Errors
    /// Of kind [`Exhausted`](crate::Kind::Exhausted) if all are leased.
    pub fn allocate_sticky(&mut self, owner: &str, now: Moment) -> Result<IpAddr, Error> {
        self.advance(now);
        let before = self.sticky.get(owner).filter(|&before| self.kept.remove(before).is_some());
        let number = match before {
            Some(before) => before,
            None => self.choose()?,
        };
        self.take(number);
        self.remember(owner, number);
        Ok(self.layout.address(number))
    }

    /// Leases this address, which may be anywhere in the subnet.
    ///
    /// Exclusions and the range keep only automatic choice away. An address within its reuse delay
    /// or kept for a sticky owner is free for whoever asks for it by name.
    ///
    /// # Errors
    /// Of kind [`Invalid`](crate::Kind::Invalid) if no interface in this subnet may have it,
    /// [`Exists`](crate::Kind::Exists) if it is leased, reserved, the gateway or an auxiliary address.
    pub fn allocate_static(&mut self, address: IpAddr, now: Moment) -> Result<(), Error> {
        self.allocate_static_as(None, address, now)
    }

    /// As [`allocate_static`](Self::allocate_static), for an owner: it may have what is reserved for
    /// it.
    ///
    /// # Errors
    /// As there.
    pub fn allocate_static_as(
        &mut self,
        owner: Option<&str>,
        address: IpAddr,
        now: Moment,
    ) -> Result<(), Error> {
        self.advance(now);
        let number = self.layout.leasable(address)?;
        self.not_anothers(owner, number)?;
        if self.leased.contains(&number) {
            return Err(self.in_use(number, AddressRole::Lease));
        }
        self.take(number);
        Ok(())
    }

    /// Keeps an address for an owner, in place of the one that it had reserved before: nobody else
    /// gets it, whether by chance or by name. If it is leased it stays so until its release.
    ///
    /// # Errors
    /// Of kind [`Invalid`](crate::Kind::Invalid) if no interface in this subnet may have it,
    /// [`Exists`](crate::Kind::Exists) if it is reserved for another, the gateway or an auxiliary
    /// address.
    pub fn reserve(&mut self, owner: &str, address: IpAddr, now: Moment) -> Result<(), Error> {
        self.advance(now);
        let number = self.layout.leasable(address)?;
        self.not_anothers(Some(owner), number)?;
        self.free.remove(number);
        self.waiting.remove(number);
        self.kept.remove(number);
        if let Some(before) = self.reserved.insert(owner, number) {
            self.give_up(before);
        }
        Ok(())
    }

    /// As [`reserve`](Self::reserve), the next address that would be leased; the one that the owner
    /// has reserved, where it has one.
    ///
    /// # Errors
    /// Of kind [`Exhausted`](crate::Kind::Exhausted) if all are leased.
    pub fn reserve_any(&mut self, owner: &str, now: Moment) -> Result<IpAddr, Error> {
        self.advance(now);
        let number = match self.reserved.of(owner) {
            Some(number) => number,
            None => self.choose()?,
        };
        let address = self.layout.address(number);
        self.reserve(owner, address, now).map(|()| address)
    }

    /// Keeps an owner's address no longer; that address. If it is leased it stays so.
    pub fn unreserve(&mut self, owner: &str) -> Option<IpAddr> {
        let number = self.reserved.remove(owner)?;
        self.give_up(number);
        Some(self.layout.address(number))
    }

    /// The address that is reserved for an owner.
    pub fn reservation(&self, owner: &str) -> Option<IpAddr> {
        Some(self.layout.address(self.reserved.of(owner)?))
    }

    /// Puts back a lease that was stored; no change if it is there. Automatic choice then goes on
    /// after the highest address put back, so that what was released before a restart, of which
    /// nobody told [`let_wait`](Self::let_wait), is given to somebody else as late as can be.
    ///
    /// # Errors
    /// As [`allocate_static`](Self::allocate_static), but that it is leased is no error.
    pub fn restore(&mut self, address: IpAddr) -> Result<(), Error> {
        let number = self.layout.leasable(address)?;
        self.take(number);
        if self.layout.automatic().contains(number) {
            self.last = self.last.max(Some(number));
        }
        Ok(())
    }

    /// Has an address wait as if its lease had ended `since`, unless somebody has it or it waits: for
    /// one that was released before a restart. One that nobody may have is passed over.
    pub fn let_wait(&mut self, address: IpAddr, since: Moment) {
        if let Some(number) = self.layout.number(address)
            && self.free.remove(number)
        {
            self.rest(number, since);
        }
    }

    /// Ends a lease; `false` if there was none.
    pub fn release(&mut self, address: IpAddr, now: Moment) -> bool {
        self.advance(now);
        let Some(number) = self.layout.number(address) else { return false };
        let leased = self.leased.remove(&number);
        if leased && self.layout.automatic().contains(number) {
            self.rest(number, now);
        }
        leased
    }

    /// Forgets which address an owner had; that address. If it is leased it stays so, otherwise
    /// anybody may get it once its reuse delay has passed.
    pub fn forget_sticky(&mut self, owner: &str) -> Option<IpAddr> {
        let number = self.sticky.forget(owner)?;
        self.let_go(number);
        Some(self.layout.address(number))
    }

    /// Which owner had which address last, ordered by owner: to be stored durably.
    pub fn sticky(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        self.sticky.iter().map(|(owner, number)| (owner, self.layout.address(number)))
    }

    /// Puts back what [`sticky`](Self::sticky) gave, in place of what the owner has now; no change
    /// if it is there. The order of this and [`restore`](Self::restore) does not matter. A free
    /// address counts as released at `Moment(0)`.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn restore_sticky(&mut self, owner: &str, address: IpAddr) -> Result<(), Error> {
        let number = self.layout.leasable(address)?;
        self.remember(owner, number);
        if self.free.remove(number) {
            self.kept.insert(number, Moment(0));
        } else if let Some(released) = self.waiting.remove(number) {
            self.kept.insert(number, released);
        }
        Ok(())
    }

    /// Whether somebody has leased this address.
    pub fn is_leased(&self, address: IpAddr) -> bool {
        self.layout.number(address).is_some_and(|number| self.leased.contains(&number))
    }

    /// All leased addresses, from the lowest to the highest.
    pub fn leases(&self) -> impl Iterator<Item = IpAddr> {
        self.leased.iter().map(|&number| self.layout.address(number))
    }

    /// How full the pool is. Its cost grows with the number of delays that have passed since the
    /// last lease or release.
    pub fn utilisation(&self, now: Moment) -> Utilisation {
        let idle = self.reserved.addresses().filter(|number| {
            !self.leased.contains(number) && self.layout.automatic().contains(*number)
        });
        Utilisation {
            total: self.layout.usable(),
            leased: self.leased.len() as u128,
            quarantined: self.waiting.waiting(self.config.reuse_delay, now) as u128,
            reserved: self.layout.reserved() + idle.count() as u128,
            available: self.free.len() + (self.waiting.len() + self.kept.len()) as u128,
        }
    }

    /// Frees the addresses whose reuse delay has passed.
    fn advance(&mut self, now: Moment) {
        while let Some(number) = self.waiting.pop_passed(self.config.reuse_delay, now) {
            self.free.insert(number);
        }
    }

    /// The address to lease next.
    fn choose(&mut self) -> Result<u128, Error> {
        let next = self.last.and_then(|last| last.checked_add(1)).unwrap_or(0);
        let number = self
            .free
            .at_or_after(next)
            .or_else(|| self.free.first())
            .or_else(|| self.waiting.pop_oldest())
            .or_else(|| self.kept.pop_oldest())
            .ok_or_else(|| Error::NoAddress {
                subnet: self.config.subnet,
                range: self.config.range,
                leased: self.layout.automatic().len(),
            })?;
        self.last = Some(number);
        Ok(number)
    }

    /// Marks an address as leased, whichever set it is in.
    fn take(&mut self, number: u128) {
        self.free.remove(number);
        self.waiting.remove(number);
        self.kept.remove(number);
        self.leased.insert(number);
    }

    /// Lays an address that nobody leases any more where it has to wait. One that is reserved waits for
    /// its owner alone.
    fn rest(&mut self, number: u128, released: Moment) {
        if self.reserved.owner(number).is_some() {
            return;
        }
        let place = if self.sticky.claimed(number) { &mut self.kept } else { &mut self.waiting };
        place.insert(number, released);
    }

    /// Lets anybody have an address again that was reserved.
    fn give_up(&mut self, number: u128) {
        if !self.leased.contains(&number) && self.layout.automatic().contains(number) {
            self.rest(number, Moment(0));
        }
    }

    /// Refuses an address that is reserved for another than this owner.
    fn not_anothers(&self, owner: Option<&str>, number: u128) -> Result<(), Error> {
        let is_owner = |other: &str| owner.is_some_and(|owner| owner.eq_ignore_ascii_case(other));
        match self.reserved.owner(number) {
            Some(other) if !is_owner(other) => {
                Err(self.in_use(number, AddressRole::Reservation(other.to_owned())))
            }
            _ => Ok(()),
        }
    }

    fn in_use(&self, number: u128, by: AddressRole) -> Error {
        let (address, subnet) = (self.layout.address(number), self.config.subnet);
        Error::AddressInUse { address, subnet, by }
    }

    fn remember(&mut self, owner: &str, number: u128) {
        if let Some(before) = self.sticky.remember(owner, number) {
            self.let_go(before);
        }
    }

    /// Keeps an address no longer if nobody remembers it.
    fn let_go(&mut self, number: u128) {
        if let Some(released) = self.kept.remove(number) {
            self.rest(number, released);
        }
    }
}
