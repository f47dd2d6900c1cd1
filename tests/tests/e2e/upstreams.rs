//! Names of others: a real authoritative server (nsd) and a real validating resolver (unbound) in
//! the neighbourhood, and the clients that people have.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use cnm::client::Client;
use netd_tests::{Asking as _, Container, Host, HostOptions, Namespace, World, eventually};

/// What `make deps-test` unpacked and did not install, since installing starts it.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debian");

/// A server that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn server(netns: &Namespace, name: &str, words: &[&str]) -> Running {
    let installed = PathBuf::from("/usr/sbin").join(name);
    let unpacked = Path::new(UNPACKED).join("usr/sbin").join(name);
    let program = [installed, unpacked].into_iter().find(|program| program.exists());
    let program = program.unwrap_or_else(|| panic!("{name} is missing: `make deps-test`"));
    let mut command = netns.command([&*program.to_string_lossy()].iter().chain(words));
    command.env("LD_LIBRARY_PATH", format!("{UNPACKED}/usr/lib/x86_64-linux-gnu"));
    let log = fs::File::create(format!("/run/{name}.log")).unwrap();
    let log = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Running(log.spawn().unwrap())
}

/// `example.org` on nsd, signed, and unbound in front of it, at 192.0.2.2.
struct Neighbours {
    _servers: [Running; 2],
}

impl Neighbours {
    fn new(lan: &Namespace) -> Self {
        let dir = "/run/zones";
        fs::create_dir_all(dir).unwrap();
        let text: String = (0..30).map(|n| format!(" \"{n:-<99}\"")).collect();
        let zone = format!(
            "$ORIGIN example.org.\n$TTL 300\n\
             @ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.2\n\
             www A 192.0.2.80\nforged A 192.0.2.81\nbig TXT{text}\n"
        );
        fs::write(format!("{dir}/example.org"), zone).unwrap();
        let script = format!(
            "cd {dir} && k=$(ldns-keygen -a ECDSAP256SHA256 -k example.org) && \
             ldns-signzone -o example.org example.org $k && cp $k.key anchor && \
             sed -i s/192.0.2.81/192.0.2.82/ example.org.signed"
        );
        let signed = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(signed.status.success(), "{signed:?}");
        let nsd = format!(
            "server:\n ip-address: 192.0.2.2@5300\n username: \"\"\n database: \"\"\n \
             zonesdir: {dir}\n pidfile: {dir}/nsd.pid\n xfrdfile: {dir}/xfrd\n \
             zonelistfile: {dir}/list\n xfrdir: {dir}\nremote-control:\n control-enable: no\n\
             zone:\n name: example.org\n zonefile: example.org.signed\n"
        );
        fs::write(format!("{dir}/nsd.conf"), nsd).unwrap();
        let unbound = format!(
            "server:\n interface: 192.0.2.2@53\n access-control: 0.0.0.0/0 allow\n chroot: \"\"\n \
             username: \"\"\n directory: {dir}\n pidfile: \"\"\n use-syslog: no\n \
             module-config: \"validator iterator\"\n trust-anchor-file: {dir}/anchor\n \
             do-ip6: no\n so-rcvbuf: 0\nremote-control:\n control-enable: no\n\
             stub-zone:\n name: example.org\n stub-addr: 192.0.2.2@5300\n"
        );
        fs::write(format!("{dir}/unbound.conf"), unbound).unwrap();
        let servers = [
            server(lan, "nsd", &["-d", "-c", &format!("{dir}/nsd.conf")]),
            server(lan, "unbound", &["-d", "-c", &format!("{dir}/unbound.conf")]),
        ];
        eventually("unbound answers from nsd", || {
            let output = lan.output("dig +time=1 +tries=1 @192.0.2.2 ns.example.org A");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains("NOERROR") {
                return Ok(());
            }
            let logs =
                ["nsd", "unbound"].map(|name| fs::read_to_string(format!("/run/{name}.log")));
            Err(format!("{text}\n{logs:?}"))
        });
        Self { _servers: servers }
    }
}

/// A host with such neighbours, and a container on it called `client`.
fn site(world: &World) -> (Host, Namespace, Neighbours, Container, String) {
    let config = "dns_upstreams = [\"192.0.2.2:53\"]".to_owned();
    let host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let neighbours = Neighbours::new(&lan);
    let mut netd: Client = host.client();
    netd.create("app");
    let client = world.container("client");
    let server = netd.attach(&client.to("app")).dns[0].to_string();
    (host, lan, neighbours, client, server)
}

#[test]
fn a_real_resolver_is_relayed_as_it_is() {
    let world = World::new();
    let (host, _lan, _neighbours, client, server) = site(&world);
    let dig = |words: &str| client.netns.run(&format!("dig +tries=1 +time=4 @{server} {words}"));
    let flags = |answer: &str| {
        let line = answer.lines().find(|line| line.contains("flags:")).unwrap_or_default();
        let flags = line.split("flags:").nth(1).unwrap_or_default();
        flags.split(';').next().unwrap_or_default().to_owned()
    };

    let www = dig("www.example.org A");
    assert!(www.contains("192.0.2.80") && www.contains("\t300\t"), "{www}");
    assert!(flags(&www).contains("ad"), "dig asks for that: {www}");
    assert!(!www.contains("RRSIG"), "{www}");
    let signed = dig("+dnssec www.example.org A");
    assert!(signed.contains("RRSIG") && flags(&signed).contains("ad"), "{signed}");
    let modest = dig("+noad +noedns www.example.org A");
    assert!(modest.contains("192.0.2.80"), "{modest}");

    let forged = dig("forged.example.org A");
    assert!(forged.contains("SERVFAIL"), "{forged}");
    let unchecked = dig("+cd forged.example.org A");
    assert!(unchecked.contains("192.0.2.82") && flags(&unchecked).contains("cd"), "{unchecked}");

    let cut = dig("+ignore +notcp big.example.org TXT");
    assert!(flags(&cut).contains("tc"), "{cut}");
    let whole = dig("big.example.org TXT");
    assert!(whole.contains("\"29---") && whole.contains("(TCP)"), "{whole}");

    let missing = dig("nosuch.example.org A");
    assert!(missing.contains("NXDOMAIN") && missing.contains("SOA"), "{missing}");
    let empty = dig("www.example.org MX");
    assert!(empty.contains("NOERROR") && empty.contains("SOA"), "{empty}");

    // That there is nothing is proven to who wants to know, the second time as well, and to nobody else.
    for _ in 0..2 {
        for (words, code) in
            [("nosuch.example.org A", "NXDOMAIN"), ("www.example.org MX", "NOERROR")]
        {
            let proven = dig(&format!("+dnssec {words}"));
            assert!(proven.contains(code) && proven.contains("NSEC"), "{proven}");
            assert!(proven.contains("RRSIG") && flags(&proven).contains("ad"), "{proven}");
            let plain = dig(words);
            assert!(plain.contains(code) && !plain.contains("NSEC"), "{plain}");
        }
        assert!(!dig("www.example.org A").contains("RRSIG"), "another one wanted it");
    }

    // Once it was told, it is known.
    for (name, kind) in [("nosuch", "A"), ("www", "MX"), ("www", "A")] {
        let said = |name: &str| {
            let name = format!("{name}.example.org");
            host.netctl(&["dns", "query", &name, "-t", kind, "--from", "client"])
        };
        said(name);
        let again = said(name);
        assert!(again.stdout.contains("an earlier answer still holds"), "{again:?}");
    }
}

#[test]
fn what_was_told_is_told_on_when_the_neighbours_are_gone() {
    let world = World::new();
    let (host, _lan, neighbours, client, server) = site(&world);
    let ask = |words: &str| client.netns.run(&format!("dig +tries=1 +time=9 @{server} {words}"));
    assert!(ask("www.example.org A").contains("192.0.2.80"));
    drop(neighbours);
    assert!(ask("www.example.org A").contains("192.0.2.80"), "it still holds");
    assert!(ask("other.example.org A").contains("SERVFAIL"), "in time, and not in silence");
    let status = host.netctl(&["dns", "query", "other.example.org", "--from", "client"]);
    assert!(status.stdout.contains("nobody answered"), "{status:?}");
}

#[test]
fn an_answers_time_runs_while_it_is_kept() {
    let world = World::new();
    let (_host, _lan, _neighbours, client, server) = site(&world);
    let ttl = |words: &str| -> u32 {
        let said = client.netns.run(&format!("dig +noall +answer +authority @{server} {words}"));
        let line = said.lines().next().unwrap_or_else(|| panic!("{words}"));
        line.split_whitespace().nth(1).and_then(|ttl| ttl.parse().ok()).expect("a TTL")
    };
    // A second may have passed at once.
    let (there, missing) = (ttl("www.example.org A"), ttl("nosuch.example.org A"));
    assert!((290..=300).contains(&there), "{there}");
    // The SOA's last number, which bounds how long a missing name is kept (RFC 2308).
    assert!((50..=60).contains(&missing), "{missing}");
    eventually("both have become less", || {
        let now = (ttl("www.example.org A"), ttl("nosuch.example.org A"));
        if now.0 < there && now.1 < missing { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

/// Runs a command line where `/etc/resolv.conf` names a server, and gives what it printed.
fn with_resolv_conf(client: &Container, server: &str, words: &str) -> String {
    fs::write("/run/resolv.conf", format!("nameserver {server}\nsearch app.netd\n")).unwrap();
    let script = format!("mount --bind /run/resolv.conf /etc/resolv.conf && {words}");
    let output = client.netns.command(["unshare", "-m", "sh", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program that looks its arguments up by musl's `getaddrinfo`.
fn musl_program() -> PathBuf {
    let (source, program) = (Path::new("/run/lookup.rs"), PathBuf::from("/run/lookup"));
    let text = "use std::net::ToSocketAddrs;
        fn main() {
            for name in std::env::args().skip(1) {
                for address in (name.as_str(), 80).to_socket_addrs().expect(\"an address\") {
                    println!(\"{name} {}\", address.ip());
                }
            }
        }";
    fs::write(source, text).unwrap();
    let built = std::process::Command::new("rustc")
        .args(["--edition=2024", "--target", "x86_64-unknown-linux-musl", "-o"])
        .arg(&program)
        .arg(source)
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "`rustup target add x86_64-unknown-linux-musl` may help: {built:?}"
    );
    program
}

#[test]
fn musl_finds_its_names() {
    let world = World::new();
    let program = musl_program();
    let (host, _lan, _neighbours, client, server) = site(&world);
    let mut netd = host.client();
    let web = world.container("web");
    let ip = netd.attach(&web.to("app")).addresses[0].ip().to_string();
    let words = format!("{} web web.app web.app.netd www.example.org", program.display());
    let said = with_resolv_conf(&client, &server, &words);
    for expected in [
        format!("web {ip}"),
        format!("web.app {ip}"),
        format!("web.app.netd {ip}"),
        "www.example.org 192.0.2.80".to_owned(),
    ] {
        assert!(said.lines().any(|line| line == expected), "{expected}: {said}");
    }
}

#[test]
fn the_c_library_finds_its_names() {
    let world = World::new();
    let (host, _lan, _neighbours, client, server) = site(&world);
    let mut netd = host.client();
    let web = world.container("web");
    let ip = netd.attach(&web.to("app")).addresses[0].ip().to_string();
    for words in ["getent ahosts web", "getent ahosts web.app", "getent hosts web.app.netd"] {
        assert!(with_resolv_conf(&client, &server, words).contains(&ip), "{words}");
    }
    let said = with_resolv_conf(&client, &server, "getent ahosts www.example.org");
    assert!(said.contains("192.0.2.80"), "{said}");
    let said = with_resolv_conf(&client, &server, &format!("getent hosts {ip}"));
    assert!(said.contains("web.app"), "{said}");
    // Over a connection, and with the flags that a validating program sets.
    let options = "echo options use-vc edns0 trust-ad >>/etc/resolv.conf && getent ahosts web";
    assert!(with_resolv_conf(&client, &server, options).contains(&ip));
}

#[test]
fn systemd_resolved_would_find_its_names() {
    let world = World::new();
    let (host, _lan, _neighbours, client, server) = site(&world);
    let mut netd = host.client();
    let web = world.container("web");
    let ip = netd.attach(&web.to("app")).addresses[0].ip().to_string();
    // Its feature levels, from the best that it begins with to the worst that it falls back to
    // (DNS_SERVER_FEATURE_LEVEL_*, systemd's resolved-dns-server.h).
    for level in [
        "+dnssec +bufsize=1472 +cd +noad +nocookie",
        "+dnssec +bufsize=512 +cd +noad +nocookie",
        "+edns=0 +bufsize=1472 +noad +nocookie",
        "+noedns +noad",
        "+noedns +noad +tcp",
    ] {
        for name in ["web.app.netd", "WeB.aPP.nEtd", "www.example.org"] {
            let said = client.netns.run(&format!("dig +tries=1 @{server} {level} {name} A"));
            let expected = if name == "www.example.org" { "192.0.2.80" } else { &ip };
            assert!(said.contains(expected) && said.contains("NOERROR"), "{level} {name}: {said}");
            // It drops an answer that is to a question in another case.
            assert!(said.contains(&format!(";{name}.")), "{level} {name}: {said}");
        }
        let said = client.netns.run(&format!("dig +tries=1 @{server} {level} web.app.netd AAAA"));
        assert!(said.contains("NOERROR") && said.contains("SOA"), "{level}: {said}");
        // What it asks to learn whether a zone is signed.
        for kind in ["DS", "DNSKEY"] {
            let said = client.netns.run(&format!("dig +tries=1 @{server} {level} netd {kind}"));
            assert!(said.contains("NOERROR") && said.contains("SOA"), "{level} {kind}: {said}");
        }
    }
}

#[test]
fn dig_kdig_and_drill_find_their_names() {
    let world = World::new();
    let (host, _lan, _neighbours, client, server) = site(&world);
    let mut netd = host.client();
    let web = world.container("web");
    let ip = netd.attach(&web.to("app")).addresses[0].ip().to_string();
    for line in [
        format!("kdig @{server} web A"),
        format!("kdig @{server} +tcp web.app.netd A"),
        format!("drill @{server} web.app A"),
        format!("drill -D @{server} web.app.netd A"),
        format!("dig @{server} +noedns +noad +norec web A"),
        format!("dig @{server} +keepopen +tcp web A www.example.org A web.app A"),
    ] {
        let said = client.netns.run(&line);
        assert!(said.contains(&ip) && said.contains("NOERROR"), "{line}: {said}");
    }
}
