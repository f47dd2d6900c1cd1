//! Containers that netavark had set up before netd was in its place: it is the one to take them off.

use super::*;

/// A netavark of the distribution's beside the stand-in; gives what it was told so far, its words and
/// what it could read, and takes it away.
fn distributions(place: &Place) -> impl Fn() -> Vec<String> + use<> {
    let said = place.host.run_dir().join("said");
    let script = format!(
        "#!/bin/sh\n{{ echo \"$@\"; cat; echo; }} >>{0}\n\
         [ ! -e {0}.bad ] || {{ echo '{{\"error\":\"not today\"}}'; exit 1; }}\n",
        said.display()
    );
    let program = place.host.run_dir().join("netavark.distribution");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    move || {
        let text = fs::read_to_string(&said).unwrap_or_default();
        drop(fs::remove_file(&said));
        text.lines().map(str::to_owned).collect()
    }
}

/// Connects a container with the host as netavark does.
fn connect(place: &Place, container: &Container, name: &str, ifname: &str) {
    let pid = container.netns.pid();
    let pair = format!("ip link add {name} type veth peer name {ifname} netns {pid}");
    place.host.netns.run(&pair);
}

#[test]
fn a_container_of_netavarks_is_taken_off_by_netavark() {
    let mut place = Place::new();
    let told = distributions(&place);
    let before = place.host.snapshot();
    let app = network("app", 1, json!({}));
    let (old, new) = (place.world.container("old"), place.world.container("new"));
    connect(&place, &old, "veth0", "eth0");
    let app = std::slice::from_ref(&app);
    let (to_old, to_new) = (document(&old, 7, app), document(&new, 8, app));
    place.setup(&new, &to_new).success();
    // netd's own is nobody else's, however often it is taken off, and whether netd is there or not.
    for _ in 0..2 {
        place.teardown(&new, &to_new).success();
    }
    place.setup(&new, &to_new).success();
    place.host.kill();
    place.teardown(&new, &to_new).success();
    assert_eq!(told(), [""; 0]);
    // The other one is netavark's, in the same words.
    let words = format!("--config /run/n --rootless=false teardown {}", old.netns.path());
    for netd_is_there in [false, true] {
        if netd_is_there {
            place.host.start();
        }
        assert_eq!(place.teardown(&old, &to_old).success(), "");
        assert_eq!(told(), [words.clone(), to_old.to_string()], "{netd_is_there}");
    }
    let bad = place.host.run_dir().join("said.bad");
    fs::write(&bad, "").unwrap();
    assert_eq!(refused(&place.teardown(&old, &to_old)), "not today");
    fs::remove_file(place.host.run_dir().join("netavark.distribution")).unwrap();
    let error = refused(&place.teardown(&old, &to_old));
    assert!(error.contains("before netd was in its place") && error.contains("app"), "{error}");
    // What is gone is nobody's.
    place.host.netns.run("ip link delete veth0");
    assert_eq!(place.teardown(&old, &to_old).success(), "");
    netd_tests::eventually("nothing is left", || before.same_as(&place.host.snapshot()));
}

#[test]
fn a_macvlan_of_netds_is_no_one_elses_while_netd_is_away() {
    let mut place = Place::new();
    let told = distributions(&place);
    let _lan = place.host.lan();
    let web = place.world.container("web");
    let more = json!({"driver": "macvlan", "network_interface": "lan0"});
    let whole = document(&web, 7, &[network("near", 1, more)]);
    place.setup(&web, &whole).success();
    place.host.kill();
    place.teardown(&web, &whole).success();
    place.host.start();
    netd_tests::eventually("the network is gone", || match &place.networks()[..] {
        [] => Ok(()),
        others => Err(others.to_vec()),
    });
    assert_eq!(told(), [""; 0]);
    // One that netd does not know is.
    let pid = web.netns.pid();
    place.host.netns.run(&format!("ip link add name m0 link lan0 netns {pid} type macvlan"));
    web.netns.run("ip link set m0 name eth0");
    place.teardown(&web, &whole).success();
    assert_eq!(told().len(), 2);
}

#[test]
fn a_container_of_both_is_taken_off_by_each() {
    let place = Place::new();
    let told = distributions(&place);
    let web = place.world.container("web");
    let (app, back) = (network("app", 1, json!({})), network("back", 2, json!({})));
    let flat = network("flat", 3, json!({"driver": "ipvlan"}));
    let whole = document(&web, 7, &[app.clone(), back.clone(), flat.clone()]);
    let of = |names: &[&str]| {
        let mut part = whole.clone();
        for key in ["networks", "network_info"] {
            part[key].as_object_mut().unwrap().retain(|name, _| names.contains(&name.as_str()));
        }
        part
    };
    connect(&place, &web, "veth0", "eth0");
    connect(&place, &web, "veth2", "eth2");
    place.setup(&web, &of(&["back"])).success();
    place.teardown(&web, &whole).success();
    let heard: Value = serde_json::from_str(&told()[1]).unwrap();
    assert_eq!(heard, of(&["app", "flat"]));
    assert_eq!(place.networks(), []);
}

#[test]
fn a_network_that_netavark_serves_still_is_updated_there_too() {
    let place = Place::new();
    let told = distributions(&place);
    let config = place.host.run_dir().join("networks").join("aardvark-dns");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("app"), "").unwrap();
    fs::write(config.join("back%int"), "").unwrap();
    let netavark = place.netavark.display().to_string();
    let config = place.host.run_dir().join("networks").display().to_string();
    for (network, is_theirs) in [("app", true), ("back", true), ("other", false)] {
        let words = ["--config", &config, "update", network, "--network-dns-servers", "192.0.2.53"];
        let mut command = place.host.netns.command([&[netavark.as_str()], &words[..]].concat());
        let executed = Executed::from(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!(executed.success(), "");
        let heard = told();
        let expected = if is_theirs { vec![words.join(" "), "null".to_owned()] } else { vec![] };
        assert_eq!(heard, expected, "{network}");
    }
}
