//! The queues and filters that there are.

use netlink_packet_core::NLM_F_DUMP;

use super::{
    BOTH_WAYS, Hook, INWARD, Rule, TCA_BPF_ID, TCA_BPF_NAME, TCA_EGRESS_BLOCK, TCA_INGRESS_BLOCK,
};

use crate::{
    Result,
    netlink::{Attributes, Batch, Received, Socket, read_u32},
    traffic::{
        self, HEADER, RTM_GETQDISC, RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER, TCA_KIND,
        TCA_OPTIONS,
    },
};

/// A queue that has filters.
pub(super) struct Queue {
    pub(super) link: u32,
    pub(super) ingress: Option<u32>,
    pub(super) egress: Option<u32>,
}

pub(super) fn queues(socket: &mut Socket) -> Result<Vec<Queue>> {
    let mut batch = Batch::new();
    batch.frame(RTM_GETQDISC, NLM_F_DUMP, "list", "queues".to_owned(), |bytes| {
        traffic::header(bytes, 0, 0, 0, 0);
    });
    socket.dump_frame(batch, |message| {
        let header = message.payload.get(..HEADER)?;
        let attributes = Attributes(message.payload.get(HEADER..)?);
        let is_one = message.kind == RTM_NEWQDISC
            && [INWARD, BOTH_WAYS].contains(&attributes.value(TCA_KIND)?);
        let block = |kind| attributes.value(kind).and_then(read_u32);
        Some(Queue {
            link: read_u32(&header[4..])?,
            ingress: block(TCA_INGRESS_BLOCK),
            egress: block(TCA_EGRESS_BLOCK),
        })
        .filter(|_| is_one)
    })
}

/// The filters that hang somewhere; of each that is a guard the number of its program, and by what that
/// decides.
pub(super) fn filters(socket: &mut Socket, hook: &Hook) -> Result<Vec<Option<(u32, Rule)>>> {
    let mut batch = Batch::new();
    let what = format!("filters {hook}");
    batch.frame(RTM_GETTFILTER, NLM_F_DUMP, "list", what, |bytes| {
        let (link, parent) = hook.address();
        traffic::header(bytes, link, 0, parent, 0);
    });
    socket.dump_frame(batch, |message| (message.kind == RTM_NEWTFILTER).then(|| guard(message)))
}

fn guard(message: Received<'_>) -> Option<(u32, Rule)> {
    let attributes = Attributes(message.payload.get(HEADER..)?);
    let is_program = attributes.value(TCA_KIND)? == b"bpf\0";
    let options = Attributes(attributes.value(TCA_OPTIONS).filter(|_| is_program)?);
    let name = options.value(TCA_BPF_NAME)?.strip_suffix(b"\0")?;
    let mut rules = [Rule::Speakers, Rule::NoIpv6].into_iter();
    let rule = rules.find(|rule| rule.name().as_bytes() == name)?;
    options.value(TCA_BPF_ID).and_then(read_u32).zip(Some(rule))
}

/// The guards among these.
pub(super) fn programs(socket: &mut Socket, hook: &Hook) -> Result<Vec<(u32, Rule)>> {
    Ok(filters(socket, hook)?.into_iter().flatten().collect())
}
