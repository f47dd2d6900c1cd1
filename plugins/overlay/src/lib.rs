//! Networks over many hosts. On each host a network is a bridge network (the crate `netd-bridge`
//! makes it) with one port more: a VXLAN device, whose tables say which host has which endpoint.
//! Nothing in them is learned and nobody is asked: netd says what there is elsewhere.
//!
//! [`plan`] and [`table`] say what is to be done, purely; the driver does it.

mod apply;
mod driver;
mod gathered;
pub mod plan;
pub mod table;
mod tunnel;
mod undone;

pub use driver::Overlay;
pub use tunnel::Tunnel;

/// By what the bridges of these networks and the host ends on them are known as the driver's own.
pub const MARKS: netd_bridge::Marks = netd_bridge::Marks {
    driver: "overlay",
    owned: 0x6e65_7480,
    blocks: kernel::guard::Blocks { speakers: 0x6e65_7480, no_ipv6: 0x6e65_7482 },
    condemned: words::condemned::OVERLAY,
    owner: Some("overlay"),
};

/// The link group of netd's VXLAN devices, by which they are known as its own after any crash.
pub const TUNNELS: u32 = 0x6e65_7483;

/// Whose the firewall's elements about VXLAN and the cluster's nodes are.
pub const OWNER: &str = "tunnels";

/// The first of the numbers of nexthops that are of a netd of before: a node had two, one for itself and one for the
/// group of it.
pub const NEXTHOPS: u32 = 0x6e00_0000;

/// What VXLAN puts around a frame, in bytes: an Ethernet header within, VXLAN's, UDP's and IP's.
pub fn overhead(vtep: std::net::IpAddr) -> u32 {
    14 + 8 + 8 + if vtep.is_ipv4() { 20 } else { 40 }
}
