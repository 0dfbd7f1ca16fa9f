//! Two real subsystems, loaded as modules into a kernel and looked at there with what fentry offers: the tools for it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`loaded`] | the list of modules, and names of functions in them |
//! | [`trace`] | stack traces through modules, each with its verdict |
//! | [`lifetimes`] | a checker of object lifetimes, of hooks on what allocates and what frees |
//! | [`graph`] | the graph tracer's calls, as lines |
//! | [`extents`] | the module `extents`: its operations, a workload, the report's insertion |
//! | [`container`] | the module `container`: its driver's operations, each step of them made to fail |
//!
//! `cargo xtask demo --kernel patients` shows it; `modules_patients`, in `tests/boot`, asserts it.
#![no_std]
#![cfg(target_os = "none")]

extern crate alloc;

pub mod container;
pub mod extents;
pub mod graph;
pub mod lifetimes;
pub mod loaded;
pub mod trace;

use fentry::context::shadow::ShadowStack;
use support::percpu::{self, MAX_CPUS};
use support::smp;

static SHADOW_STACKS: [ShadowStack<64>; MAX_CPUS] = [const { ShadowStack::new() }; MAX_CPUS];

/// Makes the engine ready, starts all CPUs, and lets the returns of what runs on them be hooked. Returns their number.
///
/// # Safety
///
/// 1. No return is hooked yet, and no shadow stack was set.
pub unsafe fn prepare() -> usize {
    support::engine();
    for (cpu, stack) in SHADOW_STACKS.iter().enumerate() {
        // SAFETY: 1. Each CPU has its own, in a static. 2. to 4. Nothing is hooked or traced yet: our caller's promise.
        unsafe { percpu::of(cpu).trace.set_shadow_stack(stack) };
    }
    smp::start_all()
}
