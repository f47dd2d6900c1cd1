//! Ports that Podman publishes while the relay is there for another's: Podman holds its ports itself, so
//! the relay has them where Podman does not, and nowhere else.

use std::process::{Child, Stdio};

use netd_tests::{Executed, Podman};
use serde_json::json;

use crate::site::{Plugins, Site};

/// Somebody of netd's own, for whose port at `[::1]` the relay is there.
struct Native<'a> {
    site: &'a Site,
    run: Child,
}

impl<'a> Native<'a> {
    #[track_caller]
    fn at_9090(site: &'a Site) -> Self {
        site.host.netctl(&["network", "create", "own"]).success();
        let serve = "d=$(mktemp -d); echo I am native >$d/index.html; \
                     exec busybox httpd -f -p 80 -h $d";
        let run = ["run", "--network", "own", "-p", "9090:80", "--", "sh", "-c", serve];
        let run = site.host.netctl_command(&run).stdout(Stdio::null()).spawn().unwrap();
        let native = Self { site, run };
        site.greeted(&site.host.netns, "[::1]:9090", "native");
        native
    }

    /// Who listens there, as `ss` tells: a program and its pid.
    fn holder(&self, place: &str) -> Option<(String, u32)> {
        let listed = self.site.host.netns.run(&format!("ss -Htlpn src {place}"));
        let name = listed.split('"').nth(1)?.to_owned();
        Some((name, listed.split("pid=").nth(1)?.split(',').next()?.parse().ok()?))
    }
}

impl Drop for Native<'_> {
    fn drop(&mut self) {
        drop(self.run.kill());
        drop(self.run.wait());
    }
}

/// Nobody is answered there, since there is nobody, or since Podman takes it and says nothing.
#[track_caller]
fn is_silent(site: &Site, place: &str) {
    let line = format!("curl -sS --noproxy * --max-time 1 http://{place}/");
    let executed = Executed::from(site.host.netns.output(&line));
    assert_ne!(executed.code, 0, "{place}: {executed:?}");
}

/// What is published on a network, where it answers, and who has it at `[::1]`.
type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Option<&'a str>);

const FOUR: &str = "192.0.2.1";
const LOOPBACK: &str = "127.0.0.1";
const SIX: &str = "[2001:db8::1]";
const LOOPBACK_6: &str = "[::1]";

const ALL: &str = "8080:80";
const ANY_FOUR: &str = "0.0.0.0:8080:80";
const ANY_SIX: &str = "[::]:8080:80";
const ONE_FOUR: &str = "127.0.0.1:8080:80";
const ONE_SIX: &str = "[::1]:8080:80";

/// Each of them, one after the other, while the relay is there for another's port.
#[track_caller]
fn leaves_what_is_held(site: &Site, podman: &Podman<'_>, cases: &[Case<'_>]) {
    let native = Native::at_9090(site);
    let relay = native.holder("[::1]:9090").unwrap();
    assert_eq!(relay.0, "netd-relay");
    // The next has the port that the one before has just had, and is there at once.
    for (round, (network, ports, places, holder)) in cases.iter().enumerate() {
        let name = format!("web{round}");
        let mut options = vec!["--network", network];
        ports.iter().for_each(|port| options.extend(["-p", *port]));
        podman.serve(&name, &options);
        for place in *places {
            let at = format!("{place}:8080");
            site.greeted(&site.host.netns, &at, &name);
            if [FOUR, SIX].contains(place) {
                site.greeted(&site.lan, &at, &name);
            }
        }
        for place in [LOOPBACK, FOUR, SIX, LOOPBACK_6] {
            if !places.contains(&place) {
                is_silent(site, &format!("{place}:8080"));
            }
        }
        let at_loopback = native.holder("[::1]:8080").or_else(|| native.holder("[::]:8080"));
        assert_eq!(at_loopback.as_ref().map(|(name, _)| name.as_str()), *holder, "{ports:?}");
        podman.execute(&["rm", "--force", "--time", "0", &name]).success();
    }
    // Of Podman's ports there, one cannot be led on: that is said, each time.
    for (network, ..) in cases {
        let refused = podman.run(&["--network", network, "-p", ONE_SIX], &["true"]);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(refused.code != 0 && said.contains("leave the address out"), "{refused:?}");
    }
    site.greeted(&site.host.netns, "[::1]:9090", "native");
    assert_eq!(native.holder("[::1]:9090"), Some(relay), "it is the same all along");
    let log = site.host.log();
    let told = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(told("the relay is started"), 1, "{log}");
    assert_eq!(told("not relayed"), 0, "{log}");
}

#[test]
fn what_podman_holds_the_relay_leaves_to_it() {
    let site = Site::new(Plugins::Ours);
    let podman = Podman::with_netd(&site.machine, &["--drop-in"]);
    podman.execute(&["network", "create", "--ipv6", "six"]).success();
    let cases: [Case<'_>; 8] = [
        ("podman", &[ALL], &[LOOPBACK, FOUR, LOOPBACK_6], Some("netd-relay")),
        ("podman", &[ONE_FOUR], &[LOOPBACK], None),
        ("podman", &[ALL, ANY_SIX], &[LOOPBACK, FOUR], Some("conmon")),
        ("podman", &[ALL, ONE_SIX], &[LOOPBACK, FOUR], Some("conmon")),
        ("six", &[ALL], &[LOOPBACK, FOUR, SIX, LOOPBACK_6], Some("netd-relay")),
        ("six", &[ANY_SIX], &[SIX], Some("conmon")),
        ("six", &[ANY_FOUR, ANY_SIX], &[LOOPBACK, FOUR, SIX], Some("conmon")),
        ("six", &[ALL, ONE_SIX], &[LOOPBACK, FOUR, SIX], Some("conmon")),
    ];
    leaves_what_is_held(&site, &podman, &cases);
}

#[test]
fn what_podman_holds_by_cni_the_relay_leaves_to_it() {
    let site = Site::new(Plugins::Ours);
    let mut six = site.interface("six", 1);
    let ranges = [[json!({"subnet": "10.83.1.0/24"})], [json!({"subnet": "fd00:83:1::/64"})]];
    six["ipam"]["ranges"] = json!(ranges);
    six["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    six["capabilities"] = json!({"portMappings": true});
    site.chain("six", &[six]);
    let podman = Podman::new(&site.machine);
    let cases: [Case<'_>; 4] = [
        ("six", &[ALL], &[LOOPBACK, FOUR, SIX, LOOPBACK_6], Some("netd-relay")),
        ("six", &[ONE_FOUR], &[LOOPBACK], None),
        ("six", &[ANY_SIX], &[SIX], Some("conmon")),
        ("six", &[ALL], &[LOOPBACK, FOUR, SIX, LOOPBACK_6], Some("netd-relay")),
    ];
    leaves_what_is_held(&site, &podman, &cases);
}
