//! What Docker calls its containers and nobody would find: they run without such a name.

use netd_tests::{Asking as _, Host, World, eventually};
use serde_json::json;

use super::{Told, call, deliver, endpoint, host, id, network, of};

#[test]
fn a_container_has_the_names_that_can_be_asked_for() {
    let world = World::new();
    let host = host(&world);
    let told = Told::listen();
    let (net, ep, cid) = (id('a'), id('e'), id('c'));
    let request = network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    call("NetworkDriver.CreateNetwork", request);
    call("NetworkDriver.CreateEndpoint", endpoint(&net, &ep, "10.9.0.2/24"));
    told.network(&net, &[(&cid, "localhost", &ep)]);
    let joined = json!({"app": {
        "EndpointID": ep, "Aliases": ["www", "db.netd"], "DNSNames": ["localhost", "www"],
    }});
    let whole = json!({
        "Id": cid, "Name": "/localhost", "NetworkSettings": {"Networks": joined},
    });
    told.0.lock().unwrap().insert(format!("/containers/{cid}/json"), whole);
    let joined = call("NetworkDriver.Join", of(&net, &ep));
    let web = world.container("web");
    deliver(&host, &joined, &web, "10.9.0.2/24");
    eventually("it has its other name", || {
        match Host::ask_name(&web.netns, "10.9.0.1".parse().unwrap(), "www A").as_slice() {
            [one] if one == "10.9.0.2" => Ok(()),
            other => Err((other.to_vec(), host.client().endpoints())),
        }
    });
    let endpoint = host.client().endpoints().remove(0);
    assert_eq!((endpoint.container.id.as_str(), &endpoint.container.name), (&*cid, &None));
    for left in ["db.netd is no name", "localhost is no name"] {
        assert!(host.log().contains(left), "{left}: {}", host.log());
    }
}
