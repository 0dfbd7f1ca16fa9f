//! What walks give, compared with what is so.

use crate::calls::Calls;
use crate::modules;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::context::unwind::{Doubt, FoundBy, Frame, UnwindTable, Unwinder};
use fentry::{Symbols, TextAddr, TextRange};
use spin::{Mutex, Once};
use support::unwind::KernelStacks;
use support::vectors::{ExceptionFrame, on_handler_stack};
use support::{percpu, println, step, unwind};

/// One in so many walks begins in the handler.
const FROM_HERE: u64 = 16;
/// More frames than the workload has.
const MOST_FRAMES: usize = 160;
/// How many reasons are told apart.
const CAUSES: usize = 128;

static TABLES: Once<Vec<UnwindTable<'static>>> = Once::new();
static CALLS: Mutex<Calls> = Mutex::new(Calls::new());
static CAUSES_SEEN: Mutex<[Cause; CAUSES]> = Mutex::new([Cause { kind: "", place: 0, count: 0 }; CAUSES]);

pub(crate) static PROOF: Proof = Proof {
    wanted: AtomicU64::new(0),
    every: AtomicU64::new(1),
    here: AtomicU64::new(0),
    all: AtomicU64::new(0),
    reliable: AtomicU64::new(0),
    from_here: AtomicU64::new(0),
    in_interrupts: AtomicU64::new(0),
    in_modules: AtomicU64::new(0),
    in_veneers: AtomicU64::new(0),
    wrong: AtomicU64::new(0),
};

/// Why traces were not reliable, and where.
#[derive(Clone, Copy)]
struct Cause {
    kind: &'static str,
    place: u64,
    count: u64,
}

pub(crate) struct Proof {
    wanted: AtomicU64,
    /// Of so many instructions one is walked from.
    every: AtomicU64,
    /// The instructions of this situation.
    here: AtomicU64,
    all: AtomicU64,
    reliable: AtomicU64,
    /// Walks that began in the handler.
    from_here: AtomicU64,
    in_interrupts: AtomicU64,
    /// Walks from an instruction of a module's function, and of a veneer.
    in_modules: AtomicU64,
    in_veneers: AtomicU64,
    wrong: AtomicU64,
}

fn add(to: &AtomicU64, count: u64) -> u64 {
    // One CPU: nothing but this kernel's only thread counts.
    let before = to.load(Ordering::Relaxed);
    to.store(before + count, Ordering::Relaxed);
    before
}

impl Proof {
    pub(crate) fn has_enough(&self) -> bool {
        self.here.load(Ordering::Relaxed) >= self.wanted.load(Ordering::Relaxed) || self.has_failed()
    }

    fn has_failed(&self) -> bool {
        self.wrong.load(Ordering::Relaxed) != 0
    }

    /// All traces, and the reliable ones.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.all.load(Ordering::Relaxed), self.reliable.load(Ordering::Relaxed))
    }

    /// The walks that began in a handler, and those of them in an interrupt's.
    pub(crate) fn handlers(&self) -> [u64; 2] {
        [&self.from_here, &self.in_interrupts].map(|count| count.load(Ordering::Relaxed))
    }

    /// The walks from modules' functions, and from veneers.
    pub(crate) fn modules(&self) -> [u64; 2] {
        [&self.in_modules, &self.in_veneers].map(|count| count.load(Ordering::Relaxed))
    }

    fn note_place(&self, pc: u64) {
        let modules = modules::loaded();
        let has_pc = |range: &TextRange| range.contains(pc.into());
        if modules.veneers.iter().any(has_pc) {
            add(&self.in_veneers, 1);
        } else if modules.tables.iter().any(|table| has_pc(&table.text())) {
            add(&self.in_modules, 1);
        }
    }

    /// Says how it went.
    pub(crate) fn report(&self, situation: &str) -> Result<(), String> {
        println!("  {situation:40} {:8} instructions", self.here.load(Ordering::Relaxed));
        if self.has_failed() {
            return Err(alloc::format!("{situation}: a trace that is not true was said to be"));
        }
        let left = CALLS.lock().under_way().len();
        if left != 1 {
            return Err(alloc::format!("{situation}: at the end {left} calls were under way, and not one"));
        }
        Ok(())
    }

    pub(crate) fn show_causes(&self) {
        let mut causes = *CAUSES_SEEN.lock();
        causes.sort_by_key(|cause| core::cmp::Reverse(cause.count));
        for cause in causes.iter().take_while(|cause| cause.count != 0) {
            println!("  {:6} times {:20} at {}", cause.count, cause.kind, Place(cause.place));
        }
    }
}

/// An address with its name.
struct Place(u64);

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // SAFETY: linker.ld puts the two symbols around the section, in memory that nobody can write.
        match unsafe { Symbols::linked() } {
            Ok(symbols) => write!(f, "{:#x} {}", self.0, symbols.display(self.0)),
            Err(_) => write!(f, "{:#x}", self.0),
        }
    }
}

pub(crate) fn prepare(steps: u64, every: u64) {
    TABLES.call_once(|| {
        let kernel = unwind::table().unwrap_or_else(|error| panic!("{error}"));
        modules::loaded().tables.iter().copied().chain([kernel]).collect()
    });
    PROOF.wanted.store(steps, Ordering::Relaxed);
    PROOF.every.store(every.max(1), Ordering::Relaxed);
}

/// The next instruction is one of a function that the outermost code has called, on the stack that ends at `top`.
pub(crate) fn begin(top: u64) {
    unsafe extern "C" {
        static unwind_test_outermost: u32;
    }
    PROOF.here.store(0, Ordering::Relaxed);
    CALLS.lock().begin((&raw const unwind_test_outermost).addr() as u64, top);
}

pub(crate) fn before_instruction(frame: &ExceptionFrame) {
    // SAFETY: the instruction that is executed next.
    let word = unsafe { core::ptr::with_exposed_provenance::<u32>(frame.elr as usize).read_volatile() };
    CALLS.lock().before(frame.elr, word, frame.sp);
    let count = add(&PROOF.here, 1);
    let every = PROOF.every.load(Ordering::Relaxed);
    if !count.is_multiple_of(every) {
        return;
    }
    PROOF.note_place(frame.elr);
    walk_from(frame);
    if (count / every).is_multiple_of(FROM_HERE) {
        // SAFETY: 1. Handlers of steps don't nest, and no other uses it.
        unsafe { on_handler_stack(frame, walk_from_here) };
    }
    if PROOF.has_failed() {
        step::stop();
    }
}

/// Between two instructions that are stepped, or around them.
pub(crate) fn in_interrupt(frame: &ExceptionFrame) {
    if CALLS.lock().is_next(frame.elr, frame.sp) {
        add(&PROOF.in_interrupts, 1);
        // SAFETY: 1. Interrupts are masked while steps are handled, and this is not interrupted.
        unsafe { on_handler_stack(frame, walk_from_here) };
    }
}

/// What must come: where it goes on first, then each call's return address.
fn expected(calls: &Calls, frame: &ExceptionFrame, index: usize) -> Option<u64> {
    match index.checked_sub(1) {
        None => Some(frame.elr),
        Some(index) => calls.under_way().iter().rev().nth(index).map(|call| call.returns_to),
    }
}

/// Whether a stub goes on in a function that runs in the place of the one whose callsite, before `behind`, has called it: an
/// injection has said so already.
fn goes_elsewhere(found: &Frame, behind: u64) -> bool {
    // SAFETY: linker.ld puts the two symbols around the section, in memory that nobody can write.
    let Ok(symbols) = (unsafe { Symbols::linked() }) else { return false };
    let at_start = |address: u64, bytes: u64| {
        symbols.lookup_addr(address).filter(|found| address - found.symbol.addr <= bytes).map(|found| found.symbol.name)
    };
    found.found_by == FoundBy::Stub
        && at_start(found.pc.get(), 0).is_some_and(|name| name.ends_with("::instead"))
        && at_start(behind, 12).is_some_and(|name| name.starts_with("unwind::workload::"))
}

/// Compares a walk, from where it comes to what was interrupted.
fn judge(mut walk: Unwinder<'_>, frame: &ExceptionFrame, mut skip: impl FnMut(&Frame) -> bool) {
    let calls = CALLS.lock();
    let (mut index, mut is_true) = (0, true);
    for found in walk.by_ref().take(MOST_FRAMES).skip_while(|frame| skip(frame)) {
        let expected = expected(&calls, frame, index);
        let is_it = expected == Some(found.pc.get()) || expected.is_some_and(|behind| goes_elsewhere(&found, behind));
        is_true &= is_it || !found.is_reliable();
        index += 1;
    }
    add(&PROOF.all, 1);
    if walk.is_complete() {
        is_true &= index == 1 + calls.under_way().len();
        add(&PROOF.reliable, 1);
    } else {
        note_cause(walk.doubt(), frame.elr);
    }
    if !is_true {
        add(&PROOF.wrong, 1);
        println!("\nwrong at {}, found and so:", Place(frame.elr));
        // SAFETY: as for `walk_from`.
        let mut again = unsafe { walker(frame) };
        for index in 0..MOST_FRAMES {
            let (found, so) = (again.next(), expected(&calls, frame, index));
            if found.is_none() && so.is_none() {
                break;
            }
            println!("  {} | {}", Place(found.map_or(0, |found| found.pc.get())), Place(so.unwrap_or(0)));
            if let Some(found) = found {
                println!("      {found:?}");
            }
        }
    }
}

fn tables() -> &'static [UnwindTable<'static>] {
    TABLES.get().expect("they were prepared")
}

/// With what hooks hide, and the modules' veneers.
///
/// # Safety
///
/// 1. The walk is of this CPU.
unsafe fn knowing_more(walk: Unwinder<'static>) -> Unwinder<'static> {
    // SAFETY: 1. 2. What it is of is this CPU's only thread. 3. They are static.
    let walk = unsafe { walk.with_returns(&percpu::this().trace) };
    // SAFETY: 1. Of modules that stay.
    unsafe { walk.with_veneers(&modules::loaded().veneers) }
}

/// A walk from the registers of a handler's frame.
unsafe fn walker(frame: &ExceptionFrame) -> Unwinder<'static> {
    // SAFETY: 1. The kernel's own, and those of modules that stay. 2. What was interrupted goes on only after its handler.
    let walk = unsafe { Unwinder::new(&frame.pt_regs(), tables(), &KernelStacks) };
    // SAFETY: this CPU's walk.
    unsafe { knowing_more(walk) }
}

fn walk_from(frame: &ExceptionFrame) {
    // SAFETY: a handler's.
    judge(unsafe { walker(frame) }, frame, |_| false);
}

extern "C" fn walk_from_here(frame: &ExceptionFrame) {
    // SAFETY: 1. The kernel's own, and those of modules that stay.
    let walk = unsafe { Unwinder::here(tables(), &KernelStacks) };
    // SAFETY: this CPU's walk.
    let walk = unsafe { knowing_more(walk) };
    add(&PROOF.from_here, 1);
    let pc = TextAddr::new(frame.elr);
    let mut before = 0;
    judge(walk, frame, |found| {
        before += 1;
        // The handler's own frames come first.
        found.pc != pc && before < 12
    });
}

fn note_cause(doubt: Option<Doubt>, pc: u64) {
    let (kind, place) = match doubt {
        None => ("no end", pc),
        Some(Doubt::NoRow { pc, why }) => (kind_of(why), pc.get()),
        Some(Doubt::FramePointer { pc, .. }) => ("x29", pc.get()),
        Some(Doubt::StackPointer { pc, .. }) => ("SP", pc.get()),
        Some(Doubt::OutOfStack { .. }) => ("not on the stack", pc),
        Some(Doubt::NotACall { return_address }) => ("not a call", return_address.get()),
        Some(Doubt::InRegister { pc }) => ("in a register", pc.get()),
        Some(Doubt::NotHooked { .. }) => ("not hooked", pc),
        Some(_) => ("other", pc),
    };
    let mut causes = CAUSES_SEEN.lock();
    let mut it = causes.iter_mut();
    if let Some(cause) = it.find(|cause| cause.count == 0 || (cause.kind, cause.place) == (kind, place)) {
        *cause = Cause { kind, place, count: cause.count + 1 };
    }
}

fn kind_of(why: fentry::context::unwind::Unknown) -> &'static str {
    use fentry::context::unwind::Unknown;
    match why {
        Unknown::NoText => "no text",
        Unknown::NotReached => "not reached",
        Unknown::NoCfa => "no CFA",
        Unknown::NoReturnAddress => "no return address",
        _ => "no row",
    }
}
