//! The CPUs: starting them, their interrupts, and the time that each gives a task.

use crate::tasks::{self, Task};
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_TVAL_EL0, Readable as _, Writeable as _};
use arm_gic::gicv3::{GicCpuInterface, GicV3, SgiTarget, SgiTargetGroup, registers::GicrSgi};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use core::ptr::{NonNull, without_provenance_mut};
use core::sync::atomic::{AtomicUsize, Ordering};
use smccc::Hvc;

// integration
use crate::tracing::ROUNDS;
// end of integration

/// How many there are. Their affinities are 0, 1, 2, 3, and so are their numbers and the GIC's for them.
pub(crate) const CPUS: usize = 4;

/// The GIC of QEMU's virt board.
const DISTRIBUTOR: usize = 0x0800_0000;
const REDISTRIBUTORS: usize = 0x080a_0000;

/// EL1's virtual timer.
const TIMER: IntId = IntId::ppi(11);
/// Asks all other CPUs for something.
const ASK: IntId = IntId::sgi(0);

/// Every interrupt has the same priority; the mask lets it through.
const PRIORITY: u8 = 0xa0;
const PRIORITY_MASK: u8 = 0xff;

/// A task's time, and how long it goes on where it can't be preempted.
const SLICES_PER_SECOND: u64 = 1000;
// integration
const POSTPONEMENTS_PER_SECOND: u64 = 20_000;
// end of integration

static GIC: spin::Mutex<Option<GicV3<'static>>> = spin::Mutex::new(None);
static READY: AtomicUsize = AtomicUsize::new(0);

/// Starts the others. Called once, on the boot CPU.
pub(crate) fn start() {
    let [distributor, redistributors] =
        [DISTRIBUTOR, REDISTRIBUTORS].map(|at| NonNull::new(without_provenance_mut::<u8>(at)).expect("not 0"));
    // SAFETY: the board has the distributor there, mapped as a device, and this is the only pointer to it.
    let distributor = unsafe { UniqueMmioPointer::new(distributor.cast()) };
    // SAFETY: as above, of the redistributors.
    let mut gic = unsafe { GicV3::new(distributor, redistributors.cast::<GicrSgi>(), CPUS) }.expect("a GICv3");
    gic.setup(0);
    *GIC.lock() = Some(gic);
    for cpu in 1..CPUS {
        // SAFETY: each stack is the one CPU's, and mapped.
        let started =
            unsafe { aarch64_rt::start_core::<Hvc, _, _>(cpu as u64, tasks::stack(cpu, 0), move || run(cpu)) };
        started.unwrap_or_else(|error| panic!("CPU {cpu} did not start: {error}"));
    }
    init(0);
    while READY.load(Ordering::Acquire) < CPUS {
        core::hint::spin_loop();
    }
}

/// What a CPU runs that was started: its first task.
fn run(cpu: usize) {
    init(cpu);
    loop {
        wait();
    }
}

/// Brings up this CPU; from the end on its tasks run.
fn init(cpu: usize) {
    tasks::init_cpu(cpu);
    if let Some(gic) = GIC.lock().as_mut() {
        gic.init_cpu(cpu);
        for interrupt in [TIMER, ASK] {
            gic.set_interrupt_priority(interrupt, Some(cpu), PRIORITY).expect("a private interrupt");
            gic.enable_interrupt(interrupt, Some(cpu), true).expect("a private interrupt");
        }
    }
    GicCpuInterface::enable_group1(true);
    GicCpuInterface::set_priority_mask(PRIORITY_MASK);
    // integration
    ROUNDS.go_online(cpu).expect("there is a place for each CPU");
    // end of integration
    start_slice();
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR);
    READY.fetch_add(1, Ordering::Release);
    tasks::enable_interrupts();
}

fn start_slice() {
    CNTV_TVAL_EL0.set(CNTFRQ_EL0.get() / SLICES_PER_SECOND);
}

// integration
/// Asks again soon whether the task can be preempted.
pub(crate) fn postpone() {
    CNTV_TVAL_EL0.set(CNTFRQ_EL0.get() / POSTPONEMENTS_PER_SECOND);
}
// end of integration

/// Waits for an interrupt.
pub(crate) fn wait() {
    aarch64_cpu::asm::wfi();
}

/// Interrupts all other CPUs.
pub(crate) fn ask_others() {
    GicCpuInterface::send_sgi(ASK, SgiTarget::All, SgiTargetGroup::CurrentGroup1).expect("a software interrupt");
}

/// Serves the interrupt that is pending; returns whether the task's time is over.
pub(crate) fn serve(task: &Task) -> bool {
    // None: it was withdrawn between the exception and now.
    let Some(interrupt) = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1) else { return false };
    match interrupt {
        TIMER => start_slice(),
        // integration
        ASK => ROUNDS.answer(task.cpu),
        // end of integration
        other => panic!("CPU {} has an interrupt that nobody enabled: {other:?}", task.cpu),
    }
    GicCpuInterface::end_interrupt(interrupt, InterruptGroup::Group1);
    interrupt == TIMER
}
