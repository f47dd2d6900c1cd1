//! Containers that end without a word: what they had is released within a second.

use std::time::Duration;

use cnm::endpoint::Netns;
use netd_tests::{Asking as _, Host, Namespace, World, eventually, within};

/// What the README promises.
const SECOND: Duration = Duration::from_secs(1);

/// Ends containers, and waits until the kernel has taken their namespaces away: it has one worker for
/// those of all the machine, which may be behind, and says only then that one is gone.
fn end(host: &Host, containers: &mut [&mut Namespace]) {
    let ids = || host.netns.run("ip netns list-id").lines().count();
    let left = ids() - containers.len();
    containers.iter_mut().for_each(|netns| netns.kill());
    eventually("the kernel has taken the namespaces away", || match ids() {
        now if now == left => Ok(()),
        now => Err(now),
    });
}

#[test]
fn a_killed_container_on_a_bridge_is_released_within_a_second() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let before = host.snapshot();
    let mut web = world.container("web");
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    netd.attach(&attach);
    end(&host, &mut [&mut web.netns]);
    within(SECOND, "the endpoint is released", || {
        let endpoints = netd.endpoints();
        if endpoints.is_empty() { Ok(()) } else { Err(endpoints) }
    });
    within(SECOND, "nothing is left", || host.snapshot().same_as(&before));
    assert_eq!(netd.status().sandboxes, 0);
    let next = world.container("web");
    let mut attach = next.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    netd.attach(&attach);
}

#[test]
fn a_killed_container_on_none_is_released_within_a_second() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let mut web = world.container("web");
    netd.attach(&web.to("none"));
    end(&host, &mut [&mut web.netns]);
    within(SECOND, "the endpoint is released", || {
        let endpoints = netd.endpoints();
        if endpoints.is_empty() { Ok(()) } else { Err(endpoints) }
    });
    assert_eq!(netd.status().sandboxes, 0);
}

#[test]
fn a_killed_process_on_host_is_released_within_a_second() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let mut process = world.container("web");
    let mut attach = process.to("host");
    attach.netns = Some(Netns::Path(host.netns.path()));
    attach.container.pid = Some(process.netns.pid());
    netd.attach(&attach);
    process.netns.kill();
    within(SECOND, "the endpoint is released", || {
        let endpoints = netd.endpoints();
        if endpoints.is_empty() { Ok(()) } else { Err(endpoints) }
    });
    assert_eq!(netd.status().sandboxes, 0);
}

#[test]
fn a_kept_sandbox_that_ends_is_released_within_a_second() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let mut web = world.container("web");
    netd.call(&cnm::sandbox::CreateSandbox {
        container: web.known(),
        netns: Netns::Path(web.netns.path()),
    })
    .unwrap();
    assert_eq!(netd.status().sandboxes, 1);
    end(&host, &mut [&mut web.netns]);
    within(SECOND, "the sandbox is released", || {
        let status = netd.status();
        if status.sandboxes == 0 { Ok(()) } else { Err(status.sandboxes) }
    });
}

#[test]
fn containers_that_end_while_netd_is_down_are_released_at_its_start() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let before = host.snapshot();
    let (mut web, mut none, mut process, stays) = (
        world.container("web"),
        world.container("none"),
        world.container("process"),
        world.container("stays"),
    );
    netd.attach(&web.to("app"));
    netd.attach(&none.to("none"));
    let mut attach = process.to("host");
    attach.netns = Some(Netns::Path(host.netns.path()));
    attach.container.pid = Some(process.netns.pid());
    netd.attach(&attach);
    let stayed = netd.attach(&stays.to("none"));
    host.kill();
    process.netns.kill();
    end(&host, &mut [&mut web.netns, &mut none.netns]);
    host.start();
    let mut netd = host.client();
    within(SECOND, "what ended is released", || {
        let endpoints = netd.endpoints();
        if endpoints == [stayed.clone()] { Ok(()) } else { Err(endpoints) }
    });
    within(SECOND, "nothing is left", || host.snapshot().same_as(&before));
}
