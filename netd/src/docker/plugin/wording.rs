//! What dockerd is refused, in words of the people who read it in the end: they know what they called a
//! network, and that they start a container, and have seen none of the ids in between.

use std::time::Duration;

use hyper::body::Bytes;
use serde_json::Value;

use super::Plugin;
use crate::docker::daemon;

/// How long dockerd may take to say what people call a network: it waits for the answer meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

impl Plugin {
    /// A sentence without the ids that came with what was asked.
    pub(super) async fn in_their_words(&self, sentence: &str, asked: &Bytes) -> String {
        let asked: Value = serde_json::from_slice(asked).unwrap_or_default();
        let id =
            |key: &str| asked.get(key)?.as_str().filter(|id| id.len() >= SHORT && id.is_ascii());
        let sentence = match id("EndpointID") {
            Some(endpoint) => without_endpoint(sentence, endpoint),
            None => sentence.to_owned(),
        };
        let Some(network) = id("NetworkID").filter(|id| sentence.contains(&id[..SHORT])) else {
            return sentence;
        };
        let socket = &self.netd.config.docker_socket;
        let told = tokio::time::timeout(PATIENCE, daemon::network(socket, network)).await;
        match told {
            Ok(Ok(Some(told))) if !told.name.is_empty() => {
                without_network(&sentence, network, &told.name)
            }
            _ => sentence,
        }
    }
}

/// How many digits of an id people are shown.
const SHORT: usize = 12;

/// Until dockerd has told whose an endpoint is, that is called by the beginning of its id.
fn without_endpoint(sentence: &str, id: &str) -> String {
    let short = &id[..SHORT];
    let mut said = sentence.to_owned();
    for called in [format!("container {id}"), format!("container {short}"), id.to_owned()] {
        said = said.replace(&called, "this container");
    }
    said.replace(short, "this container")
}

/// A network that was made for Docker without a name has one that is made of its id there.
fn without_network(sentence: &str, id: &str, name: &str) -> String {
    let short = &id[..SHORT];
    sentence.replace(&format!("docker-{short}"), name).replace(id, name).replace(short, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_sentence_has_names_in_place_of_ids() {
        for said in
            ["port 80 of 0123456789ab is taken", "port 80 of container 0123456789ab is taken"]
        {
            assert_eq!(without_endpoint(said, ID), "port 80 of this container is taken");
        }
        for said in ["no docker-0123456789ab", "no 0123456789ab", &format!("no {ID}")] {
            assert_eq!(without_network(said, ID, "app"), "no app");
        }
    }
}
