//! What dockerd itself tells over its own socket, where it can be read: who is on a network.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read: some ten thousand containers.
const MAX_ANSWER: u64 = 8 << 20;

/// A network, as far as it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Network {
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

/// The network of an id; none when dockerd does not know it.
///
/// # Errors
/// When it is not there, does not answer in time, or not as it should.
pub(super) async fn network(socket: &Path, id: &str) -> io::Result<Option<Network>> {
    let path = format!("/networks/{id}");
    let asked = tokio::time::timeout(PATIENCE, get(socket, &path));
    let (status, body) = asked.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match status {
        200 => Ok(Some(serde_json::from_slice(&body)?)),
        404 => Ok(None),
        status => Err(io::Error::other(format!("dockerd answers {status}"))),
    }
}

/// Status and body. HTTP/1.0 has neither chunks nor a connection that stays.
async fn get(socket: &Path, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
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
}
