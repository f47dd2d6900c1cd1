//! The container networking daemon. See `ARCHITECTURE.md` for how its parts meet.

mod attach;
mod awake;
mod clock;
mod cluster;
mod config;
mod crowding;
mod detach;
mod docker;
mod drivers;
mod host;
mod intrusions;
mod metrics;
mod names;
mod netd;
mod networks;
mod notify;
mod pools;
mod precedence;
mod processes;
mod reconcile;
mod registry;
mod relay;
mod sandboxes;
mod server;
mod store;

use std::{process::ExitCode, rc::Rc};

use clap::Parser;
use tokio::{
    runtime::{self, LocalOptions},
    signal::unix::{SignalKind, signal},
};

use config::{Arguments, Config};
use netd::Netd;

// An attach makes some hundreds of short texts and lists: with the C library's it takes 5 % longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match Config::load(Arguments::parse()) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    let filter = tracing_subscriber::filter::LevelFilter::from_level(config.log_level);
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_writer(std::io::stderr)
        .with_max_level(filter)
        .init();
    let runtime = match runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("netd: {error}");
    ExitCode::FAILURE
}

/// From the stores to a daemon that answers, until it is asked to end.
async fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if !processes::may_administer_the_network() {
        return Err("netd makes links and rules: run it as root, or with CAP_NET_ADMIN".into());
    }
    let stores = store::Stores::open(&config.state_dir, &config.run_dir)?;
    let (host, deaths) = host::Host::open()?;
    host.be_alone()?;
    host.stay(&stores, &config.run_dir).await?;
    let inherited = notify::inherited()?;
    let listener = match inherited.listener {
        Some(listener) => listener,
        None => server::listen(&config.run_dir.join("netd.sock"))?,
    };
    let resolver = names::Resolver::start(&config, inherited.sockets)?;
    let metrics_socket = config.run_dir.join("metrics.sock");
    let netd = Netd::new(config, stores, resolver, host);
    if let Err(error) = netd.open_cluster().await {
        // What is of this host alone does without.
        tracing::error!(%error, "the cluster is not opened");
        netd.problems.borrow_mut().insert("cluster".to_owned(), error.to_string());
    }
    netd.remember(netd.stores.load()?)?;
    tokio::task::spawn_local(Netd::follow_deaths(Rc::downgrade(&netd), deaths));
    netd.recall_networks();
    netd.resolve_first();
    netd.bring_up().await;
    netd.start_cluster().await;
    let scrapes = netd.clone();
    tokio::task::spawn_local(async move {
        if let Err(error) = scrapes.serve_metrics(&metrics_socket).await {
            tracing::error!(%error, "no metrics at {}", metrics_socket.display());
        }
    });
    tokio::task::spawn_local(netd.clone().serve(listener));
    let sockets = netd.start_docker();
    notify::ready()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending; networks and endpoints stay as they are");
    notify::stopping()?;
    sockets.remove();
    netd.finish_resolving();
    Ok(())
}
