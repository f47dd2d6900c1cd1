use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;
use crate::question;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn response(code: ResponseCode, answers: &[u32], soa: Option<(u32, u32)>) -> Message {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    message.add_query(Query::query(name("example.org."), RecordType::A));
    for (host, ttl) in (1..).zip(answers) {
        let data = RData::A(A::new(192, 0, 2, host));
        message.add_answer(Record::from_rdata(name("example.org."), *ttl, data));
    }
    if let Some((ttl, minimum)) = soa {
        let data = SOA::new(name("ns.example.org."), name("h.example.org."), 1, 2, 3, 4, minimum);
        message.authorities.push(Record::from_rdata(name("example.org."), ttl, RData::SOA(data)));
    }
    message
}

fn keep(message: &Message) -> Option<u32> {
    Told::read(&message.to_vec().unwrap()).unwrap().keep
}

#[test]
fn an_answer_is_kept_as_long_as_its_shortest_record_says() {
    use ResponseCode::{NXDomain, NoError, ServFail};
    assert_eq!(keep(&response(NoError, &[300, 60], None)), Some(60));
    assert_eq!(keep(&response(NoError, &[u32::MAX >> 1], None)), Some(LONGEST));
    assert_eq!(keep(&response(NoError, &[u32::MAX, 60], None)), None, "RFC 2181: zero");
    assert_eq!(keep(&response(NoError, &[0, 60], None)), None);
    assert_eq!(keep(&response(NXDomain, &[], Some((300, 20)))), Some(20));
    assert_eq!(keep(&response(NoError, &[], Some((30, 200)))), Some(30));
    assert_eq!(keep(&response(NXDomain, &[], Some((9999, 9999)))), Some(LONGEST_NEGATIVE));
    assert_eq!(keep(&response(NXDomain, &[10], Some((300, 20)))), Some(10), "an alias to nowhere");
    assert_eq!(keep(&response(NXDomain, &[], None)), None, "nobody vouches for it");
    assert_eq!(keep(&response(NXDomain, &[10], None)), None);
    assert_eq!(keep(&response(ServFail, &[], Some((30, 30)))), None);
    let mut cut = response(NoError, &[60], None);
    cut.metadata.truncation = true;
    assert_eq!(keep(&cut), None);
}

#[test]
fn what_is_not_well_formed_is_not_taken_apart() {
    let good = response(ResponseCode::NoError, &[60, 60], None).to_vec().unwrap();
    for length in 0..good.len() {
        assert_eq!(Told::read(&good[..length]), None, "{length}");
    }
    let mut trailing = good.clone();
    trailing.push(0);
    assert_eq!(Told::read(&trailing), None);
    let mut extended = response(ResponseCode::NoError, &[60], None);
    extended.edns = Some(Edns::new());
    extended.metadata.response_code = ResponseCode::BADVERS;
    assert_eq!(Told::read(&extended.to_vec().unwrap()), None, "BADVERS is for who asked");
}

/// A query as somebody would put it.
fn query(text: &str, id: u16, edns: Option<(u16, bool)>) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), RecordType::A));
    message.edns = edns.map(|(payload, dnssec_ok)| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns.flags_mut().dnssec_ok = dnssec_ok;
        edns
    });
    message.to_vec().unwrap()
}

#[test]
fn each_is_told_in_its_own_spelling_and_size() {
    let mut message = response(ResponseCode::NoError, &[60; 40], None);
    message.edns = Some(Edns::new());
    message.metadata.authentic_data = true;
    let told = Told::read(&message.to_vec().unwrap()).unwrap();
    for (edns, transport, fits) in [
        (None, Transport::Tcp, true),
        (None, Transport::Udp, false),
        (Some((1232, true)), Transport::Udp, true),
        (Some((512, false)), Transport::Udp, false),
    ] {
        let packet = query("Example.ORG.", 99, edns);
        let question = question::read(&packet).unwrap();
        let bytes = told.to(&question, transport, Life::Aged(13));
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!(reply.metadata.id, 99);
        assert!(reply.metadata.recursion_desired && reply.metadata.authentic_data);
        assert_eq!(reply.queries[0].name().to_string(), "Example.ORG.");
        assert_eq!(reply.metadata.truncation, !fits);
        assert_eq!(reply.answers.len(), if fits { 40 } else { 0 });
        assert!(reply.answers.iter().all(|record| record.ttl == 47));
        assert_eq!(reply.edns.as_ref().map(|edns| edns.flags().dnssec_ok), edns.map(|it| it.1));
        if fits {
            let stale = told.to(&question, transport, Life::Stale(30));
            assert!(Message::from_vec(&stale).unwrap().answers.iter().all(|it| it.ttl == 30));
            let old = told.to(&question, transport, Life::Aged(1000));
            assert!(Message::from_vec(&old).unwrap().answers.iter().all(|it| it.ttl == 0));
        }
    }
}

#[test]
fn one_that_says_more_than_a_ttl_can_says_zero() {
    use ResponseCode::{NXDomain, NoError};
    const HIGH: u32 = 1 << 31;
    assert_eq!(keep(&response(NXDomain, &[], Some((300, HIGH)))), None);
    assert_eq!(keep(&response(NXDomain, &[], Some((HIGH, 300)))), None);
    let message = response(NoError, &[HIGH - 1, HIGH, u32::MAX, 60], None).to_vec().unwrap();
    let packet = query("example.org.", 7, None);
    let question = question::read(&packet).unwrap();
    let told = Told::read(&message).unwrap().to(&question, Transport::Udp, Life::Aged(0));
    let ttls = |packet: &[u8]| -> Vec<u32> {
        Message::from_vec(packet).unwrap().answers.iter().map(|record| record.ttl).collect()
    };
    assert_eq!(ttls(&told), [HIGH - 1, 0, 0, 60]);
    let mut relayed = message.clone();
    correct_ttls(&mut relayed);
    assert_eq!(ttls(&relayed), [HIGH - 1, 0, 0, 60]);
    // A signature over all of it would no longer be one.
    let mut signed = message;
    signed[11] = 1;
    signed.extend_from_slice(&[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]);
    let before = signed.clone();
    correct_ttls(&mut signed);
    assert_eq!(signed, before);
}

proptest! {
    #[test]
    fn no_ttl_is_told_that_is_none_and_all_others_are_as_they_were(
        ttls in prop::collection::vec(any::<u32>(), 1..20),
        soa in any::<Option<(u32, u32)>>(),
        age in 0..1000_u32,
    ) {
        let mut packet = response(ResponseCode::NoError, &ttls, soa).to_vec().unwrap();
        let meant: Vec<u32> = ttls.iter().map(|ttl| if ttl >> 31 == 1 { 0 } else { *ttl }).collect();
        let least = meant.iter().copied().chain(soa.into_iter().flat_map(|it| [it.0, it.1])).min();
        let told = Told::read(&packet).unwrap();
        prop_assert!(told.keep.is_none_or(|keep| Some(keep) <= least));
        let asked = query("example.org.", 7, None);
        let question = question::read(&asked).unwrap();
        let reply = told.to(&question, Transport::Tcp, Life::Aged(age));
        let reply = Message::from_vec(&reply).unwrap();
        let said: Vec<u32> = reply.answers.iter().map(|record| record.ttl).collect();
        prop_assert_eq!(said, meant.iter().map(|ttl| ttl.saturating_sub(age)).collect::<Vec<_>>());
        prop_assert!(reply.authorities.iter().all(|record| record.ttl >> 31 == 0));
        correct_ttls(&mut packet);
        let reply = Message::from_vec(&packet).unwrap();
        let said: Vec<u32> = reply.answers.iter().map(|record| record.ttl).collect();
        prop_assert_eq!(said, meant);
    }

    #[test]
    fn of_what_is_no_packet_nothing_but_ttls_is_changed(
        mut packet in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (before, ttls) = (packet.clone(), ttls_of(&packet).unwrap_or_default());
        correct_ttls(&mut packet);
        for (at, byte) in packet.iter().enumerate() {
            let changed = *byte != before[at];
            prop_assert!(!changed || ttls.iter().any(|ttl| (*ttl..ttl + 4).contains(&at)));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut packet in prop::collection::vec(any::<u8>(), 0..300),
        counts in any::<[u8; 3]>(),
    ) {
        if packet.len() > 12 {
            packet[4..12].copy_from_slice(&[0, 1, 0, counts[0] % 3, 0, counts[1] % 3, 0, counts[2] % 3]);
        }
        if let Some(told) = Told::read(&packet) {
            prop_assert!(told.packet.len() <= packet.len());
        }
    }
}
