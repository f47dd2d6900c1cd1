//! The overlay driver by itself: hosts as namespaces on one underlay, each with a session of
//! `netd-overlay` that is told on its standard input what netd would tell it.

#![expect(clippy::unwrap_used, reason = "what tests share is a part of them")]

mod changes;
mod cluster;
mod guard;
mod lifecycle;
mod scale;
mod session;
mod traffic;
