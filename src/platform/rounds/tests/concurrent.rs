//! What CPUs see of rounds in every order of their accesses (`loom`).
//!
//! In the models a CPU's "text" is a word, and ISB copies it to what the CPU executes. A round that is over promises that no
//! CPU executes the old word. Interrupts are turns of polling, a few; a round that is not answered in so many ends late.

extern crate std;

use super::range;
use crate::address::TextAddr;
use crate::platform::rounds::protocol::{Kind, Protocol, Seat, Word};
use core::cell::Cell;
use core::sync::atomic::Ordering;
use loom::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_add(value, order)
    }
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.compare_exchange(current, new, success, failure)
    }
    fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_max(value, order)
    }
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }
    fn fence(order: Ordering) {
        loom::sync::atomic::fence(order);
    }
}

fn word() -> AtomicU64 {
    AtomicU64::new(0)
}

/// Two CPUs, and what they share.
struct Machine {
    protocol: Protocol<2, 1, AtomicU64>,
    /// The words that each CPU may change.
    text: [AtomicU64; 2],
    /// Whose round of synchronising is over.
    over: [AtomicU64; 2],
}

impl Machine {
    fn new(online: [bool; 2]) -> Arc<Self> {
        let seats = online.map(|online| Seat {
            online: AtomicU64::new(u64::from(online)),
            synchronized: word(),
            quiescent: word(),
            held: word(),
        });
        let protocol = Protocol {
            seats,
            synchronizes: word(),
            looks: word(),
            asking: word(),
            holds: word(),
            count: word(),
            ranges: [[word(), word()]],
        };
        Arc::new(Self { protocol, text: [word(), word()], over: [word(), word()] })
    }
}

/// One CPU: the words that it executes.
struct Cpu<'m> {
    machine: &'m Machine,
    number: usize,
    executed: [Cell<u64>; 2],
}

impl<'m> Cpu<'m> {
    fn new(machine: &'m Machine, number: usize) -> Self {
        Self { machine, number, executed: [Cell::new(0), Cell::new(0)] }
    }

    fn isb(&self) {
        for (executed, text) in self.executed.iter().zip(&self.machine.text) {
            executed.set(text.load(Ordering::Relaxed));
        }
    }

    fn answer(&self) {
        let isb = || {
            // Until now it executes what it has. (One that comes online executes nothing that changes.)
            self.check();
            self.isb();
        };
        self.machine.protocol.answer(self.number, isb, loom::thread::yield_now);
        self.check();
    }

    fn go_online(&self) {
        assert!(self.machine.protocol.go_online(self.number, || self.isb(), loom::thread::yield_now));
        self.check();
    }

    /// No round is over that this CPU has not synchronised in.
    fn check(&self) {
        let other = 1 - self.number;
        if self.machine.over[other].load(Ordering::Acquire) == 1 {
            assert_eq!(self.executed[other].get(), 1, "old text is executed after the round");
        }
    }

    /// Changes its word, and synchronises for so many turns; whether the others answered in time.
    fn change(&self, turns: usize) -> bool {
        let protocol = &self.machine.protocol;
        self.machine.text[self.number].store(1, Ordering::Relaxed);
        let round = protocol.begin_synchronize();
        self.answer();
        for _ in 0..turns {
            if protocol.missing(Kind::Synchronize, round).is_none() {
                self.machine.over[self.number].store(1, Ordering::Release);
                return true;
            }
            self.answer();
            loom::thread::yield_now();
        }
        false
    }
}

/// Runs both CPUs in every order, with at most three preemptions, as `first` and `second` say. `first` returns whether its
/// round was over: in some orders it must be, and in some be late.
fn explore(online: [bool; 2], first: fn(&Cpu<'_>) -> bool, second: fn(&Cpu<'_>)) {
    let ends: Arc<[Count; 2]> = Arc::new([Count::new(0), Count::new(0)]);
    let counted = ends.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let machine = Machine::new(online);
        let shared = machine.clone();
        let other = loom::thread::spawn(move || second(&Cpu::new(&shared, 1)));
        let over = first(&Cpu::new(&machine, 0));
        counted[usize::from(over)].fetch_add(1, Ordering::Relaxed);
        other.join().unwrap();
    });
    assert!(ends.iter().all(|count| count.load(Ordering::Relaxed) > 0), "late and over: {ends:?}");
}

#[test]
fn a_round_is_over_when_the_other_cpu_executes_new_text() {
    explore(
        [true, true],
        |cpu| cpu.change(3),
        |cpu| {
            cpu.answer();
            cpu.answer();
        },
    );
}

#[test]
fn a_cpu_that_comes_online_in_a_round_executes_new_text() {
    explore(
        [true, false],
        |cpu| cpu.change(2),
        |cpu| {
            cpu.go_online();
            cpu.answer();
        },
    );
}

#[test]
fn a_cpu_that_goes_and_comes_in_a_round_executes_new_text() {
    explore(
        [true, true],
        |cpu| cpu.change(2),
        |cpu| {
            cpu.machine.protocol.go_offline(1);
            cpu.go_online();
        },
    );
}

#[test]
fn two_cpus_that_ask_at_once_answer_each_other() {
    explore(
        [true, true],
        |cpu| cpu.change(3),
        |cpu| {
            if cpu.change(3) {
                cpu.check();
            }
        },
    );
}

#[test]
fn a_late_answer_is_none_to_the_next_round() {
    // The first round is late at once; what the second one is about is stored behind it.
    fn two_rounds(cpu: &Cpu<'_>) -> bool {
        cpu.machine.protocol.begin_synchronize();
        cpu.change(3)
    }
    explore([true, true], two_rounds, |cpu| {
        cpu.answer();
        cpu.answer();
    });
}

struct Used(loom::cell::UnsafeCell<u64>);

// SAFETY: `loom` runs one thread at a time, and panics before it lets two accesses to the cell race.
unsafe impl Sync for Used {}
// SAFETY: it is a number.
unsafe impl Send for Used {}

/// CPU 1 is in a stub with something that CPU 0 frees once it has seen it quiescent.
#[test]
fn what_a_stub_uses_is_freed_after_it() {
    let ends: Arc<[Count; 2]> = Arc::new([Count::new(0), Count::new(0)]);
    let counted = ends.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let machine = Machine::new([true, true]);
        let used = Arc::new(Used(loom::cell::UnsafeCell::new(0)));
        let (shared, using) = (machine.clone(), used.clone());
        let other = loom::thread::spawn(move || {
            shared.protocol.look(1, TextAddr::new(0x104));
            // `loom` fails the test if this and the write below can happen at once.
            using.0.with(|value| {
                // SAFETY: it lives as long as both threads.
                assert_eq!(unsafe { *value }, 0, "used after it was freed");
            });
            shared.protocol.look(1, TextAddr::new(0x200));
            shared.protocol.look(1, TextAddr::new(0x200));
        });
        let round = machine.protocol.begin_quiesce(&[range(0x100, 0x110)]).unwrap();
        assert_eq!(machine.protocol.begin_quiesce(&[]), None, "one at a time");
        machine.protocol.note_waiting(0);
        let mut over = false;
        for _ in 0..3 {
            over = machine.protocol.missing(Kind::Quiesce, round).is_none();
            if over {
                // SAFETY: as above.
                used.0.with_mut(|value| unsafe { *value = 1 });
                break;
            }
            loom::thread::yield_now();
        }
        counted[usize::from(over)].fetch_add(1, Ordering::Relaxed);
        other.join().unwrap();
    });
    assert!(ends.iter().all(|count| count.load(Ordering::Relaxed) > 0), "late and over: {ends:?}");
}

/// The first round is late while CPU 1 may be looking, and the next one's ranges take the place of its own.
#[test]
fn a_look_that_begins_in_a_late_round_is_none_in_the_next() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let machine = Machine::new([true, true]);
        let shared = machine.clone();
        let other = loom::thread::spawn(move || {
            shared.protocol.look(1, TextAddr::new(0x204));
            shared.protocol.look(1, TextAddr::new(0x204));
        });
        machine.protocol.begin_quiesce(&[range(0x100, 0x110)]).unwrap();
        machine.protocol.end_quiesce();
        let round = machine.protocol.begin_quiesce(&[range(0x200, 0x210)]).unwrap();
        machine.protocol.note_waiting(0);
        assert_eq!(machine.protocol.missing(Kind::Quiesce, round), Some(1));
        other.join().unwrap();
        assert_eq!(machine.protocol.missing(Kind::Quiesce, round), Some(1), "it was in a stub all the time");
    });
}

/// CPU 1, which was online or comes, executes a word that CPU 0 changes while it holds it.
fn explore_hold(is_online: bool) {
    let ends: Arc<[Count; 2]> = Arc::new([Count::new(0), Count::new(0)]);
    let counted = ends.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let machine = Machine::new([true, is_online]);
        let text = Arc::new(Used(loom::cell::UnsafeCell::new(0)));
        let (shared, executing) = (machine.clone(), text.clone());
        let other = loom::thread::spawn(move || {
            // `loom` fails the test if this and the write below can happen at once.
            // SAFETY: it lives as long as both threads.
            let execute = || executing.0.with(|word| unsafe { *word });
            let synchronized = Cell::new(0);
            if !is_online {
                assert!(shared.protocol.go_online(1, || synchronized.set(execute()), loom::thread::yield_now));
                assert_eq!(execute(), synchronized.get());
            }
            for _ in 0..2 {
                let before = execute();
                synchronized.set(before);
                shared.protocol.answer(1, || synchronized.set(execute()), loom::thread::yield_now);
                assert_eq!(execute(), synchronized.get(), "it goes on behind an ISB");
            }
        });
        let hold = machine.protocol.begin_hold(0).unwrap();
        assert_eq!(machine.protocol.begin_hold(0), None, "one at a time");
        let mut held = false;
        for _ in 0..3 {
            held = machine.protocol.missing(Kind::Hold, hold).is_none();
            if held {
                // SAFETY: as above.
                text.0.with_mut(|word| unsafe { *word = 1 });
                break;
            }
            loom::thread::yield_now();
        }
        machine.protocol.end_hold(hold);
        counted[usize::from(held)].fetch_add(1, Ordering::Relaxed);
        other.join().unwrap();
    });
    assert!(ends.iter().all(|count| count.load(Ordering::Relaxed) > 0), "late and held: {ends:?}");
}

#[test]
fn nobody_executes_what_is_written_while_all_are_held() {
    explore_hold(true);
}

#[test]
fn a_cpu_that_comes_online_waits_until_nobody_is_held() {
    explore_hold(false);
}
