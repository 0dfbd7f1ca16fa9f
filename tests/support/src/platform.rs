//! What fentry asks of a kernel, answered by this one.

use crate::{exceptions, interrupts, memory, percpu, smp};
use core::arch::asm;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout, HoldError, LostReturn};
use fentry::{CpuArea, Platform, TextAddr, TextRange, TraceContext};

/// This kernel, as the engine sees it.
#[derive(Debug)]
pub struct TestPlatform;

/// The one there is.
pub static PLATFORM: TestPlatform = TestPlatform;

// SAFETY:
// - an alias is the same physical memory as the text page, mapped Normal Write-Back Inner Shareable and writable, until it
//   is given back;
// - each CPU is in `ROUNDS` under its own number from its start on, with a context of its own; `interrupts::handle` has it
//   looked at, with what it interrupts, and no handler is interrupted; the CPUs are all of one kind;
// - TPIDR_EL1 is zero from each CPU's first instructions on, and then the address of its block for ever, with its context
//   and its area; there are no tasks.
// - `exceptions::text` is all that is executed between a BRK and `handle_brk`, and behind it: the vectors and `handle`; and
//   CPUs' start code, the section `.init`.
// No method takes a lock that a callback could hold: the page tables' lock is taken nowhere else while a batch can run.
unsafe impl Platform for TestPlatform {
    fn context_base(&self) -> ContextBase {
        ContextBase { register: BaseRegister::TpidrEl1, offset: offset_of!(percpu::PerCpu, trace) as u16 }
    }

    fn cpu_base(&self) -> Option<ContextBase> {
        Some(ContextBase { register: BaseRegister::TpidrEl1, offset: offset_of!(percpu::PerCpu, area) as u16 })
    }

    fn for_each_cpu_area(&self, show: &mut dyn FnMut(&CpuArea)) {
        (0..percpu::MAX_CPUS).for_each(|cpu| show(&percpu::of(cpu).area));
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        assert!(interrupts::are_masked(), "an alias is asked for with interrupts masked");
        if ALIAS.asked_and_fails() {
            return Err(AliasError { page, reason: "a test asked for this failure" });
        }
        memory::map_alias(page)
    }

    fn unmap_alias(&self, page: TextAddr, alias: NonNull<u8>) {
        assert!(interrupts::are_masked(), "interrupts stay masked as long as there is an alias");
        memory::unmap_alias(page, alias);
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        if SYNCHRONIZE.asked_and_fails() {
            return Err(CpuTimeout { cpu: percpu::MAX_CPUS });
        }
        smp::synchronize()
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        smp::ROUNDS.quiesce(&smp::TestCpus, stubs)
    }

    fn hold_cpus(&self, act: &mut dyn FnMut()) -> Result<(), HoldError> {
        smp::ROUNDS.hold(&smp::TestCpus, act)
    }

    fn for_each_brk_range(&self, show: &mut dyn FnMut(TextRange)) -> bool {
        exceptions::text().into_iter().for_each(show);
        true
    }

    fn for_each_context(&self, show: &mut dyn FnMut(&TraceContext)) {
        (0..percpu::MAX_CPUS).for_each(|cpu| show(&percpu::of(cpu).trace));
    }

    fn lost_return(&self, lost: &LostReturn) -> ! {
        let Some(base) = LOST.lock().as_mut().map(|expected| {
            expected.lost = Some(*lost);
            expected.base
        }) else {
            panic!("{lost}")
        };
        // SAFETY: this CPU's own base, as before the test changed it; `catch` waits for the exception.
        unsafe { asm!("msr tpidr_el1, {}", "brk #1", in(reg) base, options(noreturn)) }
    }

    fn may_be_emulated(&self) -> bool {
        MAY_BE_EMULATED.load(Ordering::Relaxed)
    }

    fn relax(&self) {
        smp::ROUNDS.relax(&smp::TestCpus, &percpu::this().trace);
    }
}

/// A return that a test expects to be lost.
struct Expected {
    /// The base register of the CPU that runs the test.
    base: u64,
    lost: Option<LostReturn>,
}

static LOST: spin::Mutex<Option<Expected>> = spin::Mutex::new(None);

/// Calls `f`, in which a hooked function returns in another context than it was called in; what the engine says of it.
pub fn expect_lost_return(f: impl FnOnce()) -> LostReturn {
    let base = core::ptr::from_ref(percpu::this()).addr() as u64;
    *LOST.lock() = Some(Expected { base, lost: None });
    let ended = exceptions::catch(f);
    let expected = LOST.lock().take().expect("it was put there");
    assert!(ended.is_err(), "nothing was lost");
    expected.lost.expect("something else ended it")
}

static MAY_BE_EMULATED: AtomicBool = AtomicBool::new(true);

/// Says that this kernel runs on hardware, or may be emulated: it is, so the former is for counting what hardware would do.
pub fn set_may_be_emulated(may: bool) {
    MAY_BE_EMULATED.store(may, Ordering::Relaxed);
}

/// One service of the platform: how often it was asked for, and when it is to fail.
#[derive(Debug)]
pub struct Service {
    asked: AtomicU64,
    /// The request, by its number, that fails; none has the number `u64::MAX`.
    failing: AtomicU64,
}

/// Mapping an alias.
pub static ALIAS: Service = Service::new();
/// Synchronising the other CPUs.
pub static SYNCHRONIZE: Service = Service::new();

impl Service {
    const fn new() -> Self {
        Self { asked: AtomicU64::new(0), failing: AtomicU64::new(u64::MAX) }
    }

    /// How often the engine has asked for it.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Makes one request fail: the next one for 0, the one after that for 1, and so on.
    pub fn fail_after(&self, requests: u64) {
        self.failing.store(self.asked() + requests, Ordering::Relaxed);
    }

    /// Lets all requests succeed again.
    pub fn succeed(&self) {
        self.failing.store(u64::MAX, Ordering::Relaxed);
    }

    fn asked_and_fails(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) == self.failing.load(Ordering::Relaxed)
    }
}
