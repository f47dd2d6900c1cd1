//! What the kernel need not tell: what drivers do all the time. It would wake up who listens, in the
//! middle of an attach, for nothing. These are programs for the classic packet filter
//! (linux/filter.h), in which a load is in network order where a message is in the host's.

use std::io;

use netlink_sys::Socket;
use socket2::{SockFilter, SockRef};

use super::Own;

/// `BPF_LD` of a word, of two bytes and of one, and of a word and of two bytes behind the index
/// register.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD_BEHIND: u16 = 0x40;
const LOAD_HALF_BEHIND: u16 = 0x48;
/// `BPF_LD | BPF_IMM`, `BPF_LDX | BPF_IMM` and `BPF_MISC | BPF_TAX`.
const SET: u16 = 0x00;
const SET_INDEX: u16 = 0x01;
const TO_INDEX: u16 = 0x07;
/// `BPF_JMP` with `BPF_JEQ` and with `BPF_JSET`, and `BPF_RET`.
const EQUAL: u16 = 0x15;
const HAS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where `struct nlmsghdr` has its type and its flags (linux/netlink.h).
const TYPE: u32 = 4;
const HEADER_FLAGS: u32 = 6;
/// Where `struct ifinfomsg` behind it has its family, its flags and which of these changed, and
/// where its attributes begin (linux/rtnetlink.h).
const FAMILY: u32 = 16;
const FLAGS: u32 = 24;
const CHANGED: u32 = 28;
const ATTRIBUTES: u32 = 32;
/// Where `struct rtmsg` has its table and who made the route, and where its attributes begin.
const TABLE: u32 = 20;
const MAKER: u32 = 21;
const OF_ROUTE: u32 = 28;
/// `SKF_AD_OFF + SKF_AD_NLATTR`: where the attribute is whose number the index register has, looked
/// for from the place that was loaded; 0 if there is none.
const FIND: u32 = 0xffff_f00c;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
/// `NLM_F_REPLACE`: of a new route, that it took another's place.
const REPLACED: u16 = 0x100;
const UP: u32 = 1_u32.to_be();
/// What changed of a link that is new (`rtnl_configure_link`, net/core/rtnetlink.c).
const EVERYTHING: u32 = u32::MAX;
/// `IFLA_LINK`: of the end of a pair, the other end.
const OTHER_END: u32 = 5;
/// `IFLA_IFNAME`, `IFLA_MASTER` and `IFLA_GROUP`.
const NAME: u32 = 3;
const MASTER: u32 = 10;
const GROUP: u32 = 27;
/// `RTA_DST`, `RT_TABLE_MAIN` and `RTPROT_KERNEL`.
const TO: u32 = 1;
const MAIN: u32 = 254;
const KERNEL: u32 = 2;
/// How link-local addresses of IPv6 begin (RFC 4291, section 2.5.6): every link has them, and their
/// routes go with it.
const LINK_LOCAL: u32 = 0xfe80_0000;

/// `NFT_MSG_NEWSETELEM` and `NFT_MSG_DELSETELEM` of the subsystem nf_tables, and `NFT_MSG_NEWGEN`,
/// which comes after whatever changed.
const NO_RULES: [u16; 3] = [10 << 8 | 12, 10 << 8 | 14, 10 << 8 | 15];

const PASS: SockFilter = act(RETURN, u32::MAX);
const REFUSE: SockFilter = act(RETURN, 0);

const fn act(code: u16, value: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, value)
}

const fn pass_if(test: u16, value: u32) -> [SockFilter; 2] {
    [SockFilter::new(test, 0, 1, value), PASS]
}

const fn refuse_if(test: u16, value: u32) -> [SockFilter; 2] {
    [SockFilter::new(test, 0, 1, value), REFUSE]
}

const fn refuse_unless(test: u16, value: u32) -> [SockFilter; 2] {
    [SockFilter::new(test, 1, 0, value), REFUSE]
}

/// Loads where an attribute is.
const fn find(attribute: u32) -> [SockFilter; 3] {
    find_from(ATTRIBUTES, attribute)
}

const fn find_from(start: u32, attribute: u32) -> [SockFilter; 3] {
    [act(SET, start), act(SET_INDEX, attribute), act(LOAD_WORD, FIND)]
}

/// Does this if the test holds, which ends it.
fn when(test: u16, value: u32, then: Vec<SockFilter>) -> Vec<SockFilter> {
    let skip = u8::try_from(then.len()).expect("programs are short");
    let mut filter = vec![SockFilter::new(test, 0, skip, value)];
    filter.extend(then);
    filter
}

fn half(value: u16) -> u32 {
    u32::from(value.to_be())
}

/// Lets through what may be damage to links: one that is up and on no bridge, or is one's own by its
/// group and not by its name, one that was taken down and is not condemned, and one that is gone and was
/// no end of a pair; and addresses that are gone, routes that are gone and were made for an address, and
/// routes that took the place of another. (A new link is down at first. One that is taken off its bridge
/// while it is down was taken down before.)
pub(super) fn damage_alone(socket: &Socket, own: &Own) -> io::Result<()> {
    let mut gone = vec![act(LOAD_BYTE, FAMILY)];
    gone.extend(refuse_unless(EQUAL, 0));
    gone.extend(find(OTHER_END));
    gone.extend(pass_if(EQUAL, 0));
    gone.push(REFUSE);

    let mut up = Vec::from(find(MASTER));
    up.extend(pass_if(EQUAL, 0));
    up.extend(find(NAME));
    up.extend([act(TO_INDEX, 0), act(LOAD_HALF_BEHIND, 4)]);
    up.extend(refuse_if(EQUAL, u32::from(u16::from_be_bytes(own.prefix))));
    up.extend(find(GROUP));
    up.extend([act(TO_INDEX, 0), act(LOAD_WORD_BEHIND, 4)]);
    up.extend(pass_if(EQUAL, own.group.to_be()));
    up.push(REFUSE);

    let mut route = vec![act(LOAD_BYTE, TABLE)];
    route.extend(refuse_unless(EQUAL, MAIN));
    route.push(act(LOAD_BYTE, MAKER));
    route.extend(refuse_unless(EQUAL, KERNEL));
    route.extend(find_from(OF_ROUTE, TO));
    route.extend([act(TO_INDEX, 0), act(LOAD_WORD_BEHIND, 4)]);
    route.extend(refuse_if(EQUAL, LINK_LOCAL));
    route.push(PASS);

    let mut instead = vec![act(LOAD_BYTE, TABLE)];
    instead.extend(refuse_unless(EQUAL, MAIN));
    instead.push(act(LOAD_HALF, HEADER_FLAGS));
    instead.extend(pass_if(HAS, half(REPLACED)));
    instead.push(REFUSE);

    let mut filter = vec![act(LOAD_HALF, TYPE)];
    filter.extend(pass_if(EQUAL, half(DELADDR)));
    filter.extend(when(EQUAL, half(NEWROUTE), instead));
    filter.extend(when(EQUAL, half(DELROUTE), route));
    filter.extend(when(EQUAL, half(DELLINK), gone));
    filter.extend(refuse_unless(EQUAL, half(NEWLINK)));
    filter.push(act(LOAD_BYTE, FAMILY));
    filter.extend(refuse_unless(EQUAL, 0));
    filter.push(act(LOAD_WORD, FLAGS));
    filter.extend(when(HAS, UP, up));
    filter.push(act(LOAD_WORD, CHANGED));
    filter.extend(refuse_if(EQUAL, EVERYTHING));
    filter.extend(refuse_unless(HAS, UP));
    filter.extend(find(GROUP));
    filter.extend([act(TO_INDEX, 0), act(LOAD_WORD_BEHIND, 4)]);
    filter.extend(refuse_if(EQUAL, own.condemned.to_be()));
    filter.push(PASS);
    SockRef::from(socket).attach_filter(&filter)
}

/// Keeps back transactions that begin with an element of a set: such are every container's.
pub(super) fn no_elements(socket: &Socket) -> io::Result<()> {
    let mut filter = vec![act(LOAD_HALF, TYPE)];
    filter.extend(NO_RULES.into_iter().flat_map(|kind| refuse_if(EQUAL, half(kind))));
    filter.push(PASS);
    SockRef::from(socket).attach_filter(&filter)
}
