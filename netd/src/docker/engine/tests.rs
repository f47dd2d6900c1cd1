use hyper::body::Bytes;

use super::*;

#[test]
fn a_path_has_a_version_or_none() {
    assert_eq!(versioned("/networks"), Ok(("/networks", NEWEST)));
    assert_eq!(versioned("/v1.41/networks/app"), Ok(("/networks/app", 41)));
    let message = |path: &str| versioned(path).expect_err(path).message;
    assert_eq!(
        message("/v1.24/networks"),
        "client version 1.24 is too old. Minimum supported API version is 1.40, please upgrade your \
         client to a newer version"
    );
    assert_eq!(
        message("/v1.99/networks"),
        "client version 1.99 is too new. Maximum supported API version is 1.51"
    );
    assert_eq!(
        message("/v2.0/networks"),
        "client version 2.0 is too new. Maximum supported API version is 1.51"
    );
    assert!(message("/v0.45/networks").starts_with("client version 0.45 is too old. "));
    for bad in ["/vx/networks", "/v1/networks", "/v1.x/networks", "/v1.41.1/networks"] {
        assert_eq!(message(bad), "page not found", "{bad}");
    }
}

fn decoded(kind: &str, body: &str) -> Result<Disconnect, String> {
    let question = Question {
        method: Method::POST,
        path: String::new(),
        query: String::new(),
        content_type: kind.into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    decode(&question).map_err(|refusal| refusal.message)
}

#[test]
fn a_body_is_one_document_and_says_so() {
    let json = "application/json; charset=utf-8";
    let good = decoded(json, r#"{"Container":"web","Force":null,"More":1}"#).expect("a document");
    assert_eq!((good.container.as_str(), good.force), ("web", false));
    assert_eq!(
        decoded("text/plain", "{}").expect_err("no JSON"),
        "unsupported Content-Type header (text/plain): must be 'application/json'"
    );
    assert_eq!(decoded(json, "{} x").expect_err("more"), "unexpected content after JSON");
    assert_eq!(
        decoded(json, r#"{"Container":7}"#).expect_err("a number"),
        "invalid JSON: Container should be a string, not 7"
    );
    for bad in ["", "{", "[", "7", r#"{"Container":7}"#] {
        assert!(decoded(json, bad).expect_err(bad).starts_with("invalid JSON: "));
    }
}
