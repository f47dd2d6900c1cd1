//! Ports of the host that lead to a container: `runtimeConfig.portMappings`.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
};

use serde_json::{Value, json};

use super::capabilities::runtime;
use crate::cni::conformance::{
    bench::{Bench, with},
    container::Container,
    rule::{Checked, Flaw, Level::*, Rule, ensure},
};

/// The namespaces of the neighbour and of the host itself.
const LAN: &str = "/run/netns/lan";
const HOST: &str = "/proc/self/ns/net";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ports-reached",
        level: Must,
        source: "Conventions, portMappings",
        says: "A port of runtimeConfig.portMappings is reached at the host's address until DEL",
        check: reached,
    },
    Rule {
        id: "ports-capitals",
        level: Should,
        source: "containerd, nerdctl",
        says: "runtimeConfig.portMappings are understood with the capital keys that Go clients send",
        check: capitals,
    },
    Rule {
        id: "ports-local",
        level: Should,
        source: "portmap",
        says: "A published port is reached from the host itself at 127.0.0.1",
        check: local,
    },
    Rule {
        id: "ports-hairpin",
        level: Should,
        source: "portmap",
        says: "A published port is reached from its own container at the host's address",
        check: hairpin,
    },
    Rule {
        id: "ports-address",
        level: Should,
        source: "Conventions, portMappings",
        says: "A port that is published at one address of the host is not reached at another",
        check: address,
    },
    Rule {
        id: "ports-taken",
        level: Should,
        source: "users",
        says: "A port that another container has is refused, and stays the other one's",
        check: taken,
    },
    Rule {
        id: "ports-bound",
        level: Should,
        source: "users",
        says: "A port that a program on the host listens at is refused",
        check: bound,
    },
    Rule {
        id: "ports-wrong",
        level: Should,
        source: "Error, code 7",
        says: "Ports and protocols that there are not are refused, and nothing is left",
        check: wrong,
    },
    Rule {
        id: "ports-two-interfaces",
        level: Must,
        source: "Section 2, key of an attachment",
        says: "DEL of one of a container's interfaces leaves the ports of the other one",
        check: two_interfaces,
    },
    Rule {
        id: "ports-del-without",
        level: Should,
        source: "libcni after a failed ADD",
        says: "DEL without runtimeConfig and prevResult closes the ports",
        check: del_without,
    },
    Rule {
        id: "ports-udp-del",
        level: Should,
        source: "users",
        says: "After DEL a flow of UDP does not reach the next container with the address",
        check: udp_del,
    },
];

/// A network on which host port 8080 leads to port 8000 of a container.
fn published(config: &Value, protocol: &str) -> Value {
    let mapping = json!([{ "hostPort": 8080, "containerPort": 8000, "protocol": protocol }]);
    runtime(config, "portMappings", mapping)
}

fn place(address: [u8; 4]) -> SocketAddr {
    SocketAddr::from((address, 8080))
}

/// The host's address on its LAN.
fn uplink() -> SocketAddr {
    place([192, 0, 2, 1])
}

/// Whether somebody gets from a place what the container serves.
fn gets(bench: &Bench, container: &Container, from: &str, place: SocketAddr) -> Checked<bool> {
    bench.machine.served(&container.netns, Path::new(from), place)
}

fn reached(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let config = published(&bench.network(), "tcp");
    let (container, result) = bench.attached(&config)?;
    ensure!(gets(bench, &container, LAN, uplink())?, "the port is not reached");
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    ensure!(!gets(bench, &container, LAN, uplink())?, "the port is reached after DEL");
    Ok(())
}

fn capitals(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let mapping =
        json!([{ "HostPort": 8080, "ContainerPort": 8000, "Protocol": "tcp", "HostIP": "" }]);
    let (container, _) = bench.attached(&runtime(&bench.network(), "portMappings", mapping))?;
    ensure!(gets(bench, &container, LAN, uplink())?, "the port is not reached");
    Ok(())
}

fn local(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let (container, _) = bench.attached(&published(&bench.network(), "tcp"))?;
    let place = place([127, 0, 0, 1]);
    ensure!(gets(bench, &container, HOST, place)?, "the port is not reached at 127.0.0.1");
    Ok(())
}

fn hairpin(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let (container, _) = bench.attached(&published(&bench.network(), "tcp"))?;
    let own = container.netns.display().to_string();
    ensure!(gets(bench, &container, &own, uplink())?, "the port is not reached");
    Ok(())
}

fn address(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let mapping = json!([{ "hostPort": 8080, "containerPort": 8000, "protocol": "tcp",
        "hostIP": "127.0.0.1" }]);
    let (container, _) = bench.attached(&runtime(&bench.network(), "portMappings", mapping))?;
    let place = place([127, 0, 0, 1]);
    ensure!(gets(bench, &container, HOST, place)?, "the port is not reached at 127.0.0.1");
    ensure!(!gets(bench, &container, LAN, uplink())?, "the port is reached from the LAN");
    Ok(())
}

fn taken(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let config = published(&bench.network(), "tcp");
    let (container, _) = bench.attached(&config)?;
    bench
        .try_add(&bench.container()?, "eth0", &config)?
        .failure("ADD with a port that is taken")?;
    ensure!(gets(bench, &container, LAN, uplink())?, "the first container has lost its port");
    Ok(())
}

fn bound(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let listener = TcpListener::bind(("0.0.0.0", 8080));
    let _listener = listener.map_err(|error| Flaw::Broken(format!("cannot listen: {error}")))?;
    let config = published(&bench.network(), "tcp");
    let reply = bench.try_add(&bench.container()?, "eth0", &config)?;
    reply.failure("ADD with a port that a program listens at").map(drop)
}

fn wrong(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    bench.attached(&bench.network())?;
    let before = bench.machine.account()?;
    for wrong in [
        json!({ "hostPort": 65536, "containerPort": 80, "protocol": "tcp" }),
        json!({ "hostPort": 80, "containerPort": -1, "protocol": "tcp" }),
        json!({ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }),
    ] {
        let config = runtime(&bench.network(), "portMappings", json!([wrong]));
        let container = bench.container()?;
        bench
            .try_add(&container, "eth0", &config)?
            .failure(&format!("ADD with the port {wrong}"))?;
        container.lacks("eth0")?;
    }
    bench.machine.becomes(&before)
}

fn two_interfaces(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let (container, _) = bench.attached(&published(&bench.network(), "tcp"))?;
    let mapping = json!([{ "hostPort": 8081, "containerPort": 8001, "protocol": "tcp" }]);
    let other = runtime(&bench.other_network(), "portMappings", mapping);
    let result = bench.add(&container, "eth1", &other).map_err(|flaw| flaw.of("eth1"))?;
    bench.del(&container, "eth1", &with(&other, "prevResult", result))?;
    ensure!(gets(bench, &container, LAN, uplink())?, "the port of eth0 went with eth1");
    Ok(())
}

fn del_without(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    bench.attached(&bench.network())?;
    let before = bench.machine.account()?;
    let (container, _) = bench.attached(&published(&bench.network(), "tcp"))?;
    bench.del(&container, "eth0", &bench.network())?;
    bench.machine.becomes(&before)
}

fn udp_del(bench: &Bench) -> Checked {
    bench.capable("portMappings")?;
    let config = published(&bench.network_of_one(), "udp");
    let (container, result) = bench.attached(&config)?;
    let flow = bench.machine.flow(Path::new(LAN), uplink())?;
    ensure!(flow.arrives(&container.netns)?, "the port is not reached");
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    let (next, _) = bench.attached(&bench.network_of_one())?;
    ensure!(!flow.arrives(&next.netns)?, "what was sent to the last one reaches the next one");
    Ok(())
}
