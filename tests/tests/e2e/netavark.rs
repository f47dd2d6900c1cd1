//! The plugins as Podman and netavark execute them: a verb, a document, and what comes of it.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpListener},
};

use cnm::network::InspectNetwork;
use netd_tests::{Asking as _, Container, Executed, Host, World, eventually};
use serde_json::{Value, json};

/// The id that Podman gives a network.
const ID: &str = "53ce4390f2adb1681eb1a90ec8b48c49c015e0a8d336c197637e7f65e365fa9e";

/// Executes a plugin with a verb and what follows it, and a text on its standard input.
fn execute(host: &Host, driver: &str, words: &[&str], text: &str) -> Executed {
    let mut child = host.plugin_command(driver).args(words).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses its words does not read.
    drop(stdin.write_all(text.as_bytes()));
    drop(stdin);
    child.wait_with_output().unwrap().into()
}

/// The only answer to what goes wrong: one key, and exit code 1.
#[track_caller]
pub(crate) fn refused(executed: &Executed) -> String {
    assert_eq!(executed.code, 1, "{executed:?}");
    let document: Value = serde_json::from_str(&executed.stdout).unwrap();
    assert_eq!(document.as_object().unwrap().len(), 1, "{executed:?}");
    document["error"].as_str().unwrap().to_owned()
}

/// A network after `podman network create`.
fn network(host: &Host, name: &str, id: &str, more: Value) -> Value {
    let mut network = json!({
        "name": name, "id": id, "driver": "netd-bridge", "created": "0001-01-01T00:00:00Z",
        "ipv6_enabled": false, "internal": false, "dns_enabled": true,
    });
    for (key, value) in more.as_object().unwrap() {
        network[key] = value.clone();
    }
    let created = execute(host, "bridge", &["create"], &network.to_string());
    serde_json::from_str(created.success()).unwrap()
}

/// What netavark hands to a plugin for a container.
fn document(container: &Container, network: &Value, more: Value) -> Value {
    let mut document = json!({
        "container_id": container.id, "container_name": container.name, "port_mappings": null,
        "network": network,
        "network_options": {"aliases": [], "interface_name": "eth0", "static_ips": null,
            "static_mac": null, "options": null},
    });
    for (key, value) in more.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

fn setup(host: &Host, container: &Container, document: &Value) -> Executed {
    execute(host, "bridge", &["setup", &container.netns.path()], &document.to_string())
}

fn teardown(host: &Host, container: &Container, document: &Value) -> Executed {
    execute(host, "bridge", &["teardown", &container.netns.path()], &document.to_string())
}

fn has_network(host: &Host, name: &str) -> bool {
    host.client().call(&InspectNetwork { network: format!("={name}") }).is_ok()
}

/// The address that a status block has for the container's only interface.
fn address(status: &str) -> IpAddr {
    let status: Value = serde_json::from_str(status).unwrap();
    let ipnet = status["interfaces"]["eth0"]["subnets"][0]["ipnet"].as_str().unwrap();
    ipnet.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn a_container_comes_and_goes() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let app = network(&host, "app", ID, json!({}));
    assert_eq!(app["ipam_options"]["driver"], "netd");
    assert!(!has_network(&host, "app"), "nothing yet");
    let (web, db) = (world.container("web"), world.container("db"));
    let ports = json!([{"host_ip": "", "container_port": 80, "host_port": 8080, "range": 1,
        "protocol": "tcp"}]);
    let mut to_web = document(&web, &app, json!({"port_mappings": ports}));
    to_web["network_options"]["aliases"] = json!(["www", "not a name"]);
    let told = setup(&host, &web, &to_web);
    assert!(told.stderr.contains("not a name"), "{told:?}");
    let endpoint = host.client().endpoints().remove(0);
    let (ip, gateway) = (endpoint.addresses[0], endpoint.gateways[0]);
    assert_eq!(
        told.success(),
        format!(
            "{{\"dns_search_domains\":[],\"dns_server_ips\":[\"{gateway}\"],\"interfaces\":{{\
             \"eth0\":{{\"mac_address\":\"{}\",\"subnets\":[{{\"ipnet\":\"{ip}\",\
             \"gateway\":\"{gateway}\"}}]}}}}}}\n",
            endpoint.mac.unwrap()
        )
    );
    let to_db = document(&db, &app, json!({}));
    let db_ip = address(setup(&host, &db, &to_db).success());
    assert!(web.netns.pings(db_ip));
    for (name, ip) in [("web", ip.ip()), ("www", ip.ip()), ("db", db_ip)] {
        let answers = Host::ask_name(&db.netns, gateway, &format!("{name} A"));
        assert_eq!(answers, [ip.to_string()], "{name}");
    }
    web.netns.serve_tcp(80);
    eventually("the port leads there", || lan.try_tcp("192.0.2.1:8080".parse().unwrap()));
    // Once more is what it was: nothing is there twice, and nothing goes by it.
    assert!(refused(&setup(&host, &web, &to_web)).contains("already has eth0"));
    lan.try_tcp("192.0.2.1:8080".parse().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(teardown(&host, &web, &to_web).success(), "");
    }
    assert_eq!(teardown(&host, &db, &to_db).success(), "");
    assert!(host.client().endpoints().is_empty());
    assert!(lan.try_tcp("192.0.2.1:8080".parse().unwrap()).is_err());
}

#[test]
fn podman_may_hold_the_ports_and_no_other_container() {
    let world = World::new();
    let host = world.host("a");
    let app = network(&host, "app", ID, json!({}));
    // As Podman does before it calls, in a process that has no container's id among its words.
    let held = host.netns.inside(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let ports = json!([
        {"host_ip": "", "container_port": 80, "host_port": 8080, "range": 1, "protocol": "tcp"},
        {"host_ip": "::", "container_port": 80, "host_port": 8080, "range": 1, "protocol": "tcp"},
    ]);
    let (web, other) = (world.container("web"), world.container("other"));
    let to_web = document(&web, &app, json!({"port_mappings": ports}));
    let ip = address(setup(&host, &web, &to_web).success());
    web.netns.serve_tcp(80);
    other.netns.run("ip link show lo");
    let error =
        refused(&setup(&host, &other, &document(&other, &app, json!({"port_mappings": ports}))));
    assert!(error.contains("port 8080/tcp") && error.contains("container web"), "{error}");
    assert_eq!(host.client().endpoints().len(), 1);
    // Who does not hold it himself is in the way of the process.
    let mut attach = other.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    teardown(&host, &web, &to_web).success();
    let error = host.client().call(&attach).unwrap_err();
    assert!(error.operands.contains_key("pid"), "{error:?}");
    assert!(!host.netns.pings(ip));
    drop(held);
}

#[test]
fn a_network_that_podman_made_again_replaces_the_earlier_one() {
    let world = World::new();
    let host = world.host("a");
    let (web, db) = (world.container("web"), world.container("db"));
    let subnet = |net: &str| json!({"subnets": [{"subnet": net}]});
    let first = network(&host, "app", ID, subnet("10.9.1.0/24"));
    let to_first = document(&web, &first, json!({}));
    assert_eq!(address(setup(&host, &web, &to_first).success()).to_string(), "10.9.1.2");
    let again = ID.replace('5', "6");
    let second = network(&host, "app", &again, subnet("10.9.2.0/24"));
    let to_second = document(&db, &second, json!({}));
    let error = refused(&setup(&host, &db, &to_second));
    assert!(error.contains("the earlier one is in use"), "{error}");
    teardown(&host, &web, &to_first).success();
    assert_eq!(address(setup(&host, &db, &to_second).success()).to_string(), "10.9.2.2");
    // One of netd's own is anybody's.
    host.client().create("shop");
    let shop = network(&host, "shop", ID, json!({}));
    setup(&host, &web, &document(&web, &shop, json!({}))).success();
    let third = world.container("third");
    let netns = third.netns.path();
    let document = document(&third, &shop, json!({})).to_string();
    let macvlan = execute(&host, "macvlan", &["setup", &netns], &document);
    let error = refused(&macvlan);
    assert!(error.contains("its driver should be netd-bridge"), "{error}");
    assert_eq!(host.client().endpoints().len(), 2, "it was taken off again");
}

#[test]
fn an_earlier_network_gives_way_where_its_addresses_were_others() {
    let world = World::new();
    let host = world.host("a");
    let (web, db) = (world.container("web"), world.container("db"));
    let given = |id: &str, number: u8, container: &Container| {
        let more = json!({"subnets": [{"subnet": format!("10.9.{number}.0/24")}],
            "ipam_options": {"driver": "host-local"}});
        let mut document = document(container, &network(&host, "app", id, more), json!({}));
        document["network_options"]["static_ips"] = json!([format!("10.9.{number}.7")]);
        document
    };
    let again = ID.replace('5', "6");
    let (first, second) = (given(ID, 1, &web), given(&again, 2, &db));
    setup(&host, &web, &first).success();
    let error = refused(&setup(&host, &db, &second));
    assert!(error.contains("the earlier one is in use"), "{error}");
    teardown(&host, &web, &first).success();
    assert_eq!(address(setup(&host, &db, &second).success()).to_string(), "10.9.2.7");
    // What is no fault of an earlier one's is told as it is.
    let mut wrong = given(&again, 2, &web);
    wrong["network_options"]["static_ips"] = json!(["10.9.2.7"]);
    let error = refused(&setup(&host, &web, &wrong));
    assert!(error.contains("10.9.2.7"), "{error}");
}

#[test]
fn addresses_are_as_podman_asks() {
    let world = World::new();
    let host = world.host("a");
    let containers: Vec<_> = (0..3).map(|n| world.container(&format!("c{n}"))).collect();
    let [one, two, three] = &containers[..] else { panic!("three") };
    let leased = json!({"subnets": [{"subnet": "10.9.1.0/24",
        "lease_range": {"start_ip": "10.9.1.40", "end_ip": "10.9.1.40"}}]});
    let leased = network(&host, "leased", ID, leased);
    let told = setup(&host, one, &document(one, &leased, json!({})));
    assert_eq!(address(told.success()).to_string(), "10.9.1.40");
    assert!(refused(&setup(&host, two, &document(two, &leased, json!({})))).contains("10.9.1.40"));
    let mut fixed = document(two, &leased, json!({}));
    fixed["network_options"]["static_ips"] = json!(["10.9.1.7"]);
    fixed["network_options"]["static_mac"] = json!("02:00:00:00:00:07");
    let told = setup(&host, two, &fixed);
    assert!(told.success().contains("02:00:00:00:00:07\",\"subnets\":[{\"ipnet\":\"10.9.1.7/24\""));
    // Where Podman gives them, each has its half.
    let split = json!({"subnets": [{"subnet": "10.9.2.0/24"}],
        "ipam_options": {"driver": "host-local"}});
    let split = network(&host, "split", ID, split);
    let mut given = document(three, &split, json!({}));
    given["network_options"]["static_ips"] = json!(["10.9.2.2"]);
    assert_eq!(address(setup(&host, three, &given).success()).to_string(), "10.9.2.2");
    let mut more = two.to("split");
    more.ifname = "eth1".parse().ok();
    let own = host.client().attach(&more).addresses[0].ip();
    assert_eq!(own.to_string(), "10.9.2.128", "of the upper half");
    let mut taken = document(one, &split, json!({}));
    taken["network_options"]["static_ips"] = json!([own.to_string()]);
    taken["network_options"]["interface_name"] = json!("eth1");
    assert!(refused(&setup(&host, one, &taken)).contains(&own.to_string()));
}

#[test]
fn what_is_wrong_is_one_sentence_in_one_key() {
    let world = World::new();
    let host = world.host("a");
    let before = host.snapshot();
    let app = network(&host, "app", ID, json!({}));
    let web = world.container("web");
    let netns = web.netns.path();
    let good = document(&web, &app, json!({})).to_string();
    for (words, text, sentence) in [
        (&["setup", &netns][..], "", "cannot decode what setup is given"),
        (&["setup", &netns], "{", "cannot decode what setup is given"),
        (&["setup", &netns], "{}", "standard input: container_id is missing"),
        (&["setup"], &good, "the path of the network namespace is missing"),
        (&["setup", "/run/nothing"], &good, "cannot open the network namespace /run/nothing"),
        (&["setup", "/etc/passwd"], &good, "/etc/passwd is no network namespace"),
        (&["teardown", &netns], "[]", "cannot decode what teardown is given"),
        (&["create"], "nothing", "cannot decode what create is given"),
        (&["update", "app"], "null", "unknown subcommand \"update\""),
    ] {
        let error = refused(&execute(&host, "bridge", words, text));
        assert!(error.contains(sentence), "{words:?}: {error}");
    }
    assert_eq!(host.client().endpoints(), []);
    assert!(!has_network(&host, "app"), "taken back");
    before.same_as(&host.snapshot()).unwrap();
    // What netavark does not have of its own: an argument that is no verb.
    let usage = execute(&host, "bridge", &["--help"], "");
    assert_eq!((usage.code, usage.stdout.as_str()), (2, ""));
    assert!(usage.stderr.contains("netd-bridge"));
}

#[test]
fn without_netd_a_setup_fails_and_a_teardown_is_kept() {
    let world = World::new();
    let mut host = world.host("a");
    let app = network(&host, "app", ID, json!({}));
    let web = world.container("web");
    let to_web = document(&web, &app, json!({}));
    let ip = address(setup(&host, &web, &to_web).success());
    host.kill();
    assert!(refused(&setup(&host, &web, &to_web)).contains("is netd running"));
    assert_eq!(teardown(&host, &web, &to_web).success(), "");
    assert_eq!(fs::read_dir(host.run_dir().join("spool")).unwrap().count(), 1);
    network(&host, "other", ID, json!({}));
    host.start();
    eventually("it is gone", || match host.client().endpoints().len() {
        0 => Ok(()),
        n => Err(n),
    });
    assert!(host.netns.try_tcp(SocketAddr::new(ip, 80)).is_err());
}

#[test]
fn a_container_runs_without_what_cannot_be_its_name() {
    let world = World::new();
    let host = world.host("a");
    let app = network(&host, "app", ID, json!({}));
    let mut web = world.container("web");
    web.name = "web.netd".into();
    let more =
        json!({"container_hostname": "localhost", "dns_servers": ["127.0.0.11", "192.0.2.53"]});
    let mut to_web = document(&web, &app, more);
    to_web["network_options"]["aliases"] = json!(["www", "db.netd.internal"]);
    let told = setup(&host, &web, &to_web);
    let address = address(told.success());
    for left in ["web.netd", "localhost", "db.netd.internal", "127.0.0.11"] {
        let says = |line: &&str| line.starts_with("left out: ") && line.contains(left);
        assert!(told.stderr.lines().any(|line| says(&line)), "{left}: {told:?}");
    }
    let endpoint = host.client().endpoints().remove(0);
    assert_eq!((&endpoint.container.name, &endpoint.container.hostname), (&None, &None));
    assert_eq!(endpoint.options["dns"], "192.0.2.53");
    let found = Host::ask_name(&web.netns, endpoint.dns[0], "www A");
    assert_eq!(found, [address.to_string()]);
    teardown(&host, &web, &to_web).success();
}
