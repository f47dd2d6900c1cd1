//! Pairs get another MTU while they are in use: first the container's end, in its own namespace, then
//! the host's. What leads to a namespace is looked for, since nothing of it is kept open.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{
    Errno, Result,
    links::{self, Change, Link},
    netlink::{Batch, Socket},
    netns,
};

use crate::apply::Kernel;

fn kept(host: &Link, mtu: u32, why: &str) -> String {
    let Link { name, mtu: old, .. } = host;
    format!(
        "the container behind {name} keeps mtu {old} instead of {mtu}: {why}; detach it and attach it \
         again"
    )
}

impl Kernel {
    /// Gives both ends of pairs, each named by its end on the host, another MTU. Where nothing leads to
    /// the container both ends stay as they are, so that the next sync tries again; one sentence for
    /// each of those.
    pub(crate) fn resize(&mut self, pairs: &[(&Link, u32)], paths: &[&str]) -> Result<Vec<String>> {
        let nsids: BTreeSet<i32> = pairs.iter().filter_map(|(host, _)| host.peer_nsid).collect();
        let found = match nsids.len() {
            0 => BTreeMap::new(),
            _ => netns::find(&mut self.socket, &nsids, paths.iter().copied())?,
        };
        let mut batch = Batch::new();
        let mut problems = Vec::new();
        for (host, mtu) in pairs {
            let Some(peer) = host.peer else { continue };
            let change = Change { mtu: Some(*mtu), ..Change::default() };
            let outcome = match host.peer_nsid.map(|nsid| found.get(&nsid)) {
                // It is still on the host.
                None => {
                    links::change_index(&mut batch, peer, &change);
                    Ok(())
                }
                Some(Some(netns)) => {
                    let inside = || {
                        let mut batch = Batch::new();
                        links::change_index(&mut batch, peer, &change);
                        Socket::route_small()?.run(batch)
                    };
                    netns.inside(&self.home, inside).and_then(|changed| changed)
                }
                Some(None) => {
                    problems.push(kept(host, *mtu, "nothing leads to its network namespace"));
                    continue;
                }
            };
            match outcome {
                Ok(()) => links::change(&mut batch, &host.name, &change),
                // It is going, and its host end with it.
                Err(error) if error.errno() == Some(Errno::ENODEV) => {}
                Err(error) => problems.push(kept(host, *mtu, &error.to_string())),
            }
        }
        self.socket.run_but(&[Errno::ENODEV], batch, |_| ())?;
        Ok(problems)
    }
}
