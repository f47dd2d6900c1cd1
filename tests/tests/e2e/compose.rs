//! `netctl apply` and `netctl down`: the networks of a Compose file.

use std::{fs, process::Stdio};

use cnm::{
    Kind,
    network::{CreateNetwork, InspectNetwork},
    system::TakeTurn,
};
use netd_tests::{Asking as _, Executed, Host, World};

const FILE: &str = "/run/shop/compose.yaml";

const TEXT: &str = "\
services:
  web: {image: nginx, networks: [front, back]}
networks:
  front:
    labels: {tier: web}
  back:
    name: store
    internal: true
    enable_ipv6: true
    driver_opts: {com.docker.network.driver.mtu: 1400}
    ipam:
      config:
        - subnet: ${SUBNET:-10.7.0.0/16}
          ip_range: 10.7.1.0/24
          gateway: 10.7.0.9
  outside: {external: true, name: bridge}
";

fn apply(host: &Host, text: &str) -> Executed {
    fs::create_dir_all("/run/shop").unwrap();
    fs::write(FILE, text).unwrap();
    host.netctl(&["apply", "-f", FILE])
}

#[test]
fn the_networks_of_a_file_come_and_go() {
    let world = World::new();
    let host = world.host("a");
    let clean = host.snapshot();
    assert_eq!(
        apply(&host, TEXT).success(),
        "store created\nshop_front created\nbridge unchanged\n"
    );
    let inspect = |name: &str| {
        let inspect = InspectNetwork { network: name.to_owned() };
        host.client().call(&inspect).unwrap().network
    };
    let store = inspect("store");
    assert!(store.internal);
    assert_eq!(store.mtu, Some(1400));
    assert_eq!(store.subnets[0].gateway, "10.7.0.9".parse().ok());
    assert_eq!(store.subnets[0].range, "10.7.1.0/24".parse().ok());
    assert!(store.subnets.iter().any(|subnet| subnet.subnet.is_ipv6()));
    assert_eq!(store.labels["com.docker.compose.project"], "shop");
    assert_eq!(store.labels["com.docker.compose.network"], "back");
    let front = inspect("shop_front");
    assert_eq!(front.labels["tier"], "web");

    // Once more changes nothing; labels change in use.
    let web = world.container("web");
    host.client().attach(&web.to("shop_front"));
    assert_eq!(
        apply(&host, TEXT).success(),
        "store unchanged\nshop_front unchanged\nbridge unchanged\n"
    );
    let labelled = TEXT.replace("{tier: web}", "[tier=front, team=blue]");
    assert!(apply(&host, &labelled).success().contains("shop_front changed\n"));
    let labels = inspect("shop_front").labels;
    assert_eq!((labels["tier"].as_str(), labels["team"].as_str()), ("front", "blue"));
    assert!(apply(&host, TEXT).success().contains("shop_front changed\n"));
    assert_eq!(inspect("shop_front").labels.get("team"), None);
    assert_eq!(inspect("store").id, store.id);

    // What differs is said, and the rest is done.
    let other = TEXT.replace("10.7.0.9", "10.7.0.1").replace("internal: true", "internal: false");
    let refused = apply(&host, &other);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.stderr.contains(
            "network store is there and is another: it is internal, the gateway of 10.7.0.0/16 is \
             10.7.0.9"
        ),
        "{refused:?}"
    );
    assert_eq!(refused.stdout, "shop_front unchanged\nbridge unchanged\n");

    // Somebody is on one of them, and it stays; one that is no longer in the file goes.
    drop(apply(&host, "networks: {front: {}}"));
    let down = host.netctl(&["down", "-f", FILE]);
    assert_eq!((down.code, down.stdout.as_str()), (6, "store removed\n"));
    assert!(down.stderr.contains("shop_front has active endpoints"), "{down:?}");
    host.client().detach("web");
    assert_eq!(host.netctl(&["down", "-f", FILE]).success(), "shop_front removed\n");
    assert_eq!(host.netctl(&["down", "-f", FILE]).success(), "");
    netd_tests::eventually("nothing is left", || host.snapshot().same_as(&clean));
}

#[test]
fn what_is_not_the_projects_stays() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("shop_front");
    let refused = apply(&host, "networks: {front: {}}");
    assert_eq!(refused.code, 4);
    assert!(refused.stderr.contains("not of project shop"), "{refused:?}");
    assert_eq!(host.netctl(&["down", "-f", FILE]).success(), "");
    let there = host.netctl(&["network", "ls", "-q", "-f", "name=shop_front"]);
    assert_eq!(there.success().lines().count(), 1);
    let missing = apply(&host, "networks: {gone: {external: true}}");
    assert_eq!(missing.code, 3);
    assert!(missing.stderr.contains("network gone is external and not there"), "{missing:?}");
    for (text, code, why) in [
        ("networks: {a: {driver: nothing}}", 3, "nothing"),
        ("networks: {a: {colour: red}}", 2, "networks.a.colour is not known"),
        ("netwroks: {a: {}}", 2, "netwroks is not known"),
        ("include: [other.yaml]", 2, "include is not followed"),
        ("networks: [", 2, "no YAML"),
        ("networks: {a: {driver_opts: {mtuu: 1}}}", 2, "did you mean"),
    ] {
        let refused = apply(&host, text);
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
    let none = host.netctl(&["apply", "-f", "/run/none.yaml"]);
    assert_eq!(none.code, 3, "{none:?}");
}

#[test]
fn a_file_of_which_one_network_cannot_be_leaves_none() {
    let world = World::new();
    let host = world.host("a");
    assert_eq!(apply(&host, "networks: {old: {}}").success(), "shop_old created\n");
    let before = host.snapshot();
    let networks = || {
        let listed = host.netctl(&["network", "ls", "-f", "type=custom", "--format", "{{.Name}}"]);
        listed.success().to_owned()
    };
    let old = "old: {labels: {tier: web}}";
    // What can be known is known before anything is made.
    let unknown = "z: {external: true}, y: {name: bridge}";
    let refused = apply(&host, &format!("networks: {{a: {{}}, {old}, {unknown}}}"));
    assert_eq!((refused.code, refused.stdout.as_str()), (4, ""), "{refused:?}");
    assert!(refused.stderr.contains("bridge is there, and not of project shop"), "{refused:?}");
    assert!(refused.stderr.contains("network z is external and not there"), "{refused:?}");
    assert!(!refused.stderr.contains("removed again"), "{refused:?}");
    assert_eq!(networks(), "shop_old\n");
    // So is what its driver, or netd, would refuse: each is said, with where it stands.
    let wrong = "b: {driver_opts: {mtuu: 1}}, c: {driver: nothing}, d: {name: shop.netd}, e: {driver: \
                 macvlan, driver_opts: {macvlan_mode: sideways}}, f: {ipam: {config: [{subnet: \
                 127.0.0.0/24}]}}";
    let refused = apply(&host, &format!("networks: {{a: {{}}, {old}, {wrong}}}"));
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
    let said: Vec<_> = refused.stderr.lines().collect();
    assert_eq!(said.len(), 5, "{refused:?}");
    for (line, (key, why)) in said.iter().zip([
        ("b", "did you mean \"mtu\"?"),
        ("c", "driver nothing not found"),
        ("d", ""),
        ("e", "sideways"),
        ("f", "127.0.0.0/24"),
    ]) {
        assert!(line.starts_with(&format!("netctl: {FILE}: networks.{key}: ")), "{line}");
        assert!(line.contains(why), "{line}");
    }
    assert_eq!(networks(), "shop_old\n");
    let made = r#""network created","network":"shop_a""#;
    assert!(!host.log().contains(made), "it was not made in between");
    // What is refused when it is made takes away what was made before it.
    let subnet = "{ipam: {config: [{subnet: 10.7.0.0/24}]}}";
    let refused = apply(&host, &format!("networks: {{a: {subnet}, b: {subnet}, {old}}}"));
    assert_eq!((refused.code, refused.stdout.as_str()), (4, ""), "{refused:?}");
    assert!(refused.stderr.contains("overlaps"), "{refused:?}");
    assert!(refused.stderr.contains("removed again: shop_a"), "{refused:?}");
    assert_eq!(networks(), "shop_old\n");
    let inspect = InspectNetwork { network: "shop_old".to_owned() };
    let labels = host.client().call(&inspect).unwrap().network.labels;
    assert_eq!(labels.get("tier"), None, "what was there is as it was");
    netd_tests::eventually("nothing is left", || host.snapshot().same_as(&before));
    // And then all of it.
    let applied = apply(&host, &format!("networks: {{a: {subnet}, {old}}}"));
    assert_eq!(applied.success(), "shop_a created\nshop_old changed\n");
}

/// Runs them all at once.
fn at_once(host: &Host, words: &[&[&str]]) -> Vec<Executed> {
    let start = |words: &&[&str]| {
        let mut command = host.netctl_command(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let running: Vec<_> = words.iter().map(start).collect();
    running.into_iter().map(|one| one.wait_with_output().unwrap().into()).collect()
}

#[test]
fn many_who_apply_and_take_down_at_once_do_one_after_the_other() {
    let world = World::new();
    let host = world.host("a");
    let names = ["a", "b", "c", "d", "e"];
    let text: String = names.iter().map(|name| format!("  {name}: {{}}\n")).collect();
    fs::create_dir_all("/run/shop").unwrap();
    fs::write(FILE, format!("networks:\n{text}")).unwrap();
    let (up, down) = (&["apply", "-f", FILE][..], &["down", "-f", FILE][..]);
    let there = || {
        let listed = host.netctl(&["network", "ls", "-q", "-f", "name=shop_"]);
        listed.success().lines().count()
    };

    // Each network is made by one of them, and the others find it.
    let all = at_once(&host, &[up; 6]);
    for name in names {
        let said = |what: &str| {
            let line = format!("shop_{name} {what}");
            all.iter().filter(|one| one.success().lines().any(|said| said == line)).count()
        };
        assert_eq!((said("created"), said("unchanged")), (1, 5), "{all:?}");
    }
    assert_eq!(there(), names.len());

    // All of them or none are there, whoever came last.
    for _ in 0..6 {
        let all = at_once(&host, &[up, down, up, down]);
        for one in &all {
            let lines = one.success().lines().count();
            assert!(lines == 0 || lines == names.len(), "{all:?}");
        }
        let left = there();
        assert!(left == 0 || left == names.len(), "{left} are there: {all:?}");
    }

    // Whoever has the turn and does not come to an end is named, and stops nobody once it has ended.
    let mut other = host.client();
    other.call(&TakeTurn { at: "compose/shop".into() }).unwrap();
    let refused = host.netctl(up);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(
        refused.stderr.contains("another netctl apply or down of project shop is under way"),
        "{refused:?}"
    );
    drop(other);
    host.netctl(up).success();
    assert_eq!(there(), names.len());
}

#[test]
fn an_apply_and_somebody_who_makes_and_removes_the_same_come_to_an_end() {
    let world = World::new();
    let host = world.host("a");
    fs::create_dir_all("/run/shop").unwrap();
    fs::write(FILE, "networks: {a: {}, b: {}}").unwrap();
    let labels = [("project", "shop"), ("network", "a")];
    let labels = labels.map(|(key, value)| (format!("com.docker.compose.{key}"), value.into()));
    let create = CreateNetwork { labels: labels.into(), ..CreateNetwork::named("shop_a") };
    for _ in 0..8 {
        let mut command = host.netctl_command(&["apply", "-f", FILE]);
        let apply = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut netd = host.client();
        match netd.call(&create) {
            Err(error) if error.kind != Kind::Exists => panic!("{error}"),
            _ => {}
        }
        let applied: Executed = apply.wait_with_output().unwrap().into();
        assert_eq!(applied.success().lines().count(), 2, "{applied:?}");
        assert_eq!(host.netctl(&["down", "-f", FILE]).success().lines().count(), 2);
    }
}

#[test]
fn a_file_without_networks_is_said_to_have_none() {
    let world = World::new();
    let host = world.host("a");
    for text in ["", "services: {}\n", "networks: {}\n"] {
        let applied = apply(&host, text);
        assert_eq!(applied.success(), "");
        assert!(applied.stderr.contains("compose.yaml has no networks section"), "{applied:?}");
    }
}
