//! [`Text`]: a name as it is looked up. There is one for each name of each endpoint, so a short one
//! lies where it is kept and takes no room besides.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// How many bytes lie where a name is kept: as many as make it no larger than the pointer to a
/// longer one does.
const SHORT: usize = 22;

/// A name as it is looked up: lower case, dots between labels, none at the end.
#[derive(Clone)]
pub(crate) enum Text {
    /// So many bytes of these.
    Short(u8, [u8; SHORT]),
    Long(Arc<[u8]>),
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        match u8::try_from(bytes.len()) {
            Ok(length) if bytes.len() <= SHORT => {
                let mut short = [0; SHORT];
                short[..bytes.len()].copy_from_slice(bytes);
                Self::Short(length, short)
            }
            _ => Self::Long(bytes.into()),
        }
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_bytes_however_long() {
        assert!(size_of::<Text>() <= 24);
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 253] {
            let bytes = vec![b'a'; length];
            let text = Text::from(&*bytes);
            assert_eq!(*text, *bytes);
            assert_eq!(matches!(text, Text::Short(..)), length <= SHORT);
            assert_eq!(text, text.clone());
            assert_eq!(std::collections::HashSet::from([text]).len(), 1);
        }
        assert_ne!(Text::from(&b"web"[..]), Text::from(&b"web-2"[..]));
    }
}
