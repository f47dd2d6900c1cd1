//! Docker's own command line on netd's socket: what it prints, byte by byte.

use std::time::{SystemTime, UNIX_EPOCH};

use cnm::{endpoint::Netns, sandbox::CreateSandbox};
use netd_tests::{Dockerd, Executed, Host, HostOptions, World, docker};
use serde_json::Value;

pub(crate) const SOCKET: &str = "/run/netd-docker.sock";

/// A host that listens there.
pub(crate) fn host(world: &World) -> Host {
    let config = format!("docker_api = \"{SOCKET}\"");
    world.host_with("a", HostOptions { config, ..HostOptions::default() })
}

/// `docker network`, as the command line that `docker` executes prints it.
pub(crate) fn network_works_unchanged(
    world: &World,
    host: &Host,
    docker: impl Fn(&[&str]) -> Executed,
) {
    let network = |words: &[&str]| docker(&[&["network"], words].concat());
    let create = ["create", "--subnet", "10.5.0.0/16", "--ip-range", "10.5.1.0/24"];
    let more = ["--gateway", "10.5.0.1", "--aux-address", "router=10.5.0.7", "--label", "a=b"];
    let made = network(
        &[&create[..], &more, &["-o", "com.docker.network.driver.mtu=1400", "app"]].concat(),
    );
    let id = made.success().trim_end().to_owned();
    assert_eq!(made.stdout, format!("{id}\n"));
    assert_eq!(id.len(), 64);

    let short = |name: &str| {
        let told = network(&["inspect", "--format", "{{.Id}}", name]);
        told.success()[..12].to_owned()
    };
    assert_eq!(
        network(&["ls"]).success(),
        format!(
            "NETWORK ID     NAME      DRIVER    SCOPE\n\
             {}   app       bridge    local\n\
             {}   bridge    bridge    local\n\
             {}   host      host      local\n\
             {}   none      null      local\n",
            &id[..12],
            short("bridge"),
            short("host"),
            short("none")
        )
    );
    assert_eq!(
        network(&["ls", "-q", "--no-trunc", "--filter", "name=ap"]).success(),
        format!("{id}\n")
    );
    assert_eq!(network(&["ls", "-f", "driver=null", "--format", "{{.Name}}"]).success(), "none\n");
    let exactly = |name: &str| {
        let filter = format!("name=^{name}$");
        network(&["ls", "-f", &filter, "--format", "{{.Name}}"]).success().to_owned()
    };
    assert_eq!((exactly("app"), exactly("ap")), ("app\n".to_owned(), String::new()));

    // Command lines print what they know of: of IPv4, from 1.48 of the API on.
    let api = docker(&["version", "--format", "{{.Client.APIVersion}}"]);
    let minor: u32 = api.success().trim_end().rsplit('.').next().unwrap().parse().unwrap();
    let ipv4 = if minor >= 48 { "\n        \"EnableIPv4\": true," } else { "" };
    let told = network(&["inspect", "app"]);
    let parsed: Value = serde_json::from_str(told.success()).unwrap();
    let created = parsed[0]["Created"].as_str().unwrap();
    assert_eq!(
        told.stdout,
        format!(
            r#"[
    {{
        "Name": "app",
        "Id": "{id}",
        "Created": "{created}",
        "Scope": "local",
        "Driver": "bridge",{ipv4}
        "EnableIPv6": false,
        "IPAM": {{
            "Driver": "default",
            "Options": {{}},
            "Config": [
                {{
                    "Subnet": "10.5.0.0/16",
                    "IPRange": "10.5.1.0/24",
                    "Gateway": "10.5.0.1",
                    "AuxiliaryAddresses": {{
                        "router": "10.5.0.7"
                    }}
                }}
            ]
        }},
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {{
            "Network": ""
        }},
        "ConfigOnly": false,
        "Containers": {{}},
        "Options": {{
            "com.docker.network.driver.mtu": "1400"
        }},
        "Labels": {{
            "a": "b"
        }}
    }}
]
"#
        )
    );
    let missing = network(&["inspect", "nowhere"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (1, "[]\n"));
    assert!(
        missing.stderr.contains("nowhere not found") || missing.stderr.contains("No such network")
    );

    let again = network(&["create", "app"]);
    assert_eq!(again.code, 1);
    assert_eq!(again.stderr, "Error response from daemon: network with name app already exists\n");

    let web = world.container("web");
    let netns = Netns::Path(web.netns.path());
    host.client().call(&CreateSandbox { container: web.known(), netns }).unwrap();
    let connect = ["connect", "--ip", "10.5.1.9", "--alias", "www", "app", "web"];
    assert_eq!(network(&connect).success(), "");
    assert!(host.netns.pings("10.5.1.9".parse().unwrap()));
    let told = network(&[
        "inspect",
        "--format",
        "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}",
        "app",
    ]);
    assert_eq!(told.success(), "web 10.5.1.9/16\n");
    let busy = network(&["rm", "app"]);
    assert_eq!(busy.code, 1);
    assert!(busy.stderr.contains("network app has active endpoints (name:\"web\" id:"), "{busy:?}");
    assert_eq!(network(&["disconnect", "app", "web"]).success(), "");
    let id = &web.id;
    let not_there =
        format!("Error response from daemon: container {id} is not connected to network app\n");
    for words in [&["disconnect", "app", "web"][..], &["disconnect", "-f", "app", "web"]] {
        let executed = network(words);
        assert_eq!((executed.code, executed.stderr.as_str()), (1, not_there.as_str()));
    }
    assert_eq!(
        network(&["disconnect", "-f", "app", "nobody"]).stderr,
        "Error response from daemon: endpoint nobody not found\n"
    );
    assert_eq!(network(&["rm", "app"]).success(), "app\n");
    let denied = network(&["rm", "bridge"]);
    assert!(denied.stderr.contains("bridge is a pre-defined network and cannot be removed"));

    network(&["create", "--internal", "--ipv6", "--subnet", "fd00:5::/64", "idle"]).success();
    let idle = network(&["inspect", "-f", "{{.Internal}} {{.EnableIPv6}}", "idle"]);
    assert_eq!(idle.success(), "true true\n");
    assert_eq!(network(&["prune", "-f", "--filter", "until=24h"]).success(), "");
    assert_eq!(network(&["prune", "-f"]).success(), "Deleted Networks:\nidle\n\n");
    assert_eq!(network(&["prune", "-f"]).success(), "");
    let version = docker(&["version", "--format", "{{.Server.APIVersion}}"]);
    assert_eq!(version.success(), "1.51\n");
    // Client and server are of one machine.
    let version = docker(&["version", "--format", "{{.Client.Arch}} {{.Server.Arch}}"]);
    let (client, server) = version.success().trim().split_once(' ').unwrap();
    assert_eq!(client, server);
}

#[test]
fn docker_network_works_unchanged() {
    let world = World::new();
    network_works_unchanged(&world, &host(&world), |words| docker(SOCKET, words));
}

/// `docker events`, likewise.
pub(crate) fn events_work_unchanged(
    world: &World,
    host: &Host,
    docker: impl Fn(&[&str]) -> Executed,
) {
    let network = |words: &[&str]| docker(&[&["network"], words].concat());
    let id = network(&["create", "app"]).success().trim_end().to_owned();
    let web = world.container("web");
    let netns = Netns::Path(web.netns.path());
    host.client().call(&CreateSandbox { container: web.known(), netns }).unwrap();
    network(&["connect", "app", "web"]).success();
    network(&["disconnect", "app", "web"]).success();
    network(&["rm", "app"]).success();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let until = (now + 1).to_string();
    let events = |words: &[&str]| {
        let told = docker(&[&["events", "--since", "0", "--until", &until], words].concat());
        let lines: Vec<_> = told.success().lines().map(str::to_owned).collect();
        lines
    };
    // Before each there is a time.
    let shown = events(&[]).into_iter().map(|line| line.split_once(' ').unwrap().1.to_owned());
    let container = &web.id;
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            format!("network create {id} (name=app, type=bridge)"),
            format!("network connect {id} (container={container}, name=app, type=bridge)"),
            format!("network disconnect {id} (container={container}, name=app, type=bridge)"),
            format!("network destroy {id} (name=app, type=bridge)"),
        ]
    );
    let format = "{{.Type}} {{.Action}} {{.Scope}} {{.Actor.Attributes.name}}";
    let some = ["--filter", "event=destroy", "--filter", "network=app", "--format", format];
    assert_eq!(events(&some), ["network destroy local app"]);
    assert_eq!(events(&["--filter", "type=container"]), [""; 0]);
}

#[test]
fn docker_events_works_unchanged() {
    let world = World::new();
    events_work_unchanged(&world, &host(&world), |words| docker(SOCKET, words));
}

#[test]
fn what_a_network_is_made_with_is_kept_or_refused() {
    let world = World::new();
    let _host = host(&world);
    let network = |words: &[&str]| docker(SOCKET, &[&["network"], words].concat());
    let mtu = "com.docker.network.driver.mtu=1400";
    network(&["create", "--attachable", "--scope", "local", "-o", mtu, "open"]).success();
    network(&["create", "plain"]).success();
    let shown = |name: &str| {
        let format = "{{.Attachable}} {{.ConfigOnly}} {{.Ingress}} {{json .Options}}";
        network(&["inspect", "-f", format, name]).success().to_owned()
    };
    assert_eq!(shown("open"), format!("true false false {{\"{}\"}}\n", mtu.replace('=', "\":\"")));
    assert_eq!(shown("plain"), "false false false {}\n");
    let before = network(&["ls"]).success().to_owned();
    for (words, why) in [
        (&["--config-only"][..], "netd has no networks of configuration alone"),
        (&["--config-from", "plain"], "netd has no networks of configuration alone"),
        (&["--ingress"], "This node is not a swarm manager"),
        (&["--scope", "swarm"], "This node is not a swarm manager"),
        (&["--scope", "global"], "invalid scope \"global\""),
        (&["--scope", "local", "-d", "overlay"], "invalid scope \"local\""),
        (&["--ipam-driver", "other"], "IPAM driver \"other\" is not netd's"),
        (&["--ipam-opt", "a=b"], "IPAM option \"a\" is not known"),
        (&["-o", "colour=red"], "no option \"colour\""),
        (&["-o", "attachable=perhaps"], "it should be true or false"),
    ] {
        let refused = network(&[&["create"], words, &["new"]].concat());
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{words:?}: {refused:?}");
        assert!(refused.stderr.contains(why), "{words:?}: {refused:?}");
    }
    assert_eq!(network(&["ls"]).success(), before, "nothing of it is there");
}

/// What is not about networks is dockerd's, and who asks netd for it is told where.
#[test]
fn what_is_dockerds_alone_is_said_to_be() {
    let world = World::new();
    let _host = host(&world);
    let elsewhere = |what: &str| {
        format!(
            "netd serves networks at this socket, and no {what}: ask dockerd (docker -H \
             unix:///var/run/docker.sock, or without -H)"
        )
    };
    for (words, what) in [
        (&["ps"][..], "containers"),
        (&["images"], "images"),
        (&["volume", "ls"], "volumes"),
        (&["run", "--rm", "box", "true"], "containers"),
        (&["rm", "-f", "web"], "containers"),
        (&["pull", "box"], "images"),
    ] {
        let told = docker(SOCKET, words);
        assert_ne!(told.code, 0, "{words:?}: {told:?}");
        assert!(told.stderr.contains(&elsewhere(what)), "{words:?}: {told:?}");
        assert!(!told.stderr.contains("page not found"), "{words:?}: {told:?}");
        assert!(!told.stderr.contains("Unable to find image"), "{words:?}: {told:?}");
    }
    // What may be a network is looked for among them.
    docker(SOCKET, &["network", "create", "app"]).success();
    let told = docker(SOCKET, &["inspect", "--format", "{{.Name}}", "app"]);
    assert_eq!(told.success(), "app\n");
}

/// A gateway that nobody said is shown, as dockerd does from 29 on; earlier ones leave it out where the
/// subnet was said.
#[test]
fn addresses_of_a_network_are_shown_as_docker_shows_them() {
    let world = World::new();
    let host = host(&world);
    let machine = world.machine("a", &host.netns);
    let dockerd = Dockerd::start(&machine);
    for (words, first) in [
        (&["--subnet", "10.5.0.0/16"][..], &["10.5.0.1"][..]),
        (&["--subnet", "10.5.0.0/16", "--gateway", "10.5.0.9"], &[]),
        (
            &[
                "--subnet",
                "10.5.0.0/16",
                "--ip-range",
                "10.5.1.0/24",
                "--aux-address",
                "a=10.5.0.7",
            ],
            &["10.5.0.1"],
        ),
        (&["--ipv6", "--subnet", "10.5.0.0/16", "--subnet", "fd05::/64"], &["10.5.0.1", "fd05::1"]),
        (&["--subnet", "10.5.0.0/16", "--internal"], &["10.5.0.1"]),
    ] {
        let shown = |docker: &dyn Fn(&[&str]) -> Executed| {
            docker(&[&["network", "create"], words, &["app"]].concat()).success();
            let shown = docker(&["network", "inspect", "-f", "{{json .IPAM}}", "app"]);
            docker(&["network", "rm", "app"]).success();
            serde_json::from_str::<Value>(shown.success()).unwrap()
        };
        let mut theirs = shown(&|words| dockerd.docker(words));
        for (config, gateway) in theirs["Config"].as_array_mut().unwrap().iter_mut().zip(first) {
            config.as_object_mut().unwrap().entry("Gateway").or_insert((*gateway).into());
        }
        assert_eq!(shown(&|words| docker(SOCKET, words)), theirs, "{words:?}");
    }
}
