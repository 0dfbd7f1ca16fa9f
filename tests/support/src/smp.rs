//! The other CPUs: starting them, giving them work, and making them synchronise.
//!
//! A CPU that has nothing to do sleeps until a job is put into its block and it is woken. Jobs run as
//! the CPU's thread, with interrupts on; [`interrupt`] runs a function in an interrupt handler instead.
//!
//! # Rounds
//!
//! [`ROUNDS`] makes the others synchronise, and waits until they are quiescent. A CPU answers in the interrupt's handler, and
//! in any loop of this kernel that waits with interrupts masked ([`answer`]).

use crate::interrupts::{self, Masked};
use crate::percpu::{self, MAX_CPUS, PerCpu};
use crate::{boot, memory, vectors};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable as _};
use arm_gic::IntId;
use arm_gic::gicv3::{GicCpuInterface, SgiTarget, SgiTargetGroup};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};
use fentry::platform::CpuTimeout;
use fentry::platform::rounds::{CpuRounds, Cpus};
use smccc::Hvc;

/// Makes a CPU answer the rounds.
pub(crate) const ROUND: IntId = IntId::sgi(0);
/// Makes a CPU look for a job.
pub(crate) const WAKE: IntId = IntId::sgi(1);
/// Makes a CPU call a function in its interrupt handler.
pub(crate) const CALL: IntId = IntId::sgi(2);

/// How long a CPU has to arrive. Long, because QEMU's CPUs are threads that the host may not run for a while.
const TIMEOUT_SECONDS: u64 = 10;

/// The rounds of this kernel's CPUs.
pub(crate) static ROUNDS: CpuRounds<MAX_CPUS> = CpuRounds::new();

/// This kernel's CPUs, as the rounds see them.
#[derive(Debug)]
pub(crate) struct TestCpus;

impl Cpus for TestCpus {
    fn this_cpu(&self) -> usize {
        percpu::this().index()
    }

    fn interrupt_others(&self) {
        send_to(ROUND, SgiTarget::All);
    }

    fn pause(&self) {
        pause();
    }
}

/// How many CPUs the machine has; this kernel uses [`MAX_CPUS`] of them at most.
pub fn cpu_count() -> usize {
    interrupts::cpus().count().min(MAX_CPUS)
}

/// The CPUs that run.
pub fn online() -> impl Iterator<Item = usize> {
    (0..MAX_CPUS).filter(|&cpu| ROUNDS.is_online(cpu))
}

/// Marks this CPU as running; from now on it is asked to synchronise.
pub(crate) fn set_online(this: &PerCpu) {
    ROUNDS.go_online(this.index()).expect("there is a place for each block");
}

/// Starts every CPU that isn't running yet; returns how many run now.
///
/// # Panics
///
/// PSCI refuses, or a CPU doesn't arrive.
pub fn start_all() -> usize {
    for (cpu, mpidr) in interrupts::cpus().enumerate().take(MAX_CPUS) {
        let block = percpu::of(cpu);
        if ROUNDS.is_online(cpu) {
            continue;
        }
        block.mpidr.store(mpidr, Ordering::Relaxed);
        barrier::dsb(barrier::ISH);
        let entry = boot::secondary_cpu as *const () as u64;
        let block_address = (&raw const *block).addr() as u64;
        smccc::psci::cpu_on::<Hvc>(mpidr, entry, block_address)
            .unwrap_or_else(|error| panic!("PSCI did not start CPU {cpu} ({mpidr:#x}): {error}"));
        let deadline = Deadline::new();
        while !ROUNDS.is_online(cpu) {
            assert!(!deadline.is_over(), "CPU {cpu} was started but didn't arrive");
            pause();
        }
    }
    online().count()
}

/// A started CPU in Rust. Before it has vectors no breakpoint may be met: with the CPU's first instructions.
#[unsafe(link_section = ".init.secondary")]
pub(crate) extern "C" fn secondary_main(block: &'static PerCpu) -> ! {
    vectors::install();
    percpu::install(block);
    boot::trap_floating_point();
    memory::activate();
    interrupts::init_cpu();
    set_online(block);
    interrupts::enable();
    loop {
        run_jobs(block);
        let masked = Masked::new();
        if block.job.load(Ordering::Acquire).is_null() {
            // A job that comes now brings an interrupt, and that ends the sleep although it is masked.
            aarch64_cpu::asm::wfi();
        }
        drop(masked);
    }
}

/// Work for another CPU; on the stack of who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    call: unsafe fn(*const (), usize),
    data: *const (),
    done: AtomicBool,
}

fn run_jobs(this: &PerCpu) {
    let job = this.job.load(Ordering::Acquire);
    if job.is_null() {
        return;
    }
    // SAFETY: whoever put the job there waits until it is done.
    let call = unsafe { (*job).call };
    // SAFETY: as above.
    let data = unsafe { (*job).data };
    // SAFETY: `data` is what `call` was made for.
    unsafe { call(data, this.index()) };
    this.job.store(core::ptr::null_mut(), Ordering::Release);
    // SAFETY: as above; this is the last access.
    unsafe { (*job).done.store(true, Ordering::Release) };
}

/// Runs `f` on each of `cpus`, at the same time, and returns when all have finished.
///
/// `f` is given the number of the CPU that it runs on. The calling CPU may be one of them; it does its part after it has
/// given the others theirs.
///
/// # Panics
///
/// One of them is not online.
pub fn on_cpus<F: Fn(usize) + Sync>(cpus: impl Iterator<Item = usize>, f: F) {
    fn call<F: Fn(usize)>(data: *const (), cpu: usize) {
        // SAFETY: `data` is the closure of `on_cpus`, which waits for this call's end.
        let f = unsafe { &*data.cast::<F>() };
        f(cpu);
    }
    let this = percpu::this().index();
    let jobs: [Job; MAX_CPUS] = [const { AtomicBool::new(true) }; MAX_CPUS].map(|done| Job {
        call: call::<F>,
        data: (&raw const f).cast(),
        done,
    });
    let mut here = false;
    for cpu in cpus {
        if cpu == this {
            here = true;
        } else {
            jobs[cpu].done.store(false, Ordering::Relaxed);
            post(cpu, &jobs[cpu]);
        }
    }
    if here {
        f(this);
    }
    for job in &jobs {
        while !job.done.load(Ordering::Acquire) {
            wait();
        }
    }
}

/// Runs `f` on every CPU that is online, at the same time, and returns when all have finished.
pub fn on_all<F: Fn(usize) + Sync>(f: F) {
    on_cpus(online(), f);
}

/// Runs `f` on another CPU, or here, and returns when it has finished.
pub fn on_cpu<F: Fn() + Sync>(cpu: usize, f: F) {
    on_cpus(core::iter::once(cpu), |_| f());
}

fn post(cpu: usize, job: &Job) {
    let block = percpu::of(cpu);
    assert!(ROUNDS.is_online(cpu), "CPU {cpu} is not online");
    let job = (&raw const *job).cast_mut();
    while block.job.compare_exchange(core::ptr::null_mut(), job, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        wait();
    }
    send(WAKE, cpu);
}

/// Calls `f` on another CPU from its interrupt handler; returns once it was called.
///
/// # Panics
///
/// The CPU is not online.
pub fn interrupt(cpu: usize, f: fn()) {
    let block = percpu::of(cpu);
    assert!(ROUNDS.is_online(cpu), "CPU {cpu} is not online");
    let f = f as *mut ();
    while block.interrupt_call.compare_exchange(core::ptr::null_mut(), f, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        wait();
    }
    send(CALL, cpu);
    while block.interrupt_call.load(Ordering::Acquire) == f {
        wait();
    }
}

pub(crate) fn take_interrupt_call(this: &PerCpu) {
    let f = this.interrupt_call.load(Ordering::Acquire);
    if !f.is_null() {
        // SAFETY: `interrupt` stored a function of exactly this type.
        let f = unsafe { core::mem::transmute::<*mut (), fn()>(f) };
        f();
        this.interrupt_call.store(core::ptr::null_mut(), Ordering::Release);
    }
}

fn send(interrupt: IntId, cpu: usize) {
    let mpidr = percpu::of(cpu).mpidr.load(Ordering::Relaxed);
    let target = SgiTarget::List {
        affinity3: (mpidr >> 32) as u8,
        affinity2: (mpidr >> 16) as u8,
        affinity1: (mpidr >> 8) as u8,
        target_list: 1 << (mpidr & 0xf),
    };
    send_to(interrupt, target);
}

fn send_to(interrupt: IntId, target: SgiTarget) {
    // What the interrupt is about must be in memory before it arrives.
    barrier::dsb(barrier::ISHST);
    GicCpuInterface::send_sgi(interrupt, target, SgiTargetGroup::CurrentGroup1).expect("a software interrupt");
    barrier::isb(barrier::SY);
}

/// One turn of a loop that waits for another CPU.
pub fn wait() {
    answer();
    pause();
}

/// Lets another CPU run.
///
/// YIELD, and not the ISB of `core::hint::spin_loop`: where QEMU runs all CPUs in one thread (with `-icount`, for one) it
/// goes on to the next CPU at a YIELD, and else only after a tenth of a second.
#[inline(always)]
pub fn pause() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
}

/// Answers a round of synchronising, if there is one. For every loop that waits with interrupts masked; where they are
/// not, the handler answers as well.
pub fn answer() {
    if let Some(this) = percpu::try_this() {
        ROUNDS.answer(this.index());
    }
}

/// Makes every other CPU execute a context synchronisation event, and waits for each.
///
/// # Errors
///
/// A CPU did not answer in time.
pub fn synchronize() -> Result<(), CpuTimeout> {
    ROUNDS.synchronize(&TestCpus)
}

/// A moment after which somebody is late.
struct Deadline(u64);

impl Deadline {
    fn new() -> Self {
        Self(CNTVCT_EL0.get() + TIMEOUT_SECONDS * CNTFRQ_EL0.get())
    }

    fn is_over(&self) -> bool {
        CNTVCT_EL0.get() > self.0
    }
}
