//! What all drivers translate alike: what the protocol says in the kernel's words, and what the
//! kernel refuses in the protocol's. `cnm` and `kernel` know nothing of each other.

use cnm::{bandwidth::Limit, endpoint};
use kernel::{
    routes::{Refusal, Route},
    shaping::Bucket,
};

pub mod condemned;
pub mod names;
mod refusal;
mod undone;

pub use refusal::{no_netns, refusal};
pub use undone::Undone;

/// A route on a link, as the kernel is told of it.
pub fn way(route: &endpoint::Route, link: u32) -> Route {
    Route {
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
        refusal: route.refusal.map(|refusal| match refusal {
            endpoint::Refusal::Blackhole => Refusal::Blackhole,
            endpoint::Refusal::Unreachable => Refusal::Unreachable,
            endpoint::Refusal::Prohibit => Refusal::Prohibit,
        }),
        ..Route::new(link, route.dst, route.gateway)
    }
}

/// A limit of a link of this MTU, as the kernel is told of it.
pub fn bucket(limit: Limit, mtu: u32) -> Bucket {
    Bucket::of_bits(limit.rate, limit.burst, mtu)
}
