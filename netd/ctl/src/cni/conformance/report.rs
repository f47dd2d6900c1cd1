//! What came of the rules: a table and a summary for people, JSON for programs.

use serde::Serialize;

use super::{
    options::Tried,
    rule::{Ended, Level, Rule, Verdict},
};
use crate::table::Table;

/// One rule and how it came out.
#[derive(Debug, Serialize)]
struct Line {
    id: &'static str,
    level: Level,
    source: &'static str,
    says: &'static str,
    #[serde(flatten)]
    verdict: Verdict,
}

/// How many rules came out how.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    rules: usize,
    passed: usize,
    failed_must: usize,
    failed_should: usize,
    not_offered: usize,
}

/// Everything that came out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    plugin: String,
    summary: Summary,
    rules: Vec<Line>,
}

impl Report {
    /// Puts it together.
    pub(super) fn new(plugin: &Tried, verdicts: Vec<(&'static Rule, Verdict)>) -> Self {
        let mut summary = Summary::default();
        let line = |(rule, verdict): (&'static Rule, Verdict)| {
            summary.rules += 1;
            *match (verdict.result, rule.level) {
                (Ended::Pass, _) => &mut summary.passed,
                (Ended::Fail, Level::Must) => &mut summary.failed_must,
                (Ended::Fail, Level::Should) => &mut summary.failed_should,
                (Ended::NotOffered, _) => &mut summary.not_offered,
            } += 1;
            let Rule { id, level, source, says, .. } = rule;
            Line { id, level: *level, source, says, verdict }
        };
        let rules = verdicts.into_iter().map(line).collect();
        Self { plugin: plugin.program.display().to_string(), summary, rules }
    }

    /// Whether no rule that a plugin must obey is broken.
    pub(super) fn conforms(&self) -> bool {
        self.summary.failed_must == 0
    }

    /// The table, what the broken rules say, and the summary.
    pub(super) fn text(&self) -> String {
        let mut table = Table::new(&["RULE", "LEVEL", "RESULT", "REASON"]);
        for Line { id, level, verdict, .. } in &self.rules {
            let result = match verdict.result {
                Ended::Pass => "pass",
                Ended::Fail => "FAIL",
                Ended::NotOffered => "not offered",
            };
            let reason = if verdict.reason.is_empty() { "-" } else { &verdict.reason };
            // What a plugin says may have any number of lines.
            let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            table.row([(*id).to_owned(), word(*level).to_owned(), result.to_owned(), reason]);
        }
        let mut text = table.text();
        let broken: Vec<_> =
            self.rules.iter().filter(|line| line.verdict.result == Ended::Fail).collect();
        if !broken.is_empty() {
            text += "\nThe rules that are broken:\n";
        }
        for Line { id, source, says, .. } in broken {
            text += &format!("  {id}: {says} [{source}]\n");
        }
        let Summary { rules, passed, failed_must, failed_should, not_offered } = &self.summary;
        text += &format!(
            "\n{}: {rules} rules, {passed} passed, {failed_must} MUST and {failed_should} SHOULD \
             failed, {not_offered} not offered\n",
            self.plugin
        );
        text
    }
}

/// The rules themselves, for whoever wants to know what is asked of a plugin.
pub(super) fn listing(rules: &[&Rule]) -> String {
    let mut table = Table::new(&["RULE", "LEVEL", "SOURCE", "WHAT IT SAYS"]);
    for Rule { id, level, source, says, .. } in rules {
        table.row([*id, word(*level), source, says].map(ToString::to_string));
    }
    table.text()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Must => "must",
        Level::Should => "should",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Rule =
        Rule { id: "add-a", level: Level::Must, source: "ADD", says: "A is so", check: |_| Ok(()) };
    const B: Rule = Rule { id: "add-b", level: Level::Should, ..A };

    fn report(verdicts: [(Ended, &str); 2]) -> Report {
        let plugin = Tried {
            kind: "bridge".to_owned(),
            program: "/opt/cni/bin/bridge".into(),
            path: Vec::new(),
        };
        let verdict = |(result, reason): (Ended, &str)| Verdict { result, reason: reason.into() };
        let [a, b] = verdicts.map(verdict);
        Report::new(&plugin, vec![(&A, a), (&B, b)])
    }

    #[test]
    fn only_a_must_decides() {
        assert!(report([(Ended::Pass, ""), (Ended::Fail, "why")]).conforms());
        assert!(report([(Ended::NotOffered, "0.1.0"), (Ended::Pass, "")]).conforms());
        assert!(!report([(Ended::Fail, "why"), (Ended::Pass, "")]).conforms());
    }

    #[test]
    fn the_text_has_a_line_for_each_rule_and_says_what_is_broken() {
        let text = report([(Ended::Pass, ""), (Ended::Fail, "two\nlines")]).text();
        assert_eq!(
            text,
            "RULE      LEVEL     RESULT    REASON\n\
             add-a     must      pass      -\n\
             add-b     should    FAIL      two lines\n\
             \nThe rules that are broken:\n  add-b: A is so [ADD]\n\
             \n/opt/cni/bin/bridge: 2 rules, 1 passed, 0 MUST and 1 SHOULD failed, 0 not offered\n"
        );
    }
}
