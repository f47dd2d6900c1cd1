//! `netctl run`: a command in a sandbox of its own.

use std::{process::Stdio, time::Duration};

use netd_tests::{Asking as _, World, eventually, within};

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
