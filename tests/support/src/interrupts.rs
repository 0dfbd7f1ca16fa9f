//! Interrupts: the mask, the GIC, the timer's ticks.

use crate::lock::Lock;
use crate::vectors::ExceptionFrame;
use crate::{percpu, smp};
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_TVAL_EL0, CNTVCT_EL0, Readable as _, Writeable as _};
use arm_gic::gicv3::{GicCpuInterface, GicRedistributorIterator, GicV3, registers::GicrSgi};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::time::Duration;
use fentry::TextAddr;
use fentry::context::ContextLevel;

/// The GIC of QEMU's virt board.
const DISTRIBUTOR: usize = 0x0800_0000;
const REDISTRIBUTORS: usize = 0x080a_0000;

/// EL1's virtual timer.
const TIMER: IntId = IntId::ppi(11);

/// Every interrupt has the same priority; this lets it through.
const PRIORITY: u8 = 0xa0;
const PRIORITY_MASK: u8 = 0xff;

static GIC: Lock<Option<GicV3<'static>>> = Lock::new(None);

/// Interrupts are masked while this exists, and then as they were before.
///
/// In inline assembly, because the register accesses of `aarch64-cpu` let the compiler move memory accesses across them.
#[derive(Debug)]
#[must_use = "interrupts are unmasked again when it is dropped"]
pub struct Masked {
    daif: u64,
}

impl Masked {
    /// Masks interrupts on this CPU.
    #[inline]
    pub fn new() -> Self {
        let daif: u64;
        // SAFETY: masking interrupts only delays them.
        unsafe { asm!("mrs {}, daif", "msr daifset, #3", out(reg) daif, options(nostack, preserves_flags)) };
        Self { daif }
    }
}

impl Default for Masked {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Masked {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: they were so before, and what needed them masked is over.
        unsafe { asm!("msr daif, {}", in(reg) self.daif, options(nostack, preserves_flags)) };
    }
}

/// The bits I and F of DAIF.
const IRQ_AND_FIQ: u64 = 0b11 << 6;

/// Whether interrupts are masked on this CPU, both IRQ and FIQ.
pub fn are_masked() -> bool {
    let daif: u64;
    // SAFETY: reading the mask changes nothing.
    unsafe { asm!("mrs {}, daif", out(reg) daif, options(nomem, nostack, preserves_flags)) };
    daif & IRQ_AND_FIQ == IRQ_AND_FIQ
}

/// Lets interrupts come on this CPU.
pub(crate) fn enable() {
    // SAFETY: the vectors and the GIC are ready when a CPU gets here.
    unsafe { asm!("msr daifclr, #0xf", options(nostack, preserves_flags)) };
}

/// The affinities of all CPUs, in the GIC's order.
pub(crate) fn cpus() -> impl Iterator<Item = u64> {
    // SAFETY: the board has its redistributors there; this only reads registers that reading does not change.
    let all = unsafe { GicRedistributorIterator::new(redistributors()) }.expect("the board has a GICv3");
    all.map(|redistributor| redistributor.typer().core_mpidr())
}

fn redistributors() -> NonNull<GicrSgi> {
    NonNull::new(core::ptr::without_provenance_mut(REDISTRIBUTORS)).expect("not 0")
}

/// Brings up the GIC, and this CPU's part of it.
pub(crate) fn init() {
    let distributor =
        NonNull::new(core::ptr::without_provenance_mut(DISTRIBUTOR)).expect("the distributor is not at address 0");
    // SAFETY: the board has the distributor there, mapped as device memory; this is the only pointer to it.
    let distributor = unsafe { UniqueMmioPointer::new(distributor) };
    // SAFETY: as above for the redistributors; `cpus` only reads what doesn't change.
    let gic = unsafe { GicV3::new(distributor, redistributors(), cpus().count().min(percpu::MAX_CPUS)) };
    let mut gic = gic.expect("the board has a GICv3");
    gic.setup(percpu::this().index());
    *GIC.lock() = Some(gic);
    init_cpu();
}

/// Brings up this CPU's part of the GIC.
pub(crate) fn init_cpu() {
    let cpu = percpu::this().index();
    let mut gic = GIC.lock();
    let gic = gic.as_mut().expect("the GIC is up before the other CPUs");
    gic.init_cpu(cpu);
    GicCpuInterface::enable_group1(true);
    GicCpuInterface::set_priority_mask(PRIORITY_MASK);
    for interrupt in [TIMER, smp::ROUND, smp::WAKE, smp::CALL] {
        gic.set_interrupt_priority(interrupt, Some(cpu), PRIORITY).expect("a private interrupt");
        gic.enable_interrupt(interrupt, Some(cpu), true).expect("a private interrupt");
    }
}

/// Serves the interrupt that is pending.
pub(crate) fn handle(frame: &mut ExceptionFrame) {
    let this = percpu::this();
    // SAFETY:
    // 1. The context of the CPU, whose only thread is interrupted; where tasks have contexts, of the one interrupted.
    // 2. `leave` is below, on the only way out.
    // 3. Handlers nest, and callbacks inside this one end inside it.
    let outer = unsafe { this.trace.enter(ContextLevel::Irq) };
    smp::ROUNDS.look(this.index(), &this.trace, TextAddr::new(frame.elr));
    // None: it was withdrawn between the exception and now.
    if let Some(interrupt) = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1) {
        match interrupt {
            TIMER => tick(this, frame),
            smp::ROUND => smp::ROUNDS.answer(this.index()),
            smp::WAKE => {}
            smp::CALL => smp::take_interrupt_call(this),
            other => panic!("interrupt {other:?} came that nobody had enabled"),
        }
        GicCpuInterface::end_interrupt(interrupt, InterruptGroup::Group1);
    }
    // SAFETY: `outer` is this handler's own.
    unsafe { this.trace.leave(outer) };
}

/// What is called at each tick, on the CPU that has it, with what it interrupted.
pub type TickHook = fn(&ExceptionFrame);

static HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets what is called at each tick of every CPU; `None` for nothing.
pub fn on_tick(hook: Option<TickHook>) {
    let hook = hook.map_or(core::ptr::null_mut(), |hook| hook as *mut ());
    HOOK.store(hook, Ordering::Release);
}

fn tick(this: &percpu::PerCpu, frame: &ExceptionFrame) {
    this.ticks.fetch_add(1, Ordering::Relaxed);
    let hook = HOOK.load(Ordering::Acquire);
    if !hook.is_null() {
        // SAFETY: `on_tick` stored a function of exactly this type.
        let hook = unsafe { core::mem::transmute::<*mut (), TickHook>(hook) };
        hook(frame);
    }
    // Last, so that a period shorter than the handler still lets the interrupted code go on.
    CNTV_TVAL_EL0.set(this.tick_period.load(Ordering::Relaxed));
}

/// Ends the tick that this CPU is serving, for a thread of execution that a hook has begun and that was never interrupted
/// itself: interrupts can come from here on.
///
/// # Safety
///
/// Called once for a tick whose hook does not return on this CPU in place of another one's.
pub unsafe fn end_tick() {
    CNTV_TVAL_EL0.set(percpu::this().tick_period.load(Ordering::Relaxed));
    GicCpuInterface::end_interrupt(TIMER, InterruptGroup::Group1);
    enable();
}

/// Starts the ticks of this CPU.
pub fn start_ticks(period: Duration) {
    set_tick_period(period);
    let this = percpu::this();
    CNTV_TVAL_EL0.set(this.tick_period.load(Ordering::Relaxed));
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR);
}

/// Changes the time to the tick after the next one, on this CPU. At least one count of the timer.
pub fn set_tick_period(period: Duration) {
    let counts = period.as_nanos() as u64 * CNTFRQ_EL0.get() / 1_000_000_000;
    percpu::this().tick_period.store(counts.max(1), Ordering::Relaxed);
}

/// What so many counts of the counter that all CPUs share are in nanoseconds.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(CNTFRQ_EL0.get())) as u64
}

/// The time since the machine was switched on, in nanoseconds, by the counter that all CPUs share.
pub fn now_ns() -> u64 {
    ticks_to_ns(CNTVCT_EL0.get())
}

/// Stops the ticks of this CPU.
pub fn stop_ticks() {
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR);
}
