//! What runs on the distribution's netavark when netd takes its place, and on netd when it leaves it.

use netd_tests::{Podman, eventually};

use crate::site::{Plugins, Site};

/// Everything that iptables and nftables hold, as far as it is not netd's.
fn rules(site: &Site) -> String {
    let saved = site.machine.run(&["sh", "-c", "iptables-save; nft list tables"]);
    saved.success().to_owned()
}

#[test]
fn what_ran_before_netd_was_in_netavarks_place_leaves_nothing() {
    let site = Site::new(Plugins::Ours);
    let podman = Podman::unchanged(&site.machine);
    podman.execute(&["network", "create", "app"]).success();
    podman.serve("old", &["--network", "app", "-p", "8080:80"]);
    podman.serve("older", &["-p", "8081:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "old");
    let installed = podman.netctl(&["install", "--drop-in"]);
    installed.success();
    for name in ["old", "older"] {
        assert!(installed.stderr.contains(name), "{installed:?}");
    }
    assert!(rules(&site).contains("--dport 8080"), "{}", rules(&site));
    podman.execute(&["rm", "--force", "--time", "0", "old", "older"]).success();
    let left = rules(&site);
    assert!(!left.contains("--dport 808"), "{left}");
    site.bare();
    // The same again is netd's, and the port leads there.
    podman.serve("new", &["--network", "app", "-p", "8080:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "new");
    let shown = site.host.netctl(&["endpoint", "ls"]);
    assert!(shown.success().contains("new"), "{shown:?}");
    podman.execute(&["rm", "--force", "--time", "0", "new"]).success();
    site.bare();
}

#[test]
fn what_runs_on_netd_when_it_leaves_netavarks_place_leaves_nothing() {
    let site = Site::new(Plugins::Ours);
    let podman = Podman::with_netd(&site.machine, &["--drop-in"]);
    let before = site.host.snapshot();
    podman.execute(&["network", "create", "app"]).success();
    podman.serve("web", &["--network", "app", "-p", "8080:80"]);
    let refused = podman.netctl(&["uninstall"]);
    assert!(refused.code != 0 && refused.stderr.contains("web"), "{refused:?}");
    assert!(podman.helpers().join("netavark").exists(), "nothing is half done");
    let forced = podman.netctl(&["uninstall", "--force"]);
    assert!(forced.code == 0 && forced.stderr.contains("web"), "{forced:?}");
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["rm", "--force", "--time", "0", "web"]);
    eventually("netd has let go of it", || {
        let listed = site.host.netctl(&["endpoint", "ls", "-q"]);
        if listed.stdout.is_empty() { Ok(()) } else { Err(listed) }
    });
    // The network is Podman's still, by another driver: what netd has of it goes with the last who was on it.
    eventually("the host is as it was", || before.same_as(&site.host.snapshot()));
    podman.serve("web", &["--network", "app", "-p", "8080:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
}
