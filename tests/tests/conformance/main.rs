//! `netctl cni conformance`, tried on plugins of which it is known what is wrong with them.

#![expect(clippy::unwrap_used, reason = "what tests share is a part of them")]

mod mutants;
mod ours;
mod reference;
mod suite;
