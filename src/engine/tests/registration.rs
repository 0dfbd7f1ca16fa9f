//! What is selected, and what is written for it.

use super::{BASE, COMPILED, FORMS, engine_on, first_stub, init, ops, ready};
use crate::address::TextAddr;
use crate::callsite::{NOP, State};
use crate::engine::RegisterError;
use crate::fakes::FakeText;
use crate::filter::{Filter, Rule};
use crate::ops::{Exit, Ops, Probe};
use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

#[test]
fn enabling_writes_a_call_to_the_stub_and_disabling_a_nop() {
    let (kernel, engine, functions) = ready(4);
    let disabled = kernel.snapshot();
    let ops = ops();
    assert_eq!(engine.register(ops, &Filter::ALL), Ok(4));
    let mut calls = Vec::new();
    engine.for_each_callsite(|status| calls.push((status.name.unwrap_or_default().to_string(), status.state)));
    let stub = first_stub(kernel);
    assert_eq!(calls, ["f0", "f1", "f2", "f3"].map(|name| (name.to_string(), Ok(State::Enabled(stub)))));
    // BL from f0 + 4 to the stub, by the Arm ARM's C6.2.33: imm26 is the distance in words.
    let distance = stub.get() - (functions[0].get() + 4);
    assert_eq!(kernel.word(functions[0].offset(4)), 0x9400_0000 | (distance / 4) as u32);
    assert_eq!(engine.unregister(ops), Ok(4));
    assert_eq!(kernel.snapshot(), disabled);
    assert_eq!((engine.check_text().disabled, engine.check_text().wrong), (4, 0));
}

#[test]
fn filters_select_by_name_glob_and_address() {
    let (kernel, engine, functions) = ready(12);
    let enabled = |rules: &[Rule<'_>]| {
        let ops = ops();
        let count = engine.register(ops, &Filter::new(rules))?;
        let mut names = Vec::new();
        engine.for_each_callsite(|status| {
            if matches!(status.state, Ok(State::Enabled(_))) {
                names.push(status.name.unwrap().to_string());
            }
        });
        assert_eq!(names.len(), count);
        engine.unregister(ops).unwrap();
        Ok(names)
    };
    let parse = |text| Rule::parse(text).unwrap();
    assert_eq!(enabled(&[parse("f1")]).unwrap(), ["f1"]);
    assert_eq!(enabled(&[parse("f1*")]).unwrap(), ["f1", "f10", "f11"]);
    assert_eq!(enabled(&[parse("f1*"), parse("!f10")]).unwrap(), ["f1", "f11"]);
    assert_eq!(enabled(&[parse("f[0-2]"), parse("f1")]).unwrap(), ["f0", "f1", "f2"]);
    assert_eq!(enabled(&[Rule::address(functions[5])]).unwrap(), ["f5"]);
    assert_eq!(enabled(&[Rule::address(functions[5].offset(8))]).unwrap(), ["f5"]);
    assert_eq!(enabled(&[parse("!f?"), parse("!f11")]).unwrap(), ["f10"]);
    assert_eq!(enabled(&[parse("f1"), parse("nosuch")]), Err(RegisterError::NothingSelected { rule: 1 }));
    assert_eq!(enabled(&[parse("nosuch*")]), Err(RegisterError::NothingSelected { rule: 0 }));
    assert_eq!(enabled(&[Rule::address(TextAddr::new(1))]), Err(RegisterError::NothingSelected { rule: 0 }));
    assert_eq!(enabled(&[parse("f1"), parse("!f*")]), Err(RegisterError::EmptySelection));
    for nothing in ["!nosuch", "!no*", "!0x10"] {
        assert_eq!(
            enabled(&[parse("f*"), parse(nothing)]),
            Err(RegisterError::NothingTakenAway { rule: 1 }),
            "{nothing}"
        );
        assert_eq!(enabled(&[parse(nothing)]), Err(RegisterError::NothingTakenAway { rule: 0 }), "{nothing}");
    }
    assert_eq!(enabled(&[parse("f1"), parse("!f2\n")]).unwrap(), ["f1"]);
    assert_eq!(engine.check_text().enabled, 0);
    assert_eq!(kernel.word(functions[0].offset(4)), NOP);
}

#[test]
fn every_name_of_a_function_selects_it() {
    let mut text = FakeText::new(BASE);
    for form in FORMS {
        text.function("other", form);
        let function = text.function("first", form);
        for name in ["second", "<[u8; 4] as third>::f"] {
            text.symbol(name, function, 12);
        }
    }
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    for (rules, expected) in [
        (&["first"][..], 4),
        (&["second"], 4),
        (&["<[u8; 4] as third>::f"], 4),
        (&["\"<[u8; 4] as third>::f\""], 4),
        (&["sec*", "first"], 4),
        (&["*", "!second"], 4),
        (&["!<[u8; 4] as third>::f"], 4),
        (&["first", "!sec*", "other"], 4),
        (&["*"], 8),
    ] {
        let (ops, rules) = (ops(), rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect::<Vec<_>>());
        assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(expected), "{rules:?}");
        engine.unregister(ops).unwrap();
    }
    let hooks: &Ops = Box::leak(Box::new(Ops::returning::<Returns>()));
    let mut text = FakeText::new(BASE);
    let function = text.function("a", COMPILED);
    text.symbol("setjmp", function, 12);
    let (kernel, engine) = engine_on(text);
    init(kernel, &engine).unwrap();
    let error = engine.register(hooks, &Filter::new(&[Rule::name("setjmp")]));
    assert_eq!(error, Err(RegisterError::ReturnsTwice { function, name: "setjmp" }));
}

/// Hooks returns.
struct Returns;

impl Probe for Returns {
    type Data = ();

    fn exit(_: &mut Exit<'_>, (): &()) {}
}

#[test]
fn what_is_registered_twice_or_not_at_all_is_refused() {
    let (_, engine, _) = ready(2);
    let (first, second) = (ops(), ops());
    assert_eq!(engine.unregister(first), Err(RegisterError::NotRegistered));
    engine.register(first, &Filter::ALL).unwrap();
    assert_eq!(engine.register(first, &Filter::ALL), Err(RegisterError::AlreadyRegistered));
    assert_eq!(engine.unregister(second), Err(RegisterError::NotRegistered));
    engine.unregister(first).unwrap();
    assert_eq!(engine.unregister(first), Err(RegisterError::NotRegistered));
    assert_eq!(engine.set_filter(first, &Filter::ALL), Err(RegisterError::NotRegistered));
    engine.register(second, &Filter::ALL).unwrap();
}
