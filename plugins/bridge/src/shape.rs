//! How fast the packets of an endpoint come and go: what comes to the container waits in a token
//! bucket on the host end of its pair, what it sends in one on a link of the kind `ifb`, over which
//! the host end is made to take it.
//!
//! Both are on the host, where the container cannot take them off, and where a check sees them and a
//! sync puts them right without its namespace. A bucket on the container's own end would need no
//! other link, but would be the container's to remove.

use std::collections::BTreeMap;

use cnm::{Error, bandwidth::Bandwidth};
use kernel::{
    Errno, Result,
    links::{self, Link},
    netlink::Batch,
    shaping::{self, Seen},
};

use words::{bucket, refusal};

use crate::{Marks, PREFIX, Port, apply::Kernel, plan::Observed};

/// What the names of the links begin with over which what containers send makes a detour.
pub const DETOUR_PREFIX: &str = "nq";

/// The name of the link over which what comes by a host end makes a detour.
pub fn detour_of(host: &str) -> String {
    format!("{DETOUR_PREFIX}{}", host.strip_prefix(PREFIX).unwrap_or(host))
}

/// What limits the kernel has.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The buckets that links send through, by index.
    pub buckets: BTreeMap<u32, Seen>,
    /// The links over which others take what they receive, by the index of those.
    pub detours: BTreeMap<u32, u32>,
}

/// Which limits of an endpoint are not in place, one sentence each. Without a host end there is
/// nothing to limit.
pub(crate) fn missing(marks: &Marks, port: &Port, observed: &Observed) -> Vec<String> {
    let (Some(Bandwidth { ingress, egress }), Some(host)) =
        (port.bandwidth, observed.link(&port.host))
    else {
        return Vec::new();
    };
    let has = |link: &Link, limit| {
        let seen = observed.limits.buckets.get(&link.index);
        seen.copied() == Some(Seen::from(bucket(limit, host.mtu)))
    };
    let mut missing = Vec::new();
    if let Some(limit) = ingress
        && !has(host, limit)
    {
        missing.push(format!("what comes to {} is not limited to {limit}", port.name));
    }
    if let Some(limit) = egress {
        let name = detour_of(&port.host);
        let detour = observed.link(&name).filter(|link| marks.is_detour(link) && link.up);
        let taken = |link: &Link| observed.limits.detours.get(&host.index) == Some(&link.index);
        if !detour.is_some_and(|link| has(link, limit) && taken(link)) {
            missing.push(format!("what comes from {} is not limited to {limit}", port.name));
        }
    }
    missing
}

impl Kernel {
    /// What there is of the limits of these endpoints; nothing is asked where none has one.
    pub(crate) fn observe_limits<'a>(
        &mut self,
        ports: impl Iterator<Item = &'a Port> + Clone,
        observed: &mut Observed,
    ) -> Result<()> {
        let limited = ports.filter_map(|port| Some((&port.host, port.bandwidth?)));
        if limited.clone().next().is_none() {
            return Ok(());
        }
        observed.limits.buckets = shaping::limits(&mut self.socket)?;
        for (host, _) in limited.filter(|(_, bandwidth)| bandwidth.egress.is_some()) {
            let Some(link) = observed.link(host).map(|link| link.index) else { continue };
            if let Some(over) = shaping::detour_of(&mut self.socket, link)? {
                observed.limits.detours.insert(link, over);
            }
        }
        Ok(())
    }

    /// Limits an endpoint whose host end is new.
    pub(crate) fn shape(
        &mut self,
        host: &str,
        bandwidth: Bandwidth,
        link: u32,
        mtu: u32,
    ) -> Result<()> {
        let mut batch = Batch::new();
        if let Some(limit) = bandwidth.ingress {
            shaping::limit(&mut batch, link, bucket(limit, mtu));
        }
        if let Some(limit) = bandwidth.egress {
            let over = self.make_detour(&detour_of(host), mtu)?;
            shaping::limit(&mut batch, over, bucket(limit, mtu));
            shaping::detour(&mut batch, link, over);
        }
        self.socket.run(batch)
    }

    /// Limits an endpoint anew, whatever is there of its limits.
    pub(crate) fn reshape(
        &mut self,
        host: &str,
        bandwidth: Bandwidth,
        link: u32,
        mtu: u32,
    ) -> Result<()> {
        if bandwidth.egress.is_some() {
            shaping::no_detour(&mut self.socket, link)?;
            self.delete_detour(host)?;
        }
        self.shape(host, bandwidth, link, mtu)
    }

    /// Takes the link away over which what comes by a host end makes a detour.
    pub(crate) fn delete_detour(&mut self, host: &str) -> Result<()> {
        let mut batch = Batch::new();
        links::delete(&mut batch, &detour_of(host));
        self.socket.run_but(&[Errno::ENODEV], batch, |_| ()).map(drop)
    }

    fn make_detour(&mut self, name: &str, mtu: u32) -> Result<u32> {
        let mut batch = Batch::new();
        shaping::make_detour(&mut batch, name, mtu, self.marks.owned);
        let mut index = 0;
        self.socket.run_with(batch, |message| {
            if let Some(link) = Link::parse(message) {
                index = link.index;
            }
        })?;
        Ok(index)
    }
}

/// Why an endpoint could not be limited, where the kernel's word alone would not tell.
pub(crate) fn explain(error: kernel::Error, port: &Port) -> Error {
    match error.errno() {
        Some(errno @ (Errno::ENOENT | Errno::EOPNOTSUPP)) => Error::unsupported(format_args!(
            "cannot limit the bandwidth of {}: {error}; the kernel needs sch_tbf, and for what a \
             container sends ifb, sch_ingress, cls_u32 and act_mirred",
            port.name
        ))
        .with("errno", errno as i32),
        _ => refusal(error),
    }
}
