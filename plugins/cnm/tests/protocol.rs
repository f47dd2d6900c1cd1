//! `docs/protocol.md` is what the types say: each method has its parameters and its result there,
//! both are read and written again without a change, and the table of errors is the code's.

use std::{collections::BTreeMap, fs, path::Path};

use cnm::{Call, Incoming, Kind, Reply};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

/// A fenced block: the heading of level three that it stands under, its language, its text.
struct Block {
    heading: String,
    language: String,
    text: String,
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    fs::read_to_string(path).expect("docs/protocol.md")
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut heading = String::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            heading = line.strip_prefix("### ").unwrap_or_default().to_owned();
        } else if let Some(language) = line.strip_prefix("```") {
            let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block {
                heading: heading.clone(),
                language: language.to_owned(),
                text: text.join("\n"),
            });
        }
    }
    blocks
}

/// Reads an example as a `T`; what is written of it is the example again.
fn unchanged<T: Serialize + DeserializeOwned>(what: &str, text: &str) {
    let example: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{what}: {error} in {text}"));
    let read: T =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{what}: {error} in {text}"));
    let written = serde_json::to_value(&read).expect("JSON");
    assert_eq!(written, example, "{what}: written again (left), the example has another form");
}

#[test]
fn each_method_has_its_parameters_and_its_result() {
    let document = document();
    let mut examples: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for block in blocks(&document).into_iter().filter(|block| block.language == "json") {
        examples.entry(block.heading).or_default().push(block.text);
    }
    macro_rules! each {
        ($($call:ty,)*) => { $({
            let method = <$call>::METHOD;
            match examples.remove(method).as_deref() {
                Some([params, result]) => {
                    unchanged::<$call>(&format!("parameters of {method}"), params);
                    unchanged::<<$call as Call>::Reply>(&format!("result of {method}"), result);
                }
                found => panic!(
                    "docs/protocol.md has {} examples under ### {method} and not two",
                    found.map_or(0, <[String]>::len)
                ),
            }
        })* };
    }
    cnm::for_each_call!(each);
    let left: Vec<_> = examples.keys().collect();
    assert!(left.is_empty(), "docs/protocol.md has examples of no method: {left:?}");
}

#[test]
fn each_heading_of_a_method_is_one() {
    let document = document();
    let mut headings: Vec<_> =
        document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut methods = Vec::new();
    macro_rules! each {
        ($($call:ty,)*) => { $(methods.push(<$call>::METHOD);)* };
    }
    cnm::for_each_call!(each);
    headings.sort_unstable();
    methods.sort_unstable();
    assert_eq!(headings, methods);
}

#[test]
fn each_line_on_the_wire_is_a_message() {
    let mut requests = 0;
    let mut replies = 0;
    for block in blocks(&document()).into_iter().filter(|block| block.language == "jsonl") {
        for line in block.text.lines() {
            let members: Vec<&RawValue> = if line.starts_with('[') {
                serde_json::from_str(line).expect("a batch")
            } else {
                vec![serde_json::from_str(line).expect("a document")]
            };
            for text in members.into_iter().map(RawValue::get) {
                if text.contains("\"method\":") {
                    request(text);
                    requests += 1;
                } else {
                    unchanged::<Reply<Value>>("a reply", text);
                    let reply: Reply<Value> = serde_json::from_str(text).expect("read above");
                    if let Err(error) = reply.outcome() {
                        let framing = matches!(error.code, -32700 | -32600);
                        assert!(framing || error.code == error.kind.rpc_code(), "{text}");
                    }
                    replies += 1;
                }
            }
        }
    }
    assert!(requests > 3 && replies > 3, "{requests} requests and {replies} replies found");
}

fn request(text: &str) {
    let incoming = Incoming::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let params: Value = serde_json::from_str(text).expect("read above");
    let params = params.get("params").cloned().unwrap_or_else(|| Value::Object(Default::default()));
    if incoming.method == "event" {
        return unchanged::<cnm::events::Event>("an event", &params.to_string());
    }
    if incoming.method == cnm::driver::Disturbed::METHOD {
        return unchanged::<cnm::driver::Disturbed>("what a driver says", &params.to_string());
    }
    macro_rules! each {
        ($($call:ty,)*) => { $(
            if incoming.method == <$call>::METHOD {
                return unchanged::<$call>(<$call>::METHOD, &params.to_string());
            }
        )* };
    }
    cnm::for_each_call!(each);
    panic!("{} is no method: {text}", incoming.method);
}

/// The columns of the table of errors.
struct Row {
    kind: String,
    code: i32,
    exit: u8,
    cni: u32,
    http: u16,
}

fn error_table(document: &str) -> Vec<Row> {
    let lines = document.lines().skip_while(|line| !line.starts_with("| kind | code |")).skip(2);
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let mut next = || cells.next().expect("a cell");
            Row {
                kind: next().trim_matches('`').to_owned(),
                code: next().parse().expect("a code"),
                exit: next().parse().expect("an exit code"),
                cni: next().parse().expect("CNI's code"),
                http: next().parse().expect("a status"),
            }
        })
        .collect()
}

#[test]
fn the_table_of_errors_is_the_codes() {
    let rows = error_table(&document());
    assert_eq!(rows.len(), Kind::ALL.len());
    for (kind, row) in Kind::ALL.into_iter().zip(&rows) {
        assert_eq!(serde_json::to_value(kind).expect("a kind"), row.kind);
        assert_eq!(kind.rpc_code(), row.code, "{kind:?}");
        assert_eq!(kind.exit_code(), row.exit, "{kind:?}");
        let own = 100 + u32::from(row.exit);
        assert!(row.cni == own || matches!(row.cni, 7 | 11), "{kind:?}: CNI's {}", row.cni);
        assert!((400..600).contains(&row.http), "{kind:?}: HTTP's {}", row.http);
    }
}
