//! What the kernel holds, read with other eyes than netd's, to compare before with after.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use crate::Namespace;

/// Links, addresses, routes and firewall elements of a namespace, one line each.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// What is there now.
    pub fn of(netns: &Namespace) -> Self {
        let mut lines = BTreeSet::new();
        for link in list(&netns.json("ip -j -d link")) {
            lines.insert(format!(
                "link {} of kind {} in group {} on {} with mtu {}",
                word(link, "ifname"),
                word(&link["linkinfo"], "info_kind"),
                word(link, "group"),
                word(link, "master"),
                link["mtu"],
            ));
        }
        for link in list(&netns.json("ip -j address")) {
            for address in list(&link["addr_info"]).filter(|a| a["scope"] != "link") {
                let name = word(link, "ifname");
                let ip = word(address, "local");
                lines.insert(format!("address {ip}/{} of {name}", address["prefixlen"]));
            }
        }
        for table in ["inet netd", "inet netd-overlay"] {
            let text = netns.output(&format!("nft -j list table {table}"));
            if !text.status.success() {
                continue;
            }
            let ruleset: Value = serde_json::from_slice(&text.stdout).expect("nft prints JSON");
            for item in list(&ruleset["nftables"]) {
                for kind in ["set", "map"] {
                    let Some(set) = item.get(kind) else { continue };
                    for element in list(&set["elem"]) {
                        lines.insert(format!("element of {}: {element}", word(set, "name")));
                    }
                }
            }
            let rules = list(&ruleset["nftables"]).filter(|item| item.get("rule").is_some());
            lines.insert(format!("table {table} with {} rules", rules.count()));
        }
        Self(lines)
    }

    /// The lines that begin with `start`.
    pub fn lines<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str).filter(move |line| line.starts_with(start))
    }

    /// Whether it is as another, or what differs.
    ///
    /// # Errors
    /// What is more and what is less than in the other.
    pub fn same_as(&self, other: &Self) -> Result<(), Vec<String>> {
        let more = self.0.difference(&other.0).map(|line| format!("more: {line}"));
        let less = other.0.difference(&self.0).map(|line| format!("less: {line}"));
        let differences: Vec<_> = more.chain(less).collect();
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("none")
}
