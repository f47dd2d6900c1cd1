//! Where a rule is tried: a host with nothing on it, a driver that was just started there, and the
//! words in which rules speak to it.

use std::{
    fs::{self, File},
    io,
    net::IpAddr,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use cnm::{
    Call, Error, Kind, Result,
    driver::{
        AttachEndpoint, Attached, CheckAttached, DetachEndpoint, GetInfo, Info, NetworkDown,
        NetworkState, NetworkUp, Sync, Synced,
    },
    endpoint::Checked,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Verdict, Why, sandbox::Sandbox, session::Session};
use crate::{args::values::Pair, out};

/// What all rules have in common.
#[derive(Debug)]
pub(crate) struct Machine {
    executable: PathBuf,
    options: Value,
}

impl Machine {
    /// Leaves the host's mounts.
    pub(crate) fn new(executable: &Path, options: &[Pair]) -> Result<Self> {
        if !geteuid().is_root() {
            return Err(Error::new(
                Kind::Denied,
                "trying a driver needs root: it makes namespaces",
            ));
        }
        let executable = executable.canonicalize().map_err(|error| {
            out::system(format_args!("cannot start {}", executable.display()), &error)
        })?;
        let refused =
            |errno: nix::Error| out::system("cannot leave the host's mounts", &errno.into());
        let none: Option<&str> = None;
        let lost = |error: io::Error| out::system("cannot keep the driver in sight", &error);
        unshare(CloneFlags::CLONE_NEWNS).map_err(refused)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(refused)?;
        let file = File::open(&executable).map_err(lost)?;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .map_err(refused)?;
        if executable.starts_with("/run") {
            // It is covered now, and comes through again.
            fs::create_dir_all(executable.parent().unwrap_or_else(|| Path::new("/run")))
                .map_err(lost)?;
            File::create(&executable).map_err(lost)?;
            let source = format!("/proc/self/fd/{}", file.as_raw_fd());
            mount(Some(source.as_str()), &executable, none, MsFlags::MS_BIND, none)
                .map_err(refused)?;
        }
        let options = options.iter().map(|(key, value)| (key.clone(), json!(value)));
        Ok(Self { executable, options: Value::Object(options.collect()) })
    }

    /// A host of its own with the driver on it, told that there is nothing. That it does not come
    /// so far is the driver's fault, but not that there is no host.
    pub(crate) fn stage(&self) -> Result<std::result::Result<Stage, String>> {
        let failed = |error: io::Error| out::system("cannot make a host", &error);
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
        // What /sys shows of the network is what was there for whoever mounted it.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)
            .map_err(|errno| failed(errno.into()))?;
        let home = Sandbox::own().map_err(failed)?;
        home.set_lo_up().map_err(Error::internal)?;
        let session = Session::start(&self.executable).map_err(|error| {
            out::system(format_args!("cannot start {}", self.executable.display()), &error)
        })?;
        let mut stage = Stage {
            executable: self.executable.clone(),
            options: self.options.clone(),
            home,
            session,
            info: None,
        };
        Ok(stage.begin().map(|()| stage).map_err(|why| match why {
            Why::Broken(reason) => reason,
            Why::NotMeant(reason) => reason.to_owned(),
        }))
    }
}

/// A host and the driver on it.
#[derive(Debug)]
pub(crate) struct Stage {
    executable: PathBuf,
    options: Value,
    /// The host.
    pub(crate) home: Sandbox,
    /// The driver.
    pub(crate) session: Session,
    info: Option<Info>,
}

/// An endpoint that was made.
#[derive(Debug)]
pub(crate) struct Placed {
    /// As netd would have it on record.
    pub(crate) endpoint: Value,
    /// What the driver said of it.
    pub(crate) attached: Attached,
}

impl Stage {
    /// What netd does first of all.
    fn begin(&mut self) -> Verdict {
        let info: Info = self.ask(GetInfo::METHOD, &json!({}))?;
        self.info = Some(info);
        let synced = self.sync(&[], &[])?;
        if synced.missing.is_empty() {
            return Ok(());
        }
        Err(format!("driver.sync of nothing misses {:?}", synced.missing).into())
    }

    /// Starts the driver anew and begins again, without telling it anything.
    pub(crate) fn start_again(&mut self) -> Verdict {
        self.session = Session::start(&self.executable)
            .map_err(|error| format!("it cannot be started again: {error}"))?;
        self.ask::<Info>(GetInfo::METHOD, &json!({})).map(drop)
    }

    /// Waits until the driver has done what it left for after its last answer: it has when it
    /// answers again.
    pub(crate) fn settle(&mut self) -> Verdict {
        self.ask::<Info>(GetInfo::METHOD, &json!({})).map(drop)
    }

    /// Who the driver is.
    pub(crate) fn info(&self) -> &Info {
        self.info.as_ref().expect("a stage begins with it")
    }

    /// Passes over drivers whose endpoints have no addresses.
    pub(crate) fn needs_addresses(&self) -> Verdict {
        match self.info().capabilities.addresses {
            true => Ok(()),
            false => Err(Why::NotMeant("its endpoints have no addresses")),
        }
    }

    /// Passes over drivers whose networks have no gateway on the host.
    pub(crate) fn needs_gateway(&self) -> Verdict {
        match self.info().capabilities.gateway {
            true => Ok(()),
            false => Err(Why::NotMeant("its networks have no gateway on the host")),
        }
    }

    /// Passes over drivers of the host's own namespace.
    pub(crate) fn needs_sandboxes(&self) -> Verdict {
        match self.info().capabilities.host_netns {
            false => Ok(()),
            true => Err(Why::NotMeant("its sandboxes are the host's own namespace")),
        }
    }

    /// Calls a method that should succeed.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, method: &str, params: &Value) -> Verdict<T> {
        match self.session.call(method, params)? {
            Ok(result) => serde_json::from_value(result.clone()).map_err(|error| {
                format!("the result of {method} is not as it should be: {error}: {result}").into()
            }),
            Err(error) => Err(format!("{method} is refused: {error}").into()),
        }
    }

    /// Calls a method that should be refused, for one of these reasons.
    pub(crate) fn refused(&mut self, method: &str, params: &Value, kinds: &[Kind]) -> Verdict {
        match self.session.call(method, params)? {
            Err(error) if kinds.contains(&error.kind) => Ok(()),
            Err(error) => Err(format!(
                "{method} is refused as {:?}, and should be as {kinds:?}: {error}",
                error.kind
            )
            .into()),
            Ok(result) => {
                Err(format!("{method} should be refused as {kinds:?}, and gives {result}").into())
            }
        }
    }

    /// A network as netd would hand it over.
    pub(crate) fn network(&self) -> Value {
        let info = self.info();
        let mut network = json!({
            "id": "c0".repeat(32),
            "name": "trial",
            "driver": info.name,
            "created": "2026-03-01T09:30:00.123456789Z",
            "internal": false,
            "predefined": false,
            "options": self.options,
        });
        if info.capabilities.addresses {
            network["subnets"] = json!([{ "subnet": "10.254.7.0/24" }]);
        }
        if info.capabilities.gateway {
            network["subnets"][0]["gateway"] = json!("10.254.7.1");
            network["link"] = json!("br-c0c0c0c0c0c0");
        }
        network
    }

    /// The gateway of [`Stage::network`].
    pub(crate) fn gateway() -> IpAddr {
        [10, 254, 7, 1].into()
    }

    /// The address of the endpoint of this number, from 2 on.
    pub(crate) fn address(number: u8) -> IpAddr {
        [10, 254, 7, number].into()
    }

    /// An endpoint as netd would hand it over, before it is there.
    pub(crate) fn endpoint(&self, number: u8) -> Value {
        let info = self.info();
        let mut endpoint = json!({
            "id": format!("{number:02x}").repeat(32),
            "network": "c0".repeat(32),
            "network_name": "trial",
            "container": { "id": format!("container-{number}") },
            "ifname": "lo",
            "state": "attaching",
            "metric": 0,
            "created": "2026-03-01T09:31:00.000000001Z",
        });
        if info.capabilities.addresses {
            endpoint["ifname"] = json!("eth0");
            endpoint["mac"] = json!(format!("02:c0:00:00:00:{number:02x}"));
            endpoint["addresses"] = json!([format!("{}/24", Self::address(number))]);
        }
        if info.capabilities.gateway {
            endpoint["gateways"] = json!([Self::gateway()]);
        }
        endpoint
    }

    /// A namespace that can be put on the driver's networks.
    pub(crate) fn sandbox(&self) -> Verdict<Sandbox> {
        let made =
            if self.info().capabilities.host_netns { Sandbox::own() } else { Sandbox::new() };
        made.map_err(|error| Why::Broken(format!("cannot make a network namespace: {error}")))
    }

    /// Brings the network up.
    pub(crate) fn up(&mut self) -> Verdict<NetworkState> {
        self.ask(NetworkUp::METHOD, &json!({ "network": self.network() }))
    }

    /// Takes it down.
    pub(crate) fn down(&mut self) -> Verdict {
        self.ask::<Value>(NetworkDown::METHOD, &json!({ "network": self.network() })).map(drop)
    }

    /// Makes an endpoint, of which `change` may want more than usual.
    pub(crate) fn place_with(
        &mut self,
        number: u8,
        sandbox: &Sandbox,
        change: impl FnOnce(&mut Value),
    ) -> Verdict<Placed> {
        let mut endpoint = self.endpoint(number);
        change(&mut endpoint);
        let params = json!({
            "network": self.network(), "endpoint": endpoint, "netns": sandbox.path(),
        });
        let attached: Attached = self.ask(AttachEndpoint::METHOD, &params)?;
        endpoint["state"] = json!("attached");
        endpoint["netns"] = json!(attached.netns);
        if let Some(interface) = &attached.interface {
            endpoint["mac"] = json!(interface.mac);
            endpoint["mtu"] = json!(interface.mtu);
        }
        Ok(Placed { endpoint, attached })
    }

    /// Makes an endpoint.
    pub(crate) fn place(&mut self, number: u8, sandbox: &Sandbox) -> Verdict<Placed> {
        self.place_with(number, sandbox, |_| ())
    }

    /// What a call about an endpoint carries.
    pub(crate) fn about(&self, endpoint: &Value) -> Value {
        json!({ "network": self.network(), "endpoint": endpoint })
    }

    /// Takes an endpoint away.
    pub(crate) fn detach(&mut self, endpoint: &Value) -> Verdict {
        let about = self.about(endpoint);
        self.ask::<Value>(DetachEndpoint::METHOD, &about).map(drop)
    }

    /// What the driver finds wrong with an endpoint.
    pub(crate) fn check(&mut self, endpoint: &Value) -> Verdict<Vec<String>> {
        let about = self.about(endpoint);
        self.ask::<Checked>(CheckAttached::METHOD, &about).map(|checked| checked.differences)
    }

    /// Tells the driver everything.
    pub(crate) fn sync(&mut self, networks: &[Value], endpoints: &[&Value]) -> Verdict<Synced> {
        self.ask(Sync::METHOD, &json!({ "networks": networks, "endpoints": endpoints }))
    }

    /// The names of the host's links.
    pub(crate) fn links(&self) -> Verdict<Vec<String>> {
        Ok(self.home.links()?.into_keys().collect())
    }
}
