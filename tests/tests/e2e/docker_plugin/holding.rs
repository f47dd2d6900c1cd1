//! What dockerd has, netd does not take from it; and where netd does not run, it has no sockets.

use std::{path::Path, process::Child};

use netd_tests::Executed;

use super::*;

const API: &str = "/run/api-of-the-test.sock";

/// A process that is called as dockerd is.
struct Called(Child);

impl Called {
    fn dockerd(host: &Host) -> Self {
        fs::copy("/bin/sleep", "/run/dockerd").unwrap();
        let child = host.netns.command(["/run/dockerd", "1000"]).spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        eventually("it is executed", || match fs::read_to_string(&comm).unwrap().trim() {
            "dockerd" => Ok(()),
            other => Err(other.to_owned()),
        });
        Self(child)
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn place() -> (Host, World) {
    let world = World::new();
    let config = format!(
        "docker_plugin = \"{SOCKET}\"\ndocker_socket = \"{DOCKERD}\"\ndocker_api = \"{API}\""
    );
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    (host, world)
}

/// The name of Docker's network in netd, with dockerd's id of it.
fn made(name: &str, digit: char) -> String {
    let net = id(digit);
    let subnet = format!("10.9.{}.", u32::from(digit) - 96);
    let [whole, gateway] = ["0/24", "1/24"].map(|end| format!("{subnet}{end}"));
    call("NetworkDriver.CreateNetwork", network(&net, &whole, &gateway, json!({"network": name})));
    net
}

#[test]
fn a_network_that_dockerd_has_is_not_taken_from_it() {
    let (host, _world) = place();
    let net = made("app", 'a');
    host.client().create("idle");
    let refused = |known: &str, executed: Executed| {
        let said = format!("dockerd has network app: say docker network rm {known} first");
        assert!(executed.code != 0 && executed.stderr.contains(&said), "{executed:?}");
    };
    refused(&net[..12], host.netctl(&["network", "rm", "app"]));
    let rm = netd_tests::docker(API, &["network", "rm", "app"]);
    refused(&net[..12], rm);
    let pruned = host.netctl(&["network", "prune", "--force"]);
    assert_eq!(pruned.success(), "Deleted Networks:\nidle\n\n");
    assert!(pruned.stderr.contains("network app stays: dockerd has it"), "{pruned:?}");
    host.client().create("idle");
    let pruned = netd_tests::docker(API, &["network", "prune", "--force"]);
    assert_eq!(pruned.success(), "Deleted Networks:\nidle\n\n");
    // dockerd says how it calls the network, and whether it has it.
    let told = Told::listen();
    let path = format!("/networks/{net}");
    told.0.lock().unwrap().insert(path.clone(), json!({"Name": "shop", "Containers": {}}));
    let _dockerd = Called::dockerd(&host);
    refused("shop", host.netctl(&["network", "rm", "app"]));
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.1.2/24"));
    call("NetworkDriver.DeleteEndpoint", of(&net, &id('e')));
    told.0.lock().unwrap().remove(&path);
    host.netctl(&["network", "rm", "app"]).success();
    // And dockerd itself may always let go of it.
    let net = made("app", 'b');
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    let left = host.netctl(&["network", "ls", "--filter", "type=custom", "-q"]);
    assert_eq!(left.success(), "");
}

#[test]
fn who_insists_has_a_network_of_dockerds_removed() {
    let (host, _world) = place();
    made("app", 'a');
    host.client().create("shared");
    let shared = inspect(&host, "shared").network.subnets[0].clone();
    for digit in ['b', 'c'] {
        let gateway = format!("{}/24", shared.gateway.unwrap());
        let network =
            network(&id(digit), &shared.subnet.to_string(), &gateway, json!({"network": "shared"}));
        call("NetworkDriver.CreateNetwork", network);
    }
    let rm = host.netctl(&["network", "rm", "shared"]);
    assert!(rm.stderr.contains("dockerd has network shared"), "{rm:?}");
    assert_eq!(
        host.netctl(&["network", "rm", "--force", "app", "shared", "none-such"]).success(),
        "app\nshared\n"
    );
    // Whoever is on it is another matter.
    made("app", 'd');
    call("NetworkDriver.CreateEndpoint", endpoint(&id('d'), &id('e'), "10.9.4.2/24"));
    let rm = host.netctl(&["network", "rm", "--force", "app"]);
    assert!(rm.code != 0 && rm.stderr.contains("has active endpoints"), "{rm:?}");
    // Nor is anybody's container taken off, of which dockerd would not know.
    let disconnect = ["network", "disconnect", "app", &id('e')];
    for off in [netd_tests::docker(API, &disconnect), host.netctl(&disconnect)] {
        assert!(off.code != 0 && off.stderr.contains("say docker network disconnect"), "{off:?}");
    }
    assert_eq!(host.client().endpoints().len(), 1);
    call("NetworkDriver.DeleteEndpoint", of(&id('d'), &id('e')));
    assert_eq!(host.client().endpoints(), [], "dockerd has it still");
}

#[test]
fn who_insists_has_a_container_of_dockerds_taken_off() {
    let (host, _world) = place();
    made("app", 'a');
    let insist = ["network", "disconnect", "--force", "app", &id('e')[..12]];
    for by_netctl in [true, false] {
        call("NetworkDriver.CreateEndpoint", endpoint(&id('a'), &id('e'), "10.9.1.2/24"));
        let refused = host.netctl(&["network", "disconnect", "app", &id('e')]);
        assert_eq!(refused.code, 6, "{refused:?}");
        let way = format!("netctl {}", insist.join(" "));
        assert!(refused.stderr.contains(&way), "{refused:?}");
        let off = if by_netctl { host.netctl(&insist) } else { netd_tests::docker(API, &insist) };
        off.success();
        assert_eq!(host.client().endpoints(), []);
        // dockerd lets go of it as ever.
        call("NetworkDriver.DeleteEndpoint", of(&id('a'), &id('e')));
    }
    // Who is on no network is refused in other words, as before.
    let gone = host.netctl(&["network", "disconnect", "app", &id('e')]);
    assert!(gone.code == 3 && gone.stderr.contains("is not connected to network app"), "{gone:?}");
}

#[test]
fn sockets_are_there_while_netd_is() {
    let (mut host, _world) = place();
    let are_there = || [SOCKET, API].map(|path| Path::new(path).exists());
    assert_eq!(are_there(), [true; 2]);
    host.stop();
    assert_eq!(are_there(), [false; 2]);
    // What a netd leaves that is killed the next one takes over.
    host.start();
    call("Plugin.Activate", Value::Null);
    host.kill();
    assert_eq!(are_there(), [true; 2]);
    host.start();
    call("Plugin.Activate", Value::Null);
    netd_tests::docker(API, &["network", "ls"]).success();
    // What is another's by now stays.
    fs::remove_file(SOCKET).unwrap();
    let _other = UnixListener::bind(SOCKET).unwrap();
    host.stop();
    assert_eq!(are_there(), [true, false]);
}

#[test]
fn who_connects_a_container_of_dockerds_by_netd_is_told_whom_to_ask() {
    let (host, _world) = place();
    let net = made("app", 'a');
    host.client().create("back");
    let told = Told::listen();
    told.network(&net, &[(&id('c'), "web", &id('e'))]);
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.1.2/24"));
    call("NetworkDriver.Join", of(&net, &id('e')));
    eventually("it has its name", || match host.client().endpoints().remove(0) {
        own if own.container.label() == "web" => Ok(()),
        own => Err(format!("{own:?}")),
    });
    let connect = ["network", "connect", "back", "web"];
    for executed in [host.netctl(&connect), netd_tests::docker(API, &connect)] {
        assert_ne!(executed.code, 0, "{executed:?}");
        let said = "container web is Docker's, and dockerd alone puts it on networks";
        assert!(executed.stderr.contains(said), "{executed:?}");
    }
}

#[test]
fn what_netd_has_lost_and_dockerd_has_is_said() {
    let (host, _world) = place();
    let net = made("app", 'a');
    let told = Told::listen();
    told.network(&net, &[]);
    let _dockerd = Called::dockerd(&host);
    let listed =
        |id: &str, name: &str, driver: &str| json!({"Id": id, "Name": name, "Driver": driver});
    let networks = json!([
        listed(&net, "app", "netd"),
        listed(&id('b'), "lost", "netd"),
        listed(&id('c'), "own", "bridge")
    ]);
    told.0.lock().unwrap().insert("/networks".to_owned(), networks);
    let problems = host.client().status().problems;
    let said = "dockerd has a network lost that netd knows nothing of, and no container starts on it: \
                take it away (docker network rm lost), and make it again";
    assert_eq!(problems, [said]);
}

#[test]
fn who_would_be_rid_of_a_dead_dockers_networks_is_told_all_of_it() {
    let (host, _world) = place();
    let net = made("app", 'a');
    let said = || host.client().status().problems.remove(0);
    assert!(said().ends_with("or netctl network rm --force takes them away"), "{}", said());
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.1.2/24"));
    let sentence = "or netctl network disconnect --force for each of those containers, and then netctl \
                    network rm --force takes them away";
    assert!(said().ends_with(sentence), "{}", said());
    // What is said is done.
    host.netctl(&["network", "disconnect", "--force", "app", &id('e')]).success();
    host.netctl(&["network", "rm", "--force", "app"]).success();
}
