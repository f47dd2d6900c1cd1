//! A plugin in netavark's place, as Podman executes it: all networks of a container at once.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Stdio,
};

use crate::netavark::refused;
use netd_tests::{Asking as _, Container, Executed, Host, World};
use serde_json::{Value, json};

mod earlier;
mod there;
mod unneeded;

/// A host where netd is found under netavark's name.
struct Place {
    host: Host,
    netavark: PathBuf,
    world: World,
}

impl Place {
    fn new() -> Self {
        let world = World::new();
        let host = world.host("a");
        let netavark = host.run_dir().join("netavark");
        symlink(world.programs().join("netd-bridge"), &netavark).unwrap();
        Self { host, netavark, world }
    }

    /// Executes it with words of Podman's, and a text on its standard input.
    fn execute(&self, words: &[&str], text: &str) -> Executed {
        let netavark = self.netavark.display().to_string();
        let fixed = [netavark.as_str(), "--config", "/run/n", "--rootless=false"];
        let mut command = self.host.netns.command(fixed.iter().chain(words));
        command.env("NETD_SOCKET", self.host.socket());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // One that refuses its words does not read.
        drop(stdin.write_all(text.as_bytes()));
        drop(stdin);
        child.wait_with_output().unwrap().into()
    }

    fn setup(&self, container: &Container, document: &Value) -> Executed {
        self.execute(&["setup", &container.netns.path()], &document.to_string())
    }

    fn teardown(&self, container: &Container, document: &Value) -> Executed {
        self.execute(&["teardown", &container.netns.path()], &document.to_string())
    }

    /// The networks that netd has beside its own, with how many are on each.
    fn networks(&self) -> Vec<(String, usize)> {
        let list = cnm::network::ListNetworks::default();
        let listed = self.host.client().call(&list).unwrap().networks;
        let endpoints = self.host.client().endpoints();
        let on = |id| endpoints.iter().filter(|endpoint| endpoint.network == id).count();
        let own = listed.into_iter().filter(|network| !network.predefined);
        own.map(|network| (network.name.to_string(), on(network.id))).collect()
    }
}

/// A network as Podman has written it down: `10.83.NUMBER.0/24`.
fn network(name: &str, number: u8, more: Value) -> Value {
    let mut network = json!({
        "name": name, "id": format!("{number:064x}"), "driver": "bridge",
        "network_interface": format!("podman{number}"), "created": "2023-01-01T00:00:00Z",
        "subnets": [{"subnet": format!("10.83.{number}.0/24"), "gateway": format!("10.83.{number}.1")}],
        "ipv6_enabled": false, "internal": false, "dns_enabled": true,
        "ipam_options": {"driver": "host-local"},
    });
    for (key, value) in more.as_object().unwrap() {
        network[key] = value.clone();
    }
    network
}

/// A container on networks, of which it has the address that ends so, and `eth0`, `eth1`, ….
fn document(container: &Container, last: u8, networks: &[Value]) -> Value {
    let mut here = json!({});
    let mut info = json!({});
    for (place, network) in networks.iter().enumerate() {
        let name = network["name"].as_str().unwrap();
        let gateway = network["subnets"][0]["gateway"].as_str().unwrap_or("10.83.0.1");
        let address = format!("{}{last}", gateway.strip_suffix('1').unwrap());
        here[name] = json!({"interface_name": format!("eth{place}"), "static_ips": [address],
            "aliases": [container.id.as_str()[..12].to_owned()]});
        info[name] = network.clone();
    }
    json!({"container_id": container.id, "container_name": container.name, "port_mappings": null,
        "networks": here, "network_info": info})
}

#[test]
fn a_container_comes_to_two_networks_and_goes() {
    let place = Place::new();
    let before = place.host.snapshot();
    let (web, db) = (place.world.container("web"), place.world.container("db"));
    let (app, back) = (network("app", 1, json!({})), network("back", 2, json!({})));
    let to_web = document(&web, 7, &[app.clone(), back.clone()]);
    let told = place.setup(&web, &to_web);
    let told: Value = serde_json::from_str(told.success()).unwrap();
    let mac = |network: &str, ifname: &str| {
        told[network]["interfaces"][ifname]["mac_address"].as_str().unwrap().to_owned()
    };
    let block = |number: u8, ifname: &str, mac: String| {
        json!({"dns_search_domains": [], "dns_server_ips": [format!("10.83.{number}.1")],
            "interfaces": {ifname: {"mac_address": mac, "subnets": [{
                "ipnet": format!("10.83.{number}.7/24"), "gateway": format!("10.83.{number}.1")}]}}})
    };
    let expected = json!({"app": block(1, "eth0", mac("app", "eth0")),
        "back": block(2, "eth1", mac("back", "eth1"))});
    assert_eq!(told, expected);
    let to_db = document(&db, 8, &[back]);
    place.setup(&db, &to_db).success();
    assert!(db.netns.pings("10.83.2.7".parse().unwrap()));
    let links = place.host.netns.json("ip -j link show podman2");
    assert_eq!(links[0]["ifname"], "podman2");
    let out = web.netns.run("ip route show default");
    assert!(out.starts_with("default via 10.83.1.1 dev eth0"), "{out}");
    // Again, and with nothing but names.
    for _ in 0..2 {
        assert_eq!(place.teardown(&web, &to_web).success(), "");
    }
    assert_eq!(place.networks(), [("back".to_owned(), 1)]);
    let mut bare = to_db;
    bare["network_info"] = json!({});
    bare["networks"]["back"] = json!({"interface_name": "eth0"});
    let gone = place.execute(&["teardown", "/run/netns/gone"], &bare.to_string());
    assert_eq!(gone.success(), "");
    assert_eq!(place.networks(), []);
    netd_tests::eventually("nothing is left", || before.same_as(&place.host.snapshot()));
}

#[test]
fn a_container_comes_to_all_its_networks_or_to_none() {
    let place = Place::new();
    let web = place.world.container("web");
    place.host.client().create("held");
    let app = network("app", 1, json!({}));
    for (wrong, sentence) in [
        (network("back", 1, json!({})), "overlaps"),
        (network("back", 2, json!({"options": {"vlan": "7"}})), "the option vlan=7"),
        (network("back", 2, json!({"driver": "ipvlan"})), "unknown network driver \"ipvlan\""),
        (network("back", 2, json!({"ipam_options": {"driver": "dhcp"}})), "no addresses by DHCP"),
        (network("held", 2, json!({})), "netd has a network held already"),
    ] {
        let error = refused(&place.setup(&web, &document(&web, 7, &[app.clone(), wrong])));
        assert!(error.contains(sentence), "{error}");
        assert_eq!(place.networks(), [("held".to_owned(), 0)], "{sentence}");
    }
    // What is there before is not undone by what cannot be.
    let to_app = document(&web, 7, std::slice::from_ref(&app));
    place.setup(&web, &to_app).success();
    assert!(refused(&place.setup(&web, &to_app)).contains("already has eth0"));
    assert_eq!(place.host.client().endpoints().len(), 1);
}

#[test]
fn a_link_that_another_left_is_named_with_what_to_do_about_it() {
    let place = Place::new();
    let web = place.world.container("web");
    let to_web = document(&web, 7, &[network("app", 1, json!({}))]);
    place.host.netns.run("ip link add podman1 type bridge");
    let error = refused(&place.setup(&web, &to_web));
    assert!(error.contains("a link podman1 exists already"), "{error}");
    assert!(error.contains("end the containers that are on it"), "{error}");
    assert_eq!(place.networks(), []);
    // What is said is done.
    let (_, line) = error.split_once("(").unwrap();
    place.host.netns.run(line.split_once(")").unwrap().0);
    place.setup(&web, &to_web).success();
}

#[test]
fn networks_of_podman_6_come_in_their_order() {
    let place = Place::new();
    let web = place.world.container("web");
    let info = [network("app", 1, json!({})), network("back", 2, json!({}))];
    let document = json!({
        "container_id": web.id, "container_name": web.name, "container_hostname": "www",
        "networks": [
            {"name": "back", "interface_name": "eth1", "static_ips": ["10.83.2.9"]},
            {"name": "app", "interface_name": "eth0", "static_ips": ["10.83.1.9"]},
        ],
        "network_info": {"app": info[0], "back": info[1]}, "dns_servers": ["192.0.2.53"],
    });
    place.setup(&web, &document).success();
    let endpoints = place.host.client().endpoints();
    let order: Vec<_> = endpoints.iter().map(|endpoint| endpoint.network_name.as_str()).collect();
    assert_eq!(order.len(), 2, "{order:?}");
    assert_eq!(endpoints[0].container.hostname, "www".parse().ok());
    assert_eq!(endpoints[0].options["dns"], "192.0.2.53");
    let out = web.netns.run("ip route show default");
    assert!(out.starts_with("default via 10.83.2.1 dev eth1"), "the first one's: {out}");
    place.teardown(&web, &document).success();
    // And one is made as Podman 6 asks.
    let create = json!({"network": {"name": "shop", "id": "7".repeat(64), "driver": "bridge"},
        "used": {"interfaces": [], "names": {}, "subnets": []},
        "options": {"subnet_pools": [{"base": "10.89.0.0/16", "size": 24}],
            "default_interface_name": "podman", "check_used_subnets": true}});
    let created = place.execute(&["create"], &create.to_string());
    let created: Value = serde_json::from_str(created.success()).unwrap();
    assert_eq!(created["subnets"][0]["lease_range"]["end_ip"], "10.89.0.127");
    assert_eq!(place.networks(), [], "nothing is made yet");
}

#[test]
fn another_drivers_plugin_is_asked_in_its_words() {
    let place = Place::new();
    let web = place.world.container("web");
    let plugins = place.host.run_dir().join("plugins");
    fs::create_dir(&plugins).unwrap();
    let said = place.host.run_dir().join("said");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{0}\ncat >>{0}\necho >>{0}\n[ \"$1\" = teardown ] && exit\n\
         [ -e {0}.bad ] && {{ echo '{{\"error\":\"not today\"}}'; exit 1; }}\n\
         echo '{{\"interfaces\":{{}}}}'\n",
        said.display()
    );
    fs::write(plugins.join("theirs"), script).unwrap();
    fs::set_permissions(plugins.join("theirs"), Permissions::from_mode(0o755)).unwrap();
    let (app, other) =
        (network("app", 1, json!({})), network("other", 2, json!({"driver": "theirs"})));
    let document = document(&web, 7, &[app, other]);
    let directory = plugins.display().to_string();
    let netns = web.netns.path();
    let words = ["--plugin-directory", &directory, "setup", &netns];
    let told = place.execute(&words, &document.to_string());
    let told: Value = serde_json::from_str(told.success()).unwrap();
    assert_eq!(told["other"], json!({"interfaces": {}}));
    let heard = fs::read_to_string(&said).unwrap();
    let mut heard = heard.lines();
    assert_eq!(heard.next(), Some(format!("setup {netns}").as_str()));
    let heard: Value = serde_json::from_str(heard.next().unwrap()).unwrap();
    assert_eq!(heard["network"]["name"], "other");
    assert_eq!(heard["network_options"]["static_ips"], json!(["10.83.2.7"]));
    let lost = refused(&place.teardown(&web, &document));
    assert!(lost.contains("unknown network driver"), "{lost}");
    assert_eq!(place.networks(), [], "what could be done is done");
    let lost = refused(&place.teardown(&web, &document));
    assert!(lost.contains("unknown network driver"), "{lost}");
    assert_eq!(place.networks(), [], "what could be done is done");
    place
        .execute(&["--plugin-directory", &directory, "teardown", &netns], &document.to_string())
        .success();
    assert_eq!(place.networks(), []);
    // What it refuses undoes the rest.
    fs::write(said.with_extension("bad"), "").unwrap();
    let error = refused(&place.execute(&words, &document.to_string()));
    assert!(error.contains("not today"), "{error}");
    assert_eq!(place.networks(), []);
}

#[test]
fn what_no_plugin_would_see_is_looked_at() {
    let place = Place::new();
    let of =
        |id: Value| json!({"container_id": id, "networks": {}, "network_info": {}}).to_string();
    let gone = "/run/netns/gone";
    for (document, why) in [
        (of(json!(5)), "container_id should be a string, not 5"),
        (of(json!("web")), "cannot open the network namespace /run/netns/gone: No such file"),
    ] {
        let executed = place.execute(&["setup", gone], &document);
        assert!(executed.code == 1 && executed.stdout.contains(why), "{executed:?}");
    }
    let web = place.world.container("web");
    let executed = place.execute(&["setup", &web.netns.path()], &of(json!("web")));
    assert_eq!(executed.success(), "{}\n");
    place.execute(&["teardown", gone], &of(json!("web"))).success();
}

#[test]
fn what_is_asked_of_netavark_itself_is_answered() {
    let place = Place::new();
    let version = place.execute(&["--version"], "");
    assert!(version.success().starts_with("netavark "), "{version:?}");
    let version = place.execute(&["version"], "");
    let version: Value = serde_json::from_str(version.success()).unwrap();
    assert!(version["version"].is_string(), "{version}");
    let update = place.execute(&["update", "app", "--network-dns-servers", "192.0.2.53"], "null");
    assert_eq!(update.success(), "");
    let update = place.execute(&["update", "app", "--network-dns-servers", "here"], "null");
    assert!(refused(&update).contains("\"here\""));
    for words in [&["--shout"][..], &["setup"], &["destroy"], &[]] {
        let usage = place.execute(words, "");
        assert_eq!((usage.code, usage.stdout.as_str()), (2, ""), "{usage:?}");
        assert_ne!(usage.stderr, "");
    }
    for (words, text, sentence) in [
        (&["setup", "/n"][..], "", "cannot decode what setup is given"),
        (&["teardown", "/n"], "[]", "cannot decode what teardown is given"),
        (&["create"], "null", "cannot decode what create is given"),
    ] {
        let error = refused(&place.execute(words, text));
        assert!(error.contains(sentence), "{error}");
    }
    // Who is not root is another's, and here there is none.
    let netavark = place.netavark.display().to_string();
    let words = [netavark.as_str(), "--rootless=true", "setup", "/n"];
    let executed = Executed::from(place.host.netns.command(words).output().unwrap());
    assert!(refused(&executed).contains("netd serves root's containers"), "{executed:?}");
}
