//! A host: a network namespace in which netd runs, and the ways to speak to it.

use std::{
    fs::{self, File},
    io::Write as _,
    net::IpAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    thread,
};

use cnm::{client::Client, system::GetVersion};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;

use crate::{Namespace, Snapshot, eventually};

/// What netd is told beyond the usual.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// Lines of its configuration file.
    pub config: String,
    /// Directories in which drivers are looked for before those under test.
    pub plugin_dirs: Vec<PathBuf>,
    /// Words that netd's command line is put behind: a program that runs it.
    pub under: Vec<String>,
}

/// A host on which netd runs.
#[derive(Debug)]
pub struct Host {
    /// Its network namespace.
    pub netns: Namespace,
    name: String,
    programs: PathBuf,
    directory: PathBuf,
    options: HostOptions,
    netd: Option<Child>,
}

/// What a program that was run to its end left.
#[derive(Clone, Debug)]
pub struct Executed {
    /// Its exit code, or 128 and the signal that ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl From<Output> for Executed {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let signal = || output.status.signal().map_or(-1, |signal| 128 + signal);
        Self {
            code: output.status.code().unwrap_or_else(signal),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Executed {
    /// The JSON documents that it printed, one from each line.
    ///
    /// # Panics
    /// When it printed anything else.
    #[track_caller]
    pub fn replies(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// What it printed, when it succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn success(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.stdout
    }
}

impl Host {
    pub(crate) fn new(name: &str, programs: &Path, options: HostOptions) -> Self {
        let directory = Path::new("/run").join(name);
        fs::create_dir_all(directory.join("faults")).expect("/run is the test's own");
        fs::write(directory.join("netd.toml"), &options.config).expect("/run is the test's own");
        let netns = Namespace::new();
        netns.run("ip link set lo up");
        let mut host = Self {
            netns,
            name: name.to_owned(),
            programs: programs.to_owned(),
            directory,
            options,
            netd: None,
        };
        host.start();
        host
    }

    /// Starts netd and waits until it answers.
    ///
    /// # Panics
    /// When it runs already or does not come up.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_unready();
        eventually("netd answers", || {
            if let Some(status) = self.netd.as_mut().and_then(|n| n.try_wait().expect("ours")) {
                panic!("netd ended: {status}");
            }
            Client::connect(&self.socket()).and_then(|mut client| client.call(&GetVersion {}))
        });
    }

    /// Starts netd.
    ///
    /// # Panics
    /// When it runs already.
    #[track_caller]
    pub fn start_unready(&mut self) {
        assert!(self.netd.is_none(), "netd runs already");
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("/run is the test's own");
        // What /sys shows of the network is what was there for whoever mounted it.
        let script = r#"mount -t sysfs sysfs /sys && exec "$@""#;
        let mut netd = self.netns.command([
            "unshare",
            "--mount",
            "--propagation=slave",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        netd.args(&self.options.under).arg(self.programs.join("netd"));
        netd.arg("--run-dir").arg(self.directory.join("run"));
        netd.arg("--state-dir").arg(self.directory.join("state"));
        netd.arg("--config").arg(self.directory.join("netd.toml"));
        for directory in self.options.plugin_dirs.iter().chain([&self.programs]) {
            netd.arg("--plugin-dir").arg(directory);
        }
        netd.env("NETD_FAULTS", self.faults()).stdin(Stdio::null()).stdout(Stdio::null());
        self.netd = Some(netd.stderr(log).spawn().expect("setpriv is a part of util-linux"));
    }

    /// Kills netd with `SIGKILL` and waits for its end.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut netd = self.netd.take().expect("netd runs");
        netd.kill().expect("it is this test's process");
        netd.wait().expect("it is this test's process");
    }

    /// Asks netd to end with `SIGTERM` and waits until it has.
    ///
    /// # Panics
    /// When it does not run or ends with a failure.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut netd = self.netd.take().expect("netd runs");
        signal(netd.id(), Signal::SIGTERM);
        let status = netd.wait().expect("it is this test's process");
        assert!(status.success(), "netd ended: {status}");
    }

    /// Waits for netd to die by itself.
    ///
    /// # Panics
    /// When it does not run or does not die.
    #[track_caller]
    pub fn wait_for_death(&mut self) {
        let mut netd = self.netd.take().expect("netd runs");
        eventually("netd dies", || netd.try_wait().expect("ours").ok_or("it runs"));
    }

    /// Netd's process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.netd.as_ref().expect("netd runs").id()
    }

    /// Netd's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("netd.sock")
    }

    /// Netd's run directory.
    pub fn run_dir(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Netd's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The directory of the points at which processes of this host die.
    pub fn faults(&self) -> PathBuf {
        self.directory.join("faults")
    }

    /// Has the next process that comes to a point die there. What it gives tells whether one did.
    ///
    /// # Panics
    /// When there is no such point.
    pub fn arm(&self, point: &str) -> impl Fn() -> bool + use<> {
        assert!(cnm::fault::POINTS.contains(&point), "{point} is no point");
        let file = self.faults().join(point);
        fs::write(&file, "").expect("/run is the test's own");
        move || !file.exists()
    }

    /// A connection to netd.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs netctl to its end.
    pub fn netctl(&self, words: &[&str]) -> Executed {
        self.netctl_command(words).output().expect("setpriv is a part of util-linux").into()
    }

    /// Netctl, not yet run.
    pub fn netctl_command(&self, words: &[&str]) -> std::process::Command {
        let netctl = self.programs.join("netctl").display().to_string();
        let mut command = self.netns.command([netctl.as_str()].iter().chain(words));
        command.env("NETD_SOCKET", self.socket()).stdin(Stdio::null());
        command
    }

    /// A plugin, as a runtime executes it, not yet run.
    pub fn plugin_command(&self, driver: &str) -> std::process::Command {
        let plugin = self.programs.join(format!("netd-{driver}")).display().to_string();
        let mut command = self.netns.command([plugin]);
        command.env("NETD_SOCKET", self.socket()).env("NETD_FAULTS", self.faults());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Executes a plugin with these lines on its standard input, and waits for its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn plugin(&self, driver: &str, lines: &str) -> Executed {
        let mut child = self.plugin_command(driver).spawn().expect("util-linux is there");
        let mut stdin = child.stdin.take().expect("it is piped");
        // One that dies does not read to the end.
        drop(stdin.write_all(lines.as_bytes()));
        drop(stdin);
        child.wait_with_output().expect("it is this test's process").into()
    }

    /// The kernel's state on this host.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.netns)
    }

    /// A neighbour on a network of its own with this host: `192.0.2.1` here, `.2` there, and
    /// `2001:db8::1` and `::2`.
    pub fn lan(&self) -> Namespace {
        self.netns.lan()
    }

    /// What the resolver at `server` answers to somebody in `netns`, one line each.
    pub fn ask_name(netns: &Namespace, server: IpAddr, words: &str) -> Vec<String> {
        let line = format!("dig +short +tries=2 +time=3 @{server} {words}");
        netns.run(&line).lines().map(str::to_owned).collect()
    }

    /// What netd has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Everything that helps whoever reads why a test failed.
    fn report(&self) -> String {
        let mut report = format!("host {}\n", self.name);
        for line in
            ["ip -d link", "ip address", "ip route", "ip neigh", "bridge fdb", "nft list ruleset"]
        {
            let executed = Executed::from(self.netns.output(line));
            report += &format!("$ {line}\n{}{}\n", executed.stdout, executed.stderr);
        }
        for words in [&["status"][..], &["endpoint", "ls", "--json"]] {
            let executed = self.netctl(words);
            report += &format!("$ netctl {words:?}\n{}{}\n", executed.stdout, executed.stderr);
        }
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        report += "log:\n";
        for line in lines.iter().skip(lines.len().saturating_sub(1000)) {
            report += line;
            report.push('\n');
        }
        report
    }
}

/// Kills a process with `SIGKILL`, such as a driver that [`cnm::system::Status`] shows.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn kill(pid: u32) {
    signal(pid, Signal::SIGKILL);
}

#[track_caller]
fn signal(pid: u32, signal: Signal) {
    let raw = i32::try_from(pid).expect("a pid");
    signal::kill(Pid::from_raw(raw), signal).expect("it is there");
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
        if let Some(mut netd) = self.netd.take() {
            drop(netd.kill());
            drop(netd.wait());
        }
        // It outlives netd, and ends when there is nothing to relay.
        if let Ok(mut relay) = UnixStream::connect(self.run_dir().join("relay.sock")) {
            drop(relay.write_all(b"{\"all\":[]}\n"));
        }
    }
}
