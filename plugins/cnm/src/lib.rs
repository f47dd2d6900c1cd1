//! The container network model as messages.
//!
//! Everything that crosses a process boundary in netd is defined here, once: JSON-RPC 2.0, one
//! document per line, the same on a driver's standard input and on netd's socket. The text of the
//! protocol is `docs/protocol.md`; the types below are its only implementation.
//!
//! ```
//! use cnm::{Call, Request, network::CreateNetwork};
//!
//! let create = CreateNetwork::named("app");
//! let line = Request::new(1, &create).to_line();
//! assert_eq!(CreateNetwork::METHOD, "network.create");
//! assert!(line.starts_with(r#"{"jsonrpc":"2.0","id":1,"method":"network.create""#));
//! ```

pub mod bandwidth;
pub mod client;
pub mod cluster;
pub mod cni;
pub mod decode;
pub mod dns;
pub mod docker;
pub mod driver;
pub mod endpoint;
mod error;
pub mod events;
pub mod fault;
pub mod frame;
mod id;
pub mod ipam;
mod message;
pub mod methods;
mod name;
mod netavark;
pub mod network;
pub mod options;
pub mod peers;
pub mod plugin;
pub mod sandbox;
pub mod split;
pub mod system;

pub use error::{Error, Kind, Result};
pub use id::{EndpointId, InvalidId, NetworkId};
pub use message::{Batch, Call, Empty, Incoming, Reply, Request, RequestId};
pub use name::{ContainerId, IfName, InvalidMac, InvalidName, MacAddr, Name};

/// The version of the protocol that these types speak.
pub const PROTOCOL: u32 = 1;

/// Where netd listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/netd/netd.sock";
