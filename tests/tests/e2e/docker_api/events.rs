//! `/events`: what happened to networks, and what happens, as a client of Docker's reads it.

use std::{
    io::{BufRead as _, BufReader},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cnm::network::{RemoveNetwork, UpdateNetwork};

use super::*;

/// A reader of the stream.
struct Stream(BufReader<UnixStream>);

impl Stream {
    /// Asks, and reads the head of the answer, which comes before anything happens.
    #[track_caller]
    fn open(query: &str) -> Self {
        let mut stream = UnixStream::connect(SOCKET).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /v1.41/events{query} HTTP/1.0\r\nHost: docker\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap() > 2 {}
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.0 200") || head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: application/json\r\n"), "{head}");
        Self(reader)
    }

    /// The next line; none at the end.
    #[track_caller]
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then_some(line)
    }

    /// What happened next, and to whom.
    #[track_caller]
    fn next(&mut self) -> Option<(String, Value)> {
        let message: Value = serde_json::from_str(&self.line()?).unwrap();
        assert_eq!((&message["Type"], &message["scope"]), (&json!("network"), &json!("local")));
        let attributes = message["Actor"]["Attributes"].clone();
        Some((message["Action"].as_str().unwrap().to_owned(), attributes))
    }

    fn rest(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).map(|(action, _)| action).collect()
    }
}

/// A parameter of a query, as clients write it.
fn filters(filters: &Value) -> String {
    filters.to_string().replace('{', "%7B").replace('}', "%7D").replace('"', "%22")
}

/// Seconds since 1970, so many from now.
fn after(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

#[test]
fn what_happens_is_told_at_once_and_kept() {
    let world = World::new();
    let host = host(&world);
    let mut netd = host.client();
    let mut all = Stream::open("");
    let query = json!({"event": ["connect", "disconnect"], "network": ["app"]});
    let mut some = Stream::open(&format!("?filters={}", filters(&query)));

    let app = netd.create("app");
    let line = all.line().unwrap();
    let message: Value = serde_json::from_str(&line).unwrap();
    let (seconds, nanos) = (&message["time"], message["timeNano"].as_i64().unwrap());
    assert_eq!(seconds.as_i64(), Some(nanos / 1_000_000_000));
    assert_eq!(
        line,
        format!(
            "{{\"Type\":\"network\",\"Action\":\"create\",\"Actor\":{{\"ID\":\"{}\",\
             \"Attributes\":{{\"name\":\"app\",\"type\":\"bridge\"}}}},\"scope\":\"local\",\
             \"time\":{seconds},\"timeNano\":{nanos}}}\n",
            app.id
        )
    );
    netd.create("other");
    let web = world.container("web");
    netd.attach(&web.to("app"));
    netd.detach("web");
    let labels = [("a".to_owned(), "b".to_owned())].into();
    let update = UpdateNetwork { network: "app".into(), labels, ..UpdateNetwork::default() };
    netd.call(&update).unwrap();
    netd.call(&RemoveNetwork { network: "app".into() }).unwrap();
    ask("POST /networks/prune", Value::Null, 200);

    let named = json!({"name": "app", "type": "bridge"});
    let with = json!({"container": web.id, "name": "app", "type": "bridge"});
    let others = json!({"name": "other", "type": "bridge"});
    let expected = [
        ("create", &others),
        ("connect", &with),
        ("disconnect", &with),
        ("update", &named),
        ("destroy", &named),
        ("destroy", &others),
        ("prune", &json!({"reclaimed": "0"})),
    ];
    for (action, attributes) in expected {
        assert_eq!(all.next(), Some((action.to_owned(), attributes.clone())));
    }
    for action in ["connect", "disconnect"] {
        assert_eq!(some.next().unwrap().0, action);
    }

    // What was, up to a time that is past, is told and that is all.
    let past = |query: &str| Stream::open(query).rest();
    let until = after(1);
    let actions: Vec<_> =
        std::iter::once("create").chain(expected.iter().map(|(action, _)| *action)).collect();
    assert_eq!(past(&format!("?since=0&until={until}")), actions);
    let before = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    assert_eq!(past(&format!("?until={before}")), ["create"]);
    let query = filters(&json!({"type": {"container": true}}));
    assert_eq!(past(&format!("?since=0&until={before}&filters={query}")), [""; 0]);
    // A time to come ends it by itself.
    assert_eq!(past(&format!("?until={}", after(1))), actions);
}

#[test]
fn one_that_asks_for_nonsense_is_told_so() {
    let world = World::new();
    let _host = host(&world);
    for (query, message) in [
        ("since=yesterday", "invalid since \"yesterday\": it should be seconds"),
        ("until=1.x", "invalid until \"1.x\": it should be seconds"),
        ("since=2&until=1", "`since` time (2) cannot be after `until` time (1)"),
        ("filters=%7B", "invalid filter: {"),
    ] {
        assert_eq!(refused(&format!("GET /v1.41/events?{query}"), Value::Null, 400), message);
    }
    assert_eq!(refused("POST /v1.41/events", Value::Null, 404), "page not found");
}
