//! The machine's own etcd: a unit of its own under systemd, and a detached process without it. It
//! outlives netd, which finds it again.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::words;
use crate::{
    Error, NodeId, Result,
    identity::{Directory, MANAGER_NAME},
};

/// The unit's name.
const UNIT: &str = "netd-etcd";

/// How long it may take to end when it is told to, and how often that is looked at.
const OBEYS: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

/// How often it is looked at whether one that is being started is on record.
const BEGINS: Duration = Duration::from_millis(1);

/// How etcd runs on this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The executable: `etcd`, or its path.
    pub program: PathBuf,
    /// Where its data is.
    pub data: PathBuf,
    /// Where its pid and, without systemd, its log are.
    pub run: PathBuf,
    /// Whose it is; also the name of the member.
    pub node: NodeId,
    /// Where the node is reached.
    pub address: IpAddr,
    /// The port for clients: 2379.
    pub client_port: u16,
    /// The port for other members: 2380.
    pub peer_port: u16,
    /// The node's certificate, which needs this address.
    pub identity: Directory,
    /// All members, for one that joins others; none for the first.
    pub initial_cluster: Option<String>,
    /// Bytes that its file may have, before it takes no more writes: etcd's own limit when none.
    pub quota: Option<u64>,
    /// Whether systemd is to run it.
    pub systemd: bool,
}

/// How an etcd came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// It ran before.
    Adopted(u32),
    /// It was started; with systemd, whose pid it has systemd knows.
    Started(u32),
}

impl Machine {
    /// Where clients reach it.
    pub fn client_url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.address, self.client_port))
    }

    /// Where other members reach it.
    pub fn peer_url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.address, self.peer_port))
    }

    /// What it is told.
    pub fn arguments(&self) -> Vec<String> {
        let [ca, certificate, key] = self.identity.paths().map(|path| path.display().to_string());
        let (client, peer) = (self.client_url(), self.peer_url());
        let alone = || format!("{}={peer}", self.node);
        let members = self.initial_cluster.clone().unwrap_or_else(alone);
        let state = if self.initial_cluster.is_some() { "existing" } else { "new" };
        let mut arguments: Vec<String> = [
            ("--name", self.node.to_string()),
            ("--data-dir", self.data.display().to_string()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", members),
            ("--initial-cluster-state", state.to_owned()),
            ("--trusted-ca-file", ca.clone()),
            ("--cert-file", certificate.clone()),
            ("--key-file", key.clone()),
            ("--peer-trusted-ca-file", ca),
            ("--peer-cert-file", certificate),
            ("--peer-key-file", key),
            // A worker's certificate is of the same CA, and must not speak as a member.
            ("--peer-cert-allowed-hostname", MANAGER_NAME.to_owned()),
            ("--logger", "zap".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        arguments.push("--client-cert-auth".to_owned());
        arguments.push("--peer-client-cert-auth".to_owned());
        // Members are known by that name; from which of their addresses they call does not matter.
        arguments.push("--experimental-peer-skip-client-san-verification".to_owned());
        // It would speak with the member's own name, whoever asks.
        arguments.push("--enable-grpc-gateway=false".to_owned());
        if let Some(quota) = self.quota {
            arguments.push(format!("--quota-backend-bytes={quota}"));
        }
        arguments
    }

    /// Starts it unless it runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ensure(&self) -> Result<Began> {
        if let Some(pid) = self.running() {
            return Ok(Began::Adopted(pid));
        }
        let pid = if self.systemd { self.start_unit()? } else { self.start_process()? };
        Ok(Began::Started(pid))
    }

    /// Its pid, when it runs.
    pub fn running(&self) -> Option<u32> {
        if self.systemd {
            let show = ["show", "--property", "MainPID", "--value", UNIT];
            let output = Command::new("systemctl").args(show).output().ok()?;
            let pid = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
            return (pid != 0).then_some(pid);
        }
        // A pid may be another's by now, but not since the same moment.
        let kept = fs::read_to_string(self.pid_file()).ok()?;
        let (pid, since) = kept.trim().split_once(' ')?;
        (began(pid).as_deref() == Some(since)).then(|| pid.parse().ok())?
    }

    /// What it said last, after it ended by itself, and where the rest is: a clause.
    pub fn last_words(&self) -> String {
        let (said, place) = if self.systemd {
            (words::in_journal(UNIT), format!("journalctl -u {UNIT}"))
        } else {
            let log = self.run.join("etcd.log");
            (words::in_file(&log), log.display().to_string())
        };
        let said = said.unwrap_or_else(|| "it said nothing".to_owned());
        format!("{said} (see {place})")
    }

    /// Ends it, and waits until it has ended: `SIGTERM`, which it obeys once it has handed its
    /// leadership on, and `SIGKILL` when it does not.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn stop(&self) -> Result<()> {
        let Some(pid) = self.running() else { return Ok(()) };
        if self.systemd {
            printed(Command::new("systemctl").args(["stop", UNIT]))?;
            return Ok(());
        }
        for signal in ["-TERM", "-KILL"] {
            if let Err(error) = printed(Command::new("kill").args([signal, &pid.to_string()]))
                && self.running().is_some()
            {
                return Err(error);
            }
            let deadline = Instant::now() + OBEYS;
            while self.running().is_some() && Instant::now() < deadline {
                thread::park_timeout(LOOK);
            }
            if self.running().is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Removes its data, once it does not run.
    ///
    /// # Errors
    /// When the data cannot be removed.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_dir_all(&self.data) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::File { path: self.data.clone(), source })
            }
            _ => Ok(()),
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.run.join("etcd.pid")
    }

    fn start_unit(&self) -> Result<u32> {
        let mut command = Command::new("systemd-run");
        command.args(["--unit", UNIT, "--description", "etcd of the netd cluster", "--collect"]);
        command.args(["--quiet", "--property", "Restart=always", "--property", "RestartSec=1"]);
        command.args(["--property", "UMask=0077", "--"]).arg(&self.program);
        printed(command.args(self.arguments()))?;
        Ok(self.running().unwrap_or(0))
    }

    fn start_process(&self) -> Result<u32> {
        let failed = |source| Error::File { path: self.run.clone(), source };
        fs::create_dir_all(&self.run).map_err(failed)?;
        let output = printed(&mut self.detached())?;
        let pid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let deadline = Instant::now() + OBEYS;
        loop {
            if let Some(known) = self.running().filter(|known| known.to_string() == pid) {
                return Ok(known);
            }
            if began(&pid).is_none() || Instant::now() > deadline {
                let program = self.program.display().to_string();
                let why = format!("it ended at once: {}", self.last_words());
                return Err(Error::Program { program, why });
            }
            thread::park_timeout(BEGINS);
        }
    }

    /// A shell that starts it and ends, so that it is nobody's child: it needs no parent to be waited
    /// for by, and does not end with one. What is to become it puts itself on record, or it would be nobody's
    /// that netd knows of where netd is killed meanwhile.
    fn detached(&self) -> Command {
        const DETACH: &str =
            r#"umask 077; log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!"#;
        // What follows its name, which is in parentheses, begins with the third field.
        const RECORD: &str = r#"file=$1; shift; read -r stat <"/proc/$$/stat" &&
            since=$(set -- ${stat##*) }; echo "${20}") &&
            echo "$$ $since" >"$file.new" && mv "$file.new" "$file" && exec "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", DETACH, "sh"]).arg(self.run.join("etcd.log"));
        command.args(["sh", "-c", RECORD, "sh"]).arg(self.pid_file()).arg(&self.program);
        command.args(self.arguments());
        command
    }
}

/// When a process began, in clock ticks since the host did (proc_pid_stat(5), field 22); nothing
/// when it has ended.
fn began(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    // Its name is in parentheses, and may have spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18).map(ToOwned::to_owned))?
}

fn printed(command: &mut Command) -> Result<Output> {
    let failed = |why: String, command: &Command| {
        let program = command.get_program().to_string_lossy().into_owned();
        Error::Program { program, why }
    };
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string(), command))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("{}: {said}", output.status), command))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(initial_cluster: Option<&str>) -> Machine {
        Machine {
            program: "etcd".into(),
            data: "/var/lib/netd/etcd".into(),
            run: "/run/netd".into(),
            node: "n".repeat(25).parse().expect("a node"),
            address: "fd00::1".parse().expect("an address"),
            client_port: 2379,
            peer_port: 2380,
            identity: Directory::new("/var/lib/netd/cluster"),
            initial_cluster: initial_cluster.map(ToOwned::to_owned),
            quota: None,
            systemd: false,
        }
    }

    #[test]
    fn it_is_on_record_though_who_started_it_ended() {
        let run = std::env::temp_dir().join(format!("netd-etcd-{}", std::process::id()));
        fs::create_dir_all(&run).expect("a directory");
        let program = run.join("program (of its own)");
        fs::write(&program, "#!/bin/sh\nexec sleep 60\n").expect("a program");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&program, executable).expect("executable");
        let machine = Machine { program, run: run.clone(), ..machine(None) };
        // All that is done by a netd that is killed now.
        let output = printed(&mut machine.detached()).expect("it starts");
        let pid = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a pid");
        let deadline = Instant::now() + OBEYS;
        while machine.running().is_none() && Instant::now() < deadline {
            thread::park_timeout(LOOK);
        }
        let found = machine.ensure();
        machine.stop().expect("it ends");
        assert_eq!(machine.running(), None);
        fs::remove_dir_all(&run).expect("removed");
        assert_eq!(found.expect("it runs"), Began::Adopted(pid));
    }

    #[test]
    fn etcd_is_told_to_trust_the_cluster_only() {
        let first = machine(None).arguments().join(" ");
        for said in [
            "--client-cert-auth",
            "--peer-client-cert-auth",
            "--enable-grpc-gateway=false",
            "--peer-cert-allowed-hostname manager.netd",
            "--initial-cluster-state new",
            "--initial-cluster nnnnnnnnnnnnnnnnnnnnnnnnn=https://[fd00::1]:2380",
            "--listen-client-urls https://[fd00::1]:2379",
        ] {
            assert!(first.contains(said), "{said} in {first}");
        }
        let joining = machine(Some("a=https://x:1,b=https://y:1")).arguments().join(" ");
        assert!(joining.contains("--initial-cluster a=https://x:1,b=https://y:1"));
        assert!(joining.contains("--initial-cluster-state existing"));
    }
}
