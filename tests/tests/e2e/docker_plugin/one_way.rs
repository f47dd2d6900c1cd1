//! Whether names work both ways between Docker's containers and everybody else, and that it is said.

use super::*;

#[test]
fn who_looks_is_told_that_names_work_one_way() {
    let world = World::new();
    let config = format!("docker_plugin = \"{SOCKET}\"\ndocker_config = \"/run/daemon.json\"");
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    host.client().create("other");
    let request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    call("NetworkDriver.CreateNetwork", request);
    let notes = || inspect(&host, "app").notes;
    assert!(notes()[0].contains("one way only on network app"), "{:?}", notes());
    let shown = host.netctl(&["network", "inspect", "app"]);
    assert!(shown.stderr.contains("netctl docker install"), "{shown:?}");
    assert_eq!(inspect(&host, "other").notes, [""; 0], "it is not Docker's");
    for (text, is_told) in [
        ("{", false),
        ("{\"dns\": [\"192.0.2.53\"]}", false),
        ("{\"dns\": [\"192.0.2.53\", \"10.9.0.1\"]}", true),
        ("{\"dns\": [\"169.254.76.53\"], \"debug\": true}", true),
    ] {
        fs::write("/run/daemon.json", text).unwrap();
        assert_eq!(notes().is_empty(), is_told, "{text}");
    }
}

#[test]
fn of_an_internal_network_it_is_said_whatever_dockerd_asks() {
    let world = World::new();
    let config = format!("docker_plugin = \"{SOCKET}\"\ndocker_config = \"/run/daemon.json\"");
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    fs::write("/run/daemon.json", "{\"dns\": [\"169.254.76.53\"]}").unwrap();
    let mut request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    request["Options"]["com.docker.network.internal"] = json!(true);
    call("NetworkDriver.CreateNetwork", request);
    let notes = inspect(&host, "app").notes;
    assert!(notes[0].contains("unless they are on a network that is not internal"), "{notes:?}");
}
