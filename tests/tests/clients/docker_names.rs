//! What Docker's containers are called, for everybody else on their networks: with `--network-alias`
//! and after `docker rename`, of which dockerd tells no driver.

use cnm::endpoint::Endpoint;
use netd_tests::{Asking as _, Container, Dockerd, Host, HostOptions, World, eventually};

const CREATE: [&str; 6] = ["network", "create", "-d", "netd", "--ipam-driver", "netd"];

/// Somebody on a network who asks for names.
struct Asker {
    container: Container,
    endpoint: Endpoint,
}

impl Asker {
    fn on(world: &World, host: &Host, network: &str) -> Self {
        let container = world.container(&format!("asker-{network}"));
        let endpoint = host.client().attach(&container.to(network));
        Self { container, endpoint }
    }

    /// Waits until a name is an address, or nobody's.
    #[track_caller]
    fn finds(&self, name: &str, wanted: Option<&str>) {
        eventually(&format!("{name} is {wanted:?}"), || {
            let gateway = self.endpoint.gateways[0];
            let answers =
                Host::ask_name(&self.container.netns, gateway, &format!("{name} A +nosearch"));
            if answers.iter().map(String::as_str).eq(wanted) { Ok(()) } else { Err(answers) }
        });
    }
}

#[track_caller]
fn address(dockerd: &Dockerd<'_>, container: &str, network: &str) -> String {
    let told = dockerd.inspect(&["inspect", container]);
    told["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
}

fn host(world: &World) -> Host {
    let config = "docker_plugin = \"/run/docker/plugins/netd.sock\"\n\
                  docker_socket = \"/run/a-machine/docker/docker.sock\"";
    world.host_with("a", HostOptions { config: config.into(), ..HostOptions::default() })
}

#[test]
fn aliases_and_new_names_of_dockers_containers_resolve_for_everybody() {
    let world = World::new();
    let mut host = host(&world);
    let machine = world.machine("a", &host.netns);
    let mut dockerd = Dockerd::start(&machine);
    for network in ["app", "back"] {
        let option = format!("network={network}");
        dockerd.docker(&[&CREATE[..], &["-o", &option, network]].concat()).success();
    }
    let [app, back] = ["app", "back"].map(|network| Asker::on(&world, &host, network));
    let aliases = ["--network-alias", "www", "--network-alias", "shop"];
    dockerd.run("web", "app", &aliases, &["sleep", "1000"]);
    let web = address(&dockerd, "web", "app");
    for name in ["web", "www", "shop"] {
        app.finds(name, Some(&web));
    }
    // What a container is called on one network it is not on another.
    dockerd.docker(&["network", "connect", "--alias", "store", "back", "web"]).success();
    let behind = address(&dockerd, "web", "back");
    back.finds("store", Some(&behind));
    back.finds("web", Some(&behind));
    back.finds("www", None);
    app.finds("store", None);

    dockerd.docker(&["rename", "web", "front"]).success();
    for (asker, address) in [(&app, &web), (&back, &behind)] {
        asker.finds("front", Some(address));
        asker.finds("web", None);
    }
    app.finds("www", Some(&web));
    let shown = host.netctl(&["network", "inspect", "app"]);
    assert!(
        shown.success().contains("\"front\"") && !shown.stdout.contains("\"web\""),
        "{shown:?}"
    );
    let known = host.netctl(&["sandbox", "ls"]);
    assert!(known.success().contains("front"), "{known:?}");
    // Its former name is free for another.
    dockerd.run("web", "app", &["--network-alias", "shop"], &["sleep", "1000"]);
    let other = address(&dockerd, "web", "app");
    app.finds("web", Some(&other));

    // While netd, or dockerd, is not there, nothing is missed for good.
    host.kill();
    dockerd.docker(&["rename", "web", "second"]).success();
    host.start();
    app.finds("second", Some(&other));
    app.finds("web", None);
    app.finds("www", Some(&web));
    dockerd.end("KILL");
    dockerd.start_again();
    dockerd.docker(&["start", "front"]).success();
    let again = address(&dockerd, "front", "app");
    app.finds("www", Some(&again));
    dockerd.docker(&["rename", "front", "third"]).success();
    app.finds("third", Some(&again));
    dockerd.docker(&["rm", "-f", "third", "second"]).success();
    app.finds("third", None);
    app.finds("www", None);
}

#[test]
fn what_docker_is_refused_is_said_in_names() {
    let world = World::new();
    let host = host(&world);
    let machine = world.machine("a", &host.netns);
    let dockerd = Dockerd::start(&machine);
    let create = |words: &[&str]| dockerd.docker(words).success()[..12].to_owned();
    let app = create(&[&CREATE[..], &["app"]].concat());
    let back = create(&["network", "create", "-d", "netd", "--subnet", "10.9.7.0/24", "back"]);
    let _held = host.netns.serve_tcp(8080);
    let more = ["--security-opt", "seccomp=unconfined", "--ulimit", "nofile=1024:1024"];
    let run = |network: &str, words: &[&str]| {
        let start = ["run", "--rm", "--network", network];
        let all = [&start[..], &more, words, &["box", "sleep", "1"]];
        let refused = dockerd.docker(&all.concat());
        assert_eq!((refused.code, refused.stdout.as_str()), (125, ""), "{refused:?}");
        // What comes before is Docker's own.
        let said = refused.stderr.split_once("Driver.");
        let said = said.unwrap_or_else(|| panic!("{refused:?}")).1;
        let is_id = |word: &str| word.len() >= 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let words = said.split(|c: char| !c.is_ascii_alphanumeric());
        assert_eq!(words.filter(|word| is_id(word)).count(), 0, "{said}");
        said.to_owned()
    };
    let said = run("app", &["-p", "8080:80"]);
    assert!(said.contains("8080"), "{said}");
    // Somebody has taken the networks away behind Docker's back.
    let names = [app, back].map(|id| format!("docker-{id}"));
    host.netctl(&["network", "rm", "--force", &names[0], &names[1]]).success();
    let said = run("app", &[]);
    assert!(said.contains("netd has no network with 10.76."), "{said}");
    let said = run("back", &[]);
    assert!(said.contains("netd has no network for Docker's back: remove it in Docker"), "{said}");
}
