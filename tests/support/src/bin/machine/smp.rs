use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use support::interrupts::{self, Masked};
use support::lock::Lock;
use support::{percpu, println, smp};

pub(super) fn all_cpus_start() {
    let count = smp::start_all();
    println!("{count} CPUs");
    assert_eq!(count, smp::cpu_count());
    assert_eq!(smp::start_all(), count, "starting again changes nothing");
}

pub(super) fn each_cpu_has_its_own_block() {
    smp::on_all(|cpu| {
        let this = percpu::this();
        assert_eq!(this.index(), cpu);
        assert!(core::ptr::eq(this, percpu::of(cpu)));
    });
}

pub(super) fn jobs_run_at_the_same_time() {
    let arrived = AtomicUsize::new(0);
    let count = smp::online().count();
    smp::on_all(|_| {
        arrived.fetch_add(1, Ordering::Relaxed);
        while arrived.load(Ordering::Relaxed) < count {
            smp::pause();
        }
    });
    for cpu in smp::online().collect::<Vec<_>>() {
        let ran_on = AtomicUsize::new(usize::MAX);
        smp::on_cpu(cpu, || ran_on.store(percpu::this().index(), Ordering::Relaxed));
        assert_eq!(ran_on.load(Ordering::Relaxed), cpu);
    }
}

pub(super) fn functions_run_in_interrupts() {
    static CALLED: AtomicU64 = AtomicU64::new(0);
    fn mark() {
        assert!(interrupts::are_masked());
        CALLED.fetch_or(1 << percpu::this().index(), Ordering::Relaxed);
    }
    let mut expected = 0;
    for cpu in smp::online().filter(|&cpu| cpu != percpu::this().index()).collect::<Vec<_>>() {
        smp::interrupt(cpu, mark);
        expected |= 1 << cpu;
        assert_eq!(CALLED.load(Ordering::Relaxed), expected);
    }
}

pub(super) fn locks_exclude() {
    static COUNT: Lock<u64> = Lock::new(0);
    const TURNS: u64 = 2000;
    smp::on_all(|_| {
        interrupts::start_ticks(Duration::from_millis(1));
        for _ in 0..TURNS {
            let mut count = COUNT.lock();
            let seen = *count;
            smp::pause();
            *count = seen + 1;
        }
        interrupts::stop_ticks();
    });
    assert_eq!(*COUNT.lock(), TURNS * smp::online().count() as u64);
}

pub(super) fn cpus_synchronise() {
    let stop = AtomicUsize::new(0);
    smp::on_all(|cpu| {
        if cpu == 0 {
            for _ in 0..50 {
                smp::synchronize().expect("all CPUs answer");
            }
            stop.store(1, Ordering::Relaxed);
        } else {
            // At work, with interrupts on.
            while stop.load(Ordering::Relaxed) == 0 {
                smp::pause();
            }
        }
    });
}

pub(super) fn masked_cpus_still_synchronise() {
    static BUSY: Lock<()> = Lock::new(());
    // Everybody asks at once with interrupts masked, and waits for a lock that another one may hold meanwhile.
    smp::on_all(|_| {
        for _ in 0..10 {
            let masked = Masked::new();
            smp::synchronize().expect("a CPU that asks itself answers too");
            let held = BUSY.lock();
            smp::synchronize().expect("a CPU that waits for a lock answers too");
            drop(held);
            drop(masked);
        }
    });
}
