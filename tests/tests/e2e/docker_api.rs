//! netd as a client of Docker's Engine API meets it: statuses, documents and sentences, over the
//! socket.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use cnm::{endpoint::Netns, sandbox::CreateSandbox};
use netd_tests::{Asking as _, Container, Host, HostOptions, World};
use serde_json::{Value, json};

mod events;
mod nonsense;

const SOCKET: &str = "/run/netd-docker.sock";

fn host(world: &World) -> Host {
    let config = format!("docker_api = \"{SOCKET}\"");
    world.host_with("a", HostOptions { config, ..HostOptions::default() })
}

/// Status, head and body of an answer.
fn send(head: &str, kind: &str, body: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(SOCKET).unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: docker\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[track_caller]
fn ask(head: &str, body: Value, status: u16) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (got, _, answer) = send(head, "application/json", &body);
    assert_eq!(got, status, "{head} {body}: {answer}");
    if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() }
}

#[track_caller]
fn refused(head: &str, body: Value, status: u16) -> String {
    ask(head, body, status)["message"].as_str().unwrap().to_owned()
}

fn keep(host: &Host, container: &Container) {
    let netns = Netns::Path(container.netns.path());
    host.client().call(&CreateSandbox { container: container.known(), netns }).unwrap();
}

#[test]
fn every_answer_says_what_a_client_negotiates_by() {
    let world = World::new();
    let _host = host(&world);
    for method in ["GET", "HEAD"] {
        let (status, head, body) = send(&format!("{method} /_ping"), "", "");
        assert_eq!((status, body.as_str()), (200, if method == "GET" { "OK" } else { "" }));
        for line in ["api-version: 1.51", "ostype: linux", "docker-experimental: false"] {
            assert!(head.contains(line), "{head}");
        }
    }
    let version = ask("GET /v1.41/version", Value::Null, 200);
    assert_eq!(
        (&version["ApiVersion"], &version["MinAPIVersion"]),
        (&json!("1.51"), &json!("1.40"))
    );
    let (status, head, body) = send("GET /v1.41/nothing", "", "");
    assert_eq!((status, body.as_str()), (404, "{\"message\":\"page not found\"}\n"));
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    assert!(head.contains("server: netd/"), "{head}");
    assert!(refused("GET /v1.39/networks", Value::Null, 400).contains("too old"));
    assert!(refused("GET /v1.98/networks", Value::Null, 400).contains("too new"));
    for head in
        ["PUT /networks", "POST /networks", "DELETE /networks", "GET /", "GET /networks/a/b"]
    {
        assert_eq!(refused(head, Value::Null, 404), "page not found");
    }
}

#[test]
fn networks_come_and_go_with_dockers_statuses() {
    let world = World::new();
    let host = host(&world);
    let create = "POST /v1.41/networks/create";
    let made = ask(
        create,
        json!({"Name": "app", "IPAM": {"Config": [{"Subnet": "10.5.0.0/16"}]},
        "Labels": {"a": "b"}}),
        201,
    );
    assert_eq!(made["Warning"], "");
    let id = made["Id"].as_str().unwrap();
    let (status, _, text) = send(&format!("GET /v1.48/networks/{}", &id[..12]), "", "");
    let shown: Value = serde_json::from_str(&text).unwrap();
    let created = shown["Created"].as_str().unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        text,
        format!(
            "{{\"Name\":\"app\",\"Id\":\"{id}\",\"Created\":\"{created}\",\"Scope\":\"local\",\
             \"Driver\":\"bridge\",\"EnableIPv4\":true,\"EnableIPv6\":false,\"IPAM\":{{\
             \"Driver\":\"default\",\"Options\":{{}},\"Config\":[{{\"Subnet\":\"10.5.0.0/16\",\
             \"Gateway\":\"10.5.0.1\"}}]}},\"Internal\":false,\"Attachable\":false,\
             \"Ingress\":false,\"ConfigFrom\":{{\"Network\":\"\"}},\"ConfigOnly\":false,\
             \"Containers\":{{}},\"Options\":{{}},\"Labels\":{{\"a\":\"b\"}}}}\n"
        )
    );
    assert!(ask("GET /v1.41/networks/app", Value::Null, 200).get("EnableIPv4").is_none());
    let names = |filters: Value| {
        let filters =
            filters.to_string().replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        let listed = ask(&format!("GET /networks?filters={filters}"), Value::Null, 200);
        let names =
            listed.as_array().unwrap().iter().map(|n| n["Name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(json!({"name": {"ap": true}})), ["app"]);
    assert_eq!(names(json!({"driver": ["null", "host"]})), ["host", "none"]);
    assert_eq!(names(json!({"label": ["a=b"], "type": ["custom"]})), ["app"]);
    let bad = "GET /networks?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D";
    assert_eq!(refused(bad, Value::Null, 400), "invalid filter 'colour'");

    for (body, status, message) in [
        (json!({"Name": "app"}), 409, "network with name app already exists"),
        (
            json!({}),
            400,
            "invalid name: name is empty; it should be 1 to 63 of a-z A-Z 0-9 _ . - and begin with a \
             letter or digit",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Gateway": "10.6.0.1"}]}}),
            400,
            "invalid network config:\nSubnet is missing, such as 10.9.0.0/24: leave the IPRange, Gateway \
             and AuxiliaryAddresses of it out, or say it",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.6.0.0/33"}]}}),
            400,
            "invalid network config:\ninvalid subnet 10.6.0.0/33: the prefix length \"33\" should be from \
             0 to 32",
        ),
        (
            json!({"Name": "bridge"}),
            403,
            "operation is not permitted on predefined bridge network ",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.6.0.1/16"}]}}),
            400,
            "invalid network config:\ninvalid subnet 10.6.0.1/16: it should be 10.6.0.0/16",
        ),
    ] {
        assert_eq!(refused(create, body, status), message);
    }
    for verb in ["connect", "disconnect"] {
        assert_eq!(
            refused(&format!("POST /networks/app/{verb}"), json!({}), 400),
            "Container is missing: say a container's name or id"
        );
    }
    let overlap = json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.5.7.0/24"}]}});
    let message = refused(create, overlap, 403);
    assert!(message.starts_with("invalid pool request: Pool overlaps with other one on this"));
    refused(create, json!({"Name": "x", "Driver": "nothing"}), 404);
    let (status, _, body) = send(create, "text/plain", "{}");
    assert_eq!(status, 400, "{body}");

    assert_eq!(
        refused("DELETE /networks/host", Value::Null, 403),
        "host is a pre-defined network and cannot be removed"
    );
    assert_eq!(
        refused("DELETE /networks/none-such", Value::Null, 404),
        "network none-such not found"
    );
    let web = world.container("web");
    host.client().attach(&web.to("app"));
    let message = refused("DELETE /networks/app", Value::Null, 403);
    assert!(
        message.starts_with(
            "error while removing network: network app has active endpoints (name:\"web\""
        ) && message.ends_with(')'),
        "{message}"
    );
    assert_eq!(ask("POST /networks/prune", Value::Null, 200), json!({"NetworksDeleted": null}));
    host.client().detach("web");
    assert_eq!(ask("DELETE /networks/app", Value::Null, 204), Value::Null);
    host.client().create("idle");
    assert_eq!(
        ask("POST /v1.41/networks/prune", Value::Null, 200),
        json!({"NetworksDeleted": ["idle"]})
    );
}

#[test]
fn a_sandbox_is_connected_and_disconnected() {
    let world = World::new();
    let host = host(&world);
    host.client().create_on("app", "10.5.0.0/16");
    let web = world.container("web");
    keep(&host, &web);
    let connect = "POST /v1.41/networks/app/connect";
    let config = json!({"IPAMConfig": {"IPv4Address": "10.5.0.9"}, "Aliases": ["www"]});
    let (status, _, body) = send(
        connect,
        "application/json",
        &json!({"Container": "web", "EndpointConfig": config}).to_string(),
    );
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(host.netns.pings("10.5.0.9".parse().unwrap()));
    let shown = ask("GET /networks/app", Value::Null, 200);
    let member = &shown["Containers"][&web.id];
    assert_eq!((&member["Name"], &member["IPv4Address"]), (&json!("web"), &json!("10.5.0.9/16")));
    for (head, body, status, message) in [
        (
            connect,
            json!({"Container": "web"}),
            403,
            "endpoint with name web already exists in network app",
        ),
        (connect, json!({"Container": "nobody"}), 404, "No such container: nobody"),
        (
            "POST /networks/nowhere/connect",
            json!({"Container": "web"}),
            404,
            "network nowhere not found",
        ),
        (
            "POST /networks/bridge/disconnect",
            json!({"Container": "web"}),
            500,
            &format!("container {} is not connected to network bridge", web.id),
        ),
        (
            "POST /networks/app/disconnect",
            json!({"Container": "nobody"}),
            404,
            "No such container: nobody",
        ),
    ] {
        assert_eq!(refused(head, body, status), message);
    }
    let other = world.container("other");
    keep(&host, &other);
    let far = json!({"IPAMConfig": {"IPv4Address": "10.9.0.9"}});
    let message = refused(connect, json!({"Container": "other", "EndpointConfig": far}), 400);
    assert!(message.contains("no configured subnet"), "{message}");
    let disconnect = "POST /networks/app/disconnect";
    assert_eq!(ask(disconnect, json!({"Container": "web"}), 200), Value::Null);
    // By force it is no other answer, where the container is known.
    let not_there = format!("container {} is not connected to network app", web.id);
    for force in [true, false] {
        let body = json!({"Container": "web", "Force": force});
        assert_eq!(refused(disconnect, body, 500), not_there);
    }
    let nobody = || json!({"Container": "nobody", "Force": true});
    assert_eq!(refused(disconnect, nobody(), 404), "endpoint nobody not found");
    let nowhere = "POST /networks/nowhere/disconnect";
    assert_eq!(refused(nowhere, nobody(), 404), "network nowhere not found");
    let not_there = format!("container {} is not connected to the network nowhere", web.id);
    let web = |force: bool| json!({"Container": "web", "Force": force});
    assert_eq!(refused(nowhere, web(false), 404), "network nowhere not found");
    assert_eq!(refused(nowhere, web(true), 500), not_there);
    assert!(host.client().endpoints().is_empty());
}
