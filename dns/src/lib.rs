//! Names on container networks: who is called what, and what to tell a container that asks.
//!
//! The crate is four layers, each ignorant of the next one's business:
//!
//! 1. [`Names`] holds who is called what on which network, as an immutable [`Snapshot`] that a
//!    change replaces. A change costs O(log n) however many names there are.
//! 2. [`answer`](answer()) decides about one packet: pure, bytes in and an [`Outcome`] out.
//! 3. [`Server`] owns the sockets and one thread.
//! 4. Forwarding relays what is not ours to other servers, in bounded time.
//!
//! ```
//! use dns::{Asker, At, Member, Names, Outcome, Transport, Zone};
//!
//! let names = Names::new();
//! names.network_up("n1", Zone { name: "app".into(), ..Zone::default() });
//! names.publish("n1", Member {
//!     endpoint: "e1".into(),
//!     container: "c1".into(),
//!     names: ["web".into()].into(),
//!     addresses: ["10.0.0.2".parse().unwrap()].into(),
//!     ..Member::default()
//! });
//!
//! // id 7, recursion desired, one question: web. A IN
//! let query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";
//! let asker = Asker { at: At::Network("n1".into()), source: "10.0.0.2".parse().unwrap() };
//! let Outcome::Reply(reply) = dns::answer(&names.load(), &asker, query, Transport::Udp, 0) else {
//!     unreachable!("the name is ours");
//! };
//! assert!(reply.ends_with(&[10, 0, 0, 2]));
//! ```

mod answer;
mod error;
mod explain;
mod forward;
mod limits;
mod names;
mod question;
mod reply;
mod reverse;
mod server;
mod special;
mod upstreams;
mod view;

pub use answer::{Asker, At, Outcome, Transport, answer};
pub use error::Error;
pub use explain::{Explained, packet};
pub use forward::{Pressure, Standing};
pub use limits::check_name;
pub use names::{
    Change, DEFAULT_DOMAIN, DEFAULT_TTL, Member, Names, NetworkKey, Port, Prepared, Protocol,
    Snapshot, Stub, Zone,
};
#[cfg(any(test, feature = "fuzz"))]
pub use question::readings_agree;
#[cfg(any(test, feature = "fuzz"))]
pub use server::converse;
pub use server::tally::{By, Count};
pub use server::{Counters, Options, Server};
pub use special::{check_domain, check_free, check_stub};
pub use upstreams::Upstreams;
