//! Probes: handlers at a function's entry and at its exit.
//!
//! Floor 2, beside the ops that is made of one. At the entry the function's return address goes to the
//! [shadow stack](crate::shadow), and the return stub's takes its place, before the function signs or spills it. The
//! [return stub](crate::returns) keeps every register that carries a result, calls the exit handler, and returns to the real
//! caller.
//!
//! ```
//! use fentry::ops::{Entry, Exit, Ops, Probe};
//!
//! struct SlowReads;
//!
//! impl Probe for SlowReads {
//!     /// Of the entry, for the exit: the block that is read.
//!     type Data = u64;
//!
//!     fn entry(call: &mut Entry<'_>) -> Option<u64> {
//!         // `None` would let this call go unobserved.
//!         call.regs.argument(0)
//!     }
//!
//!     fn exit(call: &mut Exit<'_>, block: &u64) {
//!         if call.ticks() > 1000 {
//!             log::info!("{} of block {block} took {} ticks: {:#x}", call.ip(), call.ticks(), call.value());
//!         }
//!     }
//! }
//!
//! static SLOW_READS: Ops = Ops::returning::<SlowReads>();
//! ```
//!
//! # Order
//! Several such ops at one function nest: the exit handler of the one that was registered last runs first. A handler whose
//! ops was unregistered since the call's entry is not called any more.
//!
//! # What can't be hooked
//! A function that returns in another thread than it was called in, or rather where the platform's
//! [base register](crate::platform::ContextBase) leads to another context: the kernel's switch of tasks, if it is compiled
//! with a callsite. It would look for its return address on the other thread's shadow stack. Filters must leave it out.

use super::Ops;
use crate::address::TextAddr;
use crate::clock::ticks;
use crate::recursion::TraceContext;
use crate::regs::FtraceRegs;
use crate::shadow::{DATA_BYTES, ShadowFrame, return_stub};
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

/// What happens at a function's entry and at its exit.
///
/// Both run where the call runs, as a [`Callback`](super::Callback) does, and under the same rules.
pub trait Probe {
    /// What the entry hands to the exit: at most [`DATA_BYTES`] bytes, aligned to 8 at most.
    type Data: Copy + 'static;

    /// Whether there is anything to do at the entry. If not, `Data` has no size, and a call costs less.
    const ENTRY: bool = true;

    /// At the entry; `None` if this call's exit doesn't matter.
    fn entry(call: &mut Entry<'_>) -> Option<Self::Data> {
        let _ = call;
        None
    }

    /// At the exit.
    fn exit(call: &mut Exit<'_>, data: &Self::Data);
}

/// A call, at its entry.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The callsite.
    pub ip: TextAddr,
    /// Where the function will return to.
    pub parent_ip: TextAddr,
    /// The ops.
    pub ops: &'static Ops,
    /// The arguments.
    pub regs: &'a mut FtraceRegs,
}

/// A call, at its exit.
pub struct Exit<'a> {
    frame: &'a ShadowFrame,
    pub(crate) regs: &'a mut FtraceRegs,
}

impl Exit<'_> {
    /// The callsite: the `ip` of the call's entry.
    pub const fn ip(&self) -> TextAddr {
        self.frame.ip()
    }

    /// Where it returns to. For the outer of several ops at one function, the return stub.
    pub const fn parent_ip(&self) -> TextAddr {
        TextAddr::new(self.frame.return_address)
    }

    /// x0: the result, where it is a number or a pointer (AAPCS64 6.5).
    pub const fn value(&self) -> u64 {
        self.regs.x[0]
    }

    /// x0 to x7: results of up to 16 bytes are in x0 and x1.
    pub const fn values(&self) -> [u64; 8] {
        self.regs.arguments()
    }

    /// CNTVCT_EL0 at the entry.
    pub const fn entry_time(&self) -> u64 {
        self.frame.entry_time
    }

    /// The ticks of CNTVCT_EL0 since the entry.
    #[inline]
    pub fn ticks(&self) -> u64 {
        ticks().wrapping_sub(self.frame.entry_time)
    }

    /// How many hooked calls this one is inside.
    #[inline]
    pub fn depth(&self) -> usize {
        // The frame of this call is still on the shadow stack.
        self.context().map_or(0, |context| context.depth().saturating_sub(1))
    }

    /// The ops.
    #[inline]
    pub fn ops(&self) -> &'static Ops {
        // SAFETY: the stub took it from the `&'static Ops` that was registered.
        unsafe { &*core::ptr::with_exposed_provenance::<Ops>(self.frame.ops as usize) }
    }

    /// Adds this call's time to what the one around it has inside, and returns how much of it was inside calls of its own:
    /// `(ticks, ticks inside)`. Once a call; where all calls that matter do so, the difference is the time of its own.
    #[inline]
    pub fn settle(&mut self) -> (u64, u64) {
        let ticks = self.ticks();
        let inside = self.frame.inside;
        let around = core::ptr::from_ref(self.frame).addr() - size_of::<ShadowFrame>();
        // SAFETY: the frame below the top one, or the lowest, on the shadow stack of this thread, which nobody else touches now.
        let around = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<ShadowFrame>(around) };
        // Two hooks at one function are one call.
        around.inside += if around.sp == self.frame.sp { inside } else { ticks };
        (ticks, inside)
    }

    #[inline]
    fn context(&self) -> Option<&TraceContext> {
        let context = core::ptr::with_exposed_provenance::<TraceContext>(self.regs.context as usize);
        // SAFETY: the return stub put it there; a test that made these registers itself put zero.
        unsafe { context.as_ref() }
    }

    /// Changes x0.
    ///
    /// # Safety
    ///
    /// The caller must be sound when it is given that value.
    pub const unsafe fn set_value(&mut self, value: u64) {
        self.regs.x[0] = value;
    }
}

impl fmt::Debug for Exit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:#x}", self.frame, self.value())
    }
}

/// What the stubs call at an entry: 0 to let the call go.
pub(crate) type EntryHandler = extern "C" fn(
    ip: TextAddr,
    parent_ip: TextAddr,
    ops: &'static Ops,
    regs: &mut FtraceRegs,
    data: &mut MaybeUninit<[u64; DATA_BYTES / 8]>,
) -> u64;

/// What the return stub calls.
pub(crate) type ExitHandler = extern "C" fn(frame: &ShadowFrame, regs: &mut FtraceRegs);

/// A probe's handlers as the stubs call them.
pub(crate) struct Handlers<P>(PhantomData<P>);

impl<P: Probe> Handlers<P> {
    /// For `entry` and `exit` to rely on; looked at when an ops is made.
    pub(crate) const DATA_FITS: () = assert!(
        size_of::<P::Data>() <= DATA_BYTES && align_of::<P::Data>() <= align_of::<u64>(),
        "a probe's data is too large"
    );
    /// The same for a probe without an entry.
    pub(crate) const NOTHING_TO_HAND_OVER: () =
        assert!(P::ENTRY || size_of::<P::Data>() == 0, "a probe without an entry hands nothing over");

    pub(crate) extern "C" fn entry(
        ip: TextAddr,
        parent_ip: TextAddr,
        ops: &'static Ops,
        regs: &mut FtraceRegs,
        data: &mut MaybeUninit<[u64; DATA_BYTES / 8]>,
    ) -> u64 {
        let () = Self::DATA_FITS;
        match P::entry(&mut Entry { ip, parent_ip, ops, regs }) {
            None => 0,
            Some(value) => {
                // SAFETY: it fits and is aligned, as the constant has looked at.
                unsafe { data.as_mut_ptr().cast::<P::Data>().write(value) };
                1
            }
        }
    }

    pub(crate) extern "C" fn exit(frame: &ShadowFrame, regs: &mut FtraceRegs) {
        let () = Self::DATA_FITS;
        // SAFETY: `entry` wrote it there, for a frame with the same ops.
        let data = unsafe { *frame.data.as_ptr().cast::<P::Data>() };
        P::exit(&mut Exit { frame, regs }, &data);
    }
}

/// The exit handler of an ops that is not registered.
pub(crate) extern "C" fn no_exit(_: &ShadowFrame, _: &mut FtraceRegs) {}

/// The callback of a returning ops where it is one of several at a function: hooks the return.
pub(crate) extern "C" fn hook(ip: TextAddr, parent_ip: TextAddr, ops: &'static Ops, regs: &mut FtraceRegs) {
    let context = core::ptr::with_exposed_provenance::<TraceContext>((regs.context & !FtraceRegs::ALL_SAVED) as usize);
    // SAFETY: the stub that walks the list put it there, from the register that the platform promises to hold it.
    let Some(context) = (unsafe { context.as_ref() }) else { return };
    // A callback before us has answered for the function: it neither runs nor returns.
    if regs.pc() == regs.return_address() {
        return;
    }
    let top = context.shadow_top.load(Ordering::Relaxed);
    if top >= context.shadow_end.load(Ordering::Relaxed) {
        context.overflows.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // Taken before it is filled: an interrupt goes on above.
    context.shadow_top.store(top + size_of::<ShadowFrame>() as u64, Ordering::Relaxed);
    // SAFETY: below the end of the shadow stack that the context was given; what is above the old top is nobody's.
    let frame = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<ShadowFrame>(top as usize) };
    frame.return_address = regs.return_address().get();
    frame.function = ip.offset(4).get();
    frame.sp = regs.stack_pointer();
    (frame.ops, frame.inside) = (core::ptr::from_ref(ops).expose_provenance() as u64, 0);
    if let Some(entry) = ops.entry
        && entry(ip, parent_ip, ops, regs, &mut frame.data) == 0
    {
        context.shadow_top.store(top, Ordering::Relaxed);
        return;
    }
    frame.entry_time = ticks();
    // SAFETY: the return stub returns to the address that is here now.
    unsafe { regs.set_return_address(return_stub()) };
}
