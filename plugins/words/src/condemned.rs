//! What one driver leaves for another to step over: host ends that wait for the reaper of the driver
//! that made them. Their containers have been told that they are gone, so whoever finds one in the
//! way, of whichever driver, takes it away at once.

use kernel::{
    Errno, Result,
    links::{self, Link},
    netlink::{Batch, Socket},
    netns::Netns,
};

/// The link group of the bridge driver's.
pub const BRIDGE: u32 = 0x6e65_7465;
/// The link group of the overlay driver's.
pub const OVERLAY: u32 = 0x6e65_7481;

/// What the names of all host ends begin with.
pub const PREFIX: &str = "nd";

/// Whether a link is a host end that waits for a reaper.
pub fn is_condemned(link: &Link) -> bool {
    [BRIDGE, OVERLAY].contains(&link.group)
        && link.kind.as_deref() == Some("veth")
        && link.name.starts_with(PREFIX)
}

/// Whether an attach failed for what may be in its way.
pub fn may_be_why(error: &cnm::Error) -> bool {
    error.operands.get("errno").is_some_and(|errno| *errno == Errno::EEXIST as i32)
}

/// Takes all pairs away that wait for a reaper with their other end in `netns`: that has a name or a
/// way, such as the default route, that another interface is to have. `socket` is one of `home`,
/// which has the host ends.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel refuses.
pub fn clear(socket: &mut Socket, home: &Netns, netns: &Netns) -> Result<()> {
    let mut batch = Batch::new();
    for link in netns.inside(home, || links::all(&mut Socket::route()?))?? {
        let Some(peer) = link.peer else { continue };
        let host = links::by_index(socket, peer)?.filter(|host| host.peer == Some(link.index));
        if let Some(host) = host.filter(is_condemned) {
            links::delete(&mut batch, &host.name);
        }
    }
    // The reaper may be faster.
    socket.run_but(&[Errno::ENODEV], batch, |_| ()).map(drop)
}
