//! Misses of several CPUs at once, where each CPU is a thread of the host; `guard` has them in virtual time.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "guard/misses.rs"]
mod misses;

use misses::several_cpus_miss_the_same_ops_and_no_miss_is_lost;

support::boot_tests! {
    several_cpus_miss_the_same_ops_and_no_miss_is_lost,
}
