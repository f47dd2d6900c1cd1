//! dockerd names the interfaces of its containers: netd shows what they are called there.

use netd_tests::{Asking as _, Dockerd, eventually};

use super::Place;

/// What netd says that a container's interface is called.
fn shown(place: &Place) -> Vec<String> {
    place.host.client().endpoints().iter().map(|endpoint| endpoint.ifname.to_string()).collect()
}

/// What it is called there, by the address of netd's.
fn real(dockerd: &Dockerd<'_>, address: &str) -> String {
    let links = dockerd.docker(&["exec", "db", "ip", "-o", "address"]);
    let line = links.success().lines().find(|line| line.contains(&format!(" {address}/")));
    let line = line.unwrap_or_else(|| panic!("{address}: {links:?}"));
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn an_interface_is_called_what_dockerd_called_it() {
    let place = Place::new();
    let dockerd = Dockerd::start(&place.machine);
    dockerd.docker(&["network", "create", "--subnet", "172.30.0.0/24", "dockers"]).success();
    let create = ["network", "create", "-d", "netd", "--ipam-driver", "netd"];
    let lan = ["-o", "type=macvlan", "-o", "parent=lan0", "--subnet", "192.0.2.0/24"];
    dockerd.docker(&[&create[..], &["app"]].concat()).success();
    dockerd.docker(&[&create[..], &lan, &["--gateway", "192.0.2.2", "phys"]].concat()).success();
    for network in ["app", "phys"] {
        dockerd.run("db", "dockers", &[], &["sleep", "1000"]);
        dockerd.docker(&["network", "connect", network, "db"]).success();
        let endpoint = place.host.client().endpoints().remove(0);
        assert_eq!(real(&dockerd, &endpoint.addresses[0].ip().to_string()), "eth1");
        eventually("it is shown", || match shown(&place) {
            names if names == ["eth1"] => Ok(()),
            names => Err(names),
        });
        let check = || {
            let check = place.host.netctl(&["endpoint", "check", endpoint.id.as_str()]);
            check.success().to_owned()
        };
        check();

        // Who renames it is followed when somebody looks.
        let pid = dockerd.inspect(&["inspect", "db"])["State"]["Pid"].to_string();
        let rename = "ip link set eth1 down; ip link set eth1 name lan7; ip link set lan7 up";
        place.machine.run(&["nsenter", "-t", &pid, "-n", "sh", "-c", rename]).success();
        check();
        assert_eq!(shown(&place), ["lan7"]);
        let detail = place.host.netctl(&["endpoint", "inspect", endpoint.id.as_str()]);
        assert!(detail.success().contains("\"lan7\""), "{detail:?}");

        // As it would have been the only one.
        dockerd.docker(&["rm", "-f", "db"]).success();
        dockerd.run("db", network, &[], &["sleep", "1000"]);
        eventually("it is shown", || match shown(&place) {
            names if names == ["eth0"] => Ok(()),
            names => Err(names),
        });
        dockerd.docker(&["rm", "-f", "db"]).success();
    }
}
