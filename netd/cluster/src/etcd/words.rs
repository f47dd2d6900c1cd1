//! What an etcd said last before it ended, for people.

use std::{fs, path::Path, process::Command};

/// How much of the end of a log is looked at, in bytes: a line may bear a stack.
const END: usize = 16 * 1024;

/// By its log in a file.
pub(super) fn in_file(log: &Path) -> Option<String> {
    let log = fs::read(log).ok()?;
    let end = log.get(log.len().saturating_sub(END)..).unwrap_or_default();
    last(&String::from_utf8_lossy(end))
}

/// By the journal, of a unit.
pub(super) fn in_journal(unit: &str) -> Option<String> {
    let words = ["--unit", unit, "--lines", "20", "--output", "cat", "--no-pager"];
    let output = Command::new("journalctl").args(words).output().ok()?;
    last(&String::from_utf8_lossy(&output.stdout))
}

/// The last complaint of a log, or else its last line.
fn last(log: &str) -> Option<String> {
    let mut lines = log.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    lines.clone().find_map(complaint).or_else(|| lines.next().map(ToOwned::to_owned))
}

fn complaint(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| line.get(name).and_then(serde_json::Value::as_str);
    if !matches!(text("level")?, "fatal" | "panic" | "error") {
        return None;
    }
    let said = text("msg")?;
    Some(text("error").map_or_else(|| said.to_owned(), |error| format!("{said}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn the_last_complaint_of_a_log_is_what_was_said_last() {
        let fatal =
            r#"{"level":"fatal","msg":"discovery failed","error":"no disk","stacktrace":"x"}"#;
        let before = r#"{"level":"error","msg":"of an earlier life"}"#;
        let info = r#"{"level":"info","msg":"closed"}"#;
        let log = format!("{before}\n{fatal}\n{info}\n\n");
        assert_eq!(last(&log).as_deref(), Some("discovery failed: no disk"));
        assert_eq!(last("etcd: not found\n").as_deref(), Some("etcd: not found"));
        assert_eq!(last("\n"), None);
    }
}
