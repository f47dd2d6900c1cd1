//! Prints what a lease costs, in nanoseconds, in a pool with none, a thousand and 65,000 leases.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipam::{Error, Moment, Pool, PoolConfig};

const ROUNDS: u32 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heads = ["automatic", "sticky", "static", "release"];
    println!("{:>8} {:>10} {}", "leases", "", heads.map(|head| format!("{head:>10}")).join(" "));
    // In one piece, and with every second address free: the most pieces there can be.
    for (layout, stride) in [("together", 1), ("scattered", 2)] {
        for leases in [0, 1_000, 65_000] {
            let mut pool = Pool::new(PoolConfig {
                reuse_delay: Duration::from_millis(100),
                ..PoolConfig::new("10.0.0.0/15".parse()?)
            })?;
            for number in 0..leases {
                pool.allocate_static(address(stride * number + 1), Moment(0))?;
            }
            let means = measure(&mut pool)?.map(|mean| format!("{mean:>10}")).join(" ");
            println!("{leases:>8} {layout:>10} {means}");
        }
    }
    Ok(())
}

/// Mean nanoseconds of an automatic, a sticky and a static lease, and of a release. Each round's
/// first, the automatic lease, also frees the two addresses whose reuse delay has passed.
fn measure(pool: &mut Pool) -> Result<[u128; 4], Error> {
    let mut spent = [Duration::ZERO; 4];
    let unused = address(131_000);
    for round in 0..ROUNDS {
        let now = Moment(round.into());
        let start = Instant::now();
        let automatic = black_box(pool.allocate(now)?);
        spent[0] += start.elapsed();
        let start = Instant::now();
        let sticky = black_box(pool.allocate_sticky("web", now)?);
        spent[1] += start.elapsed();
        let start = Instant::now();
        pool.allocate_static(unused, now)?;
        spent[2] += start.elapsed();
        let start = Instant::now();
        black_box(pool.release(automatic, now));
        spent[3] += start.elapsed();
        pool.release(sticky, now);
        pool.release(unused, now);
    }
    Ok(spent.map(|spent| spent.as_nanos() / u128::from(ROUNDS)))
}

fn address(number: u32) -> IpAddr {
    let base = Ipv4Addr::new(10, 0, 0, 0).to_bits();
    IpAddr::V4(Ipv4Addr::from_bits(base + number))
}
