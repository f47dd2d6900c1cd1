//! Rules about networks: their part of the host comes and goes whole.

use cnm::{
    Call as _,
    driver::{NetworkDown, PlanEndpoint},
};
use serde_json::{Value, json};

use super::{Rule, Verdict, sandbox::eventually, stage::Stage};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "network-up",
        says: "a network can be brought up, and again when it is up",
        holds: |stage| {
            let first = stage.up()?;
            let links = stage.links()?;
            let second = stage.up()?;
            if first.mtu != second.mtu {
                return Err(format!("the MTU is {:?} and then {:?}", first.mtu, second.mtu).into());
            }
            same(&links, &stage.links()?, "bringing it up again")
        },
    },
    Rule {
        name: "network-gateway",
        says: "the gateway's address is on the host while the network is up",
        holds: |stage| {
            stage.needs_gateway()?;
            stage.up()?;
            has_gateway(stage, true)?;
            stage.down()?;
            has_gateway(stage, false)
        },
    },
    Rule {
        name: "network-down",
        says: "taking a network down leaves nothing, and again when it is down",
        holds: |stage| {
            let before = stage.links()?;
            stage.up()?;
            for _ in 0..2 {
                stage.down()?;
                left(stage, &before)?;
            }
            Ok(())
        },
    },
    Rule {
        name: "network-down-unknown",
        says: "taking a network down that never was succeeds and makes nothing",
        holds: |stage| {
            let before = stage.links()?;
            let mut network = stage.network();
            network["id"] = json!("d0".repeat(32));
            network["name"] = json!("nobodys");
            network["link"] = Value::Null;
            stage.ask::<Value>(NetworkDown::METHOD, &json!({ "network": network }))?;
            same(&before, &stage.links()?, "taking it down")
        },
    },
    Rule {
        name: "plan",
        says: "driver.plan tells steps and changes nothing",
        holds: |stage| {
            stage.up()?;
            let before = stage.links()?;
            let about = stage.about(&stage.endpoint(2));
            let plan: cnm::driver::Plan = stage.ask(PlanEndpoint::METHOD, &about)?;
            if plan.steps.is_empty() && stage.info().capabilities.addresses {
                return Err("there are no steps to an endpoint with an interface"
                    .to_owned()
                    .into());
            }
            same(&before, &stage.links()?, "telling the plan")
        },
    },
];

/// Whether the host has the gateway's address.
pub(crate) fn has_gateway(stage: &Stage, wanted: bool) -> Verdict {
    let gateway = Stage::gateway();
    let there = |link: &super::sandbox::Seen| link.addresses.iter().any(|(ip, _)| *ip == gateway);
    let has = stage.home.links()?.values().any(there);
    match (wanted, has) {
        (true, false) => Err(format!("no link of the host has {gateway}").into()),
        (false, true) => Err(format!("a link of the host still has {gateway}").into()),
        _ => Ok(()),
    }
}

/// Whether the host has the links that it had. What was taken away may go a little later.
pub(crate) fn left(stage: &Stage, before: &[String]) -> Verdict {
    let mut now = Vec::new();
    let outcome = eventually("the host's links are others than before", || {
        now = stage.home.links()?.into_keys().collect();
        Ok(now == before)
    });
    outcome.map_err(|reason| format!("{reason}: {now:?} and not {before:?}").into())
}

fn same(before: &[String], now: &[String], what: &str) -> Verdict {
    if before == now {
        return Ok(());
    }
    Err(format!("{what} changes the host's links from {before:?} to {now:?}").into())
}
