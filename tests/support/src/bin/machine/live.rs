use alloc::string::String;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use fentry::{Filter, FtraceRegs, Ops, TextAddr};
use support::memory::{self, Alias};
use support::{engine, interrupts, percpu, println, smp};

static CALLS: [AtomicU64; percpu::MAX_CPUS] = [const { AtomicU64::new(0) }; percpu::MAX_CPUS];
/// Few: this is to show that the kernel bears it. An unoptimised one takes a second for each.
const ROUNDS: u32 = if cfg!(debug_assertions) { 1 } else { 4 };

static COUNT: Ops = Ops::new(count);

extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    if let Some(this) = percpu::try_this() {
        CALLS[this.index()].fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn the_engine_is_ready_before_other_cpus() {
    let (_, report) = engine();
    assert_eq!(report.counts.refused, 0);
}

#[inline(never)]
fn work(n: u64) -> usize {
    let text: String = alloc::format!("{:x}", black_box(n));
    text.len()
}

/// Every CPU runs text whose callsites one CPU switches on and off, all of them, with ticks on each CPU.
pub(super) fn text_changes_under_running_cpus() {
    let (engine, report) = engine();
    smp::start_all();
    for alias in [Alias::Permanent, Alias::Window] {
        memory::use_alias(alias);
        let stop = AtomicBool::new(false);
        smp::on_all(|cpu| {
            interrupts::start_ticks(Duration::from_micros(500));
            if cpu == 0 {
                for _ in 0..ROUNDS {
                    let selected = engine.register(&COUNT, &Filter::new(&[])).expect("registration");
                    assert_eq!(selected, report.counts.accepted);
                    assert_eq!(work(0x1234), 4);
                    engine.unregister(&COUNT).expect("it is registered");
                }
                stop.store(true, Ordering::Release);
            } else {
                while !stop.load(Ordering::Acquire) {
                    assert_eq!(work(0x0012_3456), 6);
                    smp::pause();
                }
            }
            interrupts::stop_ticks();
        });
        let check = engine.check_text();
        assert_eq!((check.disabled, check.enabled, check.wrong), (report.counts.accepted, 0, 0));
    }
    memory::use_alias(Alias::Permanent);
    for cpu in smp::online() {
        println!("CPU {cpu}: {} calls", CALLS[cpu].load(Ordering::Relaxed));
    }
}
