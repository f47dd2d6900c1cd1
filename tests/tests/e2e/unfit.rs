//! What cannot be put right: it is said as long as it is so, and is written down once.

use std::{io::Write as _, net::IpAddr, process::Stdio};

use cnm::{
    network::{CreateNetwork, Subnet},
    system::Reconcile,
};
use netd_tests::{Asking as _, Container, Host, World, eventually};

/// A network of both families with a container on it; gives the bridge and the container's addresses.
fn dual(host: &Host, web: &Container) -> (String, Vec<IpAddr>) {
    let mut create = CreateNetwork::named("dual");
    create.subnets =
        ["10.21.0.0/24", "fd00:21::/64"].map(|s| Subnet::new(s.parse().unwrap())).to_vec();
    let network = host.client().call(&create).unwrap();
    let endpoint = host.client().attach(&web.to("dual"));
    let addresses = endpoint.addresses.iter().map(|address| address.ip()).collect();
    (network.link.unwrap().to_string(), addresses)
}

#[test]
fn a_driver_that_came_up_after_all_is_no_problem_any_more() {
    let world = World::new();
    let mut host = world.host("a");
    for name in ["app", "shop"] {
        host.client().create(name);
    }
    host.kill();
    eventually("the table is no driver's any more", || {
        let deleted = host.netns.output("nft delete table inet netd");
        if deleted.status.success() { Ok(()) } else { Err(deleted) }
    });
    let mut nft = host.netns.command(["nft", "-i"]);
    let mut holder = nft.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = holder.stdin.take().unwrap();
    writeln!(input, "add table inet netd {{ flags owner; }}").unwrap();
    eventually("another process has the table", || {
        let tables = host.netns.run("nft list tables");
        if tables.contains("inet netd") { Ok(()) } else { Err(tables) }
    });
    host.start();
    let held = |problem: &&String| problem.contains("belongs to another process");
    eventually("netd says so once", || {
        let problems = host.client().status().problems;
        let count = problems.iter().filter(held).count();
        if count == 1 { Ok(()) } else { Err(problems) }
    });
    drop(input);
    holder.wait().unwrap();
    let container = world.container("c");
    eventually("it works", || host.client().call(&container.to("app")));
    assert_eq!(host.client().status().problems, [""; 0]);
}

#[test]
fn a_link_that_is_lost_is_written_down_once() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    dual(&host, &web);
    let port = host.client().endpoints()[0].id.link_name().to_string();
    host.netns.run(&format!("ip link delete {port}"));
    for _ in 0..5 {
        let lost = host.client().call(&Reconcile {}).unwrap().lost;
        assert!(lost.len() == 1 && lost[0].contains("has lost its link"), "{lost:?}");
    }
    assert_eq!(host.log().matches("has lost its link").count(), 1, "{}", host.log());
}
