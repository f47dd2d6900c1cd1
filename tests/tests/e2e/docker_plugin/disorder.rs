//! Calls in no order, again and of nothing that there is, and a dockerd that ends between any two.

use super::*;

/// Everything that a dockerd asks for from a network to a container on it, and back, with a network's
/// number for ids and addresses.
fn life(n: usize) -> Vec<(&'static str, Value)> {
    let (net, ep) = (format!("a{n:011}{:052}", 0), format!("e{n:011}{:052}", 0));
    let subnet = format!("10.9.{n}.0/24");
    let of_pool = |more: Value| {
        let mut body = json!({"PoolID": subnet, "Options": null});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let mut create = network(&net, &subnet, &format!("10.9.{n}.1/24"), json!({}));
    create["IPv4Data"][0]["AddressSpace"] = json!("netd");
    let mut program = of(&net, &ep);
    program["Options"] = json!({"com.docker.network.portmap": [{"Proto": 6, "Port": 80,
        "HostPort": 8000 + n}]});
    let gateway = json!({"Address": "",
        "Options": {"RequestAddressType": "com.docker.network.gateway"}});
    let address = format!("10.9.{n}.2");
    vec![
        (
            "IpamDriver.RequestPool",
            json!({"AddressSpace": "netd", "Pool": subnet, "SubPool": "", "V6": false}),
        ),
        ("IpamDriver.RequestAddress", of_pool(gateway)),
        ("NetworkDriver.CreateNetwork", create),
        ("IpamDriver.RequestAddress", of_pool(json!({"Address": address}))),
        ("NetworkDriver.CreateEndpoint", endpoint(&net, &ep, &format!("{address}/24"))),
        ("NetworkDriver.Join", of(&net, &ep)),
        ("NetworkDriver.ProgramExternalConnectivity", program),
        ("NetworkDriver.RevokeExternalConnectivity", of(&net, &ep)),
        ("NetworkDriver.Leave", of(&net, &ep)),
        ("NetworkDriver.DeleteEndpoint", of(&net, &ep)),
        ("IpamDriver.ReleaseAddress", of_pool(json!({"Address": address}))),
        ("NetworkDriver.DeleteNetwork", json!({"NetworkID": net})),
        ("IpamDriver.ReleaseAddress", of_pool(json!({"Address": format!("10.9.{n}.1")}))),
        ("IpamDriver.ReleasePool", of_pool(json!({}))),
    ]
}

#[test]
fn a_dockerd_that_ends_between_any_two_calls_leaves_nothing() {
    let world = World::new();
    let host = host(&world);
    let clean = host.snapshot();
    let shop = host.client().create("shop");
    let with_shop = host.snapshot();
    call("Plugin.Activate", Value::Null);
    let lives = life(0).len();
    for n in 0..=lives {
        life(n).into_iter().take(n).for_each(|(method, body)| drop(call(method, body)));
    }
    // An address of a network that stays, asked for and not used.
    let subnet = shop.subnets[0].subnet.to_string();
    let pool = json!({"AddressSpace": "netd", "Pool": subnet, "SubPool": "", "V6": false,
        "Options": {"network": "shop"}});
    let pool = call("IpamDriver.RequestPool", pool)["PoolID"].clone();
    let lent = json!({"PoolID": pool, "Address": "", "Options": null});
    call("IpamDriver.RequestAddress", lent);
    assert!(host.client().endpoints().len() > 3);

    // It comes back, and knows of none of it.
    let _told = Told::listen();
    call("Plugin.Activate", Value::Null);
    eventually("nothing is left", || host.snapshot().same_as(&with_shop));
    assert_eq!(host.client().endpoints(), []);
    let leased: u128 = host.client().pools().iter().map(|pool| u128::from(pool.leased)).sum();
    assert_eq!(leased, 0, "{:?}", host.client().pools());
    // All of it can be had again.
    for n in 0..=lives {
        life(n).into_iter().for_each(|(method, body)| drop(call(method, body)));
    }
    host.netctl(&["network", "rm", "shop"]).success();
    eventually("nothing is left", || host.snapshot().same_as(&clean));
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

#[test]
fn a_containers_own_options_are_the_drivers() {
    let world = World::new();
    let host = host(&world);
    let net = id('a');
    call("NetworkDriver.CreateNetwork", network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({})));
    let mut made = endpoint(&net, &id('e'), "10.9.0.2/24");
    // What dockerd says is passed over, what its user does is not.
    made["Options"] = json!({"com.docker.network.endpoint.exposedports": [], "colour": "red",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"});
    let error = refused("NetworkDriver.CreateEndpoint", made.clone());
    assert!(error.contains("no option \"colour\""), "{error}");
    assert_eq!(host.client().endpoints(), []);
    made["Options"]["colour"].take();
    made["Options"]["spoof-check"] = json!("false");
    call("NetworkDriver.CreateEndpoint", made);
    let options = host.client().endpoints().remove(0).options;
    assert_eq!((options["spoof-check"].as_str(), options["deliver"].as_str()), ("false", "host"));
    assert_eq!(options.len(), 2, "{options:?}");
}

#[test]
fn each_call_may_come_again() {
    let world = World::new();
    let host = host(&world);
    let clean = host.snapshot();
    for (method, body) in life(1) {
        let first = call(method, body.clone());
        // An address that is named and taken is taken.
        let (status, again) = send(&format!("POST /{method}"), &body.to_string());
        match method {
            "IpamDriver.RequestAddress" if body["Address"] != "" => {
                assert_eq!(status, 500, "{method}: {again}");
            }
            "NetworkDriver.CreateEndpoint" => assert_eq!(status, 200, "{again}"),
            _ => assert_eq!((status, again), (200, first.to_string()), "{method}"),
        }
    }
    eventually("nothing is left", || host.snapshot().same_as(&clean));
}

#[test]
fn calls_in_any_other_order_leave_nothing() {
    let world = World::new();
    let host = host(&world);
    let clean = host.snapshot();
    let calls = life(1);
    // Backwards, and from each on around: what is refused is refused in words, the rest is done.
    let around = |from: usize| calls[from..].iter().chain(&calls[..from]);
    let orders = [calls.iter().rev().collect::<Vec<_>>()];
    let orders = orders.into_iter().chain((0..calls.len()).map(|from| around(from).collect()));
    for order in orders {
        for (method, body) in order {
            let (status, answer) = send(&format!("POST /{method}"), &body.to_string());
            let answer: Value = serde_json::from_str(&answer).unwrap();
            match status {
                200 => assert!(answer.is_object(), "{method}: {answer}"),
                500 => assert!(answer["Err"].is_string(), "{method}: {answer}"),
                other => panic!("{method}: {other} {answer}"),
            }
        }
        for (method, body) in &calls[7..] {
            call(method, body.clone());
        }
        eventually("nothing is left", || host.snapshot().same_as(&clean));
        assert_eq!(host.client().endpoints(), []);
    }
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

#[test]
fn what_comes_again_without_its_words_is_refused_in_a_sentence() {
    let world = World::new();
    let _host = host(&world);
    // Of what netd did not answer before it ended, dockerd sends the head again and no body.
    let (status, answer) = send("POST /NetworkDriver.CreateEndpoint", "");
    assert_eq!(status, 400, "{answer}");
    let sentence = "netd ended before it answered NetworkDriver.CreateEndpoint";
    assert!(answer.contains(sentence) && !answer.contains("EOF"), "{answer}");
}

#[test]
fn an_ipam_that_is_asked_for_what_is_not_there_says_what_is() {
    let world = World::new();
    let host = host(&world);
    let pool = |options: Value| {
        json!({"AddressSpace": "netd", "Pool": "10.8.0.0/24", "SubPool": "", "V6": false,
            "Options": options})
    };
    let refused = |options: Value| refused("IpamDriver.RequestPool", pool(options));
    let error = refused(json!({"network": "shop"}));
    assert!(error.contains("no network \"shop\" (--ipam-opt): there are none"), "{error}");
    host.client().create_on("shop", "10.8.0.0/24");
    for (options, sentence) in [
        (json!({"network": "sho"}), "no network \"sho\" (--ipam-opt): did you mean \"shop\"?"),
        (json!({"network": "nosuch"}), "there are shop; for a new one leave --ipam-opt out"),
        (json!({"netwrok": "shop"}), "no option \"netwrok\": there is --ipam-opt network=NAME"),
    ] {
        let error = refused(options);
        assert!(error.contains(sentence), "{error}");
    }
    call("IpamDriver.RequestPool", pool(json!({"network": "shop"})));
    // Docker's own drivers have no network here, and are told which do.
    let lent = json!({"PoolID": "10.7.0.0/24", "Address": "", "Options": null});
    let error = super::refused("IpamDriver.RequestAddress", lent);
    assert!(error.contains("with -d netd as well, or without --ipam-driver"), "{error}");
}
