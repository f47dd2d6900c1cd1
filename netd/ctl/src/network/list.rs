//! How `network ls` looks: Docker's table, or what `--format` asks for.

use cnm::{Result, network::Network};

use super::template::Template;
use crate::table::Table;

/// What is printed of each network.
#[derive(Debug)]
pub(crate) enum Format {
    /// Cells under headings, divided by tabs in the template.
    Table(Template),
    /// A line each.
    Lines(Template),
}

impl Format {
    /// What `--format` and `--quiet` ask for together.
    pub(crate) fn new(format: Option<&str>, quiet: bool) -> Result<Self> {
        let parse = Template::parse;
        Ok(match (format.unwrap_or("table"), quiet) {
            ("table", false) => Self::Table(parse("{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}")?),
            ("table", true) => Self::Lines(parse("{{.ID}}")?),
            ("raw", false) => Self::Lines(parse(
                "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
            )?),
            ("raw", true) => Self::Lines(parse("network_id: {{.ID}}")?),
            ("json", _) => Self::Lines(parse("{{json .}}")?),
            (format, _) => match format.strip_prefix("table ") {
                Some(cells) => Self::Table(parse(cells)?),
                None => Self::Lines(parse(format)?),
            },
        })
    }

    /// The networks, in their order.
    pub(crate) fn text(&self, networks: &[Network], whole_ids: bool) -> String {
        match self {
            Self::Lines(template) => {
                networks.iter().map(|network| template.fill(network, whole_ids) + "\n").collect()
            }
            Self::Table(template) => {
                let heading = template.heading();
                let mut table = Table::new(&heading.split('\t').collect::<Vec<_>>());
                for network in networks {
                    table.row(template.fill(network, whole_ids).split('\t').map(str::to_owned));
                }
                table.text()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cnm::{Kind, NetworkId};
    use serde_json::json;

    use super::*;

    fn networks() -> Vec<Network> {
        let network = |byte, name, driver, subnets| {
            serde_json::from_value(json!({
                "id": NetworkId::from_bytes([byte; 32]),
                "name": name,
                "driver": driver,
                "created": "2026-01-02T03:04:05.678901234Z",
                "subnets": subnets,
                "labels": {"a": "1", "b": ""},
            }))
            .expect("a network")
        };
        vec![
            network(0x12, "a-longer-name", "bridge", json!([{"subnet": "fd00::/64"}])),
            network(0x34, "none", "none", json!([])),
        ]
    }

    fn text(format: Option<&str>, quiet: bool) -> String {
        Format::new(format, quiet).expect("a format").text(&networks(), false)
    }

    #[test]
    fn the_table_is_dockers() {
        assert_eq!(
            text(None, false),
            "NETWORK ID     NAME            DRIVER    SCOPE\n\
             121212121212   a-longer-name   bridge    local\n\
             343434343434   none            null      local\n"
        );
        assert_eq!(text(None, true), "121212121212\n343434343434\n");
        let whole = Format::new(None, true).expect("a format").text(&networks(), true);
        assert_eq!(whole, format!("{}\n{}\n", "12".repeat(32), "34".repeat(32)));
    }

    #[test]
    fn formats_are_dockers() {
        assert_eq!(
            text(Some("{{.Name}}: {{ .IPv4 }}"), false),
            "a-longer-name: false\nnone: true\n"
        );
        assert_eq!(text(Some("{{.Label \"a\"}}|{{.Labels}}"), false), "1|a=1,b=\n1|a=1,b=\n");
        assert_eq!(
            text(Some("table {{.Name}}\\t{{.Driver}}"), false),
            "NAME            DRIVER\na-longer-name   bridge\nnone            null\n"
        );
        assert_eq!(text(Some("raw"), true), "network_id: 121212121212\nnetwork_id: 343434343434\n");
        assert!(text(Some("raw"), false).ends_with("driver: null\nscope: local\n\n"));
        assert_eq!(
            text(Some("json"), false).lines().next(),
            Some(concat!(
                r#"{"CreatedAt":"2026-01-02 03:04:05.678901234 +0000 UTC","Driver":"bridge","#,
                r#""ID":"121212121212","IPv4":"false","IPv6":"true","Internal":"false","#,
                r#""Labels":"a=1,b=","Name":"a-longer-name","Scope":"local"}"#
            ))
        );
    }

    #[test]
    fn what_cannot_be_formatted_says_what_can() {
        for bad in ["{{.Nope}}", "{{range .}}", "{{.Label a}}", "{{"] {
            let error = Format::new(Some(bad), false).expect_err(bad);
            assert!(matches!(error.kind, Kind::Unsupported | Kind::Invalid), "{bad}");
        }
    }
}
