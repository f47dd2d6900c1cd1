//! netd as dockerd calls it: the protocol of remote network and IPAM drivers over its socket, call by
//! call, in order and out of it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    thread,
};

use cnm::network::{InspectNetwork, NetworkDetail};
use netd_tests::{Asking as _, Container, Host, HostOptions, World, eventually};
use serde_json::{Value, json};

mod called;
mod disorder;
mod dividing;
mod holding;
mod lan;
mod one_way;
mod sharing;

const SOCKET: &str = "/run/docker/plugins/netd.sock";
const DOCKERD: &str = "/run/docker-of-the-test.sock";

/// Ids as dockerd makes them.
fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn host(world: &World) -> Host {
    let config = format!("docker_plugin = \"{SOCKET}\"\ndocker_socket = \"{DOCKERD}\"");
    world.host_with("a", HostOptions { config, ..HostOptions::default() })
}

/// A request as dockerd 20.10 sends it: no name of a host, no type of a document.
fn send(head: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(SOCKET).unwrap();
    let accept = "Accept: application/vnd.docker.plugins.v1.2+json";
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: \r\n{accept}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What a method gives.
#[track_caller]
fn call(method: &str, body: Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = send(&format!("POST /{method}"), &body);
    assert_eq!(status, 200, "{method} {body}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// Why a method is refused.
#[track_caller]
fn refused(method: &str, body: Value) -> String {
    let (status, answer) = send(&format!("POST /{method}"), &body.to_string());
    assert_eq!(status, 500, "{method} {body}: {answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["Err"].as_str().unwrap().to_owned()
}

/// A network whose addresses Docker gives out.
fn network(id: &str, subnet: &str, gateway: &str, generic: Value) -> Value {
    json!({
        "NetworkID": id,
        "Options": {"com.docker.network.enable_ipv6": false, "com.docker.network.generic": generic},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": subnet, "Gateway": gateway}],
        "IPv6Data": [],
    })
}

fn endpoint(network: &str, endpoint: &str, address: &str) -> Value {
    json!({
        "NetworkID": network, "EndpointID": endpoint,
        "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
        "Options": {},
    })
}

fn of(network: &str, endpoint: &str) -> Value {
    json!({"NetworkID": network, "EndpointID": endpoint})
}

/// Puts what was delivered into a container, as dockerd does.
fn deliver(host: &Host, joined: &Value, container: &Container, address: &str) {
    let source = joined["InterfaceName"]["SrcName"].as_str().unwrap();
    let prefix = joined["InterfaceName"]["DstPrefix"].as_str().unwrap();
    let (pid, name) = (container.netns.pid(), format!("{prefix}0"));
    host.netns.run(&format!("ip link set {source} netns {pid} name {name}"));
    container.netns.run("ip link set lo up");
    container.netns.run(&format!("ip address add {address} dev {name}"));
    container.netns.run(&format!("ip link set {name} up"));
    if let Some(gateway) = joined["Gateway"].as_str() {
        container.netns.run(&format!("ip route add default via {gateway}"));
    }
}

/// Takes it back, as dockerd does.
fn take_back(host: &Host, joined: &Value, container: &Container) {
    let source = joined["InterfaceName"]["SrcName"].as_str().unwrap();
    container.netns.run("ip link set eth0 down");
    let to = host.netns.pid();
    container.netns.run(&format!("ip link set eth0 netns {to} name {source}"));
}

/// A dockerd that tells, by path, what it was told to.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<String, Value>>>);

impl Told {
    fn listen() -> Self {
        let told = Self::default();
        drop(fs::remove_file(DOCKERD));
        let listener = UnixListener::bind(DOCKERD).unwrap();
        let map = told.0.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let (status, body) = match map.lock().unwrap().get(&path) {
                    Some(body) => ("200 OK", body.to_string()),
                    None => ("404 Not Found", json!({"message": "no"}).to_string()),
                };
                drop(write!(stream, "HTTP/1.0 {status}\r\nServer: Docker\r\n\r\n{body}"));
            }
        });
        told
    }

    /// A network and who is on it: container, name, endpoint.
    fn network(&self, id: &str, members: &[(&str, &str, &str)]) {
        let members: BTreeMap<_, _> = members
            .iter()
            .map(|(container, name, endpoint)| {
                (*container, json!({"Name": name, "EndpointID": endpoint}))
            })
            .collect();
        self.0.lock().unwrap().insert(format!("/networks/{id}"), json!({"Containers": members}));
    }
}

fn inspect(host: &Host, network: &str) -> NetworkDetail {
    host.client().call(&InspectNetwork { network: network.to_owned() }).unwrap()
}

#[test]
fn a_docker_container_lives_on_a_network_of_netds() {
    let world = World::new();
    let mut host = host(&world);
    let lan = host.lan();
    let told = Told::listen();
    let clean = host.snapshot();
    let implements = call("Plugin.Activate", Value::Null);
    assert_eq!(implements, json!({"Implements": ["NetworkDriver", "IpamDriver"]}));
    let capabilities = call("NetworkDriver.GetCapabilities", Value::Null);
    assert_eq!(capabilities["Scope"], "local");

    let (net, ep, cid) = (id('a'), id('e'), id('c'));
    let request = network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    assert_eq!(call("NetworkDriver.CreateNetwork", request.clone()), json!({}));
    assert_eq!(call("NetworkDriver.CreateNetwork", request), json!({}), "it is there");
    let app = inspect(&host, "app").network;
    assert_eq!(app.subnets[0].range, "10.9.0.128/25".parse().ok(), "Docker has the lower half");

    let made = call("NetworkDriver.CreateEndpoint", endpoint(&net, &ep, "10.9.0.2/24"));
    let mac = made["Interface"]["MacAddress"].as_str().unwrap().to_owned();
    assert_eq!(made["Interface"].as_object().unwrap().len(), 1, "what was given is not given back");
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &ep, "10.9.0.2/24"));
    assert_eq!(host.client().endpoints().len(), 1);
    told.network(&net, &[(&cid, "web", &ep)]);
    let joined = call("NetworkDriver.Join", of(&net, &ep));
    assert_eq!(joined["Gateway"], "10.9.0.1");
    let web = world.container("web");
    deliver(&host, &joined, &web, "10.9.0.2/24");
    assert!(web.netns.run("ip link show eth0").contains(&mac));
    assert_eq!(call("NetworkDriver.EndpointOperInfo", of(&net, &ep)), json!({"Value": {}}));

    // It is found by everybody under its name, as soon as dockerd tells it.
    let db = world.container("db");
    let to_db = host.client().attach(&db.to("app"));
    assert_eq!(to_db.addresses[0].to_string(), "10.9.0.128/24");
    assert!(db.netns.pings("10.9.0.2".parse().unwrap()));
    let gateway: IpAddr = "10.9.0.1".parse().unwrap();
    eventually("its name resolves", || {
        match Host::ask_name(&db.netns, gateway, "web A").as_slice() {
            [one] if one == "10.9.0.2" => Ok(()),
            other => Err(other.to_vec()),
        }
    });
    assert_eq!(Host::ask_name(&web.netns, gateway, "db A"), ["10.9.0.128"]);
    let shown = inspect(&host, "app").endpoints;
    let shown: Vec<_> =
        shown.iter().map(|e| (e.container.label(), e.container.id.as_str())).collect();
    assert!(shown.contains(&("web", cid.as_str())), "{shown:?}");

    // Its ports, as long as it leaves through this network.
    web.netns.serve_tcp(80);
    let published: SocketAddr = "192.0.2.1:8080".parse().unwrap();
    let mut program = of(&net, &ep);
    program["Options"] = json!({"com.docker.network.portmap": [{"Proto": 6, "IP": "", "Port": 80,
        "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}]});
    for _ in 0..2 {
        call("NetworkDriver.ProgramExternalConnectivity", program.clone());
        lan.try_tcp(published).unwrap();
        call("NetworkDriver.RevokeExternalConnectivity", of(&net, &ep));
        assert!(lan.try_tcp(published).is_err());
    }
    call("NetworkDriver.ProgramExternalConnectivity", program);

    // dockerd never tells again what netd has to know.
    host.kill();
    lan.try_tcp(published).unwrap();
    host.start();
    lan.try_tcp(published).unwrap();
    assert!(db.netns.pings("10.9.0.2".parse().unwrap()));
    assert_eq!(Host::ask_name(&db.netns, gateway, "web A"), ["10.9.0.2"]);
    call("NetworkDriver.Join", of(&net, &ep));

    call("NetworkDriver.RevokeExternalConnectivity", of(&net, &ep));
    take_back(&host, &joined, &web);
    call("NetworkDriver.Leave", of(&net, &ep));
    for _ in 0..2 {
        call("NetworkDriver.DeleteEndpoint", of(&net, &ep));
    }
    host.client().detach("db");
    for _ in 0..2 {
        call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    }
    eventually("nothing is left", || host.snapshot().same_as(&clean));
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

#[test]
fn netd_gives_the_addresses_where_it_is_asked() {
    let world = World::new();
    let host = host(&world);
    let spaces = call("IpamDriver.GetDefaultAddressSpaces", Value::Null);
    assert_eq!(spaces["LocalDefaultAddressSpace"], "netd");
    assert_eq!(call("IpamDriver.GetCapabilities", Value::Null)["RequiresMACAddress"], false);
    let pool = |more: Value| {
        let mut request = json!({"AddressSpace": "netd", "Pool": "", "SubPool": "",
            "Options": null, "V6": false});
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        request
    };
    let first = call("IpamDriver.RequestPool", pool(json!({})));
    let second = call("IpamDriver.RequestPool", pool(json!({})));
    assert_ne!(first["Pool"], second["Pool"], "one that was refused is not offered again");
    call("IpamDriver.ReleasePool", json!({"PoolID": second["PoolID"]}));
    let six = call("IpamDriver.RequestPool", pool(json!({"V6": true})));
    assert!(six["Pool"].as_str().unwrap().starts_with("fd"), "{six}");
    call("IpamDriver.ReleasePool", json!({"PoolID": six["PoolID"]}));

    // What can be no network's subnet is no pool, in the same words.
    for none in [
        "127.0.0.0/24",
        "224.0.0.0/24",
        "240.0.0.0/24",
        "0.0.0.0/8",
        "10.9.0.1/24",
        "fe80::/64",
        "ff02::/64",
        "::1/128",
        "::ffff:10.9.0.0/120",
    ] {
        let of_pool = refused("IpamDriver.RequestPool", pool(json!({"Pool": none})));
        let created = host.netctl(&["network", "create", "--subnet", none, "app"]);
        assert_eq!(created.stderr, format!("netctl: {of_pool}\n"), "{none}");
    }
    let given = pool(json!({"Pool": "10.9.0.0/24", "SubPool": "10.9.0.64/26"}));
    let given = call("IpamDriver.RequestPool", given);
    let address = |address: &str, kind: Option<&str>| {
        let options = kind.map(|kind| json!({"RequestAddressType": kind}));
        json!({"PoolID": given["PoolID"], "Address": address, "Options": options})
    };
    let gateway = address("", Some("com.docker.network.gateway"));
    assert_eq!(call("IpamDriver.RequestAddress", gateway)["Address"], "10.9.0.1/24");
    assert_eq!(
        call("IpamDriver.RequestAddress", address("10.9.0.9", None))["Address"],
        "10.9.0.9/24"
    );
    let net = id('a');
    let mut request = network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    request["IPv4Data"][0]["AddressSpace"] = json!("netd");
    request["IPv4Data"][0]["AuxAddresses"] = json!({"printer": "10.9.0.9/24"});
    call("NetworkDriver.CreateNetwork", request);
    let ask = || call("IpamDriver.RequestAddress", address("", None))["Address"].clone();
    let (one, two) = (ask(), ask());
    assert_eq!((&one, &two), (&json!("10.9.0.64/24"), &json!("10.9.0.65/24")));
    let error = refused("IpamDriver.RequestAddress", address("10.9.0.64", None));
    assert!(error.contains("10.9.0.64"), "{error}");
    call("IpamDriver.ReleaseAddress", json!({"PoolID": given["PoolID"], "Address": "10.9.0.65"}));
    let made = endpoint(&net, &id('e'), one.as_str().unwrap());
    call("NetworkDriver.CreateEndpoint", made);
    // What an endpoint has is not given back under it.
    call("IpamDriver.ReleaseAddress", json!({"PoolID": given["PoolID"], "Address": "10.9.0.64"}));
    let error = refused("NetworkDriver.CreateEndpoint", endpoint(&net, &id('f'), "10.9.0.64/24"));
    assert!(error.contains("10.9.0.64"), "{error}");
    let leased: u128 = host
        .client()
        .pools()
        .iter()
        .filter(|p| p.network_name.as_str() == "app")
        .map(|pool| u128::from(pool.leased))
        .sum();
    assert_eq!(leased, 1);

    // A network that is there: its subnet, its gateway, its addresses.
    let shop = host.client().create("shop");
    let subnet = shop.subnets[0].subnet.to_string();
    let named = json!({"network": "shop"});
    // dockerd would ask again and again for one that the host has no route to.
    let error = refused("IpamDriver.RequestPool", pool(json!({"Options": named})));
    assert!(error.contains(&format!("say --subnet {subnet}")), "{error}");
    let other = pool(json!({"Options": named, "Pool": "10.7.0.0/24"}));
    assert!(refused("IpamDriver.RequestPool", other).contains("is not the subnet of network shop"));
    let unnamed = refused("IpamDriver.RequestPool", pool(json!({"Pool": subnet})));
    assert!(unnamed.contains("Pool overlaps"), "{unnamed}");
    let of_shop = pool(json!({"Options": named, "Pool": subnet}));
    let of_shop = call("IpamDriver.RequestPool", of_shop);
    assert_eq!(of_shop["Pool"], shop.subnets[0].subnet.to_string());
    let gateway = json!({"PoolID": of_shop["PoolID"], "Address": "",
        "Options": {"RequestAddressType": "com.docker.network.gateway"}});
    let gateway = call("IpamDriver.RequestAddress", gateway)["Address"].clone();
    let net = id('b');
    let mut request = network(
        &net,
        of_shop["Pool"].as_str().unwrap(),
        gateway.as_str().unwrap(),
        json!({"network": "shop"}),
    );
    request["IPv4Data"][0]["AddressSpace"] = json!("netd");
    call("NetworkDriver.CreateNetwork", request);
    let lent = json!({"PoolID": of_shop["PoolID"], "Address": "", "Options": null});
    let lent = call("IpamDriver.RequestAddress", lent)["Address"].clone();
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('d'), lent.as_str().unwrap()));
    let db = world.container("db");
    let own = host.client().attach(&db.to("shop")).addresses[0];
    assert_ne!(json!(own.to_string()), lent);
    call("NetworkDriver.DeleteEndpoint", of(&net, &id('d')));
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    assert_eq!(inspect(&host, "shop").endpoints.len(), 1, "it was there before");
    assert!(inspect(&host, "shop").network.labels.is_empty());
}

#[test]
fn what_is_wrong_is_refused_in_words() {
    let world = World::new();
    let host = host(&world);
    let clean = host.snapshot();
    let net = id('a');
    for (head, body, status) in [
        ("POST /NetworkDriver.Nothing", "{}", 404),
        ("POST /", "", 404),
        ("GET /Plugin.Activate", "", 405),
        ("POST /NetworkDriver.CreateNetwork", "", 400),
        ("POST /NetworkDriver.CreateNetwork", "{", 400),
        ("POST /NetworkDriver.CreateNetwork", "[1]", 400),
        ("POST /NetworkDriver.Join", "{\"NetworkID\":7}", 400),
        ("POST /IpamDriver.RequestAddress", "null", 400),
    ] {
        let (got, answer) = send(head, body);
        assert_eq!(got, status, "{head} {body}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["Err"].is_string(), "{answer}");
    }
    // Who says too much is not listened to.
    let mut stream = UnixStream::connect(SOCKET).unwrap();
    let head =
        "POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: \r\nContent-Length: 99999999\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert!((0..99).any(|_| stream.write_all(&[b' '; 1 << 20]).is_err()));
    for (method, body, sentence) in [
        (
            "NetworkDriver.CreateEndpoint",
            endpoint(&net, &id('e'), "10.9.0.2/24"),
            "netd has no network",
        ),
        ("NetworkDriver.Join", of(&net, &id('e')), "netd has no network"),
        ("NetworkDriver.ProgramExternalConnectivity", of(&net, &id('e')), "netd has no network"),
        ("NetworkDriver.CreateNetwork", network("", "10.9.0.0/24", "", json!({})), "is empty"),
        ("NetworkDriver.CreateNetwork", network(&net, "10.9.0.0", "x", json!({})), "invalid"),
        (
            "NetworkDriver.CreateNetwork",
            network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"mtuu": "1400"})),
            "did you mean \"mtu\"?",
        ),
        (
            "NetworkDriver.CreateNetwork",
            network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"type": "nothing"})),
            "nothing",
        ),
        (
            "NetworkDriver.CreateNetwork",
            network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"type": "host"})),
            "say -o type=bridge, overlay or macvlan",
        ),
        (
            "NetworkDriver.CreateNetwork",
            network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"network": "none"})),
            "a network of type none takes none of Docker's containers",
        ),
        ("IpamDriver.RequestAddress", json!({"PoolID": "x"}), "invalid PoolID"),
        ("IpamDriver.RequestPool", json!({"Pool": "10.9.0.0/99"}), "invalid Pool"),
    ] {
        let error = refused(method, body);
        assert!(error.contains(sentence), "{method}: {error}");
    }
    // What goes may always go.
    call("NetworkDriver.RevokeExternalConnectivity", of(&net, &id('e')));
    call("NetworkDriver.Leave", of(&net, &id('e')));
    call("NetworkDriver.DeleteEndpoint", of(&net, &id('e')));
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    call("IpamDriver.ReleaseAddress", json!({"PoolID": "x", "Address": "y"}));
    call("IpamDriver.ReleasePool", json!({"PoolID": "x"}));
    host.snapshot().same_as(&clean).unwrap();
    // Where there is no cluster there are no networks of it; where there is one, netd has the addresses.
    let mut overlay = network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"type": "overlay"}));
    let error = refused("NetworkDriver.CreateNetwork", overlay.clone());
    assert!(error.contains("say --ipam-driver netd"), "{error}");
    overlay["IPv4Data"][0]["AddressSpace"] = json!("netd");
    let error = refused("NetworkDriver.CreateNetwork", overlay);
    assert!(error.contains("begin one with netctl cluster init"), "{error}");
    // One that is shared has to be what is asked for.
    host.client().create_on("shop", "10.8.0.0/24");
    let other = network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"network": "shop"}));
    let error = refused("NetworkDriver.CreateNetwork", other);
    assert!(error.contains("--ipam-opt network=shop --subnet 10.8.0.0/24"), "{error}");
    // Ports that somebody has.
    call("NetworkDriver.CreateNetwork", network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({})));
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.0.2/24"));
    let web = world.container("web");
    let mut attach = web.to("shop");
    attach.ports = vec!["8080:80".parse().unwrap()];
    host.client().attach(&attach);
    let mut program = of(&net, &id('e'));
    program["Options"] = json!({"com.docker.network.portmap": [{"Proto": 6, "Port": 80,
        "HostPort": 8080}]});
    let error = refused("NetworkDriver.ProgramExternalConnectivity", program.clone());
    assert!(error.contains("container web on network shop"), "{error}");
    // Of whom dockerd has told nothing yet there is nothing to call him by.
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('f'), "10.9.0.3/24"));
    let mut first = of(&net, &id('f'));
    first["Options"] = json!({"com.docker.network.portmap": [{"Proto": 6, "Port": 80,
        "HostPort": 8081}]});
    call("NetworkDriver.ProgramExternalConnectivity", first.clone());
    program["Options"] = first["Options"].take();
    let error = refused("NetworkDriver.ProgramExternalConnectivity", program);
    assert!(error.contains("is already held by a container that Docker is starting"), "{error}");
    let error = refused("NetworkDriver.CreateEndpoint", endpoint(&net, &id('d'), "10.9.0.3/24"));
    assert!(error.contains("a container that Docker is starting has it"), "{error}");
}

#[test]
fn what_dockerd_forgot_goes_and_nothing_else() {
    let world = World::new();
    let mut host = host(&world);
    let (net, gone) = (id('a'), id('b'));
    for (id, subnet) in [(&net, "10.9.0"), (&gone, "10.9.1")] {
        let request = network(id, &format!("{subnet}.0/24"), &format!("{subnet}.1/24"), json!({}));
        call("NetworkDriver.CreateNetwork", request);
    }
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.0.2/24"));
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('f'), "10.9.0.3/24"));
    call("NetworkDriver.CreateEndpoint", endpoint(&gone, &id('d'), "10.9.1.2/24"));
    // While it does not answer, everything stays.
    host.kill();
    host.start();
    assert_eq!(host.client().endpoints().len(), 3);
    let told = Told::listen();
    told.network(&net, &[(&id('c'), "web", &id('e'))]);
    eventually("what it forgot is gone", || match host.client().endpoints().as_slice() {
        [one] if one.container.label() == "web" => Ok(()),
        others => Err(format!("{others:?}")),
    });
    eventually("so is the network", || {
        match host.client().call(&InspectNetwork { network: "docker-bbbbbbbbbbbb".into() }) {
            Err(_) => Ok(()),
            Ok(network) => Err(network.network.name),
        }
    });
    assert_eq!(inspect(&host, "docker-aaaaaaaaaaaa").endpoints.len(), 1);
}

#[test]
fn what_is_about_to_go_is_said_until_it_has_gone() {
    let world = World::new();
    let host = host(&world);
    let (net, other) = (id('a'), id('b'));
    for (id, subnet) in [(&net, "10.9.0"), (&other, "10.9.1")] {
        let request = network(id, &format!("{subnet}.0/24"), &format!("{subnet}.1/24"), json!({}));
        call("NetworkDriver.CreateNetwork", request);
    }
    let told = Told::listen();
    told.network(&other, &[]);
    let forgotten = || {
        let problems = host.client().status().problems;
        problems.into_iter().find(|problem| problem.starts_with("dockerd has forgotten"))
    };
    call("Plugin.Activate", Value::Null);
    let said = eventually("it is said", || forgotten().ok_or(()));
    assert!(said.contains("(docker-aaaaaaaaaaaa)"), "{said}");
    // As who removes it in Docker does.
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    assert_eq!(forgotten(), None);
    assert_eq!(inspect(&host, "docker-bbbbbbbbbbbb").endpoints.len(), 0);
}
