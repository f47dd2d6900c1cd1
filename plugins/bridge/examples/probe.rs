//! tmp
#![allow(clippy::unwrap_used)]
use std::{fs::File, os::fd::AsRawFd, thread, time::{Duration, Instant}};
use kernel::{netlink::Socket, netns::Netns, sysctl, links::{self,Pair}, netlink::Batch};
use nix::sched::{CloneFlags, unshare};
use std::os::fd::AsFd;
fn main() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let mut s = Socket::route().unwrap();
    let mut t: [Vec<Duration>; 7] = Default::default();
    let home = Netns::own().unwrap();
    for n in 0..200 {
        let f = thread::spawn(|| { unshare(CloneFlags::CLONE_NEWNET).unwrap(); File::open("/proc/thread-self/ns/net").unwrap() }).join().unwrap();
        let mut b = Batch::new();
        links::make_pair(&mut b, &Pair{host:&format!("p{n}"),bridge:0,group:0,netns:f.as_fd(),name:"eth0",mac:[2,0,0,0,0,1],mtu:1500});
        s.run(b).unwrap();
        let path = format!("/proc/self/fd/{}", f.as_raw_fd());
        let i = Instant::now(); let ns = Netns::open(&path).unwrap(); t[0].push(i.elapsed());
        let i = Instant::now(); ns.same_as(&home).unwrap(); t[1].push(i.elapsed());
        let i = Instant::now(); let k = ns.inside(&home, || Socket::route_small().unwrap()).unwrap(); t[2].push(i.elapsed());
        let i = Instant::now(); ns.inside(&home, || ()).unwrap(); t[3].push(i.elapsed());
        let i = Instant::now(); ns.inside(&home, || sysctl::write("net/ipv6/conf/eth0/disable_ipv6","1").unwrap()).unwrap(); t[4].push(i.elapsed());
        let i = Instant::now(); k.cookie().unwrap(); t[5].push(i.elapsed());
        let i = Instant::now(); drop(k); drop(ns); t[6].push(i.elapsed());
    }
    for (n, t) in ["open","same","inside+socket","inside","inside+sysctl","cookie","drop"].iter().zip(&mut t) { t.sort(); println!("{n:>20} {:?} {:?}", t[100], t[190]); }
}
