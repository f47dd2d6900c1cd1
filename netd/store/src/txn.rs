//! Transactions: comparisons, and what is done when they all hold or when one does not.

use crate::{Error, Keys, LeaseId, Page, Read, Result, Row};

/// How many operations each of the two lists may have, and how many comparisons there may be:
/// etcd's limit unless it is told otherwise.
pub const MOST_OPERATIONS: usize = 128;

/// How a row's side stands to the comparison's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// The row's is smaller.
    Less,
    /// The row's is greater.
    Greater,
}

impl Relation {
    pub(crate) fn holds<T: Ord + ?Sized>(self, row: &T, other: &T) -> bool {
        match self {
            Self::Equal => row == other,
            Self::NotEqual => row != other,
            Self::Less => row < other,
            Self::Greater => row > other,
        }
    }
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// How often it was written since it was made; 0 where there is none.
    Version(Relation, u64),
    /// The revision that last wrote it; 0 where there is none.
    Modified(Relation, u64),
    /// What it holds. Never true where there is none.
    Value(Relation, Vec<u8>),
}

/// One comparison, which has to hold for every row of its keys; where there is no row it is made
/// once, with none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The rows.
    pub keys: Keys,
    /// The comparison.
    pub test: Test,
}

impl Compare {
    /// There is no such row.
    pub fn absent(keys: Keys) -> Self {
        Self { keys, test: Test::Version(Relation::Equal, 0) }
    }

    /// There is this row.
    pub fn present(key: impl Into<String>) -> Self {
        Self { keys: Keys::one(key), test: Test::Version(Relation::Greater, 0) }
    }

    /// Nobody has written, deleted or made the row since it was read.
    pub fn unchanged(row: &Row) -> Self {
        Self::modified(row.key.as_str(), row.modified)
    }

    /// The row was last written by this revision.
    pub fn modified(key: impl Into<String>, revision: u64) -> Self {
        Self { keys: Keys::one(key), test: Test::Modified(Relation::Equal, revision) }
    }

    /// The row holds this.
    pub fn value(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { keys: Keys::one(key), test: Test::Value(Relation::Equal, value.into()) }
    }

    pub(crate) fn holds_for(&self, row: Option<&Row>) -> bool {
        match &self.test {
            Test::Version(relation, n) => relation.holds(&row.map_or(0, |row| row.version), n),
            Test::Modified(relation, n) => relation.holds(&row.map_or(0, |row| row.modified), n),
            Test::Value(relation, value) => {
                row.is_some_and(|row| relation.holds(row.value.as_slice(), value.as_slice()))
            }
        }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// Writes a row.
    Put {
        /// Its key.
        key: String,
        /// What it holds from now on.
        value: Vec<u8>,
        /// The lease it goes with from now on.
        lease: Option<LeaseId>,
    },
    /// Deletes rows.
    Delete(Keys),
    /// Reads rows, with what the operations before it have done. Always as they are: a revision
    /// cannot be asked for.
    Get(Read),
}

impl Op {
    /// Writes a row that goes with no lease.
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// Writes a row that goes with a lease.
    pub fn put_leased(key: impl Into<String>, value: impl Into<Vec<u8>>, lease: LeaseId) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: Some(lease) }
    }

    /// Deletes one row.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete(Keys::one(key))
    }

    /// Reads one row.
    pub fn get(key: impl Into<String>) -> Self {
        Self::Get(Read::new(Keys::one(key)))
    }
}

/// A transaction.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// What has to hold.
    pub compares: Vec<Compare>,
    /// Done when all of it holds.
    pub then: Vec<Op>,
    /// Done otherwise.
    pub otherwise: Vec<Op>,
}

impl Txn {
    /// One that does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a comparison.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds an operation for when all comparisons hold.
    #[must_use]
    pub fn then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// Adds an operation for when one does not.
    #[must_use]
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// What etcd would refuse, said for both engines alike.
    pub(crate) fn check(&self) -> Result<()> {
        let most = self.compares.len().max(self.then.len()).max(self.otherwise.len());
        if most > MOST_OPERATIONS {
            return Err(Error::Invalid {
                why: format!("{most} operations in one transaction; at most {MOST_OPERATIONS}"),
            });
        }
        check_keys(&self.then)?;
        check_keys(&self.otherwise)
    }
}

/// A row is changed at most once by a transaction, for its changes share one revision.
fn check_keys(ops: &[Op]) -> Result<()> {
    let twice = |key: &str| Error::Invalid { why: format!("{key} is changed twice at once") };
    for (i, op) in ops.iter().enumerate() {
        let Op::Put { key, .. } = op else { continue };
        if key.is_empty() {
            return Err(Error::Invalid { why: "a key is empty".to_owned() });
        }
        for (j, other) in ops.iter().enumerate() {
            match other {
                Op::Put { key: other, .. } if j > i && other == key => return Err(twice(key)),
                Op::Delete(keys) if keys.contains(key) => return Err(twice(key)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// What an operation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was written.
    Put,
    /// So many rows were deleted.
    Deleted(usize),
    /// These rows were read.
    Got(Page),
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether all comparisons held.
    pub held: bool,
    /// The store's revision after it: its own when it changed something.
    pub revision: u64,
    /// What the operations gave, in order.
    pub done: Vec<Done>,
}

impl Outcome {
    /// The rows that its `n`th operation read; none when that did not read.
    pub fn rows(&self, n: usize) -> &[Row] {
        match self.done.get(n) {
            Some(Done::Got(page)) => &page.rows,
            _ => &[],
        }
    }
}
