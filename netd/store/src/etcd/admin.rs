//! What etcd is asked about itself: members, users and their rights, room.

use std::{future::Future, sync::PoisonError, time::Duration};

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, MemberAddOptions, Permission,
    UserAddOptions,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Again, Etcd, EtcdOptions, failure, wire};
use crate::{Error, Keys, Result};

/// The time of an operation that rewrites a member's file.
const DEFRAGMENT: Duration = Duration::from_secs(60);

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// Whether it only follows and has no vote yet.
    pub learner: bool,
}

impl From<&etcd_client::Member> for Member {
    fn from(member: &etcd_client::Member) -> Self {
        Self {
            id: member.id(),
            name: member.name().to_owned(),
            peer_urls: member.peer_urls().to_vec(),
            client_urls: member.client_urls().to_vec(),
            learner: member.is_learner(),
        }
    }
}

/// How one member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its URL.
    pub endpoint: String,
    /// Its version.
    pub version: String,
    /// Its number.
    pub member: u64,
    /// The leader's number; 0 when it knows none.
    pub leader: u64,
    /// Raft's term.
    pub term: u64,
    /// The store's revision, as far as this member has come.
    pub revision: u64,
    /// Bytes of its file.
    pub size: u64,
    /// Bytes of it that are in use.
    pub used: u64,
    /// What it complains of, such as an alarm.
    pub errors: Vec<String>,
}

/// What may be done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// One right of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub access: Access,
    /// With which keys.
    pub keys: Keys,
}

impl Grant {
    fn permission(&self) -> Permission {
        let (key, end) = wire::range(&self.keys);
        let permission = match self.access {
            Access::Read => Permission::read(key),
            Access::ReadWrite => Permission::read_write(key),
        };
        match end {
            Some(end) => permission.with_range_end(end),
            None => permission,
        }
    }
}

/// The time of a change of members, which waits for the others.
const MEMBERS: Duration = Duration::from_secs(7);

impl Etcd {
    /// All members.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let ask = |client: Client| async move { client.cluster_client().member_list().await };
        let answer = self.call(Again::Yes, ask).await?;
        Ok(answer.members().iter().map(Member::from).collect())
    }

    /// Adds a member that only follows, to be promoted when it has caught up.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is one already, or when there is another learner; when etcd is
    /// away or refuses.
    pub async fn add_learner(&self, peer_url: &str) -> Result<Member> {
        let endpoint = || self.current().1.url;
        let added = self
            .slowly(MEMBERS, |client| async move {
                let options = MemberAddOptions::new().with_is_learner();
                client.cluster_client().member_add([peer_url.to_owned()], Some(options)).await
            })
            .await?;
        let why = || "it added a member without saying which".to_owned();
        let member = added.member().map(Member::from);
        member.ok_or_else(|| Error::Refused { endpoint: endpoint(), why: why() })
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// [`Error::Refused`] until it has caught up, and when it has its vote already; when etcd is
    /// away or refuses.
    pub async fn promote(&self, member: u64) -> Result<()> {
        let ask =
            |client: Client| async move { client.cluster_client().member_promote(member).await };
        self.slowly(MEMBERS, ask).await.map(drop)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is none, and when the others would have no majority; when etcd
    /// is away or refuses.
    pub async fn remove_member(&self, member: u64) -> Result<()> {
        let ask =
            |client: Client| async move { client.cluster_client().member_remove(member).await };
        self.slowly(MEMBERS, ask).await.map(drop)
    }

    /// From now on it is reached at those of `members` that have started and have a vote, `but` one;
    /// as before where there are none. Connections that are there are kept.
    ///
    /// # Errors
    /// As [`Etcd::connect`].
    pub async fn reach(&self, members: &[Member], but: Option<u64>) -> Result<()> {
        let voters = members.iter().filter(|member| !member.learner && Some(member.id) != but);
        let endpoints: Vec<String> = voters.flat_map(|member| member.client_urls.clone()).collect();
        if endpoints.is_empty() || endpoints == self.endpoints() {
            return Ok(());
        }
        let tls = self.way.read().unwrap_or_else(PoisonError::into_inner).tls.clone();
        self.reconnect(EtcdOptions { endpoints, tls }).await
    }

    /// How each endpoint is, with its URL.
    pub async fn statuses(&self) -> Vec<(String, Result<Status>)> {
        let mut statuses = Vec::new();
        for member in self.all().iter() {
            let mut client = member.client.maintenance_client();
            let status = match timeout(super::PATIENCE, client.status()).await {
                Ok(Ok(status)) => {
                    let (_, revision) = wire::era(status.header());
                    Ok(Status {
                        endpoint: member.url.clone(),
                        version: status.version().to_owned(),
                        member: status.header().map_or(0, |header| header.member_id()),
                        leader: status.leader(),
                        term: status.raft_term(),
                        revision,
                        size: u64::try_from(status.db_size()).unwrap_or(0),
                        used: u64::try_from(status.raft_used_db_size()).unwrap_or(0),
                        errors: status.errors().to_vec(),
                    })
                }
                Ok(Err(error)) => Err(failure::of(&member.url, &error)),
                Err(_) => Err(Error::Unavailable {
                    endpoint: member.url.clone(),
                    why: "no answer".to_owned(),
                    sent: false,
                }),
            };
            statuses.push((member.url.clone(), status));
        }
        statuses
    }

    /// Whether a member is out of room, so that none takes writes: what the one that is asked knows
    /// of that.
    ///
    /// # Errors
    /// When etcd is away.
    pub async fn is_full(&self) -> Result<bool> {
        let ask = |client: Client| async move { client.maintenance_client().status().await };
        let status = self.call(Again::Yes, ask).await?;
        Ok(status.errors().iter().any(|error| error.contains("NOSPACE")))
    }

    /// The numbers of the members that are out of room.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn full_members(&self) -> Result<Vec<u64>> {
        let ask = |client: Client| async move {
            let mut client = client.maintenance_client();
            client.alarm(AlarmAction::Get, AlarmType::None, None).await
        };
        let answer = self.call(Again::Yes, ask).await?;
        let full = answer.alarms().iter().filter(|alarm| alarm.alarm() == AlarmType::Nospace);
        Ok(full.map(|alarm| alarm.member_id()).collect())
    }

    /// Takes the alarm of all members that are out of room away; a member that still is raises it
    /// again.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn disarm(&self) -> Result<()> {
        for member in self.full_members().await? {
            let ask = |client: Client| async move {
                let mut options = AlarmOptions::new();
                options.with_member(member);
                let mut client = client.maintenance_client();
                client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options)).await
            };
            self.call(Again::Yes, ask).await?;
        }
        Ok(())
    }

    /// Helps members that are out of room: forgets all history before `revision`, gives the room
    /// back, disarms the alarm.
    ///
    /// # Errors
    /// [`Error::Future`]; when etcd is away or refuses.
    pub async fn make_room(&self, revision: u64) -> Result<()> {
        let compact = |client: Client| async move {
            let options = CompactionOptions::new().with_physical();
            client.kv_client().compact(wire::signed(revision), Some(options)).await
        };
        match self.slowly(DEFRAGMENT, compact).await {
            Ok(_) | Err(Error::Compacted { .. }) => {}
            Err(error) => return Err(failure::at(error, Some(revision))),
        }
        self.defragment().await?;
        self.disarm().await
    }

    /// Gives the room that was compacted away back, member by member. Each stands still meanwhile.
    ///
    /// # Errors
    /// That of the first member that failed.
    pub async fn defragment(&self) -> Result<()> {
        for member in self.all().iter() {
            let mut client = member.client.maintenance_client();
            match timeout(DEFRAGMENT, client.defragment()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(failure::of(&member.url, &error)),
                Err(_) => {
                    let (endpoint, why) = (member.url.clone(), "it takes too long".to_owned());
                    return Err(Error::Unavailable { endpoint, why, sent: true });
                }
            }
        }
        Ok(())
    }

    /// Makes rights count: from now on every caller is who its certificate names. Needs the user
    /// `root` with the role `root`.
    ///
    /// # Errors
    /// [`Error::Refused`] without that user; when etcd is away or refuses.
    pub async fn enable_auth(&self) -> Result<()> {
        let ask = |client: Client| async move { client.auth_client().auth_enable().await };
        self.call(Again::Yes, ask).await.map(drop)
    }

    /// A user of this name who has these roles and no password: only a certificate can name him.
    /// One who is there is kept.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn add_user(&self, name: &str, roles: &[&str]) -> Result<()> {
        let add = |client: Client| async move {
            let options = UserAddOptions::new().with_no_pwd();
            client.auth_client().user_add(name, "", Some(options)).await
        };
        already(self.call(Again::Yes, add).await.map(drop))?;
        for role in roles {
            let grant = |client: Client| async move {
                client.auth_client().user_grant_role(name, *role).await
            };
            already(self.call(Again::Yes, grant).await.map(drop))?;
        }
        Ok(())
    }

    /// Removes a user; one who is not there is removed.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn remove_user(&self, name: &str) -> Result<()> {
        let ask = |client: Client| async move { client.auth_client().user_delete(name).await };
        already(self.call(Again::Yes, ask).await.map(drop))
    }

    /// A role with these rights. One that is there gets those that it lacks.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn add_role(&self, name: &str, grants: &[Grant]) -> Result<()> {
        let add = |client: Client| async move { client.auth_client().role_add(name).await };
        already(self.call(Again::Yes, add).await.map(drop))?;
        for grant in grants {
            let permission = grant.permission();
            let give = |client: Client| {
                let permission = permission.clone();
                async move { client.auth_client().role_grant_permission(name, permission).await }
            };
            self.call(Again::Yes, give).await?;
        }
        Ok(())
    }

    /// Removes a role; one that is not there is removed.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn remove_role(&self, name: &str) -> Result<()> {
        let ask = |client: Client| async move { client.auth_client().role_delete(name).await };
        already(self.call(Again::Yes, ask).await.map(drop))
    }

    /// As [`Etcd::call`], for what may take longer and is asked of one member only.
    async fn slowly<T, F>(&self, time: Duration, ask: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let deadline = Instant::now() + time;
        loop {
            let (number, member) = self.current();
            let error = match timeout_at(deadline, ask(member.client.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => failure::of(&member.url, &error),
                Err(_) => Error::Unavailable {
                    endpoint: member.url.clone(),
                    why: format!("no answer within {} s", time.as_secs()),
                    sent: true,
                },
            };
            if super::was_overtaken(&error, deadline).await {
                continue;
            }
            if error.is_away() {
                self.leave(number);
            }
            return Err(error);
        }
    }
}

/// What is as it was to be is no error.
fn already(done: Result<()>) -> Result<()> {
    const AS_ASKED: [&str; 5] = [
        "user name already exists",
        "role name already exists",
        "user name not found",
        "role name not found",
        "role is already granted",
    ];
    match done {
        Err(Error::Refused { why, .. }) if AS_ASKED.iter().any(|said| why.contains(said)) => Ok(()),
        done => done,
    }
}
