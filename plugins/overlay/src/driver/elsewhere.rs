//! What netd says of other hosts: changes, all of it at once, and what is forgotten with a network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use cnm::{
    Result,
    peers::{ChangePeers, Gone},
};
use kernel::firewall::Fact;
use words::refusal;

use super::Overlay;
use crate::table::{self, Difference, Here, Key, Table};

impl Overlay {
    /// Does what is said of other hosts as a change.
    pub(super) fn apply_change(&mut self, change: &ChangePeers) -> Result<usize> {
        let mut rows = self.apply_gone(&change.gone)?;
        let wanted = self.here.want(&change.there)?;
        let moved: BTreeMap<IpAddr, IpAddr> = wanted
            .nodes
            .iter()
            .filter_map(|(number, to)| {
                let from = self.here.nodes.get(number).filter(|from| *from != to)?;
                Some((*from, *to))
            })
            .collect();
        let (mut stale, mut new) = if moved.is_empty() {
            Default::default()
        } else {
            follow(&moved, self.kernel()?.facts().map_err(refusal)?)
        };
        // One may have moved to where another was.
        stale.retain(|fact| !wanted.facts.contains(fact) && !new.contains(fact));
        let fresh = wanted.facts.iter().filter(|fact| !self.learned.contains(fact));
        new.extend(fresh.cloned());
        let mut difference = match moved.is_empty() {
            false => self.redirect(&moved)?,
            true => Difference::default(),
        };
        // What is said of an endpoint counts more than where its node was.
        let mut write: Table = difference.write.into_iter().collect();
        write.extend(&wanted.table);
        difference.write = write.into_iter().collect();
        difference.delete.retain(|key| !wanted.table.contains_key(key));
        let underlay = self.here.underlay;
        let kernel = self.kernel()?;
        // The guard knows a new address before anything is sent to it.
        if !stale.is_empty() || !new.is_empty() {
            kernel.learn(&stale, &new).map_err(refusal)?;
        }
        rows += kernel.change(&difference, underlay).map_err(refusal)?;
        self.learned.retain(|fact| !stale.contains(fact));
        self.learned.extend(new);
        self.here.nodes.extend(wanted.nodes);
        Ok(rows)
    }

    /// What has rows lead to where nodes have moved, and routes as far as that is on the link.
    fn redirect(&mut self, moved: &BTreeMap<IpAddr, IpAddr>) -> Result<Difference> {
        let here = self.here.clone();
        let ways = self.kernel()?.ways(&here).map_err(refusal)?;
        Ok(here.redirect(&ways, moved))
    }

    /// Takes away what is gone, and with a node all that led to it.
    fn apply_gone(&mut self, gone: &Gone) -> Result<usize> {
        if gone.is_empty() {
            return Ok(0);
        }
        let (delete, mut stale) = self.here.leave(gone);
        let mut vteps = BTreeSet::new();
        for number in &gone.nodes {
            vteps.extend(self.here.nodes.remove(number));
        }
        vteps.retain(|vtep| self.here.nodes.values().all(|kept| kept != vtep));
        let here = self.here.clone();
        let kernel = self.kernel()?;
        let mut rows =
            kernel.change(&Difference { delete, ..Default::default() }, None).map_err(refusal)?;
        if !gone.nodes.is_empty() {
            let table = kernel.table(&here).map_err(refusal)?;
            let delete = here.orphans(&table, &vteps);
            let is_gone = |address: &IpAddr| vteps.contains(address);
            stale.extend(kernel.facts().map_err(refusal)?.into_iter().filter(|fact| match fact {
                Fact::Vtep(vtep) | Fact::Tunnel { vtep, .. } => is_gone(vtep),
                Fact::Routed { address, .. } | Fact::Afar(address) => {
                    is_gone(&(*address).into()) || delete.contains(&Key::Route { to: *address })
                }
                _ => false,
            }));
            rows += kernel
                .change(&Difference { delete, ..Default::default() }, None)
                .map_err(refusal)?;
        }
        self.learned.retain(|fact| !stale.contains(fact));
        self.kernel()?.learn(&stale, &[]).map_err(refusal)?;
        Ok(rows)
    }

    /// Does what is said of other hosts as everything there is.
    pub(super) fn apply_everything(&mut self, change: &ChangePeers) -> Result<usize> {
        self.learned.clear();
        // It names all nodes itself.
        let here = Here { nodes: BTreeMap::new(), ..self.here.clone() };
        let wanted = here.want(&change.there)?;
        let kernel = self.kernel()?;
        let facts = kernel.facts().map_err(refusal)?;
        let of_others = |fact: &&Fact| {
            matches!(
                fact,
                Fact::Vtep(_) | Fact::Tunnel { .. } | Fact::Routed { .. } | Fact::Afar(_)
            )
        };
        let stale: Vec<_> = facts
            .iter()
            .filter(of_others)
            .filter(|fact| !wanted.facts.contains(fact))
            .cloned()
            .collect();
        let new: Vec<_> = wanted.facts.difference(&facts).cloned().collect();
        let current = kernel.table(&here).map_err(refusal)?;
        let mut difference = table::difference(&wanted.table, &current);
        kernel.look_again(&here, &mut difference).map_err(refusal)?;
        kernel.learn(&[], &new).map_err(refusal)?;
        let mut rows = kernel.change(&difference, here.underlay).map_err(refusal)?;
        if difference.delete.iter().any(|key| matches!(key, Key::Neighbour { .. })) {
            rows += kernel.sweep(&here, &wanted.table).map_err(refusal)?;
        }
        kernel.learn(&stale, &[]).map_err(refusal)?;
        self.here.nodes = wanted.nodes;
        Ok(rows)
    }

    /// Takes the routes to a network's members away, which do not go with its devices.
    pub(super) fn forget_routes(&mut self, segment: &str) -> Result<()> {
        let kernel = self.kernel()?;
        let mut stale = Vec::new();
        let mut delete = Vec::new();
        for fact in kernel.facts().map_err(refusal)? {
            if let Fact::Routed { bridge, address } = &fact
                && bridge == segment
            {
                delete.push(Key::Route { to: *address });
                stale.extend([Fact::Afar(*address), fact]);
            }
        }
        if stale.is_empty() {
            return Ok(());
        }
        kernel.change(&Difference { delete, ..Default::default() }, None).map_err(refusal)?;
        kernel.learn(&stale, &[]).map_err(refusal)
    }

    /// Forgets other hosts when no network is left to send them anything.
    pub(super) fn forget_nodes(&mut self) -> Result<()> {
        if !self.here.networks.is_empty() {
            return Ok(());
        }
        let kernel = self.kernel()?;
        let left = kernel.table(&Here::default()).map_err(refusal)?;
        let delete = left.into_keys().collect();
        kernel.change(&Difference { delete, ..Default::default() }, None).map_err(refusal)?;
        self.here = Here::default();
        Ok(())
    }
}

/// What the firewall knew of nodes where they were, and what it is to know of them where they are.
fn follow(
    moved: &BTreeMap<IpAddr, IpAddr>,
    facts: impl IntoIterator<Item = Fact>,
) -> (Vec<Fact>, Vec<Fact>) {
    let (mut stale, mut new) = (Vec::new(), Vec::new());
    for fact in facts {
        let there = match &fact {
            Fact::Vtep(vtep) => moved.get(vtep).map(|to| Fact::Vtep(*to)),
            Fact::Tunnel { vtep, vni } => {
                moved.get(vtep).map(|to| Fact::Tunnel { vtep: *to, vni: *vni })
            }
            Fact::Routed { bridge, address } => match moved.get(&IpAddr::from(*address)) {
                Some(IpAddr::V4(to)) => Some(Fact::Routed { bridge: bridge.clone(), address: *to }),
                _ => None,
            },
            _ => None,
        };
        if let Some(there) = there {
            stale.push(fact);
            new.push(there);
        }
    }
    (stale, new)
}
