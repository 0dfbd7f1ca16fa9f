//! Two real subsystems as loaded modules: traced, made to fail at every step, and a use after free found in the one that has
//! it.
#![no_std]
#![no_main]

extern crate alloc;

mod container;
mod extents;

use container::{
    a_container_is_paid_for_and_its_devices_reach_what_is_mapped, each_failing_step_of_a_container_changes_nothing,
    four_cpus_use_containers_at_once, the_driver_is_replaced_by_one_that_watches_and_back_while_requests_run,
    the_graph_of_a_mapping_shows_its_pins, the_times_of_mapping_are_counted,
};
use extents::{
    an_injection_is_let_go_with_its_module, the_right_tree_is_clean_where_the_wrong_one_is_not,
    the_tree_says_what_a_map_of_every_block_says, the_use_after_free_is_found_with_three_sure_traces,
};
use patients::loaded::Loaded;
use spin::Once;

support::boot_tests! {
    the_tree_says_what_a_map_of_every_block_says,
    the_right_tree_is_clean_where_the_wrong_one_is_not,
    the_use_after_free_is_found_with_three_sure_traces,
    an_injection_is_let_go_with_its_module,
    a_container_is_paid_for_and_its_devices_reach_what_is_mapped,
    each_failing_step_of_a_container_changes_nothing,
    the_graph_of_a_mapping_shows_its_pins,
    four_cpus_use_containers_at_once,
    the_times_of_mapping_are_counted,
    the_driver_is_replaced_by_one_that_watches_and_back_while_requests_run,
}

/// Loads a module, on a machine whose CPUs all run.
fn loaded(name: &'static str) -> Loaded {
    static PREPARED: Once<usize> = Once::new();
    // SAFETY: 1. Once, before anything is hooked: every case begins with this.
    let cpus = *PREPARED.call_once(|| unsafe { patients::prepare() });
    assert!(cpus > 1, "there is no other CPU");
    Loaded::new(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
