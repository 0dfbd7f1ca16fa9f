//! What the kernel supplies, as a struct of C functions, and what is checked of it.

use super::context::{fentry_cpu_area, fentry_trace_context};
use super::error::fentry_error;
use super::from_c;
use crate::address::{TextAddr, TextRange};
use crate::callsite::Layout;
use crate::context::TraceContext;
use crate::engine::LeftOut;
use crate::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout, Platform};
use crate::record::CpuArea;
use core::ffi::{c_char, c_int, c_void};
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The version of the header, in the low half of `FENTRY_ABI`.
pub const FENTRY_ABI_VERSION: u32 = 1;
/// In `FENTRY_ABI`: the kernel uses floating-point and SIMD registers.
pub const FENTRY_ABI_FLOAT: u32 = 1 << 16;
/// In `FENTRY_ABI`: the kernel was compiled with branch targets (BTI).
pub const FENTRY_ABI_BTI: u32 = 1 << 17;

/// The most rules of one registration.
pub const FENTRY_MAX_RULES: usize = 32;

/// The most parts of a platform's `leave_out`.
pub const FENTRY_MAX_LEFT_OUT: usize = 16;

/// In a platform's `flags`: this kernel never runs on an emulator that translates text, as QEMU does without KVM. (Virtual
/// machines of a hypervisor are no emulators.) Each store of an instruction is made once then, and not twice.
///
/// Where this is wrongly said, a callback may be called after fentry_unregister() has returned, and a call after
/// fentry_register() may be missed.
pub const FENTRY_PLATFORM_NEVER_EMULATED: u32 = 1 << 0;
/// In a platform's `flags`: some CPU is a Cortex-A53 before r0p3, on which cleaning a cache line may lose data (errata 819472,
/// 824069, 826319 and 827319). The engine asks the CPU that it runs on itself, so this is for machines with CPUs of several
/// kinds.
pub const FENTRY_PLATFORM_CLEAN_ERRATA: u32 = 1 << 1;

/// The system registers that kernels keep a pointer for each CPU or task in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum fentry_base_register {
    /// None.
    None = 0,
    /// TPIDR_EL1: a kernel at EL1.
    TpidrEl1,
    /// TPIDR_EL2: a kernel or hypervisor at EL2.
    TpidrEl2,
    /// TPIDR_EL0: a kernel that keeps user space's register for itself.
    TpidrEl0,
    /// TPIDRRO_EL0.
    TpidrroEl0,
    /// SP_EL0, as Linux keeps `current` in it.
    SpEl0,
}

/// How the kernel's functions were compiled, for a kernel without a symbol table.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum fentry_layout {
    /// The symbol table says it for each function.
    FromSymbols = 0,
    /// -fpatchable-function-entry=2
    Plain,
    /// -fpatchable-function-entry=4,2
    Prefixed,
}

/// Where a pointer is found: a system register and an offset in bytes, a multiple of 8 below 4096. While the register holds
/// zero, nothing on that CPU is traced.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct fentry_base {
    /// One of `enum fentry_base_register`.
    pub reg: u32,
    /// The offset in bytes from what the register holds.
    pub offset: u32,
}

/// A range of text: from `start` up to, and without, `end`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct fentry_range {
    /// The first address inside.
    pub start: u64,
    /// The first address after it.
    pub end: u64,
}

// It is read before anything else.
const _: () = assert!(offset_of!(fentry_platform, size) == 0);

// A list of ranges is handed on as it is.
const _: () = assert!(
    size_of::<fentry_range>() == size_of::<TextRange>()
        && offset_of!(fentry_range, start) == offset_of!(TextRange, start)
        && offset_of!(fentry_range, end) == offset_of!(TextRange, end)
);

/// Functions that are never traced: FENTRY_LEAVE_OUT("switch_*"), FENTRY_LEAVE_OUT_RANGE(early_start, early_stop).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct fentry_left_out {
    /// The functions of this name, or, with `*`, `?`, `[` or `\` in it, of the names that match; or NULL, and the range counts.
    pub names: *const c_char,
    /// The first address of functions that are left out.
    pub start: *const c_void,
    /// The first address behind them.
    pub stop: *const c_void,
}

/// What is called with each trace context; `show_context` is what it was handed over with.
pub type fentry_show_context =
    Option<unsafe extern "C" fn(trace: *const fentry_trace_context, show_context: *mut c_void)>;

/// What is called with each CPU area; `show_context` is what it was handed over with.
pub type fentry_show_cpu_area = Option<unsafe extern "C" fn(area: *const fentry_cpu_area, show_context: *mut c_void)>;

/// The services that fentry needs from a kernel. It must be there, as it is, for ever: `static const`.
///
/// All functions get `context` as their first argument. None of them may wait for a lock that a callback can hold, or call
/// fentry (but fentry_in_callback() and fentry_is_quiescent()); two CPUs that wait for each other in them answer each other.
/// Those that may be NULL say so.
///
/// From `begin_batch` to `end_batch`, and `quiesce`, at most one call is under way at any time.
#[derive(Debug)]
#[repr(C)]
pub struct fentry_platform {
    /// sizeof(struct fentry_platform), as FENTRY_PLATFORM_INIT has it.
    pub size: usize,
    /// FENTRY_ABI, as FENTRY_PLATFORM_INIT has it: how this kernel was compiled.
    pub abi: u32,
    /// FENTRY_PLATFORM_ flags.
    pub flags: u32,
    /// One of `enum fentry_layout`. With a symbol table it is ignored.
    pub layout: u32,
    /// Where the stubs find the `struct fentry_trace_context` of the running thread: in every context in which a traced
    /// function may run, that register holds either zero or a valid base.
    pub context_base: fentry_base,
    /// Where the stubs of counters find the `struct fentry_cpu_area` of the running CPU. FENTRY_BASE_REGISTER_NONE: all CPUs
    /// share one counter.
    pub cpu_base: fentry_base,
    /// How far above its linked addresses this kernel runs, modulo 2^64: 0 unless it was relocated (KASLR). With a symbol
    /// table it is ignored.
    pub slide: u64,
    /// What is never traced, beside functions with FENTRY_NOTRACE: early code, the exception path, whatever writes the base
    /// register. NULL with a count of 0: nothing.
    pub leave_out: *const fentry_left_out,
    /// How many there are: FENTRY_MAX_LEFT_OUT at most.
    pub leave_out_count: usize,
    /// The first argument of all functions.
    pub context: *mut c_void,
    /// Returns a writable alias of the 4096 bytes of text that start at `page`, never the mapping that the text is executed
    /// through; NULL: `page` is not this kernel's text, or can't be mapped. The alias maps the same memory as Normal Inner
    /// Shareable Write-Back. Called with interrupts masked, for one page at a time.
    pub map_alias: Option<unsafe extern "C" fn(context: *mut c_void, page: u64) -> *mut c_void>,
    /// Unmaps the alias of `page`, and invalidates its TLB entries. NULL: text has an alias that stays.
    pub unmap_alias: Option<unsafe extern "C" fn(context: *mut c_void, page: u64, alias: *mut c_void)>,
    /// Prepares for any number of changes to text; another number than 0 ends them before they begin. NULL: there is
    /// nothing to do.
    pub begin_batch: Option<unsafe extern "C" fn(context: *mut c_void) -> c_int>,
    /// Ends what `begin_batch` has begun. NULL: there is nothing to do.
    pub end_batch: Option<unsafe extern "C" fn(context: *mut c_void)>,
    /// Makes every other CPU execute a context synchronisation event (ISB, or taking and leaving an exception), waits until
    /// each has, and returns 0; or 1 + the number of a CPU that did not in the time that this kernel allows. A kernel with
    /// one CPU gives fentry_one_cpu_synchronize.
    pub synchronize_cpus: Option<unsafe extern "C" fn(context: *mut c_void) -> u32>,
    /// Waits until every thread of execution was quiescent at some moment since the call, and returns 0; or 1 + the number of
    /// a CPU on which one was not in the time that this kernel allows.
    ///
    /// Quiescent is a thread that is interrupted or preempted at `pc` where fentry_is_quiescent() says so of its context and
    /// that `pc` (of each exception that it is inside of, if they are nested); one that has given up its CPU by itself, or
    /// waits in `relax`, where fentry_in_callback() is false; and one that does not exist yet, or has ended. Where
    /// kernel code is never preempted, each CPU is a thread: interrupt it and look, again and again, until it is. Where kernel
    /// code is preempted, each task is one: look at every task that does not run, and interrupt those that run.
    ///
    /// `stubs` are the ranges of text in which a thread may be on its way to a callback; fentry_is_quiescent() knows
    /// them. A kernel with one CPU whose code is never preempted gives fentry_one_cpu_quiesce.
    pub quiesce: Option<unsafe extern "C" fn(context: *mut c_void, stubs: *const fentry_range, count: usize) -> u32>,
    /// Waits a little: called in a loop by a CPU that waits for another one. Where it may be called with interrupts masked, it
    /// answers requests to synchronise. NULL: YIELD.
    pub relax: Option<unsafe extern "C" fn(context: *mut c_void)>,
    /// Calls `show` with every trace context that there is, and with `show_context`, so that a return in a wrong context can
    /// be told with its function. NULL: it is told without.
    pub for_each_context:
        Option<unsafe extern "C" fn(context: *mut c_void, show: fentry_show_context, show_context: *mut c_void)>,
    /// Calls `show` with every CPU's area, those of CPUs that are off included, and with `show_context`. NULL where there is
    /// no `cpu_base`.
    pub for_each_cpu_area:
        Option<unsafe extern "C" fn(context: *mut c_void, show: fentry_show_cpu_area, show_context: *mut c_void)>,
    /// Prints `length` bytes of text in UTF-8, a part of a line or several: what errors have found, warnings, panics. Called
    /// in any context in which fentry is. NULL: nothing is printed.
    pub console: Option<unsafe extern "C" fn(context: *mut c_void, text: *const c_char, length: usize)>,
    /// Ends the kernel after a panic, which was printed: an error in fentry itself, or a function whose return was hooked and
    /// that returned in another context than it was called in. It should not return. NULL: the CPU stays in a loop.
    pub panic: Option<unsafe extern "C" fn(context: *mut c_void)>,
}

/// What `synchronize_cpus` of a platform with one CPU is. Returns 0.
#[unsafe(no_mangle)]
pub extern "C" fn fentry_one_cpu_synchronize(context: *mut c_void) -> u32 {
    let _ = context;
    0
}

/// What `quiesce` of a platform with one CPU is, whose kernel code is never preempted. Returns 0.
#[unsafe(no_mangle)]
pub extern "C" fn fentry_one_cpu_quiesce(context: *mut c_void, stubs: *const fentry_range, count: usize) -> u32 {
    let (_, _, _) = (context, stubs, count);
    0
}

impl fentry_platform {
    /// Checks what a kernel has given.
    ///
    /// # Safety
    ///
    /// 1. `platform` is NULL, or points at a `size` and, if that is right, at a platform that stays for ever as it is, with what it
    ///    leaves out.
    pub(super) unsafe fn check(platform: *const Self) -> Result<&'static Self, fentry_error> {
        if platform.is_null() {
            return Err(fentry_error::NullPointer);
        }
        if !platform.is_aligned() {
            return Err(fentry_error::BadValue);
        }
        // SAFETY: our caller's promise. No more than the size is read before it is known to be right.
        let size = unsafe { platform.cast::<usize>().read() };
        if size != size_of::<Self>() {
            return Err(fentry_error::WrongSize);
        }
        // SAFETY: it is as large as it should be; our caller's promise. Every pattern of bits is a value of every field.
        let platform = unsafe { &*platform };
        check_abi(platform.abi)?;
        if platform.map_alias.is_none() || platform.synchronize_cpus.is_none() || platform.quiesce.is_none() {
            return Err(fentry_error::Incomplete);
        }
        let known_flags = FENTRY_PLATFORM_NEVER_EMULATED | FENTRY_PLATFORM_CLEAN_ERRATA;
        if platform.flags & !known_flags != 0 {
            return Err(fentry_error::BadValue);
        }
        platform.layout()?;
        platform.context_base.to_rust(fentry_error::ContextOffset)?.ok_or(fentry_error::Incomplete)?;
        let cpu = platform.cpu_base.to_rust(fentry_error::CpuAreaOffset)?;
        // Without it the sums would be 0.
        if cpu.is_some() && platform.for_each_cpu_area.is_none() {
            return Err(fentry_error::Incomplete);
        }
        // SAFETY: 1. our caller's promise.
        unsafe { platform.for_each_left_out(drop) }?;
        Ok(platform)
    }

    /// Calls `each` with every part that is left out.
    ///
    /// # Safety
    ///
    /// 1. What the platform points at is there as [`check`](Self::check) asks for.
    pub(super) unsafe fn for_each_left_out(&self, mut each: impl FnMut(LeftOut)) -> Result<(), fentry_error> {
        if self.leave_out_count > FENTRY_MAX_LEFT_OUT {
            return Err(fentry_error::TooManyRules);
        }
        // SAFETY: 1. our caller's promise.
        let parts = unsafe { from_c::slice(self.leave_out, self.leave_out_count) }?;
        // SAFETY: 1. our caller's promise, of each.
        parts.iter().try_for_each(|part| unsafe { part.to_rust() }.map(&mut each))
    }

    /// How its functions were compiled, as far as it says so.
    pub(super) fn layout(&self) -> Result<Option<Layout>, fentry_error> {
        const FROM_SYMBOLS: u32 = fentry_layout::FromSymbols as u32;
        const PLAIN: u32 = fentry_layout::Plain as u32;
        const PREFIXED: u32 = fentry_layout::Prefixed as u32;
        match self.layout {
            FROM_SYMBOLS => Ok(None),
            PLAIN => Ok(Some(Layout::Plain)),
            PREFIXED => Ok(Some(Layout::Prefixed)),
            _ => Err(fentry_error::BadValue),
        }
    }
}

impl fentry_left_out {
    /// The engine's own form.
    ///
    /// # Safety
    ///
    /// 1. `names` is NULL, or ends in a zero and stays for ever.
    unsafe fn to_rust(self) -> Result<LeftOut, fentry_error> {
        if self.names.is_null() {
            let [start, stop] = [self.start, self.stop].map(|at| TextAddr::new(at.addr() as u64));
            let range = TextRange::new(start, stop);
            return if range.is_empty() { Err(fentry_error::BadValue) } else { Ok(LeftOut::range(range)) };
        }
        // SAFETY: 1. our caller's promise.
        unsafe { from_c::text(self.names, fentry_error::BadRule) }.map(LeftOut::names)
    }
}

impl fentry_base {
    /// The engine's own form; `None` for none. `bad_offset` is the error of an offset that can't be.
    fn to_rust(self, bad_offset: fentry_error) -> Result<Option<ContextBase>, fentry_error> {
        use fentry_base_register as Register;
        let registers = [
            (Register::TpidrEl1, BaseRegister::TpidrEl1),
            (Register::TpidrEl2, BaseRegister::TpidrEl2),
            (Register::TpidrEl0, BaseRegister::TpidrEl0),
            (Register::TpidrroEl0, BaseRegister::TpidrroEl0),
            (Register::SpEl0, BaseRegister::SpEl0),
        ];
        if self.reg == Register::None as u32 {
            return Ok(None);
        }
        let found = registers.into_iter().find(|(number, _)| *number as u32 == self.reg);
        let (_, register) = found.ok_or(fentry_error::BadValue)?;
        // The stubs load words from there.
        let offset = u16::try_from(self.offset).ok().filter(|offset| offset.is_multiple_of(8)).ok_or(bad_offset)?;
        Ok(Some(ContextBase { register, offset }))
    }
}

/// Compares how kernel and library were compiled.
fn check_abi(abi: u32) -> Result<(), fentry_error> {
    if abi & 0xffff != FENTRY_ABI_VERSION {
        return Err(fentry_error::WrongVersion);
    }
    // The stubs keep q0 to q7 where they carry arguments; and the library's own code must not touch what is not its.
    if (abi & FENTRY_ABI_FLOAT != 0) != cfg!(target_feature = "neon") {
        return Err(fentry_error::FloatAbi);
    }
    if abi & FENTRY_ABI_BTI != 0 && !has_landing_pads() {
        return Err(fentry_error::BranchTargets);
    }
    if abi & !(0xffff | FENTRY_ABI_FLOAT | FENTRY_ABI_BTI) != 0 {
        return Err(fentry_error::WrongVersion);
    }
    Ok(())
}

/// Whether the library's functions begin with landing pads.
///
/// No `cfg` says so, but the instructions do: an exported function that the kernel may call through a pointer has one.
fn has_landing_pads() -> bool {
    #[cfg(target_os = "none")]
    {
        use crate::callsite::BTI_C;
        const PACIASP: u32 = 0xd503_233f;
        let function = fentry_one_cpu_synchronize as *const ();
        // SAFETY: this crate's own code, which is mapped readable as all text is (`Image::linked`, 1), and aligned.
        let first = unsafe { function.cast::<u32>().read_volatile() };
        first == BTI_C || first == PACIASP
    }
    #[cfg(not(target_os = "none"))]
    true
}

/// The kernel's platform, from an init on.
pub(super) static KERNEL: Kernel =
    Kernel { platform: AtomicPtr::new(core::ptr::null_mut()), is_initialised: AtomicBool::new(false) };

/// The platform that the engine knows: it hands everything on to what the kernel has given at init.
///
/// # Invariants
///
/// `platform` is null, or a checked one that stays as it is for ever.
pub(super) struct Kernel {
    platform: AtomicPtr<fentry_platform>,
    /// Whether an init has succeeded with it.
    is_initialised: AtomicBool,
}

impl Kernel {
    /// Takes a platform, if there is none.
    pub(super) fn take(&self, platform: &'static fentry_platform) -> Result<(), fentry_error> {
        let new = core::ptr::from_ref(platform).cast_mut();
        // INVARIANT: a reference for ever; `fentry_platform::check` gives no other.
        let taken = self.platform.compare_exchange(core::ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
        taken.map(drop).map_err(|_| fentry_error::AlreadyInitialised)
    }

    /// Gives the platform up, after an init that failed.
    pub(super) fn give_up(&self) {
        self.platform.store(core::ptr::null_mut(), Ordering::Release);
    }

    /// Keeps the platform for ever, after an init that has succeeded.
    pub(super) fn keep(&self) {
        self.is_initialised.store(true, Ordering::Release);
    }

    /// Whether an init has succeeded.
    pub(super) fn is_initialised(&self) -> bool {
        self.is_initialised.load(Ordering::Acquire)
    }

    fn get(&self) -> Option<&'static fentry_platform> {
        let platform = self.platform.load(Ordering::Acquire);
        // SAFETY: the invariant.
        unsafe { platform.as_ref() }
    }

    /// Whether there is a console.
    pub(super) fn has_console(&self) -> bool {
        self.get().is_some_and(|platform| platform.console.is_some())
    }

    /// Prints to the console, if there is one.
    pub(super) fn print(&self, text: &str) {
        if let Some(platform) = self.get()
            && let Some(console) = platform.console
        {
            // SAFETY: the kernel's own function, called as the header says.
            unsafe { console(platform.context, text.as_ptr().cast(), text.len()) };
        }
    }

    /// Tells the kernel that there was a panic.
    pub(super) fn panic(&self) {
        if let Some(platform) = self.get()
            && let Some(panic) = platform.panic
        {
            // SAFETY: the kernel's own function, called as the header says.
            unsafe { panic(platform.context) };
        }
    }
}

/// 0, or 1 + the CPU.
fn answered(code: u32) -> Result<(), CpuTimeout> {
    code.checked_sub(1).map_or(Ok(()), |cpu| Err(CpuTimeout { cpu: cpu as usize }))
}

/// A closure, for a C function that calls back with a pointer of two words' length.
type Show<'a, T> = &'a mut dyn FnMut(&T);

/// Calls the closure that `show_context` points at.
///
/// # Safety
///
/// 1. `shown` is NULL, or points at a living `T`.
/// 2. `show_context` is NULL, or points at a `Show<T>` that nobody else uses.
unsafe fn show<T>(shown: *const T, show_context: *mut c_void) {
    // SAFETY: our caller's first promise.
    let shown = unsafe { shown.as_ref() };
    // SAFETY: our caller's second promise.
    let show = unsafe { show_context.cast::<Show<'_, T>>().as_mut() };
    if let (Some(shown), Some(show)) = (shown, show) {
        show(shown);
    }
}

/// [`show`] for the kernel's `for_each_context`.
unsafe extern "C" fn show_context(trace: *const fentry_trace_context, show_context: *mut c_void) {
    // SAFETY: 1. a context, as the header asks for.
    let inner = unsafe { fentry_trace_context::inner(trace) };
    // SAFETY: 1. null, or made by `fentry_trace_context_init`, and living. 2. what `for_each_context` has handed over.
    unsafe { show(inner, show_context) };
}

/// [`show`] for the kernel's `for_each_cpu_area`.
unsafe extern "C" fn show_cpu_area(area: *const fentry_cpu_area, show_context: *mut c_void) {
    // SAFETY: 1. an area that lives, as the header asks for; all zeros is one. 2. what `for_each_cpu_area` has handed over.
    unsafe { show(area.cast::<CpuArea>(), show_context) };
}

// SAFETY: each promise is one that the header asks of the kernel's functions, to which all is handed on; `check` has refused
// what can be seen to be wrong. Without a platform nothing has an alias, so no text is written.
unsafe impl Platform for Kernel {
    fn context_base(&self) -> ContextBase {
        let given = self.get().and_then(|platform| platform.context_base.to_rust(fentry_error::ContextOffset).ok()?);
        given.unwrap_or(ContextBase { register: BaseRegister::TpidrEl1, offset: 0 })
    }

    fn cpu_base(&self) -> Option<ContextBase> {
        self.get()?.cpu_base.to_rust(fentry_error::CpuAreaOffset).ok()?
    }

    fn for_each_cpu_area(&self, show: &mut dyn FnMut(&CpuArea)) {
        let mut show: Show<'_, CpuArea> = show;
        if let Some(platform) = self.get()
            && let Some(for_each) = platform.for_each_cpu_area
        {
            // SAFETY: the kernel's own function, called as the header says; `show` lives until it returns.
            unsafe { for_each(platform.context, Some(show_cpu_area), (&raw mut show).cast()) };
        }
    }

    fn begin_batch(&self) -> Result<(), AliasError> {
        let Some(platform) = self.get() else { return Ok(()) };
        let Some(begin_batch) = platform.begin_batch else { return Ok(()) };
        // SAFETY: the kernel's own function, called as the header says.
        match unsafe { begin_batch(platform.context) } {
            0 => Ok(()),
            _ => Err(AliasError { page: TextAddr::new(0), reason: "begin_batch refused" }),
        }
    }

    fn end_batch(&self) {
        if let Some(platform) = self.get()
            && let Some(end_batch) = platform.end_batch
        {
            // SAFETY: the kernel's own function, called as the header says.
            unsafe { end_batch(platform.context) };
        }
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        let error = |reason| AliasError { page, reason };
        let platform = self.get().ok_or(error("there is no platform"))?;
        let map_alias = platform.map_alias.ok_or(error("there is no map_alias"))?;
        // SAFETY: the kernel's own function, called as the header says.
        let alias = unsafe { map_alias(platform.context, page.get()) };
        NonNull::new(alias.cast()).ok_or(error("map_alias returned NULL"))
    }

    fn unmap_alias(&self, page: TextAddr, alias: NonNull<u8>) {
        if let Some(platform) = self.get()
            && let Some(unmap_alias) = platform.unmap_alias
        {
            // SAFETY: the kernel's own function, called as the header says.
            unsafe { unmap_alias(platform.context, page.get(), alias.as_ptr().cast()) };
        }
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        let Some(platform) = self.get() else { return Ok(()) };
        let Some(synchronize_cpus) = platform.synchronize_cpus else { return Ok(()) };
        // SAFETY: the kernel's own function, called as the header says.
        answered(unsafe { synchronize_cpus(platform.context) })
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        let Some(platform) = self.get() else { return Ok(()) };
        let Some(quiesce) = platform.quiesce else { return Ok(()) };
        // SAFETY: the kernel's own function, called as the header says; the ranges have the same layout.
        answered(unsafe { quiesce(platform.context, stubs.as_ptr().cast(), stubs.len()) })
    }

    fn may_be_emulated(&self) -> bool {
        self.get().is_none_or(|platform| platform.flags & FENTRY_PLATFORM_NEVER_EMULATED == 0)
    }

    fn has_clean_errata(&self) -> bool {
        self.get().is_some_and(|platform| platform.flags & FENTRY_PLATFORM_CLEAN_ERRATA != 0)
    }

    fn slide(&self) -> u64 {
        self.get().map_or(0, |platform| platform.slide)
    }

    fn relax(&self) {
        match self.get().and_then(|platform| Some((platform, platform.relax?))) {
            // SAFETY: the kernel's own function, called as the header says.
            Some((platform, relax)) => unsafe { relax(platform.context) },
            None => core::hint::spin_loop(),
        }
    }

    fn for_each_context(&self, show: &mut dyn FnMut(&TraceContext)) {
        let mut show: Show<'_, TraceContext> = show;
        if let Some(platform) = self.get()
            && let Some(for_each) = platform.for_each_context
        {
            // SAFETY: the kernel's own function, called as the header says; `show` lives until it returns.
            unsafe { for_each(platform.context, Some(show_context), (&raw mut show).cast()) };
        }
    }
}

// SAFETY: a kernel's functions may be called from any CPU, as the header says; `context` is handed to them and to nobody else.
unsafe impl Sync for fentry_platform {}
