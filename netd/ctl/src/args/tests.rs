use clap::{CommandFactory as _, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Command, ErrorKind> {
    let words = std::iter::once("netctl").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.kind())
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_a_line_that_says_what_it_does() {
    fn walk(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&Cli::command());
}

#[test]
fn a_network_is_made_with_dockers_flags() {
    let line = "network create -d macvlan --subnet 10.1.0.0/24 --subnet=fd00::/64 \
                --gateway 10.1.0.9 --aux-address r=10.1.0.7 --internal --ipv6 --ipv4=false \
                -o parent=eth0 --opt x --label a=b=c app";
    let Ok(Command::Network { command: NetworkCommand::Create(create) }) = parse(line) else {
        panic!("a create");
    };
    assert_eq!(create.driver, "macvlan");
    assert_eq!(create.subnet.len(), 2);
    assert_eq!((create.ipv4, create.ipv6), (Some(false), Some(true)));
    assert_eq!(create.aux_address, [("r".into(), "10.1.0.7".into())]);
    assert_eq!(create.options, [("parent".into(), "eth0".into()), ("x".into(), String::new())]);
    assert_eq!(create.labels, [("a".into(), "b=c".into())]);
    assert_eq!(create.name, "app");
}

#[test]
fn values_are_checked_where_they_enter() {
    for bad in [
        "network create --subnet 10.1.0.0 app",
        "network create --subnet 10.1.0.0/33 app",
        "network create --gateway 10.1.0.0/24 app",
        "network create -o =x app",
        "network ls -f name",
        "attach --netns PID:x --name a app",
        "attach --netns /x --name -a app",
        "attach --netns /x --name a -p 80:0 app",
        "attach --netns /x --name a --mac 01:00:00:00:00:01 app",
        "run --hostname a/b -- true",
        "run --add-host db -- true",
        "run --add-host :10.0.0.1 -- true",
        "run --add-host db:nowhere -- true",
        "run --add-host db: -- true",
        "run --add-host db:[10.0.0.1 -- true",
        "run --dns-option= -- true",
    ] {
        let kind = parse(bad).expect_err(bad);
        assert!(
            matches!(kind, ErrorKind::ValueValidation | ErrorKind::UnknownArgument),
            "{bad}: {kind:?}"
        );
    }
    for bad in ["network rm", "network inspect", "run", "run --name x", "attach app"] {
        assert_eq!(parse(bad).expect_err(bad), ErrorKind::MissingRequiredArgument, "{bad}");
    }
}

fn names(run: &Run) -> Vec<&str> {
    run.networks.iter().map(|join| join.network.as_str()).collect()
}

#[test]
fn what_follows_the_command_is_the_commands_own() {
    for line in ["run --name a -- ls -l --name b", "run --name a ls -l --name b"] {
        let Ok(Command::Run(run)) = parse(line) else { panic!("{line}") };
        assert_eq!(run.name.as_ref().map(Name::as_str), Some("a"), "{line}");
        assert_eq!(run.command, ["ls", "-l", "--name", "b"], "{line}");
        assert_eq!(names(&run), ["bridge"], "{line}");
    }
    assert!(parse("run --no-such-flag ls").is_err());
    let Ok(Command::Run(run)) = parse("run --network a --net b --ip 10.0.0.2 --ip6 fd00::2 ls")
    else {
        panic!("a run")
    };
    assert_eq!(names(&run), ["a", "b"]);
    assert_eq!(run.wanted.addresses.len(), 2);
}

#[test]
fn a_namespace_is_a_path_or_a_process() {
    let path = |text| values::netns(text).map(|path| path.display().to_string());
    assert_eq!(path("PID:7").as_deref(), Ok("/proc/7/ns/net"));
    assert_eq!(path("/run/netns/a").as_deref(), Ok("/run/netns/a"));
}

#[test]
fn a_command_is_run_with_dockers_flags() {
    let line = "run -h web-1 --add-host db:10.1.0.7 --add-host six=[fd00::7] \
                --add-host old:fd00::8 --add-host up:host-gateway --dns-option timeout:1 \
                --dns-opt ndots:2 -- true -h --help";
    let Ok(Command::Run(run)) = parse(line) else { panic!("a run") };
    assert_eq!(run.hostname.as_ref().map(Name::as_str), Some("web-1"));
    let hosts = |address: &str| address.parse().ok();
    let said: Vec<_> = run.add_host.iter().map(|host| (&*host.name, host.address)).collect();
    assert_eq!(
        said,
        [
            ("db", hosts("10.1.0.7")),
            ("six", hosts("fd00::7")),
            ("old", hosts("fd00::8")),
            ("up", None)
        ]
    );
    assert_eq!(run.dns_option, ["timeout:1", "ndots:2"]);
    assert_eq!(run.command, ["true", "-h", "--help"]);
    let Ok(Command::Run(run)) = parse("run -H web-2 -- true") else { panic!("a run") };
    assert_eq!(run.hostname.as_ref().map(Name::as_str), Some("web-2"));
    assert_eq!(parse("run --help").unwrap_err(), ErrorKind::DisplayHelp);
    assert_eq!(parse("run -h").unwrap_err(), ErrorKind::InvalidValue, "as with docker");
}

#[test]
fn a_host_without_an_address_is_said_in_a_sentence() {
    let said = |text: &str| values::place(text).expect_err(text).message;
    let lookup = std::io::Error::other("failed to lookup address information");
    let unknown = values::no_place("manager.invalid:2377", &lookup).message;
    assert!(unknown.starts_with("no address is known of the host manager.invalid:"), "{unknown}");
    assert!(!unknown.contains("lookup"), "{unknown}");
    for wrong in ["10.0.0.1", "10.0.0.1:port", "fd00::1:2377x", ":2377"] {
        assert!(said(wrong).contains("it should be like 10.0.0.1:2377"), "{wrong}");
    }
    assert!(values::place("[fd00::1]:2377").is_ok());
}
