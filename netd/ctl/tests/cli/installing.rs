//! `netctl docker install` and `uninstall`: what they write, and that it is all they take back.

use std::{fs, path::PathBuf};

use serde_json::json;

use crate::fake::{Ended, Fake};

/// A machine's files, and a netctl that is told where they are.
struct Site {
    netd: Fake,
    directory: PathBuf,
}

impl Site {
    fn new() -> Self {
        let netd = Fake::new(|_, _| Ok(json!({})));
        let directory = netd.directory.clone();
        Self { netd, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn docker(&self, words: &str) -> Ended {
        let at = |name: &str| self.path(name).display().to_string();
        self.netd.netctl(&format!(
            "docker {words} --netd-config {} --daemon-json {} --spec-dir {}",
            at("netd/netd.toml"),
            at("docker/daemon.json"),
            at("docker/plugins")
        ))
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().expect("a path below the root")).expect("made");
        fs::write(self.path(name), text).expect("written");
    }
}

#[test]
fn a_bare_machine_is_as_it_was_after() {
    let site = Site::new();
    let place = site.directory.display();
    let lines = format!(
        "{place}/netd/netd.toml: docker_plugin = \"/run/docker/plugins/netd.sock\", docker_api = \
         \"/run/netd/docker.sock\", dns_link_local = \"169.254.76.53\"\n\
         {place}/docker/daemon.json: dns 169.254.76.53\n"
    );
    let dry = site.docker("install --dry-run");
    assert_eq!((dry.code, dry.stdout.as_str()), (Some(0), lines.as_str()));
    assert_eq!((site.read("netd/netd.toml"), site.read("docker/daemon.json")), (None, None));
    assert_eq!(site.docker("install"), dry);
    let config = site.read("netd/netd.toml").expect("written");
    assert!(config.contains("\ndocker_api = \"/run/netd/docker.sock\"\n"), "{config}");
    let daemon = site.read("docker/daemon.json").expect("written");
    assert_eq!(daemon, "{\n    \"dns\": [\"169.254.76.53\"]\n}\n");
    assert_eq!(site.read("docker/plugins/netd.spec"), None, "dockerd looks there by itself");
    let again = site.docker("install");
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), ""));
    assert_eq!(site.docker("uninstall --dry-run").stdout.lines().count(), 2);
    assert_eq!(site.read("netd/netd.toml"), Some(config));
    assert_eq!(site.docker("uninstall").code, Some(0));
    assert_eq!((site.read("netd/netd.toml"), site.read("docker/daemon.json")), (None, None));
    let again = site.docker("uninstall");
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), ""));
}

#[test]
fn what_is_somebody_elses_stays_to_the_byte() {
    let site = Site::new();
    let toml = "docker_plugin = \"/run/netd/plugin.sock\"\n[firewall]\ncoexist = \"report\"\n";
    let json = "{\n  \"debug\": true,\n  \"dns\": [\"192.0.2.53\"]\n}\n";
    site.write("netd/netd.toml", toml);
    site.write("docker/daemon.json", json);
    let installed = site.docker("install --dns 10.76.0.1");
    assert_eq!(installed.code, Some(0), "{installed:?}");
    let config = site.read("netd/netd.toml").expect("there");
    assert!(config.ends_with(toml) && config.contains("docker_api"), "{config}");
    assert!(!config.contains("dns_link_local"), "another address was named");
    let spec = site.read("docker/plugins/netd.spec");
    assert_eq!(spec.as_deref(), Some("unix:///run/netd/plugin.sock\n"), "dockerd looks elsewhere");
    let daemon = site.read("docker/daemon.json").expect("there");
    let parsed: serde_json::Value = serde_json::from_str(&daemon).expect("JSON");
    assert_eq!(parsed, json!({"debug": true, "dns": ["10.76.0.1", "192.0.2.53"]}));
    assert_eq!(site.docker("uninstall --dns 10.76.0.1").code, Some(0));
    assert_eq!(site.read("netd/netd.toml").as_deref(), Some(toml));
    assert_eq!(site.read("docker/daemon.json").as_deref(), Some(json));
    assert_eq!(site.read("docker/plugins/netd.spec"), None);
}

#[test]
fn what_was_there_before_is_there_after() {
    let site = Site::new();
    let toml = "dns_link_local = \"169.254.9.53\"\n";
    for json in [
        "{\"dns\": [\"192.0.2.53\", \"169.254.9.53\"]}",
        "{\"dns\": []}",
        "{\"debug\": true, \"dns\": [\"192.0.2.53\"]}\n",
        "",
    ] {
        site.write("netd/netd.toml", toml);
        site.write("docker/daemon.json", json);
        assert_eq!(site.docker("install").code, Some(0), "{json}");
        let daemon = site.read("docker/daemon.json").expect("there");
        assert_eq!(daemon.matches("169.254.9.53").count(), 1, "{daemon}");
        // Whatever has changed in between.
        let config = site.read("netd/netd.toml").expect("there");
        site.write("netd/netd.toml", &config.replace("169.254.9.53\"\n", "169.254.7.53\"\n"));
        assert_eq!(site.docker("uninstall --dns 10.76.0.1").code, Some(0));
        assert_eq!(site.read("docker/daemon.json").as_deref(), Some(json));
        assert_eq!(site.docker("uninstall").stdout, "");
    }
    let left = "dns_link_local = \"169.254.7.53\"\n";
    assert_eq!(site.read("netd/netd.toml").as_deref(), Some(left));
    site.write("netd/netd.toml", "");
    site.docker("install");
    site.docker("uninstall");
    assert_eq!(site.read("netd/netd.toml").as_deref(), Some(""), "it was there");
}

#[test]
fn a_second_install_is_in_the_place_of_the_first() {
    let site = Site::new();
    let json = "{\n  \"debug\": true\n}\n";
    site.write("docker/daemon.json", json);
    let plugin = "docker_plugin = \"/run/netd/plugin.sock\"\n";
    site.write("netd/netd.toml", plugin);
    site.docker("install");
    assert!(site.read("docker/plugins/netd.spec").is_some());
    let second = site.docker("install --dns 10.76.0.1");
    assert_eq!(second.code, Some(0), "{second:?}");
    let place = fs::canonicalize(&site.directory).expect("there");
    let daemon = place.join("docker/daemon.json");
    let said = format!("{}: dns 10.76.0.1 in place of 169.254.76.53\n", daemon.display());
    assert!(second.stdout.contains(&said), "{second:?}");
    let text = site.read("docker/daemon.json").expect("there");
    let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(parsed, json!({"debug": true, "dns": ["10.76.0.1"]}));
    assert!(!site.read("netd/netd.toml").expect("there").contains("dns_link_local"));
    assert_eq!(site.docker("install --dns 10.76.0.1").stdout, "", "it is there");
    // netd listens where dockerd looks by itself, and so nothing needs to tell it.
    let config = site.read("netd/netd.toml").expect("there");
    site.write("netd/netd.toml", &config.replace(plugin, ""));
    let third = site.docker("install --dns 10.76.0.1");
    assert_eq!((third.code, site.read("docker/plugins/netd.spec")), (Some(0), None), "{third:?}");
    assert_eq!(site.docker("uninstall").code, Some(0));
    assert_eq!(site.read("docker/daemon.json").as_deref(), Some(json));
    assert_eq!(site.read("netd/netd.toml").as_deref(), Some(""), "there was one");
}

#[test]
fn what_cannot_be_is_said_and_stays() {
    let site = Site::new();
    let toml = "docker_plugin = \"/run/netd/plugin.sock\"\n";
    site.write("docker/daemon.json", "{ \"dns\": 7 }");
    site.write("docker/plugins/netd.spec", "unix:///run/other.sock\n");
    site.write("netd/netd.toml", toml);
    let installed = site.docker("install");
    assert_eq!(installed.code, Some(4), "{installed:?}");
    assert!(installed.stderr.contains("netd.spec is another's and stays"), "{installed:?}");
    assert!(installed.stderr.contains("daemon.json stays as it is: \"dns\" is no list"));
    assert_eq!(site.read("docker/daemon.json").as_deref(), Some("{ \"dns\": 7 }"));
    assert_eq!(site.read("netd/netd.toml").as_deref(), Some(toml), "nothing is half done");
    let bad = site.docker("install --dns here");
    assert_eq!(bad.code, Some(2));
}

#[test]
fn a_configuration_that_netd_or_dockerd_would_not_take_is_named() {
    for (toml, json, said) in [
        ("log_level = \n", "{}", "netd.toml stays as it is: it is no TOML"),
        ("docker_api = 7\n", "{}", "netd.toml stays as it is: docker_api is 7"),
        ("dns_link_local = \"10.0.0.1\"\n", "{}", "netd.toml stays as it is: dns_link_local is"),
        ("default_link = \"docker0\"\n", "{}", "netd.toml stays as it is: default_link is docker0"),
        ("", "{\"bridge\": \"netd0\"}", "daemon.json stays as it is: \"bridge\" is netd0"),
        ("", "{", "daemon.json stays as it is: it is no JSON"),
    ] {
        let site = Site::new();
        site.write("netd/netd.toml", toml);
        site.write("docker/daemon.json", json);
        let refused = site.docker("install");
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.contains(said), "{refused:?}");
        assert_eq!(site.read("netd/netd.toml").as_deref(), Some(toml));
        assert_eq!(site.read("docker/daemon.json").as_deref(), Some(json));
    }
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_stays_one() {
    let site = Site::new();
    site.write("docker/other", "");
    let link = site.path("docker/daemon.json");
    std::os::unix::fs::symlink("../managed/daemon.json", &link).expect("a link");
    let installed = site.docker("install");
    assert_eq!(installed.code, Some(0), "{installed:?}");
    assert!(installed.stdout.contains("managed/daemon.json: dns 169.254.76.53"), "{installed:?}");
    assert!(link.is_symlink());
    assert!(site.read("managed/daemon.json").is_some(), "it leads to what was written");
    assert_eq!(site.docker("uninstall").code, Some(0));
    assert!(link.is_symlink() && site.read("managed/daemon.json").is_none());
    // One that leads nowhere at all is no place to write to.
    fs::remove_file(&link).expect("it is there");
    std::os::unix::fs::symlink("daemon.json", &link).expect("a link");
    let refused = site.docker("install");
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(link.is_symlink() && site.read("netd/netd.toml").is_none(), "{refused:?}");
}
