//! The machine that a test has for itself.

use std::{
    cell::Cell,
    env,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{Container, Host, HostOptions, Machine, Namespace, namespace};

/// A machine of the test's own: no links but `lo`, and nothing in `/run`.
#[derive(Debug)]
pub struct World {
    programs: PathBuf,
}

impl World {
    /// Leaves the machine. A test calls it first, before it starts any thread or process.
    ///
    /// # Panics
    /// When the test is not root, or netd has not been built: such a test has to fail, since one
    /// that is passed over proves nothing.
    #[expect(clippy::new_without_default, reason = "it changes the process")]
    pub fn new() -> Self {
        let mut world = Self::bare();
        world.programs = programs();
        world
    }

    /// As [`World::new`], for a test that starts nothing of netd.
    ///
    /// # Panics
    /// When the test is not root.
    pub fn bare() -> Self {
        thread_local!(static LEFT: Cell<bool> = const { Cell::new(false) });
        assert!(!LEFT.replace(true), "a test has one world");
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .expect("these tests need root: they make namespaces");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("a mount namespace can be made private");
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .expect("a tmpfs can be mounted");
        // As systemd has it: who has a mount namespace of his own sees what is mounted there.
        mount(none, "/run", none, MsFlags::MS_SHARED, none).expect("it is a mount point");
        namespace::run("ip link set lo up");
        Self { programs: PathBuf::new() }
    }

    /// A host of this name on which netd runs.
    pub fn host(&self, name: &str) -> Host {
        self.host_with(name, HostOptions::default())
    }

    /// As [`World::host`], with netd told otherwise.
    pub fn host_with(&self, name: &str, options: HostOptions) -> Host {
        Host::new(name, &self.programs, options)
    }

    /// A network namespace with nothing in it.
    pub fn namespace(&self) -> Namespace {
        Namespace::new()
    }

    /// A machine of this name on which runtimes work, in a network namespace.
    ///
    /// # Panics
    /// When one of the programs that it is made with is missing.
    #[track_caller]
    pub fn machine(&self, name: &str, netns: &Namespace) -> Machine {
        Machine::new(name, netns, &self.programs)
    }

    /// As [`World::machine`], with another distribution than this one, which lies in a directory.
    ///
    /// # Panics
    /// When it cannot be entered.
    #[track_caller]
    pub fn machine_of(&self, name: &str, netns: &Namespace, distribution: &Path) -> Machine {
        Machine::of_another(name, netns, &self.programs, distribution)
    }

    /// A container of this name, on no network.
    pub fn container(&self, name: &str) -> Container {
        Container::new(name)
    }

    /// Where netd's executables are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }
}

/// `NETD_BIN`, or where `make build` and `cargo build` put the executables.
fn programs() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target");
    let places = match env::var_os("NETD_BIN") {
        Some(given) => vec![PathBuf::from(given)],
        None => vec![target.join("dist"), target.join("debug")],
    };
    let wanted = [
        "netd",
        "netctl",
        "netd-bridge",
        "netd-host",
        "netd-macvlan",
        "netd-none",
        "netd-overlay",
        "netd-relay",
    ];
    let complete = |place: &&PathBuf| wanted.iter().all(|name| place.join(name).is_file());
    places.iter().find(complete).cloned().unwrap_or_else(|| {
        panic!("{wanted:?} are not all in {places:?}: `make build` puts them there")
    })
}
