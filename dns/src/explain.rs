//! Saying why an answer is what it is: the same look at the names that answering takes, told in
//! sentences for people.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use crate::answer::Asker;
use crate::forward::{Origin, Relayed};
use crate::names::Snapshot;
use crate::question::{self, Question, kind};
use crate::server::tally::result_name;
use crate::view::{Finding, Part, View, is_of_service, strip, without_service};
use crate::{Error, limits, reverse, special};

/// An answer and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// `NOERROR`, `NXDOMAIN` and so on.
    pub result: String,
    /// The records of the answer, as zone files have them.
    pub answers: Vec<String>,
    /// Why, in sentences.
    pub why: Vec<String>,
}

/// A packet with one question, as a stub resolver puts it. The type is a name such as `AAAA`, or
/// `TYPE65`; where it is not said, `PTR` of an address, `SRV` of a service and `A` of another name. The `PTR` of an address is
/// that of its name in reverse.
///
/// # Errors
/// [`Error::Label`], [`Error::Name`] and [`Error::Unsayable`] when there can be no such name,
/// [`Error::Type`] when there is no such type.
pub fn packet(name: &str, kind: Option<&str>) -> Result<Vec<u8>, Error> {
    let address = name.parse::<IpAddr>().ok();
    let usual = match address {
        Some(_) => "PTR",
        None if is_of_service(name.as_bytes()) => "SRV",
        None => "A",
    };
    let kind = kind.unwrap_or(usual);
    let reverse = address.filter(|_| kind.eq_ignore_ascii_case("PTR")).map(reverse::name);
    let name = reverse.as_deref().unwrap_or(name);
    let unsayable = || Error::Unsayable { name: name.to_owned() };
    let plain = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unsayable());
    }
    if !plain.is_empty() {
        limits::check_name(plain, &[])?;
    }
    let number =
        kind.to_ascii_uppercase().strip_prefix("TYPE").and_then(|it| it.parse::<u16>().ok());
    let unknown = || Error::Type { kind: kind.to_owned() };
    let kind = match number {
        Some(number) => RecordType::from(number),
        None => kind.to_ascii_uppercase().parse().map_err(|_| unknown())?,
    };
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{plain}.")).map_err(|_| unsayable())?;
    message.add_query(Query::query(name, kind));
    message.to_vec().map_err(|_| unknown())
}

/// Reads an answer of ours or of others.
pub(crate) fn read(reply: &[u8], why: Vec<String>) -> Explained {
    let code = reply.get(3).map_or(2, |flags| flags & 15);
    let answers = Message::from_vec(reply).map_or_else(
        |error| vec![format!("an answer that cannot be read: {error}")],
        |message| message.answers.iter().map(ToString::to_string).collect(),
    );
    Explained { result: result_name(code).to_owned(), answers, why }
}

/// What a name is to somebody who asks.
pub(crate) fn local(snapshot: &Snapshot, asker: &Asker, packet: &[u8]) -> Vec<String> {
    let Ok(question) = question::read(packet) else {
        return vec!["it is no question".to_owned()];
    };
    let view = View::of(snapshot, asker);
    let text = question.text();
    let called = |network: &crate::names::Network| {
        network.zone.as_deref().map_or_else(|| "(unnamed)".to_owned(), |zone| zone.name.clone())
    };
    let networks: Vec<String> = view.networks().map(called).collect();
    let mut why = vec![match &*networks {
        [] => "who asks is on no network".to_owned(),
        some => format!("who asks is on {}", some.join(", ")),
    }];
    let domain = String::from_utf8_lossy(&snapshot.domain).into_owned();
    let finding = view.find(&text);
    let below = strip(&text, &snapshot.domain);
    let whose = reverse::range(&text).and_then(special::loopback);
    if whose.is_some() || below.is_none() && special::localhost(&text).is_some() {
        why.push("it is whoever asks, and nobody else is asked (RFC 6761)".to_owned());
        return why;
    }
    if let Finding::Name { .. } = finding {
        let whole = view.may_be_whole(&text, below);
        for network in view.networks() {
            match view.part(network, &text, below, whole) {
                Part::Members(bearers) => why.extend(bearers.values().map(|member| {
                    let addresses: Vec<_> =
                        member.addresses.iter().map(ToString::to_string).collect();
                    format!(
                        "on {} it is a name of {} (endpoint {}): {}",
                        called(network),
                        member.names.first().map_or("(unnamed)", |name| &**name),
                        member.endpoint.get(..12).unwrap_or(&member.endpoint),
                        if addresses.is_empty() {
                            "no address".into()
                        } else {
                            addresses.join(", ")
                        },
                    )
                })),
                Part::Gateway(_) => why.push(format!("it is the gateway of {}", called(network))),
                Part::Network | Part::Nothing => {}
            }
        }
    }
    let whose = without_service(&text);
    if let Finding::Missing { .. } = finding
        && *whose != *text
        && let Finding::Name { .. } = view.find(whose)
    {
        why.push(format!(
            "{} has no such service: it has those of its published and exposed ports, and nobody else \
             is asked",
            String::from_utf8_lossy(whose)
        ));
        return why;
    }
    if let (Finding::Missing { .. }, None, Some(network)) = (&finding, below, view.elsewhere(&text))
    {
        let reason = match view.is_on(network) {
            true => "whose host is down: it is told when that is back",
            false => "and who asks is not there: they are not told",
        };
        let network = called(network);
        why.push(format!("on {network} it is a name, {reason}, and nobody else is asked"));
        return why;
    }
    if let (Finding::Foreign, Some(whole)) = (&finding, view.whole_name(&text)) {
        why.push(format!(
            "the host's own programs are told whole names only, such as {whole}: this one is asked \
             for elsewhere"
        ));
        return why;
    }
    why.push(verdict(&finding, &question, &domain));
    if matches!(question.kind, kind::AXFR | kind::IXFR) {
        why.push("zones are transferred to nobody".to_owned());
    }
    if let (Finding::Foreign, Some(network)) = (&finding, view.above(&text)) {
        why.push(format!(
            "{} is a network, which has no such name: below its name there may be others' names, too",
            called(network)
        ));
    }
    why
}

fn verdict(finding: &Finding<'_>, question: &Question<'_>, domain: &str) -> String {
    let kind = kind_name(question.kind);
    match finding {
        Finding::Name { addresses, .. } if addresses.is_empty() => {
            "the name is netd's own and has no address here".to_owned()
        }
        Finding::Name { addresses, .. } => {
            let (wanted, others) = match question.kind {
                kind::A => (addresses.iter().filter(|address| address.is_ipv4()).count(), "IPv6"),
                kind::AAAA => {
                    (addresses.iter().filter(|address| address.is_ipv6()).count(), "IPv4")
                }
                _ => (addresses.len(), ""),
            };
            let count = counted(wanted, "address", "addresses");
            let beside = match addresses.len() - wanted {
                0 => String::new(),
                rest => format!(" and {rest} of {others}"),
            };
            format!("the name is netd's own, with {count}{beside}; asked for {kind}")
        }
        Finding::Service { places, .. } => {
            let places = counted(places.len(), "place", "places");
            format!("it is a service, in {places}; asked for {kind}")
        }
        Finding::Address { .. } => "it is an address of one of these networks".to_owned(),
        Finding::Apex => "it is a zone of netd's own".to_owned(),
        Finding::Hollow { .. } => "netd has names below it, and none of this name".to_owned(),
        Finding::Missing { .. } if special::nobodys(&question.text()).is_some() => {
            "nobody is called so, anywhere, and nobody else is asked (RFC 6761, RFC 7686)"
                .to_owned()
        }
        Finding::Missing { .. } => {
            format!(
                "nobody there is called so, and what is in netd's zones ({domain}, the networks' \
                     own addresses) is asked nowhere else"
            )
        }
        Finding::Foreign => "nobody there is called so".to_owned(),
    }
}

/// The name of a type, as people write it: also of those that are not counted by name.
fn kind_name(kind: u16) -> String {
    match RecordType::from(kind) {
        RecordType::Unknown(_) | RecordType::ZERO => format!("TYPE{kind}"),
        known => known.to_string(),
    }
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// What became of a name that was asked elsewhere.
pub(crate) fn elsewhere(upstreams: &[SocketAddr], relayed: &Relayed) -> Vec<String> {
    let servers: Vec<_> = upstreams.iter().map(ToString::to_string).collect();
    let asked = match &*servers {
        [] => "the host's servers are asked".to_owned(),
        [one] => format!("{one} is asked"),
        some => format!("{} are asked", some.join(", ")),
    };
    let outcome = match relayed.from {
        Origin::Unasked if servers.is_empty() => {
            let why = "nobody is asked: the host's /etc/resolv.conf, or dns_upstreams, names no server \
                       but netd itself";
            return vec![why.to_owned()];
        }
        Origin::Unasked => {
            let servers = servers.join(", ");
            return vec![format!("nobody is asked: {servers} is netd itself, or who asks")];
        }
        Origin::Server(server) => format!("{server} answered"),
        Origin::Cache => "an earlier answer still holds".to_owned(),
        Origin::Stale => {
            "nobody answered, and an answer past its time is better than none".to_owned()
        }
        Origin::Nobody => "nobody answered".to_owned(),
        Origin::Crowded => "who asks has too many questions out or waiting already".to_owned(),
        Origin::Late => "its turn came too late, as who asks had too many questions out".to_owned(),
        Origin::Failed => {
            "nobody could answer a moment ago, and so nobody is asked again for some seconds \
             (RFC 9520)"
                .to_owned()
        }
    };
    vec![asked, outcome]
}

/// That no network of who asks leads outside.
pub(crate) const INSIDE: &str = "no network of theirs leads outside, so nobody else is asked";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::At;
    use crate::names::{Member, Names, Zone};

    #[test]
    fn a_question_is_made_of_a_name_and_a_type() {
        let packet = packet("Web.app.", Some("aaaa")).unwrap();
        assert_eq!(packet[12..], *b"\x03Web\x03app\0\0\x1c\0\x01");
        assert!(super::packet("web", Some("TYPE65")).unwrap().ends_with(&[0, 65, 0, 1]));
        assert!(matches!(super::packet("web", Some("nonsense")), Err(Error::Type { .. })));
        assert!(matches!(super::packet("a..b", Some("A")), Err(Error::Label { .. })));
        super::packet(".", Some("NS")).unwrap();
        for unsayable in ["", "a b", "b\u{fc}cher.example", "a\tb", " "] {
            let error = super::packet(unsayable, None).unwrap_err();
            assert!(matches!(&error, Error::Unsayable { .. }), "{unsayable:?}: {error}");
        }
        let asked = |name, kind| super::packet(name, kind).unwrap()[12..].to_vec();
        assert!(asked("web", None).ends_with(&[0, 1, 0, 1]));
        for service in ["_http._tcp.web", "_53._UDP.web.app.netd"] {
            assert!(asked(service, None).ends_with(&[0, 33, 0, 1]), "{service}");
            assert!(asked(service, Some("A")).ends_with(&[0, 1, 0, 1]), "{service}");
        }
        for other in ["_dmarc.example.org", "_tcp.web", "http._tcp.web", "_http._tcp"] {
            assert!(asked(other, None).ends_with(&[0, 1, 0, 1]), "{other}");
        }
        let pointer = b"\x013\x012\x011\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01";
        for kind in [None, Some("PTR"), Some("ptr")] {
            assert_eq!(asked("10.1.2.3", kind), pointer);
        }
        assert_eq!(asked("3.2.1.10.in-addr.arpa.", Some("PTR")), pointer);
        assert!(asked("fd00::1", None).ends_with(b"\x01d\x01f\x03ip6\x04arpa\0\0\x0c\0\x01"));
        assert!(asked("10.1.2.3", Some("A")).starts_with(b"\x0210\x011"), "as it is said");
    }

    #[test]
    fn the_reasons_name_network_and_member() {
        let names = Names::new();
        names.network_up("n1", Zone { name: "app".into(), ..Zone::default() });
        names.publish(
            "n1",
            Member {
                endpoint: "0123456789abcdef".into(),
                container: "c".into(),
                names: ["web".into(), "www".into()].into(),
                addresses: ["10.0.0.2".parse().unwrap()].into(),
                ..Member::default()
            },
        );
        let asker = Asker { at: At::Container("c".into()), source: [127, 0, 0, 1].into() };
        let why = |name| local(&names.load(), &asker, &packet(name, Some("A")).unwrap());
        assert_eq!(
            why("www.app"),
            [
                "who asks is on app",
                "on app it is a name of web (endpoint 0123456789ab): 10.0.0.2",
                "the name is netd's own, with 1 address; asked for A",
            ]
        );
        assert!(why("x.netd")[1].contains("asked nowhere else"));
        assert_eq!(why("example.org")[1], "nobody there is called so");
        for whose in ["localhost", "1.0.0.127.in-addr.arpa", "9.127.in-addr.arpa"] {
            assert!(why(whose)[1].contains("whoever asks"), "{whose}");
        }
        let transfer = local(&names.load(), &asker, &packet("app", Some("AXFR")).unwrap());
        assert_eq!(transfer.last().unwrap(), "zones are transferred to nobody");
        assert!(why("x.invalid")[1].contains("nobody is called so, anywhere"));

        for (kind, called) in
            [("TYPE15", "MX"), ("TYPE255", "ANY"), ("TYPE252", "AXFR"), ("TYPE65000", "TYPE65000")]
        {
            let why = local(&names.load(), &asker, &packet("web", Some(kind)).unwrap());
            assert!(why[2].ends_with(&format!("asked for {called}")), "{why:?}");
            assert_eq!(why.len() > 3, called == "AXFR", "{why:?}");
        }
        for (name, whose) in [
            ("_8080._tcp.web", "web"),
            ("_8080._tcp.web.app", "web.app"),
            ("_8080._tcp.web.app.netd", "web.app.netd"),
            ("_8080.web", "web"),
        ] {
            let why = why(name);
            assert!(why[1].starts_with(&format!("{whose} has no such service")), "{why:?}");
            assert_eq!(why.len(), 2, "{why:?}");
        }
        let host = Asker { at: At::Host, source: [127, 0, 0, 1].into() };
        let why_host = |name| local(&names.load(), &host, &packet(name, Some("A")).unwrap());
        for name in ["web.app", "web"] {
            let why = why_host(name);
            assert!(why[1].contains("told whole names only, such as web.app.netd"), "{why:?}");
            assert_eq!(why.len(), 2, "{why:?}");
        }
        assert!(why_host("nosuch.app")[2].starts_with("app is a network, which has no such name"));
        assert_eq!(
            why_host("web.app.netd").last().unwrap(),
            "the name is netd's own, with 1 address; asked for A"
        );

        names.network_up("n2", Zone { name: "com".into(), ..Zone::default() });
        names.publish(
            "n2",
            Member {
                endpoint: "f".into(),
                names: ["web".into(), "db".into()].into(),
                ..Member::default()
            },
        );
        for name in ["web.com", "db", "_http._tcp.db.com"] {
            assert!(
                why(name)[1].contains("on com it is a name, and who asks is not there"),
                "{name}"
            );
        }
        for (name, network) in [("x.com", "com"), ("www.example.com", "com"), ("x.app", "app")] {
            let why = why(name);
            assert_eq!(why[1], "nobody there is called so", "{name}");
            assert!(
                why[2].starts_with(&format!("{network} is a network, which has no")),
                "{why:?}"
            );
        }
        assert!(why("nosuch.com.netd")[1].contains("asked nowhere else"));

        // Whose host is down: of two that are called so the other one is told.
        let member = |endpoint: &str, name: &str, address: &str| Member {
            endpoint: endpoint.into(),
            names: [name.into()].into(),
            addresses: [address.parse().unwrap()].into(),
            ..Member::default()
        };
        let far = member("d", "far", "fd00::4");
        names.publish("n1", far.clone());
        assert!(why("far")[2].contains("with 0 addresses and 1 of IPv6; asked for A"));
        names.publish("n1", far.gone_away());
        for name in ["far", "FAR.app", "_http._tcp.far"] {
            let why = why(name);
            assert!(why[1].starts_with("on app it is a name, whose host is down"), "{why:?}");
        }
        assert!(why("far.app.netd")[1].contains("asked nowhere else"));
        names.publish("n1", member("e", "far", "10.0.0.5"));
        assert!(why("far")[2].contains("with 1 address;"));
        names.retract("n1", "e");
        names.publish("n1", far);
        assert!(why("far")[2].contains("with 0 addresses and 1 of IPv6"));
        names.retract("n1", "d");
        assert_eq!(why("far")[1], "nobody there is called so");
    }
}
