//! Engines in memory of their own: what fits, what an error says would, and that nobody shares it.

use super::several::all_of;
use super::{BASE, init, load, ops, stubs_left};
use crate::address::TextAddr;
use crate::engine::{Engine, EngineMemory, InitError, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::module::regions::{RegionCause, Regions as _};
use crate::ops::Ops;
use std::boxed::Box;
use std::format;
use std::println;
use std::string::String;
use std::vec::Vec;

fn memory<const OPS: usize, const SETS: usize, const REGIONS: usize>() -> &'static EngineMemory<OPS, SETS, REGIONS> {
    Box::leak(Box::new(EngineMemory::new()))
}

/// A kernel with the functions `f0` to `f7`, and a module with `m`.
fn kernel() -> &'static FakeKernel {
    let mut text = FakeText::new(BASE);
    for number in 0..8 {
        text.function(&format!("f{number}"), COMPILED);
    }
    let mut module = FakeText::new(BASE + 0x10_0000);
    module.function("m", COMPILED);
    text.module(module);
    text.build()
}

/// An initialised engine in memory of this size.
fn small<const OPS: usize, const SETS: usize>() -> (&'static FakeKernel, Engine) {
    with_regions::<OPS, SETS, 1>(kernel())
}

fn with_regions<const OPS: usize, const SETS: usize, const REGIONS: usize>(
    kernel: &'static FakeKernel,
) -> (&'static FakeKernel, Engine) {
    let engine = Engine::with_machine_in(kernel, kernel, memory::<OPS, SETS, REGIONS>());
    init(kernel, &engine).unwrap();
    (kernel, engine)
}

fn only(function: &str) -> Rule<'_> {
    Rule::name(function)
}

#[test]
fn the_smallest_engine_has_one_ops_at_any_functions() {
    let (kernel, engine) = small::<1, 2>();
    let before = kernel.snapshot();
    for _ in 0..3 {
        let (first, second) = (ops(), ops());
        assert_eq!(engine.register(first, &Filter::new(&[only("f1"), only("f3")])), Ok(2));
        let registered = all_of(kernel, &engine);
        assert_eq!(engine.register(second, &Filter::ALL), Err(RegisterError::TooManyOps { needed: 2 }));
        assert_eq!(all_of(kernel, &engine), registered);
        assert_eq!(engine.set_filter(first, &Filter::ALL), Ok(8));
        assert_eq!(engine.unregister(first), Ok(8));
        assert_eq!((kernel.snapshot(), stubs_left(&engine)), (before.clone(), (0, 0)));
    }
}

/// Registers two ops that overlap, where there are so many sets.
fn overlapping<const SETS: usize>() -> Result<usize, RegisterError> {
    let (kernel, engine) = small::<2, SETS>();
    engine.register(ops(), &Filter::new(&[only("f1")])).unwrap();
    let (before, second) = (all_of(kernel, &engine), ops());
    let result = engine.register(second, &Filter::ALL);
    if result.is_err() {
        assert_eq!(all_of(kernel, &engine), before);
        assert_eq!(engine.unregister(second), Err(RegisterError::NotRegistered));
        // What needs no more sets is done after it as before.
        assert_eq!(engine.register(second, &Filter::new(&[only("f1")])), Err(RegisterError::TooManySets { needed: 3 }));
    }
    result
}

#[test]
fn what_an_error_says_is_needed_is_enough_and_one_less_is_not() {
    let needed = RegisterError::TooManySets { needed: 4 };
    assert_eq!(overlapping::<2>(), Err(needed));
    let (kernel, engine) = small::<2, 3>();
    engine.register(ops(), &Filter::new(&[only("f1")])).unwrap();
    let before = all_of(kernel, &engine);
    assert_eq!(engine.register(ops(), &Filter::ALL), Err(needed));
    assert_eq!(all_of(kernel, &engine), before);
    assert_eq!(overlapping::<4>(), Ok(8));
    assert!(format!("{needed}").contains('4'), "{needed}");
}

#[test]
fn every_combination_of_ops_fits_as_many_sets_as_there_are_combinations() {
    let (kernel, engine) = small::<3, 8>();
    let before = kernel.snapshot();
    let all = [ops(), ops(), ops()];
    let functions = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"];
    for _ in 0..2 {
        for (bit, ops) in all.iter().enumerate() {
            // f0 has none, f7 all of them.
            let rules: Vec<_> =
                (0..8).filter(|set| set >> bit & 1 == 1).map(|set: usize| only(functions[set])).collect();
            assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(4));
        }
        assert_eq!((stubs_left(&engine).0, engine.check_text().enabled), (7, 7));
        assert_eq!(engine.register(ops(), &Filter::ALL), Err(RegisterError::TooManyOps { needed: 4 }));
        for ops in all {
            assert_eq!(engine.unregister(ops), Ok(4));
        }
        assert_eq!((kernel.snapshot(), stubs_left(&engine)), (before.clone(), (0, 0)));
    }
}

#[test]
fn a_trampoline_is_changed_where_there_is_memory_for_one_more() {
    let direct = |to: i64| -> (&'static Ops, TextAddr) {
        let trampoline = TextAddr::new(BASE).offset(to);
        // SAFETY: nothing executes a fake's text.
        (Box::leak(Box::new(unsafe { Ops::direct(trampoline) })), trampoline)
    };
    let change = |engine: &Engine| {
        let (ops, old) = direct(0x10_0000);
        engine.register(ops, &Filter::ALL).unwrap();
        // SAFETY: nothing executes a fake's text.
        unsafe { engine.modify_direct(ops, old.offset(0x100)) }
    };
    assert_eq!(change(&small::<1, 2>().1), Err(RegisterError::TooManyOps { needed: 2 }));
    assert_eq!(change(&small::<2, 2>().1), Err(RegisterError::TooManySets { needed: 3 }));
    assert_eq!(change(&small::<2, 3>().1), Ok(()));
}

#[test]
fn a_module_whose_functions_need_one_more_set_is_refused_with_the_number() {
    let load_with = |kernel: &FakeKernel, engine: &Engine| {
        let module = kernel.module(0).module;
        for function in ["f1", "f2"] {
            engine.register(ops(), &Filter::new(&[only(function), only("m").in_module(module)])).unwrap();
        }
        let before = all_of(kernel, engine);
        let result = load(kernel, engine, 0).map(drop);
        if result.is_err() {
            assert_eq!(all_of(kernel, engine), before);
        }
        result.map_err(|error| error.cause)
    };
    let (kernel, engine) = with_regions::<2, 3, 2>(kernel());
    assert_eq!(load_with(kernel, &engine), Err(RegionCause::TooManySets { needed: 4 }));
    let (kernel, engine) = with_regions::<2, 4, 2>(self::kernel());
    assert_eq!(load_with(kernel, &engine), Ok(()));
    assert_eq!(engine.check_text().enabled, 3);
}

#[test]
fn a_module_for_which_there_is_no_region_is_refused_with_the_number() {
    let (kernel, engine) = small::<1, 2>();
    engine.register(ops(), &Filter::ALL).unwrap();
    let before = all_of(kernel, &engine);
    let error = load(kernel, &engine, 0).unwrap_err();
    assert_eq!(error.cause, RegionCause::TooManyRegions { needed: 2 });
    assert!(format!("{error}").contains("would be 2"), "{error}");
    assert_eq!(all_of(kernel, &engine), before);
    let (kernel, engine) = with_regions::<1, 2, 2>(kernel_of_two_modules());
    engine.register(ops(), &Filter::ALL).unwrap();
    for _ in 0..3 {
        let token = load(kernel, &engine, 0).unwrap();
        assert_eq!((engine.statistics().regions, engine.check_text().enabled), (2, 2));
        assert_eq!(load(kernel, &engine, 1).unwrap_err().cause, RegionCause::TooManyRegions { needed: 3 });
        engine.remove(token).unwrap();
        let token = load(kernel, &engine, 1).unwrap();
        engine.remove(token).unwrap();
    }
}

/// A kernel with the function `f`, and two modules so far away that each has veneers.
fn kernel_of_two_modules() -> &'static FakeKernel {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    for number in 1..3 {
        let mut module = FakeText::new(BASE + (number << 30));
        module.function("m", COMPILED);
        text.module(module);
    }
    text.build()
}

#[test]
#[cfg_attr(miri, ignore = "it takes too long")]
fn a_thousand_ops_have_a_hundred_thousand_callsites() {
    /// What is needed at the last one: the empty set, that of most callsites, and one for each other ops' own function.
    const SETS: usize = 1 + 1 + 999;
    /// A kernel of so many functions, with all the room for stubs that an engine can use.
    fn kernel(functions: usize) -> (&'static FakeKernel, Vec<TextAddr>) {
        let mut text = FakeText::new(BASE);
        let functions = (0..functions).map(|number| text.function(&format!("f{number}"), COMPILED)).collect();
        text.stub_room(1 << 20);
        (text.build(), functions)
    }
    fn fill(functions: &[TextAddr], engine: &Engine) -> Result<usize, RegisterError> {
        assert_eq!(engine.register(ops(), &Filter::ALL), Ok(functions.len()));
        let own = |function: &TextAddr| engine.register(ops(), &Filter::new(&[Rule::address(*function)]));
        assert!(functions[1..999].iter().all(|function| own(function) == Ok(1)));
        own(&functions[999])
    }
    static TOO_SMALL: EngineMemory<1000, { SETS - 1 }> = EngineMemory::new();
    let (few, functions) = kernel(1000);
    let engine = Engine::with_machine_in(few, few, &TOO_SMALL);
    init(few, &engine).unwrap();
    assert_eq!(fill(&functions, &engine), Err(RegisterError::TooManySets { needed: SETS }));

    static ENOUGH: EngineMemory<1000, SETS> = EngineMemory::new();
    let (kernel, functions) = kernel(100_000);
    let engine = Engine::with_machine_in(kernel, kernel, &ENOUGH);
    init(kernel, &engine).unwrap();
    assert_eq!(fill(&functions, &engine), Ok(1));
    assert_eq!(engine.register(ops(), &Filter::ALL), Err(RegisterError::TooManyOps { needed: 1001 }));
    assert_eq!((engine.check_text().enabled, engine.statistics().ops), (100_000, 1000));
    let mut callbacks = Vec::new();
    engine.for_each_callsite(|status| callbacks.push(status.ops().count()));
    assert_eq!((callbacks[0], &callbacks[1..1000], callbacks[1000]), (1, &[2; 999][..], 1));
    let all = engine.all_ops();
    // Without the first one, each of the others would have a set of its own besides those from before.
    assert_eq!(engine.unregister(all[0]), Err(RegisterError::TooManySets { needed: SETS + 999 }));
    for ops in all.into_iter().rev() {
        engine.unregister(ops).unwrap();
    }
    assert_eq!((engine.check_text().disabled, stubs_left(&engine)), (100_000, (0, 0)));
}

#[test]
fn no_two_engines_have_the_same_memory() {
    let memory = memory::<1, 2, 1>();
    let (kernels, ops) = ([kernel(), kernel()], ops());
    let [first, second] = kernels.map(|kernel| Engine::with_machine_in(kernel, kernel, memory));
    init(kernels[0], &first).unwrap();
    first.register(ops, &Filter::ALL).unwrap();
    let before = [all_of(kernels[0], &first), all_of(kernels[1], &second)];
    for _ in 0..2 {
        assert_eq!(init(kernels[1], &second), Err(InitError::MemoryInUse));
        assert_eq!(second.register(super::ops(), &Filter::ALL), Err(RegisterError::NotInitialised));
        assert_eq!((second.statistics().sets, second.statistics().callsites), (0, 0));
    }
    assert_eq!([all_of(kernels[0], &first), all_of(kernels[1], &second)], before);
    assert_eq!(first.unregister(ops), Ok(8));
    // Nor does it come free when the engine that has it is gone, whose stubs may be in use.
    drop(first);
    assert_eq!(init(kernels[1], &second), Err(InitError::MemoryInUse));
}

#[test]
fn an_engine_whose_init_failed_keeps_its_memory_for_another_try() {
    let kernel = kernel();
    let engine = Engine::with_machine_in(kernel, kernel, memory::<1, 2, 1>());
    kernel.set_fault(Some(Fault::Alias(0)));
    assert!(matches!(init(kernel, &engine), Err(InitError::Text(_))));
    kernel.repair();
    init(kernel, &engine).unwrap();
    assert_eq!(engine.register(ops(), &Filter::ALL), Ok(8));
}

#[test]
fn before_init_an_engine_has_nothing_and_says_so() {
    let kernel = kernel();
    let engine = Engine::with_machine_in(kernel, kernel, memory::<1, 2, 1>());
    let ops = ops();
    assert_eq!(engine.register(ops, &Filter::ALL), Err(RegisterError::NotInitialised));
    assert_eq!(engine.unregister(ops), Err(RegisterError::NotRegistered));
    assert_eq!(engine.set_filter(ops, &Filter::ALL), Err(RegisterError::NotRegistered));
    let statistics = engine.statistics();
    assert_eq!((statistics.ops, statistics.sets, statistics.stub_bytes, engine.look_again()), (0, 0, 0, 0));
    engine.for_each_ops(|status| panic!("{status:?}"));
}

/// The bytes of a table for each thing that it is for, and the rest; as [`EngineMemory`]'s page says, with no features.
struct Part {
    what: &'static str,
    each: usize,
    unit: &'static str,
    rest: usize,
}

const PARTS: [Part; 4] = [
    Part { what: "ops: what it does, where its callsites are", each: 186, unit: "an ops", rest: 0 },
    Part { what: "the stub that is being made", each: 76, unit: "an ops", rest: 596 },
    Part { what: "sets: ops, stub, number of callsites; room in use", each: 68, unit: "a set", rest: 0 },
    Part { what: "regions: text, callsites, ranges of stubs", each: 384, unit: "a region", rest: 352 },
];
/// Whether it is taken.
const TAKEN: usize = 8;
/// An engine itself, and one of a host, which has a pointer to its machine.
const ENGINE: [usize; 2] = [888, 928];

fn bytes(part: &Part, [ops, sets, regions]: [usize; 3]) -> usize {
    let count = match part.unit {
        "an ops" => ops,
        "a set" => sets,
        _ => regions,
    };
    count * part.each + part.rest
}

fn all_bytes(of: [usize; 3]) -> usize {
    (PARTS.iter().map(|part| bytes(part, of)).sum::<usize>() + TAKEN).next_multiple_of(8)
}

/// The table of [`EngineMemory`]'s page, as its lines should be.
fn table() -> Vec<String> {
    let engines = [[8, 32, 1], [128, 512, 1], [1000, 1500, 1]];
    let wide = [0, 0, 1];
    let row = |what: &str, bytes: &str, of: [usize; 3]| {
        let [small, default, large] = of.map(|bytes| format!("{bytes}"));
        format!("/// | {what} | {bytes} | {small} | {default} | {large} |")
    };
    let more = |sets: usize, wide: usize| wide * 112 * sets;
    let mut lines = Vec::new();
    let mut all = [0, 1, 2].map(|number| all_bytes(engines[number]) + more(engines[number][1], wide[number]));
    for part in &PARTS {
        let of = [0, 1, 2].map(|number| {
            let sets = if part.unit == "a set" { engines[number][1] } else { 0 };
            bytes(part, engines[number]) + more(sets, wide[number])
        });
        let each = format!("{} {}", part.each, part.unit);
        let rest = if part.rest > 0 { format!(", and {}", part.rest) } else { String::new() };
        lines.push(row(part.what, &(each + &rest), of));
    }
    lines.push(row("`EngineMemory`, with its mark that it is taken", "", all));
    let engine = [0, 1, 2].map(|number| ENGINE[0] + 224 * wide[number]);
    lines.push(row("[`Engine`](super::Engine)", "", engine));
    all.iter_mut().zip(engine).for_each(|(all, engine)| *all += engine);
    lines.push(row("both", "", all));
    lines
}

#[test]
fn memory_takes_as_many_bytes_as_its_page_says() {
    let lines = table();
    lines.iter().for_each(|line| println!("{line}"));
    let page = include_str!("../memory.rs");
    println!(
        "{} {} {}",
        size_of::<EngineMemory<4, 16>>(),
        size_of::<EngineMemory<128, 512, 128>>(),
        size_of::<Engine>()
    );
    // What features add, as the page says.
    let (of_an_ops, of_a_set, of_an_engine) = (
        if cfg!(feature = "module") { 32 } else { 0 },
        if cfg!(feature = "many-ops") { 112 } else { 0 },
        if cfg!(feature = "many-ops") { 224 } else { 0 },
    );
    let expected = |of: [usize; 3]| all_bytes(of) + of_an_ops * of[0] + of_a_set * of[1];
    assert_eq!(size_of::<EngineMemory<8, 32>>(), expected([8, 32, 1]));
    assert_eq!(size_of::<EngineMemory<128, 512, 128>>(), expected([128, 512, 128]));
    assert_eq!(size_of::<EngineMemory<1000, 1500>>(), expected([1000, 1500, 1]));
    assert_eq!(size_of::<Engine>(), ENGINE[1] + of_an_engine);
    for line in lines {
        assert!(page.contains(&line), "{line}");
    }
    let [small, ..] = [[8, 32, 1]].map(|of| all_bytes(of) + ENGINE[0]);
    assert!(small <= 16 << 10, "a small kernel's engine takes {small} bytes");
}
