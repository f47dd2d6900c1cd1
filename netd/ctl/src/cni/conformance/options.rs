//! What the suite is told: the plugin, its configuration, and what it needs around it.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

use clap::Args;
use cnm::{Error, Result};
use serde_json::Value;

use crate::out;

/// Directories that each rule has empty: what plugins remember is there.
pub(super) const COVERED: [&str; 2] = ["/run", "/var/lib"];

/// Which plugin to try, and how.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Each rule is tried on a machine of its own: network, mount and PID namespaces that end with it,
with /run and /var/lib empty, a link `uplink0` (192.0.2.1/24, the default route) and a neighbour
192.0.2.2 behind it. Nothing of this machine is touched. It needs root, and `ip`, `ping`, `nft`
and util-linux.

The plugin is given this configuration, changed by --config as a JSON merge patch (RFC 7396: null
takes a key away):
  { \"cniVersion\": the newest that it lists, \"name\": \"conformance0\", \"type\": TYPE,
    \"bridge\": \"conf0\", \"isGateway\": true, \"ipMasq\": true,
    \"ipam\": { \"type\": IPAM, \"subnet\": \"10.83.0.0/24\", \"routes\": [{ \"dst\": \"0.0.0.0/0\" }] } }
A rule of a version or of a capability that the plugin does not offer is `not offered`, which is
no failure. Rules of runtimeConfig are tried for the capabilities that --config declares:
  --config '{\"capabilities\": {\"ips\": true, \"mac\": true, \"portMappings\": true}}'

Results are read from the kernel, with ip and nft, and proved by ping and TCP: the plugin is not
asked what it has done.

Examples:
  netctl cni conformance --plugin-dir /usr/lib/cni --type bridge
  netctl cni conformance --plugin-dir /usr/lib/cni --type ptp --filter del- --filter check-
  netctl cni conformance --plugin-dir /usr/libexec/netd --type netd-bridge \\
    --setup 'netd & until netctl status; do :; done'
  netctl cni conformance --list

Exit codes: 0 no MUST is broken, 1 one is; others as for all commands.")]
pub(crate) struct Conformance {
    /// Where the plugin is; may be given more than once, as the directories of CNI_PATH
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    plugin_dir: Vec<PathBuf>,
    /// The plugin's type, which is the name of its executable
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "list")]
    kind: Option<String>,
    /// The IPAM plugin that its configuration names
    #[arg(long, value_name = "TYPE", default_value = "host-local")]
    pub(super) ipam: String,
    /// What else is in its configuration: a JSON object, merged into it
    #[arg(long, value_name = "JSON", value_parser = object, default_value = "{}")]
    pub(super) config: Value,
    /// A shell command to run on each rule's machine first, such as one that starts the daemon
    /// that the plugin needs; what it leaves running ends with the rule
    #[arg(long, visible_alias = "before", value_name = "COMMAND")]
    pub(super) setup: Option<String>,
    /// Try only rules whose id begins with this; may be given more than once
    #[arg(long, value_name = "BEGINNING")]
    filter: Vec<String>,
    /// How many rules to try at a time [default: one for each processor]
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<NonZeroUsize>,
    /// Print the results as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Show the rules and where each is written, and try none
    #[arg(long)]
    pub(super) list: bool,
    /// Try one rule here and now, in namespaces that somebody else has made
    #[arg(long, hide = true, value_name = "RULE")]
    pub(super) inside: Option<String>,
}

/// The plugin that is tried.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    /// Its type.
    pub(super) kind: String,
    /// Its executable.
    pub(super) program: PathBuf,
    /// What `CNI_PATH` is to be.
    pub(super) path: Vec<PathBuf>,
}

impl Conformance {
    /// Whether a rule is to be tried.
    pub(super) fn wants(&self, id: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|part| id.starts_with(part.as_str()))
    }

    /// How many rules are tried at a time.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }

    /// Finds the plugin.
    pub(super) fn plugin(&self) -> Result<Tried> {
        let kind = self.kind.clone().unwrap_or_default();
        if kind.is_empty() || kind.contains('/') {
            return Err(Error::invalid(format_args!("{kind:?} is no type of a plugin")));
        }
        let path = self.plugin_dir.iter().map(|dir| found(dir)).collect::<Result<Vec<_>>>()?;
        let program = path.iter().map(|dir| dir.join(&kind)).find(|file| file.is_file());
        let program = program.ok_or_else(|| {
            let dirs: Vec<_> = path.iter().map(|dir| dir.display().to_string()).collect();
            Error::not_found(format_args!("there is no plugin {kind} in {}", dirs.join(", ")))
        })?;
        Ok(Tried { kind, program, path })
    }
}

fn found(dir: &Path) -> Result<PathBuf> {
    let dir = dir
        .canonicalize()
        .map_err(|error| out::system(format_args!("cannot find {}", dir.display()), &error))?;
    match COVERED.iter().find(|covered| dir.starts_with(covered)) {
        None => Ok(dir),
        Some(covered) => Err(Error::invalid(format_args!(
            "{} is not seen by the rules, each of which has an empty {covered}: copy the plugin \
             elsewhere",
            dir.display()
        ))),
    }
}

/// Reads a JSON object.
fn object(text: &str) -> Result<Value, Error> {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err(Error::invalid("it should be a JSON object")),
        Err(error) => Err(Error::invalid(format_args!("it should be a JSON object: {error}"))),
    }
}
