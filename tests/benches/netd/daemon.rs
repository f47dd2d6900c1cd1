//! netd, started for a measurement, and the connection to it.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use cnm::{
    client::{Client, With},
    endpoint::{Attach, Container, Detach, Endpoint, Netns, Port},
    network::{CreateNetwork, Subnet},
    system::{GetStatus, GetVersion, Status},
};

use crate::{
    place::{binary, wait_until},
    sandbox::Sandbox,
};

/// A running netd. It ends with this; what it stored and made stays.
pub(crate) struct Daemon {
    child: Child,
    dir: PathBuf,
    /// A connection that is kept.
    pub(crate) client: Client,
}

impl Daemon {
    /// Starts one with directories of its own and waits until it answers.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let dir = PathBuf::from("/run/bench").join(name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("netd.toml"), format!("node_name = \"{name}\"\n"))?;
        let child = spawn(&dir)?;
        let client = connect(&dir)?;
        Ok(Self { child, dir, client })
    }

    /// Another connection.
    pub(crate) fn connect(&self) -> Result<Client> {
        connect(&self.dir)
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("run/netd.sock")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it is.
    pub(crate) fn status(&mut self) -> Result<Status> {
        Ok(self.client.call(&GetStatus {})?)
    }

    /// Makes the network of a name, `10.SUBNET.0.0/16`.
    pub(crate) fn create(&mut self, name: &str, subnet: u8) -> Result<()> {
        let mut create = CreateNetwork::named(name);
        create.subnets = vec![Subnet::new(format!("10.{subnet}.0.0/16").parse()?)];
        self.client.call(&create)?;
        Ok(())
    }

    /// Ends it as nothing else would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after [`Daemon::kill`], and waits until it answers.
    pub(crate) fn revive(&mut self) -> Result<()> {
        self.child = spawn(&self.dir)?;
        self.client = connect(&self.dir)?;
        Ok(())
    }

    /// Where all of it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends it as nothing else would and starts it again; how long until it answers and says that
    /// all is well.
    pub(crate) fn crash(&mut self) -> Result<Duration> {
        self.kill()?;
        let start = Instant::now();
        self.revive()?;
        self.settled()?;
        Ok(start.elapsed())
    }

    /// Waits until it says that all is well.
    pub(crate) fn settled(&mut self) -> Result<()> {
        let mut status = self.status()?;
        wait_until("netd in sync", || {
            status = self.status()?;
            Ok(status.drivers.iter().all(|driver| driver.pid.is_some()))
        })?;
        // The machine's own limit, of which netd warns with so many.
        status.problems.retain(|problem| !problem.contains("gc_thresh3"));
        anyhow::ensure!(status.problems.is_empty(), "after the restart: {:?}", status.problems);
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It keeps nothing that an orderly end would save.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("netd does not end: {error}");
        }
    }
}

fn spawn(dir: &Path) -> Result<Child> {
    // It logs as it does for its users, to a file, as under a service manager.
    let log = File::create(dir.join("log"))?;
    Command::new(binary("netd")?)
        .stderr(log)
        .arg("--config")
        .arg(dir.join("netd.toml"))
        .arg("--run-dir")
        .arg(dir.join("run"))
        .arg("--state-dir")
        .arg(dir.join("state"))
        .spawn()
        .context("cannot start netd")
}

fn connect(dir: &Path) -> Result<Client> {
    let path = dir.join("run/netd.sock");
    let mut client = None;
    wait_until("netd listens", || {
        client = Client::connect(&path).ok();
        Ok(client.is_some())
    })?;
    let mut client = client.context("netd does not listen")?;
    client.call(&GetVersion {})?;
    Ok(client)
}

/// What container number `n` is called.
pub(crate) fn name_of(n: usize) -> String {
    format!("web-{n}")
}

/// The request to attach container number `n`.
pub(crate) fn request(network: &str, n: usize, netns: Netns, ports: Vec<Port>) -> Result<Attach> {
    let mut container = Container::new(format!("container-{n}").parse()?);
    container.name = Some(name_of(n).parse()?);
    let mut attach = Attach::new(network, container, Some(netns));
    attach.ports = ports;
    Ok(attach)
}

/// Attaches container number `n`, and says how long it took.
pub(crate) fn attach(
    client: &mut Client,
    network: &str,
    n: usize,
    sandbox: &Sandbox,
    ports: Vec<Port>,
) -> Result<(Duration, Endpoint)> {
    let attach = request(network, n, Netns::Fd, ports)?;
    let with = With { fds: &[sandbox.as_fd()], ..With::default() };
    let start = Instant::now();
    let endpoint = client.call_with(&attach, with)?;
    Ok((start.elapsed(), endpoint))
}

/// Detaches container number `n`, and says how long until the answer.
pub(crate) fn detach(client: &mut Client, network: &str, n: usize) -> Result<Duration> {
    let container = format!("container-{n}");
    let detach = Detach { network: Some(network.to_owned()), container, ifname: None };
    let start = Instant::now();
    let detached = client.call(&detach)?;
    let took = start.elapsed();
    anyhow::ensure!(detached.endpoints.len() == 1, "container {n} was not attached");
    Ok(took)
}
