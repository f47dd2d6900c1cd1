//! Docker's dialects, over HTTP on unix sockets: its protocol of remote network and IPAM drivers, which
//! dockerd speaks, and its Engine API, which its command line does. Each is translated to what netd
//! does for anybody, and there is nothing of them where they are not configured.

use std::{fs, io, path::Path, rc::Rc};

use tokio::net::UnixListener;

use crate::{netd::Netd, server};

mod daemon;
mod default_bridge;
mod engine;
mod http;
mod one_way;
mod plugin;
mod shared;

impl Netd {
    /// Listens where the configuration says, for as long as netd runs. Where it cannot, everybody else
    /// has netd all the same.
    pub(crate) fn start_docker(self: &Rc<Self>) {
        let config = &self.config;
        if let Some(listener) = self.listen_for("docker_plugin", config.docker_plugin.as_deref()) {
            let plugin = plugin::Plugin::new(self.clone());
            plugin.look_for_forgotten();
            tokio::task::spawn_local(http::serve(listener, plugin));
        }
        if let Some(listener) = self.listen_for("docker_api", config.docker_api.as_deref()) {
            tokio::task::spawn_local(http::serve(listener, engine::Engine::new(self.clone())));
        }
    }

    fn listen_for(&self, setting: &str, path: Option<&Path>) -> Option<UnixListener> {
        let path = path?;
        match listen(path) {
            Ok(listener) => {
                tracing::info!(setting, path = %path.display(), "listening");
                Some(listener)
            }
            Err(error) => {
                let why = format!("cannot listen at {} ({setting}): {error}", path.display());
                tracing::error!("{why}");
                self.problems.borrow_mut().insert(setting.to_owned(), why);
                None
            }
        }
    }
}

/// As netd's own socket; dockerd looks in a directory that may not be there yet.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    server::listen(path)
}
