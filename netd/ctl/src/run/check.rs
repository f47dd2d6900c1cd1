//! What a command's files may say: refused before anything is made, as netd refuses the same in options
//! of networks. What it calls itself netd looks at.

use cnm::{
    Error, Result,
    dns::{check_domains, is_name, is_server},
};

use super::files::Wishes;

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
        let search = vec!["a..b".to_owned()];
        assert!(check(&Wishes { search, ..Wishes::default() }).is_err());
    }
}
