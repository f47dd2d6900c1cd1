//! What of bpf(2) the guards of ports need: sets and tables that a program looks things up in, and
//! programs that the traffic control of a link runs. Both live as long as somebody holds them: this process, or a
//! filter of a link.

use std::{
    ffi::CStr,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{errno::Errno, libc};

use crate::{Error, Result, netlink::read_u32};

pub(crate) mod assembly;

use assembly::Instruction;

/// Commands (`enum bpf_cmd`, linux/bpf.h).
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// `union bpf_attr` is no longer than this, where these commands are concerned.
const ATTRIBUTES: usize = 128;

/// The arguments of one call: numbers, and places in memory that outlive it.
struct Call<'a> {
    bytes: [u8; ATTRIBUTES],
    places: PhantomData<&'a mut [u8]>,
}

impl<'a> Call<'a> {
    fn new() -> Self {
        Self { bytes: [0; ATTRIBUTES], places: PhantomData }
    }

    fn number(mut self, at: usize, number: u32) -> Self {
        self.bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        self
    }

    fn long(mut self, at: usize, number: u64) -> Self {
        self.bytes[at..at + 8].copy_from_slice(&number.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: BorrowedFd<'_>) -> Self {
        self.number(at, fd.as_raw_fd().cast_unsigned())
    }

    /// A name that others see, of at most 15 bytes.
    fn name(mut self, at: usize, name: &str) -> Self {
        let length = name.len().min(15);
        self.bytes[at..at + length].copy_from_slice(&name.as_bytes()[..length]);
        self
    }

    /// A place that the kernel reads.
    fn input(self, at: usize, place: &'a [u8]) -> Self {
        self.long(at, place.as_ptr().expose_provenance() as u64)
    }

    /// A place that the kernel writes to.
    fn output(self, at: usize, place: &'a mut [u8]) -> Self {
        self.long(at, place.as_mut_ptr().expose_provenance() as u64)
    }

    #[allow(unsafe_code, reason = "nobody wraps bpf(2) without a library of C's")]
    fn run(&mut self, command: libc::c_int) -> Result<libc::c_int, Errno> {
        // SAFETY: the kernel reads and writes the attributes, whose length is told, and the places that
        // were put there from slices that are borrowed for as long as this value lives. They are as
        // long as the kernel takes them for: keys and values as their map was made or found to have
        // them, programs, frames and what is told of an object as the attributes say beside them.
        let answer =
            unsafe { libc::syscall(libc::SYS_bpf, command, self.bytes.as_mut_ptr(), ATTRIBUTES) };
        Errno::result(answer).map(|answer| libc::c_int::try_from(answer).unwrap_or(-1))
    }

    #[allow(unsafe_code, reason = "the kernel gives a bare number")]
    fn open(mut self, command: libc::c_int) -> Result<OwnedFd, Errno> {
        let fd = self.run(command)?;
        // SAFETY: these commands give a descriptor that is nobody else's yet.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// A set of the kernel's, of keys of `N` bytes.
#[derive(Debug)]
pub(crate) struct Set<const N: usize>(OwnedFd);

impl<const N: usize> Set<N> {
    /// Makes one that holds so many keys at most.
    pub(crate) fn make(name: &str, capacity: u32) -> Result<Self> {
        const HASH: u32 = 1;
        const NO_PREALLOC: u32 = 1;
        let lengths = [length::<N>(), 1];
        make_map(name, HASH, lengths, capacity, NO_PREALLOC).map(Self)
    }

    /// The one of a number, if its keys are as long.
    pub(crate) fn of_id(id: u32) -> Result<Option<Self>> {
        let failed = |errno| Error::call("open the BPF map", format!("number {id}"), errno);
        let set = Call::new().number(0, id).open(MAP_GET_FD_BY_ID).map(Self).map_err(failed)?;
        // struct bpf_map_info: type, id, key_size.
        let mut info = [0; 16];
        information(set.0.as_fd(), &mut info).map_err(failed)?;
        Ok((read_u32(&info[8..]) == Some(length::<N>())).then_some(set))
    }

    /// Puts a key in, which may be there.
    ///
    /// # Errors
    /// `E2BIG` when it is full.
    pub(crate) fn insert(&self, key: &[u8; N]) -> Result<(), Errno> {
        let value = [1];
        let mut call = Call::new().fd(0, self.0.as_fd()).input(8, key).input(16, &value);
        call.run(MAP_UPDATE_ELEM).map(drop)
    }

    /// Takes a key out, which may not be there.
    pub(crate) fn remove(&self, key: &[u8; N]) -> Result<(), Errno> {
        match Call::new().fd(0, self.0.as_fd()).input(8, key).run(MAP_DELETE_ELEM) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// All keys, as far as they were there from beginning to end.
    pub(crate) fn keys(&self) -> Result<Vec<[u8; N]>, Errno> {
        let mut keys: Vec<[u8; N]> = Vec::new();
        loop {
            let mut next = [0; N];
            let mut call = Call::new().fd(0, self.0.as_fd());
            if let Some(last) = keys.last() {
                call = call.input(8, last);
            }
            match call.output(16, &mut next).run(MAP_GET_NEXT_KEY) {
                Ok(_) => {}
                Err(Errno::ENOENT) => return Ok(keys),
                Err(errno) => return Err(errno),
            }
            // After one that was taken out meanwhile the kernel begins anew.
            if keys.len() > 1 && keys.first() == Some(&next) {
                return Ok(keys);
            }
            keys.push(next);
        }
    }
}

impl<const N: usize> AsFd for Set<N> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A table of the kernel's, of rows of `N` bytes that have numbers from 0 on.
#[derive(Debug)]
pub(crate) struct Table<const N: usize>(OwnedFd);

impl<const N: usize> Table<N> {
    /// Makes one of so many rows, of zeros.
    pub(crate) fn make(name: &str, rows: u32) -> Result<Self> {
        const ARRAY: u32 = 2;
        make_map(name, ARRAY, [4, length::<N>()], rows, 0).map(Self)
    }

    /// Writes a row.
    ///
    /// # Errors
    /// `E2BIG` when there is no row of this number.
    pub(crate) fn write(&self, number: u32, row: &[u8; N]) -> Result<(), Errno> {
        let key = number.to_ne_bytes();
        let mut call = Call::new().fd(0, self.0.as_fd()).input(8, &key).input(16, row);
        call.run(MAP_UPDATE_ELEM).map(drop)
    }
}

impl<const N: usize> AsFd for Table<N> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn length<const N: usize>() -> u32 {
    u32::try_from(N).expect("keys and rows are short")
}

/// Makes a map of a type, with keys and values of these lengths.
fn make_map(
    name: &str,
    kind: u32,
    [key, value]: [u32; 2],
    capacity: u32,
    flags: u32,
) -> Result<OwnedFd> {
    Call::new()
        .number(0, kind)
        .number(4, key)
        .number(8, value)
        .number(12, capacity)
        .number(16, flags)
        .name(28, name)
        .open(MAP_CREATE)
        .map_err(|errno| Error::call("make the BPF map", name, errno))
}

/// A program for the frames of a link (`BPF_PROG_TYPE_SCHED_CLS`).
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Has the kernel verify and keep a program.
    pub(crate) fn load(name: &str, code: &[Instruction]) -> Result<Self> {
        const SCHED_CLS: u32 = 3;
        const LICENSE: &CStr = c"Apache-2.0 OR MIT";
        const LOG: u32 = 1;
        let bytes: Vec<u8> = code.iter().flat_map(|instruction| instruction.bytes()).collect();
        let count = u32::try_from(code.len()).expect("programs are short");
        let load = |call: Call<'_>| {
            call.number(0, SCHED_CLS)
                .number(4, count)
                .input(8, &bytes)
                .input(16, LICENSE.to_bytes_with_nul())
                .name(48, name)
                .open(PROG_LOAD)
        };
        load(Call::new()).map(Self).map_err(|errno| {
            // Once more, to hear why: 4 KiB, which is told.
            let mut log = vec![0; 4096];
            let length = u32::try_from(log.len()).unwrap_or_default();
            drop(load(Call::new().number(24, LOG).number(28, length).output(32, &mut log)));
            let said = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
            let last =
                said.lines().rfind(|line| !line.starts_with("processed")).unwrap_or_default();
            Error::call("load the BPF program", format!("{name} ({last})"), errno)
        })
    }

    /// The numbers of the maps that the program of a number looks things up in, of which it has few.
    pub(crate) fn maps_of(id: u32) -> Result<Vec<u32>> {
        const FEW: usize = 4;
        let failed = |errno| Error::call("open the BPF program", format!("number {id}"), errno);
        let program = Call::new().number(0, id).open(PROG_GET_FD_BY_ID).map_err(failed)?;
        // struct bpf_prog_info: how many numbers of maps there is room for, and where: this outlives
        // the call.
        let mut maps = [0; 4 * FEW];
        let mut info = [0; 64];
        info[52..56].copy_from_slice(&u32::try_from(FEW).expect("they are few").to_ne_bytes());
        let place = maps.as_mut_ptr().expose_provenance() as u64;
        info[56..64].copy_from_slice(&place.to_ne_bytes());
        information(program.as_fd(), &mut info).map_err(failed)?;
        let count = usize::try_from(read_u32(&info[52..]).unwrap_or_default()).unwrap_or(FEW);
        Ok(maps.chunks(4).take(count).filter_map(read_u32).collect())
    }

    /// What it says of a frame that came by a link of the calling thread's namespace.
    pub(crate) fn verdict(&self, frame: &[u8], link: u32) -> Result<i32, Errno> {
        // struct __sk_buff, of which `ifindex` is at 40.
        let mut context = [0; 192];
        context[40..44].copy_from_slice(&link.to_ne_bytes());
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut call = Call::new()
            .fd(0, self.0.as_fd())
            .number(8, length(frame))
            .input(16, frame)
            .number(32, 1)
            .number(40, length(&context))
            .input(48, &context);
        call.run(PROG_TEST_RUN)?;
        Ok(read_u32(&call.bytes[4..]).unwrap_or_default().cast_signed())
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the kernel tells of a map or a program.
fn information(fd: BorrowedFd<'_>, info: &mut [u8]) -> Result<(), Errno> {
    let length = u32::try_from(info.len()).unwrap_or_default();
    Call::new().fd(0, fd).number(4, length).output(8, info).run(OBJ_GET_INFO_BY_FD).map(drop)
}
