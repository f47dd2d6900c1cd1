//! Every driver keeps to the protocol's rules, ours and the sample of another's, and one that does
//! not is found out.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use cnm::{network::CreateNetwork, system::Reconcile};
use netd_tests::{Asking as _, Executed, HostOptions, World, eventually};
use serde_json::Value;

/// The sample of a driver that is not ours.
fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("examples").join("driver.py")
}

fn try_driver(world: &World, executable: &Path, words: &[&str]) -> Executed {
    let netctl = world.programs().join("netctl");
    let all = [netctl.to_str().unwrap(), "driver", "test", executable.to_str().unwrap(), "--json"];
    let all = all.iter().chain(words);
    world.namespace().command(all).output().unwrap().into()
}

/// The rules of this outcome, with the reasons.
fn rules(executed: &Executed, outcome: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(&executed.stdout).unwrap();
    let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
    let rules = report["rules"].as_array().unwrap().iter();
    let chosen = rules.filter(|rule| rule["outcome"] == outcome);
    chosen.map(|rule| (text(rule, "rule"), text(rule, "reason"))).collect()
}

/// Whether a driver keeps to the rules, of which `others` are not for it.
fn keeps_to_the_rules(executable: &Path, world: &World, others: usize) {
    let executed = try_driver(world, executable, &[]);
    assert_eq!(rules(&executed, "failed"), [], "{}", executed.stderr);
    assert_eq!(executed.code, 0);
    let skipped = rules(&executed, "skipped");
    assert_eq!(skipped.len(), others, "{skipped:?}");
    assert!(rules(&executed, "passed").len() >= 30);
}

fn ours(name: &str, others: usize) {
    let world = World::new();
    let executable = world.programs().join(name);
    keeps_to_the_rules(&executable, &world, others);
}

#[test]
fn where_a_driver_was_looked_for_is_said_once() {
    let world = World::new();
    let host = world.host("a");
    let refused = host.netctl(&["network", "create", "-d", "nothing", "app"]);
    // It is named to netd, and netd's own.
    let place = world.programs().display().to_string();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert_eq!(refused.stderr.matches(&place).count(), 1, "{refused:?}");
}

#[test]
fn bridge_keeps_to_the_rules() {
    ours("netd-bridge", 0);
}

#[test]
fn macvlan_keeps_to_the_rules() {
    ours("netd-macvlan", 11);
}

#[test]
fn none_keeps_to_the_rules() {
    ours("netd-none", 15);
}

#[test]
fn host_keeps_to_the_rules() {
    ours("netd-host", 18);
}

#[test]
fn the_sample_keeps_to_the_rules() {
    let world = World::new();
    keeps_to_the_rules(&sample(), &world, 7);
}

/// The sample with one thing changed.
fn broken(directory: &str, what: &str, by: &str) -> PathBuf {
    let text = fs::read_to_string(sample()).unwrap();
    assert_eq!(text.matches(what).count(), 1, "{what}");
    fs::create_dir_all(directory).unwrap();
    let path = Path::new(directory).join("netd-pybridge");
    fs::write(&path, text.replace(what, by)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_driver_that_breaks_a_rule_is_found_out() {
    let world = World::new();
    let changes = [
        ("unknown-method", "if not method:", "if method == 7:"),
        ("notification", "return None if known is None else", "return"),
        ("not-json", "\"code\": -32700,", "\"code\": -32600,"),
        ("ids", "\"id\": known,", "\"id\": 7,"),
        ("attach", "ip(\"link\", \"set\", name, \"up\")", "pass"),
        ("attach", "\"address\", mac, \"mtu\", mtu)", "\"mtu\", mtu)"),
        ("attach", "            ip(\"link\", \"set\", \"lo\", \"up\")\n", ""),
        ("attach-tells-where", "{\"cookie\": known,", "{\"cookie\": 1,"),
        ("default-route", "for gateway in endpoint.get(\"gateways\", []):", "for gateway in []:"),
        ("netns-missing", "Refusal(\"not_found\",", "Refusal(\"invalid\","),
        ("name-taken", "\"exists\" if \"File exists\"", "\"kernel\" if \"File exists\""),
        ("detach", "remove(host_end(endpoint)) or {},", "{},"),
        ("network-gateway", "if address not in has:", "if not address:"),
        ("check", "if not link:", "if not link and False:"),
        ("sync-takes-away", "for name in own.keys() - wanted:", "for name in []:"),
        ("sync-misses", "missing.append(endpoint[\"id\"])", "pass"),
        ("sync-finds-all", "if address not in has:", "if True:"),
        ("sync-repairs", "ip(\"link\", \"set\", end, \"master\", bridge, \"up\")", "pass"),
    ];
    std::thread::scope(|scope| {
        for (number, (rule, what, by)) in changes.into_iter().enumerate() {
            let world = &world;
            scope.spawn(move || {
                let executable = broken(&format!("/run/broken/{number}"), what, by);
                let executed = try_driver(world, &executable, &["--rule", rule]);
                let failed = rules(&executed, "failed");
                let instead = format!("{rule} holds with {by:?} in place of {what:?}");
                assert_eq!(failed.len(), 1, "{instead}: {executed:?}");
                assert_eq!(failed[0].0, rule);
                assert!(!failed[0].1.is_empty());
                assert_eq!(executed.code, 1);
            });
        }
    });
}

/// A driver between netd and one that keeps to the rules: what it is told of one method comes there
/// after `CHANGE`.
const BETWEEN: &str = r#"#!/usr/bin/env python3
import json, subprocess, sys

driver = subprocess.Popen(["DRIVER"], stdin=subprocess.PIPE)

def say(request):
    driver.stdin.write(json.dumps(request).encode() + b"\n")
    driver.stdin.flush()

for line in sys.stdin:
    request = json.loads(line)
    params = request["params"]
    if request["method"] == "METHOD":
        CHANGE
    say(request)
driver.stdin.close()
sys.exit(driver.wait())
"#;

/// The driver `bridge` with such a change.
fn changed(world: &World, directory: &str, method: &str, change: &str) -> PathBuf {
    let bridge = world.programs().join("netd-bridge").display().to_string();
    let text = BETWEEN.replace("DRIVER", &bridge).replace("METHOD", method);
    fs::create_dir_all(directory).unwrap();
    let path = Path::new(directory).join("netd-between");
    fs::write(&path, text.replace("CHANGE", change)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_driver_that_publishes_otherwise_is_found_out() {
    let world = World::new();
    let publish = "driver.publish";
    let nothing = r#"request["method"] = "driver.info""#;
    let only_more = r#"params["instead_of"] = []"#;
    let only_new = r#"params["endpoint"]["ports"] = [
            port for port in params["endpoint"]["ports"] if port not in params["instead_of"]]"#;
    let only_some = r#"params["endpoint"]["ports"] = [
            port for port in params["endpoint"]["ports"] if "host_ip" not in port]"#;
    let first_none = r#"say({"jsonrpc": "2.0", "method": "driver.publish", "params": {
            **params, "endpoint": {**params["endpoint"], "ports": []}}})"#;
    let none_at_all = r#"params["endpoints"] = [
            {**endpoint, "ports": []} for endpoint in params["endpoints"]]"#;
    let changes = [
        ("publish", publish, nothing),
        ("publish", publish, only_more),
        ("publish-from-none", publish, only_more),
        ("publish-keeps", publish, only_new),
        ("publish-all-or-none", publish, only_some),
        ("publish-all-or-none", publish, first_none),
        ("publish-lasts", publish, nothing),
        ("publish-lasts", publish, only_more),
        ("sync-publishes", "driver.sync", none_at_all),
    ];
    std::thread::scope(|scope| {
        for (number, (rule, method, change)) in changes.into_iter().enumerate() {
            let world = &world;
            scope.spawn(move || {
                let executable = changed(world, &format!("/run/between/{number}"), method, change);
                let executed = try_driver(world, &executable, &["--rule", rule]);
                let failed = rules(&executed, "failed");
                assert_eq!(failed.len(), 1, "{rule} holds with {change}: {executed:?}");
                assert_eq!(failed[0].0, rule);
                assert!(!failed[0].1.is_empty());
            });
        }
    });
    // What is between them breaks nothing by itself.
    let executable = changed(&world, "/run/between/same", publish, "pass");
    let mut all: Vec<_> = changes.iter().flat_map(|(rule, ..)| ["--rule", rule]).collect();
    all.extend(["--rule", "ports"]);
    let executed = try_driver(&world, &executable, &all);
    assert_eq!((rules(&executed, "passed").len(), executed.code), (7, 0), "{executed:?}");
}

#[test]
fn what_is_no_driver_is_found_out_at_once() {
    let world = World::new();
    let executed = try_driver(&world, Path::new("/bin/true"), &["--rule", "info"]);
    assert_eq!(rules(&executed, "failed").len(), 1, "{executed:?}");
    let executed = try_driver(&world, Path::new("/run/nothing"), &[]);
    assert_eq!(executed.code, i32::from(cnm::Kind::NotFound.exit_code()), "{executed:?}");
    let executed = try_driver(&world, &sample(), &["--rule", "juggling"]);
    assert_eq!(executed.code, i32::from(cnm::Kind::NotFound.exit_code()), "{executed:?}");
    assert!(executed.stderr.contains("sync-takes-away"), "{executed:?}");
}

#[test]
fn the_sample_serves_netd() {
    let world = World::new();
    let directory = "/run/drivers";
    fs::create_dir_all(directory).unwrap();
    fs::copy(sample(), "/run/drivers/netd-pybridge").unwrap();
    let plugin_dirs = vec![directory.into()];
    let mut host = world.host_with("a", HostOptions { plugin_dirs, ..HostOptions::default() });
    let before = host.snapshot();
    let network =
        CreateNetwork { driver: Some("pybridge".into()), ..CreateNetwork::named("theirs") };
    host.client().call(&network).unwrap();
    let (web, db) = (world.container("web"), world.container("db"));
    let endpoint = host.client().attach(&web.to("theirs"));
    host.client().attach(&db.to("theirs"));
    assert!(db.netns.pings(endpoint.addresses[0].ip()));
    let names = netd_tests::Host::ask_name(&db.netns, endpoint.gateways[0], "web");
    assert_eq!(names, [endpoint.addresses[0].ip().to_string()]);
    host.kill();
    host.start();
    assert!(db.netns.pings(endpoint.addresses[0].ip()));
    host.client().detach("web");
    host.client().detach("db");
    host.netctl(&["network", "rm", "theirs"]).success();
    host.snapshot().same_as(&before).unwrap();
}

/// Has the sample wait in a sync, and then in a detach, for as long as a test says, and miss a link in
/// that sync.
const WAITING: &str = r##"
def until(path):
    while not os.path.exists(path):
        ctypes.CDLL(None).usleep(1000)

def waiting_sync(networks, endpoints):
    synced = sync(networks, endpoints)
    if os.path.exists("/run/hold"):
        open("/run/syncing", "w").close()
        until("/run/miss")
        synced["missing"] = [e["id"] for e in endpoints if e["container"]["name"] == "web"]
    return synced

def waiting_detach(network, endpoint):
    until("/run/detach")
    return remove(host_end(endpoint)) or {}

METHODS |= {"driver.sync": waiting_sync, "driver.detach": waiting_detach}

# --- the protocol --"##;

#[test]
fn a_link_that_is_missed_while_its_endpoint_is_taken_away_is_no_problem() {
    let world = World::new();
    broken("/run/drivers", "\n# --- the protocol --", WAITING);
    let plugin_dirs = vec!["/run/drivers".into()];
    let host = world.host_with("a", HostOptions { plugin_dirs, ..HostOptions::default() });
    let network =
        CreateNetwork { driver: Some("pybridge".into()), ..CreateNetwork::named("theirs") };
    host.client().call(&network).unwrap();
    let (web, db) = (world.container("web"), world.container("db"));
    let server = host.client().attach(&web.to("theirs")).gateways[0];
    host.client().attach(&db.to("theirs"));
    let say = |what: &str| drop(fs::File::create(Path::new("/run").join(what)).unwrap());
    say("hold");
    let reconciled = std::thread::scope(|scope| {
        let reconciling = scope.spawn(|| host.client().call(&Reconcile {}).unwrap());
        eventually("the driver looks at its links", || fs::metadata("/run/syncing"));
        let detaching = scope.spawn(|| host.client().detach("web"));
        eventually("it is being taken away", || {
            let names = netd_tests::Host::ask_name(&db.netns, server, "web");
            if names.is_empty() { Ok(()) } else { Err(names) }
        });
        say("miss");
        let reconciled = reconciling.join().unwrap();
        say("detach");
        assert_eq!(detaching.join().unwrap().endpoints.len(), 1);
        reconciled
    });
    assert_eq!(reconciled.lost, [""; 0]);
    assert_eq!(host.client().status().problems, [""; 0]);
}

#[test]
fn what_a_driver_says_is_json_in_netds_log() {
    let world = World::new();
    let says = "print(\"a 'word'\", file=sys.stderr)";
    let path = changed(&world, "/run/between", "driver.info", says);
    fs::rename(&path, path.with_file_name("netd-bridge")).unwrap();
    let plugin_dirs = vec!["/run/between".into()];
    let options = HostOptions { plugin_dirs, ..HostOptions::default() };
    let mut host = world.host_with("a", options);
    host.client().create("app");
    host.kill();
    host.start();
    host.stop();
    let log = host.log();
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let lines =
        lines.collect::<Result<Vec<_>, _>>().unwrap_or_else(|error| panic!("{error}: {log}"));
    let said: Vec<_> = lines.iter().filter(|line| line["message"] == "a 'word'").collect();
    assert_eq!(said.len(), 2, "{log}");
    assert_eq!((&said[0]["driver"], &said[0]["level"]), (&"bridge".into(), &"WARN".into()));
}

#[test]
fn what_a_terminal_sends_to_netd_is_not_for_its_drivers() {
    let world = World::new();
    let options = HostOptions { under: vec!["setsid".into()], ..HostOptions::default() };
    let mut host = world.host_with("a", options);
    host.client().create("app");
    netd_tests::run(&format!("kill -INT -- -{}", host.pid()));
    host.wait_for_death();
    let log = host.log();
    assert!(log.contains("ending; networks and endpoints stay"), "{log}");
    assert!(!log.contains("driver ended"), "{log}");
}
