//! Real container runtimes on netd and, with the same words, on the reference plugins: what their
//! containers reach is what counts.
//!
//! The runtimes are Debian's packages. Each test has a machine of its own for them
//! (`netd_tests::Machine`); one that is not installed fails its tests.

#![expect(clippy::unwrap_used, reason = "what tests share is a part of them")]

mod chains;
mod containerd;
mod docker;
mod docker_bridge;
mod docker_cli;
mod docker_names;
mod every;
mod podman;
mod podman_before;
mod podman_netd;
mod podman_ports;
mod runtimes;
mod site;
mod together;
