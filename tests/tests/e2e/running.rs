//! `netctl run`: a command in a sandbox of its own.

use std::{process::Stdio, time::Duration};

use cnm::{network::InspectNetwork, sandbox::ListSandboxes};
use netd_tests::{Asking as _, Host, World, eventually, within};

#[test]
fn a_command_has_its_network_and_its_end_is_passed_on() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let before = host.snapshot();
    let run = |words: &[&str]| {
        let mut all = vec!["run", "--network", "app", "--name", "web", "--"];
        all.extend(words);
        host.netctl(&all)
    };
    assert_eq!(run(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(run(&["true"]).code, 0);
    assert_eq!(run(&["sh", "-c", "kill -TERM $$"]).code, 128 + 15);
    assert_eq!(run(&["no-such-command"]).code, 127);
    let shown = run(&["ip", "-o", "-4", "address", "show", "eth0"]);
    assert!(shown.success().contains("inet "), "{shown:?}");
    assert_eq!(run(&["cat", "/proc/sys/kernel/hostname"]).success(), "web\n");
    let resolv = run(&["cat", "/etc/resolv.conf"]);
    assert!(resolv.success().contains("nameserver "), "{resolv:?}");
    let hosts = run(&["cat", "/etc/hosts"]);
    assert!(hosts.success().contains("web"), "{hosts:?}");
    let found = run(&["dig", "+short", "+search", "web"]);
    assert_eq!(found.success().lines().count(), 1, "{found:?}");
    let mut netd = host.client();
    assert!(netd.endpoints().is_empty());
    assert_eq!(netd.status().sandboxes, 0);
    eventually("the host is as before", || host.snapshot().same_as(&before));
}

#[test]
fn a_server_is_reached_by_name_and_by_its_port() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.client().create("app");
    let serve = "import http.server as s\nclass H(s.BaseHTTPRequestHandler):\n def do_GET(h):\n  h.send_response(200); h.end_headers(); h.wfile.write(h.client_address[0].encode())\n def log_message(*a): pass\ns.HTTPServer(('', 80), H).serve_forever()";
    let mut server = host
        .netctl_command(&[
            "run",
            "--network",
            "app",
            "--name",
            "web",
            "-p",
            "8080:80",
            "--",
            "/usr/bin/python3",
            "-c",
            serve,
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the server answers the LAN", || {
        let executed =
            netd_tests::Executed::from(lan.output("curl -sS --max-time 5 http://192.0.2.1:8080/"));
        if executed.stdout == "192.0.2.2" { Ok(()) } else { Err(executed) }
    });
    let fetched = host.netctl(&[
        "run",
        "--network",
        "app",
        "--",
        "curl",
        "-sS",
        "--max-time",
        "9",
        "http://web/",
    ]);
    assert!(fetched.success().starts_with("10."), "{fetched:?}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn the_command_ends_with_a_killed_netctl_and_leaves_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let before = host.snapshot();
    let mut running = host
        .netctl_command(&["run", "--network", "app", "--name", "web", "--", "sleep", "infinity"])
        .spawn()
        .unwrap();
    eventually("it runs", || {
        let endpoints = netd.endpoints();
        if endpoints.iter().any(|e| e.state == cnm::endpoint::State::Attached) {
            Ok(())
        } else {
            Err(endpoints)
        }
    });
    running.kill().unwrap();
    running.wait().unwrap();
    within(Duration::from_secs(5), "it is released", || {
        let endpoints = netd.endpoints();
        if endpoints.is_empty() { Ok(()) } else { Err(endpoints) }
    });
    eventually("the host is as before", || host.snapshot().same_as(&before));
}

#[test]
fn a_sandbox_that_netd_cannot_see_is_refused_with_why_and_leaves_nothing() {
    let world = World::new();
    let host = world.host("a");
    // As `ip netns exec` has each command in a mount namespace of its own.
    let mut command = host.netctl_command(&["sandbox", "create", "lab"]);
    let netctl = command.get_program().to_owned();
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut apart = std::process::Command::new("unshare");
    apart.args(["--mount", "--propagation", "private"]).arg(netctl).args(words);
    apart.env("NETD_SOCKET", host.socket());
    for _ in 0..2 {
        let refused = apart.output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("netd does not see the namespace that is held at"), "{said}");
    }
    // Where netd sees it, it is one.
    assert!(command.output().unwrap().status.success());
}

#[test]
fn sandboxes_stay_until_they_are_removed() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let before = host.snapshot();
    host.netctl(&["sandbox", "create", "lab"]).success();
    let list = host.netctl(&["sandbox", "ls"]);
    assert!(list.success().contains("lab"), "{list:?}");
    host.netctl(&["network", "connect", "app", "lab"]).success();
    let shown =
        host.netctl(&["sandbox", "exec", "lab", "--", "ip", "-o", "-4", "address", "show", "eth0"]);
    assert!(shown.success().contains("inet "), "{shown:?}");
    host.netctl(&["network", "disconnect", "app", "lab"]).success();
    assert_eq!(host.client().status().sandboxes, 1);
    host.netctl(&["sandbox", "rm", "lab"]).success();
    assert_eq!(host.client().status().sandboxes, 0);
    eventually("the host is as before", || host.snapshot().same_as(&before));
}

#[test]
fn a_command_has_hosts_and_options_as_with_docker() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let gateway = netd.create_on("app", "10.31.0.0/24").subnets[0].gateway.unwrap();
    let run = |words: &[&str], command: &str| {
        let mut all = vec!["run", "--name", "web"];
        all.extend(words);
        all.extend(["--", "sh", "-c", command]);
        host.netctl(&all)
    };
    let named = [
        "--network",
        "app",
        "-h",
        "web-1",
        "--add-host",
        "db:10.9.0.7",
        "--add-host=six:[fd00::7]",
        "--add-host",
        "up:host-gateway",
        "--dns-option",
        "timeout:2",
        "--dns-option",
        "ndots:1",
        "--dns-search",
        "corp.example,lab",
    ];
    let asked = "grep ^search /etc/resolv.conf; tail -1 /etc/resolv.conf";
    let said = run(&named, &format!("hostname; getent hosts db six up; {asked}"));
    let lines: Vec<Vec<_>> =
        said.success().lines().map(|line| line.split_whitespace().collect()).collect();
    let gateway = gateway.to_string();
    assert_eq!(
        lines,
        [
            vec!["web-1"],
            vec!["10.9.0.7", "db"],
            vec!["fd00::7", "six"],
            vec![&gateway, "up"],
            vec!["search", "corp.example", "lab"],
            vec!["options", "timeout:2", "ndots:1"],
        ]
    );
    for words in [&["--network", "host", "--add-host", "db:10.9.0.7"][..], &["--add-host", "db"]] {
        assert_eq!(run(words, "true").code, 2, "{words:?}");
    }
    for words in [
        ["--dns-search", "a..b"],
        ["--dns-search", "a\nnameserver 192.0.2.7"],
        ["--dns", "0.0.0.0"],
        ["--add-host", "a..b:1.2.3.4"],
    ] {
        let refused = run(&["--network", "app", words[0], words[1]], "true");
        assert_eq!(refused.code, 2, "{words:?}: {refused:?}");
        assert!(refused.stderr.contains("invalid"), "{words:?}: {refused:?}");
    }
    let refused = run(&["--network", "app", "--hostname", "localhost"], "true");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("localhost is no name for a container"), "{refused:?}");
    let nowhere = run(&["--network", "none", "--add-host", "up:host-gateway"], "true");
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(nowhere.stderr.contains("host-gateway"), "{nowhere:?}");
    assert!(netd.endpoints().is_empty());
    let help = host.netctl(&["run", "--help"]);
    for word in ["-h, --hostname", "--add-host <NAME:ADDRESS>", "--dns-option <OPTION>"] {
        assert!(help.success().contains(word), "{word}: {help:?}");
    }
}

#[test]
fn where_the_host_has_no_resolv_conf_a_command_has_its_own() {
    let world = World::new();
    // An `/etc` of the test's own.
    netd_tests::run("cp -a /etc /run/etc");
    netd_tests::run("mount --bind /run/etc /etc");
    let host = world.host("a");
    let lan = host.lan();
    lan.serve_udp_with(53, netd_tests::one_address);
    let gateway = host.client().create("app").subnets[0].gateway.unwrap();
    let resolv_conf = std::path::Path::new("/etc/resolv.conf");
    let wanted = format!("nameserver {gateway}\noptions ndots:0\n");
    let run = |command: &str| {
        let words = ["run", "--network", "app", "--name", "web", "--", "sh", "-c", command];
        host.netctl(&words)
    };
    let remove = |path: &std::path::Path| drop(std::fs::remove_file(path));
    for state in ["missing", "dangling", "empty", "both missing"] {
        remove(resolv_conf);
        match state {
            "dangling" => {
                std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", resolv_conf)
                    .unwrap();
            }
            "empty" => std::fs::write(resolv_conf, "").unwrap(),
            "both missing" => remove("/etc/hosts".as_ref()),
            _ => {}
        }
        let before = netd_tests::run("ls -ln /etc");
        let executed = run("cat /etc/resolv.conf; grep -c web /etc/hosts; getent hosts localhost");
        assert!(executed.success().starts_with(&format!("{wanted}1\n")), "{state}: {executed:?}");
        assert_eq!(executed.stderr, "", "{state}");
        // Whoever else is in there is as it was, and nothing is made on the host.
        assert_eq!(run("stat -c %a%u%g /etc; cat /etc/passwd; : > /etc/own").code, 0, "{state}");
        remove("/etc/own".as_ref());
        assert_eq!(netd_tests::run("ls -ln /etc"), before, "{state}");
        assert_eq!(run("dig +short +search web").success().lines().count(), 1, "{state}");
        assert_eq!(run("dig +short example.org").success(), "", "{state}: there is nobody to ask");
    }
    // When there is one, it is noticed.
    std::fs::write("/etc/resolv.next", "nameserver 192.0.2.2\n").unwrap();
    std::fs::rename("/etc/resolv.next", resolv_conf).unwrap();
    eventually("others are asked", || match run("dig +short example.org").success() {
        "203.0.113.7\n" => Ok(()),
        other => Err(other.to_owned()),
    });
}

#[test]
fn a_command_may_be_taken_off_its_last_network_and_put_back() {
    let world = World::new();
    let mut host = world.host("a");
    let before = host.snapshot();
    for network in ["app", "back"] {
        host.client().create(network);
    }
    let mut running = host
        .netctl_command(&["run", "--network", "app", "--name", "web", "--", "sleep", "infinity"])
        .spawn()
        .unwrap();
    let listed = |host: &Host| host.netctl(&["sandbox", "ls"]).success().contains(" web ");
    let gateway = |host: &Host, network: &str| {
        let inspect = InspectNetwork { network: network.to_owned() };
        host.client().call(&inspect).unwrap().network.subnets[0].gateway.unwrap()
    };
    let pid = eventually("it runs", || {
        let sandboxes = host.client().call(&ListSandboxes {}).unwrap().sandboxes;
        let kept = sandboxes.iter().find(|sandbox| sandbox.kept).ok_or("not yet")?;
        kept.container.pid.ok_or("no process")
    });
    let inside = |line: &str| netd_tests::run(&format!("nsenter --net --target {pid} {line}"));
    host.netctl(&["network", "disconnect", "app", "web"]).success();
    assert!(host.client().endpoints().is_empty());
    assert!(listed(&host), "it still runs");
    host.netctl(&["network", "connect", "back", "web"]).success();
    inside(&format!("ping -c 1 -W 5 {}", gateway(&host, "back")));
    // A netd that has been started again knows it, too.
    host.netctl(&["network", "disconnect", "back", "web"]).success();
    host.kill();
    host.start();
    assert!(listed(&host), "it still runs");
    host.netctl(&["network", "connect", "app", "web"]).success();
    inside(&format!("ping -c 1 -W 5 {}", gateway(&host, "app")));
    // Another of that name may be on another network meanwhile, and ends by itself.
    let words = ["run", "--network", "back", "--name", "web", "--", "true"];
    assert_eq!(host.netctl(&words).code, 0);
    assert!(listed(&host), "it is another's end");

    // On no network, netctl killed, and netd away when that happens: nothing is left of it.
    host.netctl(&["network", "disconnect", "app", "web"]).success();
    host.kill();
    running.kill().unwrap();
    running.wait().unwrap();
    // Whoever comes next may get the id that its namespace had.
    let next = world.namespace();
    next.run("ip link set lo up");
    host.start();
    eventually("it is forgotten", || if listed(&host) { Err("it is listed") } else { Ok(()) });
    // And where netd is there.
    let mut running = host
        .netctl_command(&["run", "--network", "app", "--name", "web", "--", "sleep", "infinity"])
        .spawn()
        .unwrap();
    eventually("it runs", || {
        let sandboxes = host.client().call(&ListSandboxes {}).unwrap().sandboxes;
        sandboxes.iter().any(|sandbox| sandbox.kept).then_some(()).ok_or(sandboxes)
    });
    host.netctl(&["network", "disconnect", "app", "web"]).success();
    running.kill().unwrap();
    running.wait().unwrap();
    eventually("it is forgotten", || if listed(&host) { Err("it is listed") } else { Ok(()) });
    for network in ["app", "back"] {
        host.netctl(&["network", "rm", network]).success();
    }
    eventually("the host is as before", || host.snapshot().same_as(&before));
}
