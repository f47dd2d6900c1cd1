//! Docker's containers on a network of the cluster: each host has a dockerd, of which none knows of the
//! others, played call by call.

use std::{
    io::{Read as _, Write as _},
    net::IpAddr,
    os::unix::net::UnixStream,
};

use netd_tests::{Asking as _, Container, Host, eventually};
use serde_json::{Value, json};

use crate::fleet::{Fleet, reaches};

mod real;

/// What the dockerd of a host asks of its netd, and what that answers.
fn ask(host: &str, method: &str, body: &Value) -> (bool, Value) {
    let mut stream = UnixStream::connect(format!("/run/docker-{host}.sock")).unwrap();
    let body = body.to_string();
    let length = body.len();
    let head = format!("POST /{method} HTTP/1.1\r\nHost: \r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.contains(" 200 "), serde_json::from_str(body).unwrap())
}

#[track_caller]
fn call(host: &str, method: &str, body: &Value) -> Value {
    let (done, answer) = ask(host, method, body);
    assert!(done, "{host} {method} {body}: {answer}");
    answer
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// As `docker network create -d netd --ipam-driver netd -o type=overlay -o network=app`, with
/// `--ipam-opt network=app --subnet` where it is there.
#[track_caller]
fn create(host: &str, net: &str, subnet: &str, is_there: bool) {
    let options = if is_there { json!({"network": "app"}) } else { json!({}) };
    let pool = json!({"Pool": subnet, "Options": options});
    let pool = call(host, "IpamDriver.RequestPool", &pool);
    let gateway = json!({"PoolID": pool["PoolID"], "Address": "",
        "Options": {"RequestAddressType": "com.docker.network.gateway"}});
    let gateway = call(host, "IpamDriver.RequestAddress", &gateway);
    let generic = json!({"type": "overlay", "network": "app"});
    let create = json!({
        "NetworkID": net, "Options": {"com.docker.network.generic": generic}, "IPv6Data": [],
        "IPv4Data": [{"AddressSpace": "netd", "Pool": pool["Pool"], "Gateway": gateway["Address"]}],
    });
    call(host, "NetworkDriver.CreateNetwork", &create);
}

/// A container, as dockerd puts it on the network, and its address.
#[track_caller]
fn run(fleet: &Fleet, host: usize, net: &str, ep: &str, subnet: &str) -> (Container, IpAddr) {
    let name = format!("h{}", host + 1);
    let wanted = json!({"PoolID": subnet, "Address": ""});
    let leased = call(&name, "IpamDriver.RequestAddress", &wanted);
    let address = leased["Address"].as_str().unwrap();
    let of = json!({"NetworkID": net, "EndpointID": ep});
    let mut made = of.clone();
    made["Interface"] = json!({"Address": address, "AddressIPv6": "", "MacAddress": ""});
    call(&name, "NetworkDriver.CreateEndpoint", &made);
    let joined = call(&name, "NetworkDriver.Join", &of);
    let source = joined["InterfaceName"]["SrcName"].as_str().unwrap();
    let container = fleet.world.container(&format!("c{host}"));
    let pid = container.netns.pid();
    fleet.hosts[host].netns.run(&format!("ip link set {source} netns {pid} name eth0"));
    container.netns.run(&format!("ip address add {address} dev eth0"));
    container.netns.run("ip link set eth0 up");
    (container, address.split('/').next().unwrap().parse().unwrap())
}

fn has_network(host: &Host) -> bool {
    host.netctl(&["network", "ls", "-q", "-f", "name=app"]).success() != ""
}

/// The network is taken away, once no dockerd has it.
#[track_caller]
fn goes_without_a_trace(fleet: &Fleet) {
    eventually("it is netd's own", || {
        let removed = fleet.hosts[0].netctl(&["network", "rm", "app"]);
        if removed.code == 0 { Ok(()) } else { Err(removed) }
    });
    for host in &fleet.hosts {
        eventually("it is gone everywhere", || if has_network(host) { Err(()) } else { Ok(()) });
        assert_eq!(host.client().endpoints(), []);
    }
}

#[test]
fn each_dockerd_has_a_network_of_the_cluster_under_an_id_of_its_own() {
    let config = "docker_plugin = \"/run/docker-NODE.sock\"\ndocker_socket = \"/run/none.sock\"";
    let mut fleet = Fleet::new_with(2, config);
    let (one, two) = (id('1'), id('2'));
    create("h1", &one, "10.9.0.0/16", false);
    eventually("the other host has it", || {
        if has_network(&fleet.hosts[1]) { Ok(()) } else { Err(()) }
    });
    create("h2", &two, "10.9.0.0/16", true);
    let (a, first) = run(&fleet, 0, &one, &id('a'), "10.9.0.0/16");
    let (b, second) = run(&fleet, 1, &two, &id('b'), "10.9.0.0/16");
    assert_ne!(first, second);
    reaches(&a.netns, second);
    reaches(&b.netns, first);
    // Of netd's own, on another host.
    let other = fleet.run(1, "app", "other");
    reaches(&a.netns, other.ip());

    // A netd that comes up, and one to which a dockerd says hello, leaves what the other dockerd has.
    fleet.hosts[0].kill();
    fleet.hosts[0].start();
    call("h2", "Plugin.Activate", &json!({}));
    reaches(&b.netns, first);
    let shown = fleet.hosts[1].netctl(&["network", "inspect", "app"]);
    assert!(shown.success().contains(&one) && shown.stdout.contains(&two), "{shown:?}");

    // The one that made it goes first, and it is the other's then.
    fleet.hosts[1].client().detach("other");
    call("h1", "NetworkDriver.DeleteEndpoint", &json!({"NetworkID": one, "EndpointID": id('a')}));
    call("h1", "NetworkDriver.DeleteNetwork", &json!({"NetworkID": one}));
    assert!(has_network(&fleet.hosts[1]));
    let kept = fleet.hosts[0].netctl(&["network", "rm", "app"]);
    assert!(kept.stderr.contains("dockerd has network app"), "{kept:?}");
    call("h2", "NetworkDriver.DeleteEndpoint", &json!({"NetworkID": two, "EndpointID": id('b')}));
    call("h2", "NetworkDriver.DeleteNetwork", &json!({"NetworkID": two}));
    // The second host is a worker, which takes no network of the cluster away.
    goes_without_a_trace(&fleet);
}
