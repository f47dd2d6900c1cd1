//! A network of netd's to which a Docker comes later that gives addresses out itself: from then on each
//! has a half.

use std::os::unix::fs::PermissionsExt as _;

use cnm::network::UpdateNetwork;

use super::*;

/// Both families' ranges and the labels of `app`.
fn shown(host: &Host) -> (Vec<Option<String>>, BTreeMap<String, String>) {
    let inspect = InspectNetwork { network: "app".into() };
    let network = host.client().call(&inspect).unwrap().network;
    let range = |subnet: &cnm::network::Subnet| subnet.range.map(|range| range.to_string());
    (network.subnets.iter().map(range).collect(), network.labels)
}

fn attached(host: &Host, container: &Container) -> Vec<String> {
    let endpoint = host.client().attach(&container.to("app"));
    endpoint.addresses.iter().map(|address| address.ip().to_string()).collect()
}

#[test]
fn from_then_on_each_has_a_half() {
    let world = World::new();
    let mut host = host(&world);
    let create = ["network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "app"];
    host.netctl(&create).success();
    let before = world.container("before");
    assert_eq!(attached(&host, &before), ["10.9.0.2", "fd09::2"], "all of it is netd's");

    let net = id('a');
    let mut request = network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    request["IPv6Data"] = json!([
        {"AddressSpace": "LocalDefault", "Pool": "fd09::/64", "Gateway": "fd09::1/64"}]);
    // Docker would give the one that is had, and all of those are named before it is too late to tell.
    let error = refused("NetworkDriver.CreateNetwork", request.clone());
    let used =
        "say --aux-address used-10.9.0.2=10.9.0.2 --aux-address used-fd09::2=fd09::2 as well";
    for part in [used, "10.9.0.0/25,fd09::/65", "--ipam-driver netd --ipam-opt network=app"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(shown(&host), (vec![None, None], BTreeMap::new()), "it is as it was");
    request["IPv4Data"][0]["AuxAddresses"] = json!({"used-10.9.0.2": "10.9.0.2/24"});
    request["IPv6Data"][0]["AuxAddresses"] = json!({"one": "fd09::2/64"});
    call("NetworkDriver.CreateNetwork", request);
    let halves = vec![Some("10.9.0.128/25".to_owned()), Some("fd09::8000:0:0:0/65".to_owned())];
    let (ranges, labels) = shown(&host);
    assert_eq!(ranges, halves);
    assert_eq!(labels[&format!("docker-addresses/{net}")], "10.9.0.0/25,fd09::/65");

    // They take turns, over a netd that is killed, and are in nobody's way.
    for n in 0_u8..8 {
        let address = format!("10.9.0.{}/24", n + 3);
        call("NetworkDriver.CreateEndpoint", endpoint(&net, &numbered(n), &address));
        let native = attached(&host, &world.container(&format!("native-{n}")));
        assert_eq!(native[0], format!("10.9.0.{}", 128 + n));
        assert!(native[1].starts_with("fd09::8000:0:0:"), "{native:?}");
        if n == 3 {
            host.kill();
            host.start();
            assert_eq!(shown(&host).0, halves, "it is on record");
        }
    }

    // Who was there before keeps the address.
    let error = refused("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.0.2/24"));
    assert!(error.contains("container before has it"), "{error}");
    let told = host.netctl(&["network", "inspect", "app"]);
    assert!(!told.stderr.contains("Docker gives addresses"), "it leaves them out: {told:?}");

    // It goes, and all of it is netd's again.
    for n in 0_u8..8 {
        call("NetworkDriver.DeleteEndpoint", of(&net, &numbered(n)));
    }
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    let (ranges, labels) = shown(&host);
    assert_eq!((ranges, labels), (vec![None, None], BTreeMap::new()));
}

/// `app`, of which a Docker was given the lower half by a netd that did not ask for more, and two
/// containers there.
fn divided(world: &World, host: &Host, net: &str) -> [Container; 2] {
    host.netctl(&["network", "create", "--subnet", "10.9.0.0/24", "app"]).success();
    let containers = ["one", "two"].map(|name| world.container(name));
    for container in &containers {
        attached(host, container);
    }
    let label = |prefix: &str, text: &str| (format!("{prefix}/{net}"), text.to_owned());
    let update = UpdateNetwork {
        network: "app".into(),
        ranges: [("10.9.0.0/24".parse().unwrap(), Some("10.9.0.128/25".parse().unwrap()))].into(),
        labels: [label("docker", "joined"), label("docker-addresses", "10.9.0.0/25")].into(),
        ..UpdateNetwork::default()
    };
    host.client().call(&update).unwrap();
    containers
}

#[test]
fn all_that_docker_does_not_know_is_told_at_once() {
    let world = World::new();
    let host = host(&world);
    let net = id('a');
    let _containers = divided(&world, &host, &net);
    let error = refused("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.0.2/24"));
    let used = "--aux-address used-10.9.0.2=10.9.0.2 --aux-address used-10.9.0.3=10.9.0.3 as well";
    for part in ["container one has it", used, "--ipam-driver netd"] {
        assert!(error.contains(part), "{error}");
    }
    let told = host.netctl(&["network", "inspect", "app"]);
    assert!(told.stderr.contains("10.9.0.2 (one), 10.9.0.3 (two)"), "{told:?}");
}

#[test]
fn what_is_kept_for_a_name_or_is_the_gateway_docker_has_to_know() {
    let world = World::new();
    let host = host(&world);
    let create = ["network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.9.0.9"];
    let aux = ["--aux-address", "printer=10.9.0.4", "app"];
    host.netctl(&[&create[..], &aux].concat()).success();
    host.netctl(&["network", "reserve", "--ip", "10.9.0.7", "app", "db"]).success();
    let mut request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    let error = refused("NetworkDriver.CreateNetwork", request.clone());
    let say = "say --gateway 10.9.0.9 --aux-address used-10.9.0.4=10.9.0.4 \
               --aux-address used-10.9.0.7=10.9.0.7 as well";
    assert!(error.contains(say), "{error}");
    request["IPv4Data"][0]["Gateway"] = "10.9.0.9/24".into();
    request["IPv4Data"][0]["AuxAddresses"] = json!({"a": "10.9.0.4/24", "b": "10.9.0.7/24"});
    call("NetworkDriver.CreateNetwork", request);
}

#[test]
fn what_docker_is_to_leave_out_of_netds_half_is_to_be_kept_by_netd() {
    let world = World::new();
    let host = host(&world);
    host.netctl(&["network", "create", "--subnet", "10.9.0.0/24", "app"]).success();
    let mut request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    request["IPv4Data"][0]["AuxAddresses"] = json!({"db": "10.9.0.7/24", "nas": "10.9.0.128/24"});
    let error = refused("NetworkDriver.CreateNetwork", request.clone());
    for part in [
        "address 10.9.0.128 is of 10.9.0.128/25, which netd gives out on network app",
        "netctl network reserve --ip 10.9.0.128 app NAME first",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(shown(&host), (vec![None], BTreeMap::new()), "it is as it was");
    host.netctl(&["network", "reserve", "--ip", "10.9.0.128", "app", "nas"]).success();
    call("NetworkDriver.CreateNetwork", request);
    assert_eq!(attached(&host, &world.container("native")), ["10.9.0.129"]);
}

#[test]
fn who_comes_while_docker_waits_for_its_half_is_seen() {
    let world = World::new();
    // A driver that makes a network when it is told to: whatever changes networks waits for it.
    let (directory, go) = ("/run/drivers", "/run/drivers/go");
    let sample = format!("{}/../examples/driver.py", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(sample).unwrap();
    let before = "def network_up(network):\n";
    assert_eq!(text.matches(before).count(), 1);
    fs::create_dir_all(directory).unwrap();
    let slow = "/run/drivers/netd-slow";
    fs::write(slow, text.replace(before, &format!("{before}    open({go:?}).read()\n"))).unwrap();
    fs::set_permissions(slow, fs::Permissions::from_mode(0o755)).unwrap();
    nix::unistd::mkfifo(go, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let config = format!("docker_plugin = \"{SOCKET}\"");
    let plugin_dirs = vec![directory.into()];
    let host = world.host_with("a", HostOptions { config, plugin_dirs, ..HostOptions::default() });
    host.netctl(&["network", "create", "--subnet", "10.9.0.0/24", "app"]).success();
    let native = world.container("native");
    let request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    let error = thread::scope(|scope| {
        let making = scope.spawn(|| host.netctl(&["network", "create", "-d", "slow", "other"]));
        // Opens when the driver has opened the other end.
        let go = fs::File::create(go).unwrap();
        let (mut docker, body) = (UnixStream::connect(SOCKET).unwrap(), request.to_string());
        let length = body.len();
        let head = "POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: \r\nConnection: close";
        write!(docker, "{head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        assert_eq!(attached(&host, &native), ["10.9.0.2"]);
        drop(go);
        making.join().unwrap().success();
        let mut answer = String::new();
        docker.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(error.contains("say --aux-address used-10.9.0.2=10.9.0.2 as well"), "{error}");
    assert_eq!(shown(&host), (vec![None], BTreeMap::new()), "it is as it was");
}

#[test]
fn nobody_else_gets_an_address_by_name_that_docker_gives_out() {
    let world = World::new();
    let host = host(&world);
    host.netctl(&["network", "create", "--subnet", "10.9.0.0/24", "app"]).success();
    let net = id('a');
    let mut request = network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    request["IPv4Data"][0]["AuxAddresses"] = json!({"db": "10.9.0.7/24"});
    call("NetworkDriver.CreateNetwork", request);
    let containers = ["db", "web"].map(|name| (name, world.container(name)));
    let attach = |ip: &str, name: &str| {
        let netns = containers.iter().find(|(own, _)| *own == name).unwrap().1.netns.path();
        host.netctl(&["attach", "--netns", &netns, "--name", name, "--ip", ip, "app"])
    };
    let reserve = |ip, name| host.netctl(&["network", "reserve", "--ip", ip, "app", name]);
    for refused in [attach("10.9.0.5", "db"), reserve("10.9.0.5", "db")] {
        assert_ne!(refused.code, 0, "{refused:?}");
        for part in [
            "address 10.9.0.5 of network app is of 10.9.0.0/25, which Docker gives out itself",
            "take one of 10.9.0.128/25, which netd gives out",
            "--aux-address used-10.9.0.5=10.9.0.5",
        ] {
            assert!(refused.stderr.contains(part), "{refused:?}");
        }
    }
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.0.5/24"));
    // What Docker leaves out is anybody's, and so is the other half.
    for (ip, name) in [("10.9.0.7", "db"), ("10.9.0.200", "web")] {
        reserve(ip, name).success();
        attach(ip, name).success();
    }
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &id('f'), "10.9.0.201/24"));
}

#[test]
fn docker_gives_nothing_of_what_podman_gives() {
    let world = World::new();
    let host = host(&world);
    host.netctl(&["network", "create", "--subnet", "10.9.0.0/24", "app"]).success();
    let update = UpdateNetwork {
        network: "app".into(),
        ranges: [("10.9.0.0/24".parse().unwrap(), Some("10.9.0.128/25".parse().unwrap()))].into(),
        labels: [("netavark/addresses".to_owned(), "10.9.0.0/25".to_owned())].into(),
        ..UpdateNetwork::default()
    };
    host.client().call(&update).unwrap();
    let request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    let error = refused("NetworkDriver.CreateNetwork", request);
    for part in [
        "Podman gives addresses of 10.9.0.0/25 of network app of netd out itself",
        "say --ipam-driver netd --ipam-opt network=app",
        "netctl podman prune",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_option_of_dockers_own_front_is_named_where_another_is_meant() {
    let world = World::new();
    let _host = host(&world);
    for (wrong, hint) in [
        ("netwrok", "did you mean \"network\"?"),
        ("typ", "did you mean \"type\"?"),
        ("zzzzzzzzzz", ", network, type"),
    ] {
        let error = refused(
            "NetworkDriver.CreateNetwork",
            network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({wrong: "x"})),
        );
        assert!(error.contains(&format!("no option {wrong:?}")) && error.contains(hint), "{error}");
    }
}

#[test]
fn a_range_of_dockers_in_netds_half_is_refused() {
    let world = World::new();
    let host = host(&world);
    host.netctl(&["network", "create", "--subnet", "10.8.0.0/24", "app"]).success();
    host.netctl(&[
        "network",
        "create",
        "--subnet",
        "10.7.0.0/24",
        "--ip-range",
        "10.7.0.0/25",
        "low",
    ])
    .success();
    // As Docker says --ip-range: the gateway is its first address, and that is all there is.
    for (name, subnet, gateway, rest) in [
        ("pp", "10.9.0", 192, "one within 10.9.0.0/25"),
        ("pp", "10.9.0", 128, "one within 10.9.0.0/25"),
        ("app", "10.8.0", 252, "one within 10.8.0.0/25"),
        ("low", "10.7.0", 64, "one outside 10.7.0.0/25"),
    ] {
        let [whole, gateway] = [format!("{subnet}.0/24"), format!("{subnet}.{gateway}")];
        let from = json!({"network": name});
        let request = network(&id('a'), &whole, &format!("{gateway}/24"), from);
        let error = refused("NetworkDriver.CreateNetwork", request.clone());
        for part in [&*format!("gateway {gateway} is"), "say --ipam-driver netd as well", rest] {
            assert!(error.contains(part), "{error}");
        }
        if name == "pp" {
            let mut netds = request;
            netds["IPv4Data"][0]["AddressSpace"] = json!("netd");
            call("NetworkDriver.CreateNetwork", netds);
            call("NetworkDriver.DeleteNetwork", json!({"NetworkID": id('a')}));
        }
    }
    // A range of Docker's half, or of what netd was told to leave, and a gateway of one's own.
    for (digit, name, subnet, gateway) in
        [('b', "low", "10.7.0", 192), ('c', "pp", "10.9.0", 64), ('d', "last", "10.6.0", 254)]
    {
        let [whole, gateway] = [format!("{subnet}.0/24"), format!("{subnet}.{gateway}/24")];
        let mut request = network(&id(digit), &whole, &gateway, json!({"network": name}));
        if name == "low" {
            request["IPv4Data"][0]["Gateway"] = json!("10.7.0.1/24");
        }
        call("NetworkDriver.CreateNetwork", request);
    }
    // Where the gateway does not tell, the container that gets such an address is told.
    let native = world.container("native");
    let endpoint_of = host.client().attach(&native.to("last"));
    assert_eq!(endpoint_of.addresses[0].to_string(), "10.6.0.128/24");
    let brought = endpoint(&id('d'), &id('e'), "10.6.0.128/24");
    let error = refused("NetworkDriver.CreateEndpoint", brought);
    for part in ["container native has it", "10.6.0.128/25", "another --ip", "--ipam-driver netd"] {
        assert!(error.contains(part), "{error}");
    }
}

fn numbered(n: u8) -> String {
    format!("b{n:063}")
}

#[test]
fn a_part_that_was_said_stays() {
    let world = World::new();
    let host = host(&world);
    let create =
        ["network", "create", "--subnet", "10.9.0.0/24", "--ip-range", "10.9.0.0/26", "app"];
    host.netctl(&create).success();
    let request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    call("NetworkDriver.CreateNetwork", request);
    assert_eq!(shown(&host).0, [Some("10.9.0.0/26".to_owned())]);
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": id('a')}));
    assert_eq!(shown(&host).0, [Some("10.9.0.0/26".to_owned())]);
}

#[test]
fn what_is_there_while_it_is_used_goes_after_docker_as_well() {
    let world = World::new();
    let host = host(&world);
    let create = ["network", "create", "--subnet", "10.9.0.0/24", "--label", "netd/while-used"];
    host.netctl(&[&create[..], &["app"]].concat()).success();
    let request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    call("NetworkDriver.CreateNetwork", request);
    attached(&host, &world.container("native"));
    host.client().detach("native");
    assert_eq!(shown(&host).0.len(), 1, "Docker has it");
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": id('a')}));
    eventually("it is gone", || {
        match host.client().call(&InspectNetwork { network: "app".into() }) {
            Err(_) => Ok(()),
            Ok(network) => Err(network.network.labels),
        }
    });
}
