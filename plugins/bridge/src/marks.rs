//! By what the links and rules of a driver's bridges are known as its own after any crash. Each
//! driver that makes bridges has marks of its own, so that none sweeps away what is another's.

use kernel::{guard::Blocks, links::Link};
use words::condemned;

use crate::shape::DETOUR_PREFIX;

pub use words::condemned::PREFIX;

/// The link groups (`IFLA_GROUP`) of a driver, and its name in the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The driver.
    pub driver: &'static str,
    /// The group of its bridges and of the host ends of its pairs.
    pub owned: u32,
    /// The group of host ends that wait for the reaper.
    pub condemned: u32,
    /// The blocks of filters of its host ends.
    pub blocks: Blocks,
    /// Whose its elements of the firewall are; those of the bridge driver say nothing.
    pub owner: Option<&'static str>,
}

impl Marks {
    /// Those of the bridge driver ("netd" in ASCII).
    pub const BRIDGE: Self = Self {
        driver: "bridge",
        owned: 0x6e65_7464,
        condemned: condemned::BRIDGE,
        blocks: Blocks { speakers: 0x6e65_7464, no_ipv6: 0x6e65_7466 },
        owner: None,
    };

    /// Whether a link is a bridge of the driver's own.
    pub fn is_bridge(&self, link: &Link) -> bool {
        link.group == self.owned && link.kind.as_deref() == Some("bridge")
    }

    /// Whether a link is the host end of a pair of the driver's own, condemned or not.
    pub fn is_end(&self, link: &Link) -> bool {
        [self.owned, self.condemned].contains(&link.group)
            && link.kind.as_deref() == Some("veth")
            && link.name.starts_with(PREFIX)
    }

    /// Whether a link is the host end of a pair of the driver's own that is in use, whatever somebody
    /// has called it.
    pub fn is_port(&self, link: &Link) -> bool {
        link.group == self.owned && link.kind.as_deref() == Some("veth")
    }

    /// Whether a link is one of the driver's own over which what a container sends makes a detour,
    /// condemned or not.
    pub fn is_detour(&self, link: &Link) -> bool {
        [self.owned, self.condemned].contains(&link.group)
            && link.kind.as_deref() == Some("ifb")
            && link.name.starts_with(DETOUR_PREFIX)
    }

    /// Whether a link waits for the driver's reaper.
    pub fn is_condemned(&self, link: &Link) -> bool {
        link.group == self.condemned && (self.is_end(link) || self.is_detour(link))
    }
}
