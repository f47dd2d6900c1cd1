//! The commands that ask netd and print its answer.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use cnm::{
    Call, Error,
    endpoint::{Attach, CheckEndpoint, Detach, Detached},
    events::Subscribe,
    network::{CreateNetwork, InspectNetwork, ListNetworks, PruneNetworks, RemoveNetwork},
    sandbox::ListSandboxes,
    system::GetVersion,
};
use serde_json::{Value, json};

use crate::fake::{Ended, Fake, answer, command, network, willing};

fn not_found(params: &Value) -> Error {
    let name = params["network"].as_str().expect("a name");
    Error::not_found(format_args!("network {name} not found")).with("network", name)
}

#[test]
fn networks_are_listed_as_docker_lists_them() {
    let netd = Fake::new(|_, _| {
        let networks = [
            network(0x11, "net10", "bridge"),
            network(0x22, "net9", "bridge"),
            network(0x33, "none", "none"),
        ];
        Ok(json!({"networks": networks}))
    });
    let ls = netd.netctl("network ls");
    assert_eq!(
        ls.stdout,
        "NETWORK ID     NAME      DRIVER    SCOPE\n\
         222222222222   net9      bridge    local\n\
         111111111111   net10     bridge    local\n\
         333333333333   none      null      local\n"
    );
    assert_eq!((ls.code, ls.stderr.as_str()), (Some(0), ""));
    assert_eq!(netd.netctl("network ls -q").stdout, "222222222222\n111111111111\n333333333333\n");
    let json: Value = serde_json::from_str(&netd.netctl("network ls --json").stdout).expect("JSON");
    assert_eq!(json["networks"][2]["driver"], "none");

    netd.netctl("network ls -f driver=null -f label=a=b -f label=c");
    let last = netd.asked().pop().expect("asked");
    assert_eq!(last.method, ListNetworks::METHOD);
    assert_eq!(last.params, json!({"filters": {"driver": ["none"], "label": ["a=b", "c"]}}));
}

#[test]
fn no_networks_are_a_heading() {
    let netd = Fake::new(|_, _| Ok(json!({"networks": []})));
    assert_eq!(netd.netctl("network ls").stdout, "NETWORK ID   NAME      DRIVER    SCOPE\n");
}

#[test]
fn a_network_is_made_of_what_was_said() {
    let netd = Fake::new(|_, _| Ok(network(0xab, "app", "bridge")));
    let made = netd.netctl(
        "network create --subnet 10.1.0.0/24 --gateway 10.1.0.9 --exclude 10.1.0.64/26 \
         --ipv6=false --opt a=b --label team app",
    );
    assert_eq!(made.stdout, format!("{}\n", "ab".repeat(32)));
    let asked = netd.asked().pop().expect("asked");
    assert_eq!(asked.method, CreateNetwork::METHOD);
    let subnet = json!({
        "subnet": "10.1.0.0/24", "gateway": "10.1.0.9", "exclude": ["10.1.0.64/26"],
    });
    let expected = json!({
        "name": "app", "driver": "bridge", "subnets": [subnet], "ipv6": false, "internal": false,
        "options": {"a": "b"}, "labels": {"team": ""},
    });
    assert_eq!(asked.params, expected);

    let refused = netd.netctl("network create --subnet 10.1.0.0/24 --gateway 10.2.0.1 app");
    assert_eq!(refused.code, Some(2));
    assert_eq!(refused.stderr, "netctl: no matching subnet for gateway 10.2.0.1\n");
    // Of subnets that are named it is asked first what would be in their way.
    let sent = ["network.check", "network.create"];
    assert_eq!(netd.methods(), sent, "a wrong request is not sent");
}

#[test]
fn inspecting_shows_what_is_there_and_names_what_is_not() {
    let netd = Fake::new(|method, params| {
        assert_eq!(method, InspectNetwork::METHOD);
        if params["network"] != "app" {
            return Err(not_found(params));
        }
        let mut app = network(0xab, "app", "bridge");
        app["endpoints"] = json!([]);
        Ok(app)
    });
    let missing = netd.netctl("network inspect nope");
    assert_eq!(
        missing,
        Ended {
            code: Some(3),
            stdout: "[]\n".into(),
            stderr: "netctl: network nope not found\n".into(),
        }
    );
    let both = netd.netctl("network inspect nope app");
    assert_eq!(both.code, Some(3));
    assert!(both.stdout.starts_with("[\n    {\n        \"Name\": \"app\",\n"), "{}", both.stdout);
    let docker: Value = serde_json::from_str(&both.stdout).expect("JSON");
    assert_eq!(docker[0]["ConfigFrom"]["Network"], "");
    for line in ["network inspect --json app", "network inspect -f cnm app"] {
        let own: Value = serde_json::from_str(&netd.netctl(line).stdout).expect("JSON");
        assert_eq!(own[0]["name"], "app");
        assert_eq!(own[0]["endpoints"], json!([]));
    }
}

#[test]
fn removing_goes_on_after_a_fault() {
    let netd = Fake::new(|method, params| {
        if method == InspectNetwork::METHOD {
            return Err(not_found(params));
        }
        assert_eq!(method, RemoveNetwork::METHOD);
        match params["network"].as_str() {
            Some("gone") => Err(not_found(params)),
            Some("used") => Err(Error::new(cnm::Kind::Busy, "network used has active endpoints")),
            _ => Ok(json!({})),
        }
    });
    let removed = netd.netctl("network rm a used gone b");
    assert_eq!(removed.stdout, "a\nb\n");
    assert_eq!(
        removed.stderr,
        "netctl: network used has active endpoints\nnetctl: network gone not found\n"
    );
    assert_eq!(removed.code, Some(6), "the code is the first fault's");
    let forced = netd.netctl("network rm -f gone b");
    assert_eq!(forced, Ended { code: Some(0), stdout: "b\n".into(), stderr: String::new() });
}

#[test]
fn pruning_asks_first() {
    let netd = Fake::new(|method, _| match method {
        ListNetworks::METHOD => Ok(json!({"networks": []})),
        _ => Ok(json!({"removed": ["a", "b"]})),
    });
    let pruned = netd.netctl("network prune -f --filter until=2026-01-01T00:00:00Z");
    assert_eq!(pruned.stdout, "Deleted Networks:\na\nb\n\n");
    let asked = netd.asked().pop().expect("asked");
    assert_eq!(asked.method, PruneNetworks::METHOD);
    assert_eq!(asked.params, json!({"filters": {"until": ["2026-01-01T00:00:00Z"]}}));

    for (word, agrees) in [("y\n", true), ("Y\n", true), ("n\n", false), ("\n", false), ("", false)]
    {
        let before = netd.methods().len();
        let mut child = netd
            .command(["network", "prune"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("netctl starts");
        child.stdin.take().expect("a pipe").write_all(word.as_bytes()).expect("read");
        let output = child.wait_with_output().expect("an end");
        let stdout = String::from_utf8(output.stdout).expect("text");
        assert!(stdout.contains("Are you sure you want to continue? [y/N] "), "{stdout}");
        assert_eq!(stdout.contains("Deleted Networks:"), agrees, "{word:?}");
        assert_eq!(output.status.code(), Some(if agrees { 0 } else { 1 }), "{word:?}");
        assert_eq!(netd.methods().len() - before, 2 * usize::from(agrees), "{word:?}");
    }
}

#[test]
fn connecting_is_an_attach_of_a_sandbox_that_netd_knows() {
    let netd = Fake::new(|method, params| match method {
        ListSandboxes::METHOD => {
            let sandbox = |id: &str, name: &str| json!({"container": {"id": id, "name": name}, "created": "2026-01-02T03:04:05Z"});
            Ok(json!({"sandboxes": [sandbox("abc1", "web"), sandbox("abc2", "db")]}))
        }
        _ => willing(method, params),
    });
    let line = "network connect --ip 10.9.0.7 --ip6 fd00::7 --alias www --ifname net0 \
                --mac-address 02:00:00:00:00:07 -p 8080:80 app";
    for (wanted, code) in [("web", 0), ("abc1", 0), ("abc", 2), ("nope", 3), ("''", 3)] {
        let ended = netd.netctl(&format!("{line} {wanted}"));
        assert_eq!(ended.code, Some(code), "{wanted}: {ended:?}");
        assert_eq!(ended.stdout, "");
    }
    let attaches: Vec<_> =
        netd.asked().into_iter().filter(|asked| asked.method == Attach::METHOD).collect();
    let [first, second] = &attaches[..] else { panic!("two attaches: {attaches:?}") };
    assert_eq!(first.params, second.params);
    assert_eq!(first.netns, None);
    let expected = json!({
        "network": "app", "container": {"id": "abc1", "name": "web"}, "ifname": "net0",
        "addresses": ["10.9.0.7", "fd00::7"], "mac": "02:00:00:00:00:07", "aliases": ["www"],
        "ports": [{"protocol": "tcp", "host_port": 8080, "container_port": 80}], "sticky": false,
    });
    assert_eq!(first.params, expected);
}

#[test]
fn disconnecting_what_is_not_connected_is_a_fault_unless_forced() {
    let netd = Fake::new(|_, _| answer(&Detached::default()));
    let ended = netd.netctl("network disconnect app web");
    assert_eq!(ended.code, Some(3));
    assert_eq!(ended.stderr, "netctl: container web is not connected to network app\n");
    assert_eq!(netd.netctl("network disconnect -f app web").code, Some(0));
    let asked = netd.asked().pop().expect("asked");
    assert_eq!(asked.method, Detach::METHOD);
    assert_eq!(asked.params, json!({"network": "app", "container": "web"}));
}

#[test]
fn an_attach_hands_the_namespace_over() {
    let netd = Fake::new(willing);
    let ended = netd.netctl(
        "attach --netns /proc/self/ns/net --name web --sticky --label a=b -p 127.0.0.1:8080:80 app",
    );
    assert_eq!(
        ended.stdout,
        "\
ENDPOINT ID    NETWORK   CONTAINER   INTERFACE   ADDRESSES     PORTS
070707070707   app       web         eth0        10.9.0.2/24   127.0.0.1:8080->80/tcp
",
        "{ended:?}"
    );
    let asked = netd.asked().pop().expect("asked");
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    assert_eq!(asked.netns, Some(own.display().to_string()));
    assert_eq!(asked.params["netns"], "fd");
    assert_eq!(asked.params["netns_path"], "/proc/self/ns/net");
    assert_eq!(asked.params["container"], json!({"id": "web", "name": "web"}));

    let ended = netd.netctl("attach --netns PID:0 --name web app");
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.starts_with("netctl: cannot open the network namespace /proc/0/ns/net: "));

    let detached = netd.netctl("detach --network app --ifname eth0 web");
    assert_eq!(detached.stdout, format!("{}\n", "07".repeat(32)));
}

#[test]
fn a_check_ends_as_it_went() {
    let netd = Fake::new(|method, params| {
        assert_eq!(method, CheckEndpoint::METHOD);
        let bad = params["endpoint"] == "bad";
        Ok(json!({"differences": if bad { vec!["eth0 is down"] } else { vec![] }}))
    });
    let good = netd.netctl("endpoint check 0123");
    assert_eq!((good.code, good.stdout.as_str()), (Some(0), "endpoint 0123 is as it should be\n"));
    assert_eq!(netd.asked().pop().expect("asked").params, json!({"endpoint": "0123"}));
    let bad = netd.netctl("endpoint check bad");
    assert_eq!((bad.code, bad.stdout.as_str()), (Some(1), "eth0 is down\n"));
    // Inside as well, where the path means something to netctl.
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace").display().to_string();
    let inside = netd.netctl(&format!("endpoint check --netns PID:{} 0123", std::process::id()));
    assert_eq!(inside.code, Some(0), "{inside:?}");
    let asked = netd.asked().pop().expect("asked");
    assert_eq!((asked.netns, &asked.params["netns"]), (Some(own), &json!("fd")));
    let ended = netd.netctl("endpoint check --netns PID:0 0123");
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.starts_with("netctl: cannot open the network namespace /proc/0/ns/net: "));
}

#[test]
fn events_are_lines_until_netd_ends() {
    let netd = Fake::new(|method, _| {
        assert_eq!(method, Subscribe::METHOD);
        let event = |action: &str| {
            json!({
                "time": "2026-01-02T03:04:05Z", "object": "network", "action": action,
                "id": "ab", "attributes": {"name": "app"},
            })
        };
        Ok(json!([event("create"), event("remove")]))
    });
    let ended = netd.netctl("events");
    assert_eq!(
        ended.stdout,
        "2026-01-02T03:04:05Z network create ab (name=app)\n\
         2026-01-02T03:04:05Z network remove ab (name=app)\n"
    );
    assert_eq!(ended.code, Some(9));
    assert!(ended.stderr.starts_with("netctl: lost netd at "), "{}", ended.stderr);
    let json = netd.netctl("events --json");
    assert_eq!(json.stdout.lines().count(), 2);
    let first: Value =
        serde_json::from_str(json.stdout.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["action"], "create");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let netd = Fake::new(|_, _| {
        let event = json!({
            "time": "2026-01-02T03:04:05Z", "object": "network", "action": "x".repeat(1 << 10),
            "id": "ab",
        });
        Ok(vec![event; 500].into())
    });
    let mut child = netd
        .command(["events"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("netctl starts");
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(64, child.stdout.take().expect("a pipe"));
    reader.read_line(&mut line).expect("a line");
    drop(reader);
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn without_netd_every_command_says_so() {
    let netd = Fake::new(|_, _| Ok(json!({})));
    let nowhere = netd.directory.join("nowhere.sock");
    for line in [
        "network ls",
        "network create a",
        "network inspect a",
        "network rm a",
        "status",
        "events",
        "run -- true",
        "sandbox create a",
        "sandbox rm a",
        "endpoint ls",
        "ipam ls",
        "gc",
    ] {
        let ended = Ended::of(&mut command(&nowhere, line.split(' ')));
        assert_eq!(ended.code, Some(9), "{line}");
        let said = format!(
            "netctl: cannot reach netd at {}: No such file or directory (os error 2); \
             is netd running, and is this its --run-dir?\n",
            nowhere.display()
        );
        assert_eq!(ended.stderr, said, "{line}");
    }
    assert!(!netd.directory.join("netns").exists(), "nothing was made");
}

#[test]
fn both_ends_tell_their_versions() {
    let netd = Fake::new(|method, _| {
        assert_eq!(method, GetVersion::METHOD);
        Ok(json!({"version": "9.8.7", "protocols": [1, 2]}))
    });
    let own = env!("CARGO_PKG_VERSION");
    let ended = netd.netctl("version");
    assert_eq!(ended.stdout, format!("netctl {own} (protocol 1)\nnetd   9.8.7 (protocol 1,2)\n"));
    let json: Value = serde_json::from_str(&netd.netctl("version --json").stdout).expect("JSON");
    assert_eq!(json["netd"]["version"], "9.8.7");
}

#[test]
fn usage_is_the_shells_two() {
    let netd = Fake::new(|_, _| Ok(json!({})));
    for line in ["", "network", "network nope", "network ls --nope", "run"] {
        assert_eq!(netd.netctl(line).code, Some(2), "{line:?}");
    }
    assert_eq!(netd.methods(), Vec::<String>::new());
}

#[test]
fn pages_are_made_of_every_command_and_of_nothing_hidden() {
    let netd = Fake::new(|_, _| Ok(json!({})));
    for shell in ["bash", "zsh", "fish"] {
        let script = netd.netctl(&format!("completions {shell}")).stdout;
        assert!(script.contains("disconnect"), "{shell}");
        // bash has `cluster init` so.
        assert!(!script.replace("subcmd__init", "").contains("__init"), "{shell}");
    }
    let pages = netd.directory.join("man");
    let ended = netd.netctl(&format!("man --out {}", pages.display()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let names: Vec<_> = std::fs::read_dir(&pages)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    for page in ["netctl.1", "netctl-run.1", "netctl-network-create.1", "netctl-sandbox-exec.1"] {
        assert!(names.iter().any(|name| name == page), "{page} in {names:?}");
    }
}
