//! Seeing what the kernel has, and doing the steps of a plan that need no container's namespace.

use std::collections::HashMap;

use kernel::{
    Errno, Result,
    announce::Herald,
    host_routes,
    host_routes::HostRoute,
    links::{self, Change, Link, Mac},
    macvlan::{self, Mode},
    netlink::{Batch, Socket},
    netns::Netns,
    routes, sysctl,
};

use crate::{
    OWNED, Port, Segment,
    plan::{Observed, Step, parameters},
};

/// The driver's hold on the kernel, in the namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The namespace itself.
    pub(crate) home: Netns,
    /// Links, addresses and routes.
    pub(crate) socket: Socket,
    /// The id by which the namespace knows itself: that of the parents of macvlans elsewhere.
    pub(crate) own: i32,
    /// What tells the LAN of what dockerd has put into a container, once there is any.
    herald: Option<Herald>,
}

impl Kernel {
    /// Opens everything, in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self> {
        let (home, mut socket) = (Netns::own()?, Socket::route()?);
        let own = home.assign_nsid(&mut socket)?;
        Ok(Self { home, socket, own, herald: None })
    }

    /// Tells those on the LAN where the addresses of a macvlan are that somebody else has set up, by its
    /// parent: nothing can be sent in its container from here. Its siblings on the parent do not hear it.
    pub(crate) fn announce(&mut self, parent: u32, mac: Mac, port: &Port) {
        if self.herald.is_none() {
            self.herald = Herald::open().map_err(|error| eprintln!("{error}")).ok();
        }
        let Some(herald) = &self.herald else { return };
        for address in &port.addresses {
            // One that is down has no neighbours to tell.
            if let Err(error) = herald.announce(parent, address.ip(), mac) {
                eprintln!("{error}");
            }
        }
    }

    /// What there is on the host, as far as it matters to these networks.
    pub(crate) fn observe(&mut self, segments: &[&Segment]) -> Result<Observed> {
        let links = links::all(&mut self.socket)?;
        let uplink = routes::default_route_link(&mut self.socket)?
            .and_then(|index| links.iter().find(|link| link.index == index))
            .map(|link| link.name.clone());
        let parameters = segments.iter().filter_map(|segment| segment.host.as_ref());
        let parameters = parameters.flat_map(parameters_of);
        Ok(Observed {
            macvlans: macvlan::within(&mut self.socket, None)?,
            addresses: routes::addresses(&mut self.socket)?,
            routes: host_routes::all(&mut self.socket)?,
            parameters: parameters
                .filter_map(|path| Some((path.clone(), sysctl::read(&path)?)))
                .collect(),
            uplink,
            elsewhere: Vec::new(),
            links,
        })
    }

    /// As [`Kernel::observe`], with what there is in all containers.
    pub(crate) fn observe_all(&mut self, segments: &[&Segment]) -> Result<Observed> {
        let mut elsewhere = macvlan::elsewhere(&mut self.socket, self.own)?;
        elsewhere.retain(|found| found.link.group == OWNED);
        Ok(Observed { elsewhere, ..self.observe(segments)? })
    }

    /// Does the steps: first what goes, then parents, then what hangs on them. All of them,
    /// whatever becomes of the others.
    ///
    /// # Errors
    /// The first that failed. What vanished meanwhile is no failure.
    pub(crate) fn apply(&mut self, steps: &[Step], observed: &Observed) -> Result<()> {
        let mut first = Ok(());
        let mut note = |outcome: Result<()>| {
            if first.is_ok() {
                first = outcome.or_else(gone_is_done);
            }
        };
        let mut places: HashMap<String, Link> =
            observed.links.iter().map(|link| (link.name.clone(), link.clone())).collect();

        // One at a time, so that one that is gone keeps none from going.
        for step in steps {
            let mut batch = Batch::new();
            match step {
                Step::RemoveLink { nsid, index, name } => {
                    let link = Link { index: *index, name: name.clone(), ..Link::default() };
                    macvlan::delete_within(&mut batch, *nsid, &link);
                }
                Step::Remove { name } => {
                    links::delete(&mut batch, name);
                    places.remove(name);
                }
                Step::DeleteRoute { link, to } => {
                    let Some(link) = places.get(link) else { continue };
                    let route = HostRoute { link: link.index, to: *to, from: None };
                    host_routes::delete(&mut batch, &route);
                }
                _ => continue,
            }
            note(self.socket.run(batch));
        }
        for step in steps {
            note(match step {
                Step::MakeVlan { name, on, id } => match places.get(on).map(|on| on.index) {
                    Some(on) => self.make_link(&mut places, |batch| {
                        macvlan::make_vlan(batch, name, on, *id, OWNED);
                    }),
                    None => Ok(()),
                },
                Step::MakeNowhere { name, mtu } => self.make_nowhere(&mut places, name, *mtu),
                _ => Ok(()),
            });
        }
        for step in steps {
            note(match step {
                Step::MakeHostEnd { name, parent, mac, mtu } => {
                    let Some(parent) = places.get(parent) else { continue };
                    let (parent, mtu) = (parent.index, mtu.unwrap_or(parent.mtu));
                    self.make_link(&mut places, |batch| {
                        let (mode, mac, group) = (Mode::Bridge, *mac, OWNED);
                        let (parent_nsid, queue) = (None, None);
                        let host = macvlan::Macvlan {
                            name,
                            parent,
                            parent_nsid,
                            mode,
                            queue,
                            mac,
                            mtu,
                            group,
                        };
                        macvlan::make(batch, &host);
                    })
                }
                _ => Ok(()),
            });
        }
        // Before the addresses: IPv6 has to be on for them.
        for step in steps {
            if let Step::SetParameter { path, value } = step {
                note(sysctl::write(path, value).map(drop));
            }
        }
        note(self.configure(steps, &places));
        first
    }

    fn configure(&mut self, steps: &[Step], places: &HashMap<String, Link>) -> Result<()> {
        let index = |name: &String| places.get(name).map(|link| link.index);
        let up = Change { up: Some(true), ..Change::default() };
        let mut batch = Batch::new();
        for step in steps {
            match step {
                Step::AddAddress { link, address } => {
                    let Some(link) = index(link) else { continue };
                    routes::add_address(&mut batch, link, *address);
                }
                Step::DeleteAddress { link, address } => {
                    let Some(link) = index(link) else { continue };
                    routes::delete_address(&mut batch, link, *address);
                }
                Step::SetUp { name } | Step::MakeHostEnd { name, .. } => {
                    let Some(link) = index(name) else { continue };
                    links::change_index(&mut batch, link, &up);
                }
                _ => {}
            }
        }
        // Only through a link that is up, and from an address that is there.
        for step in steps {
            if let Step::AddRoute { link, to, from } = step
                && let Some(link) = index(link)
            {
                host_routes::add(&mut batch, &HostRoute { link, to: *to, from: *from });
            }
        }
        self.socket.run(batch)
    }

    /// Makes one link and remembers where it is.
    fn make_link(
        &mut self,
        places: &mut HashMap<String, Link>,
        write: impl FnOnce(&mut Batch),
    ) -> Result<()> {
        let mut batch = Batch::new();
        write(&mut batch);
        self.socket.run_with(batch, |message| {
            if let Some(link) = Link::parse(message) {
                places.insert(link.name.clone(), link);
            }
        })
    }

    fn make_nowhere(
        &mut self,
        places: &mut HashMap<String, Link>,
        name: &str,
        mtu: u32,
    ) -> Result<()> {
        let dummy = |batch: &mut Batch| macvlan::make_nowhere(batch, name, mtu, OWNED, false);
        match self.make_link(places, dummy) {
            Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => {
                self.make_link(places, |batch| macvlan::make_nowhere(batch, name, mtu, OWNED, true))
            }
            outcome => outcome,
        }
    }
}

fn parameters_of(host: &crate::HostEnd) -> impl Iterator<Item = String> + use<> {
    parameters(host).into_iter().map(|(path, _)| path)
}

/// What is not there any more is away, as it should be: a link, a namespace, a route.
pub(crate) fn gone_is_done(error: kernel::Error) -> Result<()> {
    match error.errno() {
        Some(Errno::ENODEV | Errno::ESRCH | Errno::EINVAL) if error.is_deletion() => Ok(()),
        _ => Err(error),
    }
}
