//! Docker's dialects, over HTTP on unix sockets: its protocol of remote network and IPAM drivers, which
//! dockerd speaks, and its Engine API, which its command line does. Each is translated to what netd
//! does for anybody, and there is nothing of them where they are not configured.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use tokio::net::UnixListener;

use crate::{netd::Netd, server};

mod agreed;
mod daemon;
mod default_bridge;
mod engine;
mod http;
pub(crate) mod leaving;
mod one_way;
mod plugin;
mod shared;

/// The sockets of the dialects: files, which outlive whoever listens. dockerd calls whoever has one below
/// `/run/docker/plugins`, also to list volumes, and waits for an answer for 15 s where nobody listens.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Vec<(PathBuf, [u64; 2])>);

impl Sockets {
    /// Notes that somebody listens there.
    fn add(&mut self, path: &Path) {
        self.0.extend(file(path).map(|file| (path.to_owned(), file)));
    }

    /// Takes them away, but for one that is another netd's by now.
    pub(crate) fn remove(self) {
        for (path, own) in self.0 {
            if file(&path) == Some(own)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "the socket stays");
            }
        }
    }
}

/// Which file is at a path.
fn file(path: &Path) -> Option<[u64; 2]> {
    path.symlink_metadata().ok().map(|meta| [meta.dev(), meta.ino()])
}

impl Netd {
    /// Listens where the configuration says, for as long as netd runs. Where it cannot, everybody else
    /// has netd all the same.
    pub(crate) fn start_docker(self: &Rc<Self>) -> Sockets {
        let mut sockets = Sockets::default();
        let config = &self.config;
        if let Some(listener) =
            self.listen_for("docker_plugin", config.docker_plugin.as_deref(), &mut sockets)
        {
            let plugin = plugin::Plugin::new(self.clone());
            plugin.look_for_forgotten();
            tokio::task::spawn_local(http::serve(listener, plugin));
        }
        if let Some(listener) =
            self.listen_for("docker_api", config.docker_api.as_deref(), &mut sockets)
        {
            tokio::task::spawn_local(http::serve(listener, engine::Engine::new(self.clone())));
        }
        sockets
    }

    fn listen_for(
        &self,
        setting: &str,
        path: Option<&Path>,
        sockets: &mut Sockets,
    ) -> Option<UnixListener> {
        let path = path?;
        match listen(path) {
            Ok(listener) => {
                tracing::info!(setting, path = %path.display(), "listening");
                sockets.add(path);
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
