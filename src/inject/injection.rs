//! One injection: where it is attached, its parameters, and the callback that makes a call fail.

use super::ahead::{self, Ahead};
use super::parameters::Parameters;
use super::site::Injectable;
use super::stack_filter::StackFilter;
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::context::regs::{FtraceRegs, SavedRegs};
use crate::engine::{Engine, RegisterError};
use crate::filter::{Filter, Rule};
use crate::ops::Ops;
use arrayvec::ArrayVec;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The most functions that one injection is attached to.
pub const MAX_SITES: usize = 32;

/// What makes functions fail, and when (see [`inject`](super)).
///
/// Like an ops, it is a `static`. At first nothing fails: its [probability](Self::set_probability) is 0. The parameters may be
/// changed at any time; where calls go on meanwhile, they apply from one of the next calls on, and up to 64 calls that have been
/// worked out ahead are asked for anew.
///
/// # Invariants
///
/// 1. `ops` comes first, so that its address is the injection's.
/// 2. `ops` is registered, or somebody may be in its callback, only while `is_attached`, and then for callsites of `sites`
///    only. Nobody else can register it: no `&'static` to it is given out.
/// 3. While somebody may be in the callback, `sites` do not change. One whose function has gone is of no more use: what
///    comes to stand there is not called through it.
#[repr(C)]
pub struct Injection {
    ops: Ops,
    name: &'static str,
    parameters: Parameters,
    ahead: Ahead,
    is_attached: AtomicBool,
    sites: [Site; MAX_SITES],
    is_for_some_tasks: AtomicBool,
    stack_filter: AtomicPtr<StackFilter>,
    report: Option<Report>,
    failures: AtomicU64,
}

/// An [`Injectable`] that an injection is attached to, by value: it may be a module's, which goes. Its parts are of use where
/// its function is called.
#[derive(Debug)]
struct Site {
    /// 0 where there is none, nor any behind it.
    function: AtomicU64,
    instead: AtomicU64,
    name: AtomicPtr<u8>,
    name_bytes: AtomicUsize,
}

impl Site {
    const fn none() -> Self {
        Self {
            function: AtomicU64::new(0),
            instead: AtomicU64::new(0),
            name: AtomicPtr::new(core::ptr::null_mut()),
            name_bytes: AtomicUsize::new(0),
        }
    }

    fn set(&self, to: Option<&Injectable<'_>>) {
        let Some(to) = to else { return self.function.store(0, Ordering::Relaxed) };
        self.function.store(to.function().get(), Ordering::Relaxed);
        self.instead.store(to.instead().get(), Ordering::Relaxed);
        self.name.store(to.name.cast_mut(), Ordering::Relaxed);
        self.name_bytes.store(to.name_bytes, Ordering::Relaxed);
    }

    /// # Safety
    ///
    /// 1. It was set to one whose functions are there for `'a`.
    unsafe fn get<'a>(&self) -> Injectable<'a> {
        let code = |address: &AtomicU64| core::ptr::without_provenance(address.load(Ordering::Relaxed) as usize);
        // INVARIANT: as that one, and for as long by our caller's promise.
        Injectable {
            function: code(&self.function),
            instead: code(&self.instead),
            name: self.name.load(Ordering::Relaxed),
            name_bytes: self.name_bytes.load(Ordering::Relaxed),
            _functions: PhantomData,
        }
    }
}

/// What is told of a call that is made to fail, where it fails.
type Report = fn(&Failure<'_>);

/// A call that is made to fail. `Display` says so in the words of Linux's fault injection.
#[derive(Debug)]
pub struct Failure<'a> {
    /// By which injection.
    pub injection: &'a Injection,
    /// What fails.
    pub function: Injectable<'a>,
    /// Where the call returns to.
    pub parent_ip: TextAddr,
    /// The call's registers, by which its callers are found.
    pub regs: FtraceRegs<'a>,
    /// Whether the task was [counting](super::fail_nth) to it.
    pub is_nth: bool,
    /// How many might still fail, with this one; -1 for any number.
    times: i64,
}

impl Injection {
    /// Makes one by which nothing fails yet.
    #[expect(clippy::new_without_default, reason = "it is for statics")]
    pub const fn new() -> Self {
        Self {
            ops: Ops::injecting(inject),
            name: "fail_function",
            parameters: Parameters::new(),
            ahead: Ahead::new(),
            is_attached: AtomicBool::new(false),
            sites: [const { Site::none() }; MAX_SITES],
            is_for_some_tasks: AtomicBool::new(false),
            stack_filter: AtomicPtr::new(core::ptr::null_mut()),
            report: None,
            failures: AtomicU64::new(0),
        }
    }

    /// Gives it a name, for reports.
    #[must_use]
    pub const fn with_name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Has each call that is made to fail told of, before it fails: in the callback, so by the rules of a
    /// [`Callback`](crate::ops::Callback).
    #[must_use]
    pub const fn with_report(self, report: Report) -> Self {
        Self { report: Some(report), ..self }
    }

    /// Attaches it to these functions. Those of a module may go, with it, while it is attached.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]: as for [`Engine::register`]; a function can have one injection, and no other ops that changes where
    /// execution goes on. [`RegisterError::AlreadyRegistered`] where it is attached already, or was attached in vain and a CPU
    /// was not seen quiescent: then it must be detached.
    pub fn attach<const SITES: usize>(
        &'static self,
        engine: &Engine,
        functions: [&Injectable<'_>; SITES],
    ) -> Result<(), RegisterError> {
        const { assert!(0 < SITES && SITES <= MAX_SITES, "an injection is attached to 32 functions at most") };
        self.attach_to(engine, &functions)
    }

    /// The same for a number of functions that is not known when it is compiled; those behind the [`MAX_SITES`] first are left
    /// out.
    pub(crate) fn attach_to(
        &'static self,
        engine: &Engine,
        functions: &[&Injectable<'_>],
    ) -> Result<(), RegisterError> {
        if self.is_attached.swap(true, Ordering::Acquire) {
            return Err(RegisterError::AlreadyRegistered);
        }
        // For `inject`, which gets the address of what comes first in it.
        let _ = core::ptr::from_ref(self).expose_provenance();
        // INVARIANT: 3. It was not attached, so nobody is in the callback.
        let all = functions.iter().copied().map(Some).chain(core::iter::repeat(None));
        self.sites.iter().zip(all).for_each(|(site, function)| site.set(function));
        // INVARIANT: 2. For these functions, and by addresses, so that no text that comes later is meant.
        let rules: ArrayVec<Rule<'_>, MAX_SITES> =
            functions.iter().take(MAX_SITES).map(|site| Rule::address(site.function())).collect();
        let registered = engine.register(&self.ops, &Filter::new(&rules));
        registered.map(drop).inspect_err(|_| {
            // Some callsites may have it all the same.
            if let Ok(_) | Err(RegisterError::NotRegistered) = engine.unregister(&self.ops) {
                self.is_attached.store(false, Ordering::Release);
            }
        })
    }

    /// Takes it away from its functions, and waits until no CPU is inside it.
    ///
    /// # Errors
    ///
    /// As for [`Engine::unregister`].
    pub fn detach(&'static self, engine: &Engine) -> Result<(), RegisterError> {
        engine.unregister(&self.ops)?;
        // Now nobody is in the callback.
        self.is_attached.store(false, Ordering::Release);
        Ok(())
    }

    /// Sets how likely a call fails, in percent; 0, which it is at first, is never, and 100 always.
    pub fn set_probability(&self, percent: u32) {
        self.parameters.probability.store(percent, Ordering::Relaxed);
        self.reset();
    }

    /// Lets only each `interval`th call fail; 0 and 1 are each.
    pub fn set_interval(&self, interval: u32) {
        self.parameters.interval.store(interval, Ordering::Relaxed);
        self.reset();
    }

    /// Sets how many calls may fail from now on; `None` is any number.
    pub fn set_times(&self, times: Option<u32>) {
        self.parameters.times.store(times.map_or(-1, i64::from), Ordering::Relaxed);
        self.reset();
    }

    /// Lets so many calls go by first.
    pub fn set_space(&self, calls: u64) {
        self.parameters.space.store(calls, Ordering::Relaxed);
        self.reset();
    }

    /// Sets where its random numbers begin, and begins to count intervals anew: with the same seed and parameters, the same
    /// calls fail, where one CPU makes them.
    pub fn set_seed(&self, seed: u64) {
        self.parameters.set_seed(seed);
        self.reset();
    }

    /// Says whether only [tasks that may fail](TraceContext::set_may_fail) do, and no interrupt handler.
    pub fn set_task_filter(&self, is_for_some_tasks: bool) {
        self.is_for_some_tasks.store(is_for_some_tasks, Ordering::Relaxed);
        self.reset();
    }

    /// Sets by which callers a call may fail; `None` is by any.
    pub fn set_stack_filter(&self, filter: Option<&'static StackFilter>) {
        let filter = filter.map_or(core::ptr::null(), core::ptr::from_ref);
        self.stack_filter.store(filter.cast_mut(), Ordering::Release);
    }

    /// How likely a call fails, in percent.
    pub fn probability(&self) -> u32 {
        self.parameters.probability.load(Ordering::Relaxed)
    }

    /// Which calls may fail: each of this number.
    pub fn interval(&self) -> u32 {
        self.parameters.interval.load(Ordering::Relaxed)
    }

    /// How many calls may still fail; `None` is any number.
    pub fn times(&self) -> Option<u64> {
        self.parameters.times.load(Ordering::Relaxed).try_into().ok()
    }

    /// How many calls still go by first.
    pub fn space(&self) -> u64 {
        self.parameters.space.load(Ordering::Relaxed)
    }

    /// Whether only [tasks that may fail](TraceContext::set_may_fail) do.
    pub fn task_filter(&self) -> bool {
        self.is_for_some_tasks.load(Ordering::Relaxed)
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How many calls have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Calls the callback, as a stub does.
    #[cfg(test)]
    pub(super) fn call(&'static self, ip: TextAddr, regs: FtraceRegs<'_>) {
        (self.ops.callback)(ip, regs.return_address(), &self.ops, regs);
    }

    fn reset(&self) {
        ahead::reset(self.ops.due(), &self.parameters);
    }

    /// Whether a call fails, whose task counts none: how many might still fail then, with this one.
    fn fails(&self, context: &TraceContext, regs: &FtraceRegs<'_>) -> Option<i64> {
        let Self { parameters, ahead, .. } = self;
        if parameters.is_off() {
            return None;
        }
        let is_next = if self.is_for_some_tasks.load(Ordering::Relaxed) {
            context.is_thread() && context.injection.may_fail() && parameters.step()
        } else {
            ahead.may_fail(self.ops.due(), parameters)
        };
        // SAFETY: null, or it was made of a reference for ever.
        let filter = || unsafe { self.stack_filter.load(Ordering::Acquire).as_ref() };
        if is_next && filter().is_none_or(|filter| filter.lets(regs)) { parameters.take_time() } else { None }
    }

    /// The function whose callsite this is.
    fn site(&self, ip: TextAddr) -> Option<&Site> {
        let functions = self.sites.iter().map(|site| (site, site.function.load(Ordering::Relaxed)));
        let mut functions = functions.take_while(|(_, function)| *function != 0);
        // BTI C, MOV, BL: the longest entry there is.
        functions.find(|(_, function)| ip.get().wrapping_sub(*function) < 12).map(|(site, _)| site)
    }
}

/// The callback of every injection's ops.
extern "C" fn inject(ip: TextAddr, parent_ip: TextAddr, ops: &'static Ops, mut regs: FtraceRegs<'_>) {
    let injection = core::ptr::with_exposed_provenance::<Injection>(core::ptr::from_ref(ops).addr());
    // SAFETY: the ops is an injection's, which alone has this callback, and comes first in it; that one was attached, and so
    // is there for ever, and has exposed its address.
    let injection = unsafe { &*injection };
    let address = regs.saved().context & !SavedRegs::ALL_SAVED;
    let context = core::ptr::with_exposed_provenance::<TraceContext>(address as usize);
    // SAFETY: the stub has put it there, from the register of which the platform promises that it leads to a living context.
    let Some(context) = (unsafe { context.as_ref() }) else { return };
    let nth = if context.is_thread() { context.injection.count_down() } else { None };
    let times = match nth {
        None => injection.fails(context, &regs),
        Some(false) => None,
        // As Linux: it is one of those that may fail, and fails also where there are none.
        Some(true) => Some(injection.parameters.take_time().unwrap_or(0)),
    };
    let Some((times, site)) = times.zip(injection.site(ip)) else { return };
    // SAFETY: 1. Its function is being called, at a callsite that the injection was attached to, by the second invariant. So the
    // function is there, as what the site was set to says, until this returns: a module's text is not unmapped before.
    let function = unsafe { site.get() };
    if injection.parameters.is_off() {
        injection.reset();
    }
    injection.failures.fetch_add(1, Ordering::Relaxed);
    if let Some(report) = injection.report {
        report(&Failure { injection, function, parent_ip, regs: regs.reborrow(), is_nth: nth.is_some(), times });
    }
    // SAFETY: 1. The ops was made so. 2. A function of the same type, by the invariant of `Injectable`.
    unsafe { regs.set_pc(function.instead()) };
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { injection, function, parent_ip, times, .. } = self;
        let Parameters { probability, interval, space, .. } = &injection.parameters;
        write!(
            f,
            "FAULT_INJECTION: forcing a failure. name {}, interval {}, probability {}, space {}, times {times}, {} called \
             from {parent_ip}",
            injection.name,
            interval.load(Ordering::Relaxed),
            probability.load(Ordering::Relaxed),
            space.load(Ordering::Relaxed),
            function.name()
        )
    }
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, parameters, .. } = self;
        let failures = self.failures();
        f.debug_struct("Injection")
            .field("name", name)
            .field("parameters", parameters)
            .field("failures", &failures)
            .finish_non_exhaustive()
    }
}
