//! Any bytes as a packet: a reply that an independent parser (`hickory-proto`) reads, to the question
//! that it finds in the packet, under the sender's id and no longer than it may be, or silence.
//!
//! `cargo +nightly fuzz run query` in `dns`.

#![no_main]

use std::sync::LazyLock;

use dns::{Asker, At, Member, Names, Outcome, Port, Protocol, Transport, Zone};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use libfuzzer_sys::fuzz_target;

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let names = Names::new();
    let zone = Zone {
        name: "app".into(),
        forward: true,
        subnets: vec!["10.0.0.0/23".parse().unwrap(), "fd00::/64".parse().unwrap()],
        gateways: vec!["10.0.0.1".parse().unwrap()],
        hosts: vec!["10.0.0.1".parse().unwrap()],
        ..Zone::default()
    };
    names.network_up("n", zone);
    for host in 2..60 {
        names.publish(
            "n",
            Member {
                endpoint: format!("e{host}").into(),
                container: format!("c{host}").into(),
                names: [format!("web-{host}").into(), "many".into()].into(),
                addresses: [[10, 0, 0, host].into()].into(),
                ports: [Port {
                    protocol: Protocol::Tcp,
                    number: 80,
                    last: 80,
                    service: Some("http".into()),
                }]
                .into(),
                ..Member::default()
            },
        );
    }
    names
});

fuzz_target!(|packet: &[u8]| {
    assert!(dns::readings_agree(packet));
    // What it takes for a plain query of one question is none to be refused as badly formed.
    let sound = Message::from_vec(packet).ok().filter(|message| {
        let query = message.metadata.message_type == MessageType::Query;
        query && message.metadata.op_code == OpCode::Query && message.queries.len() == 1
    });
    for at in [At::Network("n".into()), At::Container("c2".into()), At::Host] {
        let asker = Asker { at, source: [10, 0, 0, 2].into() };
        for (transport, limit) in [(Transport::Udp, 4096), (Transport::Tcp, 65_535)] {
            let outcome = dns::answer(&NAMES.load(), &asker, packet, transport, 7);
            if let Outcome::Reply(reply) = outcome {
                assert!(reply.len() <= limit);
                assert_eq!(reply[..2], packet[..2]);
                assert_ne!(reply[2] & 0x80, 0);
                let told = Message::from_vec(&reply).expect("a reply of ours can be read");
                if let Some(asked) = &sound {
                    assert_ne!(told.metadata.response_code, ResponseCode::FormErr);
                    assert_eq!(told.queries, asked.queries);
                }
            }
        }
    }
});
