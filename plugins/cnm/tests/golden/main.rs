//! The bytes of every message, kept in files beside this one: a change that a peer would notice
//! shows up as a changed file. `NETD_BLESS=1` writes them anew.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use cnm::{Call, Error, Incoming, Kind, Reply, Request, RequestId, events::Notification};

mod samples;

use samples::Sample;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares a line with its file, or writes the file.
fn compare(name: &str, line: &str) {
    let path = directory().join(name);
    if env::var_os("NETD_BLESS").is_some() {
        fs::write(&path, line).expect("written");
    }
    let file = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{name}: {error}; NETD_BLESS=1 writes it"));
    assert_eq!(line, file, "{name}: what is written to peers has changed");
}

fn calls() -> Vec<&'static str> {
    let mut names = Vec::new();
    macro_rules! each {
        ($($call:ty,)*) => { $(names.push(<$call>::METHOD);)* };
    }
    cnm::for_each_call!(each);
    names
}

fn error_names() -> Vec<(String, Error)> {
    let kinds = Kind::ALL.into_iter().map(|kind| {
        let name = serde_json::to_value(kind).expect("a kind");
        (name.as_str().expect("a word").to_owned(), samples::error(kind))
    });
    let framing = [
        ("parse".to_owned(), Error::parse("not a JSON document: expected value at line 1")),
        ("request".to_owned(), cnm::frame::too_long()),
    ];
    kinds.chain(framing).collect()
}

#[test]
fn requests_are_written_as_ever_and_read_back() {
    macro_rules! each {
        ($($call:ty,)*) => { $({
            let params = <$call>::params();
            let mut request = Request::new(7, &params);
            request.deadline_ms = Some(2500);
            request.idempotency_key = Some("f3b9");
            let line = request.to_line();
            compare(&format!("{}.request.json", <$call>::METHOD), &line);
            let incoming = Incoming::parse(line.trim_end()).expect("a request");
            assert_eq!(incoming.id, Some(RequestId::Number(7)));
            assert_eq!(incoming.method, <$call>::METHOD);
            assert_eq!(incoming.deadline_ms, Some(2500));
            assert_eq!(incoming.idempotency_key.as_deref(), Some("f3b9"));
            assert_eq!(incoming.params::<$call>().expect("parameters"), params);
        })* };
    }
    cnm::for_each_call!(each);
}

#[test]
fn replies_are_written_as_ever_and_read_back() {
    macro_rules! each {
        ($($call:ty,)*) => { $({
            let result = <$call>::reply();
            let line = Reply::new(Some(7.into()), Ok(result.clone())).to_text() + "\n";
            compare(&format!("{}.reply.json", <$call>::METHOD), &line);
            let reply: Reply<<$call as Call>::Reply> = serde_json::from_str(&line).expect("a reply");
            assert_eq!(reply.id, Some(RequestId::Number(7)));
            assert_eq!(reply.outcome().expect("a result"), result);
        })* };
    }
    cnm::for_each_call!(each);
}

#[test]
fn errors_are_written_as_ever_and_read_back() {
    for (name, error) in error_names() {
        // What cannot be read has no id that could be told.
        let id = (error.code == error.kind.rpc_code()).then(|| RequestId::Text("a1".into()));
        let line = Reply::<()>::new(id.clone(), Err(error.clone())).to_text() + "\n";
        compare(&format!("error.{name}.json"), &line);
        let reply: Reply<serde_json::Value> = serde_json::from_str(&line).expect("a reply");
        assert_eq!(reply.id, id);
        assert_eq!(reply.outcome(), Err(error));
    }
}

#[test]
fn an_event_is_written_as_ever_and_read_back() {
    let event = samples::event();
    let line = Notification::line(&event);
    compare("event.json", &line);
    let notification: Notification = serde_json::from_str(&line).expect("a notification");
    assert_eq!(notification.params, event);
    let incoming = Incoming::parse(line.trim_end()).expect("a JSON-RPC notification");
    assert_eq!((incoming.id, incoming.method.as_ref()), (None, "event"));
}

#[test]
fn no_file_is_left_of_a_message_that_is_no_more() {
    let mut expected: BTreeSet<String> = calls()
        .into_iter()
        .flat_map(|method| [format!("{method}.request.json"), format!("{method}.reply.json")])
        .collect();
    expected.extend(error_names().into_iter().map(|(name, _)| format!("error.{name}.json")));
    expected.insert("event.json".into());
    let found = fs::read_dir(directory())
        .expect("tests/golden")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .filter(|name| name.ends_with(".json"));
    for name in found.filter(|name| !expected.contains(name)) {
        if env::var_os("NETD_BLESS").is_some() {
            fs::remove_file(directory().join(name)).expect("removed");
        } else {
            panic!("{name} is of no message: NETD_BLESS=1 removes it");
        }
    }
}
