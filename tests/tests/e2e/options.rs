//! The page on options says what the drivers say, no more and no less.

use std::collections::{BTreeMap, BTreeSet};

use cnm::{
    Call as _, Request,
    driver::{GetInfo, Info},
    options::{Known, LIVE_OF_ANY_NETWORK, OF_ANY_ENDPOINT, OF_ANY_NETWORK, Setting},
};
use netd_tests::World;

const PAGE: &str = include_str!("../../../docs/options.md");

/// The drivers that there are.
const DRIVERS: [&str; 5] = ["bridge", "overlay", "macvlan", "none", "host"];

/// Under which names, and whether it changes in use.
type Row = (Vec<String>, bool);

/// The rows of a section of the page, by driver.
fn page(section: &str) -> BTreeMap<String, BTreeSet<Row>> {
    let (_, rest) = PAGE.split_once(&format!("## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let mut rows: BTreeMap<_, BTreeSet<Row>> = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let names = cells[..2].iter().flat_map(|cell| cell.split(','));
        let names = names.map(|name| name.trim().trim_matches('`').to_owned());
        let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
        let live = cells.get(5).is_some_and(|cell| *cell != "no");
        for driver in cells[2].split(',') {
            // Only what is this host's alone changes.
            let live = live && ["bridge", "any"].contains(&driver.trim());
            assert!(
                rows.entry(driver.trim().to_owned()).or_default().insert((names.clone(), live))
            );
        }
    }
    rows
}

fn known(table: &[Known]) -> BTreeSet<Row> {
    table.iter().map(|known| (known.names.clone(), known.live)).collect()
}

fn own(table: &[Setting], live: &[Setting]) -> BTreeSet<Row> {
    let names = |setting: &Setting| setting.names.iter().map(|name| (*name).to_owned()).collect();
    table.iter().map(|setting| (names(setting), live.contains(setting))).collect()
}

#[test]
fn the_page_has_the_options_of_every_driver_and_no_others() {
    let world = World::new();
    let host = world.host("a");
    let (networks, endpoints) = (page("Networks"), page("Endpoints"));
    for driver in DRIVERS {
        let asked = host.plugin(driver, &Request::new(1, &GetInfo {}).to_line());
        let replies = asked.replies();
        let info: Info = serde_json::from_value(replies[0]["result"].clone())
            .unwrap_or_else(|error| panic!("{}: {error}: {replies:?}", GetInfo::METHOD));
        let options = info.options.unwrap();
        let none = BTreeSet::new();
        assert_eq!(networks.get(driver).unwrap_or(&none), &known(&options.network), "{driver}");
        assert_eq!(endpoints.get(driver).unwrap_or(&none), &known(&options.endpoint), "{driver}");
    }
    assert_eq!(networks["any"], own(&OF_ANY_NETWORK, &LIVE_OF_ANY_NETWORK));
    assert_eq!(endpoints["any"], own(&OF_ANY_ENDPOINT, &[]));
    let of_page: BTreeSet<_> =
        networks.keys().chain(endpoints.keys()).map(String::as_str).collect();
    let all: BTreeSet<_> = DRIVERS.into_iter().chain(["any"]).collect();
    assert_eq!(of_page, all);
}

#[test]
fn what_docker_has_besides_is_refused_as_the_page_says() {
    let world = World::new();
    let host = world.host("a");
    for option in [
        "com.docker.network.bridge.default_bridge=true",
        "com.docker.network.bridge.inhibit_ipv4=true",
        "com.docker.network.advertise_addr_nmsgs=3",
        "icc=perhaps",
        "com.docker.network.bridge.enable_ip_masquerade=no",
    ] {
        let created = host.netctl(&["network", "create", "-o", option, "app"]);
        let name = option.split('=').next().unwrap();
        assert!(created.code == 2 && created.stderr.contains(name), "{created:?}");
    }
    // As Go reads truth values, and so Docker.
    let off = "com.docker.network.bridge.enable_icc=0";
    host.netctl(&["network", "create", "-o", off, "app"]).success();
    let rules = host.netns.run("nft list set inet netd within");
    assert_eq!(rules.matches(" . ").count(), 2, "the type, and the default network alone: {rules}");
}
