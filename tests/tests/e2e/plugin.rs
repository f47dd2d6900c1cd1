//! A plugin as runtimes execute it: requests on its standard input, answers on its output.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
};

use cnm::{Request, endpoint::Detach};
use netd_tests::{Asking as _, Executed, World};
use serde_json::{Value, json};

#[test]
fn one_request_one_answer_and_its_exit_code() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let web = world.container("web");
    let executed = host.plugin("bridge", &Request::new(7, &web.to("app")).to_line());
    executed.success();
    let replies = executed.replies();
    assert_eq!((replies.len(), &replies[0]["id"]), (1, &json!(7)));
    assert_eq!(replies[0]["result"]["state"], "attached");
    let ip: std::net::IpAddr = replies[0]["result"]["addresses"][0]
        .as_str()
        .and_then(|text| text.split('/').next()?.parse().ok())
        .unwrap();
    assert!(host.netns.pings(ip));
    // Whichever plugin is executed, it is the same netd.
    let executed = host.plugin("none", &Request::new(1, &web.to("app")).to_line());
    assert_eq!(executed.code, 4, "{executed:?}");
    let detach = Detach { network: None, container: "web".into(), ifname: None };
    host.plugin("host", &Request::new(1, &detach).to_line()).success();
    assert!(host.client().endpoints().is_empty());
}

#[test]
fn an_open_plugin_serves_many() {
    let world = World::new();
    let host = world.host("a");
    let mut plugin = host.plugin_command("bridge").spawn().unwrap();
    let mut requests = plugin.stdin.take().unwrap();
    let mut answers = BufReader::new(plugin.stdout.take().unwrap()).lines();
    let mut ask = |line: &str| -> Value {
        requests.write_all(line.as_bytes()).unwrap();
        serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap()
    };
    let created = ask(
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"network.create\",\"params\":{\"name\":\"app\"}}\n",
    );
    assert_eq!(created["result"]["name"], "app");
    let containers: Vec<_> = (0..3).map(|n| world.container(&format!("c{n}"))).collect();
    for (container, n) in containers.iter().zip(10u64..) {
        let reply = ask(&Request::new(n, &container.to("app")).to_line());
        assert_eq!((&reply["id"], &reply["result"]["state"]), (&json!(n), &json!("attached")));
    }
    let reply = ask("{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"events.subscribe\"}\n");
    assert_eq!(reply["error"]["data"]["kind"], "unsupported");
    let batch = ask(
        "[{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"endpoint.list\"},{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"system.version\"}]\n",
    );
    assert_eq!(batch[0]["result"]["endpoints"].as_array().unwrap().len(), 3);
    drop(requests);
    let executed = Executed::from(plugin.wait_with_output().unwrap());
    assert_eq!(executed.code, 0);
    assert_eq!(host.client().endpoints().len(), 3, "its end is not theirs");
}

#[test]
fn a_descriptor_is_as_good_as_a_path() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let web = world.container("web");
    let file = File::open(web.netns.path()).unwrap();
    let mut attach = web.to("bridge");
    attach.netns = Some(cnm::endpoint::Netns::Fd);
    let fds = [file.as_fd()];
    let with = cnm::client::With { fds: &fds, ..Default::default() };
    let endpoint = netd.call_with(&attach, with).unwrap();
    drop(file);
    assert!(host.netns.pings(endpoint.addresses[0].ip()));
    assert!(web.netns.run("ip link show eth0").contains("UP"));
}

#[test]
fn a_path_means_what_it_means_to_the_runtime() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    // A file in a mount namespace that netd is not in, as Podman's are.
    let script =
        r#"mount -t tmpfs tmpfs /mnt && touch /mnt/web && mount --bind "$1" /mnt/web && exec "$2""#;
    let plugin = world.programs().join("netd-bridge").display().to_string();
    let mut command = host.netns.command([
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        &web.netns.path(),
        &plugin,
    ]);
    let mut attach = web.to("bridge");
    attach.netns = Some(cnm::endpoint::Netns::Path("/mnt/web".into()));
    let mut child = command
        .env("NETD_SOCKET", host.socket())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let line = Request::new(1, &attach).to_line();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    Executed::from(child.wait_with_output().unwrap()).success();
    assert!(web.netns.run("ip link show eth0").contains("UP"));
}

#[test]
fn who_waits_for_no_answer_is_told_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut plugin = host.plugin_command("bridge");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = plugin.stdout(writer).spawn().unwrap();
    let request = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"driver.info\"}\n";
    child.stdin.take().unwrap().write_all(request).unwrap();
    let executed: Executed = child.wait_with_output().unwrap().into();
    assert_eq!((executed.code, &*executed.stderr), (1, ""));
}
