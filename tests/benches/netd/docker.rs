//! Docker's `network connect`, by its API: where `DOCKER_HOST` names the unix socket of a dockerd.
//! That daemon works where it runs; what is made of it for the comparison is removed at the end.

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::PathBuf,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{place::binary, plugin::Contender, sandbox::Sandbox};

/// The directory of the socket, opened before another one lies over it.
static DIRECTORY: OnceLock<(File, PathBuf)> = OnceLock::new();

/// Opens the directory of dockerd's socket, where there is one.
pub(crate) fn keep_socket() -> Result<()> {
    let Some(path) = env::var("DOCKER_HOST")
        .ok()
        .and_then(|host| host.strip_prefix("unix://").map(PathBuf::from))
    else {
        return Ok(());
    };
    let directory = path.parent().context("DOCKER_HOST names no socket")?;
    let file = File::open(directory).with_context(|| directory.display().to_string())?;
    let name = path.file_name().context("DOCKER_HOST names no socket")?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())).join(name);
    // It is called once.
    drop(DIRECTORY.set((file, through)));
    Ok(())
}

/// A container on Docker's default network, to be connected to another.
pub(crate) struct Docker {
    container: String,
}

impl Docker {
    pub(crate) const NAME: &'static str = "docker network connect";

    const THING: &'static str = "netd-bench";

    /// Starts a container that waits for input: a plugin of ours does nothing else.
    pub(crate) fn open() -> Result<Self> {
        let thing = Self::THING;
        ensure!(DIRECTORY.get().is_some(), "DOCKER_HOST names no unix socket");
        call("POST", &format!("/images/create?fromSrc=-&repo={thing}"), &image()?)?;
        call("POST", "/networks/create", json!({"Name": thing}).to_string().as_bytes())?;
        let create = json!({"Image": thing, "Cmd": ["/wait"], "OpenStdin": true});
        let path = format!("/containers/create?name={thing}");
        let created = call("POST", &path, create.to_string().as_bytes())?;
        let created: Value = serde_json::from_str(&created)?;
        let container = created["Id"].as_str().context("a container has an id")?.to_owned();
        let this = Self { container };
        call("POST", &format!("/containers/{}/start", this.container), b"")?;
        Ok(this)
    }

    fn request(&self, what: &str) -> Result<()> {
        let body = json!({"Container": self.container, "Force": true}).to_string();
        call("POST", &format!("/networks/{}/{what}", Self::THING), body.as_bytes()).map(drop)
    }
}

impl Contender for Docker {
    fn attach(&mut self, _: usize, _: &Sandbox) -> Result<Duration> {
        let start = Instant::now();
        self.request("connect")?;
        Ok(start.elapsed())
    }

    fn detach(&mut self, _: usize, _: &Sandbox) -> Result<()> {
        self.request("disconnect")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let thing = Self::THING;
        for path in [
            format!("/containers/{}?force=1", self.container),
            format!("/networks/{thing}"),
            format!("/images/{thing}"),
        ] {
            if let Err(error) = call("DELETE", &path, b"") {
                eprintln!("docker keeps {path}: {error:#}");
            }
        }
    }
}

/// A request to Docker's API; the answer's body.
fn call(method: &str, path: &str, body: &[u8]) -> Result<String> {
    let (_, socket) = DIRECTORY.get().context("DOCKER_HOST names no unix socket")?;
    let mut stream = UnixStream::connect(socket).context("cannot reach dockerd")?;
    let kind = if body.starts_with(b"{") { "application/json" } else { "application/x-tar" };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{method} {path}: {status} {}", body.trim());
    Ok(body.to_owned())
}

/// An image as a tar archive (POSIX.1-1988 ustar) of one file: `/wait`.
fn image() -> Result<Vec<u8>> {
    let program = fs::read(binary("netd-none")?)?;
    let mut header = [0u8; 512];
    let size = format!("{:011o}", program.len());
    let fields: [(usize, &str); 7] = [
        (0, "wait"),
        (100, "0000755"),
        (108, "0000000"),
        (116, "0000000"),
        (124, &size),
        (136, "00000000000"),
        (148, "        "),
    ];
    for (at, text) in fields {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend(program);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    Ok(archive)
}
