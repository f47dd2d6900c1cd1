use super::*;

fn read(text: &str) -> Result<(String, Vec<Wanted>)> {
    let variables = [("SUBNET".to_owned(), "10.7.0.0/16".to_owned())].into();
    parse(text, &variables, None, "My Shop!")
}

fn own(wanted: &Wanted) -> &CreateNetwork {
    match &wanted.origin {
        Origin::Own(create) => create,
        Origin::External => panic!("{} is external", wanted.name),
    }
}

#[test]
fn every_setting_of_a_network_is_read() {
    let (project, wanted) = read(
        r#"
x-labels: &labels
  team: blue
services:
  web: {image: nginx, networks: [front]}
networks:
  front:
  back:
    name: my-net
    driver: bridge
    driver_opts:
      com.docker.network.driver.mtu: 1400
      com.docker.network.bridge.enable_icc: false
    attachable: true
    internal: "true"
    enable_ipv6: true
    labels:
      <<: *labels
      tier: back
    ipam:
      driver: default
      config:
        - subnet: ${SUBNET}
          ip_range: 10.7.1.0/24
          gateway: 10.7.0.9
          aux_addresses: {router: 10.7.0.7}
        - subnet: fd00:7::/64
  listed: {labels: ["a=b=c", "d"]}
  theirs: {external: true}
  renamed: {external: true, name: elsewhere}
  old: {external: {name: older}}
"#,
    )
    .expect("a file");
    assert_eq!(project, "myshop");
    let names: Vec<_> = wanted.iter().map(|one| (one.key.as_str(), one.name())).collect();
    assert_eq!(
        names,
        [
            ("back", "my-net"),
            ("front", "myshop_front"),
            ("listed", "myshop_listed"),
            ("old", "older"),
            ("renamed", "elsewhere"),
            ("theirs", "theirs"),
        ]
    );
    let back = own(&wanted[0]);
    assert_eq!(back.name, "my-net");
    assert_eq!(back.driver.as_deref(), Some("bridge"));
    assert_eq!(back.options["com.docker.network.driver.mtu"], "1400");
    assert_eq!(back.options["com.docker.network.bridge.enable_icc"], "false");
    assert_eq!(back.options["attachable"], "true");
    assert_eq!((back.internal, back.ipv4, back.ipv6), (true, None, Some(true)));
    assert_eq!((back.labels["team"].as_str(), back.labels["tier"].as_str()), ("blue", "back"));
    let [four, six] = &back.subnets[..] else { panic!("two subnets: {:?}", back.subnets) };
    assert_eq!(four.subnet.to_string(), "10.7.0.0/16");
    assert_eq!(four.range.map(|range| range.to_string()).as_deref(), Some("10.7.1.0/24"));
    assert_eq!(four.gateway.map(|ip| ip.to_string()).as_deref(), Some("10.7.0.9"));
    assert_eq!(four.aux["router"].to_string(), "10.7.0.7");
    assert_eq!(six, &Subnet::new("fd00:7::/64".parse().expect("a subnet")));
    assert_eq!(own(&wanted[1]), &CreateNetwork::named("myshop_front"));
    assert_eq!(own(&wanted[2]).labels["a"], "b=c");
    assert!(wanted[3..].iter().all(|one| one.origin == Origin::External));
}

#[test]
fn a_project_is_called_as_was_said_or_as_its_directory() {
    let name = |text: &str, called: Option<&str>| {
        parse(text, &Variables::new(), called, "dir").map(|(project, _)| project)
    };
    assert_eq!(name("", None).as_deref(), Ok("dir"));
    assert_eq!(name("name: shop", None).as_deref(), Ok("shop"));
    assert_eq!(name("name: ${X:-shop}", None).as_deref(), Ok("shop"));
    assert_eq!(name("name: shop", Some("mine")).as_deref(), Ok("mine"));
    assert!(name("name: My Shop", None).expect_err("a blank").contains("say myshop"));
    assert!(parse("", &Variables::new(), None, "...").is_err());
}

#[test]
fn what_is_wrong_is_named_by_its_place() {
    for (text, why) in [
        ("networks: [a]", "networks is no mapping"),
        ("7", "no sections"),
        ("networks: {a: {b: [", "no YAML"),
        ("networks: {a: {colour: red}}", "networks.a.colour is not known"),
        ("networks: {a: {internal: maybe}}", "networks.a.internal is \"maybe\""),
        ("networks: {a: {external: true, driver: bridge}}", "networks.a is external"),
        ("networks: {a: {driver_opts: 7}}", "networks.a.driver_opts is no mapping"),
        ("networks: {a: {driver_opts: {b: [1]}}}", "networks.a.driver_opts.b is no text"),
        ("networks: {a: {ipam: {driver: dhcp}}}", "networks.a.ipam.driver \"dhcp\""),
        ("networks: {a: {ipam: {options: {b: c}}}}", "networks.a.ipam.options.b"),
        ("networks: {a: {ipam: {config: {}}}}", "networks.a.ipam.config is no list"),
        ("networks: {a: {ipam: {config: [{gateway: 10.0.0.1}]}}}", "config[0] has no subnet"),
        ("networks: {a: {ipam: {config: [{subnet: 10.0.0.1/24}]}}}", "should be 10.0.0.0/24"),
        ("networks: {a: {ipam: {config: [{subnet: here}]}}}", "config[0].subnet is \"here\""),
        ("networks: {a: {ipam: {config: [{mask: 8}]}}}", "config[0].mask is not known"),
        ("networks: {a: {name: '${X?no name}'}}", "networks.a.name: X is not set: no name"),
        ("networks: {a: {}, a: {}}", "no YAML"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn two_keys_are_one_network_only_if_it_is_there_already() {
    let external = "networks:\n  a: {external: true, name: lan}\n  b: {external: {name: LAN}}\n";
    let (_, wanted) = read(external).expect("a file");
    assert_eq!(wanted.iter().map(Wanted::name).collect::<Vec<_>>(), ["lan"]);
    for (a, b) in [
        ("{name: lan}", "{name: lan}"),
        ("{name: lan}", "{name: Lan, internal: true}"),
        ("{name: lan}", "{external: true, name: lan}"),
        ("{external: true, name: lan}", "{name: lan}"),
        ("{external: true, name: myshop_b}", ""),
    ] {
        let error = read(&format!("networks:\n  a: {a}\n  b: {b}\n")).expect_err(b);
        assert!(error.starts_with("networks.a and networks.b are both network "), "{error}");
    }
}

#[test]
fn a_service_is_on_networks_of_the_file_alone() {
    let on = |networks: &str| {
        read(&format!(
            "services: {{web: {{image: nginx, networks: {networks}}}}}\nnetworks: {{front: , back: }}\n"
        ))
    };
    for known in ["[front, back]", "{front: {aliases: [www]}, default: }", "[default]", "", "[]"] {
        assert!(on(known).is_ok(), "{known}: {:?}", on(known));
    }
    for undefined in ["[front, bakc]", "{bakc: {}}", "['${NONE:-bakc}']"] {
        let sentence = "service \"web\" refers to undefined network bakc: invalid compose project";
        assert_eq!(on(undefined), Err(sentence.to_owned()), "{undefined}");
    }
    assert!(read("services: {web: , db: {image: x}}\n").is_ok());
}
