//! What is selected, and what is written for it.

use super::{first_stub, ops, ready};
use crate::address::TextAddr;
use crate::callsite::{NOP, State};
use crate::engine::RegisterError;
use crate::filter::{Filter, Rule};
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
    assert_eq!((engine.survey().disabled, engine.survey().wrong), (4, 0));
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
    assert_eq!(engine.survey().enabled, 0);
    assert_eq!(kernel.word(functions[0].offset(4)), NOP);
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
