//! What goes along with requests: keys, deadlines, batches, and events.

use std::time::Duration;

use cnm::{
    Kind, Request,
    client::{Client, With},
    endpoint::{Attach, Endpoint},
    events::{Event, Subscribe},
    network::CreateNetwork,
};
use netd_tests::{Asking as _, Host, Snapshot, World, eventually, kind_of};
use serde_json::{Value, json};

fn with_key(netd: &mut Client, attach: &Attach, key: Option<&str>) -> cnm::Result<Endpoint> {
    netd.call_with(attach, With { idempotency_key: key, ..With::default() })
}

/// What is undone leaves the kernel before it leaves the records: its addresses are nobody's
/// until the driver has said so.
fn forgotten(host: &Host) {
    eventually("no endpoint is recorded", || {
        let endpoints = host.client().endpoints();
        if endpoints.is_empty() { Ok(()) } else { Err(endpoints) }
    });
}

#[test]
fn a_request_with_the_same_key_is_the_same_request() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    let create = CreateNetwork::named("app");
    let key = |key| With { idempotency_key: Some(key), ..With::default() };
    let app = netd.call_with(&create, key("n1")).unwrap();
    assert_eq!(netd.call_with(&create, key("n1")).unwrap(), app);
    assert_eq!(kind_of(netd.call_with(&create, key("n2"))).0, Kind::Exists);
    assert_eq!(kind_of(netd.call(&create)).0, Kind::Exists);

    let web = world.container("web");
    let attach = web.to("app");
    let endpoint = with_key(&mut netd, &attach, Some("e1")).unwrap();
    let before = host.snapshot();
    assert_eq!(with_key(&mut netd, &attach, Some("e1")).unwrap(), endpoint);
    assert_eq!(kind_of(with_key(&mut netd, &attach, Some("e2"))).0, Kind::Exists);
    assert_eq!(kind_of(with_key(&mut netd, &attach, None)).0, Kind::Exists);
    host.kill();
    host.start();
    let mut netd = host.client();
    assert_eq!(with_key(&mut netd, &attach, Some("e1")).unwrap(), endpoint, "after a restart");
    assert_eq!(netd.call_with(&create, key("n1")).unwrap(), app);
    host.snapshot().same_as(&before).unwrap();
    netd.detach("web");
    let next = with_key(&mut netd, &attach, Some("e1")).unwrap();
    assert_ne!(next.id, endpoint.id, "the key went with what it had made");
}

#[test]
fn what_is_not_done_by_its_deadline_is_undone() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let before = (host.snapshot(), Snapshot::of(&web.netns));
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    for _ in 0..20 {
        let with = With { deadline: Some(Duration::ZERO), ..With::default() };
        let (kind, error) = kind_of(netd.call_with(&attach, with));
        assert_eq!(kind, Kind::Unavailable, "{error}");
        assert_eq!(error.operands.get("deadline_ms"), Some(&json!(0)));
    }
    for deadline in [1, 1, 1, 2, 2, 3, 3, 4, 5, 6] {
        let with = With { deadline: Some(Duration::from_millis(deadline)), ..With::default() };
        match netd.call_with(&attach, with) {
            // It was done in time.
            Ok(endpoint) => assert_eq!(netd.detach("web").endpoints, [endpoint.id]),
            Err(error) => assert_eq!(error.kind, Kind::Unavailable, "{error}"),
        }
    }
    eventually("nothing is left", || {
        host.snapshot().same_as(&before.0)?;
        let links = web.netns.json("ip -j link").as_array().map_or(0, Vec::len);
        if links == 1 { Ok(()) } else { Err(vec![format!("{links} links in the container")]) }
    });
    forgotten(&host);
    assert_eq!(netd.status().sandboxes, 0);
    assert!(netd.pools().iter().all(|pool| pool.leased == 0));
    netd.attach(&attach);
}

#[test]
fn an_attach_whose_caller_has_gone_is_undone() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let before = host.snapshot();
    let web = world.container("web");
    let mut gone = host.client();
    let line = Request::new(1, &web.to("app")).to_line();
    gone.notify(&line, &[]).unwrap();
    drop(gone);
    eventually("it has been undone", || {
        let log = host.log();
        if log.contains("caller went away") { Ok(()) } else { Err(log) }
    });
    eventually("nothing is left", || host.snapshot().same_as(&before));
    forgotten(&host);
}

#[test]
fn who_asks_again_for_what_a_caller_left_behind_keeps_it() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let attach = web.to("app");
    for round in 0..10 {
        let key = format!("e{round}");
        let mut request = Request::new(1, &attach);
        request.idempotency_key = Some(key.as_str());
        let mut gone = host.client();
        // It is served by now, so that its request comes first.
        gone.status();
        gone.notify(&request.to_line(), &[]).unwrap();
        drop(gone);
        let endpoint = with_key(&mut netd, &attach, Some(&key)).unwrap();
        assert_eq!(netd.detach("web").endpoints, [endpoint.id], "round {round}");
    }
}

#[test]
fn what_happens_is_told_to_subscribers() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let mut follower = host.client();
    follower.call(&Subscribe {}).unwrap();
    let app = netd.create("app");
    let mut web = world.container("web");
    let endpoint = netd.attach(&web.to("app"));
    netd.detach("web");
    let again = netd.attach(&web.to("app"));
    web.netns.kill();
    let expected = [
        ("network", "create", app.id.as_str()),
        ("endpoint", "attach", endpoint.id.as_str()),
        ("endpoint", "detach", endpoint.id.as_str()),
        ("endpoint", "attach", again.id.as_str()),
        ("endpoint", "vanish", again.id.as_str()),
    ];
    let mut told: Vec<Event> = Vec::new();
    while told.len() < expected.len() {
        let line: Value = serde_json::from_str(&follower.next_line().unwrap()).unwrap();
        assert_eq!(line["method"], "event");
        let event: Event = serde_json::from_value(line["params"].clone()).unwrap();
        if ["network", "endpoint"].contains(&event.object.as_str()) {
            told.push(event);
        }
    }
    let told: Vec<_> =
        told.iter().map(|e| (e.object.as_str(), e.action.as_str(), e.id.as_str())).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_batch_answers_each_of_its_members() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let line = concat!(
        r#"[{"jsonrpc":"2.0","id":"v","method":"system.version"},"#,
        r#"{"jsonrpc":"2.0","method":"system.gc"},"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"network.burn"},17]"#,
        "\n"
    );
    let answer: Value = serde_json::from_str(&netd.exchange(line, &[]).unwrap()).unwrap();
    let ids: Vec<_> = answer.as_array().unwrap().iter().map(|reply| &reply["id"]).collect();
    assert_eq!(ids, [&json!("v"), &json!(2), &Value::Null]);
    assert_eq!(answer[0]["result"]["protocols"], json!([1]));
    assert_eq!(answer[1]["error"]["data"]["kind"], "unsupported");
    assert_eq!(answer[2]["error"]["code"], -32600);
    // Notifications alone have no answer: the next one is that to the next line.
    netd.notify("[{\"jsonrpc\":\"2.0\",\"method\":\"system.gc\"}]\n", &[]).unwrap();
    netd.status();
}

#[test]
fn a_sticky_container_has_its_address_again() {
    let world = World::new();
    let config = "reuse_delay = 0".to_owned();
    let options = netd_tests::HostOptions { config, ..Default::default() };
    let mut host = world.host_with("a", options);
    let mut netd = host.client();
    netd.create("app");
    let (web, other) = (world.container("web"), world.container("other"));
    let mut attach = web.to("app");
    attach.sticky = true;
    let first = netd.attach(&attach).addresses;
    netd.detach("web");
    let other_ip = netd.attach(&other.to("app")).addresses;
    assert_ne!(other_ip, first, "it is kept for the other");
    assert_eq!(netd.attach(&attach).addresses, first);
    netd.detach("web");
    host.kill();
    host.start();
    let mut netd = host.client();
    // A container of the same name is the same one to those who ask by name.
    let next = world.container("next");
    let mut attach = next.to("app");
    attach.sticky = true;
    attach.container.name = Some("web".parse().unwrap());
    assert_eq!(netd.attach(&attach).addresses, first);
}

#[test]
fn an_address_is_not_given_to_the_next_at_once() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let mut seen = Vec::new();
    for n in 0..5 {
        let container = world.container(&format!("c{n}"));
        let address = netd.attach(&container.to("app")).addresses[0];
        assert!(!seen.contains(&address), "{address} again after {seen:?}");
        seen.push(address);
        netd.detach(&container.name);
    }
    let pools = netd.pools();
    let app = pools.iter().find(|pool| pool.network_name.as_str() == "app").unwrap();
    assert_eq!((app.leased, app.quarantined), (0, 5));
}
