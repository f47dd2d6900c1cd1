//! netd and its drivers end, one way or another, while containers work.

use std::path::Path;

use cnm::{Kind, endpoint::CheckEndpoint, system::Reconcile};
use netd_tests::{Asking as _, Host, HostOptions, Namespace, Ping, World, eventually, kill};

/// Kills a host's driver, and gives how often it had been started again before.
fn kill_driver(host: &Host, name: &str) -> u64 {
    let status = host.client().status();
    let driver = status.drivers.iter().find(|driver| driver.name == name).unwrap();
    kill(driver.pid.expect("it runs"));
    driver.restarts
}

fn wait_for_driver(host: &Host, name: &str, restarts: u64) {
    eventually("the driver is started again", || {
        let status = host.client().status();
        let driver = status.drivers.iter().find(|driver| driver.name == name).unwrap();
        if driver.restarts > restarts && driver.pid.is_some() {
            Ok(())
        } else {
            Err(status.drivers)
        }
    });
}

#[test]
fn a_restart_with_100_endpoints_loses_no_packet_and_repairs_nothing() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let containers: Vec<_> = (0..100).map(|n| world.container(&format!("c{n}"))).collect();
    let mut endpoints = Vec::new();
    for (n, container) in containers.iter().enumerate() {
        let mut attach = container.to("app");
        attach.ports = vec![format!("{}:80", 9000 + n).parse().unwrap()];
        endpoints.push(netd.attach(&attach));
    }
    endpoints.sort_by(|a, b| a.container.label().cmp(b.container.label()));
    let before = host.snapshot();
    let ping = Ping::start(&containers[0].netns, endpoints[99].addresses[0].ip());
    let through = Ping::start(&containers[1].netns, endpoints[0].gateways[0]);

    host.kill();
    ping.goes_on();
    host.start();
    ping.goes_on();
    let mut netd = host.client();
    assert_eq!(netd.endpoints(), endpoints);
    host.snapshot().same_as(&before).unwrap();
    let repaired: Vec<_> =
        host.log().lines().filter(|l| l.contains("put right")).map(str::to_owned).collect();
    assert!(repaired.is_empty(), "{repaired:?}");
    assert_eq!(netd.call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());

    let restarts = kill_driver(&host, "bridge");
    wait_for_driver(&host, "bridge", restarts);
    ping.goes_on();
    assert_eq!(netd.call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());
    host.snapshot().same_as(&before).unwrap();

    host.stop();
    host.start();
    ping.goes_on();
    host.snapshot().same_as(&before).unwrap();
    ping.lost_none();
    through.lost_none();
    let mut netd = host.client();
    for endpoint in &endpoints {
        let checked = netd.call(&CheckEndpoint::new(endpoint.id.to_string())).unwrap();
        assert_eq!(checked.differences, Vec::<String>::new());
    }
    assert_eq!(netd.status().problems, Vec::<String>::new());
}

#[test]
fn the_driver_is_started_again_and_attaches_go_on() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let first = world.container("first");
    netd.attach(&first.to("app"));
    for n in 0..3 {
        kill_driver(&host, "bridge");
        let next = world.container(&format!("next{n}"));
        let ip = eventually("it is attached", || match netd.call(&next.to("app")) {
            Ok(endpoint) => Ok(endpoint.addresses[0].ip()),
            // The driver died with the call in its hands.
            Err(error) if error.kind == Kind::Unavailable => Err(error),
            Err(error) => panic!("{error}"),
        });
        assert!(first.netns.pings(ip));
    }
}

#[test]
fn what_others_took_away_is_put_back() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let (web, db) = (world.container("web"), world.container("db"));
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    let db_ip = netd.attach(&db.to("app")).addresses[0].ip();
    web.netns.serve_tcp(80);
    let server = "192.0.2.1:8080".parse().unwrap();
    let before = host.snapshot();
    let bridge = bridge_of(&host, &endpoint);
    let vandalise = |host: &Host| {
        host.netns.run("nft flush ruleset");
        let link = endpoint.id.link_name();
        host.netns.run(&format!("ip link set {link} nomaster"));
        host.netns.run(&format!("ip address flush dev {bridge}"));
    };
    vandalise(&host);
    // Unless somebody has noticed already.
    netd.call(&Reconcile {}).unwrap();
    host.snapshot().same_as(&before).unwrap();
    lan.ask_tcp(server).unwrap();
    assert!(web.netns.pings(db_ip));

    host.kill();
    vandalise(&host);
    host.start();
    host.snapshot().same_as(&before).unwrap();
    lan.ask_tcp(server).unwrap();
    assert!(web.netns.pings(db_ip));
}

fn bridge_of(host: &Host, endpoint: &cnm::endpoint::Endpoint) -> String {
    let networks = host.client().call(&cnm::network::ListNetworks::default()).unwrap().networks;
    let network = networks.into_iter().find(|n| n.id == endpoint.network).unwrap();
    network.link.unwrap().to_string()
}

#[test]
fn a_detach_while_netd_is_down_is_done_at_its_start() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let before = host.snapshot();
    let web = world.container("web");
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    netd.attach(&attach);
    host.kill();
    let request =
        r#"{"jsonrpc":"2.0","id":1,"method":"endpoint.detach","params":{"container":"web"}}"#;
    let executed = host.plugin("bridge", &format!("{request}\n"));
    executed.success();
    assert_eq!(executed.replies()[0]["result"]["endpoints"], serde_json::json!([]));
    host.start();
    assert!(host.client().endpoints().is_empty());
    eventually("the host is as before", || host.snapshot().same_as(&before));
    let spool: Vec<_> = std::fs::read_dir(host.run_dir().join("spool")).unwrap().collect();
    assert!(spool.is_empty(), "{spool:?}");
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

#[test]
fn an_attach_while_netd_is_down_says_so() {
    let world = World::new();
    let mut host = world.host("a");
    host.kill();
    let web = world.container("web");
    let attach = web.to("bridge");
    let request = cnm::Request::new(1, &attach).to_line();
    let executed = host.plugin("bridge", &request);
    assert_eq!(executed.code, i32::from(Kind::Unavailable.exit_code()), "{executed:?}");
    assert_eq!(executed.replies()[0]["error"]["data"]["kind"], "unavailable");
    let executed = host.netctl(&["network", "ls"]);
    assert_eq!(executed.code, i32::from(Kind::Unavailable.exit_code()));
    assert!(executed.stderr.contains("cannot reach netd"), "{executed:?}");
}

#[test]
fn a_foreign_store_is_refused_by_name_and_not_emptied() {
    let world = World::new();
    let mut host = world.host("a");
    host.client().create("app");
    host.stop();
    let files: Vec<_> = std::fs::read_dir(host.state_dir())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::write(&files[0], "something else").unwrap();
    host.start_unready();
    host.wait_for_death();
    let log = host.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains(files[0].to_str().unwrap()), "{last}");
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), "something else");
}

#[test]
fn a_reboot_keeps_networks_and_forgets_endpoints() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    let app = netd.create("app");
    let before = host.snapshot();
    let mut web = world.container("web");
    let mut attach = web.to("app");
    attach.sticky = true;
    attach.ports = vec!["8080:80".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    // What a reboot takes: the processes, the kernel's state and what is on a tmpfs.
    host.kill();
    web.netns.kill();
    for link in before.lines("link ").filter_map(|line| line.split(' ').nth(1)) {
        if link != "lo" {
            host.netns.run(&format!("ip link delete {link}"));
        }
    }
    host.netns.run("nft flush ruleset");
    std::fs::remove_dir_all(host.run_dir()).unwrap();
    host.start();
    let mut netd = host.client();
    assert!(netd.endpoints().is_empty());
    eventually("networks are there again", || host.snapshot().same_as(&before));
    let networks = netd.call(&cnm::network::ListNetworks::default()).unwrap().networks;
    assert!(networks.contains(&app), "{networks:?}");
    let web = world.container("web");
    let mut attach = web.to("app");
    attach.sticky = true;
    attach.ports = vec!["8080:80".parse().unwrap()];
    let again = netd.attach(&attach);
    assert_eq!(again.addresses, endpoint.addresses, "it is known by its name");
    assert!(web.netns.pings(again.gateways[0]));
}

/// Ends netd and waits until its drivers have ended, too.
fn end(host: &mut Host) {
    let pids: Vec<_> = host.client().status().drivers.iter().filter_map(|d| d.pid).collect();
    host.stop();
    eventually("its drivers have ended", || {
        let left: Vec<_> =
            pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Starts netd in another network namespace, where it does not go on for those of the former: that one, and
/// its last words.
fn refused_elsewhere(world: &World, host: &mut Host) -> (Namespace, String) {
    let home = std::mem::replace(&mut host.netns, world.namespace());
    host.start_unready();
    host.wait_for_death();
    let last = host.log().lines().last().unwrap().to_owned();
    assert!(last.contains("netd ran in the network namespace net:["), "{last}");
    (home, last)
}

#[test]
fn in_another_namespace_than_its_containers_it_does_not_start() {
    let world = World::new();
    let mut host = world.host("a");
    host.client().create("app");
    let (web, db) = (world.container("web"), world.container("db"));
    host.client().attach(&web.to("app"));
    let ip = host.client().attach(&db.to("app")).addresses[0].ip();
    end(&mut host);
    let (home, last) = refused_elsewhere(&world, &mut host);
    assert!(last.contains("container web") || last.contains("container db"), "{last}");
    assert!(last.contains(&host.run_dir().join("boot.journal").display().to_string()), "{last}");
    // Nothing of it is lost for that, and where there is nobody it may go where it is told.
    host.netns = home;
    host.start();
    assert_eq!(host.client().endpoints().len(), 2);
    assert!(web.netns.pings(ip));
    host.client().detach("web");
    host.client().detach("db");
    end(&mut host);
    let home = std::mem::replace(&mut host.netns, world.namespace());
    host.start();
    assert!(home.output("ip link show lo").status.success(), "it is there still");
}

#[test]
fn among_many_namespaces_it_knows_those_of_its_containers() {
    let world = World::new();
    let mut host = world.host("a");
    host.client().create("app");
    // The kernel gives out the lowest id that is free, and lists no more than 134 of them.
    let ids = "seq 300 | sed 's/.*/netns add m&\\nnetns set m& auto/' | ip -batch -";
    let made = host.netns.command(["sh", "-c", ids]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let (web, mut db) = (world.container("web"), world.container("db"));
    let endpoint = host.client().attach(&web.to("app"));
    assert!(endpoint.netns.unwrap().nsid.unwrap() >= 300, "{endpoint:?}");
    host.client().attach(&db.to("app"));
    end(&mut host);
    let (home, _) = refused_elsewhere(&world, &mut host);
    // One that went meanwhile is gone, and one that goes is noticed.
    host.netns = home;
    db.netns.kill();
    host.start();
    eventually("it is known which is left", || {
        let left = host.client().endpoints();
        if left == std::slice::from_ref(&endpoint) { Ok(()) } else { Err(left) }
    });
    assert!(web.netns.pings(endpoint.gateways[0]));
    drop(web);
    eventually("nobody is left", || {
        let left = host.client().endpoints();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn in_place_of_a_namespace_that_is_gone_another_serves() {
    let world = World::new();
    let mut host = world.host("a");
    host.client().create("app");
    let web = world.container("web");
    host.client().attach(&web.to("app"));
    end(&mut host);
    drop(std::mem::replace(&mut host.netns, world.namespace()));
    eventually("the kernel has taken its links, and their other ends, away", || {
        let links = web.netns.json("ip -j link").as_array().map_or(0, Vec::len);
        if links == 1 { Ok(()) } else { Err(links) }
    });
    host.start();
    assert_eq!(host.client().endpoints(), []);
    let gateway = host.client().attach(&web.to("app")).gateways[0];
    assert!(web.netns.pings(gateway));
}

#[test]
fn after_a_reboot_no_namespace_is_that_of_before() {
    let world = World::new();
    let boot = format!("/run/boot-{}", world.namespace().pid());
    std::fs::write(&boot, "one\n").unwrap();
    let mount = format!("mount --bind {boot} /proc/sys/kernel/random/boot_id && exec \"$@\"");
    let under = ["sh", "-c", &mount, "sh"].map(str::to_owned).to_vec();
    let mut host = world.host_with("a", HostOptions { under, ..HostOptions::default() });
    host.client().create("app");
    let web = world.container("web");
    host.client().attach(&web.to("app"));
    end(&mut host);
    let home = std::mem::replace(&mut host.netns, world.namespace());
    host.start_unready();
    host.wait_for_death();
    std::fs::write(&boot, "another\n").unwrap();
    host.start();
    assert_eq!(host.client().endpoints(), []);
    assert!(home.output("ip link show lo").status.success(), "it is there still");
}
