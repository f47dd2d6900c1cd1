//! containerd, by `ctr run --cni`.

use std::net::IpAddr;

use netd_tests::{Containerd, eventually};
use serde_json::Value;

use crate::site::{Plugins, Site};

/// The address of a container, as it is inside.
#[track_caller]
fn address(site: &Site, containerd: &Containerd<'_>, id: &str) -> IpAddr {
    let tasks = containerd.ctr(&["task", "ls"]);
    let pid = tasks.success().lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(id)).then(|| words.next())?
    });
    let words = ["nsenter", "--target", pid.unwrap(), "--net", "ip", "-j", "address", "show"];
    let shown = site.machine.run(&[&words[..], &["dev", "eth0", "scope", "global"]].concat());
    let links: Value = serde_json::from_str(shown.success()).unwrap();
    links[0]["addr_info"][0]["local"].as_str().unwrap().parse().unwrap()
}

fn serves(plugins: Plugins) -> Site {
    let site = Site::new(plugins);
    site.network("app", 1);
    let containerd = Containerd::start(&site.machine);
    let web = containerd.serve("web");
    let place = address(&site, &containerd, "web");
    Site::within(place, 1);
    site.greeted(&site.host.netns, &place.to_string(), "web");
    let fetch = |id: &str, place: &str| {
        let url = format!("http://{place}/");
        let mut command = containerd.run(id, &["curl", "-sS", "--max-time", "5", &url]);
        netd_tests::Executed::from(command.output().unwrap())
    };
    let fetched = fetch("client", &place.to_string());
    assert_eq!(fetched.success(), "I am web\n");
    let other = containerd.serve("other");
    assert_ne!(address(&site, &containerd, "other"), place);
    containerd.end("other", other);
    site.greeted(&site.host.netns, &place.to_string(), "web");
    containerd.end("web", web);
    site.bare();
    eventually("nobody has the address", || {
        if site.host.netns.pings_in_vain(place) { Ok(()) } else { Err(place) }
    });
    drop(containerd);
    site
}

#[test]
fn containers_reach_each_other() {
    serves(Plugins::Ours);
}

#[test]
fn containers_reach_each_other_on_the_reference() {
    serves(Plugins::Reference);
}
