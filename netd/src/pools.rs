//! How full each network's addresses are.

use cnm::ipam::{Pool, Pools};

use crate::netd::Netd;

impl Netd {
    /// `ipam.list`.
    pub(crate) fn list_pools(&self) -> Pools {
        let now = self.now();
        let mut pools: Vec<Pool> = Vec::new();
        let count = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        for entry in self.registry.borrow().networks() {
            if let Some(shared) = &entry.shared {
                pools.extend(shared.blocks.held(now).into_iter().map(|held| Pool {
                    network: entry.network.id.clone(),
                    network_name: entry.network.name.clone(),
                    subnet: held.subnet.subnet,
                    block: Some(held.block),
                    set: held.subnet.set,
                    gateway: held.subnet.gateway,
                    usable: count(held.usable),
                    leased: count(held.leased),
                    quarantined: count(held.quarantined),
                    reserved: 0,
                    available: count(held.available),
                }));
            }
            for (pool, subnet) in entry.pools.iter().zip(&entry.network.subnets) {
                let used = pool.utilisation(now);
                pools.push(Pool {
                    network: entry.network.id.clone(),
                    network_name: entry.network.name.clone(),
                    subnet: pool.config().subnet,
                    block: None,
                    set: subnet.set,
                    gateway: pool.config().gateway,
                    usable: count(used.total),
                    leased: count(used.leased),
                    quarantined: count(used.quarantined),
                    reserved: count(used.reserved),
                    available: count(used.available),
                });
            }
        }
        pools.sort_by(|a, b| {
            (&a.network_name, a.subnet, a.block).cmp(&(&b.network_name, b.subnet, b.block))
        });
        Pools { pools }
    }
}
