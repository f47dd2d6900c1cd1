//! Death at every step: netd, the driver or the plugin is killed at each point that
//! `cnm::fault` knows of, and afterwards the kernel is as the record says, with nothing lost and
//! nothing left.

use std::{collections::BTreeSet, thread};

use cnm::{
    Request,
    bandwidth::Bandwidth,
    endpoint::{CheckEndpoint, Detach},
};
use netd_tests::{Asking as _, Container, Executed, Host, World, eventually};

/// Executes the plugin as a runtime does; one that died has the code of its signal.
fn attach(host: &Host, container: &Container) -> Executed {
    let mut attach = container.to("app");
    attach.ports = vec!["8080:80".parse().unwrap(), "8080:80/udp".parse().unwrap()];
    let limit = "1gbit".parse().ok();
    attach.bandwidth = Bandwidth::of(limit, limit);
    host.plugin("bridge", &Request::new(1, &attach).to_line())
}

fn detach(host: &Host, container: &Container) -> Executed {
    let detach = Detach { network: None, container: container.id.clone(), ifname: None };
    host.plugin("bridge", &Request::new(1, &detach).to_line())
}

/// What the kernel has of endpoints is what netd has on record: links, ports and addresses.
fn kernel_is_as_recorded(host: &Host) -> Result<(), String> {
    let mut netd = host.client();
    let endpoints = netd.endpoints();
    let snapshot = host.snapshot();
    let links: BTreeSet<_> =
        snapshot.lines("link nd").map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    let recorded: BTreeSet<_> = endpoints.iter().map(|e| e.id.link_name().to_string()).collect();
    if links != recorded {
        return Err(format!("links {links:?}, on record {recorded:?}"));
    }
    let detours = snapshot.lines("link nq").count();
    let limited = endpoints.iter().filter(|endpoint| endpoint.bandwidth.is_some()).count();
    if detours != limited {
        return Err(format!("{detours} links to limit {limited} endpoints"));
    }
    let leased: u64 = netd.pools().iter().map(|pool| pool.leased).sum();
    let addresses: usize = endpoints.iter().map(|e| e.addresses.len()).sum();
    if leased != addresses as u64 {
        return Err(format!("{leased} addresses leased, {addresses} on record"));
    }
    let published = snapshot.lines("element").filter(|line| line.contains("8080")).count();
    let ports: usize = endpoints.iter().map(|e| e.ports.len()).sum();
    if (published == 0) != (ports == 0) {
        return Err(format!("{published} elements for {ports} ports"));
    }
    for endpoint in &endpoints {
        let check = CheckEndpoint::new(endpoint.id.to_string());
        let differences = netd.call(&check).map_err(|error| error.to_string())?.differences;
        if !differences.is_empty() {
            return Err(format!("{}: {differences:?}", endpoint.container.label()));
        }
    }
    Ok(())
}

/// What a machine's init does when netd ended.
fn restart_if_dead(host: &mut Host, point: &str) {
    if point.starts_with("netd.") {
        host.wait_for_death();
        host.start();
    }
}

fn dies_at(point: &str) {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    host.client().create("app");
    let before = host.snapshot();
    let (bystander, web) = (world.container("bystander"), world.container("web"));
    let own = host.client().attach(&bystander.to("app")).addresses[0].ip();
    let with_bystander = host.snapshot();
    web.netns.serve_tcp(80);

    let attaching = point.contains(".attach.");
    let died = host.arm(point);
    let mut died_then = None;
    if attaching {
        let executed = attach(&host, &web);
        assert!(died(), "the attach does not come to {point}: {executed:?}");
        restart_if_dead(&mut host, point);
        eventually("the kernel is as recorded", || kernel_is_as_recorded(&host));
        // A runtime that got no answer cleans up; that is a success in any case.
        if executed.code != 0 {
            detach(&host, &web).success();
            eventually("there is nothing of it", || host.snapshot().same_as(&with_bystander));
            attach(&host, &web).success();
        }
    } else {
        attach(&host, &web).success();
        let executed = detach(&host, &web);
        if !point.starts_with("front.") {
            executed.success();
        }
        eventually("somebody dies", || if died() { Ok(()) } else { Err(point.to_owned()) });
        died_then = Some(executed);
        restart_if_dead(&mut host, point);
        eventually("the kernel is as recorded", || kernel_is_as_recorded(&host));
        // The runtime repeats what it got no answer to, and starts the container again.
        detach(&host, &web).success();
        eventually("there is nothing of it", || host.snapshot().same_as(&with_bystander));
        attach(&host, &web).success();
    }

    // It works, for the new one and for the one beside it.
    kernel_is_as_recorded(&host).unwrap();
    lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).unwrap();
    assert!(web.netns.pings(own), "{died_then:?}");
    detach(&host, &web).success();
    detach(&host, &bystander).success();
    eventually("the host is as before", || host.snapshot().same_as(&before));
    let mut netd = host.client();
    assert!(netd.endpoints().is_empty());
    assert!(netd.pools().iter().all(|pool| pool.leased == 0), "{:?}", netd.pools());
    assert_eq!(netd.status().sandboxes, 0);
    assert_eq!(netd.status().problems, Vec::<String>::new());
}

/// The driver dies, and netd before it can put it right.
fn both_die_at(point: &str) {
    let world = World::new();
    let mut host = world.host("a");
    host.client().create("app");
    let before = host.snapshot();
    let web = world.container("web");
    if !point.contains(".attach.") {
        attach(&host, &web).success();
    }
    let died = host.arm(point);
    thread::scope(|scope| {
        let calling = scope.spawn(|| {
            if point.contains(".attach.") { attach(&host, &web) } else { detach(&host, &web) }
        });
        eventually("the driver dies", || if died() { Ok(()) } else { Err(point) });
        netd_tests::kill(host.pid());
        calling.join().unwrap()
    });
    host.wait_for_death();
    host.start();
    eventually("the kernel is as recorded", || kernel_is_as_recorded(&host));
    detach(&host, &web).success();
    eventually("the host is as before", || host.snapshot().same_as(&before));
    attach(&host, &web).success();
    kernel_is_as_recorded(&host).unwrap();
    detach(&host, &web).success();
    eventually("the host is as before", || host.snapshot().same_as(&before));
}

#[test]
fn driver_and_netd_die_in_an_attach() {
    both_die_at("bridge.attach.after-veth");
}

#[test]
fn driver_and_netd_die_at_the_end_of_an_attach() {
    both_die_at("bridge.attach.after-elements");
}

#[test]
fn driver_and_netd_die_in_a_detach() {
    both_die_at("bridge.detach.after-elements");
}

#[test]
fn driver_and_netd_die_with_a_condemned_link() {
    both_die_at("bridge.reap.before-delete");
}

/// A test for each point, and one that no point is missing.
macro_rules! points {
    ($($test:ident: $point:literal,)*) => {
        $(
            #[test]
            fn $test() {
                dies_at($point);
            }
        )*

        #[test]
        fn every_point_is_visited() {
            // Those of other drivers are visited where those are tested.
            let others =
                |point: &&&str| !point.starts_with("macvlan.") && !point.starts_with("cluster.");
            let points: Vec<_> = cnm::fault::POINTS.iter().filter(others).copied().collect();
            assert_eq!(points, [$($point),*]);
        }
    };
}

points! {
    front_attach_before_call: "front.attach.before-call",
    netd_attach_before_intent: "netd.attach.before-intent",
    netd_attach_after_intent: "netd.attach.after-intent",
    bridge_attach_before_veth: "bridge.attach.before-veth",
    bridge_attach_after_veth: "bridge.attach.after-veth",
    bridge_attach_after_limits: "bridge.attach.after-limits",
    bridge_attach_after_config: "bridge.attach.after-config",
    bridge_attach_after_elements: "bridge.attach.after-elements",
    netd_attach_after_driver: "netd.attach.after-driver",
    netd_attach_after_record: "netd.attach.after-record",
    front_attach_before_answer: "front.attach.before-answer",
    front_detach_before_call: "front.detach.before-call",
    netd_detach_before_record: "netd.detach.before-record",
    netd_detach_after_record: "netd.detach.after-record",
    bridge_detach_before_elements: "bridge.detach.before-elements",
    bridge_detach_after_elements: "bridge.detach.after-elements",
    bridge_detach_after_condemn: "bridge.detach.after-condemn",
    netd_detach_after_driver: "netd.detach.after-driver",
    front_detach_before_answer: "front.detach.before-answer",
    bridge_reap_before_delete: "bridge.reap.before-delete",
    bridge_reap_after_delete: "bridge.reap.after-delete",
}
