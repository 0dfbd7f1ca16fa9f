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
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

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
/// `ops` comes first, so that its address is the injection's.
#[repr(C)]
pub struct Injection {
    ops: Ops,
    name: &'static str,
    parameters: Parameters,
    ahead: Ahead,
    sites: [AtomicPtr<Injectable>; MAX_SITES],
    is_for_some_tasks: AtomicBool,
    stack_filter: AtomicPtr<StackFilter>,
    report: Option<Report>,
    failures: AtomicU64,
}

/// What is told of a call that is made to fail, where it fails.
type Report = fn(&Failure<'_>);

/// A call that is made to fail. `Display` says so in the words of Linux's fault injection.
#[derive(Debug)]
pub struct Failure<'a> {
    /// By which injection.
    pub injection: &'a Injection,
    /// What fails.
    pub function: &'a Injectable,
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
            sites: [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_SITES],
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

    /// Attaches it to these functions.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]: as for [`Engine::register`]; a function can have one injection, and no other ops that changes where
    /// execution goes on. [`RegisterError::AlreadyRegistered`] where it is attached already.
    pub fn attach<const SITES: usize>(
        &'static self,
        engine: &Engine,
        functions: [&'static Injectable; SITES],
    ) -> Result<(), RegisterError> {
        const { assert!(0 < SITES && SITES <= MAX_SITES, "an injection is attached to 32 functions at most") };
        // For `inject`, which gets the address of what comes first in it.
        let _ = core::ptr::from_ref(self).expose_provenance();
        engine.register(&self.ops, &Filter::new(&functions.map(|site| Rule::address(site.function()))))?;
        // Now it is our turn: it was not attached. A call that comes before this goes by.
        let all = functions.iter().map(|site| core::ptr::from_ref(*site).cast_mut());
        for (place, site) in self.sites.iter().zip(all.chain(core::iter::repeat(core::ptr::null_mut()))) {
            place.store(site, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes it away from its functions, and waits until no CPU is inside it.
    ///
    /// # Errors
    ///
    /// As for [`Engine::unregister`].
    pub fn detach(&'static self, engine: &Engine) -> Result<(), RegisterError> {
        engine.unregister(&self.ops).map(drop)
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

    /// The function that is called at this callsite.
    fn site(&self, ip: TextAddr) -> Option<&'static Injectable> {
        let sites = self.sites.iter().map(|site| site.load(Ordering::Relaxed)).take_while(|site| !site.is_null());
        // SAFETY: not null, so it was made of a reference for ever.
        let mut sites = sites.map(|site| unsafe { &*site });
        // BTI C, MOV, BL: the longest entry there is.
        sites.find(|site| ip.get().wrapping_sub(site.function().get()) < 12)
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
    let Some((times, function)) = times.zip(injection.site(ip)) else { return };
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
