//! Bridge networks: one bridge per network, one veth pair per endpoint, one firewall for all.
//!
//! [`plan`] says what is to be done, purely; the driver does it. What is stored, allocated or
//! decided is netd's; this crate is told.

mod apply;
mod attach;
mod coexist;
mod desired;
mod door;
mod driver;
mod inside;
mod marks;
mod modes;
mod options;
pub mod plan;
mod publish;
mod reaper;
mod renamed;
mod resize;
mod shape;
mod shards;
mod sysctls;
mod undone;
mod uninstall;
mod watch;

pub use desired::{Port, Segment, local_mac, tunnel_link};
pub use driver::Bridge;
pub use marks::{Marks, PREFIX};
pub use modes::Mode;
pub use options::{HAIRPIN, MASQUERADE, SPOOF_CHECK, SYSCTLS};
pub use reaper::Pace;
pub use shape::{DETOUR_PREFIX, Limits, detour_of};
