//! The driver against the kernel, seen with iproute2, nft and real traffic.

mod lifecycle;
mod world;
