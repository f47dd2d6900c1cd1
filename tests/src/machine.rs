//! A machine on which container runtimes work: mounts and processes of its own, so that what they
//! keep in `/var/lib` and the daemons that they leave end with the test.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;

use crate::{Executed, Namespace, namespace::command};

/// What makes the machine, as the first process of its PID namespace; as a shell it waits for
/// whatever is left to it, without which a runtime would wait for zombies.
///
/// A control group is where a runtime looks first and what it fails on where there is no systemd,
/// or half of one. It finds an empty place there, and `crun` is told to do without.
const FIRST: &str = r#"
set -e
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /sys/fs/cgroup
for place in /var/lib /var/tmp /dev/shm /etc/cni; do mount -t tmpfs tmpfs $place; done
mkdir /etc/cni/net.d "$1/reference"
mount --bind /usr "$1/root/usr"
mount -o bind,remount,ro "$1/root/usr"
mount --bind "$1/net.d" /etc/cni/net.d
mount --bind /usr/lib/cni "$1/reference"
mount -t tmpfs tmpfs /usr/lib/cni
ln -s "$1"/reference/* "$2"/netd-* /usr/lib/cni/
echo
sleep infinity &
wait
"#;

/// The same on another distribution, which lies in a directory: what is written there is in memory.
const FIRST_OF_ANOTHER: &str = r#"
set -e
mount -t tmpfs tmpfs "$1/another"
mkdir "$1/another/upper" "$1/another/work" "$1/another/root"
layers="lowerdir=$3,upperdir=$1/another/upper,workdir=$1/another/work"
mount -t overlay -o "$layers" overlay "$1/another/root"
cd "$1/another/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount --rbind /dev dev
mount --rbind /run run
mkdir -p "./$2" before
mount --bind "$2" "./$2"
pivot_root . before
cd /
umount -l /before
mount --bind /usr "$1/root/usr"
mount -o bind,remount,ro "$1/root/usr"
echo
sleep infinity &
wait
"#;

/// A server of `I am NAME` over HTTP, `NAME` being the word after it.
const SERVER: &str = r#"
mkdir -p "/tmp/$0"
echo "I am $0" >"/tmp/$0/index.html"
exec busybox httpd -f -p 80 -h "/tmp/$0"
"#;

/// Runs crun, whatever runs it, without control groups.
const CRUN: &str = "#!/bin/sh\nexec crun --cgroup-manager=disabled \"$@\"\n";

/// A machine, in a network namespace.
#[derive(Debug)]
pub struct Machine {
    holder: Child,
    directory: PathBuf,
    programs: PathBuf,
}

impl Machine {
    pub(crate) fn new(name: &str, netns: &Namespace, programs: &Path) -> Self {
        Self::begin(name, netns, programs, FIRST, Path::new(""))
    }

    pub(crate) fn of_another(
        name: &str,
        netns: &Namespace,
        programs: &Path,
        distribution: &Path,
    ) -> Self {
        Self::begin(name, netns, programs, FIRST_OF_ANOTHER, distribution)
    }

    fn begin(
        name: &str,
        netns: &Namespace,
        programs: &Path,
        first: &str,
        distribution: &Path,
    ) -> Self {
        let directory = Path::new("/run").join(format!("{name}-machine"));
        let root = directory.join("root");
        for name in ["dev", "etc", "proc", "sys", "tmp", "usr"] {
            fs::create_dir_all(root.join(name)).expect("/run is the test's own");
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            symlink(Path::new("usr").join(name), root.join(name)).expect("/run is the test's own");
        }
        for name in ["another", "net.d"] {
            fs::create_dir(directory.join(name)).expect("/run is the test's own");
        }
        let crun = directory.join("crun");
        fs::write(&crun, CRUN).expect("/run is the test's own");
        fs::set_permissions(&crun, Permissions::from_mode(0o755)).expect("/run is the test's own");

        let [place, given, distribution] =
            [&directory, programs, distribution].map(|path| path.display().to_string());
        let mut words = vec!["unshare", "--mount", "--propagation", "slave"];
        words.extend(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        words.extend(["bash", "-c", first, "first", &place, &given, &distribution]);
        let mut holder = netns
            .command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv is a part of util-linux");
        let mut said = BufReader::new(holder.stdout.take().expect("it is piped"));
        let read = said.read_line(&mut String::new()).expect("a pipe can be read");
        assert_eq!(read, 1, "the machine {name} could not be made");
        Self { holder, directory, programs: programs.to_owned() }
    }

    /// A command on it, not yet run.
    pub fn command<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let holder = self.holder.id();
        let mut all = vec![
            "nsenter".to_owned(),
            format!("--mount=/proc/{holder}/ns/mnt"),
            format!("--net=/proc/{holder}/ns/net"),
            format!("--pid=/proc/{holder}/ns/pid_for_children"),
            "--".to_owned(),
        ];
        all.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        let mut command = command(all);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command on it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, words: &[&str]) -> Executed {
        self.command(words).output().expect("setpriv is a part of util-linux").into()
    }

    /// Where netd's executables are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// A directory that it shares with the test.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The root of a container: the programs of this host and nothing else.
    pub fn root(&self) -> String {
        self.directory.join("root").display().to_string()
    }

    /// A runtime that does without control groups.
    pub(crate) fn crun(&self) -> String {
        self.directory.join("crun").display().to_string()
    }

    /// Puts a network's list of plugins where the runtimes look, as a file that is there at once
    /// or not at all. Those of other networks are found after it by their names.
    ///
    /// # Panics
    /// When the list has no name.
    pub fn configure(&self, list: &Value) {
        let name = list["name"].as_str().expect("a network has a name");
        let directory = self.directory.join("net.d");
        let (aside, place) = (directory.join("new"), directory.join(format!("{name}.conflist")));
        fs::write(&aside, list.to_string()).expect("/run is the test's own");
        fs::rename(aside, place).expect("/run is the test's own");
    }

    /// What a server of that name is told to do.
    pub fn server(name: &str) -> [&str; 4] {
        ["sh", "-c", SERVER, name]
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let shown = self.run(&["sh", "-c", "ps axf; ip address; ip route; ls -R /var/lib/cni"]);
            eprintln!("machine {}:\n{}{}", self.directory.display(), shown.stdout, shown.stderr);
        }
        // With the first process all others of its namespace end.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
