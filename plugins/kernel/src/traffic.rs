//! What the messages of traffic control have in common (linux/rtnetlink.h, linux/pkt_sched.h), which
//! the crate for the others does not write.

pub(crate) const RTM_NEWQDISC: u16 = 36;
pub(crate) const RTM_DELQDISC: u16 = 37;
pub(crate) const RTM_GETQDISC: u16 = 38;
pub(crate) const RTM_NEWTFILTER: u16 = 44;
pub(crate) const RTM_DELTFILTER: u16 = 45;
pub(crate) const RTM_GETTFILTER: u16 = 46;

/// `TC_H_ROOT` and `TC_H_CLSACT`: where a queue hangs.
pub(crate) const ROOT: u32 = 0xffff_ffff;
pub(crate) const CLSACT: u32 = 0xffff_fff1;
/// The one handle that the queue has which is there for its filters.
pub(crate) const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `TC_H_MIN_INGRESS` of that queue: where filters of what comes in hang.
pub(crate) const INGRESS_FILTERS: u32 = 0xffff_fff2;

/// `struct tcmsg` is as long as this.
pub(crate) const HEADER: usize = 20;
pub(crate) const TCA_KIND: u16 = 1;
pub(crate) const TCA_OPTIONS: u16 = 2;

/// Writes `struct tcmsg`.
pub(crate) fn header(bytes: &mut Vec<u8>, link: u32, handle: u32, parent: u32, info: u32) {
    bytes.extend_from_slice(&[0; 4]);
    for number in [link, handle, parent, info] {
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
}

/// What a filter for all protocols has for `info`: as which of several it is asked.
pub(crate) fn order(preference: u16) -> u32 {
    const ETH_P_ALL: u16 = 3;
    u32::from(preference) << 16 | u32::from(ETH_P_ALL.to_be())
}
