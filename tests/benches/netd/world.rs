//! netd and the bare kernel on one host, a bridge each, and turns taken between them.

use anyhow::Result;
use cnm::endpoint::Port;
use kernel::links;

use crate::{
    daemon::{self, Daemon},
    floor::{self, Floor},
    place::{settle, wait_until},
    report::Samples,
    sandbox::Sandbox,
};

/// The network that is measured.
pub(crate) const NETWORK: &str = "bench";

/// How many are attached before they are taken away again, so that the number of ports stays about
/// the same.
const CHUNK: usize = 50;

/// Both sides.
pub(crate) struct World {
    /// Ours.
    pub(crate) daemon: Daemon,
    /// The kernel's.
    pub(crate) floor: Floor,
    make: fn(usize) -> Result<Vec<Sandbox>>,
    kept: Vec<Sandbox>,
    next: usize,
    present: usize,
}

/// What turns came to.
#[derive(Default)]
pub(crate) struct Turns {
    /// Attaches by netd.
    pub(crate) ours: Samples,
    /// Attaches by the bare kernel.
    pub(crate) floor: Samples,
    /// Answers to detaches by netd.
    pub(crate) detach: Samples,
}

impl World {
    /// A fresh netd, and a bare bridge beside it.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut daemon = Daemon::start(name)?;
        daemon.create(NETWORK, 79)?;
        let floor = Floor::new("fl", 78)?;
        Ok(Self { daemon, floor, make: Sandbox::make, kept: Vec::new(), next: 0, present: 0 })
    }

    /// The same with containers that have no IPv6, on either side. By hand they would have it, and say so
    /// to all others on their bridge: with 1,000 there that takes the kernel milliseconds for each that
    /// comes, some of them with the lock that every change of a link waits for. netd's have none and
    /// are silent, so what would be measured is the other side's noise.
    pub(crate) fn silent(name: &str) -> Result<Self> {
        Ok(Self { make: Sandbox::make_without_ipv6, ..Self::new(name)? })
    }

    /// Attaches until so many are there on either side; they stay.
    pub(crate) fn fill(&mut self, count: usize) -> Result<()> {
        while self.present < count {
            let mut pair = (self.make)(2)?;
            self.next += 1;
            daemon::attach(&mut self.daemon.client, NETWORK, self.next, &pair[0], Vec::new())?;
            self.floor.attach(&mut pair[1])?;
            self.kept.extend(pair);
            self.present += 1;
        }
        Ok(())
    }

    /// Attaches one that publishes these and stays, on netd's side alone.
    pub(crate) fn publish(&mut self, ports: Vec<Port>) -> Result<()> {
        let sandbox = (self.make)(1)?;
        self.next += 1;
        daemon::attach(&mut self.daemon.client, NETWORK, self.next, &sandbox[0], ports)?;
        self.kept.extend(sandbox);
        self.present += 1;
        Ok(())
    }

    /// Attaches in turn, each side `rounds` times, `chunk` at most before they are taken away;
    /// `ports` says what each of ours publishes.
    pub(crate) fn take_turns(
        &mut self,
        rounds: usize,
        chunk: Option<usize>,
        ports: impl Fn(usize) -> Vec<Port>,
    ) -> Result<Turns> {
        let mut turns = Turns::default();
        let mut left = rounds;
        while left > 0 {
            let count = left.min(chunk.unwrap_or(CHUNK));
            left -= count;
            let (ours, mut floors) = ((self.make)(count)?, (self.make)(count)?);
            settle(&mut self.floor.socket)?;
            let (first, keep) = (self.next + 1, self.floor.len());
            for (n, (ours, floor)) in ours.iter().zip(&mut floors).enumerate() {
                let published = ports(n);
                self.next += 1;
                // Either goes first as often as the other.
                if n % 2 == 0 {
                    turns.floor.add(self.floor.attach(floor)?);
                }
                let client = &mut self.daemon.client;
                turns.ours.add(daemon::attach(client, NETWORK, self.next, ours, published)?.0);
                if n % 2 == 1 {
                    turns.floor.add(self.floor.attach(floor)?);
                }
            }
            for n in first..=self.next {
                turns.detach.add(daemon::detach(&mut self.daemon.client, NETWORK, n)?);
            }
            let names = self.floor.give_up(keep);
            floor::delete(&mut self.floor.socket, &names)?;
            self.wait_for_reaper()?;
        }
        Ok(turns)
    }

    /// Waits until what was detached is gone.
    fn wait_for_reaper(&mut self) -> Result<()> {
        let (socket, present) = (&mut self.floor.socket, self.present);
        wait_until("the links of detached endpoints are gone", || {
            let links = links::all(socket)?;
            let ours = links
                .iter()
                .filter(|link| link.kind.as_deref() == Some("veth") && link.name.starts_with("nd"));
            Ok(ours.count() == present)
        })
    }
}
