//! Prints what a lease costs, in nanoseconds, in a pool with none, a thousand and 65,000 leases.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipam::{Error, Moment, Pool, PoolConfig};

const ROUNDS: u32 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>10}",
        "leases", "automatic", "sticky", "static", "release"
    );
    for leases in [0, 1_000, 65_000] {
        let mut pool = Pool::new(PoolConfig {
            reuse_delay: Duration::from_millis(100),
            ..PoolConfig::new("10.0.0.0/15".parse()?)
        })?;
        // Every second address, so that the free ones are in as many pieces as can be.
        for number in 0..leases {
            pool.allocate_static(address(2 * number + 1), Moment(0))?;
        }
        let [automatic, sticky, fixed, release] = measure(&mut pool)?;
        println!("{leases:>8} {automatic:>10} {sticky:>10} {fixed:>10} {release:>10}");
    }
    Ok(())
}

/// Mean nanoseconds of an automatic, a sticky and a static lease, and of a release.
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
