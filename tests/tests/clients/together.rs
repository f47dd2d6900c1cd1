//! Several runtimes on one of netd's networks, and netd away while they go on.

use std::{fs, process::Stdio};

use netd_tests::{Containerd, Executed, Podman, eventually};
use serde_json::Value;

use crate::site::{Plugins, Site};

#[test]
fn containers_of_three_runtimes_reach_each_other_by_name() {
    let site = Site::new(Plugins::Ours);
    let directory = site.machine.directory().join("net.d").display().to_string();
    // What netctl has written is what the runtimes read.
    let created = ["network", "create", "--cni", "--cni-dir", &directory, "app"];
    site.host.netctl(&created).success();
    let network = site.host.netctl(&["network", "inspect", "app"]);
    let network: Value = serde_json::from_str(network.success()).unwrap();
    let gateway = network[0]["IPAM"]["Config"][0]["Gateway"].as_str().unwrap();
    // `ctr` leaves the resolver to whoever runs it.
    let resolv = format!("{}/etc/resolv.conf", site.machine.root());
    fs::write(resolv, format!("nameserver {gateway}\n")).unwrap();

    let podman = Podman::new(&site.machine);
    podman.serve("web", &["--network", "app"]);
    let serve = "mkdir /tmp/native; echo I am native >/tmp/native/index.html; \
                 exec busybox httpd -f -p 80 -h /tmp/native";
    let run = ["run", "--network", "app", "--name", "native", "--", "sh", "-c", serve];
    let mut native = site.host.netctl_command(&run).stdout(Stdio::null()).spawn().unwrap();

    let containerd = Containerd::start(&site.machine);
    for server in ["web", "native"] {
        let url = format!("http://{server}/");
        let curl = ["curl", "-sS", "--max-time", "5", &url];
        let greeting = format!("I am {server}\n");
        let greeted = |executed: Executed| {
            if executed.stdout == greeting { Ok(()) } else { Err(executed) }
        };
        eventually("podman's container reaches it", || {
            greeted(podman.run(&["--rm", "--network", "app"], &curl))
        });
        eventually("containerd's container reaches it", || {
            greeted(containerd.run("client", &curl).output().unwrap().into())
        });
        eventually("netctl's container reaches it", || {
            greeted(site.host.netctl(&[&["run", "--network", "app", "--"], &curl[..]].concat()))
        });
    }
    native.kill().unwrap();
    native.wait().unwrap();
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.bare();
}

#[test]
fn a_container_is_removed_while_netd_is_away() {
    let mut site = Site::new(Plugins::Ours);
    site.network("app", 1);
    let podman = Podman::new(&site.machine);
    podman.serve("web", &["--network", "app", "-p", "8080:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    site.host.kill();
    // What is there goes on, what is new is refused in words.
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    let refused = podman.run(&["--rm", "--network", "app"], &["true"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("netd"), "{refused:?}");
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.host.start();
    site.bare();
    podman.serve("next", &["--network", "app", "-p", "8080:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "next");
}

#[test]
fn a_container_that_is_killed_is_forgotten() {
    let site = Site::new(Plugins::Ours);
    site.network("app", 1);
    let containerd = Containerd::start(&site.machine);
    let words = ["sleep", "infinity"];
    Executed::from(containerd.detach("web", &words).output().unwrap()).success();
    let listed = site.host.netctl(&["endpoint", "ls", "--json"]);
    assert!(listed.success().contains("default-web"), "{listed:?}");
    // Nobody says DEL after this.
    containerd.ctr(&["task", "kill", "--signal", "KILL", "web"]).success();
    eventually("netd has noticed", || {
        let listed = site.host.netctl(&["endpoint", "ls", "--json"]);
        let listed: Value = serde_json::from_str(listed.success()).unwrap();
        let endpoints = listed["endpoints"].as_array().unwrap().clone();
        if endpoints.is_empty() { Ok(()) } else { Err(endpoints) }
    });
    site.bare();
}
