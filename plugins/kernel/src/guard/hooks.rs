//! The kernel looks for queues of filters only where there is any: with the last one on the machine it
//! takes the look out of its code, and with the next one it writes it in again, which holds all
//! processors up (`ingress_needed_key`, net/core/dev.c). A host's first endpoint, and each that comes
//! while there is no other, took 0.1 ms more for it. So there is always one, on the loopback of a
//! namespace that is nobody's.

use nix::sched::{CloneFlags, unshare};

use super::{INWARD, NEW};
use crate::{
    Error, Result, links,
    netlink::{Batch, Socket, append},
    traffic::{self, CLSACT, CLSACT_HANDLE, RTM_NEWQDISC, TCA_KIND},
};

/// Makes that queue, which lives as long as the socket.
///
/// # Errors
/// What the kernel refuses.
pub(super) fn keep() -> Result<Socket> {
    let made = std::thread::Builder::new().name("hooks".to_owned()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::call("make", "a network namespace", errno))?;
        let mut socket = Socket::route_small()?;
        let mut batch = Batch::new();
        let what = "of a namespace of netd's own".to_owned();
        batch.frame(RTM_NEWQDISC, NEW, "make the queue for filters", what, |bytes| {
            traffic::header(bytes, links::LOOPBACK, CLSACT_HANDLE, CLSACT, 0);
            append(bytes, TCA_KIND, INWARD);
        });
        socket.run(batch)?;
        Ok(socket)
    });
    let made = made.map_err(|error| Error::io("start", "a thread", &error))?;
    made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
