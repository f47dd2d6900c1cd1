//! Hosts, containers and their neighbours as namespaces of one process, and what a test asks of
//! them: commands, traffic, and the kernel's own account of what is there.
//!
//! A test begins with [`World::new`], which leaves the machine: what it mounts, starts and
//! configures from then on is its own and ends with it.

mod client;
mod containerd;
mod dockerd;
mod etcd;
mod eventually;
mod host;
mod machine;
mod namespace;
mod ping;
mod podman;
mod snapshot;
mod traffic;
mod world;

pub use client::{Asking, kind_of};
pub use containerd::Containerd;
pub use dockerd::{Dockerd, docker, docker_of};
pub use etcd::Etcd;
pub use eventually::{eventually, within};
pub use host::{Executed, Host, HostOptions, kill};
pub use machine::Machine;
pub use namespace::{Container, Namespace, output, run};
pub use ping::Ping;
pub use podman::Podman;
pub use snapshot::Snapshot;
pub use traffic::{Heard, one_address, udp_send};
pub use world::World;
