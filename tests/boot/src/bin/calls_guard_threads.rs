//! Misses of several CPUs at once, where each CPU is a thread of the host; `calls_guard` has them in virtual time.
#![no_std]
#![no_main]

use boot_tests::misses::several_cpus_miss_the_same_ops_and_no_miss_is_lost;

support::boot_tests! {
    several_cpus_miss_the_same_ops_and_no_miss_is_lost,
}
