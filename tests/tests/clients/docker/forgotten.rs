//! A dockerd that lost its own records of networks tells nobody: what netd has for it goes all the same.

use std::fs;

use netd_tests::{Asking as _, Dockerd, Host, eventually};

use super::{Place, SERVE, greeted};

const CREATE: [&str; 7] =
    ["network", "create", "-d", "netd", "--ipam-driver", "netd", "--label=from=the-test"];

/// Has dockerd's next life know nothing of its networks.
fn lose_networks(place: &Place, dockerd: &mut Dockerd<'_>) {
    dockerd.end("KILL");
    let records = place.machine.directory().join("docker/data/network");
    fs::remove_dir_all(&records).unwrap();
}

fn custom(host: &Host) -> String {
    let listed = host.netctl(&["network", "ls", "-f", "type=custom", "--format", "{{.Name}}"]);
    listed.success().to_owned()
}

#[test]
fn what_a_dockerd_without_its_database_has_no_more_goes() {
    let place = Place::new();
    let mut dockerd = Dockerd::start(&place.machine);
    let own = place.world.container("own");
    let subnet = place.host.client().create("shared").subnets[0].subnet.to_string();
    place.host.client().attach(&own.to("shared"));
    dockerd.docker(&[&CREATE[..], &["-o", "network=app", "app"]].concat()).success();
    dockerd.docker(&[&CREATE[..], &["-o", "network=idle", "idle"]].concat()).success();
    let share = ["--ipam-opt", "network=shared", "-o", "network=shared", "--subnet", &subnet];
    dockerd.docker(&[&CREATE[..], &share, &["shared"]].concat()).success();
    dockerd.run("web", "app", &["-p", "8080:80"], &SERVE);
    dockerd.run("db", "shared", &[], &["sleep", "1000"]);
    eventually("the port leads there", || greeted(&place.lan, "http://192.0.2.1:8080/"));
    let problems = || place.host.client().status().problems;
    eventually("all is well", || match problems() {
        none if none.is_empty() => Ok(()),
        some => Err(some),
    });

    lose_networks(&place, &mut dockerd);
    // Nothing goes while nobody says what is there.
    let waits = problems();
    assert_eq!(waits.len(), 1, "{waits:?}");
    let said = "no dockerd runs here, which has networks app, idle, shared: ";
    assert!(waits[0].starts_with(said), "{waits:?}");
    greeted(&place.lan, "http://192.0.2.1:8080/").unwrap();
    dockerd.start_again();
    eventually("what it lost is gone, and nothing else", || {
        let left = place.host.client().endpoints();
        let left: Vec<_> = left.iter().map(|e| e.container.label().to_owned()).collect();
        let (networks, problems) = (custom(&place.host), problems());
        if left == ["own"] && networks == "shared\n" && problems.is_empty() {
            Ok(())
        } else {
            Err((left, networks, problems))
        }
    });

    // And they can be made anew.
    dockerd.docker(&[&CREATE[..], &["-o", "network=app", "app"]].concat()).success();
    dockerd.docker(&["rm", "-f", "web"]).success();
    dockerd.run("web", "app", &["-p", "8080:80"], &SERVE);
    eventually("the port leads there", || greeted(&place.lan, "http://192.0.2.1:8080/"));
}
