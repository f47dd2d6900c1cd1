//! One network, every runtime: containers of Docker, Podman and containerd and a bare process reach each
//! other by name, and publish ports of one range.

use std::{collections::BTreeSet, fs, path::Path, process::Stdio};

use cnm::endpoint::{ListEndpoints, UpdateEndpoint};
use netd_tests::{Containerd, Dockerd, Executed, Podman, eventually};
use serde_json::Value;

use crate::site::{Plugins, Site};

const CONFIG: &str = "docker_plugin = \"/run/docker/plugins/netd.sock\"\n\
                      docker_socket = \"/run/a-machine/docker/docker.sock\"\n\
                      docker_config = \"/run/a-machine/docker/daemon.json\"";

/// Serves its name over HTTP.
fn serve(name: &str) -> String {
    format!(
        "mkdir -p /tmp/{name}; echo I am {name} >/tmp/{name}/index.html; exec busybox httpd -f -p 80 -h /tmp/{name}"
    )
}

#[track_caller]
fn refused(executed: &Executed, who: &str) {
    assert_ne!(executed.code, 0, "{executed:?}");
    let said = format!("{}{}", executed.stdout, executed.stderr);
    assert!(said.contains("already") && said.contains(who), "{executed:?}");
}

#[test]
fn every_runtime_is_on_one_network() {
    let site = Site::told(Plugins::Ours, CONFIG);
    let net_d = site.machine.directory().join("net.d").display().to_string();
    site.host.netctl(&["network", "create", "--cni", "--cni-dir", &net_d, "app"]).success();
    let shown = site.host.netctl(&["network", "inspect", "app"]);
    let shown: Value = serde_json::from_str(shown.success()).unwrap();
    let of_app = |key: &str| shown[0]["IPAM"]["Config"][0][key].as_str().unwrap();
    let (subnet, gateway) = (of_app("Subnet"), of_app("Gateway"));
    // `ctr` leaves the resolver to whoever runs it.
    let resolv = format!("{}/etc/resolv.conf", site.machine.root());
    fs::write(resolv, format!("nameserver {gateway}\n")).unwrap();

    let config = Dockerd::config(&site.machine).display().to_string();
    let install = ["docker", "install", "--netd-config", "/run/a/netd.toml", "--spec-dir"];
    let more = ["/run/a-machine/plugins", "--daemon-json", &config, "--dns", gateway];
    let said = site.host.netctl(&[&install[..], &more].concat());
    assert!(said.success().contains(&format!("{config}: dns {gateway}\n")), "{said:?}");
    let dockerd = Dockerd::start(&site.machine);
    let create = ["network", "create", "-d", "netd", "--ipam-driver", "netd", "--subnet", subnet];
    let named = ["--ipam-opt", "network=app", "-o", "network=app", "app"];
    dockerd.docker(&[&create[..], &named].concat()).success();
    let told = site.host.netctl(&["network", "inspect", "app"]);
    assert_eq!(told.stderr, "", "names work both ways");

    // The image's own programs cannot look names up.
    let usr = ["-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro"];
    let options = [&["-p", "8001:80"][..], &usr].concat();
    dockerd.run("whale", "app", &options, &["sh", "-c", &serve("whale")]);
    let podman = Podman::new(&site.machine);
    podman.serve("seal", &["--network", "app", "-p", "8002:80"]);
    let run = ["run", "--network", "app", "--name", "native", "-p", "8003:80", "--", "sh", "-c"];
    let served = serve("native");
    let mut native = site.host.netctl_command(&[&run[..], &[&served]].concat());
    let mut native = native.stdout(Stdio::null()).spawn().unwrap();
    let containerd = Containerd::start(&site.machine);
    let crated = containerd.serve("box");

    // `ctr` publishes nothing, and netd does so for it.
    let mut netd = site.host.client();
    let list = ListEndpoints { network: None, container: Some("default-box".into()) };
    let endpoint = netd.call(&list).unwrap().endpoints.remove(0).id.to_string();
    let ports = Some(vec!["8004:80".parse().unwrap()]);
    netd.call(&UpdateEndpoint { endpoint, container: None, ports }).unwrap();

    let servers =
        [("whale", "whale"), ("seal", "seal"), ("native", "native"), ("default-box", "box")];
    for (name, greeting) in servers {
        let url = format!("http://{name}/");
        let wanted = format!("I am {greeting}\n");
        let curl = ["curl", "-sS", "--max-time", "5", &url];
        let greeted = |executed: Executed| {
            if executed.stdout == wanted { Ok(()) } else { Err((name, executed)) }
        };
        let whale = [&["exec", "whale"][..], &curl].concat();
        eventually("Docker's container reaches it", || greeted(dockerd.docker(&whale)));
        let seal = [&["exec", "seal"][..], &curl].concat();
        eventually("Podman's container reaches it", || greeted(podman.execute(&seal)));
        let exec = ["task", "exec", "--exec-id", "fetch", "box"];
        eventually("containerd's container reaches it", || {
            greeted(containerd.ctr(&[&exec[..], &curl].concat()))
        });
        let own = [&["run", "--network", "app", "--"][..], &curl].concat();
        eventually("netctl's container reaches it", || greeted(site.host.netctl(&own)));
    }
    for (port, server) in [(8001, "whale"), (8002, "seal"), (8003, "native"), (8004, "box")] {
        site.greeted(&site.lan, &format!("192.0.2.1:{port}"), server);
    }
    // A port that one of them has no other one gets, and the next that is free anybody.
    let taken = dockerd.docker(&[
        "run",
        "-d",
        "--name",
        "second",
        "--security-opt",
        "seccomp=unconfined",
        "--ulimit",
        "nofile=1024:1024",
        "--network",
        "app",
        "-p",
        "8002:80",
        "box",
        "sleep",
        "100",
    ]);
    refused(&taken, "seal");
    dockerd.docker(&["rm", "-f", "second"]).success();
    refused(&podman.run(&["--rm", "--network", "app", "-p", "8003:80"], &["true"]), "native");
    let own = ["run", "--network", "app", "-p", "8001:80", "--", "true"];
    refused(&site.host.netctl(&own), "whale");
    site.host.netctl(&["run", "--network", "app", "-p", "8005:80", "--", "true"]).success();

    native.kill().unwrap();
    native.wait().unwrap();
    containerd.end("box", crated);
    podman.execute(&["rm", "--force", "--time", "0", "seal"]).success();
    dockerd.docker(&["rm", "-f", "whale"]).success();
    dockerd.docker(&["network", "rm", "app"]).success();
    site.bare();
    site.host.netctl(&[&["docker", "uninstall"], &install[2..], &more].concat()).success();
    assert!(!Dockerd::config(&site.machine).exists(), "it was not there before");
}

#[test]
fn the_example_shows_it() {
    let site = Site::told(Plugins::Ours, CONFIG);
    // The first that netd chooses after that of `bridge`.
    let gateway = "10.76.1.1";
    let (directory, root) = (site.machine.directory().display().to_string(), site.machine.root());
    fs::write(format!("{root}/etc/resolv.conf"), format!("nameserver {gateway}\n")).unwrap();
    let config = Dockerd::config(&site.machine).display().to_string();
    let install = ["docker", "install", "--netd-config", "/run/a/netd.toml"];
    let more = ["--daemon-json", &config, "--dns", gateway];
    site.host.netctl(&[&install[..], &more].concat()).success();
    let _dockerd = Dockerd::start(&site.machine);
    let _containerd = Containerd::start(&site.machine);
    let _podman = Podman::new(&site.machine);

    let example = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("examples");
    let mut command =
        site.machine.command(["sh", &example.join("every-runtime.sh").display().to_string()]);
    let debian = example.with_file_name("target/debian/usr/bin/docker").display().to_string();
    let socket = Dockerd::socket(&site.machine).display().to_string();
    let usr = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro";
    let limits = "--security-opt seccomp=unconfined --ulimit nofile=1024:1024";
    command
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/bin", site.programs.display()))
        .env("NETD_SOCKET", site.host.socket())
        .env("CONTAINERS_CONF", format!("{directory}/containers.conf"))
        .env("DOCKER", format!("env DOCKER_CONFIG={directory} {debian} -H unix://{socket}"))
        .env("DOCKER_IMAGE", "box")
        .env("DOCKER_OPTIONS", format!("{limits} {usr}"))
        .env("PODMAN", "podman --storage-driver vfs")
        .env("PODMAN_IMAGE", format!("--rootfs {root}"))
        .env("PODMAN_OPTIONS", format!("--cgroups=disabled {limits} --ulimit nproc=1024:1024"))
        .env("CTR", format!("ctr --address {directory}/containerd.sock"))
        .env("CTR_IMAGE", &root)
        .env(
            "CTR_OPTIONS",
            format!("--cgroup= --runc-binary {directory}/crun --env PATH=/usr/bin --rootfs"),
        )
        .env("FETCH", "curl -sS --max-time 5");
    let shown = Executed::from(command.output().unwrap());
    let greetings = shown.success().lines().filter(|line| line.starts_with("I am ")).count();
    assert_eq!(greetings, 16, "{shown:?}");
    site.bare();
    let networks = site.host.netctl(&["network", "ls", "-q"]);
    assert_eq!(networks.success().lines().count(), 3, "{networks:?}");
}

#[test]
fn docker_and_podman_never_give_the_same_address() {
    let site = Site::told(Plugins::Ours, CONFIG);
    let podman = Podman::with_netd(&site.machine, &["--drop-in"]);
    let dockerd = Dockerd::start(&site.machine);
    let made = |name: &str, subnet: &str| {
        // Podman takes no subnet that the host has by then.
        podman.execute(&["network", "create", "--subnet", subnet, name]).success();
        site.host.netctl(&["network", "create", "--subnet", subnet, name]).success();
    };
    let dockers = |name: &str, words: &[&str]| {
        let netds_name = format!("network={name}");
        let create = ["network", "create", "-d", "netd", "-o", &netds_name];
        dockerd.docker(&[&create[..], words, &[name]].concat())
    };

    // Docker first: Podman's containers get netd's.
    made("app", "10.83.1.0/24");
    dockers("app", &["--subnet", "10.83.1.0/24"]).success();
    let mut addresses = BTreeSet::new();
    for n in 0..3 {
        let (seal, whale) = (format!("seal{n}"), format!("whale{n}"));
        podman.serve(&seal, &["--network", "app"]);
        let address = podman.address(&seal, "app").to_string();
        assert!(address.starts_with("10.83.1.1"), "the upper half: {address}");
        dockerd.run(&whale, "app", &[], &["sleep", "1000"]);
        let told = dockerd.inspect(&["inspect", &whale]);
        let own = told["NetworkSettings"]["Networks"]["app"]["IPAddress"].as_str().unwrap();
        addresses.extend([address, own.to_owned()]);
    }
    assert_eq!(addresses.len(), 6, "{addresses:?}");

    // Podman first: Docker hears it once, and how it can be.
    made("back", "10.83.2.0/24");
    podman.serve("seal", &["--network", "back"]);
    let refused = dockers("back", &["--subnet", "10.83.2.0/24"]);
    let sentence = "Podman gives addresses of 10.83.2.0/25 of network back of netd out itself";
    assert!(refused.code != 0 && refused.stderr.contains(sentence), "{refused:?}");
    let words = ["--ipam-driver", "netd", "--ipam-opt", "network=back"];
    assert!(refused.stderr.contains(&words.join(" ")), "{refused:?}");
    dockers("back", &[&words[..], &["--subnet", "10.83.2.0/24"]].concat()).success();
    dockerd.run("whale", "back", &[], &["sleep", "1000"]);
    let told = dockerd.inspect(&["inspect", "whale"]);
    assert_eq!(told["NetworkSettings"]["Networks"]["back"]["IPAddress"], "10.83.2.128");

    let whales = ["rm", "-f", "whale", "whale0", "whale1", "whale2"];
    dockerd.docker(&whales).success();
    podman.execute(&["rm", "--all", "--force", "--time", "0"]).success();
    for name in ["app", "back"] {
        dockerd.docker(&["network", "rm", name]).success();
    }
    site.bare();
}
