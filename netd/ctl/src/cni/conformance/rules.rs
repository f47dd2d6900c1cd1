//! All rules, in the order in which a plugin's author meets them.

mod adding;
mod capabilities;
mod chain;
mod checking;
mod collecting;
mod delegation;
mod deleting;
mod environment;
mod failing;
mod faults;
mod input;
mod publishing;
mod results;
mod several;
mod versions;

use super::rule::Rule;

/// All rules.
pub(super) fn all() -> impl Iterator<Item = &'static Rule> {
    let groups: [&'static [Rule]; 15] = [
        versions::RULES,
        environment::RULES,
        input::RULES,
        results::RULES,
        adding::RULES,
        several::RULES,
        failing::RULES,
        chain::RULES,
        deleting::RULES,
        checking::RULES,
        collecting::RULES,
        delegation::RULES,
        capabilities::RULES,
        publishing::RULES,
        faults::RULES,
    ];
    groups.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_rule_has_an_id_of_its_own_and_says_something() {
        let mut ids = BTreeSet::new();
        for Rule { id, says, source, .. } in all() {
            assert!(ids.insert(id), "{id} twice");
            assert!(
                id.chars()
                    .all(|c| c.is_ascii_lowercase() || ".-".contains(c) || c.is_ascii_digit()),
                "{id}"
            );
            assert!(!source.is_empty() && !says.is_empty() && !says.ends_with('.'), "{id}");
        }
    }
}
