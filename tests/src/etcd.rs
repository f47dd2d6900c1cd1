//! A real etcd, on the loopback of the test's own namespace and with its data in memory.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::namespace::{command, run};

/// A member of etcd. It ends with the test.
#[derive(Debug)]
pub struct Etcd {
    name: String,
    port: u16,
    options: Vec<String>,
    data: PathBuf,
    process: Option<Child>,
}

impl Etcd {
    /// The only member of its cluster, without TLS, with these options besides. Whether it answers
    /// already is for the test to find out.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(port: u16, options: &[&str]) -> Self {
        let name = format!("m{port}");
        let peers = format!("{name}=http://127.0.0.1:{}", port + 1);
        Self::member(port, &peers, options)
    }

    /// `count` members of one cluster.
    ///
    /// # Panics
    /// When one cannot be started.
    pub fn cluster(port: u16, count: u16) -> Vec<Self> {
        let ports: Vec<_> = (0..count).map(|n| port + 10 * n).collect();
        let peer = |port: &u16| format!("m{port}=http://127.0.0.1:{}", port + 1);
        let peers = ports.iter().map(peer).collect::<Vec<_>>().join(",");
        ports.iter().map(|port| Self::member(*port, &peers, &[])).collect()
    }

    fn member(port: u16, peers: &str, options: &[&str]) -> Self {
        let name = format!("m{port}");
        let data = PathBuf::from(format!("/run/etcd-{port}"));
        let mut all = vec!["--initial-cluster".to_owned(), peers.to_owned()];
        all.extend(options.iter().map(|option| (*option).to_owned()));
        let mut etcd = Self { name, port, options: all, data, process: None };
        etcd.run();
        etcd
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it again, after [`Etcd::kill`].
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&mut self) {
        let peer = format!("http://127.0.0.1:{}", self.port + 1);
        let client = self.url();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(format!("/run/etcd-{}.log", self.port))
            .expect("a world has a /run of its own");
        let mut words = vec!["etcd", "--name", &self.name, "--data-dir"];
        words.push(self.data.to_str().expect("digits"));
        words.extend(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        words.extend(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        words.extend(["--heartbeat-interval", "20", "--election-timeout", "200"]);
        words.extend(self.options.iter().map(String::as_str));
        let process = command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("setpriv is a part of util-linux");
        self.process = Some(process);
    }

    /// Ends it as a crash does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it is this test's process");
        process.wait().expect("it is this test's process");
    }

    /// Makes it stand still, and waits until it does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&self) {
        kill(self.pid(), Signal::SIGSTOP).expect("it is this test's process");
        let stopped = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED));
        assert!(matches!(stopped, Ok(WaitStatus::Stopped(..))), "{stopped:?}");
    }

    /// Lets it go on after [`Etcd::stop`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        kill(self.pid(), Signal::SIGCONT).expect("it is this test's process");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.as_ref().expect("it runs").id().cast_signed())
    }

    /// What `etcdctl` prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ctl(&self, line: &str) -> String {
        run(&format!("env ETCDCTL_API=3 etcdctl --endpoints {} {line}", self.url()))
    }

    /// Puts a snapshot in the place of its data, while it is dead.
    ///
    /// # Panics
    /// When it runs, or the snapshot is none.
    pub fn restore(&self, snapshot: &str) {
        assert!(self.process.is_none(), "it runs");
        fs::remove_dir_all(&self.data).expect("it had data");
        let (name, data) = (&self.name, self.data.display());
        let peer = format!("http://127.0.0.1:{}", self.port + 1);
        self.ctl(&format!(
            "snapshot restore {snapshot} --name {name} --data-dir {data} \
             --initial-cluster {name}={peer} --initial-advertise-peer-urls {peer}"
        ));
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}
