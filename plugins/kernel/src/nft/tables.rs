//! Whose a table is. From Linux 6.9 a table can belong to a socket: another program's `nft flush
//! ruleset` passes over it and nobody else can change it. When the socket goes, what is persistent
//! stays as an orphan and keeps working, until another socket takes it
//! (`nf_tables_updtable`, net/netfilter/nf_tables_api.c).

use netlink_packet_core::NLM_F_CREATE;
use nix::errno::Errno;

use super::{
    BATCH_BEGIN, BATCH_END, DELTABLE, INET, NEWTABLE, Nft, SUBSYSTEM, TABLE_NAME, attribute,
    frame_header, text,
};
use crate::{Error, Result, netlink::Batch};

const GETTABLE: u16 = SUBSYSTEM << 8 | 1;
const TABLE_FLAGS: u16 = 2;
/// `NFT_TABLE_F_OWNER` and `NFT_TABLE_F_PERSIST` (linux/netfilter/nf_tables.h).
const OWNER: u32 = 2;
const PERSIST: u32 = 4;

/// What is to become of a table.
#[derive(Clone, Copy, Debug)]
enum Act {
    Make(u32),
    Delete,
}

impl Nft {
    /// Makes a table that outlives its owner, with nobody as its owner yet: only so can `nft` lay
    /// rules in it. A table of before that has no owner and is not persistent is made anew, empty.
    /// Whether the kernel can do it; nothing was made where it cannot.
    ///
    /// # Errors
    /// [`Error::Held`] when the table is another's.
    pub fn make_orphan(&mut self, table: &str) -> Result<bool> {
        let orphan = Act::Make(PERSIST);
        let refused = |outcome: Result<()>| match outcome {
            Err(error) => match error.errno() {
                Some(Errno::EPERM) => Err(Error::Held { table: format!("inet {table}") }),
                Some(Errno::EOPNOTSUPP | Errno::ENOENT) => Ok(false),
                _ => Err(error),
            },
            Ok(()) => Ok(true),
        };
        Ok(refused(self.act(table, &[orphan]))?
            || refused(self.act(table, &[Act::Delete, orphan]))?)
    }

    /// Takes a table that has no owner: from now on it is this socket's.
    ///
    /// # Errors
    /// What the kernel refuses: a table that is another's, or not persistent.
    pub fn own(&mut self, table: &str) -> Result<()> {
        self.act(table, &[Act::Make(OWNER | PERSIST)])
    }

    /// Whether there is such a table.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn has_table(&mut self, table: &str) -> Result<bool> {
        let mut batch = Batch::new();
        batch.frame(GETTABLE, 0, "look at the table", format!("inet {table}"), |bytes| {
            bytes.extend_from_slice(&INET);
            text(bytes, TABLE_NAME, table);
        });
        match self.socket.run(batch) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    /// Takes a table away. Whether there was one.
    ///
    /// # Errors
    /// [`Error::Held`] when it is another's.
    pub fn delete_table(&mut self, table: &str) -> Result<bool> {
        match self.act(table, &[Act::Delete]) {
            Ok(()) => Ok(true),
            Err(error) => match error.errno() {
                Some(Errno::ENOENT) => Ok(false),
                Some(Errno::EPERM) => Err(Error::Held { table: format!("inet {table}") }),
                _ => Err(error),
            },
        }
    }

    fn act(&mut self, table: &str, acts: &[Act]) -> Result<()> {
        let mut batch = Batch::new();
        batch.frame(BATCH_BEGIN, 0, "begin", "a transaction".to_owned(), frame_header);
        for act in acts {
            let (kind, flags, doing) = match act {
                Act::Make(_) => (NEWTABLE, NLM_F_CREATE, "take the table"),
                Act::Delete => (DELTABLE, 0, "delete the table"),
            };
            batch.frame(kind, flags, doing, format!("inet {table}"), |bytes| {
                bytes.extend_from_slice(&INET);
                text(bytes, TABLE_NAME, table);
                if let Act::Make(flags) = act {
                    attribute(bytes, TABLE_FLAGS, &flags.to_be_bytes());
                }
            });
        }
        batch.frame(BATCH_END, 0, "end", "a transaction".to_owned(), frame_header);
        batch.framed();
        self.socket.run(batch)
    }
}
