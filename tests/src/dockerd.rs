//! dockerd on a machine, and its command line `docker`: Debian's, unpacked and not installed.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;

use crate::{Executed, Machine, eventually};

/// Where `make deps-test` unpacks Debian's package.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debian");

/// Control groups of version 1, as far as the kernel has them: dockerd does nothing without.
const GROUPS: &str = r"
systemd=/sys/fs/cgroup/systemd
[ -d $systemd ] || { mkdir -p $systemd && mount -t cgroup -o none,name=systemd cgroup $systemd; }
for group in blkio cpu cpuacct cpuset devices freezer memory pids; do
	place=/sys/fs/cgroup/$group
	[ -d $place ] || { mkdir -p $place && mount -t cgroup -o $group cgroup $place; }
done
";

/// dockerd, which runs as long as this is kept.
#[derive(Debug)]
pub struct Dockerd<'a> {
    machine: &'a Machine,
    daemon: Option<Child>,
    group: String,
    words: Vec<String>,
}

/// Without rules of its own, which are not what tests of ours are about.
const ALONE: [&str; 3] = ["--iptables=false", "--ip-masq=false", "--userland-proxy=false"];

impl<'a> Dockerd<'a> {
    /// Starts it, waits until it answers, and gives it an image `box` with busybox.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start(machine: &'a Machine) -> Self {
        Self::start_with(machine, &ALONE)
    }

    /// As [`Dockerd::start`], told otherwise.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start_with(machine: &'a Machine, words: &[&str]) -> Self {
        machine.run(&["sh", "-c", GROUPS]).success();
        let group = format!("netd-{}", std::process::id());
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let mut dockerd = Self { machine, daemon: None, group, words };
        dockerd.start_again();
        let root = dockerd.place().join("box");
        fs::create_dir_all(root.join("bin")).expect("/run is the test's own");
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is there");
        for name in ["sh", "ping", "nslookup", "httpd", "sleep", "wget", "ip", "mkdir"] {
            symlink("busybox", root.join("bin").join(name)).expect("/run is the test's own");
        }
        let script = r#"tar -C "$1" -c . | docker -H "$2" import - box"#;
        let place = root.display().to_string();
        dockerd.execute(&["sh", "-c", script, "sh", &place, &dockerd.address()]).success();
        dockerd
    }

    /// Starts it after it has ended, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start_again(&mut self) {
        let place = self.place();
        fs::create_dir_all(&place).expect("/run is the test's own");
        let log = File::options().create(true).append(true).open(place.join("log"));
        let at = |name: &str| place.join(name).display().to_string();
        let words = [
            "dockerd",
            "--bridge=none",
            "--storage-driver=vfs",
            "--exec-opt=native.cgroupdriver=cgroupfs",
        ];
        let told = [
            format!("--cgroup-parent=/{}", self.group),
            format!("--data-root={}", at("data")),
            format!("--exec-root={}", at("exec")),
            format!("--pidfile={}", at("pid")),
            format!("--host={}", self.address()),
        ];
        // It wants one to be there that it is told of.
        let config = Self::config(self.machine);
        let config = config.exists().then(|| format!("--config-file={}", config.display()));
        let told = told.iter().chain(&self.words).chain(&config).map(String::as_str);
        let mut command = self.command(words.into_iter().chain(told));
        command.stdout(Stdio::null()).stderr(log.expect("/run is the test's own"));
        self.daemon = Some(command.spawn().expect("setpriv is a part of util-linux"));
        eventually("dockerd answers", || {
            let executed = self.docker(&["version"]);
            if executed.code == 0 { Ok(()) } else { Err((executed, self.log())) }
        });
    }

    /// Its process, as those outside of the machine know it: the child of whoever entered that.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        let entered = self.daemon.as_ref().expect("dockerd runs").id();
        let children = fs::read_to_string(format!("/proc/{entered}/task/{entered}/children"));
        let children = children.expect("dockerd runs");
        children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("dockerd runs")
    }

    /// Ends it by a signal, and waits until it has.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn end(&mut self, signal: &str) {
        let pid = fs::read_to_string(self.place().join("pid")).expect("it runs");
        self.machine.run(&["kill", &format!("-{signal}"), pid.trim()]).success();
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.wait().expect("it is this test's process");
    }

    fn command<'b>(&self, words: impl IntoIterator<Item = &'b str>) -> Command {
        let mut command = self.machine.command(words);
        let usual = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{UNPACKED}/usr/sbin:{UNPACKED}/usr/bin:{usual}:/usr/sbin"));
        command.env("DOCKER_CONFIG", self.place());
        command
    }

    fn execute(&self, words: &[&str]) -> Executed {
        let mut command = self.command(words.iter().copied());
        command.output().expect("setpriv is a part of util-linux").into()
    }

    /// A command of `docker`, run to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn docker(&self, words: &[&str]) -> Executed {
        self.execute(&[&["docker", "-H", &self.address()], words].concat())
    }

    /// A container that stays, on a network.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn run(&self, name: &str, network: &str, options: &[&str], command: &[&str]) {
        // Those of the machine may be lower than what it would set.
        let fixed = ["run", "--detach", "--name", name, "--network", network];
        let more = ["--security-opt", "seccomp=unconfined", "--ulimit", "nofile=1024:1024"];
        let words = [&fixed[..], &more, options, &["box"], command].concat();
        let executed = self.docker(&words);
        assert_eq!(executed.code, 0, "{executed:?}\n{}", self.log());
    }

    /// What it tells of a thing.
    ///
    /// # Panics
    /// When it tells nothing.
    #[track_caller]
    pub fn inspect(&self, words: &[&str]) -> Value {
        let told = self.docker(words);
        let mut list: Value = serde_json::from_str(told.success()).expect("JSON");
        list[0].take()
    }

    /// The command line that came with it.
    pub fn command_line() -> PathBuf {
        PathBuf::from(format!("{UNPACKED}/usr/bin/docker"))
    }

    /// Where it listens, for itself and for others.
    pub fn socket(machine: &Machine) -> PathBuf {
        machine.directory().join("docker/docker.sock")
    }

    /// Where its configuration is, for those who write one; there is none unless somebody does.
    pub fn config(machine: &Machine) -> PathBuf {
        machine.directory().join("docker/daemon.json")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.place().join("log")).unwrap_or_default()
    }

    fn address(&self) -> String {
        format!("unix://{}", Self::socket(self.machine).display())
    }

    fn place(&self) -> PathBuf {
        self.machine.directory().join("docker")
    }
}

impl Drop for Dockerd<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("dockerd:\n{}", self.log());
        }
        // What its containers are in is the kernel's, and so everybody's.
        let script = r#"
[ -z "$(docker -H "$1" ps -aq)" ] || docker -H "$1" rm -f $(docker -H "$1" ps -aq)
rmdir /sys/fs/cgroup/*/"$2"/* /sys/fs/cgroup/*/"$2"
"#;
        drop(self.execute(&["sh", "-c", script, "sh", &self.address(), &self.group]));
        if let Some(mut daemon) = self.daemon.take() {
            if let Ok(pid) = fs::read_to_string(self.place().join("pid")) {
                drop(self.machine.run(&["kill", "-KILL", pid.trim()]));
            }
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

/// Docker's command line, run to its end against whoever answers at a socket.
///
/// # Panics
/// When it cannot be started.
pub fn docker(socket: &str, words: &[&str]) -> Executed {
    let program = format!("{UNPACKED}/usr/bin/docker");
    let mut command = crate::namespace::command([&program, "-H", &format!("unix://{socket}")]);
    command.args(words).env("DOCKER_CONFIG", "/run").stdin(Stdio::null());
    command.output().expect("setpriv is a part of util-linux").into()
}

/// As [`docker`], with the command line that a machine has.
///
/// # Panics
/// When it cannot be started.
pub fn docker_of(machine: &Machine, socket: &str, words: &[&str]) -> Executed {
    let address = format!("unix://{socket}");
    let mut command = machine.command(["docker", "-H", &address].iter().chain(words));
    command.env("DOCKER_CONFIG", "/run");
    command.output().expect("setpriv is a part of util-linux").into()
}
