//! Networks that were made for Podman go with the last who is on them, whoever that is and whenever.

use netd_tests::eventually;

use super::*;

#[track_caller]
fn goes(place: &Place) {
    eventually("the network is gone", || match &place.networks()[..] {
        [] => Ok(()),
        others => Err(others.to_vec()),
    });
}

#[test]
fn the_last_who_goes_while_netd_is_away_takes_the_network_along() {
    let mut place = Place::new();
    let before = place.host.snapshot();
    let web = place.world.container("web");
    let to_web = document(&web, 7, &[network("app", 1, json!({}))]);
    place.setup(&web, &to_web).success();
    place.host.kill();
    place.teardown(&web, &to_web).success();
    place.host.start();
    goes(&place);
    eventually("nothing is left", || before.same_as(&place.host.snapshot()));
}

#[test]
fn the_last_who_is_not_podmans_takes_the_network_along() {
    let place = Place::new();
    let before = place.host.snapshot();
    let (web, native) = (place.world.container("web"), place.world.container("native"));
    let to_web = document(&web, 7, &[network("app", 1, json!({}))]);
    place.setup(&web, &to_web).success();
    place.host.client().attach(&native.to("app"));
    place.teardown(&web, &to_web).success();
    assert_eq!(place.networks(), [("app".to_owned(), 1)], "somebody needs it");
    place.host.client().detach("native");
    goes(&place);
    eventually("nothing is left", || before.same_as(&place.host.snapshot()));
}
