//! Addresses for containers: pools with ranges, reservations and exclusions, leases that are
//! automatic, sticky or static, and subnets for networks that name none. IPv4 and IPv6 alike.
//!
//! The crate is pure. It opens nothing, stores nothing and reads no clock: the caller says what
//! time it is ([`Moment`]), writes leases and sticky addresses where they outlive it, and puts them
//! back after a restart.
//!
//! ```
//! use ipam::{Moment, Pool, PoolConfig, choose_subnet, default_pools};
//!
//! // A subnet beside what the host has, with its first address for the gateway.
//! let taken = ["10.76.0.0/16".parse()?, "0.0.0.0/0".parse()?];
//! let subnet = choose_subnet(&default_pools(), &taken)?;
//! assert_eq!(subnet.to_string(), "10.77.0.0/24");
//! let config = PoolConfig { gateway: Some("10.77.0.1".parse()?), ..PoolConfig::new(subnet) };
//! let mut pool = Pool::new(config.clone())?;
//!
//! // Any address, an address for a name, and one of the caller's choice.
//! assert_eq!(pool.allocate(Moment(0))?.to_string(), "10.77.0.2");
//! let web = pool.allocate_sticky("web", Moment(1))?;
//! assert_eq!(web.to_string(), "10.77.0.3");
//! pool.allocate_static("10.77.0.200".parse()?, Moment(2))?;
//! pool.release(web, Moment(3));
//!
//! // After a restart everything is as before, and `web` gets its address again.
//! let mut restarted = Pool::new(config)?;
//! for lease in pool.leases() {
//!     restarted.restore(lease)?;
//! }
//! for (owner, address) in pool.sticky() {
//!     restarted.restore_sticky(owner, address)?;
//! }
//! assert_eq!(restarted.allocate_sticky("web", Moment(0))?, web);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not stored anywhere is which addresses wait for their reuse delay and where the search for the
//! next free one goes on; see [`Pool::restore`].

mod config;
mod error;
mod free;
mod pool;
mod quarantine;
mod reserved;
mod span;
mod sticky;
mod subnet;

pub use config::PoolConfig;
pub use error::{AddressRole, Edge, Error, Kind, NetworkRole};
pub use pool::{Pool, Utilisation};
pub use quarantine::Moment;
pub use subnet::{DefaultPool, choose_subnet, choose_ula, default_pools, overlaps};
