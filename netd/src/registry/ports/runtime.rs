//! Runtimes that hold a port of the host themselves for the container that it is published for, as
//! Podman does as long as the container runs: that is no reason to refuse it the port.

use std::{collections::BTreeSet, fs, path::Path};

use cnm::{
    ContainerId,
    endpoint::{Port, Protocol},
};

/// The state of a listening TCP socket in `/proc/net/tcp` (proc(5), `net/tcp_states.h`).
const LISTENING: &str = "0A";

/// Whether a process that was started for a container, with its id among its arguments, has a
/// socket at a port of the host. Looked for only where the port is taken.
pub(super) fn holds(port: &Port, container: &ContainerId) -> bool {
    let sockets = sockets(port);
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    !sockets.is_empty()
        && processes
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|process| is_for(process, container))
            .any(|process| has_one_of(&process, &sockets))
}

/// The sockets at a port, as a process's descriptors show them.
fn sockets(port: &Port) -> BTreeSet<String> {
    let (tables, listening) = match port.protocol {
        Protocol::Tcp => (["tcp", "tcp6"], true),
        Protocol::Udp => (["udp", "udp6"], false),
    };
    let texts = tables.map(|table| fs::read_to_string(format!("/proc/self/net/{table}")));
    let lines = texts.iter().flatten().flat_map(|text| text.lines().skip(1));
    lines.filter_map(|line| socket(line, port.host_port, listening)).collect()
}

/// The socket of a line of `/proc/net/tcp`, if it is at a port.
fn socket(line: &str, port: u16, listening: bool) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, number) = fields.get(1)?.rsplit_once(':')?;
    let here = u16::from_str_radix(number, 16).ok()? == port;
    let state = *fields.get(3)?;
    let inode = fields.get(9)?;
    (here && (!listening || state == LISTENING)).then(|| format!("socket:[{inode}]"))
}

/// Whether a process has the id of a container among its arguments.
fn is_for(process: &Path, container: &ContainerId) -> bool {
    let Ok(arguments) = fs::read(process.join("cmdline")) else { return false };
    arguments.split(|byte| *byte == 0).any(|argument| argument == container.as_str().as_bytes())
}

/// Whether a process has one of these sockets open.
fn has_one_of(process: &Path, sockets: &BTreeSet<String>) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter_map(|link| Some(link.to_str()?.to_owned())).any(|link| sockets.contains(&link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0";
        assert_eq!(socket(line, 8080, true).as_deref(), Some("socket:[4711]"));
        assert_eq!(socket(line, 8081, true), None);
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(socket(&connected, 8080, true), None);
        assert!(socket(&connected, 8080, false).is_some());
        assert_eq!(socket("", 8080, true), None);
    }

    #[test]
    fn a_holder_is_known_by_its_arguments() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let port: Port = format!("{port}:80").parse().expect("a port");
        let own = std::env::args().next().expect("a name");
        let stranger: ContainerId = "stranger".parse().expect("an id");
        assert!(has_one_of(Path::new("/proc/self"), &sockets(&port)));
        assert!(!holds(&port, &stranger), "{own} is not for it");
    }
}
