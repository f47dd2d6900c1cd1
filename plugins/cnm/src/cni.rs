//! The dialect of the Container Network Interface, versions 0.1.0 to 1.1.0: what a runtime says by
//! environment and standard input, translated to the protocol, and netd's answer translated back.
//!
//! netd knows nothing of it. A network of this dialect is a network of netd's, made by the first
//! ADD on it unless it is there; an attachment is an endpoint, told from others by a label.
//! `docs/cni.md` says what becomes of each key.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Read},
    path::Path,
    process::ExitCode,
};

mod add;
mod addressing;
mod check;
mod config;
mod conflist;
mod delegate;
mod environment;
mod keys;
mod loopback;
mod outcome;
mod refusal;
mod remove;
mod runtime;
mod status;
mod translate;
mod version;

pub use conflist::conflist;
pub use translate::LABEL;

use crate::{
    Kind,
    client::Client,
    driver::{Driver, Info},
    endpoint::{Endpoint, ListEndpoints},
    plugin::{answer, front},
};
use config::Header;
use environment::{Attachment, Environment, Verb};
use refusal::{Refusal, Result};
use version::Version;

/// Whether a runtime of this dialect executed the program.
pub fn is_asked() -> bool {
    env::var_os("CNI_COMMAND").is_some_and(|command| !command.is_empty())
}

/// What the program is, for who executes it and asks nothing: the words are the reference plugins',
/// which some look for.
pub fn banner(info: &Info) -> String {
    format!(
        "CNI netd-{} plugin v{}\nCNI protocol versions supported: {}",
        info.name,
        info.version,
        Version::texts().join(", ")
    )
}

/// Does what the environment and standard input ask for. The exit code is 0 or 1; an error's number
/// is in the document on standard output.
pub fn main(driver: impl Driver) -> ExitCode {
    let program = env::args_os().next().unwrap_or_default();
    let role = Role::of(&program, &driver.info().name);
    let environment = Environment::read(|name| env::var_os(name));
    let input = io::stdin();
    let mut text = Vec::new();
    // Whoever tries it by hand and has said too little is not waited for.
    let read = match &environment {
        Err(_) if input.is_terminal() => Ok(0),
        _ => input.lock().read_to_end(&mut text),
    };
    let outcome = environment.and_then(|environment| {
        let read = read.map(|_| text.as_slice());
        run(driver, role, &environment, read)
    });
    match outcome {
        Ok(text) => answer(&text, ExitCode::SUCCESS),
        Err(refusal) => answer(&refusal.to_text(Version::asked_in(&text)), ExitCode::FAILURE),
    }
}

/// As whom the program was executed: the runtime finds it by the `type` of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The driver's own.
    Network,
    /// The loopback interface of one container, which is nobody's network.
    Loopback,
}

impl Role {
    /// Names of programs and who answers to them. Whoever else is to be answered for has its place
    /// here.
    const NAMES: [(&'static str, Self); 2] =
        [("loopback", Self::Loopback), ("netd-loopback", Self::Loopback)];

    fn of(program: &OsString, driver: &str) -> Self {
        let name = Path::new(program).file_name().and_then(|name| name.to_str());
        Self::named(name.unwrap_or(driver)).unwrap_or(Self::Network)
    }

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(other, _)| *other == name).map(|(_, role)| *role)
    }
}

/// What one verb needs.
struct Call<'a, D> {
    driver: D,
    role: Role,
    environment: &'a Environment,
    header: &'a Header,
    /// The configuration as it came, for those who are asked in turn.
    text: &'a [u8],
}

fn run(
    driver: impl Driver,
    role: Role,
    environment: &Environment,
    read: io::Result<&[u8]>,
) -> Result<String> {
    if environment.verb == Verb::Version {
        return Ok(status::versions(read.unwrap_or_default()));
    }
    let text = read.map_err(|error| {
        Refusal::new(Refusal::INPUT, format_args!("cannot read the network configuration: {error}"))
    })?;
    let header = Header::parse(text, environment.verb)?;
    let needed = match environment.verb {
        Verb::Check => Version::V0_4_0,
        Verb::Gc | Verb::Status => Version::V1_1_0,
        _ => Version::V0_1_0,
    };
    if header.version < needed {
        return Err(Refusal::new(
            Refusal::VERSION,
            format_args!(
                "cniVersion {} has no {}, which came with {needed}",
                header.version,
                environment.verb.as_str()
            ),
        ));
    }
    let role = match role {
        Role::Network => header.kind.as_deref().and_then(Role::named).unwrap_or(role),
        role => role,
    };
    let call = Call { driver, role, environment, header: &header, text };
    match (call.role, environment.verb) {
        (_, Verb::Version) => Ok(status::versions(text)),
        (Role::Loopback, _) => loopback::answer(call),
        (Role::Network, Verb::Add) => add::add(&call),
        (Role::Network, Verb::Check) => check::check(&call),
        (Role::Network, Verb::Del) => remove::del(&call),
        (Role::Network, Verb::Gc) => remove::gc(&call),
        (Role::Network, Verb::Status) => status::status(&call),
    }
}

impl<D: Driver> Call<'_, D> {
    /// Whether the driver gives containers an interface of their own.
    fn has_interfaces(&self) -> bool {
        self.driver.info().capabilities.addresses
    }

    /// The endpoint that netd has for the attachment.
    fn endpoint(&self, client: &mut Client) -> Result<Option<Endpoint>> {
        let attachment = self.attachment()?;
        let list = ListEndpoints {
            network: Some(translate::exactly(&self.header.name)),
            container: Some(translate::exactly(attachment.container.as_str())),
        };
        let found = match client.call(&list) {
            Err(error) if error.kind == Kind::NotFound => return Ok(None),
            found => found?.endpoints,
        };
        let has_interfaces = self.has_interfaces();
        let meant = |e: &Endpoint| !has_interfaces || e.ifname == attachment.ifname;
        Ok(found.into_iter().find(meant))
    }
}

impl<'a, D> Call<'a, D> {
    /// The attachment that the verb is about.
    fn attachment(&self) -> Result<&'a Attachment> {
        self.environment.attachment.as_ref().ok_or_else(|| {
            Refusal::new(Refusal::ENVIRONMENT, "CNI_CONTAINERID and CNI_IFNAME are not set")
        })
    }
}

/// A connection to netd.
fn connect() -> crate::Result<Client> {
    Client::connect(&front::socket())
}

#[cfg(test)]
mod tests;
