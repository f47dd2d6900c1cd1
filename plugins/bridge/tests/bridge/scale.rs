//! Many endpoints: the kernel's limit, and a sync of all of them.

use cnm::{
    Kind,
    driver::{Driver, Sync},
};
use netd_bridge::Bridge;

use crate::world::{Sandbox, endpoint, eventually, json, leave_home, link, network};

/// The kernel's limit of ports on one bridge (`BR_MAX_PORTS`, net/bridge/br_private.h).
const PORTS: u16 = 1023;

#[test]
fn a_full_bridge_says_so_and_a_thousand_endpoints_are_synced() {
    leave_home();
    let mut driver = Bridge::default();
    let network = network(1, &["10.1.0.0/16"]);
    let sandboxes: Vec<_> = (0..16).map(|_| Sandbox::new()).collect();
    let made = |number: u16| {
        let mut endpoint = endpoint(&network, number);
        // As many interfaces as endpoints, in few namespaces: it is the bridge that is tried.
        endpoint.ifname = format!("eth{}", number / 16).parse().unwrap();
        endpoint.gateways.clear();
        endpoint
    };
    let endpoints: Vec<_> = (0..PORTS).map(made).collect();
    let path = |number: u16| sandboxes[usize::from(number) % 16].path();
    for (endpoint, number) in endpoints.iter().zip(0..) {
        driver.attach(&network, endpoint, &path(number)).unwrap();
    }
    let one_more = made(PORTS);
    let error = driver.attach(&network, &one_more, &path(PORTS)).unwrap_err();
    assert_eq!(error.kind, Kind::Exhausted, "{error}");
    assert!(error.message.contains("1023"), "{error}");
    assert!(link(one_more.id.link_name().as_str()).is_none());

    driver.after_answer();
    drop(driver);
    let mut everything = Sync { networks: vec![network.clone()], endpoints, ..Sync::default() };
    let mut second = Bridge::default();
    let synced = second.sync(&everything).unwrap();
    assert_eq!((synced.repaired.len(), synced.missing.len()), (0, 0));
    everything.endpoints.truncate(1);
    // Each goes with all that hangs at it.
    assert_eq!(second.sync(&everything).unwrap().repaired.len(), usize::from(PORTS) - 1);
    let left = || json("ip -j link").as_array().unwrap().len();
    eventually("all others are reaped", || left() == 3);
}

#[test]
fn sessions_in_two_namespaces_do_not_meet() {
    leave_home();
    let network = network(1, &["10.1.0.0/24"]);
    let elsewhere = std::thread::spawn({
        let network = network.clone();
        move || {
            leave_home();
            let (mut driver, sandbox) = (Bridge::default(), Sandbox::new());
            driver.attach(&network, &endpoint(&network, 1), &sandbox.path()).unwrap();
            (driver, sandbox)
        }
    });
    let (_driver, there) = elsewhere.join().unwrap();
    let mut driver = Bridge::default();
    driver.sync(&Sync::default()).unwrap();
    let here = Sandbox::new();
    driver.attach(&network, &endpoint(&network, 1), &here.path()).unwrap();
    driver.detach(&network, &endpoint(&network, 1)).unwrap();
    driver.network_down(&network).unwrap();
    there.run("ping -c1 -W2 10.1.0.1");
}
