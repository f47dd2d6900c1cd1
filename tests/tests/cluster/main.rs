//! Many hosts as one: netd on each, one etcd, real traffic over a real underlay.
//!
//! Each test has a machine of its own (`netd_tests::World`) and is named after what it proves.

#![expect(clippy::unwrap_used, reason = "what tests share is a part of them")]

mod addresses;
mod another;
mod availability;
mod away;
mod beginning;
mod certificates;
mod cut;
mod docker;
mod etcd;
mod faults;
mod fleet;
mod full;
mod growing;
mod joining;
mod leaving;
mod liveness;
mod managed;
mod managers;
mod many;
mod mended;
mod names;
mod namesakes;
mod outside;
mod paths;
mod pruning;
mod reach;
mod refusals;
mod removed;
mod restarts;
mod routed;
mod six;
