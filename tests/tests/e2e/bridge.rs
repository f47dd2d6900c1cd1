//! Containers on a bridge network: they reach each other, by address and by name.

use std::net::SocketAddr;

use netd_tests::{Asking as _, Host, World};

#[test]
fn two_containers_reach_each_other() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let (web, db) = (world.container("web"), world.container("db"));
    let web_ip = netd.attach(&web.to("app")).addresses[0].ip();
    let db_ip = netd.attach(&db.to("app")).addresses[0].ip();
    assert_ne!(web_ip, db_ip);
    assert!(web.netns.pings(db_ip));
    assert!(db.netns.pings(web_ip));
    web.netns.serve_tcp(80);
    web.netns.serve_udp(80);
    let server = SocketAddr::new(web_ip, 80);
    assert_eq!(db.netns.ask_tcp(server).unwrap(), db_ip);
    assert_eq!(db.netns.ask_udp(server).unwrap(), db_ip);
    assert_eq!(web.netns.ask_tcp(server).unwrap(), web_ip, "itself");
}
