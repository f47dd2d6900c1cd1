//! `netctl podman`: files and links, in directories of the test's own.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::fake::{Ended, Fake, network};

/// Directories as a host has them: netd's plugins, Podman's configuration, and a distribution's
/// netavark.
struct Place {
    netctl: Fake,
    plugins: PathBuf,
    conf: PathBuf,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        Self::with(Fake::new(|_, _| Ok(json!({}))))
    }

    fn with(netctl: Fake) -> Self {
        let directory = fs::canonicalize(&netctl.directory).expect("a directory");
        let (plugins, conf) = (directory.join("plugins"), directory.join("containers.conf.d"));
        let theirs = directory.join("theirs");
        for place in [&plugins, &conf, &theirs] {
            fs::create_dir(place).expect("a directory");
        }
        for name in ["netd-bridge", "netd-none"] {
            fs::write(plugins.join(name), name).expect("a file");
        }
        fs::write(theirs.join("netavark"), "theirs").expect("a file");
        let list = format!("[engine]\nhelper_binaries_dir = [\"{}\"]\n", theirs.display());
        fs::write(conf.join("10-theirs.conf"), list).expect("a file");
        let file = conf.join("90-netd.conf");
        Self { netctl, plugins, conf, file }
    }

    fn podman(&self, words: &str) -> Ended {
        let (plugins, conf) = (self.plugins.display(), self.conf.display());
        self.netctl.netctl(&format!("podman {words} --plugin-dir {plugins} --conf-dir {conf}"))
    }

    /// Everything below the directories, with what is in it.
    fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        for directory in [&self.plugins, &self.conf, &self.plugins.join("podman")] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let content = fs::read_link(&path)
                    .map(|target| target.display().to_string())
                    .or_else(|_| fs::read_to_string(&path))
                    .unwrap_or_default();
                all.push(format!("{}: {content}", path.display()));
            }
        }
        all.sort();
        all
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).expect("it is written")
    }

    fn helper(&self, name: &str) -> PathBuf {
        self.plugins.join("podman").join(name)
    }
}

fn done(ended: &Ended) -> &str {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    &ended.stdout
}

#[test]
fn podman_is_told_where_the_plugins_are_and_no_more() {
    let place = Place::new();
    let before = place.all();
    let shown = place.podman("install --dry-run");
    assert_eq!(done(&shown), format!("{}\n", place.file.display()));
    assert_eq!(place.all(), before, "only said");
    assert_eq!(place.podman("install"), shown);
    let text = place.text();
    assert!(text.contains(&format!("netavark_plugin_dirs = [\"{}\"", place.plugins.display())));
    assert!(text.contains("\"/usr/lib/netavark\"") && !text.contains("[engine]"), "{text}");
    let already = format!("installed already: {}\n", place.file.display());
    for words in ["install", "install --dry-run"] {
        assert_eq!(done(&place.podman(words)), already);
    }
    assert_eq!(done(&place.podman("uninstall --dry-run")), shown.stdout);
    assert_eq!(done(&place.podman("uninstall")), shown.stdout);
    assert_eq!(place.all(), before);
    assert_eq!(done(&place.podman("uninstall")), "");
}

#[test]
fn the_stand_in_leads_to_a_plugin_and_the_distributions_is_beside_it() {
    let place = Place::new();
    let before = place.all();
    let installed = place.podman("install --drop-in");
    assert_eq!(installed.code, Some(0), "{installed:?}");
    assert!(installed.stderr.contains("no aardvark-dns is in"), "{installed:?}");
    assert_eq!(installed.stdout.lines().count(), 4, "{installed:?}");
    let leads = |name: &str| fs::read_link(place.helper(name)).expect(name);
    assert_eq!(leads("netavark"), place.plugins.join("netd-bridge"));
    assert_eq!(leads("aardvark-dns"), place.plugins.join("netd-bridge"));
    assert!(leads("netavark.distribution").ends_with("theirs/netavark"));
    assert!(!place.helper("aardvark-dns.distribution").is_symlink());
    let text = place.text();
    let helpers =
        format!("helper_binaries_dir = [\"{}\", ", place.plugins.join("podman").display());
    assert!(text.contains(&helpers) && text.contains("theirs\"]"), "{text}");
    assert!(text.contains("network_backend = \"netavark\""), "{text}");
    let again = place.podman("install --drop-in");
    let all = ["netavark", "netavark.distribution", "aardvark-dns"].map(|name| place.helper(name));
    let all: Vec<_> =
        all.iter().chain([&place.file]).map(|path| path.display().to_string()).collect();
    let already = format!("installed already: {}\n", all.join(", "));
    assert_eq!((again.code, &again.stdout), (Some(0), &already), "it is there");
    // Without the word it stays where it is, and what has changed is followed.
    let all = place.all();
    let plain = place.podman("install");
    assert_eq!((plain.code, &plain.stdout), (Some(0), &already), "{plain:?}");
    assert_eq!(place.all(), all);
    let elsewhere = place.plugins.join("elsewhere");
    let moved = place.podman(&format!("install --helper-dir {}", elsewhere.display()));
    assert_eq!((moved.code, moved.stdout.lines().count()), (Some(0), 7), "{moved:?}");
    assert!(!place.plugins.join("podman").exists() && elsewhere.join("netavark").is_symlink());
    assert!(place.text().contains(&elsewhere.display().to_string()));
    assert_eq!(done(&place.podman("uninstall")).lines().count(), 4);
    assert!(!elsewhere.exists());
    assert_eq!(place.all(), before);
}

#[test]
fn what_is_anothers_is_neither_written_over_nor_taken_away() {
    let place = Place::new();
    let refused = |wrong: &Path, words: &str| {
        let before = place.all();
        let ended = place.podman(words);
        assert_eq!(ended.code, Some(4), "{ended:?}");
        assert!(ended.stderr.contains(&format!("{} is there", wrong.display())), "{ended:?}");
        assert_eq!(place.all(), before, "nothing is half done");
    };
    fs::write(&place.file, "[network]\n").expect("a file");
    refused(&place.file, "install");
    refused(&place.file, "install --drop-in");
    let kept = place.podman("uninstall");
    assert!(done(&kept).contains("is another's and stays"), "{kept:?}");
    assert!(place.file.exists());
    fs::remove_file(&place.file).expect("it is there");
    fs::create_dir(place.plugins.join("podman")).expect("a directory");
    let netavark = place.helper("netavark");
    symlink("/usr/lib/podman/netavark", &netavark).expect("a link");
    refused(&netavark, "install --drop-in");
    place.podman("uninstall");
    assert!(netavark.is_symlink());
}

#[test]
fn what_somebody_changed_is_theirs() {
    let place = Place::new();
    place.podman("install --drop-in");
    let text = place.text() + "log_driver = \"journald\"\n";
    fs::write(&place.file, &text).expect("a file");
    let before = place.all();
    for words in ["install", "install --drop-in", "uninstall"] {
        let refused = place.podman(words);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(4), ""), "{refused:?}");
        let said = format!("{} was changed since netctl wrote it", place.file.display());
        assert!(refused.stderr.contains(&said), "{refused:?}");
        assert_eq!(place.all(), before, "{words}");
    }
    place.podman("uninstall --force");
    assert!(!place.file.exists() && !place.plugins.join("podman").exists());
}

#[test]
fn a_netavark_that_takes_no_plugins_is_named() {
    let place = Place::new();
    let netavark = place.conf.with_file_name("theirs").join("netavark");
    let says = |version: &str| {
        fs::write(&netavark, format!("#!/bin/sh\necho netavark {version}\n")).expect("a file");
        fs::set_permissions(&netavark, fs::Permissions::from_mode(0o755)).expect("a mode");
        place.podman("install")
    };
    let old = says("1.4.0");
    assert_eq!(old.code, Some(0), "{old:?}");
    assert!(old.stderr.contains("is netavark 1.4.0, which takes no plugins"), "{old:?}");
    assert_eq!(says("1.6.0").stderr, "");
    assert_eq!(says("").stderr, "");
}

#[test]
fn what_runs_on_netd_is_not_left_alone_unasked() {
    let netd = Fake::new(|method, _| match method {
        "endpoint.list" => {
            let endpoints = [("web", "netavark"), ("db", "netavark"), ("other", "docker")];
            Ok(json!({"endpoints": endpoints.map(|(name, label)| json!({
                "id": "1".repeat(64), "network": "2".repeat(64), "network_name": "app",
                "container": {"id": name, "name": name}, "ifname": "eth0", "state": "attached",
                "created": "", "labels": {label: "x"},
            }))}))
        }
        _ => Ok(json!({})),
    });
    let place = Place::with(netd);
    place.podman("install");
    let refused = place.podman("uninstall");
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("Podman's containers db, web are on netd's"), "{refused:?}");
    assert!(place.file.exists());
    let forced = place.podman("uninstall --force");
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert!(forced.stderr.contains("db, web stay on netd's networks"), "{forced:?}");
    // Where nothing is installed there is nothing to say.
    assert_eq!(done(&place.podman("uninstall")), "");
}

#[test]
fn a_configuration_that_is_none_is_named() {
    let place = Place::new();
    fs::write(place.conf.join("20-half.conf"), "[engine").expect("a file");
    let ended = place.podman("install");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("20-half.conf is not understood"), "{ended:?}");
    let list = "[engine]\nhelper_binaries_dir = \"/usr/lib/podman\"\n";
    fs::write(place.conf.join("20-half.conf"), list).expect("a file");
    let before = place.all();
    let ended = place.podman("install --drop-in");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("helper_binaries_dir is"), "{ended:?}");
    assert_eq!(place.all(), before);
}

#[test]
fn networks_that_podman_has_no_more_are_removed() {
    let netd = Fake::new(|method, params| match method {
        "network.list" if params["filters"]["label"][0] == "netavark/addresses" => {
            Ok(json!({ "networks": [] }))
        }
        "network.list" => {
            let mut networks = [network(1, "kept", "bridge"), network(2, "gone", "bridge")];
            for (number, one) in networks.iter_mut().enumerate() {
                one["labels"] = json!({ "netavark": number.to_string().repeat(64) });
            }
            Ok(json!({ "networks": networks }))
        }
        _ => Ok(json!({})),
    });
    let directory = netd.directory.join("networks");
    let prune = |words: &str| {
        netd.netctl(&format!("podman prune --network-dir {} {words}", directory.display()))
    };
    let unread = prune("");
    assert_eq!(unread.code, Some(3), "{unread:?}");
    assert!(unread.stderr.contains("nothing is removed"), "{unread:?}");
    fs::create_dir(&directory).expect("a directory");
    let kept = json!({ "name": "kept", "id": "0".repeat(64), "driver": "netd-bridge" });
    fs::write(directory.join("kept.json"), kept.to_string()).expect("a file");
    fs::write(directory.join("half.json"), "{").expect("a file");
    let unread = prune("");
    assert_eq!(unread.code, Some(2), "{unread:?}");
    assert!(unread.stderr.contains("half.json"), "{unread:?}");
    fs::remove_file(directory.join("half.json")).expect("it is there");
    assert_eq!(done(&prune("--dry-run")), "gone\n");
    assert_eq!(netd.methods(), ["network.list"; 6], "nothing is removed");
    assert_eq!(done(&prune("")), "gone\n");
    let asked = netd.asked();
    let filters = json!({ "label": ["netavark"], "dangling": ["true"] });
    assert_eq!(asked[6].params, json!({ "filters": filters }));
    assert_eq!(asked[8].method, "network.remove");
    assert_eq!(asked[8].params, json!({ "network": format!("={}", "02".repeat(32)) }));
    assert_eq!(asked.len(), 9);
}

#[test]
fn what_podman_gave_of_networks_that_it_has_no_more_is_netds_again() {
    let divided = |byte: u8, name: &str| {
        let mut one = network(byte, name, "bridge");
        let subnet = format!("10.8{byte}.0.0/24");
        let (lower, upper) = (format!("10.8{byte}.0.0/25"), format!("10.8{byte}.0.128/25"));
        one["subnets"] = json!([{ "subnet": subnet, "range": upper }]);
        one["labels"] = json!({ "netavark/addresses": lower });
        one
    };
    let netd = Fake::new(move |method, params| match method {
        "network.list" if params["filters"]["label"][0] == "netavark/addresses" => {
            let networks = [(1, "kept"), (2, "gone"), (3, "used")];
            Ok(json!({ "networks": networks.map(|(byte, name)| divided(byte, name)) }))
        }
        "network.list" => Ok(json!({ "networks": [] })),
        "network.inspect" => {
            let is_used = params["network"] == format!("={}", "03".repeat(32));
            let endpoint = json!({
                "id": "1".repeat(64), "network": "2".repeat(64), "network_name": "used",
                "container": {"id": "web"}, "ifname": "eth0", "state": "attached", "created": "",
                "labels": {"netavark": "x"},
            });
            let endpoints = if is_used { vec![endpoint] } else { Vec::new() };
            let mut detail = divided(2, "gone");
            detail["endpoints"] = json!(endpoints);
            Ok(detail)
        }
        "network.update" => Ok(divided(2, "gone")),
        _ => Ok(json!({})),
    });
    let directory = netd.directory.join("networks");
    fs::create_dir(&directory).expect("a directory");
    let kept = json!({ "name": "kept", "id": "0".repeat(64), "driver": "bridge" });
    fs::write(directory.join("kept.json"), kept.to_string()).expect("a file");
    let prune = |words: &str| {
        netd.netctl(&format!("podman prune --network-dir {} {words}", directory.display()))
    };
    let said = "gone: addresses of 10.82.0.0/25 are netd's again\n";
    assert_eq!(done(&prune("--dry-run")), said);
    assert!(!netd.methods().iter().any(|method| method == "network.update"));
    assert_eq!(done(&prune("")), said);
    let asked = netd.asked();
    let updates: Vec<_> = asked.iter().filter(|one| one.method == "network.update").collect();
    assert_eq!(updates.len(), 1, "{updates:?}");
    let id = format!("={}", "02".repeat(32));
    assert_eq!(updates[0].params["network"], id);
    assert_eq!(updates[0].params["ranges"], json!({ "10.82.0.0/24": null }));
    assert_eq!(updates[0].params["remove_labels"], json!(["netavark/addresses"]));
}
