//! The driver against the kernel, seen with iproute2, nft and real traffic.

#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

mod ipv6;
mod lifecycle;
mod scale;
mod traffic;
mod world;
