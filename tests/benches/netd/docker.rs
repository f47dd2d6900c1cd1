//! Docker's containers on netd, beside the same on Docker's own bridge driver: one dockerd, Debian's,
//! with two networks, and each does everything in turn.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netd_tests::{Dockerd, HostOptions, World};
use serde_json::{Value, json};
use socket2::SockRef;

use crate::{
    Options,
    place::binary,
    report::{Report, Row, Samples},
};

/// The two networks, ours first, and one on which a container is beside them.
pub(crate) const OURS: &str = "ours";
pub(crate) const THEIRS: &str = "theirs";
pub(crate) const HOME: &str = "home";

/// What Docker's own driver is called in the table.
const BRIDGE: &str = "Docker's bridge driver";

/// Where the host waits for a container's first words.
const HEARD: u16 = 9000;

const CONFIG: &str = "docker_plugin = \"/run/docker/plugins/netd.sock\"\n\
                      docker_socket = \"/run/a-machine/docker/docker.sock\"";

/// Docker's API.
pub(crate) struct Api {
    socket: PathBuf,
    /// The process that serves it.
    pub(crate) pid: u32,
}

impl Api {
    /// A request; the answer's body.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket).context("cannot reach dockerd")?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status.starts_with('2'), "{method} {path}: {status} {}", body.trim());
        Ok(body.to_owned())
    }

    /// A container that is yet to be started.
    pub(crate) fn create(&self, network: &str, command: &[&str], ports: &[u16]) -> Result<String> {
        let binding = |port: &u16| {
            let host = (20_000 + port).to_string();
            (format!("{port}/tcp"), json!([{ "HostPort": host }]))
        };
        let bindings: serde_json::Map<_, _> = ports.iter().map(binding).collect();
        let exposed: serde_json::Map<_, _> =
            bindings.keys().map(|port| (port.clone(), json!({}))).collect();
        let create = json!({
            "Image": "box", "Cmd": command, "ExposedPorts": exposed,
            "HostConfig": {
                "NetworkMode": network, "PortBindings": bindings,
                "SecurityOpt": ["seccomp=unconfined"],
                "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}],
            },
        });
        let created: Value =
            serde_json::from_str(&self.call("POST", "/containers/create", &create)?)?;
        Ok(created["Id"].as_str().context("a container has an id")?.to_owned())
    }

    pub(crate) fn start(&self, container: &str) -> Result<()> {
        self.call("POST", &format!("/containers/{container}/start"), &Value::Null).map(drop)
    }

    fn remove(&self, container: &str) -> Result<()> {
        self.call("DELETE", &format!("/containers/{container}?force=1"), &Value::Null).map(drop)
    }

    /// The gateway of a network.
    fn gateway(&self, network: &str) -> Result<String> {
        let told = self.call("GET", &format!("/networks/{network}"), &Value::Null)?;
        let told: Value = serde_json::from_str(&told)?;
        let gateway = told["IPAM"]["Config"][0]["Gateway"].as_str().context("it has a gateway")?;
        Ok(gateway.split('/').next().unwrap_or(gateway).to_owned())
    }
}

/// Does something on a host with netd and a dockerd that has both networks.
pub(crate) fn with_dockerd(
    act: impl FnOnce(&World, &netd_tests::Host, &Api) -> Result<()>,
) -> Result<()> {
    let world = World::new();
    let options = HostOptions { config: CONFIG.to_owned(), ..HostOptions::default() };
    let host = world.host_with("a", options);
    let machine = world.machine("a", &host.netns);
    // As it comes: with its rules, and a process for each port.
    let dockerd = Dockerd::start_with(&machine, &["--userland-proxy=true"]);
    let make = |words: &[&str]| {
        let made = dockerd.docker(&[&["network", "create"], words].concat());
        ensure!(made.code == 0, "{made:?}");
        Ok(())
    };
    make(&["-d", "netd", "--ipam-driver", "netd", "-o", "network=ours", OURS])?;
    make(&["-d", "bridge", THEIRS])?;
    make(&["-d", "bridge", HOME])?;
    act(&world, &host, &Api { socket: Dockerd::socket(&machine), pid: dockerd.pid() })
}

/// Putting a container that runs on a network, and, beside it, netd's own ways: its plugin, executed,
/// beside the command, executed, and a call at its socket beside a call at Docker's.
pub(crate) fn connect(options: &Options, report: &mut Report) -> Result<()> {
    with_dockerd(|world, host, api| {
        let container = api.create(HOME, &["sleep", "100000"], &[])?;
        api.start(&container)?;
        let disconnect = |network: &str| {
            let body = json!({"Container": container, "Force": true});
            api.call("POST", &format!("/networks/{network}/disconnect"), &body)
        };
        let connect = |network: &str| -> Result<Duration> {
            let body = json!({"Container": container});
            let start = Instant::now();
            api.call("POST", &format!("/networks/{network}/connect"), &body)?;
            let took = start.elapsed();
            disconnect(network)?;
            Ok(took)
        };
        let typed = || -> Result<Duration> {
            let mut command = Command::new(Dockerd::command_line());
            command.env("DOCKER_CONFIG", "/run").stdin(Stdio::null()).stdout(Stdio::null());
            command.arg("-H").arg(format!("unix://{}", api.socket.display()));
            command.args(["network", "connect", THEIRS, &container]);
            let start = Instant::now();
            let status = command.status()?;
            let took = start.elapsed();
            ensure!(status.success(), "docker network connect: {status}");
            disconnect(THEIRS)?;
            Ok(took)
        };
        let program = binary("netd-bridge")?;
        let plugin = |round: usize| -> Result<Duration> {
            let other = world.container(&format!("other-{round}"));
            let attach = cnm::Request::new(1, &other.to(OURS)).to_line();
            let mut command = Command::new(&program);
            command.env("NETD_SOCKET", host.socket()).stdin(Stdio::piped()).stdout(Stdio::null());
            let start = Instant::now();
            let mut child = command.spawn()?;
            child.stdin.take().context("it is piped")?.write_all(attach.as_bytes())?;
            let status = child.wait()?;
            let took = start.elapsed();
            ensure!(status.success(), "netd-bridge: {status}");
            Ok(took)
        };
        let mut client = cnm::client::Client::connect(&host.socket())?;
        let mut called = |round: usize| -> Result<Duration> {
            let other = world.container(&format!("called-{round}"));
            let attach = other.to(OURS);
            let start = Instant::now();
            client.call(&attach)?;
            Ok(start.elapsed())
        };
        let mut times = [(); 5].map(|()| Samples::default());
        // The first makes what is made once, and does not count.
        for round in 0..=options.rounds.min(50) {
            let order = if round % 2 == 0 { [OURS, THEIRS] } else { [THEIRS, OURS] };
            let mut took = [Duration::ZERO; 2];
            for network in order {
                took[usize::from(network == THEIRS)] = connect(network)?;
            }
            let took = [took[0], took[1], typed()?, plugin(round)?, called(round)?];
            if round > 0 {
                times.iter_mut().zip(took).for_each(|(times, took)| times.add(took));
            }
        }
        let [ours, theirs, typed, executed, called] = times;
        api.remove(&container)?;
        let faster = theirs.percentile(50) / executed.percentile(50);
        report.note(format!(
            "an attach by an executed plugin beside a call of Docker's API, which executes nothing: \
             1/{faster:.1}"
        ));
        report.row(
            Row::new("docker network connect, -d netd", "ms", ours).beside(BRIDGE, theirs.clone()),
        );
        report.row(
            Row::new("attach by an executed plugin", "ms", executed)
                .beside("docker network connect, executed", typed)
                .times_faster(10.0),
        );
        report.row(
            Row::new("attach at the socket, beside dockerd", "ms", called)
                .beside("network connect at Docker's API", theirs)
                .times_faster(10.0),
        );
        Ok(())
    })
}

/// From `docker start` to the first words of the container.
pub(crate) fn start(options: &Options, report: &mut Report) -> Result<()> {
    with_dockerd(|_, host, api| {
        let heard = host.netns.inside(|| TcpListener::bind(("0.0.0.0", HEARD)))?;
        SockRef::from(&heard).set_read_timeout(Some(Duration::from_secs(20)))?;
        let once = |network: &str| -> Result<Duration> {
            let gateway = api.gateway(network)?;
            let speak = format!("busybox nc -w 1 {gateway} {HEARD} </dev/null");
            let container =
                api.create(network, &["sh", "-c", &format!("until {speak}; do :; done")], &[])?;
            let began = Instant::now();
            let took = thread::scope(|scope| {
                let first = scope.spawn(|| heard.accept().map(|_| began.elapsed()));
                api.start(&container)?;
                let first = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                Ok::<_, anyhow::Error>(first?)
            });
            api.remove(&container)?;
            // What it has said since is not the next one's.
            heard.set_nonblocking(true)?;
            while heard.accept().is_ok() {}
            heard.set_nonblocking(false)?;
            took
        };
        let [mut ours, mut theirs] = [(); 2].map(|()| Samples::default());
        for round in 0..=options.rounds / 15 {
            let took = [once(OURS)?, once(THEIRS)?];
            if round > 0 {
                ours.add(took[0]);
                theirs.add(took[1]);
            }
        }
        report.row(
            Row::new("docker start to the first packet, -d netd", "ms", ours)
                .beside(BRIDGE, theirs),
        );
        Ok(())
    })
}

/// Starting a container that publishes many ports, each said by itself.
pub(crate) fn ports(_: &Options, report: &mut Report) -> Result<()> {
    with_dockerd(|_, _, api| {
        let once = |network: &str, count: u16| -> Result<Samples> {
            let ports: Vec<_> = (1..=count).collect();
            let mut took = Samples::default();
            for _ in 0..3 {
                let container = api.create(network, &["sleep", "100000"], &ports)?;
                let start = Instant::now();
                api.start(&container)?;
                took.add(start.elapsed());
                api.remove(&container)?;
            }
            Ok(took)
        };
        let one = once(OURS, 1)?;
        let what = |count| format!("docker start with {count} published ports, -d netd");
        report.row(Row::new(what("1"), "ms", one.clone()).beside(BRIDGE, once(THEIRS, 1)?));
        let hundred = once(OURS, 100)?;
        report.row(Row::new(what("100"), "ms", hundred).beside(BRIDGE, once(THEIRS, 100)?));
        // The other way takes minutes.
        report.row(Row::new(what("1,000"), "ms", once(OURS, 1000)?).beside("1 port", one));
        Ok(())
    })
}
