//! What patching costs: instructions for each callsite, and how often the platform is asked, for small and large batches.
//!
//! Instructions are counted by the emulator and repeat exactly. This kernel has some thousand functions of its own for it,
//! and everything else that is linked.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use boot_tests::functions::FUNCTIONS;
use fentry::{Engine, Filter, FtraceRegs, Ops, Rule, TextAddr};
use support::memory::{self, Alias};
use support::platform::{self, ALIAS, SYNCHRONIZE};
use support::{count, engine, println};

support::boot_tests! {
    a_large_batch_costs_few_instructions_for_each_callsite,
    a_batch_of_any_size_synchronises_once,
}

static OPS: Ops = Ops::new(nothing);

extern "C" fn nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

/// Their addresses, in ascending order.
fn addresses() -> Vec<TextAddr> {
    let mut all: Vec<TextAddr> =
        FUNCTIONS.as_flattened().iter().map(|function| TextAddr::new((*function as *const ()).addr() as u64)).collect();
    all.sort();
    all
}

/// The most instructions for a callsite in a batch of a thousand and more, on the permanent alias, where each word is stored
/// once, and where it is stored again for an emulator: an aim, with room for another compiler. An unoptimised kernel has
/// none.
const MOST: [u32; 2] = [95, 120];

/// What one batch cost.
struct Cost {
    callsites: usize,
    register: u32,
    unregister: u32,
    aliases: u64,
}

impl Cost {
    /// Registers and unregisters, and counts.
    fn of(engine: &Engine, filter: &Filter<'_>) -> Option<Self> {
        // Once before, so that what is only done the first time is done.
        engine.register(&OPS, filter).expect("nothing else is registered");
        engine.unregister(&OPS).expect("it is registered");
        let aliases = ALIAS.asked();
        let counter = count::start()?;
        let start = counter.instructions();
        let callsites = engine.register(&OPS, filter).expect("nothing else is registered");
        let between = counter.instructions();
        engine.unregister(&OPS).expect("it is registered");
        let end = counter.instructions();
        Some(Self {
            callsites,
            register: between.wrapping_sub(start),
            unregister: end.wrapping_sub(between),
            aliases: (ALIAS.asked() - aliases) / 2,
        })
    }

    fn of_each(&self, instructions: u32) -> u32 {
        instructions / self.callsites as u32
    }

    fn print(&self, what: &str) {
        println!(
            "{:>6} callsites, {what:12} {:>6} to register, {:>6} to unregister, {:>4} aliases",
            self.callsites,
            self.of_each(self.register),
            self.of_each(self.unregister),
            self.aliases,
        );
    }
}

fn a_large_batch_costs_few_instructions_for_each_callsite() {
    let (engine, _) = engine();
    let all = addresses();
    for (alias, stores) in [Alias::Permanent, Alias::Window].into_iter().flat_map(|alias| [(alias, 1), (alias, 2)]) {
        memory::use_alias(alias);
        platform::set_may_be_emulated(stores == 2);
        println!("instructions for each callsite, each word stored {stores} times:");
        for size in [1, 10, 100, 1000] {
            let rules: Vec<Rule<'_>> = all[..size].iter().map(|at| Rule::address(*at)).collect();
            let Some(cost) = Cost::of(engine, &Filter::new(&rules)) else {
                println!("(this machine counts no instructions)");
                return;
            };
            assert_eq!(cost.callsites, size);
            cost.print(if alias == Alias::Permanent { "permanent" } else { "windows" });
        }
        let Some(cost) = Cost::of(engine, &Filter::ALL) else { return };
        cost.print(if alias == Alias::Permanent { "permanent, all" } else { "windows, all" });
        if alias == Alias::Permanent && !cfg!(debug_assertions) {
            assert!(cost.callsites > 1000);
            let worse = cost.of_each(cost.register).max(cost.of_each(cost.unregister));
            assert!(worse <= MOST[stores - 1], "{worse} instructions for each callsite");
        }
    }
    memory::use_alias(Alias::Permanent);
}

fn a_batch_of_any_size_synchronises_once() {
    let (engine, _) = engine();
    let all = addresses();
    for size in [1, 10, 100, 1000] {
        let rules: Vec<Rule<'_>> = all[..size].iter().map(|at| Rule::address(*at)).collect();
        let asked = SYNCHRONIZE.asked();
        engine.register(&OPS, &Filter::new(&rules)).expect("nothing else is registered");
        // Once more for the stub, which no other ops shares.
        assert_eq!(SYNCHRONIZE.asked() - asked, 2);
        engine.unregister(&OPS).expect("it is registered");
        assert_eq!(SYNCHRONIZE.asked() - asked, 3);
    }
    assert_eq!(FUNCTIONS[3][7](0), 307);
}
