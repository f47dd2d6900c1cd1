//! The main of a driver's executable: one binary with two ends.
//!
//! What begins with `driver.` comes from netd and is done here; everything else comes from a
//! runtime and is handed to netd, so that whoever executes a plugin speaks to the one daemon.

use std::{
    env,
    io::{self, BufRead, Read, Write},
    process::ExitCode,
    thread,
};

use serde::Serialize;
use serde_json::value::RawValue;

pub(crate) mod front;
pub(crate) mod held;
pub(crate) mod making;
mod teller;

pub use teller::Teller;

use crate::{
    Call, DEFAULT_SOCKET, Empty, Error, Incoming, Kind, Reply, Result, cni,
    driver::{
        AttachEndpoint, CheckAttached, DetachEndpoint, Driver, FindDelivered, GetInfo, Info,
        NetworkDown, NetworkUp, PlanEndpoint, PublishPorts, Sync, Uninstall,
    },
    frame::{self, Lines, MAX_LINE, MAX_TRUSTED_LINE},
    message::{self, Batch},
    netavark::{self, drop_in::Program},
    peers::ChangePeers,
};
use front::Front;

// The allocator of musl is slow where a session's requests are answered.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Answers the requests on standard input until it ends. The exit code is that of the last
/// request's error kind (`docs/protocol.md`), 0 when it succeeded.
///
/// Executed as a runtime of the Container Network Interface does, or as Podman and netavark do, it
/// speaks their dialect instead; under the name of netavark itself it stands in its place.
pub fn main(mut driver: impl Driver) -> ExitCode {
    if let Some(program) = Program::executed() {
        return netavark::drop_in::main(program);
    }
    if cni::is_asked() {
        return cni::main(driver);
    }
    if let Some(verb) = netavark::verb() {
        return netavark::main(driver, &verb);
    }
    if env::args_os().len() > 1 {
        let Info { name, options, .. } = driver.info();
        eprintln!(
            "netd-{name} takes no arguments: it reads requests on standard input, one JSON-RPC \
             document per line, and answers on standard output. Those of a runtime it hands to \
             netd at NETD_SOCKET, or {DEFAULT_SOCKET}."
        );
        eprint!("{}", options.unwrap_or_default().to_text());
        return ExitCode::from(Kind::Invalid.exit_code());
    }
    let mut input = io::BufReader::new(io::stdin().lock());
    if input.fill_buf().is_ok_and(<[u8]>::is_empty) {
        eprintln!("{}", cni::banner(&driver.info()));
        return ExitCode::SUCCESS;
    }
    driver.attend(Teller::of_session());
    // Not locked for good: what is told unasked goes the same way, a line at a time.
    match serve(driver, input, io::stdout()) {
        Ok(code) => ExitCode::from(code),
        // Nobody waits for the answer any more: netd has ended, and so does its session.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot read requests or write answers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what a dialect answers, unless that is nothing, and gives the exit code that goes with it.
pub(crate) fn answer(text: &str, code: ExitCode) -> ExitCode {
    if text.is_empty() {
        return code;
    }
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => code,
        Err(error) => {
            eprintln!("cannot write the answer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As [`main`], on any input and output; gives the exit code.
pub fn serve(mut driver: impl Driver, input: impl Read, mut output: impl Write) -> io::Result<u8> {
    let mut lines = Lines::with_limit(input, MAX_TRUSTED_LINE);
    let mut front = Front::from_environment();
    let mut code = 0;
    while let Some(line) = lines.next_line()? {
        let split = line.and_then(|text| Incoming::split(text).map_err(|why| unread(text, why)));
        let answer = match split {
            Err(error) => {
                code = error.kind.exit_code();
                Some(Reply::<Empty>::new(None, Err(error)).to_text())
            }
            Ok(Batch::One(text)) => one(&mut driver, &mut front, text, &mut code),
            Ok(Batch::Many(texts)) => {
                let answers: Vec<_> = texts
                    .into_iter()
                    .filter_map(|text| one(&mut driver, &mut front, text, &mut code))
                    .collect();
                (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
            }
        };
        if let Some(mut answer) = answer {
            answer.push('\n');
            output.write_all(answer.as_bytes())?;
            output.flush()?;
            // Who was answered goes first: it may have been woken on this very processor, where it
            // would wait for what is left to do here.
            thread::yield_now();
        }
        driver.after_answer();
    }
    Ok(code)
}

/// Why a line cannot be read: that it is too long comes first, since nobody but netd says so much at
/// once, and what that says can be read.
fn unread(text: &str, why: Error) -> Error {
    if text.len() > MAX_LINE { frame::too_long() } else { why }
}

/// The answer to one document, unless it is a notification.
fn one(driver: &mut impl Driver, front: &mut Front, text: &str, code: &mut u8) -> Option<String> {
    let (id, outcome) = match Incoming::parse(text) {
        Err(error) => (None, Err(unread(text, error))),
        Ok(request) => {
            let id = request.id.clone();
            let outcome = if request.method.starts_with("driver.") {
                dispatch(driver, &request)
            } else if text.len() > MAX_LINE {
                Err(frame::too_long())
            } else {
                front.forward(text, &request)
            };
            id.as_ref()?;
            (id, outcome)
        }
    };
    *code = outcome.as_ref().err().map_or(0, |error| error.kind.exit_code());
    Some(Reply::new(id, outcome).to_text())
}

fn dispatch(driver: &mut impl Driver, request: &Incoming<'_>) -> Result<Box<RawValue>> {
    match request.method.as_ref() {
        GetInfo::METHOD => raw(&driver.info()),
        NetworkUp::METHOD => raw(&driver.network_up(&request.params::<NetworkUp>()?.network)?),
        NetworkDown::METHOD => {
            driver.network_down(&request.params::<NetworkDown>()?.network)?;
            raw(&Empty {})
        }
        AttachEndpoint::METHOD => {
            let AttachEndpoint { network, endpoint, netns } = request.params()?;
            raw(&driver.attach(&network, &endpoint, &netns)?)
        }
        PublishPorts::METHOD => {
            let PublishPorts { network, endpoint, instead_of } = request.params()?;
            driver.publish(&network, &endpoint, &instead_of)?;
            raw(&Empty {})
        }
        DetachEndpoint::METHOD => {
            let DetachEndpoint { network, endpoint, netns, stays } = request.params()?;
            if let Some(path) = &netns {
                driver.leave_inside(path, endpoint.netns.map(|own| own.cookie));
            }
            driver.detach(&network, &endpoint)?;
            if stays {
                driver.see_off(&endpoint);
            }
            raw(&Empty {})
        }
        FindDelivered::METHOD => {
            let FindDelivered { network, endpoint } = request.params()?;
            raw(&driver.delivered(&network, &endpoint)?)
        }
        CheckAttached::METHOD => {
            let CheckAttached { network, endpoint, netns } = request.params()?;
            raw(&driver.check(&network, &endpoint, netns.as_deref())?)
        }
        PlanEndpoint::METHOD => {
            let PlanEndpoint { network, endpoint } = request.params()?;
            raw(&driver.plan(&network, &endpoint)?)
        }
        Uninstall::METHOD => raw(&driver.uninstall(request.params::<Uninstall>()?)?),
        Sync::METHOD => raw(&driver.sync(&request.params::<Sync>()?)?),
        ChangePeers::METHOD => raw(&driver.peers(&request.params::<ChangePeers>()?)?),
        method => Err(Error::unsupported(format_args!(
            "the driver {} has no method {method}",
            driver.info().name
        ))
        .with("method", method)),
    }
}

fn raw(reply: &impl Serialize) -> Result<Box<RawValue>> {
    RawValue::from_string(message::line(reply)).map_err(Error::internal)
}

#[cfg(test)]
mod tests;
