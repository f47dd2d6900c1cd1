//! The driver against the kernel.

#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

use std::thread;

use cnm::{Kind, driver::Driver};
use netd_host::Host;
use nix::sched::{CloneFlags, unshare};

#[test]
fn only_the_hosts_own_namespace_will_do() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
    let network: cnm::network::Network = serde_json::from_value(serde_json::json!({
        "id": "0".repeat(64), "name": "host", "driver": "host", "created": "",
    }))
    .unwrap();
    let mut endpoint: cnm::endpoint::Endpoint = serde_json::from_value(serde_json::json!({
        "id": "1".repeat(64), "network": "0".repeat(64), "network_name": "host",
        "container": {"id": "c"}, "ifname": "lo", "state": "attaching", "created": "",
    }))
    .unwrap();
    let mut driver = Host::default();
    let own = "/proc/thread-self/ns/net";
    let attached = driver.attach(&network, &endpoint, own).unwrap();
    assert_eq!(attached.netns.nsid, None);
    assert!(attached.netns.cookie > 0);
    let elsewhere = thread::spawn({
        let (network, endpoint) = (network.clone(), endpoint.clone());
        let home = std::fs::File::open(own).unwrap();
        move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&home));
            Host::default().attach(&network, &endpoint, &path).unwrap_err().kind
        }
    });
    assert_eq!(elsewhere.join().unwrap(), Kind::Invalid);
    endpoint.ports = vec!["80:80".parse().unwrap()];
    assert_eq!(driver.attach(&network, &endpoint, own).unwrap_err().kind, Kind::Invalid);
}
