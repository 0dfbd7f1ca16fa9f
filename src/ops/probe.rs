//! Probes: handlers at a function's entry and at its exit.
//!
//! At the entry the function's return address goes to the [shadow stack](crate::context::shadow), and the return stub's
//! takes its place, before the function signs or spills it. The [return stub](crate::stub::exit) keeps every register that
//! carries a result, calls the exit handler, and returns to the real caller.

use super::exits::ops_of;
use super::{Action, EntryHandler, ExitHandler, Made, Ops};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::context::clock::ticks;
use crate::context::regs::{FtraceRegs, SavedRegs};
use crate::context::shadow::{DATA_BYTES, FrameRef, HookedCall, ShadowFrame, return_stub};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

/// Handlers at a function's entry and at its exit.
///
/// Both run where the call runs, as a [`Callback`](super::Callback) does, and under the same rules.
///
/// ```
/// use fentry::ops::{Entry, Exit, Ops, Probe};
///
/// struct SlowReads;
///
/// impl Probe for SlowReads {
///     /// Of the entry, for the exit: the block that is read.
///     type Data = u64;
///
///     fn entry(call: &mut Entry<'_>) -> Option<u64> {
///         // `None` would let this call go unobserved.
///         call.regs.argument(0)
///     }
///
///     fn exit(call: &mut Exit<'_>, block: &u64) {
///         if call.ticks() > 1000 {
///             log::info!("{} of block {block} took {} ticks: {:#x}", call.ip(), call.ticks(), call.value());
///         }
///     }
/// }
///
/// static SLOW_READS: Ops = Ops::returning::<SlowReads>();
/// ```
///
/// # Order
/// Several such ops at one function nest: the exit handler of the one that was registered last runs first. A handler whose
/// ops was unregistered since the call's entry is not called any more.
///
/// # What can't be hooked
/// Filters must leave these out:
///
/// - a function that returns in another thread than it was called in, or rather where the platform's
///   [base register](crate::platform::ContextBase) leads to another context: the kernel's switch of tasks, if it is
///   compiled with a callsite. Its return address is on the other thread's shadow stack;
/// - code that switches stacks inside one context, as coroutines do, between the call and the return of hooked functions
///   on both: a return drops the frames of calls that it finds above its own, whatever stack they were on;
/// - a thread that is made as a copy of another one's stack: its context has none of the other's calls.
///
/// Such a return ends in [`Platform::lost_return`](crate::Platform::lost_return), which tells the function.
///
/// A function that returns twice to one call (`setjmp`) is not told from another one that its caller calls later, so it
/// would return to the wrong place. Where the symbols are known, those that compilers know by name (`setjmp`, `sigsetjmp`,
/// `savectx`, `vfork`, `getcontext`, with underscores before them or not) are left out, and refused where a rule names
/// them. A kernel that has such a function under another name must compile it without a callsite.
pub trait Probe {
    /// What the entry hands to the exit: at most [`DATA_BYTES`] bytes, aligned to 8 at most.
    type Data: Copy + 'static;

    /// Whether there is anything to do at the entry. If not, `Data` has no size, and a call costs less.
    const ENTRY: bool = true;

    /// Handles the entry; `None` if this call's exit doesn't matter.
    fn entry(call: &mut Entry<'_>) -> Option<Self::Data> {
        let _ = call;
        None
    }

    /// Handles the exit.
    fn exit(call: &mut Exit<'_>, data: &Self::Data);
}

/// A call, at its entry.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The callsite.
    pub ip: TextAddr,
    /// Where the function will return to.
    pub parent_ip: TextAddr,
    /// The arguments.
    pub regs: FtraceRegs<'a>,
    frame: FrameRef<'a>,
}

impl Entry<'_> {
    /// Returns the ops.
    #[inline]
    pub fn ops(&self) -> &Ops {
        // SAFETY: the ops is registered, so the slot is its own, and it is not let go, nor its slot given back, while
        // anybody is inside its entry handler.
        unsafe { &*ops_of(self.frame.hook.load(Ordering::Relaxed)) }
    }

    /// Returns the number of hooked calls that this one is inside. It counts them, one by one.
    #[inline]
    pub fn depth(&self) -> usize {
        self.frame.around().count()
    }

    /// Returns the innermost call around this one that is hooked for one of these ops, and whose own entry is over.
    ///
    /// # Safety
    ///
    /// 1. Each of the ops is of a probe whose data is a `D`.
    #[inline]
    pub(crate) unsafe fn innermost<D: Copy, const OPS: usize>(&self, of: [&Ops; OPS]) -> Option<Around<D>> {
        // An interrupt may come while the frame of the call that it interrupts is filled: its return address is written late,
        // and its time last of all. (On a host time stands still, and nothing interrupts.)
        let is_filled = |frame: &FrameRef<'_>| {
            let time = frame.entry_time.load(Ordering::Relaxed);
            frame.return_address() != 0 && (time != 0 || cfg!(not(target_os = "none")))
        };
        let is_one = |frame: &FrameRef<'_>| {
            let hook = frame.hook.load(Ordering::Relaxed);
            of.iter().any(|ops| ops.hook.load(Ordering::Relaxed) == hook) && is_filled(frame)
        };
        let frame = self.frame.around().find(is_one)?;
        // SAFETY: 1. By our caller's promise, the entry of the call has written a `D` there: it is over, and its exit is still
        // to come.
        let data = unsafe { *frame.data.get().cast::<D>() };
        // A tail call has the SP of the call that it ends, but is one of another function.
        let is_same_call = (frame.sp(), frame.ip()) == (self.frame.sp(), self.ip);
        Some(Around { data, is_same_call })
    }
}

/// A hooked call around another one.
pub(crate) struct Around<D> {
    /// What its entry has handed over.
    pub(crate) data: D,
    /// Whether both are hooks of one call.
    pub(crate) is_same_call: bool,
}

/// A call, at its exit.
pub struct Exit<'a> {
    frame: FrameRef<'a>,
    pub(crate) regs: FtraceRegs<'a>,
}

impl Exit<'_> {
    /// Returns the callsite: the `ip` of the call's entry.
    #[inline]
    pub fn ip(&self) -> TextAddr {
        self.frame.ip()
    }

    /// Returns where the function returns to; for the outer of several ops at one function, the return stub.
    #[inline]
    pub fn parent_ip(&self) -> TextAddr {
        TextAddr::new(self.frame.return_address())
    }

    /// Returns x0: the result, where it is a number or a pointer (AAPCS64 6.5).
    #[inline]
    pub const fn value(&self) -> u64 {
        self.regs.saved().x[0]
    }

    /// Returns x0 to x7: results of up to 16 bytes are in x0 and x1.
    #[inline]
    pub const fn values(&self) -> [u64; 8] {
        self.regs.arguments()
    }

    /// Returns CNTVCT_EL0 at the entry.
    #[inline]
    pub fn entry_time(&self) -> u64 {
        self.frame.entry_time.load(Ordering::Relaxed)
    }

    /// Returns the ticks of CNTVCT_EL0 since the entry; 0 where they seem negative, as a CPU may read its counter a little
    /// early, or the call may have moved to another CPU.
    #[inline]
    pub fn ticks(&self) -> u64 {
        ticks().saturating_sub(self.entry_time())
    }

    /// Returns the number of hooked calls that this one is inside.
    #[inline]
    pub fn depth(&self) -> usize {
        self.context().map_or(0, |context| context.calls.around(self.frame))
    }

    /// Returns the ops.
    #[inline]
    pub fn ops(&self) -> &Ops {
        // SAFETY: the return stub has found the hook's slot with the frame's id, and an ops is not let go, nor its slot
        // given back, while anybody is inside its exit handler.
        unsafe { &*ops_of(self.frame.hook.load(Ordering::Relaxed)) }
    }

    /// Adds this call's time to what the one around it has inside, and returns how much of it was inside calls of its own:
    /// `(ticks, ticks inside)`. Once a call; where all calls that matter do so, the difference is the time of its own.
    #[inline]
    pub fn settle(&mut self) -> (u64, u64) {
        let ticks = self.ticks();
        let inside = self.frame.inside.load(Ordering::Relaxed);
        let around = self.frame.below();
        // Two hooks at one function are one call.
        let settled = if around.sp() == self.frame.sp() { inside } else { ticks };
        // Only this thread's calls inside that one settle there, one after the other.
        around.inside.store(around.inside.load(Ordering::Relaxed).wrapping_add(settled), Ordering::Relaxed);
        (ticks, inside)
    }

    #[inline]
    fn context(&self) -> Option<&TraceContext> {
        let context = core::ptr::with_exposed_provenance::<TraceContext>(self.regs.saved().context as usize);
        // SAFETY: the return stub has put the running thread's context there, which lives; what made these registers
        // without a stub has put zero.
        unsafe { context.as_ref() }
    }

    /// Changes x0.
    ///
    /// # Safety
    ///
    /// 1. The caller must be sound when it is given that value.
    #[inline]
    pub const unsafe fn set_value(&mut self, value: u64) {
        // SAFETY: 1. The caller of the function reads x0 next, and is sound with that value by our caller's promise.
        unsafe { self.regs.set_x0(value) };
    }
}

impl fmt::Debug for Exit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:#x}", self.frame, self.value())
    }
}

/// The bit of a frame's address that says that the call is not to be hooked.
pub(crate) const DECLINED: usize = 1;

impl Ops {
    /// Makes an ops that calls the probe's handlers at entry and exit.
    ///
    /// Calls are hooked where the thread's [`TraceContext`] has a shadow stack with room; others are
    /// counted in [`overflows`](crate::TraceContext::overflows).
    pub const fn returning<P: Probe>() -> Self {
        let ((), ()) = (Handlers::<P>::DATA_FITS, Handlers::<P>::NOTHING_TO_HAND_OVER);
        let entry: Option<EntryHandler> = if P::ENTRY { Some(Handlers::<P>::entry) } else { None };
        let exit: ExitHandler = Handlers::<P>::exit;
        Self { entry, exit: Some(exit), made: Made::Action(Action::Return), ..Self::new(hook) }
    }
}

/// A probe's handlers as the stubs call them.
pub(crate) struct Handlers<P>(PhantomData<P>);

impl<P: Probe> Handlers<P> {
    /// For `entry` and `exit` to rely on; looked at when an ops is made.
    pub(crate) const DATA_FITS: () = assert!(
        size_of::<P::Data>() <= DATA_BYTES && align_of::<P::Data>() <= align_of::<u64>(),
        "a probe's data is too large"
    );
    /// A probe without an entry has no data; looked at when an ops is made.
    pub(crate) const NOTHING_TO_HAND_OVER: () =
        assert!(P::ENTRY || size_of::<P::Data>() == 0, "a probe without an entry hands nothing over");

    /// # Safety
    ///
    /// 1. `frame` is the top frame of the running thread's shadow stack, made for an ops of this probe that is registered.
    pub(crate) unsafe extern "C" fn entry(frame: *mut ShadowFrame, regs: FtraceRegs<'_>) -> *mut ShadowFrame {
        let () = Self::DATA_FITS;
        // SAFETY: 1. A frame of the running thread's shadow stack, by our caller's promise; that stack lives as long as the
        // context is in use, and the pointer was made for all of it.
        let call = unsafe { FrameRef::new(frame) };
        let (ip, parent_ip) = (call.ip(), call.return_address());
        match P::entry(&mut Entry { ip, parent_ip: TextAddr::new(parent_ip), regs, frame: call }) {
            None => frame.map_addr(|address| address | DECLINED),
            Some(value) => {
                // SAFETY: the data's bytes are the frame's, large enough and aligned by `DATA_FITS`, and nobody reads or
                // writes them before the exit.
                unsafe { call.data.get().cast::<P::Data>().write(value) };
                frame
            }
        }
    }

    /// # Safety
    ///
    /// 1. `frame` is the top frame of the running thread's shadow stack, made for an ops of this probe, whose
    ///    [`entry`](Self::entry) has returned it if the probe has one.
    pub(crate) unsafe extern "C" fn exit(frame: *mut ShadowFrame, regs: FtraceRegs<'_>) -> *mut ShadowFrame {
        let () = Self::DATA_FITS;
        // SAFETY: 1. A frame of the running thread's shadow stack, by our caller's promise; that stack lives as long as the
        // context is in use, and the pointer was made for all of it.
        let call = unsafe { FrameRef::new(frame) };
        // SAFETY: large enough and aligned by `DATA_FITS`; `entry` has written a value of this type, or it has no size.
        let data = unsafe { *call.data.get().cast::<P::Data>() };
        P::exit(&mut Exit { frame: call, regs }, &data);
        frame
    }
}

/// The callback of a returning ops where it is one of several at a function, or where a stub of its own doesn't know at once
/// whether there is room: hooks the return.
pub(crate) extern "C" fn hook(ip: TextAddr, _: TextAddr, ops: &'static Ops, mut regs: FtraceRegs<'_>) {
    let address = regs.saved().context & !SavedRegs::ALL_SAVED;
    let context = core::ptr::with_exposed_provenance::<TraceContext>(address as usize);
    // SAFETY: the stub that walks the list has put it there, from the register of which the platform promises that it leads
    // to a living context.
    let Some(context) = (unsafe { context.as_ref() }) else { return };
    // A callback before us has answered for the function: it neither runs nor returns.
    if regs.is_answered() {
        return;
    }
    if ops.only_inside && context.calls.iter().next().is_none() {
        return;
    }
    let (return_address, function, sp) = (regs.return_address().get(), ip.offset(4).get(), regs.stack_pointer());
    let hook = ops.hook.load(Ordering::Relaxed);
    debug_assert_ne!(hook, 0, "it is registered");
    let Some(frame) = context.calls.push(HookedCall { return_address, function, sp, hook }) else { return };
    if let Some(entry) = ops.entry {
        // SAFETY: 1. Just pushed, so the top frame, and for this ops, whose callback we are.
        let answer = unsafe { entry(frame.as_ptr(), regs.reborrow()) };
        let declined = answer.addr() & DECLINED != 0;
        // Nor does a function run for which its own entry has answered.
        if declined || regs.is_answered() {
            context.calls.give_back(frame);
            return;
        }
    }
    frame.entry_time.store(ticks(), Ordering::Relaxed);
    // SAFETY: 1. At the return stub there is code that may be returned to; it returns to the address that is here now, which
    // the frame holds.
    unsafe { regs.set_return_address(return_stub()) };
}

#[cfg(test)]
pub(super) mod tests;
