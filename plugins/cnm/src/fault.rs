//! Places where a process can be made to die, so that tests can prove that nothing is lost there.
//!
//! With `NETD_FAULTS` naming a directory, a process that comes to a point of which the directory
//! holds a file takes the file away and ends itself with `SIGKILL`. Without it a point costs one
//! load.

use std::{env, fs, path::PathBuf, sync::OnceLock};

use nix::sys::signal::{Signal, raise};

/// Every point, in the order in which an attach and a detach come to them; the crash tests visit
/// each.
pub const POINTS: &[&str] = &[
    "front.attach.before-call",
    "netd.attach.before-intent",
    "netd.attach.after-intent",
    "bridge.attach.before-veth",
    "bridge.attach.after-veth",
    "bridge.attach.after-limits",
    "bridge.attach.after-config",
    "bridge.attach.after-elements",
    "netd.attach.after-driver",
    "netd.attach.after-record",
    "front.attach.before-answer",
    "front.detach.before-call",
    "netd.detach.before-record",
    "netd.detach.after-record",
    "bridge.detach.before-elements",
    "bridge.detach.after-elements",
    "bridge.detach.after-condemn",
    "netd.detach.after-driver",
    "front.detach.before-answer",
    "bridge.reap.before-delete",
    "bridge.reap.after-delete",
    "macvlan.attach.before-link",
    "macvlan.attach.after-link",
    "macvlan.attach.after-config",
    "macvlan.attach.after-routes",
    "macvlan.detach.before-routes",
    "macvlan.detach.after-routes",
    "macvlan.detach.after-link",
    "cluster.leave.after-asked",
    "cluster.leave.after-member",
    "cluster.leave.after-rows",
    "cluster.leave.after-told",
    "cluster.leave.after-etcd",
];

/// Dies here if a test asked for it.
pub fn point(name: &'static str) {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    debug_assert!(POINTS.contains(&name), "{name} is missing in POINTS");
    let Some(directory) = DIRECTORY.get_or_init(|| env::var_os("NETD_FAULTS").map(Into::into))
    else {
        return;
    };
    if fs::remove_file(directory.join(name)).is_ok() {
        raise(Signal::SIGKILL).expect("a process may end itself");
    }
}
