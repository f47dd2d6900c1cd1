//! One of each message with every field filled. They are written out in full, so that a field or
//! a method that is added does not compile here until it has its place in the golden files.

use std::{collections::BTreeMap, str::FromStr};

use cnm::{
    Call, Empty, EndpointId, Error, Kind, NetworkId,
    bandwidth::{Bandwidth, Limit},
    cluster::{
        Availability, ClusterStatus, CreateToken, EtcdTls, GetCluster, InitCluster, JoinCluster,
        Joined, LeaveCluster, ListNodes, ListTokens, NewToken, NodeInfo, NodeState, Nodes,
        RemoveNode, RemoveToken, Role, RotateToken, Staying, TokenInfo, Tokens, UpdateNode,
        UpdatedNode,
    },
    dns::{Answered, LogQueries, QueryName},
    driver::{
        AttachEndpoint, Attached, Capabilities, CheckAttached, Delivered, DetachEndpoint,
        FindDelivered, GetInfo, Info, Interface, NetworkDown, NetworkState, NetworkUp, Plan,
        PlanEndpoint, PublishPorts, Sync, Synced, Uninstall, Uninstalled,
    },
    endpoint::{
        AddressRange, Assigned, Attach, CheckEndpoint, Checked, Container, Detach, Detached,
        Endpoint, EndpointDetail, Endpoints, InspectEndpoint, ListEndpoints, Netns, NetnsId, Port,
        Protocol, Route, State, UpdateEndpoint,
    },
    events::{Event, Subscribe},
    ipam::{ListPools, Pool, Pools, Reserve, Reserved, Unreserve},
    network::{
        CheckNetwork, CreateNetwork, InspectNetwork, ListNetworks, Network, NetworkChecked,
        NetworkDetail, Networks, PruneNetworks, Pruned, RemoveNetwork, Subnet, UpdateNetwork,
    },
    options::{LINGER, MTU, Options},
    peers::{ChangePeers, Elsewhere, Gone, Ingress, Member, Node, Overlay, Peer, PeersChanged},
    sandbox::{CreateSandbox, ListSandboxes, RemoveSandbox, Sandbox, Sandboxes},
    system::{
        CollectGarbage, DriverStatus, GetStatus, GetVersion, Reconcile, Reconciled, Status,
        TakeTurn, Version,
    },
};
use serde_json::json;

/// A method's message and the answer to it, with every field filled.
pub(crate) trait Sample: Call {
    /// The parameters.
    fn params() -> Self;
    /// What the call gives.
    fn reply() -> Self::Reply;
}

macro_rules! sample {
    ($call:ty, $params:expr, $reply:expr) => {
        impl Sample for $call {
            fn params() -> Self {
                $params
            }

            fn reply() -> Self::Reply {
                $reply
            }
        }
    };
}

fn from<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a valid sample")
}

fn map<T: FromStr<Err: std::fmt::Debug> + Clone>(pairs: &[(&str, &str)]) -> BTreeMap<String, T> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), from(value))).collect()
}

fn filters() -> BTreeMap<String, Vec<String>> {
    let label = ("label".to_owned(), vec!["team=shop".into(), "tier".into()]);
    BTreeMap::from([("driver".to_owned(), vec!["bridge".into()]), label])
}

fn network_id() -> NetworkId {
    NetworkId::from_bytes([0x5a; 32])
}

fn endpoint_id() -> EndpointId {
    EndpointId::from_bytes([0xe1; 32])
}

fn id(digit: char) -> String {
    digit.to_string().repeat(25)
}

fn token() -> String {
    format!("NETD-1-{}-{}", "0".repeat(50), "1".repeat(25))
}

fn managers() -> Vec<String> {
    vec!["192.0.2.1:2377".into()]
}

fn wanted() -> CreateToken {
    CreateToken { role: Role::Worker, ttl: Some(86_400), uses: Some(3) }
}

fn new_token() -> NewToken {
    NewToken { id: "9f86d081884c".into(), token: token(), managers: managers() }
}

fn joined(role: Role, token: Option<String>) -> Joined {
    Joined { cluster: id('c'), node: id('1'), role, managers: managers(), token }
}

fn subnets() -> Vec<Subnet> {
    let ipv4 = Subnet {
        subnet: from("10.89.0.0/24"),
        range: Some(from("10.89.0.128/25")),
        gateway: Some(from("10.89.0.1")),
        aux: map(&[("printer", "10.89.0.9")]),
        exclude: vec![from("10.89.0.248/29")],
        reserved: [(from("db"), from("10.89.0.200"))].into(),
        set: 0,
    };
    let ipv6 = Subnet {
        subnet: from("fd4e:9c11:7b02::/64"),
        range: Some(from("fd4e:9c11:7b02::/80")),
        gateway: Some(from("fd4e:9c11:7b02::1")),
        aux: map(&[("printer", "fd4e:9c11:7b02::9")]),
        exclude: vec![from("fd4e:9c11:7b02::ff00/120")],
        reserved: [(from("db"), from("fd4e:9c11:7b02::200"))].into(),
        set: 1,
    };
    vec![ipv4, ipv6]
}

fn wanted_network() -> CreateNetwork {
    CreateNetwork {
        name: "app".into(),
        driver: Some("bridge".into()),
        subnets: subnets(),
        ipv4: Some(true),
        ipv6: Some(true),
        internal: true,
        options: map(&[("icc", "false")]),
        labels: map(&[("team", "shop")]),
    }
}

fn network() -> Network {
    Network {
        id: network_id(),
        name: from("app"),
        driver: "bridge".into(),
        created: "2026-01-02T03:04:05.006007008Z".into(),
        subnets: subnets(),
        internal: true,
        predefined: true,
        link: Some(from("br-5a5a5a5a5a5a")),
        mtu: Some(1450),
        overlay: Some(Overlay {
            vni: 4097,
            port: 4789,
            node: node(1),
            ingress: Some(Ingress { vni: 4096, mtu: Some(1450) }),
        }),
        options: map(&[("icc", "false")]),
        labels: map(&[("team", "shop")]),
        idempotency_key: Some("f3b8".into()),
    }
}

fn node(number: u32) -> Node {
    Node {
        number,
        vtep: from(&format!("192.0.2.{number}")),
        addresses: vec![
            from(&format!("100.64.0.{number}/16")),
            from(&format!("fd64::{number}/64")),
        ],
    }
}

fn peer(node: u32) -> Peer {
    Peer {
        network: network_id(),
        node,
        mac: from("02:42:0a:59:00:81"),
        addresses: vec![from("10.89.0.129"), from("fd4e:9c11:7b02::81")],
    }
}

fn container() -> Container {
    Container {
        id: from("4c01db0b339c"),
        name: Some(from("web")),
        hostname: Some(from("web-1")),
        pid: Some(4242),
    }
}

fn ports() -> Vec<Port> {
    let tcp = Port {
        protocol: Protocol::Tcp,
        host_ip: Some(from("127.0.0.1")),
        host_port: 8080,
        host_port_to: None,
        container_port: 80,
        count: 1,
    };
    let udp = Port {
        protocol: Protocol::Udp,
        host_ip: Some(from("2001:db8::7")),
        host_port: 5353,
        host_port_to: None,
        container_port: 53,
        count: 3,
    };
    vec![tcp, udp]
}

fn netns_id() -> NetnsId {
    NetnsId { cookie: 4_611_686_018_427_387_911, nsid: Some(12) }
}

fn endpoint() -> Endpoint {
    Endpoint {
        id: endpoint_id(),
        network: network_id(),
        network_name: from("app"),
        container: container(),
        ifname: from("eth0"),
        state: State::Attached,
        mac: Some(from("02:42:0a:59:00:80")),
        addresses: vec![from("10.89.0.128/24"), from("fd4e:9c11:7b02::80/64")],
        gateways: vec![from("10.89.0.1"), from("fd4e:9c11:7b02::1")],
        routes: routes(),
        metric: 100,
        dns: vec![from("10.89.0.1")],
        aliases: vec![from("www")],
        ports: ports(),
        ports_bound: false,
        bandwidth: Some(bandwidth()),
        netns: Some(netns_id()),
        mtu: Some(1450),
        options: map(&[("queue", "1")]),
        labels: map(&[("tier", "front")]),
        created: "2026-01-02T03:04:06.000000001Z".into(),
        idempotency_key: Some("f3b9".into()),
    }
}

fn routes() -> Vec<Route> {
    vec![
        Route {
            dst: from("172.30.0.0/16"),
            gateway: Some(from("10.89.0.2")),
            mtu: Some(1400),
            advmss: Some(1360),
            priority: Some(50),
            table: Some(100),
            scope: Some(0),
            refusal: None,
        },
        Route {
            refusal: Some(cnm::endpoint::Refusal::Unreachable),
            ..Route::new(from("198.51.100.0/24"), None)
        },
        Route::new(from("fd00:7::/32"), None),
    ]
}

fn bandwidth() -> Bandwidth {
    let limit = |rate, burst| Some(Limit { rate, burst });
    Bandwidth { ingress: limit(10_000_000, Some(512_000)), egress: limit(5_000_000, None) }
}

fn attaching() -> Endpoint {
    Endpoint { state: State::Attaching, netns: None, mtu: None, ..endpoint() }
}

fn sandbox() -> Sandbox {
    Sandbox {
        container: container(),
        path: Some("/run/netns/web".into()),
        netns: Some(netns_id()),
        kept: true,
        created: "2026-01-02T03:04:05.500000000Z".into(),
    }
}

fn plan() -> Plan {
    Plan {
        steps: vec![
            "make the veth pair nde1e1e1e1e1e1 and eth0".into(),
            "give eth0 10.89.0.128/24".into(),
        ],
        observed: json!({"link": {"name": "nde1e1e1e1e1e1", "up": true}}),
    }
}

fn checked() -> Checked {
    Checked { differences: vec!["the route by 10.89.0.1 is missing".into()] }
}

fn detached() -> Detached {
    Detached { endpoints: vec![endpoint_id()] }
}

sample!(
    GetVersion,
    GetVersion {},
    Version { version: "0.1.0".into(), protocols: vec![cnm::PROTOCOL] }
);
sample!(
    GetStatus,
    GetStatus {},
    Status {
        version: "0.1.0".into(),
        pid: 811,
        uptime: 3600,
        state_dir: "/var/lib/netd".into(),
        run_dir: "/run/netd".into(),
        networks: 4,
        sandboxes: 2,
        endpoints: 3,
        drivers: vec![DriverStatus {
            name: "bridge".into(),
            path: "/usr/libexec/netd/netd-bridge".into(),
            pid: Some(812),
            version: Some("0.1.0".into()),
            restarts: 1,
        }],
        problems: vec!["the driver macvlan does not start: exec format error".into()],
    }
);
sample!(
    Reconcile,
    Reconcile {},
    Reconciled {
        repaired: vec!["made the bridge br-5a5a5a5a5a5a of app again".into()],
        lost: vec!["endpoint 5a5a5a5a5a5a of web on app has lost its link".into()],
        problems: vec!["the bridge br-5a5a5a5a5a5a keeps its address".into()],
    }
);
sample!(CollectGarbage, CollectGarbage {}, detached());
sample!(TakeTurn, TakeTurn { at: "compose/shop".into() }, Empty {});
sample!(CreateNetwork, wanted_network(), network());
sample!(CheckNetwork, CheckNetwork { network: wanted_network() }, NetworkChecked {
    warnings: vec![
        "subnet 10.89.0.0/24 of network app clashes with the host's route to 10.0.0.0/8 by eth0: what is \
         there is not reached where a container could have its address"
            .into()
    ],
});
sample!(ListNetworks, ListNetworks { filters: filters() }, Networks { networks: vec![network()] });
sample!(
    InspectNetwork,
    InspectNetwork { network: "app".into() },
    NetworkDetail {
        network: network(),
        endpoints: vec![endpoint()],
        pools: vec![pool()],
        notes: vec!["names work one way only".into()],
    }
);
sample!(
    UpdateNetwork,
    UpdateNetwork {
        network: "5a5a".into(),
        add_subnets: vec![Subnet::new(from("10.90.0.0/24"))],
        ranges: [(from("10.89.0.0/24"), Some(from("10.89.0.128/25")))].into(),
        labels: [("tier".to_owned(), "web".to_owned())].into(),
        remove_labels: vec!["team".into()],
        options: map(&[("mtu", "1400")]),
        remove_options: vec!["icc".into()],
    },
    network()
);
sample!(RemoveNetwork, RemoveNetwork { network: "5a5a".into() }, Empty {});
sample!(
    PruneNetworks,
    PruneNetworks { filters: filters() },
    Pruned { removed: vec![from("app")], notes: vec!["network shop stays".into()] }
);
sample!(
    Attach,
    Attach {
        network: "app".into(),
        container: container(),
        netns: Some(Netns::Fd),
        netns_path: Some("/run/netns/web".into()),
        ifname: Some(from("eth0")),
        addresses: vec![from("10.89.0.128"), from("fd4e:9c11:7b02::80")],
        ranges: vec![AddressRange { first: from("10.89.0.128"), last: from("10.89.0.191") }],
        assigned: Some(Assigned {
            addresses: vec![from("172.31.0.9/24")],
            gateways: vec![from("172.31.0.1")],
        }),
        routes: Some(routes()),
        gateway_priority: 7,
        mac: Some(from("02:42:0a:59:00:80")),
        aliases: vec![from("www")],
        ports: ports(),
        ports_bound: true,
        bandwidth: Some(bandwidth()),
        sticky: true,
        options: map(&[("queue", "1")]),
        labels: map(&[("tier", "front")]),
    },
    endpoint()
);
sample!(
    UpdateEndpoint,
    UpdateEndpoint { endpoint: "e1e1".into(), container: Some(container()), ports: Some(ports()) },
    endpoint()
);
sample!(
    Detach,
    Detach {
        network: Some("app".into()),
        container: "4c01db0b339c".into(),
        ifname: Some(from("eth0")),
    },
    detached()
);
sample!(
    CheckEndpoint,
    CheckEndpoint {
        endpoint: "e1e1".into(),
        netns: Some(Netns::Fd),
        mac: Some(from("02:42:0a:59:00:81")),
    },
    checked()
);
sample!(
    ListEndpoints,
    ListEndpoints { network: Some("app".into()), container: Some("web".into()) },
    Endpoints { endpoints: vec![endpoint()] }
);
sample!(
    InspectEndpoint,
    InspectEndpoint { endpoint: "e1e1".into(), plan: true },
    EndpointDetail { endpoint: endpoint(), elected: vec![from("10.89.0.1")], plan: Some(plan()) }
);
sample!(
    CreateSandbox,
    CreateSandbox { container: container(), netns: Netns::Path("/run/netns/web".into()) },
    sandbox()
);
sample!(ListSandboxes, ListSandboxes {}, Sandboxes { sandboxes: vec![sandbox()] });
sample!(RemoveSandbox, RemoveSandbox { container: "web".into() }, Empty {});
fn pool() -> Pool {
    Pool {
        network: network_id(),
        network_name: from("app"),
        subnet: from("10.89.0.0/24"),
        block: Some(from("10.89.0.128/25")),
        set: 1,
        gateway: Some(from("10.89.0.1")),
        usable: 126,
        leased: 3,
        quarantined: 1,
        reserved: 9,
        available: 114,
    }
}

sample!(ListPools, ListPools {}, Pools { pools: vec![pool()] });
sample!(
    Reserve,
    Reserve { network: "app".into(), name: from("db"), addresses: vec![from("10.89.0.200")] },
    Reserved { addresses: vec![from("10.89.0.200")] }
);
sample!(
    Unreserve,
    Unreserve { network: "app".into(), name: from("db") },
    Reserved { addresses: vec![from("10.89.0.200")] }
);
sample!(
    QueryName,
    QueryName { name: "web.app".into(), kind: Some("AAAA".into()), from: Some("client".into()) },
    Answered {
        result: "NOERROR".into(),
        answers: vec!["web.app. 5 IN AAAA fd00::2".into()],
        why: vec!["who asks is on app".into()],
    }
);
sample!(LogQueries, LogQueries { each: true }, Empty {});
sample!(Subscribe, Subscribe {}, Empty {});
sample!(
    InitCluster,
    InitCluster {
        advertise: Some(from("192.0.2.1")),
        port: Some(2377),
        etcd: vec!["https://192.0.2.9:2379".into()],
        etcd_tls: Some(EtcdTls { ca: "CA".into(), certificate: "C".into(), key: "K".into() }),
        vxlan_port: Some(4789),
    },
    joined(Role::Manager, Some(token()))
);
sample!(
    JoinCluster,
    JoinCluster {
        token: token(),
        manager: from("192.0.2.1:2377"),
        advertise: Some(from("192.0.2.2")),
    },
    joined(Role::Worker, None)
);
sample!(LeaveCluster, LeaveCluster { force: true }, Empty {});
sample!(
    GetCluster,
    GetCluster {},
    ClusterStatus {
        cluster: Some(id('c')),
        node: Some(id('1')),
        role: Some(Role::Manager),
        store: vec!["https://192.0.2.1:2379".into()],
        removed_since: Some("2026-01-02T03:04:05Z".into()),
        away_since: Some("2026-01-02T03:04:05.000000000Z".into()),
        complete: true,
        revision: 812,
        nodes: 3,
        networks: 2,
        elsewhere: 40,
        unwritten: 1,
    }
);
sample!(CreateToken, wanted(), new_token());
sample!(RotateToken, RotateToken { token: wanted() }, new_token());
sample!(
    ListTokens,
    ListTokens {},
    Tokens {
        tokens: vec![TokenInfo {
            id: "9f86d081884c".into(),
            role: Role::Worker,
            created: "2026-01-02T03:04:05Z".into(),
            expires: Some("2026-01-03T03:04:05Z".into()),
            uses: Some(2),
        }],
    }
);
sample!(RemoveToken, RemoveToken { token: "9f86".into() }, Empty {});
sample!(
    ListNodes,
    ListNodes {},
    Nodes {
        nodes: vec![NodeInfo {
            id: id('1'),
            here: true,
            name: "one".into(),
            role: Role::Manager,
            state: NodeState::Ready,
            availability: "active".into(),
            version: "0.1.0".into(),
            vtep: Some(from("192.0.2.1")),
            mtu: 1500,
            address: from("100.126.0.9"),
            joined: "2026-01-02T03:04:05Z".into(),
            endpoints: 4,
        }],
        away_since: Some("2026-01-02T03:04:05.000000000Z".into()),
    }
);
sample!(
    UpdateNode,
    UpdateNode { node: "two".into(), availability: Availability::Drain },
    UpdatedNode {
        left: vec![Staying {
            endpoint: id('e'),
            network: "shop".into(),
            container: "web".into(),
            addresses: vec![from("10.128.0.3")],
        }],
    }
);
sample!(RemoveNode, RemoveNode { node: "two".into(), force: true }, Empty {});
sample!(
    GetInfo,
    GetInfo {},
    Info {
        name: "bridge".into(),
        version: "0.1.0".into(),
        protocols: vec![cnm::PROTOCOL],
        capabilities: Capabilities {
            addresses: true,
            gateway: true,
            ports: true,
            host_netns: true,
            shared_subnets: true,
            bandwidth: true,
            peers: true,
        },
        options: Some(Options::of(&[MTU], &[LINGER])),
    }
);
sample!(
    NetworkUp,
    NetworkUp { network: network() },
    NetworkState { mtu: Some(1450), options: [("parent".into(), "eth0".into())].into() }
);
sample!(NetworkDown, NetworkDown { network: network() }, Empty {});
sample!(
    AttachEndpoint,
    AttachEndpoint { network: network(), endpoint: attaching(), netns: "/proc/811/fd/23".into() },
    Attached {
        netns: netns_id(),
        interface: Some(Interface {
            name: from("eth0"),
            index: 2,
            mac: from("02:42:0a:59:00:80"),
            mtu: 1450,
            host_index: Some(31),
        }),
    }
);
sample!(
    PublishPorts,
    PublishPorts { network: network(), endpoint: endpoint(), instead_of: ports() },
    Empty {}
);
sample!(
    DetachEndpoint,
    DetachEndpoint {
        network: network(),
        endpoint: endpoint(),
        netns: Some("/run/netns/web".into()),
        stays: true,
    },
    Empty {}
);
sample!(
    FindDelivered,
    FindDelivered { network: network(), endpoint: endpoint() },
    Delivered { ifname: Some("eth1".parse().expect("a name")) }
);
sample!(
    CheckAttached,
    CheckAttached {
        network: network(),
        endpoint: endpoint(),
        netns: Some("/proc/811/fd/23".into()),
    },
    checked()
);
sample!(PlanEndpoint, PlanEndpoint { network: network(), endpoint: endpoint() }, plan());
sample!(
    Sync,
    Sync { networks: vec![network()], endpoints: vec![endpoint()], ..Sync::default() },
    Synced {
        repaired: vec!["put back the port 127.0.0.1:8080->80/tcp of web".into()],
        missing: vec![endpoint_id()],
        ..Synced::default()
    }
);
sample!(
    Uninstall,
    Uninstall { check: true },
    Uninstalled { found: vec!["the bridge br-7d1f0c5e2b9a".into()] }
);

sample!(
    ChangePeers,
    ChangePeers {
        complete: true,
        there: Elsewhere {
            nodes: vec![node(2)],
            members: vec![Member { network: network_id(), node: 2 }],
            peers: vec![peer(2)],
        },
        gone: Gone {
            nodes: vec![3],
            members: vec![Member { network: network_id(), node: 4 }],
            peers: vec![peer(4)],
        },
        part: 1,
        more: true,
    },
    PeersChanged { rows: 9 }
);

/// An error of each kind, with the operands that it usually has.
pub(crate) fn error(kind: Kind) -> Error {
    let error = |message: &str| Error::new(kind, message);
    match kind {
        Kind::Invalid => error("network.create: name is missing"),
        Kind::NotFound => error("network app not found").with("network", "app"),
        Kind::Exists => error("port 8080/tcp is already held by endpoint e1e1e1e1e1e1")
            .with("port", 8080)
            .with("protocol", "tcp")
            .with("endpoint", endpoint_id().as_str()),
        Kind::Exhausted => error("10.89.0.0/24 of network app has no address left")
            .with("network", "app")
            .with("subnet", "10.89.0.0/24"),
        Kind::Busy => {
            error("network app has 2 endpoints").with("network", "app").with("endpoints", 2)
        }
        Kind::Denied => error("network bridge is predefined and stays").with("network", "bridge"),
        Kind::Unsupported => {
            error("the driver none has no method driver.fly").with("method", "driver.fly")
        }
        Kind::Unavailable => error("endpoint.attach did not end within 2500 ms; it is undone")
            .with("deadline_ms", 2500),
        Kind::Kernel => error("cannot make eth0: File exists (peer name in use)")
            .with("errno", 17)
            .with("extended_ack", "peer name in use")
            .with("ifname", "eth0"),
        Kind::Internal => error("netd's answer to driver.info is not understood"),
    }
}

/// An event.
pub(crate) fn event() -> Event {
    Event {
        time: "2026-01-02T03:04:06.000000002Z".into(),
        object: "endpoint".into(),
        action: "attach".into(),
        id: endpoint_id().as_str().into(),
        attributes: map(&[("container", "web"), ("network", "app")]),
    }
}
