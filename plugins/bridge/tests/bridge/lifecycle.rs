//! Attach, detach, sync: what is there afterwards, and that nothing else is.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use cnm::{
    Kind,
    driver::{Driver, Sync},
    endpoint::Route,
};
use netd_bridge::{Bridge, Marks};
use serde_json::{Value, json};

use crate::world::{self, Sandbox, endpoint, eventually, leave_home, link, network, ruleset, run};

#[test]
fn an_endpoint_is_complete_and_goes_without_a_trace() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24", "fd00:1::/64"]);
    let mut endpoint = endpoint(&network, 1);
    endpoint.ports = vec!["8080:80".parse().unwrap(), "127.0.0.1:5353:53/udp".parse().unwrap()];
    endpoint.metric = 7;
    endpoint.routes = vec![
        Route::new("10.7.0.0/16".parse().unwrap(), "10.1.0.9".parse().ok()),
        Route::new("10.8.0.0/16".parse().unwrap(), None),
        Route::new("fd07::/16".parse().unwrap(), "fd00:1::9".parse().ok()),
    ];
    assert_eq!(driver.network_up(&network).unwrap().mtu, Some(1500));
    let sandbox = Sandbox::new();
    let attached = driver.attach(&network, &endpoint, &sandbox.path()).unwrap();
    driver.after_answer();

    let bridge = link("br-010101010101").unwrap();
    assert_eq!(bridge["group"], Marks::BRIDGE.owned.to_string());
    assert_eq!(bridge["address"], "02:01:01:01:01:01");
    assert_eq!(bridge["linkinfo"]["info_data"]["mcast_snooping"], 0);
    let end = link(endpoint.id.link_name().as_str()).unwrap();
    assert_eq!(end["master"], "br-010101010101");
    assert_eq!(end["group"], Marks::BRIDGE.owned.to_string());
    assert_eq!(end["num_tx_queues"], 1);
    assert_eq!(end["inet6_addr_gen_mode"], "none");
    assert_eq!(end["linkinfo"]["info_slave_data"]["hairpin"], true);
    assert_eq!(end["linkinfo"]["info_slave_data"]["learning"], false);
    let interface = attached.interface.unwrap();
    assert_eq!(written_down(endpoint.id.link_name().as_str()), [interface.mac.to_string()]);
    assert_eq!(end["ifindex"], interface.host_index.unwrap());
    assert_eq!(end["link_netnsid"], attached.netns.nsid.unwrap());

    let inside = &sandbox.json("ip -j addr")[1];
    assert_eq!(inside["ifname"], "eth0");
    assert_eq!(inside["ifindex"], interface.index);
    assert_eq!(inside["address"], interface.mac.to_string());
    let addresses: Vec<_> = inside["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["scope"] == "global")
        .map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]))
        .collect();
    assert_eq!(addresses, ["10.1.0.3/24", "fd00:1::3/64"]);
    let route = &sandbox.json("ip -j route show default")[0];
    assert_eq!((&route["gateway"], &route["metric"]), (&json!("10.1.0.1"), &json!(7)));
    assert_eq!(sandbox.json("ip -j -6 route show default")[0]["gateway"], "fd00:1::1");
    sandbox.run("ping -c1 -W2 10.1.0.1");
    sandbox.run("ping -c1 -W2 fd00:1::1");
    let rules = ruleset();
    for fact in [
        "tcp . 8080 : 10.1.0.3 . 80",
        "tcp . 8080 : fd00:1::3 . 80",
        "127.0.0.1 . udp . 5353 : 10.1.0.3 . 53",
        "\"br-010101010101\" . 10.1.0.0/24",
        "\"br-010101010101\" . fd00:1::/64",
    ] {
        assert!(rules.contains(fact), "{fact} in {rules}");
    }
    assert_eq!(sandbox.json("ip -j route show 10.7.0.0/16")[0]["gateway"], "10.1.0.9");
    assert_eq!(sandbox.json("ip -j route show 10.8.0.0/16")[0]["scope"], "link");
    assert_eq!(sandbox.json("ip -j -6 route show fd07::/16")[0]["gateway"], "fd00:1::9");
    for netns in [None, Some(sandbox.path())] {
        let checked = driver.check(&network, &endpoint, netns.as_deref()).unwrap();
        assert_eq!(checked.differences, [""; 0]);
    }
    sandbox.run("ip -6 route del fd07::/16");
    sandbox.run("ip -6 route del default");
    sandbox.run("ip address del fd00:1::3/64 dev eth0");
    let checked = driver.check(&network, &endpoint, Some(&sandbox.path())).unwrap();
    assert_eq!(checked.differences.len(), 3, "{:?}", checked.differences);

    driver.detach(&network, &endpoint).unwrap();
    assert!(!ruleset().contains("10.1.0.3"));
    eventually("the pair is reaped", || link(endpoint.id.link_name().as_str()).is_none());
    assert_eq!(sandbox.json("ip -j link").as_array().unwrap().len(), 1);
    driver.detach(&network, &endpoint).unwrap();
    driver.network_down(&network).unwrap();
    driver.network_down(&network).unwrap();
    assert_eq!(world::json("ip -j link").as_array().unwrap().len(), 1);
    assert!(!ruleset().contains("elements"), "{}", ruleset());
}

/// The rows of the bridge's table that lead to a port and do not age.
fn written_down(port: &str) -> Vec<String> {
    let rows = world::json(&format!("bridge -j fdb show brport {port}"));
    let rows = rows.as_array().unwrap().iter().filter(|row| row["state"] == "static");
    rows.map(|row| row["mac"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_port_that_may_have_others_behind_it_learns_them() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let mut endpoint = endpoint(&network, 1);
    endpoint.options.insert("spoof-check".into(), "false".into());
    driver.network_up(&network).unwrap();
    let sandbox = Sandbox::new();
    driver.attach(&network, &endpoint, &sandbox.path()).unwrap();
    driver.after_answer();
    let port = endpoint.id.link_name();
    let end = link(port.as_str()).unwrap();
    assert_eq!(end["linkinfo"]["info_slave_data"]["learning"], true);
    assert_eq!(written_down(port.as_str()), Vec::<String>::new());
    // Somebody else speaks by it, and is known from then on.
    sandbox.run("ip link set eth0 address 02:00:00:00:00:99");
    sandbox.run("ping -c1 -W5 10.1.0.1");
    let rows = world::json(&format!("bridge -j fdb show brport {port}"));
    assert!(rows.as_array().unwrap().iter().any(|row| row["mac"] == "02:00:00:00:00:99"), "{rows}");
}

#[test]
fn an_interface_without_ipv6_has_none() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let sandbox = Sandbox::new();
    driver.attach(&network, &endpoint(&network, 1), &sandbox.path()).unwrap();
    assert_eq!(sandbox.run("ip -6 addr show dev eth0"), "");
    assert_eq!(sandbox.run("cat /proc/sys/net/ipv6/conf/lo/disable_ipv6").trim(), "0");
    assert_eq!(run("ip -6 addr show dev br-010101010101"), "");
}

#[test]
fn a_name_that_is_taken_is_said_and_nothing_is_left() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let sandbox = Sandbox::new();
    sandbox.run("ip link add eth0 type veth peer name other");
    let endpoint = endpoint(&network, 1);
    let error = driver.attach(&network, &endpoint, &sandbox.path()).unwrap_err();
    assert_eq!(error.kind, Kind::Exists, "{error}");
    assert_eq!(error.operands["interface"], "eth0");
    assert!(link(endpoint.id.link_name().as_str()).is_none());
}

#[test]
fn an_attach_right_after_a_detach_takes_the_same_name() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let sandbox = Sandbox::new();
    for number in 1..8 {
        let endpoint = endpoint(&network, number);
        driver.attach(&network, &endpoint, &sandbox.path()).unwrap();
        sandbox.run("ping -c1 -W2 10.1.0.1");
        driver.detach(&network, &endpoint).unwrap();
    }
}

#[test]
fn what_is_no_sandbox_is_refused() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let endpoint = endpoint(&network, 1);
    let mut kind = |path: &str| driver.attach(&network, &endpoint, path).unwrap_err().kind;
    assert_eq!(kind("/proc/1/ns/none"), Kind::NotFound);
    assert_eq!(kind("/dev/null"), Kind::Invalid);
    assert_eq!(kind("/proc/thread-self/ns/mnt"), Kind::Invalid);
    assert_eq!(kind("/proc/thread-self/ns/net"), Kind::Invalid);
    assert!(link(endpoint.id.link_name().as_str()).is_none());
}

#[test]
fn a_failure_inside_undoes_the_pair() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let mut endpoint = endpoint(&network, 1);
    endpoint.gateways = vec!["192.0.2.1".parse().unwrap()];
    let sandbox = Sandbox::new();
    let error = driver.attach(&network, &endpoint, &sandbox.path()).unwrap_err();
    assert_eq!(error.kind, Kind::Kernel, "{error}");
    assert_eq!(error.operands["errno"], 101, "{error}");
    assert_eq!(error.operands["what"], "via 192.0.2.1");
    assert!(link(endpoint.id.link_name().as_str()).is_none());
    assert_eq!(sandbox.json("ip -j link").as_array().unwrap().len(), 1);
}

#[test]
fn a_link_of_the_bridges_name_that_is_not_ours_is_left_alone() {
    leave_home();
    run("ip link add br-010101010101 type bridge");
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let error = driver.network_up(&network).unwrap_err();
    assert_eq!(error.kind, Kind::Exists);
    assert_eq!(error.operands["link"], "br-010101010101");
    driver.network_down(&network).unwrap();
    let everything = Sync { networks: vec![network], ..Sync::default() };
    driver.sync(&everything).unwrap();
    driver.sync(&Sync::default()).unwrap();
    assert!(link("br-010101010101").is_some());
}

#[test]
fn a_bridge_that_was_deleted_is_made_again() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    driver.network_up(&network).unwrap();
    run("ip link del br-010101010101");
    let sandbox = Sandbox::new();
    driver.attach(&network, &endpoint(&network, 1), &sandbox.path()).unwrap();
    sandbox.run("ping -c1 -W2 10.1.0.1");
}

#[test]
fn rules_that_were_flushed_are_laid_again() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let plain = [("tables".to_owned(), "plain".to_owned())];
    let settings = std::collections::BTreeMap::from(plain);
    driver.sync(&Sync { settings: settings.clone(), ..Sync::default() }).unwrap();
    driver.network_up(&network).unwrap();
    run("nft flush ruleset");
    let sandbox = Sandbox::new();
    let mut endpoint = endpoint(&network, 1);
    endpoint.ports = vec!["8080:80".parse().unwrap()];
    driver.attach(&network, &endpoint, &sandbox.path()).unwrap();
    driver.after_answer();
    assert!(ruleset().contains("tcp . 8080 : 10.1.0.3 . 80"));
    let everything =
        Sync { networks: vec![network], endpoints: vec![endpoint], settings, ..Sync::default() };
    run("nft flush chain inet netd forward");
    let synced = driver.sync(&everything).unwrap();
    assert_eq!(synced.repaired, ["lay the firewall's rules down again"]);
    run("nft flush ruleset");
    let synced = driver.sync(&everything).unwrap();
    assert_eq!(synced.repaired.len(), 6, "{:?}", synced.repaired);
    assert_eq!(driver.sync(&everything).unwrap().repaired, [""; 0]);
    // Tables that belong to the session nobody else takes away.
    let owned = Sync { settings: Default::default(), ..everything };
    driver.sync(&owned).unwrap();
    let before = ruleset();
    run("nft flush ruleset");
    assert_eq!(ruleset(), before);
    // What is left when it ends goes on, and the next one takes it.
    drop(driver);
    assert!(ruleset().contains("tcp . 8080 : 10.1.0.3 . 80"));
    let mut driver = Bridge::default();
    assert_eq!(driver.sync(&owned).unwrap().repaired, [""; 0]);
}

#[test]
fn sync_makes_it_so_and_then_has_nothing_to_do() {
    leave_home();
    let mut driver = Bridge::default();
    let (kept, gone) = (network(1, &["10.1.0.0/24", "fd00:1::/64"]), network(2, &["10.2.0.0/24"]));
    let sandboxes: Vec<_> = (0..4).map(|_| Sandbox::new()).collect();
    let mut endpoints: Vec<_> = (0..4).map(|n| endpoint(&kept, n)).collect();
    endpoints[3] = endpoint(&gone, 3);
    endpoints[0].ports = vec!["8080:80".parse().unwrap()];
    endpoints[2].ports = vec!["8082:80".parse().unwrap()];
    for (n, (endpoint, sandbox)) in endpoints.iter().zip(&sandboxes).enumerate() {
        let network = if n == 3 { &gone } else { &kept };
        driver.attach(network, endpoint, &sandbox.path()).unwrap();
    }
    // A driver that was killed: another session finds what this one made.
    let name = |n: usize| endpoints[n].id.link_name().as_str().to_owned();
    run(&format!("ip link set {} nomaster", name(0)));
    run(&format!("ip link set {} down", name(1)));
    run("ip addr del 10.1.0.1/24 dev br-010101010101");
    run("ip addr add 10.9.0.1/24 dev br-010101010101");
    drop(driver);
    run("nft delete element inet netd publish4 { tcp . 8080 }");
    run("nft add element inet netd publish4 { tcp . 9999 : 10.1.0.9 . 80 }");
    run("ip link add foreign type veth peer name other");
    let mut driver = Bridge::default();
    let mut lost = endpoint(&kept, 9);
    lost.ports = vec!["9000:80".parse().unwrap()];
    let everything = Sync {
        networks: vec![kept.clone()],
        endpoints: vec![endpoints[0].clone(), endpoints[1].clone(), lost.clone()],
        ..Sync::default()
    };
    let synced = driver.sync(&everything).unwrap();
    assert_eq!(synced.missing, [lost.id]);
    let repaired = synced.repaired.join("\n");
    for wanted in [
        &format!("put {} on br-010101010101, up", name(0)),
        &format!("put {} on br-010101010101, up", name(1)),
        &format!("take {} away", name(2)),
        &format!("take {} away", name(3)),
        "remove the bridge br-020202020202",
        "add 10.1.0.1/24 to br-010101010101",
        "delete 10.9.0.1/24 from br-010101010101",
        "add the port 8080 to 10.1.0.2:80 tcp to the firewall",
        "delete the port 9999 to 10.1.0.9:80 tcp from the firewall",
        "delete the port 8082 to 10.1.0.4:80 tcp from the firewall",
        "delete the guard of br-020202020202 from the firewall",
    ] {
        assert!(repaired.contains(wanted), "{wanted} in {repaired}");
    }
    sandboxes[0].run("ping -c1 -W2 10.1.0.3");
    sandboxes[1].run("ping -c1 -W2 fd00:1::1");
    eventually("leftovers are reaped", || link(&name(2)).is_none() && link(&name(3)).is_none());
    assert!(link("br-020202020202").is_none());
    assert!(link("foreign").is_some());
    let again = driver.sync(&everything).unwrap();
    assert_eq!(again.repaired, [""; 0]);
}

/// A port of a bridge passes nothing on until the kernel has taken note of its line, which it leaves
/// to a worker that waits for whoever else changes links.
#[test]
fn who_was_attached_may_send_at_once() {
    leave_home();
    run("mount --make-rprivate /");
    run("mount -t sysfs sysfs /sys");
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    driver.network_up(&network).unwrap();
    let busy = "while :; do ip link add x type veth peer name y; ip link delete x; done";
    let mut others = Command::new("sh").args(["-c", busy]).spawn().unwrap();
    let states: Vec<_> = (1..=64)
        .map(|n| {
            let (endpoint, sandbox) = (endpoint(&network, n), Sandbox::new());
            driver.attach(&network, &endpoint, &sandbox.path()).unwrap();
            let port = format!("/sys/class/net/{}", endpoint.id.link_name());
            let read = |what: &str| std::fs::read_to_string(format!("{port}/{what}")).unwrap();
            (read("brport/state").trim().to_owned(), read("operstate").trim().to_owned())
        })
        .collect();
    others.kill().unwrap();
    others.wait().unwrap();
    // BR_STATE_FORWARDING (linux/if_bridge.h).
    for (port, line) in states {
        assert!(port == "3" && ["up", "unknown"].contains(&line.as_str()), "{port} {line}");
    }
}

#[test]
fn an_endpoint_is_left_on_the_host_for_whoever_moves_it() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/24"]);
    let mut endpoint = endpoint(&network, 1);
    endpoint.options.insert("deliver".into(), "host".into());
    let attached = driver.attach(&network, &endpoint, "/proc/thread-self/ns/net").unwrap();
    driver.after_answer();
    let interface = attached.interface.unwrap();
    assert_eq!((&interface.name, attached.netns.nsid), (&endpoint.id.delivered_name(), None));
    let left = link(interface.name.as_str()).unwrap();
    assert_eq!(left["ifindex"], interface.index);
    assert_eq!(left["address"], interface.mac.to_string());
    assert_eq!(left["operstate"], "DOWN");
    let shown = world::json(&format!("ip -j address show dev {}", interface.name));
    assert_eq!(shown[0]["addr_info"], json!([]));
    let end = link(endpoint.id.link_name().as_str()).unwrap();
    assert_eq!(end["linkinfo"]["info_slave_data"]["hairpin"], true, "its ports come later");
    // Where it is by now makes no difference to a sync, which publishes what it has got since.
    let sandbox = Sandbox::new();
    run(&format!("ip link set {} netns {} name eth0", interface.name, sandbox.path()));
    endpoint.ports = vec!["8080:80".parse().unwrap()];
    let desired = Sync {
        networks: vec![network.clone()],
        endpoints: vec![endpoint.clone()],
        ..Sync::default()
    };
    let synced = driver.sync(&desired).unwrap();
    assert_eq!(synced.repaired, ["add the port 8080 to 10.1.0.3:80 tcp to the firewall"]);
    assert_eq!(synced.missing, []);
    sandbox.run("ip address add 10.1.0.3/24 dev eth0");
    sandbox.run("ip link set eth0 up");
    sandbox.run("ping -c1 -W2 10.1.0.1");
    driver.detach(&network, &endpoint).unwrap();
    eventually("it is gone", || link(endpoint.id.link_name().as_str()).is_none());
    assert!(!ruleset().contains("8080"));
}

#[test]
fn leftover_condemned_links_are_reaped_and_foreign_ones_moved_out() {
    leave_home();
    let network = network(1, &["10.1.0.0/24"]);
    let endpoint = endpoint(&network, 1);
    let name = endpoint.id.link_name();
    let sandbox = Sandbox::new();
    Bridge::default().attach(&network, &endpoint, &sandbox.path()).unwrap();
    run(&format!("ip link set {name} nomaster down group {}", Marks::BRIDGE.condemned));
    run("ip link add foreign type veth peer name other");
    run(&format!("ip link set foreign group {}", Marks::BRIDGE.condemned));
    let mut driver = Bridge::default();
    driver.sync(&Sync { networks: vec![network], ..Sync::default() }).unwrap();
    eventually("the leftover is reaped", || link(name.as_str()).is_none());
    assert_eq!(link("foreign").expect("it is not ours")["group"], "default");
}

#[test]
fn a_session_speaks_lines_and_leaves_what_it_made() {
    leave_home();
    let mut session = Command::new(env!("CARGO_BIN_EXE_netd-bridge"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = session.stdin.take().unwrap();
    let mut output = BufReader::new(session.stdout.take().unwrap()).lines();
    let mut ask = |method: &str, params: Value| {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        writeln!(input, "{request}").unwrap();
        serde_json::from_str::<Value>(&output.next().unwrap().unwrap()).unwrap()
    };
    let network = network(1, &["10.1.0.0/24"]);
    let endpoint = endpoint(&network, 1);
    let sandbox = Sandbox::new();
    assert_eq!(ask("driver.info", json!({}))["result"]["capabilities"]["ports"], true);
    assert_eq!(ask("driver.sync", json!({"networks": [], "endpoints": []}))["error"], Value::Null);
    assert_eq!(ask("driver.network_up", json!({"network": network}))["result"]["mtu"], 1500);
    let params = json!({"network": network, "endpoint": endpoint, "netns": sandbox.path()});
    let attached = ask("driver.attach", params);
    assert_eq!(attached["result"]["interface"]["name"], "eth0", "{attached}");
    let plan = ask("driver.plan", json!({"network": network, "endpoint": endpoint}));
    assert_eq!(plan["result"]["observed"]["link"]["name"], endpoint.id.link_name().as_str());
    let status = std::fs::read_to_string(format!("/proc/{}/status", session.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u32 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 12 << 10, "{kilobytes} kB");
    drop(input);
    assert!(session.wait().unwrap().success());
    sandbox.run("ping -c1 -W2 10.1.0.1");
}
