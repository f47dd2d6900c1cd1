//! `netctl sandbox`: namespaces that stay.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use cnm::{
    Call, Error, Kind,
    endpoint::ListEndpoints,
    sandbox::{CreateSandbox, ListSandboxes, RemoveSandbox},
};
use serde_json::{Value, json};

use crate::fake::{Fake, private};

/// A netd that knows the sandboxes it was told.
fn keeper() -> Fake {
    let known = Arc::new(Mutex::new(Vec::<Value>::new()));
    Fake::new(move |method, params| {
        let mut known = known.lock().expect("no panic");
        match method {
            CreateSandbox::METHOD => {
                if params["container"]["name"] == "refused" {
                    return Err(Error::new(Kind::Busy, "not now"));
                }
                let sandbox = json!({
                    "container": params["container"], "path": params["netns"], "kept": true,
                    "created": "2026-01-02T03:04:05Z",
                });
                known.push(sandbox.clone());
                Ok(sandbox)
            }
            ListSandboxes::METHOD => Ok(json!({"sandboxes": *known})),
            RemoveSandbox::METHOD => {
                known.retain(|sandbox| sandbox["container"]["id"] != params["container"]);
                Ok(json!({}))
            }
            ListEndpoints::METHOD => Ok(json!({"endpoints": []})),
            _ => Err(Error::unsupported(method)),
        }
    })
}

fn mounts_below(netd: &Fake) -> usize {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").expect("mounts");
    let directory = netd.directory.display().to_string();
    mounts.lines().filter(|line| line.contains(&directory)).count()
}

#[test]
fn a_sandbox_is_made_entered_and_removed() {
    private();
    let netd = keeper();
    let path = netd.directory.join("netns/lab");
    let made = netd.netctl("sandbox create lab");
    assert_eq!((made.code, made.stdout.as_str()), (Some(0), "lab\n"), "{made:?}");
    assert_eq!(mounts_below(&netd), 1);

    let again = netd.netctl("sandbox create lab");
    assert_eq!(again.code, Some(4));
    assert_eq!(again.stderr, "netctl: sandbox lab already exists\n");
    assert_eq!(mounts_below(&netd), 1, "the first one is still held");

    let shown = netd.netctl("sandbox ls").stdout;
    let path = path.display().to_string();
    let expected = format!(
        "CONTAINER ID   NAME      KEPT      CREATED                NETNS\n\
         lab            lab       yes       2026-01-02T03:04:05Z   {path}\n"
    );
    assert_eq!(shown, expected);

    let inside = netd.netctl("sandbox exec lab readlink /proc/self/ns/net");
    assert_eq!(inside.code, Some(0), "{inside:?}");
    let own = fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
    assert_ne!(inside.stdout.trim(), own.display().to_string());
    assert_eq!(netd.netctl("sandbox exec lab readlink /proc/self/ns/net"), inside);
    assert_eq!(netd.netctl("sandbox exec lab uname -n").stdout, "lab\n");
    assert_eq!(netd.netctl("sandbox exec lab -- tail -n1 /etc/hosts").stdout, "127.0.1.1\tlab\n");
    assert_eq!(netd.netctl("sandbox exec lab false").code, Some(1));
    assert_eq!(netd.netctl("sandbox exec lab no-such-command").code, Some(127));
    assert_eq!(netd.netctl("sandbox exec nope true").code, Some(3));

    let removed = netd.netctl("sandbox rm nope lab");
    assert_eq!((removed.code, removed.stdout.as_str()), (Some(3), "lab\n"), "{removed:?}");
    assert_eq!(removed.stderr, "netctl: container nope not found\n");
    assert_eq!(mounts_below(&netd), 0);
    assert!(!fs::exists(&path).expect("known"));
}

#[test]
fn what_netd_refuses_is_undone() {
    private();
    let netd = keeper();
    let refused = netd.netctl("sandbox create refused");
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(6), "netctl: not now\n"));
    assert_eq!(mounts_below(&netd), 0);
    assert_eq!(fs::read_dir(netd.directory.join("netns")).expect("a directory").count(), 0);
}

#[test]
fn what_netd_never_heard_of_can_be_removed() {
    private();
    let netd = keeper();
    let netns = netd.directory.join("netns");
    fs::create_dir(&netns).expect("made");
    fs::write(netns.join("half"), "").expect("written");
    assert_eq!(netd.netctl("sandbox create half").code, Some(4));
    assert_eq!(netd.netctl("sandbox rm half").stdout, "half\n");
    assert_eq!(netd.netctl("sandbox rm ../netd.sock").code, Some(3));
    assert!(netd.socket().exists());
    assert_eq!(netd.netctl("sandbox create half").code, Some(0));
    assert_eq!(netd.netctl("sandbox rm half").code, Some(0));
}
