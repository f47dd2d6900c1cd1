//! The session with one driver: started, introduced, told everything, and started again when it
//! ends. A call waits until the driver knows everything that is stored.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use cnm::{
    Call, Error, PROTOCOL, Result,
    driver::{Capabilities, GetInfo, Info, Sync, Synced},
    options::{DNS_PORT, Options},
    system::DriverStatus,
};
use tokio::{sync::watch, time::Instant};

use super::{
    former,
    process::{Process, how},
};

/// What a session asks netd.
pub(crate) trait Desired: 'static {
    /// Everything the driver's part of the kernel should hold.
    fn desired(&self, driver: &str) -> Sync;

    /// A sync has been done, at a start or again after the driver ended.
    fn synced(&self, driver: &str, synced: Synced);

    /// A driver found its part of the kernel not as it left it.
    fn disturbed(&self, driver: &str, what: Vec<String>);

    /// A driver started or ended.
    fn changed(&self, driver: &str, action: &str, why: &str);
}

/// The first wait before a driver that ended is started again; each one after doubles.
const BACK_OFF: Duration = Duration::from_millis(10);

/// The longest wait.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// A driver that ran this long is not failing to start.
const STEADY: Duration = Duration::from_secs(10);

/// For the sync of everything, which may be long.
const SYNC_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone)]
enum Phase {
    Starting,
    Ready(Rc<Process>, Capabilities),
    /// It does not come up; calls fail with this until it does.
    Failing(String),
}

/// One driver.
pub(crate) struct Session {
    name: String,
    path: PathBuf,
    run_dir: PathBuf,
    deadline: Duration,
    phase: watch::Sender<Phase>,
    info: RefCell<Option<Info>>,
    pid: Cell<Option<u32>>,
    restarts: Cell<u64>,
}

impl Session {
    /// Starts the driver and keeps it going for as long as netd runs.
    pub(super) fn start(
        name: &str,
        path: PathBuf,
        run_dir: &Path,
        deadline: Duration,
        desired: impl Desired,
    ) -> Rc<Self> {
        let session = Rc::new(Self {
            name: name.to_owned(),
            path,
            run_dir: run_dir.to_owned(),
            deadline,
            phase: watch::Sender::new(Phase::Starting),
            info: RefCell::default(),
            pid: Cell::new(None),
            restarts: Cell::new(0),
        });
        tokio::task::spawn_local(session.clone().keep(desired));
        session
    }

    /// Calls a method of the driver once it is ready.
    pub(crate) async fn call<P: Call>(&self, params: &P) -> Result<P::Reply> {
        let (process, _) = self.ready().await?;
        process.call(params, self.deadline).await
    }

    /// As [`Session::call`], with the deadline of a sync.
    pub(crate) async fn sync(&self, desired: &Sync) -> Result<Synced> {
        let (process, _) = self.ready().await?;
        process.call(desired, SYNC_DEADLINE).await
    }

    /// What the driver takes part in, once it has said so.
    pub(crate) async fn capabilities(&self) -> Result<Capabilities> {
        Ok(self.ready().await?.1)
    }

    /// Refuses options of a network that nobody would act on, or whose values mean nothing, where the
    /// driver has said which it knows. Those about names are netd's own.
    pub(crate) fn check_network_options(&self, given: &BTreeMap<String, String>) -> Result<()> {
        let info = self.info.borrow();
        let known = info.as_ref().and_then(|info| info.options.as_ref());
        let Some(known) = known else { return Ok(()) };
        known.check_network(&self.name, given.keys().map(String::as_str))?;
        known.check_network_values(given)
    }

    /// The options that the driver has said it knows.
    pub(crate) fn options(&self) -> Option<Options> {
        self.info.borrow().as_ref()?.options.clone()
    }

    /// As [`Session::check_network_options`], of an endpoint.
    pub(crate) fn check_endpoint_options(&self, given: &BTreeMap<String, String>) -> Result<()> {
        let info = self.info.borrow();
        let known = info.as_ref().and_then(|info| info.options.as_ref());
        let Some(known) = known else { return Ok(()) };
        known.check_endpoint(&self.name, given.keys().map(String::as_str))?;
        known.check_endpoint_values(given)
    }

    /// Whether the driver has said that it leads what a container asks inside itself to the resolver
    /// there.
    pub(crate) fn leads_inside(&self) -> bool {
        let info = self.info.borrow();
        let info = info.as_ref().filter(|info| info.options.is_some());
        info.is_some_and(|info| info.takes_for_endpoint(DNS_PORT.names[0]))
    }

    /// How it is, for people.
    pub(crate) fn status(&self) -> DriverStatus {
        DriverStatus {
            name: self.name.clone(),
            path: self.path.display().to_string(),
            pid: self.pid.get(),
            version: self.info.borrow().as_ref().map(|info| info.version.clone()),
            restarts: self.restarts.get(),
        }
    }

    /// Why it does not come up, where it does not.
    pub(crate) fn failing(&self) -> Option<String> {
        match &*self.phase.borrow() {
            Phase::Failing(why) => Some(format!("driver {} does not come up: {why}", self.name)),
            _ => None,
        }
    }

    /// Waits until what a failed call may have left is put right: the driver is there again and has
    /// been told everything, or does not come up.
    pub(crate) async fn settled(&self) {
        drop(self.ready().await);
    }

    async fn ready(&self) -> Result<(Rc<Process>, Capabilities)> {
        if let Phase::Ready(process, capabilities) = &*self.phase.borrow()
            && !process.has_ended()
        {
            return Ok((process.clone(), *capabilities));
        }
        let mut phase = self.phase.subscribe();
        let settled = phase.wait_for(|phase| match phase {
            Phase::Starting => false,
            Phase::Ready(process, _) => !process.has_ended(),
            Phase::Failing(_) => true,
        });
        match tokio::time::timeout(self.deadline, settled).await {
            Ok(Ok(phase)) => match &*phase {
                Phase::Ready(process, capabilities) => Ok((process.clone(), *capabilities)),
                Phase::Failing(why) => Err(self.unavailable(why)),
                Phase::Starting => Err(self.unavailable("it is starting")),
            },
            _ => Err(self.unavailable("it is still starting")),
        }
    }

    fn unavailable(&self, why: &str) -> Error {
        Error::unavailable(format_args!("driver {} is not ready: {why}", self.name))
            .with("driver", self.name.as_str())
    }

    async fn keep(self: Rc<Self>, desired: impl Desired) {
        former::wait_for(&self.run_dir, &self.name).await;
        let mut wait = BACK_OFF;
        loop {
            let began = Instant::now();
            let why = match Process::spawn(&self.name, &self.path) {
                Err(error) => format!("cannot start {}: {error}", self.path.display()),
                Ok((process, mut child)) => {
                    self.pid.set(Some(process.pid()));
                    if let Err(error) = former::remember(&self.run_dir, &self.name, process.pid()) {
                        tracing::warn!(driver = self.name, %error, "driver's pid not written down");
                    }
                    let introduced = tokio::select! {
                        outcome = self.introduce(&process, &desired) => outcome,
                        status = child.wait() => Err(Error::unavailable(format_args!(
                            "it ended at once: {}", how(status)
                        ))),
                    };
                    let why = match introduced {
                        Ok(capabilities) => {
                            self.phase.send_replace(Phase::Ready(process.clone(), capabilities));
                            desired.changed(&self.name, "start", "");
                            loop {
                                tokio::select! {
                                    status = child.wait() => break how(status),
                                    () = process.stuck() => {
                                        drop(child.kill().await);
                                        break "it did not answer in time and was ended".to_owned();
                                    }
                                    what = process.disturbed() => {
                                        desired.disturbed(&self.name, what);
                                    }
                                }
                            }
                        }
                        Err(error) => {
                            // Whatever it is doing, the next one is told everything again.
                            drop(child.kill().await);
                            error.message
                        }
                    };
                    self.pid.set(None);
                    why
                }
            };
            if began.elapsed() >= STEADY {
                wait = BACK_OFF;
            }
            let failing = wait > BACK_OFF * 8;
            self.phase.send_replace(if failing {
                Phase::Failing(why.clone())
            } else {
                Phase::Starting
            });
            desired.changed(&self.name, "stop", &why);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_BACK_OFF);
            self.restarts.set(self.restarts.get() + 1);
        }
    }

    /// The first words with a new process: who it is, then everything it should hold.
    async fn introduce(&self, process: &Process, desired: &impl Desired) -> Result<Capabilities> {
        let info = process.call(&GetInfo {}, self.deadline).await?;
        if !info.protocols.contains(&PROTOCOL) {
            return Err(Error::unsupported(format_args!(
                "it speaks the protocol's versions {:?}, netd {PROTOCOL}",
                info.protocols
            )));
        }
        let capabilities = info.capabilities;
        *self.info.borrow_mut() = Some(info);
        let synced = process.call(&desired.desired(&self.name), SYNC_DEADLINE).await?;
        desired.synced(&self.name, synced);
        Ok(capabilities)
    }
}
