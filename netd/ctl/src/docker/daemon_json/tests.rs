use super::*;

fn server() -> IpAddr {
    "169.254.1.53".parse().expect("an address")
}

fn put(text: &str) -> (String, Made) {
    with(Some(text), server()).expect(text).expect("it was not there")
}

fn taken(text: &str, made: Made) -> Option<String> {
    without(text, server(), made).expect(text)
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
        "{\"dns\": []}",
        "{\"debug\": true, \"dns\" : [ ]}\n",
        "{\n  \"a\": {\"dns\": [1]},\n  \"dns\": [\n    \"192.0.2.1\",\n    \"192.0.2.2\"\n  ],\n  \"z\": 1\n}\n",
        "\t{\"dns-opts\":[\"dns\"],\"dns\":[\"192.0.2.1\" , \"192.0.2.2\"]}",
    ] {
        let (with_it, made) = put(text);
        let parsed: serde_json::Value = serde_json::from_str(&with_it).expect(&with_it);
        assert_eq!(parsed["dns"][0], "169.254.1.53", "{with_it}");
        let mut others: serde_json::Value = serde_json::from_str(text).expect(text);
        let mut list = others["dns"].as_array().cloned().unwrap_or_default();
        list.insert(0, "169.254.1.53".into());
        others["dns"] = list.into();
        assert_eq!(parsed, others, "nothing else has changed");
        assert_eq!(with(Some(&with_it), server()), Ok(None), "once");
        assert_eq!(taken(&with_it, made).as_deref(), Some(text));
    }
}

#[test]
fn a_file_that_was_not_there_goes_and_an_empty_one_stays() {
    let made = with(None, server()).expect("a text").expect("it was not there");
    assert_eq!(made, ("{\n    \"dns\": [\"169.254.1.53\"]\n}\n".to_owned(), Made::File));
    assert_eq!(taken(&made.0, made.1), None);
    for empty in ["", " \n"] {
        let (text, how) = put(empty);
        assert_eq!(taken(&text, how).as_deref(), Some(empty));
    }
    let others = "{\n    \"dns\": [\"169.254.1.53\"],\n    \"debug\": true\n}\n";
    assert_eq!(taken(others, Made::File).as_deref(), Some("{\n    \"debug\": true\n}\n"));
}

#[test]
fn others_may_have_moved_it_meanwhile() {
    for (text, left) in [
        ("{\"dns\": [\"192.0.2.1\", \"169.254.1.53\"]}", "{\"dns\": [\"192.0.2.1\"]}"),
        ("{\"debug\": true, \"dns\": [\"169.254.1.53\"]}", "{\"debug\": true}"),
        ("{\"dns\" :\n[ \"169.254.1.53\" ]\n}", "{\n}"),
    ] {
        assert_eq!(taken(text, Made::List).as_deref(), Some(left));
    }
    for none in ["", "{}", "{\"dns\": []}", "{\"dns\": [\"192.0.2.1\"]}"] {
        assert_eq!(taken(none, Made::List).as_deref(), Some(none));
    }
}

#[test]
fn what_dockerd_would_not_read_is_left_alone() {
    for bad in ["{", "[]", "{\"dns\": 7}", "{\"dns\": {}}", "nothing", "{} {}", "{\"dns\": [7]}"] {
        assert!(with(Some(bad), server()).is_err(), "{bad}");
    }
    assert!(with(Some("{\"dns\": [\"here\"]}"), server()).is_err());
    assert!(without("{\"dns\": 7}", server(), Made::List).is_err());
    assert!(bridge("{\"bridge\": 7}").is_err());
    assert_eq!(bridge("{\"bridge\": \"none\"}"), Ok(Some("none".to_owned())));
}
