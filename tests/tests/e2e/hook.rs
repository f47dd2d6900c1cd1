//! The host's own programs find containers by name, where netd is told to see to that: what it
//! changes for it is there while it runs, and goes with it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
};

use cnm::network::CreateNetwork;
use netd_tests::{Asking as _, Container, Host, HostOptions, World, eventually};
use nix::mount::{MsFlags, mount};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the machine's resolv.conf says before netd comes.
pub(super) const OWN: &str =
    "# the machine's own\nnameserver 192.0.2.2\noptions timeout:1 attempts:1\n";

/// An `/etc` of the test's own. Hosts, whose netd runs on it, come after.
pub(super) fn own_etc() {
    let copied = std::process::Command::new("cp").args(["-a", "/etc", "/run/etc"]).status();
    assert!(copied.expect("cp is there").success());
    let none: Option<&str> = None;
    mount(Some("/run/etc"), "/etc", none, MsFlags::MS_BIND, none).expect("a private mount");
    // It may be a link to a file of the machine's.
    drop(fs::remove_file(RESOLV_CONF));
    fs::write(RESOLV_CONF, OWN).expect("/etc is the test's own");
    let order = "hosts: files dns\n";
    fs::write("/etc/nsswitch.conf", order).expect("/etc is the test's own");
}

fn resolv_conf() -> String {
    fs::read_to_string(RESOLV_CONF).expect("it is there")
}

pub(super) fn is_hooked() -> Result<(), String> {
    let text = resolv_conf();
    let first = text.lines().find(|line| line.starts_with("nameserver"));
    match first == Some("nameserver 127.0.0.77") && text.ends_with(OWN) {
        true => Ok(()),
        false => Err(text),
    }
}

/// A web server, which ends with this.
struct Web(Child);

impl Web {
    fn on(container: &Container) -> Self {
        fs::create_dir_all("/run/www").expect("/run is the test's own");
        fs::write("/run/www/index.html", "hello from web").expect("/run is the test's own");
        let words = ["python3", "-m", "http.server", "--directory", "/run/www", "80"];
        let quiet = || Stdio::null();
        let mut server = container.netns.command(words);
        Self(server.stdout(quiet()).stderr(quiet()).spawn().expect("`make deps-test`"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn options(config: &str) -> HostOptions {
    HostOptions { config: config.to_owned(), ..HostOptions::default() }
}

fn fetched(host: &Host, url: &str) -> Result<String, String> {
    let output = host.netns.output(&format!("curl -sS --max-time 5 {url}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn the_hosts_programs_find_a_container_by_its_name() {
    let world = World::new();
    own_etc();
    let mut host = world.host_with("a", options("dns_hook = \"resolv.conf\""));
    let lan = host.lan();
    lan.serve_udp_with(53, netd_tests::one_address);
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    netd.attach(&web.to("app"));
    let _server = Web::on(&web);
    eventually("resolv.conf names netd", is_hooked);
    eventually("the page is there", || match fetched(&host, "http://web.app.netd/") {
        Ok(page) if page == "hello from web" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Others are found by the servers that the machine has.
    assert!(host.netns.run("getent hosts example.org").contains("203.0.113.7"));

    // Whoever writes the file anew is not in the way for long.
    fs::write(RESOLV_CONF, OWN).unwrap();
    eventually("resolv.conf names netd again", is_hooked);

    // Killed, it is in nobody's way: the next server is asked.
    host.kill();
    is_hooked().unwrap();
    assert!(host.netns.run("getent hosts other.example.org").contains("203.0.113.7"));
    host.start();
    assert!(fetched(&host, "http://web.app.netd/").is_ok());
    assert_eq!(resolv_conf().matches("127.0.0.77").count(), 1);
    host.stop();
    assert_eq!(resolv_conf(), OWN);
    assert_eq!(fs::metadata(RESOLV_CONF).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn it_is_off_unless_told_and_what_a_killed_one_left_goes() {
    let world = World::new();
    own_etc();
    let mut host = world.host_with("a", options("dns_hook = \"resolv.conf\""));
    eventually("resolv.conf names netd", is_hooked);
    host.kill();
    is_hooked().unwrap();
    let plain = world.host("b");
    assert_eq!(resolv_conf(), OWN, "another one that is not told to takes it away");
    drop(plain);
    assert_eq!(resolv_conf(), OWN);
}

#[test]
fn a_file_that_cannot_be_replaced_is_written_in_place() {
    let world = World::new();
    own_etc();
    // As in a container: something is mounted on the file itself.
    fs::write("/run/resolv.conf", OWN).unwrap();
    let none: Option<&str> = None;
    mount(Some("/run/resolv.conf"), RESOLV_CONF, none, MsFlags::MS_BIND, none).unwrap();
    let mut host = world.host_with("a", options("dns_hook = \"resolv.conf\""));
    eventually("resolv.conf names netd", is_hooked);
    host.stop();
    assert_eq!(resolv_conf(), OWN);
    assert_eq!(fs::read_to_string("/run/resolv.conf").unwrap(), OWN);
}

#[test]
fn systemd_resolved_is_told_of_the_domain_and_of_the_end_of_it() {
    const DROP_IN: &str = "/run/systemd/resolved.conf.d/netd.conf";
    let world = World::new();
    own_etc();
    // A stand-in that writes down what it is told.
    fs::create_dir_all("/run/bin").unwrap();
    fs::write("/run/bin/systemctl", "#!/bin/sh\necho \"$@\" >>/run/told\n").unwrap();
    fs::set_permissions("/run/bin/systemctl", fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut host = world.host_with(
        "a",
        HostOptions {
            under: vec!["env".to_owned(), format!("PATH=/run/bin:{path}")],
            ..options("dns_hook = \"resolved\"\ndns_domain = \"cluster.local\"")
        },
    );
    let told = || fs::read_to_string("/run/told").unwrap_or_default().lines().count();
    eventually("resolved is told", || if told() == 1 { Ok(()) } else { Err(told()) });
    let text = fs::read_to_string(DROP_IN).unwrap();
    assert!(text.contains("\nDNS=127.0.0.77\nDomains=~cluster.local ~netd.internal\n"), "{text}");
    assert_eq!(fs::metadata(DROP_IN).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(resolv_conf(), OWN);
    let said = host.netns.run("dig +short @127.0.0.77 host.netd.internal A");
    assert_eq!(said.trim(), "127.0.0.1");
    host.kill();
    host.start();
    assert!(fs::exists(DROP_IN).unwrap());
    host.stop();
    assert!(!fs::exists(DROP_IN).unwrap());
    assert_eq!(told(), 2, "it knew it when netd was killed");
}

#[test]
fn a_machine_that_names_no_server_is_a_problem_where_somebody_would_ask() {
    let world = World::new();
    own_etc();
    fs::write(RESOLV_CONF, "# nobody\nsearch example.org\n").unwrap();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let inside = CreateNetwork { internal: true, ..CreateNetwork::named("inside") };
    netd.call(&inside).unwrap();
    let options = [("dns".to_owned(), "192.0.2.2".to_owned())].into();
    netd.call(&CreateNetwork { options, ..CreateNetwork::named("asks") }).unwrap();
    let [one, two, three] = ["one", "two", "three"].map(|name| world.container(name));
    netd.attach(&one.to("inside"));
    netd.attach(&two.to("asks"));
    assert!(netd.status().problems.is_empty(), "nobody asks the machine's servers");
    netd.attach(&three.to("app"));
    let [problem] = &netd.status().problems[..] else { panic!("there is one problem") };
    assert!(problem.contains(RESOLV_CONF) && problem.contains("containers on app "), "{problem}");
    let said = host.netctl(&["status"]);
    assert!(said.success().contains("dns_upstreams"), "{said:?}");
    fs::write(RESOLV_CONF, OWN).unwrap();
    eventually("it is none any more", || {
        let problems = netd.status().problems;
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    });
}
