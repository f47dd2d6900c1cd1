//! Rules about the form of requests and answers, whatever they are about.

use cnm::{Call as _, Kind, driver::GetInfo};
use serde_json::{Value, json};

use super::{Rule, Verdict, Why, session::outcome, stage::Stage};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "info",
        says: "driver.info names the driver, its version and the protocol's version 1",
        holds: info,
    },
    Rule {
        name: "not-json",
        says: "a line that is no JSON is answered with -32700 and no id, and the next is read",
        holds: |stage| bad_line(stage, "{\"jsonrpc\":", -32700),
    },
    Rule {
        name: "not-a-request",
        says: "JSON that is no request is answered with -32600 and no id, and the next is read",
        holds: |stage| bad_line(stage, "{\"method\":7}", -32600),
    },
    Rule {
        name: "empty-batch",
        says: "a batch of nothing is answered with -32600",
        holds: |stage| bad_line(stage, "[]", -32600),
    },
    Rule {
        name: "unknown-method",
        says: "a method that there is not is unsupported",
        holds: |stage| stage.refused("driver.juggle", &json!({}), &[Kind::Unsupported]),
    },
    Rule {
        name: "wrong-type",
        says: "parameters of the wrong type are invalid",
        holds: |stage| {
            stage.refused("driver.network_up", &json!({ "network": 7 }), &[Kind::Invalid])?;
            stage.refused("driver.sync", &json!([]), &[Kind::Invalid])
        },
    },
    Rule {
        name: "missing-parameter",
        says: "parameters that are left out are invalid",
        holds: |stage| {
            let params = json!({ "network": stage.network() });
            stage.refused("driver.attach", &params, &[Kind::Invalid])
        },
    },
    Rule {
        name: "unknown-field",
        says: "fields that it does not know are passed over",
        holds: |stage| {
            let mut network = stage.network();
            network["colour"] = json!("blue");
            let params = json!({ "network": network, "weather": { "wind": [1, 2] } });
            stage.ask::<Value>("driver.network_up", &params).map(drop)
        },
    },
    Rule {
        name: "ids",
        says: "an answer has its request's id, be it a number or a text",
        holds: ids,
    },
    Rule {
        name: "empty-lines",
        says: "empty lines are passed over, and a line may end with CR LF",
        holds: |stage| {
            stage.session.say("\n  \n")?;
            info_of(&stage.session.exchange(&format!("{}\r", request(&json!(3))))?)
        },
    },
    Rule {
        name: "notification",
        says: "a request without an id is not answered",
        holds: |stage| {
            stage.session.say(r#"{"jsonrpc":"2.0","method":"driver.info"}"#)?;
            stage.session.say(r#"{"jsonrpc":"2.0","method":"driver.juggle"}"#)?;
            stage.session.is_silent()?;
            info_of(&stage.session.exchange(&request(&json!(1)))?)
        },
    },
    Rule {
        name: "batch",
        says: "a batch is answered with one line: the answers in the order of the requests",
        holds: batch,
    },
];

fn request(id: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": GetInfo::METHOD }).to_string()
}

fn info_of(reply: &Value) -> Verdict {
    match outcome(reply)? {
        Ok(info) if info["name"].is_string() => Ok(()),
        Ok(other) => Err(format!("driver.info gives {other}").into()),
        Err(error) => Err(format!("driver.info is refused: {error}").into()),
    }
}

fn info(stage: &mut Stage) -> Verdict {
    let info = stage.info();
    if !info.protocols.contains(&cnm::PROTOCOL) {
        return Err(format!("it speaks the versions {:?}", info.protocols).into());
    }
    let named = |text: &str| !text.is_empty() && text.trim() == text;
    if named(&info.name) && named(&info.version) {
        return Ok(());
    }
    Err(format!("its name is {:?} and its version {:?}", info.name, info.version).into())
}

fn bad_line(stage: &mut Stage, line: &str, code: i32) -> Verdict {
    let reply = stage.session.exchange(line)?;
    match outcome(&reply)? {
        Err(error) if error.code == code && reply["id"].is_null() => {}
        _ => return Err(format!("{line} is answered with {reply}").into()),
    }
    info_of(&stage.session.exchange(&request(&json!(2)))?)
}

fn ids(stage: &mut Stage) -> Verdict {
    for id in [json!(0), json!(18_446_744_073_709_551_615_u64), json!("seven"), json!("")] {
        let reply = stage.session.exchange(&request(&id))?;
        if reply["id"] != id {
            return Err(format!("the request {id} is answered as {}", reply["id"]).into());
        }
        info_of(&reply)?;
    }
    Ok(())
}

fn batch(stage: &mut Stage) -> Verdict {
    let silent = r#"{"jsonrpc":"2.0","method":"driver.info"}"#;
    let unknown = r#"{"jsonrpc":"2.0","id":"b","method":"driver.juggle"}"#;
    let line = format!("[{},{silent},{unknown},7,{}]", request(&json!(1)), request(&json!(3)));
    let reply = stage.session.exchange(&line)?;
    let ids: Vec<_> = reply.as_array().into_iter().flatten().map(|reply| &reply["id"]).collect();
    if ids != [&json!(1), &json!("b"), &json!(null), &json!(3)] {
        return Err(format!("{line} is answered with {reply}").into());
    }
    info_of(&reply[0])?;
    info_of(&reply[3])?;
    match (outcome(&reply[1])?, outcome(&reply[2])?) {
        (Err(first), Err(second)) if (first.kind, second.code) == (Kind::Unsupported, -32600) => {}
        _ => return Err(Why::Broken(format!("{line} is answered with {reply}"))),
    }
    stage.session.say(&format!("[{silent},{silent}]"))?;
    stage.session.is_silent()?;
    Ok(())
}
