use std::collections::BTreeSet;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;

use super::*;
use crate::names::{DEFAULT_TTL, Member, Names, Port, Protocol, Stub, Zone};
use crate::reply::{NEGATIVE_TTL, OUR_PAYLOAD};

const WEB: &str = "10.1.0.2";
const DB: &str = "10.1.0.3";

fn member(endpoint: &str, names: &[&str], addresses: &[&str]) -> Member {
    Member {
        endpoint: endpoint.into(),
        container: format!("container of {endpoint}").into(),
        names: names.iter().map(|name| (*name).into()).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Member::default()
    }
}

fn zone(name: &str, subnets: &[&str], gateway: &str, forward: bool) -> Zone {
    Zone {
        name: name.to_owned(),
        forward,
        upstreams: Vec::new(),
        subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
        gateways: vec![gateway.parse().unwrap()],
        hosts: vec![gateway.parse().unwrap()],
        ..Zone::default()
    }
}

/// `app` forwards and has two members; `lab` is internal, has one of its own and `db` again.
fn names() -> Names {
    let names = Names::new();
    names.network_up("n1", zone("App", &["10.1.0.0/23", "fd01::/64"], "10.1.0.1", true));
    names.network_up("n2", zone("lab", &["10.2.0.0/24"], "10.2.0.1", false));
    names.publish("n1", member("web", &["Web", "www", "0123456789ab"], &[WEB, "fd01::2"]));
    names.publish("n1", member("db", &["db"], &[DB]));
    names.publish("n2", member("probe", &["probe"], &["10.2.0.2"]));
    names.publish(
        "n2",
        Member {
            container: "container of db".into(),
            ..member("db2", &["db", "store"], &["10.2.0.3"])
        },
    );
    names
}

fn packet(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Who asks from a listener.
fn from(listener: &str, source: &str) -> Asker {
    Asker { at: At::Network(listener.into()), source: source.parse().unwrap() }
}

fn put(names: &Names, asker: &Asker, message: &Message, transport: Transport) -> Outcome {
    answer(&names.load(), asker, &message.to_vec().unwrap(), transport, 0)
}

/// What `web` is told.
fn told(name: &str, kind: RecordType) -> Message {
    told_to(&from("n1", WEB), name, kind)
}

fn told_to(asker: &Asker, name: &str, kind: RecordType) -> Message {
    reply(put(&names(), asker, &packet(name, kind), Transport::Udp))
}

#[track_caller]
fn reply(outcome: Outcome) -> Message {
    let Outcome::Reply(bytes) = outcome else { panic!("{outcome:?}") };
    Message::from_vec(&bytes).unwrap()
}

/// The data of a section's records, as text.
fn data(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

fn is_forwarded(asker: &Asker, name: &str, kind: RecordType) -> bool {
    matches!(put(&names(), asker, &packet(name, kind), Transport::Udp), Outcome::Forward { .. })
}

/// Checks for an empty authoritative answer whose SOA is that of `zone`.
#[track_caller]
fn assert_empty(message: &Message, code: ResponseCode, zone: &str) {
    assert_eq!(message.metadata.response_code, code);
    assert!(message.metadata.authoritative);
    assert!(message.answers.is_empty());
    let [soa] = &*message.authorities else { panic!("{message:?}") };
    let RData::SOA(data) = &soa.data else { panic!("{soa:?}") };
    assert_eq!(soa.name.to_string(), zone);
    assert_eq!(data.mname.to_string(), "ns.netd.");
    assert_eq!(data.rname.to_string(), "hostmaster.netd.");
    assert_eq!((soa.ttl, data.minimum), (NEGATIVE_TTL, NEGATIVE_TTL));
}

#[test]
fn every_name_of_a_member_has_its_addresses() {
    for name in ["web.", "WWW.", "0123456789ab.", "web.app.", "Web.APP.netd.", "www.app.netd."] {
        let v4 = told(name, RecordType::A);
        assert_eq!(data(&v4), [WEB], "{name}");
        assert_eq!(v4.answers[0].name.to_string(), name, "case is kept");
        assert_eq!(v4.answers[0].ttl, DEFAULT_TTL);
        assert_eq!(v4.answers[0].dns_class, DNSClass::IN);
        assert_eq!(data(&told(name, RecordType::AAAA)), ["fd01::2"], "{name}");
    }
}

#[test]
fn the_header_says_whose_answer_it_is() {
    let header = told("web.", RecordType::A).metadata;
    assert_eq!(header.id, 0x1234);
    assert_eq!(header.message_type, MessageType::Response);
    assert!(header.authoritative && header.recursion_available);
    assert!(header.recursion_desired && header.checking_disabled, "copied");
    assert!(!header.truncation && !header.authentic_data);

    let mut plain = packet("web.", RecordType::A);
    plain.metadata.recursion_desired = false;
    plain.metadata.checking_disabled = false;
    let header = reply(put(&names(), &from("n1", WEB), &plain, Transport::Udp)).metadata;
    assert!(!header.recursion_desired && !header.checking_disabled, "copied");
}

#[test]
fn a_name_without_the_type_asked_for_is_there_but_empty_and_never_forwarded() {
    use RecordType::{AAAA, HTTPS, MX, NS, PTR, SRV, TXT};
    assert_empty(&told("db.", AAAA), ResponseCode::NoError, "db.");
    assert_empty(&told("db.app.netd.", AAAA), ResponseCode::NoError, "netd.");
    for kind in [TXT, MX, SRV, NS, HTTPS, PTR] {
        assert_empty(&told("web.", kind), ResponseCode::NoError, "web.");
        assert_empty(&told("web.app.", kind), ResponseCode::NoError, "web.app.");
    }
}

#[test]
fn the_domain_is_ours_whatever_is_asked_below_it() {
    assert_empty(&told("nosuch.app.netd.", RecordType::A), ResponseCode::NXDomain, "netd.");
    assert_empty(&told("web.netd.", RecordType::A), ResponseCode::NXDomain, "netd.");
    assert_empty(&told("probe.lab.netd.", RecordType::A), ResponseCode::NXDomain, "netd.");
    assert_empty(&told("a.b.c.NetD.", RecordType::TXT), ResponseCode::NXDomain, "NetD.");
    assert_empty(&told("netd.", RecordType::A), ResponseCode::NoError, "netd.");
    assert_empty(&told("app.netd.", RecordType::A), ResponseCode::NoError, "netd.");
    assert_empty(&told("lab.netd.", RecordType::A), ResponseCode::NXDomain, "netd.");
    assert!(is_forwarded(&from("n1", WEB), "xnetd.", RecordType::A), "no dot, not below");
}

#[test]
fn names_of_networks_that_are_called_alike_all_stay_here() {
    let names = names();
    for (key, name, who) in [("n3", "Six", "one"), ("n4", "six", "two")] {
        names.network_up(key, zone(name, &[], "10.6.0.1", true));
        names.publish(key, member(key, &[who], &["10.6.0.2"]));
    }
    let ask = |name| put(&names, &from("n1", WEB), &packet(name, RecordType::A), Transport::Udp);
    for name in ["one.six.", "ONE.Six.", "two.SIX."] {
        assert_empty(&reply(ask(name)), ResponseCode::NXDomain, name);
    }
    names.network_down("n4");
    assert_empty(&reply(ask("one.SIX.")), ResponseCode::NXDomain, "one.SIX.");
    assert!(matches!(ask("two.six."), Outcome::Forward { .. }), "nobody's any more");
}

#[test]
fn localhost_is_whoever_asks_and_invalid_and_onion_are_nobody() {
    use RecordType::{A, AAAA, ANY, MX, SRV};
    let names = names();
    names.publish("n1", member("odd", &["localhost", "db.invalid"], &["10.1.0.9"]));
    names.set_stubs(vec![Stub { domain: "localhost".into(), servers: vec![] }]);
    let host = Asker { at: At::Host, source: [127, 0, 0, 1].into() };
    let guest = Asker { at: At::Guest, source: [10, 77, 0, 2].into() };
    for asker in [from("n1", WEB), from("n2", "10.2.0.2"), host, guest] {
        let ask = |name, kind| reply(put(&names, &asker, &packet(name, kind), Transport::Udp));
        for name in ["localhost.", "LocalHost.", "app.localhost.", "a.b.LOCALHOST."] {
            assert_eq!(data(&ask(name, A)), ["127.0.0.1"], "{name}");
            assert_eq!(data(&ask(name, AAAA)), ["::1"], "{name}");
            assert_eq!(data(&ask(name, ANY)), ["127.0.0.1"], "{name}");
            assert!(ask(name, A).metadata.authoritative);
        }
        assert_empty(&ask("x.localhost.", MX), ResponseCode::NoError, "localhost.");
        assert_empty(&ask("_http._tcp.localhost.", SRV), ResponseCode::NoError, "localhost.");
        for name in ["invalid.", "x.y.invalid."] {
            assert_empty(&ask(name, A), ResponseCode::NXDomain, "invalid.");
        }
        for name in ["onion.", "x.y.onion."] {
            assert_empty(&ask(name, A), ResponseCode::NXDomain, "onion.");
        }
    }
    for name in ["1.0.0.127.in-addr.arpa.", &format!("1.{}ip6.arpa.", "0.".repeat(31))] {
        assert_eq!(data(&told(name, RecordType::PTR)), ["localhost."], "{name}");
    }
    let other = told("53.0.0.127.in-addr.arpa.", RecordType::PTR);
    assert_empty(&other, ResponseCode::NXDomain, "127.in-addr.arpa.");
    let own = put(&names, &from("n1", WEB), &packet("db.invalid.", A), Transport::Udp);
    assert_eq!(data(&reply(own)), ["10.1.0.9"], "who is called so is found");
    for name in ["xlocalhost.", "localhost.example.", "xinvalid.", "invalid.example.", "xonion."] {
        assert!(is_forwarded(&from("n1", WEB), name, A), "{name}");
    }
}

#[test]
fn nobody_takes_the_name_of_a_container_with_its_networks() {
    use RecordType::A;
    let names = names();
    // On `app` there is one who calls himself after containers of `lab` and what leads out of it.
    let called = &["store.lab", "gateway.lab", "nobody.lab", "web.app"];
    names.publish("n1", member("fake", called, &["10.1.0.9"]));
    let ask =
        |asker: &Asker, name| data(&reply(put(&names, asker, &packet(name, A), Transport::Udp)));
    let both = from("n1", DB);
    assert_eq!(ask(&both, "store.lab."), ["10.2.0.3"]);
    assert_eq!(ask(&both, "gateway.lab."), ["10.2.0.1"]);
    assert_eq!(ask(&both, "nobody.lab."), ["10.1.0.9"], "there is no other");
    assert_eq!(ask(&both, "store.lab.app."), ["10.1.0.9"], "and with its own network's");
    assert_eq!(ask(&both, "web.app."), [WEB]);
    assert_eq!(ask(&from("n1", WEB), "store.lab."), ["10.1.0.9"], "who is on `app` alone");
    assert_eq!(ask(&from("n2", "10.2.0.2"), "store.lab."), ["10.2.0.3"]);
}

#[test]
fn a_zone_is_asked_for_itself() {
    let message = told("netd.", RecordType::SOA);
    assert_eq!(message.answers.len(), 1);
    assert!(message.authorities.is_empty());
    assert_empty(&told("web.app.netd.", RecordType::SOA), ResponseCode::NoError, "netd.");
}

#[test]
fn the_domain_can_be_another() {
    let names = names();
    names.set_domain("Cluster.Local.");
    let ask = |name| put(&names, &from("n1", WEB), &packet(name, RecordType::A), Transport::Udp);
    assert_eq!(data(&reply(ask("web.app.cluster.local."))), [WEB]);
    assert_eq!(reply(ask("nosuch.cluster.local.")).metadata.response_code, ResponseCode::NXDomain);
    assert!(matches!(ask("web.app.netd."), Outcome::Forward { .. }));
}

#[test]
fn addresses_have_names() {
    let web = told("2.0.1.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(data(&web), ["Web.App."]);
    assert!(web.metadata.authoritative);
    let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.D.F.IP6.ARPA.";
    assert_eq!(data(&told(v6, RecordType::PTR)), ["Web.App."]);
    assert_eq!(data(&told("1.0.1.10.in-addr.arpa.", RecordType::PTR)), ["gateway.App."]);
    assert_eq!(data(&told("gateway.app.", RecordType::A)), ["10.1.0.1"]);
    assert_eq!(data(&told("gateway.app.netd.", RecordType::A)), ["10.1.0.1"]);
}

#[test]
fn reverse_zones_of_ones_networks_are_ours_and_others_are_not() {
    use RecordType::{A, PTR};
    let missing = told("9.1.1.10.in-addr.arpa.", PTR);
    assert_empty(&missing, ResponseCode::NXDomain, "1.1.10.in-addr.arpa.");
    assert_empty(&told("2.0.1.10.in-addr.arpa.", A), ResponseCode::NoError, "0.1.10.in-addr.arpa.");
    assert_empty(&told("1.1.10.in-addr.arpa.", A), ResponseCode::NoError, "1.1.10.in-addr.arpa.");
    assert_eq!(data(&told("1.1.10.in-addr.arpa.", RecordType::NS)), ["ns.netd."]);
    let web = from("n1", WEB);
    assert!(is_forwarded(&web, "9.9.9.9.in-addr.arpa.", PTR));
    let other = told("2.0.2.10.in-addr.arpa.", PTR);
    assert_empty(&other, ResponseCode::NXDomain, "0.2.10.in-addr.arpa.");
    assert!(is_forwarded(&web, "1.10.in-addr.arpa.", PTR), "wider than the subnet");
}

#[test]
fn a_container_is_answered_from_all_its_networks_whichever_it_asks() {
    for asker in [from("n1", DB), from("n2", "10.2.0.3")] {
        assert_eq!(data(&told_to(&asker, "web.", RecordType::A)), [WEB]);
        assert_eq!(data(&told_to(&asker, "probe.lab.", RecordType::A)), ["10.2.0.2"]);
        assert_eq!(data(&told_to(&asker, "store.", RecordType::A)), ["10.2.0.3"]);
        let both: BTreeSet<_> = data(&told_to(&asker, "db.", RecordType::A)).into_iter().collect();
        assert_eq!(both, BTreeSet::from([DB.to_owned(), "10.2.0.3".to_owned()]));
        assert_eq!(data(&told_to(&asker, "db.lab.", RecordType::A)), ["10.2.0.3"]);
        assert_eq!(
            data(&told_to(&asker, "2.0.2.10.in-addr.arpa.", RecordType::PTR)),
            ["probe.lab."]
        );
        assert!(is_forwarded(&asker, "example.org.", RecordType::A));
    }
}

#[test]
fn a_stranger_is_answered_from_the_listeners_network_alone() {
    let stranger = from("n1", "10.1.0.99");
    assert_eq!(data(&told_to(&stranger, "web.", RecordType::A)), [WEB]);
    assert_eq!(data(&told_to(&stranger, "db.", RecordType::A)), [DB]);
    let probe = told_to(&stranger, "probe.", RecordType::A);
    assert_empty(&probe, ResponseCode::NXDomain, "probe.");
    assert_eq!(
        data(&told_to(&from("n1", "::ffff:10.1.0.3"), "store.", RecordType::A)),
        ["10.2.0.3"],
        "an IPv4 address inside an IPv6 one is the same container"
    );
}

#[test]
fn who_is_not_on_the_network_is_told_nothing() {
    // A neighbour of the host, and a container of another network, db's address there or not.
    for source in ["192.0.2.9", "10.2.0.2", "10.2.0.3", "fd99::1"] {
        for name in ["web.", "db.", "example.org."] {
            let message = told_to(&from("n1", source), name, RecordType::A);
            assert_eq!(message.metadata.response_code, ResponseCode::Refused, "{source} {name}");
            assert!(message.answers.is_empty());
        }
    }
}

#[test]
fn an_internal_network_forwards_nothing() {
    let probe = from("n2", "10.2.0.2");
    let message = told_to(&probe, "example.org.", RecordType::A);
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    assert!(!message.metadata.authoritative);
    assert!(message.authorities.is_empty(), "not to be cached");
    for name in ["web.", "web.app."] {
        assert_empty(&told_to(&probe, name, RecordType::A), ResponseCode::NXDomain, name);
    }
}

#[test]
fn a_network_that_is_gone_has_nothing() {
    let names = names();
    names.network_down("n1");
    let ask = |name| put(&names, &from("n1", WEB), &packet(name, RecordType::A), Transport::Udp);
    assert_eq!(reply(ask("web.")).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_networks_own_servers_are_asked() {
    let names = names();
    let servers = vec!["192.0.2.53:53".parse().unwrap()];
    names.network_up(
        "n1",
        Zone { upstreams: servers.clone(), ..zone("app", &[], "10.1.0.1", true) },
    );
    let foreign = packet("example.org.", RecordType::A);
    for asker in [from("n1", WEB), from("n2", "10.2.0.3")] {
        let outcome = put(&names, &asker, &foreign, Transport::Udp);
        assert_eq!(outcome, Outcome::Forward { upstreams: servers.clone() });
    }
}

#[test]
fn unknown_single_labels_and_the_root_are_forwarded() {
    let web = from("n1", WEB);
    for name in ["nosuch.", "nosuch.app.", ".", "app.", "web.other.", "we\\.b.", "web\\.app."] {
        assert!(is_forwarded(&web, name, RecordType::A), "{name}");
    }
}

#[test]
fn names_of_other_networks_are_not_there_and_not_asked_elsewhere() {
    for name in [
        "probe.",
        "store.",
        "probe.lab.",
        "gateway.lab.",
        "PROBE.Lab.",
        "_http._tcp.probe.",
        "_80._udp.store.lab.",
        "_tcp.probe.lab.",
    ] {
        for kind in [RecordType::A, RecordType::MX, RecordType::SRV] {
            assert_empty(&told(name, kind), ResponseCode::NXDomain, name);
        }
    }
    let web = from("n1", WEB);
    for name in
        ["x.lab.", "probe.other.", "x.probe.", "lab.", "_http._tcp.x.lab.", "_dmarc.example.org."]
    {
        assert!(is_forwarded(&web, name, RecordType::A), "{name} may be anything in the world");
    }
    let names = names();
    names.publish("n2", member("evil", &["example.org"], &["10.2.0.9"]));
    let outcome = put(&names, &web, &packet("example.org.", RecordType::A), Transport::Udp);
    assert!(matches!(outcome, Outcome::Forward { .. }));
    names.network_down("n2");
    let outcome = put(&names, &web, &packet("probe.lab.", RecordType::A), Transport::Udp);
    assert!(matches!(outcome, Outcome::Forward { .. }));
}

#[test]
fn a_network_that_is_called_as_a_domain_is_hides_nothing_of_that_but_its_own_names() {
    let names = names();
    names.network_up(
        "n3",
        Zone { gateways: Vec::new(), ..zone("com", &["10.3.0.0/24"], "10.3.0.1", true) },
    );
    names.network_up("n4", zone("example.org", &["10.4.0.0/24"], "10.4.0.1", true));
    names.publish("n3", member("shop", &["shop", "store"], &["10.3.0.2"]));
    names.publish("n4", member("www", &["www"], &["10.4.0.2"]));
    let (on, off) = (from("n3", "10.3.0.2"), from("n1", WEB));
    let put = |asker: &Asker, name: &str| {
        put(&names, asker, &packet(name, RecordType::A), Transport::Udp)
    };
    // Its own names: to its members, to nobody else, and never outside.
    assert_eq!(data(&reply(put(&on, "shop.com."))), ["10.3.0.2"]);
    for name in ["shop.com.", "STORE.com.", "_http._tcp.shop.com.", "www.example.org."] {
        assert_empty(&reply(put(&off, name)), ResponseCode::NXDomain, name);
    }
    assert_empty(&reply(put(&on, "www.example.org.")), ResponseCode::NXDomain, "www.example.org.");
    // All others are the world's, its apex and the way out that it has not among them.
    for name in
        ["google.com.", "www.shop.com.", "com.", "gateway.com.", "x.example.org.", "example.org."]
    {
        for asker in [&on, &off] {
            assert!(matches!(put(asker, name), Outcome::Forward { .. }), "{name}");
        }
    }
    assert_empty(
        &reply(put(&off, "gateway.example.org.")),
        ResponseCode::NXDomain,
        "gateway.example.org.",
    );
    // With the domain it is nobody's but ours.
    for asker in [&on, &off] {
        assert_empty(&reply(put(asker, "google.com.netd.")), ResponseCode::NXDomain, "netd.");
    }
}

#[test]
fn asked_for_everything_one_kind_of_it_is_told() {
    assert_eq!(data(&told("web.", RecordType::ANY)), [WEB]);
    assert_eq!(data(&told("2.0.1.10.in-addr.arpa.", RecordType::ANY)), ["Web.App."]);
    for name in ["netd.", "app.netd.", "netd.internal."] {
        let message = told(name, RecordType::ANY);
        assert_eq!(message.answers[0].record_type(), RecordType::HINFO, "{name}");
        assert_eq!(message.answers.len(), 1);
    }
    let missing = told("nosuch.netd.", RecordType::ANY);
    assert_empty(&missing, ResponseCode::NXDomain, "netd.");
}

#[test]
fn our_zones_have_a_server_which_is_this_host() {
    for zone in ["netd.", "netd.internal.", "0.1.10.in-addr.arpa."] {
        assert_eq!(data(&told(zone, RecordType::NS)), ["ns.netd."], "{zone}");
        assert_eq!(told(zone, RecordType::SOA).answers.len(), 1, "{zone}");
    }
    assert_eq!(data(&told("ns.netd.", RecordType::A)), ["10.1.0.1"]);
    assert_empty(&told("app.netd.", RecordType::NS), ResponseCode::NoError, "netd.");
}

#[test]
fn the_host_and_the_gateway_have_names_on_every_network() {
    for name in ["host.netd.internal.", "Gateway.NetD.Internal."] {
        assert_eq!(data(&told(name, RecordType::A)), ["10.1.0.1"], "{name}");
        let six = told(name, RecordType::AAAA);
        assert_eq!((six.metadata.response_code, six.authorities.len()), (ResponseCode::NoError, 1));
        assert_eq!(data(&told_to(&from("n2", "10.2.0.2"), name, RecordType::A)), ["10.2.0.1"]);
    }
    assert_empty(
        &told("other.netd.internal.", RecordType::A),
        ResponseCode::NXDomain,
        "netd.internal.",
    );
    let names = names();
    names.set_domain("cluster.local");
    let host = packet("host.netd.internal.", RecordType::A);
    assert_eq!(data(&reply(put(&names, &from("n1", WEB), &host, Transport::Udp))), ["10.1.0.1"]);
    // Where the host is not on the network it has no address there.
    names.network_up("n1", Zone { hosts: Vec::new(), ..zone("app", &[], "10.1.0.1", true) });
    let message = reply(put(&names, &from("n1", WEB), &host, Transport::Udp));
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert!(message.answers.is_empty());
}

#[test]
fn a_container_called_gateway_has_its_name_and_the_way_out_another() {
    let names = names();
    let own = from("n1", WEB);
    let told = |name: &str, kind| reply(put(&names, &own, &packet(name, kind), Transport::Udp));
    assert_eq!(data(&told("gateway.app.", RecordType::A)), ["10.1.0.1"]);
    assert_eq!(data(&told("1.0.1.10.in-addr.arpa.", RecordType::PTR)), ["gateway.App."]);
    names.publish("n1", member("eg", &["gateway"], &["10.1.0.77"]));
    for name in ["gateway.", "gateway.app.", "gateway.app.netd."] {
        assert_eq!(data(&told(name, RecordType::A)), ["10.1.0.77"], "{name}");
    }
    assert_eq!(data(&told("gateway.netd.internal.", RecordType::A)), ["10.1.0.1"]);
    assert_eq!(data(&told("77.0.1.10.in-addr.arpa.", RecordType::PTR)), ["gateway.App."]);
    assert_eq!(data(&told("1.0.1.10.in-addr.arpa.", RecordType::PTR)), ["gateway.netd.internal."]);
    names.retract("n1", "eg");
    assert_eq!(data(&told("gateway.app.", RecordType::A)), ["10.1.0.1"]);
}

/// As [`names`], with a service on two members, of which one publishes a port by name.
fn served() -> Names {
    let names = names();
    let port = |number, service: Option<&str>| Port {
        protocol: Protocol::Tcp,
        number,
        last: number,
        service: service.map(str::to_owned),
    };
    let row = Port { last: 7009, ..port(7000, None) };
    let web = |endpoint: &str, address: &str, ports: Vec<Port>| Member {
        ports: ports.into(),
        ..member(endpoint, &[endpoint, "shop"], &[address])
    };
    names.publish(
        "n1",
        web(
            "s1",
            "10.1.0.11",
            vec![port(80, Some("http")), port(443, None), port(7009, Some("last")), row],
        ),
    );
    names.publish("n1", web("s2", "10.1.0.12", vec![port(8080, Some("HTTP"))]));
    names
}

#[test]
fn a_service_has_places() {
    let names = served();
    let ask = |name: &str, kind| {
        reply(put(&names, &from("n1", WEB), &packet(name, kind), Transport::Udp))
    };
    for name in ["_http._tcp.shop.", "_HTTP._tcp.shop.app.", "_http._TCP.shop.app.netd."] {
        let message = ask(name, RecordType::SRV);
        let all: BTreeSet<_> = data(&message).into_iter().collect();
        let expected = ["0 0 80 s1.app.netd.", "0 0 8080 s2.app.netd."].map(str::to_owned);
        assert_eq!(all, BTreeSet::from(expected), "{name}");
        let addresses: BTreeSet<_> = message
            .additionals
            .iter()
            .map(|record| (record.name.to_string(), record.data.to_string()))
            .collect();
        assert!(addresses.contains(&("s1.app.netd.".to_owned(), "10.1.0.11".to_owned())));
        assert!(message.metadata.authoritative);
    }
    assert_eq!(data(&ask("_443._tcp.shop.", RecordType::SRV)), ["0 0 443 s1.app.netd."]);
    for (port, there) in [
        ("6999", false),
        ("7000", true),
        ("7005", true),
        ("7009", true),
        ("7010", false),
        ("07005", false),
    ] {
        let reply = ask(&format!("_{port}._tcp.shop."), RecordType::SRV);
        let place = format!("0 0 {port} s1.app.netd.");
        assert_eq!(data(&reply), if there { vec![place] } else { Vec::new() });
    }
    assert_eq!(data(&ask("_last._tcp.shop.", RecordType::SRV)), ["0 0 7009 s1.app.netd."]);
    assert_eq!(data(&ask("_8080._tcp.s2.app.netd.", RecordType::SRV)), ["0 0 8080 s2.app.netd."]);
    assert_eq!(data(&ask("s2.app.netd.", RecordType::A)), ["10.1.0.12"], "a place is a name");
    assert_empty(&ask("_443._tcp.shop.", RecordType::A), ResponseCode::NoError, "shop.");
    assert_empty(&ask("_443._udp.shop.", RecordType::SRV), ResponseCode::NXDomain, "shop.");
    assert_empty(&ask("_x._tcp.shop.app.netd.", RecordType::SRV), ResponseCode::NXDomain, "netd.");
    assert_empty(&ask("_tcp.shop.", RecordType::SRV), ResponseCode::NoError, "shop.");
    // What nobody here is called is somebody else's.
    let foreign = packet("_ldap._tcp.example.org.", RecordType::SRV);
    let outcome = put(&names, &from("n1", WEB), &foreign, Transport::Udp);
    assert!(matches!(outcome, Outcome::Forward { .. }));
}

#[test]
fn places_that_do_not_fit_are_cut_and_addresses_left_out() {
    let names = names();
    for host in 0..40 {
        names.publish(
            "n1",
            Member {
                ports: [Port { protocol: Protocol::Udp, number: 53, last: 53, service: None }]
                    .into(),
                ..member(
                    &format!("member-{host}"),
                    &[&format!("member-{host}"), "many"],
                    &["10.1.1.1"],
                )
            },
        );
    }
    let query = packet("_53._udp.many.", RecordType::SRV);
    let short = reply(put(&names, &from("n1", WEB), &query, Transport::Udp));
    assert!(short.metadata.truncation && short.additionals.is_empty());
    let whole = reply(put(&names, &from("n1", WEB), &query, Transport::Tcp));
    assert_eq!((whole.answers.len(), whole.additionals.len()), (40, 40));
}

#[test]
fn a_container_that_asks_inside_itself_is_answered_from_all_its_networks() {
    let asker =
        Asker { at: At::Container("container of db".into()), source: "127.0.0.1".parse().unwrap() };
    assert_eq!(data(&told_to(&asker, "web.", RecordType::A)), [WEB]);
    assert_eq!(data(&told_to(&asker, "probe.lab.netd.", RecordType::A)), ["10.2.0.2"]);
    let nobody = Asker { at: At::Container("gone".into()), ..asker };
    let message = told_to(&nobody, "web.", RecordType::A);
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_guest_may_ask_for_names_of_others_and_learns_nothing_of_ours() {
    let names = names();
    let guest = Asker { at: At::Guest, source: [172, 17, 0, 2].into() };
    let put = |name: &str, kind| put(&names, &guest, &packet(name, kind), Transport::Udp);
    for name in ["example.org.", "unknown.", "9.9.168.192.in-addr.arpa."] {
        let outcome = put(name, RecordType::A);
        assert_eq!(outcome, Outcome::Forward { upstreams: Vec::new() }, "{name}");
    }
    for name in ["web.", "web.app.", "web.app.netd.", "db.lab.", "other.netd.internal."] {
        let message = reply(put(name, RecordType::A));
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
    let pointer = reply(put("2.0.1.10.in-addr.arpa.", RecordType::PTR));
    assert_eq!(pointer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(data(&reply(put("host.netd.internal.", RecordType::A))), Vec::<String>::new());

    let nobody = Asker { at: At::Shared, ..guest };
    for name in ["example.org.", "web."] {
        let refused = answer(
            &names.load(),
            &nobody,
            &packet(name, RecordType::A).to_vec().unwrap(),
            Transport::Udp,
            0,
        );
        assert_eq!(reply(refused).metadata.response_code, ResponseCode::Refused, "{name}");
    }
}

#[test]
fn the_host_says_names_in_full_and_is_on_all_networks() {
    let host = Asker { at: At::Host, source: "127.0.0.1".parse().unwrap() };
    assert_eq!(data(&told_to(&host, "web.app.netd.", RecordType::A)), [WEB]);
    assert_eq!(data(&told_to(&host, "probe.lab.netd.", RecordType::A)), ["10.2.0.2"]);
    assert_eq!(data(&told_to(&host, "host.netd.internal.", RecordType::A)), ["127.0.0.1"]);
    let pointer = told_to(&host, "2.0.1.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(data(&pointer), ["Web.App.netd."]);
    assert_empty(&told_to(&host, "x.app.netd.", RecordType::A), ResponseCode::NXDomain, "netd.");
    for name in ["web.", "web.app.", "example.org."] {
        assert!(is_forwarded(&host, name, RecordType::A), "{name} may be a neighbour's");
    }
}

#[test]
fn who_is_asked_depends_on_the_name_then_the_container_then_the_network() {
    let server = |host: u8| SocketAddr::from(([192, 0, 2, host], 53));
    let stub = |domain: &str, host| Stub { domain: domain.to_owned(), servers: vec![server(host)] };
    let names = names();
    names.set_stubs(vec![stub("Corp.", 1), stub("example.org", 2)]);
    names.network_up(
        "n1",
        Zone {
            upstreams: vec![server(3)],
            stubs: vec![stub("lab.example.org", 4)],
            ..zone("app", &["10.1.0.0/23"], "10.1.0.1", true)
        },
    );
    names.publish(
        "n1",
        Member { servers: [server(5)].into(), ..member("own", &["own"], &["10.1.0.5"]) },
    );
    let asked = |asker: &Asker, name: &str| match put(
        &names,
        asker,
        &packet(name, RecordType::A),
        Transport::Udp,
    ) {
        Outcome::Forward { upstreams } => upstreams,
        other => panic!("{other:?}"),
    };
    let (web, own) = (from("n1", WEB), from("n1", "10.1.0.5"));
    for asker in [&web, &own] {
        assert_eq!(asked(asker, "a.corp."), [server(1)]);
        assert_eq!(asked(asker, "example.org."), [server(2)]);
        assert_eq!(asked(asker, "x.LAB.example.org."), [server(4)]);
    }
    assert_eq!(asked(&web, "xcorp."), [server(3)]);
    assert_eq!(asked(&own, "xcorp."), [server(5)]);
    let host = Asker { at: At::Host, source: "127.0.0.1".parse().unwrap() };
    assert_eq!(asked(&host, "a.corp."), [server(1)]);
    assert_eq!(asked(&host, "x.lab.example.org."), [server(2)], "a network's are its members'");
    assert!(asked(&host, "example.com.").is_empty());
    // Not even a domain with servers of its own leads out of an internal network.
    let inside = told_to(&from("n2", "10.2.0.2"), "a.corp.", RecordType::A);
    assert_eq!(inside.metadata.response_code, ResponseCode::NXDomain);
    names.retract("n1", "own");
    assert!(names.load().servers.is_empty());
}

#[test]
fn answers_may_be_kept_as_long_as_was_set() {
    let names = names();
    names.set_ttl(77);
    let message =
        reply(put(&names, &from("n1", WEB), &packet("web.", RecordType::A), Transport::Udp));
    assert_eq!(message.answers[0].ttl, 77);
}

#[test]
fn what_is_not_served_is_refused() {
    let code = |message: &Message| {
        reply(put(&names(), &from("n1", WEB), message, Transport::Tcp)).metadata.response_code
    };
    for name in ["web.", "netd.", "example.org."] {
        assert_eq!(code(&packet(name, RecordType::AXFR)), ResponseCode::Refused);
        assert_eq!(code(&packet(name, RecordType::IXFR)), ResponseCode::Refused);
        let mut chaos = packet(name, RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(code(&chaos), ResponseCode::Refused);
    }
    let mut newer = packet("web.", RecordType::A);
    newer.edns = Some(Edns::new());
    newer.edns.as_mut().unwrap().set_version(1);
    assert_eq!(u16::from(code(&newer)), 16, "BADVERS");
    let mut update = packet("web.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut two = packet("web.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two), ResponseCode::FormErr);
    two.queries.clear();
    assert_eq!(code(&two), ResponseCode::FormErr);
}

#[test]
fn responses_and_scraps_are_dropped() {
    let snapshot = names().load();
    let asker = from("n1", WEB);
    let mut response = packet("web.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    for packet in [&response.to_vec().unwrap()[..], b"", b"\0\x01\x01\0\0\x01\0\0\0\0\0"] {
        assert_eq!(answer(&snapshot, &asker, packet, Transport::Udp, 0), Outcome::Drop);
    }
}

#[test]
fn who_speaks_edns_is_answered_in_it() {
    let mut message = packet("web.", RecordType::A);
    assert!(reply(put(&names(), &from("n1", WEB), &message, Transport::Udp)).edns.is_none());
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    edns.flags_mut().dnssec_ok = true;
    message.edns = Some(edns);
    let edns = reply(put(&names(), &from("n1", WEB), &message, Transport::Udp)).edns.unwrap();
    assert_eq!(edns.max_payload(), OUR_PAYLOAD);
    assert_eq!(edns.version(), 0);
    assert!(edns.flags().dnssec_ok, "copied (RFC 3225)");
}

/// `count` containers called `many`.
fn crowd(count: u8) -> Names {
    let names = names();
    for host in 0..count {
        let endpoint = format!("e{host}");
        names.publish("n1", member(&endpoint, &["many"], &[&format!("10.1.1.{host}")]));
    }
    names
}

#[test]
fn answers_rotate_through_every_member() {
    let names = crowd(3);
    let query = packet("many.", RecordType::A).to_vec().unwrap();
    let told =
        |spin| data(&reply(answer(&names.load(), &from("n1", WEB), &query, Transport::Udp, spin)));
    let firsts: Vec<_> = (0..3).map(|spin| told(spin).swap_remove(0)).collect();
    let all: BTreeSet<_> = told(0).into_iter().collect();
    assert_eq!(all.len(), 3);
    assert_eq!(firsts.iter().cloned().collect::<BTreeSet<_>>(), all);
    assert_eq!(told(3), told(0));
    assert_eq!(told(u64::MAX).len(), 3);
}

#[test]
fn a_reply_too_large_is_cut_between_records_and_says_so() {
    let names = crowd(200);
    let asker = from("n1", WEB);
    let mut message = packet("many.", RecordType::A);
    for (payload, limit) in [(None, 512), (Some(700), 700), (Some(65535), 4096)] {
        message.edns = payload.map(|payload| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            edns
        });
        let outcome = put(&names, &asker, &message, Transport::Udp);
        let Outcome::Reply(bytes) = &outcome else { panic!("{outcome:?}") };
        assert!(bytes.len() <= limit);
        let fits = 12 + 10 + 200 * 16 + 11 <= limit;
        let reply = reply(outcome);
        assert_eq!(reply.metadata.truncation, !fits);
        assert_eq!(reply.edns.is_some(), payload.is_some(), "OPT survives");
        assert_eq!(reply.answers.len() == 200, fits);
        assert!(reply.answers.len() >= 29);
    }
    let whole = reply(put(&names, &asker, &message, Transport::Tcp));
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
}

#[test]
fn a_name_that_cannot_be_said_has_no_pointer() {
    let names = names();
    names.publish("n1", member("long", &[&"x".repeat(64), "short"], &["10.1.0.9"]));
    let query = packet("9.0.1.10.in-addr.arpa.", RecordType::PTR);
    let message = reply(put(&names, &from("n1", WEB), &query, Transport::Udp));
    assert_empty(&message, ResponseCode::NXDomain, "0.1.10.in-addr.arpa.");
}

/// Queries for names that exist, nearly exist, and do not, with any header bits and EDNS.
fn queries() -> impl Strategy<Value = Message> {
    let name = prop_oneof![
        Just("web.".to_owned()),
        Just("many.app.netd.".to_owned()),
        Just("many.".to_owned()),
        Just("7.1.1.10.in-addr.arpa.".to_owned()),
        Just("250.1.1.10.in-addr.arpa.".to_owned()),
        Just(".".to_owned()),
        "([a-zA-Z0-9_][a-zA-Z0-9_-]{0,62}\\.){1,3}(netd\\.)?",
    ];
    let edns = prop::option::of((any::<u16>(), 0..2u8, any::<bool>()));
    let kind = prop_oneof![Just(1u16), Just(12), Just(28), Just(255), any::<u16>()];
    (name, kind, any::<u16>(), any::<[bool; 2]>(), edns).prop_map(|(name, kind, id, bits, edns)| {
        let mut message = packet(&name, RecordType::from(kind));
        message.metadata.id = id;
        [message.metadata.recursion_desired, message.metadata.checking_disabled] = bits;
        message.edns = edns.map(|(payload, version, dnssec_ok)| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload).set_version(version);
            edns.flags_mut().dnssec_ok = dnssec_ok;
            edns
        });
        message
    })
}

proptest! {
    #[test]
    fn every_reply_is_one_to_its_query(
        query in queries(), tcp in any::<bool>(), internal in any::<bool>(), spin in any::<u64>(),
    ) {
        let asker = if internal { from("n2", "10.2.0.2") } else { from("n1", WEB) };
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let packet = query.to_vec().unwrap();
        let snapshot = crowd(60).load();
        let replies = match answer(&snapshot, &asker, &packet, transport, spin) {
            Outcome::Reply(reply) => vec![reply, failure(&packet, transport).unwrap()],
            Outcome::Forward { .. } => vec![failure(&packet, transport).unwrap()],
            Outcome::Drop => return Err(TestCaseError::fail("a query was dropped")),
        };
        for bytes in replies {
            let limit = match (tcp, &query.edns) {
                (true, _) => 65535,
                (false, None) => 512,
                (false, Some(edns)) => usize::from(edns.max_payload().max(512)),
            };
            prop_assert!(bytes.len() <= limit);
            let reply = Message::from_vec(&bytes).unwrap();
            prop_assert_eq!(reply.metadata.id, query.metadata.id);
            prop_assert_eq!(reply.metadata.message_type, MessageType::Response);
            prop_assert_eq!(reply.metadata.recursion_desired, query.metadata.recursion_desired);
            prop_assert_eq!(reply.metadata.checking_disabled, query.metadata.checking_disabled);
            prop_assert!(reply.queries[0].name().eq_case(query.queries[0].name()));
            prop_assert_eq!(&reply.queries, &query.queries);
            prop_assert_eq!(reply.edns.is_some(), query.edns.is_some());
            // Written again by somebody else it holds the same: no byte of ours went astray.
            let again = Message::from_vec(&reply.to_vec().unwrap()).unwrap();
            prop_assert_eq!(again, reply);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut packet in prop::collection::vec(any::<u8>(), 0..300), like_a_query in any::<bool>(),
    ) {
        if like_a_query && packet.len() > 12 {
            packet[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        let snapshot = names().load();
        let asker = from("n1", WEB);
        if let Outcome::Reply(reply) = answer(&snapshot, &asker, &packet, Transport::Udp, 0) {
            let reply = Message::from_vec(&reply).unwrap();
            prop_assert_eq!(reply.metadata.id.to_be_bytes(), [packet[0], packet[1]]);
        }
    }
}
