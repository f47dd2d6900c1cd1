//! Whatever comes over the wire: nothing of it makes the reader panic, and what one side writes
//! the other reads.

use cnm::{
    Call, Error, Incoming, Reply, Request, RequestId,
    endpoint::{Attach, Container, Detach, Netns, Port, Protocol},
    frame::{Lines, MAX_LINE},
    network::CreateNetwork,
};
use proptest::{collection, option, prelude::*};
use serde_json::{Map, Value, value::RawValue};

/// Any JSON value, a few levels deep.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            collection::vec((".{0,8}", inner), 0..6)
                .prop_map(|pairs| Value::from(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Something that is nearly a request: the right members with any values.
fn nearly_request() -> impl Strategy<Value = Value> {
    const MEMBERS: [&str; 7] =
        ["jsonrpc", "id", "method", "params", "deadline_ms", "idempotency_key", "more"];
    let value = prop_oneof![
        json(),
        Just("2.0".into()),
        Just("endpoint.attach".into()),
        any::<u64>().prop_map(Value::from),
    ];
    collection::vec((proptest::sample::select(&MEMBERS[..]), value), 0..8).prop_map(|pairs| {
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::from(pairs.collect::<Map<_, _>>())
    })
}

/// Reads bytes as netd does: to lines, to documents, to requests, to parameters.
fn read(bytes: &[u8]) -> Vec<Result<String, Error>> {
    let mut lines = Lines::new(bytes);
    let mut out = Vec::new();
    while let Some(line) = lines.next_line().expect("memory cannot fail") {
        let line = match line.and_then(|line| Incoming::split(line).map(|_| line.trim_ascii())) {
            Ok(line) => line,
            Err(error) => {
                out.push(Err(error));
                continue;
            }
        };
        let batch: Vec<&RawValue> = match line.starts_with('[') {
            true => serde_json::from_str(line).expect("split took it"),
            false => Vec::new(),
        };
        let texts: Vec<&str> = match batch.is_empty() {
            true => vec![line],
            false => batch.into_iter().map(RawValue::get).collect(),
        };
        for text in texts {
            out.push(Incoming::parse(text).map(|request| {
                macro_rules! each {
                    ($($call:ty,)*) => {
                        $(if let Err(error) = request.params::<$call>() {
                            assert_eq!(error.kind, cnm::Kind::Invalid);
                        })*
                    };
                }
                cnm::for_each_call!(each);
                request.method.into_owned()
            }));
        }
    }
    out
}

fn id() -> impl Strategy<Value = RequestId> {
    prop_oneof![any::<u64>().prop_map(RequestId::Number), ".*".prop_map(RequestId::Text)]
}

fn attach() -> impl Strategy<Value = Attach> {
    let container =
        ("[a-z0-9][a-z0-9_.-]{0,63}", option::of("[a-z][a-z0-9-]{0,20}"), any::<Option<u32>>());
    let port = (any::<bool>(), any::<Option<std::net::IpAddr>>(), any::<u16>(), 1_u16..);
    let netns = prop_oneof![Just("fd".to_owned()), "/.{0,40}"];
    let text = collection::btree_map(".{0,8}", ".{0,8}", 0..3);
    (
        ".*",
        container,
        option::of(netns),
        any::<Vec<std::net::IpAddr>>(),
        collection::vec(port, 0..4),
        any::<bool>(),
        text,
    )
        .prop_map(|(network, (id, name, pid), netns, addresses, ports, sticky, options)| {
            let container = Container {
                id: id.parse().expect("a container id"),
                name: name.map(|name| name.parse().expect("a name")),
                hostname: None,
                pid,
            };
            let port = |(udp, host_ip, host_port, container_port)| Port {
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                host_ip,
                host_port,
                host_port_to: None,
                container_port,
                count: 1 + host_port % 7,
            };
            let ports = ports.into_iter().map(port).collect();
            let netns = netns.map(Netns::from);
            Attach { addresses, ports, sticky, options, ..Attach::new(&network, container, netns) }
        })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in collection::vec(any::<u8>(), 0..512)) {
        read(&bytes);
    }

    #[test]
    fn any_text_near_json_is_read_without_panic(text in r#"[\[\]{}",:0-9.eE \\a-z\n-]{0,96}"#) {
        read(text.as_bytes());
    }

    #[test]
    fn any_json_is_a_request_or_an_error_of_framing(value in prop_oneof![json(), nearly_request()]) {
        let line = value.to_string();
        for outcome in read(line.as_bytes()) {
            if let Err(error) = outcome {
                prop_assert!(matches!(error.code, -32700 | -32600), "{error:?} of {line}");
            }
        }
    }

    #[test]
    fn a_request_survives_the_wire(
        params in attach(),
        id in id(),
        deadline_ms in any::<Option<u64>>(),
        key in option::of(".*"),
    ) {
        let mut request = Request::new(0, &params);
        request.id = id.clone();
        request.deadline_ms = deadline_ms;
        request.idempotency_key = key.as_deref();
        let sent = request.to_line();
        prop_assert_eq!(sent.matches('\n').count(), 1, "one line, whatever is in it");
        let mut lines = Lines::new(sent.as_bytes());
        let line = lines.next_line().expect("memory").expect("a line").expect("text");
        let incoming = Incoming::parse(line).expect("a request");
        prop_assert_eq!(incoming.method.as_ref(), Attach::METHOD);
        prop_assert_eq!(&incoming.id, &Some(id));
        prop_assert_eq!(incoming.deadline_ms, deadline_ms);
        prop_assert_eq!(&incoming.idempotency_key, &key);
        prop_assert_eq!(incoming.params::<Attach>().expect("parameters"), params);
    }

    #[test]
    fn an_error_survives_the_wire(
        kind in proptest::sample::select(&cnm::Kind::ALL[..]),
        message in ".*",
        operands in collection::btree_map("[a-z_]{1,12}", any::<i64>(), 0..4),
        id in option::of(id()),
    ) {
        let mut error = Error::new(kind, message);
        // `kind` is the one name that is taken.
        for (name, value) in operands.iter().filter(|(name, _)| *name != "kind") {
            error = error.with(name, *value);
        }
        let text = Reply::<()>::new(id.clone(), Err(error.clone())).to_text();
        let reply: Reply<Value> = serde_json::from_str(&text).expect("a reply");
        prop_assert_eq!(&reply.id, &id);
        prop_assert_eq!(reply.outcome(), Err(error));
    }
}

#[test]
fn unknown_members_are_passed_over() {
    let line = r#"{"jsonrpc":"2.0","id":1,"method":"network.create","trace":[1],"params":{"name":"app","colour":"red"}}"#;
    let incoming = Incoming::parse(line).expect("a request");
    let params = incoming.params::<CreateNetwork>().expect("parameters");
    assert_eq!(params, CreateNetwork::named("app"));
}

#[test]
fn what_is_left_out_is_chosen() {
    let line = r#"{"jsonrpc":"2.0","method":"endpoint.detach","params":{"container":"web"}}"#;
    let incoming = Incoming::parse(line).expect("a notification");
    assert_eq!(incoming.id, None);
    let params = incoming.params::<Detach>().expect("parameters");
    assert_eq!(params, Detach { network: None, container: "web".into(), ifname: None });
}

#[test]
fn nesting_without_end_is_an_error_and_no_overflow() {
    let deep = MAX_LINE / 2 - 64;
    let line = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"endpoint.attach","params":{}{}}}"#,
        "[".repeat(deep),
        "]".repeat(deep)
    );
    for text in [line.clone(), format!("[{line}]"), "[".repeat(MAX_LINE), "{\"a\":".repeat(99999)] {
        read(text.as_bytes());
    }
}
