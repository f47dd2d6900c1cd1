//! What can wait until after the answer, many at a time. Condemned links: a pair deleted by itself
//! costs an RCU grace period (16 to 27 ms) during which no attach gets on; a group of them costs
//! one together. And flows of datagrams to ports whose owner changed: one walk over the table of
//! connections takes milliseconds. And that an address is another's now, which all of a bridge hears.

use std::{
    mem,
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cnm::fault;
use kernel::{
    Errno,
    announce::Herald,
    conntrack::{Conntrack, Destination},
    links::{self, Change, Mac},
    neighbours::{self, Neighbour},
    netlink::{Batch, Socket},
};

use crate::{Marks, apply::Kernel};

/// How long an attach waits for flows to be forgotten at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a link is waited for at most that is to be off at once.
const SEEN_OFF: Duration = Duration::from_millis(500);

/// When condemned links are taken away.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// This many are not waited with.
    pub enough: usize,
    /// How long the first of them waits for more.
    pub linger: Duration,
    /// How long after an attach another one is expected.
    pub lull: Duration,
    /// How long attaches may put it off at most.
    pub patience: Duration,
    /// How long after the last links were taken away others go that are not to be waited with.
    pub pause: Duration,
}

impl Pace {
    /// What the driver keeps to.
    pub const USUAL: Self = Self {
        enough: 64,
        linger: Duration::from_millis(50),
        lull: Duration::from_millis(10),
        patience: Duration::from_millis(500),
        pause: Duration::from_millis(5),
    };

    /// How long to wait with `waiting` links, the first of which waits since `first`; zero is now.
    /// `attach` is when the last attach ended, or now while one is under way.
    pub fn wait(
        &self,
        now: Instant,
        waiting: usize,
        first: Instant,
        attach: Option<Instant>,
    ) -> Duration {
        let left = |since: Instant, span: Duration| span.saturating_sub(now - since.min(now));
        let more = if waiting >= self.enough { Duration::ZERO } else { left(first, self.linger) };
        let quiet = attach.map_or(Duration::ZERO, |attach| left(attach, self.lull));
        more.max(quiet).min(left(first, self.patience))
    }

    /// The same where somebody looks for a link as soon as it is detached: at once, but not one by
    /// one when there are many. `reaped` is when links were taken away last.
    pub fn wait_little(&self, now: Instant, reaped: Option<Instant>) -> Duration {
        reaped.map_or(Duration::ZERO, |reaped| {
            self.pause.saturating_sub(now.saturating_duration_since(reaped))
        })
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Flows were forgotten.
    forgotten: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    first: Option<Instant>,
    at_once: bool,
    reaped: Option<Instant>,
    attaching: bool,
    last_attach: Option<Instant>,
    flows: Vec<Destination>,
    /// Some are being forgotten just now.
    forgetting: bool,
    moved: Vec<Moved>,
    closed: bool,
}

/// An address that somebody else had before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    /// The bridge, by index.
    pub(crate) bridge: u32,
    /// The address.
    pub(crate) address: IpAddr,
    /// Who has it now.
    pub(crate) mac: Mac,
}

/// What is to be done now.
#[derive(Debug, Default)]
struct Due {
    links: bool,
    flows: Vec<Destination>,
    moved: Vec<Moved>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that reaps, and how to tell it.
#[derive(Debug)]
pub(crate) struct Reaper {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// While it lives, an attach is under way.
#[derive(Debug)]
pub(crate) struct Attaching(Arc<Shared>);

impl Drop for Attaching {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.attaching = false;
        state.last_attach = Some(Instant::now());
        if !state.flows.is_empty() || !state.moved.is_empty() || state.at_once {
            self.0.changed.notify_one();
        }
    }
}

impl Reaper {
    /// Starts it, in the calling thread's network namespace.
    pub(crate) fn start(marks: Marks) -> kernel::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (mut socket, mut conntrack) = (Socket::route()?, Conntrack::open()?);
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("reaper".to_owned())
            .stack_size(256 << 10)
            .spawn(move || work(&for_thread, &marks, &mut socket, &mut conntrack))
            .map_err(|error| kernel::Error::io("start", "the reaper", &error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Waits until flows to ports that were taken back are forgotten: the next container may have
    /// the address that they led to. Without such ports it waits for nothing.
    pub(crate) fn settle_flows(&self) {
        let state = self.shared.state();
        let pending = |state: &mut State| !state.flows.is_empty() || state.forgetting;
        drop(self.shared.forgotten.wait_timeout_while(state, PATIENCE, pending));
    }

    /// Tells it that an attach is under way, until what this gives is dropped.
    pub(crate) fn attaching(&self) -> Attaching {
        self.shared.state().attaching = true;
        Attaching(Arc::clone(&self.shared))
    }

    /// Tells it that flows to these go elsewhere from now on.
    pub(crate) fn redirected(&self, flows: impl Iterator<Item = Destination>) {
        let mut state = self.shared.state();
        state.flows.extend(flows);
        if !state.flows.is_empty() {
            self.shared.changed.notify_one();
        }
    }

    /// Tells it that these are others' from now on.
    pub(crate) fn moved(&self, addresses: impl Iterator<Item = Moved>) {
        let mut state = self.shared.state();
        state.moved.extend(addresses);
        if !state.moved.is_empty() {
            self.shared.changed.notify_one();
        }
    }

    /// Tells it that so many more links are condemned, and looked for by somebody.
    pub(crate) fn condemned_at_once(&self, count: usize) {
        self.condemned(count);
        self.at_once();
    }

    /// Tells it that somebody waits for what is condemned.
    fn at_once(&self) {
        self.shared.state().at_once = true;
        self.shared.changed.notify_one();
    }

    /// Tells it that so many more links are condemned.
    pub(crate) fn condemned(&self, count: usize) {
        if count == 0 {
            return;
        }
        let mut state = self.shared.state();
        state.waiting += count;
        if state.first.is_none() {
            state.first = Some(Instant::now());
            self.shared.changed.notify_one();
        } else if state.waiting >= Pace::USUAL.enough {
            self.shared.changed.notify_one();
        }
    }
}

/// What is condemned by then is taken away before the session ends.
impl Drop for Reaper {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the reaper ended before its time");
        }
    }
}

impl Kernel {
    /// Waits until a condemned link is off, or for so long that something else is wrong: its other end
    /// is down by then, and no route leads there. What comes after that, a grace period, nobody has to
    /// wait for.
    pub(crate) fn see_off(&mut self, host: &str) {
        let began = Instant::now();
        self.reaper.at_once();
        while began.elapsed() < SEEN_OFF
            && let Ok(Some(_)) = links::by_name(&mut self.socket, host)
        {
            // Asking waits for the lock that the reaper has meanwhile, so it is done a few times.
            thread::yield_now();
        }
    }
}

fn work(shared: &Shared, marks: &Marks, socket: &mut Socket, conntrack: &mut Conntrack) {
    let mut herald = None;
    while let Some(due) = wait(shared) {
        if let Err(error) = announce(&mut herald, socket, &due.moved) {
            eprintln!("cannot announce an address: {error}");
        }
        if !due.flows.is_empty()
            && let Err(error) = conntrack.forget(&due.flows)
        {
            eprintln!("cannot forget connections to ports that changed: {error}");
        }
        if !due.flows.is_empty() {
            shared.state().forgetting = false;
            shared.forgotten.notify_all();
        }
        if due.links {
            if let Err(error) = reap(marks, socket) {
                eprintln!("cannot take condemned links away: {error}");
            }
            shared.state().reaped = Some(Instant::now());
        }
    }
}

/// Waits until there is something to do; nothing when there will be nothing more.
fn wait(shared: &Shared) -> Option<Due> {
    let mut state = shared.state();
    loop {
        let now = Instant::now();
        let time = state.first.map(|first| {
            let attach = if state.attaching { Some(now) } else { state.last_attach };
            let usual = Pace::USUAL.wait(now, state.waiting, first, attach);
            if state.at_once && !state.attaching {
                usual.min(Pace::USUAL.wait_little(now, state.reaped))
            } else {
                usual
            }
        });
        let links = time.is_some_and(|time| time.is_zero() || state.closed);
        // An attach that is under way may add more of them.
        let other = !state.flows.is_empty() || !state.moved.is_empty();
        if links || (other && !state.attaching) {
            if links {
                state.first = None;
                state.at_once = false;
                state.waiting = 0;
            }
            let (flows, moved) = (mem::take(&mut state.flows), mem::take(&mut state.moved));
            state.forgetting = !flows.is_empty();
            return Some(Due { links, flows, moved });
        }
        state = match time {
            Some(time) => {
                let waited = shared.changed.wait_timeout(state, time);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None if state.closed => return None,
            None => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

/// Takes the condemned links off their bridges. Until then they count among the ports that a bridge
/// may have.
pub(crate) fn free_ports(socket: &mut Socket, group: u32) -> kernel::Result<()> {
    let mut batch = Batch::new();
    links::change_group(&mut batch, group, &Change { master: Some(0), ..Change::default() });
    socket.run_but(&[Errno::ENODEV], batch, |_| ()).map(drop)
}

/// Tells a bridge's members of addresses, and the host itself, which does not hear what it says.
/// What is gone since, with its bridge, is no failure.
fn announce(
    herald: &mut Option<Herald>,
    socket: &mut Socket,
    moved: &[Moved],
) -> kernel::Result<()> {
    if moved.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for Moved { bridge, address, mac } in moved {
        let neighbour = Neighbour { link: *bridge, address: *address, mac: *mac };
        neighbours::renew(&mut batch, &neighbour);
    }
    socket.run_but(&[Errno::ENOENT, Errno::ENODEV], batch, |_| ())?;
    let herald = match herald {
        Some(herald) => herald,
        None => herald.insert(Herald::open()?),
    };
    for Moved { bridge, address, mac } in moved {
        match herald.announce(*bridge, *address, *mac) {
            Err(error) if matches!(error.errno(), Some(Errno::ENODEV | Errno::ENXIO)) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Takes the condemned links away. What is in their group and not netd's is moved out of it.
fn reap(marks: &Marks, socket: &mut Socket) -> kernel::Result<()> {
    let group = marks.condemned;
    free_ports(socket, group)?;
    let condemned: Vec<_> =
        links::without_master(socket)?.into_iter().filter(|link| link.group == group).collect();
    let mut batch = Batch::new();
    for link in condemned.iter().filter(|link| !marks.is_condemned(link)) {
        eprintln!(
            "the link {} is in group {group}, which is netd's, but not netd's own: moved to group 0",
            link.name
        );
        links::change_index(
            &mut batch,
            link.index,
            &Change { group: Some(0), ..Change::default() },
        );
    }
    socket.run(batch)?;
    if !condemned.iter().any(|link| marks.is_condemned(link)) {
        return Ok(());
    }
    fault::point("bridge.reap.before-delete");
    let mut batch = Batch::new();
    links::delete_group(&mut batch, group);
    match socket.run(batch) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => {}
        outcome => outcome?,
    }
    fault::point("bridge.reap.after-delete");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_reaped_when_there_are_enough_or_the_first_has_waited() {
        let pace = Pace::USUAL;
        let first = Instant::now();
        let at = |ms| first + Duration::from_millis(ms);
        let ms = Duration::from_millis;
        assert_eq!(pace.wait(at(0), 1, first, None), ms(50));
        assert_eq!(pace.wait(at(20), 63, first, None), ms(30));
        assert_eq!(pace.wait(at(50), 1, first, None), ms(0));
        assert_eq!(pace.wait(at(1), 64, first, None), ms(0));
    }

    #[test]
    fn what_is_looked_for_goes_at_once_but_not_one_by_one() {
        let pace = Pace::USUAL;
        let reaped = Instant::now();
        let at = |ms| reaped + Duration::from_millis(ms);
        assert_eq!(pace.wait_little(at(0), None), Duration::ZERO);
        assert_eq!(pace.wait_little(at(2), Some(reaped)), Duration::from_millis(3));
        assert_eq!(pace.wait_little(at(5), Some(reaped)), Duration::ZERO);
    }

    #[test]
    fn attaches_put_it_off_but_not_for_ever() {
        let pace = Pace::USUAL;
        let first = Instant::now();
        let at = |ms| first + Duration::from_millis(ms);
        let ms = Duration::from_millis;
        assert_eq!(pace.wait(at(60), 1, first, Some(at(60))), ms(10));
        assert_eq!(pace.wait(at(60), 64, first, Some(at(55))), ms(5));
        assert_eq!(pace.wait(at(60), 1, first, Some(at(40))), ms(0));
        assert_eq!(pace.wait(at(495), 99, first, Some(at(495))), ms(5));
        assert_eq!(pace.wait(at(500), 1, first, Some(at(500))), ms(0));
    }
}
