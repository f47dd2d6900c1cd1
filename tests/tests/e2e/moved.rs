//! Names for a container that is put on another network while it runs, and taken off the one on which
//! it began: it goes on asking whom it was told to.

use std::net::IpAddr;

use cnm::{
    endpoint::{Attach, Detach, Endpoint},
    network::{CreateNetwork, Subnet},
};
use netd_tests::{Asking as _, Container, Host, HostOptions, Namespace, World, eventually};

const INSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 11));

/// A host that asks the neighbour for names of others.
fn host(world: &World) -> Host {
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    world.host_with("a", HostOptions { config, ..HostOptions::default() })
}

fn off(container: &Container, network: &str) -> Detach {
    let container = container.name.clone();
    Detach { network: Some(network.to_owned()), container, ifname: None }
}

fn ip(endpoint: &Endpoint) -> String {
    endpoint.addresses[0].ip().to_string()
}

fn status(netns: &Namespace, server: IpAddr, words: &str) -> String {
    let said = netns.run(&format!("dig +tries=1 +time=5 @{server} {words}"));
    let line = said.lines().find_map(|line| line.split("status: ").nth(1));
    line.unwrap_or_default().split(',').next().unwrap_or_default().to_owned()
}

#[test]
fn who_is_moved_asks_where_it_asked_and_is_answered_from_where_it_is() {
    let world = World::new();
    let host = host(&world);
    let lan = host.lan();
    lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    // With the resolver at port 53 of the first network's gateway, and at another.
    for (at, options) in [(1, vec![]), (2, vec![("dns-port".to_owned(), "5353".to_owned())])] {
        let (first, second) = (format!("first{at}"), format!("second{at}"));
        let subnets = |of: &str| {
            let two = [format!("10.{at}{of}.0.0/24"), format!("fd00:{at}{of}::/64")];
            two.map(|text| Subnet::new(text.parse().unwrap())).into()
        };
        let options = options.into_iter().collect();
        let create =
            CreateNetwork { subnets: subnets("1"), options, ..CreateNetwork::named(&first) };
        netd.call(&create).unwrap();
        let create = CreateNetwork { subnets: subnets("2"), ..CreateNetwork::named(&second) };
        netd.call(&create).unwrap();
        let [web, db, client] =
            ["web", "db", "client"].map(|name| world.container(&format!("{name}{at}")));
        let web_at = ip(&netd.attach(&web.to(&first)));
        let db_at = ip(&netd.attach(&db.to(&second)));
        let servers = netd.attach(&client.to(&first)).dns;
        assert_eq!(servers.len(), 2, "one of each family");
        netd.attach(&client.to(&second));
        for server in &servers {
            let ask = |words: &str| Host::ask_name(&client.netns, *server, words);
            assert_eq!(ask(&format!("web{at} A")), [&*web_at]);
            assert_eq!(ask(&format!("db{at} A")), [&*db_at]);
        }
        netd.call(&off(&client, &first)).unwrap();
        for server in servers {
            let ask = |words: &str| Host::ask_name(&client.netns, server, words);
            for words in ["", "+tcp "] {
                assert_eq!(ask(&format!("{words}db{at} A")), [&*db_at], "{server}");
                assert_eq!(ask(&format!("{words}db{at}.{second}.netd A")), [&*db_at]);
            }
            assert_eq!(ask(&format!("-x {db_at}")), [format!("db{at}.{second}.")]);
            assert_eq!(ask("example.org A"), ["203.0.113.7"]);
            assert_eq!(status(&client.netns, server, &format!("web{at} A")), "NXDOMAIN");
        }
    }
}

#[test]
fn no_route_is_left_over_what_a_container_was_taken_off_when_that_is_answered() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let client = world.container("client");
    for name in ["first", "second"] {
        let create = CreateNetwork { ipv6: Some(true), ..CreateNetwork::named(name) };
        netd.call(&create).unwrap();
    }
    netd.attach(&client.to("first"));
    let leads_there = |ifname: &str| {
        let routes =
            ["-4", "-6"].map(|of| client.netns.run(&format!("ip {of} route show table all")));
        routes
            .iter()
            .flat_map(|all| all.lines())
            .any(|line| line.contains(&format!("dev {ifname} ")))
    };
    for _ in 0..10 {
        let endpoint = netd.attach(&client.to("second"));
        assert!(leads_there(endpoint.ifname.as_str()));
        netd.call(&off(&client, "second")).unwrap();
        assert!(!leads_there(endpoint.ifname.as_str()));
        assert!(leads_there("eth0"));
    }
}

#[test]
fn who_asks_inside_goes_on_doing_so_whichever_network_it_is_taken_off() {
    let world = World::new();
    let mut host = host(&world);
    let _lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    netd.create("back");
    let mut subnet = Subnet::new("192.0.2.0/24".parse().unwrap());
    subnet.range = Some("192.0.2.128/25".parse().unwrap());
    let lan = CreateNetwork {
        driver: Some("macvlan".into()),
        subnets: vec![subnet],
        options: [("parent".to_owned(), "lan0".to_owned())].into(),
        ..CreateNetwork::named("lan")
    };
    netd.call(&lan).unwrap();
    let [web, client] = ["web", "client"].map(|name| world.container(name));
    let web_at = ip(&netd.attach(&web.to("app")));
    assert_eq!(netd.attach(&client.to("lan")).dns, [INSIDE]);
    // The answer of the attach says where it is asked from now on as well.
    assert_eq!(netd.attach(&client.to("app")).dns, [INSIDE]);
    netd.call(&off(&client, "lan")).unwrap();
    let ask = || Host::ask_name(&client.netns, INSIDE, "web A");
    assert_eq!(ask(), [&*web_at]);
    host.kill();
    host.start();
    let mut netd = host.client();
    eventually("it answers again", || (ask() == [&*web_at]).then_some(()).ok_or_else(ask));
    netd.attach(&client.to("back"));
    netd.call(&off(&client, "app")).unwrap();
    assert_eq!(Host::ask_name(&client.netns, INSIDE, "client A").len(), 1);
    // Back and forth, and it is gone with the last.
    netd.attach(&client.to("lan"));
    netd.call(&off(&client, "back")).unwrap();
    assert_eq!(Host::ask_name(&client.netns, INSIDE, "client A").len(), 1);
    netd.detach("client");
    let left = client.netns.run("ss -Hlnut");
    assert!(left.trim().is_empty(), "{left}");
    // Who never asked inside does not because of another, and where it is said not to it does not.
    assert_ne!(netd.attach(&web.to("back")).dns, [INSIDE]);
    netd.attach(&client.to("lan"));
    let options = [("resolver".to_owned(), "gateway".to_owned())].into();
    assert_ne!(netd.attach(&Attach { options, ..client.to("app") }).dns, [INSIDE]);
}

#[test]
fn what_a_command_reads_follows_its_networks() {
    let world = World::new();
    let mut host = host(&world);
    let mut netd = host.client();
    let first = netd.create("first").subnets[0].gateway.unwrap();
    let second = netd.create("second").subnets[0].gateway.unwrap();
    let vault = CreateNetwork { internal: true, ..CreateNetwork::named("vault") };
    let vault = netd.call(&vault).unwrap().subnets[0].gateway.unwrap();
    let [own, other] = ["first", "none"].map(|network| {
        let name = format!("on-{network}");
        let words = ["run", "--network", network, "--name", &name, "--", "sleep", "infinity"];
        (name.clone(), host.netctl_command(&words).spawn().unwrap())
    });
    let pid = |host: &Host, name: &str| {
        eventually("it runs", || {
            let endpoints = host.client().endpoints();
            let own = endpoints.iter().find(|one| one.container.label() == name);
            let pid = own.and_then(|own| own.container.pid).ok_or("not attached")?;
            // Its files are there before it becomes the command.
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if words.starts_with("sleep") { Ok(pid) } else { Err("not yet") }
        })
    };
    let read = |pid: u32, path: &str| {
        let line = format!("nsenter --mount --target {pid} cat {path}");
        netd_tests::run(&line)
    };
    let follows = |pid: u32, gateways: &[IpAddr], addresses: &[String]| {
        eventually("its files follow", || {
            let (resolv, hosts) = (read(pid, "/etc/resolv.conf"), read(pid, "/etc/hosts"));
            let told = resolv.lines().filter_map(|line| line.strip_prefix("nameserver "));
            let told: Vec<IpAddr> = told.map(|server| server.parse().unwrap()).collect();
            let own = hosts.lines().filter(|line| line.ends_with("\ton-first"));
            let own: Vec<_> = own.filter_map(|line| line.split('\t').next()).collect();
            let is = told == gateways && own == addresses;
            if is { Ok(()) } else { Err(format!("{resolv}{hosts}")) }
        });
    };
    let hosts_before = std::fs::read_to_string("/etc/hosts").unwrap();
    let on = |host: &Host| -> Vec<String> {
        let endpoints = host.client().endpoints();
        let own = endpoints.iter().filter(|one| one.container.label() == "on-first");
        own.map(ip).collect()
    };
    let first_pid = pid(&host, "on-first");
    host.netctl(&["network", "connect", "second", "on-first"]).success();
    follows(first_pid, &[first, second], &on(&host));
    host.netctl(&["network", "disconnect", "first", "on-first"]).success();
    follows(first_pid, &[second], &on(&host));
    host.kill();
    host.start();
    // It hears of a netd that was started again, and of what changed meanwhile.
    host.netctl(&["network", "connect", "vault", "on-first"]).success();
    host.netctl(&["network", "disconnect", "second", "on-first"]).success();
    follows(first_pid, &[vault], &on(&host));

    let other_pid = pid(&host, "on-none");
    host.netctl(&["network", "connect", "first", "on-none"]).success();
    eventually("its files follow", || {
        let text = read(other_pid, "/etc/resolv.conf");
        if text.starts_with(&format!("nameserver {first}\n")) { Ok(()) } else { Err(text) }
    });
    // What the command wrote there itself stays.
    let line = format!("nsenter --mount --target {first_pid} cp /etc/hostname /etc/resolv.conf");
    netd_tests::run(&line);
    let written = read(first_pid, "/etc/resolv.conf");
    host.netctl(&["network", "connect", "second", "on-first"]).success();
    eventually("its hosts follow", || {
        let hosts = read(first_pid, "/etc/hosts");
        let all = on(&host).iter().all(|address| hosts.contains(&format!("{address}\t")));
        if all { Ok(()) } else { Err(hosts) }
    });
    assert_eq!(read(first_pid, "/etc/resolv.conf"), written);
    assert_eq!(
        std::fs::read_to_string("/etc/hosts").unwrap(),
        hosts_before,
        "the host's is its own"
    );
    for (_, mut running) in [own, other] {
        running.kill().unwrap();
        running.wait().unwrap();
    }
}
