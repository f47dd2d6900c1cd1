//! dockerd with its own IPAM on a network that netd had first: each gives addresses of a half.

use std::collections::BTreeSet;

use super::*;

/// Containers of both, one after the other, and who has what.
pub(crate) fn take_turns(mut place: Place) {
    let dockerd = Dockerd::start(&place.machine);
    let create = ["network", "create", "--subnet", "10.9.0.0/24", "app"];
    place.host.netctl(&create).success();
    let create =
        ["network", "create", "-d", "netd", "-o", "network=app", "--subnet", "10.9.0.0/24"];
    dockerd.docker(&[&create[..], &["app"]].concat()).success();
    let natives: Vec<_> = (0..6).map(|n| place.world.container(&format!("native-{n}"))).collect();
    let mut addresses = BTreeSet::new();
    for (n, native) in natives.iter().enumerate() {
        let endpoint = place.host.client().attach(&native.to("app"));
        addresses.insert(endpoint.addresses[0].ip());
        let name = format!("c{n}");
        dockerd.run(&name, "app", &[], &["sleep", "1000"]);
        let told = dockerd.inspect(&["inspect", &name]);
        let address = &told["NetworkSettings"]["Networks"]["app"]["IPAddress"];
        let address: IpAddr = address.as_str().unwrap().parse().unwrap();
        addresses.insert(address);
        assert!(native.netns.pings(address), "{address}");
        if n == 2 {
            place.host.kill();
            place.host.start();
        }
    }
    assert_eq!(addresses.len(), 2 * natives.len(), "{addresses:?}");
    let told = place.host.netctl(&["network", "inspect", "app"]);
    assert!(told.success().contains("\"IPRange\": \"10.9.0.128/25\""), "{told:?}");
    let ids = dockerd.docker(&["ps", "-aq"]);
    let ids: Vec<_> = ids.success().lines().collect();
    dockerd.docker(&[&["rm", "-f"], &ids[..]].concat()).success();
    dockerd.docker(&["network", "rm", "app"]).success();
    let told = place.host.netctl(&["network", "inspect", "app"]);
    assert!(!told.success().contains("IPRange"), "all of it is netd's again: {told:?}");
}

#[test]
fn docker_is_told_once_and_for_all_what_is_in_use() {
    let place = Place::new();
    let dockerd = Dockerd::start(&place.machine);
    place.host.netctl(&["network", "create", "--subnet", "10.9.0.0/24", "app"]).success();
    let natives: Vec<_> = (0..3).map(|n| place.world.container(&format!("native-{n}"))).collect();
    for native in &natives {
        place.host.client().attach(&native.to("app"));
    }
    let create =
        ["network", "create", "-d", "netd", "-o", "network=app", "--subnet", "10.9.0.0/24"];
    let refused = dockerd.docker(&[&create[..], &["app"]].concat());
    assert_ne!(refused.code, 0, "{refused:?}");
    // What is said there, as it is said there.
    let words = refused.stderr.split_once(": say ").unwrap().1.split_once(" as well").unwrap().0;
    let words: Vec<_> = words.split(' ').collect();
    assert_eq!(words.len(), 6, "{words:?}");
    dockerd.docker(&[&create[..], &words, &["app"]].concat()).success();
    for n in 5..8 {
        let name = format!("c{n}");
        dockerd.run(&name, "app", &[], &["sleep", "1000"]);
        let told = dockerd.inspect(&["inspect", &name]);
        let address = &told["NetworkSettings"]["Networks"]["app"]["IPAddress"];
        assert_eq!(*address, format!("10.9.0.{n}"));
    }
}

#[test]
fn dockers_own_addresses_come_to_a_network_of_netds() {
    take_turns(Place::new());
}
