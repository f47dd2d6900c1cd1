//! Ten thousand endpoints on one host: what shows them all is longer than what anybody may ask.

use std::fs;

use cnm::{
    Call as _, Request,
    driver::Sync,
    endpoint::{Attach, Container, ListEndpoints, Netns},
    frame::MAX_LINE,
    network::InspectNetwork,
    sandbox::ListSandboxes,
};
use netd_tests::{Asking as _, World};

const MANY: usize = 10_000;

/// The name of the one among them that was really attached; the others are its row, written again
/// under other names, as attaches would have.
const FIRST: &str = "web";

#[test]
fn ten_thousand_endpoints_are_shown_by_every_door() {
    let world = World::new();
    let mut host = world.host("one");
    let container = Container::new(FIRST.parse().unwrap());
    let attach = Attach::new("host", container, Some(Netns::Path(host.netns.path())));
    let first = host.client().attach(&attach);
    host.stop();

    let journal = host.run_dir().join("boot.journal");
    let text = fs::read_to_string(&journal).unwrap();
    let row = text.lines().rfind(|line| line.contains(first.id.as_str())).unwrap().to_owned();
    let mut rows = text;
    for n in 1..MANY {
        let other = row
            .replace(first.id.as_str(), &format!("{n:064x}"))
            .replace(&format!("\"id\":\"{FIRST}\""), &format!("\"id\":\"{FIRST}-{n}\""));
        assert!(other.contains(&format!("{FIRST}-{n}")), "{other}");
        rows += &other;
        rows.push('\n');
    }
    fs::write(&journal, rows).unwrap();
    host.start();

    let mut netd = host.client();
    let endpoints = netd.endpoints();
    assert_eq!(endpoints.len(), MANY);
    let shown = netd.call(&InspectNetwork { network: "host".into() }).unwrap();
    assert_eq!(shown.endpoints.len(), MANY);
    assert_eq!(netd.call(&ListSandboxes {}).unwrap().sandboxes.len(), MANY);
    // Its driver was told all of them, in one line.
    let sync = Sync { networks: vec![shown.network], endpoints, ..Sync::default() };
    assert!(Request::new(1, &sync).to_line().len() > MAX_LINE, "{} is short", Sync::METHOD);
    assert_eq!(netd.status().problems, [""; 0]);

    let listed = host.netctl(&["endpoint", "ls", "--json"]);
    assert!(listed.success().len() > MAX_LINE);
    assert!(listed.stdout.contains(&format!("{FIRST}-{}", MANY - 1)));
    let inspected = host.netctl(&["network", "inspect", "host"]);
    assert!(inspected.success().contains(&format!("{FIRST}-{}", MANY - 1)));
    let list = ListEndpoints { network: None, container: None };
    let fronted = host.plugin("bridge", &Request::new(1, &list).to_line());
    assert!(fronted.success().len() > MAX_LINE);
    assert_eq!(fronted.replies()[0]["result"]["endpoints"].as_array().unwrap().len(), MANY);
}
