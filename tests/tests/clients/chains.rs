//! Plugins of others before and after ours in one list, executed by Podman.

use netd_tests::{Containerd, Executed, Podman};
use serde_json::json;

use crate::site::{Plugins, Site};

/// Runs a server with a published port, and a client, on a list of plugins.
fn works(plugins: Plugins, before: &[serde_json::Value], after: &[serde_json::Value]) -> Site {
    let site = Site::new(plugins);
    let chain = [before, &[site.interface("app", 1)], after].concat();
    site.chain("app", &chain);
    let podman = Podman::new(&site.machine);
    podman.serve("web", &["--network", "app", "-p", "8080:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    let mtu = podman.execute(&["exec", "web", "cat", "/sys/class/net/eth0/mtu"]);
    assert_eq!(mtu.success(), "1400\n", "the plugin after has not been there");
    let client = ["--rm", "--network", "app"];
    let fetch = ["curl", "-sS", "--max-time", "5", "http://192.0.2.1:8080/"];
    assert_eq!(podman.run(&client, &fetch).success(), "I am web\n");
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.bare();
    site
}

fn after() -> Vec<serde_json::Value> {
    vec![
        json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
        json!({ "type": "firewall" }),
        json!({ "type": "tuning", "mtu": 1400 }),
    ]
}

#[test]
fn others_come_after_ours() {
    works(Plugins::Ours, &[], &after());
}

#[test]
fn others_come_after_the_reference() {
    works(Plugins::Reference, &[], &after());
}

#[test]
fn others_come_before_ours() {
    works(Plugins::Ours, &[json!({ "type": "loopback" })], &after());
}

#[test]
fn containerd_runs_a_list_of_both() {
    let site = Site::new(Plugins::Ours);
    let loopback = json!({ "type": "loopback" });
    let tuning = json!({ "type": "tuning", "mtu": 1400 });
    site.chain("app", &[loopback, site.interface("app", 1), tuning]);
    let containerd = Containerd::start(&site.machine);
    let words = ["cat", "/sys/class/net/eth0/mtu"];
    let mtu = Executed::from(containerd.run("web", &words).output().unwrap());
    assert_eq!(mtu.success(), "1400\n");
    site.bare();
}
