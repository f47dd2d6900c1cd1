//! Whom a container may speak as, and whether IPv6 is kept from it: what the host end of its pair lets
//! through.

use std::collections::BTreeSet;

use cnm::{Error, endpoint::Endpoint, network::Network};
use ipnetwork::IpNetwork;
use kernel::{
    Errno,
    guard::{Door, Guards},
    links::{self, Mac},
    netlink::Batch,
};
use words::refusal;

use crate::{
    Port,
    apply::Kernel,
    options::{SPOOF_CHECK, is_on},
    plan::Observed,
};

/// What an endpoint's should be like. Nobody knows as whom one without addresses of netd's may speak.
/// Where a network has no IPv6, none of its endpoints sends any; where it has, it is kept from those
/// that have not.
pub(crate) fn of(network: &Network, endpoint: &Endpoint, mac: Mac) -> Door {
    let checked = is_on(&network.options, SPOOF_CHECK, true);
    let is_guarded =
        !endpoint.addresses.is_empty() && is_on(&endpoint.options, SPOOF_CHECK, checked);
    let addresses = || endpoint.addresses.iter().map(IpNetwork::ip);
    let of_network = network.subnets.iter().any(|subnet| subnet.subnet.is_ipv6());
    Door {
        speakers: is_guarded.then(|| Door::speakers(mac, addresses())),
        sends_no_ipv6: !is_guarded && !of_network,
        gets_no_ipv6: of_network && !addresses().any(|ip| ip.is_ipv6()),
        detour: endpoint.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some()),
    }
}

impl Kernel {
    /// The guards, which are opened when they are needed first.
    pub(crate) fn guards(&mut self) -> kernel::Result<&mut Guards> {
        if self.guards.is_none() {
            self.guards = Some(Guards::open(&mut self.socket, self.marks.blocks)?);
        }
        Ok(self.guards.as_mut().expect("they were just opened"))
    }

    /// Hangs the door of a host end that is new, and not up yet.
    pub(crate) fn hang(&mut self, link: u32, door: &Door) -> kernel::Result<()> {
        self.guards()?;
        let Some(guards) = &mut self.guards else { return Ok(()) };
        guards.hang(&mut self.socket, link, door)
    }

    /// Has the doors of new host ends shut by the filters that all others have, too.
    pub(crate) fn shut(&mut self, doors: &[(u32, Door)]) -> kernel::Result<()> {
        let Some(guards) = &self.guards else { return Ok(()) };
        let mut batch = Batch::new();
        doors.iter().for_each(|(link, door)| guards.filters(&mut batch, *link, door));
        // One that is gone by now needs none.
        let fine = [Errno::EEXIST, Errno::ENODEV, Errno::EINVAL];
        self.socket.run_but(&fine, batch, |_| ())?;
        self.sweep()
    }

    /// Hangs the door of a host end anew.
    pub(crate) fn rehang(
        &mut self,
        link: u32,
        was: Option<&Door>,
        door: &Door,
    ) -> kernel::Result<()> {
        self.guards()?;
        let Some(guards) = &mut self.guards else { return Ok(()) };
        guards.rehang(&mut self.socket, link, was, door)
    }

    /// Forgets who spoke by links that are gone, when there may be many.
    fn sweep(&mut self) -> kernel::Result<()> {
        let Some(guards) = &mut self.guards else { return Ok(()) };
        let socket = &mut self.socket;
        guards.sweep(|| Ok(links::all(socket)?.iter().map(|link| link.index).collect()))
    }

    /// What the doors of host ends are like.
    pub(crate) fn observe_doors(&mut self, observed: &mut Observed) -> kernel::Result<()> {
        self.guards()?;
        if let Some(guards) = &self.guards {
            observed.doors = guards.doors(&mut self.socket)?;
        }
        Ok(())
    }
}

/// Why nobody can be kept from speaking for others.
pub(crate) fn explain(error: kernel::Error) -> Error {
    match error.errno() {
        Some(errno @ (Errno::ENOENT | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM)) => {
            Error::unsupported(format_args!(
                "cannot see to it that a container speaks for nobody else: {error}; netd needs to be \
                 root of the host, and the kernel needs BPF, sch_ingress and cls_bpf"
            ))
            .with("errno", errno as i32)
        }
        _ => refusal(error),
    }
}

/// Whether what goes through the host end of an endpoint, which has this index, is what should.
pub(crate) fn is_right(port: &Port, link: u32, observed: &Observed) -> bool {
    observed
        .doors
        .get(&link)
        .map_or_else(|| port.door == Door::default(), |door| *door == port.door)
}

/// Whom somebody speaks as, in words.
pub(crate) fn words(door: &Door) -> String {
    let mut words = Vec::new();
    if let Some(speakers) = &door.speakers {
        let macs: BTreeSet<_> =
            speakers.iter().map(|speaker| cnm::MacAddr(speaker.mac).to_string()).collect();
        let addresses = speakers.iter().map(|speaker| speaker.address);
        let named = addresses.filter(|address| !address.is_unspecified()).map(|a| a.to_string());
        let all: Vec<_> = macs.into_iter().chain(named).collect();
        words.push(format!("speaks as {} alone", all.join(", ")));
    }
    if door.sends_no_ipv6 {
        words.push("sends no IPv6".to_owned());
    }
    if door.gets_no_ipv6 {
        words.push("gets no IPv6".to_owned());
    }
    words.join(", ")
}
