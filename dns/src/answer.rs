//! Deciding about one packet: a reply of ours, somebody else to ask, or nothing.
//!
//! Pure: no socket, no clock, no state but the snapshot. What a name is to the asker is
//! `view`'s business, how a reply looks in bytes `reply`'s.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::names::{NetworkKey, Snapshot};
use crate::question::{self, CLASS_IN, Question, Unanswerable, kind};
use crate::reply::{self, Code, Reply};
use crate::view::{Finding, SERVER, View, wire};

/// The largest datagram we send however large a one the asker takes, in bytes.
const LARGEST_DATAGRAM: u16 = 4096;

/// Who asks. Its container, and with it all networks it is answered from, follow from this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Whose listener was asked.
    pub at: At,
    /// The address that the question came from.
    pub source: IpAddr,
}

/// Whose a listener is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// A network's, on an address of this host there.
    Network(NetworkKey),
    /// A container's own, inside it: nobody else can ask there.
    Container(Arc<str>),
    /// This host's own. It is on all networks, and says their names in full, below the domain.
    Host,
    /// One that is reached from every network, and by who is on none. Who asks there is found by
    /// the address that the question came from, and is then as if it had asked elsewhere: at its own
    /// network's, at the host's, or as a guest. Nobody else is told anything.
    Shared,
    /// Nobody's: who asks is on no network of ours, and may ask for names of others.
    Guest,
}

/// How the question came, and so the reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram each way. A reply that does not fit the asker's size is truncated.
    Udp,
    /// A stream: up to 65,535 bytes.
    Tcp,
}

/// What to do about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Send this back.
    Reply(Vec<u8>),
    /// Ask one of these, and send back what it says.
    Forward {
        /// Servers in order of preference; empty means the host's.
        upstreams: Vec<SocketAddr>,
    },
    /// Say nothing: it was no query.
    Drop,
}

/// Decides about one packet. `spin` is any number that differs from query to query: it rotates the
/// order of answers.
///
/// A name that is nobody's here is forwarded when one of the asker's networks forwards. On
/// internal networks it does not exist (NXDOMAIN, not authoritative, and without the SOA record
/// that would let it be cached, since the container may join another network the next moment).
/// REFUSED or SERVFAIL would be closer to the truth, but resolvers take them for a broken *server*:
/// musl goes on waiting until its timeout of five seconds, glibc asks every server of its list
/// twice and reports a temporary failure, which programs retry. NXDOMAIN is final at once.
pub fn answer(
    snapshot: &Snapshot,
    asker: &Asker,
    packet: &[u8],
    transport: Transport,
    spin: u64,
) -> Outcome {
    let question = match question::read(packet) {
        Ok(question) => question,
        Err(Unanswerable::Ignore) => return Outcome::Drop,
        Err(Unanswerable::Refuse(code)) => return Outcome::Reply(reply::bare(packet, code)),
    };
    let reply = Reply::to(&question, limit(&question, transport), snapshot.ttl);
    if question.edns.is_some_and(|edns| edns.version > 0) {
        return Outcome::Reply(reply.finish(Code::BadVersion, false));
    }
    if question.class != CLASS_IN || matches!(question.kind, kind::AXFR | kind::IXFR) {
        return Outcome::Reply(reply.finish(Code::Refused, false));
    }
    let view = View::of(snapshot, asker);
    if asker.at == At::Shared || !view.is_member(asker.source) {
        return Outcome::Reply(reply.finish(Code::Refused, false));
    }
    let text = question.text();
    let finding = view.find(&text);
    if finding == Finding::Foreign {
        return match view.upstreams(&text) {
            Some(servers) => Outcome::Forward { upstreams: servers.to_vec() },
            None => Outcome::Reply(reply.finish(Code::NoSuchName, false)),
        };
    }
    Outcome::Reply(tell(reply, &question, finding, snapshot, spin))
}

/// Says that the question could not be answered now (SERVFAIL). `None` when it was none.
pub(crate) fn failure(packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let question = question::read(packet).ok()?;
    let reply = Reply::to(&question, limit(&question, transport), 0);
    Some(reply.finish(Code::ServerFailure, false))
}

/// The most bytes that a reply may have.
pub(crate) fn limit(question: &Question<'_>, transport: Transport) -> usize {
    match transport {
        Transport::Udp => {
            question.edns.map_or(512, |edns| usize::from(edns.payload.min(LARGEST_DATAGRAM)))
        }
        Transport::Tcp => usize::from(u16::MAX),
    }
}

/// Says what was found about a name of ours.
fn tell(
    mut reply: Reply<'_>,
    question: &Question<'_>,
    finding: Finding<'_>,
    snapshot: &Snapshot,
    spin: u64,
) -> Vec<u8> {
    // Asked for everything, one kind of it will do (RFC 8482, section 4.1).
    let any = question.kind == kind::ANY;
    let (zone, code) = match finding {
        Finding::Name { mut addresses, zone } => {
            let four = match question.kind {
                kind::ANY => addresses.iter().any(IpAddr::is_ipv4),
                kind => kind == kind::A,
            };
            let wanted = any || matches!(question.kind, kind::A | kind::AAAA);
            addresses.retain(|address| wanted && address.is_ipv4() == four);
            if !addresses.is_empty() {
                rotate(&mut addresses, spin);
                let _all_fit = addresses.into_iter().all(|address| reply.address(address));
                return reply.finish(Code::NoError, true);
            }
            (zone, Code::NoError)
        }
        Finding::Service { mut places, .. } if any || question.kind == kind::SRV => {
            rotate(&mut places, spin);
            let fit = places.iter().all(|place| reply.service(place.port, &place.name));
            for place in places.iter().filter(|_| fit) {
                for address in place.addresses {
                    reply.whereabouts(&place.name, *address);
                }
            }
            return reply.finish(Code::NoError, true);
        }
        Finding::Address { name, .. } if any || question.kind == kind::PTR => {
            reply.pointer(&name);
            return reply.finish(Code::NoError, true);
        }
        Finding::Apex => {
            if question.kind == kind::NS {
                reply.name_server(&server(&snapshot.domain));
                return reply.finish(Code::NoError, true);
            }
            (0, Code::NoError)
        }
        Finding::Service { zone, .. }
        | Finding::Address { zone, .. }
        | Finding::Hollow { zone } => (zone, Code::NoError),
        Finding::Missing { zone } => (zone, Code::NoSuchName),
        Finding::Foreign => return reply.finish(Code::NoSuchName, false),
    };
    if any && code == Code::NoError {
        reply.minimal();
        return reply.finish(code, true);
    }
    // The domain is configured; one that cannot be said in DNS is the root.
    let domain = wire(&snapshot.domain).unwrap_or_else(|| vec![0]);
    reply.authority(zone, &server(&snapshot.domain), &domain, snapshot.serial);
    reply.finish(code, true)
}

/// The name server of our zones, in wire format.
fn server(domain: &[u8]) -> Vec<u8> {
    wire(&[SERVER, domain].join(&b'.')).unwrap_or_else(|| vec![0])
}

/// Puts another one first for each number.
fn rotate<T>(items: &mut [T], spin: u64) {
    let count = u64::try_from(items.len()).expect("a length fits 64 bits");
    let first = usize::try_from(spin % count).expect("less than a length");
    items.rotate_left(first);
}

#[cfg(test)]
mod tests;
