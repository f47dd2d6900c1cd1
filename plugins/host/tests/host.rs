//! The driver against the kernel.

#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

use std::thread;

use cnm::{
    Kind,
    driver::{Driver, Sync, Uninstall},
};
use netd_host::Host;
use nix::sched::{CloneFlags, unshare};

/// The addresses of loopback, as `ip` has them.
fn addresses() -> String {
    let output = std::process::Command::new("ip").args(["-o", "address", "show", "lo"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn the_resolver_has_an_address_for_as_long_as_that_is_wanted() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
    let mut driver = Host::default();
    let with = |settings: &[(&str, &str)]| Sync {
        settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Sync::default()
    };
    let wanted = with(&[("resolver", "169.254.76.53"), ("coexist", "report")]);
    let said = driver.sync(&wanted).unwrap().repaired;
    assert_eq!(said, ["add the address 169.254.76.53 to lo"]);
    assert!(addresses().contains("169.254.76.53/32 scope host lo:netd"), "{}", addresses());
    assert!(driver.sync(&wanted).unwrap().repaired.is_empty(), "it is there");

    let other = with(&[("resolver", "169.254.1.53")]);
    driver.sync(&other).unwrap();
    assert!(addresses().contains("169.254.1.53/32") && !addresses().contains("76.53"));
    // Another's is left alone.
    let added = std::process::Command::new("ip")
        .args(["address", "add", "169.254.9.9/32", "dev", "lo"])
        .status();
    assert!(added.unwrap().success());
    let shown = driver.uninstall(Uninstall { check: true }).unwrap().found;
    assert_eq!(shown, ["the address 169.254.1.53 of lo"]);
    assert!(addresses().contains("169.254.1.53"));
    // One that is there already, by somebody else's doing, is good enough.
    let said = driver.sync(&with(&[("resolver", "169.254.9.9")])).unwrap().repaired;
    assert_eq!(said, ["delete the address 169.254.1.53 from lo"]);
    driver.sync(&with(&[("resolver", "169.254.1.53")])).unwrap();
    driver.sync(&with(&[])).unwrap();
    assert!(addresses().contains("169.254.9.9") && !addresses().contains("169.254.1.53"));
    assert_eq!(driver.sync(&with(&[("resolver", "x")])).unwrap_err().kind, Kind::Invalid);
}

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
