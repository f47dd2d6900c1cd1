use std::future::Future;
use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::relay::PATIENCE;
use super::turns::tests::asking_now;
use super::*;
use crate::question::HEADER;

pub(super) const ASKED_FOR: &[u8] =
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07Example\x03org\0\0\x01\0\x01";

/// A server that answers, or does not, as told. It ends with the test's runtime.
async fn server(mut answer: impl FnMut(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            for reply in answer(buffer[..length].to_vec()) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    address
}

/// The query as a response with a code, and a byte that tells who said it.
pub(super) fn said(query: &[u8], code: u8, who: u8) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[3] = code;
    reply.push(who);
    reply
}

pub(super) async fn saying(code: u8, who: u8) -> SocketAddr {
    server(move |query| vec![said(&query, code, who)]).await
}

pub(super) async fn silent() -> SocketAddr {
    server(|_| Vec::new()).await
}

/// An address that nobody listens on: the kernel says so at once.
fn closed() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

pub(super) fn asker() -> Asker {
    Asker { at: At::Network("n".into()), source: IpAddr::from([10, 0, 0, 2]) }
}

pub(super) fn forwarder(timeout: Duration) -> Arc<Forwarder> {
    with_host(Upstreams::Fixed(Vec::new()), timeout)
}

fn with_host(upstreams: Upstreams, timeout: Duration) -> Arc<Forwarder> {
    Forwarder::new(upstreams, timeout, 1 << 20).into()
}

pub(super) fn patient() -> Arc<Forwarder> {
    forwarder(Duration::from_secs(10))
}

pub(super) async fn ask(forwarder: &Arc<Forwarder>, servers: &[SocketAddr]) -> Option<Vec<u8>> {
    forwarder.ask(&asker(), servers, ASKED_FOR, Transport::Udp).await.packet
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

/// A question for a name of its own.
pub(super) fn question(n: usize) -> Vec<u8> {
    let label = format!("x{n}");
    let length = u8::try_from(label.len()).unwrap();
    let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, length];
    [&header[..], label.as_bytes(), &[0, 0, 1, 0, 1]].concat()
}

#[test]
fn an_answer_comes_back_under_the_askers_id() {
    run(async {
        let server = saying(3, 7).await;
        assert_eq!(ask(&patient(), &[server]).await, Some(said(ASKED_FOR, 3, 7)));
    });
}

#[test]
fn the_query_is_relayed_but_for_its_id() {
    run(async {
        let (seen, mut queries) = tokio::sync::mpsc::channel(8);
        let server = server(move |query| {
            seen.try_send(query.clone()).unwrap();
            vec![said(&query, 0, 0)]
        })
        .await;
        let forwarder = patient();
        let mut ids = Vec::new();
        for _ in 0..8 {
            ask(&forwarder, &[server]).await.unwrap();
            let query = queries.recv().await.unwrap();
            assert_eq!(query[2..], ASKED_FOR[2..]);
            ids.push([query[0], query[1]]);
        }
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() > 4, "ids differ: {ids:?}");
    });
}

#[test]
fn what_is_no_answer_to_the_query_is_passed_over() {
    run(async {
        let server = server(|query| {
            let good = said(&query, 0, 1);
            let (mut id, mut name) = (good.clone(), good.clone());
            id[1] ^= 1;
            name[14] ^= 1;
            vec![b"scrap".to_vec(), query, id, name, good]
        })
        .await;
        assert_eq!(ask(&patient(), &[server]).await, Some(said(ASKED_FOR, 0, 1)));
    });
}

#[test]
fn a_question_that_comes_back_in_another_case_is_the_same() {
    run(async {
        let server = server(|mut query| {
            query[HEADER..].make_ascii_lowercase();
            vec![said(&query, 0, 1)]
        })
        .await;
        let reply = ask(&patient(), &[server]).await.unwrap();
        assert_eq!(reply[HEADER..][..8], *b"\x07example");
    });
}

#[test]
fn one_that_fails_gives_way_to_the_next() {
    run(async {
        for first in [closed(), saying(2, 1).await, saying(5, 1).await, silent().await] {
            let next = saying(0, 2).await;
            assert_eq!(ask(&patient(), &[first, next]).await, Some(said(ASKED_FOR, 0, 2)));
        }
    });
}

/// An address as the answer, one record that is said to be several, its name at an offset.
fn addressed(query: &[u8], records: u8, name_at: u8) -> Vec<u8> {
    let mut reply = said(query, 0, 0);
    reply.pop();
    reply[7] = records;
    reply.extend([0xc0, name_at, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1]);
    reply
}

#[test]
fn an_answer_that_nobody_can_read_is_a_failure() {
    const QUESTION: u8 = 12;
    run(async {
        // Records are missing; a name is behind where it is named.
        for (records, name_at) in [(5, QUESTION), (1, 0xff)] {
            let bad = server(move |query| vec![addressed(&query, records, name_at)]).await;
            let next = saying(0, 2).await;
            assert_eq!(ask(&patient(), &[bad, next]).await, Some(said(ASKED_FOR, 0, 2)));
            assert_eq!(ask(&patient(), &[bad]).await, None);
        }
        let whole = server(|query| vec![addressed(&query, 1, QUESTION)]).await;
        assert_eq!(ask(&patient(), &[whole]).await, Some(addressed(ASKED_FOR, 1, QUESTION)));
    });
}

#[test]
fn after_a_failure_the_one_that_works_is_asked_first() {
    run(async {
        let (asked, mut times) = tokio::sync::mpsc::channel(8);
        let broken = server(move |query| {
            asked.try_send(()).unwrap();
            drop(query);
            Vec::new()
        })
        .await;
        let servers = [broken, saying(0, 2).await];
        let forwarder = patient();
        for _ in 0..4 {
            assert_eq!(ask(&forwarder, &servers).await, Some(said(ASKED_FOR, 0, 2)));
        }
        times.recv().await.unwrap();
        assert!(times.try_recv().is_err(), "it was asked once");
    });
}

#[test]
fn a_bad_answer_is_better_than_none() {
    run(async {
        let servers = [closed(), saying(2, 9).await];
        assert_eq!(ask(&patient(), &servers).await, Some(said(ASKED_FOR, 2, 9)));
    });
}

#[test]
fn what_one_says_is_not_lost_with_one_that_is_dead() {
    run(async {
        for code in [2, 5] {
            let servers = [saying(code, 7).await, silent().await];
            assert_eq!(ask(&patient(), &servers).await, Some(said(ASKED_FOR, code, 7)));
        }
    });
}

#[test]
fn a_datagram_that_is_lost_is_sent_again() {
    run(async {
        let mut lost = false;
        let deaf = server(move |query| {
            let first = !std::mem::replace(&mut lost, true);
            if first { Vec::new() } else { vec![said(&query, 0, 7)] }
        });
        let reply = ask(&patient(), &[deaf.await]).await;
        assert_eq!(reply, Some(said(ASKED_FOR, 0, 7)));
    });
}

#[test]
fn when_nobody_answers_it_ends_all_the_same() {
    run(async {
        let short = forwarder(Duration::from_millis(20));
        assert_eq!(ask(&short, &[silent().await]).await, None);
        assert_eq!(ask(&patient(), &[closed(), closed()]).await, None);
        assert_eq!(ask(&patient(), &[]).await, None);
    });
}

#[test]
fn dead_servers_do_not_hide_a_live_fourth() {
    run(async {
        let servers = [silent().await, silent().await, silent().await, saying(0, 4).await];
        let forwarder = forwarder(PATIENCE * 5);
        let mut replies = Vec::new();
        for _ in 0..2 {
            replies.extend(ask(&forwarder, &servers).await);
        }
        assert_eq!(replies, [said(ASKED_FOR, 0, 4)]);
    });
}

#[test]
fn our_own_addresses_are_not_asked() {
    run(async {
        let server = saying(0, 1).await;
        let forwarder = patient();
        forwarder.add_own(server);
        assert_eq!(ask(&forwarder, &[server]).await, None);
        forwarder.remove_own(server);
        assert!(ask(&forwarder, &[server]).await.is_some());
    });
}

#[test]
fn the_hosts_servers_are_asked_where_a_network_has_none() {
    run(async {
        let host = Upstreams::Fixed(vec![saying(0, 8).await]);
        let forwarder = with_host(host, Duration::from_secs(10));
        assert_eq!(ask(&forwarder, &[]).await, Some(said(ASKED_FOR, 0, 8)));
        let own = saying(0, 9).await;
        assert_eq!(ask(&forwarder, &[own]).await, Some(said(ASKED_FOR, 0, 9)));
    });
}

#[test]
fn a_datagram_larger_than_agreed_becomes_a_truncated_answer() {
    run(async {
        let server = server(|query| {
            let mut reply = said(&query, 0, 0);
            reply[7] = 1;
            reply.resize(513, 0);
            vec![reply]
        })
        .await;
        let reply = ask(&patient(), &[server]).await.unwrap();
        assert_eq!(reply.len(), ASKED_FOR.len());
        assert_eq!(reply[2] & 2, 2, "TC");
        assert_eq!(reply[6..12], [0; 6]);
    });
}

#[test]
fn a_stream_is_relayed_over_a_stream() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let mut reply = said(&query, 0, 6);
            reply.resize(3000, 6);
            stream.write_u16(3000).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        });
        let reply =
            patient().ask(&asker(), &[server], ASKED_FOR, Transport::Tcp).await.packet.unwrap();
        assert_eq!(reply.len(), 3000);
        assert_eq!(reply[..2], ASKED_FOR[..2]);
    });
}

/// The answer of a server with one address, that may be kept for `ttl` seconds.
fn address(query: &[u8], ttl: u8, host: u8) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4, 192, 0, 2, host]);
    reply
}

/// Whether a reply is that of [`address`], whatever is left of its time.
fn is_told(reply: &Option<Vec<u8>>, query: &[u8], host: u8) -> bool {
    let expected = address(query, 0, host);
    let (start, rest) = expected.split_at(query.len() + 6);
    reply.as_ref().is_some_and(|it| it.starts_with(start) && it.ends_with(&rest[4..]))
}

/// A server that counts how often it is asked, and tells each time.
async fn counting(ttl: u8) -> (SocketAddr, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let server = server(move |query| {
        let before = counted.fetch_add(1, Ordering::SeqCst);
        vec![address(&query, ttl, u8::try_from(before).unwrap())]
    });
    (server.await, count)
}

#[test]
fn what_was_told_is_told_again_without_asking() {
    run(async {
        let (server, count) = counting(60).await;
        let forwarder = patient();
        let first = forwarder.ask(&asker(), &[server], ASKED_FOR, Transport::Udp).await;
        assert_eq!(first.from, Origin::Server(server));
        let again = forwarder.ask(&asker(), &[server], ASKED_FOR, Transport::Tcp).await;
        assert_eq!(again.from, Origin::Cache);
        assert!(is_told(&again.packet, ASKED_FOR, 0), "{again:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1);

        // In another spelling, under another id: the same question.
        let mut other = ASKED_FOR.to_vec();
        other[..2].copy_from_slice(&[9, 9]);
        other[HEADER..][..8].make_ascii_uppercase();
        let reply = forwarder.ask(&asker(), &[server], &other, Transport::Udp).await.packet;
        assert!(is_told(&reply, &other, 0), "{reply:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1);

        // To other servers, or for another type, or without the help of others: another one.
        let (elsewhere, _) = counting(60).await;
        assert!(is_told(&ask(&forwarder, &[elsewhere]).await, ASKED_FOR, 0));
        for at in [3, ASKED_FOR.len() - 3] {
            let mut other = ASKED_FOR.to_vec();
            other[at] = 0x10;
            forwarder.ask(&asker(), &[server], &other, Transport::Udp).await.packet.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn what_must_not_be_kept_is_asked_for_each_time() {
    run(async {
        let (server, count) = counting(0).await;
        let forwarder = patient();
        for _ in 0..3 {
            ask(&forwarder, &[server]).await.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn many_who_ask_the_same_at_once_have_it_asked_once() {
    run(async {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                counted.fetch_add(1, Ordering::SeqCst);
                held.recv().unwrap();
                socket.send_to(&address(&buffer[..length], 0, 7), from).unwrap();
            }
        });
        let forwarder = patient();
        let mut asking = JoinSet::new();
        for number in 0..20u8 {
            let forwarder = Arc::clone(&forwarder);
            asking.spawn(async move {
                let source = IpAddr::from([10, 0, 0, number]);
                let mut query = ASKED_FOR.to_vec();
                query[1] = number;
                let asker = Asker { source, ..asker() };
                let reply = forwarder.ask(&asker, &[server], &query, Transport::Udp).await;
                (reply.packet, address(&query, 0, 7))
            });
        }
        while asking_now(&forwarder) < 20 {
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        while let Some(outcome) = asking.join_next().await {
            let (reply, expected) = outcome.unwrap();
            assert_eq!(reply, Some(expected));
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn who_stops_waiting_does_not_stop_the_question() {
    run(async {
        let (server, count) = counting(60).await;
        let forwarder = patient();
        let asking = Arc::clone(&forwarder);
        let asking = tokio::spawn(async move { ask(&asking, &[server]).await });
        while asking_now(&forwarder) == 0 {
            tokio::task::yield_now().await;
        }
        asking.abort();
        while forwarder.kept() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(is_told(&ask(&forwarder, &[server]).await, ASKED_FOR, 0));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_cookie_stays_between_two_and_other_options_go_through() {
    run(async {
        let (seen, mut queries) = tokio::sync::mpsc::channel(8);
        let server = server(move |query| {
            seen.try_send(query.clone()).unwrap();
            let mut reply = query;
            reply[2] |= 0x80;
            vec![reply]
        })
        .await;
        let with = |option: u8| {
            let mut query = ASKED_FOR.to_vec();
            query[11] = 1;
            // Payload 4096, DNSSEC wanted, one option of two bytes.
            query.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 6, 0, option, 0, 2, 7, 7]);
            query
        };
        let forwarder = patient();
        // A cookie is between two, and nobody else's business.
        let reply = forwarder.ask(&asker(), &[server], &with(10), Transport::Udp).await;
        let asked = queries.recv().await.unwrap();
        let opt = &asked[ASKED_FOR.len()..];
        assert_eq!(opt, [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0], "1232 bytes, DNSSEC wanted");
        assert!(reply.packet.unwrap().ends_with(opt));
        // Of what we do not know we change nothing.
        let reply = forwarder.ask(&asker(), &[server], &with(77), Transport::Udp).await;
        assert_eq!(queries.recv().await.unwrap()[2..], with(77)[2..]);
        let mut expected = with(77);
        expected[2] |= 0x80;
        assert_eq!(reply.packet, Some(expected));
    });
}

#[test]
fn past_its_time_an_answer_is_better_than_none() {
    run(async {
        let broken = Arc::new(AtomicU64::new(0));
        let state = Arc::clone(&broken);
        let server = server(move |query| match state.load(Ordering::SeqCst) {
            0 => vec![address(&query, 1, 1)],
            1 => vec![said(&query, 2, 0)],
            _ => vec![address(&query, 1, 2)],
        })
        .await;
        let forwarder = patient();
        ask(&forwarder, &[server]).await.unwrap();
        broken.store(1, Ordering::SeqCst);
        let cached = forwarder.ask(&asker(), &[server], ASKED_FOR, Transport::Udp).await;
        assert_eq!(cached.from, Origin::Cache);
        lock(&forwarder.cache).age(Duration::from_secs(1));
        let stale = forwarder.ask(&asker(), &[server], ASKED_FOR, Transport::Udp).await;
        assert_eq!(stale, Relayed { packet: Some(address(ASKED_FOR, 30, 1)), from: Origin::Stale });
        broken.store(2, Ordering::SeqCst);
        // It is not asked again at once, and still there is that.
        assert_eq!(ask(&forwarder, &[server]).await, stale.packet);
        lock(&forwarder.failures).clear();
        assert_eq!(ask(&forwarder, &[server]).await, Some(address(ASKED_FOR, 1, 2)));
    });
}

#[test]
fn a_failure_is_known_for_a_while_and_nobody_waits_for_it_again() {
    run(async {
        let (broken, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (state, counting) = (Arc::clone(&broken), Arc::clone(&count));
        let moody = server(move |query| {
            counting.fetch_add(1, Ordering::SeqCst);
            match state.load(Ordering::SeqCst) {
                0 => Vec::new(),
                1 => vec![said(&query, 2, 0)],
                _ => vec![address(&query, 60, 1)],
            }
        })
        .await;
        let forwarder = forwarder(Duration::from_millis(50));
        let put = async |packet: &[u8], transport| {
            forwarder.ask(&asker(), &[moody], packet, transport).await
        };
        for state in [0, 1] {
            broken.store(state, Ordering::SeqCst);
            let before = count.load(Ordering::SeqCst);
            let first = put(ASKED_FOR, Transport::Udp).await;
            assert_eq!(first.packet.is_some(), state == 1, "{first:?}");
            for _ in 0..5 {
                assert_eq!(put(ASKED_FOR, Transport::Udp).await, Relayed::FAILED);
            }
            // An option makes no difference to servers that do not answer.
            let cookie = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08abcdefgh";
            let mut packet = [ASKED_FOR, cookie].concat();
            packet[11] = 1;
            put(&packet, Transport::Udp).await;
            let asked = count.load(Ordering::SeqCst) - before;
            assert!(asked <= 2, "{asked}");
            assert_ne!(put(&question(1), Transport::Udp).await, Relayed::FAILED, "another one");
            lock(&forwarder.failures).clear();
        }
        broken.store(0, Ordering::SeqCst);
        put(ASKED_FOR, Transport::Udp).await;
        // Other servers are asked.
        let good = saying(0, 9).await;
        assert!(ask(&forwarder, &[good]).await.is_some());
        // What succeeds has failed no more.
        broken.store(2, Ordering::SeqCst);
        assert_eq!(put(ASKED_FOR, Transport::Udp).await, Relayed::FAILED);
        lock(&forwarder.failures).clear();
        assert_eq!(put(ASKED_FOR, Transport::Udp).await.from, Origin::Server(moody));
    });
}

#[test]
fn a_resolv_conf_that_is_written_anew_ends_failures() {
    run(async {
        let path = std::env::temp_dir().join(format!("failing.{}", std::process::id()));
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let host = Upstreams::ResolvConf(path.clone());
        let forwarder = with_host(host, Duration::from_millis(50));
        forwarder.servers(&asker(), &[]);
        let silent = silent().await;
        assert_eq!(ask(&forwarder, &[silent]).await, None);
        assert_eq!(
            forwarder.ask(&asker(), &[silent], ASKED_FOR, Transport::Udp).await,
            Relayed::FAILED
        );
        std::fs::write(&path, "nameserver 192.0.2.1\noptions rotate\n").unwrap();
        let noticed = || {
            forwarder.servers(&asker(), &[]);
            !forwarder.has_failed(&(
                Key::of(&question::plain(ASKED_FOR).unwrap(), [silent].into()),
                Transport::Udp,
            ))
        };
        // The file is looked at once a second at most.
        let looking = async {
            while !noticed() {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        time::timeout(Duration::from_secs(10), looking).await.expect("it is noticed");
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn a_server_is_not_asked_what_it_asks_itself() {
    run(async {
        let (own, count) = counting(0).await;
        let (host, _) = counting(60).await;
        let forwarder = with_host(Upstreams::Fixed(vec![host]), Duration::from_secs(10));
        // A container's address, as far as the forwarder knows.
        let server = SocketAddr::from(([192, 0, 2, 77], 53));
        let asker = Asker { source: server.ip(), ..asker() };
        let reply = forwarder.ask(&asker, &[server], ASKED_FOR, Transport::Udp).await;
        assert_eq!(reply.from, Origin::Server(host));
        let reply = forwarder.ask(&asker, &[server, own], ASKED_FOR, Transport::Udp).await;
        assert_eq!(reply.from, Origin::Server(own));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_question_that_comes_back_is_noticed_at_once() {
    run(async {
        let silent = silent().await;
        let forwarder = patient();
        let first = tokio::spawn({
            let forwarder = Arc::clone(&forwarder);
            async move { ask(&forwarder, &[silent]).await }
        });
        while asking_now(&forwarder) == 0 {
            tokio::task::yield_now().await;
        }
        let back = Asker { source: IpAddr::from([127, 0, 0, 1]), ..asker() };
        let reply = forwarder.ask(&back, &[silent], ASKED_FOR, Transport::Udp).await;
        assert_eq!(reply, Relayed::NOTHING);
        assert_eq!(forwarder.loops(), 1);
        first.abort();
    });
}
