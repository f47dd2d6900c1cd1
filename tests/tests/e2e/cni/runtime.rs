//! A runtime of the Container Network Interface, as libcni is one: plugins executed one after the
//! other, each with what the one before gave.

use std::{io::Write as _, path::Path, process::Stdio};

use netd_tests::{Container, Executed, Host};
use serde_json::{Value, json};

/// Where Debian keeps the reference's plugins.
pub(crate) const REFERENCE: &str = "/usr/lib/cni";

/// One attachment of a runtime.
#[derive(Clone, Debug)]
pub(crate) struct Attachment<'a> {
    /// Where it happens.
    pub(crate) host: &'a Host,
    /// Where the plugins are: `CNI_PATH`.
    pub(crate) path: String,
    /// `CNI_CONTAINERID`.
    pub(crate) id: String,
    /// `CNI_NETNS`.
    pub(crate) netns: String,
    /// `CNI_IFNAME`.
    pub(crate) ifname: String,
    /// `CNI_ARGS`.
    pub(crate) args: String,
}

/// A configuration of one plugin, of which only what is worth telling is said.
pub(crate) fn config(version: &str, name: &str, more: Value) -> Value {
    let mut config = json!({"cniVersion": version, "name": name, "type": "netd-bridge"});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// The `ipam` block of one subnet.
pub(crate) fn host_local(subnet: &str) -> Value {
    json!({"ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }})
}

impl<'a> Attachment<'a> {
    pub(crate) fn new(host: &'a Host, programs: &Path, container: &Container) -> Self {
        Self {
            host,
            path: format!("{}:{REFERENCE}", programs.display()),
            id: container.id.clone(),
            netns: container.netns.path(),
            ifname: "eth0".into(),
            args: String::new(),
        }
    }

    /// The same under another name.
    pub(crate) fn named(&self, ifname: &str) -> Self {
        Self { ifname: ifname.into(), ..self.clone() }
    }

    /// Executes a plugin.
    #[track_caller]
    pub(crate) fn execute(&self, verb: &str, kind: &str, config: &Value) -> Executed {
        let mut command = self.command(verb, kind);
        let mut child = command.spawn().expect("util-linux is there");
        let mut stdin = child.stdin.take().expect("it is piped");
        // One that dies does not read to the end.
        drop(stdin.write_all(config.to_string().as_bytes()));
        drop(stdin);
        child.wait_with_output().expect("it is this test's process").into()
    }

    /// A plugin, not yet run.
    #[track_caller]
    pub(crate) fn command(&self, verb: &str, kind: &str) -> std::process::Command {
        let mut places = self.path.split(':').map(|place| Path::new(place).join(kind));
        let program = places.find(|program| program.is_file());
        let program = program.unwrap_or_else(|| panic!("{kind} is not in {}", self.path));
        let mut command = self.host.netns.command([program.display().to_string()]);
        command.env("NETD_SOCKET", self.host.socket()).env("NETD_FAULTS", self.host.faults());
        command.env("CNI_COMMAND", verb).env("CNI_PATH", &self.path);
        command.env("CNI_CONTAINERID", &self.id).env("CNI_NETNS", &self.netns);
        command.env("CNI_IFNAME", &self.ifname).env("CNI_ARGS", &self.args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Does a verb of one plugin, which its configuration names, and gives what it printed.
    #[track_caller]
    pub(crate) fn run(&self, verb: &str, config: &Value) -> Value {
        let executed = self.execute(verb, config["type"].as_str().unwrap(), config);
        let printed = executed.success().trim();
        if printed.is_empty() { Value::Null } else { serde_json::from_str(printed).unwrap() }
    }

    /// As [`Attachment::run`] of one that is refused: its code and its message.
    #[track_caller]
    pub(crate) fn refused(&self, verb: &str, config: &Value) -> (u64, String) {
        let executed = self.execute(verb, config["type"].as_str().unwrap(), config);
        refusal(&executed)
    }

    /// ADD of a list, as libcni does it. Gives the last result.
    #[track_caller]
    pub(crate) fn add_list(&self, list: &Value) -> Value {
        let mut previous = Value::Null;
        for plugin in list["plugins"].as_array().unwrap() {
            previous = self.run("ADD", &member(list, plugin, &previous));
        }
        previous
    }

    /// CHECK of a list, but for the reference's portmap, which looks for chains of IPv6 that it has
    /// not made where there is none.
    #[track_caller]
    pub(crate) fn check_list(&self, list: &Value, result: &Value) {
        let plugins = list["plugins"].as_array().unwrap().iter();
        for plugin in plugins.filter(|plugin| plugin["type"] != "portmap") {
            self.run("CHECK", &member(list, plugin, result));
        }
    }

    /// DEL of a list: in reverse.
    #[track_caller]
    pub(crate) fn del_list(&self, list: &Value, result: &Value) {
        for plugin in list["plugins"].as_array().unwrap().iter().rev() {
            self.run("DEL", &member(list, plugin, result));
        }
    }
}

/// What a plugin refused with.
#[track_caller]
pub(crate) fn refusal(executed: &Executed) -> (u64, String) {
    assert_eq!(executed.code, 1, "{executed:?}");
    let said: Value = serde_json::from_str(&executed.stdout)
        .unwrap_or_else(|error| panic!("{error}: {executed:?}"));
    assert!(said["cniVersion"].is_string(), "{said}");
    (said["code"].as_u64().unwrap(), said["msg"].as_str().unwrap().to_owned())
}

/// What a runtime makes of a member of a list.
fn member(list: &Value, plugin: &Value, previous: &Value) -> Value {
    let mut config = plugin.clone();
    config["cniVersion"] = list["cniVersion"].clone();
    config["name"] = list["name"].clone();
    if !previous.is_null() {
        config["prevResult"] = previous.clone();
    }
    config
}
