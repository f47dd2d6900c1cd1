//! What of a plan was not done, and which network is the worse for it: what fails for one is no reason
//! to give up all of them.

use std::collections::{BTreeMap, HashMap};

use cnm::{Result, network::Network};
use kernel::Errno;
use words::refusal;

use crate::{Port, Segment, plan::Step};

/// What of a plan's steps was not done.
#[derive(Debug, Default)]
pub(crate) struct Undone {
    /// The steps that failed.
    pub(crate) failed: Vec<(Step, kernel::Error)>,
    /// One sentence for each thing that could not be done inside a container.
    pub(crate) inside: Vec<String>,
    /// What failed first of what is no step's alone.
    pub(crate) of_all: Option<kernel::Error>,
}

impl Undone {
    /// Notes what became of a step. What vanished meanwhile with its container is no failure.
    pub(crate) fn note(&mut self, step: &Step, outcome: kernel::Result<()>) {
        if let Err(error) = outcome
            && error.errno() != Some(Errno::ENODEV)
        {
            self.failed.push((step.clone(), error));
        }
    }

    /// Notes what became of steps that fail together.
    pub(crate) fn asked(&mut self, outcome: kernel::Result<()>) {
        if let Err(error) = outcome
            && error.errno() != Some(Errno::ENODEV)
        {
            self.of_all.get_or_insert(error);
        }
    }

    /// Notes that a message of a batch was refused, given the step of each of its messages.
    pub(crate) fn refused(&mut self, whose: &[&Step], error: kernel::Error) {
        let kernel::Error::Refused { index, .. } = error else { return };
        if let Some(step) = whose.get(index) {
            self.failed.push(((*step).clone(), error));
        }
    }

    /// The bridges of networks that are not as they should be, and one sentence for each of these.
    ///
    /// # Errors
    /// What failed of the host's own, which all networks need.
    pub(crate) fn of_networks(
        self,
        networks: &[Network],
        ports: &[Port],
    ) -> Result<(Vec<String>, Vec<String>)> {
        let bridges: HashMap<_, _> = networks
            .iter()
            .flat_map(|network| {
                let segment = Segment::of(network);
                let bridges: Vec<_> = segment.bridges().cloned().collect();
                bridges.into_iter().map(move |bridge| (bridge, network))
            })
            .collect();
        let joins: HashMap<_, _> =
            ports.iter().map(|port| (port.host.as_str(), &port.bridge)).collect();
        let mut problems = self.inside;
        let mut by_bridge = BTreeMap::<String, Vec<String>>::new();
        for (step, error) in self.failed {
            let link = step.link().unwrap_or_default();
            let bridge = joins.get(link).map_or(link, |bridge| bridge.as_str());
            if bridges.contains_key(bridge) {
                by_bridge.entry(bridge.to_owned()).or_default().push(error.to_string());
            } else if matches!(step, Step::SetParameter { .. }) {
                return Err(refusal(error));
            } else {
                problems.push(error.to_string());
            }
        }
        for (bridge, errors) in &by_bridge {
            let Some(network) = bridges.get(bridge) else { continue };
            problems.push(format!(
                "network {} is not as it should be on its bridge {bridge}: {}; netd tries again by \
                 itself: find what is in its way (ip -d address show dev {bridge}; ip -d link show \
                 master {bridge}), and have it try at once with netctl reconcile",
                network.name,
                errors.join("; ")
            ));
        }
        Ok((by_bridge.into_keys().collect(), problems))
    }
}
