//! Bridge networks: one bridge per network, one veth pair per endpoint, one firewall for all.
//!
//! [`plan`] says what is to be done, purely; the driver does it. What is stored, allocated or
//! decided is netd's; this crate is told.

mod apply;
mod attach;
mod desired;
mod driver;
mod inside;
pub mod plan;
mod reaper;
mod refusal;

pub use desired::{Port, Segment};
pub use driver::Bridge;
pub use reaper::Pace;

/// The link group of netd's bridges and of the host ends of its pairs, by which they are known as
/// netd's own after any crash (`IFLA_GROUP`; "netd" in ASCII).
pub const OWNED: u32 = 0x6e65_7464;

/// The link group, in place of [`OWNED`], of host ends whose container has no IPv6: the firewall
/// lets none through to it.
pub const OWNED_WITHOUT_IPV6: u32 = kernel::firewall::WITHOUT_IPV6;

/// The link group of host ends that wait for the reaper.
pub const CONDEMNED: u32 = OWNED + 1;

/// What the names of all host ends begin with.
pub const PREFIX: &str = "nd";
