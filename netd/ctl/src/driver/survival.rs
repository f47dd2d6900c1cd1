//! Rules about what goes on without the driver, and what it does when it comes back.

use serde_json::Value;

use super::{
    Rule, Verdict,
    endpoints::{is_there, must, reach_each_other},
    networks::{has_gateway, left},
    sandbox::{Sandbox, eventually},
    stage::{Placed, Stage},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "end",
        says: "it ends when its standard input does, and leaves the kernel as it is",
        holds: |stage| {
            let two = Two::placed(stage)?;
            let status = stage.session.end()?;
            must(status.success(), &format!("it ends with {status}"))?;
            two.are_there(stage)
        },
    },
    Rule {
        name: "death",
        says: "what it made goes on when it is killed",
        holds: |stage| {
            let two = Two::placed(stage)?;
            stage.session.kill();
            two.are_there(stage)
        },
    },
    Rule {
        name: "sync-finds-all",
        says: "a sync after a death finds everything right, and changes nothing",
        holds: |stage| {
            let two = Two::placed(stage)?;
            let before = stage.links()?;
            stage.settle()?;
            stage.session.kill();
            stage.start_again()?;
            let synced = stage.sync(&[stage.network()], &two.endpoints())?;
            must(synced.repaired.is_empty(), &format!("it repaired {:?}", synced.repaired))?;
            must(synced.missing.is_empty(), &format!("it misses {:?}", synced.missing))?;
            two.are_there(stage)?;
            let now = stage.links()?;
            must(before == now, &format!("the host's links are {now:?}, and were {before:?}"))?;
            stage.detach(&two.first.endpoint)?;
            stage.detach(&two.second.endpoint)?;
            stage.down()
        },
    },
    Rule {
        name: "sync-makes-networks",
        says: "a sync makes a network that is not there",
        holds: |stage| {
            let synced = stage.sync(&[stage.network()], &[])?;
            must(synced.missing.is_empty(), &format!("it misses {:?}", synced.missing))?;
            if stage.info().capabilities.gateway {
                has_gateway(stage, true)?;
            }
            let sandbox = stage.sandbox()?;
            let placed = stage.place(2, &sandbox)?;
            is_there(&placed, &sandbox)
        },
    },
    Rule {
        name: "sync-repairs",
        says: "a sync puts back what somebody took away from the host, and says so",
        holds: sync_repairs,
    },
    Rule {
        name: "sync-takes-away",
        says: "a sync takes away what is not named, and only that",
        holds: |stage| {
            stage.needs_addresses()?;
            let two = Two::placed(stage)?;
            stage.session.kill();
            stage.start_again()?;
            let synced = stage.sync(&[stage.network()], &[&two.first.endpoint])?;
            must(synced.missing.is_empty(), &format!("it misses {:?}", synced.missing))?;
            eventually("the interface that was not named is there", || {
                Ok(!two.other.links()?.contains_key("eth0"))
            })?;
            is_there(&two.first, &two.one)?;
            let third = stage.place(3, &two.other)?;
            is_there(&third, &two.other)?;
            reach_each_other(&two.one, &two.other)
        },
    },
    Rule {
        name: "sync-takes-all-away",
        says: "a sync of nothing leaves nothing, but what is not netd's",
        holds: |stage| {
            let before = stage.links()?;
            let two = Two::placed(stage)?;
            stage.session.kill();
            stage.start_again()?;
            stage.sync(&[], &[])?;
            left(stage, &before)?;
            if !stage.info().capabilities.addresses {
                return Ok(());
            }
            eventually("an interface is still there", || {
                Ok(!two.one.links()?.contains_key("eth0")
                    && !two.other.links()?.contains_key("eth0"))
            })?;
            Ok(())
        },
    },
    Rule {
        name: "sync-misses",
        says: "a sync names the endpoints whose interface or namespace is gone",
        holds: sync_misses,
    },
];

/// Two containers on the network.
struct Two {
    one: Sandbox,
    other: Sandbox,
    first: Placed,
    second: Placed,
}

impl Two {
    fn placed(stage: &mut Stage) -> Verdict<Self> {
        stage.up()?;
        let (one, other) = (stage.sandbox()?, stage.sandbox()?);
        let (first, second) = (stage.place(2, &one)?, stage.place(3, &other)?);
        Ok(Self { one, other, first, second })
    }

    fn endpoints(&self) -> [&Value; 2] {
        [&self.first.endpoint, &self.second.endpoint]
    }

    fn are_there(&self, stage: &Stage) -> Verdict {
        is_there(&self.first, &self.one)?;
        is_there(&self.second, &self.other)?;
        match stage.info().capabilities.addresses {
            true => reach_each_other(&self.one, &self.other),
            false => Ok(()),
        }
    }
}

fn sync_repairs(stage: &mut Stage) -> Verdict {
    stage.needs_gateway()?;
    let two = Two::placed(stage)?;
    let gateway = Stage::gateway();
    let has = |link: &super::sandbox::Seen| link.addresses.iter().any(|(ip, _)| *ip == gateway);
    let links = stage.home.links()?;
    let link = links.values().find(|link| has(link)).ok_or("no link has the gateway's address")?;
    stage.home.delete(link.index)?;
    let synced = stage.sync(&[stage.network()], &two.endpoints())?;
    must(!synced.repaired.is_empty(), "it says of nothing that it was repaired")?;
    must(synced.missing.is_empty(), &format!("it misses {:?}", synced.missing))?;
    has_gateway(stage, true)?;
    two.are_there(stage)?;
    must(two.one.reaches(&stage.home, gateway)?, "it does not reach the gateway any more")?;
    let again = stage.sync(&[stage.network()], &two.endpoints())?;
    must(again.repaired.is_empty(), &format!("it repairs again: {:?}", again.repaired))
}

fn sync_misses(stage: &mut Stage) -> Verdict {
    stage.needs_sandboxes()?;
    let two = Two::placed(stage)?;
    let (network, second) = (stage.network(), two.second.endpoint.clone());
    // Its end is the kernel's to make, in its own time.
    drop(two.other);
    let endpoints = [&two.first.endpoint, &second];
    let mut seen = Vec::new();
    let outcome = eventually("the one in a namespace that is gone is not missing", || {
        let synced = stage.sync(std::slice::from_ref(&network), &endpoints);
        seen = synced.map_err(|_| "driver.sync is refused".to_owned())?.missing;
        Ok(seen.iter().map(cnm::EndpointId::as_str).eq(second["id"].as_str()))
    });
    outcome.map_err(|reason| format!("{reason}: it misses {seen:?}"))?;
    if !stage.info().capabilities.addresses {
        return Ok(());
    }
    let name = two.first.endpoint["ifname"].as_str().unwrap_or_default();
    let link = two.one.links()?.remove(name).ok_or("the other's interface is gone as well")?;
    two.one.delete(link.index)?;
    let missing = stage.sync(std::slice::from_ref(&network), &[&two.first.endpoint])?.missing;
    must(missing.len() == 1, "an interface that is gone is not missing")
}
