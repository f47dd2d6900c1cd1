use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::*;

fn query(name: &str, kind: RecordType, edns: Option<Edns>) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.edns = edns;
    message.to_vec().unwrap()
}

fn edns(cookie: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.flags_mut().dnssec_ok = true;
    if cookie {
        edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    }
    edns
}

#[test]
fn a_plain_query_is_read_plainly() {
    for edns in [None, Some(edns(false)), Some(edns(true))] {
        let packet = query("Web.App.", RecordType::AAAA, edns.clone());
        let question = plain(&packet).unwrap();
        assert_eq!(question.name, &b"\x03Web\x03App\0"[..]);
        assert_eq!(&*question.text(), b"web.app");
        assert_eq!((question.kind, question.class), (kind::AAAA, CLASS_IN));
        assert_eq!(question.edns.map(|edns| edns.payload), edns.map(|_| 1232));
    }
}

#[test]
fn what_is_less_plain_is_read_all_the_same() {
    // The name is a pointer to one in the header's last bytes: root.
    let compressed = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\xc0\x0a\0\x01\0\x01";
    assert_eq!(plain(compressed), None);
    assert_eq!(read(compressed).unwrap().name, &b"\0"[..]);

    let mut trailing = query("web.", RecordType::A, None);
    trailing.push(0);
    assert_eq!(plain(&trailing), None);
    assert_eq!(&*read(&trailing).unwrap().text(), b"web");
}

#[test]
fn a_dot_inside_a_label_is_no_dot_between_two() {
    let packet = query("web\\.app.", RecordType::A, None);
    assert_eq!(&*read(&packet).unwrap().text(), b"web\0app");
}

#[test]
fn what_is_no_query_is_ignored_or_refused() {
    let good = query("web.", RecordType::A, None);
    let changed = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    for length in 0..HEADER {
        assert_eq!(read(&good[..length]), Err(Unanswerable::Ignore));
    }
    assert_eq!(read(&changed(2, 0x81)), Err(Unanswerable::Ignore), "a response");
    let code = |packet: &[u8]| match read(packet) {
        Err(Unanswerable::Refuse(code)) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&changed(2, 0x29)), Code::NotImplemented, "an update");
    assert_eq!(code(&changed(5, 0)), Code::FormatError, "no question");
    assert_eq!(code(&changed(5, 2)), Code::FormatError, "two questions");
    assert_eq!(code(&good[..good.len() - 1]), Code::FormatError, "cut short");
    assert_eq!(code(&changed(HEADER, 0xff)), Code::FormatError, "a pointer to nowhere");
}

/// Queries as they come, near misses included: every field drawn on its own, and bytes flipped.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let label = prop::collection::vec(any::<u8>(), 1..20);
    let option = (prop_oneof![Just(10u16), Just(12), any::<u16>()], 0..20usize);
    let opt = (any::<[u8; 8]>(), prop::collection::vec(option, 0..3));
    (
        any::<[u8; 4]>(),
        prop::collection::vec(label, 0..16),
        any::<[u8; 4]>(),
        prop::option::of(opt),
        prop::collection::vec((0..64usize, any::<u8>()), 0..3),
    )
        .prop_map(|(start, labels, tail, opt, flips)| {
            let mut packet = vec![start[0], start[1], start[2] & 0x07, start[3]];
            packet.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())]);
            for label in labels {
                packet.push(u8::try_from(label.len()).unwrap());
                packet.extend(label);
            }
            packet.push(0);
            packet.extend(tail);
            if let Some((fixed, options)) = opt {
                let data: Vec<u8> = options
                    .into_iter()
                    .flat_map(|(code, length)| {
                        let head = [code, u16::try_from(length).unwrap()];
                        head.map(u16::to_be_bytes).concat().into_iter().chain(vec![7; length])
                    })
                    .collect();
                packet.extend_from_slice(&[0, 0, 41]);
                packet.extend_from_slice(&fixed[..6]);
                packet.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
                packet.extend(data);
            }
            for (at, byte) in flips {
                if let Some(place) = packet.get_mut(at) {
                    *place = byte;
                }
            }
            packet
        })
}

#[test]
fn both_ways_of_reading_agree_on_what_was_found_by_fuzzing() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/query");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(files.iter().any(|file| plain(&std::fs::read(file).unwrap()).is_some()));
    for file in files {
        assert!(readings_agree(&std::fs::read(&file).unwrap()), "{}", file.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Whatever the short way accepts, the long way reads as the same.
    #[test]
    fn both_ways_of_reading_agree(packet in packets()) {
        prop_assert!(readings_agree(&packet), "{:?} {:?}", plain(&packet), unusual(&packet));
    }

    #[test]
    fn no_bytes_make_it_panic(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(question) = read(&packet) {
            prop_assert!(question.text().len() <= 253);
        }
    }
}
