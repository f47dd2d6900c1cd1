//! What netd is told: by its command line, and by `netd.toml` where that is silent.

use std::{
    collections::BTreeMap,
    env,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;
use ipnetwork::IpNetwork;
use serde::Deserialize;

use self::server::Server;
use crate::names::hook::{self, Hook};

mod server;
mod values;

/// The container networking daemon.
///
/// Keeps the networks, sandboxes and endpoints of this host, gives out their addresses and ports,
/// answers for their names, and has its drivers make them. Runtimes and netctl speak to it at
/// netd.sock in its run directory.
#[derive(Debug, Parser)]
#[command(name = "netd", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Where the sockets and what ends with this boot are [default: /run/netd]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Where what outlives a boot is [default: /var/lib/netd]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where drivers are looked for first; may be given more than once
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
    /// The configuration file [default: /etc/netd/netd.toml, which may be missing]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How much to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<tracing::Level>,
}

const AFTER_HELP: &str = "\
Drivers are executables named netd-NAME. They are looked for in each --plugin-dir, beside
netd's own executable, and in /usr/libexec/netd.

netd.toml takes run_dir, state_dir, plugin_dirs, log_level, default_pools (a list of
{ base = \"10.76.0.0/14\", size = 24 }), reuse_delay (seconds), dns_upstreams (a list of
\"address:port\"; the host's resolv.conf unless told), dns_domain, dns_ttl (seconds),
dns_port (where containers are led that ask at port 53, so that another program may have that),
dns_stubs (servers by domain: { \"example.corp\" = [\"10.0.0.53:53\"] }), dns_host (an
\"address:port\" where the host's own programs may ask), dns_hook (\"resolv.conf\" or \"resolved\": they
are told to ask there, at 127.0.0.77 unless dns_host says otherwise), dns_link_local (an address such as
169.254.76.53, where all containers of this host may ask, others' than netd's too; nowhere unless
told), dns_log (true: each question),
driver_deadline (seconds), node_name (what other nodes of a cluster call this host; its hostname
unless told), certificate_life (seconds that the certificates are good for which this host signs as
a manager), etcd_quota (MiB that an etcd which netd starts may hold before it is full; 2048 unless
told), default_link (the bridge of the network `bridge`; netd0 unless told), docker_plugin (where dockerd may call
netd as its network and IPAM driver, such as /run/docker/plugins/netd.sock; nowhere unless told),
docker_api (where `docker network` may speak to netd, such as /run/netd/docker.sock; nowhere unless
told), docker_socket (where dockerd itself is asked; /var/run/docker.sock unless told), docker_config
(what it is told; /etc/docker/daemon.json unless told) and a table
[firewall]: coexist (`insert` a rule where another's chain would drop what ours let through, unless
told, or `report` it) and tables (`owned` by netd where the kernel can do that, unless told, or
`plain`).";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    run_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    #[serde(default)]
    plugin_dirs: Vec<PathBuf>,
    log_level: Option<String>,
    default_pools: Option<Vec<PoolLine>>,
    reuse_delay: Option<u64>,
    dns_upstreams: Option<Vec<Server>>,
    dns_domain: Option<String>,
    dns_ttl: Option<u32>,
    dns_port: Option<u16>,
    #[serde(default)]
    dns_stubs: BTreeMap<String, Vec<Server>>,
    dns_host: Option<Server>,
    dns_hook: Option<Hook>,
    dns_link_local: Option<Ipv4Addr>,
    #[serde(default)]
    dns_log: bool,
    driver_deadline: Option<u64>,
    node_name: Option<String>,
    certificate_life: Option<u64>,
    etcd_quota: Option<u64>,
    default_link: Option<cnm::IfName>,
    docker_api: Option<PathBuf>,
    docker_config: Option<PathBuf>,
    docker_plugin: Option<PathBuf>,
    docker_socket: Option<PathBuf>,
    #[serde(default)]
    firewall: Firewall,
}

/// How drivers are to treat the host's firewall.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Firewall {
    #[serde(default)]
    coexist: Option<Coexist>,
    #[serde(default)]
    tables: Option<Tables>,
}

/// What becomes of others' chains that would drop what ours let through.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Coexist {
    Insert,
    Report,
}

/// Whose tables are.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tables {
    Owned,
    Plain,
}

impl Firewall {
    /// As drivers are told it: what was not said is not there.
    pub(crate) fn settings(self) -> BTreeMap<String, String> {
        let coexist = self.coexist.map(|coexist| match coexist {
            Coexist::Insert => ("coexist", "insert"),
            Coexist::Report => ("coexist", "report"),
        });
        let tables = self.tables.map(|tables| match tables {
            Tables::Owned => ("tables", "owned"),
            Tables::Plain => ("tables", "plain"),
        });
        let said = coexist.into_iter().chain(tables);
        said.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolLine {
    base: IpNetwork,
    size: u8,
}

/// Everything that netd was told, or what it does when it was not.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the sockets and what ends with this boot are.
    pub(crate) run_dir: PathBuf,
    /// Where what outlives a boot is.
    pub(crate) state_dir: PathBuf,
    /// Where drivers are, in the order of looking.
    pub(crate) plugin_dirs: Vec<PathBuf>,
    /// How much to log.
    pub(crate) log_level: tracing::Level,
    /// Where subnets come from when none is given.
    pub(crate) default_pools: Vec<ipam::DefaultPool>,
    /// How long an address waits before somebody else gets it.
    pub(crate) reuse_delay: Duration,
    /// Who is asked for names that are not ours; the host's resolvers when empty.
    pub(crate) dns_upstreams: Vec<SocketAddr>,
    /// The domain that all names are under.
    pub(crate) dns_domain: String,
    /// Seconds that answers for them may be kept.
    pub(crate) dns_ttl: u32,
    /// The port of gateways where the resolver is, unless that is taken.
    pub(crate) dns_port: u16,
    /// Domains that have servers of their own.
    pub(crate) dns_stubs: Vec<dns::Stub>,
    /// Where the host's own programs may ask for names; nowhere unless told.
    pub(crate) dns_host: Option<SocketAddr>,
    /// How the host's own programs are told to ask there; not at all unless told.
    pub(crate) dns_hook: Option<Hook>,
    /// Where all containers of this host may ask, on whichever network; nowhere unless told.
    pub(crate) dns_link_local: Option<Ipv4Addr>,
    /// Whether each question is logged.
    pub(crate) dns_log: bool,
    /// How long a driver may take for one call.
    pub(crate) driver_deadline: Duration,
    /// What the other nodes of a cluster call this host; its hostname unless told.
    pub(crate) node_name: Option<String>,
    /// How long the certificates are good for that this host signs as a manager; 90 days unless told.
    pub(crate) certificate_life: Option<Duration>,
    /// How many MiB an etcd that netd starts may hold before it is full; etcd's own measure unless told.
    pub(crate) etcd_quota: Option<u64>,
    /// The bridge of the network `bridge`; `netd0` unless told.
    pub(crate) default_link: Option<cnm::IfName>,
    /// How drivers are to treat the host's firewall.
    pub(crate) firewall: Firewall,
    /// Where Docker's command line may speak to netd; nowhere unless told.
    pub(crate) docker_api: Option<PathBuf>,
    /// Where dockerd may call netd as its network and IPAM driver; nowhere unless told.
    pub(crate) docker_plugin: Option<PathBuf>,
    /// What dockerd is told, where it is looked at for netd's resolver.
    pub(crate) docker_config: PathBuf,
    /// Where dockerd itself answers.
    pub(crate) docker_socket: PathBuf,
}

/// What is wrong with what netd was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not as it should be.
    #[error("{path}: {message}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A value of it cannot be meant.
    #[error("{path}: invalid {key} {value}: it should be {should}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Whose value.
        key: String,
        /// The value, as the file has it.
        value: String,
        /// What it should be.
        should: &'static str,
    },
}

impl Config {
    /// Puts command line, file and defaults together.
    pub(crate) fn load(arguments: Arguments) -> Result<Self, Error> {
        let (path, required) = match &arguments.config {
            Some(path) => (path.as_path(), true),
            None => (Path::new("/etc/netd/netd.toml"), false),
        };
        let file = read(path, required)?;
        values::check(&file).map_err(|values::Wrong { key, value, should }| Error::Value {
            path: path.to_owned(),
            key,
            value,
            should,
        })?;
        let wrong = |message: String| Error::Wrong { path: path.to_owned(), message };
        let log_level = match (arguments.log_level, &file.log_level) {
            (Some(level), _) => level,
            (None, Some(text)) => text
                .parse()
                .map_err(|_| wrong(format!("log_level {text:?} is no level: say info or debug")))?,
            (None, None) => tracing::Level::INFO,
        };
        let default_pools = match file.default_pools {
            None => ipam::default_pools(),
            Some(lines) => lines
                .into_iter()
                .map(|PoolLine { base, size }| {
                    // One that no subnet can be cut from would be found out much later.
                    let pool = ipam::DefaultPool { base, size };
                    ipam::choose_subnet(&[pool], &[])
                        .map(|_| pool)
                        .map_err(|error| wrong(format!("default_pools: {error}")))
                })
                .collect::<Result<_, _>>()?,
        };
        let mut plugin_dirs = arguments.plugin_dir;
        plugin_dirs.extend(file.plugin_dirs);
        plugin_dirs.extend(env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned())));
        plugin_dirs.push("/usr/libexec/netd".into());
        Ok(Self {
            run_dir: arguments.run_dir.or(file.run_dir).unwrap_or_else(|| "/run/netd".into()),
            state_dir: arguments
                .state_dir
                .or(file.state_dir)
                .unwrap_or_else(|| "/var/lib/netd".into()),
            plugin_dirs,
            log_level,
            default_pools,
            reuse_delay: Duration::from_secs(file.reuse_delay.unwrap_or(60)),
            dns_upstreams: addresses(file.dns_upstreams.unwrap_or_default()),
            dns_domain: file.dns_domain.unwrap_or_else(|| dns::DEFAULT_DOMAIN.into()),
            dns_ttl: file.dns_ttl.unwrap_or(dns::DEFAULT_TTL),
            dns_port: file.dns_port.unwrap_or(53),
            dns_stubs: file
                .dns_stubs
                .into_iter()
                .map(|(domain, servers)| dns::Stub { domain, servers: addresses(servers) })
                .collect(),
            dns_host: file
                .dns_host
                .map(|server| server.0)
                .or_else(|| file.dns_hook.map(|_| hook::ADDRESS)),
            dns_hook: file.dns_hook,
            dns_link_local: file
                .dns_link_local
                .map(|address| link_local(address).map_err(wrong))
                .transpose()?,
            dns_log: file.dns_log,
            driver_deadline: Duration::from_secs(file.driver_deadline.unwrap_or(10)),
            node_name: file.node_name,
            certificate_life: file.certificate_life.map(Duration::from_secs),
            etcd_quota: file.etcd_quota,
            default_link: file.default_link,
            firewall: file.firewall,
            docker_api: file.docker_api,
            docker_config: file.docker_config.unwrap_or_else(|| "/etc/docker/daemon.json".into()),
            docker_plugin: file.docker_plugin,
            docker_socket: file.docker_socket.unwrap_or_else(|| "/var/run/docker.sock".into()),
        })
    }
}

fn addresses(servers: Vec<Server>) -> Vec<SocketAddr> {
    servers.into_iter().map(|server| server.0).collect()
}

/// Refuses an address that may be somebody's elsewhere (RFC 3927).
fn link_local(address: Ipv4Addr) -> Result<Ipv4Addr, String> {
    if address.is_link_local() {
        return Ok(address);
    }
    Err(format!(
        "dns_link_local {address} is not link-local: it should be of 169.254.0.0/16, such as \
         169.254.76.53"
    ))
}

fn read(path: &Path, required: bool) -> Result<File, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| Error::Wrong { path: path.to_owned(), message: error.to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
            Ok(File::default())
        }
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}
