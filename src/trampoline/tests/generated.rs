//! Tables with generated members, on a simulated machine: what is refused, what is given back.

use crate::Engine;
use crate::address::TextAddr;
use crate::fakes::{COMPILED, FakeKernel, FakeText, Fault};
use crate::record::times::CallTimes;
use crate::trampoline::kinds::ScalarKind;
use crate::trampoline::{
    Argument, Body, Condition, Implementations, Member, OpsError, OpsStruct, State, Test, UntypedOps,
};
use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::string::ToString;
use std::vec;
use std::vec::Vec;
extern crate std;

#[derive(Clone, Copy)]
#[repr(C)]
struct Floats([f64; 4]);

#[derive(Clone, Copy)]
#[repr(C)]
struct Huge([u64; 20]);

crate::ops_struct! {
    /// Members of all kinds.
    struct ManyOps => Many {
        fn unit(a: u64, b: *mut u8, c: &u64, d: i8);
        fn answer(a: f64, b: u32) -> i32;
        fn truth(a: bool) -> bool;
        fn borrowed(a: &'static u64) -> &'static u64;
        fn large(a: u64) -> Huge;
        fn many(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64) -> u64;
        fn floats(a: Floats, b: Floats, c: f64);
        [optional] fn optional(a: u128, b: u16) -> u64;
    }
}

extern "C" fn unit(_: u64, _: *mut u8, _: &u64, _: i8) {}
extern "C" fn answer(_: f64, b: u32) -> i32 {
    b as i32
}
extern "C" fn truth(a: bool) -> bool {
    !a
}
extern "C" fn borrowed(a: &'static u64) -> &'static u64 {
    a
}
extern "C" fn large(a: u64) -> Huge {
    Huge([a; 20])
}
#[expect(clippy::many_single_char_names, reason = "as many as go")]
extern "C" fn many(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64) -> u64 {
    a + b + c + d + e + f + g + h + i
}
extern "C" fn floats(_: Floats, _: Floats, _: f64) {}

const TABLE: ManyOps = ManyOps {
    unit: Some(unit),
    answer: Some(answer),
    truth: Some(truth),
    borrowed: Some(borrowed),
    large: Some(large),
    many: Some(many),
    floats: Some(floats),
    optional: None,
};

static CALLS: AtomicU64 = AtomicU64::new(0);
static TIMES: CallTimes = CallTimes::new();

fn engine() -> (&'static Engine, &'static FakeKernel) {
    let mut text = FakeText::new(0xffff_8000_8000_0000);
    text.function("a", COMPILED);
    let kernel = text.build();
    let engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    (engine, kernel)
}

fn states<const PLACES: usize>(of: &Implementations<ManyOps, PLACES>) -> Vec<State> {
    let mut states = vec![];
    of.for_each(|state| states.push(state));
    states
}

fn when(argument: usize) -> Body {
    Body::forward().only_if(Condition { argument, test: Test::Equal, value: 1 })
}

#[test]
fn the_compiler_says_of_what_types_a_member_is() {
    let results: Vec<_> = ManyOps::MEMBERS.iter().map(|member| member.result).collect();
    let (unit, number) = (Some(ScalarKind::Unit), Some(ScalarKind::U64));
    let (answer, truth) = (Some(ScalarKind::I32), Some(ScalarKind::Bool));
    assert_eq!(results, [unit, answer, truth, None, None, number, unit, number]);
    let general: Vec<Vec<_>> = ManyOps::MEMBERS
        .iter()
        .map(|member| member.arguments.iter().map(|argument| argument.general_bits()).collect())
        .collect();
    assert_eq!(general[0], [Some(64), Some(64), Some(64), Some(8)]);
    assert_eq!((&general[1][..], &general[2][..]), (&[None, Some(32)][..], &[Some(8)][..]));
    assert_eq!((&general[6][..], &general[7][..]), (&[None; 3][..], &[None, Some(16)][..]));
}

#[test]
fn what_does_not_fit_a_member_is_refused_by_name() {
    let (engine, _) = engine();
    let many = Implementations::<ManyOps>::new();
    many.prepare(engine, "plain", &TABLE).unwrap().put_in_use();
    let behind = many.user().unwrap();
    let ops = "ManyOps";
    let other = |member| OpsError::OtherResult { ops, member };
    let argument = |member, argument| OpsError::NoSuchArgument { ops, member, argument };
    let stack = |member| OpsError::StackArguments { ops, member };
    let refused = [
        ("answer", Body::answer(1_u32), other("answer")),
        ("unit", Body::answer(0_u64), other("unit")),
        ("borrowed", Body::answer(0_u64), other("borrowed")),
        ("large", Body::answer(()), other("large")),
        ("truth", Body::answer(1_u8), other("truth")),
        ("unit", when(4), argument("unit", 4)),
        ("answer", when(0), argument("answer", 0)),
        ("answer", when(1), argument("answer", 1)),
        ("optional", Body::forward(), OpsError::NothingBehind { ops, member: "optional" }),
        ("optional", when(0), OpsError::NothingBehind { ops, member: "optional" }),
        ("many", when(8), argument("many", 8)),
        ("many", Body::timed(&TIMES), stack("many")),
        ("floats", Body::timed(&TIMES), stack("floats")),
        ("nothing", Body::forward(), OpsError::NoSuchMember { ops }),
        ("unit", Body::forward().recording(2), OpsError::NoCpuArea),
    ];
    let before = engine.statistics().stub_bytes;
    for (member, body, expected) in refused {
        let bodies = [("truth", Body::forward()), (member, body)];
        let bodies = if member == "truth" { &bodies[1..] } else { &bodies };
        assert_eq!(many.prepare_generated(engine, "generated", &behind, bodies).unwrap_err(), expected, "{member}");
    }
    let others = Implementations::<ManyOps>::new();
    let error = others.prepare_generated(engine, "generated", &behind, &[]).unwrap_err();
    assert_eq!(error, OpsError::NotOurs { ops });
    assert_eq!((engine.statistics().stub_bytes, states(&many)), (before, vec![State::InUse]));
}

#[test]
fn what_was_generated_is_given_back_with_the_table_and_keeps_the_one_behind() {
    let (engine, kernel) = engine();
    let many = Implementations::<ManyOps, 4>::new();
    many.prepare(engine, "plain", &TABLE).unwrap().put_in_use();
    let behind = many.user().unwrap();
    let before = engine.statistics().stub_bytes;
    let bodies = [
        ("unit", Body::forward().counting(&CALLS)),
        ("answer", Body::answer(-22)),
        ("truth", Body::timed(&TIMES)),
        ("optional", Body::answer(7_u64)),
    ];
    let prepared = many.prepare_generated(engine, "generated", &behind, &bodies).unwrap();
    let bytes = engine.statistics().stub_bytes - before;
    assert!(bytes > 0);
    drop(prepared);
    assert_eq!(engine.statistics().stub_bytes, before);

    let old = many.prepare_generated(engine, "generated", &behind, &bodies).unwrap().put_in_use().unwrap();
    // Of the two users of the table behind, one is the generated table.
    assert_eq!(old.users(), 2);
    drop(behind);
    let old = old.try_free().unwrap_err();
    let user = many.user().unwrap();
    assert_eq!(user.name(), "generated");
    // Each member has its name, wherever in it.
    let room = kernel.stubs().room;
    let names: Vec<_> = (room.start.get()..room.end.get())
        .step_by(4)
        .filter_map(|at| many.name_of(engine, TextAddr::new(at)))
        .map(|name| std::format!("{name}"))
        .collect();
    for member in ["unit", "answer", "truth", "optional"] {
        let name = std::format!("ManyOps.{member} [generated]");
        assert!(names.iter().filter(|known| **known == name).count() > 5, "{name}");
    }
    assert_eq!(many.name_of(engine, room.start.offset(-4)), None);
    drop(user);
    // One on top of it, which changes one member, and another one without any.
    let second = many.user().unwrap();
    let top = many.prepare_generated(engine, "top", &second, &[("unit", Body::forward())]).unwrap();
    let last = many.prepare_generated(engine, "none", &second, &[]).unwrap();
    drop(second);
    drop(last);
    let middle = top.put_in_use().unwrap();
    assert_eq!(middle.users(), 1);
    let top = many.take_out().unwrap();
    let middle = middle.try_free().unwrap_err();
    top.try_free().unwrap();
    middle.try_free().unwrap();
    old.try_free().unwrap();
    assert_eq!((engine.statistics().stub_bytes, states(&many)), (before, vec![]));
    assert_eq!(many.name_of(engine, room.start), None);
}

#[test]
fn text_that_could_not_be_written_is_given_back() {
    let (engine, kernel) = engine();
    let many = Implementations::<ManyOps>::new();
    many.prepare(engine, "plain", &TABLE).unwrap().put_in_use();
    let behind = many.user().unwrap();
    let before = engine.statistics().stub_bytes;
    let bodies = [("unit", Body::forward()), ("truth", Body::timed(&TIMES))];
    for fault in [Fault::Batch, Fault::Alias(0), Fault::AliasesFrom(1), Fault::Cpu(1)] {
        kernel.set_fault(Some(fault));
        let error = many.prepare_generated(engine, "generated", &behind, &bodies).unwrap_err();
        assert!(matches!(error, OpsError::Text(_)), "{fault:?}: {error}");
        kernel.repair();
        assert_eq!(engine.statistics().stub_bytes, before, "{fault:?}");
    }
    drop(many.prepare_generated(engine, "generated", &behind, &bodies).unwrap());
    let text = FakeText::new(0xffff_8000_8000_0000).build();
    let uninitialised = Box::leak(Box::new(Engine::with_machine(text, text)));
    let error = many.prepare_generated(uninitialised, "generated", &behind, &bodies).unwrap_err();
    assert_eq!(error, OpsError::NotInitialised);
}

#[test]
fn of_members_with_one_name_the_first_is_meant_and_nobody_gets_two_bodies() {
    #[repr(C)]
    struct Two([extern "C" fn(u64, u64) -> u64; 2]);
    extern "C" fn behind(a: u64, b: u64) -> u64 {
        a + b
    }
    const NUMBERS: &[Argument] = &[Argument::general(8); 2];
    let (engine, _) = engine();
    let stub = behind as *const ();
    let open = |offset, result| Member::new("open", offset, false, stub, result, NUMBERS);
    let members = [open(0, Some(ScalarKind::U64)), open(8, None)];
    // SAFETY: 1. to 4. So they are, but that more is known of the second one's result.
    let two = unsafe { UntypedOps::new("two", &members, TextAddr::new(0)) };
    let mut table = Two([behind, behind]);
    let at: *mut () = (&raw mut table).cast();
    // SAFETY: 1. and 2. It is one, nobody calls by it, and the functions stay.
    let generate = |bodies: &[(&str, Body)]| unsafe { two.generate(engine, at, bodies) };
    let twice = generate(&[("open", Body::answer(5_u64)), ("open", Body::forward())]).map(drop);
    assert_eq!(twice, Err(OpsError::Twice { ops: "two", member: "open" }));
    let generated = generate(&[("open", Body::answer(5_u64))]).unwrap();
    let [first, second] = table.0.map(|function| function as usize);
    assert!(first != behind as *const () as usize && second == behind as *const () as usize);
    let name = two.name_of(&generated, TextAddr::new(first as u64)).map(|name| name.to_string());
    assert_eq!(name.as_deref(), Some("two.open [generated]"));
    // SAFETY: 1. nobody calls by the table.
    unsafe { generated.free() };
    assert_eq!(engine.statistics().stub_bytes, 0);
}
