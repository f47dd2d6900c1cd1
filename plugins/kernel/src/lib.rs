//! What netd's drivers share of the kernel: netlink batches, network namespaces, links, nftables
//! elements and the firewall that they make up. It knows no protocol and no daemon, blocks, keeps
//! its sockets, and holds the project's only `unsafe`.

pub mod conntrack;
mod error;
pub mod firewall;
pub mod links;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod routes;
pub mod sysctl;

pub use error::{Error, Result};
pub use nix::errno::Errno;
