use super::*;

fn server() -> IpAddr {
    "169.254.1.53".parse().expect("an address")
}

fn put(text: &str) -> String {
    with(Some(text), server()).expect(text).expect("it was not there")
}

fn taken(text: &str) -> Left {
    without(text, server()).expect(text).expect("it was there")
}

#[test]
fn what_is_put_in_is_taken_out_to_the_byte() {
    for text in [
        "{}",
        "{ }\n",
        "{\n}\n",
        "{\"debug\": true}",
        "{\n    \"debug\": true,\n    \"log-level\": \"warn\"\n}\n",
        "{\"dns\": [\"192.0.2.1\"]}",
        "{\n  \"a\": {\"dns\": [1]},\n  \"dns\": [\n    \"192.0.2.1\",\n    \"192.0.2.2\"\n  ],\n  \"z\": 1\n}\n",
        "\t{\"dns-opts\":[\"dns\"],\"dns\":[\"192.0.2.1\" , \"192.0.2.2\"]}",
    ] {
        let with_it = put(text);
        let parsed: serde_json::Value = serde_json::from_str(&with_it).expect(&with_it);
        assert_eq!(parsed["dns"][0], "169.254.1.53", "{with_it}");
        let mut others: serde_json::Value = serde_json::from_str(text).expect(text);
        let mut list = others["dns"].as_array().cloned().unwrap_or_default();
        list.insert(0, "169.254.1.53".into());
        others["dns"] = list.into();
        assert_eq!(parsed, others, "nothing else has changed");
        assert_eq!(with(Some(&with_it), server()), Ok(None), "once");
        assert_eq!(taken(&with_it), Left::Text(text.to_owned()));
    }
}

#[test]
fn a_file_that_was_not_there_goes() {
    for none in [None, Some(""), Some(" \n")] {
        let made = with(none, server()).expect("a text").expect("it was not there");
        assert_eq!(made, "{\n    \"dns\": [\"169.254.1.53\"]\n}\n");
        assert_eq!(taken(&made), Left::Nothing);
    }
}

#[test]
fn others_may_have_moved_it_meanwhile() {
    for (text, left) in [
        ("{\"dns\": [\"192.0.2.1\", \"169.254.1.53\"]}", "{\"dns\": [\"192.0.2.1\"]}"),
        ("{\"debug\": true, \"dns\": [\"169.254.1.53\"]}", "{\"debug\": true}"),
        ("{\"dns\" :\n[ \"169.254.1.53\" ]\n}", "{\n}"),
    ] {
        assert_eq!(taken(text), Left::Text(left.to_owned()));
    }
    for none in ["", "{}", "{\"dns\": []}", "{\"dns\": [\"192.0.2.1\"]}"] {
        assert_eq!(without(none, server()), Ok(None));
    }
}

#[test]
fn what_dockerd_would_not_read_is_left_alone() {
    for bad in ["{", "[]", "{\"dns\": 7}", "{\"dns\": {}}", "nothing", "{} {}"] {
        assert!(with(Some(bad), server()).is_err(), "{bad}");
    }
    assert!(without("{\"dns\": 7}", server()).is_err());
}
