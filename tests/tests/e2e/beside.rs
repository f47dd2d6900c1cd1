//! Beside the firewalls of others as they run: Docker's daemon, firewalld and ufw, unpacked from
//! Debian's packages (`make deps-test`) and seen in a mount namespace of their own as if they were
//! installed. Ports, names and neighbours work, also after they have laid their rules anew, and
//! theirs are as without netd but for what netd asked for.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use cnm::endpoint::Endpoint;
use netd_tests::{Asking as _, Container, Executed, Host, Namespace, World, eventually};

/// Where Debian's packages are unpacked.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debian");

/// Lays what is unpacked over what is installed, and keeps that. Nothing is written but in memory.
const LAY: &str = r#"
set -e
for tree in usr etc; do
    mkdir -p "$2/$tree/upper" "$2/$tree/work"
    mount -t overlay overlay \
        -o "lowerdir=$1/$tree:/$tree,upperdir=$2/$tree/upper,workdir=$2/$tree/work" "/$tree"
done
for place in /var/lib /var/log /var/tmp; do mount -t tmpfs tmpfs "$place"; done
cp -a "$1/lib/." /usr/lib/
# As the packages do when they are installed.
cp -r /usr/share/ufw/iptables/. /usr/share/ufw/ufw.conf /etc/ufw
cd /usr/share/polkit-1/actions
ln -sf org.fedoraproject.FirewallD1.server.policy.choice org.fedoraproject.FirewallD1.policy
echo
exec sleep infinity
"#;

/// A host's namespace in which the packages are installed.
struct Installed {
    holder: Child,
    daemons: Vec<Child>,
}

impl Installed {
    fn new(netns: &Namespace, package: &str) -> Self {
        let unpacked = Path::new(UNPACKED).join(format!("{package}.unpacked"));
        assert!(unpacked.exists(), "{package} is not unpacked: `make deps-test` does it");
        let words = ["unshare", "--mount", "--propagation=slave", "sh", "-c", LAY, "sh"];
        let mut holder = netns
            .command(words.iter().chain(&[UNPACKED, &format!("/run/installed-{}", netns.pid())]))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(holder.stdout.take().unwrap());
        assert_eq!(said.read_line(&mut String::new()).unwrap(), 1, "trees can be laid");
        Self { holder, daemons: Vec::new() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let of = |kind, file| format!("--{kind}=/proc/{}/ns/{file}", self.holder.id());
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter"]);
        command.args([of("net", "net"), of("mount", "mnt"), "--".to_owned()]).args(words);
        command.stdin(Stdio::null());
        command
    }

    fn try_run(&self, line: &str) -> Executed {
        let words: Vec<_> = line.split_whitespace().collect();
        self.command(&words).output().unwrap().into()
    }

    #[track_caller]
    fn run(&self, line: &str) -> String {
        self.try_run(line).success().to_owned()
    }

    /// Starts a daemon, which ends with the test.
    fn start(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let mut command = self.command(&words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(command.spawn().unwrap());
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for child in self.daemons.iter_mut().rev().chain([&mut self.holder]) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Two containers on a network, one of which publishes ports, and a neighbour of the host.
struct Site {
    lan: Namespace,
    web: Container,
    db: Container,
    endpoint: Endpoint,
}

impl Site {
    fn new(world: &World, host: &Host) -> Self {
        host.netns.run("sysctl -q net.bridge.bridge-nf-call-iptables=1");
        let lan = host.lan();
        let mut netd = host.client();
        netd.create("app");
        let (web, db) = (world.container("web"), world.container("db"));
        let mut attach = web.to("app");
        attach.ports = vec!["8080:80".parse().unwrap(), "8053:53/udp".parse().unwrap()];
        let endpoint = netd.attach(&attach);
        netd.attach(&db.to("app"));
        web.netns.serve_tcp(80);
        web.netns.serve_udp(53);
        lan.serve_tcp(80);
        Self { lan, web, db, endpoint }
    }

    /// Ports, neighbours, the way out, and names.
    fn works(&self) -> std::io::Result<()> {
        let address = self.endpoint.addresses[0].ip();
        self.lan.try_tcp("192.0.2.1:8080".parse().unwrap())?;
        self.lan.ask_udp("192.0.2.1:8053".parse().unwrap())?;
        self.db.netns.try_tcp(SocketAddr::new(address, 80))?;
        self.web.netns.try_tcp("192.0.2.2:80".parse().unwrap())?;
        let gateway = self.endpoint.gateways[0];
        let line = format!("dig +short +tries=1 +time=1 @{gateway} web A");
        let names = String::from_utf8_lossy(&self.db.netns.output(&line).stdout).into_owned();
        if names.trim() == address.to_string() { Ok(()) } else { Err(std::io::Error::other(names)) }
    }
}

/// The rules of iptables that are not netd's, without counters, and those that are.
fn rules(netns: &Namespace) -> (Vec<String>, Vec<String>) {
    let text = netns.run("iptables-nft-save") + &netns.run("ip6tables-nft-save");
    let rules = text.lines().filter(|line| !line.starts_with('#'));
    let rules = rules.map(|line| line.split(" [").next().unwrap().to_owned());
    let (ours, theirs): (Vec<_>, Vec<_>) = rules.partition(|rule| rule.contains("netd: "));
    (theirs, ours)
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn it_works_beside_dockers_own_daemon() {
    let world = World::new();
    let start = |netns: &Namespace, installed: &mut Installed, place: &str| {
        netns.run("ip link add dock0 type bridge");
        netns.run("ip address add 172.31.0.1/16 dev dock0");
        installed.start(&format!(
            "dockerd --bridge dock0 --storage-driver vfs --data-root {place}/data \
             --exec-root {place}/exec --pidfile {place}/pid --host unix://{place}/socket"
        ));
        eventually("dockerd answers", || {
            let asked = installed.try_run(&format!("docker -H unix://{place}/socket version"));
            if asked.code == 0 { Ok(()) } else { Err(asked.stderr) }
        });
    };
    // What its rules are without netd.
    let alone = world.namespace();
    alone.run("ip link set lo up");
    let mut installed = Installed::new(&alone, "docker.io");
    start(&alone, &mut installed, "/run/alone");
    let (expected, _) = rules(&alone);
    drop(installed);
    assert!(expected.contains(&":FORWARD DROP".to_owned()), "{expected:#?}");

    // It drops what is forwarded where it was the first to have anything forwarded.
    let mut host = world.host("a");
    host.stop();
    host.netns.run("sysctl -q net.ipv4.ip_forward=0");
    let mut installed = Installed::new(&host.netns, "docker.io");
    start(&host.netns, &mut installed, "/run/beside");
    host.start();
    let site = Site::new(&world, &host);
    eventually("it works", || site.works());
    let (theirs, ours) = rules(&host.netns);
    assert_eq!(sorted(theirs), sorted(expected));
    assert_eq!(ours.len(), 1, "{ours:#?}");
    assert!(ours[0].starts_with("-A DOCKER-USER -m mark --mark 0x40000000/"), "{ours:#?}");
    assert_eq!(host.client().status().problems, [""; 0]);
}

#[test]
fn it_works_beside_ufw() {
    let world = World::new();
    let alone = world.namespace();
    let installed = Installed::new(&alone, "ufw");
    installed.run("ufw --force enable");
    let (enabled, _) = rules(&alone);
    installed.run("ufw reload");
    let (reloaded, _) = rules(&alone);
    drop(installed);
    assert!(enabled.contains(&":INPUT DROP".to_owned()), "{enabled:#?}");

    let host = world.host("a");
    let site = Site::new(&world, &host);
    let installed = Installed::new(&host.netns, "ufw");
    installed.run("ufw --force enable");
    let looks = |what: &str, expected: &[String]| {
        eventually(&format!("it works {what}"), || site.works());
        eventually(&format!("only what it takes is there {what}"), || {
            let (theirs, ours) = rules(&host.netns);
            let mut own: Vec<_> = ours.iter().filter_map(|r| r.split(' ').nth(1)).collect();
            own.sort_unstable();
            // One in each chain that drops, of either family.
            let all = ["FORWARD", "FORWARD", "INPUT", "INPUT"];
            if own == all && sorted(theirs.clone()) == sorted(expected.to_vec()) {
                Ok(())
            } else {
                Err((theirs, ours))
            }
        });
    };
    looks("beside ufw", &enabled);
    installed.run("ufw reload");
    looks("after its reload", &reloaded);
    installed.run("ufw disable");
    eventually("it works without it", || site.works());
}

#[test]
fn it_works_beside_firewalld() {
    let world = World::new();
    let host = world.host("a");
    let site = Site::new(&world, &host);
    let mut installed = Installed::new(&host.netns, "firewalld");
    installed.run("mkdir -p /run/dbus");
    installed.start(
        "dbus-daemon --system --nofork --nopidfile --nosyslog \
         --address=unix:path=/run/dbus/system_bus_socket",
    );
    eventually("there is a bus", || std::fs::metadata("/run/dbus/system_bus_socket"));
    installed.start("firewalld --nofork --nopid");
    let running = || {
        let state = installed.try_run("firewall-cmd --state");
        if state.code == 0 { Ok(()) } else { Err(state) }
    };
    eventually("firewalld runs", running);
    eventually("it works beside firewalld", || site.works());
    // It is asked to trust our bridges, and for nothing else.
    let zones = || {
        let bridge = host.netns.run("ip -br link show type bridge");
        let mut bridges: Vec<_> =
            bridge.lines().filter_map(|line| line.split_whitespace().next()).collect();
        bridges.sort_unstable();
        let trusted = installed.run("firewall-cmd --zone=trusted --list-interfaces");
        let mut trusted: Vec<_> = trusted.split_whitespace().map(str::to_owned).collect();
        trusted.sort();
        if trusted == bridges { Ok(()) } else { Err((trusted, bridge)) }
    };
    eventually("our bridges are trusted", zones);
    installed.run("firewall-cmd --reload");
    eventually("it works after a reload", || site.works());
    eventually("our bridges are trusted again", zones);
    // What it kept out stays out.
    assert!(site.lan.try_tcp("192.0.2.1:8081".parse().unwrap()).is_err());
    assert_eq!(host.client().status().problems, [""; 0]);
}
