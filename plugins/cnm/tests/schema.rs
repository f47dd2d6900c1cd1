//! The checked-in JSON Schemas are what the types say. `NETD_BLESS=1` writes them anew.

use std::{env, fs, path::Path};

use cnm::Call;
use serde_json::{Value, json};

#[test]
fn the_schemas_in_docs_are_those_of_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
    let mut expected = Vec::new();
    macro_rules! each {
        ($($call:ty,)*) => {
            $(expected.push((
                format!("{}.json", <$call>::METHOD),
                json!({
                    "method": <$call>::METHOD,
                    "params": schemars::schema_for!($call),
                    "result": schemars::schema_for!(<$call as Call>::Reply),
                }),
            ));)*
        };
    }
    cnm::for_each_call!(each);
    expected.push(("error.json".into(), json!(schemars::schema_for!(cnm::Error))));
    expected.push(("event.json".into(), json!(schemars::schema_for!(cnm::events::Event))));
    if env::var_os("NETD_BLESS").is_some() {
        fs::create_dir_all(&directory).expect("docs/schema");
        for (name, schema) in &expected {
            let text = serde_json::to_string_pretty(schema).expect("JSON") + "\n";
            fs::write(directory.join(name), text).expect("written");
        }
    }
    for (name, schema) in &expected {
        let text = fs::read_to_string(directory.join(name))
            .unwrap_or_else(|error| panic!("docs/schema/{name}: {error}; NETD_BLESS=1 writes it"));
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(&found, schema, "docs/schema/{name} is out of date: NETD_BLESS=1 writes it");
    }
    let files = fs::read_dir(&directory).expect("docs/schema").count();
    assert_eq!(files, expected.len(), "docs/schema holds schemas of messages that are no more");
}
