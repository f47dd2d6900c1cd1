//! The same with a real dockerd on each host, which knows nothing of the other.

use std::fs;

use netd_tests::{Dockerd, Executed, Machine};

use super::*;

/// Of each netd, whose name `NODE` is. The hosts share `/run`, and each dockerd looks for its driver in the
/// same place there, to which [`machine`] leads it.
const CONFIG: &str = "docker_plugin = \"/run/plugins-NODE/netd.sock\"\n\
                      docker_socket = \"/run/NODE-machine/docker/docker.sock\"\n\
                      docker_config = \"/run/NODE-machine/docker/daemon.json\"\n\
                      dns_link_local = \"169.254.76.53\"";

/// What it takes that Docker's containers resolve everybody else (`netctl docker install`).
const DAEMON_JSON: &str = r#"{"dns": ["169.254.76.53"]}"#;

const SERVE: [&str; 3] = [
    "sh",
    "-c",
    "mkdir -p /tmp/web; echo I am docker >/tmp/web/index.html; exec httpd -f -p 80 -h /tmp/web",
];

fn machine(fleet: &Fleet, host: usize) -> Machine {
    let name = format!("h{}", host + 1);
    let machine = fleet.world.machine(&name, &fleet.hosts[host].netns);
    machine.run(&["mkdir", "-p", "/run/docker/plugins"]).success();
    let own = format!("/run/plugins-{name}");
    machine.run(&["mount", "--bind", &own, "/run/docker/plugins"]).success();
    let config = Dockerd::config(&machine);
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(config, DAEMON_JSON).unwrap();
    machine
}

/// Waits until containers reach each other by their names.
#[track_caller]
fn talk(dockerd: &Dockerd<'_>, from: &str, names: &[&str]) {
    for name in names {
        eventually(&format!("{from} reaches {name}"), || {
            let executed = dockerd.docker(&["exec", from, "ping", "-c", "1", "-W", "2", name]);
            if executed.code == 0 { Ok(()) } else { Err(executed) }
        });
    }
}

/// Whether a server says what it should.
fn greeted(executed: Executed) -> Result<(), Executed> {
    if executed.stdout == "I am docker\n" { Ok(()) } else { Err(executed) }
}

#[test]
fn containers_of_two_real_dockerds_are_on_one_network_of_the_cluster() {
    let mut fleet = Fleet::new_with(2, CONFIG);
    let machines = [machine(&fleet, 0), machine(&fleet, 1)];
    let one = Dockerd::start(&machines[0]);
    let mut two = Dockerd::start(&machines[1]);
    let create = ["network", "create", "-d", "netd", "--ipam-driver", "netd", "-o", "network=app"];
    let subnet = ["--subnet", "10.9.0.0/16", "app"];
    // The second host is a worker, whose dockerd makes none.
    let made = two.docker(&[&create[..], &["-o", "type=overlay"], &subnet].concat());
    if made.code == 0 {
        two.docker(&["network", "rm", "app"]).success();
        panic!("a worker makes no networks: {made:?}");
    }
    one.docker(&[&create[..], &["-o", "type=overlay"], &subnet].concat()).success();
    eventually("the other host has it", || {
        if has_network(&fleet.hosts[1]) { Ok(()) } else { Err(()) }
    });
    two.docker(&[&create[..], &["--ipam-opt", "network=app"], &subnet].concat()).success();

    one.run("web", "app", &["-p", "8080:80"], &SERVE);
    two.run("db", "app", &[], &["sleep", "1000"]);
    let own = fleet.run(1, "app", "own");
    talk(&one, "web", &["db", "own"]);
    talk(&two, "db", &["web", "own"]);
    let web = own.asks("web A");
    assert_eq!(web.len(), 1);
    let curl = format!("curl -sS --noproxy * --max-time 5 http://{}/", web[0]);
    eventually("its server answers", || greeted(own.container.netns.output(&curl).into()));
    let curl = "curl -sS --noproxy * --max-time 5 http://198.51.100.1:8080/";
    eventually("the port leads there", || greeted(fleet.hosts[1].netns.output(curl).into()));

    // A netd that ends, and a dockerd that does, are the other host's no concern.
    fleet.hosts[0].kill();
    talk(&two, "db", &["web"]);
    fleet.hosts[0].start();
    talk(&one, "web", &["db", "own"]);
    two.end("KILL");
    two.start_again();
    eventually("what it left is gone there", || {
        let left = fleet.hosts[1].client().endpoints();
        if left.len() == 1 { Ok(()) } else { Err(left) }
    });
    assert_eq!(fleet.hosts[0].client().endpoints().len(), 1, "and nowhere else");
    two.docker(&["start", "db"]).success();
    talk(&one, "web", &["db"]);
    talk(&two, "db", &["web", "own"]);

    // The one that made it goes first, and it is the other's then; it goes with the last.
    two.docker(&["rm", "-f", "db"]).success();
    one.docker(&["rm", "-f", "web"]).success();
    fleet.hosts[1].client().detach("own");
    one.docker(&["network", "rm", "app"]).success();
    assert!(has_network(&fleet.hosts[1]));
    two.docker(&["network", "rm", "app"]).success();
    goes_without_a_trace(&fleet);
    for host in &fleet.hosts {
        assert_eq!(host.client().status().problems, [""; 0]);
    }
}
