//! Podman with netavark's protocol: netd as a plugin and in netavark's place, as a person installs it.

use std::{collections::BTreeSet, net::IpAddr, process::Stdio};

use netd_tests::{Executed, Podman, eventually};
use serde_json::Value;

use crate::site::{Plugins, Site};

/// How Podman comes to netd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the driver of a network.
    Plugin,
    /// By the name of netavark.
    DropIn,
}

impl Way {
    fn podman(self, site: &Site) -> Podman<'_> {
        let words: &[&str] = if self == Self::DropIn { &["--drop-in"] } else { &[] };
        Podman::with_netd(&site.machine, words)
    }

    /// A network as it is made this way.
    #[track_caller]
    fn network(self, podman: &Podman<'_>, name: &str, words: &[&str]) {
        let driver: &[&str] = if self == Self::Plugin { &["-d", "netd-bridge"] } else { &[] };
        podman.execute(&[&["network", "create"], driver, words, &[name]].concat()).success();
    }
}

const CURL: [&str; 4] = ["curl", "-sS", "--max-time", "5"];

/// What a new container on a network gets from a place, once it gets anything.
#[track_caller]
fn fetches(podman: &Podman<'_>, network: &str, place: &str, greeting: &str) {
    let url = format!("http://{place}/");
    eventually("a container is answered", || {
        let executed = podman.run(&["--rm", "--network", network], &[&CURL[..], &[&url]].concat());
        if executed.stdout == format!("I am {greeting}\n") { Ok(()) } else { Err(executed) }
    });
}

/// What netd has, by name.
fn networks(site: &Site) -> Vec<String> {
    let listed =
        site.host.netctl(&["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"]);
    listed.success().lines().map(str::to_owned).collect()
}

fn inspected(site: &Site, network: &str) -> Value {
    let shown = site.host.netctl(&["network", "inspect", network]);
    let shown: Value = serde_json::from_str(shown.success()).unwrap();
    shown[0].clone()
}

/// A life: ports, aliases, two networks, reload, and nothing left.
pub(crate) fn lives(site: &Site, way: Way) {
    let podman = way.podman(site);
    let before = site.host.snapshot();
    way.network(&podman, "app", &[]);
    way.network(&podman, "back", &[]);
    let web = ["--network", "app:alias=www", "-p", "8080:80"];
    podman.serve("web", &web);
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    site.greeted(&site.host.netns, "127.0.0.1:8080", "web");
    let address = podman.address("web", "app");
    for place in ["web", "www", &address.to_string(), "192.0.2.1:8080"] {
        fetches(&podman, "app", place, "web");
    }
    // Who is on the network by other means is found, and finds.
    let serve = "mkdir /tmp/native; echo I am native >/tmp/native/index.html; \
                 exec busybox httpd -f -p 80 -h /tmp/native";
    let run = ["run", "--network", "app", "--name", "native", "--", "sh", "-c", serve];
    let mut native = site.host.netctl_command(&run).stdout(Stdio::null()).spawn().unwrap();
    fetches(&podman, "app", "native", "native");
    let asks = ["run", "--network", "app", "--"];
    let asked = site.host.netctl(&[&asks[..], &CURL, &["http://www/"]].concat());
    assert_eq!(asked.success(), "I am web\n");
    native.kill().unwrap();
    native.wait().unwrap();
    // Isolated from each other, and one container on both.
    podman.serve("both", &["--network", "app", "--network", "back"]);
    fetches(&podman, "back", "both", "both");
    fetches(&podman, "app", "both", "both");
    let url = format!("http://{address}/");
    let across = podman.run(&["--rm", "--network", "back"], &["curl", "-m", "1", &url]);
    assert_ne!(across.code, 0, "{across:?}");
    let inside = podman.execute(&["exec", "both", "curl", "-sS", "--max-time", "5", "http://web/"]);
    assert_eq!(inside.success(), "I am web\n");
    podman.execute(&["network", "disconnect", "app", "both"]).success();
    assert!(site.host.netns.pings(podman.address("both", "back")));
    podman.execute(&["network", "connect", "app", "both"]).success();
    fetches(&podman, "app", "both", "both");
    // What is laid anew is as it was.
    podman.execute(&["network", "reload", "web", "both"]).success();
    assert_eq!(podman.address("web", "app"), address);
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    fetches(&podman, "app", "www", "web");
    podman.execute(&["restart", "--time", "0", "web"]).success();
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["rm", "--force", "--time", "0", "web", "both"]).success();
    site.bare();
    if way == Way::Plugin {
        assert_eq!(podman.prune(), "", "Podman has them");
    }
    podman.execute(&["network", "rm", "back"]).success();
    if way == Way::Plugin {
        // Nobody tells a plugin that its network is gone.
        assert_eq!(networks(site), ["app", "back"]);
        assert_eq!(podman.prune(), "back\n");
    }
    podman.execute(&["network", "rm", "app"]).success();
    if way == Way::Plugin {
        assert_eq!(podman.prune(), "app\n");
    }
    assert_eq!(networks(site), [""; 0]);
    eventually("the host is as it was", || before.same_as(&site.host.snapshot()));
}

/// Many at once: each has an address of its own, and none is left.
pub(crate) fn comes_in_a_crowd(site: &Site, way: Way, count: usize) {
    let podman = way.podman(site);
    way.network(&podman, "app", &[]);
    crowds(site, &podman, count);
}

/// The same on a network `app` that is there.
pub(crate) fn crowds(site: &Site, podman: &Podman<'_>, count: usize) {
    let start = |n: usize| {
        let name = format!("c{n}");
        let options = ["--detach", "--name", &name, "--network", "app"];
        let mut command = podman.run_command(&options, &["sleep", "infinity"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<_> = (0..count).map(start).collect();
    for child in started {
        Executed::from(child.wait_with_output().unwrap()).success();
    }
    let shown = inspected(site, "app");
    let containers = shown["Containers"].as_object().unwrap();
    let address = |one: &Value| one["IPv4Address"].as_str().unwrap().to_owned();
    let addresses: BTreeSet<_> = containers.values().map(address).collect();
    assert_eq!(addresses.len(), count, "{containers:?}");
    let last = format!("c{}", count - 1);
    let asked = podman.execute(&["exec", "c0", "getent", "ahostsv4", &last]);
    let address = podman.address(&last, "app").to_string();
    assert!(asked.success().starts_with(&address), "{asked:?}");
    podman.execute(&["rm", "--all", "--force", "--time", "0"]).success();
    site.bare();
}

#[test]
fn an_unchanged_podman_lives_on_netd() {
    lives(&Site::new(Plugins::Ours), Way::DropIn);
}

#[test]
fn thirty_containers_of_an_unchanged_podman_come_at_once() {
    comes_in_a_crowd(&Site::new(Plugins::Ours), Way::DropIn, 30);
}

#[test]
fn podman_and_netd_have_a_half_of_a_subnet_each() {
    let site = Site::new(Plugins::Ours);
    let podman = Way::DropIn.podman(&site);
    podman.execute(&["network", "create", "--subnet", "10.83.1.0/24", "app"]).success();
    podman.serve("web", &["--network", "app"]);
    let native = site.host.netctl(&["run", "--network", "app", "--", "ip", "-4", "-o", "address"]);
    assert!(native.success().contains("10.83.1.128/24"), "{native:?}");
    let shown = inspected(&site, "app");
    assert_eq!(shown["IPAM"]["Config"][0]["IPRange"], "10.83.1.128/25");
    assert_eq!(shown["Labels"]["netavark/addresses"], "10.83.1.0/25");
    assert_eq!(podman.address("web", "app"), "10.83.1.2".parse::<IpAddr>().unwrap());
}

/// The network that Podman has unasked, and its other driver.
pub(crate) fn has_the_default_and_a_macvlan(site: &Site) {
    let podman = Way::DropIn.podman(site);
    podman.serve("plain", &["-p", "8081:80"]);
    site.greeted(&site.lan, "192.0.2.1:8081", "plain");
    assert_eq!(inspected(site, "podman")["Driver"], "bridge");
    let lan =
        ["network", "create", "-d", "macvlan", "-o", "parent=lan0", "--subnet", "192.0.2.0/24"];
    podman.execute(&[&lan[..], &["lan"]].concat()).success();
    podman.serve("near", &["--network", "lan", "--ip", "192.0.2.50"]);
    assert_eq!(inspected(site, "lan")["Driver"], "macvlan");
    site.greeted(&site.lan, "192.0.2.50:80", "near");
    podman.execute(&["rm", "--all", "--force", "--time", "0"]).success();
    site.bare();
    assert_eq!(networks(site), [""; 0]);
}

#[test]
fn the_default_network_and_a_macvlan_are_netds() {
    has_the_default_and_a_macvlan(&Site::new(Plugins::Ours));
}

#[test]
fn what_netd_does_not_do_is_refused_in_a_sentence() {
    let site = Site::new(Plugins::Ours);
    let podman = Way::DropIn.podman(&site);
    for (number, words, sentence) in [
        (1, &["-o", "vlan=7"][..], "the option vlan=7 is not to be had"),
        (2, &["-o", "isolate=false"], "networks of netd are isolated from each other"),
        (3, &["-d", "macvlan", "-o", "parent=lan0"], "takes no addresses by DHCP"),
        (4, &["-d", "ipvlan", "-o", "parent=lan0", "--subnet", "10.83.4.0/24"], "\"ipvlan\""),
    ] {
        let name = format!("n{number}");
        let create = [&["network", "create"], words, &[&name]].concat();
        if podman.execute(&create).code != 0 {
            // This Podman does not know the word itself.
            continue;
        }
        let refused = podman.run(&["--rm", "--network", &name], &["true"]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(refused.stderr.contains(sentence), "{refused:?}");
    }
    site.bare();
    assert_eq!(networks(&site), [""; 0]);
}

#[test]
fn a_container_goes_while_netd_is_away() {
    let mut site = Site::new(Plugins::Ours);
    let Site { machine, host, .. } = &mut site;
    let podman = Podman::with_netd(machine, &["--drop-in"]);
    podman.serve("web", &["-p", "8080:80"]);
    host.kill();
    let refused = podman.run(&["--rm"], &["true"]);
    assert!(refused.code != 0 && refused.stderr.contains("is netd running"), "{refused:?}");
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    host.start();
    eventually("it is gone", || {
        match host.client().call(&cnm::endpoint::ListEndpoints::default()) {
            Ok(list) if list.endpoints.is_empty() => Ok(()),
            other => Err(other),
        }
    });
}

#[test]
fn who_is_not_root_has_the_distributions_own() {
    let site = Site::new(Plugins::Ours);
    let podman = Way::DropIn.podman(&site);
    let shown = |program: &str, words: &[&str]| {
        let executed = site.machine.run(&[&[program], words].concat());
        executed.success().to_owned()
    };
    let own = podman.helpers().join("netavark").display().to_string();
    let theirs = shown("/usr/lib/podman/netavark", &["version"]);
    assert_eq!(shown(&own, &["--config", "/run/n", "--rootless=true", "version"]), theirs);
    assert_ne!(shown(&own, &["--config", "/run/n", "--rootless=false", "version"]), theirs);
    let info = podman.execute(&["info", "--format", "json"]);
    let info: Value = serde_json::from_str(info.success()).unwrap();
    assert_eq!(info["host"]["networkBackend"], "netavark");
    // And taken away again, everything is the distribution's.
    podman.netctl(&["uninstall"]).success();
    assert!(!podman.helpers().exists());
    let before = site.host.snapshot();
    podman.run(&["--rm"], &["true"]).success();
    before.same_as(&site.host.snapshot()).unwrap();
}

#[test]
fn a_network_of_netds_is_podmans_as_well() {
    let site = Site::new(Plugins::Ours);
    let podman = Way::DropIn.podman(&site);
    site.host.netctl(&["network", "create", "--subnet", "10.83.1.0/24", "app"]).success();
    podman.execute(&["network", "create", "app"]).success();
    // Podman's choice of a subnet is not netd's.
    podman.serve("web", &["--network", "app", "-p", "8080:80"]);
    assert_eq!(podman.address("web", "app"), "10.83.1.2".parse::<IpAddr>().unwrap());
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    fetches(&podman, "app", "web", "web");
    let native = site.host.netctl(&["run", "--network", "app", "--", "curl", "-sS", "http://web/"]);
    assert_eq!(native.success(), "I am web\n");
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.bare();
    assert_eq!(networks(&site), ["app"], "it was netd's before");
    // One that was said is neither.
    podman.execute(&["network", "rm", "app"]).success();
    podman.execute(&["network", "create", "--subnet", "10.84.1.0/24", "app"]).success();
    let refused = podman.run(&["--rm", "--network", "app"], &["true"]);
    let sentence =
        "netd has a network app already, with 10.83.1.0/24, and Podman's app has 10.84.1.0/24";
    assert!(refused.code != 0 && refused.stderr.contains(sentence), "{refused:?}");
}

#[test]
fn podman_gives_half_of_what_netd_had_first() {
    let site = Site::new(Plugins::Ours);
    let podman = Way::DropIn.podman(&site);
    // Podman takes no subnet that the host has by then.
    podman.execute(&["network", "create", "--subnet", "10.83.1.0/24", "app"]).success();
    site.host.netctl(&["network", "create", "--subnet", "10.83.1.0/24", "app"]).success();
    let mut addresses = BTreeSet::new();
    for n in 0..5 {
        let name = format!("c{n}");
        podman.serve(&name, &["--network", "app"]);
        addresses.insert(podman.address(&name, "app").to_string());
        let run = ["run", "--network", "app", "--", "ip", "-4", "-o", "address", "show", "eth0"];
        let native = site.host.netctl(&run);
        let native = native.success().split_whitespace().nth(3).unwrap().to_owned();
        assert!(native.starts_with("10.83.1.1"), "the upper half: {native}");
        addresses.insert(native);
    }
    assert_eq!(addresses.len(), 10, "{addresses:?}");
    let shown = inspected(&site, "app");
    assert_eq!(shown["IPAM"]["Config"][0]["IPRange"], "10.83.1.128/25");
    assert_eq!(shown["Labels"]["netavark/addresses"], "10.83.1.0/25");
    assert_eq!(podman.prune(), "", "Podman has it");
    podman.execute(&["rm", "--all", "--force", "--time", "0"]).success();
    podman.execute(&["network", "rm", "app"]).success();
    assert_eq!(podman.prune(), "app: addresses of 10.83.1.0/25 are netd's again\n");
    let shown = inspected(&site, "app");
    assert!(shown["IPAM"]["Config"][0].get("IPRange").is_none(), "{shown}");
    site.bare();
}
