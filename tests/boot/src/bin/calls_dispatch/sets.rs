//! Who is called where: each ops for its own filter, in the order of registration, with the registers that it asked for.

use crate::targets::{COUNT, register, set_filter};
use crate::told::{Registered, assert_told, note, push, shown_all_by, told_of};
use alloc::vec;
use alloc::vec::Vec;
use fentry::engine::RegisterError;
use fentry::{Filter, FtraceRegs, Ops, OpsFlags, direct_trampoline};
use support::engine;

static OPS: [Ops; 4] = [
    Ops::new(note).with_data(0),
    Ops::new(note).with_data(1),
    Ops::new(note).with_data(2),
    Ops::new(note).with_data(3),
];

pub(crate) fn one_ops_is_told_of_its_functions_only() {
    let (engine, _) = engine();
    assert_told(engine, &[]);
    for filter in [vec![3], vec![0, 7], (0..COUNT).collect()] {
        assert_eq!(register(engine, &OPS[0], &filter), Ok(filter.len()));
        assert_eq!(register(engine, &OPS[0], &filter), Err(RegisterError::AlreadyRegistered));
        assert_told(engine, &[(0, filter.clone())]);
        assert_eq!(engine.unregister(&OPS[0]), Ok(filter.len()));
        assert_told(engine, &[]);
    }
    assert_eq!(engine.unregister(&OPS[0]), Err(RegisterError::NotRegistered));
}

pub(crate) fn filters_may_overlap_or_not() {
    let (engine, _) = engine();
    let mut registered: Vec<Registered> = Vec::new();
    for (number, filter) in [vec![0, 1, 2], vec![2, 3], vec![5], (0..COUNT).collect()].into_iter().enumerate() {
        assert_eq!(register(engine, &OPS[number], &filter), Ok(filter.len()));
        registered.push((number as u64, filter));
        assert_told(engine, &registered);
    }
    // A filter can be changed: to others, to more, to fewer, to the same. The ops keeps its place in the order.
    for filter in [vec![6, 7], vec![2, 3, 6, 7], vec![3], vec![3]] {
        assert_eq!(set_filter(engine, &OPS[1], &filter), Ok(filter.len()));
        registered[1].1 = filter;
        assert_told(engine, &registered);
    }
    // One that selects nothing is refused, and the old one stays.
    let nowhere = Filter::new(&[]);
    assert!(nowhere.rules().is_empty());
    assert!(set_filter(engine, &OPS[0], &[2]).is_ok());
    registered[0].1 = vec![2];
    assert!(engine.set_filter(&OPS[0], &Filter::new(&[fentry::Rule::name("no such function")])).is_err());
    assert_told(engine, &registered);
    for number in [2, 0, 3, 1] {
        assert!(engine.unregister(&OPS[number]).is_ok());
        registered.retain(|(other, _)| *other != number as u64);
        assert_told(engine, &registered);
    }
}

extern "C" fn trampoline(_: FtraceRegs<'_>) {
    push(3);
}

/// One of each kind. A direct trampoline is called after the callbacks, whenever it was registered.
static KINDS: [Ops; 4] = [
    Ops::new(note).with_data(0),
    Ops::new(note).with_data(1).with_flags(OpsFlags::SAVE_REGS),
    Ops::new(note).with_data(2).with_flags(OpsFlags::RECURSION_SAFE),
    Ops::direct_call(direct_trampoline!(trampoline)).with_data(3),
];
const DIRECT: u64 = 3;

pub(crate) fn four_ops_come_and_go_in_every_order() {
    let (engine, _) = engine();
    // Each pair has a target of its own, all four have one, and one has none.
    let filters = [vec![0, 1, 2, 6], vec![0, 3, 4, 6], vec![1, 3, 5, 6], vec![2, 4, 5, 6]];
    let check = |registered: &[Registered]| {
        let mut expected = registered.to_vec();
        expected.sort_by_key(|(number, _)| *number == DIRECT);
        assert_told(engine, &expected);
    };
    for coming in permutations() {
        for going in permutations() {
            let mut registered: Vec<Registered> = Vec::new();
            for number in coming {
                assert_eq!(register(engine, &KINDS[number], &filters[number]), Ok(4));
                registered.push((number as u64, filters[number].clone()));
                check(&registered);
            }
            for number in going {
                assert_eq!(engine.unregister(&KINDS[number]), Ok(4));
                registered.retain(|(other, _)| *other != number as u64);
                check(&registered);
            }
        }
    }
}

/// The 24 orders of four.
fn permutations() -> impl Iterator<Item = [usize; 4]> {
    let digits = |n: usize| [n / 64, n / 16 % 4, n / 4 % 4, n % 4];
    (0..256).map(digits).filter(|order| (0..4).all(|number| order.contains(&number)))
}

pub(crate) fn all_registers_are_saved_only_where_an_ops_asks() {
    let (engine, _) = engine();
    assert_eq!(register(engine, &KINDS[0], &[0, 1]), Ok(2));
    assert_eq!(register(engine, &KINDS[1], &[1, 2]), Ok(2));
    assert_eq!(register(engine, &KINDS[2], &[0, 1]), Ok(2));
    assert_eq!(shown_all_by(0), [false, false]);
    assert_eq!(shown_all_by(1), [true, true, true]);
    assert_eq!(shown_all_by(2), [true]);
    assert_eq!(engine.unregister(&KINDS[1]), Ok(2));
    assert_eq!(shown_all_by(1), [false, false]);
    assert_eq!(engine.unregister(&KINDS[0]), Ok(2));
    assert_eq!(engine.unregister(&KINDS[2]), Ok(2));
}

/// The last case: it stays.
pub(crate) fn a_permanent_ops_stays() {
    static STAYS: Ops = Ops::new(note).with_data(9).with_flags(OpsFlags::PERMANENT);
    let (engine, _) = engine();
    assert_eq!(register(engine, &STAYS, &[4]), Ok(1));
    assert_eq!(engine.unregister(&STAYS), Err(RegisterError::Permanent));
    assert_eq!(told_of(4), [9]);
    assert_eq!(register(engine, &OPS[0], &[4]), Ok(1));
    assert_eq!(told_of(4), [9, 0]);
    assert_eq!(engine.unregister(&OPS[0]), Ok(1));
    assert_eq!(told_of(4), [9]);
}
