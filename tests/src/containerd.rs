//! containerd on a machine, and its command line `ctr`.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{Executed, Machine, eventually};

/// containerd, which runs as long as this is kept.
#[derive(Debug)]
pub struct Containerd<'a> {
    machine: &'a Machine,
    daemon: Child,
}

impl<'a> Containerd<'a> {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start(machine: &'a Machine) -> Self {
        let directory = machine.directory();
        let place = directory.display();
        let config = format!(
            "version = 2\nroot = \"{place}/containerd\"\nstate = \"{place}/containerd-state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{place}/containerd.sock\"\n"
        );
        let path = directory.join("containerd.toml");
        fs::write(&path, config).expect("/run is the test's own");
        let log = File::create(directory.join("containerd.log")).expect("/run is the test's own");
        let daemon = machine
            .command(["containerd", "--config", &path.display().to_string()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv is a part of util-linux");
        let containerd = Self { machine, daemon };
        eventually("containerd answers", || {
            let executed = containerd.ctr(&["version"]);
            if executed.code == 0 { Ok(()) } else { Err(executed) }
        });
        containerd
    }

    /// A command of `ctr`, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let socket = self.machine.directory().join("containerd.sock").display().to_string();
        let global = ["ctr", "--address", &socket];
        self.machine.command(global.iter().chain(words))
    }

    /// Runs a command of `ctr` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn ctr(&self, words: &[&str]) -> Executed {
        self.command(words).output().expect("setpriv is a part of util-linux").into()
    }

    /// `ctr run --cni` of a command in a container, not yet run. The container is there as long as
    /// the command, and `ctr` takes it off its network after.
    pub fn run(&self, id: &str, words: &[&str]) -> Command {
        self.run_with("--rm", id, words)
    }

    /// As [`Containerd::run`], but nobody waits for the container's end or takes it off its network.
    pub fn detach(&self, id: &str, words: &[&str]) -> Command {
        self.run_with("--detach", id, words)
    }

    fn run_with(&self, how: &str, id: &str, words: &[&str]) -> Command {
        let (crun, root) = (self.machine.crun(), self.machine.root());
        let fixed = ["run", "--cni", how, "--cgroup", "", "--runc-binary", &crun];
        // Without an image nobody says where programs are.
        let place = ["--env", "PATH=/usr/bin", "--rootfs", &root, id];
        self.command(&[&fixed[..], &place, words].concat())
    }

    /// Runs a server that says its name over HTTP, until it is killed.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn serve(&self, id: &str) -> Child {
        let mut command = self.run(id, &Machine::server(id));
        let log = self.machine.directory().join(format!("{id}.log"));
        let file = File::create(&log).expect("/run is the test's own");
        let child = command.stdout(Stdio::null()).stderr(file).spawn();
        let child = child.expect("setpriv is a part of util-linux");
        eventually("the container runs", || {
            let tasks = self.ctr(&["task", "ls"]);
            let runs = |line: &str| line.starts_with(id) && line.contains("RUNNING");
            let log = || fs::read_to_string(&log).unwrap_or_default();
            if tasks.stdout.lines().any(runs) { Ok(()) } else { Err((tasks, log())) }
        });
        child
    }

    /// Kills a server's container, and waits until `ctr` has taken it off its network.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn end(&self, id: &str, mut server: Child) {
        self.ctr(&["task", "kill", "--signal", "KILL", id]).success();
        eventually("ctr ends", || server.try_wait().expect("ours").ok_or("it runs"));
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.machine.directory().join("containerd.log"));
            eprintln!("containerd:\n{}", log.unwrap_or_default());
        }
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
