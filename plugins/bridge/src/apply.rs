//! Seeing what the kernel has, and doing the steps of a plan that need no container's namespace.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use kernel::{
    Errno, Result,
    bridge_port::{self, Flags},
    conntrack::Destination,
    fdb,
    firewall::{Fact, Firewall},
    guard::Guards,
    links::{self, Bridge, Change, Link, Mac},
    neighbours::{self, Neighbour},
    netlink::{Batch, Received, Socket},
    netns::Netns,
    routes::{self, Route},
    sysctl,
};

use words::Undone;

use crate::{
    Marks, Segment,
    plan::{self, Lead, Observed, Step},
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
    /// Who speaks for whom; nothing before anybody is asked about.
    pub(crate) guards: Option<Guards>,
    /// Who takes condemned links away.
    pub(crate) reaper: Reaper,
    /// The socket of the last container that was set up, to be closed when nobody waits.
    pub(crate) spent: Option<Socket>,
}

impl Kernel {
    /// Opens everything, in the calling thread's namespace.
    pub(crate) fn open(marks: Marks) -> Result<Self> {
        Ok(Self {
            home: Netns::own()?,
            marks,
            socket: Socket::route()?,
            firewall: Firewall::open_as(marks.owner)?,
            guards: None,
            reaper: Reaper::start(marks)?,
            spent: None,
        })
    }

    /// What there is, as far as it matters to these networks.
    pub(crate) fn observe(&mut self, segments: &[Segment]) -> Result<Observed> {
        let links = links::all(&mut self.socket)?;
        // One that lost what it had by being made too small is there and has no MTU to keep.
        let is_fit = |link: &Link| !plan::is_too_small(link.mtu);
        let needs_uplink = |segment: &Segment| {
            let is_its = |link: &Link| link.name == segment.bridge;
            segment.mtu.is_none() && !links.iter().any(|link| is_its(link) && is_fit(link))
        };
        let uplink_mtu = if segments.iter().any(needs_uplink) {
            routes::default_route_link(&mut self.socket)?
                .and_then(|index| links.iter().find(|link| link.index == index))
                .map(|link| link.mtu)
        } else {
            None
        };
        let parameters = segments.iter().flat_map(Segment::parameters);
        let routes = routes::routes(&mut self.socket)?;
        let leads = self.leads(segments, &links, &routes)?;
        Ok(Observed {
            leads,
            addresses: routes::addresses(&mut self.socket)?,
            parameters: parameters
                .filter_map(|(path, _)| Some((path.clone(), sysctl::read(&path)?)))
                .collect(),
            facts: self.firewall.facts()?,
            uplink_mtu,
            kept_mtus: BTreeMap::new(),
            limits: Limits::default(),
            doors: BTreeMap::new(),
            near: routes::near(&routes),
            links,
        })
    }

    /// Where the host leads to members of these networks, as far as they are routed: where there is
    /// both a route and a neighbour.
    fn leads(
        &mut self,
        segments: &[Segment],
        links: &[Link],
        routes: &[Route],
    ) -> Result<BTreeSet<Lead>> {
        let shards: Vec<_> = segments.iter().flat_map(|segment| &segment.shards).collect();
        let mut leads = BTreeSet::new();
        if shards.is_empty() {
            return Ok(leads);
        }
        let routes: BTreeSet<_> = routes
            .iter()
            .filter(|route| route.through.is_none())
            .map(|route| (route.link, route.to))
            .collect();
        for link in links.iter().filter(|link| shards.contains(&&link.name)) {
            for found in neighbours::of(&mut self.socket, link.index)? {
                if routes.contains(&(link.index, found.address.into())) {
                    let (link, address, mac) = (link.name.clone(), found.address, found.mac);
                    leads.insert(Lead { link, address, mac });
                }
            }
        }
        Ok(leads)
    }

    /// Does the steps, each kind of them together, all of them whatever becomes of the others.
    ///
    /// # Errors
    /// The first that failed. What vanished meanwhile with its container is no failure.
    pub(crate) fn apply(&mut self, steps: &[Step], observed: &Observed) -> Result<()> {
        let undone = self.apply_with(steps, observed, &[])?;
        undone.all_done()
    }

    /// As [`Kernel::apply`]; `paths` may lead to containers, where something is to be done inside. Gives
    /// what was not done.
    ///
    /// # Errors
    /// When the firewall refuses, whose facts change together, or the kernel cannot be asked.
    pub(crate) fn apply_with(
        &mut self,
        steps: &[Step],
        observed: &Observed,
        paths: &[&str],
    ) -> Result<Undone<Step>> {
        let mut index: HashMap<String, u32> = observed
            .links
            .iter()
            .filter(|link| self.marks.is_bridge(link))
            .map(|link| (link.name.clone(), link.index))
            .collect();
        let mut undone = Undone::default();

        let mut batch = Batch::new();
        let mut whose = Vec::new();
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
            whose.resize(batch.len(), step);
        }
        let made = |message: Received<'_>| {
            if let Some(link) = Link::parse(message) {
                index.insert(link.name, link.index);
            }
        };
        let refused = |error| undone.refused(&whose, error);
        let asked = self.socket.run_each(&[Errno::ENODEV], batch, made, refused);
        undone.asked(asked.map(drop));

        for step in steps {
            if let Step::SetParameter { path, value } = step {
                undone.note(step, sysctl::write(path, value).map(drop));
            }
        }

        let mut batch = Batch::new();
        let mut whose = Vec::new();
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
                Step::Join { host, bridge, mac, flags } => {
                    if let Some(bridge) = index.get(bridge) {
                        let group = self.marks.owned;
                        let (up, master, group) = (Some(true), Some(*bridge), Some(group));
                        links::change(
                            &mut batch,
                            host,
                            &Change { up, master, group, ..Change::default() },
                        );
                        // The flags of a port went when it was taken off.
                        bridge_port::tune(&mut batch, host, 0, *flags);
                        if let Some(link) = observed.link(host) {
                            behind(&mut batch, link.index, *mac, *flags);
                        }
                    }
                }
                Step::Tune { host, mac, flags } => {
                    bridge_port::set(&mut batch, host, *flags);
                    if let Some(link) = observed.link(host) {
                        behind(&mut batch, link.index, *mac, *flags);
                    }
                }
                Step::Condemn { host } => {
                    condemn(&mut batch, &self.marks, host);
                    condemned += 1;
                }
                Step::RemoveBridge { name } => links::delete(&mut batch, name),
                _ => {}
            }
            whose.resize(batch.len(), step);
        }
        let refused = |error| undone.refused(&whose, error);
        let asked = self.socket.run_each(&[Errno::ENODEV], batch, |_| (), refused);
        undone.asked(asked.map(drop));
        self.reaper.condemned(condemned);
        let led = self.lead(steps, &index, &mut undone);
        undone.asked(led);
        let connected = self.connect(steps, &index, &mut undone);
        undone.asked(connected);

        let mut resized = Vec::new();
        for step in steps {
            if let Step::Resize { host, mtu } = step
                && let Some(link) = observed.link(host)
            {
                resized.push((link, *mtu));
            }
        }
        match self.resize(&resized, paths) {
            Ok(left) => undone.besides = left,
            Err(error) => undone.besides.push(error.to_string()),
        }

        // Before the limits: a detour hangs at the same door.
        for step in steps {
            if let Step::Guard { host, door } = step
                && let Some(link) = observed.link(host)
            {
                undone.note(step, self.rehang(link.index, observed.doors.get(&link.index), door));
            }
        }

        for step in steps {
            if let Step::Shape { host, bandwidth } = step
                && let Some(link) = observed.link(host)
            {
                let new = resized.iter().find(|(other, _)| other.index == link.index);
                let mtu = new.map_or(link.mtu, |(_, mtu)| *mtu);
                undone.note(step, self.reshape(host, *bandwidth, link.index, mtu));
            }
        }

        let (forget, learn) = facts_of(steps);
        undone.asked(self.firewall.change(&forget, &learn));
        self.redirected(forget.iter().chain(&learn));
        undone.of_all.take().map_or(Ok(undone), Err)
    }
}

impl Kernel {
    /// Leads to members of routed networks, or no more.
    fn lead(
        &mut self,
        steps: &[Step],
        index: &HashMap<String, u32>,
        undone: &mut Undone<Step>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        let mut whose = Vec::new();
        for step in steps {
            match step {
                Step::Unlead(Lead { link, address, .. }) => {
                    let Some(link) = index.get(link) else { continue };
                    unlead(&mut batch, *link, *address);
                }
                Step::Lead(lead) => {
                    let Some(link) = index.get(&lead.link) else { continue };
                    lead_to(&mut batch, *link, lead);
                }
                _ => {}
            }
            whose.resize(batch.len(), step);
        }
        let refused = |error| undone.refused(&whose, error);
        self.socket.run_each(&NOT_THERE, batch, |_| (), refused).map(drop)
    }

    /// Leads to the subnets of bridges again.
    fn connect(
        &mut self,
        steps: &[Step],
        index: &HashMap<String, u32>,
        undone: &mut Undone<Step>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        let mut whose = Vec::new();
        for step in steps {
            if let Step::Connect { link, address } = step
                && let Some(link) = index.get(link)
            {
                routes::connect(&mut batch, *link, *address);
            }
            whose.resize(batch.len(), step);
        }
        let there_or_gone = [Errno::EEXIST, Errno::ENODEV];
        let refused = |error| undone.refused(&whose, error);
        self.socket.run_each(&there_or_gone, batch, |_| (), refused).map(drop)
    }

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

/// Tells the bridge who is behind a port where it does not learn it.
pub(crate) fn behind(batch: &mut Batch, host: u32, mac: Mac, flags: Flags) {
    if !flags.learning {
        fdb::write(batch, host, &fdb::Row::Port { mac });
    }
}

/// What it is to delete a route or neighbour that is not there, or is on a link that is not.
pub(crate) const NOT_THERE: [Errno; 3] = [Errno::ENOENT, Errno::ESRCH, Errno::ENODEV];

/// Writes down where a member of a routed network is.
pub(crate) fn lead_to(batch: &mut Batch, link: u32, lead: &Lead) {
    routes::lead(batch, link, lead.address);
    let (address, mac) = (lead.address, lead.mac);
    neighbours::write(batch, &Neighbour { link, address, mac });
}

/// Takes back what [`lead_to`] did.
pub(crate) fn unlead(batch: &mut Batch, link: u32, address: IpAddr) {
    routes::unlead(batch, link, address);
    neighbours::delete(batch, link, address);
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
