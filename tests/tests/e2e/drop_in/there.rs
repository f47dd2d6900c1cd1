//! Networks that netd had before Podman wrote one of their name down.

use cnm::network::{CreateNetwork, InspectNetwork, Subnet, UpdateNetwork};

use super::*;

fn ipnet(status: &Executed) -> String {
    let told: Value = serde_json::from_str(status.success()).unwrap();
    told["app"]["interfaces"]["eth0"]["subnets"][0]["ipnet"].as_str().unwrap().to_owned()
}

/// `app` with one subnet, made by netd.
fn make(place: &Place, subnet: &str) {
    let subnets = vec![Subnet::new(subnet.parse().unwrap())];
    let create = CreateNetwork { subnets, ..CreateNetwork::named("app") };
    place.host.client().call(&create).unwrap();
}

/// Its range and its label of Podman's part.
fn shown(place: &Place) -> (Option<String>, Option<String>) {
    let inspect = InspectNetwork { network: "app".into() };
    let network = place.host.client().call(&inspect).unwrap().network;
    let range = network.subnets[0].range.map(|range| range.to_string());
    (range, network.labels.get("netavark/addresses").cloned())
}

#[test]
fn of_the_same_subnet_each_has_a_half() {
    let mut place = Place::new();
    make(&place, "10.83.1.0/24");
    let before = place.world.container("before");
    let endpoint = place.host.client().attach(&before.to("app"));
    assert_eq!(endpoint.addresses[0].to_string(), "10.83.1.2/24");
    let (web, db) = (place.world.container("web"), place.world.container("db"));
    let app = network("app", 1, json!({}));
    let to_web = document(&web, 3, std::slice::from_ref(&app));
    assert_eq!(ipnet(&place.setup(&web, &to_web)), "10.83.1.3/24");
    let halves = (Some("10.83.1.128/25".to_owned()), Some("10.83.1.0/25".to_owned()));
    assert_eq!(shown(&place), halves);
    let native = place.world.container("native");
    let endpoint = place.host.client().attach(&native.to("app"));
    assert_eq!(endpoint.addresses[0].to_string(), "10.83.1.128/24");
    // Who was there before keeps the address, and Podman is told whose it is.
    let error = refused(&place.setup(&db, &document(&db, 2, std::slice::from_ref(&app))));
    assert!(error.contains("container before has it"), "{error}");
    place.host.kill();
    place.host.start();
    assert_eq!(shown(&place), halves, "it is on record");
    place.teardown(&web, &to_web).success();
    assert_eq!(place.networks(), [("app".to_owned(), 2)]);
    for name in ["before", "native"] {
        place.host.client().detach(name);
    }
    assert_eq!(place.networks(), [("app".to_owned(), 0)], "it is netd's");
}

#[test]
fn of_what_docker_gives_podman_gives_nothing() {
    let place = Place::new();
    make(&place, "10.83.1.0/24");
    let labels = [("docker-addresses/a".to_owned(), "10.83.1.0/25".to_owned())].into();
    let ranges = [("10.83.1.0/24".parse().unwrap(), Some("10.83.1.128/25".parse().unwrap()))];
    let network_of = |place: &Place| {
        let inspect = InspectNetwork { network: "app".into() };
        place.host.client().call(&inspect).unwrap().network
    };
    let update = UpdateNetwork {
        network: "app".into(),
        ranges: ranges.into(),
        labels,
        ..UpdateNetwork::default()
    };
    place.host.client().call(&update).unwrap();
    let divided = network_of(&place);
    let web = place.world.container("web");
    let to_web = document(&web, 2, &[network("app", 1, json!({}))]);
    let told = place.setup(&web, &to_web);
    assert_eq!(ipnet(&told), "10.83.1.128/24", "of netd's half");
    assert!(
        told.stderr.contains("gave the address 10.83.1.128: what Podman chose is of"),
        "{told:?}"
    );
    assert_eq!(network_of(&place), divided, "nothing is Podman's to give");
    place.teardown(&web, &to_web).success();
}

#[test]
fn where_podman_chose_a_subnet_by_itself_netd_gives_the_address() {
    let place = Place::new();
    make(&place, "10.83.1.0/24");
    let web = place.world.container("web");
    let chosen = json!({"subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]});
    let to_web = document(&web, 2, &[network("app", 1, chosen)]);
    let told = place.setup(&web, &to_web);
    assert_eq!(ipnet(&told), "10.83.1.2/24");
    assert!(told.stderr.contains("netd's, which gave the address 10.83.1.2"), "{told:?}");
    assert_eq!(shown(&place), (None, None), "nothing is Podman's to give");
    place.teardown(&web, &to_web).success();
    assert_eq!(place.networks(), [("app".to_owned(), 0)]);
    // One that was said is refused.
    let said = document(&web, 2, &[network("app", 2, json!({}))]);
    let error = refused(&place.setup(&web, &said));
    for part in ["netd has a network app already, with 10.83.1.0/24", "10.83.2.0/24", "--subnet"] {
        assert!(error.contains(part), "{error}");
    }
}
