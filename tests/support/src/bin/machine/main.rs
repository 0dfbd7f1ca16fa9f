//! The small kernel, tested by itself: what the boot tests of fentry take for granted.
#![no_std]
#![no_main]

extern crate alloc;

mod interrupts;
mod live;
mod memory;
mod smp;

use interrupts::{an_interrupt_keeps_every_register, callbacks_can_tell_an_interrupt, masked_means_masked, ticks_come};
use live::{text_changes_under_running_cpus, the_engine_is_ready_before_other_cpus};
use memory::{
    a_caught_fault_leaves_no_trace, a_store_to_text_faults, an_alias_writes_text, an_overflow_hits_the_guard,
    an_unexpected_branch_faults, data_is_not_executable, nothing_is_writable_and_executable,
    windows_leave_nothing_behind,
};
use smp::{
    all_cpus_start, cpus_synchronise, each_cpu_has_its_own_block, functions_run_in_interrupts,
    jobs_run_at_the_same_time, locks_exclude, masked_cpus_still_synchronise,
};

support::boot_tests! {
    constants_and_variables_are_where_they_should_be,
    the_heap_gives_and_takes,
    the_engine_is_ready_before_other_cpus,
    ticks_come,
    masked_means_masked,
    an_interrupt_keeps_every_register,
    callbacks_can_tell_an_interrupt,
    a_store_to_text_faults,
    data_is_not_executable,
    an_overflow_hits_the_guard,
    an_unexpected_branch_faults,
    a_caught_fault_leaves_no_trace,
    an_alias_writes_text,
    nothing_is_writable_and_executable,
    all_cpus_start,
    each_cpu_has_its_own_block,
    jobs_run_at_the_same_time,
    functions_run_in_interrupts,
    locks_exclude,
    cpus_synchronise,
    masked_cpus_still_synchronise,
    windows_leave_nothing_behind,
    vector_registers_are_there_if_compiled_in,
    services_fail_when_asked_to,
    instructions_are_counted,
    text_changes_under_running_cpus,
}

fn constants_and_variables_are_where_they_should_be() {
    static mut VARIABLE: u64 = 1;
    static CONSTANT: [u8; 3] = [1, 2, 3];
    let text = support::memory::text();
    let variable = (&raw mut VARIABLE).addr();
    assert!(text.contains(&(constants_and_variables_are_where_they_should_be as *const () as usize)));
    assert!(!text.contains(&CONSTANT.as_ptr().addr()));
    assert!(!text.contains(&variable));
}

fn the_heap_gives_and_takes() {
    use alloc::{boxed::Box, format, vec::Vec};
    for round in 0..200 {
        let numbers: Vec<u64> = (0..1000 + round).collect();
        let boxed = Box::new(numbers.iter().sum::<u64>());
        assert_eq!(*boxed, (0..1000 + round).sum());
        assert_eq!(format!("{round:>5}").len(), 5);
    }
    // More than there is, unless what was freed comes back.
    for _ in 0..8 {
        let large: Vec<u8> = Vec::with_capacity(40 << 20);
        assert!(large.capacity() >= 40 << 20);
    }
}

fn services_fail_when_asked_to() {
    use fentry::{Platform, TextAddr};
    use support::PLATFORM;
    use support::platform::{ALIAS, SYNCHRONIZE};
    let page = TextAddr::new(support::memory::text().start as u64);
    // As the engine asks.
    let _masked = support::interrupts::Masked::new();
    let asked = ALIAS.asked();
    ALIAS.fail_after(1);
    SYNCHRONIZE.fail_after(0);
    assert!(PLATFORM.map_alias(page).is_ok());
    assert!(PLATFORM.map_alias(page).is_err());
    assert!(PLATFORM.map_alias(page).is_ok());
    assert!(PLATFORM.synchronize_cpus().is_err());
    assert!(PLATFORM.synchronize_cpus().is_ok());
    assert_eq!(ALIAS.asked(), asked + 3);
    ALIAS.fail_after(0);
    ALIAS.succeed();
    assert!(PLATFORM.map_alias(page).is_ok());
}

fn instructions_are_counted() {
    let Some(count) = support::count::start() else {
        support::println!("(this machine counts no instructions)");
        return;
    };
    let instructions = |turns: u64| {
        let before = count.instructions();
        // SAFETY: the loop changes nothing but its own register.
        unsafe { core::arch::asm!("2: subs {0}, {0}, #1", "b.ne 2b", inout(reg) turns => _) };
        count.instructions() - before
    };
    let (some, more) = (instructions(100), instructions(1100));
    assert_eq!(more - some, 2000, "two instructions a turn");
}

/// A kernel compiled without them must not touch them, so there they fault.
fn vector_registers_are_there_if_compiled_in() {
    // SAFETY: `fmov d0, d0` changes nothing. As a number, because the softfloat assembler refuses the name.
    let used = support::exceptions::catch(|| unsafe { core::arch::asm!(".inst 0x1e604000") });
    let compiled_in = cfg!(target_feature = "neon");
    match used {
        Ok(()) => assert!(compiled_in, "the vector registers are not switched off"),
        Err(fault) => {
            assert!(!compiled_in, "{fault}");
            assert_eq!(fault.class(), 0x07, "{fault}");
        }
    }
}
