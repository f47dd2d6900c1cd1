//! What has to be so once all faults are over: the store, each kernel and each resolver say what
//! was asked for, no more and no less. Everything is read with others' eyes: `etcdctl`, `ip`,
//! `bridge`, `dig`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use cnm::{
    cluster::GetCluster,
    endpoint::ListEndpoints,
    network::{ListNetworks, Network},
    system::GetStatus,
};
use serde_json::Value;

use super::{
    Run,
    step::{Dice, HOSTS},
};

/// The number of the network between the nodes.
const INGRESS: u64 = 4095;

/// What differs from what should be.
pub(crate) type Differences = Vec<String>;

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Notes what is in one and not in the other.
fn compare<T: Ord + std::fmt::Debug>(
    what: &str,
    is: &BTreeSet<T>,
    wanted: &BTreeSet<T>,
    differences: &mut Differences,
) {
    for more in is.difference(wanted) {
        differences.push(format!("{what}: {more:?} should not be there"));
    }
    for less in wanted.difference(is) {
        differences.push(format!("{what}: {less:?} is missing"));
    }
}

/// An endpoint that should be there.
struct Wanted<'a> {
    host: usize,
    network: &'a Network,
    name: &'a str,
    ip: IpAddr,
    mac: String,
    gateway: IpAddr,
    netns: &'a netd_tests::Namespace,
}

impl Run {
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let networks: BTreeMap<_, _> =
            self.networks.values().chain([&self.base]).map(|one| (&one.id, one)).collect();
        let always = self.always.iter().enumerate();
        let always = always.flat_map(|(host, pair)| pair.iter().map(move |one| (host, one)));
        let running = self.running.values().map(|placed| (placed.host, &placed.running));
        let wanted = always.chain(running).filter_map(|(host, one)| {
            Some(Wanted {
                host,
                network: networks.get(&one.endpoint.network)?,
                name: &one.container.name,
                ip: one.ip(),
                mac: one.endpoint.mac?.to_string(),
                gateway: one.endpoint.gateways[0],
                netns: &one.container.netns,
            })
        });
        wanted.collect()
    }

    /// Whether all is as it should be.
    pub(crate) fn verify(&mut self) -> Result<(), Differences> {
        let mut differences = Differences::new();
        self.verify_netds(&mut differences);
        self.verify_networks(&mut differences);
        if differences.is_empty() {
            self.verify_endpoints(&mut differences);
            self.verify_store(&mut differences);
        }
        if differences.is_empty() {
            for host in 0..HOSTS {
                self.verify_kernel(host, &mut differences);
            }
        }
        if differences.is_empty() {
            self.verify_names(&mut differences);
        }
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }

    fn verify_netds(&self, differences: &mut Differences) {
        for host in 0..HOSTS {
            let (cluster, status) =
                (self.call(host, &GetCluster {}), self.call(host, &GetStatus {}));
            let (Ok(cluster), Ok(status)) = (cluster, status) else {
                differences.push(format!("host {host}: netd does not answer"));
                continue;
            };
            let all = u64::try_from(HOSTS).unwrap();
            if cluster.away_since.is_some() || !cluster.complete || cluster.nodes != all {
                differences.push(format!("host {host}: {cluster:?}"));
            }
            if cluster.unwritten > 0 || !status.problems.is_empty() {
                let (unwritten, problems) = (cluster.unwritten, status.problems);
                differences.push(format!("host {host}: {unwritten} unwritten, {problems:?}"));
            }
        }
    }

    /// What came of the creations and removals that nobody answered is seen here.
    fn verify_networks(&mut self, differences: &mut Differences) {
        let of = |host: usize| -> BTreeMap<usize, Network> {
            let listed = self.call(host, &ListNetworks::default());
            let listed = listed.map(|listed| listed.networks).unwrap_or_default();
            let number = |network: &Network| network.name.as_str().strip_prefix('n')?.parse().ok();
            listed.into_iter().filter_map(|one| Some((number(&one)?, one))).collect()
        };
        let ids = |networks: &BTreeMap<usize, Network>| -> BTreeSet<_> {
            networks.values().map(|network| network.id.clone()).collect()
        };
        let first = of(0);
        for host in 1..HOSTS {
            compare(&format!("networks of {host}"), &ids(&of(host)), &ids(&first), differences);
        }
        if differences.is_empty() {
            self.networks = first;
        }
    }

    fn verify_endpoints(&self, differences: &mut Differences) {
        for host in 0..HOSTS {
            let Ok(listed) = self.call(host, &ListEndpoints { network: None, container: None })
            else {
                differences.push(format!("host {host}: netd does not answer"));
                continue;
            };
            let is = listed
                .endpoints
                .iter()
                .map(|one| (one.container.label().to_owned(), one.network_name.to_string()));
            let wanted = self.wanted().into_iter().filter(|one| one.host == host);
            let wanted = wanted.map(|one| (one.name.to_owned(), one.network.name.to_string()));
            compare(&format!("endpoints of {host}"), &is.collect(), &wanted.collect(), differences);
        }
    }

    /// The rows of the store, by key.
    pub(crate) fn rows(&self) -> Result<BTreeMap<String, Value>, String> {
        let mut rows = BTreeMap::new();
        let printed = self.fleet.etcdctl(0, "get --prefix /netd/")?;
        let mut lines = printed.lines();
        while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
            // Without "/netd/CLUSTER/".
            let key = key.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
            rows.insert(key, serde_json::from_str(value).map_err(|error| error.to_string())?);
        }
        Ok(rows)
    }

    fn verify_store(&self, differences: &mut Differences) {
        let rows = match self.rows() {
            Ok(rows) => rows,
            Err(error) => return differences.push(error),
        };
        let nodes: Vec<String> =
            (0..HOSTS).filter_map(|host| self.call(host, &GetCluster {}).ok()?.node).collect();
        let ip = |row: &Value| -> IpAddr { row["ip"][0].as_str().unwrap().parse().unwrap() };
        let is = rows.iter().filter_map(|(key, row)| {
            let parts: Vec<_> = key.split('/').collect();
            let ["n", node, "ep", network, _] = parts[..] else { return None };
            let host = nodes.iter().position(|one| one == node);
            Some((host, network.to_owned(), ip(row), word(row, "mac").to_owned()))
        });
        let wanted = self.wanted();
        let wanted = wanted
            .iter()
            .map(|one| (Some(one.host), one.network.id.to_string(), one.ip, one.mac.clone()));
        compare("rows", &is.collect(), &wanted.collect(), differences);

        // Whose each address is, on each network.
        let mut owners: BTreeMap<(String, u32), String> = BTreeMap::new();
        for (key, row) in &rows {
            let parts: Vec<_> = key.split('/').collect();
            let ["blk", network, "4", first, length] = parts[..] else { continue };
            let first = u32::from_str_radix(first, 16).unwrap();
            let count = 1_u32 << (32 - length.parse::<u32>().unwrap());
            for address in first..first + count {
                let text = std::net::Ipv4Addr::from_bits(address).to_string();
                let lent = row["lent"][&text].as_str();
                let owner = lent.unwrap_or_else(|| word(row, "node")).to_owned();
                if let Some(other) = owners.insert((network.to_owned(), address), owner) {
                    differences.push(format!("{text} is in two blocks, one of {other}: {key}"));
                }
            }
        }
        for one in self.wanted() {
            let IpAddr::V4(address) = one.ip else { continue };
            let owner = owners.get(&(one.network.id.to_string(), address.to_bits()));
            if owner != nodes.get(one.host) {
                differences.push(format!("{} of {} is in no block of its host", one.ip, one.name));
            }
        }
    }

    fn verify_kernel(&self, host: usize, differences: &mut Differences) {
        let netns = &self.fleet.hosts[host].netns;
        let wanted = self.wanted();
        let up: BTreeMap<_, _> = wanted
            .iter()
            .filter(|one| one.host == host)
            .map(|one| (one.network.overlay.as_ref().unwrap().vni, one.network))
            .collect();
        let links = netns.json("ip -j -d link show type vxlan");
        let id = |link: &Value| link["linkinfo"]["info_data"]["id"].as_u64().unwrap();
        let is: BTreeSet<u64> = list(&links).map(id).collect();
        let vnis = up.keys().map(|vni| u64::from(*vni)).chain([INGRESS]);
        compare(&format!("VXLAN of {host}"), &is, &vnis.collect(), differences);
        let forwarding = netns.json("bridge -j fdb show");
        let neighbours = netns.json("ip -j neighbour show nud permanent");
        for link in list(&links).filter(|link| id(link) != INGRESS) {
            let Some(network) = up.get(&u32::try_from(id(link)).unwrap()) else { continue };
            let (name, bridge) = (word(link, "ifname"), word(link, "master"));
            let there: Vec<_> = wanted
                .iter()
                .filter(|one| one.host != host && one.network.id == network.id)
                .collect();
            let macs: BTreeSet<_> = there.iter().map(|one| one.mac.clone()).collect();
            let own = word(link, "address");
            let rows = |of_bridge: bool| -> BTreeSet<String> {
                list(&forwarding)
                    .filter(|row| word(row, "ifname") == name && word(row, "mac") != own)
                    .filter(|row| row.get("master").is_some() == of_bridge)
                    .map(|row| word(row, "mac").to_owned())
                    .filter(|mac| !mac.starts_with("33:33") && !mac.starts_with("01:00"))
                    .collect()
            };
            let about = |what: &str| format!("{what} of {} on {host}", network.name);
            compare(&about("forwarding"), &rows(false), &macs, differences);
            compare(&about("the bridge's forwarding"), &rows(true), &macs, differences);
            let is = list(&neighbours)
                .filter(|row| word(row, "dev") == bridge)
                .map(|row| (word(row, "dst").to_owned(), word(row, "lladdr").to_owned()));
            let wanted = there.iter().map(|one| (one.ip.to_string(), one.mac.clone()));
            compare(&about("neighbours"), &is.collect(), &wanted.collect(), differences);
        }
    }

    fn verify_names(&self, differences: &mut Differences) {
        let wanted = self.wanted();
        let names: BTreeSet<_> = wanted.iter().map(|one| one.name).collect();
        let asked: Vec<_> = names.iter().map(|name| format!("-q {name}")).collect();
        let mut seen = BTreeSet::new();
        for asker in &wanted {
            if !seen.insert((asker.host, asker.network.id.clone())) {
                continue;
            }
            let (server, asked) = (asker.gateway, asked.join(" "));
            let options = "+noall +answer +tries=2 +time=3";
            let ran = asker.netns.output(&format!("dig {options} @{server} {asked}"));
            let answers = String::from_utf8_lossy(&ran.stdout).into_owned();
            let is = answers.lines().filter_map(|answer| {
                let words: Vec<_> = answer.split_whitespace().collect();
                let (name, address) = (words.first()?, words.last()?);
                Some((name.trim_end_matches('.').to_owned(), (*address).to_owned()))
            });
            let there = wanted.iter().filter(|one| one.network.id == asker.network.id);
            let there = there.map(|one| (one.name.to_owned(), one.ip.to_string()));
            let about = format!("names of {} on {}", asker.network.name, asker.host);
            compare(&about, &is.collect(), &there.collect(), differences);
        }
    }

    /// What there is between two that do not reach each other.
    fn ways(&self, from: &Wanted<'_>, to: &Wanted<'_>) -> Vec<String> {
        let show = |netns: &netd_tests::Namespace, line: &str| -> Vec<String> {
            let shown = String::from_utf8_lossy(&netns.output(line).stdout).into_owned();
            shown.lines().map(str::to_owned).collect()
        };
        let mut ways = vec![format!("{} {} on {}", from.name, from.mac, from.host)];
        ways.push(format!("{} {} on {}", to.name, to.mac, to.host));
        for one in [from, to] {
            ways.extend(show(one.netns, "ip neighbour"));
            let host = &self.fleet.hosts[one.host].netns;
            for line in ["bridge fdb show", "ip neighbour", "ip -s link"] {
                ways.extend(show(host, line));
            }
        }
        ways
    }

    /// Those that should reach each other do, and others do not.
    pub(crate) fn verify_traffic(&self, dice: &mut Dice) {
        let wanted = self.wanted();
        let mut seen = BTreeSet::new();
        // An address is given again after a second here, not after a minute: what a container
        // remembers of its neighbours may be of who had it before.
        for one in &wanted {
            one.netns.run("ip neighbour flush all");
        }
        for from in &wanted {
            for to in wanted.iter().filter(|to| to.network.id == from.network.id) {
                if seen.insert((from.network.id.clone(), from.host, to.host)) {
                    let about = format!("{} on {} reaches {}", from.name, from.host, to.name);
                    netd_tests::eventually(&about, || {
                        let ran = from.netns.output(&format!("ping -n -c 1 -W 1 {}", to.ip));
                        if ran.status.success() { Ok(()) } else { Err(self.ways(from, to)) }
                    });
                }
            }
        }
        let strangers = wanted.iter().flat_map(|from| {
            let others = wanted.iter().filter(|to| to.network.id != from.network.id);
            others.map(move |to| (from, to))
        });
        let strangers: Vec<_> = strangers.collect();
        // All of them would take a second each.
        let mut pings = Vec::new();
        for _ in 0..4.min(strangers.len()) {
            let (from, to) = strangers[dice.roll(strangers.len())];
            let ping = ["ping", "-n", "-c", "1", "-W", "1", &to.ip.to_string()];
            let mut ping = from.netns.command(ping);
            let ping = ping.stdout(std::process::Stdio::null()).spawn().unwrap();
            pings.push((format!("{} reaches {}", from.name, to.name), ping));
        }
        for (about, mut ping) in pings {
            assert!(!ping.wait().unwrap().success(), "of different networks: {about}");
        }
    }
}
