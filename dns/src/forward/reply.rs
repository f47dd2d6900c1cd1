//! An answer of somebody else's, taken apart just so far that it can be told to others than who
//! asked first, and later: under their id, in their spelling, with what is left of its TTLs, and no
//! longer than they take.

use crate::answer::{self, Transport};
use crate::question::{HEADER, Question, kind, word};
use crate::reply::OUR_PAYLOAD;

/// The longest that an answer is believed, in seconds (a day; RFC 8767, section 4, allows a week).
const LONGEST: u32 = 86_400;

/// The longest that "there is no such name" is believed, in seconds (RFC 2308, section 5, finds one
/// to three hours sensible; names of services that come up are waited for).
const LONGEST_NEGATIVE: u32 = 900;

/// An answer whose every byte is understood but for the records' data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The packet without its OPT record.
    packet: Box<[u8]>,
    /// Where the question ends.
    question: usize,
    /// Where the TTLs are.
    ttls: Box<[u16]>,
    /// How long it may be kept, in seconds; `None` when it may not.
    pub(super) keep: Option<u32>,
}

impl Told {
    /// Takes an answer apart that repeats its question. `None` when it is not well-formed, or says
    /// something that only who asked should hear.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let flags = word(packet, 2)?;
        if word(packet, 4)? != 1 {
            return None;
        }
        let question = skip_name(packet, HEADER)? + 4;
        let (answers, authorities, additionals) =
            (word(packet, 6)?, word(packet, 8)?, word(packet, 10)?);
        let records = [answers, authorities, additionals].map(u32::from);
        let mut at = question;
        let mut ttls = Vec::new();
        let (mut least, mut negative, mut opt) = (None::<u32>, None::<u32>, None);
        for number in 0..records.iter().sum() {
            let owner = at;
            let fixed = skip_name(packet, at)?;
            let kind = word(packet, fixed)?;
            let ttl = double(packet, fixed + 4)?;
            let data = fixed + 10;
            at = data + usize::from(word(packet, fixed + 8)?);
            if at > packet.len() || opt.is_some() {
                return None;
            }
            if kind == kind::OPT {
                // Its TTL is the upper half of the code and a version (RFC 6891, section 6.1.3).
                if number < records[0] + records[1] || ttl >> 16 != 0 || packet[owner] != 0 {
                    return None;
                }
                opt = Some(owner);
                continue;
            }
            let ttl = meant(ttl);
            ttls.push(u16::try_from(fixed + 4).ok()?);
            if number < records[0] {
                least = Some(least.map_or(ttl, |least| least.min(ttl)));
            } else if number < records[0] + records[1] && kind == kind::SOA {
                let minimum = double(packet, at.checked_sub(4).filter(|end| *end >= data)?)?;
                negative = Some(ttl.min(meant(minimum)).min(LONGEST_NEGATIVE));
            }
        }
        if at != packet.len() {
            return None;
        }
        let final_one = flags & 0x0200 == 0 && matches!(flags & 15, 0 | 3);
        let keep = match (least, negative) {
            (Some(a), Some(b)) => Some(a.min(b)),
            // That a name is missing must be vouched for.
            (Some(ttl), None) if flags & 15 == 0 => Some(ttl.min(LONGEST)),
            (Some(_), None) => None,
            (None, negative) => negative,
        };
        let keep = keep.filter(|ttl| final_one && *ttl > 0);
        let mut packet = packet[..opt.unwrap_or(packet.len())].to_vec();
        let rest = additionals - u16::from(opt.is_some());
        packet[10..12].copy_from_slice(&rest.to_be_bytes());
        Some(Self { packet: packet.into(), question, ttls: ttls.into(), keep })
    }

    /// The bytes that it takes to keep it.
    pub(super) fn size(&self) -> usize {
        self.packet.len() + 2 * self.ttls.len()
    }

    /// The answer to who asks now, `age` seconds after it was given; or at most `ttl` seconds to
    /// be kept, when it is older than it should be.
    pub(super) fn to(&self, question: &Question<'_>, transport: Transport, life: Life) -> Vec<u8> {
        let mut packet = Vec::with_capacity(self.packet.len() + OPT);
        packet.extend_from_slice(&self.packet);
        for &at in &self.ttls {
            let at = usize::from(at);
            let given = double(&packet, at).map(meant).unwrap_or_default();
            let left = match life {
                Life::Aged(age) => given.saturating_sub(age),
                Life::Stale(ttl) => ttl,
            };
            packet[at..at + 4].copy_from_slice(&left.to_be_bytes());
        }
        self.address(packet, question, transport)
    }

    /// Puts id, spelling, flags and OPT record as who asks wants them.
    fn address(
        &self,
        mut packet: Vec<u8>,
        question: &Question<'_>,
        transport: Transport,
    ) -> Vec<u8> {
        let limit = answer::limit(question, transport);
        let opt = if question.edns.is_some() { OPT } else { 0 };
        if packet.len() + opt > limit {
            packet.truncate(self.question);
            packet[2] |= 2;
            packet[6..HEADER].fill(0);
        }
        packet[..2].copy_from_slice(&question.id.to_be_bytes());
        packet[2] = packet[2] & !1 | u8::from(question.recursion_desired);
        packet[3] = packet[3] & !0x10 | u8::from(question.checking_disabled) << 4;
        // The same name, so of the same length.
        packet[HEADER..HEADER + question.name.len()].copy_from_slice(&question.name);
        if let Some(edns) = question.edns {
            packet.extend_from_slice(&[0, 0, 41]);
            packet.extend_from_slice(&OUR_PAYLOAD.to_be_bytes());
            packet.extend_from_slice(&[0, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
            let additionals = word(&packet, 10).unwrap_or_default() + 1;
            packet[10..12].copy_from_slice(&additionals.to_be_bytes());
        }
        packet
    }
}

/// What a TTL means: one with the highest bit is zero (RFC 2181, section 8).
fn meant(ttl: u32) -> u32 {
    if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl }
}

/// The TTLs of a packet as they are meant, in one that is passed on without having been taken apart. False
/// where whoever asked could not read it: it lacks records that it counts, and does not say that it was cut.
pub(super) fn correct_ttls(packet: &mut [u8]) -> bool {
    let Some(ttls) = ttls_of(packet) else {
        return packet.get(2).is_some_and(|flags| flags & 2 != 0);
    };
    for at in ttls {
        let ttl = double(packet, at).map(meant).unwrap_or_default();
        packet[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
    }
    true
}

/// Where the TTLs are that may be changed: nowhere in what is signed as a whole. `None` of what is not
/// well-formed.
fn ttls_of(packet: &[u8]) -> Option<Vec<usize>> {
    let records = records_of(packet)?;
    if records.iter().any(|(kind, _)| matches!(*kind, SIG | TSIG)) {
        return Some(Vec::new());
    }
    // An OPT record has something else there.
    let timed = records.into_iter().filter(|(kind, _)| *kind != kind::OPT);
    Some(timed.map(|(_, fixed)| fixed + 4).collect())
}

/// What the records are, and where each goes on behind its name. `None` of what is not well-formed.
fn records_of(packet: &[u8]) -> Option<Vec<(u16, usize)>> {
    let mut at = HEADER;
    for _ in 0..word(packet, 4)? {
        at = skip_name(packet, at)? + 4;
    }
    let counts = [word(packet, 6)?, word(packet, 8)?, word(packet, 10)?];
    let mut records = Vec::new();
    for _ in 0..counts.into_iter().map(u32::from).sum() {
        let fixed = skip_name(packet, at)?;
        records.push((word(packet, fixed)?, fixed));
        at = fixed + 10 + usize::from(word(packet, fixed + 8)?);
        if at > packet.len() {
            return None;
        }
    }
    Some(records)
}

/// The types of signatures over whole packets (RFC 2931; RFC 8945).
const SIG: u16 = 24;
const TSIG: u16 = 250;

/// Bytes of an OPT record without options.
const OPT: usize = 11;

/// How an answer has grown old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Seconds since it was given.
    Aged(u32),
    /// It is over, and this many seconds are added.
    Stale(u32),
}

/// Where a name ends that begins at an offset, compressed or not.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            // To what comes before it (RFC 1035, section 4.1.4).
            0xc0.. => {
                let to = usize::from(word(packet, at)? & 0x3fff);
                return (HEADER..at).contains(&to).then_some(at + 2);
            }
            _ => return None,
        }
    }
}

/// The big-endian 32 bits at an offset.
fn double(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests;
