//! `netctl run`: real processes in real namespaces, and a netd that only answers.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdout, Command, Stdio},
};

use cnm::{
    Call, Error, Kind,
    endpoint::{Attach, ListEndpoints},
    events::Subscribe,
    sandbox::{CreateSandbox, RemoveSandbox},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::fake::{Asked, Ended, Fake, private, willing};

fn own_netns() -> String {
    fs::read_link("/proc/thread-self/ns/net").expect("a namespace").display().to_string()
}

/// What a script says here.
fn outside(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output();
    String::from_utf8(output.expect("a shell").stdout).expect("text").trim().to_owned()
}

fn run<'a>(netd: &Fake, flags: &'a str, script: &'a str) -> Command {
    let mut command = netd.command(["run"].into_iter().chain(flags.split_whitespace()));
    command.args(["--", "sh", "-c", script]).stdin(Stdio::null());
    command
}

/// Starts a script that says `up` and then waits for its standard input, which stays open.
fn start(netd: &Fake, flags: &str, script: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = run(netd, flags, script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("netctl starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, "up\n");
    (child, stdout)
}

/// What was asked for the command; what its files go by is asked besides, whenever that comes.
fn asked(netd: &Fake) -> Vec<Asked> {
    let mut asked = netd.asked();
    asked.retain(|call| ![Subscribe::METHOD, ListEndpoints::METHOD].contains(&&*call.method));
    asked
}

fn methods(netd: &Fake) -> Vec<String> {
    asked(netd).into_iter().map(|asked| asked.method).collect()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("signalled");
}

#[test]
fn a_command_is_at_home_in_a_namespace_of_its_own() {
    private();
    let netd = Fake::new(willing);
    let before = fs::read_to_string("/etc/resolv.conf").expect("a resolv.conf");
    let ended = Ended::of(&mut run(
        &netd,
        "--network app --name web --alias www -p 8080:80",
        "readlink /proc/self/ns/net; uname -n; head -n1 /etc/resolv.conf; tail -n1 /etc/hosts; \
         ls /proc/self/fd | wc -l; grep -c /proc /proc/self/mountinfo; exit 7",
    ));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(7), ""), "{ended:?}");
    let [netns, hostname, resolver, hosts, descriptors, procs] =
        ended.stdout.lines().collect::<Vec<_>>()[..]
    else {
        panic!("six lines: {ended:?}");
    };
    assert_ne!(netns, own_netns());
    assert_eq!(hostname, "web");
    assert_eq!(resolver, "nameserver 10.9.0.1");
    assert_eq!(hosts, "10.9.0.2\tweb");
    assert_eq!(descriptors, outside("ls /proc/self/fd | wc -l"), "no pipe of netctl's came along");
    assert_eq!(procs, outside("grep -c /proc /proc/self/mountinfo"), "/proc came back");

    let asked = asked(&netd);
    let [attach, stay, leave] = &asked[..] else { panic!("three calls: {asked:?}") };
    assert_eq!(attach.method, Attach::METHOD);
    assert_eq!(attach.netns.as_deref(), Some(netns));
    assert_eq!(attach.params["network"], "app");
    assert_eq!(attach.params["aliases"], json!(["www"]));
    let container = &attach.params["container"];
    assert_eq!((&container["name"], &container["hostname"]), (&json!("web"), &json!("web")));
    assert!(container["pid"].is_u64(), "by it another network is connected later");
    assert_eq!(container["id"].as_str().map(str::len), Some(64));
    assert_eq!(stay.method, CreateSandbox::METHOD, "it is known though on no network any more");
    assert_eq!((&stay.params["container"], &stay.netns), (container, &attach.netns));
    assert_eq!(leave.method, RemoveSandbox::METHOD);
    assert_eq!(leave.params, json!({"container": container["id"]}));
    assert_eq!(fs::read_to_string("/etc/resolv.conf").expect("a resolv.conf"), before);
}

#[test]
fn resolv_conf_may_be_a_link_or_missing() {
    private();
    let netd = Fake::new(willing);
    let real = netd.directory.join("real.conf");
    fs::write(&real, "search corp.example\n").expect("written");
    // A private /etc whose resolv.conf leads elsewhere.
    let etc = netd.directory.join("etc");
    fs::create_dir(&etc).expect("made");
    std::os::unix::fs::symlink(&real, etc.join("resolv.conf")).expect("linked");
    fs::write(etc.join("hosts"), "").expect("written");
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&etc), "/etc", None::<&str>, flags, None::<&str>).expect("bound");

    let script = "cat /etc/resolv.conf; test -L /etc/resolv.conf && echo a link";
    let ended = Ended::of(&mut run(&netd, "--network app", script));
    assert_eq!(
        ended.stdout, "nameserver 10.9.0.1\nsearch corp.example\noptions ndots:0\na link\n",
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(&real).expect("there"), "search corp.example\n");

    fs::remove_file(etc.join("resolv.conf")).expect("removed");
    let script = "cat /etc/resolv.conf; tail -n1 /etc/hosts; exit 3";
    let ended = Ended::of(&mut run(&netd, "--network app", script));
    assert_eq!(ended.code, Some(3));
    let wanted = "nameserver 10.9.0.1\noptions ndots:0\n10.9.0.2\tc-";
    assert!(ended.stdout.starts_with(wanted), "{ended:?}");
    assert_eq!(ended.stderr, "");
    assert!(!etc.join("resolv.conf").exists(), "nothing was made on the host");
}

#[test]
fn with_chosen_name_servers_those_are_asked() {
    private();
    let netd = Fake::new(willing);
    let script = "grep nameserver /etc/resolv.conf; uname -n";
    let flags = "--dns 192.0.2.1 --dns 192.0.2.2 --hostname other";
    let ended = Ended::of(&mut run(&netd, flags, script));
    assert_eq!(ended.stdout, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nother\n", "{ended:?}");
    assert_eq!(asked(&netd)[0].params["network"], "bridge");
}

#[test]
fn a_killed_command_is_detached_too() {
    private();
    let netd = Fake::new(willing);
    let ended = Ended::of(&mut run(&netd, "--network app", "kill -9 $$"));
    assert_eq!(ended.code, Some(137));
    assert_eq!(methods(&netd), [Attach::METHOD, CreateSandbox::METHOD, RemoveSandbox::METHOD]);
}

#[test]
fn signals_go_on_to_the_command() {
    private();
    for (sent, code) in [(Signal::SIGTERM, 5), (Signal::SIGINT, 6), (Signal::SIGHUP, 129)] {
        let netd = Fake::new(willing);
        // In `wait` a shell hears signals at once; the reader ends with the test's own input.
        let script = "trap 'exit 5' TERM; trap 'exit 6' INT; exec 3<&0; cat <&3 >/dev/null & \
                      echo up; wait";
        let (mut child, mut stdout) = start(&netd, "--network app", script);
        signal(&child, sent);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("read");
        assert_eq!(child.wait().expect("an end").code(), Some(code), "{sent}");
        assert_eq!(
            methods(&netd),
            [Attach::METHOD, CreateSandbox::METHOD, RemoveSandbox::METHOD],
            "{sent}"
        );
    }
}

#[test]
fn a_command_does_not_outlive_netctl() {
    private();
    let netd = Fake::new(willing);
    let (mut child, mut stdout) = start(&netd, "--network app", "echo up; read line; echo on");
    signal(&child, Signal::SIGKILL);
    // Its input is still open, so it would wait for ever if it had not been ended.
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("read to the end");
    assert_eq!(rest, "");
    assert_eq!(child.wait().expect("an end").signal(), Some(9));
    assert_eq!(methods(&netd), [Attach::METHOD, CreateSandbox::METHOD]);
}

#[test]
fn when_the_attach_fails_the_command_never_begins() {
    private();
    let netd = Fake::new(|method, params| match method {
        Attach::METHOD if params["network"] == "full" => {
            Err(Error::new(Kind::Exhausted, "network full has no free address"))
        }
        _ => willing(method, params),
    });
    for flags in ["--network full", "--network app --network full"] {
        // The end of its output is the end of every process that had it.
        let ended = Ended::of(&mut run(&netd, flags, "echo up"));
        assert_eq!(ended.code, Some(5));
        assert_eq!(
            (ended.stdout.as_str(), ended.stderr.as_str()),
            ("", "netctl: network full has no free address\n")
        );
        assert_eq!(methods(&netd).pop().as_deref(), Some(RemoveSandbox::METHOD), "{flags}");
    }
}

#[test]
fn what_cannot_be_run_says_so_and_is_detached() {
    private();
    let netd = Fake::new(willing);
    for (command, code) in [("no-such-command", 127), ("/etc", 126)] {
        let ended = netd.netctl(&format!("run --network app -- {command}"));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("netctl: cannot run {command}: ")), "{ended:?}");
        assert_eq!(methods(&netd).pop().as_deref(), Some(RemoveSandbox::METHOD));
    }
}

#[test]
fn several_networks_are_joined_in_order() {
    private();
    let netd = Fake::new(willing);
    let flags = "--network a --network b --ip 10.9.0.2 --alias www --sticky -p 80:80";
    assert_eq!(Ended::of(&mut run(&netd, flags, "true")).code, Some(0));
    let asked = asked(&netd);
    let [a, b, ..] = &asked[..] else { panic!("two calls: {asked:?}") };
    assert_eq!((&a.params["network"], &b.params["network"]), (&json!("a"), &json!("b")));
    assert_eq!(a.params["addresses"], json!(["10.9.0.2"]));
    assert_eq!(b.params.get("addresses"), None);
    assert_eq!(b.params.get("ports"), None);
    assert_eq!(a.params["aliases"], b.params["aliases"]);
    assert_eq!(a.params["container"], b.params["container"]);
    assert_eq!(a.netns, b.netns);
    let ended = netd.netctl("run --network a --network host -- true");
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.stderr, "netctl: network host cannot be combined with other networks\n");
}

#[test]
fn on_the_hosts_network_everything_is_the_hosts() {
    private();
    let netd = Fake::new(willing);
    let script = "readlink /proc/self/ns/net; readlink /proc/self/ns/mnt; uname -n; echo $$";
    let ended = Ended::of(&mut run(&netd, "--network host", script));
    let lines: Vec<_> = ended.stdout.lines().collect();
    let mount = fs::read_link("/proc/thread-self/ns/mnt").expect("a namespace");
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert_eq!(lines[..3], [&own_netns(), &mount.display().to_string(), hostname.trim()]);
    let attach = &asked(&netd)[0];
    assert_eq!(attach.netns, Some(own_netns()));
    assert_eq!(attach.params["container"]["pid"].to_string(), lines[3]);
}
