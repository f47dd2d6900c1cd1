//! Where all of it happens: in namespaces that end with the run.

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kernel::{
    links::{self, Change},
    netlink::{Batch, Socket},
};
use nix::{
    mount::{MsFlags, mount},
    poll::{PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// Set where the run has left the machine's namespaces.
const INSIDE: &str = "NETD_BENCH_INSIDE";

/// Runs this program again in network, mount and process namespaces of its own, where whatever it
/// starts ends with it. None when this is that run.
pub(crate) fn leave_home() -> Result<Option<ExitCode>> {
    if env::var_os(INSIDE).is_some() {
        return Ok(None);
    }
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .context("cannot start unshare, of util-linux")?;
    Ok(Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

/// Puts empty directories where programs keep their state.
pub(crate) fn prepare() -> Result<()> {
    // Two descriptors for each namespace.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    for path in ["/run", "/var/lib"] {
        let none = None::<&str>;
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), none)
            .with_context(|| format!("cannot mount a tmpfs on {path}"))?;
    }
    fs::create_dir_all("/run/lock")?;
    Ok(())
}

/// Runs `work` as a host of its own: in a network namespace that ends with it.
pub(crate) fn on_own_host<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let mut batch = Batch::new();
            bring_up_loopback(&mut batch);
            Socket::route()?.run(batch)?;
            work()
        });
        host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn bring_up_loopback(batch: &mut Batch) {
    let up = Change { up: Some(true), ..Change::default() };
    links::change_index(batch, links::LOOPBACK, &up);
}

/// Lets others run for so many milliseconds.
pub(crate) fn pause(ms: u8) {
    // Interrupted is early, and nobody counts on the time.
    poll(&mut [], PollTimeout::from(ms)).unwrap_or_default();
}

/// Waits until `holds`, a minute at most.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds()? {
        if Instant::now() > deadline {
            bail!("not within a minute: {what}");
        }
        pause(2);
    }
    Ok(())
}

/// Waits until the kernel is done with what was thrown away: until its lock on links has been free
/// for a tenth of a second. On a machine that is never that quiet it is ten seconds.
pub(crate) fn settle(socket: &mut Socket) -> Result<()> {
    const FREE: Duration = Duration::from_micros(300);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut calm = 0;
    while calm < 20 && Instant::now() < deadline {
        pause(5);
        let mut batch = Batch::new();
        bring_up_loopback(&mut batch);
        let start = Instant::now();
        socket.run(batch)?;
        calm = if start.elapsed() < FREE { calm + 1 } else { 0 };
    }
    Ok(())
}

/// The executable of a name in `NETD_BIN`.
pub(crate) fn binary(name: &str) -> Result<std::path::PathBuf> {
    let dir = env::var("NETD_BIN").context("NETD_BIN is not set: `make bench` does")?;
    let path = Path::new(&dir).join(name);
    if path.exists() { Ok(path) } else { bail!("{} is missing: `make build`", path.display()) }
}
