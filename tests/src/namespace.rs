//! A network namespace and the process that keeps it, and the containers that are such.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    thread::{self, JoinHandle},
};

use cnm::endpoint;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

/// A command that ends with the thread that starts it, whatever ends that.
pub(crate) fn command<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command.args(words.into_iter().map(|word| word.as_ref().to_owned()));
    command
}

/// Runs a command line, of words without quotes, and gives what it printed.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn run(line: &str) -> String {
    printed(line, &output(line))
}

/// Runs a command line to its end.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn output(line: &str) -> Output {
    command(line.split_whitespace()).output().expect("setpriv is a part of util-linux")
}

#[track_caller]
fn printed(line: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line}: {}\n{out}{err}", output.status);
    out
}

/// A network namespace. It ends with the process that keeps it, when nobody else is in it.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let mut holder = command(["unshare", "-n", "sh", "-c", "echo; exec sleep infinity"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv is a part of util-linux");
        let mut said = BufReader::new(holder.stdout.take().expect("it is piped"));
        let read = said.read_line(&mut String::new()).expect("a pipe can be read");
        assert_eq!(read, 1, "these tests need root: they make namespaces");
        Self { holder }
    }

    /// The path that leads to it as long as it is kept.
    pub fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// The process that keeps it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Kills the process that keeps it, and waits until it is dead.
    ///
    /// # Panics
    /// When it is dead already.
    pub fn kill(&mut self) {
        self.holder.kill().expect("it is this test's process");
        self.holder.wait().expect("it is this test's process");
    }

    /// A command that runs in it.
    pub fn command<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut all = vec!["nsenter".to_owned(), format!("--net={}", self.path()), "--".to_owned()];
        all.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        command(all)
    }

    /// Runs a command line in it, of words without quotes.
    pub fn output(&self, line: &str) -> Output {
        self.command(line.split_whitespace()).output().expect("setpriv is a part of util-linux")
    }

    /// Runs a command line in it and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        printed(line, &self.output(line))
    }

    /// As [`Namespace::run`], for a command that prints JSON. One that prints nothing, as `ip`
    /// does when there is nothing, has printed an empty list.
    ///
    /// # Panics
    /// When it fails or prints something else.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let text = self.run(line);
        if text.trim().is_empty() {
            return Value::Array(Vec::new());
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
    }

    /// Does something in it, on a thread of its own, and waits for its end.
    ///
    /// # Panics
    /// When what is done panics.
    #[track_caller]
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let netns = self.open();
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                enter(&netns);
                act()
            });
            acting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Does something in it, on a thread of its own, meanwhile.
    pub fn meanwhile<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let netns = self.open();
        thread::spawn(move || {
            enter(&netns);
            drop(netns);
            act()
        })
    }

    /// A neighbour on a network of its own with this one: `192.0.2.1` here, `.2` there, and
    /// `2001:db8::1` and `::2`.
    pub fn lan(&self) -> Self {
        let lan = Self::new();
        lan.run("ip link set lo up");
        let there = lan.path();
        self.run(&format!("ip link add lan0 type veth peer name eth0 netns {there}"));
        for (netns, name, last) in [(self, "lan0", 1), (&lan, "eth0", 2)] {
            netns.run(&format!("ip link set {name} up"));
            netns.run(&format!("ip address add 192.0.2.{last}/24 dev {name}"));
            netns.run(&format!("ip address add 2001:db8::{last}/64 dev {name} nodad"));
        }
        lan
    }

    fn open(&self) -> File {
        File::open(self.path()).expect("the namespace is kept")
    }
}

#[expect(clippy::disallowed_methods, reason = "only called on a thread that ends with its work")]
fn enter(netns: &File) {
    setns(netns, CloneFlags::CLONE_NEWNET).expect("root may enter what it made");
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have been killed before.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A container, as a runtime sees it before it has a network.
#[derive(Debug)]
pub struct Container {
    /// What people call it.
    pub name: String,
    /// What its runtime calls it: 64 hexadecimal digits.
    pub id: String,
    /// Its network namespace.
    pub netns: Namespace,
}

impl Container {
    pub(crate) fn new(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let id = format!("{:016x}", hasher.finish()).repeat(4);
        Self { name: name.to_owned(), id, netns: Namespace::new() }
    }

    /// As requests name it.
    ///
    /// # Panics
    /// When its name is none.
    pub fn known(&self) -> endpoint::Container {
        let mut known = endpoint::Container::new(self.id.parse().expect("digits"));
        known.name = Some(self.name.parse().expect("the test's own name"));
        known
    }

    /// A request that puts it on a network.
    pub fn to(&self, network: &str) -> endpoint::Attach {
        endpoint::Attach::new(network, self.known(), Some(endpoint::Netns::Path(self.netns.path())))
    }
}
