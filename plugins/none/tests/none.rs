//! The driver against the kernel.

#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

use std::{fs::File, os::fd::AsRawFd, process::Command, thread};

use cnm::{
    Kind,
    driver::{Driver, Sync},
};
use netd_none::Loopback;
use nix::sched::{CloneFlags, unshare};

fn network() -> cnm::network::Network {
    serde_json::from_value(serde_json::json!({
        "id": "0".repeat(64), "name": "none", "driver": "none", "created": "",
    }))
    .unwrap()
}

fn endpoint() -> cnm::endpoint::Endpoint {
    serde_json::from_value(serde_json::json!({
        "id": "1".repeat(64), "network": "0".repeat(64), "network_name": "none",
        "container": {"id": "c"}, "ifname": "lo", "state": "attaching", "created": "",
    }))
    .unwrap()
}

fn sandbox() -> File {
    let open = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    thread::spawn(open).join().unwrap()
}

fn path(sandbox: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), sandbox.as_raw_fd())
}

fn leave_home() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
}

#[test]
fn a_sandbox_gets_loopback_and_an_id() {
    leave_home();
    let (mut driver, network, mut endpoint, sandbox) =
        (Loopback::default(), network(), endpoint(), sandbox());
    let attached = driver.attach(&network, &endpoint, &path(&sandbox)).unwrap();
    let nsid = attached.netns.nsid.expect("an id");
    assert!(attached.netns.cookie > 0);
    let again = driver.attach(&network, &endpoint, &path(&sandbox)).unwrap();
    assert_eq!(again, attached);
    let output = Command::new("nsenter")
        .arg(format!("--net={}", path(&sandbox)))
        .args(["ping", "-c1", "-W2", "127.0.0.1"])
        .output()
        .unwrap();
    assert!(output.status.success());

    endpoint.netns = Some(attached.netns);
    let desired = Sync {
        networks: vec![network.clone()],
        endpoints: vec![endpoint.clone()],
        ..Sync::default()
    };
    assert_eq!(driver.sync(&desired).unwrap().missing, []);
    drop(sandbox);
    let gone = Sync {
        endpoints: vec![cnm::endpoint::Endpoint {
            netns: Some(cnm::endpoint::NetnsId { nsid: Some(nsid + 1), ..attached.netns }),
            ..endpoint
        }],
        ..desired
    };
    assert_eq!(driver.sync(&gone).unwrap().missing.len(), 1);
}

#[test]
fn what_it_cannot_give_is_refused() {
    leave_home();
    let (mut driver, network, mut endpoint) = (Loopback::default(), network(), endpoint());
    let own = driver.attach(&network, &endpoint, "/proc/thread-self/ns/net").unwrap_err();
    assert_eq!(own.kind, Kind::Invalid);
    let nothing = driver.attach(&network, &endpoint, "/nowhere").unwrap_err();
    assert_eq!(nothing.kind, Kind::NotFound);
    endpoint.ports = vec!["80:80".parse().unwrap()];
    let ports = driver.attach(&network, &endpoint, &path(&sandbox())).unwrap_err();
    assert_eq!(ports.kind, Kind::Invalid);
}
