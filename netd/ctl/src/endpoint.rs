//! `netctl endpoint`: who is on which network, and whether the kernel agrees.

use std::{os::fd::AsFd as _, path::Path, process::ExitCode};

use cnm::{
    client::{Client, With},
    endpoint::{
        CheckEndpoint, Checked, Endpoint, InspectEndpoint, ListEndpoints, Netns, State, of_netns,
        open_netns,
    },
};

use crate::{
    args::EndpointCommand,
    out::{self, Outcome},
    table::{Table, cell},
};

/// Does one of the commands.
pub(crate) fn endpoint(socket: &Path, command: EndpointCommand) -> Outcome {
    let mut client = Client::connect(socket)?;
    match command {
        EndpointCommand::Ls { network, container, output } => {
            let found = client.call(&ListEndpoints { network, container })?;
            if output.json {
                out::json(&found)?;
            } else {
                out::print(&table(&found.endpoints))?;
            }
        }
        EndpointCommand::Inspect { plan, endpoint, json: _ } => {
            out::json(&client.call(&InspectEndpoint { endpoint, plan })?)?;
        }
        EndpointCommand::Check { netns, output, endpoint } => {
            let checked = check(&mut client, &endpoint, netns.as_deref())?;
            if output.json {
                out::json(&checked)?;
            } else if checked.differences.is_empty() {
                out::print(&format!("endpoint {endpoint} is as it should be\n"))?;
            } else {
                let lines: String =
                    checked.differences.iter().map(|what| format!("{what}\n")).collect();
                out::print(&lines)?;
            }
            if !checked.differences.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares an endpoint with the kernel; with its container's namespace inside as well. A path may mean
/// nothing where netd is, so the namespace goes along as a descriptor.
fn check(client: &mut Client, endpoint: &str, netns: Option<&Path>) -> cnm::Result<Checked> {
    let mut request = CheckEndpoint::new(endpoint);
    let Some(path) = netns else { return client.call(&request) };
    let netns = open_netns(path)?;
    request.netns = Some(Netns::Fd);
    client
        .call_with(&request, With { fds: &[netns.as_fd()], ..With::default() })
        .map_err(|error| of_netns(error, &path.to_string_lossy()))
}

/// Endpoints as a table.
pub(crate) fn table(endpoints: &[Endpoint]) -> String {
    let mut table =
        Table::new(&["ENDPOINT ID", "NETWORK", "CONTAINER", "INTERFACE", "ADDRESSES", "PORTS"]);
    for endpoint in endpoints {
        let interface = match endpoint.state {
            State::Attached => endpoint.ifname.to_string(),
            State::Attaching => format!("{} (attaching)", endpoint.ifname),
        };
        table.row([
            endpoint.id.short().to_owned(),
            endpoint.network_name.to_string(),
            endpoint.container.label().to_owned(),
            interface,
            cell(&endpoint.addresses),
            cell(&endpoint.ports),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use cnm::{EndpointId, NetworkId};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endpoint_is_a_line() {
        let endpoint = |state, ports| -> Endpoint {
            serde_json::from_value(json!({
                "id": EndpointId::from_bytes([1; 32]),
                "network": NetworkId::from_bytes([2; 32]),
                "network_name": "app",
                "container": {"id": "c1", "name": "web"},
                "ifname": "eth0",
                "state": state,
                "addresses": ["10.0.0.2/24", "fd00::2/64"],
                "ports": ports,
                "created": "2026-01-02T03:04:05Z",
            }))
            .expect("an endpoint")
        };
        let ports = json!([{"host_ip": "::1", "host_port": 8080, "container_port": 80}]);
        assert_eq!(
            table(&[endpoint("attached", ports), endpoint("attaching", json!([]))]),
            "\
ENDPOINT ID    NETWORK   CONTAINER   INTERFACE          ADDRESSES                PORTS
010101010101   app       web         eth0               10.0.0.2/24,fd00::2/64   [::1]:8080->80/tcp
010101010101   app       web         eth0 (attaching)   10.0.0.2/24,fd00::2/64   -
"
        );
    }
}
