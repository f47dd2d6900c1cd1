//! What is no request, as Docker's daemon refuses it; netd goes on as if nothing had been.

use super::*;

#[test]
fn what_is_no_request_is_refused_as_docker_does() {
    let world = World::new();
    let host = host(&world);
    let clean = host.snapshot();
    let routes = ["networks/create", "networks/bridge/connect", "networks/bridge/disconnect"];
    for route in routes {
        let head = format!("POST /v1.41/{route}");
        for (kind, body, message) in [
            ("application/json", "{", "invalid JSON: "),
            ("application/json", "[1]", "invalid JSON: "),
            ("application/json", "{\"Name\": 7, \"Container\": 7}", "invalid JSON: "),
            (
                "application/json",
                "[\"posi\"]",
                "invalid JSON: the document should be an object, not",
            ),
            ("application/json", "\u{fffd}", "invalid JSON: "),
            ("application/json; charset=utf-8", "", "invalid JSON: got EOF"),
            ("application/json", "{} {}", "unexpected content after JSON"),
            ("text/plain", "{}", "unsupported Content-Type header (text/plain): must be"),
            ("", "{}", "unsupported Content-Type header (): must be"),
            ("application/x-www-form-urlencoded", "Name=app", "unsupported Content-Type"),
        ] {
            let (status, head_of, answer) = send(&head, kind, body);
            assert_eq!(status, 400, "{head} {kind} {body}: {answer}");
            assert!(head_of.contains("content-type: application/json\r\n"), "{head_of}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let said = answer["message"].as_str().unwrap();
            assert!(said.starts_with(message), "{head} {kind} {body}: {said}");
        }
    }
    let (status, _, answer) = send(
        "POST /v1.41/networks/create",
        "application/json",
        r#"{"Name": "app", "IPAM": {"Config": [["10.9.0.0/24"]]}}"#,
    );
    let why = "IPAM.Config[0] should be an object, not a list";
    assert!(status == 400 && answer.contains(why), "{answer}");
    for (head, status, message) in [
        ("GET /v1.39/networks", 400, "client version 1.39 is too old"),
        ("GET /v1.52/networks", 400, "client version 1.52 is too new"),
        ("GET /v1.4294967296/networks", 404, "page not found"),
        ("GET /v2.0/networks", 400, "client version 2.0 is too new"),
        ("GET /v1/networks", 404, "page not found"),
        ("GET /v1.41", 404, "page not found"),
        ("GET /v1.41/", 404, "page not found"),
        ("GET /v1.41/nothing", 404, "page not found"),
        (
            "GET /v1.41/containers/json",
            404,
            "netd serves networks at this socket, and no containers",
        ),
        ("GET /info", 404, "netd serves networks at this socket, and no info"),
        ("POST /v1.41/containers/create", 501, "netd serves networks at this socket"),
        ("POST /v1.41/images/create?fromImage=box", 501, "netd serves networks at this socket"),
        ("DELETE /v1.41/containers/web", 501, "netd serves networks at this socket"),
        ("POST /v1.41/networks/app", 404, "page not found"),
        ("PATCH /v1.41/networks", 404, "page not found"),
        ("GET /v1.41/networks/%2e%2e", 404, "network"),
        ("GET /v1.41/networks?filters=%7B%22name%22%3A7%7D", 400, "invalid filter"),
        ("POST /v1.41/networks/prune?filters=x", 400, "invalid filter"),
        ("GET /v1.41/networks/bridge?verbose=maybe", 400, "invalid value for verbose"),
    ] {
        let said = refused(head, Value::Null, status);
        assert!(said.starts_with(message), "{head}: {said}");
    }
    // What is no HTTP is answered as such, or not at all.
    for nonsense in ["hello\r\n\r\n", "GET\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n"] {
        let mut stream = UnixStream::connect(SOCKET).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    // One that begins and goes away.
    let mut stream = UnixStream::connect(SOCKET).unwrap();
    let head = "POST /networks/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    assert_eq!(send("GET /_ping", "", "").0, 200);
    host.snapshot().same_as(&clean).unwrap();
}

#[test]
fn what_is_done_twice_is_done_or_refused() {
    let world = World::new();
    let host = host(&world);
    let web = world.container("web");
    keep(&host, &web);
    let create = json!({"Name": "app"});
    ask("POST /networks/create", create.clone(), 201);
    refused("POST /networks/create", create, 409);
    ask("POST /networks/app/connect", json!({"Container": "web"}), 200);
    refused("POST /networks/app/connect", json!({"Container": "web"}), 403);
    ask("POST /networks/app/disconnect", json!({"Container": "web"}), 200);
    refused("POST /networks/app/disconnect", json!({"Container": "web"}), 500);
    ask("DELETE /networks/app", Value::Null, 204);
    refused("DELETE /networks/app", Value::Null, 404);
    for head in ["POST /networks/app/connect", "POST /networks/app/disconnect"] {
        refused(head, json!({"Container": "web"}), 404);
        refused(&head.replace("app", "bridge"), json!({"Container": "nobody"}), 404);
        refused(&head.replace("app", "bridge"), json!({}), 400);
    }
}
