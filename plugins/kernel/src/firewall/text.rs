//! The rules as they are written, and as `nft` is told them: one command for each set, chain and
//! rule, since `table … { }` would also say that the table is an ordinary one.

use std::fmt::Write as _;

/// What a block of a table declares.
#[derive(Debug)]
struct Item<'a> {
    kind: &'a str,
    name: &'a str,
    lines: Vec<&'a str>,
}

/// The commands that empty the tables of a name and lay the rules of `base` in them.
///
/// # Panics
/// When `base` is not written as it is: its blocks are opened and closed on lines of their own, or
/// both on one.
pub(super) fn ruleset(base: &str, name: &str) -> String {
    let (mut before, mut rules) = (String::new(), String::new());
    let mut family = "";
    let mut item: Option<Item<'_>> = None;
    for line in base.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(open) = item.as_mut().filter(|_| line != "}") {
            open.lines.push(line);
            continue;
        }
        if let Some(done) = item.take() {
            declare(&done, family, name, &mut before, &mut rules);
            continue;
        }
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            // Said twice, it is the same table.
            (Some("table"), Some(of)) if of == family => {}
            (Some("table"), Some(of)) => {
                family = of;
                line_of(&mut before, format_args!("flush table {family} {name}"));
            }
            (Some(kind @ ("set" | "map" | "counter" | "chain")), Some(called)) => {
                let (_, inner) = line.split_once('{').expect("a block is opened on its first line");
                let new = Item { kind, name: called, lines: Vec::new() };
                match inner.trim().strip_suffix('}') {
                    Some(inner) => {
                        let lines = vec![inner.trim()];
                        declare(&Item { lines, ..new }, family, name, &mut before, &mut rules);
                    }
                    None => item = Some(new),
                }
            }
            _ => assert_eq!(line, "}", "only blocks stand in a table"),
        }
    }
    before + &rules
}

/// Rules go after all sets and chains, since they speak of them.
fn declare(item: &Item<'_>, family: &str, table: &str, before: &mut String, rules: &mut String) {
    let Item { kind, name, lines } = item;
    if *kind != "chain" {
        let inner = lines.join(" ");
        line_of(before, format_args!("add {kind} {family} {table} {name} {{ {inner} }}"));
        return;
    }
    let (hook, ruled): (Vec<&str>, Vec<&str>) =
        lines.iter().copied().partition(|line| line.starts_with("type "));
    let hook: String = hook.into_iter().map(|line| format!("{{ {line} }}")).collect();
    line_of(before, format_args!("add chain {family} {table} {name} {hook}"));
    for rule in ruled {
        line_of(rules, format_args!("add rule {family} {table} {name} {rule}"));
    }
}

fn line_of(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a text takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "\
# What it is.
table inet netd {
	set bridges { type ifname; }
	map far {
		type ifname : verdict;
		flags interval;
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		# Why.
		meta l4proto { tcp, udp } goto other
	}

}

# More.
table inet netd {
	chain other {
		drop
	}
}
";

    #[test]
    fn rules_come_after_what_they_speak_of() {
        let told = "\
flush table inet mine
add set inet mine bridges { type ifname; }
add map inet mine far { type ifname : verdict; flags interval; }
add chain inet mine forward { type filter hook forward priority filter; policy accept; }
add chain inet mine other \n\
add rule inet mine forward meta l4proto { tcp, udp } goto other
add rule inet mine other drop
";
        assert_eq!(ruleset(BASE, "mine"), told);
    }
}
