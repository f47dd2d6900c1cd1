//! Newer runtimes than this distribution's: Debian's next one, as `make test-runtimes` lays it out
//! below `target`, entered as a machine's own root.

use std::path::Path;

use netd_tests::{Host, Machine, Namespace, World, docker_of};

use crate::{
    docker::{self, Place},
    docker_cli::{self, SOCKET},
    podman_netd::{Way, comes_in_a_crowd, has_the_default_and_a_macvlan, lives},
    site::{Plugins, Site},
};

/// Where `make test-runtimes` lays it out.
const NEWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/runtimes/trixie");

/// A machine of the newer distribution.
fn newer(world: &World, name: &str, netns: &Namespace) -> Machine {
    let newer = Path::new(NEWER).canonicalize();
    let newer = newer.unwrap_or_else(|_| panic!("{NEWER}: `make test-runtimes` puts it there"));
    world.machine_of(name, netns, &newer)
}

/// A site on it, for Podman.
fn site() -> Site {
    let site = Site::with(Plugins::Ours, newer);
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

/// A place on it, for dockerd.
fn place() -> Place {
    let place = Place::with(newer);
    let version = place.machine.run(&["dockerd", "--version"]);
    assert!(version.success().starts_with("Docker version 26."), "{version:?}");
    place
}

#[test]
#[ignore = "make test-runtimes"]
fn containers_of_docker_26_live_on_netd_through_restarts() {
    docker::lives(place());
}

#[test]
#[ignore = "make test-runtimes"]
fn a_docker_26_that_is_ended_in_order_finds_its_networks_again() {
    docker::is_ended_in_order(place());
}

#[test]
#[ignore = "make test-runtimes"]
fn docker_26_and_netd_may_be_killed_at_once() {
    docker::is_killed_with_netd(place());
}

#[test]
#[ignore = "make test-runtimes"]
fn a_network_that_is_there_is_shared_with_docker_26() {
    docker::shares_a_network(&place());
}

/// A host, and a machine with a command line that speaks 1.45 of the API.
fn cli(world: &World) -> (Host, Machine) {
    let host = docker_cli::host(world);
    let machine = newer(world, "a", &host.netns);
    let version = docker_of(&machine, SOCKET, &["version", "--format", "{{.Client.APIVersion}}"]);
    assert_eq!(version.success(), "1.45\n");
    (host, machine)
}

#[test]
#[ignore = "make test-runtimes"]
fn the_network_commands_of_docker_26_work_unchanged() {
    let world = World::new();
    let (host, machine) = cli(&world);
    docker_cli::network_works_unchanged(&world, &host, |words| docker_of(&machine, SOCKET, words));
}

#[test]
#[ignore = "make test-runtimes"]
fn the_events_of_docker_26_work_unchanged() {
    let world = World::new();
    let (host, machine) = cli(&world);
    docker_cli::events_work_unchanged(&world, &host, |words| docker_of(&machine, SOCKET, words));
}

#[test]
#[ignore = "make test-runtimes"]
fn the_rules_are_read_by_the_newer_nft() {
    let world = World::new();
    let netns = world.namespace();
    let machine = newer(&world, "a", &netns);
    let read = ["sh", "-c", "printf %s \"$1\" | nft -f -", "sh", kernel::firewall::BASE];
    assert_eq!(machine.run(&read).success(), "");
    let tables = machine.run(&["nft", "list", "tables"]);
    assert_eq!(tables.success(), "table inet netd\n");
}
