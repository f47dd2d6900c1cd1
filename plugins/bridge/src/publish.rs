//! An endpoint publishes other ports than it did: only what differs is said to the kernel, whatever
//! else there is.

use std::collections::BTreeSet;

use cnm::{Error, Kind, Result};
use kernel::{
    Errno, bridge_port,
    firewall::{Fact, PORTS},
    netlink::Batch,
};

use words::refusal;

use crate::{Port, apply::Kernel};

impl Kernel {
    /// Publishes what a port is to publish now instead of `before`, all of it or nothing.
    pub(crate) fn publish_instead(&mut self, before: &[Fact], port: &Port) -> Result<()> {
        let (stale, new) = (beyond(before, &port.facts), beyond(&port.facts, before));
        // One that published nothing may not reach its own ports yet.
        if before.is_empty() && port.flags.hairpin && !port.delivered {
            let mut batch = Batch::new();
            bridge_port::set(&mut batch, &port.host, port.flags);
            self.socket.run(batch).map_err(refusal)?;
        }
        match self.firewall.change(&stale, &new) {
            // What is to go has gone already, or a port is still led to an earlier owner.
            Err(error)
                if matches!(error.errno(), Some(Errno::ENOENT | Errno::EBUSY | Errno::EEXIST)) =>
            {
                self.firewall.forget(&stale).map_err(refusal)?;
                if let Err(error) = self.publish(&new) {
                    self.publish(&stale).map_err(refusal)?;
                    return Err(explain(error));
                }
            }
            outcome => outcome.map_err(explain)?,
        }
        self.redirected(stale.iter().chain(&new));
        Ok(())
    }
}

/// Why ports could not be published, where the kernel's word alone would not tell.
pub(crate) fn explain(error: kernel::Error) -> Error {
    match error.errno() {
        Some(Errno::ENFILE) => Error::new(
            Kind::Exhausted,
            format_args!(
                "the host's firewall takes {PORTS} ports of one family one by one, and others have too \
                 many of them: publish fewer, or many in a row under their own numbers, which take \
                 one place together"
            ),
        ),
        _ => refusal(error),
    }
}

/// Those of `facts` that are not among `others`.
fn beyond(facts: &[Fact], others: &[Fact]) -> Vec<Fact> {
    let others: BTreeSet<_> = others.iter().collect();
    facts.iter().filter(|fact| !others.contains(fact)).cloned().collect()
}
