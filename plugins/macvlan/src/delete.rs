//! Deleting a container's macvlan. The kernel takes it off under its lock, in less than a
//! millisecond: from then on it hears and says nothing, and its name and its addresses are free.
//! Only then, without the lock, it waits for an RCU grace period (10 to 30 ms) until the memory may
//! go (`netdev_run_todo`, net/core/dev.c). That waiting is left to a thread.
//!
//! A link of another namespace cannot be made unreachable before: setting it down waits as well, and
//! no message changes the mode of a macvlan in a namespace that is not the socket's own.

use std::{
    sync::mpsc::{self, TryRecvError},
    thread,
};

use kernel::{
    Result,
    links::Link,
    macvlan,
    netlink::{Batch, Socket},
};

use crate::apply::gone_is_done;

/// Deletes a macvlan of the namespace of this id; it is off when this ends. One that is gone is no
/// failure.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn delete(socket: &mut Socket, nsid: i32, link: &Link) -> Result<()> {
    let index = link.index;
    let mut batch = Batch::new();
    macvlan::delete_within(&mut batch, nsid, link);
    let mut own = Socket::route_small()?;
    let (done, outcome) = mpsc::channel();
    thread::Builder::new()
        .name("delete".to_owned())
        .stack_size(128 << 10)
        // Nobody listens any more who has seen that it is off.
        .spawn(move || drop(done.send(own.run(batch).or_else(gone_is_done))))
        .map_err(|error| kernel::Error::io("start", "a thread", &error))?;
    loop {
        // A list waits for the lock, so there are few.
        let there = macvlan::within(socket, Some(nsid))?;
        if there.iter().all(|found| found.link.index != index) {
            return Ok(());
        }
        match outcome.try_recv() {
            Ok(outcome) => return outcome,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => thread::yield_now(),
        }
    }
}
