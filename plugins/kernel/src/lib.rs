//! What netd's drivers share of the kernel: netlink batches, network namespaces, links, nftables
//! elements and the firewall that they make up. It knows no protocol and no daemon, blocks, keeps
//! its sockets, and holds the project's only `unsafe`.

pub mod announce;
mod bpf;
pub mod bridge_port;
pub mod conntrack;
pub mod direct;
mod error;
pub mod fdb;
pub mod firewall;
pub mod guard;
pub mod host_routes;
pub mod links;
pub mod loopback;
pub mod macvlan;
pub mod neighbours;
pub mod netlink;
pub mod netns;
pub mod nexthop;
pub mod nft;
pub mod resolver;
pub mod routes;
pub mod shaping;
pub mod sysctl;
mod traffic;
pub mod vxlan;

pub use error::{Error, Result};
pub use nix::errno::Errno;
