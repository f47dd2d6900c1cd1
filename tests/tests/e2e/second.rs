//! A second netd in the network namespace of one that runs, as it is started by mistake: it takes what the
//! first one has made for what is left of somebody, so it must not begin.

use std::fs;

use netd_tests::{Asking as _, Host, HostOptions, World};

#[test]
fn a_second_netd_in_the_same_namespace_touches_nothing() {
    let world = World::new();
    let config = "dns_link_local = \"169.254.76.53\"".to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    host.client().create("app");
    let (web, db) = (world.container("web"), world.container("db"));
    host.client().attach(&web.to("app"));
    let web_at = host.client().attach(&db.to("app")).addresses[0].ip();
    let elsewhere = host.run_dir().join("second");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("netd.toml"), "").unwrap();
    let (netd, place) = (world.programs().join("netd"), elsewhere.display());
    // One that begins all the same does not end by itself.
    let second = format!(
        "timeout 10 {} --run-dir {place}/run --state-dir {place}/state --config {place}/netd.toml",
        netd.display()
    );
    let before = host.snapshot();
    for _ in 0..2 {
        let said = host.netns.output(&second);
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        let why = String::from_utf8_lossy(&said.stderr).into_owned();
        let words = ["another netd", "in this network namespace", &host.pid().to_string()];
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
        assert_eq!(why.lines().count(), 1, "{why}");
        host.snapshot().same_as(&before).unwrap();
    }
    // When the first one has ended, however it did, there is nobody in the way.
    host.kill();
    host.start();
    host.snapshot().same_as(&before).unwrap();
    let shared = "169.254.76.53".parse().unwrap();
    assert_eq!(Host::ask_name(&web.netns, shared, "db A"), [web_at.to_string()]);
}

#[test]
fn whoever_else_has_the_name_by_which_netds_know_each_other_is_in_nobodys_way() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let world = World::new();
    let mut host = world.host("a");
    host.stop();
    // One that listens is asked who it is, and nobody answers for one that does not.
    let name = SocketAddr::from_abstract_name("netd").unwrap();
    let listener = host.netns.inside(|| {
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(65534)).unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
        listener
    });
    host.start();
    assert!(host.log().contains("user 65534"), "{}", host.log());
    drop(listener);
}
