//! How fast a link's frames go: a token bucket on what it sends, and for what it receives a detour
//! over a link of the kind `ifb`, where it is sent once more and so has a bucket too. These are the
//! messages of traffic control (linux/pkt_sched.h, linux/pkt_cls.h), which the crate for the
//! others does not write.

use std::collections::BTreeMap;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};
use nix::errno::Errno;

use crate::{
    Result,
    netlink::{Attributes, Batch, Received, Socket, append, read_u32},
    traffic::{
        self, CLSACT, CLSACT_HANDLE, HEADER, INGRESS_FILTERS, ROOT, RTM_DELTFILTER, RTM_GETQDISC,
        RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER, TCA_KIND, TCA_OPTIONS, header,
    },
};

/// The order in which the filter of a detour is asked: after a port's guard.
const SECOND: u16 = 2;

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

/// What a frame has beside what the MTU counts: the header of Ethernet, and room for a VLAN's.
const FRAME: u32 = 18;

/// A token bucket (tc-tbf(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Bucket {
    /// What may go, in bytes a second.
    pub rate: u64,
    /// What may go at once, in bytes.
    pub burst: u32,
}

impl Bucket {
    /// A bucket of so many bits a second. What may go at once is a frame of the link at least, since
    /// larger ones would never go; 10 ms unless told, and a few frames.
    pub fn of_bits(rate: u64, burst: Option<u64>, mtu: u32) -> Self {
        let (rate, frame) = ((rate / 8).max(1), u64::from(mtu.saturating_add(FRAME)));
        let burst = burst.map_or_else(|| (rate / 100).max(8 * frame), |bits| bits / 8);
        Self { rate, burst: u32::try_from(burst.max(frame)).unwrap_or(u32::MAX) }
    }

    /// How much waits for its turn before more of it is dropped, in bytes: 50 ms, and what may go at
    /// once.
    pub fn backlog(self) -> u32 {
        let waiting = (self.rate / 20).saturating_add(u64::from(self.burst));
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }
}

/// A token bucket that is in place, as far as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Seen {
    /// What may go, in bytes a second.
    pub rate: u64,
    /// How much may wait, in bytes, from which follows what may go at once.
    pub backlog: u32,
}

impl From<Bucket> for Seen {
    fn from(bucket: Bucket) -> Self {
        Self { rate: bucket.rate, backlog: bucket.backlog() }
    }
}

/// Has a link send no faster than a bucket lets it. What it had for a queue gives way.
pub fn limit(batch: &mut Batch, link: u32, bucket: Bucket) {
    const TCA_TBF_BURST: u16 = 6;
    const TC_LINKLAYER_ETHERNET: u8 = 1;
    let what = format!("number {link}");
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.frame(RTM_NEWQDISC, flags, "limit the link", what, |bytes| {
        header(bytes, link, 0, ROOT, 0);
        append(bytes, TCA_KIND, b"tbf\0");
        // struct tc_tbf_qopt: rate, peak rate, limit, buffer, mtu.
        let mut parameters = vec![0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
        let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
        parameters.extend_from_slice(&rate.to_ne_bytes());
        parameters.extend_from_slice(&[0; 12]);
        parameters.extend_from_slice(&bucket.backlog().to_ne_bytes());
        parameters.extend_from_slice(&[0; 8]);
        let mut options = Vec::new();
        append(&mut options, TCA_TBF_PARMS, &parameters);
        append(&mut options, TCA_TBF_BURST, &bucket.burst.to_ne_bytes());
        if bucket.rate > u64::from(u32::MAX) {
            append(&mut options, TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
        }
        append(bytes, TCA_OPTIONS, &options);
    });
}

/// Makes a link over which what others receive can be sent on the way, up. The echo is a
/// [`Link`](crate::links::Link).
pub fn make_detour(batch: &mut Batch, name: &str, mtu: u32, group: u32) {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Group(group),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    let message = RouteNetlinkMessage::NewLink(message);
    batch.push(&message, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO, "make the link", name);
}

/// Sends what a link receives over another one, of the kind `ifb`, before anything else sees it.
pub fn detour(batch: &mut Batch, link: u32, over: u32) {
    const TCA_U32_SEL: u16 = 5;
    const TC_U32_TERMINAL: u8 = 1;
    const TCA_ACT_KIND: u16 = 1;
    const TC_ACT_STOLEN: u32 = 4;
    const TCA_EGRESS_REDIR: u32 = 1;

    let what = || format!("of number {link}");
    batch.frame(RTM_NEWQDISC, NLM_F_CREATE, "make the queue for filters", what(), |bytes| {
        header(bytes, link, CLSACT_HANDLE, CLSACT, 0);
        append(bytes, TCA_KIND, b"clsact\0");
    });
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    batch.frame(RTM_NEWTFILTER, flags, "redirect what arrives", what(), |bytes| {
        header(bytes, link, 0, INGRESS_FILTERS, traffic::order(SECOND));
        append(bytes, TCA_KIND, b"u32\0");
        // struct tc_u32_sel with one key, whose mask of zeros everything matches.
        let mut all = vec![TC_U32_TERMINAL, 0, 1];
        all.resize(16 + 16, 0);
        // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
        let mirred = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, over];
        let mirred: Vec<u8> = mirred.iter().flat_map(|number| number.to_ne_bytes()).collect();
        let (mut parameters, mut action, mut actions) = (Vec::new(), Vec::new(), Vec::new());
        append(&mut parameters, TCA_MIRRED_PARMS, &mirred);
        append(&mut action, TCA_ACT_KIND, b"mirred\0");
        append(&mut action, TCA_ACT_OPTIONS, &parameters);
        append(&mut actions, 1, &action);
        let mut options = Vec::new();
        append(&mut options, TCA_U32_SEL, &all);
        append(&mut options, TCA_U32_ACT, &actions);
        append(bytes, TCA_OPTIONS, &options);
    });
}

/// Has a link receive directly what comes to it.
///
/// # Errors
/// What the kernel refuses; that there was no detour is no refusal.
pub fn no_detour(socket: &mut Socket, link: u32) -> Result<()> {
    let mut batch = Batch::new();
    let what = format!("of number {link}");
    batch.frame(RTM_DELTFILTER, 0, "delete the redirection", what, |bytes| {
        header(bytes, link, 0, INGRESS_FILTERS, traffic::order(SECOND));
    });
    socket.run_but(&[Errno::ENOENT, Errno::EINVAL], batch, |_| ()).map(drop)
}

/// The token buckets that links send through, by the link's index.
///
/// # Errors
/// What the kernel refuses.
pub fn limits(socket: &mut Socket) -> Result<BTreeMap<u32, Seen>> {
    let mut batch = Batch::new();
    batch.frame(RTM_GETQDISC, NLM_F_DUMP, "list", "queues".to_owned(), |bytes| {
        header(bytes, 0, 0, 0, 0);
    });
    Ok(socket.dump_frame(batch, bucket)?.into_iter().collect())
}

fn bucket(message: Received<'_>) -> Option<(u32, Seen)> {
    let header = message.payload.get(..HEADER)?;
    let attributes = Attributes(message.payload.get(HEADER..)?);
    let is_bucket = message.kind == RTM_NEWQDISC
        && read_u32(&header[12..])? == ROOT
        && attributes.value(TCA_KIND)? == b"tbf\0";
    if !is_bucket {
        return None;
    }
    let options = Attributes(attributes.value(TCA_OPTIONS)?);
    let parameters = options.value(TCA_TBF_PARMS)?;
    let large = options.value(TCA_TBF_RATE64).and_then(|value| value.first_chunk());
    let rate = match large {
        Some(rate) => u64::from_ne_bytes(*rate),
        None => u64::from(read_u32(parameters.get(8..)?)?),
    };
    let backlog = read_u32(parameters.get(24..)?)?;
    Some((read_u32(&header[4..])?, Seen { rate, backlog }))
}

/// The link that what a link receives is sent over, if there is one.
///
/// # Errors
/// What the kernel refuses.
pub fn detour_of(socket: &mut Socket, link: u32) -> Result<Option<u32>> {
    let mut batch = Batch::new();
    let what = format!("filters of number {link}");
    batch.frame(RTM_GETTFILTER, NLM_F_DUMP, "list", what, |bytes| {
        header(bytes, link, 0, INGRESS_FILTERS, 0);
    });
    Ok(socket.dump_frame(batch, redirection)?.pop())
}

fn redirection(message: Received<'_>) -> Option<u32> {
    if message.kind != RTM_NEWTFILTER {
        return None;
    }
    let filter = Attributes(message.payload.get(HEADER..)?);
    let is_it = filter.value(TCA_KIND)? == b"u32\0";
    let options = filter.value(TCA_OPTIONS).filter(|_| is_it)?;
    let actions = Attributes(options).value(TCA_U32_ACT)?;
    let (_, action) = Attributes(actions).next()?;
    let parameters = Attributes(action).value(TCA_ACT_OPTIONS)?;
    read_u32(Attributes(parameters).value(TCA_MIRRED_PARMS)?.get(24..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_frame_through_whatever_is_asked() {
        let bucket = Bucket::of_bits(10_000_000, None, 1500);
        assert_eq!(bucket, Bucket { rate: 1_250_000, burst: 12_500 });
        assert_eq!(bucket.backlog(), 62_500 + 12_500);
        assert_eq!(Bucket::of_bits(8, Some(8), 1500), Bucket { rate: 1, burst: 1518 });
        assert_eq!(Bucket::of_bits(1, None, 1500).burst, 8 * 1518);
        let huge = Bucket::of_bits(u64::MAX, Some(u64::MAX), u32::MAX);
        assert_eq!((huge.burst, huge.backlog()), (u32::MAX, u32::MAX));
    }
}
