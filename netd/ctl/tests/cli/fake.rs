//! A netd that answers from a function and remembers what it was asked.

use std::{
    env, fs,
    io::IoSliceMut,
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{self, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use cnm::{
    Call, EndpointId, Error, Incoming, NetworkId, Reply,
    endpoint::{Attach, Detach, Detached, Endpoint},
    events::Subscribe,
    sandbox::{CreateSandbox, RemoveSandbox},
};
use nix::{
    cmsg_space,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
    unistd::{close, write},
};
use serde::Serialize;
use serde_json::{Value, json};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) params: Value,
    /// The namespace whose descriptor came along, as `net:[INODE]`.
    pub(crate) netns: Option<String>,
}

type Answer = dyn Fn(&str, &Value) -> cnm::Result<Value> + Send + Sync;

/// The stand-in, and a directory of its own that goes with it.
pub(crate) struct Fake {
    pub(crate) directory: PathBuf,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Listens, and answers each request with what `answer` says of it.
    pub(crate) fn new(
        answer: impl Fn(&str, &Value) -> cnm::Result<Value> + Send + Sync + 'static,
    ) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("netctl-test-{}-{number}", process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let listener = UnixListener::bind(directory.join("netd.sock")).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, record): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let (answer, record) = (Arc::clone(&answer), Arc::clone(&record));
                thread::spawn(move || serve(&stream, &*answer, &record));
            }
        });
        Self { directory, asked }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("netd.sock")
    }

    /// netctl with this netd's socket.
    pub(crate) fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        command(&self.socket(), words)
    }

    /// Runs netctl to its end, with nothing to read.
    pub(crate) fn netctl(&self, line: &str) -> Ended {
        Ended::of(self.command(line.split_whitespace()).stdin(Stdio::null()))
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    /// The methods that were asked for so far.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.method).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// netctl with a socket.
pub(crate) fn command<'a>(socket: &Path, words: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netctl"));
    command.env("NETD_SOCKET", socket).args(words);
    command
}

/// How a netctl ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().expect("netctl starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

/// Moves this thread, and what it starts, into network and mount namespaces of its own.
pub(crate) fn private() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("this test needs root");
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).expect("private mounts");
}

fn serve(stream: &UnixStream, answer: &Answer, record: &Mutex<Vec<Asked>>) {
    let mut pending = Vec::new();
    let mut netns = None;
    let mut bytes = vec![0; 1 << 16];
    loop {
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8(line).expect("text");
            let request = Incoming::parse(&line).expect("a request");
            let envelope: Value = serde_json::from_str(&line).expect("JSON");
            let (method, params) = (request.method.into_owned(), envelope["params"].clone());
            let netns = netns.take();
            record.lock().expect("no panic").push(Asked {
                method: method.clone(),
                params: params.clone(),
                netns,
            });
            let outcome = answer(&method, &params);
            // The events of a subscription come as the answer, and are the last of it.
            let events = match &outcome {
                Ok(Value::Array(events)) if method == Subscribe::METHOD => Some(events.clone()),
                _ => None,
            };
            let outcome = if events.is_some() { Ok(json!({})) } else { outcome };
            let mut text = Reply::new(request.id, outcome).to_text() + "\n";
            for params in events.iter().flatten() {
                let event = json!({"jsonrpc": "2.0", "method": "event", "params": params});
                text.push_str(&format!("{event}\n"));
            }
            if write(stream, text.as_bytes()).is_err() || events.is_some() {
                return;
            }
        }
        let mut space = cmsg_space!([std::os::fd::RawFd; 4]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let Ok(message) = received else { return };
        for control in message.cmsgs().expect("whole control messages") {
            if let ControlMessageOwned::ScmRights(fds) = control {
                for fd in fds {
                    let link = fs::read_link(format!("/proc/self/fd/{fd}")).expect("a descriptor");
                    netns = Some(link.display().to_string());
                    close(fd).expect("closed");
                }
            }
        }
        let length = message.bytes;
        if length == 0 {
            return;
        }
        pending.extend_from_slice(&bytes[..length]);
    }
}

/// A value of the protocol as the answer it is.
pub(crate) fn answer(value: &impl Serialize) -> cnm::Result<Value> {
    Ok(serde_json::to_value(value).expect("a message"))
}

/// Some network.
pub(crate) fn network(byte: u8, name: &str, driver: &str) -> Value {
    json!({
        "id": NetworkId::from_bytes([byte; 32]),
        "name": name,
        "driver": driver,
        "created": "2026-01-02T03:04:05.678901234Z",
    })
}

/// The endpoint that an attach makes: on a network that is asked for names at 10.9.0.1.
pub(crate) fn endpoint(params: &Value) -> Endpoint {
    let attach: Attach = serde_json::from_value(params.clone()).expect("an attach");
    serde_json::from_value(json!({
        "id": EndpointId::from_bytes([7; 32]),
        "network": NetworkId::from_bytes([9; 32]),
        "network_name": attach.network,
        "container": attach.container,
        "ifname": attach.ifname.map_or_else(|| "eth0".to_owned(), String::from),
        "state": "attached",
        "addresses": ["10.9.0.2/24"],
        "dns": ["10.9.0.1"],
        "ports": attach.ports,
        "created": "2026-01-02T03:04:05Z",
    }))
    .expect("an endpoint")
}

/// A netd that attaches and detaches whatever comes.
pub(crate) fn willing(method: &str, params: &Value) -> cnm::Result<Value> {
    match method {
        Attach::METHOD => answer(&endpoint(params)),
        Detach::METHOD => answer(&Detached { endpoints: vec![EndpointId::from_bytes([7; 32])] }),
        CreateSandbox::METHOD => answer(&json!({
            "container": params["container"], "kept": true, "created": "2026-01-02T03:04:05Z",
        })),
        RemoveSandbox::METHOD => answer(&json!({})),
        _ => Err(Error::unsupported(format_args!("method {method} is unknown"))),
    }
}
