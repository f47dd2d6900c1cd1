//! The command line of netd: it parses what is asked, asks netd, and prints the answer.

mod args;
mod attach;
mod cluster;
mod cni;
mod compose;
mod dns;
mod docker;
mod driver;
mod endpoint;
mod events;
mod ipam;
mod network;
mod out;
mod pages;
mod podman;
mod replace;
mod run;
mod sandbox;
mod status;
mod table;
mod uninstall;

use std::{env, process::ExitCode};

use clap::Parser as _;

use args::{Cli, Command};
use out::{Outcome, Stop};

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|word| word == run::init::WORD) {
        return run::init::main();
    }
    match dispatch(Cli::parse()) {
        Ok(code) => code,
        Err(Stop::Failed(error)) => {
            out::complain(&error);
            ExitCode::from(error.kind.exit_code())
        }
        Err(Stop::Unread) => ExitCode::from(out::SIGPIPE),
    }
}

fn dispatch(Cli { socket, command }: Cli) -> Outcome {
    match command {
        Command::Network { command } => network::network(&socket, command),
        Command::Attach(args) => attach::attach(&socket, args),
        Command::Detach(args) => attach::detach(&socket, args),
        Command::Run(args) => run::run(&socket, args),
        Command::Sandbox { command } => sandbox::sandbox(&socket, command),
        Command::Endpoint { command } => endpoint::endpoint(&socket, command),
        Command::Ipam { command } => ipam::ipam(&socket, &command),
        Command::Dns { command } => dns::dns(&socket, command),
        Command::Driver { command } => driver::driver(&command),
        Command::Cni { command } => cni::cni(&socket, command),
        Command::Podman { command } => podman::podman(&socket, &command),
        Command::Docker { command } => docker::docker(&command),
        Command::Apply(args) => compose::apply(&socket, &args),
        Command::Down(args) => compose::down(&socket, &args),
        Command::Cluster { command } => cluster::cluster(&socket, command),
        Command::Node { command } => cluster::node(&socket, command),
        Command::Events(format) => events::events(&socket, format),
        Command::Status(format) => status::status(&socket, format),
        Command::Reconcile(format) => status::reconcile(&socket, format),
        Command::Gc(format) => status::gc(&socket, format),
        Command::Uninstall(args) => uninstall::uninstall(&socket, &args),
        Command::Version(format) => status::version(&socket, format),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { out } => pages::man(&out),
    }
}
