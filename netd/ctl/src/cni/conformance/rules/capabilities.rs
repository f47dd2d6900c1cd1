//! What runtimes ask for dynamically, of a plugin whose configuration declares the capability; ports
//! have a file of their own.

use std::{net::IpAddr, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, merge, with},
    container::Container,
    machine::list,
    rule::{Checked, Level::*, Rule, ensure},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "capability-ips",
        level: Must,
        source: "Conventions, ips",
        says: "runtimeConfig.ips decides the address, with a prefix length or without",
        check: ips,
    },
    Rule {
        id: "capability-ips-taken",
        level: Must,
        source: "Conventions, ips",
        says: "An address that another container has is refused",
        check: ips_taken,
    },
    Rule {
        id: "capability-ips-foreign",
        level: Should,
        source: "Conventions, ips",
        says: "An address that is not of the network is refused",
        check: ips_foreign,
    },
    Rule {
        id: "capability-ips-args",
        level: Should,
        source: "Podman",
        says: "IP in CNI_ARGS decides the address",
        check: ips_args,
    },
    Rule {
        id: "capability-mac",
        level: Must,
        source: "Conventions, mac",
        says: "runtimeConfig.mac decides the interface's address",
        check: mac,
    },
    Rule {
        id: "capability-mac-args",
        level: Should,
        source: "Podman",
        says: "MAC in CNI_ARGS decides the interface's address, unless runtimeConfig.mac does",
        check: mac_args,
    },
    Rule {
        id: "capability-mac-wrong",
        level: Should,
        source: "Error",
        says: "A mac that is none is refused, and nothing is left",
        check: mac_wrong,
    },
    Rule {
        id: "capability-ranges",
        level: Should,
        source: "Conventions, ipRanges",
        says: "runtimeConfig.ipRanges decides from where the address is, in any case of the keys",
        check: ranges,
    },
    Rule {
        id: "capability-ranges-change",
        level: Should,
        source: "containerd, whose node is given more addresses",
        says: "runtimeConfig.ipRanges may change from one ADD of a network to the next",
        check: ranges_change,
    },
    Rule {
        id: "capability-bandwidth",
        level: Should,
        source: "Conventions, bandwidth",
        says: "runtimeConfig.bandwidth limits what comes to a container and what it sends, in any case of \
               the keys, and goes with DEL",
        check: bandwidth,
    },
    Rule {
        id: "capability-dns",
        level: Should,
        source: "Conventions, dns",
        says: "What runtimeConfig.dns says is in the result",
        check: dns,
    },
];

/// A configuration with something in its `runtimeConfig`.
pub(super) fn runtime(config: &Value, key: &str, value: Value) -> Value {
    let mut runtime = json!({});
    runtime[key] = value;
    with(config, "runtimeConfig", runtime)
}

fn ips(bench: &Bench) -> Checked {
    bench.capable("ips")?;
    for (asked, wanted) in [("10.83.0.77", "10.83.0.77/24"), ("10.83.0.78/24", "10.83.0.78/24")] {
        let (container, _) = bench.attached(&runtime(&bench.network(), "ips", json!([asked])))?;
        let found = container.addresses("eth0")?;
        ensure!(found == [wanted], "with {asked} asked for the container has {found:?}");
    }
    Ok(())
}

fn ips_taken(bench: &Bench) -> Checked {
    bench.capable("ips")?;
    let config = runtime(&bench.network(), "ips", json!(["10.83.0.77/24"]));
    bench.attached(&config)?;
    bench.try_add(&bench.container()?, "eth0", &config)?.failure("ADD with it").map(drop)
}

fn ips_foreign(bench: &Bench) -> Checked {
    bench.capable("ips")?;
    let config = runtime(&bench.network(), "ips", json!(["198.51.100.1/24"]));
    let container = bench.container()?;
    bench.try_add(&container, "eth0", &config)?.failure("ADD with 198.51.100.1")?;
    container.lacks("eth0")
}

fn ips_args(bench: &Bench) -> Checked {
    bench.capable("ips")?;
    let container = bench.container()?;
    let call = bench.call_for("ADD", &container, "eth0", &bench.network());
    call.set("CNI_ARGS", "IgnoreUnknown=1;IP=10.83.0.77").run()?.document("ADD")?;
    let found = container.addresses("eth0")?;
    ensure!(found == ["10.83.0.77/24"], "the container has {found:?}");
    Ok(())
}

/// That a container's interface has an address of the link layer.
fn has_mac(container: &Container, wanted: &str) -> Checked {
    let found = &container.has("eth0")?["address"];
    ensure!(*found == wanted, "with {wanted} asked for the container has {found}");
    Ok(())
}

fn mac(bench: &Bench) -> Checked {
    bench.capable("mac")?;
    let wanted = "02:11:22:33:44:55";
    let (container, _) = bench.attached(&runtime(&bench.network(), "mac", json!(wanted)))?;
    has_mac(&container, wanted)
}

fn mac_args(bench: &Bench) -> Checked {
    bench.capable("mac")?;
    let both = runtime(&bench.network(), "mac", json!("02:11:22:33:44:66"));
    let wanted = [(bench.network(), "02:11:22:33:44:55"), (both, "02:11:22:33:44:66")];
    for (config, wanted) in wanted {
        let container = bench.container()?;
        let call = bench.call_for("ADD", &container, "eth0", &config);
        call.set("CNI_ARGS", "IgnoreUnknown=1;MAC=02:11:22:33:44:55").run()?.document("ADD")?;
        has_mac(&container, wanted)?;
    }
    Ok(())
}

fn mac_wrong(bench: &Bench) -> Checked {
    bench.capable("mac")?;
    let container = bench.container()?;
    let config = runtime(&bench.network(), "mac", json!("02:11:22:33:44:5"));
    bench.try_add(&container, "eth0", &config)?.failure("ADD with the mac 02:11:22:33:44:5")?;
    container.lacks("eth0")
}

/// A network whose one address is the one that `runtimeConfig.ipRanges` tells.
fn ranged(config: &Value, ranges: Value) -> Value {
    let mut config = runtime(config, "ipRanges", ranges);
    merge(&mut config, &json!({ "ipam": { "subnet": null } }));
    config
}

/// That the next container of a network has an address.
fn next_has(bench: &Bench, config: &Value, wanted: &str) -> Checked {
    let found = bench.attached(config)?.0.address("eth0")?.to_string();
    ensure!(found == wanted, "with {wanted} asked for the container has {found}");
    Ok(())
}

fn ranges(bench: &Bench) -> Checked {
    bench.capable("ipRanges")?;
    let small = json!([[{ "subnet": "10.83.0.0/24", "rangeStart": "10.83.0.40",
        "rangeEnd": "10.83.0.40" }]]);
    next_has(bench, &ranged(&bench.network(), small), "10.83.0.40")?;
    let capital = json!([[{ "Subnet": "10.83.1.0/24", "RangeStart": "10.83.1.41",
        "RangeEnd": "10.83.1.41", "Gateway": "" }]]);
    next_has(bench, &ranged(&bench.other_network(), capital), "10.83.1.41")
}

fn ranges_change(bench: &Bench) -> Checked {
    bench.capable("ipRanges")?;
    for wanted in ["10.83.0.40", "10.83.0.41"] {
        let ranges =
            json!([[{ "subnet": "10.83.0.0/24", "rangeStart": wanted, "rangeEnd": wanted }]]);
        next_has(bench, &ranged(&bench.network(), ranges), wanted)?;
    }
    Ok(())
}

fn bandwidth(bench: &Bench) -> Checked {
    /// How many bytes are sent, and how long it takes at least at 10 Mbit/s: but for what may go at
    /// once, 0.8 s.
    const AMOUNT: usize = 1 << 20;
    const LEAST: Duration = Duration::from_millis(500);
    bench.capable("bandwidth")?;
    bench.attached(&bench.network())?;
    let before = bench.machine.account()?;
    let limits = json!({ "IngressRate": 10_000_000, "IngressBurst": 100_000,
        "EgressRate": 10_000_000, "EgressBurst": 100_000 });
    let config = runtime(&bench.network(), "bandwidth", limits);
    let (container, result) = bench.attached(&config)?;
    let (host, inside) = (Path::new("/proc/self/ns/net"), container.netns.as_path());
    let gateway = IpAddr::from([10, 83, 0, 1]);
    for (from, to, address, what) in [
        (host, inside, container.address("eth0")?, "came to the container"),
        (inside, host, gateway, "were sent by it"),
    ] {
        let took = bench.machine.transfer(from, to, address, AMOUNT)?;
        ensure!(took > LEAST, "{AMOUNT} bytes {what} in {took:?}, at 10 Mbit/s");
    }
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    bench.machine.becomes(&before)
}

fn dns(bench: &Bench) -> Checked {
    bench.capable("dns")?;
    let wanted =
        json!({ "servers": ["192.0.2.2"], "searches": ["example"], "options": ["ndots:3"] });
    let (_, result) = bench.attached(&runtime(&bench.network(), "dns", wanted))?;
    let dns = &result["dns"];
    for (key, wanted) in
        [("nameservers", "192.0.2.2"), ("search", "example"), ("options", "ndots:3")]
    {
        let told = list(&dns[key]).any(|value| value == wanted);
        ensure!(told, "{wanted} is not among the {key} of the result: {dns}");
    }
    Ok(())
}
