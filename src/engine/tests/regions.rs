//! Regions that come and go: who is at their callsites, and how far away they may be.

use super::{BASE, FORMS, PADDED, callback, engine_on, first_stub, init, load, ops, stubs_left};
use crate::address::{TextAddr, TextRange};
use crate::callsite::veneer::{STUB_VENEERS, Veneer};
use crate::callsite::{NOP, Refusal, State};
use crate::context::TraceContext;
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::module::regions::{RegionCause, RegionToken, Regions as _};
use crate::ops::{Ops, OpsFlags};
use crate::record::hits::CallsiteHits;
use crate::symbols::SymbolsError;
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::format;
use std::string::ToString;
use std::vec::Vec;

/// An engine on two functions, `f` and `g`, and a module, not loaded yet, of so many, four on a page.
fn with_module(base: u64, functions: usize) -> (&'static FakeKernel, Engine, Vec<TextAddr>) {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    text.function("g", COMPILED);
    let mut module = FakeText::new(base);
    let functions = (0..functions)
        .map(|number| {
            module.skip_to(number * 1024);
            module.function(&format!("m{number}"), FORMS[number % FORMS.len()])
        })
        .collect();
    text.module(module);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    (kernel, engine, functions)
}

const NEAR: u64 = BASE + (16 << 20);
const FAR: u64 = BASE + (1 << 30);

#[test]
fn where_bl_does_not_reach_the_stub_a_veneer_does() {
    for base in [FAR, BASE - (6 << 30)] {
        let (kernel, engine, functions) = with_module(base, 8);
        let (first, second) = (ops(), ops());
        engine.register(first, &Filter::ALL).unwrap();
        let token = load(kernel, &engine, 0).unwrap();
        engine.register(second, &Filter::new(&[Rule::name("m1"), Rule::name("f")])).unwrap();
        let (mut stubs, mut veneers) = (Vec::new(), Vec::new());
        engine.for_each_callsite(|status| {
            let Ok(State::Enabled(target)) = status.state else { panic!("{status:?}") };
            if !functions.contains(&status.callsite.function()) {
                stubs.push(target.offset(-4));
            } else {
                let words = [0, 4, 8, 12].map(|offset| kernel.word(target.offset(offset)));
                veneers.push(Veneer::from_words(words).target(target).unwrap());
            }
        });
        // `f` has both, as `m1` has; `g` the first, as the others.
        let [both, one] = stubs[..] else { panic!("{stubs:?}") };
        assert_eq!(veneers, [one, both, one, one, one, one, one, one]);
        // A landing pad for the veneer's BR.
        assert_eq!(kernel.word(one), crate::callsite::BTI_C);
        engine.remove(token).unwrap();
        assert_eq!((engine.check_text().enabled, stubs_left(&engine).0), (2, 2));
    }
}

#[test]
fn a_filter_for_a_module_applies_when_it_comes_and_to_no_other_text() {
    let (kernel, engine, _) = with_module(NEAR, 4);
    let module = kernel.module(0).module;
    let (rule, other) = (format!(":mod:{module}"), format!("m1:mod:{module}x"));
    let (here, elsewhere, one) = (ops(), ops(), ops());
    assert_eq!(engine.register(here, &Filter::new(&[Rule::parse(&rule).unwrap()])), Ok(0));
    assert_eq!(engine.register(elsewhere, &Filter::new(&[Rule::parse(&other).unwrap()])), Ok(0));
    let token = load(kernel, &engine, 0).unwrap();
    assert_eq!(engine.check_text().enabled, 4);
    let named = format!("m1:mod:{module}");
    assert_eq!(engine.register(one, &Filter::new(&[Rule::parse(&named).unwrap()])), Ok(1));
    let mut counts = Vec::new();
    engine.for_each_ops(|status| counts.push(status.callsites));
    assert_eq!(counts, [4, 0, 1]);
    engine.remove(token).unwrap();
    assert_eq!(engine.check_text().enabled, 0);
}

#[test]
fn where_there_is_no_room_for_a_veneer_nothing_changes() {
    let (kernel, engine, _) = with_module(FAR, STUB_VENEERS + 1);
    let room = kernel.module(0).veneers;
    load(kernel, &engine, 0).unwrap();
    let names: Vec<_> = (0..=STUB_VENEERS).map(|number| format!("m{number}")).collect();
    let (last, others) = names.split_last().unwrap();
    for name in others {
        engine.register(ops(), &Filter::new(&[Rule::name(name)])).unwrap();
    }
    let before = (kernel.snapshot(), stubs_left(&engine));
    let one_more = ops();
    let error = engine.register(one_more, &Filter::new(&[Rule::name(last)])).unwrap_err();
    assert_eq!(error, RegisterError::NoRoom { room });
    assert_eq!(engine.unregister(one_more), Err(RegisterError::NotRegistered));
    assert_eq!((kernel.snapshot(), stubs_left(&engine)), before);
}

#[test]
fn a_region_whose_symbol_table_is_damaged_is_refused_and_one_without_symbols_is_not() {
    let (mut text, mut module) = (FakeText::new(BASE), FakeText::new(NEAR));
    text.function("f", COMPILED);
    // With BTI C the instructions alone say what an entry means.
    module.function("m", PADDED);
    text.module(module);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    let before = kernel.snapshot();
    let (mut damaged, mut none) = (kernel.module(0), kernel.module(0));
    let last = damaged.symbols.len() - 1;
    damaged.symbols[last] ^= 1;
    none.symbols = Box::default();
    // SAFETY: nothing executes a fake's text.
    let error = unsafe { engine.add(damaged) }.unwrap_err();
    assert!(matches!(error.cause, RegionCause::Symbols(SymbolsError::Checksum { .. })), "{error}");
    assert_eq!(kernel.snapshot(), before);
    // SAFETY: as above.
    unsafe { engine.add(none) }.unwrap();
    engine.for_each_module(|module| assert!(module.symbols.is_none()));
}

#[test]
fn a_region_that_overlaps_another_or_begins_at_no_instruction_is_refused() {
    let (kernel, engine, _) = with_module(NEAR, 4);
    let again = kernel.module(0);
    let token = load(kernel, &engine, 0).unwrap();
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.add(again) }.unwrap_err();
    assert_eq!(engine.check_text().disabled + engine.check_text().wrong, 6);
    engine.remove(token).unwrap();
    assert_eq!(engine.check_text().disabled, 2);
    for odd in 1..4 {
        let mut regions = [kernel.module(0), kernel.module(0)];
        regions[0].text.start = regions[0].text.start.offset(odd);
        regions[1].veneers.start = regions[1].veneers.start.offset(odd);
        for region in regions {
            // SAFETY: nothing executes a fake's text.
            unsafe { engine.add(region) }.unwrap_err();
        }
    }
    assert_eq!(engine.check_text().disabled, 2);
}

/// Text is freed and reused: what stands there now is another region.
#[test]
fn a_token_is_of_the_region_that_it_was_given_for_and_of_no_other() {
    let (kernel, engine, _) = with_module(NEAR, 4);
    let (other_kernel, other_engine, _) = with_module(NEAR, 4);
    let first = load(kernel, &engine, 0).unwrap();
    let number = first.number();
    engine.remove(first).unwrap();
    let second = load(kernel, &engine, 0).unwrap();
    let other = load(other_kernel, &other_engine, 0).unwrap();
    assert!(number != second.number() && number != other.number() && second.number() != other.number());
    // Safe code can make tokens, but none that is anybody's.
    for stray in [RegionToken::fresh(), other] {
        let number = stray.number();
        let not_removed = engine.remove(stray).unwrap_err();
        assert_eq!(not_removed.token.number(), number);
        assert_eq!((engine.check_text().disabled, other_engine.check_text().disabled), (6, 6));
    }
    engine.remove(second).unwrap();
    assert_eq!(engine.check_text().disabled, 2);
}

#[test]
fn a_region_that_could_not_be_removed_can_be_removed_again_by_its_token() {
    let (kernel, engine, _) = with_module(FAR, 4);
    let ops = ops();
    engine.register(ops, &Filter::ALL).unwrap();
    let mut token = load(kernel, &engine, 0).unwrap();
    for (fault, disabled) in [(Fault::Batch, 0), (Fault::Busy(1), 4)] {
        kernel.set_fault(Some(fault));
        token = engine.remove(token).unwrap_err().token;
        kernel.repair();
        assert_eq!((engine.statistics().regions, engine.check_text().disabled), (2, disabled), "{fault:?}");
    }
    engine.remove(token).unwrap();
    assert_eq!((engine.statistics().regions, engine.unregister(ops)), (1, Ok(2)));
}

#[test]
fn a_filter_that_is_set_to_a_module_that_is_not_loaded_applies_when_it_comes() {
    let (kernel, engine, functions) = with_module(NEAR, 4);
    let (ops, module) = (ops(), kernel.module(0).module);
    engine.register(ops, &Filter::new(&[Rule::name("f")])).unwrap();
    let named = format!("m[13]:mod:{module}");
    assert_eq!(engine.set_filter(ops, &Filter::new(&[Rule::parse(&named).unwrap()])), Ok(0));
    assert_eq!(engine.check_text().enabled, 0);
    let traced = || {
        let mut traced = Vec::new();
        engine.for_each_callsite(|status| {
            if status.ops().any(|known| core::ptr::eq(known, ops)) {
                traced.push(status.callsite.function());
            }
        });
        traced
    };
    for _ in 0..2 {
        let token = load(kernel, &engine, 0).unwrap();
        assert_eq!(traced(), [functions[1], functions[3]]);
        engine.remove(token).unwrap();
        assert_eq!(traced(), []);
    }
    // And no more once it is set to something else.
    assert_eq!(engine.set_filter(ops, &Filter::new(&[Rule::name("g")])), Ok(1));
    load(kernel, &engine, 0).unwrap();
    assert_eq!((traced().len(), engine.check_text().enabled), (1, 1));
}

#[test]
fn an_ops_that_leaves_is_not_told_of_a_new_region() {
    let (kernel, engine, _) = with_module(NEAR, 4);
    let ops = ops();
    engine.register(ops, &Filter::ALL).unwrap();
    kernel.set_fault(Some(Fault::Busy(1)));
    assert!(matches!(engine.unregister(ops), Err(RegisterError::NotQuiescent(_))));
    load(kernel, &engine, 0).unwrap();
    assert_eq!((engine.check_text().enabled, engine.check_text().disabled), (0, 6));
    // Unless it is given something to do again.
    assert_eq!(engine.set_filter(ops, &Filter::new(&[Rule::name("m1")])), Ok(1));
    assert_eq!(engine.unregister(ops), Ok(1));
}

#[test]
fn a_trampoline_that_was_replaced_is_not_called_by_a_new_region() {
    let (kernel, engine, _) = with_module(NEAR, 4);
    let (old, new) = (TextAddr::new(BASE + 0x10_0000), TextAddr::new(BASE + 0x20_0000));
    // SAFETY: nothing executes a fake's text.
    let ops: &'static Ops = Box::leak(Box::new(unsafe { Ops::direct(old) }));
    engine.register(ops, &Filter::ALL).unwrap();
    kernel.set_fault(Some(Fault::Busy(1)));
    // SAFETY: nothing executes a fake's text.
    let modified = unsafe { engine.modify_direct(ops, new) };
    assert!(matches!(modified, Err(RegisterError::NotQuiescent(_))), "{modified:?}");
    load(kernel, &engine, 0).unwrap();
    engine.for_each_callsite(|status| assert_eq!(status.state, Ok(State::Enabled(new)), "{:?}", status.name));
    assert_eq!(engine.unregister(ops), Ok(6));
}

#[test]
fn a_region_that_is_refused_is_as_it_was_and_the_cause_is_told() {
    let (kernel, engine, functions) = with_module(FAR, 4);
    let exclusive = || &*Box::leak(Box::new(Ops::new(callback).with_flags(OpsFlags::IPMODIFY)));
    let (first, second) = (exclusive(), exclusive());
    let all_but = |name| [Rule::name(name).negated()];
    engine.register(first, &Filter::new(&all_but("g"))).unwrap();
    let refused = |fault| {
        let region = kernel.module(0);
        let before = kernel.snapshot();
        kernel.set_fault(fault);
        // SAFETY: nothing executes a fake's text.
        let error = unsafe { engine.add(region) }.unwrap_err();
        kernel.repair();
        assert!(kernel.snapshot() == before, "{fault:?}: {error}");
        (engine.check_text(), error)
    };
    // Made ready, a veneer written, called.
    // Miri takes thousands of times as long.
    let (rounds, aliases) = if cfg!(miri) { (2, 5) } else { (1, 1) };
    let (rounds, aliases) = ((0..3).step_by(rounds), (0..6).step_by(aliases));
    let faults = rounds.map(Fault::Round).chain(aliases.map(Fault::Alias)).chain([Fault::Batch, Fault::Write(0)]);
    for fault in faults {
        let (check, error) = refused(Some(fault));
        assert_eq!((check.enabled, check.disabled, check.wrong), (1, 1, 0), "{fault:?}");
        assert!(matches!(error.cause, RegionCause::Text(_)), "{fault:?}: {error}");
        let poke = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(!poke.is_empty() && error.to_string().ends_with(&poke), "{fault:?}: {error}");
    }
    // In the module the two exclude each other, and nowhere else.
    engine.register(second, &Filter::new(&all_but("f"))).unwrap();
    let (check, error) = refused(None);
    assert_eq!((check.enabled, error.cause), (2, RegionCause::Conflict { function: functions[0] }));
    engine.unregister(second).unwrap();
    load(kernel, &engine, 0).unwrap();
    assert_eq!(engine.unregister(first), Ok(5));
}

#[test]
fn a_region_that_could_not_be_put_back_leaves_no_stub_in_use() {
    let (kernel, engine, _) = with_module(FAR, 8);
    let ops = ops();
    engine.register(ops, &Filter::ALL).unwrap();
    // Two pages are made ready and a veneer is written, each twice, the first page's callsites are; the second page gets
    // no alias, and on the way back the first doesn't either.
    kernel.set_fault(Some(Fault::AliasesFrom(7)));
    load(kernel, &engine, 0).unwrap_err();
    kernel.repair();
    assert_eq!(engine.unregister(ops), Ok(2));
    assert_eq!(stubs_left(&engine), (0, 0));
}
#[test]
fn a_veneer_that_no_callsite_of_the_region_goes_to_makes_room_for_another() {
    let names: Vec<_> = (0..2 * STUB_VENEERS).map(|number| format!("f{number}")).collect();
    let mut text = FakeText::new(BASE);
    for name in &names {
        text.function(name, COMPILED);
    }
    let mut module = FakeText::new(FAR);
    module.function("far", COMPILED);
    text.module(module);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    load(kernel, &engine, 0).unwrap();
    for name in &names {
        let ops = ops();
        let (here, far) = (Rule::name(name), Rule::name("far"));
        assert_eq!(engine.register(ops, &Filter::new(&[here, far])), Ok(2));
        // Its stub stays in use, but not from far away.
        assert_eq!(engine.set_filter(ops, &Filter::new(&[here])), Ok(1));
    }
    assert_eq!(stubs_left(&engine).0, names.len());
}

#[test]
fn what_is_waited_for_is_all_that_a_callsite_can_be_on_its_way_through() {
    let (kernel, engine, _) = with_module(FAR, 4);
    let token = load(kernel, &engine, 0).unwrap();
    let ops = ops();
    engine.register(ops, &Filter::ALL).unwrap();
    let mut called = Vec::new();
    engine.for_each_callsite(|status| {
        let Ok(State::Enabled(target)) = status.state else { panic!("{status:?}") };
        called.push(target);
    });
    assert!(called.iter().any(|target| target.get() >= FAR), "the module goes by veneers");
    let stubs = kernel.stubs();
    called.extend(stubs.text.into_iter().filter(|text| !text.is_empty()).map(|text| text.start));
    called.extend([stubs.caller.entry, stubs.regs_caller.entry, stubs.miss, stubs.skip, stubs.room.start]);
    let is_asked = |at: &TextAddr| kernel.quiesced().iter().any(|text| text.contains(*at));
    let context = TraceContext::new();
    assert!(called.iter().all(|at| !engine.is_quiescent(&context, *at)));
    engine.unregister(ops).unwrap();
    assert!(called.iter().all(is_asked), "{called:?} {:?}", kernel.quiesced());
    assert_eq!(shown(&engine), used(&kernel.quiesced()), "at any time what the platform is asked about");
    let [.., veneers] = shown(&engine)[..] else { panic!("there are veneers") };
    engine.register(ops, &Filter::new(&[Rule::name("f")])).unwrap();
    engine.remove(token).unwrap();
    assert!(called.iter().all(is_asked), "{called:?} {:?}", kernel.quiesced());
    assert!(!shown(&engine).contains(&veneers), "its veneers have gone with the module");
    assert!(engine.is_quiescent(&context, veneers.start) && !engine.is_quiescent(&context, stubs.room.start));
    context.busy.store(1, Ordering::Relaxed);
    assert!(!engine.is_quiescent(&context, veneers.start), "inside a callback");
}

/// An interrupt handler may have interrupted the engine itself.
#[test]
fn where_stubs_are_is_shown_while_the_engine_is_locked() {
    let (kernel, engine, _) = with_module(NEAR, 1);
    let mut seen = Vec::new();
    engine.for_each_callsite(|_| engine.for_each_stub_range(|range| seen.push(range)));
    assert!(seen.contains(&kernel.stubs().room), "{seen:?}");
    assert!(shown(&engine_on(FakeText::new(BASE)).1).is_empty(), "before init");
}

/// A module that can't be added leaves no range behind.
#[test]
fn veneers_of_a_refused_module_are_not_shown() {
    let (kernel, engine, _) = with_module(FAR, 8);
    engine.register(ops(), &Filter::ALL).unwrap();
    let before = shown(&engine);
    kernel.set_fault(Some(Fault::AliasesFrom(7)));
    load(kernel, &engine, 0).unwrap_err();
    kernel.repair();
    assert_eq!(shown(&engine), before);
    let token = load(kernel, &engine, 0).unwrap();
    assert_eq!(shown(&engine).len(), before.len() + 1);
    engine.remove(token).unwrap();
    assert_eq!(shown(&engine), before);
}

fn used(ranges: &[TextRange]) -> Vec<TextRange> {
    ranges.iter().copied().filter(|range| !range.is_empty()).collect()
}

fn shown(engine: &Engine) -> Vec<TextRange> {
    let mut ranges = Vec::new();
    engine.for_each_stub_range(|range| ranges.push(range));
    ranges
}

/// Text is freed and comes to hold other functions.
#[test]
fn an_address_means_the_function_that_was_there_when_it_was_said() {
    let mut text = FakeText::new(BASE);
    let f = text.function("f", COMPILED);
    for name in ["first", "second"] {
        let mut module = FakeText::new(NEAR);
        module.function(name, COMPILED);
        text.module(module);
    }
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    let at = kernel.module(0).text.start;
    let first = load(kernel, &engine, 0).unwrap();
    let [by_address, with_name, without] = [ops(), ops(), ops()];
    assert_eq!(engine.register(by_address, &Filter::new(&[Rule::address(at)])), Ok(1));
    let rules = [Rule::address(at), Rule::name("f"), Rule::parse("sec*:mod:*").unwrap()];
    assert_eq!(engine.register(with_name, &Filter::new(&rules)), Ok(2));
    assert_eq!(engine.register(without, &Filter::new(&[Rule::address(at).negated()])), Ok(1));
    engine.remove(first).unwrap();
    // The memory of the first, as compiled again, is that of the second.
    drop(kernel.module(0));
    let second = load(kernel, &engine, 1).unwrap();
    let callsites = |ops: &'static Ops| {
        let mut functions = Vec::new();
        engine.for_each_callsite(|status| {
            if status.ops().any(|other| core::ptr::eq(other, ops)) {
                functions.push(status.callsite.function());
            }
        });
        functions
    };
    assert_eq!(callsites(by_address), []);
    assert_eq!(callsites(with_name), [f, at]);
    assert_eq!(callsites(without), [f, at]);
    // Said again, it means what is there now.
    assert_eq!(engine.set_filter(by_address, &Filter::new(&[Rule::address(at)])), Ok(1));
    engine.remove(second).unwrap();
    assert_eq!(engine.unregister(by_address), Ok(0));
}

#[test]
fn entries_of_a_module_that_are_no_callsites_are_refused_one_by_one() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let mut module = FakeText::new(NEAR);
    // Most objects are compiled with =4,2, some with =2, one with =3,1.
    let functions: Vec<_> = FORMS.iter().map(|form| module.function("m", *form)).collect();
    for _ in 0..4 {
        module.function("p", super::PREFIXED);
    }
    let entry = module.words(&[NOP, NOP, NOP, 0]);
    module.symbol("other", entry.offset(4), 12);
    module.entry(entry.get());
    text.module(module);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    load(kernel, &engine, 0).unwrap();
    let mut refused = Vec::new();
    engine.for_each_refusal(|refusal| refused.push(refusal));
    assert_eq!(refused, [(entry, Refusal::PrefixSize { nops: 1 })]);
    assert_eq!(engine.register(ops(), &Filter::new(&[Rule::parse(":mod:*").unwrap()])), Ok(8));
    assert!(functions.iter().all(|function| kernel.word(*function) != NOP));
    assert_eq!([0, 4, 8].map(|offset| kernel.word(entry.offset(offset))), [NOP; 3]);
}

#[test]
fn callsites_are_counted_in_a_module_only_where_all_of_them_have_counters() {
    // From where on and for how many bytes there are counters; what the text takes, first.
    for (start, bytes, counted) in [(0, 0xc18, 4), (8, 0xc18, 4), (0, 0xc00, 0), (0x10, 0xc18, 0)] {
        let (kernel, engine, _) = with_module(NEAR, 4);
        let text = kernel.module(0).text;
        assert_eq!(text.len(), 0xc18);
        let covered = TextRange::new(text.start.offset(start), text.start.offset(start + bytes));
        let counters = (0..CallsiteHits::counters_for(covered)).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let hits = &*Box::leak(Box::new(CallsiteHits::new(covered.start, counters.leak())));
        let ops = &*Box::leak(Box::new(Ops::callsite_counter(hits)));
        let rule = format!(":mod:{}", kernel.module(0).module);
        assert_eq!(engine.register(ops, &Filter::new(&[Rule::parse(&rule).unwrap()])), Ok(0));
        load(kernel, &engine, 0).unwrap();
        assert_eq!(engine.check_text().enabled, counted, "{bytes:#x} bytes from {start:#x}");
    }
}

/// Of two callsites with the same ops, BL reaches the trampoline from one.
#[test]
fn each_callsite_calls_a_trampoline_itself_where_its_bl_reaches() {
    let mut text = FakeText::new(BASE);
    let functions = ["f", "g"].map(|name| text.function(name, COMPILED));
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    let [far, near] = functions.map(|function| function.offset(4));
    for trampoline in [far.offset(128 << 20), near.offset(-(128 << 20) - 4)] {
        // SAFETY: nothing executes a fake's text.
        let ops: &'static Ops = Box::leak(Box::new(unsafe { Ops::direct(trampoline) }));
        assert_eq!(engine.register(ops, &Filter::ALL), Ok(2));
        let mut called = Vec::new();
        engine.for_each_callsite(|status| {
            let words = [0, 4].map(|offset| kernel.word(status.callsite.function().offset(offset)));
            let Some(State::Enabled(target)) = status.callsite.state_of(words[0], words[1]) else {
                panic!("{words:x?}")
            };
            called.push(target);
        });
        let (reaching, other) = if trampoline > far { (1, 0) } else { (0, 1) };
        assert_eq!(called[reaching], trampoline);
        // The stub, which jumps there.
        assert_eq!(called[other], first_stub(kernel));
        // What is counted as well goes by a stub, wherever it is.
        let counter = &*Box::leak(Box::new(Ops::counter()));
        assert_eq!(engine.register(counter, &Filter::ALL), Ok(2));
        engine.for_each_callsite(|status| assert_ne!(status.state, Ok(State::Enabled(trampoline))));
        assert_eq!((engine.unregister(counter), engine.unregister(ops)), (Ok(2), Ok(2)));
    }
}
