//! What a cluster is: who belongs to it, what is written about it and where, and how the hosts
//! come to one decision. The store holds all of it; managers write what is shared, each node what
//! is its own.

pub mod client;
pub mod decide;
mod error;
pub mod etcd;
mod id;
pub mod identity;
pub mod keys;
pub mod liveness;
pub mod messages;
pub mod rows;
pub mod server;
pub mod token;

pub use decide::Decider;
pub use error::{Error, Holder, Result, says_removed};
pub use id::{ClusterId, InvalidId, NodeId};
pub use identity::{Authority, Identity};
pub use keys::{Key, Layout};
pub use rows::Role;
pub use token::Token;
