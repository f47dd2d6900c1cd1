//! Clocks that differ: a certificate that is not good by one of them is no stranger's, and both hosts
//! are told so, with what the clocks say.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cluster::{
    Authority, ClusterId, Error, Identity, NodeId, Role, Token,
    client::{self, Client, Newcomer},
    identity::{Request, Subject, new_request, server_config},
    rows::Facts,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

const DAYS: Duration = Duration::from_secs(3 * 86_400);

fn node(digit: char) -> NodeId {
    digit.to_string().repeat(25).parse().expect("a node")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn signed(authority: &Authority, node: &NodeId, role: Role, now: SystemTime) -> Identity {
    let (key, request) = new_request(node).expect("a key");
    let request = Request::from_pem(&request).expect("a request");
    let addresses = vec![IpAddr::from([127, 0, 0, 1])];
    let subject = Subject { node: node.clone(), role, addresses };
    let certificate = authority.sign(&request, &subject, now).expect("signed");
    Identity { ca: authority.certificate().to_owned(), certificate, key }
}

/// A manager whose clock says `clock`, whatever it is asked; where it listens.
async fn manager(identity: &Identity, clock: SystemTime) -> String {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(identity).expect("a server")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.ok();
            let now = seconds(clock);
            let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"now\":{now}}}}}\n");
            stream.write_all(answer.as_bytes()).await.ok();
            stream.flush().await.ok();
        }
    });
    address
}

fn newcomer() -> Newcomer {
    let addresses = vec![IpAddr::from([127, 0, 0, 1])];
    Newcomer::new(node('w'), addresses, Facts::default(), None).expect("a key")
}

fn block_on<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

#[test]
fn who_joins_with_a_wrong_clock_is_told_so() {
    block_on(async {
        let now = SystemTime::now();
        for there in [now + DAYS, now - DAYS * 40] {
            let cluster = ClusterId::random().expect("random");
            let authority = Authority::new(&cluster, there).expect("a CA");
            let identity = signed(&authority, &node('m'), Role::Manager, there);
            let address = manager(&identity, there).await;
            let token = Token::random(&authority.digest().expect("a digest")).expect("random");
            let refused = client::join(&address, &token, &newcomer()).await;
            let error = refused.expect_err("the clocks differ");
            let Error::Clocks { there: said, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*said, seconds(there));
            let said = cnm::Error::from(error);
            assert!(said.message.starts_with("the clocks differ: "), "{said}");
            assert!(said.operands.contains_key("here") && said.operands.contains_key("there"));
            // A token of another cluster is that, whatever the clocks say.
            let foreign = Token::random(&[7; 32]).expect("random");
            let error = client::join(&address, &foreign, &newcomer()).await.expect_err("foreign");
            assert!(error.to_string().contains("of another cluster"), "{error}");
        }
    });
}

#[test]
fn a_node_whose_certificate_is_not_good_at_this_time_is_told_why() {
    block_on(async {
        let (now, cluster) = (SystemTime::now(), ClusterId::random().expect("random"));
        let authority = Authority::new(&cluster, now - DAYS * 100).expect("a CA");
        let long = authority.signing_for(Some(DAYS * 300));
        let good = signed(&long, &node('m'), Role::Manager, now - DAYS * 90);
        let short = long.signing_for(Some(DAYS));
        let old = signed(&short, &node('w'), Role::Worker, now - DAYS * 2);
        // It has ended, and the clocks agree; or the manager's is the one that is ahead.
        for (clock, differ) in [(now, false), (now + DAYS, true)] {
            let address = manager(&good, clock).await;
            let client = Client::new(&old, vec![address]).expect("a client");
            let error = client.standing().await.expect_err("it has ended");
            match &error {
                Error::Clocks { .. } if differ => {}
                Error::Untimely { .. } if !differ => {}
                other => panic!("{other:?}"),
            }
        }
        // The manager's own has ended by this host's clock.
        let fresh = signed(&short, &node('w'), Role::Worker, now);
        let ended = signed(&short, &node('m'), Role::Manager, now - DAYS * 2);
        let address = manager(&ended, now - DAYS * 2).await;
        let client = Client::new(&fresh, vec![address]).expect("a client");
        let error = client.standing().await.expect_err("it has ended");
        assert!(matches!(error, Error::Clocks { .. }), "{error:?}");
    });
}
