//! Networks of type macvlan: what dockerd moves has no end on the host, and is found wherever it is.

use cnm::{
    endpoint::CheckEndpoint,
    system::{Reconcile, Reconciled},
};

use super::*;

/// The link group of what netd makes, and the kind: what a macvlan of its own is known by.
const ORPHAN: &str = "ip link add nc000000000000 link lan0 group 1852142692 type macvlan";

fn lan(options: &Value) -> Value {
    let mut generic = json!({"type": "macvlan", "parent": "lan0", "network": "phys"});
    generic.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    network(&id('a'), "192.0.2.0/24", "192.0.2.2/24", generic)
}

fn differences(host: &Host) -> Vec<String> {
    let endpoints = host.client().endpoints();
    let check = CheckEndpoint { endpoint: endpoints[0].id.to_string(), mac: None, netns: None };
    host.client().call(&check).unwrap().differences
}

fn reconciled(host: &Host) -> Reconciled {
    host.client().call(&Reconcile {}).unwrap()
}

#[test]
fn a_macvlan_is_found_wherever_dockerd_has_it() {
    let world = World::new();
    let mut host = host(&world);
    let neighbour = host.lan();
    let clean = host.snapshot();
    let (net, ep) = (id('a'), id('e'));
    for options in [json!({}), json!({"mode": "private"}), json!({"mode": "passthru"})] {
        call("NetworkDriver.CreateNetwork", lan(&options));
        let made = call("NetworkDriver.CreateEndpoint", endpoint(&net, &ep, "192.0.2.70/24"));
        let mac = made["Interface"]["MacAddress"].as_str().unwrap().to_owned();
        let joined = call("NetworkDriver.Join", of(&net, &ep));
        assert_eq!(joined["Gateway"], "192.0.2.2");
        let source = joined["InterfaceName"]["SrcName"].as_str().unwrap().to_owned();
        assert!(source.starts_with("nc"), "{joined}");
        let link = &host.netns.json(&format!("ip -j -d link show {source}"))[0];
        assert_eq!(link["address"], mac.as_str());
        assert_eq!((&link["operstate"], &link["mtu"]), (&json!("DOWN"), &json!(1500)));
        assert_eq!(differences(&host), [""; 0]);
        assert_eq!(reconciled(&host), Reconciled::default(), "it waits for dockerd");
        let notes = inspect(&host, "phys").notes;
        assert!(notes[0].contains("netd's resolver is not on the LAN"), "{notes:?}");

        let web = world.container("web");
        deliver(&host, &joined, &web, "192.0.2.70/24");
        if options["mode"] != "passthru" {
            assert!(web.netns.pings("192.0.2.2".parse().unwrap()));
            assert!(neighbour.pings("192.0.2.70".parse().unwrap()));
        }
        host.kill();
        host.start();
        assert_eq!(differences(&host), [""; 0], "{options}");
        assert_eq!(reconciled(&host), Reconciled::default());
        web.netns.run("ip address del 192.0.2.70/24 dev eth0");
        assert_eq!(differences(&host), ["eth0 does not have 192.0.2.70/24"]);

        // Given back as dockerd gives it back, and then not at all.
        take_back(&host, &joined, &web);
        assert_eq!(reconciled(&host), Reconciled::default());
        call("NetworkDriver.DeleteEndpoint", of(&net, &ep));
        let joined = {
            call("NetworkDriver.CreateEndpoint", endpoint(&net, &ep, "192.0.2.70/24"));
            call("NetworkDriver.Join", of(&net, &ep))
        };
        deliver(&host, &joined, &web, "192.0.2.70/24");
        call("NetworkDriver.DeleteEndpoint", of(&net, &ep));
        let gone = web.netns.output("ip link show eth0");
        assert!(!gone.status.success(), "it was taken from the container");
        call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
        host.snapshot().same_as(&clean).unwrap();
    }
}

#[test]
fn a_macvlan_goes_with_its_container_and_what_nobody_waits_for_goes() {
    let world = World::new();
    let host = host(&world);
    let _neighbour = host.lan();
    let clean = host.snapshot();
    let (net, ep) = (id('a'), id('e'));
    call("NetworkDriver.CreateNetwork", lan(&json!({})));
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &ep, "192.0.2.70/24"));
    let joined = call("NetworkDriver.Join", of(&net, &ep));
    let web = world.container("web");
    deliver(&host, &joined, &web, "192.0.2.70/24");
    drop(web);
    eventually("it is gone with its container", || match differences(&host).as_slice() {
        [one] if one.contains("neither on the host nor in a container") => Ok(()),
        other => Err(other.to_vec()),
    });
    // dockerd, which knows that its container has ended, is about to say so.
    let told = reconciled(&host);
    assert!(told.lost[0].contains("has lost its link"), "{told:?}");
    call("NetworkDriver.DeleteEndpoint", of(&net, &ep));
    host.netns.run(ORPHAN);
    assert_eq!(reconciled(&host).repaired, ["remove nc000000000000"]);
    assert_eq!(reconciled(&host), Reconciled::default());
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    host.snapshot().same_as(&clean).unwrap();
}

/// dockerd names a pool by its subnet alone, which several networks of one LAN have.
#[test]
fn an_address_of_a_lan_is_of_the_network_whose_addresses_netd_gives() {
    let world = World::new();
    let host = host(&world);
    let _neighbour = host.lan();
    // Docker gives those of these networks itself, from the lower half on.
    for digit in ['b', 'c', 'd'] {
        let mut request = lan(&json!({}));
        request["NetworkID"] = json!(id(digit));
        let generic = &mut request["Options"]["com.docker.network.generic"];
        generic.as_object_mut().unwrap().remove("network");
        call("NetworkDriver.CreateNetwork", request);
    }
    let outside = ["-d", "macvlan", "-o", "parent=lan0", "-o", "ipam=none", "outside"];
    let create = ["network", "create", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.2"];
    host.netctl(&[&create[..], &outside].concat()).success();
    let mut request = lan(&json!({}));
    request["IPv4Data"][0]["AddressSpace"] = json!("netd");
    call("NetworkDriver.CreateNetwork", request);
    let leased = call(
        "IpamDriver.RequestAddress",
        json!({"PoolID": "192.0.2.0/24", "Address": "", "Options": null}),
    );
    assert_eq!(leased["Address"], "192.0.2.3/24", "after the host and its neighbour");
    call("NetworkDriver.CreateEndpoint", endpoint(&id('a'), &id('e'), "192.0.2.3/24"));
    let taken = json!({"PoolID": "192.0.2.0/24", "Address": "192.0.2.3", "Options": null});
    let error = refused("IpamDriver.RequestAddress", taken);
    assert!(error.ends_with(": a container that Docker is starting has it"), "{error}");
}
