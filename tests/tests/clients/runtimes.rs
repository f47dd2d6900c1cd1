//! Newer runtimes than this distribution's: Debian's next releases, as `make test-runtimes` lays them out
//! below `target`, each entered as a machine's own root.

use std::path::Path;

use netd_tests::{Executed, Host, Machine, Namespace, World, docker_of};

use crate::{
    docker::{self, Place},
    docker_cli::{self, SOCKET},
    podman_netd::{Way, comes_in_a_crowd, has_the_default_and_a_macvlan, lives},
    site::{Plugins, Site},
};

/// Where `make test-runtimes` lays them out.
const NEWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/runtimes");

/// The first two numbers of a version.
type Version = (u32, u32);

/// A release, and which runtimes it has at least.
struct Release {
    /// Its name.
    name: &'static str,
    podman: Version,
    docker: Version,
    /// What its command line speaks of Docker's API.
    api: Version,
}

/// The version that somebody says to have.
#[track_caller]
fn version(said: &Executed) -> Version {
    let mut words = said.success().split(|c: char| c.is_whitespace() || c == ',');
    let numbers = words.find_map(|word| {
        let mut parts = word.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    });
    numbers.unwrap_or_else(|| panic!("{said:?}"))
}

impl Release {
    /// A machine of it.
    fn machine(&self, world: &World, name: &str, netns: &Namespace) -> Machine {
        let place = Path::new(NEWER).join(self.name);
        let there = place.canonicalize();
        let there =
            there.unwrap_or_else(|_| panic!("{place:?}: `make test-runtimes` puts it there"));
        world.machine_of(name, netns, &there)
    }

    /// A site on it, for Podman.
    fn site(&self) -> Site {
        let site = Site::with(Plugins::Ours, |world, name, netns| self.machine(world, name, netns));
        let there = version(&site.machine.run(&["podman", "--version"]));
        assert!(there >= self.podman, "{there:?}");
        site
    }

    /// A place on it, for dockerd.
    fn place(&self) -> Place {
        let place = Place::with(|world, name, netns| self.machine(world, name, netns));
        let there = version(&place.machine.run(&["dockerd", "--version"]));
        assert!(there >= self.docker, "{there:?}");
        place
    }

    /// A host, and a machine with its command line.
    fn cli(&self, world: &World) -> (Host, Machine) {
        let host = docker_cli::host(world);
        let machine = self.machine(world, "a", &host.netns);
        let asked = ["version", "--format", "{{.Client.APIVersion}}"];
        let there = version(&docker_of(&machine, SOCKET, &asked));
        assert!(there >= self.api, "{there:?}");
        (host, machine)
    }
}

macro_rules! on {
    ($release:ident, podman $podman:expr, docker $docker:expr, api $api:expr) => {
        mod $release {
            use super::*;

            const RELEASE: Release =
                Release { name: stringify!($release), podman: $podman, docker: $docker, api: $api };

            #[test]
            #[ignore = "make test-runtimes"]
            fn podman_lives_on_the_plugin() {
                lives(&RELEASE.site(), Way::Plugin);
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn podman_lives_on_netd_unchanged() {
                lives(&RELEASE.site(), Way::DropIn);
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn thirty_containers_of_podman_come_to_the_plugin_at_once() {
                comes_in_a_crowd(&RELEASE.site(), Way::Plugin, 30);
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn thirty_containers_of_podman_come_unchanged_at_once() {
                comes_in_a_crowd(&RELEASE.site(), Way::DropIn, 30);
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn the_default_network_and_a_macvlan_of_podman_are_netds() {
                has_the_default_and_a_macvlan(&RELEASE.site());
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn containers_of_docker_live_on_netd_through_restarts() {
                docker::lives(RELEASE.place());
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn a_docker_that_is_ended_in_order_finds_its_networks_again() {
                docker::is_ended_in_order(RELEASE.place());
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn docker_and_netd_may_be_killed_at_once() {
                docker::is_killed_with_netd(RELEASE.place());
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn a_network_that_is_there_is_shared_with_docker() {
                docker::shares_a_network(&RELEASE.place());
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn the_network_commands_of_docker_work_unchanged() {
                let world = World::new();
                let (host, machine) = RELEASE.cli(&world);
                let docker = |words: &[&str]| docker_of(&machine, SOCKET, words);
                docker_cli::network_works_unchanged(&world, &host, docker);
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn the_events_of_docker_work_unchanged() {
                let world = World::new();
                let (host, machine) = RELEASE.cli(&world);
                let docker = |words: &[&str]| docker_of(&machine, SOCKET, words);
                docker_cli::events_work_unchanged(&world, &host, docker);
            }

            #[test]
            #[ignore = "make test-runtimes"]
            fn the_rules_are_read_by_its_nft() {
                let world = World::new();
                let netns = world.namespace();
                let machine = RELEASE.machine(&world, "a", &netns);
                let read =
                    ["sh", "-c", "printf %s \"$1\" | nft -f -", "sh", kernel::firewall::BASE];
                assert_eq!(machine.run(&read).success(), "");
                let tables = machine.run(&["nft", "list", "tables"]);
                assert_eq!(tables.success(), "table inet netd\n");
            }
        }
    };
}

on!(trixie, podman(5, 4), docker(26, 1), api(1, 45));
on!(forky, podman(5, 8), docker(28, 5), api(1, 51));
