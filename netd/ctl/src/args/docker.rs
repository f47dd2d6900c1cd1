//! The commands on Docker.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use cnm::dns::is_server;

/// The commands on Docker.
#[derive(Debug, Subcommand)]
pub(crate) enum DockerCommand {
    /// Tell netd and dockerd of each other
    #[command(after_help = "\
What is written is named, a line each; what is there already stays as it is. netd and dockerd read it
when they are started again. With netd's resolver among dockerd's, Docker's containers resolve whoever
is on their networks, whatever runtime started it.

Examples:
  netctl docker install --dry-run
  netctl docker install && systemctl restart netd docker
  docker network create -d netd --ipam-driver netd app")]
    Install(Install),
    /// Take back what `install` wrote, and nothing else
    Uninstall(Install),
}

/// `docker install` and `docker uninstall`.
#[derive(Args, Debug)]
pub(crate) struct Install {
    /// netd's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/netd/netd.toml")]
    pub(crate) netd_config: PathBuf,
    /// dockerd's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/docker/daemon.json")]
    pub(crate) daemon_json: PathBuf,
    /// Where dockerd looks for plugins that are not in /run/docker/plugins
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/docker/plugins")]
    pub(crate) spec_dir: PathBuf,
    /// The address of netd's resolver that dockerd is told; the one in netd's configuration if not given
    #[arg(long, value_name = "ADDRESS", value_parser = resolver)]
    pub(crate) dns: Option<IpAddr>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// An address at which containers can ask: at one of loopback each finds itself.
fn resolver(text: &str) -> Result<IpAddr, String> {
    let address = text.parse().ok().filter(|ip| is_server(*ip) && !ip.to_canonical().is_loopback());
    address.ok_or_else(|| {
        "it should be an address of netd's resolver that containers reach: the gateway of a network of \
         netd's, such as 10.89.0.1, or what dns_link_local in its configuration says"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerd_is_told_of_a_resolver_that_its_containers_reach() {
        assert_eq!(resolver("10.89.0.1"), Ok(IpAddr::from([10, 89, 0, 1])));
        for bad in
            ["0.0.0.0", "::", "127.0.0.1", "::1", "::ffff:127.0.0.1", "224.0.0.1", "netd", ""]
        {
            assert!(resolver(bad).is_err(), "{bad}");
        }
    }
}
