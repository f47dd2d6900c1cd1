//! Newer runtimes than this distribution's: Debian's next one, as `make test-runtimes` lays it out
//! below `target`, entered as a machine's own root.

use std::path::Path;

use crate::{
    podman_netd::{Way, comes_in_a_crowd, has_the_default_and_a_macvlan, lives},
    site::{Plugins, Site},
};

/// Where `make test-runtimes` lays it out.
const NEWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/runtimes/trixie");

/// A site whose machine is of the newer distribution.
fn site() -> Site {
    let site = Site::with(Plugins::Ours, |world, name, netns| {
        let newer = Path::new(NEWER).canonicalize();
        let newer = newer.unwrap_or_else(|_| panic!("{NEWER}: `make test-runtimes` puts it there"));
        world.machine_of(name, netns, &newer)
    });
    let version = site.machine.run(&["podman", "--version"]);
    assert!(version.success().starts_with("podman version 5."), "{version:?}");
    site
}

#[test]
#[ignore = "make test-runtimes"]
fn podman_5_lives_on_the_plugin() {
    lives(&site(), Way::Plugin);
}

#[test]
#[ignore = "make test-runtimes"]
fn podman_5_lives_on_netd_unchanged() {
    lives(&site(), Way::DropIn);
}

#[test]
#[ignore = "make test-runtimes"]
fn thirty_containers_of_podman_5_come_to_the_plugin_at_once() {
    comes_in_a_crowd(&site(), Way::Plugin, 30);
}

#[test]
#[ignore = "make test-runtimes"]
fn thirty_containers_of_podman_5_come_unchanged_at_once() {
    comes_in_a_crowd(&site(), Way::DropIn, 30);
}

#[test]
#[ignore = "make test-runtimes"]
fn the_default_network_and_a_macvlan_of_podman_5_are_netds() {
    has_the_default_and_a_macvlan(&site());
}
