//! The two programs of the guards, in the kernel's words. Which frames they let through is written
//! down once more, in the language of the tests, beside which these are held.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{KEY, ROW, ROWS};
use crate::bpf::assembly::{
    Assembly, Instruction, R0, R1, R2, R3, R4, R5, R6, R7, R8, STACK,
    Width::{Byte, Half, Long, Word},
};

/// `TC_ACT_UNSPEC`: the next filter decides, and without one the frame goes on; `TC_ACT_SHOT`
/// (linux/pkt_cls.h).
pub(super) const PASS: i32 = -1;
pub(super) const DROP: i32 = 2;

/// Functions of the kernel: `bpf_map_lookup_elem` and `bpf_skb_load_bytes` (linux/bpf.h).
const LOOK_UP: i32 = 1;
const LOAD_BYTES: i32 = 26;

/// Where `struct __sk_buff` has what it is asked for (linux/bpf.h).
const PROTOCOL: i16 = 16;
const LINK: i16 = 40;
const DATA: i16 = 76;
const DATA_END: i16 = 80;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IPV6: u16 = 0x86dd;
const STACKED_VLAN: u16 = 0x88a8;

/// Where on the stack the key is that is looked for, and the parts of it.
const AT: i16 = -28;
const AT_MAC: i16 = AT + 4;
const AT_PAD: i16 = AT + 10;
const AT_ADDRESS: i16 = AT + 12;
const AT_V4: i16 = AT + 24;
/// Where there is room for a header of 40 bytes.
const HEADER: i16 = -72;
/// The bits of a link's number that are its row's.
const MASK: i32 = ROWS.cast_signed() - 1;
/// How long Ethernet's header is.
const ETHERNET: i32 = 14;
/// So many headers between that of IPv6 and what it carries are looked behind. Nobody has as many.
const EXTENSIONS: u8 = 6;

/// The places of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A frame of IPv4 that is not what the row of its link says.
    Far,
    /// A frame whose beginning is not where it can be read directly, or that is not of IPv4.
    Other,
    Arp,
    Ipv6,
    /// Behind so many headers of IPv6.
    Behind(u8),
    /// Behind so many, of which this one is a fragment's, is what one says that has a usual length.
    Skip(u8),
    Fragment(u8),
    Icmp,
    /// The address that IPv6 says it comes from.
    Source,
    /// Who is in the key, or has an address that is his neighbours' business alone.
    KnownOrLocal,
    /// Who is in the key.
    Known,
    Pass,
    Drop,
}

type Program = Assembly<Place>;

/// A number of the network's, as a load in the host's order gives it.
fn half(number: u16) -> i32 {
    i32::from(number.to_be())
}

/// Copies so many bytes of the frame from a place to the stack; a frame that ends before is dropped.
fn read(program: &mut Program, from: i32, to: i16, length: i32) {
    program.set(R2, from);
    read_at(program, to, length);
}

/// The same from where `R2` says.
fn read_at(program: &mut Program, to: i16, length: i32) {
    program.copy(R1, R6);
    program.copy(R3, STACK);
    program.add(R3, i32::from(to));
    program.set(R4, length);
    program.call(LOAD_BYTES);
    program.unless(R0, 0, Place::Drop);
}

/// Looks the key up.
fn look_up(program: &mut Program, set: BorrowedFd<'_>) {
    look_up_at(program, set, AT);
}

/// The same with a key that is elsewhere on the stack.
fn look_up_at(program: &mut Program, map: BorrowedFd<'_>, key: i16) {
    program.map(R1, map.as_raw_fd());
    program.copy(R2, STACK);
    program.add(R2, i32::from(key));
    program.call(LOOK_UP);
}

/// Begins an address of IPv4 that stands among those of IPv6 (RFC 4291, section 2.5.5.2).
fn mapped(program: &mut Program) {
    program.store_value(Long, STACK, AT_ADDRESS, 0);
    program.store_value(Half, STACK, AT_ADDRESS + 8, 0);
    program.store_value(Half, STACK, AT_ADDRESS + 10, -1);
}

/// What a container sends goes on if it speaks as itself: with its link-layer address, and from an
/// address of its own, which `set` has as [`Key`](super::Key)s. `near` has it as a [`Row`](super::Row),
/// where it is the only one of IPv4, or the first.
pub(super) fn speakers(set: BorrowedFd<'_>, near: BorrowedFd<'_>) -> Vec<Instruction> {
    let mut program = Program::new();
    program.copy(R6, R1);
    program.load(Word, R8, R6, LINK);
    program.store(Word, STACK, AT, R8);
    // IPv4 is what most of it is: it is read where it is.
    program.load(Word, R2, R6, DATA);
    program.load(Word, R3, R6, DATA_END);
    program.copy(R4, R2);
    program.add(R4, ETHERNET + 20);
    program.if_more(R4, R3, Place::Other);
    program.load(Half, R5, R2, 12);
    program.unless(R5, half(IPV4), Place::Other);
    program.copy(R7, R2);
    program.and(R8, MASK);
    program.store(Word, STACK, HEADER, R8);
    look_up_at(&mut program, near, HEADER);
    program.if_is(R0, 0, Place::Far);
    program.load(Word, R1, STACK, AT);
    program.load(Word, R2, R0, 0);
    program.unless_same(R1, R2, Place::Far);
    for (width, at, row) in [(Word, 6, 4), (Half, 10, 8), (Word, 26, 12)] {
        program.load(width, R1, R7, at);
        program.load(width, R2, R0, row);
        program.unless_same(R1, R2, Place::Far);
    }
    program.go(Place::Pass);

    program.place(Place::Far);
    program.load(Word, R5, R7, 6);
    program.store(Word, STACK, AT_MAC, R5);
    program.load(Half, R5, R7, 10);
    program.store(Half, STACK, AT_MAC + 4, R5);
    program.store_value(Half, STACK, AT_PAD, 0);
    program.load(Word, R5, R7, 26);
    program.store(Word, STACK, AT_V4, R5);
    mapped(&mut program);
    program.go(Place::Known);

    program.place(Place::Other);
    // The sender's link-layer address, and behind it what the frame carries.
    read(&mut program, 6, AT_MAC, 8);
    program.load(Half, R7, STACK, AT_PAD);
    program.store_value(Half, STACK, AT_PAD, 0);
    program.if_is(R7, half(ARP), Place::Arp);
    program.if_is(R7, half(IPV6), Place::Ipv6);
    program.unless(R7, half(IPV4), Place::Drop);
    read(&mut program, 26, AT_V4, 4);
    mapped(&mut program);
    program.go(Place::Known);

    arp(&mut program);
    ipv6(&mut program, set);

    program.place(Place::KnownOrLocal);
    look_up(&mut program, set);
    program.unless(R0, 0, Place::Pass);
    // fe80::/10
    program.load(Byte, R7, STACK, AT_ADDRESS);
    program.unless(R7, 0xfe, Place::Drop);
    program.load(Byte, R7, STACK, AT_ADDRESS + 1);
    program.and(R7, 0xc0);
    program.if_is(R7, 0x80, Place::Pass);
    program.go(Place::Drop);

    program.place(Place::Known);
    look_up(&mut program, set);
    program.if_is(R0, 0, Place::Drop);
    finish(program)
}

/// Ends a program: what comes to its end goes on.
fn finish(mut program: Program) -> Vec<Instruction> {
    program.place(Place::Pass);
    program.set(R0, PASS);
    program.end();
    program.place(Place::Drop);
    program.set(R0, DROP);
    program.end();
    program.finish()
}

/// Whoever asks says who he is, and says the same as his frame does (RFC 826).
fn arp(program: &mut Program) {
    program.place(Place::Arp);
    read(program, ETHERNET, HEADER, 28);
    // Ethernet, IPv4, and how long the addresses of each are.
    program.load(Half, R5, STACK, HEADER);
    program.unless(R5, half(1), Place::Drop);
    program.load(Half, R5, STACK, HEADER + 2);
    program.unless(R5, half(IPV4), Place::Drop);
    program.load(Half, R5, STACK, HEADER + 4);
    program.unless(R5, half(0x0604), Place::Drop);
    for (width, at) in [(Word, 0), (Half, 4)] {
        program.load(width, R5, STACK, HEADER + 8 + at);
        program.load(width, R7, STACK, AT_MAC + at);
        program.unless_same(R5, R7, Place::Drop);
    }
    for at in [0, 2] {
        program.load(Half, R5, STACK, HEADER + 14 + at);
        program.store(Half, STACK, AT_V4 + at, R5);
    }
    mapped(program);
    program.go(Place::Known);
}

/// Whoever has IPv6 at all may say what it needs before there is an address, and between neighbours;
/// but nobody announces another's address (RFC 4861, section 4.4), wherever he hides it.
fn ipv6(program: &mut Program, set: BorrowedFd<'_>) {
    /// Next headers (RFC 8200, section 4) that say how long they are, in units of eight bytes.
    const USUAL: [i32; 6] = [0, 43, 60, 135, 139, 140];
    const FRAGMENT: i32 = 44;
    const ICMP: i32 = 58;
    const ADVERTISEMENT: i32 = 136;

    program.place(Place::Ipv6);
    program.store_value(Long, STACK, AT_ADDRESS, 0);
    program.store_value(Word, STACK, AT_ADDRESS + 8, 0);
    program.store_value(Word, STACK, AT_ADDRESS + 12, 0);
    look_up(program, set);
    program.if_is(R0, 0, Place::Drop);
    // R7 is what comes next, R8 where.
    read(program, ETHERNET + 6, HEADER, 1);
    program.load(Byte, R7, STACK, HEADER);
    program.set(R8, ETHERNET + 40);
    for n in 0..EXTENSIONS {
        program.place(Place::Behind(n));
        program.if_is(R7, ICMP, Place::Icmp);
        program.if_is(R7, FRAGMENT, Place::Fragment(n));
        for next in USUAL {
            program.if_is(R7, next, Place::Skip(n));
        }
        program.go(Place::Source);

        program.place(Place::Fragment(n));
        program.copy(R2, R8);
        read_at(program, HEADER, 4);
        program.load(Byte, R7, STACK, HEADER);
        // Of any but the first what follows is the middle of something.
        program.load(Half, R5, STACK, HEADER + 2);
        program.and(R5, half(0xfff8));
        program.unless(R5, 0, Place::Source);
        program.add(R8, 8);
        program.go(Place::Behind(n + 1));

        program.place(Place::Skip(n));
        program.copy(R2, R8);
        read_at(program, HEADER, 2);
        program.load(Byte, R7, STACK, HEADER);
        program.load(Byte, R5, STACK, HEADER + 1);
        program.add(R5, 1);
        program.shift_left(R5, 3);
        program.add_register(R8, R5);
    }
    program.place(Place::Behind(EXTENSIONS));
    program.go(Place::Drop);

    program.place(Place::Icmp);
    program.copy(R2, R8);
    read_at(program, HEADER, 1);
    program.load(Byte, R7, STACK, HEADER);
    program.unless(R7, ADVERTISEMENT, Place::Source);
    program.copy(R2, R8);
    program.add(R2, 8);
    read_at(program, AT_ADDRESS, 16);
    program.go(Place::KnownOrLocal);

    program.place(Place::Source);
    read(program, ETHERNET + 8, AT_ADDRESS, 16);
    program.go(Place::KnownOrLocal);
}

/// No frame of IPv6 goes on: a container without any would take an address and routes from the first
/// router advertisement that reaches it. A tag of a VLAN is taken off before the protocol is looked
/// at; a second one would hide it, but not from the container, so what still has one is dropped too.
pub(super) fn no_ipv6() -> Vec<Instruction> {
    let mut program = Program::new();
    program.load(Word, R2, R1, PROTOCOL);
    for protocol in [IPV6, VLAN, STACKED_VLAN] {
        program.if_is(R2, half(protocol), Place::Drop);
    }
    finish(program)
}

const _: () = assert!(AT.unsigned_abs() as usize == KEY);
const _: () = assert!(ROW == 16 && ROWS.is_power_of_two());
