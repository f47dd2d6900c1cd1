//! What a command's files may say: refused before anything is made, as netd refuses the same in options
//! of networks. What it calls itself netd looks at.

use cnm::{
    Error, Result,
    dns::{check_domains, is_name, is_server},
};

use super::files::{SERVERS, Wishes};

/// Refuses what cannot be meant.
pub(super) fn check(wishes: &Wishes) -> Result<()> {
    let wrong = |what: &str, value: &dyn std::fmt::Display, rule: &str| {
        Err(Error::invalid(format_args!("invalid {what} \"{value}\": {rule}")))
    };
    if let Some(server) = wishes.dns.iter().find(|server| !is_server(**server)) {
        return wrong(
            "name server",
            server,
            "it should be the address of one server, on whichever link",
        );
    }
    let mut servers: Vec<_> = wishes.dns.iter().collect();
    servers.sort_unstable();
    servers.dedup();
    if servers.len() > SERVERS {
        return Err(Error::invalid(format_args!(
            "{} name servers are given, and programs ask {SERVERS} (resolv.conf(5)): leave some --dns out",
            servers.len()
        )));
    }
    if let Some(host) = wishes.hosts.iter().find(|host| !is_name(&host.name)) {
        return wrong("host", &host.name, "before its address should be a name in DNS");
    }
    check_domains(&wishes.search.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_stands_in_no_file() {
        let host =
            |host: &str| Wishes { hosts: vec![host.parse().expect("a host")], ..Wishes::default() };
        assert_eq!(check(&host("db.example:10.9.0.7")), Ok(()));
        for bad in ["a..b:1.2.3.4", ".a:1.2.3.4", "a,b:1.2.3.4"] {
            assert!(check(&host(bad)).is_err(), "{bad}");
        }
        let asking = |server: &str| Wishes {
            dns: vec![server.parse().expect("an address")],
            ..Wishes::default()
        };
        assert_eq!(check(&asking("10.0.0.53")), Ok(()));
        assert!(check(&asking("0.0.0.0")).is_err());
        let many = |last: [u8; 4]| Wishes {
            dns: last.map(|last| std::net::Ipv4Addr::new(10, 0, 0, last).into()).into(),
            ..Wishes::default()
        };
        assert_eq!(check(&many([1, 2, 3, 1])), Ok(()), "three");
        let error = check(&many([1, 2, 3, 4])).expect_err("nobody asks the fourth");
        assert!(error.message.starts_with("4 name servers are given"), "{error}");
        let search = vec!["a..b".to_owned()];
        assert!(check(&Wishes { search, ..Wishes::default() }).is_err());
    }
}
