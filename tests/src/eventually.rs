//! Waiting for what the kernel or a daemon does in its own time: the only place that waits.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// How long something may take that has no limit of its own; long, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to let others run before looking again.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until `look` gives something.
///
/// # Panics
/// When it does not for a long time.
#[track_caller]
pub fn eventually<T, W: Debug>(what: &str, look: impl FnMut() -> Result<T, W>) -> T {
    within(PATIENCE, what, look)
}

/// As [`eventually`], for what is promised within a time.
///
/// # Panics
/// When the time is over, with what was seen last.
#[track_caller]
pub fn within<T, W: Debug>(
    time: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, W>,
) -> T {
    let deadline = Instant::now() + time;
    loop {
        // The time is taken first: what is there at the deadline was there in time.
        let over = Instant::now() >= deadline;
        match look() {
            Ok(found) => return found,
            Err(seen) if over => panic!("not within {time:?}: {what}; seen last: {seen:#?}"),
            Err(_) => thread::park_timeout(PAUSE),
        }
    }
}
