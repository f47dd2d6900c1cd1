//! A real dockerd with netd as its network and IPAM driver.

use std::net::IpAddr;

use netd_tests::{
    Asking as _, Dockerd, Executed, Host, HostOptions, Machine, Namespace, World, eventually,
};

mod dividing;
mod forgotten;
mod macvlan;
mod naming;

/// A host with a neighbour, and a machine for dockerd. What is first ends first.
pub(crate) struct Place {
    pub(crate) machine: Machine,
    lan: Namespace,
    host: Host,
    world: World,
}

impl Place {
    fn new() -> Self {
        Self::with(World::machine)
    }

    /// As [`Place::new`], with another machine.
    pub(crate) fn with(machine: impl FnOnce(&World, &str, &Namespace) -> Machine) -> Self {
        let world = World::new();
        let config = "docker_plugin = \"/run/docker/plugins/netd.sock\"\n\
                      docker_socket = \"/run/a-machine/docker/docker.sock\"";
        let options = HostOptions { config: config.into(), ..HostOptions::default() };
        let host = world.host_with("a", options);
        let lan = host.lan();
        let machine = machine(&world, "a", &host.netns);
        Self { machine, lan, host, world }
    }

    /// Waits until no link of a container is left.
    #[track_caller]
    fn bare(&self) {
        eventually("no link of a container is left", || {
            let links = self.host.netns.json("ip -j -d link");
            let links = links.as_array().unwrap().iter();
            let left: Vec<_> = links
                .filter(|link| link["linkinfo"]["info_kind"] == "veth" && link["ifname"] != "lan0")
                .map(|link| link["ifname"].clone())
                .collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        assert_eq!(self.host.client().endpoints(), []);
    }
}

const SERVE: [&str; 3] = [
    "sh",
    "-c",
    "mkdir -p /tmp/web; echo I am docker >/tmp/web/index.html; exec httpd -f -p 80 -h /tmp/web",
];

/// Whether one container reaches another by its name.
fn pings(dockerd: &Dockerd<'_>, from: &str, to: &str) -> Result<(), Executed> {
    let executed = dockerd.docker(&["exec", from, "ping", "-c", "1", "-W", "2", to]);
    if executed.code == 0 { Ok(()) } else { Err(executed) }
}

fn greeted(who: &Namespace, url: &str) -> Result<(), Executed> {
    let executed = Executed::from(who.output(&format!("curl -sS --noproxy * --max-time 5 {url}")));
    if executed.stdout == "I am docker\n" { Ok(()) } else { Err(executed) }
}

/// A life: names, ports, a second network, either daemon away, and nothing left.
pub(crate) fn lives(mut place: Place) {
    let mut dockerd = Dockerd::start(&place.machine);
    let before = place.host.snapshot();
    let create = ["network", "create", "-d", "netd", "--ipam-driver", "netd", "-o", "network=app"];
    dockerd.docker(&[&create[..], &["app"]].concat()).success();
    dockerd.run("web", "app", &["-p", "8080:80"], &SERVE);
    dockerd.run("db", "app", &[], &["sleep", "1000"]);
    eventually("they reach each other by name", || {
        pings(&dockerd, "web", "db").and_then(|()| pings(&dockerd, "db", "web"))
    });
    eventually("the port leads there", || greeted(&place.lan, "http://192.0.2.1:8080/"));

    // Everybody else on the network finds them, and they are shown.
    let other = place.world.container("other");
    let endpoint = place.host.client().attach(&other.to("app"));
    let gateway = endpoint.gateways[0];
    let told = dockerd.inspect(&["inspect", "web"]);
    let web = told["NetworkSettings"]["Networks"]["app"]["IPAddress"].as_str().unwrap().to_owned();
    let id = told["Id"].as_str().unwrap().to_owned();
    eventually("its name resolves", || {
        let answers = Host::ask_name(&other.netns, gateway, "web A");
        if answers == [web.as_str()] { Ok(()) } else { Err(answers) }
    });
    greeted(&other.netns, &format!("http://{web}/")).unwrap();
    let shown = place.host.netctl(&["network", "inspect", "app"]);
    assert!(shown.success().contains(&id) && shown.stdout.contains("\"web\""), "{shown:?}");

    // A second network, and back.
    dockerd
        .docker(&["network", "create", "-d", "netd", "--subnet", "10.9.7.0/24", "back"])
        .success();
    dockerd.docker(&["network", "connect", "back", "db"]).success();
    let links = dockerd.docker(&["exec", "db", "ip", "-o", "address"]);
    assert!(links.success().contains("10.9.7.2/24"), "{links:?}");
    dockerd.docker(&["network", "disconnect", "back", "db"]).success();
    dockerd.docker(&["network", "rm", "back"]).success();

    place.host.kill();
    greeted(&place.lan, "http://192.0.2.1:8080/").unwrap();
    pings(&dockerd, "db", "web").unwrap();
    place.host.start();
    greeted(&place.lan, "http://192.0.2.1:8080/").unwrap();
    pings(&dockerd, "web", "db").unwrap();

    // A dockerd that is killed ends its containers when it comes back, and starts them anew.
    dockerd.end("KILL");
    greeted(&place.lan, "http://192.0.2.1:8080/").unwrap();
    dockerd.start_again();
    eventually("what it left is gone", || {
        let left = place.host.client().endpoints();
        if left.len() == 1 { Ok(()) } else { Err(format!("{left:?}")) }
    });
    dockerd.docker(&["start", "web", "db"]).success();
    eventually("they reach each other by name", || pings(&dockerd, "db", "web"));
    eventually("the port leads there", || greeted(&place.lan, "http://192.0.2.1:8080/"));

    dockerd.docker(&["rm", "-f", "web", "db"]).success();
    place.host.client().detach("other");
    dockerd.docker(&["network", "rm", "app"]).success();
    place.bare();
    let networks = place.host.netctl(&["network", "ls", "-q"]);
    assert_eq!(networks.success().lines().count(), 3, "{networks:?}");
    eventually("the host is as it was", || before.same_as(&place.host.snapshot()));
}

/// dockerd is ended as a person ends it, and lets go of its containers; netd meanwhile, too.
pub(crate) fn is_ended_in_order(mut place: Place) {
    let mut dockerd = Dockerd::start(&place.machine);
    let before = place.host.snapshot();
    let create = ["network", "create", "-d", "netd", "--ipam-driver", "netd", "-o", "network=app"];
    dockerd.docker(&[&create[..], &["app"]].concat()).success();
    // A shell that is the first process is deaf to SIGTERM.
    let options = ["-p", "8080:80", "--restart", "always", "--stop-timeout", "1"];
    dockerd.run("web", "app", &options, &SERVE);
    eventually("the port leads there", || greeted(&place.lan, "http://192.0.2.1:8080/"));
    let network = || place.host.netctl(&["network", "ls", "-q", "--no-trunc", "-f", "name=app"]);
    let id = network().success().to_owned();
    dockerd.end("TERM");
    place.bare();
    let refused = Executed::from(place.lan.output("curl -sS --max-time 5 http://192.0.2.1:8080/"));
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(network().success(), id, "the network is Docker's still");
    place.host.stop();
    place.host.start();
    dockerd.start_again();
    eventually("it is started anew", || greeted(&place.lan, "http://192.0.2.1:8080/"));
    let told = dockerd.inspect(&["inspect", "web"]);
    let ip = told["NetworkSettings"]["Networks"]["app"]["IPAddress"].as_str().unwrap();
    let shown = place.host.netctl(&["network", "inspect", "app"]);
    assert!(shown.success().contains(&format!("\"{ip}/")), "{shown:?}");
    dockerd.docker(&["rm", "-f", "web"]).success();
    dockerd.docker(&["network", "rm", "app"]).success();
    place.bare();
    eventually("the host is as it was", || before.same_as(&place.host.snapshot()));
}

#[test]
fn a_dockerd_that_is_ended_in_order_finds_its_networks_again() {
    is_ended_in_order(Place::new());
}

#[test]
fn dockers_containers_live_on_netd_through_restarts() {
    lives(Place::new());
}

/// netd and dockerd are killed together, and come back.
pub(crate) fn is_killed_with_netd(mut place: Place) {
    let mut dockerd = Dockerd::start(&place.machine);
    let create = ["network", "create", "-d", "netd", "--ipam-driver", "netd", "-o", "network=app"];
    dockerd.docker(&[&create[..], &["app"]].concat()).success();
    dockerd.run("web", "app", &["-p", "8080:80", "--restart", "always"], &SERVE);
    dockerd.run("db", "app", &[], &["sleep", "1000"]);
    eventually("the port leads there", || greeted(&place.lan, "http://192.0.2.1:8080/"));
    dockerd.end("KILL");
    place.host.kill();
    greeted(&place.lan, "http://192.0.2.1:8080/").unwrap();
    // dockerd waits for a plugin that is not there for as long as nobody would.
    place.host.start();
    dockerd.start_again();
    eventually("it is started anew", || greeted(&place.lan, "http://192.0.2.1:8080/"));
    dockerd.docker(&["start", "db"]).success();
    eventually("they reach each other by name", || pings(&dockerd, "db", "web"));
    eventually("each is there once", || {
        let left = place.host.client().endpoints();
        if left.len() == 2 { Ok(()) } else { Err(format!("{left:?}")) }
    });
    dockerd.docker(&["rm", "-f", "web", "db"]).success();
    dockerd.docker(&["network", "rm", "app"]).success();
    place.bare();
    let networks = place.host.netctl(&["network", "ls", "-q"]);
    assert_eq!(networks.success().lines().count(), 3, "{networks:?}");
}

#[test]
fn both_may_be_killed_at_once() {
    is_killed_with_netd(Place::new());
}

/// A network that netd had before.
pub(crate) fn shares_a_network(place: &Place) {
    let app = place.host.client().create("app");
    let dockerd = Dockerd::start(&place.machine);
    let subnet = app.subnets[0].subnet.to_string();
    let options = ["--ipam-driver", "netd", "--ipam-opt", "network=app", "-o", "network=app"];
    let create = [&["network", "create", "-d", "netd"][..], &options].concat();
    let asked = dockerd.docker(&[&create[..], &["mine"]].concat());
    assert!(asked.stderr.contains(&format!("say --subnet {subnet}")), "{asked:?}");
    dockerd.docker(&[&create[..], &["--subnet", &subnet, "mine"]].concat()).success();
    let told = dockerd.inspect(&["network", "inspect", "mine"]);
    assert_eq!(told["IPAM"]["Config"][0]["Subnet"], subnet.as_str());
    let other = place.world.container("other");
    place.host.client().attach(&other.to("app"));
    dockerd.run("web", "mine", &[], &SERVE);
    let told = dockerd.inspect(&["inspect", "web"]);
    let ip = told["NetworkSettings"]["Networks"]["mine"]["IPAddress"].as_str().unwrap();
    let ip: IpAddr = ip.parse().unwrap();
    eventually("it is reached", || greeted(&other.netns, &format!("http://{ip}/")));
    dockerd.docker(&["rm", "-f", "web"]).success();
    dockerd.docker(&["network", "rm", "mine"]).success();
    assert_eq!(place.host.client().endpoints().len(), 1, "the others stay");
    place.host.client().detach("other");
    place.bare();
}

#[test]
fn a_network_that_is_there_is_shared_with_docker() {
    shares_a_network(&Place::new());
}
