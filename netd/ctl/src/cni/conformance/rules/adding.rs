//! What one ADD does in a container.

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, with},
    machine::{NEIGHBOUR, list},
    rule::{Checked, Flaw, Level::*, Rule, ensure},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "add-interface",
        level: Must,
        source: "ADD",
        says: "ADD makes an interface of the name CNI_IFNAME in CNI_NETNS, and it is up",
        check: interface,
    },
    Rule {
        id: "add-odd-names",
        level: Must,
        source: "Parameters",
        says: "Container ids and interface names that are unusual but right are taken",
        check: odd_names,
    },
    Rule {
        id: "add-one-document",
        level: Must,
        source: "Success",
        says: "ADD prints one JSON document on standard output and nothing else",
        check: |bench| bench.attached(&bench.network()).map(drop),
    },
    Rule {
        id: "add-reach",
        level: Must,
        source: "ADD",
        says: "Two containers of a network reach each other",
        check: reach,
    },
    Rule {
        id: "add-gateway",
        level: Should,
        source: "ADD",
        says: "The gateway of a result answers the container",
        check: gateway,
    },
    Rule {
        id: "add-masquerade",
        level: Should,
        source: "bridge, ptp",
        says: "With ipMasq a container reaches hosts that have no route to its network",
        check: masquerade,
    },
    Rule {
        id: "add-loopback",
        level: Should,
        source: "containerd",
        says: "ADD works in a namespace whose loopback is still down",
        check: loopback,
    },
    Rule {
        id: "add-dual-stack",
        level: Should,
        source: "Success, ips",
        says: "With a range of each family a container has an address of each, and both reach others",
        check: dual_stack,
    },
    Rule {
        id: "add-ipv6-ready",
        level: Should,
        source: "containerd, CRI-O",
        says: "An IPv6 address can be used when ADD answers: it is not tentative",
        check: ipv6_ready,
    },
    Rule {
        id: "add-range",
        level: Should,
        source: "host-local",
        says: "rangeStart, rangeEnd and gateway of the ipam block are kept to",
        check: range,
    },
    Rule {
        id: "add-range-sets",
        level: Should,
        source: "host-local",
        says: "Each range set of the ipam block gives an address, also two of one family",
        check: range_sets,
    },
    Rule {
        id: "add-ranges-of-a-set",
        level: Should,
        source: "host-local",
        says: "When a range of a set is used up the next one gives the address",
        check: ranges_of_a_set,
    },
    Rule {
        id: "add-route-details",
        level: Should,
        source: "Success, routes (1.1.0)",
        says: "A route of the ipam block has the priority and the mtu that it names",
        check: route_details,
    },
    Rule {
        id: "add-mtu",
        level: Should,
        source: "bridge, ptp",
        says: "The container's interface has the mtu of the configuration",
        check: mtu,
    },
];

fn interface(bench: &Bench) -> Checked {
    let (container, _) = bench.attached(&bench.network())?;
    let link = container.has("eth0")?;
    ensure!(list(&link["flags"]).any(|flag| flag == "UP"), "eth0 is not up: {}", link["flags"]);
    Ok(())
}

fn odd_names(bench: &Bench) -> Checked {
    let config = bench.network();
    for (id, ifname) in [("0", "e"), ("A_b.c-D", "fifteen-letters"), ("x", "net1.100")] {
        let mut container = bench.container()?;
        container.id = id.to_owned();
        bench.add(&container, ifname, &config)?;
        container.has(ifname)?;
        bench.del(&container, ifname, &config)?;
        container.lacks(ifname)?;
    }
    Ok(())
}

fn reach(bench: &Bench) -> Checked {
    let config = bench.network();
    let ((one, _), (other, _)) = (bench.attached(&config)?, bench.attached(&config)?);
    one.pings(other.address("eth0")?)?;
    other.pings(one.address("eth0")?)
}

fn gateway(bench: &Bench) -> Checked {
    let (container, result) = bench.attached(&bench.network())?;
    let gateways: Vec<_> = list(&result["ips"])
        .filter_map(|ip| ip["gateway"].as_str())
        .chain(result["ip4"]["gateway"].as_str())
        .collect();
    if gateways.is_empty() {
        return Err(Flaw::NotOffered("the result has no gateway".to_owned()));
    }
    gateways.into_iter().try_for_each(|gateway| container.pings(gateway))
}

fn masquerade(bench: &Bench) -> Checked {
    let config = bench.network();
    if config["ipMasq"] != json!(true) {
        return Err(Flaw::NotOffered("the configuration has no ipMasq".to_owned()));
    }
    let (container, _) = bench.attached(&config)?;
    container.pings(NEIGHBOUR)
}

fn loopback(bench: &Bench) -> Checked {
    let container = bench.container()?;
    container.ip("link set lo down")?;
    bench.add(&container, "eth0", &bench.network())?;
    container.has("eth0").map(drop)
}

/// The configuration with other addresses.
fn addressed(bench: &Bench, ipam: Value) -> Value {
    let mut config = bench.network();
    let kind = config["ipam"]["type"].clone();
    config["ipam"] = with(&ipam, "type", kind);
    config
}

fn both_families(bench: &Bench) -> Value {
    addressed(
        bench,
        json!({
            "ranges": [[{ "subnet": "10.83.0.0/24" }], [{ "subnet": "fd83::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        }),
    )
}

fn dual_stack(bench: &Bench) -> Checked {
    let config = both_families(bench);
    let ((one, _), (other, result)) = (bench.attached(&config)?, bench.attached(&config)?);
    let addresses = other.addresses("eth0")?;
    ensure!(list(&result["ips"]).count() == 2, "the result has not two addresses: {result}");
    for start in ["10.83.0.", "fd83:"] {
        let address = addresses.iter().find(|address| address.starts_with(start));
        let address = address.and_then(|address| address.split('/').next()).ok_or_else(|| {
            Flaw::Broken(format!("there is no address {start}…: there is {addresses:?}"))
        })?;
        one.pings(address)?;
    }
    Ok(())
}

fn ipv6_ready(bench: &Bench) -> Checked {
    let (container, _) = bench.attached(&both_families(bench))?;
    let link = container.has("eth0")?;
    let tentative = list(&link["addr_info"])
        .find(|address| address["scope"] == "global" && address["tentative"] == true);
    ensure!(tentative.is_none(), "{} is still tentative", tentative.unwrap_or(&link)["local"]);
    Ok(())
}

fn range(bench: &Bench) -> Checked {
    let config = addressed(
        bench,
        json!({
            "subnet": "10.83.0.0/24",
            "rangeStart": "10.83.0.20",
            "rangeEnd": "10.83.0.21",
            "gateway": "10.83.0.254",
        }),
    );
    for _ in 0..2 {
        let (container, result) = bench.attached(&config)?;
        let address = container.address("eth0")?.to_string();
        ensure!(
            ["10.83.0.20", "10.83.0.21"].contains(&address.as_str()),
            "{address} is not from 10.83.0.20 to 10.83.0.21"
        );
        let gateway = &result["ips"][0]["gateway"];
        ensure!(gateway == "10.83.0.254", "the gateway is {gateway}");
    }
    let reply = bench.try_add(&bench.container()?, "eth0", &config)?;
    reply.failure("ADD beyond the range").map(drop)
}

fn range_sets(bench: &Bench) -> Checked {
    let config = addressed(
        bench,
        json!({
            "ranges": [[{ "subnet": "10.83.0.0/24" }], [{ "subnet": "10.84.0.0/24" }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        }),
    );
    let (container, result) = bench.attached(&config)?;
    ensure!(list(&result["ips"]).count() == 2, "the result has not two addresses: {result}");
    let addresses = container.addresses("eth0")?;
    for start in ["10.83.0.", "10.84.0."] {
        let has = addresses.iter().any(|address| address.starts_with(start));
        ensure!(has, "there is no address {start}…: there is {addresses:?}");
    }
    container.pings("10.83.0.1")
}

fn ranges_of_a_set(bench: &Bench) -> Checked {
    let one = |address: &str, subnet: &str| json!({ "subnet": subnet, "rangeStart": address, "rangeEnd": address });
    let set = [
        one("10.83.0.20", "10.83.0.0/24"),
        one("10.83.0.30", "10.83.0.0/24"),
        one("10.84.0.9", "10.84.0.0/24"),
    ];
    let config = addressed(bench, json!({ "ranges": [set] }));
    for wanted in ["10.83.0.20", "10.83.0.30", "10.84.0.9"] {
        let found = bench.attached(&config)?.0.address("eth0")?.to_string();
        ensure!(found == wanted, "the next address is {found}, not {wanted}");
    }
    let reply = bench.try_add(&bench.container()?, "eth0", &config)?;
    reply.failure("ADD beyond the ranges").map(drop)
}

fn route_details(bench: &Bench) -> Checked {
    bench.since("1.1.0")?;
    let route = json!({ "dst": "10.85.0.0/16", "priority": 50, "mtu": 1400 });
    let config = addressed(bench, json!({ "subnet": "10.83.0.0/24", "routes": [route] }));
    let (container, result) = bench.attached(&config)?;
    let routes = container.routes()?;
    let found = routes.iter().find(|route| route["dst"] == "10.85.0.0/16");
    let found = found.ok_or_else(|| Flaw::Broken(format!("there is no such route: {routes:?}")))?;
    let so = found["metric"] == 50 && found["metrics"][0]["mtu"] == 1400;
    ensure!(so, "the route is {found}");
    let told = list(&result["routes"]).find(|route| route["dst"] == "10.85.0.0/16");
    ensure!(told.is_some_and(|told| told["priority"] == 50), "the result tells {told:?} of it");
    Ok(())
}

fn mtu(bench: &Bench) -> Checked {
    let (container, _) = bench.attached(&with(&bench.network(), "mtu", 1400))?;
    let found = &container.has("eth0")?["mtu"];
    ensure!(found == 1400, "with an mtu of 1400 asked for it is {found}");
    Ok(())
}
