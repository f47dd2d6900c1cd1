//! `netctl cluster` and `netctl node`: many hosts whose networks are one.

use std::{fs, path::Path, process::ExitCode};

use cnm::{
    client::Client,
    cluster::{
        Availability, ClusterStatus, CreateToken, EtcdTls, GetCluster, InitCluster, JoinCluster,
        Joined, LeaveCluster, ListNodes, ListTokens, NewToken, NodeInfo, NodeState, RemoveNode,
        RemoveToken, Role, RotateToken, Staying, TokenInfo, UpdateNode,
    },
};

use crate::{
    args::{self, ClusterCommand, Format, NodeCommand, TokenCommand},
    out::{self, Outcome, Tally},
    table::{Table, cell},
};

/// Does one of the commands on clusters.
pub(crate) fn cluster(socket: &Path, command: ClusterCommand) -> Outcome {
    let mut client = Client::connect(socket)?;
    match command {
        ClusterCommand::Init(args) => {
            let etcd_tls = etcd_tls(&args)?;
            let joined = client.call(&InitCluster {
                etcd_tls,
                advertise: args.advertise_addr,
                port: Some(args.port),
                etcd: args.etcd,
                vxlan_port: Some(args.data_path_port),
            })?;
            if args.output.json { out::json(&joined)? } else { out::print(&begun(&joined))? }
        }
        ClusterCommand::Join(args) => {
            let joined = client.call(&JoinCluster {
                token: args.token,
                manager: args.manager,
                advertise: args.advertise_addr,
            })?;
            if args.output.json {
                out::json(&joined)?;
            } else {
                let as_what = word(joined.role);
                out::print(&format!("This node joined a cluster as a {as_what}.\n"))?;
            }
        }
        ClusterCommand::Leave { force } => {
            out::patiently(
                "leaving the cluster: of managers one goes after the other, and each may take half a minute",
                || client.call(&LeaveCluster { force }),
            )?;
            out::print("Node left the cluster.\n")?;
        }
        ClusterCommand::Status(Format { json }) => {
            let status = client.call(&GetCluster {})?;
            if json { out::json(&status)? } else { out::print(&page(&status))? }
        }
        ClusterCommand::Ls(format) => return nodes(&mut client, format),
        ClusterCommand::Token { command } => return token(&mut client, command),
    }
    Ok(ExitCode::SUCCESS)
}

/// Does one of the commands on nodes.
pub(crate) fn node(socket: &Path, command: NodeCommand) -> Outcome {
    let mut client = Client::connect(socket)?;
    match command {
        NodeCommand::Ls(format) => nodes(&mut client, format),
        NodeCommand::Update { availability, nodes } => {
            let availability = match availability {
                args::Availability::Active => Availability::Active,
                args::Availability::Pause => Availability::Pause,
                args::Availability::Drain => Availability::Drain,
            };
            let mut tally = Tally::default();
            for node in nodes {
                match client.call(&UpdateNode { node: node.clone(), availability }) {
                    Ok(updated) => {
                        out::print(&format!("{node}\n"))?;
                        if let Some(note) = still_there(&node, &updated.left) {
                            out::complain(&note);
                        }
                    }
                    Err(error) => tally.fault(&error),
                }
            }
            Ok(tally.code())
        }
        NodeCommand::Rm { force, nodes } => {
            let mut tally = Tally::default();
            for node in nodes {
                let what = format!(
                    "removing node {node}: of managers one goes after the other, and each may take half a \
                     minute"
                );
                let remove = RemoveNode { node: node.clone(), force };
                match out::patiently(what, || client.call(&remove)) {
                    Ok(_) => out::print(&format!("{node}\n"))?,
                    Err(error) => tally.fault(&error),
                }
            }
            Ok(tally.code())
        }
    }
}

/// What the files say by which an etcd is known, and knows the cluster.
fn etcd_tls(args: &args::Init) -> Result<Option<EtcdTls>, out::Stop> {
    let (Some(ca), Some(certificate), Some(key)) = (&args.etcd_ca, &args.etcd_cert, &args.etcd_key)
    else {
        return Ok(None);
    };
    let read = |path: &Path| {
        let what = format!("cannot read {}", path.display());
        fs::read_to_string(path).map_err(|error| out::system(&what, &error))
    };
    Ok(Some(EtcdTls { ca: read(ca)?, certificate: read(certificate)?, key: read(key)? }))
}

fn nodes(client: &mut Client, Format { json }: Format) -> Outcome {
    let found = client.call(&ListNodes {})?;
    if json {
        out::json(&found)?
    } else {
        out::print(&table(&found.nodes))?;
        if let Some(since) = &found.away_since {
            out::complain(&format!(
                "the cluster's store is away since {since}: the nodes are as they were known then"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is still on a node that is drained, for whoever runs it.
fn still_there(node: &str, left: &[Staying]) -> Option<String> {
    let mut table = Table::new(&["CONTAINER", "NETWORK", "ADDRESSES"]);
    for one in left {
        let addresses: Vec<_> = one.addresses.iter().map(ToString::to_string).collect();
        table.row([one.container.clone(), one.network.clone(), addresses.join(", ")]);
    }
    let what = format!(
        "{node} takes no new containers on networks of the cluster, and these are still there until \
         whoever runs them takes them away:\n{}",
        table.text().trim_end()
    );
    (!left.is_empty()).then_some(what)
}

fn token(client: &mut Client, command: TokenCommand) -> Outcome {
    match command {
        TokenCommand::Create(args) => {
            let made = client.call(&wanted(args))?;
            show(&made, args)?;
        }
        TokenCommand::Rotate(args) => {
            let made = client.call(&RotateToken { token: wanted(args) })?;
            show(&made, args)?;
        }
        TokenCommand::Ls(Format { json }) => {
            let found = client.call(&ListTokens {})?;
            if json { out::json(&found)? } else { out::print(&tokens(&found.tokens))? }
        }
        TokenCommand::Rm { tokens } => {
            let mut tally = Tally::default();
            for token in tokens {
                match client.call(&RemoveToken { token: token.clone() }) {
                    Ok(_) => out::print(&format!("{token}\n"))?,
                    Err(error) => tally.fault(&error),
                }
            }
            return Ok(tally.code());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(args: args::Token) -> CreateToken {
    let role = match args.role {
        args::Role::Manager => Role::Manager,
        args::Role::Worker => Role::Worker,
    };
    CreateToken { role, ttl: args.ttl, uses: args.uses }
}

fn show(made: &NewToken, args: args::Token) -> Result<(), out::Stop> {
    if args.output.json {
        out::json(made)
    } else if args.quiet {
        out::print(&format!("{}\n", made.token))
    } else {
        out::print(&how_to_join(&made.token, &made.managers))
    }
}

fn how_to_join(token: &str, managers: &[String]) -> String {
    let manager = managers.first().map_or("HOST:PORT", String::as_str);
    format!("    netctl cluster join --token {token} {manager}\n")
}

fn begun(joined: &Joined) -> String {
    let mut text = format!("Cluster begun: this node ({}) is now a manager.\n", joined.node);
    if let Some(token) = &joined.token {
        text += "\nTo add a worker to this cluster, run the following command there:\n\n";
        text += &how_to_join(token, &joined.managers);
        text += "\nTo add a manager, make a token for it: netctl cluster token create --role \
                 manager\n";
    }
    text
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Manager => "manager",
        Role::Worker => "worker",
    }
}

/// Nodes as `docker node ls` shows them.
fn table(nodes: &[NodeInfo]) -> String {
    let mut table =
        Table::new(&["ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER STATUS", "VERSION"]);
    for node in nodes {
        let state = match node.state {
            NodeState::Ready => "Ready",
            NodeState::Suspect | NodeState::Unknown => "Unknown",
            NodeState::Down | NodeState::Fenced => "Down",
        };
        let manager = match (node.role, node.state) {
            (Role::Worker, _) => "",
            (Role::Manager, NodeState::Ready) => "Reachable",
            (Role::Manager, NodeState::Unknown) => "Unknown",
            (Role::Manager, _) => "Unreachable",
        };
        table.row([
            format!("{}{}", node.id, if node.here { " *" } else { "" }),
            node.name.clone(),
            state.to_owned(),
            match (node.availability.as_str(), node.endpoints) {
                ("drain", left @ 1..) => format!("Drain ({left} left)"),
                (availability, _) => capital(availability),
            },
            manager.to_owned(),
            node.version.clone(),
        ]);
    }
    table.text()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn tokens(tokens: &[TokenInfo]) -> String {
    let mut table = Table::new(&["ID", "ROLE", "CREATED", "EXPIRES", "USES LEFT"]);
    for token in tokens {
        table.row([
            token.id.clone(),
            word(token.role).to_owned(),
            token.created.clone(),
            cell(token.expires.clone()),
            cell(token.uses),
        ]);
    }
    table.text()
}

fn page(status: &ClusterStatus) -> String {
    let (Some(cluster), Some(node), Some(role)) = (&status.cluster, &status.node, status.role)
    else {
        return "This host is in no cluster.\n".to_owned();
    };
    if let Some(since) = &status.removed_since {
        return format!(
            "Cluster: {cluster}\nNode: {node} ({})\nRemoved: known since {since}\n\nThis host was \
             removed from its cluster. To go on:\n\n    netctl cluster leave --force\n    netctl \
             cluster join --token TOKEN HOST:PORT\n\nA manager makes a new token: netctl cluster \
             token create\n",
            word(role)
        );
    }
    let store = match &status.away_since {
        Some(since) => format!("away since {since}"),
        None if status.complete => "connected".to_owned(),
        None => "connecting".to_owned(),
    };
    let lines = [
        ("Cluster", cluster.clone()),
        ("Node", format!("{node} ({})", word(role))),
        ("Store", format!("{store}, {}", status.store.join(", "))),
        ("Revision", status.revision.to_string()),
        ("Nodes", status.nodes.to_string()),
        ("Networks", status.networks.to_string()),
        ("Endpoints elsewhere", status.elsewhere.to_string()),
        ("Changes not yet in the store", status.unwritten.to_string()),
    ];
    lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_shown_as_docker_shows_them() {
        let node = |name: &str, here, role, state| NodeInfo {
            id: "0123456789abcdefghijklmno".to_owned(),
            here,
            name: name.to_owned(),
            role,
            state,
            availability: "active".to_owned(),
            version: "0.1.0".to_owned(),
            vtep: None,
            mtu: 1500,
            address: "100.126.0.1".parse().expect("an address"),
            joined: "2026-01-02T03:04:05Z".to_owned(),
            endpoints: 3,
        };
        let nodes = [
            node("one", true, Role::Manager, NodeState::Ready),
            node("two", false, Role::Worker, NodeState::Down),
        ];
        assert_eq!(
            table(&nodes),
            "\
ID                            HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   VERSION
0123456789abcdefghijklmno *   one        Ready     Active         Reachable        0.1.0
0123456789abcdefghijklmno     two        Down      Active                          0.1.0
"
        );
    }

    #[test]
    fn what_is_still_on_a_drained_node_is_listed() {
        assert_eq!(still_there("two", &[]), None);
        let left = Staying {
            endpoint: "0".repeat(64),
            network: "shop".to_owned(),
            container: "web".to_owned(),
            addresses: vec!["10.128.0.3".parse().expect("an address")],
        };
        let said = still_there("two", &[left]).expect("something is left");
        assert!(
            said.ends_with("\nCONTAINER   NETWORK   ADDRESSES\nweb         shop      10.128.0.3")
        );
    }

    #[test]
    fn a_host_that_was_removed_is_told_how_to_go_on() {
        let status = ClusterStatus {
            cluster: Some("c".to_owned()),
            node: Some("n".to_owned()),
            role: Some(Role::Worker),
            removed_since: Some("2026-01-02T03:04:05Z".to_owned()),
            ..ClusterStatus::default()
        };
        let said = page(&status);
        assert!(said.contains("netctl cluster leave --force\n    netctl cluster join"), "{said}");
    }

    #[test]
    fn a_host_in_no_cluster_says_so() {
        assert_eq!(page(&ClusterStatus::default()), "This host is in no cluster.\n");
    }
}
