//! Ids in what managers and drivers say, for people.

/// Has a name where a text has an id: nowhere else, such as in the name of a link that was made of one.
pub(super) fn named(text: &str, id: &str, name: &str) -> String {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let (mut said, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(id).filter(|_| !id.is_empty()) {
        let begins = before.chars().last().or_else(|| said.chars().last());
        let whole = !begins.is_some_and(goes_on) && !after.chars().next().is_some_and(goes_on);
        said.push_str(before);
        said.push_str(if whole { name } else { id });
        rest = after;
    }
    said + rest
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn ids_are_named_where_they_are_whole() {
        for (text, said) in [
            ("network 32745c374ddd not found", "network shop not found"),
            ("32745c374ddd", "shop"),
            ("(32745c374ddd), \"32745c374ddd\"", "(shop), \"shop\""),
            ("a link br-32745c374ddd exists", "a link br-32745c374ddd exists"),
            ("32745c374ddd0 and a32745c374ddd", "32745c374ddd0 and a32745c374ddd"),
            ("32745c374ddd32745c374ddd", "32745c374ddd32745c374ddd"),
            ("", ""),
        ] {
            assert_eq!(named(text, "32745c374ddd", "shop"), said);
        }
    }
}
