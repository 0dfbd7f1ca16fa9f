//! When the exits of hooked calls are handled.

use super::ready;
use crate::address::{TextAddr, TextRange};
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::ops::{Exit, Ops, Probe};
use crate::platform::{AliasError, ContextBase, CpuTimeout, Platform};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::string::ToString;
extern crate std;

struct Nothing;
impl Probe for Nothing {
    type Data = ();
    fn exit(_: &mut Exit<'_>, (): &()) {}
}

fn returning() -> &'static Ops {
    Box::leak(Box::new(Ops::returning::<Nothing>()))
}

fn hook(ops: &Ops) -> u64 {
    ops.hook.load(Ordering::Relaxed)
}

#[test]
fn an_ops_that_could_not_be_registered_has_no_exit_handled() {
    let (_, engine, _) = ready(1);
    let [gone, refused] = [returning(), returning()];
    engine.register(gone, &Filter::ALL).unwrap();
    assert!(gone.handles_exits());
    engine.unregister(gone).unwrap();
    assert!(!gone.handles_exits());
    engine.register(refused, &Filter::new(&[Rule::name("nosuch")])).unwrap_err();
    assert!(!refused.handles_exits());
}

#[test]
fn registered_again_an_ops_has_frames_of_its_own() {
    let (_, engine, _) = ready(1);
    let ops = returning();
    engine.register(ops, &Filter::ALL).unwrap();
    let first = hook(ops);
    engine.unregister(ops).unwrap();
    engine.register(ops, &Filter::ALL).unwrap();
    assert_ne!(hook(ops), first);
    assert!(ops.handles_exits());
}

#[test]
fn while_a_cpu_may_be_inside_its_callback_an_ops_can_be_kept_with_its_exits() {
    let (kernel, engine, _) = ready(2);
    let ops = returning();
    engine.register(ops, &Filter::ALL).unwrap();
    kernel.set_fault(Some(Fault::Busy(1)));
    assert!(matches!(engine.unregister(ops), Err(RegisterError::NotQuiescent(_))));
    assert!(!ops.handles_exits(), "no callsite calls it any more");
    let registered = hook(ops);
    kernel.set_fault(None);
    assert_eq!(engine.set_filter(ops, &Filter::ALL), Ok(2));
    assert!(ops.handles_exits() && hook(ops) == registered);
    engine.unregister(ops).unwrap();
    assert!(!ops.handles_exits());
}

/// Looks, at each synchronisation, whether the exits of an ops are handled.
struct Watching {
    kernel: &'static FakeKernel,
    ops: &'static Ops,
    unhandled: AtomicU64,
}

// SAFETY: as the fake's own, whose text nothing executes.
unsafe impl Platform for Watching {
    fn context_base(&self) -> ContextBase {
        self.kernel.context_base()
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        self.kernel.map_alias(page)
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        self.unhandled.fetch_add(u64::from(!self.ops.handles_exits()), Ordering::Relaxed);
        self.kernel.synchronize_cpus()
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        self.kernel.quiesce(stubs)
    }
}

#[test]
fn as_long_as_entries_are_seen_so_are_exits() {
    let mut text = FakeText::new(0xffff_8000_0000_0000);
    (0..3).for_each(|n| {
        text.function(&n.to_string(), COMPILED);
    });
    let kernel = text.build();
    let watching: &'static Watching =
        Box::leak(Box::new(Watching { kernel, ops: returning(), unhandled: AtomicU64::new(0) }));
    let engine = Engine::with_machine(watching, kernel);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    let ops = watching.ops;
    watching.unhandled.store(0, Ordering::Relaxed);
    engine.register(ops, &Filter::ALL).unwrap();
    engine.unregister(ops).unwrap();
    assert_eq!(watching.unhandled.load(Ordering::Relaxed), 0);
    // Where taking the callsites away fails, nothing has changed.
    engine.register(ops, &Filter::ALL).unwrap();
    kernel.set_fault(Some(Fault::Write(1)));
    engine.unregister(ops).unwrap_err();
    assert!(ops.handles_exits());
}

#[test]
fn functions_that_return_twice_are_left_out_and_refused_by_name() {
    let mut text = FakeText::new(0xffff_8000_0000_0000);
    let names = ["_setjmp", "sort", "setjmp_like"];
    let [setjmp, ..] = names.map(|name| text.function(name, COMPILED));
    let kernel = text.build();
    let engine = Engine::with_machine(kernel, kernel);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    let ops = returning();
    assert_eq!(engine.register(ops, &Filter::ALL), Ok(2));
    assert_eq!((engine.check_text().enabled, engine.check_text().wrong), (2, 0));
    engine.unregister(ops).unwrap();
    let glob = Rule::parse("*setjmp*").unwrap();
    assert_eq!(engine.register(ops, &Filter::new(&[glob])), Ok(1));
    for rule in [Rule::name("_setjmp"), Rule::address(setjmp)] {
        let refused = Err(RegisterError::ReturnsTwice { function: setjmp, name: "_setjmp" });
        assert_eq!(engine.set_filter(ops, &Filter::new(&[rule])), refused);
    }
    assert_eq!((engine.check_text().enabled, engine.check_text().wrong), (1, 0), "nothing has changed");
    engine.unregister(ops).unwrap();
    // Entries alone can be seen.
    static ENTRIES: Ops = Ops::new(callback);
    extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: crate::FtraceRegs<'_>) {}
    assert_eq!(engine.register(&ENTRIES, &Filter::new(&[Rule::name("_setjmp")])), Ok(1));
}
