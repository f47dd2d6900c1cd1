//! Reading a query: its header, its one question and what its sender said about itself (EDNS).
//!
//! Plain queries, which is what resolvers send, are read here; whatever is less plain goes through
//! `hickory-proto`. The tests hold both ways equal.

use std::borrow::Cow;
use std::ops::Deref;

use hickory_proto::op::Message;

use crate::reply::Code;

/// The bytes before the question.
pub(crate) const HEADER: usize = 12;

/// The one class that is served, Internet (RFC 1035 §3.2.4).
pub(crate) const CLASS_IN: u16 = 1;

/// Record types, as far as they are told apart (RFC 1035 §3.2.2, RFC 3596, RFC 2782,
/// RFC 6891).
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const HINFO: u16 = 13;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// What the sender's OPT record says (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest datagram it takes, in bytes; 512 at least.
    pub(crate) payload: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
}

/// A query that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question<'a> {
    pub(crate) id: u16,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
    /// Whether the sender wants to know that data are authentic (RFC 6840 §5.7).
    pub(crate) authentic_wanted: bool,
    /// The name as asked, in wire format and without compression.
    pub(crate) name: Cow<'a, [u8]>,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns>,
}

/// Why a packet is not a query that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswerable {
    /// Too short for a header, or itself a response: whoever answers those starts a war of replies.
    Ignore,
    /// The sender gets its header back with this code.
    Refuse(Code),
}

/// Reads a query.
pub(crate) fn read(packet: &[u8]) -> Result<Question<'_>, Unanswerable> {
    let (Some(flags), true) = (word(packet, 2), packet.len() >= HEADER) else {
        return Err(Unanswerable::Ignore);
    };
    if flags & 0x8000 != 0 {
        return Err(Unanswerable::Ignore);
    }
    if flags & 0x7800 != 0 {
        return Err(Unanswerable::Refuse(Code::NotImplemented));
    }
    // RFC 9619: a query has one question.
    if word(packet, 4) != Some(1) {
        return Err(Unanswerable::Refuse(Code::FormatError));
    }
    plain(packet).or_else(|| unusual(packet)).ok_or(Unanswerable::Refuse(Code::FormatError))
}

/// Reads what has one uncompressed question and nothing else but, perhaps, an OPT record.
pub(crate) fn plain(packet: &[u8]) -> Option<Question<'_>> {
    if word(packet, 6)? != 0 || word(packet, 8)? != 0 {
        return None;
    }
    let mut end = HEADER;
    loop {
        match *packet.get(end)? {
            0 => break,
            length @ 1..=63 => end += 1 + usize::from(length),
            _ => return None,
        }
    }
    end += 1;
    if end - HEADER > 255 {
        return None;
    }
    let rest = packet.get(end + 4..)?;
    let edns = match word(packet, 10)? {
        0 if rest.is_empty() => None,
        1 => Some(opt(rest)?),
        _ => return None,
    };
    let flags = word(packet, 2)?;
    Some(Question {
        id: word(packet, 0)?,
        recursion_desired: flags & 0x0100 != 0,
        checking_disabled: flags & 0x0010 != 0,
        authentic_wanted: flags & 0x0020 != 0,
        name: Cow::Borrowed(&packet[HEADER..end]),
        kind: word(packet, end)?,
        class: word(packet, end + 2)?,
        edns,
    })
}

/// Reads an OPT record that is all of `record` and has no options but cookies and padding, which
/// we are free to ignore (RFC 7873 §5.2.3, RFC 7830 §4).
fn opt(record: &[u8]) -> Option<Edns> {
    let [0, kind @ .., _, _, _, _, _, _, _, _] = record.get(..11)? else { return None };
    if *kind != kind::OPT.to_be_bytes() {
        return None;
    }
    let mut options = &record[11..];
    if usize::from(word(record, 9)?) != options.len() {
        return None;
    }
    while !options.is_empty() {
        let (10 | 12) = word(options, 0)? else { return None };
        options = options.get(4 + usize::from(word(options, 2)?)..)?;
    }
    Some(Edns {
        payload: word(record, 3)?.max(512),
        version: record[6],
        dnssec_ok: record[7] & 0x80 != 0,
    })
}

/// The type that a packet asks for, as far as that can be seen at a glance.
pub(crate) fn kind_of(packet: &[u8]) -> Option<u16> {
    let mut at = HEADER;
    while let length @ 1..=63 = *packet.get(at)? {
        at += 1 + usize::from(length);
    }
    word(packet, at + 1)
}

/// Reads any query that is well-formed.
fn unusual(packet: &[u8]) -> Option<Question<'static>> {
    let message = Message::from_vec(packet).ok()?;
    let query = message.queries.first()?;
    let mut name = Vec::with_capacity(query.name().len() + 1);
    for label in query.name().iter() {
        name.push(u8::try_from(label.len()).ok()?);
        name.extend_from_slice(label);
    }
    name.push(0);
    Some(Question {
        id: message.metadata.id,
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        authentic_wanted: message.metadata.authentic_data,
        name: Cow::Owned(name),
        kind: query.query_type().into(),
        class: query.query_class().into(),
        edns: message.edns.as_ref().map(|edns| Edns {
            payload: edns.max_payload().max(512),
            version: edns.version(),
            dnssec_ok: edns.flags().dnssec_ok,
        }),
    })
}

/// Whether the short way of reading a packet, where it takes it, and the long one, which is
/// `hickory-proto`'s, find the same question; for fuzzing.
#[cfg(any(test, feature = "fuzz"))]
pub fn readings_agree(packet: &[u8]) -> bool {
    let is_query = word(packet, 2).is_some_and(|flags| flags & 0xf800 == 0);
    let has_one = packet.len() >= HEADER && word(packet, 4) == Some(1);
    let short = plain(packet).filter(|_| is_query && has_one);
    short.is_none_or(|question| Some(question) == unusual(packet))
}

impl Question<'_> {
    /// The same question, put by us: under an id of ours, without cookies, and with the size of
    /// datagrams that we take.
    pub(crate) fn put(&self, id: u16, payload: u16) -> Vec<u8> {
        let flags = u16::from(self.recursion_desired) << 8
            | u16::from(self.authentic_wanted) << 5
            | u16::from(self.checking_disabled) << 4;
        let mut packet = Vec::with_capacity(HEADER + self.name.len() + 4 + 11);
        for number in [id, flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            packet.extend_from_slice(&number.to_be_bytes());
        }
        packet.extend_from_slice(&self.name);
        packet.extend_from_slice(&self.kind.to_be_bytes());
        packet.extend_from_slice(&self.class.to_be_bytes());
        if let Some(edns) = self.edns {
            packet.extend_from_slice(&[0, 0, 41]);
            packet.extend_from_slice(&payload.to_be_bytes());
            packet.extend_from_slice(&[0, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
        }
        packet
    }

    /// The name as it is looked up: lower case, dots between labels. A dot *inside* a label, which
    /// no name of ours has, becomes a zero byte, so that it cannot pass for one between two.
    pub(crate) fn text(&self) -> Spelling {
        let mut text = Spelling { bytes: [0; LONGEST], length: 0 };
        let mut rest = &*self.name;
        while let Some((&length, after)) = rest.split_first()
            && length > 0
        {
            if text.length > 0 {
                text.push(b'.');
            }
            let (label, after) = after.split_at(usize::from(length));
            for &byte in label {
                text.push(if byte == b'.' { 0 } else { byte.to_ascii_lowercase() });
            }
            rest = after;
        }
        text
    }
}

/// A name as it is looked up, where looking it up takes no memory from elsewhere.
#[derive(Debug)]
pub(crate) struct Spelling {
    bytes: [u8; LONGEST],
    length: usize,
}

/// The bytes of the longest name (RFC 1035 §3.1).
const LONGEST: usize = 255;

impl Spelling {
    /// One more byte. Names are read with a limit, so that there is room.
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }
}

impl Deref for Spelling {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The big-endian 16 bits at an offset.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests;
