//! Several interfaces, several networks, several at a time.

use std::{collections::BTreeSet, thread};

use serde_json::Value;

use crate::cni::conformance::{
    bench::{Bench, with},
    container::Container,
    machine::NEIGHBOUR,
    rule::{Checked, Flaw, Level::*, Rule, ensure},
};

/// How many containers come at the same time.
const CROWD: usize = 12;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "several-addresses",
        level: Must,
        source: "ADD",
        says: "No two containers have the same address",
        check: addresses,
    },
    Rule {
        id: "several-interfaces",
        level: Must,
        source: "Section 2, key of an attachment",
        says: "A container can be on one network twice, with two interfaces and two addresses",
        check: interfaces,
    },
    Rule {
        id: "several-interfaces-del",
        level: Must,
        source: "Section 2, key of an attachment",
        says: "DEL of one of two interfaces on one network leaves the other one working",
        check: interfaces_del,
    },
    Rule {
        id: "several-networks",
        level: Must,
        source: "Section 2, key of an attachment",
        says: "DEL of one network leaves the other one of a container working",
        check: networks,
    },
    Rule {
        id: "several-at-once",
        level: Must,
        source: "Section 3, parallel operations",
        says: "ADDs and DELs of different containers may come at the same time",
        check: at_once,
    },
    Rule {
        id: "several-for-one-at-once",
        level: Should,
        source: "containerd",
        says: "ADDs of several networks for one container may come at the same time",
        check: for_one_at_once,
    },
    Rule {
        id: "several-at-once-full",
        level: Should,
        source: "Section 3, parallel operations",
        says: "Of several that want the last address at the same time one has it",
        check: at_once_full,
    },
];

fn addresses(bench: &Bench) -> Checked {
    let config = bench.network();
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let address = bench.attached(&config)?.0.address("eth0")?;
        ensure!(seen.insert(address), "{address} is given twice");
    }
    Ok(())
}

/// A container that is on the network twice, with both results.
fn twice(bench: &Bench, config: &Value) -> Checked<(Container, Value)> {
    let (container, _) = bench.attached(config)?;
    let second = bench.add(&container, "eth1", config).map_err(|flaw| flaw.of("eth1"))?;
    Ok((container, second))
}

fn interfaces(bench: &Bench) -> Checked {
    let (container, _) = twice(bench, &bench.network())?;
    let (one, other) = (container.address("eth0")?, container.address("eth1")?);
    ensure!(one != other, "eth0 and eth1 have the same address {one}");
    Ok(())
}

fn interfaces_del(bench: &Bench) -> Checked {
    let config = bench.network();
    let (neighbour, _) = bench.attached(&config)?;
    let (container, second) = twice(bench, &config)?;
    bench.del(&container, "eth1", &with(&config, "prevResult", second))?;
    container.lacks("eth1")?;
    container.pings(neighbour.address("eth0")?)?;
    if config["ipMasq"] == true {
        container.pings(NEIGHBOUR).map_err(|flaw| flaw.of("its masquerading went with eth1"))?;
    }
    Ok(())
}

fn networks(bench: &Bench) -> Checked {
    let (config, other) = (bench.network(), bench.other_network());
    let (neighbour, _) = bench.attached(&config)?;
    let (container, _) = bench.attached(&config)?;
    let result = bench.add(&container, "eth1", &other).map_err(|flaw| flaw.of("eth1"))?;
    bench.del(&container, "eth1", &with(&other, "prevResult", result))?;
    container.lacks("eth1")?;
    container.pings(neighbour.address("eth0")?)?;
    if config["ipMasq"] == true {
        container.pings(NEIGHBOUR)?;
    }
    Ok(())
}

/// Does something with many at the same time; gives what came of each.
fn together<T: Sync, R: Send>(many: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let acting: Vec<_> = many.iter().map(|one| scope.spawn(|| act(one))).collect();
        acting.into_iter().map(|one| one.join().expect("a check does not panic")).collect()
    })
}

fn at_once(bench: &Bench) -> Checked {
    let config = bench.network();
    let crowd = (0..CROWD).map(|_| bench.container()).collect::<Checked<Vec<_>>>()?;
    let results = together(&crowd, |one| bench.add(one, "eth0", &config));
    let results = results.into_iter().collect::<Checked<Vec<_>>>()?;
    let mut seen = BTreeSet::new();
    for container in &crowd {
        let address = container.address("eth0")?;
        ensure!(seen.insert(address), "{address} is given twice");
    }
    crowd[0].pings(crowd[CROWD - 1].address("eth0")?)?;
    // Half of them go while as many come.
    let others = (0..CROWD / 2).map(|_| bench.container()).collect::<Checked<Vec<_>>>()?;
    let going = crowd.iter().zip(&results).take(CROWD / 2).map(|(one, result)| (one, Some(result)));
    let moving: Vec<_> = going.chain(others.iter().map(|one| (one, None))).collect();
    let moved = together(&moving, |(one, result)| match result {
        Some(result) => bench.del(one, "eth0", &with(&config, "prevResult", result)),
        None => bench.add(one, "eth0", &config).map(drop),
    });
    moved.into_iter().collect::<Checked>()?;
    crowd[CROWD - 1].pings(others[0].address("eth0")?)
}

fn for_one_at_once(bench: &Bench) -> Checked {
    let container = bench.container()?;
    let wanted = [("eth0", bench.network()), ("eth1", bench.other_network())];
    let added = together(&wanted, |(ifname, config)| bench.add(&container, ifname, config));
    added.into_iter().try_for_each(|result| result.map(drop))?;
    let (one, other) = (container.address("eth0")?, container.address("eth1")?);
    ensure!(one != other, "eth0 and eth1 have the same address {one}");
    Ok(())
}

fn at_once_full(bench: &Bench) -> Checked {
    let config = bench.network_of_one();
    let crowd = (0..4).map(|_| bench.container()).collect::<Checked<Vec<_>>>()?;
    let replies = together(&crowd, |one| bench.try_add(one, "eth0", &config));
    let replies = replies.into_iter().collect::<Checked<Vec<_>>>()?;
    let served = replies.iter().filter(|reply| reply.succeeded()).count();
    ensure!(served == 1, "{served} of {} have the one address", crowd.len());
    let mut unserved = replies.iter().filter(|reply| !reply.succeeded());
    unserved.try_for_each(|reply| reply.failure("ADD to a full network").map(drop))?;
    let winner = crowd.iter().zip(&replies).find(|(_, reply)| reply.succeeded());
    let (winner, _) = winner.ok_or_else(|| Flaw::Broken("none has it".to_owned()))?;
    winner.address("eth0").map(drop)
}
