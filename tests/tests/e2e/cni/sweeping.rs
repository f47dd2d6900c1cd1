//! GC: what a runtime no longer knows goes, and nothing else.

use netd_tests::{Asking as _, Container, World};
use serde_json::{Value, json};

use super::runtime::{Attachment, config, host_local};

#[test]
fn what_a_runtime_no_longer_knows_goes() {
    let world = World::new();
    let host = world.host("a");
    let containers: Vec<Container> = (0..4).map(|n| world.container(&format!("c{n}"))).collect();
    let good = config("1.1.0", "pods", host_local("10.91.0.0/24"));
    let add = || {
        for container in &containers {
            Attachment::new(&host, world.programs(), container).run("ADD", &good);
        }
        Attachment::new(&host, world.programs(), &containers[0]).named("eth1").run("ADD", &good);
    };
    let del = || {
        for container in &containers {
            let attachment = Attachment::new(&host, world.programs(), container);
            attachment.run("DEL", &good);
            attachment.named("eth1").run("DEL", &good);
        }
    };
    let mine = world.container("mine");
    let other = world.container("other");
    let elsewhere = config("1.1.0", "elsewhere", host_local("10.92.0.0/24"));
    Attachment::new(&host, world.programs(), &other).run("ADD", &elsewhere);
    let gc = |key: &str, valid: Value| {
        let mut config = good.clone();
        config[key] = valid;
        // As libcni does it: all the rest is empty.
        let attachment = Attachment::new(&host, world.programs(), &mine);
        let (id, netns, ifname) = Default::default();
        Attachment { id, netns, ifname, ..attachment }.run("GC", &config);
    };
    let left = || {
        let endpoints = host.client().endpoints();
        endpoints.iter().filter(|e| e.network_name.as_str() == "pods").count()
    };
    add();
    host.client().attach(&mine.to("pods"));

    gc("nothing", Value::Null);
    assert_eq!(left(), 6, "who says nothing frees nothing");
    let valid = |container: &Container, ifname: &str| json!({"containerID": container.id, "ifname": ifname});
    gc(
        "cni.dev/valid-attachments",
        json!([valid(&containers[0], "eth1"), valid(&containers[1], "eth0")]),
    );
    let endpoints = host.client().endpoints();
    let kept: Vec<_> = endpoints
        .iter()
        .filter(|e| e.network_name.as_str() == "pods" && e.labels.contains_key("cni"))
        .map(|e| (e.container.id.as_str(), e.ifname.as_str()))
        .collect();
    let mut wanted = vec![(containers[0].id.as_str(), "eth1"), (containers[1].id.as_str(), "eth0")];
    wanted.sort_unstable();
    assert_eq!(kept, wanted);
    for empty in [json!([]), Value::Null] {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            del();
            add();
            gc(key, empty.clone());
            assert_eq!(left(), 1, "only who is no runtime's of this kind");
        }
    }
    assert!(host.client().endpoints().iter().any(|e| e.network_name.as_str() == "elsewhere"));
    gc("cni.dev/valid-attachments", json!([]));
    let mut unknown = good.clone();
    unknown["name"] = json!("nobody");
    unknown["cni.dev/valid-attachments"] = json!([]);
    Attachment::new(&host, world.programs(), &mine).run("GC", &unknown);
}

#[test]
fn many_go_at_once() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let good = config("1.1.0", "pods", json!({}));
    let attachment = Attachment::new(&host, world.programs(), &web);
    for n in 0..60 {
        attachment.named(&format!("eth{n}")).run("ADD", &good);
    }
    let mut gc = good.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": web.id, "ifname": "eth7"}]);
    attachment.run("GC", &gc);
    let left = host.client().endpoints();
    assert_eq!(left.iter().map(|e| e.ifname.as_str()).collect::<Vec<_>>(), ["eth7"]);
}
