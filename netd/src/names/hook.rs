//! The host's own programs find the names of networks, where that is wanted: netd puts itself into
//! resolv.conf(5), or tells systemd-resolved whom to ask for its domain, and takes that back when it
//! ends.
//!
//! What it puts there bears its mark, and is known by it: a netd that was killed leaves it, the next
//! one keeps it, or takes it away where it is no longer wanted. Whatever else stands in
//! `resolv.conf` stays, and is asked while no netd answers.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use serde::Deserialize;

use super::PORT;
use crate::netd::Netd;

/// Where the host's programs ask unless told.
pub(crate) const ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77)), PORT);

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What systemd-resolved reads besides its own file (resolved.conf.d(5)); it ends with the boot.
const DROP_IN: &str = "/run/systemd/resolved.conf.d/netd.conf";

/// Where systemd-resolved keeps the files that `resolv.conf` may lead to.
const RESOLVED: &str = "/run/systemd/resolve";

const BEGIN: &str = "# netd: the names of its networks; these lines go when it ends";
const END: &str = "# netd: to here";

/// How often it is looked whether somebody has written the file anew.
const LOOK: Duration = Duration::from_secs(5);

/// Where netd puts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Hook {
    /// As the first server of `/etc/resolv.conf`.
    #[serde(rename = "resolv.conf")]
    ResolvConf,
    /// As systemd-resolved's server for its domain.
    #[serde(rename = "resolved")]
    Resolved,
}

impl Hook {
    /// Puts a server there; one that is there already stays.
    fn put(self, server: SocketAddr, domain: &str) -> io::Result<()> {
        match self {
            Self::ResolvConf => put_into_resolv_conf(Path::new(RESOLV_CONF), server),
            Self::Resolved => {
                let text = format!(
                    "{BEGIN}\n[Resolve]\nDNS={}\nDomains=~{domain} ~netd.internal\n",
                    in_resolved(server)
                );
                if fs::read_to_string(DROP_IN).is_ok_and(|there| there == text) {
                    return Ok(());
                }
                if let Some(directory) = Path::new(DROP_IN).parent() {
                    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
                }
                write(Path::new(DROP_IN), &text)?;
                // Tried again at the next look, as what it does not know of is not there.
                reload_resolved().inspect_err(|_| drop(fs::remove_file(DROP_IN)))
            }
        }
    }

    /// Takes away what a netd has put anywhere but at `kept`.
    fn take_back(kept: Option<Self>) -> io::Result<()> {
        if kept != Some(Self::ResolvConf) {
            take_from_resolv_conf(Path::new(RESOLV_CONF))?;
        }
        if kept != Some(Self::Resolved) {
            match fs::remove_file(DROP_IN) {
                Ok(()) => reload_resolved()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// As resolved.conf(5) has an address.
fn in_resolved(server: SocketAddr) -> String {
    if server.port() == PORT { server.ip().to_string() } else { server.to_string() }
}

fn put_into_resolv_conf(path: &Path, server: SocketAddr) -> io::Result<()> {
    if server.port() != PORT {
        return Err(io::Error::other("resolv.conf has no ports: let dns_host have port 53"));
    }
    if fs::canonicalize(path).is_ok_and(|real| real.starts_with(RESOLVED)) {
        return Err(io::Error::other(
            "it is systemd-resolved's: say dns_hook = \"resolved\" instead",
        ));
    }
    let text = match fs::read_to_string(path) {
        // Another program's, which will come: it is looked at again.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            return Err(io::Error::other(format!(
                "{} leads to a file that is not there",
                path.display()
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        outcome => outcome?,
    };
    let wanted = with(&text, server);
    if wanted == text { Ok(()) } else { write(path, &wanted) }
}

fn take_from_resolv_conf(path: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome?,
    };
    let wanted = without(&text);
    if wanted == text { Ok(()) } else { write(path, &wanted) }
}

/// The text of a `resolv.conf` with a server before all others.
fn with(text: &str, server: SocketAddr) -> String {
    format!("{BEGIN}\nnameserver {}\n{END}\n{}", server.ip(), without(text))
}

/// The same without what bears netd's mark.
fn without(text: &str) -> String {
    let mut ours = false;
    let others = text.split_inclusive('\n').filter(|line| {
        let line = line.trim_end();
        let inside = ours || line == BEGIN;
        ours = inside && line != END;
        !inside
    });
    others.collect()
}

/// Writes a file so that whoever reads it finds the old or the new one. One that something is
/// mounted on, as in a container, can only be written in place.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let next = path.with_extension("netd");
    let replaced = fs::write(&next, text).and_then(|()| {
        // Everybody reads it, whatever netd's own files are like.
        let usual = Permissions::from_mode(0o644);
        fs::set_permissions(&next, fs::metadata(&path).map_or(usual, |old| old.permissions()))?;
        fs::rename(&next, &path)
    });
    replaced.or_else(|_| {
        drop(fs::remove_file(&next));
        fs::write(&path, text)
    })
}

/// Has systemd-resolved read its files again. Nobody waits for it.
fn reload_resolved() -> io::Result<()> {
    let status = Command::new("systemctl")
        .args(["--no-block", "try-reload-or-restart", "systemd-resolved.service"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("systemctl: {status}"))) }
}

impl Netd {
    /// Puts netd where the host's programs look, if that is wanted and it answers them, and takes
    /// away what is there of an earlier one.
    pub(super) fn hook_into_the_host(self: &Rc<Self>) {
        let hook = self.config.dns_hook;
        if let Err(error) = Hook::take_back(hook) {
            tracing::warn!(%error, "what an earlier netd told the host's programs stays");
        }
        let (Some(hook), Some(server)) = (hook, self.config.dns_host) else { return };
        let netd = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                let Some(netd) = netd.upgrade() else { return };
                if netd.resolver.unhooked.get() {
                    return;
                }
                netd.hook_in(hook, server);
            }
        });
    }

    fn hook_in(&self, hook: Hook, server: SocketAddr) {
        const ABOUT: &str = "dns hook";
        match hook.put(server, &self.config.dns_domain) {
            Ok(()) => drop(self.problems.borrow_mut().remove(ABOUT)),
            Err(error) => {
                let problem = format!("the host's programs are not told to ask netd: {error}");
                if self.problems.borrow_mut().insert(ABOUT.to_owned(), problem.clone()).is_none() {
                    tracing::warn!("{problem}");
                }
            }
        }
    }

    /// Takes it away at the end.
    pub(super) fn unhook(&self) {
        self.resolver.unhooked.set(true);
        if self.config.dns_hook.is_some()
            && let Err(error) = Hook::take_back(None)
        {
            tracing::error!(%error, "the host's programs are still told to ask netd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\nnameserver 192.0.2.1\nsearch example.org\n";

    #[test]
    fn what_was_put_is_first_and_goes_without_a_trace() {
        let put = with(HOST, ADDRESS);
        assert!(
            put.starts_with(&format!("{BEGIN}\nnameserver 127.0.0.77\n")) && put.ends_with(HOST)
        );
        assert_eq!(with(&put, ADDRESS), put, "once");
        assert_eq!(without(&put), HOST);
        assert_eq!(without(HOST), HOST);
        assert_eq!(without(&with("", ADDRESS)), "");
        assert_eq!(without(&with("nameserver 192.0.2.1", ADDRESS)), "nameserver 192.0.2.1");
    }

    #[test]
    fn lines_that_others_added_meanwhile_stay() {
        let put = with(HOST, ADDRESS);
        assert_eq!(
            without(&format!("options edns0\n{put}options rotate\n")),
            format!("options edns0\n{HOST}options rotate\n")
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_stays_what_it_is() {
        let path = std::env::temp_dir().join(format!("link.{}", std::process::id()));
        std::os::unix::fs::symlink("nowhere/at all", &path).expect("a link");
        assert!(put_into_resolv_conf(&path, ADDRESS).is_err());
        take_from_resolv_conf(&path).expect("there is nothing to take");
        assert!(path.is_symlink());
        fs::remove_file(path).expect("it is there");
    }

    #[test]
    fn resolved_takes_a_port_where_it_is_another() {
        assert_eq!(in_resolved(ADDRESS), "127.0.0.77");
        assert_eq!(in_resolved("127.0.0.1:5353".parse().expect("an address")), "127.0.0.1:5353");
    }
}
