//! Values of `netd.toml` that read well and mean nothing: netd would start with them, and something
//! would fail much later, or never work.

use std::{
    fmt::{Debug, Display},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use cnm::Name;

use super::{File, server::Server};
use crate::names::{PORT, given::can_be_asked, hook};

/// For how many seconds an answer may hold (RFC 2181, section 8).
const LONGEST: u32 = 0x7fff_ffff;

/// A value that cannot be meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Of which key.
    pub(super) key: String,
    /// What it is, as it stands in the file.
    pub(super) value: String,
    /// What it should be.
    pub(super) should: &'static str,
}

fn wrong(key: impl Display, value: impl Debug, should: &'static str) -> Result<(), Wrong> {
    Err(Wrong { key: key.to_string(), value: format!("{value:?}"), should })
}

/// Refuses the first value that means nothing.
pub(super) fn check(file: &File) -> Result<(), Wrong> {
    paths(file)?;
    servers(file)?;
    if let Some(domain) = &file.dns_domain {
        domain_name("dns_domain", domain)?;
        if dns::check_domain(domain).is_err() {
            let should = "a domain for which programs and resolvers have no answer of their own, as \
                          they have for localhost, local, invalid, onion, alt and arpa: netd, or \
                          cluster.local";
            return wrong("dns_domain", domain, should);
        }
    }
    let own = file.dns_domain.as_deref().unwrap_or(dns::DEFAULT_DOMAIN);
    for domain in file.dns_stubs.keys() {
        domain_name("dns_stubs", domain)?;
        if dns::check_stub(domain, own, []).is_err() {
            let should = "a domain for which others are asked: not dns_domain, netd.internal, localhost, \
                          invalid or loopback's addresses, or below these";
            return wrong("dns_stubs", domain, should);
        }
    }
    if let Some(ttl) = file.dns_ttl.filter(|ttl| *ttl > LONGEST) {
        return wrong("dns_ttl", ttl, "a number of seconds up to 2147483647");
    }
    if file.dns_port == Some(0) {
        return wrong("dns_port", 0, "a port from 1 to 65535");
    }
    if let Some(name) = &file.node_name
        && name.parse::<Name>().is_err()
    {
        let should = "1 to 63 letters, digits and any of _.-, the first a letter or a digit";
        return wrong("node_name", name, should);
    }
    for (key, seconds) in
        [("driver_deadline", file.driver_deadline), ("certificate_life", file.certificate_life)]
    {
        if seconds == Some(0) {
            return wrong(key, 0, "a number of seconds from 1 on");
        }
    }
    // What is less is full before a cluster is made; etcd counts in 63 bits.
    if let Some(quota) = file.etcd_quota.filter(|quota| !(2..=1 << 20).contains(quota)) {
        return wrong("etcd_quota", quota, "a number of MiB from 2 to 1048576");
    }
    Ok(())
}

/// Where netd is started from means nothing to whoever looks for it.
fn paths(file: &File) -> Result<(), Wrong> {
    let dirs = file.plugin_dirs.iter().map(|dir| ("plugin_dirs", Some(dir)));
    let others = [
        ("run_dir", file.run_dir.as_ref()),
        ("state_dir", file.state_dir.as_ref()),
        ("docker_api", file.docker_api.as_ref()),
        ("docker_config", file.docker_config.as_ref()),
        ("docker_plugin", file.docker_plugin.as_ref()),
        ("docker_socket", file.docker_socket.as_ref()),
    ];
    let is_relative = |path: &&Path| !path.is_absolute();
    for (key, path) in others.into_iter().chain(dirs) {
        if let Some(path) = path.map(PathBuf::as_path).filter(is_relative) {
            return wrong(key, path, "a path that begins with /");
        }
    }
    Ok(())
}

fn servers(file: &File) -> Result<(), Wrong> {
    let link_local = file.dns_link_local.map(|address| SocketAddr::new(address.into(), PORT));
    let hook = file.dns_hook.map(|_| hook::ADDRESS);
    let host = file.dns_host.map(|Server(address)| address).or(hook);
    let one = |key: &str, Server(server): &Server| {
        if [link_local, host].contains(&Some(*server)) {
            let should =
                "another's address than dns_host and dns_link_local, where netd itself answers";
            return wrong(key, server.to_string(), should);
        }
        if can_be_asked(server) {
            return Ok(());
        }
        wrong(key, server.to_string(), "the address and the port of one server, on whichever link")
    };
    file.dns_upstreams.iter().flatten().try_for_each(|server| one("dns_upstreams", server))?;
    for (domain, servers) in &file.dns_stubs {
        if servers.is_empty() {
            return wrong(format_args!("dns_stubs.{domain:?}"), servers, "one server or more");
        }
        servers.iter().try_for_each(|server| one(&format!("dns_stubs.{domain:?}"), server))?;
    }
    // Names of all networks are told there: to nobody but the host's own programs.
    let may_not = |server: &&Server| !server.0.ip().is_loopback() || server.0.port() == 0;
    file.dns_host.iter().filter(may_not).try_for_each(|server| {
        wrong(
            "dns_host",
            server.0.to_string(),
            "an address of loopback and a port, as in 127.0.0.77:53",
        )
    })
}

fn domain_name(key: &str, domain: &str) -> Result<(), Wrong> {
    if dns::check_name(domain, &[]).is_ok() && domain.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let should = "a domain such as netd or cluster.local, without a dot at its end, each part of 1 \
                  to 63 bytes";
    wrong(key, domain, should)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), Wrong> {
        check(&toml::from_str(text).expect("it reads well"))
    }

    #[test]
    fn what_can_be_meant_is_taken() {
        for good in [
            "",
            "dns_domain = \"cluster.local\"\nnode_name = \"a-1.example\"",
            "dns_port = 5353\ndriver_deadline = 1\ncertificate_life = 10\netcd_quota = 2",
            "docker_api = \"/run/netd/docker.sock\"\nrun_dir = \"/run/x\"\nplugin_dirs = [\"/x\"]",
            "dns_upstreams = [\"10.0.0.53:53\", \"[fd00::53]:53\"]\ndns_host = \"127.0.0.77:53\"",
            "dns_upstreams = [\"10.0.0.53\", \"fd00::53\"]\ndns_ttl = 2147483647",
            "dns_upstreams = []\ndns_stubs = { \"example.corp\" = [\"10.0.0.53:53\"] }",
        ] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, key, value) in [
            ("dns_domain = \"a..b\"", "dns_domain", "\"a..b\""),
            ("dns_domain = \"\"", "dns_domain", "\"\""),
            ("dns_domain = \"a b\"", "dns_domain", "\"a b\""),
            ("dns_domain = \"localhost\"", "dns_domain", "\"localhost\""),
            ("dns_domain = \"local\"", "dns_domain", "\"local\""),
            ("dns_domain = \"x.netd.internal\"", "dns_domain", "\"x.netd.internal\""),
            ("dns_port = 0", "dns_port", "0"),
            ("node_name = \"a b\"", "node_name", "\"a b\""),
            ("node_name = \"\"", "node_name", "\"\""),
            ("docker_api = \"docker.sock\"", "docker_api", "\"docker.sock\""),
            ("docker_plugin = \"\"", "docker_plugin", "\"\""),
            ("plugin_dirs = [\"/x\", \"y\"]", "plugin_dirs", "\"y\""),
            ("driver_deadline = 0", "driver_deadline", "0"),
            ("certificate_life = 0", "certificate_life", "0"),
            ("etcd_quota = 1", "etcd_quota", "1"),
            ("etcd_quota = 1048577", "etcd_quota", "1048577"),
            ("dns_upstreams = [\"10.0.0.53:0\"]", "dns_upstreams", "\"10.0.0.53:0\""),
            ("dns_host = \"127.0.0.77:0\"", "dns_host", "\"127.0.0.77:0\""),
            ("dns_ttl = 2147483648", "dns_ttl", "2147483648"),
            ("dns_host = \"0.0.0.0:53\"", "dns_host", "\"0.0.0.0:53\""),
            ("dns_host = \"192.0.2.3:53\"", "dns_host", "\"192.0.2.3:53\""),
            ("dns_stubs = { \"a\" = [\"224.0.0.1:53\"] }", "dns_stubs.\"a\"", "\"224.0.0.1:53\""),
            ("dns_upstreams = [\"fe80::1\"]", "dns_upstreams", "\"[fe80::1]:53\""),
            ("dns_stubs = { \"a\" = [] }", "dns_stubs.\"a\"", "[]"),
            ("dns_stubs = { \"netd\" = [\"10.0.0.53:53\"] }", "dns_stubs", "\"netd\""),
            ("dns_stubs = { \"x.localhost\" = [\"10.0.0.53\"] }", "dns_stubs", "\"x.localhost\""),
            (
                "dns_domain = \"lan\"\ndns_stubs = { \"app.lan\" = [\"10.0.0.53\"] }",
                "dns_stubs",
                "\"app.lan\"",
            ),
            (
                "dns_host = \"127.0.0.77:53\"\ndns_upstreams = [\"127.0.0.77\"]",
                "dns_upstreams",
                "\"127.0.0.77:53\"",
            ),
            (
                "dns_hook = \"resolved\"\ndns_stubs = { \"a\" = [\"127.0.0.77\"] }",
                "dns_stubs.\"a\"",
                "\"127.0.0.77:53\"",
            ),
            (
                "dns_link_local = \"169.254.76.53\"\ndns_upstreams = [\"169.254.76.53\"]",
                "dns_upstreams",
                "\"169.254.76.53:53\"",
            ),
            ("dns_stubs = { \"a..b\" = [\"10.0.0.53:53\"] }", "dns_stubs", "\"a..b\""),
            // The first of them.
            ("dns_port = 0\ndriver_deadline = 0", "dns_port", "0"),
        ] {
            let found = checked(text).expect_err(text);
            assert_eq!((found.key.as_str(), found.value.as_str()), (key, value), "{text}");
        }
    }
}
