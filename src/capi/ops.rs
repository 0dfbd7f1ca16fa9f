//! Ops in memory of the kernel's, with callbacks that are C functions.
//!
//! The engine's own [`Ops`] stands at the start of a `fentry_ops`, in words that C sees as opaque. So the stubs hand a C
//! callback the address of its `fentry_ops` as they hand a Rust one that of its `Ops`, and call it without anything between.

use super::console::told;
use super::error::fentry_error;
use super::filter::{fentry_rule, with_filter};
use super::regs::fentry_regs;
use super::{engine, from_c};
use crate::engine::{Engine, RegisterError};
use crate::ops::{Callback, Entry, Exit, Ops, OpsFlags, Probe};
use core::ffi::c_void;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

/// The words of a `struct fentry_ops` that are the engine's own.
pub const FENTRY_OPS_WORDS: usize = 16;

/// The word that holds the state.
const STATE_AT: usize = FENTRY_OPS_WORDS - 1;

const _: () = assert!(size_of::<Ops>() <= STATE_AT * 8 && align_of::<Ops>() <= 8);

/// In an ops' `flags`: every register is saved, not only the live ones; fentry_regs_all() has them.
pub const FENTRY_OPS_SAVE_REGS: u32 = 1 << 0;
/// In an ops' `flags`: the callback may change where execution goes on (`pc`, or fentry_regs_return_early()). A function can
/// have one such ops.
pub const FENTRY_OPS_IPMODIFY: u32 = 1 << 1;
/// In an ops' `flags`: the callback is called inside callbacks of its own level as well. It calls nothing that is traced, or
/// ends the recursion itself.
pub const FENTRY_OPS_RECURSION_SAFE: u32 = 1 << 2;
/// In an ops' `flags`: once registered it stays so.
pub const FENTRY_OPS_PERMANENT: u32 = 1 << 3;

const _: () = assert!(
    FENTRY_OPS_SAVE_REGS == OpsFlags::SAVE_REGS.bits()
        && FENTRY_OPS_IPMODIFY == OpsFlags::IPMODIFY.bits()
        && FENTRY_OPS_RECURSION_SAFE == OpsFlags::RECURSION_SAFE.bits()
        && FENTRY_OPS_PERMANENT == OpsFlags::PERMANENT.bits()
);

/// What happens at the functions that an ops is registered for.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum fentry_kind {
    /// `callback` is called at the entry.
    Callback = 0,
    /// `entry` is called at the entry, if it is not NULL, and `exit` at the return.
    Probe,
    /// The calls are counted; fentry_hits() reads the counter.
    Counter,
}

/// What a traced function's entry calls: with the callsite's address, the address that the function will return to, the ops,
/// and the registers.
///
/// It runs on the stack of the traced call, in whatever context that was, with interrupts as they were. It may call traced
/// functions (they are not traced while it runs), but must not wait for a lock that the code it interrupts can hold, nor
/// register or unregister anything, nor sleep or otherwise give up its CPU by itself, nor leave by longjmp.
pub type fentry_callback =
    Option<unsafe extern "C" fn(ip: u64, parent_ip: u64, ops: *mut fentry_ops, regs: *mut fentry_regs)>;

/// What is called at the entry of a function whose return is hooked: as a callback, and with two words of data for the exit
/// handler of the same call, zeros at first. False lets this call go: its exit is not seen.
pub type fentry_entry = Option<
    unsafe extern "C" fn(ip: u64, parent_ip: u64, ops: *mut fentry_ops, regs: *mut fentry_regs, data: *mut u64) -> bool,
>;

/// What is called at the return of a function whose return is hooked, under the rules of a callback.
pub type fentry_exit = Option<unsafe extern "C" fn(call: *const fentry_call, ops: *mut fentry_ops)>;

/// A call that returns.
#[derive(Debug)]
#[repr(C)]
pub struct fentry_call {
    /// The callsite: the `ip` of the call's entry.
    pub ip: u64,
    /// Where the function returns to; for the outer of several ops at one function, the return stub.
    pub parent_ip: u64,
    /// CNTVCT_EL0 at the entry.
    pub entry_time: u64,
    /// The ticks of CNTVCT_EL0 since the entry.
    pub ticks: u64,
    /// How many hooked calls this one is inside of.
    pub depth: u64,
    /// The results: `x[0]` to `x[7]`. What is written to `x[0]` is what the caller gets.
    pub regs: *mut fentry_regs,
    /// What the entry handler has left; zeros where there is none.
    pub data: [u64; 2],
}

/// What happens at functions' entries and exits. In memory that stays for ever, since a CPU may be on its way to the callback
/// at any moment: `static struct fentry_ops watch = { FENTRY_OPS_INIT, .callback = watch_callback };`
///
/// From the first registration on, only `data` may be changed while it is registered.
#[derive(Debug)]
#[repr(C)]
pub struct fentry_ops {
    /// The engine's own; zeros at first.
    pub engine: [u64; FENTRY_OPS_WORDS],
    /// sizeof(struct fentry_ops), as FENTRY_OPS_INIT has it.
    pub size: usize,
    /// One of `enum fentry_kind`.
    pub kind: u32,
    /// FENTRY_OPS_ flags.
    pub flags: u32,
    /// For FENTRY_KIND_CALLBACK.
    pub callback: fentry_callback,
    /// For FENTRY_KIND_PROBE, or NULL.
    pub entry: fentry_entry,
    /// For FENTRY_KIND_PROBE.
    pub exit: fentry_exit,
    /// The caller's own.
    pub data: *mut c_void,
}

/// Never registered: there is no [`Ops`].
const NEW: u64 = 0;
/// Somebody registers it.
const BUSY: u64 = 1;
/// Registered.
const REGISTERED: u64 = 2;
/// Not registered any more; its [`Ops`] keeps what was counted.
const GONE: u64 = 3;

/// Where a field is, so that only that is read: the engine's words change meanwhile.
const fn field<T>(ops: *const fentry_ops, offset: usize) -> *const T {
    ops.wrapping_byte_add(offset).cast()
}

/// A C ops that was checked.
#[derive(Clone, Copy)]
struct Checked(*mut fentry_ops);

impl Checked {
    /// Checks that there is an ops, and that it was initialised.
    ///
    /// # Safety
    ///
    /// 1. `ops` is NULL, or points at an ops, or at as many bytes, that stay for ever.
    unsafe fn new(ops: *mut fentry_ops) -> Result<Self, fentry_error> {
        if ops.is_null() {
            return Err(fentry_error::NullPointer);
        }
        if !ops.is_aligned() {
            return Err(fentry_error::BadValue);
        }
        // SAFETY: our caller's promise.
        let size = unsafe { field::<usize>(ops, offset_of!(fentry_ops, size)).read() };
        if size == size_of::<fentry_ops>() { Ok(Self(ops)) } else { Err(fentry_error::WrongSize) }
    }

    fn state(self) -> &'static AtomicU64 {
        // SAFETY: the caller of `new` has promised that the ops stays for ever; this word of it is aligned, and only used here.
        unsafe { AtomicU64::from_ptr(from_c::word(self.0, STATE_AT)) }
    }

    /// The engine's ops in it; only where the state says that there is one.
    fn ops(self) -> Option<&'static Ops> {
        let is_made = matches!(self.state().load(Ordering::Acquire), REGISTERED | GONE);
        // SAFETY: `make` has put it there, and it stays for ever.
        is_made.then(|| unsafe { &*self.0.cast::<Ops>() })
    }

    /// Makes the engine's ops of what the kernel has written into it.
    fn make(self, counted: [u64; 2]) -> Result<&'static Ops, fentry_error> {
        // SAFETY: an ops that stays (`new`), of which all patterns of bits are values; the state says that the engine does not use
        // it, and whoever registers it does not change it meanwhile.
        let fentry_ops { kind, flags, callback, entry, exit, .. } = unsafe { self.0.read() };
        let flags = OpsFlags::from_bits(flags).ok_or(fentry_error::BadValue)?;
        let made = match kind {
            kind if kind == fentry_kind::Callback as u32 => {
                let callback = callback.ok_or(fentry_error::Incomplete)?;
                // SAFETY: the same arguments to the caller and the callee: numbers, and pointers that are never null. The
                // header asks of the kernel what `Callback` asks of a safe function.
                Ops::new(unsafe { core::mem::transmute::<CCallback, Callback>(callback) })
            }
            kind if kind == fentry_kind::Probe as u32 => {
                exit.ok_or(fentry_error::Incomplete)?;
                if entry.is_some() { Ops::returning::<Calls>() } else { Ops::returning::<Returns>() }
            }
            kind if kind == fentry_kind::Counter as u32 => Ops::counter(),
            _ => return Err(fentry_error::BadValue),
        };
        // The handlers find their way back by this.
        let made = made.with_flags(flags).with_data(self.0.expose_provenance());
        let [hits, misses] = counted;
        made.hits.store(hits, Ordering::Relaxed);
        made.misses.store(misses, Ordering::Relaxed);
        // SAFETY: large enough and aligned, as was checked when this was compiled; the state says that nobody uses it.
        unsafe { self.0.cast::<Ops>().write(made) };
        // SAFETY: just written, and there for ever.
        Ok(unsafe { &*self.0.cast::<Ops>() })
    }

    fn register(
        self,
        register: impl FnOnce(&'static Engine, &'static Ops) -> Result<usize, fentry_error>,
    ) -> Result<usize, fentry_error> {
        let engine = engine()?;
        let state = self.state();
        let before = state.load(Ordering::Acquire);
        match before {
            NEW | GONE => {}
            BUSY | REGISTERED => return Err(fentry_error::AlreadyRegistered),
            // Memory that was something else before.
            _ => return Err(fentry_error::BadValue),
        }
        let counted = self.ops().map_or([0; 2], |ops| [engine.hits(ops), ops.misses()]);
        if state.compare_exchange(before, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(fentry_error::AlreadyRegistered);
        }
        let ops = match self.make(counted) {
            Ok(ops) => ops,
            Err(error) => {
                state.store(before, Ordering::Release);
                return Err(error);
            }
        };
        let registered = register(engine, ops);
        // What could not be registered may still have callsites that call it.
        let stays = registered.is_ok() || !matches!(engine.unregister(ops), Ok(_) | Err(RegisterError::NotRegistered));
        state.store(if stays { REGISTERED } else { GONE }, Ordering::Release);
        registered
    }
}

type CCallback = unsafe extern "C" fn(ip: u64, parent_ip: u64, ops: *mut fentry_ops, regs: *mut fentry_regs);

/// The probe whose entry and exit are C functions.
struct Calls;

impl Probe for Calls {
    type Data = [u64; 2];

    fn entry(call: &mut Entry<'_>) -> Option<[u64; 2]> {
        let ops = c_ops(call.ops());
        // SAFETY: the ops is registered, so it is a `fentry_ops`, which stays for ever; only its `data` is changed meanwhile.
        let entry = unsafe { field::<fentry_entry>(ops, offset_of!(fentry_ops, entry)).read() }?;
        let mut data = [0; 2];
        let (ip, parent_ip, regs) = (call.ip.get(), call.parent_ip.get(), call.regs.as_ptr().as_ptr().cast());
        // SAFETY: the kernel's own function, called as the header says.
        unsafe { entry(ip, parent_ip, ops, regs, data.as_mut_ptr()) }.then_some(data)
    }

    fn exit(call: &mut Exit<'_>, data: &[u64; 2]) {
        exit(call, *data);
    }
}

/// The probe whose exit is a C function.
struct Returns;

impl Probe for Returns {
    const ENTRY: bool = false;
    type Data = ();

    fn exit(call: &mut Exit<'_>, (): &()) {
        exit(call, [0; 2]);
    }
}

/// The C ops that holds this one.
fn c_ops(ops: &Ops) -> *mut fentry_ops {
    core::ptr::with_exposed_provenance_mut(ops.data())
}

fn exit(call: &mut Exit<'_>, data: [u64; 2]) {
    let ops = c_ops(call.ops());
    let shown = fentry_call {
        ip: call.ip().get(),
        parent_ip: call.parent_ip().get(),
        entry_time: call.entry_time(),
        ticks: call.ticks(),
        depth: call.depth() as u64,
        regs: call.regs.as_ptr().as_ptr().cast(),
        data,
    };
    // SAFETY: the ops is registered, so it is a `fentry_ops`, which stays for ever; only its `data` is changed meanwhile.
    if let Some(exit) = unsafe { field::<fentry_exit>(ops, offset_of!(fentry_ops, exit)).read() } {
        // SAFETY: the kernel's own function, called as the header says.
        unsafe { exit(&raw const shown, ops) };
    }
}

/// Registers an ops for every function that the rules select; with a `count` of 0, for all. Writes their number to
/// `functions`, if that is not NULL. Of several ops at one function, the one that was registered first is called first.
///
/// Not to be called from a callback or an interrupt handler, as all functions that change registrations.
///
/// Errors: NOT_INITIALISED, NULL_POINTER, WRONG_SIZE (no FENTRY_OPS_INIT), INCOMPLETE (no function of its kind), BAD_VALUE
/// (unknown kind or flag), ALREADY_REGISTERED, those of the rules (BAD_RULE, TOO_MANY_RULES, NO_NAMES, NOTHING_SELECTED,
/// NOTHING_TAKEN_AWAY, EMPTY_SELECTION, RETURNS_TWICE), CONFLICT, TOO_MANY_OPS, TOO_MANY_SETS, NO_ROOM, OUT_OF_REACH, TEXT,
/// NOT_QUIESCENT. The ops is not registered then; if text could not be put back, fentry_is_registered() says that it is, and
/// it must be unregistered.
///
/// # Safety
///
/// `ops` is NULL or an ops that stays for ever; its functions keep to what fentry_callback asks for. `rules` is NULL or points at
/// `count` rules, `functions` is NULL or a place for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_register(
    ops: *mut fentry_ops,
    rules: *const fentry_rule,
    count: usize,
    functions: *mut usize,
) -> fentry_error {
    // SAFETY: 1. Our caller's promise.
    let registered = unsafe { Checked::new(ops) }.and_then(|ops| {
        ops.register(|engine, ops| {
            // SAFETY: 1. Our caller's promise.
            unsafe { with_filter(rules, count, |filter| engine.register(ops, filter).map_err(told)) }
        })
    });
    // SAFETY: 1. Our caller's promise.
    fentry_error::from_result(registered.map(|found| unsafe { from_c::write_if_wanted(functions, found) }))
}

/// Unregisters an ops, and waits until no CPU is inside its callback. Writes the number of functions that it had to `functions`,
/// if that is not NULL.
///
/// Errors: NOT_INITIALISED, NULL_POINTER, WRONG_SIZE, NOT_REGISTERED, PERMANENT, TEXT; NOT_QUIESCENT and QUARANTINED, after which
/// it can be tried again.
///
/// # Safety
///
/// As for fentry_register().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_unregister(ops: *mut fentry_ops, functions: *mut usize) -> fentry_error {
    // SAFETY: 1. Our caller's promise.
    let done = unsafe { Checked::new(ops) }.and_then(|ops| {
        let engine = engine()?;
        let own = ops.ops().ok_or(fentry_error::NotRegistered)?;
        let found = engine.unregister(own).map_err(told)?;
        ops.state().store(GONE, Ordering::Release);
        Ok(found)
    });
    // SAFETY: 1. Our caller's promise.
    fentry_error::from_result(done.map(|found| unsafe { from_c::write_if_wanted(functions, found) }))
}

/// Changes the functions for which an ops is registered to those that the rules select; writes their number to `functions`,
/// if that is not NULL.
///
/// Errors: as for fentry_register() and fentry_unregister(). After NOT_QUIESCENT the new rules are in force; with any other
/// nothing has changed.
///
/// # Safety
///
/// As for fentry_register().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_set_filter(
    ops: *mut fentry_ops,
    rules: *const fentry_rule,
    count: usize,
    functions: *mut usize,
) -> fentry_error {
    // SAFETY: 1. Our caller's promise.
    let done = unsafe { Checked::new(ops) }.and_then(|ops| {
        let engine = engine()?;
        let own = ops.ops().ok_or(fentry_error::NotRegistered)?;
        // SAFETY: 1. Our caller's promise.
        unsafe { with_filter(rules, count, |filter| engine.set_filter(own, filter).map_err(told)) }
    });
    // SAFETY: 1. Our caller's promise.
    fentry_error::from_result(done.map(|found| unsafe { from_c::write_if_wanted(functions, found) }))
}

/// Returns whether an ops is registered. False for NULL, and for what was not initialised.
///
/// # Safety
///
/// As for fentry_register().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_is_registered(ops: *mut fentry_ops) -> bool {
    // SAFETY: 1. Our caller's promise.
    unsafe { Checked::new(ops) }.is_ok_and(|ops| ops.state().load(Ordering::Acquire) == REGISTERED)
}

/// Returns how many calls an ops of kind FENTRY_KIND_COUNTER has counted, over all its registrations: exactly, once it is
/// unregistered. 0 where it was never registered, and for NULL.
///
/// # Safety
///
/// As for fentry_register(); it is not being registered meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_hits(ops: *mut fentry_ops) -> u64 {
    // SAFETY: 1. Our caller's promise.
    let own = unsafe { Checked::new(ops) }.ok().and_then(Checked::ops);
    own.zip(engine().ok()).map_or(0, |(own, engine)| engine.hits(own))
}

/// Returns how many calls an ops has missed, because their level was inside a callback already. 0 where it was never
/// registered, and for NULL.
///
/// # Safety
///
/// As for fentry_hits().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_misses(ops: *mut fentry_ops) -> u64 {
    // SAFETY: 1. Our caller's promise.
    unsafe { Checked::new(ops) }.ok().and_then(Checked::ops).map_or(0, Ops::misses)
}
