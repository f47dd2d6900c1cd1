//! What dockerd itself tells over its own socket, where it can be read: who is on a network, what its
//! containers are called, and on which links its networks are.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use ipnetwork::IpNetwork;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::UnixStream,
};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read: some ten thousand containers.
const MAX_ANSWER: u64 = 8 << 20;

/// A network, as far as it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Network {
    /// What people call it.
    #[serde(rename = "Name", default)]
    pub(super) name: String,
    /// Those of its containers that run, by their ids.
    #[serde(rename = "Containers", default)]
    pub(super) containers: BTreeMap<String, Member>,
}

/// A container on a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Member {
    /// What people call it.
    #[serde(rename = "Name", default)]
    pub(super) name: String,
    /// What Docker calls the two of them.
    #[serde(rename = "EndpointID", default)]
    pub(super) endpoint: String,
}

/// A container, as far as it is needed.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Named {
    /// What people call it, after a slash.
    #[serde(rename = "Name", default)]
    pub(super) name: String,
    #[serde(rename = "NetworkSettings")]
    settings: Settings,
}

#[derive(Clone, Debug, Deserialize)]
struct Settings {
    #[serde(rename = "Networks", default)]
    networks: Option<BTreeMap<String, Joined>>,
}

/// What it has on a network.
#[derive(Clone, Debug, Deserialize)]
struct Joined {
    #[serde(rename = "EndpointID", default)]
    endpoint: String,
    #[serde(rename = "Aliases", default)]
    aliases: Option<Vec<String>>,
    /// All that it answers to; since Engine 25.
    #[serde(rename = "DNSNames", default)]
    names: Option<Vec<String>>,
}

impl Named {
    /// What else the container answers to at an endpoint; none when that is not its.
    pub(super) fn names_at(&self, endpoint: &str) -> Option<Vec<String>> {
        let mut joined = self.settings.networks.iter().flat_map(BTreeMap::values);
        let joined = joined.find(|joined| joined.endpoint == endpoint)?;
        let names = joined.aliases.iter().chain(&joined.names).flatten();
        Some(names.cloned().collect())
    }
}

/// The container of an id; none when dockerd does not know it.
///
/// # Errors
/// As [`network`].
pub(super) async fn container(socket: &Path, id: &str) -> io::Result<Option<Named>> {
    match ask(socket, &format!("/containers/{id}/json")).await? {
        (200, body) => Ok(Some(serde_json::from_slice(&body)?)),
        (404, _) => Ok(None),
        (status, _) => Err(unexpected(status)),
    }
}

/// What happens there, as it happens, for as long as dockerd tells.
#[derive(Debug)]
pub(super) struct Events {
    lines: Lines<BufReader<UnixStream>>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A container has another name.
    Renamed(String),
    /// A network is no more, or a container is off it.
    Left(String),
}

/// `{"event":["rename","destroy","disconnect"],"type":["container","network"]}`, as a query has it.
const EVENTS: &str = "/events?filters=%7B%22event%22%3A%5B%22rename%22%2C%22destroy%22%2C%22disconnect\
                      %22%5D%2C%22type%22%3A%5B%22container%22%2C%22network%22%5D%7D";

/// What happens from now on.
///
/// # Errors
/// As [`network`].
pub(super) async fn events(socket: &Path) -> io::Result<Events> {
    let begun = tokio::time::timeout(PATIENCE, async {
        let mut lines = BufReader::new(request(socket, EVENTS).await?).lines();
        let status = lines.next_line().await?.unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(io::Error::other(format!("dockerd answers {status}")));
        }
        while lines.next_line().await?.is_some_and(|header| !header.is_empty()) {}
        Ok(Events { lines })
    });
    begun.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

impl Events {
    /// The next one; none when dockerd tells no more.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            let line = self.lines.next_line().await.ok()??;
            if let Some(event) = event(&line) {
                return Some(event);
            }
        }
    }
}

/// What a line tells, and whom of.
fn event(line: &str) -> Option<Event> {
    let told: serde_json::Value = serde_json::from_str(line).ok()?;
    let whose = told.get("Actor")?.get("ID")?.as_str()?.to_owned();
    match (told.get("Type")?.as_str()?, told.get("Action")?.as_str()?) {
        ("container", "rename") => Some(Event::Renamed(whose)),
        ("network", "destroy" | "disconnect") => Some(Event::Left(whose)),
        _ => None,
    }
}

/// A network that is listed, as far as it is needed.
#[derive(Clone, Debug, Deserialize)]
struct Listed {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Driver", default)]
    driver: String,
    #[serde(rename = "Options", default)]
    options: Option<BTreeMap<String, String>>,
    #[serde(rename = "IPAM", default)]
    ipam: Ipam,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Ipam {
    #[serde(rename = "Config", default)]
    config: Option<Vec<Config>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Config {
    #[serde(rename = "Subnet", default)]
    subnet: String,
}

/// A network that dockerd has on a bridge of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bridge {
    /// What people call it.
    pub(super) name: String,
    /// Its link.
    pub(super) link: String,
    /// Its addresses.
    pub(super) subnets: Vec<IpNetwork>,
}

impl Listed {
    /// A network of the driver `bridge`, whose link has a name made of its id unless told (moby,
    /// libnetwork/drivers/bridge).
    fn bridge(self) -> Option<Bridge> {
        if self.driver != "bridge" {
            return None;
        }
        let told = self.options.as_ref().and_then(|options| options.get(BRIDGE_NAME)).cloned();
        let config = self.ipam.config.unwrap_or_default();
        Some(Bridge {
            link: told.or_else(|| Some(format!("br-{}", self.id.get(..12)?)))?,
            name: self.name,
            subnets: config.iter().filter_map(|config| config.subnet.parse().ok()).collect(),
        })
    }
}

/// The option of a network that names its link.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// Every network that dockerd has on a bridge of its own.
///
/// # Errors
/// As [`network`].
pub(super) async fn bridges(socket: &Path) -> io::Result<Vec<Bridge>> {
    Ok(listed(socket).await?.into_iter().filter_map(Listed::bridge).collect())
}

/// Every network that dockerd has of a driver: what people call it, by its id.
///
/// # Errors
/// As [`network`].
pub(super) async fn of_driver(socket: &Path, driver: &str) -> io::Result<BTreeMap<String, String>> {
    let listed = listed(socket).await?.into_iter().filter(|network| network.driver == driver);
    Ok(listed.map(|network| (network.id, network.name)).collect())
}

async fn listed(socket: &Path) -> io::Result<Vec<Listed>> {
    match ask(socket, "/networks").await? {
        (200, body) => Ok(serde_json::from_slice(&body)?),
        (status, _) => Err(unexpected(status)),
    }
}

/// The network of an id; none when dockerd does not know it.
///
/// # Errors
/// When it is not there, does not answer in time, or not as it should.
pub(super) async fn network(socket: &Path, id: &str) -> io::Result<Option<Network>> {
    match ask(socket, &format!("/networks/{id}")).await? {
        (200, body) => Ok(Some(serde_json::from_slice(&body)?)),
        (404, _) => Ok(None),
        (status, _) => Err(unexpected(status)),
    }
}

fn unexpected(status: u16) -> io::Error {
    io::Error::other(format!("dockerd answers {status}"))
}

/// Status and body, in time.
async fn ask(socket: &Path, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let asked = tokio::time::timeout(PATIENCE, get(socket, path));
    asked.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Status and body. HTTP/1.0 has neither chunks nor a connection that stays.
async fn get(socket: &Path, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let stream = request(socket, path).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

async fn request(socket: &Path, path: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|bytes| bytes == END)?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.get(end + END.len()..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_what_follows_its_head() {
        let answer = b"HTTP/1.0 404 Not Found\r\nServer: Docker\r\n\r\n{}";
        assert_eq!(parse(answer), Some((404, b"{}".to_vec())));
        for bad in [&b""[..], b"HTTP/1.0 200 OK\r\n", b"\r\n\r\n", b"HTTP/1.0 x\r\n\r\n"] {
            assert_eq!(parse(bad), None);
        }
        let network: Network = serde_json::from_str(
            r#"{"Name":"n","Containers":{"c1":{"Name":"web","EndpointID":"e1","MacAddress":""}}}"#,
        )
        .expect("a network");
        assert_eq!(network.containers["c1"].endpoint, "e1");
    }

    #[test]
    fn a_container_has_other_names_at_each_endpoint() {
        let named: Named = serde_json::from_str(
            r#"{"Id":"c1","Name":"/web","NetworkSettings":{"Bridge":"","Networks":{
                "app":{"EndpointID":"e1","Aliases":["www","0123456789ab"],"DNSNames":["web","www"]},
                "back":{"EndpointID":"e2","Aliases":null}}}}"#,
        )
        .expect("a container");
        assert_eq!(named.name, "/web");
        let names = ["www", "0123456789ab", "web", "www"].map(str::to_owned);
        assert_eq!(named.names_at("e1").as_deref(), Some(&names[..]));
        assert_eq!(named.names_at("e2"), Some(Vec::new()));
        assert_eq!(named.names_at("e3"), None);
        let event = r#"{"status":"rename","id":"c1","Type":"container","Action":"rename","Actor":
            {"ID":"c1","Attributes":{"name":"new","oldName":"/web"}},"scope":"local","time":1}"#;
        assert_eq!(super::event(event), Some(Event::Renamed("c1".into())));
        let gone = event.replace("container", "network").replace("rename", "destroy");
        assert_eq!(super::event(&gone), Some(Event::Left("c1".into())));
        for other in ["{}", "", &event.replace("rename", "destroy")] {
            assert_eq!(super::event(other), None);
        }
    }

    #[test]
    fn a_networks_link_is_named_or_made_of_its_id() {
        let bridge = |text: &str| serde_json::from_str::<Listed>(text).expect("one").bridge();
        let id = "0123456789abcdef";
        let own = format!(
            r#"{{"Name":"a","Id":"{id}","Driver":"bridge","Options":null,
                "IPAM":{{"Driver":"default","Config":[{{"Subnet":"172.17.0.0/16"}}]}}}}"#
        );
        let known = bridge(&own).expect("a bridge");
        assert_eq!((known.name.as_str(), known.link.as_str()), ("a", "br-0123456789ab"));
        assert_eq!(known.subnets, ["172.17.0.0/16".parse::<IpNetwork>().expect("a subnet")]);
        let told = own.replace("null", r#"{"com.docker.network.bridge.name":"docker0"}"#);
        assert_eq!(bridge(&told).expect("a bridge").link, "docker0");
        assert_eq!(bridge(&told.replace("\"bridge\"", "\"netd\"")), None);
    }
}
