//! The result of ADD in each version: its shape, and that it tells the truth.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, merge, with},
    container::Container,
    machine::list,
    rule::{Checked, Flaw, Level::*, Rule, ensure},
};

pub(super) const RULES: &[Rule] = &[
    rule("result-0.1.0", |bench| in_version(bench, "0.1.0")),
    rule("result-0.2.0", |bench| in_version(bench, "0.2.0")),
    rule("result-0.3.0", |bench| in_version(bench, "0.3.0")),
    rule("result-0.3.1", |bench| in_version(bench, "0.3.1")),
    rule("result-0.4.0", |bench| in_version(bench, "0.4.0")),
    rule("result-1.0.0", |bench| in_version(bench, "1.0.0")),
    rule("result-1.1.0", |bench| in_version(bench, "1.1.0")),
    Rule {
        id: "result-unversioned",
        level: Should,
        source: "libcni",
        says: "A configuration without cniVersion is one of 0.1.0",
        check: unversioned,
    },
    Rule {
        id: "result-strict",
        level: Should,
        source: "Success",
        says: "A result has no keys that came after its version",
        check: strict,
    },
    Rule {
        id: "result-dns",
        level: Should,
        source: "Success",
        says: "What the configuration says of dns is in the result",
        check: dns,
    },
];

const fn rule(id: &'static str, check: fn(&Bench) -> Checked) -> Rule {
    Rule {
        id,
        level: Must,
        source: "Success",
        says: "The result has the shape and the cniVersion of the version that was asked for, and \
               its interface and addresses are those in the container",
        check,
    }
}

fn in_version(bench: &Bench, version: &str) -> Checked {
    bench.offers(version)?;
    let config = with(&bench.network(), "cniVersion", version);
    let (container, result) = bench.attached(&config)?;
    let found = &result["cniVersion"];
    ensure!(found == version, "the result's cniVersion is {found}");
    if version < "0.3.0" {
        old_shape(&container, &result)
    } else {
        shape(&container, &result, version)
    }
}

/// `ip4` and `ip6`, one address in each.
fn old_shape(container: &Container, result: &Value) -> Checked {
    ensure!(result.get("interfaces").is_none(), "there are interfaces in the result: {result}");
    let addresses = container.addresses("eth0")?;
    let told: Vec<_> = ["ip4", "ip6"].iter().filter_map(|key| result[key]["ip"].as_str()).collect();
    ensure!(!told.is_empty(), "there is neither an ip4.ip nor an ip6.ip in the result: {result}");
    for address in told {
        ensure!(
            addresses.iter().any(|found| found == address),
            "the result tells {address}, the container has {addresses:?}"
        );
    }
    Ok(())
}

/// `interfaces`, `ips` and `routes`.
fn shape(container: &Container, result: &Value, version: &str) -> Checked {
    let interfaces: Vec<_> = list(&result["interfaces"]).collect();
    let netns = container.netns.to_string_lossy();
    let inside = |interface: &&&Value| interface["sandbox"] == *netns;
    let own = interfaces.iter().find(inside).ok_or_else(|| {
        Flaw::Broken(format!("no interface of the result has the sandbox {netns}: {result}"))
    })?;
    ensure!(own["name"] == "eth0", "the container's interface is called {}", own["name"]);
    let mac = &container.has("eth0")?["address"];
    ensure!(own["mac"] == *mac, "the result's mac is {}, the container's {mac}", own["mac"]);
    let addresses = container.addresses("eth0")?;
    let ips: Vec<_> = list(&result["ips"]).collect();
    ensure!(!ips.is_empty(), "there are no ips in the result: {result}");
    for ip in &ips {
        let address = ip["address"].as_str().unwrap_or_default();
        ensure!(
            addresses.iter().any(|found| found == address),
            "the result tells {address}, the container has {addresses:?}"
        );
        let index = ip["interface"].as_u64().and_then(|index| usize::try_from(index).ok());
        let of = index.and_then(|index| interfaces.get(index));
        ensure!(of == Some(own), "the interface of {address} is not the container's: {result}");
        let family = ip.get("version").and_then(Value::as_str);
        if version < "1.0.0" {
            let wanted = if address.contains(':') { "6" } else { "4" };
            ensure!(family == Some(wanted), "the version of {address} is {family:?}");
        } else {
            ensure!(family.is_none(), "ips have had no version since 1.0.0: {ip}");
        }
    }
    list(&result["routes"]).try_for_each(|route| {
        let destination = route["dst"].as_str().unwrap_or_default();
        let gateway = route["gw"].as_str().or_else(|| ips[0]["gateway"].as_str());
        routed(container, destination, gateway)
    })
}

/// That a route is in the container.
fn routed(container: &Container, destination: &str, gateway: Option<&str>) -> Checked {
    let wanted = if destination.ends_with("/0") { "default" } else { destination };
    let routes = container.routes()?;
    let found = routes.iter().any(|route| {
        route["dst"] == wanted && gateway.is_none_or(|gateway| route["gateway"] == gateway)
    });
    ensure!(found, "the result tells a route to {destination}, the container has none");
    Ok(())
}

fn unversioned(bench: &Bench) -> Checked {
    bench.offers("0.1.0")?;
    let mut config = bench.network();
    merge(&mut config, &json!({ "cniVersion": null }));
    let (container, result) = bench.attached(&config)?;
    old_shape(&container, &result)
}

fn strict(bench: &Bench) -> Checked {
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        if bench.offers(version).is_err() {
            continue;
        }
        let (_, result) = bench.attached(&with(&bench.network(), "cniVersion", version))?;
        let newer = [
            ("interfaces", ["mtu", "socketPath", "pciID"].as_slice()),
            ("routes", ["mtu", "advmss", "priority", "table", "scope"].as_slice()),
        ];
        for (part, keys) in newer {
            for item in list(&result[part]) {
                let found = keys.iter().find(|key| item.get(**key).is_some());
                ensure!(
                    found.is_none(),
                    "{part} of {version} have no {}: {item}",
                    found.unwrap_or(&"")
                );
            }
        }
    }
    Ok(())
}

fn dns(bench: &Bench) -> Checked {
    let mut config = bench.network();
    merge(&mut config, &json!({ "dns": { "nameservers": ["192.0.2.2"], "search": ["example"] } }));
    let (_, result) = bench.attached(&config)?;
    let dns = &result["dns"];
    let named = list(&dns["nameservers"]).any(|server| server == "192.0.2.2");
    ensure!(named, "the nameserver is not in the result: {dns}");
    ensure!(list(&dns["search"]).any(|domain| domain == "example"), "the domain is not: {dns}");
    let parsed = list(&dns["nameservers"])
        .all(|server| server.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()));
    ensure!(parsed, "a nameserver is no address: {dns}");
    Ok(())
}
