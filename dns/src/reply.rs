//! Writing a reply: header, the question again, records of the few types that are ours, OPT.
//!
//! Only whole records are written, never past the size that the asker takes; what does not fit is
//! left out and said so (TC).

use std::net::IpAddr;

use crate::question::{CLASS_IN, HEADER, Question, kind};

/// Seconds that "there is no such name" may be kept (RFC 2308): containers wait for each other's
/// names, and every second here is a second added to that wait.
pub(crate) const NEGATIVE_TTL: u32 = 1;

/// The largest datagram we take, in bytes: what passes any path unfragmented (DNS flag day 2020).
pub(crate) const OUR_PAYLOAD: u16 = 1232;

/// Bytes of an OPT record without options.
const OPT: usize = 11;

/// Response codes (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
    BadVersion = 16,
}

/// A reply being written.
pub(crate) struct Reply<'a> {
    question: &'a Question<'a>,
    /// Seconds that what it says may be kept.
    ttl: u32,
    bytes: Vec<u8>,
    /// Where records must end; the OPT record has its room after it.
    end: usize,
    answers: u16,
    authorities: u16,
    additionals: u16,
    truncated: bool,
}

impl<'a> Reply<'a> {
    /// A reply to `question` of at most `limit` bytes, which is 512 or more, whose answers may be
    /// kept for `ttl` seconds.
    pub(crate) fn to(question: &'a Question<'a>, limit: usize, ttl: u32) -> Self {
        let mut bytes = Vec::with_capacity(limit.min(512));
        bytes.extend_from_slice(&[0; HEADER]);
        bytes.extend_from_slice(&question.name);
        bytes.extend_from_slice(&question.kind.to_be_bytes());
        bytes.extend_from_slice(&question.class.to_be_bytes());
        let end = limit - if question.edns.is_some() { OPT } else { 0 };
        Self {
            question,
            ttl,
            bytes,
            end,
            answers: 0,
            authorities: 0,
            additionals: 0,
            truncated: false,
        }
    }

    /// Answers with an address. False when it does not fit.
    pub(crate) fn address(&mut self, address: IpAddr) -> bool {
        let written = match address {
            IpAddr::V4(address) => self.answer(0, kind::A, &address.octets()),
            IpAddr::V6(address) => self.answer(0, kind::AAAA, &address.octets()),
        };
        self.truncated |= !written;
        written
    }

    /// Answers with a name in wire format.
    pub(crate) fn pointer(&mut self, name: &[u8]) {
        self.truncated |= !self.answer(0, kind::PTR, name);
    }

    /// Answers with a place where a service is (RFC 2782): a port, and a name in wire format. False
    /// when it does not fit.
    pub(crate) fn service(&mut self, port: u16, target: &[u8]) -> bool {
        // Priority and weight: all places are alike.
        let data = [&[0; 4], &port.to_be_bytes()[..], target].concat();
        let written = self.answer(0, kind::SRV, &data);
        self.truncated |= !written;
        written
    }

    /// Adds the address of a place that was named in an answer. One that does not fit is left out:
    /// it can be asked for.
    pub(crate) fn whereabouts(&mut self, owner: &[u8], address: IpAddr) {
        let written = match address {
            IpAddr::V4(address) => self.record(owner, kind::A, self.ttl, &address.octets()),
            IpAddr::V6(address) => self.record(owner, kind::AAAA, self.ttl, &address.octets()),
        };
        self.additionals += u16::from(written);
    }

    /// Answers with the name server of the zone asked, a name in wire format.
    pub(crate) fn name_server(&mut self, name: &[u8]) {
        self.truncated |= !self.answer(0, kind::NS, name);
    }

    /// Answers a question for everything with a hint that there is no use in asking for it (RFC
    /// 8482, section 4.2).
    pub(crate) fn minimal(&mut self) {
        self.truncated |= !self.answer(0, kind::HINFO, b"\x07RFC8482\0");
    }

    /// Names the zone that vouches for the answer: the name asked without its first `skip` bytes.
    /// Asked for by that very name it is the answer, else it stands beside one that is empty.
    pub(crate) fn authority(&mut self, skip: usize, server: &[u8], domain: &[u8], serial: u32) {
        let asked = self.question.kind == kind::SOA && skip == 0;
        let mut data = server.to_vec();
        data.extend_from_slice(b"\x0ahostmaster");
        data.extend_from_slice(domain);
        // Refresh, retry and expire are for secondary servers; there are none.
        for number in [serial, 3600, 600, 86400, NEGATIVE_TTL] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        let written = self.record(&within_question(skip), kind::SOA, NEGATIVE_TTL, &data);
        *(if asked { &mut self.answers } else { &mut self.authorities }) += u16::from(written);
        self.truncated |= !written;
    }

    /// Writes a record of the answer, owned by what is left of the name asked after `skip` bytes.
    fn answer(&mut self, skip: usize, kind: u16, data: &[u8]) -> bool {
        let written = self.record(&within_question(skip), kind, self.ttl, data);
        self.answers += u16::from(written);
        written
    }

    /// Writes a record, if it fits.
    fn record(&mut self, owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> bool {
        if self.bytes.len() + owner.len() + 10 + data.len() > self.end {
            return false;
        }
        self.bytes.extend_from_slice(owner);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.bytes.extend_from_slice(&ttl.to_be_bytes());
        self.bytes.extend_from_slice(&short(data.len()).to_be_bytes());
        self.bytes.extend_from_slice(data);
        true
    }

    /// The packet. `authoritative` when the name, or the place where it would be, is ours.
    pub(crate) fn finish(mut self, code: Code, authoritative: bool) -> Vec<u8> {
        let question = self.question;
        if let Some(edns) = question.edns {
            let flags = if edns.dnssec_ok { 0x80 } else { 0 };
            self.bytes.extend_from_slice(&[0, 0, 41]);
            self.bytes.extend_from_slice(&OUR_PAYLOAD.to_be_bytes());
            self.bytes.extend_from_slice(&[code as u8 >> 4, 0, flags, 0, 0, 0]);
        }
        let flags = 0x8080 // a response, recursion available
            | u16::from(authoritative) << 10
            | u16::from(self.truncated) << 9
            | u16::from(question.recursion_desired) << 8
            | u16::from(question.checking_disabled) << 4
            | u16::from(code as u8 & 15);
        let additionals = self.additionals + u16::from(question.edns.is_some());
        let header = [question.id, flags, 1, self.answers, self.authorities, additionals];
        for (place, number) in self.bytes.chunks_exact_mut(2).zip(header) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        self.bytes
    }
}

/// A pointer into the question, instead of the name itself (RFC 1035 §4.1.4).
fn within_question(skip: usize) -> [u8; 2] {
    (0xc000 | short(HEADER + skip)).to_be_bytes()
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("names are at most 255 bytes, and so is what is made of them")
}

/// The header of `packet`, which has one, as a response with a code and nothing else.
pub(crate) fn bare(packet: &[u8], code: Code) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..2].copy_from_slice(&packet[..2]);
    bytes[2] = 0x80 | packet[2] & 0x79;
    bytes[3] = 0x80 | code as u8 & 15;
    bytes
}
