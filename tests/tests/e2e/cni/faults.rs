//! Deaths in the middle, and what is found afterwards.

use std::{cell::Cell, io::Write as _, net::UdpSocket};

use netd_tests::{Asking as _, World, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::runtime::{Attachment, config, host_local};

/// The points at which an ADD can be killed.
const ADDING: [&str; 8] = [
    "front.attach.before-call",
    "netd.attach.before-intent",
    "netd.attach.after-intent",
    "bridge.attach.before-veth",
    "bridge.attach.after-veth",
    "bridge.attach.after-config",
    "bridge.attach.after-elements",
    "front.attach.before-answer",
];

#[test]
fn an_add_that_is_killed_is_deleted_and_done_again() {
    let world = World::new();
    let mut host = world.host("a");
    let web = world.container("web");
    let config = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let warm = Attachment::new(&host, world.programs(), &web);
    warm.run("ADD", &config);
    warm.run("DEL", &config);
    for point in ADDING {
        let died = host.arm(point);
        let attachment = Attachment::new(&host, world.programs(), &web);
        attachment.execute("ADD", "netd-bridge", &config);
        eventually("it was come to", || died().then_some(()).ok_or(point));
        if point.starts_with("netd.") {
            host.wait_for_death();
            host.start();
        }
        let attachment = Attachment::new(&host, world.programs(), &web);
        attachment.run("DEL", &config);
        assert!(host.client().endpoints().is_empty(), "{point}");
        let result = eventually("it is done again", || {
            let executed = attachment.execute("ADD", "netd-bridge", &config);
            serde_json::from_str::<Value>(&executed.stdout)
                .ok()
                .filter(|_| executed.code == 0)
                .ok_or(executed)
        });
        let mut later = config.clone();
        later["prevResult"] = result;
        attachment.run("CHECK", &later);
        attachment.run("DEL", &later);
        eventually("nothing is left", || {
            let links = web.netns.json("ip -j link");
            (links.as_array().unwrap().len() == 1).then_some(()).ok_or(links)
        });
        let leased: u64 = host.client().pools().iter().map(|pool| pool.leased).sum();
        assert_eq!(leased, 0, "{point}");
    }
}

#[test]
fn an_add_whose_process_is_killed_while_netd_works_leaves_nothing() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    let config = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let attachment = Attachment::new(&host, world.programs(), &web);
    attachment.run("ADD", &config);
    attachment.run("DEL", &config);
    eventually("the first interface is gone", || {
        let links = web.netns.json("ip -j link");
        (links.as_array().unwrap().len() == 1).then_some(()).ok_or(links)
    });
    let before = host.snapshot();
    let status = host.client().status();
    let driver = status.drivers.iter().find(|driver| driver.name == "bridge").unwrap();
    let driver = Pid::from_raw(driver.pid.unwrap().try_into().unwrap());
    // netd waits for its driver, and the ADD for netd.
    kill(driver, Signal::SIGSTOP).unwrap();
    let mut add = attachment.command("ADD", "netd-bridge").spawn().unwrap();
    add.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    eventually("netd has begun", || {
        let endpoints = host.client().endpoints();
        (endpoints.len() == 1).then_some(()).ok_or(endpoints)
    });
    add.kill().unwrap();
    add.wait().unwrap();
    kill(driver, Signal::SIGCONT).unwrap();
    attachment.run("DEL", &config);
    assert!(host.client().endpoints().is_empty());
    assert_eq!(host.client().pools().iter().map(|pool| pool.leased).sum::<u64>(), 0);
    eventually("nothing is left", || {
        let links = web.netns.json("ip -j link");
        let inside = (links.as_array().unwrap().len() == 1)
            .then_some(())
            .ok_or_else(|| vec![links.to_string()]);
        inside.and_then(|()| host.snapshot().same_as(&before))
    });
    let mut later = config.clone();
    later["prevResult"] = attachment.run("ADD", &config);
    attachment.run("CHECK", &later);
    attachment.run("DEL", &later);
}

#[test]
fn a_del_without_netd_is_done_when_it_comes_back() {
    let world = World::new();
    let mut host = world.host("a");
    let web = world.container("web");
    let config = config("0.4.0", "pods", host_local("10.91.0.0/24"));
    Attachment::new(&host, world.programs(), &web).run("ADD", &config);
    host.kill();
    let attachment = Attachment::new(&host, world.programs(), &web);
    attachment.run("DEL", &config);
    attachment.run("DEL", &config);
    host.start();
    assert!(host.client().endpoints().is_empty());
    eventually("the interface is gone", || {
        let links = web.netns.json("ip -j link");
        (links.as_array().unwrap().len() == 1).then_some(()).ok_or(links)
    });
    Attachment::new(&host, world.programs(), &web).run("ADD", &config);
}

#[test]
fn a_del_knows_by_itself_what_to_delete() {
    let world = World::new();
    let host = world.host("a");
    let good = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let mut with_port = good.clone();
    with_port["runtimeConfig"] = json!({"portMappings": mappings});
    let mut ranges_are_wrong = good.clone();
    ranges_are_wrong["ipam"]["ranges"] = json!([[{"subnet": "x"}]]);
    let mut without_ports = good.clone();
    without_ports["runtimeConfig"] = json!({"portMappings": []});
    let wrong = |key: &str, value: Value| {
        let mut wrong = good.clone();
        wrong[key] = value;
        wrong
    };
    let laters = [
        with_port.clone(),
        ranges_are_wrong,
        without_ports,
        good.clone(),
        wrong("cniVersion", json!("7.7.7")),
        wrong("ipam", json!(7)),
        wrong("ipam", json!({"type": "nowhere"})),
    ];
    for (n, later) in laters.iter().enumerate() {
        let mut web = world.container(&format!("web{n}"));
        let mut attachment = Attachment::new(&host, world.programs(), &web);
        attachment.run("ADD", &with_port);
        if n % 2 == 0 {
            // As the runtime says it when the namespace is gone.
            attachment.netns = String::new();
            web.netns.kill();
        }
        attachment.run("DEL", later);
        attachment.run("DEL", later);
        assert!(host.client().endpoints().is_empty());
        assert!(!host.netns.run("nft list table inet netd").contains("8080"));
    }
    // What is another's is not taken for it: neither by the beginning of an id, nor by a name.
    let other = world.container("other");
    let endpoint = host.client().attach(&other.to("pods"));
    let attachment = Attachment::new(&host, world.programs(), &other);
    for id in ["other", other.id.get(..8).unwrap()] {
        Attachment { id: id.into(), ..attachment.clone() }.run("DEL", &good);
    }
    let mut beginning = good.clone();
    beginning["name"] = json!(endpoint.network.as_str().get(..10).unwrap());
    attachment.run("DEL", &beginning);
    assert_eq!(host.client().endpoints().len(), 1);
    let (code, _) = attachment.refused("ADD", &beginning);
    assert_eq!(code, 104, "its subnet is another network's, which it is not");
}

#[test]
fn a_namespace_that_vanished_holds_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut web = world.container("web");
    let config = config("1.0.0", "pods", host_local("10.91.0.0/24"));
    let attachment = Attachment::new(&host, world.programs(), &web);
    let mut later = config.clone();
    later["prevResult"] = attachment.run("ADD", &config);
    web.netns.kill();
    eventually("netd has noticed", || {
        let endpoints = host.client().endpoints();
        endpoints.is_empty().then_some(()).ok_or(endpoints)
    });
    assert_eq!(attachment.refused("CHECK", &later).0, 8);
    attachment.run("DEL", &later);
    assert_eq!(host.client().pools().iter().map(|pool| pool.leased).sum::<u64>(), 0);
}

#[test]
fn datagrams_follow_the_port_to_its_new_owner() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let (old, new) = (world.container("old"), world.container("new"));
    let mappings = json!([{"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]);
    let mut more = host_local("10.91.0.0/24");
    more["runtimeConfig"] = json!({"portMappings": mappings});
    let config = config("1.0.0", "pods", more);
    old.netns.serve_udp_with(53, |question| [b"old ", question].concat());
    new.netns.serve_udp_with(53, |question| [b"new ", question].concat());
    // One flow throughout: the same socket.
    let socket = lan.inside(|| {
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        socket.connect("192.0.2.1:5353").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        socket
    });
    // An answer that came late is one to an earlier question.
    let asked = Cell::new(0);
    let ask = || {
        asked.set(asked.get() + 1);
        let question = asked.get().to_string();
        socket.send(question.as_bytes()).map_err(|error| error.to_string())?;
        loop {
            let mut answer = [0; 16];
            let length = socket.recv(&mut answer).map_err(|error| error.to_string())?;
            let answer = String::from_utf8_lossy(&answer[..length]);
            if let Some((who, _)) = answer.split_once(' ').filter(|(_, to)| *to == question) {
                return Ok::<_, String>(who.to_owned());
            }
        }
    };
    let first = Attachment::new(&host, world.programs(), &old);
    first.run("ADD", &config);
    eventually("the first answers", || {
        ask().and_then(|who| (who == "old").then_some(()).ok_or(who))
    });
    first.run("DEL", &config);
    assert!(ask().is_err(), "nobody has the port");
    Attachment::new(&host, world.programs(), &new).run("ADD", &config);
    eventually("the second answers", || {
        ask().and_then(|who| (who == "new").then_some(()).ok_or(who))
    });
}
