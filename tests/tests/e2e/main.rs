//! netd as its users meet it: the built executables, real namespaces, real traffic.
//!
//! Each test has a machine of its own (`netd_tests::World`) and is named after what it proves.

#![expect(clippy::unwrap_used, reason = "what tests share is a part of them")]

mod astray;
mod beside;
mod bridge;
mod called;
mod changing;
mod cni;
mod compose;
mod crashes;
mod crowd;
mod docker_api;
mod docker_plugin;
mod drivers;
mod drop_in;
mod greedy;
mod growing;
mod handover;
mod hardship;
mod holders;
mod hook;
mod inside;
mod ipv6;
mod isolation;
mod kept;
mod limits;
mod macvlan;
mod many;
mod meaning;
mod modes;
mod moved;
mod names;
mod neighbours;
mod netavark;
mod nobody;
mod options;
mod others;
mod plugin;
mod ports;
mod predefined;
mod publish;
mod refusals;
mod repair;
mod requests;
mod reserving;
mod restarts;
mod running;
mod second;
mod shards;
mod shared;
mod showing;
mod speaking;
mod taken;
mod unfit;
mod uninstalling;
mod updating;
mod uplink;
mod uplinks;
mod upstreams;
mod vanishing;
mod ways;
