//! Rules about endpoints: made whole or not at all, and always taken away.

use std::net::{IpAddr, Ipv4Addr};

use cnm::{
    Call as _, Kind,
    driver::{AttachEndpoint, DetachEndpoint},
};
use serde_json::{Value, json};

use super::{
    Rule, Verdict,
    networks::left,
    sandbox::{Sandbox, Seen, eventually},
    stage::{Placed, Stage},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "attach",
        says: "the interface is in the container as it was asked for, up, and so is lo",
        holds: attach,
    },
    Rule {
        name: "attach-tells-where",
        says: "an attach tells the namespace by cookie and, where it is another's, by id",
        holds: tells_where,
    },
    Rule {
        name: "default-route",
        says: "the container's default route goes through the gateway",
        holds: |stage| {
            stage.needs_gateway()?;
            stage.up()?;
            let sandbox = stage.sandbox()?;
            stage.place(2, &sandbox)?;
            let routes = sandbox.default_routes()?;
            if routes.iter().map(|route| IpAddr::from(*route)).eq([Stage::gateway()]) {
                return Ok(());
            }
            Err(format!("the default routes go through {routes:?}").into())
        },
    },
    Rule {
        name: "attach-alone",
        says: "an endpoint can be made of a network that this session was not told of before",
        holds: |stage| {
            let sandbox = stage.sandbox()?;
            let placed = stage.place(2, &sandbox)?;
            is_there(&placed, &sandbox)
        },
    },
    Rule {
        name: "reaches-the-others",
        says: "containers on one network reach each other",
        holds: |stage| {
            stage.needs_addresses()?;
            let (one, two) = (stage.sandbox()?, stage.sandbox()?);
            stage.up()?;
            stage.place(2, &one)?;
            stage.place(3, &two)?;
            reach_each_other(&one, &two)
        },
    },
    Rule {
        name: "reaches-the-gateway",
        says: "a container and its gateway on the host reach each other",
        holds: |stage| {
            stage.needs_gateway()?;
            stage.up()?;
            let sandbox = stage.sandbox()?;
            stage.place(2, &sandbox)?;
            must(sandbox.reaches(&stage.home, Stage::gateway())?, "it does not reach the gateway")?;
            must(stage.home.reaches(&sandbox, Stage::address(2))?, "the host does not reach it")
        },
    },
    Rule {
        name: "attach-again",
        says: "an endpoint that is there is made again or refused as exists, and stays as it is",
        holds: attach_again,
    },
    Rule {
        name: "name-taken",
        says: "an interface name that the container has already is refused as exists",
        holds: name_taken,
    },
    Rule {
        name: "netns-missing",
        says: "a namespace that is not there is not_found, and leaves nothing",
        holds: |stage| {
            stage.needs_sandboxes()?;
            refuses_netns(stage, "/proc/self/nothing/ns/net", &[Kind::NotFound])
        },
    },
    Rule {
        name: "netns-wrong",
        says: "a path that leads to no network namespace is invalid, and leaves nothing",
        holds: |stage| {
            refuses_netns(stage, "/proc/self/ns/mnt", &[Kind::Invalid])?;
            refuses_netns(stage, "/dev/null", &[Kind::Invalid])
        },
    },
    Rule {
        name: "netns-host",
        says: "the host's own namespace is for drivers of the host alone, and only that is",
        holds: |stage| {
            let wrong =
                if stage.info().capabilities.host_netns { Sandbox::new() } else { Sandbox::own() };
            let wrong = wrong.map_err(|error| format!("cannot open a namespace: {error}"))?;
            refuses_netns(stage, &wrong.path(), &[Kind::Invalid])
        },
    },
    Rule {
        name: "check",
        says: "driver.check finds nothing wrong with what is right, and an interface that is gone",
        holds: check,
    },
    Rule {
        name: "detach",
        says: "a detach takes the interface away: nothing is reached when the answer comes",
        holds: detach,
    },
    Rule {
        name: "detach-again",
        says: "a detach of what is away already succeeds",
        holds: |stage| {
            stage.up()?;
            let sandbox = stage.sandbox()?;
            let placed = stage.place(2, &sandbox)?;
            stage.detach(&placed.endpoint)?;
            stage.detach(&placed.endpoint)
        },
    },
    Rule {
        name: "detach-unknown",
        says: "a detach of what never was succeeds, known network or not, and makes nothing",
        holds: |stage| {
            let before = stage.links()?;
            let mut endpoint = stage.endpoint(9);
            stage.detach(&endpoint)?;
            left(stage, &before)?;
            stage.up()?;
            stage.detach(&endpoint)?;
            endpoint["netns"] = json!({ "cookie": 9_999_999, "nsid": 9999 });
            stage.detach(&endpoint)
        },
    },
    Rule {
        name: "detach-vanished",
        says: "a detach of what was in a namespace that is gone succeeds and leaves nothing",
        holds: |stage| {
            stage.needs_sandboxes()?;
            stage.up()?;
            let before = stage.links()?;
            let sandbox = stage.sandbox()?;
            let placed = stage.place(2, &sandbox)?;
            drop(sandbox);
            stage.detach(&placed.endpoint)?;
            left(stage, &before)
        },
    },
    Rule {
        name: "attach-after-detach",
        says: "the same container can have the same interface again at once",
        holds: |stage| {
            stage.up()?;
            let sandbox = stage.sandbox()?;
            for number in [2, 3, 2] {
                let placed = stage.place(number, &sandbox)?;
                is_there(&placed, &sandbox)?;
                stage.detach(&placed.endpoint)?;
            }
            Ok(())
        },
    },
    Rule {
        name: "leaves-nothing",
        says: "when its endpoints and networks are away, the host is as it was",
        holds: |stage| {
            let before = stage.links()?;
            let sandbox = stage.sandbox()?;
            stage.up()?;
            let placed = stage.place(2, &sandbox)?;
            stage.detach(&placed.endpoint)?;
            stage.down()?;
            left(stage, &before)
        },
    },
];

/// What should be so, or why not.
pub(crate) fn must(is_so: bool, otherwise: &str) -> Verdict {
    if is_so { Ok(()) } else { Err(otherwise.to_owned().into()) }
}

/// Whether the containers 2 and 3 reach each other.
pub(crate) fn reach_each_other(one: &Sandbox, two: &Sandbox) -> Verdict {
    let (first, second) = (Stage::address(2), Stage::address(3));
    must(one.reaches(two, second)?, "the first container does not reach the second")?;
    must(two.reaches(one, first)?, "the second container does not reach the first")
}

/// The container's interface, where it has one of its own.
fn interface(sandbox: &Sandbox, endpoint: &Value) -> Verdict<Option<Seen>> {
    let name = endpoint["ifname"].as_str().unwrap_or_default();
    Ok(sandbox.links()?.remove(name))
}

/// Whether an endpoint is in its container as it was asked for.
pub(crate) fn is_there(placed: &Placed, sandbox: &Sandbox) -> Verdict {
    let lo = sandbox.links()?.remove("lo");
    must(lo.is_some_and(|lo| lo.up), "lo is not up in the container")?;
    let endpoint = &placed.endpoint;
    let Some(told) = &placed.attached.interface else {
        let wanted = endpoint["addresses"].as_array().is_none_or(Vec::is_empty);
        return must(wanted, "the answer tells of no interface, and addresses were asked for");
    };
    let name = told.name.as_str();
    must(endpoint["ifname"] == name, &format!("the interface is called {name}"))?;
    let Some(seen) = interface(sandbox, endpoint)? else {
        return Err(format!("there is no {name} in the container").into());
    };
    must(seen.up, &format!("{name} is down"))?;
    must(seen.index == told.index, &format!("{name} has the index {}", seen.index))?;
    must(seen.mac == Some(told.mac.0), &format!("{name} has the address {:?}", seen.mac))?;
    if let Some(mtu) = seen.mtu {
        must(mtu == told.mtu, &format!("{name} has the MTU {mtu}, and {} was told", told.mtu))?;
    }
    let mask = |prefix: u8| IpAddr::from(Ipv4Addr::from(!0u32 << (32 - prefix.min(31))));
    for wanted in endpoint["addresses"].as_array().into_iter().flatten() {
        let text = wanted.as_str().unwrap_or_default();
        let Some((ip, _)) = text.split_once('/') else { continue };
        let ip: IpAddr = ip.parse().map_err(|_| format!("{text} is no address"))?;
        let found = seen.addresses.iter().find(|(address, _)| *address == ip);
        let Some((_, given)) = found else {
            return Err(format!("{name} does not have {ip}").into());
        };
        must(*given == Some(mask(24)), &format!("{ip} has the mask {given:?}"))?;
    }
    Ok(())
}

fn attach(stage: &mut Stage) -> Verdict {
    stage.up()?;
    let sandbox = stage.sandbox()?;
    let placed = stage.place(2, &sandbox)?;
    is_there(&placed, &sandbox)
}

fn tells_where(stage: &mut Stage) -> Verdict {
    stage.up()?;
    let host = stage.info().capabilities.host_netns;
    let (one, two) = (stage.sandbox()?, stage.sandbox()?);
    let first = stage.place(2, &one)?.attached.netns;
    let second = stage.place(3, &two)?.attached.netns;
    must(first.cookie != 0 && second.cookie != 0, "the cookie of a namespace is not 0")?;
    if host {
        return must(first == second, "the host's own namespace is told as two");
    }
    must(first.cookie != second.cookie, "two namespaces have one cookie")?;
    must(first.nsid.is_some() && second.nsid.is_some(), "there is no id of the namespace")?;
    must(first.nsid != second.nsid, "two namespaces have one id")
}

fn attach_again(stage: &mut Stage) -> Verdict {
    stage.up()?;
    let sandbox = stage.sandbox()?;
    let placed = stage.place(2, &sandbox)?;
    let params = json!({
        "network": stage.network(), "endpoint": stage.endpoint(2), "netns": sandbox.path(),
    });
    match stage.session.call(AttachEndpoint::METHOD, &params)? {
        Ok(_) => {}
        Err(error) if error.kind == Kind::Exists => {}
        Err(error) => return Err(format!("it is refused as {:?}: {error}", error.kind).into()),
    }
    is_there(&placed, &sandbox)
}

fn name_taken(stage: &mut Stage) -> Verdict {
    stage.needs_addresses()?;
    stage.up()?;
    let sandbox = stage.sandbox()?;
    let before = stage.links()?;
    let placed = stage.place(2, &sandbox)?;
    let params = json!({
        "network": stage.network(), "endpoint": stage.endpoint(3), "netns": sandbox.path(),
    });
    stage.refused(AttachEndpoint::METHOD, &params, &[Kind::Exists])?;
    is_there(&placed, &sandbox)?;
    stage.detach(&placed.endpoint)?;
    left(stage, &before)
}

fn refuses_netns(stage: &mut Stage, netns: &str, kinds: &[Kind]) -> Verdict {
    stage.up()?;
    let before = stage.links()?;
    let params =
        json!({ "network": stage.network(), "endpoint": stage.endpoint(2), "netns": netns });
    stage.refused(AttachEndpoint::METHOD, &params, kinds)?;
    left(stage, &before)
}

fn check(stage: &mut Stage) -> Verdict {
    stage.up()?;
    let sandbox = stage.sandbox()?;
    let placed = stage.place(2, &sandbox)?;
    let differences = stage.check(&placed.endpoint)?;
    must(differences.is_empty(), &format!("it finds {differences:?}"))?;
    stage.needs_addresses()?;
    if let Some(seen) = interface(&sandbox, &placed.endpoint)? {
        sandbox.delete(seen.index)?;
    }
    let differences = stage.check(&placed.endpoint)?;
    must(!differences.is_empty(), "it does not find that the interface is gone")
}

fn detach(stage: &mut Stage) -> Verdict {
    stage.up()?;
    let (one, two) = (stage.sandbox()?, stage.sandbox()?);
    let first = stage.place(2, &one)?;
    let about = stage.about(&first.endpoint);
    if !stage.info().capabilities.addresses {
        return stage.ask::<Value>(DetachEndpoint::METHOD, &about).map(drop);
    }
    stage.place(3, &two)?;
    reach_each_other(&one, &two)?;
    stage.ask::<Value>(DetachEndpoint::METHOD, &about)?;
    must(two.reaches_not(&one, Stage::address(2))?, "it is reached after the answer")?;
    eventually("the interface is still there", || {
        interface(&one, &first.endpoint).map(|seen| seen.is_none()).map_err(|_| String::new())
    })?;
    must(stage.home.links()?.contains_key("lo"), "the host lost its lo")
}
