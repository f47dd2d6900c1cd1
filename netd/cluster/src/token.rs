//! Join tokens: `NETD-1-<digest of the CA>-<secret>`. The digest lets the bearer know the cluster,
//! the secret lets the cluster know the bearer. The store keeps only the secret's digest, with what
//! the token is good for.

use std::{fmt, str::FromStr};

use ring::digest::{SHA256, digest};
use store::{Compare, Op, Store, Txn};

use crate::{
    Error, Key, Layout, Result, Role,
    rows::{self, Schema},
};

/// How often a decision is tried again when others were faster.
const ATTEMPTS: u32 = 16;

/// The digits of a SHA-256 and of 128 bits to the base 36.
const DIGEST: usize = 50;
const SECRET: usize = 25;

/// Why a token does not let its bearer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is no token.
    #[error("is malformed: it should be NETD-1-, 50 digits, - and 25 digits")]
    Malformed,
    /// The cluster has none such (any more).
    #[error("is unknown to the cluster, or was removed")]
    Unknown,
    /// Its time is over.
    #[error("has expired: ask a manager for another (netctl cluster token create)")]
    Expired,
    /// It was used as often as it may be.
    #[error("is used up: ask a manager for another (netctl cluster token create)")]
    Used,
    /// Who answers is of another cluster.
    #[error("is of another cluster than who answers there: ask a manager of that one for a token")]
    Elsewhere,
}

/// `bytes` as one number, most significant first, in `length` digits of 0-9 a-z.
pub(crate) fn base36(bytes: &[u8], length: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = Vec::with_capacity(length);
    for _ in 0..length {
        let mut rest = 0_u16;
        for byte in &mut number {
            let part = rest << 8 | u16::from(*byte);
            *byte = u8::try_from(part / 36).unwrap_or(u8::MAX);
            rest = part % 36;
        }
        digits.push(char::from_digit(u32::from(rest), 36).unwrap_or('0'));
    }
    digits.iter().rev().collect()
}

/// SHA-256 as hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A token, as people pass it on.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the CA's certificate (DER), to the base 36.
    pub ca: String,
    /// What only its bearers know.
    secret: String,
}

impl Token {
    /// A new one for the cluster of this CA.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn random(ca_digest: &[u8]) -> Result<Self> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        Ok(Self { ca: base36(ca_digest, DIGEST), secret: base36(&secret, SECRET) })
    }

    /// Whether it is of the cluster of this CA.
    pub fn is_of(&self, ca_digest: &[u8]) -> bool {
        self.ca == base36(ca_digest, DIGEST)
    }

    /// The secret, to be sent to the cluster only.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// What the store knows it by.
    pub fn digest(&self) -> String {
        sha256(self.secret.as_bytes())
    }

    /// What managers list it as: the first 12 digits of its digest.
    pub fn id(&self) -> String {
        self.digest().chars().take(12).collect()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NETD-1-{}-{}", self.ca, self.secret)
    }
}

impl FromStr for Token {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let digits = |part: &&str, length| {
            let digit = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
            part.len() == length && part.bytes().all(digit)
        };
        let rest = text.trim().strip_prefix("NETD-1-").ok_or(Refusal::Malformed)?;
        let (ca, secret) = rest.split_once('-').ok_or(Refusal::Malformed)?;
        if !digits(&ca, DIGEST) || !digits(&secret, SECRET) {
            return Err(Refusal::Malformed);
        }
        Ok(Self { ca: ca.to_owned(), secret: secret.to_owned() })
    }
}

/// What a token's row says when it is used at `now`: the row after it.
///
/// # Errors
/// When it lets nobody in (any more).
pub fn used(row: &rows::Token, now: u64) -> Result<rows::Token, Refusal> {
    if row.expires.is_some_and(|expires| expires <= now) {
        return Err(Refusal::Expired);
    }
    match row.uses {
        Some(0) => Err(Refusal::Used),
        uses => Ok(rows::Token { uses: uses.map(|uses| uses - 1), ..row.clone() }),
    }
}

/// What the store says of a new token.
fn row(role: Role, now: u64, lifetime: Option<u64>, uses: Option<u32>) -> rows::Token {
    let expires = lifetime.map(|seconds| now.saturating_add(seconds));
    rows::Token { schema: Schema::default(), role, created: now, expires, uses }
}

/// A token as managers list it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Listed {
    /// The first 12 digits of its digest.
    pub id: String,
    /// What it is good for.
    pub token: rows::Token,
}

/// The tokens of a cluster. Times are seconds since 1970.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Store,
    layout: Layout,
}

impl Tokens {
    /// Those of the cluster of this layout.
    pub fn new(store: Store, layout: Layout) -> Self {
        Self { store, layout }
    }

    /// Makes one, and drops those that ended long ago.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn create(
        &self,
        ca_digest: &[u8],
        role: Role,
        now: u64,
        lifetime: Option<u64>,
        uses: Option<u32>,
    ) -> Result<Token> {
        let token = Token::random(ca_digest)?;
        let row = row(role, now, lifetime, uses);
        self.store.put(self.key(&token), rows::write(&row)).await?;
        for (key, row) in self.rows().await? {
            // A day is kept, for its bearers to hear that it has expired.
            if row.expires.is_some_and(|expires| expires.saturating_add(86_400) < now) {
                self.store.delete(store::Keys::One(key)).await?;
            }
        }
        Ok(token)
    }

    async fn rows(&self) -> Result<Vec<(String, rows::Token)>> {
        let rows = self.store.all(self.layout.tokens()).await?.rows;
        rows.into_iter().map(|row| Ok((row.key.clone(), rows::read(&row)?))).collect()
    }

    fn key(&self, token: &Token) -> String {
        self.layout.key(&Key::Token(token.digest()))
    }

    fn id(&self, key: &str) -> String {
        match self.layout.parse(key) {
            Some(Key::Token(digest)) => digest.chars().take(12).collect(),
            _ => String::new(),
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let rows = self.rows().await?;
        Ok(rows.into_iter().map(|(key, token)| Listed { id: self.id(&key), token }).collect())
    }

    /// Removes one by the beginning of its id, and gives whether there was one.
    ///
    /// # Errors
    /// [`Error::Denied`] when more than one begins so; when the store is away.
    pub async fn remove(&self, id: &str) -> Result<bool> {
        let rows = self.rows().await?;
        let mut met = rows.iter().filter(|(key, _)| !id.is_empty() && self.id(key).starts_with(id));
        match (met.next(), met.next()) {
            (None, _) => Ok(false),
            (Some((key, _)), None) => {
                Ok(self.store.delete(store::Keys::one(key.as_str())).await? > 0)
            }
            _ => Err(Error::Denied {
                who: format!("a token id that begins with {id}"),
                what: "name more than one token".to_owned(),
            }),
        }
    }

    /// A new one in the place of all of a role, at once. It has the life and the uses that are
    /// given.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn rotate(
        &self,
        ca_digest: &[u8],
        role: Role,
        now: u64,
        lifetime: Option<u64>,
        uses: Option<u32>,
    ) -> Result<Token> {
        let token = Token::random(ca_digest)?;
        let row = row(role, now, lifetime, uses);
        let mut txn = Txn::new().then(Op::put(self.key(&token), rows::write(&row)));
        let old = self.rows().await?.into_iter().filter(|(_, row)| row.role == role);
        let mut rest = Vec::new();
        for (key, _) in old {
            if txn.then.len() < store::MOST_OPERATIONS {
                txn = txn.then(Op::delete(key));
            } else {
                rest.push(key);
            }
        }
        self.store.txn(txn).await?;
        for key in rest {
            self.store.delete(store::Keys::One(key)).await?;
        }
        Ok(token)
    }

    /// Uses one up, together with what its use is for: `with` adds that to the transaction, and
    /// hears which role the token gives. Tried again when others use it at the same time.
    ///
    /// # Errors
    /// [`Error::Token`]; [`Error::Contended`]; what `with` gives; when the store is away.
    pub async fn redeem<F>(
        &self,
        secret: &str,
        now: u64,
        mut with: impl FnMut(Role, Txn) -> F,
    ) -> Result<Role>
    where
        F: Future<Output = Result<Txn>>,
    {
        let key = self.layout.key(&Key::Token(sha256(secret.as_bytes())));
        for _ in 0..ATTEMPTS {
            let row = self.store.get(key.as_str()).await?.ok_or(Refusal::Unknown)?;
            let token: rows::Token = rows::read(&row)?;
            let after = used(&token, now)?;
            let txn = Txn::new()
                .when(Compare::unchanged(&row))
                .then(Op::put(key.as_str(), rows::write(&after)));
            let txn = with(token.role, txn).await?;
            if self.store.txn(txn).await?.held {
                return Ok(token.role);
            }
        }
        Err(Error::Contended { what: "joining", attempts: ATTEMPTS })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        assert_eq!(base36(&[0, 35], 3), "00z");
        assert_eq!(base36(&[1, 0], 2), "74");
        assert_eq!(base36(&[255; 16], SECRET), "f5lxx1zz5pnorynqglhzmsp33");
        assert!(base36(&[255; 32], DIGEST).starts_with('6'));
    }

    #[test]
    fn a_token_survives_being_passed_on() {
        let token = Token::random(&[7; 32]).expect("random");
        let text = token.to_string();
        assert_eq!(text.len(), 83);
        assert_eq!(text.parse(), Ok(token.clone()));
        assert!(token.is_of(&[7; 32]) && !token.is_of(&[8; 32]));
        assert!(!format!("{token:?}").contains(token.secret()));
        for bad in ["", "NETD-1-", "NETD-2-a-b", &text[1..], &text[..82], &text.to_uppercase()] {
            assert_eq!(bad.parse::<Token>(), Err(Refusal::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_token_ends_with_its_time_and_its_uses() {
        let row = |expires, uses| rows::Token {
            schema: Schema::default(),
            role: Role::Worker,
            created: 0,
            expires,
            uses,
        };
        assert_eq!(used(&row(None, None), 9), Ok(row(None, None)));
        assert_eq!(used(&row(Some(10), Some(2)), 9), Ok(row(Some(10), Some(1))));
        assert_eq!(used(&row(Some(10), Some(2)), 10), Err(Refusal::Expired));
        assert_eq!(used(&row(None, Some(0)), 9), Err(Refusal::Used));
    }

    proptest! {
        #[test]
        fn text_that_is_no_token_is_refused(text in ".{0,90}") {
            prop_assert_eq!(text.parse::<Token>(), Err(Refusal::Malformed));
        }
    }
}
