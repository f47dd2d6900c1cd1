use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Environment> {
    let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
    Environment::read(|name| find(name).map(|(_, value)| OsString::from(value)))
}

const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/c1"),
    ("CNI_IFNAME", "eth0"),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = ADD.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    kept.chain(more).copied().collect()
}

#[test]
fn an_attachment_is_named_whole() {
    let environment = read(&ADD).expect("complete");
    let attachment = environment.attachment.expect("of an ADD");
    assert_eq!(environment.verb, Verb::Add);
    assert_eq!(attachment.container.as_str(), "c1");
    assert_eq!(attachment.netns.as_deref(), Some("/run/netns/c1"));
    assert!(environment.path.is_empty());
}

#[test]
fn all_that_is_missing_is_named_at_once() {
    for verb in ["ADD", "CHECK"] {
        let empty =
            [("CNI_COMMAND", verb), ("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
        for variables in [&empty[..], &[("CNI_COMMAND", verb)]] {
            let error = read(variables).expect_err("incomplete");
            assert_eq!(error.code, 4);
            for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
                assert!(error.msg.contains(name), "{}", error.msg);
            }
        }
    }
    let error = read(&with(&[("CNI_COMMAND", "ADD"), ("CNI_NETNS", "")])).expect_err("incomplete");
    assert_eq!(error.msg, "ADD needs the environment variable CNI_NETNS");
    let error = read(&[("CNI_COMMAND", "DEL")]).expect_err("incomplete");
    assert_eq!(error.msg, "DEL needs the environment variables CNI_CONTAINERID, CNI_IFNAME");
    assert!(!error.msg.contains("CNI_NETNS") && error.msg.contains("CNI_IFNAME"));
}

#[test]
fn a_del_needs_no_namespace_and_the_others_no_container() {
    assert!(read(&with(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")])).is_ok());
    // DEL does not care for arguments.
    assert!(read(&with(&[("CNI_COMMAND", "DEL"), ("CNI_ARGS", "nonsense")])).is_ok());
    for verb in ["GC", "STATUS", "VERSION"] {
        let variables = [("CNI_COMMAND", verb), ("CNI_IFNAME", ""), ("CNI_PATH", "/a::/b")];
        let environment = read(&variables).expect(verb);
        assert_eq!(environment.attachment, None);
        assert_eq!(environment.path, [PathBuf::from("/a"), "/b".into()]);
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (name, value) in [
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", "UPDATE"),
        ("CNI_CONTAINERID", "-a"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "sixteen-letters-"),
        ("CNI_ARGS", ";"),
        ("CNI_ARGS", "word"),
        ("CNI_ARGS", "FOO=bar"),
        ("CNI_ARGS", "FOO=bar;IgnoreUnknown=false"),
        ("CNI_ARGS", "IgnoreUnknown=maybe"),
    ] {
        let error = read(&with(&[(name, value)])).expect_err(value);
        assert_eq!(error.code, 4, "{value}");
        assert!(error.msg.contains(name), "{}", error.msg);
    }
}

#[test]
fn arguments_are_pairs() {
    let text = "IgnoreUnknown=1;K8S_POD_NAME=web;FOO=a=b;IP=10.0.0.9;MAC=";
    let environment = read(&with(&[("CNI_ARGS", text)])).expect("pairs");
    let args = environment.attachment.expect("of an ADD").args;
    assert_eq!(args["K8S_POD_NAME"], "web");
    assert_eq!(args["FOO"], "a=b");
    assert_eq!(args["MAC"], "");
    let pods =
        "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=y";
    assert!(read(&with(&[("CNI_ARGS", pods)])).is_ok());
}
