//! Who may ask for names of others though it is on no network of netd's: other containers of this
//! host, such as those on Docker's own bridges. Not the neighbours: netd is no open resolver.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// Where the kernel shows its routes (proc_pid_net(5)), of the calling thread's namespace.
const ROUTES: &str = "/proc/net/route";

/// Where it shows its links.
const LINKS: &str = "/sys/class/net";

/// A route, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Route<'a> {
    link: &'a str,
    to: u32,
    mask: u32,
    /// Whether it leads through a gateway.
    far: bool,
}

/// Whether an address is on a network that is this host's alone: it is on one of its links, by
/// which the host neither leaves nor reaches a cable.
pub(super) fn is_near(source: IpAddr) -> bool {
    let IpAddr::V4(source) = source else { return false };
    let routes = fs::read_to_string(ROUTES).unwrap_or_default();
    link_of(&routes, source).is_some_and(|link| !has_device(&Path::new(LINKS).join(link)))
}

/// The link that an address is on, unless it is the way out as well.
fn link_of(routes: &str, source: Ipv4Addr) -> Option<&str> {
    let all: Vec<_> = routes.lines().filter_map(route).collect();
    let source = u32::from(source);
    let holding = all.iter().filter(|route| source & route.mask == route.to);
    let best = holding.max_by_key(|route| route.mask)?;
    let leaves = all.iter().any(|route| route.mask == 0 && route.link == best.link);
    (!best.far && !leaves).then_some(best.link)
}

/// `docker0 000011AC 00000000 0001 0 0 0 0000FFFF …`: addresses as they are in memory.
fn route(line: &str) -> Option<Route<'_>> {
    const GATEWAY: u32 = 2;
    let words: Vec<_> = line.split_whitespace().collect();
    let [link, to, _, flags, _, _, _, mask, ..] = words[..] else { return None };
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let flags = number(flags)?;
    let (to, mask) = (u32::from_be(number(to)?), u32::from_be(number(mask)?));
    Some(Route { link, to, mask, far: flags & GATEWAY != 0 })
}

/// Whether a link is a device of the machine, or is on top of one.
fn has_device(link: &Path) -> bool {
    if link.join("device").exists() {
        return true;
    }
    let Ok(entries) = fs::read_dir(link) else { return true };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut lower = names.filter(|name| name.starts_with("lower_"));
    lower.any(|name| link.join(name).join("device").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
wg0\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0
";

    #[test]
    fn who_is_on_a_link_that_leads_nowhere_else_is_near() {
        let of = |address: [u8; 4]| link_of(HERE, address.into());
        assert_eq!(of([172, 17, 0, 5]), Some("docker0"));
        assert_eq!(of([192, 168, 2, 9]), None, "the way out leads there");
        assert_eq!(of([10, 1, 2, 3]), None, "behind a gateway");
        assert_eq!(of([203, 0, 113, 1]), None, "anywhere");
        assert_eq!(link_of("", [172, 17, 0, 5].into()), None);
    }

    #[test]
    fn a_link_that_is_not_there_is_trusted_with_nothing() {
        assert!(has_device(Path::new("/sys/class/net/there is no such link")));
        assert!(!has_device(Path::new("/sys/class/net/lo")));
    }
}
