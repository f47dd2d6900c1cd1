//! A pool against a naive model of it: the model keeps plain sets and finds every address by trying
//! one after the other, so that what it says can be seen to be right.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipam::{Kind, Moment, Pool, PoolConfig, Utilisation};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Allocate,
    AllocateSticky(u8),
    AllocateStatic(u16),
    /// Releases one of the leased addresses.
    Release(u16),
    /// Releases some address, leased or not.
    ReleaseAny(u16),
    ReleaseAll,
    Restore(u16),
    RestoreSticky(u8, u16),
    ForgetSticky(u8),
    Pass(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2_000 => Just(Step::Allocate),
        800 => (0u8..12).prop_map(Step::AllocateSticky),
        400 => any::<u16>().prop_map(Step::AllocateStatic),
        2_600 => any::<u16>().prop_map(Step::Release),
        200 => any::<u16>().prop_map(Step::ReleaseAny),
        10 => Just(Step::ReleaseAll),
        200 => any::<u16>().prop_map(Step::Restore),
        100 => (0u8..12, any::<u16>()).prop_map(|(owner, at)| Step::RestoreSticky(owner, at)),
        100 => (0u8..12).prop_map(Step::ForgetSticky),
        1_500 => (0u64..40).prop_map(Step::Pass),
        10 => Just(Step::Restart),
    ]
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

struct Model {
    config: PoolConfig,
    addresses: RangeInclusive<u128>,
    leased: BTreeSet<u128>,
    /// When an address that is not leased was released, until that does not matter any more.
    released: BTreeMap<u128, u64>,
    owners: BTreeMap<String, u128>,
    last: Option<u128>,
}

impl Model {
    fn new(config: PoolConfig) -> Self {
        let addresses = to_number(config.subnet.network())..=to_number(config.subnet.broadcast());
        Self {
            config,
            addresses,
            leased: BTreeSet::new(),
            released: BTreeMap::new(),
            owners: BTreeMap::new(),
            last: None,
        }
    }

    fn to_address(&self, number: u128) -> IpAddr {
        if self.config.subnet.is_ipv4() {
            Ipv4Addr::from(u32::try_from(number).unwrap()).into()
        } else {
            Ipv6Addr::from(number).into()
        }
    }

    fn usable(&self, number: u128) -> bool {
        let subnet = self.config.subnet;
        let pair = subnet.prefix() >= if subnet.is_ipv4() { 31 } else { 127 };
        let first = number == *self.addresses.start();
        let last = number == *self.addresses.end();
        self.addresses.contains(&number) && (pair || !(first || last && subnet.is_ipv4()))
    }

    fn somebodys(&self, number: u128) -> bool {
        let address = self.to_address(number);
        self.config.gateway == Some(address) || self.config.aux.values().any(|&aux| aux == address)
    }

    fn excluded(&self, number: u128) -> bool {
        self.config.exclude.iter().any(|excluded| excluded.contains(self.to_address(number)))
    }

    fn automatic(&self, number: u128) -> bool {
        let in_range = |address| self.config.range.is_none_or(|range| range.contains(address));
        self.usable(number)
            && !self.somebodys(number)
            && !self.excluded(number)
            && in_range(self.to_address(number))
    }

    fn remembered(&self, number: u128) -> bool {
        self.owners.values().any(|&other| other == number)
    }

    fn free(&self, number: u128) -> bool {
        self.automatic(number)
            && !self.leased.contains(&number)
            && !self.released.contains_key(&number)
            && !self.remembered(number)
    }

    fn over(&self, released: u64, now: u64) -> bool {
        u128::from(now - released) >= self.config.reuse_delay.as_millis()
    }

    fn at(&mut self, now: u64) {
        let over: Vec<u128> = self
            .released
            .iter()
            .map(|(&number, &released)| (number, released))
            .filter(|&(number, released)| self.over(released, now) && !self.remembered(number))
            .map(|(number, _)| number)
            .collect();
        for number in over {
            self.released.remove(&number);
        }
    }

    fn check(&self, number: u128) -> Result<(), Kind> {
        if !self.usable(number) {
            Err(Kind::Invalid)
        } else if self.somebodys(number) {
            Err(Kind::Exists)
        } else {
            Ok(())
        }
    }

    fn lease(&mut self, number: u128) {
        self.released.remove(&number);
        self.leased.insert(number);
    }

    fn choose(&mut self) -> Result<u128, Kind> {
        // The range, not the subnet, only because trying all of a /64 would take for ever.
        let within = self.config.range.unwrap_or(self.config.subnet);
        let (start, end) = (to_number(within.network()), to_number(within.broadcast()));
        let after = match self.last {
            Some(last) if last < end => last + 1,
            _ => start,
        };
        let oldest = |remembered: bool| {
            let mut all: Vec<_> = self.released.iter().map(|(&number, &at)| (at, number)).collect();
            all.retain(|&(_, number)| self.remembered(number) == remembered);
            all.sort_unstable();
            all.first().map(|&(_, number)| number)
        };
        let number = (after..=end)
            .find(|&number| self.free(number))
            .or_else(|| (start..=end).find(|&number| self.free(number)))
            .or_else(|| oldest(false))
            .or_else(|| oldest(true))
            .ok_or(Kind::Exhausted)?;
        self.last = Some(number);
        self.lease(number);
        Ok(number)
    }

    fn allocate(&mut self, now: u64) -> Result<u128, Kind> {
        self.at(now);
        self.choose()
    }

    fn allocate_sticky(&mut self, owner: &str, now: u64) -> Result<u128, Kind> {
        self.at(now);
        let before = self.owners.get(owner).copied();
        let number = match before {
            Some(before) if self.automatic(before) && !self.leased.contains(&before) => before,
            _ => self.choose()?,
        };
        self.lease(number);
        self.owners.insert(owner.to_owned(), number);
        Ok(number)
    }

    fn allocate_static(&mut self, number: u128, now: u64) -> Result<(), Kind> {
        self.at(now);
        self.check(number)?;
        if self.leased.contains(&number) {
            return Err(Kind::Exists);
        }
        self.lease(number);
        Ok(())
    }

    fn restore(&mut self, number: u128) -> Result<(), Kind> {
        self.check(number)?;
        self.lease(number);
        if self.automatic(number) && self.last.is_none_or(|last| last < number) {
            self.last = Some(number);
        }
        Ok(())
    }

    fn restore_sticky(&mut self, owner: &str, number: u128) -> Result<(), Kind> {
        self.check(number)?;
        if self.free(number) {
            self.released.insert(number, 0);
        }
        self.owners.insert(owner.to_owned(), number);
        Ok(())
    }

    fn release(&mut self, number: u128, now: u64) -> bool {
        self.at(now);
        let leased = self.leased.remove(&number);
        if leased && self.automatic(number) {
            self.released.insert(number, now);
        }
        leased
    }

    fn restart(&mut self) {
        let fresh = Self::new(self.config.clone());
        let before = std::mem::replace(self, fresh);
        for (owner, number) in before.owners {
            self.restore_sticky(&owner, number).unwrap();
        }
        for number in before.leased {
            self.restore(number).unwrap();
        }
    }

    /// Only for subnets that can be counted.
    fn utilisation(&self, now: u64) -> Utilisation {
        let count = |what: &dyn Fn(u128) -> bool| {
            self.addresses.clone().filter(|&number| what(number)).count() as u128
        };
        let waits = |number: u128| {
            self.released.get(&number).is_some_and(|&released| !self.over(released, now))
                && !self.remembered(number)
        };
        Utilisation {
            total: count(&|number| self.usable(number)),
            leased: count(&|number| self.leased.contains(&number)),
            quarantined: count(&waits),
            reserved: count(&|number| {
                self.usable(number) && (self.somebodys(number) || self.excluded(number))
            }),
            available: count(&|number| self.automatic(number) && !self.leased.contains(&number)),
        }
    }
}

fn restart(pool: &mut Pool) {
    let mut fresh = Pool::new(pool.config().clone()).unwrap();
    // The other way round than in the model: the order does not matter.
    for address in pool.leases() {
        fresh.restore(address).unwrap();
    }
    for (owner, address) in pool.sticky() {
        fresh.restore_sticky(owner, address).unwrap();
    }
    *pool = fresh;
}

fn compare(config: &PoolConfig, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut pool = Pool::new(config.clone()).unwrap();
    let mut model = Model::new(config.clone());
    let mut now = 0;
    let (start, end) = (*model.addresses.start(), *model.addresses.end());
    // Some addresses before the subnet, up to 300 of it and some after it.
    let some = |at: u16| {
        let low = start.saturating_sub(2);
        let high = end.min(start.saturating_add(300)).saturating_add(2);
        let top = if config.subnet.is_ipv4() { u32::MAX.into() } else { u128::MAX };
        low + u128::from(at) % (high.min(top) - low + 1)
    };
    for (index, step) in steps.iter().enumerate() {
        let moment = Moment(now);
        let kind = |error: ipam::Error| error.kind();
        match *step {
            Step::Allocate => prop_assert_eq!(
                pool.allocate(moment).map(to_number).map_err(kind),
                model.allocate(now),
                "step {}",
                index
            ),
            Step::AllocateSticky(owner) => {
                let owner = format!("owner{owner}");
                prop_assert_eq!(
                    pool.allocate_sticky(&owner, moment).map(to_number).map_err(kind),
                    model.allocate_sticky(&owner, now),
                    "step {}: {}",
                    index,
                    owner
                );
            }
            Step::AllocateStatic(at) => {
                let number = some(at);
                prop_assert_eq!(
                    pool.allocate_static(model.to_address(number), moment).map_err(kind),
                    model.allocate_static(number, now),
                    "step {}: {}",
                    index,
                    model.to_address(number)
                );
            }
            Step::Release(at) => {
                let nth = usize::from(at) % model.leased.len().max(1);
                if let Some(&number) = model.leased.iter().nth(nth) {
                    let address = model.to_address(number);
                    prop_assert!(pool.release(address, moment), "step {index}: {address}");
                    prop_assert!(model.release(number, now), "step {index}: {address}");
                }
            }
            Step::ReleaseAny(at) => {
                let number = some(at);
                let address = model.to_address(number);
                prop_assert_eq!(
                    pool.release(address, moment),
                    model.release(number, now),
                    "step {}: {}",
                    index,
                    address
                );
            }
            Step::ReleaseAll => {
                for number in model.leased.clone() {
                    prop_assert!(pool.release(model.to_address(number), moment));
                    prop_assert!(model.release(number, now));
                }
            }
            Step::Restore(at) => {
                let number = some(at);
                prop_assert_eq!(
                    pool.restore(model.to_address(number)).map_err(kind),
                    model.restore(number),
                    "step {}: {}",
                    index,
                    model.to_address(number)
                );
            }
            Step::RestoreSticky(owner, at) => {
                let (owner, number) = (format!("owner{owner}"), some(at));
                prop_assert_eq!(
                    pool.restore_sticky(&owner, model.to_address(number)).map_err(kind),
                    model.restore_sticky(&owner, number),
                    "step {}: {} {}",
                    index,
                    owner,
                    model.to_address(number)
                );
            }
            Step::ForgetSticky(owner) => {
                let owner = format!("owner{owner}");
                prop_assert_eq!(
                    pool.forget_sticky(&owner).map(to_number),
                    model.owners.remove(&owner),
                    "step {}: {}",
                    index,
                    owner
                );
            }
            Step::Pass(milliseconds) => now += milliseconds,
            Step::Restart => {
                restart(&mut pool);
                model.restart();
            }
        }
        if index % 40 == 0 || index + 1 == steps.len() {
            let leases: Vec<_> = pool.leases().map(to_number).collect();
            prop_assert_eq!(&leases, &model.leased.iter().copied().collect::<Vec<_>>());
            for number in (0..=u16::MAX).step_by(97).map(some) {
                let leased = model.leased.contains(&number);
                prop_assert_eq!(pool.is_leased(model.to_address(number)), leased);
            }
            let sticky: BTreeMap<_, _> = pool
                .sticky()
                .map(|(owner, address)| (owner.to_owned(), to_number(address)))
                .collect();
            prop_assert_eq!(&sticky, &model.owners);
            if end - start < 1_000 {
                prop_assert_eq!(
                    pool.utilisation(Moment(now)),
                    model.utilisation(now),
                    "step {}",
                    index
                );
            }
        }
    }
    Ok(())
}

/// A pool's shape: subnet, range, gateway, auxiliary address, exclusions, delay in milliseconds.
type Shape = (
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
    &'static [&'static str],
    u64,
);

const SHAPES: &[Shape] = &[
    ("10.0.0.0/29", None, Some("10.0.0.1"), None, &[], 50),
    ("10.0.0.0/24", None, Some("10.0.0.254"), Some("10.0.0.7"), &["10.0.0.16/28"], 200),
    ("10.0.0.0/24", Some("10.0.0.224/27"), Some("10.0.0.1"), None, &["10.0.0.230/31"], 300),
    ("10.0.0.0/25", None, None, None, &["10.0.0.0/29", "10.0.0.4/30", "10.0.0.120/29"], 0),
    ("10.0.0.0/31", None, Some("10.0.0.0"), None, &[], 30),
    ("10.0.0.0/31", None, None, None, &[], 100),
    ("10.0.0.9/32", None, None, None, &[], 30),
    ("255.255.255.192/26", None, None, None, &[], 1_000),
    ("fd00::/64", None, Some("fd00::1"), Some("fd00::5"), &["fd00::40/124"], 100),
    ("fd00::/64", Some("fd00::80/122"), None, None, &["fd00::90/126"], 0),
    ("fd00::/127", None, None, None, &[], 60),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff80/121", None, None, None, &[], 500),
];

fn configs() -> impl Iterator<Item = PoolConfig> {
    SHAPES.iter().map(|&(subnet, range, gateway, aux, exclude, delay)| PoolConfig {
        subnet: subnet.parse().unwrap(),
        range: range.map(|range| range.parse().unwrap()),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        aux: aux.map(|aux| ("aux".to_owned(), aux.parse().unwrap())).into_iter().collect(),
        exclude: exclude.iter().map(|excluded| excluded.parse().unwrap()).collect(),
        reuse_delay: Duration::from_millis(delay),
    })
}

proptest! {
    // A walk of fixed length cannot be made shorter; the one below finds the short ones.
    #![proptest_config(ProptestConfig {
        cases: 2,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn ten_thousand_steps_equal_the_naive_model(steps in prop::collection::vec(step(), 10_000)) {
        for config in configs() {
            compare(&config, &steps)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_few_steps_equal_the_naive_model(steps in prop::collection::vec(step(), 0..40)) {
        for config in configs() {
            compare(&config, &steps)?;
        }
    }
}
