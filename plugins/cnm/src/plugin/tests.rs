use super::*;
use crate::{
    PROTOCOL,
    driver::{Attached, Capabilities, Info, NetworkState, Plan, Synced},
    endpoint::{Checked, Endpoint, NetnsId},
    network::Network,
};

struct Silent;

impl Driver for Silent {
    fn info(&self) -> Info {
        Info {
            name: "silent".into(),
            version: "0".into(),
            protocols: vec![PROTOCOL],
            capabilities: Capabilities::default(),
            options: None,
        }
    }

    fn network_up(&mut self, _: &Network) -> Result<NetworkState> {
        Ok(NetworkState::default())
    }

    fn network_down(&mut self, _: &Network) -> Result<()> {
        Ok(())
    }

    fn attach(&mut self, _: &Network, _: &Endpoint, _: &str) -> Result<Attached> {
        Ok(Attached { netns: NetnsId { cookie: 1, nsid: None }, interface: None })
    }

    fn detach(&mut self, _: &Network, _: &Endpoint) -> Result<()> {
        Ok(())
    }

    fn check(&mut self, _: &Network, _: &Endpoint, _: Option<&str>) -> Result<Checked> {
        Ok(Checked::default())
    }

    fn plan(&mut self, _: &Network, _: &Endpoint) -> Result<Plan> {
        Ok(Plan::default())
    }

    fn sync(&mut self, _: &Sync) -> Result<Synced> {
        Ok(Synced::default())
    }
}

fn answers(input: &str) -> (Vec<String>, u8) {
    let mut output = Vec::new();
    let code = serve(Silent, input.as_bytes(), &mut output).expect("memory");
    let output = String::from_utf8(output).expect("text");
    (output.lines().map(str::to_owned).collect(), code)
}

#[test]
fn a_session_answers_line_by_line() {
    let (lines, code) = answers(
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"driver.info\"}\n\
         {\"jsonrpc\":\"2.0\",\"id\":\"b\",\"method\":\"driver.sync\",\"params\":{\"networks\":[],\"endpoints\":[]}}\n",
    );
    assert_eq!(code, 0);
    assert!(lines[0].starts_with(r#"{"jsonrpc":"2.0","id":1,"result":{"name":"silent""#));
    assert_eq!(lines[1], r#"{"jsonrpc":"2.0","id":"b","result":{"repaired":[],"missing":[]}}"#);
}

#[test]
fn what_cannot_be_read_is_answered_with_a_null_id() {
    let (lines, code) =
        answers("{nonsense\n[]\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"driver.fly\"}\n");
    assert!(lines[0].starts_with(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700"#));
    assert!(lines[1].starts_with(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600"#));
    assert!(lines[2].starts_with(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601"#));
    assert_eq!(code, Kind::Unsupported.exit_code());
}

#[test]
fn what_is_too_long_to_be_a_request_is_said_to_be_so() {
    for open in ["", "["] {
        let (lines, _) = answers(&format!("{open}{}\n", "x".repeat(MAX_LINE + 1)));
        assert!(lines[0].contains(r#""code":-32600,"message":"the message is longer than"#));
    }
}

#[test]
fn a_batch_is_answered_as_one_and_notifications_not_at_all() {
    let (lines, _) = answers(
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"driver.info\"},{\"jsonrpc\":\"2.0\",\"method\":\"driver.info\"},7]\n\
         {\"jsonrpc\":\"2.0\",\"method\":\"driver.info\"}\n",
    );
    assert_eq!(lines.len(), 1);
    let members: Vec<serde_json::Value> = serde_json::from_str(&lines[0]).expect("an array");
    assert_eq!(members.len(), 2);
    assert_eq!(members[0]["id"], 1);
    assert_eq!(members[1]["error"]["code"], -32600);
}
