//! netd as its users meet it: the built executables, real namespaces, real traffic.
//!
//! Each test has a machine of its own (`netd_tests::World`) and is named after what it proves.

#![expect(clippy::unwrap_used, reason = "what tests share is a part of them")]

mod bridge;
mod cni;
mod crashes;
mod crowd;
mod drivers;
mod growing;
mod handover;
mod hardship;
mod isolation;
mod limits;
mod macvlan;
mod many;
mod names;
mod neighbours;
mod plugin;
mod ports;
mod predefined;
mod publish;
mod refusals;
mod requests;
mod restarts;
mod running;
mod showing;
mod upstreams;
mod vanishing;
mod ways;
