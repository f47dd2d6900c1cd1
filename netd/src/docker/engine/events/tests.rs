use super::*;

fn network() -> Known {
    Known { id: "7d1f0c5e2b9a".into(), name: "app".into(), driver: "bridge".into(), scope: "local" }
}

fn asked(filters: &[(&str, &[&str])]) -> Asked {
    let filters = filters
        .iter()
        .map(|(key, values)| {
            ((*key).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
        })
        .collect();
    Asked::parse(filters, "", "").expect("no times")
}

#[test]
fn a_message_has_dockers_members_in_its_order() {
    let mut message = Message::new("connect", &network(), 1_577_836_800_000_000_007);
    message.actor.attributes.insert("container".into(), "c1".into());
    assert_eq!(
        message.line(),
        "{\"Type\":\"network\",\"Action\":\"connect\",\"Actor\":{\"ID\":\"7d1f0c5e2b9a\",\
         \"Attributes\":{\"container\":\"c1\",\"name\":\"app\",\"type\":\"bridge\"}},\
         \"scope\":\"local\",\"time\":1577836800,\"timeNano\":1577836800000000007}\n"
    );
}

#[test]
fn times_are_seconds_and_parts_of_them() {
    for (text, nanos) in [
        ("", None),
        ("0", Some(0)),
        ("1.5", Some(1_500_000_000)),
        ("1577836800.000000007", Some(1_577_836_800_000_000_007)),
    ] {
        assert_eq!(time("since", text).expect(text), nanos);
    }
    for bad in ["x", "1.x", "1.0000000001", "-", "2020-01-01", "99999999999999999999"] {
        let error = time("until", bad).expect_err(bad).message;
        assert!(error.contains("invalid until"), "{error}");
    }
    let error = Asked::parse(BTreeMap::new(), "2", "1").expect_err("it ends before it begins");
    assert_eq!(error.message, "`since` time (2) cannot be after `until` time (1)");
}

#[test]
fn filters_are_any_of_a_key_and_all_keys() {
    let message = Message::new("create", &network(), 0);
    for good in [
        &[][..],
        &[("type", &["volume", "network"][..])],
        &[("event", &["create"]), ("scope", &["local"])],
        &[("network", &["ap"])],
        &[("network", &["7d1f"]), ("label", &["name=app", "type"])],
        &[("colour", &["red"])],
        &[("type", &[])],
    ] {
        assert!(asked(good).wants(&message), "{good:?}");
    }
    for bad in [
        &[("type", &["container"][..])][..],
        &[("event", &["destroy"])],
        &[("event", &["create"]), ("scope", &["swarm"])],
        &[("container", &["web"])],
        &[("image", &["app"])],
        &[("network", &["back", "pp"])],
        &[("label", &["name=app", "team"])],
    ] {
        assert!(!asked(bad).wants(&message), "{bad:?}");
    }
}
