//! What handlers are told of a call, when it is hooked and when it returns as the stubs have it.

extern crate std;

use super::{Entry, Exit, Probe, hook};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::context::regs::{FtraceRegs, PtRegs, SavedRegs};
use crate::context::shadow::{HookedCall, ShadowStack, return_stub};
use crate::ops::Ops;
use crate::ops::exits::HookId;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::sync::Mutex;
use std::vec::Vec;

/// The context of a thread of execution with room for eight hooked calls.
pub(crate) fn thread() -> &'static TraceContext {
    let (context, stack) = (Box::leak(Box::new(TraceContext::new())), Box::leak(Box::new(ShadowStack::<8>::new())));
    // SAFETY: both are there for ever, and this one's alone; it has not run.
    unsafe { context.set_shadow_stack(stack) };
    context
}

/// What a stub saves with these in x0 to x7.
fn saved(context: &'static TraceContext, x: [u64; 8]) -> SavedRegs {
    let mut regs = PtRegs { regs: [0; 31], sp: 0, pc: FUNCTION + 8, pstate: 0 };
    regs.regs[..8].copy_from_slice(&x);
    regs.regs[30] = CALLER;
    let context = core::ptr::from_ref(context).expose_provenance() as u64;
    SavedRegs { context, ..SavedRegs::from_pt_regs(&regs) }
}

fn view(saved: &mut SavedRegs) -> FtraceRegs<'_> {
    // SAFETY: borrowed as long as the view lives; not all registers are saved.
    unsafe { FtraceRegs::new(NonNull::from_mut(saved)) }
}

/// A function is called whose callsite calls this ops; returns whether its return is hooked.
pub(crate) fn enter(context: &'static TraceContext, ops: &'static Ops, ip: TextAddr) -> bool {
    let mut regs = saved(context, [0; 8]);
    hook(ip, TextAddr::new(CALLER), ops, view(&mut regs));
    regs.caller_record[1] == return_stub().get()
}

/// The thread's innermost hooked call returns with these in x0 to x7: what the return stub does, which gives the frame back.
pub(crate) fn leave(context: &'static TraceContext, ops: &'static Ops, values: [u64; 8]) {
    let frame = context.calls.iter().next().expect("a call is hooked");
    let exit = ops.exit_handler().expect("it hooks returns");
    // SAFETY: the top frame, hooked for this ops.
    let left = unsafe { exit(frame.as_ptr(), view(&mut saved(context, values))) };
    assert_eq!(left, frame.as_ptr(), "the stub goes on with it");
    context.calls.give_back(frame);
}

const FUNCTION: u64 = 0x4000;
const CALLER: u64 = 0x8000;
const IP: TextAddr = TextAddr::new(FUNCTION + 4);

#[derive(Debug, PartialEq, Eq)]
struct Told {
    ip: TextAddr,
    parent_ip: TextAddr,
    ops: usize,
    values: [u64; 8],
    /// At the exit: x0, how deep, and what the entry has handed over.
    left: Option<(u64, usize, u64)>,
}

static TOLD: Mutex<Vec<Told>> = Mutex::new(Vec::new());

/// Lets calls go whose first argument is 0, and answers those for which it is 1.
struct Tells;

impl Probe for Tells {
    type Data = u64;

    fn entry(call: &mut Entry<'_>) -> Option<u64> {
        let (ip, parent_ip, ops) = (call.ip, call.parent_ip, core::ptr::from_ref(call.ops()).addr());
        let values = call.regs.arguments();
        TOLD.lock().unwrap().push(Told { ip, parent_ip, ops, values, left: None });
        if values[0] == 1 {
            // SAFETY: nothing runs with these registers.
            unsafe { call.regs.return_early(77) };
        }
        (values[0] != 0).then_some(values[1])
    }

    fn exit(call: &mut Exit<'_>, data: &u64) {
        let (ip, parent_ip, ops) = (call.ip(), call.parent_ip(), core::ptr::from_ref(call.ops()).addr());
        let left = Some((call.value(), call.depth(), *data));
        TOLD.lock().unwrap().push(Told { ip, parent_ip, ops, values: call.values(), left });
    }
}

#[test]
fn a_call_is_told_of_with_its_arguments_and_its_results_and_let_go_where_that_is_asked_for() {
    static OPS: Ops = Ops::returning::<Tells>();
    let context = thread();
    let id = HookId::take(&OPS, OPS.exit_handler().unwrap()).unwrap();
    OPS.hook.store(id.get(), Ordering::Relaxed);
    let (arguments, results) = ([11, 12, 13, 14, 15, 16, 17, 18], [21, 22, 23, 24, 25, 26, 27, 28]);
    let told = |values, left| {
        let (parent_ip, ops) = (TextAddr::new(CALLER), (&raw const OPS).addr());
        Told { ip: IP, parent_ip, ops, values, left }
    };
    let enter = |x| {
        let mut saved = saved(context, x);
        hook(IP, TextAddr::new(CALLER), &OPS, view(&mut saved));
        (saved.caller_record[1], context.depth())
    };
    let stub = return_stub().get();
    assert_eq!(enter(arguments), (stub, 1));
    // Inside it, one that is let go, one that the handler answers for, and one more.
    assert_eq!(enter([0; 8]), (CALLER, 1), "let go, and yet hooked");
    assert_eq!(enter([1; 8]), (CALLER, 1), "answered for, and yet hooked");
    assert_eq!(enter([2; 8]), (stub, 2));
    leave(context, &OPS, [3; 8]);
    leave(context, &OPS, results);
    let expected = [
        told(arguments, None),
        told([0; 8], None),
        told([1; 8], None),
        told([2; 8], None),
        told([3; 8], Some((3, 1, 2))),
        told(results, Some((21, 0, 12))),
    ];
    assert_eq!(*TOLD.lock().unwrap(), expected);
    id.give_back();
}

#[test]
fn a_call_that_another_callback_has_answered_for_or_that_has_no_room_is_not_hooked() {
    struct Nothing;
    impl Probe for Nothing {
        const ENTRY: bool = false;
        type Data = ();
        fn exit(_: &mut Exit<'_>, (): &()) {}
    }
    static OPS: Ops = Ops::returning::<Nothing>();
    OPS.hook.store(1, Ordering::Relaxed);
    let context = thread();
    let mut answered = saved(context, [0; 8]);
    // SAFETY: nothing runs with these registers.
    unsafe { view(&mut answered).return_early(7) };
    hook(IP, TextAddr::new(CALLER), &OPS, view(&mut answered));
    assert_eq!((answered.caller_record[1], context.depth()), (CALLER, 0));
    for depth in 0..=8 {
        let mut saved = saved(context, [0; 8]);
        hook(IP, TextAddr::new(CALLER), &OPS, view(&mut saved));
        let is_hooked = saved.caller_record[1] == return_stub().get();
        assert_eq!((is_hooked, context.depth()), (depth < 8, (depth + 1).min(8)));
    }
    assert_eq!(context.overflows(), 1);
}

/// Time stands still on a host: what there is to settle was inside the call before.
#[test]
fn two_hooks_at_one_function_settle_as_one_call() {
    struct Settles;
    impl Probe for Settles {
        const ENTRY: bool = false;
        type Data = ();
        fn exit(call: &mut Exit<'_>, (): &()) {
            SETTLED.lock().unwrap().push(call.settle());
        }
    }
    static SETTLED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());
    static OPS: Ops = Ops::returning::<Settles>();
    // The call around it is the outer hook of the same function, or another one's.
    for (sp_around, inside_around) in [(0x1000, 2 + 5), (0x1010, 2)] {
        let context = thread();
        let push = |sp, inside| {
            let call = HookedCall { return_address: CALLER, function: FUNCTION + 8, sp, hook: 0 };
            context.calls.push(call).unwrap().inside.store(inside, Ordering::Relaxed);
        };
        push(sp_around, 2);
        push(0x1000, 5);
        leave(context, &OPS, [0; 8]);
        let around = context.calls.iter().next().unwrap();
        assert_eq!(around.inside.load(Ordering::Relaxed), inside_around, "{sp_around:#x}");
    }
    assert_eq!(*SETTLED.lock().unwrap(), [(0, 5); 2]);
}
