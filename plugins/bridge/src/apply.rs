//! Seeing what the kernel has, and doing the steps of a plan that need no container's namespace.

use std::collections::HashMap;

use kernel::{
    Errno, Result,
    conntrack::Destination,
    firewall::{Fact, Firewall},
    links::{self, Bridge, Change, Link},
    netlink::{Batch, Socket},
    netns::Netns,
    routes, sysctl,
};

use crate::{
    Marks, Segment,
    plan::{self, Observed, Step},
    reaper::Reaper,
    shape::Limits,
};

/// The driver's hold on the kernel: sockets kept open, in the namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The namespace itself.
    pub(crate) home: Netns,
    /// By what its own is known.
    pub(crate) marks: Marks,
    /// Links, addresses and routes.
    pub(crate) socket: Socket,
    /// The firewall.
    pub(crate) firewall: Firewall,
    /// Who takes condemned links away.
    pub(crate) reaper: Reaper,
}

impl Kernel {
    /// Opens everything, in the calling thread's namespace.
    pub(crate) fn open(marks: Marks) -> Result<Self> {
        Ok(Self {
            home: Netns::own()?,
            marks,
            socket: Socket::route()?,
            firewall: Firewall::open_as(marks.owner)?,
            reaper: Reaper::start(marks)?,
        })
    }

    /// What there is, as far as it matters to these networks.
    pub(crate) fn observe(&mut self, segments: &[Segment]) -> Result<Observed> {
        let links = links::all(&mut self.socket)?;
        let needs_uplink = |segment: &Segment| {
            segment.mtu.is_none() && links.iter().all(|link| link.name != segment.bridge)
        };
        let uplink_mtu = if segments.iter().any(needs_uplink) {
            routes::default_route_link(&mut self.socket)?
                .and_then(|index| links.iter().find(|link| link.index == index))
                .map(|link| link.mtu)
        } else {
            None
        };
        let parameters = segments.iter().flat_map(Segment::parameters);
        Ok(Observed {
            addresses: routes::addresses(&mut self.socket)?,
            parameters: parameters
                .filter_map(|(path, _)| Some((path.clone(), sysctl::read(&path)?)))
                .collect(),
            facts: self.firewall.facts()?,
            uplink_mtu,
            limits: Limits::default(),
            links,
        })
    }

    /// Does the steps, each kind of them together, all of them whatever becomes of the others.
    ///
    /// # Errors
    /// The first that failed. What vanished meanwhile with its container is no failure.
    pub(crate) fn apply(&mut self, steps: &[Step], observed: &Observed) -> Result<()> {
        let mut index: HashMap<String, u32> = observed
            .links
            .iter()
            .filter(|link| self.marks.is_bridge(link))
            .map(|link| (link.name.clone(), link.index))
            .collect();
        let mut first = Ok(());
        let mut note = |outcome: Result<()>| match outcome {
            Err(error) if error.errno() == Some(Errno::ENODEV) => {}
            outcome => {
                if first.is_ok() {
                    first = outcome;
                }
            }
        };

        let mut batch = Batch::new();
        for step in steps {
            match step {
                Step::MakeBridge { name, mac, mtu } => {
                    let (mac, mtu, group) = (*mac, *mtu, self.marks.owned);
                    links::make_bridge(&mut batch, &Bridge { name, mac, mtu, group });
                }
                Step::MendBridge { name, mac, mtu, up } => {
                    links::change(&mut batch, name, &plan::mend(*mac, *mtu, *up));
                }
                _ => {}
            }
        }
        note(self.socket.run_with(batch, |message| {
            if let Some(link) = Link::parse(message) {
                index.insert(link.name, link.index);
            }
        }));

        for step in steps {
            if let Step::SetParameter { path, value } = step {
                note(sysctl::write(path, value).map(drop));
            }
        }

        let mut batch = Batch::new();
        let mut condemned = 0;
        for step in steps {
            match step {
                Step::AddAddress { link, address } => {
                    if let Some(link) = index.get(link) {
                        routes::add_address(&mut batch, *link, *address);
                    }
                }
                Step::DeleteAddress { link, address } => {
                    if let Some(link) = index.get(link) {
                        routes::delete_address(&mut batch, *link, *address);
                    }
                }
                Step::Join { host, bridge, ipv6 } => {
                    if let Some(bridge) = index.get(bridge) {
                        let group = self.marks.group(*ipv6);
                        let (up, master, group) = (Some(true), Some(*bridge), Some(group));
                        links::change(
                            &mut batch,
                            host,
                            &Change { up, master, group, ..Change::default() },
                        );
                    }
                }
                Step::Condemn { host } => {
                    condemn(&mut batch, &self.marks, host);
                    condemned += 1;
                }
                Step::RemoveBridge { name } => links::delete(&mut batch, name),
                _ => {}
            }
        }
        note(self.socket.run(batch));
        self.reaper.condemned(condemned);

        for step in steps {
            if let Step::Shape { host, bandwidth } = step
                && let Some(link) = observed.link(host)
            {
                note(self.reshape(host, *bandwidth, link.index, link.mtu));
            }
        }

        let (forget, learn) = facts_of(steps);
        note(self.firewall.change(&forget, &learn));
        self.redirected(forget.iter().chain(&learn));
        first
    }
}

impl Kernel {
    /// Has flows forgotten that these facts redirect. (TCP notices by itself.)
    pub(crate) fn redirected<'a>(&self, facts: impl IntoIterator<Item = &'a Fact>) {
        const TCP: u8 = 6;
        self.reaper.redirected(facts.into_iter().filter_map(|fact| match *fact {
            Fact::Publish { protocol, address, port, .. } if protocol != TCP => {
                Some(Destination { protocol, address, port, last: port })
            }
            Fact::PublishRange { protocol, address, first, last, .. } if protocol != TCP => {
                Some(Destination { protocol, address, port: first, last })
            }
            _ => None,
        }));
    }
}

/// Takes a host end down, and into the group of the reaper. Taking it off its bridge as well costs
/// more than all else of a detach, since the kernel waits for whoever looks at its ports just then
/// (`netdev_rx_handler_unregister`, net/core/dev.c): the reaper does it.
pub(crate) fn condemn(batch: &mut Batch, marks: &Marks, host: &str) {
    let (up, group) = (Some(false), Some(marks.condemned));
    links::change(batch, host, &Change { up, group, ..Change::default() });
}

/// What the firewall is to forget and to learn.
pub(crate) fn facts_of(steps: &[Step]) -> (Vec<Fact>, Vec<Fact>) {
    let (mut forget, mut learn) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Forget(fact) => forget.push(fact.clone()),
            Step::Learn(fact) => learn.push(fact.clone()),
            _ => {}
        }
    }
    (forget, learn)
}
