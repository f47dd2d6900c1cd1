use tokio::io::duplex;

use super::*;
use crate::answer::At;
use crate::names::{Member, Names, Zone};
use crate::server::{Options, Serving};
use crate::upstreams::Upstreams;

/// A resolver with one name, and who asks it.
fn connected() -> (Desk, Asker) {
    let names = Names::new();
    names.network_up("n", Zone { name: "app".into(), ..Zone::default() });
    names.publish(
        "n",
        Member {
            endpoint: "e".into(),
            container: "c".into(),
            names: ["web".into()].into(),
            addresses: ["10.0.0.2".parse().unwrap()].into(),
            ..Member::default()
        },
    );
    let options = Options { upstreams: Upstreams::Fixed(Vec::new()), ..Options::default() };
    let serving = Arc::new(Serving::new(names, options));
    let (at, own) = (At::Network("n".into()), IpAddr::from([127, 0, 0, 1]));
    let desk = Desk { serving, at, own, tally: Arc::default() };
    let asker = desk.asker("10.0.0.2".parse().unwrap());
    (desk, asker)
}

/// Runs with a clock that jumps to the next timer when there is nothing to do.
fn run<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(test)
}

#[test]
fn a_message_may_come_in_pieces_and_several_at_once() {
    run(async {
        let (desk, asker) = connected();
        let (mut client, stream) = duplex(4096);
        let talk = tokio::spawn(async move { converse(&desk, &asker, stream).await });
        let query = b"\0\x15\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";
        for byte in query {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.write_all(&[&query[..], query].concat()).await.unwrap();
        for _ in 0..3 {
            let reply = receive(&mut client).await.unwrap();
            assert!(reply.starts_with(&[0, 7]) && reply.ends_with(&[10, 0, 0, 2]));
        }
        drop(client);
        let error = talk.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn who_says_nothing_or_half_a_message_is_let_go() {
    for start in [&b""[..], b"\0", b"\0\x15\0\x07\x01"] {
        run(async {
            let (desk, asker) = connected();
            let (mut client, stream) = duplex(4096);
            client.write_all(start).await.unwrap();
            let error = converse(&desk, &asker, stream).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}

#[test]
fn who_does_not_read_is_let_go() {
    run(async {
        let (desk, asker) = connected();
        let (mut client, stream) = duplex(64);
        let query = b"\0\x15\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";
        let talk = tokio::spawn(async move { converse(&desk, &asker, stream).await });
        for _ in 0..3 {
            client.write_all(query).await.unwrap();
        }
        let error = talk.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn what_is_no_query_ends_the_connection() {
    run(async {
        let (desk, asker) = connected();
        let (mut client, stream) = duplex(4096);
        client.write_all(b"\0\x0cGET / HTTP/1").await.unwrap();
        client.write_all(b"\0\x03abc").await.unwrap();
        let (mut seen, mut all) = (desk.serving.counts.read(), Vec::new());
        converse(&desk, &asker, stream).await.unwrap();
        client.read_to_end(&mut all).await.unwrap();
        seen.queries = desk.serving.counts.read().queries;
        assert!(seen.queries >= 1);
        assert_eq!(desk.serving.counts.read().dropped, 1);
    });
}

#[test]
fn connections_are_counted_by_source_and_in_all() {
    let guests = Arc::new(Guests::default());
    let source = |host: u8| IpAddr::from([10, 0, 0, host]);
    let mut passes: Vec<_> =
        (0..CONNECTIONS_PER_SOURCE).map(|_| Guests::admit(&guests, source(0)).unwrap()).collect();
    assert!(Guests::admit(&guests, source(0)).is_none());
    passes.pop();
    passes.push(Guests::admit(&guests, source(0)).unwrap());

    for host in 1..=u8::MAX {
        let rest = CONNECTIONS - passes.len();
        passes.extend(
            (0..rest.min(CONNECTIONS_PER_SOURCE))
                .map_while(|_| Guests::admit(&guests, source(host))),
        );
    }
    assert_eq!(passes.len(), CONNECTIONS);
    assert!(Guests::admit(&guests, IpAddr::from([10, 0, 1, 0])).is_none());
    passes.clear();
    assert!(guests.counts().is_empty());
}

#[test]
fn what_was_found_by_fuzzing_ends_with_whole_messages() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/framing");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(files.len() > 10);
    for file in files {
        let said = crate::server::converse(&std::fs::read(&file).unwrap());
        let mut rest = &*said;
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            assert!(length >= 12 && rest.len() >= 2 + length, "{}: {said:?}", file.display());
            rest = &rest[2 + length..];
        }
    }
}
