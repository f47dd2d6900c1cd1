//! Work inside another network namespace.

use std::{fs::File, io, os::fd::AsFd as _, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Does something inside a namespace: on a thread of its own, so that nobody else ever finds one in
/// the wrong place.
pub(crate) fn inside<T: Send>(
    netns: &File,
    act: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let netns = netns.as_fd();
    thread::scope(|scope| {
        let acting = scope.spawn(move || {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
            act()
        });
        acting.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside has panicked")))
    })
}
