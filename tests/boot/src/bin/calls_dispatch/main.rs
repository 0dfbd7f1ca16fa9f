//! Each function calls exactly the ops that were registered for it: several on one function, in every order, with
//! redirects and direct trampolines beside them, and while other CPUs call.
//!
//! | file | the promise |
//! |---|---|
//! | `sets` | who is called where, in which order, with which registers |
//! | `recursion` | nobody is called inside itself, and what is missed is counted |
//! | `redirect` | one ops a function may change where it goes on; the others are told all the same |
//! | `direct` | direct trampolines, alone and beside ops |
//! | `live` | filters and trampolines change while four CPUs call |
//!
//! What is called is [`targets`]; what is told of it is in [`told`].
#![no_std]
#![no_main]

extern crate alloc;

mod direct;
mod live;
mod recursion;
mod redirect;
mod sets;
mod targets;
mod told;

use direct::{
    a_direct_trampoline_is_called_after_the_callbacks, a_direct_trampoline_is_called_by_the_callsite_itself,
    a_direct_trampoline_may_answer_for_the_function, only_an_ops_for_a_trampoline_takes_another,
};
use live::{
    a_filter_changes_while_other_cpus_call, a_trampoline_beside_an_ops_changes_while_other_cpus_call,
    a_trampoline_changes_while_other_cpus_call,
};
use recursion::{
    a_callback_is_not_called_inside_itself, a_recursion_safe_callback_is, an_interrupt_in_a_callback_is_traced,
    every_ops_of_a_list_counts_its_own_misses,
};
use redirect::{
    a_function_is_answered_for_with_other_ops_beside, a_function_is_redirected_with_other_ops_beside,
    a_refused_filter_leaves_the_old_one, two_that_change_where_a_function_goes_on_exclude_each_other,
};
use sets::{
    a_permanent_ops_stays, all_registers_are_saved_only_where_an_ops_asks, filters_may_overlap_or_not,
    four_ops_come_and_go_in_every_order, one_ops_is_told_of_its_functions_only,
};

support::boot_tests! {
    one_ops_is_told_of_its_functions_only,
    filters_may_overlap_or_not,
    four_ops_come_and_go_in_every_order,
    all_registers_are_saved_only_where_an_ops_asks,
    a_callback_is_not_called_inside_itself,
    every_ops_of_a_list_counts_its_own_misses,
    a_recursion_safe_callback_is,
    an_interrupt_in_a_callback_is_traced,
    two_that_change_where_a_function_goes_on_exclude_each_other,
    a_refused_filter_leaves_the_old_one,
    a_function_is_redirected_with_other_ops_beside,
    a_function_is_answered_for_with_other_ops_beside,
    a_direct_trampoline_is_called_by_the_callsite_itself,
    a_direct_trampoline_is_called_after_the_callbacks,
    a_direct_trampoline_may_answer_for_the_function,
    only_an_ops_for_a_trampoline_takes_another,
    a_filter_changes_while_other_cpus_call,
    a_trampoline_changes_while_other_cpus_call,
    a_trampoline_beside_an_ops_changes_while_other_cpus_call,
    a_permanent_ops_stays,
}
