//! Ports that Podman publishes while the relay is there for another's: Podman holds its ports itself, so
//! the relay has them where Podman does not, and nowhere else.

use std::process::{Child, Stdio};

use netd_tests::{Executed, Podman};

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

#[test]
fn what_podman_holds_the_relay_leaves_to_it() {
    let site = Site::new(Plugins::Ours);
    let podman = Podman::with_netd(&site.machine, &["--drop-in"]);
    let native = Native::at_9090(&site);
    let relay = native.holder("[::1]:9090").unwrap();
    assert_eq!(relay.0, "netd-relay");
    podman.execute(&["network", "create", "--ipv6", "six"]).success();

    let [four, loopback, six] = ["192.0.2.1", "127.0.0.1", "[2001:db8::1]"];
    let [all, any_four, any_six] = ["8080:80", "0.0.0.0:8080:80", "[::]:8080:80"];
    // What is published, where it answers, and who has it at [::1].
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Option<&'a str>);
    let cases: [Case<'_>; 8] = [
        ("podman", &[all], &[loopback, four, "[::1]"], Some("netd-relay")),
        ("podman", &["127.0.0.1:8080:80"], &[loopback], None),
        ("podman", &[all, any_six], &[loopback, four], Some("conmon")),
        ("podman", &[all, "[::1]:8080:80"], &[loopback, four], Some("conmon")),
        ("six", &[all], &[loopback, four, six, "[::1]"], Some("netd-relay")),
        ("six", &[any_six], &[six], Some("conmon")),
        ("six", &[any_four, any_six], &[loopback, four, six], Some("conmon")),
        ("six", &[all, "[::1]:8080:80"], &[loopback, four, six], Some("conmon")),
    ];
    // The next has the port that the one before has just had, and is there at once.
    for (round, (network, ports, places, holder)) in cases.into_iter().enumerate() {
        let name = format!("web{round}");
        let mut options = vec!["--network", network];
        ports.iter().for_each(|port| options.extend(["-p", *port]));
        podman.serve(&name, &options);
        for place in places {
            let at = format!("{place}:8080");
            site.greeted(&site.host.netns, &at, &name);
            if *place != loopback && *place != "[::1]" {
                site.greeted(&site.lan, &at, &name);
            }
        }
        for place in [loopback, four, six, "[::1]"] {
            if !places.contains(&place) {
                is_silent(&site, &format!("{place}:8080"));
            }
        }
        let at_loopback = native.holder("[::1]:8080").or_else(|| native.holder("[::]:8080"));
        assert_eq!(at_loopback.as_ref().map(|(name, _)| name.as_str()), holder, "{ports:?}");
        podman.execute(&["rm", "--force", "--time", "0", &name]).success();
    }
    // Of Podman's ports there, one cannot be led on: that is said, each time.
    for network in ["podman", "six"] {
        let refused = podman.run(&["--network", network, "-p", "[::1]:8080:80"], &["true"]);
        assert!(refused.stderr.contains("leave the address out"), "{refused:?}");
    }
    site.greeted(&site.host.netns, "[::1]:9090", "native");
    assert_eq!(native.holder("[::1]:9090"), Some(relay), "it is the same all along");
    let log = site.host.log();
    let told = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(told("the relay is started"), 1, "{log}");
    assert_eq!(told("not relayed"), 0, "{log}");
}
