//! Containers whose end is their process's end: those in the host's own namespace, and sandboxes that
//! are kept for a process, which may have no endpoint by which the end of their namespace shows.

use std::{fs, rc::Rc};

use cnm::ContainerId;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

use crate::netd::Netd;

/// When a process started, in clock ticks since the boot (proc(5), field 22 of `stat`): with its
/// pid, what no other process has.
pub(crate) fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, in parentheses, may hold anything; what follows it are plain numbers.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether this process has `CAP_NET_ADMIN` (capabilities(7): bit 12 of `CapEff` in proc(5)).
pub(crate) fn may_administer_the_network() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|capabilities| capabilities & (1 << 12) != 0)
}

/// Waits for the end of a process; at once when it is another or none.
pub(crate) async fn ended(pid: u32, start: Option<u64>) -> std::io::Result<()> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let pidfd = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if started(pid).is_none_or(|now| start.is_some_and(|then| then != now)) {
        return Ok(());
    }
    #[expect(deprecated, reason = "an owned descriptor is kept as long as its registration")]
    let ending = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    ending.readable().await.map(drop)
}

impl Netd {
    /// Releases a container in the host's own namespace when its process ends, and keeps one elsewhere
    /// no longer then. When that is gone the namespace itself tells.
    pub(crate) fn watch_process(self: &Rc<Self>, container: &ContainerId) {
        let watched = {
            let registry = self.registry.borrow();
            let Some(entry) = registry.sandbox(container) else { return };
            let sandbox = &entry.record.sandbox;
            let own = sandbox.netns.is_some_and(|netns| netns.nsid.is_none());
            let pid = sandbox.container.pid.filter(|_| own || sandbox.kept);
            pid.map(|pid| (pid, entry.record.process_start, own))
        };
        let Some((pid, start, own)) = watched else { return };
        if !self.watched.borrow_mut().insert(container.clone()) {
            return;
        }
        let (netd, container) = (Rc::downgrade(self), container.clone());
        tokio::task::spawn_local(async move {
            let outcome = ended(pid, start).await;
            let Some(netd) = netd.upgrade() else { return };
            netd.watched.borrow_mut().remove(&container);
            match outcome {
                Ok(()) => {
                    tracing::info!(container = container.short(), pid, "process ended");
                    let released = match own {
                        true => netd.detach_where(&container, "vanish", |_| true).await.map(drop),
                        false => netd.keep_no_longer(&container).await,
                    };
                    if let Err(error) = released {
                        tracing::error!(container = container.short(), %error, "not released");
                    }
                }
                Err(error) => {
                    tracing::warn!(container = container.short(), pid, %error, "not watched");
                }
            }
        });
    }
}
