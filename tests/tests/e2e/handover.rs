//! Names over netd's restarts: whoever keeps netd's sockets loses no question, and without such
//! help answers are back at once.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use cnm::system::GetStatus;
use netd_tests::{Asking as _, Host, HostOptions, Namespace, World, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The stand-in for systemd.
const MANAGER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/manager.py");

/// How often to restart.
const ROUNDS: usize = 20;

/// Questions are asked one after the other, this far apart.
const PAUSE: Duration = Duration::from_micros(500);

/// How many questions are out at most: those for which, and for whose answers, there is room in a
/// socket, however long either side is kept waiting. There is room for 256; but what has been read
/// counts as there for a while, up to a quarter of the room (`udp_rmem_release`, net/ipv4/udp.c).
const OUT: usize = 100;

/// Questions that netd reads at a time.
const BATCH: usize = 32;

/// What became of many questions.
#[derive(Debug)]
struct Asked {
    sent: usize,
    answered: usize,
    /// Answers that say something else than where the name is.
    wrong: usize,
    /// The longest that no answer came.
    gap: Duration,
}

/// What became of a namespace's datagrams by its kernel (`/proc/net/snmp`): where questions are
/// lost, those of both ends say where. What the asker sent and the host has neither read nor had
/// no room for was lost on the way there; what the host read and did not send, by netd.
#[derive(Debug)]
#[expect(dead_code, reason = "for who reads why a test failed")]
struct Datagrams {
    sent: usize,
    read: usize,
    /// Not kept, as the socket's room was full.
    no_room: usize,
    /// For a port at which nobody listened.
    nobodys: usize,
}

impl Datagrams {
    /// Until now, in the asker's namespace and the host's.
    fn of(asker: &Namespace, host: &Host) -> [Self; 2] {
        [asker, &host.netns].map(|netns| {
            let table = netns.run("cat /proc/net/snmp");
            let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
            let [names, values] = [(); 2].map(|()| lines.next().expect("IPv4 is there").split(' '));
            let counts: HashMap<_, _> = names.zip(values).collect();
            let count = |name: &str| counts[name].parse().expect("a number");
            Self {
                sent: count("OutDatagrams"),
                read: count("InDatagrams"),
                no_room: count("RcvbufErrors"),
                nobodys: count("NoPorts"),
            }
        })
    }
}

/// Asks for one name without end, until told to stop; then waits for what is still to come, each
/// time so long.
fn ask_on(
    netns: &Namespace,
    server: IpAddr,
    (name, expected): (&str, IpAddr),
    patience: Duration,
) -> (Arc<AtomicBool>, JoinHandle<Asked>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, question) = (Arc::clone(&stop), question(name));
    let IpAddr::V4(expected) = expected else { panic!("{expected} is IPv4 here") };
    let asking = netns.meanwhile(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("any port");
        // Connected it would hear that nobody listens.
        let server = SocketAddr::new(server, 53);
        socket.set_read_timeout(Some(PAUSE)).expect("a socket");
        let mut waiting = vec![false; usize::from(u16::MAX) + 1];
        let mut asked = Asked { sent: 0, answered: 0, wrong: 0, gap: Duration::ZERO };
        let (mut last, mut over) = (Instant::now(), None::<Instant>);
        // Answers come in the order of the questions: what was asked before the newest that has
        // one is out no more.
        let mut newest = 0;
        let of = |count: usize| u16::try_from(count % 65_536).expect("16 bits");
        loop {
            if over.is_none() && asked.sent - newest < OUT {
                let mut packet = question.clone();
                let id = of(asked.sent);
                packet[..2].copy_from_slice(&id.to_be_bytes());
                socket.send_to(&packet, server).expect("there is a way");
                waiting[usize::from(id)] = true;
                asked.sent += 1;
            }
            over = over.or_else(|| stopped.load(Ordering::Relaxed).then(Instant::now));
            let mut bytes = [0; 512];
            match socket.recv(&mut bytes) {
                Ok(length) => {
                    let answered = u16::from_be_bytes([bytes[0], bytes[1]]);
                    if std::mem::take(&mut waiting[usize::from(answered)]) {
                        asked.answered += 1;
                        let since = usize::from(of(asked.sent).wrapping_sub(answered));
                        newest = newest.max(asked.sent + 1 - since);
                    }
                    asked.wrong += usize::from(!bytes[..length].ends_with(&expected.octets()));
                    asked.gap = asked.gap.max(last.elapsed());
                    last = Instant::now();
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
            let all = asked.answered == asked.sent;
            if over.is_some_and(|over| all || over.max(last).elapsed() > patience) {
                return asked;
            }
        }
    });
    (stop, asking)
}

/// A question for the IPv4 addresses of a name of one label (RFC 1035, section 4).
fn question(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a label");
    let header = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, length];
    [&header[..], name.as_bytes(), &[0, 0, 1, 0, 1]].concat()
}

/// A host whose netd is kept, and its sockets with it.
fn managed(world: &World) -> Host {
    let socket = format!("/run/manager.{}", std::process::id());
    let under = ["python3", MANAGER, &socket].map(str::to_owned).to_vec();
    world.host_with("a", HostOptions { under, ..HostOptions::default() })
}

/// Signals the manager and waits until another netd answers.
fn replace(host: &Host, signal: Signal) {
    let pid = |host: &Host| {
        let mut client = cnm::client::Client::connect(&host.socket())?;
        client.call(&GetStatus {}).map(|status| status.pid)
    };
    let before = pid(host).expect("netd runs");
    let manager = i32::try_from(host.pid()).expect("a pid");
    kill(Pid::from_raw(manager), signal).expect("it is this test's process");
    eventually("another netd answers", || match pid(host) {
        Ok(now) if now != before => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn over(signal: Signal, patience: Duration) -> (Asked, [Datagrams; 2]) {
    let world = World::new();
    let host = managed(&world);
    let mut netd = host.client();
    netd.create("app");
    let (web, client) = (world.container("web"), world.container("client"));
    let ip = netd.attach(&web.to("app")).addresses[0].ip();
    let server = netd.attach(&client.to("app")).dns[0];
    let (stop, asking) = ask_on(&client.netns, server, ("web", ip), patience);
    for _ in 0..ROUNDS {
        replace(&host, signal);
    }
    stop.store(true, Ordering::Relaxed);
    let asked = asking.join().expect("it asks to the end");
    (asked, Datagrams::of(&client.netns, &host))
}

#[test]
fn no_question_is_lost_over_planned_restarts() {
    let (asked, datagrams) = over(Signal::SIGHUP, Duration::from_secs(60));
    assert!(asked.sent > ROUNDS * 10, "{asked:?}");
    let answered = (asked.answered, asked.wrong);
    assert_eq!(answered, (asked.sent, 0), "{asked:?}, asker and host: {datagrams:#?}");
}

#[test]
fn over_kills_only_what_was_just_read_is_lost() {
    let (asked, datagrams) = over(Signal::SIGUSR1, Duration::from_secs(5));
    assert!(asked.sent > ROUNDS * 10, "{asked:?}");
    assert_eq!(asked.wrong, 0, "{asked:?}");
    // What netd had read and not answered at that moment: its batch at most.
    let lost = asked.sent - asked.answered;
    assert!(lost <= ROUNDS * BATCH, "{asked:?}, asker and host: {datagrams:#?}");
}

/// What dnsperf made of many questions.
#[derive(Debug)]
struct Performed {
    sent: usize,
    completed: usize,
    lost: usize,
    /// Still out when it was told to end.
    interrupted: usize,
    /// The asker's, and the host's.
    #[expect(dead_code, reason = "for who reads why a test failed")]
    datagrams: [Datagrams; 2],
}

/// Questions that dnsperf has out at a time.
const OUTSTANDING: usize = 50;

/// Has dnsperf ask while netd is replaced many times. What is not answered within its patience, in
/// seconds, is lost.
fn performed_over(signal: Signal, patience: &str) -> Performed {
    let world = World::new();
    let host = managed(&world);
    let mut netd = host.client();
    netd.create("app");
    let (web, client) = (world.container("web"), world.container("client"));
    netd.attach(&web.to("app"));
    let server = netd.attach(&client.to("app")).dns[0].to_string();
    std::fs::write("/run/questions", "web A\nweb.app A\nweb.app.netd AAAA\n").expect("ours");
    let outstanding = OUTSTANDING.to_string();
    let words = ["dnsperf", "-s", &server, "-d", "/run/questions", "-l", "600", "-t", patience];
    let mut dnsperf = client.netns.command(words.iter().chain(&["-Q", "3000", "-q", &outstanding]));
    let dnsperf = dnsperf.stdout(std::process::Stdio::piped()).spawn().expect("`make deps-test`");
    for _ in 0..ROUNDS {
        replace(&host, signal);
    }
    let pid = i32::try_from(dnsperf.id()).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it is this test's process");
    let output = dnsperf.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figure = |what: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(what));
        let first = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        first.unwrap_or(0)
    };
    let performed = Performed {
        sent: figure("Queries sent:"),
        completed: figure("Queries completed:"),
        lost: figure("Queries lost:"),
        interrupted: figure("Queries interrupted:"),
        datagrams: Datagrams::of(&client.netns, &host),
    };
    // Some in each of netd's lives, of which a release build has thirty in a second.
    assert!(performed.completed > ROUNDS * 10, "{text}");
    assert!(performed.interrupted <= OUTSTANDING, "{text}");
    assert!(!text.contains("SERVFAIL") && !text.contains("NXDOMAIN"), "{text}");
    performed
}

#[test]
fn dnsperf_loses_nothing_over_planned_restarts() {
    let performed = performed_over(Signal::SIGHUP, "60");
    assert_eq!(performed.lost, 0, "{performed:#?}");
    assert_eq!(performed.completed + performed.interrupted, performed.sent, "{performed:#?}");
}

#[test]
fn dnsperf_loses_what_was_in_flight_over_kills() {
    let performed = performed_over(Signal::SIGUSR1, "5");
    assert!(performed.lost <= ROUNDS * OUTSTANDING, "{performed:#?}");
}

#[test]
fn a_network_that_went_meanwhile_leaves_no_socket() {
    let world = World::new();
    let host = managed(&world);
    let mut netd = host.client();
    netd.create("app");
    netd.call(&cnm::network::RemoveNetwork { network: "app".into() }).expect("nobody is on it");
    let listening = |host: &Host| host.netns.run("ss -Hlun sport = :53").lines().count();
    let before = listening(&host);
    replace(&host, Signal::SIGHUP);
    assert_eq!(listening(&host), before, "the default network's is there, and no other");
}
