//! Which of a container's endpoints its packets leave by. Each endpoint with gateways has default
//! routes, and what these cost decides between them, so that the next one takes over in the kernel
//! when one goes. That follows from the endpoint's priority alone; among equals who came first
//! stays first, so that nothing that goes on changes its way.

use std::{net::IpAddr, ops::RangeInclusive};

use cnm::{ContainerId, Error, Result, endpoint::Endpoint};

use super::Registry;

/// The priorities that an endpoint can have.
const PRIORITIES: RangeInclusive<i32> = -999..=999;

/// What default routes of the priority 0 cost; each priority above costs [`STEP`] less.
const USUAL: u32 = 10_000;

/// The distance between the costs of two priorities: there is room for as many endpoints of each.
const STEP: u32 = 10;

/// What the default routes of the first endpoint of a priority cost.
fn cost(priority: i32) -> Result<u32> {
    let more = |priority: i32| USUAL.checked_add_signed(STEP.cast_signed() * -priority);
    if let Some(cost) = PRIORITIES.contains(&priority).then(|| more(priority)).flatten() {
        return Ok(cost);
    }
    Err(Error::invalid(format_args!(
        "invalid gateway priority {priority}: it should be from {} to {}",
        PRIORITIES.start(),
        PRIORITIES.end()
    ))
    .with("gateway_priority", priority))
}

impl Registry {
    /// What default routes of the container's next endpoint cost.
    ///
    /// # Errors
    /// `invalid` for a priority that is none.
    pub(crate) fn next_metric(&self, container: &ContainerId, priority: i32) -> Result<u32> {
        let first = cost(priority)?;
        let of = |other: &Endpoint| {
            let own = (!other.gateways.is_empty()).then_some(other.metric);
            let said = other.routes.iter().filter(|route| route.is_default());
            own.into_iter().chain(said.filter_map(|route| route.priority)).collect::<Vec<_>>()
        };
        let taken: Vec<u32> = self.endpoints_of(container).flat_map(of).collect();
        let equals = taken.iter().filter(|metric| (first..first + STEP).contains(metric));
        let next = equals.max().map_or(first, |last| last + 1);
        Ok((next..).find(|metric| !taken.contains(metric)).unwrap_or(next))
    }

    /// Those of an endpoint's gateways through which its container's packets leave.
    pub(crate) fn elected(&self, endpoint: &Endpoint) -> Vec<IpAddr> {
        let better = |gateway: &IpAddr| {
            self.endpoints_of(&endpoint.container.id).any(|other| {
                other.metric < endpoint.metric
                    && other.gateways.iter().any(|ip| ip.is_ipv4() == gateway.is_ipv4())
            })
        };
        endpoint.gateways.iter().filter(|gateway| !better(gateway)).copied().collect()
    }
}
