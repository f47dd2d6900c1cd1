//! How a plugin treats the IPAM plugin that its configuration names. The rules bring one of their
//! own, which writes down what it is asked.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, OWN_PLUGINS, with},
    container::Container,
    plugin::Failure,
    rule::{Checked, Flaw, Level::*, Rule, ensure},
};

/// An IPAM plugin that notes each execution and answers ADD with a file.
const SCRIPT: &str = r#"#!/bin/sh
here=${0%/*}
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME" >>"$here/asked"
cat >"$here/input.$CNI_COMMAND"
[ ! -e "$here/fails.$CNI_COMMAND" ] || { cat "$here/fails.$CNI_COMMAND"; exit 1; }
[ "$CNI_COMMAND" != ADD ] || cat "$here/answer"
"#;

/// What it is called.
const NAME: &str = "conformance-ipam";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ipam-asked",
        level: Must,
        source: "Section 4",
        says: "ADD executes the IPAM plugin from CNI_PATH with the same variables and the whole \
               configuration",
        check: asked,
    },
    Rule {
        id: "ipam-answer",
        level: Must,
        source: "Section 4",
        says: "The address and routes that the IPAM plugin gives are the container's",
        check: answer,
    },
    Rule {
        id: "ipam-del",
        level: Must,
        source: "Section 4",
        says: "DEL is passed on to the IPAM plugin",
        check: |bench| passed_on(bench, "DEL", "0.1.0"),
    },
    Rule {
        id: "ipam-del-without-namespace",
        level: Must,
        source: "Section 4; nerdctl, Podman",
        says: "DEL without a namespace is passed on to the IPAM plugin",
        check: del_without_namespace,
    },
    Rule {
        id: "ipam-check",
        level: Must,
        source: "Section 4",
        says: "CHECK is passed on to the IPAM plugin",
        check: |bench| passed_on(bench, "CHECK", "0.4.0"),
    },
    Rule {
        id: "ipam-route-without-gateway",
        level: Should,
        source: "Success, routes",
        says: "A route of the IPAM plugin without gw goes by the gateway of the address, and CHECK \
               takes it",
        check: route_without_gateway,
    },
    Rule {
        id: "ipam-gc",
        level: Must,
        source: "Section 4",
        says: "GC is passed on to the IPAM plugin",
        check: |bench| passed_on(bench, "GC", "1.1.0"),
    },
    Rule {
        id: "ipam-status",
        level: Must,
        source: "Section 4",
        says: "STATUS is passed on to the IPAM plugin",
        check: |bench| passed_on(bench, "STATUS", "1.1.0"),
    },
    Rule {
        id: "ipam-add-fails",
        level: Must,
        source: "Section 4",
        says: "ADD fails when the IPAM plugin does",
        check: |bench| add_fails(bench).map(drop),
    },
    Rule {
        id: "ipam-add-fails-says-why",
        level: Should,
        source: "Section 4",
        says: "The error of an ADD that failed with its IPAM plugin says what that said",
        check: |bench| {
            let (_, failure) = add_fails(bench)?;
            let said = failure.text.contains("as it was told");
            ensure!(said, "the error says only: {}", failure.text);
            Ok(())
        },
    },
    Rule {
        id: "ipam-add-fails-leaves-nothing",
        level: Should,
        source: "Section 3, runtimes retry",
        says: "ADD leaves no interface when the IPAM plugin fails",
        check: |bench| add_fails(bench)?.0.lacks("eth0"),
    },
    Rule {
        id: "ipam-undone",
        level: Must,
        source: "Section 4",
        says: "An ADD that fails after its IPAM plugin succeeded executes the DEL of that",
        check: undone,
    },
    Rule {
        id: "ipam-garbage",
        level: Must,
        source: "Section 4",
        says: "ADD fails when the IPAM plugin prints something that is no result",
        check: garbage,
    },
    Rule {
        id: "ipam-check-fails",
        level: Must,
        source: "Section 4",
        says: "CHECK fails when that of the IPAM plugin does",
        check: check_fails,
    },
];

/// The IPAM plugin, with what it answers to ADD.
struct Ipam;

impl Ipam {
    fn new(answer: &str) -> Checked<Self> {
        let install = || -> io::Result<()> {
            fs::create_dir_all(OWN_PLUGINS)?;
            let script = Path::new(OWN_PLUGINS).join(NAME);
            fs::write(&script, SCRIPT)?;
            fs::set_permissions(&script, Permissions::from_mode(0o755))
        };
        install().map_err(unwritten)?;
        let ipam = Self;
        ipam.write("answer", answer)?;
        Ok(ipam)
    }

    /// One that gives an address, with routes.
    fn giving(version: &str, routes: &Value) -> Checked<Self> {
        let mut ip = json!({ "address": "10.83.0.99/24", "gateway": "10.83.0.1" });
        if version < "1.0.0" {
            ip["version"] = json!("4");
        }
        let answer = json!({ "cniVersion": version, "ips": [ip], "routes": routes, "dns": {} });
        Self::new(&answer.to_string())
    }

    /// Has it fail at a command.
    fn fails(&self, command: &str) -> Checked {
        let error = json!({ "cniVersion": "0.4.0", "code": 117, "msg": "as it was told" });
        self.write(&format!("fails.{command}"), &error.to_string())
    }

    fn write(&self, file: &str, text: &str) -> Checked {
        fs::write(Path::new(OWN_PLUGINS).join(file), text).map_err(unwritten)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(Path::new(OWN_PLUGINS).join(file)).unwrap_or_default()
    }

    /// How often it was executed with a command.
    fn count(&self, command: &str) -> usize {
        self.read("asked").lines().filter(|line| line.starts_with(command)).count()
    }

    /// That it was executed with a command, and the line it wrote then.
    fn asked(&self, command: &str) -> Checked<String> {
        let asked = self.read("asked");
        let line = asked.lines().find(|line| line.starts_with(command)).map(str::to_owned);
        line.ok_or_else(|| Flaw::Broken(format!("the IPAM plugin is not executed with {command}")))
    }
}

fn unwritten(error: io::Error) -> Flaw {
    Flaw::Broken(format!("cannot write to {OWN_PLUGINS}: {error}"))
}

/// The configuration with that IPAM plugin, in the newest version that has results as it gives.
fn network(bench: &Bench) -> Checked<Value> {
    if bench.network()["ipam"].is_null() {
        return Err(Flaw::NotOffered("the configuration has no ipam".to_owned()));
    }
    let config = bench.since("0.3.0")?;
    Ok(with(&config, "ipam", json!({ "type": NAME, "unheardOf": 1 })))
}

fn give(bench: &Bench) -> Checked<(Value, Ipam)> {
    let config = network(bench)?;
    let routes = json!([{ "dst": "198.51.100.0/24", "gw": "10.83.0.1" }]);
    Ok((config, Ipam::giving(bench.newest(), &routes)?))
}

fn asked(bench: &Bench) -> Checked {
    let (config, ipam) = give(bench)?;
    let (container, _) = bench.attached(&config)?;
    let wanted = format!("ADD {} {} eth0", container.id, container.netns.display());
    let line = ipam.asked("ADD")?;
    ensure!(line == wanted, "the IPAM plugin is executed with {line:?} instead of {wanted:?}");
    let input: Value = serde_json::from_str(&ipam.read("input.ADD")).unwrap_or_default();
    for key in ["cniVersion", "name", "ipam"] {
        ensure!(input[key] == config[key], "the IPAM plugin gets {key} {}: {input}", input[key]);
    }
    ensure!(
        input["bridge"] == config["bridge"],
        "it does not get the whole configuration: {input}"
    );
    Ok(())
}

fn answer(bench: &Bench) -> Checked {
    let (config, _ipam) = give(bench)?;
    let (container, result) = bench.attached(&config)?;
    let found = container.addresses("eth0")?;
    ensure!(found == ["10.83.0.99/24"], "the container has {found:?} instead of 10.83.0.99/24");
    let told = &result["ips"][0]["address"];
    ensure!(told == "10.83.0.99/24", "the result tells {told}");
    let routed = container.routes()?.iter().any(|route| route["dst"] == "198.51.100.0/24");
    ensure!(routed, "the container has no route to 198.51.100.0/24");
    Ok(())
}

fn passed_on(bench: &Bench, command: &str, since: &str) -> Checked {
    bench.since(since)?;
    let (config, ipam) = give(bench)?;
    let (container, result) = bench.attached(&config)?;
    let call = match command {
        "GC" => bench.call_for_all(command, &with(&config, "cni.dev/valid-attachments", json!([]))),
        "STATUS" => bench.call_for_all(command, &config),
        _ => bench.call_for(command, &container, "eth0", &with(&config, "prevResult", result)),
    };
    call.run()?.silence(command)?;
    ipam.asked(command).map(drop)
}

fn del_without_namespace(bench: &Bench) -> Checked {
    let (config, ipam) = give(bench)?;
    let (container, _) = bench.attached(&config)?;
    let call = bench.call_for("DEL", &container, "eth0", &config).set("CNI_NETNS", "");
    call.run()?.silence("DEL")?;
    let line = ipam.asked("DEL")?;
    ensure!(line.contains(&container.id), "it is not told the container: {line:?}");
    Ok(())
}

fn add_fails(bench: &Bench) -> Checked<(Container, Failure)> {
    let (config, ipam) = give(bench)?;
    ipam.fails("ADD")?;
    let container = bench.container()?;
    let failure = bench.try_add(&container, "eth0", &config)?.failure("ADD")?;
    Ok((container, failure))
}

fn undone(bench: &Bench) -> Checked {
    let config = network(bench)?;
    // Nobody has this gateway, and there is no way to it.
    let routes = json!([{ "dst": "203.0.113.0/24", "gw": "198.51.100.1" }]);
    let ipam = Ipam::giving(bench.newest(), &routes)?;
    let reply = bench.try_add(&bench.container()?, "eth0", &config)?;
    reply.failure("ADD with a route that cannot be")?;
    let (added, deleted) = (ipam.count("ADD"), ipam.count("DEL"));
    ensure!(added <= deleted, "the IPAM plugin gets {added} ADD and {deleted} DEL");
    Ok(())
}

fn garbage(bench: &Bench) -> Checked {
    let config = network(bench)?;
    for answer in ["", "junk", "{\"cniVersion\": \"9.9.9\"}"] {
        let _ipam = Ipam::new(answer)?;
        let reply = bench.try_add(&bench.container()?, "eth0", &config)?;
        reply.failure(&format!("ADD whose IPAM plugin prints {answer:?}"))?;
    }
    Ok(())
}

fn route_without_gateway(bench: &Bench) -> Checked {
    bench.since("0.4.0")?;
    let config = network(bench)?;
    let _ipam = Ipam::giving(bench.newest(), &json!([{ "dst": "198.51.100.0/24" }]))?;
    let (container, result) = bench.attached(&config)?;
    let routed = container
        .routes()?
        .iter()
        .any(|route| route["dst"] == "198.51.100.0/24" && route["gateway"] == "10.83.0.1");
    ensure!(routed, "the container has no route to 198.51.100.0/24 by 10.83.0.1");
    bench.try_check(&container, &config, &result)?.silence("CHECK")
}

fn check_fails(bench: &Bench) -> Checked {
    bench.since("0.4.0")?;
    let (config, ipam) = give(bench)?;
    let (container, result) = bench.attached(&config)?;
    ipam.fails("CHECK")?;
    bench.try_check(&container, &config, &result)?.failure("CHECK").map(drop)
}
