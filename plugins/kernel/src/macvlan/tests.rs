use super::*;

/// An attribute as the kernel reads it (`struct nlattr`, linux/netlink.h).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_ne_bytes())
}

/// A whole message: header, `struct ifinfomsg`, attributes (linux/rtnetlink.h).
fn link(kind: u16, flags: u16, index: u32, up: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = u32::try_from(32 + attributes.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([0; 4]);
    bytes.extend(index.to_ne_bytes());
    bytes.extend(up.to_ne_bytes());
    bytes.extend(up.to_ne_bytes());
    bytes.extend(attributes);
    bytes
}

/// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h
const REQUEST_CREATE_EXCL_ECHO: u16 = 0x1 | 0x400 | 0x200 | 0x8;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

#[test]
fn a_vlan_is_one_message() {
    let mut batch = Batch::new();
    make_vlan(&mut batch, "eth0.100", 7, 100, 9);
    const IFLA_VLAN_ID: u16 = 1;
    let data = attribute(IFLA_VLAN_ID, &100u16.to_ne_bytes());
    let info = [attribute(IFLA_INFO_KIND, b"vlan\0"), attribute(IFLA_INFO_DATA, &data)].concat();
    let expected = link(
        RTM_NEWLINK,
        REQUEST_CREATE_EXCL_ECHO,
        0,
        1,
        &[
            attribute(IFLA_IFNAME, b"eth0.100\0"),
            number(IFLA_LINK, 7),
            number(IFLA_GROUP, 9),
            attribute(IFLA_LINKINFO, &info),
        ],
    );
    assert_eq!(batch.bytes(), expected);
}

#[test]
fn a_macvlan_is_one_message() {
    let mut batch = Batch::new();
    make(
        &mut batch,
        &Macvlan {
            name: "eth0",
            parent: 7,
            parent_nsid: Some(3),
            mode: Mode::Private,
            queue: Some(2000),
            mac: [2, 0, 0, 0, 0, 5],
            mtu: 1400,
            group: 9,
        },
    );
    const IFLA_MACVLAN_MODE: u16 = 1;
    const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;
    const MACVLAN_MODE_PRIVATE: u32 = 1;
    let data =
        [number(IFLA_MACVLAN_MODE, MACVLAN_MODE_PRIVATE), number(IFLA_MACVLAN_BC_QUEUE_LEN, 2000)];
    let info = [attribute(IFLA_INFO_KIND, b"macvlan\0"), attribute(IFLA_INFO_DATA, &data.concat())]
        .concat();
    let expected = link(
        RTM_NEWLINK,
        REQUEST_CREATE_EXCL_ECHO,
        0,
        0,
        &[
            attribute(IFLA_IFNAME, b"eth0\0"),
            number(IFLA_LINK, 7),
            attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 5]),
            number(IFLA_MTU, 1400),
            number(IFLA_GROUP, 9),
            number(IFLA_NUM_TX_QUEUES, 1),
            number(IFLA_NUM_RX_QUEUES, 1),
            number(IFLA_LINK_NETNSID, 3),
            attribute(IFLA_LINKINFO, &info),
        ],
    );
    assert_eq!(batch.bytes(), expected);
}

#[test]
fn a_link_elsewhere_is_deleted_by_index() {
    let mut batch = Batch::new();
    delete_within(&mut batch, 3, &Link { index: 2, ..Link::default() });
    let expected = link(RTM_DELLINK, 1, 2, 0, &[number(IFLA_TARGET_NETNSID, 3)]);
    assert_eq!(batch.bytes(), expected);
}
