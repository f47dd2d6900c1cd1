//! How full each network's addresses are.

use cnm::ipam::{Pool, Pools};

use crate::netd::Netd;

impl Netd {
    /// `ipam.list`.
    pub(crate) fn list_pools(&self) -> Pools {
        let now = self.now();
        let mut pools: Vec<Pool> = Vec::new();
        for entry in self.registry.borrow().networks() {
            for (pool, subnet) in entry.pools.iter().zip(&entry.network.subnets) {
                let used = pool.utilisation(now);
                let count = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
                pools.push(Pool {
                    network: entry.network.id.clone(),
                    network_name: entry.network.name.clone(),
                    subnet: pool.config().subnet,
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
        pools.sort_by(|a, b| a.network_name.cmp(&b.network_name).then(a.subnet.cmp(&b.subnet)));
        Pools { pools }
    }
}
