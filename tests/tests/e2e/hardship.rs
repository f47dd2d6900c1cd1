//! What a new user broke once: each test is named after what it looked like.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use cnm::{
    Kind,
    client::With,
    endpoint::{Attach, Detach, Netns},
    network::{CreateNetwork, InspectNetwork, ListNetworks, RemoveNetwork},
};
use netd_tests::{Asking as _, HostOptions, Namespace, World, eventually, kind_of};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};

#[test]
fn a_fifo_as_a_namespace_holds_nobody_up() {
    let world = World::new();
    let host = world.host("a");
    let fifo = host.run_dir().join("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let path = fifo.display().to_string();
    let container = cnm::endpoint::Container::new("p".parse().unwrap());
    let attach = Attach::new("bridge", container, Some(Netns::Path(path.clone())));
    let (kind, error) = kind_of(host.client().call(&attach));
    assert_eq!(kind, Kind::Invalid, "{error}");
    let shown = host.netctl(&["attach", "--netns", &path, "--name", "p", "bridge"]);
    assert_eq!(shown.code, 2, "{shown:?}");
    assert!(host.client().status().problems.is_empty());
}

#[test]
fn a_network_of_a_small_mtu_takes_endpoints() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let mut create = CreateNetwork::named("small");
    create.options.insert("mtu".into(), "576".into());
    netd.call(&create).unwrap();
    let (web, db) = (world.container("web"), world.container("db"));
    netd.attach(&web.to("small"));
    let endpoint = netd.attach(&db.to("small"));
    assert_eq!(endpoint.mtu, Some(576));
    assert!(web.netns.pings(endpoint.addresses[0].ip()));
    create = CreateNetwork { name: "six".into(), ipv6: Some(true), ..create };
    let (kind, error) = kind_of(netd.call(&create));
    assert_eq!(kind, Kind::Invalid);
    assert!(error.message.contains("1280"), "{error}");
}

#[test]
fn an_internal_network_publishes_no_ports() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.call(&CreateNetwork { internal: true, ..CreateNetwork::named("inner") }).unwrap();
    let web = world.container("web");
    let mut attach = web.to("inner");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let (kind, error) = kind_of(netd.call(&attach));
    assert_eq!(kind, Kind::Invalid);
    assert!(error.message.contains("internal"), "{error}");
    netd.attach(&web.to("inner"));
}

#[test]
fn the_resolver_tells_a_stranger_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    netd.create("other");
    let (web, probe) = (world.container("web"), world.container("probe"));
    let endpoint = netd.attach(&web.to("app"));
    netd.attach(&probe.to("other"));
    let gateway = endpoint.gateways[0];
    let lan = host.lan();
    lan.run("ip route add 10.0.0.0/8 via 192.0.2.1");
    let ask = |asker: &Namespace, name: &str| {
        asker.run(&format!("dig +tries=1 +time=3 @{gateway} {name}"))
    };
    for name in ["web", "web.app.netd", "example.org"] {
        let answer = ask(&lan, name);
        assert!(answer.contains("status: REFUSED"), "{name}: {answer}");
    }
    // Who is on another network of this host is answered as there.
    for name in ["web", "web.app", "web.app.netd"] {
        let answer = ask(&probe.netns, name);
        assert!(answer.contains("status: NXDOMAIN"), "{name}: {answer}");
    }
    let own = netd_tests::Host::ask_name(&web.netns, gateway, "web");
    assert_eq!(own, [endpoint.addresses[0].ip().to_string()]);
}

#[test]
fn a_driver_that_hangs_is_ended_and_its_work_done_by_the_next() {
    let world = World::new();
    let options = HostOptions { config: "driver_deadline = 1\n".into(), ..HostOptions::default() };
    let host = world.host_with("a", options);
    let mut netd = host.client();
    netd.create("app");
    let (web, db) = (world.container("web"), world.container("db"));
    netd.attach(&web.to("app"));
    let endpoint = netd.attach(&db.to("app"));
    let ip = endpoint.addresses[0].ip();
    assert!(web.netns.pings(ip));
    let driver = netd.status().drivers.into_iter().find(|driver| driver.name == "bridge").unwrap();
    let pid = i32::try_from(driver.pid.unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let detach = Detach { network: None, container: "db".into(), ifname: None };
    assert_eq!(netd.call(&detach).unwrap().endpoints, [endpoint.id]);
    assert!(web.netns.pings_in_vain(ip), "detached means that no packet goes there any more");
    let status = netd.status();
    let driver = status.drivers.iter().find(|driver| driver.name == "bridge").unwrap();
    assert!(driver.restarts >= 1, "{status:?}");
    netd.attach(&db.to("app"));
}

#[test]
fn a_network_whose_deadline_passes_is_unmade() {
    let world = World::new();
    // The driver takes its time: it is asked through one that stops before the second call.
    let slow = world.namespace();
    let directory = format!("/run/slow-{}", slow.pid());
    fs::create_dir_all(&directory).unwrap();
    let real = world.programs().join("netd-bridge");
    let script = format!(
        "#!/bin/sh\nwhile read -r line; do case \"$line\" in *network_up*late*) \
         while [ ! -e {directory}/go ]; do read -r _ <{directory}/wait; done;; esac; \
         printf '%s\\n' \"$line\"; done | exec {}\n",
        real.display()
    );
    mkfifo(format!("{directory}/wait").as_str(), Mode::S_IRWXU).unwrap();
    let path = format!("{directory}/netd-bridge");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let options =
        HostOptions { plugin_dirs: vec![directory.clone().into()], ..HostOptions::default() };
    let host = world.host_with("a", options);
    let mut netd = host.client();
    let before = host.snapshot();
    let with = With { deadline: Some(Duration::from_millis(100)), ..With::default() };
    let (kind, error) = kind_of(netd.call_with(&CreateNetwork::named("late"), with));
    assert_eq!(kind, Kind::Unavailable, "{error}");
    fs::write(format!("{directory}/go"), "").unwrap();
    fs::write(format!("{directory}/wait"), "\n").unwrap();
    eventually("the network is unmade", || {
        match netd.call(&InspectNetwork { network: "late".into() }) {
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            found => Err(format!("{found:?}")),
        }
    });
    eventually("nothing of it is left", || host.snapshot().same_as(&before));
}

#[test]
fn a_lost_store_of_networks_stops_the_start_and_no_container() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let (web, db) = (world.container("web"), world.container("db"));
    netd.attach(&web.to("app"));
    let ip = netd.attach(&db.to("app")).addresses[0].ip();
    host.kill();
    let store = host.state_dir().join("netd.redb");
    let aside = host.state_dir().join("aside");
    fs::rename(&store, &aside).unwrap();
    host.start_unready();
    host.wait_for_death();
    assert!(host.log().contains("network app is missing"), "{}", host.log());
    assert!(web.netns.pings(ip));
    fs::rename(&aside, &store).unwrap();
    host.start();
    assert_eq!(host.client().endpoints().len(), 2);
    assert!(web.netns.pings(ip));
}

#[test]
fn a_store_that_was_full_works_again_when_there_is_room() {
    let world = World::new();
    let mut host = world.host("a");
    host.kill();
    // A disk of its own, which is easily filled.
    let state = host.state_dir();
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    netd_tests::run(&format!("mount -t tmpfs -o size=8m tmpfs {}", state.display()));
    host.start();
    let mut netd = host.client();
    netd.create("before");
    let fill = state.join("fill");
    let filled = fs::write(&fill, vec![0; 16 << 20]);
    assert!(filled.is_err(), "the disk is full");
    let failed = (0..200).find_map(|n| netd.call(&CreateNetwork::named(&format!("n{n}"))).err());
    let error = failed.expect("a full disk is told");
    assert!(error.message.contains("netd.redb"), "{error}");
    // What cannot be removed stays, whole.
    let remove = RemoveNetwork { network: "before".to_owned() };
    netd.call(&remove).expect_err("it takes room to remove");
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("before"));
    assert!(web.netns.pings(endpoint.gateways[0]));
    netd.detach("web");
    let before = netd.call(&ListNetworks::default()).unwrap().networks.len();
    fs::remove_file(&fill).unwrap();
    netd.create("after");
    assert_eq!(netd.call(&ListNetworks::default()).unwrap().networks.len(), before + 1);
    host.kill();
    host.start();
    assert_eq!(host.client().call(&ListNetworks::default()).unwrap().networks.len(), before + 1);
}
