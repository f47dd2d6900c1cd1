//! What leaves the host, as tcpdump sees it on its uplink: no question for a name of ours.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use netd_tests::{Asking as _, HostOptions, Namespace, World};

/// A capture of DNS on a link, which ends with this.
struct Capture {
    tcpdump: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Capture {
    fn on(netns: &Namespace, link: &str) -> Self {
        let words = ["tcpdump", "-l", "-n", "-i", link, "port", "53"];
        let mut tcpdump = netns
            .command(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`make deps-test`");
        // It says so once it listens.
        let mut said = BufReader::new(tcpdump.stderr.take().expect("it is piped")).lines();
        assert!(said.any(|line| line.is_ok_and(|line| line.contains("listening on"))));
        let lines = BufReader::new(tcpdump.stdout.take().expect("it is piped")).lines();
        Self { tcpdump, lines }
    }

    /// What was seen before a packet with this text.
    fn before(&mut self, text: &str) -> Vec<String> {
        let lines = self.lines.by_ref().map(|line| line.expect("it goes on"));
        lines.take_while(|line| !line.contains(text)).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(self.tcpdump.kill());
        drop(self.tcpdump.wait());
    }
}

#[test]
fn on_the_uplink_there_is_no_question_for_a_name_of_ours() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    netd.create("front");
    netd.create("back");
    let (client, db) = (world.container("client"), world.container("db"));
    let endpoint = netd.attach(&client.to("front"));
    let (server, own) = (endpoint.dns[0], endpoint.addresses[0].ip());
    let there = netd.attach(&db.to("back")).addresses[0].ip();
    let mut uplink = Capture::on(&host.netns, "lan0");
    let codes = |words: &str| {
        let said = client.netns.run(&format!("dig +tries=1 +time=3 @{server} {words}"));
        let line = said.lines().find_map(|line| line.split("status: ").nth(1)).unwrap_or_default();
        line.split(',').next().unwrap_or_default().to_owned()
    };
    for name in
        ["db", "db.back", "db.back.netd", "nobody.netd", "x.db.back.netd", "x.netd.internal"]
    {
        for kind in ["A", "AAAA", "MX", "TXT", "SRV", "HTTPS", "ANY", "TYPE65400"] {
            assert_eq!(codes(&format!("{name} {kind}")), "NXDOMAIN", "{name} {kind}");
        }
    }
    for kind in ["MX", "TXT", "HTTPS", "CAA"] {
        assert_eq!(codes(&format!("client {kind}")), "NOERROR", "client {kind}");
    }
    assert_eq!(codes(&format!("-x {there}")), "NXDOMAIN");
    assert_eq!(codes(&format!("-x {own}")), "NOERROR");
    assert_eq!(codes("+tcp db.back A"), "NXDOMAIN");
    // Another one does leave it, and shows that the capture sees what does.
    assert_eq!(codes("marker.example.org A"), "NOERROR");
    assert_eq!(uplink.before("marker.example.org"), Vec::<String>::new());
}
