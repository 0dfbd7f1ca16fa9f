//! What each stub looks at before it calls anything: whether this CPU is ready to be traced, whether its level is inside a
//! callback already; what it counts where it does not call, and what it shows where every register is asked for.
//!
//! | file | the promise |
//! |---|---|
//! | `not_ready` | a CPU whose base register is zero runs every traced function, and nothing is told of it |
//! | `nested` | a guard that was taken inside a callback is given back as it was |
//! | `flags` | `PtRegs` has the flags and the interrupt masks of the callsite |
//! | `misses` | misses of several CPUs at once are exact |
#![no_std]
#![no_main]

extern crate alloc;

mod flags;
mod nested;
mod not_ready;

use boot_tests::misses::several_cpus_miss_the_same_ops_and_no_miss_is_lost;
use flags::flags_and_interrupt_masks_are_those_of_the_callsite;
use nested::a_callback_that_calls_twice_is_inside_itself_both_times;
use not_ready::a_cpu_that_is_not_ready_is_not_traced;

support::boot_tests! {
    a_cpu_that_is_not_ready_is_not_traced,
    a_callback_that_calls_twice_is_inside_itself_both_times,
    flags_and_interrupt_masks_are_those_of_the_callsite,
    several_cpus_miss_the_same_ops_and_no_miss_is_lost,
}
