//! Lists of directories in Podman's configuration: what holds today, and the file that adds netd's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cnm::{Error, Kind};
use toml::{Table, Value};

use crate::out;

/// A list of directories.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    table: &'static str,
    key: &'static str,
    /// What it is where nobody says anything (containers.conf(5)).
    usual: [&'static str; 4],
}

/// Where plugins of netavark are looked for.
pub(super) const PLUGINS: List = List {
    table: "network",
    key: "netavark_plugin_dirs",
    usual: [
        "/usr/local/libexec/netavark",
        "/usr/libexec/netavark",
        "/usr/local/lib/netavark",
        "/usr/lib/netavark",
    ],
};

/// Where netavark itself is looked for.
pub(super) const HELPERS: List = List {
    table: "engine",
    key: "helper_binaries_dir",
    usual: [
        "/usr/local/libexec/podman",
        "/usr/local/lib/podman",
        "/usr/libexec/podman",
        "/usr/lib/podman",
    ],
};

impl List {
    /// What holds, where the files are read one after the other.
    pub(super) fn of(&self, files: &[Table]) -> Vec<String> {
        let mut list: Vec<String> = self.usual.map(str::to_owned).to_vec();
        for given in files.iter().filter_map(|file| file.get(self.table)?.get(self.key)?.as_array())
        {
            // Podman's way of saying that a list goes on from the earlier one.
            let goes_on =
                |value: &Value| value.get("append").and_then(Value::as_bool) == Some(true);
            if !given.iter().any(goes_on) {
                list.clear();
            }
            list.extend(given.iter().filter_map(|value| Some(value.as_str()?.to_owned())));
        }
        list
    }

    /// Refuses what Podman would not read as a list of directories.
    fn check(&self, file: &Table) -> Result<(), String> {
        let Some(table) = file.get(self.table) else { return Ok(()) };
        let Some(table) = table.as_table() else {
            return Err(format!("{} is {table}: it should be a table", self.table));
        };
        let Some(list) = table.get(self.key) else { return Ok(()) };
        let is_known =
            |value: &Value| value.is_str() || value.get("append").is_some_and(Value::is_bool);
        match list.as_array() {
            Some(values) if values.iter().all(is_known) => Ok(()),
            _ => Err(format!("{} is {list}: it should be a list of directories", self.key)),
        }
    }

    /// A line of a file: with `own` before the others.
    fn line(&self, own: &Path, others: &[String]) -> String {
        let own = own.display().to_string();
        let others = others.iter().filter(|other| **other != own);
        let all: Vec<_> =
            std::iter::once(&own).chain(others).map(|place| Value::from(place.as_str())).collect();
        format!("{} = {}\n", self.key, Value::Array(all))
    }
}

/// Where Podman writes its networks down, where the files are read one after the other.
pub(super) fn networks(files: &[Table]) -> PathBuf {
    let given = files.iter().rev().find_map(|file| {
        file.get("network")?.get("network_config_dir")?.as_str().filter(|place| !place.is_empty())
    });
    given.unwrap_or("/etc/containers/networks").into()
}

/// What the file says, for plugins in one directory and, where it is given, helpers in another.
pub(super) fn text(files: &[Table], plugins: &Path, helpers: Option<&Path>) -> String {
    let mut text = "\n[network]\n".to_owned();
    if helpers.is_some() {
        // Podman 4 may take CNI otherwise.
        text += "network_backend = \"netavark\"\n";
    }
    text += &PLUGINS.line(plugins, &PLUGINS.of(files));
    if let Some(helpers) = helpers {
        text += "\n[engine]\n";
        text += &HELPERS.line(helpers, &HELPERS.of(files));
    }
    text
}

/// The files that Podman reads, in its order, but for one.
///
/// # Errors
/// What cannot be read, or is no TOML.
pub(super) fn read(conf_dir: &Path, but: &Path) -> Result<Vec<Table>, Error> {
    let mut paths: Vec<PathBuf> =
        ["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"]
            .map(PathBuf::from)
            .to_vec();
    let mut more: Vec<_> = match fs::read_dir(conf_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        entries => entries
            .map_err(|e| out::system(format_args!("cannot read {}", conf_dir.display()), &e))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "conf") && path != but)
            .collect(),
    };
    more.sort();
    paths.append(&mut more);
    let mut files = Vec::new();
    for path in paths {
        match fs::read_to_string(&path) {
            Ok(text) => files.push(parse(&path, &text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(out::system(format_args!("cannot read {}", path.display()), &error));
            }
        }
    }
    Ok(files)
}

/// A file as a table.
///
/// # Errors
/// `invalid` with the line that is no TOML, or the setting that is no list of directories.
pub(super) fn parse(path: &Path, text: &str) -> Result<Table, Error> {
    let table = text.parse::<Table>().map_err(|error| error.to_string()).and_then(|table| {
        [PLUGINS, HELPERS].iter().try_for_each(|list| list.check(&table))?;
        Ok(table)
    });
    table.map_err(|why| {
        Error::new(Kind::Invalid, format_args!("{} is not understood: {why}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        parse(Path::new("containers.conf"), text).expect("TOML")
    }

    #[test]
    fn the_last_list_holds_unless_it_goes_on() {
        let of =
            |files: &[&str]| HELPERS.of(&files.iter().map(|text| table(text)).collect::<Vec<_>>());
        assert_eq!(of(&[]), HELPERS.usual);
        assert_eq!(
            of(&["[engine]\n", "[network]\nhelper_binaries_dir = [\"/no\"]"]),
            HELPERS.usual
        );
        let first = "[engine]\nhelper_binaries_dir = [\"/a\"]";
        assert_eq!(of(&[first]), ["/a"]);
        assert_eq!(of(&[first, "[engine]\nhelper_binaries_dir = [\"/b\"]"]), ["/b"]);
        let on = "[engine]\nhelper_binaries_dir = [\"/b\", {append=true}]";
        assert_eq!(of(&[first, on]), ["/a", "/b"]);
    }

    #[test]
    fn the_file_says_all_that_held_with_netds_before_it() {
        let files = [table("[engine]\nhelper_binaries_dir = [\"/usr/lib/podman\", \"/n/podman\"]")];
        let plain = text(&files, Path::new("/n"), None);
        assert!(!plain.contains("[engine]"), "{plain}");
        let plugins = PLUGINS.of(&[table(&plain)]);
        assert_eq!(plugins[0], "/n");
        assert_eq!(plugins[1..], PLUGINS.usual);
        let whole = table(&text(&files, Path::new("/n"), Some(Path::new("/n/podman"))));
        assert_eq!(whole["network"]["network_backend"].as_str(), Some("netavark"));
        assert_eq!(HELPERS.of(&[whole]), ["/n/podman", "/usr/lib/podman"]);
    }

    #[test]
    fn networks_are_where_the_last_file_says() {
        let of =
            |files: &[&str]| networks(&files.iter().map(|text| table(text)).collect::<Vec<_>>());
        assert_eq!(of(&["[network]\n"]), Path::new("/etc/containers/networks"));
        let [first, second] =
            ["/a", "/b"].map(|at| format!("[network]\nnetwork_config_dir = \"{at}\""));
        let empty = "[network]\nnetwork_config_dir = \"\"";
        assert_eq!(of(&[&first, &second, empty]), Path::new("/b"));
    }

    #[test]
    fn what_is_no_configuration_is_named() {
        let error = parse(Path::new("/etc/x.conf"), "[engine").expect_err("half of a line");
        assert!(error.message.starts_with("/etc/x.conf is not understood"), "{error}");
        for bad in [
            "engine = 7",
            "[engine]\nhelper_binaries_dir = \"/usr/lib/podman\"",
            "[engine]\nhelper_binaries_dir = [7]",
            "[network]\nnetavark_plugin_dirs = { a = 1 }",
        ] {
            let error = parse(Path::new("/etc/x.conf"), bad).expect_err(bad);
            assert!(error.message.starts_with("/etc/x.conf is not understood"), "{error}");
        }
    }
}
