//! Commands that change what is there: networks, nodes, and how a cluster begins.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Output, Stdio},
    sync::{Mutex, mpsc},
};

use cnm::{
    Call as _,
    cluster::{InitCluster, UpdateNode},
    network::UpdateNetwork,
};
use serde_json::json;

use crate::fake::{Ended, Fake, network};

#[test]
fn a_network_is_changed_as_was_said() {
    let netd = Fake::new(|_, _| Ok(network(0xab, "app", "bridge")));
    let changed = netd.netctl(
        "network update --add-subnet 10.2.0.0/24 --gateway 10.2.0.9 --label tier=web \
         --label-rm team app",
    );
    let stdout = format!("{}\n", "ab".repeat(32));
    assert_eq!(changed, Ended { code: Some(0), stdout, stderr: String::new() });
    let asked = netd.asked().pop().expect("asked");
    assert_eq!(asked.method, UpdateNetwork::METHOD);
    let expected = json!({
        "network": "app",
        "add_subnets": [{"subnet": "10.2.0.0/24", "gateway": "10.2.0.9"}],
        "labels": {"tier": "web"},
        "remove_labels": ["team"],
    });
    assert_eq!(asked.params, expected);
}

#[test]
fn a_network_of_which_nothing_is_to_change_is_not_asked_about() {
    let netd = Fake::new(|_, _| Ok(network(0xab, "app", "bridge")));
    let ended = netd.netctl("network update app");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("nothing to change of network app was said"), "{ended:?}");
    assert_eq!(netd.asked().len(), 0);
}

#[test]
fn nodes_are_changed_one_after_the_other() {
    let netd = Fake::new(|_, _| Ok(json!({})));
    let changed = netd.netctl("node update --availability drain one two");
    assert_eq!(changed.stdout, "one\ntwo\n");
    let asked = netd.asked().pop().expect("asked");
    assert_eq!(asked.method, UpdateNode::METHOD);
    assert_eq!(asked.params, json!({"node": "two", "availability": "drain"}));
    assert_eq!(netd.netctl("node update one").code, Some(2), "what is it to be?");
}

/// What a command says while it waits, and how it ends when netd has answered.
fn waiting(words: &[&str]) -> (String, Output) {
    let (answer, waits) = mpsc::channel::<()>();
    let waits = Mutex::new(waits);
    let netd = Fake::new(move |_, _| {
        waits.lock().expect("no panic").recv().expect("an answer");
        Ok(json!({}))
    });
    let mut command = netd.command(words.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut netctl = command.spawn().expect("netctl");
    let mut said = String::new();
    let mut stderr = BufReader::new(netctl.stderr.take().expect("piped"));
    stderr.read_line(&mut said).expect("a line");
    answer.send(()).expect("netd waits");
    (said, netctl.wait_with_output().expect("it ends"))
}

#[test]
fn what_takes_long_in_a_cluster_is_said() {
    for (words, said, done) in [
        (&["cluster", "leave"][..], "netctl: leaving the cluster", "Node left the cluster.\n"),
        (&["node", "rm", "two"], "netctl: removing node two", "two\n"),
    ] {
        let (told, output) = waiting(words);
        assert!(told.starts_with(said) && told.contains("half a minute"), "{told}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), done);
    }
    let netd = Fake::new(|_, _| Ok(json!({})));
    assert_eq!(netd.netctl("node rm one").stdout, "one\n");
}

#[test]
fn the_certificates_of_an_etcd_are_read_where_the_command_runs() {
    let joined = json!({
        "cluster": "c", "node": "n", "role": "manager", "managers": ["[fd00::1]:2377"],
    });
    let netd = Fake::new(move |_, _| Ok(joined.clone()));
    let place = netd.directory.display().to_string();
    for name in ["ca", "client", "key"] {
        fs::write(format!("{place}/{name}.pem"), format!("the {name}")).expect("a directory");
    }
    let init = "cluster init --advertise-addr fd00::1 --etcd https://[fd00::9]:2379";
    let begun = netd.netctl(&format!(
        "{init} --etcd-ca {place}/ca.pem --etcd-cert {place}/client.pem --etcd-key {place}/key.pem"
    ));
    assert_eq!(begun.code, Some(0), "{begun:?}");
    let asked = netd.asked().pop().expect("asked");
    assert_eq!(asked.method, InitCluster::METHOD);
    assert_eq!(asked.params["advertise"], "fd00::1");
    let tls = json!({"ca": "the ca", "certificate": "the client", "key": "the key"});
    assert_eq!(asked.params["etcd_tls"], tls);
    let missing = netd.netctl(&format!(
        "{init} --etcd-ca {place}/none --etcd-cert {place}/client.pem --etcd-key {place}/key.pem"
    ));
    assert_eq!(missing.code, Some(3), "{missing:?}");
    assert!(missing.stderr.contains("none"), "{missing:?}");
    let half = netd.netctl(&format!("{init} --etcd-ca {place}/ca.pem"));
    assert_eq!(half.code, Some(2), "{half:?}");
}
