//! The fuzz targets' corpus, as packets: what each of them is answered, if anything.

use std::{fs, path::Path};

use dns::{Asker, At, Member, Names, Outcome, Transport, Zone};
use hickory_proto::op::Message;

fn names() -> Names {
    let names = Names::new();
    names.network_up("n", Zone { name: "app".into(), forward: true, ..Zone::default() });
    for host in 2..60 {
        names.publish(
            "n",
            Member {
                endpoint: format!("e{host}").into(),
                container: format!("c{host}").into(),
                names: [format!("web-{host}").into(), "many".into()].into(),
                addresses: [[10, 0, 0, host].into()].into(),
                ..Member::default()
            },
        );
    }
    names
}

/// What a packet of the corpus is told: a code, or that it is put to others or passed over.
fn told(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/query").join(name);
    let packet = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let asker = Asker { at: At::Network("n".into()), source: [10, 0, 0, 2].into() };
    match dns::answer(&names().load(), &asker, &packet, Transport::Udp, 0) {
        Outcome::Drop => "nothing".to_owned(),
        Outcome::Forward { .. } => "others".to_owned(),
        Outcome::Reply(reply) => {
            let message =
                Message::from_vec(&reply).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(reply[..2], packet[..2], "{name}");
            let code = message.metadata.response_code;
            format!("{code:?}{}", if message.metadata.truncation { ", cut" } else { "" })
        }
    }
}

#[test]
fn bad_packets_are_answered_with_the_right_code_or_not_at_all() {
    for (name, expected) in [
        ("empty", "nothing"),
        ("short", "nothing"),
        ("response", "nothing"),
        ("header", "FormErr"),
        ("no-question", "FormErr"),
        ("two-questions", "FormErr"),
        ("many-questions", "FormErr"),
        ("cut", "FormErr"),
        ("loop", "FormErr"),
        ("pointer-past", "FormErr"),
        ("pointer-pair", "FormErr"),
        ("label-64", "FormErr"),
        ("name-256", "FormErr"),
        ("edns-short", "FormErr"),
        ("notify", "NotImp"),
        ("update", "NotImp"),
        ("status", "NotImp"),
        ("chaos", "Refused"),
        ("class-any", "Refused"),
        ("class-none", "Refused"),
        ("axfr", "Refused"),
    ] {
        assert_eq!(told(name), expected, "{name}");
    }
}

#[test]
fn unusual_packets_are_answered_as_they_should_be() {
    for (name, expected) in [
        ("a", "NoError"),
        ("upper", "NoError"),
        ("trailing", "NoError"),
        ("edns-cookie", "NoError"),
        ("edns-unknown", "NoError"),
        ("edns-tiny", "NoError, cut"),
        ("any", "NoError, cut"),
        ("name-255", "others"),
        ("dot-in-label", "others"),
        ("nul", "others"),
    ] {
        assert_eq!(told(name), expected, "{name}");
    }
}

#[test]
fn every_packet_of_the_corpus_is_dealt_with() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/query");
    let names: Vec<_> =
        fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() > 40);
    for name in names {
        told(&name.to_string_lossy());
    }
}
