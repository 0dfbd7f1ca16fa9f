//! The functions as C calls them, on a simulated machine: there is one engine, so one test goes through its life.

use super::context::{
    FENTRY_TRACE_CONTEXT_WORDS, fentry_context_counts, fentry_enter, fentry_in_callback, fentry_interrupted,
    fentry_leave, fentry_level, fentry_trace_context, fentry_trace_context_counts, fentry_trace_context_init,
    fentry_trace_context_set_shadow_stack,
};
use super::engine::{
    fentry_check_text, fentry_forget, fentry_init, fentry_is_quiescent, fentry_report, fentry_text_check,
};
use super::error::fentry_error as Error;
use super::filter::fentry_rule;
use super::ops::{
    FENTRY_OPS_IPMODIFY, fentry_call, fentry_hits, fentry_is_registered, fentry_kind, fentry_misses, fentry_ops,
    fentry_register, fentry_set_filter, fentry_unregister,
};
use super::platform::{
    FENTRY_ABI_FLOAT, FENTRY_ABI_VERSION, fentry_base, fentry_base_register, fentry_one_cpu_quiesce,
    fentry_one_cpu_synchronize, fentry_platform, fentry_range,
};
use super::recording::{
    FENTRY_RING_BLOCK_BYTES, fentry_recording, fentry_ring, fentry_ring_counts, fentry_ring_counts_of,
    fentry_ring_init, fentry_session_dump, fentry_session_start, fentry_session_stop, fentry_task,
};
use super::regs::fentry_regs;
use super::symbols::{fentry_symbol, fentry_symbol_at};
use super::{host, raw_engine};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::context::regs::PtRegs;
use crate::context::shadow::HookedCall;
use crate::engine::Image;
use crate::fakes::{COMPILED, FakeKernel, FakeRegs, FakeText};
use crate::ops::Ops;
use crate::ops::{leave, thread};
use crate::platform::Platform;
use crate::tracer::dump::Dump;
use core::ffi::{CStr, c_int, c_void};
use core::ptr::{null, null_mut};
use std::boxed::Box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;
extern crate std;

static KERNEL: OnceLock<&FakeKernel> = OnceLock::new();

fn kernel() -> &'static FakeKernel {
    KERNEL.get_or_init(|| {
        let mut text = FakeText::new(0xffff_8000_0000_0000);
        for name in ["draw", "sort", "poll"] {
            text.function(name, COMPILED);
        }
        text.build()
    })
}

fn image() -> Image {
    kernel().image()
}

unsafe extern "C" fn map_alias(context: *mut c_void, page: u64) -> *mut c_void {
    // SAFETY: the context that the platform below has.
    let kernel = unsafe { &*context.cast::<FakeKernel>() };
    kernel.map_alias(TextAddr::new(page)).map_or(null_mut(), |alias| alias.as_ptr().cast())
}

unsafe extern "C" fn quiesce(_: *mut c_void, stubs: *const fentry_range, count: usize) -> u32 {
    // SAFETY: what the engine hands over.
    let stubs = unsafe { core::slice::from_raw_parts(stubs, count) };
    assert!(stubs.iter().any(|stub| stub.start < stub.end));
    fentry_one_cpu_quiesce(null_mut(), null(), 0)
}

fn platform() -> fentry_platform {
    let float = if cfg!(target_feature = "neon") { FENTRY_ABI_FLOAT } else { 0 };
    fentry_platform {
        size: size_of::<fentry_platform>(),
        abi: FENTRY_ABI_VERSION | float,
        flags: 0,
        layout: 0,
        context_base: fentry_base { reg: fentry_base_register::TpidrEl1 as u32, offset: 0x40 },
        cpu_base: fentry_base { reg: 0, offset: 0 },
        slide: 0,
        leave_out: null(),
        leave_out_count: 0,
        context: core::ptr::from_ref(kernel()).cast_mut().cast(),
        map_alias: Some(map_alias),
        unmap_alias: None,
        begin_batch: None,
        end_batch: None,
        synchronize_cpus: Some(synchronize),
        quiesce: Some(quiesce),
        relax: None,
        for_each_context: None,
        for_each_cpu_area: None,
        console: None,
        panic: None,
    }
}

unsafe extern "C" fn synchronize(context: *mut c_void) -> u32 {
    fentry_one_cpu_synchronize(context)
}

fn init(platform: fentry_platform) -> Error {
    // SAFETY: 1. A platform that stays, of a fake kernel. 2. to 4. Nothing executes a fake's text.
    unsafe { fentry_init(Box::leak(Box::new(platform)), null_mut()) }
}

fn ops(kind: fentry_kind) -> fentry_ops {
    fentry_ops {
        engine: [0; 16],
        size: size_of::<fentry_ops>(),
        kind: kind as u32,
        flags: 0,
        callback: None,
        entry: None,
        exit: None,
        data: null_mut(),
    }
}

fn kept(ops: fentry_ops) -> *mut fentry_ops {
    Box::into_raw(Box::new(ops))
}

const fn rule(text: &'static CStr) -> fentry_rule {
    fentry_rule { text: text.as_ptr(), function: null(), takes_away: 0 }
}

fn register(ops: *mut fentry_ops, rules: &[fentry_rule]) -> Result<usize, Error> {
    let mut functions = 0;
    // SAFETY: NULL or an ops that stays; rules and a number that live.
    match unsafe { fentry_register(ops, rules.as_ptr(), rules.len(), &raw mut functions) } {
        Error::None => Ok(functions),
        error => Err(error),
    }
}

fn unregister(ops: *mut fentry_ops) -> Error {
    // SAFETY: NULL or an ops that stays.
    unsafe { fentry_unregister(ops, null_mut()) }
}

static SEEN: Mutex<Vec<[u64; 4]>> = Mutex::new(Vec::new());

/// The number that an ops has as its data.
fn data_of(ops: *mut fentry_ops) -> u64 {
    // SAFETY: what a stub hands over.
    unsafe { (*ops).data }.addr() as u64
}

/// x0.
fn x0<'a>(regs: *mut fentry_regs) -> &'a mut u64 {
    // SAFETY: what a stub hands over, for as long as the function runs that it is handed to.
    unsafe { &mut (*regs).x[0] }
}

unsafe extern "C" fn callback(ip: u64, parent_ip: u64, ops: *mut fentry_ops, regs: *mut fentry_regs) {
    SEEN.lock().unwrap().push([ip, parent_ip, data_of(ops), *x0(regs)]);
    *x0(regs) = 77;
}

unsafe extern "C" fn entry(_: u64, _: u64, ops: *mut fentry_ops, regs: *mut fentry_regs, data: *mut u64) -> bool {
    // SAFETY: two words, of which this is the first.
    unsafe { data.write(*x0(regs) + data_of(ops)) };
    *x0(regs) != 13
}

unsafe extern "C" fn exit(call: *const fentry_call, ops: *mut fentry_ops) {
    // SAFETY: what the stub hands over.
    let call = unsafe { &*call };
    SEEN.lock().unwrap().push([call.ip, call.data[0], data_of(ops), *x0(call.regs)]);
    *x0(call.regs) += 1;
}

/// The engine's ops in a C ops that is registered.
fn inner(ops: *mut fentry_ops) -> &'static Ops {
    // SAFETY: registered, so there is one, and it stays.
    unsafe { &*ops.cast::<Ops>() }
}

fn argument(value: u64) -> FakeRegs {
    FakeRegs::new(&PtRegs { regs: [value; 31], sp: 0, pc: 0x4008, pstate: 0 })
}

fn check_text() -> fentry_text_check {
    let mut check = fentry_text_check::default();
    // SAFETY: a place for one.
    assert_eq!(unsafe { fentry_check_text(&raw mut check) }, Error::None);
    check
}

#[test]
fn the_engine_of_the_library_goes_from_misuse_to_a_dump() {
    let watching = kept(fentry_ops { callback: Some(callback), data: 5 as *mut c_void, ..ops(fentry_kind::Callback) });
    assert_eq!(register(watching, &[]), Err(Error::NotInitialised));
    // SAFETY: no pointers.
    assert_eq!(unsafe { fentry_session_stop(null_mut()) }, Error::NotInitialised);

    host::set_machine(kernel(), image);
    // SAFETY: NULL.
    assert_eq!(unsafe { fentry_init(null(), null_mut()) }, Error::NullPointer);
    for (wrong, error) in [
        (fentry_platform { size: 8, ..platform() }, Error::WrongSize),
        (fentry_platform { abi: 0, ..platform() }, Error::WrongVersion),
        (fentry_platform { abi: platform().abi ^ FENTRY_ABI_FLOAT, ..platform() }, Error::FloatAbi),
        (fentry_platform { quiesce: None, ..platform() }, Error::Incomplete),
        (fentry_platform { layout: 7, ..platform() }, Error::BadValue),
        (fentry_platform { context: null_mut(), map_alias: Some(no_alias), ..platform() }, Error::Text),
    ] {
        assert_eq!(init(wrong), error);
        assert_eq!(register(watching, &[]), Err(Error::NotInitialised), "{error:?}");
    }
    let mut report = fentry_report::default();
    // SAFETY: as in `init`, and a place for a report.
    assert_eq!(unsafe { fentry_init(Box::leak(Box::new(platform())), &raw mut report) }, Error::None);
    assert_eq!((report.accepted, report.symbols), (3, 3));
    assert_eq!(init(platform()), Error::AlreadyInitialised);

    callbacks(watching);
    probes();
    counters();
    contexts();
    sessions();

    let mut symbol = fentry_symbol { name: null(), length: 0, address: 0, size: 0 };
    let draw = symbol_of("draw");
    // SAFETY: a place for one.
    assert_eq!(unsafe { fentry_symbol_at(draw + 4, &raw mut symbol) }, Error::None);
    assert_eq!((symbol.address, symbol.length), (draw, 4));
    let range = fentry_range { start: draw, end: draw + 4 };
    // SAFETY: a range.
    assert_eq!(unsafe { fentry_forget(&raw const range, null_mut()) }, Error::None);
    assert_eq!(check_text().disabled, 2);
}

unsafe extern "C" fn no_alias(_: *mut c_void, _: u64) -> *mut c_void {
    null_mut()
}

fn symbol_of(name: &str) -> u64 {
    let symbols = raw_engine().unwrap().symbols().unwrap();
    symbols.lookup_name(name).next().unwrap().addr
}

fn callbacks(watching: *mut fentry_ops) {
    for (rules, error) in [
        (&[rule(c"nobody")][..], Error::NothingSelected),
        (&[rule(c"d[")], Error::BadRule),
        (&[rule(c"draw"), rule(c"!draw")], Error::EmptySelection),
        (&[rule(c"\xff")], Error::BadRule),
        (&[fentry_rule { text: null(), function: null(), takes_away: 0 }], Error::NullPointer),
        (&[rule(c"draw"); 33], Error::TooManyRules),
    ] {
        assert_eq!(register(watching, rules), Err(error));
        assert_eq!(check_text().enabled, 0);
    }
    assert_eq!(register(watching, &[rule(c"draw")]), Ok(1));
    assert_eq!(register(watching, &[]), Err(Error::AlreadyRegistered));
    // SAFETY: an ops that stays, and a rule that lives.
    let set = unsafe { fentry_set_filter(watching, &raw const *Box::leak(Box::new(rule(c"*o*"))), 1, null_mut()) };
    assert_eq!((set, check_text().enabled), (Error::None, 2));
    // As a stub calls it.
    let mut regs = argument(3);
    let own = inner(watching);
    (own.callback)(TextAddr::new(0x4004), TextAddr::new(0x9000), own, regs.view());
    assert_eq!((SEEN.lock().unwrap().pop(), regs.view().argument(0)), (Some([0x4004, 0x9000, 5, 3]), Some(77)));
    // Of two that change where execution goes on, one is refused; it is not registered.
    let flags = FENTRY_OPS_IPMODIFY;
    let [first, second] =
        [(); 2].map(|()| kept(fentry_ops { callback: Some(callback), flags, ..ops(fentry_kind::Callback) }));
    assert_eq!((register(first, &[]), register(second, &[])), (Ok(3), Err(Error::Conflict)));
    // SAFETY: ops that stay.
    let is_registered = |ops| unsafe { fentry_is_registered(ops) };
    assert!(is_registered(first) && !is_registered(second));
    for (ops, error) in [(first, Error::None), (first, Error::NotRegistered), (second, Error::NotRegistered)] {
        assert_eq!(unregister(ops), error);
    }
    assert_eq!((unregister(watching), check_text().enabled), (Error::None, 0));
    // SAFETY: an ops that stays.
    assert_eq!(unsafe { fentry_misses(watching) }, 0);
    for (wrong, error) in [
        (ops(fentry_kind::Callback), Error::Incomplete),
        (fentry_ops { entry: Some(entry), ..ops(fentry_kind::Probe) }, Error::Incomplete),
        (fentry_ops { kind: 3, ..ops(fentry_kind::Counter) }, Error::BadValue),
        (fentry_ops { flags: 1 << 9, ..ops(fentry_kind::Counter) }, Error::BadValue),
        (fentry_ops { size: 0, ..ops(fentry_kind::Counter) }, Error::WrongSize),
    ] {
        assert_eq!(register(kept(wrong), &[]), Err(error));
    }
    assert_eq!(register(null_mut(), &[]), Err(Error::NullPointer));
}

fn probes() {
    let context = thread();
    let exits = || fentry_ops { exit: Some(exit), data: 100 as *mut c_void, ..ops(fentry_kind::Probe) };
    for (probe, handed_over) in [(fentry_ops { entry: Some(entry), ..exits() }, 103), (exits(), 0)] {
        let probe = kept(probe);
        assert_eq!(register(probe, &[rule(c"draw")]), Ok(1));
        let own = inner(probe);
        let hook = own.hook.load(Ordering::Relaxed);
        let call = HookedCall { return_address: 0x9000, function: 0x4008, sp: 0, hook };
        let frame = context.calls.push(call).unwrap().as_ptr();
        if let Some(entry) = own.entry {
            // SAFETY: 1. The top frame, of this ops.
            let enter = |value| unsafe { entry(frame, argument(value).view()) };
            assert_ne!(enter(13), frame, "the entry lets it go");
            assert_eq!(enter(3), frame);
        }
        leave(context, own, [9; 8]);
        assert_eq!(SEEN.lock().unwrap().pop(), Some([0x4004, handed_over, 100, 9]));
        assert_eq!(unregister(probe), Error::None);
    }
}

fn counters() {
    let counting = kept(ops(fentry_kind::Counter));
    for times in 1..=2 {
        assert_eq!(register(counting, &[]), Ok(3));
        // As a stub counts that has no CPU area.
        inner(counting).hits.fetch_add(4, Ordering::Relaxed);
        assert_eq!(unregister(counting), Error::None);
        // SAFETY: an ops that stays.
        assert_eq!(unsafe { fentry_hits(counting) }, 4 * times);
    }
}

fn contexts() {
    let trace = Box::into_raw(Box::new(fentry_trace_context { engine: [0; FENTRY_TRACE_CONTEXT_WORDS] }));
    let mut interrupted = fentry_interrupted { engine: [0; 4] };
    #[repr(align(16))]
    struct Memory {
        _bytes: [u64; 64],
    }
    let memory = Box::into_raw(Box::new(Memory { _bytes: [u64::MAX; 64] }));
    // SAFETY: a context that was not made, and memory of our own.
    let set = |bytes| unsafe { fentry_trace_context_set_shadow_stack(trace, memory.cast(), bytes) };
    assert_eq!(set(512), Error::NotSetUp);
    // SAFETY: memory of our own.
    assert_eq!(unsafe { fentry_trace_context_init(trace) }, Error::None);
    assert_eq!((set(191), set(512)), (Error::MemorySize, Error::None));
    // SAFETY: just made.
    let context = unsafe { &*trace.cast::<TraceContext>() };
    let call = |number: u64| HookedCall { return_address: 0x9000, function: 0x4008, sp: 512 - number, hook: 0 };
    // 512 = (6 + 2) * 64
    (0..6).for_each(|number| assert!(context.calls.push(call(number)).is_some(), "{number}"));
    assert!(context.calls.push(call(6)).is_none());
    let mut counts = fentry_context_counts::default();
    // SAFETY: a context, and a place for counts.
    assert_eq!(unsafe { fentry_trace_context_counts(trace, &raw mut counts) }, Error::None);
    assert_eq!((counts.depth, counts.overflows), (6, 1));
    // SAFETY: a context, and nothing goes on in it.
    let entered = unsafe { fentry_enter(trace, fentry_level::Irq as u32, &raw mut interrupted) };
    // SAFETY: as above.
    let mut leave = || unsafe { fentry_leave(trace, &raw mut interrupted) };
    assert_eq!((entered, leave(), leave()), (Error::None, Error::None, Error::NotSetUp));
    // SAFETY: a context.
    let in_callback = || unsafe { fentry_in_callback(trace) };
    // SAFETY: a context.
    let is_quiescent = |pc| unsafe { fentry_is_quiescent(trace, pc) };
    context.busy.store(1, Ordering::Relaxed);
    assert!(in_callback() && !is_quiescent(0));
    context.busy.store(0, Ordering::Relaxed);
    let stub = kernel().stubs().text[0].start.get();
    assert!(!in_callback() && is_quiescent(0) && !is_quiescent(stub));
}

static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static CPU_ASKED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn write(context: *mut c_void, bytes: *const c_void, length: usize) -> c_int {
    // SAFETY: what the session hands over.
    WRITTEN.lock().unwrap().extend(unsafe { core::slice::from_raw_parts(bytes.cast::<u8>(), length) });
    c_int::from(!context.is_null())
}

unsafe extern "C" fn second_cpu(_: *mut c_void) -> u32 {
    CPU_ASKED.fetch_add(1, Ordering::Relaxed);
    1
}

fn sessions() {
    #[repr(align(4096))]
    struct Blocks {
        _bytes: [[u8; FENTRY_RING_BLOCK_BYTES]; 2],
    }
    let [first, second] = [(); 2].map(|()| Box::into_raw(Box::new(fentry_ring { engine: [0; 8] })));
    let rings = Box::leak(Box::new([first, second]));
    let recording = Box::into_raw(Box::new(fentry_recording {
        size: size_of::<fentry_recording>(),
        rings: rings.as_ptr(),
        cpus: 2,
        cpu: Some(second_cpu),
        task: None,
        context: null_mut(),
        profile: null_mut(),
        profile_bytes: 0,
    }));
    // SAFETY: a recording that stays.
    let start = |words: &CStr| unsafe { fentry_session_start(recording, words.as_ptr(), null_mut()) };
    assert_eq!(start(c""), Error::NotSetUp);
    for ring in *rings {
        let memory = Box::into_raw(Box::new(Blocks { _bytes: [[7; FENTRY_RING_BLOCK_BYTES]; 2] }));
        // SAFETY: memory of our own.
        let made = unsafe { fentry_ring_init(ring, memory.cast(), size_of::<Blocks>(), 0) };
        assert_eq!(made, Error::None);
    }
    assert_eq!(start(c"tracer=grph"), Error::BadWord);
    assert_eq!(start(c"tracer=function args=1 filter=sort quiet"), Error::None);
    assert_eq!(start(c""), Error::AlreadyRegistered);
    let engine = raw_engine().unwrap();
    let own = *engine.all_ops().last().unwrap();
    (own.callback)(TextAddr::new(0x4004), TextAddr::new(0x9000), own, argument(8).view());
    // SAFETY: no pointers.
    assert_eq!(unsafe { fentry_session_stop(null_mut()) }, Error::None);
    let mut counts = fentry_ring_counts::default();
    // SAFETY: a ring, and a place for counts.
    assert_eq!(unsafe { fentry_ring_counts_of(second, &raw mut counts) }, Error::None);
    assert_eq!((counts.kept, CPU_ASKED.load(Ordering::Relaxed)), (1, 1));
    let task = fentry_task { number: 3, name: c"three".as_ptr() };
    // SAFETY: a task that lives; the recording is still there.
    let failed = unsafe { fentry_session_dump(Some(write), (&raw mut counts).cast(), &raw const task, 1) };
    assert_eq!(failed, Error::WriteFailed);
    WRITTEN.lock().unwrap().clear();
    // SAFETY: as above.
    let dumped = unsafe { fentry_session_dump(Some(write), null_mut(), &raw const task, 1) };
    assert_eq!(dumped, Error::None);
    let written = WRITTEN.lock().unwrap();
    let dump = Dump::parse(&written).unwrap();
    assert_eq!((dump.cpus(), dump.events().count(), dump.tasks().count()), (2, 1, 1));
}
