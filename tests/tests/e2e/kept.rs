//! What a command of `netctl run` reads stays its own, whatever the host does with its files
//! meanwhile.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netd_tests::{Asking as _, Host, HostOptions, World, eventually, run};

use super::hook::{OWN, is_hooked, own_etc};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// A command of `netctl run`, which ends with this.
struct Running {
    netctl: Child,
    pid: u32,
}

impl Running {
    fn on(host: &Host, network: &str) -> Self {
        let words = ["run", "--network", network, "--name", "web", "--", "sleep", "infinity"];
        let netctl = host.netctl_command(&words).stderr(Stdio::piped()).spawn().unwrap();
        let pid = eventually("it runs", || {
            let endpoints = host.client().endpoints();
            let pid = endpoints.first().and_then(|own| own.container.pid).ok_or("not attached")?;
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if words.starts_with("sleep") { Ok(pid) } else { Err("not yet") }
        });
        Self { netctl, pid }
    }

    /// What it prints where the command is at home.
    fn shell(&self, script: &str) -> String {
        let words = ["--mount", "--target", &self.pid.to_string(), "sh", "-c", script];
        let output = std::process::Command::new("nsenter").args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    fn reads(&self, path: &str, text: &str, when: &str) {
        eventually(when, || match self.shell(&format!("cat {path}")) {
            read if read == text => Ok(()),
            read => Err(read),
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.netctl.kill());
        drop(self.netctl.wait());
    }
}

#[test]
fn a_command_keeps_its_files_when_the_host_replaces_its_own() {
    let world = World::new();
    own_etc();
    let mut host = world.host("a");
    let mut netd = host.client();
    for network in ["app", "back"] {
        netd.create(network);
    }
    let web = Running::on(&host, "app");
    // What it writes there itself stays as well.
    web.shell("echo '10.9.0.7 mine' >>/etc/hosts");
    for path in [RESOLV_CONF, HOSTS] {
        let own = web.shell(&format!("cat {path}"));
        assert!(!own.is_empty() && own != fs::read_to_string(path).unwrap(), "{own}");
        let ways = [
            ("renamed over", "echo 1 >/etc/next && mv /etc/next FILE"),
            ("and again", "echo 2 >/etc/next && mv /etc/next FILE"),
            ("moved aside", "mv FILE /etc/before && echo 3 >FILE"),
            ("moved away", "mv FILE /run/elsewhere && echo 4 >FILE"),
            ("removed", "rm FILE && echo 5 >FILE"),
            (
                "replaced by a link",
                "mkdir /run/real && echo 6 >/run/real/file && ln -sf /run/real/file FILE",
            ),
            (
                "renamed behind the link",
                "echo 7 >/run/real/next && mv /run/real/next /run/real/file",
            ),
            ("written behind the link", "rm /run/real/file && echo 8 >/run/real/file"),
            (
                "its directory replaced",
                "rm -r /run/real && mkdir /run/real && echo 9 >/run/real/file",
            ),
            ("a file again", "rm -r /run/real FILE && echo 10 >FILE"),
        ];
        for (number, (way, script)) in (1..).zip(ways) {
            run_all(&script.replace("FILE", path));
            web.reads(path, &own, way);
            assert_eq!(fs::read_to_string(path).unwrap(), format!("{number}\n"), "{way}");
        }
        // Others of the host's it has as before.
        run_all("echo later >/etc/later.next && mv /etc/later.next /etc/later");
        assert_eq!(web.shell("cat /etc/later"), "later\n");
    }
    // Nothing piles up over them.
    let mounts = web.shell("cat /proc/self/mountinfo");
    for path in [RESOLV_CONF, HOSTS] {
        assert_eq!(mounts.matches(&format!(" {path} ")).count(), 1, "{mounts}");
    }
    // They still follow its networks, with a host that writes its own at the same time.
    host.kill();
    run_all("echo 11 >/etc/next && mv /etc/next /etc/resolv.conf");
    host.start();
    host.netctl(&["network", "connect", "back", "web"]).success();
    eventually("its resolv.conf follows", || {
        let text = web.shell("cat /etc/resolv.conf");
        if text.matches("nameserver ").count() == 2 { Ok(()) } else { Err(text) }
    });
    assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), "11\n");
}

#[test]
fn a_command_keeps_its_resolv_conf_when_netd_puts_itself_into_the_hosts() {
    let world = World::new();
    own_etc();
    let config = "dns_hook = \"resolv.conf\"".to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    eventually("resolv.conf names netd", is_hooked);
    host.client().create("app");
    let web = Running::on(&host, "app");
    let own = web.shell("cat /etc/resolv.conf");
    assert!(own.starts_with("nameserver 10."), "{own}");
    // netd takes itself out, and puts itself there anew: it renames each time.
    host.stop();
    web.reads(RESOLV_CONF, &own, "netd has taken itself out");
    assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), OWN);
    host.start();
    eventually("resolv.conf names netd again", is_hooked);
    web.reads(RESOLV_CONF, &own, "netd is there again");
}

#[test]
fn a_command_has_its_files_back_after_something_that_is_none() {
    let world = World::new();
    own_etc();
    let host = world.host("a");
    host.client().create("app");
    let mut web = Running::on(&host, "app");
    let own = web.shell("cat /etc/resolv.conf");
    fs::remove_file(RESOLV_CONF).unwrap();
    fs::create_dir("/run/directory").unwrap();
    std::os::unix::fs::symlink("/run/directory", RESOLV_CONF).unwrap();
    let mut line = String::new();
    BufReader::new(web.netctl.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("the command finds the host's own /etc/resolv.conf"), "{line}");
    fs::remove_file(RESOLV_CONF).unwrap();
    fs::write(RESOLV_CONF, OWN).unwrap();
    web.reads(RESOLV_CONF, &own, "it is a file again");
}

/// Renames files over the host's, again and again, until told to stop.
fn replace_until(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for path in [RESOLV_CONF, HOSTS] {
            fs::write("/etc/next", "# the host's\n").unwrap();
            fs::rename("/etc/next", path).unwrap();
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_command_has_its_files_when_the_host_replaces_its_own_as_it_starts() {
    let world = World::new();
    own_etc();
    let host = world.host("a");
    host.client().create("app");
    // It begins, waits for the host to leave its files alone, and for its own to be there.
    let script = "echo begun; read line; \
                  until grep -q web /etc/hosts && grep -q '^nameserver 10' /etc/resolv.conf; \
                  do sleep 0.1; done";
    let words = ["run", "--network", "app", "--", "timeout", "20", "sh", "-c"];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| replace_until(&stop));
        let start = |number: usize| {
            let script = script.replace("web", &format!("web-{number}"));
            let name = format!("--hostname=web-{number}");
            let words: Vec<_> =
                ["run", &name].into_iter().chain(words[1..].iter().copied()).collect();
            let mut command = host.netctl_command(&words);
            command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
            command.stderr(Stdio::inherit()).spawn().unwrap()
        };
        let mut all: Vec<Child> = (0..12).map(start).collect();
        let begun: Vec<String> = all
            .iter_mut()
            .map(|one| {
                let mut line = String::new();
                BufReader::new(one.stdout.take().unwrap()).read_line(&mut line).unwrap();
                line
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(begun, vec!["begun\n"; all.len()]);
        for one in &mut all {
            one.stdin.take().unwrap().write_all(b"\n").unwrap();
        }
        let codes: Vec<_> = all.iter_mut().map(|one| one.wait().unwrap().code()).collect();
        assert_eq!(codes, vec![Some(0); all.len()]);
    });
}

fn run_all(script: &str) {
    fs::write("/run/script", script).unwrap();
    run("sh -e /run/script");
}
