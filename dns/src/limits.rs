//! What can be a name: the limits of DNS (RFC 1035, section 3.1), checked when a name is given
//! and not when it is asked for. What is in a label is nobody's business: IDNA passes through.

use crate::Error;

/// The longest label, in bytes.
const LABEL: usize = 63;

/// The longest name, in bytes of text: 255 in wire format, which has a length more and the root's.
const NAME: usize = 253;

/// Checks that what an endpoint or a network is called can be asked for, with what stands behind
/// it: `web`, then `["app", "netd"]`.
///
/// # Errors
/// [`Error::Label`] and [`Error::Name`].
pub fn check_name(name: &str, behind: &[&str]) -> Result<(), Error> {
    if let Some(label) = name.split('.').find(|label| label.is_empty() || label.len() > LABEL) {
        return Err(Error::Label { name: name.to_owned(), label: label.to_owned() });
    }
    let behind = behind.iter().filter(|part| !part.is_empty());
    let length = behind.clone().fold(name.len(), |length, part| length + 1 + part.len());
    if length > NAME {
        let parts: Vec<&str> = std::iter::once(name).chain(behind.copied()).collect();
        return Err(Error::Name { name: parts.join("."), length });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_1_to_63_bytes_and_names_253() {
        let label = "x".repeat(63);
        for good in ["web", "web.1", "xn--bcher-kva", "_x", &label] {
            check_name(good, &["app", "netd"]).unwrap();
        }
        for bad in ["", "a..b", "a.", ".a", &"x".repeat(64)] {
            let error = check_name(bad, &["app", "netd"]).unwrap_err();
            assert!(matches!(error, Error::Label { .. }), "{bad}: {error}");
        }
        let long = [&*label; 4].join(".");
        assert!(matches!(check_name(&long, &[]), Err(Error::Name { length: 255, .. })));
        check_name(&long[2..], &[]).unwrap();
        assert!(check_name(&long[2..], &["netd"]).is_err(), "what stands behind it counts");
        check_name("web", &["", "netd"]).unwrap();
    }
}
