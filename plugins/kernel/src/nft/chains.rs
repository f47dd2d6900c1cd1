//! Chains and rules of other programs, as far as one has to know of them: where a packet can be
//! dropped, and whether a rule that says so much is there.

use netlink_packet_core::NLM_F_DUMP;
use nix::{errno::Errno, libc};

use super::{
    ALL_FAMILIES, BATCH_BEGIN, BATCH_END, CHAIN_HOOK, CHAIN_NAME, CHAIN_TABLE, GETRULE,
    HOOK_NUMBER, NEWCHAIN, NEWRULE, Nft, RULE_CHAIN, RULE_TABLE, SUBSYSTEM, attribute,
    frame_header, text,
};
use crate::{
    Result,
    netlink::{Attributes, Batch, Received, read_u32},
};

const GETCHAIN: u16 = SUBSYSTEM << 8 | 4;
const CHAIN_POLICY: u16 = 5;
const RULE_HANDLE: u16 = 3;
const DELRULE: u16 = SUBSYSTEM << 8 | 8;

/// Where in the kernel a chain is asked (`enum nf_inet_hooks`, linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What comes to the host itself.
    Input,
    /// What goes through the host.
    Forward,
    /// Another one.
    Other,
}

/// A chain of anybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its table's family, as nftables spells it; none of those that netd has nothing to do with.
    pub family: Option<&'static str>,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is asked, where it is a base chain.
    pub hook: Option<Hook>,
    /// Whether what none of its rules speaks of is dropped.
    pub drops: bool,
}

impl Chain {
    fn parse(message: Received<'_>) -> Option<Self> {
        /// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`, `NF_DROP`.
        const INPUT: u32 = 1;
        const FORWARD: u32 = 2;
        const DROP: u32 = 0;
        if message.kind != NEWCHAIN {
            return None;
        }
        let attributes = Attributes(message.payload.get(4..)?);
        let name = |kind| {
            let bytes = attributes.value(kind)?;
            Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
        };
        let number = |bytes: &[u8]| read_u32(bytes).map(u32::from_be);
        let hook = attributes.value(CHAIN_HOOK).and_then(|hook| {
            Some(match number(Attributes(hook).value(HOOK_NUMBER)?)? {
                INPUT => Hook::Input,
                FORWARD => Hook::Forward,
                _ => Hook::Other,
            })
        });
        Some(Self {
            family: match i32::from(*message.payload.first()?) {
                libc::NFPROTO_INET => Some("inet"),
                libc::NFPROTO_IPV4 => Some("ip"),
                libc::NFPROTO_IPV6 => Some("ip6"),
                _ => None,
            },
            table: name(CHAIN_TABLE)?,
            name: name(CHAIN_NAME)?,
            hook,
            drops: attributes.value(CHAIN_POLICY).and_then(number) == Some(DROP),
        })
    }
}

fn family_number(family: &str) -> u8 {
    let number = match family {
        "ip" => libc::NFPROTO_IPV4,
        "ip6" => libc::NFPROTO_IPV6,
        _ => libc::NFPROTO_INET,
    };
    u8::try_from(number).unwrap_or(0)
}

impl Nft {
    /// All chains of all tables.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn chains(&mut self) -> Result<Vec<Chain>> {
        let mut batch = Batch::new();
        batch.frame(GETCHAIN, NLM_F_DUMP, "list", "chains".to_owned(), |bytes| {
            bytes.extend_from_slice(&ALL_FAMILIES);
        });
        self.socket.dump_frame(batch, Chain::parse)
    }

    /// The handles of rules that have these bytes anywhere: the text of a comment, or the name of a
    /// link. Of all chains of the table when none is given.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn rules_with(
        &mut self,
        family: &str,
        table: &str,
        chain: Option<&str>,
        bytes: &[u8],
    ) -> Result<Vec<u64>> {
        let mut batch = Batch::new();
        batch.frame(GETRULE, NLM_F_DUMP, "list the rules of", table.to_owned(), |message| {
            message.extend_from_slice(&[family_number(family), 0, 0, 0]);
            text(message, RULE_TABLE, table);
            if let Some(chain) = chain {
                text(message, RULE_CHAIN, chain);
            }
        });
        let handle = |message: Received<'_>| {
            let says = message.payload.windows(bytes.len()).any(|window| window == bytes);
            let attributes = Attributes(message.payload.get(4..)?);
            let handle = attributes.value(RULE_HANDLE)?.try_into().ok()?;
            (message.kind == NEWRULE && says).then(|| u64::from_be_bytes(handle))
        };
        match self.socket.dump_frame(batch, handle) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
            found => found,
        }
    }

    /// Deletes rules of a chain by their handles.
    ///
    /// # Errors
    /// What the kernel refuses; then none was deleted.
    pub fn delete_rules(
        &mut self,
        family: &str,
        table: &str,
        chain: &str,
        handles: &[u64],
    ) -> Result<()> {
        if handles.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.frame(BATCH_BEGIN, 0, "begin", "a transaction".to_owned(), frame_header);
        for handle in handles {
            let what = format!("{handle} of {family} {table} {chain}");
            batch.frame(DELRULE, 0, "delete the rule", what, |bytes| {
                bytes.extend_from_slice(&[family_number(family), 0, 0, 0]);
                text(bytes, RULE_TABLE, table);
                text(bytes, RULE_CHAIN, chain);
                attribute(bytes, RULE_HANDLE, &handle.to_be_bytes());
            });
        }
        batch.frame(BATCH_END, 0, "end", "a transaction".to_owned(), frame_header);
        batch.framed();
        self.socket.run(batch)
    }
}
