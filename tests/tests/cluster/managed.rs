//! Clusters of which several hosts are managers, and what tests do to their etcds.

use std::fs;

use cnm::cluster::{CreateToken, Role};
use netd_tests::{eventually, output};
use serde_json::Value;

use crate::fleet::{Fleet, underlay};

impl Fleet {
    /// So many hosts in one cluster, of which the first are managers, each with a member of etcd
    /// that has its vote. `config` is told to every netd.
    pub(crate) fn managed(count: usize, managers: usize, config: &str) -> Self {
        let mut fleet = Self::bare_with(count, config);
        let worker = fleet.init().token.unwrap();
        for host in 1..managers {
            fleet.join_as_manager(host);
        }
        for host in managers..count {
            let joined = fleet.join(host, &worker);
            joined.unwrap_or_else(|error| panic!("host {host} does not join: {error}"));
        }
        eventually("all hosts know each other and all members", || {
            let known: Vec<_> = (0..count).map(|host| fleet.status(host)).collect();
            let all = |status: &cnm::cluster::ClusterStatus| {
                status.nodes == u64::try_from(count).unwrap() && status.store.len() == managers
            };
            if known.iter().all(all) { Ok(()) } else { Err(known) }
        });
        fleet
    }

    /// A host joins as a manager, and gets its vote.
    pub(crate) fn join_as_manager(&self, host: usize) {
        let token = CreateToken { role: Role::Manager, ..CreateToken::default() };
        let token = eventually("a token", || self.hosts[0].client().call(&token)).token;
        let before = self.hosts[host].log().len();
        eventually("it joins", || self.join(host, &token));
        eventually("it has its vote", || {
            let log = self.hosts[host].log();
            if log[before..].contains("this host has a vote in etcd") { Ok(()) } else { Err(()) }
        });
    }

    /// The pid of a host's etcd, if it runs one.
    pub(crate) fn etcd_of(&self, host: usize) -> Option<u32> {
        let kept = fs::read_to_string(self.hosts[host].run_dir().join("etcd.pid")).ok()?;
        let pid: u32 = kept.split(' ').next()?.trim().parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        (!matches!(state, 'Z' | 'X')).then_some(pid)
    }

    /// Sends a host's etcd a signal, if it runs; the pid.
    pub(crate) fn signal_etcd_of(&self, host: usize, signal: &str) -> Option<u32> {
        let pid = self.etcd_of(host)?;
        output(&format!("kill -{signal} {pid}")).status.success().then_some(pid)
    }

    /// What `etcdctl` prints, asking a host's etcd as that host.
    #[track_caller]
    pub(crate) fn etcdctl(&self, host: usize, line: &str) -> Result<String, String> {
        let kept = self.hosts[host].state_dir().join("cluster");
        let kept = kept.display();
        let ran = self.hosts[host].netns.output(&format!(
            "env ETCDCTL_API=3 etcdctl --endpoints https://{}:2379 --cacert {kept}/ca.pem \
             --cert {kept}/node.pem --key {kept}/node-key.pem {line}",
            underlay(host)
        ));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ran.status.success() { Ok(said(&ran.stdout)) } else { Err(said(&ran.stderr)) }
    }

    /// The host whose etcd leads.
    pub(crate) fn leader(&self) -> usize {
        let leads = |host: &usize| {
            let shown = self.etcdctl(*host, "endpoint status -w json").ok()?;
            let shown: Value = serde_json::from_str(&shown).ok()?;
            let status = &shown[0]["Status"];
            (status["leader"] == status["header"]["member_id"]).then_some(*host)
        };
        eventually("somebody leads", || {
            let hosts = (0..self.hosts.len()).filter(|host| self.etcd_of(*host).is_some());
            hosts.map(|host| leads(&host)).find_map(|led| led).ok_or("nobody")
        })
    }

    /// What a figure of a host's metrics is.
    pub(crate) fn figure(&self, host: usize, name: &str) -> u64 {
        let socket = self.hosts[host].run_dir().join("metrics.sock");
        let line = format!("curl -s --unix-socket {} http://netd/metrics", socket.display());
        let shown = netd_tests::run(&line);
        let found = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {name} in {shown}")).trim().parse().unwrap()
    }
}
