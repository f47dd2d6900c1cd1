//! Macvlan networks: each container has a link of its own on a parent of the host's, with an
//! address of its own on the LAN behind it, and nothing in between.
//!
//! [`plan`] says what is to be done, purely; the driver does it. What is stored, allocated or
//! decided is netd's; this crate is told.

mod apply;
mod attach;
mod delete;
mod desired;
mod driver;
mod inside;
mod options;
pub mod plan;

pub use desired::{HostEnd, Parent, Port, Segment};
pub use driver::Macvlan;

/// The link group of everything that this driver makes, in whatever namespace, by which it is known
/// as netd's own after any crash (`IFLA_GROUP`; "netd" in ASCII).
pub const OWNED: u32 = 0x6e65_7464;

/// What the names of the host's own macvlans begin with.
pub const HOST_PREFIX: &str = "mh-";

/// What the names of macvlans begin with that are on the host for somebody to move them into a
/// container ([`cnm::EndpointId::delivered_name`]).
pub const DELIVERED_PREFIX: &str = "nc";

/// What the names of parents begin with that lead nowhere.
pub const NOWHERE_PREFIX: &str = "dm-";
