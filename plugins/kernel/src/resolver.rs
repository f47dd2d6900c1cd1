//! Where a container asks for names inside itself: what it sends to [`ADDRESS`], port 53, is led to
//! the port there where netd's resolver is. One table of nftables with two rules, of the family
//! `ip`; another server of the container's, on port 53 of its other addresses or of all, is not
//! touched.
//!
//! Message layouts are those of linux/netfilter/nf_tables.h.

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc;

use crate::{
    Errno, Result,
    netlink::{Batch, Received, Socket},
    netns::Netns,
    nft::{
        BATCH_BEGIN, BATCH_END, CHAIN_HOOK, CHAIN_NAME, CHAIN_TABLE, DATA_VALUE, DELTABLE, GETRULE,
        HOOK_NUMBER, LIST_ELEMENT, NEWCHAIN, NEWRULE, NEWTABLE, RULE_CHAIN, RULE_TABLE, TABLE_NAME,
        attribute, frame_header, nest, text,
    },
};

/// The address that a container asks, on its own loopback link.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The name of the table.
pub const TABLE: &str = "netd_names";

const CHAIN: &str = "output";
const DNS: u16 = 53;

/// Those that questions come by.
const PROTOCOLS: [i32; 2] = [libc::IPPROTO_UDP, libc::IPPROTO_TCP];

const CHAIN_TYPE: u16 = 7;
const HOOK_PRIORITY: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

/// Leads them to `port`, in the calling thread's namespace; to no other from then on. Says whether they
/// were not.
///
/// # Errors
/// What the kernel refuses: `EOPNOTSUPP` or `ENOENT` where it has no nftables or no NAT.
pub fn lead(port: u16) -> Result<bool> {
    if leads(port)? {
        return Ok(false);
    }
    Socket::small(NETLINK_NETFILTER)?.run(batch(port)).map(|()| true)
}

/// Leads them nowhere any more, in the calling thread's namespace.
///
/// # Errors
/// What the kernel refuses.
pub fn lead_nowhere() -> Result<()> {
    let mut batch = Batch::new();
    batch.frame(BATCH_BEGIN, 0, "begin", "a transaction".to_owned(), frame_header);
    take_away(&mut batch);
    batch.frame(BATCH_END, 0, "end", "a transaction".to_owned(), frame_header);
    batch.framed();
    Socket::small(NETLINK_NETFILTER)?.run(batch)
}

/// What is wrong where [`misled`] says so.
pub const MISLED: &str = "what the container asks at 127.0.0.11 is not led to the resolver";

/// Whether the container whose namespace is the calling thread's should be led to a port, and is not.
///
/// # Errors
/// What the kernel refuses.
pub fn misled(port: Option<u16>) -> Result<bool> {
    Ok(match port {
        Some(port) => !leads(port)?,
        None => false,
    })
}

/// Whether they are led to `port`, and to no other, in the calling thread's namespace.
fn leads(port: u16) -> Result<bool> {
    let mut batch = Batch::new();
    batch.frame(GETRULE, NLM_F_DUMP, "list the rules of", TABLE.to_owned(), |bytes| {
        header(bytes);
        text(bytes, RULE_TABLE, TABLE);
    });
    let mut wanted = [Vec::new(), Vec::new()];
    attribute(&mut wanted[0], DATA_VALUE, &ADDRESS.octets());
    attribute(&mut wanted[1], DATA_VALUE, &port.to_be_bytes());
    let has = |payload: &[u8], part: &Vec<u8>| payload.windows(part.len()).any(|at| at == part);
    let rule = |message: Received<'_>| {
        let leads = || wanted.iter().all(|part| has(message.payload, part));
        (message.kind == NEWRULE).then(leads)
    };
    match Socket::small(NETLINK_NETFILTER)?.dump_frame(batch, rule) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
        rules => rules.map(|rules| rules == [true; PROTOCOLS.len()]),
    }
}

/// Sees to it that they are led to `port` in a container's namespace, which a path leads to. Says
/// whether they were not. Another namespace than that of `cookie` is let be.
///
/// # Errors
/// What the kernel refuses, and [`Error::NoNamespace`](crate::Error) where the path leads to none.
pub fn keep(home: &Netns, path: &str, cookie: u64, port: u16) -> Result<bool> {
    Netns::open(path)?.inside(home, || {
        if Socket::route_small()?.cookie()? != cookie {
            return Ok(false);
        }
        lead(port)
    })?
}

/// Leads them nowhere any more in a container's namespace, which a path leads to. Another namespace
/// than that of `cookie`, where one is told, is let be, and one that is gone needs nothing.
///
/// # Errors
/// As [`keep`].
pub fn forget(home: &Netns, path: &str, cookie: Option<u64>) -> Result<()> {
    let netns = match Netns::open(path) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(()),
        opened => opened?,
    };
    netns.inside(home, || match cookie {
        Some(cookie) if Socket::route_small()?.cookie()? != cookie => Ok(()),
        _ => lead_nowhere(),
    })?
}

/// The table goes, rules and all, where it is there.
fn take_away(batch: &mut Batch) {
    for (kind, flags) in [(NEWTABLE, NLM_F_CREATE), (DELTABLE, 0)] {
        table(batch, kind, flags);
    }
}

fn table(batch: &mut Batch, kind: u16, flags: u16) {
    batch.frame(kind, flags, "lead questions to", ADDRESS.to_string(), |bytes| {
        header(bytes);
        text(bytes, TABLE_NAME, TABLE);
    });
}

fn batch(port: u16) -> Batch {
    let what = || format!("{ADDRESS} port {DNS} to port {port}");
    let doing = "lead questions from";
    let mut batch = Batch::new();
    batch.frame(BATCH_BEGIN, 0, "begin", "a transaction".to_owned(), frame_header);
    take_away(&mut batch);
    table(&mut batch, NEWTABLE, NLM_F_CREATE);
    batch.frame(NEWCHAIN, NLM_F_CREATE, doing, what(), |bytes| {
        header(bytes);
        text(bytes, CHAIN_TABLE, TABLE);
        text(bytes, CHAIN_NAME, CHAIN);
        nest(bytes, CHAIN_HOOK, |bytes| {
            number(bytes, HOOK_NUMBER, libc::NF_INET_LOCAL_OUT.cast_unsigned());
            number(bytes, HOOK_PRIORITY, libc::NF_IP_PRI_NAT_DST.cast_unsigned());
        });
        text(bytes, CHAIN_TYPE, "nat");
    });
    for protocol in PROTOCOLS {
        batch.frame(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, doing, what(), |bytes| {
            header(bytes);
            text(bytes, RULE_TABLE, TABLE);
            text(bytes, RULE_CHAIN, CHAIN);
            let protocol = u8::try_from(protocol).expect("its number in an IP header");
            nest(bytes, RULE_EXPRESSIONS, |bytes| rule(bytes, protocol, port));
        });
    }
    batch.frame(BATCH_END, 0, "end", "a transaction".to_owned(), frame_header);
    batch.framed();
    batch
}

/// `meta l4proto … ip daddr 127.0.0.11 th dport 53 dnat to 127.0.0.11:…`.
fn rule(bytes: &mut Vec<u8>, protocol: u8, port: u16) {
    /// Registers of 16 bytes (`NFT_REG_1`, `NFT_REG_2`).
    const FIRST: u32 = 1;
    const SECOND: u32 = 2;
    /// `NFT_META_L4PROTO`; `NFT_PAYLOAD_NETWORK_HEADER` and what follows it; `NFT_NAT_DNAT`.
    const L4PROTO: u32 = 16;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    const DNAT: u32 = 1;

    let equals = |bytes: &mut Vec<u8>, value: &[u8]| {
        expression(bytes, "cmp", |bytes| {
            number(bytes, 1, FIRST);
            number(bytes, 2, 0);
            nest(bytes, 3, |bytes| attribute(bytes, DATA_VALUE, value));
        });
    };
    let load = |bytes: &mut Vec<u8>, base: u32, offset: u32, length: u32| {
        expression(bytes, "payload", |bytes| {
            for (kind, value) in [(1, FIRST), (2, base), (3, offset), (4, length)] {
                number(bytes, kind, value);
            }
        });
    };
    let set = |bytes: &mut Vec<u8>, register: u32, value: &[u8]| {
        expression(bytes, "immediate", |bytes| {
            number(bytes, 1, register);
            nest(bytes, 2, |bytes| attribute(bytes, DATA_VALUE, value));
        });
    };
    expression(bytes, "meta", |bytes| {
        number(bytes, 1, FIRST);
        number(bytes, 2, L4PROTO);
    });
    equals(bytes, &[protocol]);
    // Where an IPv4 header has the destination, and UDP's and TCP's the port.
    load(bytes, NETWORK, 16, 4);
    equals(bytes, &ADDRESS.octets());
    load(bytes, TRANSPORT, 2, 2);
    equals(bytes, &DNS.to_be_bytes());
    set(bytes, FIRST, &ADDRESS.octets());
    set(bytes, SECOND, &port.to_be_bytes());
    expression(bytes, "nat", |bytes| {
        let family = libc::NFPROTO_IPV4.cast_unsigned();
        for (kind, value) in [(1, DNAT), (2, family), (3, FIRST), (5, SECOND)] {
            number(bytes, kind, value);
        }
    });
}

fn expression(bytes: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    nest(bytes, LIST_ELEMENT, |bytes| {
        text(bytes, EXPRESSION_NAME, name);
        nest(bytes, EXPRESSION_DATA, write);
    });
}

/// A number of 32 bits, big-endian as all of nftables' are.
fn number(bytes: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(bytes, kind, &value.to_be_bytes());
}

/// `struct nfgenmsg` of the family `ip`.
#[expect(clippy::cast_possible_truncation, reason = "NFPROTO_IPV4 is 2")]
fn header(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&[libc::NFPROTO_IPV4 as u8, 0, 0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_made_anew_with_a_rule_for_each_protocol() {
        let batch = batch(40_053);
        assert_eq!(batch.len(), 8);
        let there = |wanted: &[u8]| batch.bytes().windows(wanted.len()).any(|part| part == wanted);
        assert!(there(&ADDRESS.octets()) && there(&40_053_u16.to_be_bytes()) && there(b"nat\0"));
    }
}
