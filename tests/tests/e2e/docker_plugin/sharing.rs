//! One network, and three that give its addresses out: dockerd by itself, netd for Podman, netd for a
//! runtime that speaks CNI.

use std::{collections::BTreeSet, net::IpAddr, process::Stdio, thread};

use super::*;

const EACH: usize = 67;

/// The id under which container number `n` of a kind goes.
fn numbered(kind: char, n: usize) -> String {
    format!("{kind}{n:063}")
}

/// As Docker's own IPAM does: the lowest address that it has not given out.
fn docker(net: &str) -> Vec<IpAddr> {
    let attach = |n: usize| {
        let address = format!("10.9.0.{}", n + 2);
        call(
            "NetworkDriver.CreateEndpoint",
            endpoint(net, &numbered('e', n), &format!("{address}/23")),
        );
        address.parse().unwrap()
    };
    (0..EACH).map(attach).collect()
}

/// A plugin with what a runtime says to it; what it answers.
fn execute(host: &Host, setting: &[(&str, &str)], words: &[&str], text: &Value) -> Value {
    let mut command = host.plugin_command("bridge");
    command.args(words).envs(setting.iter().copied()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn podman(host: &Host, containers: &[Container]) -> Vec<IpAddr> {
    let attach = |container: &Container| {
        let setup = json!({
            "container_id": container.id, "container_name": container.name, "port_mappings": null,
            "network": {"name": "app", "id": id('5'), "driver": "netd-bridge", "internal": false,
                "created": "0001-01-01T00:00:00Z", "ipv6_enabled": false, "dns_enabled": true,
                "ipam_options": {"driver": "netd"},
                "subnets": [{"subnet": "10.9.0.0/23", "gateway": "10.9.0.1"}]},
            "network_options": {"interface_name": "eth0"},
        });
        let status = execute(host, &[], &["setup", &container.netns.path()], &setup);
        let ipnet = status["interfaces"]["eth0"]["subnets"][0]["ipnet"].as_str().unwrap();
        ipnet.split('/').next().unwrap().parse().unwrap()
    };
    containers.iter().map(attach).collect()
}

fn cni(host: &Host, containers: &[Container]) -> Vec<IpAddr> {
    let config = json!({"cniVersion": "1.0.0", "name": "app", "type": "netd-bridge"});
    let attach = |container: &Container| {
        let netns = container.netns.path();
        let environment = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", &container.id),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/nowhere"),
        ];
        let result = execute(host, &environment, &[], &config);
        let ip = result["ips"][0]["address"].as_str().unwrap();
        ip.split('/').next().unwrap().parse().unwrap()
    };
    containers.iter().map(attach).collect()
}

#[test]
fn two_hundred_containers_of_three_runtimes_have_an_address_each() {
    let world = World::new();
    let host = host(&world);
    let net = id('a');
    let request = network(&net, "10.9.0.0/23", "10.9.0.1/23", json!({"network": "app"}));
    call("NetworkDriver.CreateNetwork", request);
    let made = |kind: &str| -> Vec<_> {
        (0..EACH).map(|n| world.container(&format!("{kind}-{n}"))).collect()
    };
    let (pods, tasks) = (made("pod"), made("task"));
    let all = thread::scope(|scope| {
        let whales = scope.spawn(|| docker(&net));
        let seals = scope.spawn(|| podman(&host, &pods));
        let crates = scope.spawn(|| cni(&host, &tasks));
        [whales, seals, crates].map(|runtime| runtime.join().unwrap())
    });
    let distinct: BTreeSet<_> = all.iter().flatten().collect();
    assert_eq!(distinct.len(), 3 * EACH, "{all:?}");
    let kept: BTreeSet<_> =
        host.client().endpoints().iter().map(|endpoint| endpoint.addresses[0].ip()).collect();
    assert_eq!(kept, distinct.into_iter().copied().collect());
    let upper: ipnetwork::IpNetwork = "10.9.1.0/24".parse().unwrap();
    assert!(all[1..].iter().flatten().all(|ip| upper.contains(*ip)), "netd's half: {all:?}");
    assert!(all[0].iter().all(|ip| !upper.contains(*ip)), "Docker's half: {all:?}");
    // They are on one link, and reach each other.
    assert!(pods[0].netns.pings(all[2][EACH - 1]));
    // What one of them has is refused to the others.
    let taken = endpoint(&net, &id('f'), &format!("{}/23", all[1][0]));
    let error = refused("NetworkDriver.CreateEndpoint", taken);
    assert!(error.contains(&all[1][0].to_string()), "{error}");
}
