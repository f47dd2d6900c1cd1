//! netd's own configuration, as far as Docker goes: a block of lines at its beginning, between two that
//! say whose they are, since what follows a table's head belongs to the table.

const BEGIN: &str = "# netctl docker install";
const END: &str = "# netctl docker install: to here";

/// The value that a setting outside all tables has, as it is written.
fn written<'a>(text: &'a str, setting: &str) -> Option<&'a str> {
    let outside = text.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    let mut values = outside.filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim().trim_matches('"') == setting).then(|| value.trim())
    });
    values.next()
}

/// The text that a setting has; none where it is not there, or no text.
pub(super) fn text_of<'a>(text: &'a str, setting: &str) -> Option<&'a str> {
    let value = written(text, setting)?;
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    value.get(1..)?.split(quote).next()
}

/// The text with settings at its beginning, as far as they are not there; none when they all are.
pub(super) fn with(text: &str, settings: &[(&str, &str)]) -> Option<String> {
    let missing: Vec<_> =
        settings.iter().filter(|(setting, _)| written(text, setting).is_none()).collect();
    if missing.is_empty() {
        return None;
    }
    let lines: String =
        missing.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
    Some(format!("{BEGIN}\n{lines}{END}\n{text}"))
}

/// The text without what [`with`] put there; none when there is nothing of it.
pub(super) fn without(text: &str) -> Option<String> {
    let mut ours = false;
    let others: String = text
        .split_inclusive('\n')
        .filter(|line| {
            let line = line.trim_end();
            let inside = ours || line == BEGIN;
            ours = inside && line != END;
            !inside
        })
        .collect();
    (others != text).then_some(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: (&str, &str) = ("docker_api", "/run/netd/docker.sock");
    const PLUGIN: (&str, &str) = ("docker_plugin", "/run/docker/plugins/netd.sock");

    #[test]
    fn what_is_missing_is_put_first_and_goes_without_a_trace() {
        let there = "log_level = \"debug\"\n[firewall]\ndocker_api = 1\n";
        let put = with(there, &[PLUGIN, API]).expect("both are missing");
        assert_eq!(
            put,
            format!(
                "{BEGIN}\ndocker_plugin = \"/run/docker/plugins/netd.sock\"\n\
                 docker_api = \"/run/netd/docker.sock\"\n{END}\n{there}"
            )
        );
        assert_eq!(with(&put, &[PLUGIN, API]), None, "once");
        assert_eq!(without(&put).as_deref(), Some(there));
        assert_eq!(without(there), None);
        assert_eq!(without(&with("", &[API]).expect("it is missing")).as_deref(), Some(""));
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let there = "docker_plugin='/run/netd/plugin.sock' # elsewhere\n";
        let put = with(there, &[PLUGIN, API]).expect("one is missing");
        assert!(!put.contains("/run/docker/plugins") && put.ends_with(there), "{put}");
        assert_eq!(text_of(&put, "docker_plugin"), Some("/run/netd/plugin.sock"));
        assert_eq!(text_of(&put, "docker_api"), Some("/run/netd/docker.sock"));
        assert_eq!(text_of("dns_port = 53\n", "dns_port"), None);
    }
}
