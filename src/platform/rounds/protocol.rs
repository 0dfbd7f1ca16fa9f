//! The words of a round and the order in which they are accessed: what `loom` explores in `tests`.
//!
//! Every round has a number, and each CPU a seat with the number that it answered last. A round is over when each seat that
//! is taken has its number or a later one. So an answer that comes late, after the deadline of its round, is no answer to
//! the next; and of two CPUs that ask at once each waits for a number of its own.
//!
//! | who | does | order | because |
//! |---|---|---|---|
//! | asks | changes text, or takes callsites away | | |
//! | | takes the next number | release | who sees the number sees what was done before |
//! | | fence, looks who is online | SeqCst | the first of two pairs (below) |
//! | answers | loads the number | acquire | |
//! | | ISB, or looks at what was interrupted | after a branch on the number | an ISB before the load is no answer |
//! | | raises its seat to the number | release | what it did before is over for who sees the answer |
//! | asks | loads the seats | acquire | |
//! | comes online | takes its seat, fence, loads the number | SeqCst | the second |
//! | holds | makes the number of holds odd, fence, looks who is online | SeqCst | the first pair |
//! | is held | loads it; raises its seat to it; waits until it is another | acquire, release, acquire | what it did before is over for who holds, and what that did for it |
//! | holds | loads the seats; does what nobody may see; makes it even | acquire, release | |
//!
//! The two pairs are a store and then a load of what the other one stores. With a fence between them in both, at least one
//! sees the other: either the round waits for the CPU, or the CPU starts with the round's number, and with its text.
//!
//! Seats are only raised (`fetch_max`): an interrupt can answer a later round between a waiting loop's load and its store.

use crate::address::{TextAddr, TextRange};
use core::sync::atomic::{AtomicU64, Ordering, fence};

/// A word that CPUs share. [`AtomicU64`] is the one that ships; the tests explore the same code with another.
pub(super) trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;
    fn fetch_max(&self, value: u64, order: Ordering) -> u64;
    fn swap(&self, value: u64, order: Ordering) -> u64;
    fn fence(order: Ordering);
}

impl Word for AtomicU64 {
    #[inline]
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
        fence(order);
    }
}

/// What one CPU has answered. A line of its own, since its CPU writes it while others wait for theirs.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Seat<W> {
    /// 1 while the CPU is asked.
    pub(super) online: W,
    pub(super) synchronized: W,
    pub(super) quiescent: W,
    pub(super) held: W,
}

/// The kinds of rounds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Synchronize,
    Quiesce,
    Hold,
}

/// All kinds of rounds among so many CPUs, with room for so many ranges of stubs.
///
/// # Invariants
///
/// 1. Only who has found `asking` 0, and made it 1, writes `looks` and the ranges.
/// 2. The ranges are those of the round `looks`, or are being written for the next one: then nobody waits for `looks` any
///    more, and what a look at a mixture notes is of no use to the next.
/// 3. `holds` is odd while CPUs are held. Only who has found it even, and made it odd, makes it even again.
#[derive(Debug)]
pub(super) struct Protocol<const CPUS: usize, const RANGES: usize, W> {
    pub(super) seats: [Seat<W>; CPUS],
    /// The last number of a round of synchronising.
    pub(super) synchronizes: W,
    /// The last number of a round of quiescence.
    pub(super) looks: W,
    pub(super) asking: W,
    /// The number of the last hold, odd as long as it lasts.
    pub(super) holds: W,
    pub(super) count: W,
    /// Starts and ends.
    pub(super) ranges: [[W; 2]; RANGES],
}

impl<const CPUS: usize, const RANGES: usize> Protocol<CPUS, RANGES, AtomicU64> {
    pub(super) const fn new() -> Self {
        const fn word() -> AtomicU64 {
            AtomicU64::new(0)
        }
        const { assert!(RANGES > 0, "the last range stands for those that have no room") };
        // INVARIANT: 2. no round, and no range. 3. Nobody is held.
        Self {
            seats: [const { Seat { online: word(), synchronized: word(), quiescent: word(), held: word() } }; CPUS],
            synchronizes: word(),
            looks: word(),
            asking: word(),
            holds: word(),
            count: word(),
            ranges: [const { [word(), word()] }; RANGES],
        }
    }
}

impl<const CPUS: usize, const RANGES: usize, W: Word> Protocol<CPUS, RANGES, W> {
    /// Takes a CPU's seat, on that CPU, once nobody is held. `isb` is a context synchronisation event that waits for the loads
    /// before it, `spin` a turn of waiting. Returns whether there is such a seat.
    pub(super) fn go_online(&self, cpu: usize, isb: impl FnOnce(), spin: impl Fn()) -> bool {
        let Some(seat) = self.seats.get(cpu) else { return false };
        seat.online.store(1, Ordering::Relaxed);
        W::fence(Ordering::SeqCst);
        self.wait_while_held(seat, spin);
        let synchronized = self.synchronizes.load(Ordering::Acquire);
        let quiescent = self.looks.load(Ordering::Acquire);
        isb();
        seat.synchronized.fetch_max(synchronized, Ordering::Release);
        seat.quiescent.fetch_max(quiescent, Ordering::Release);
        true
    }

    /// Leaves it: rounds, also those under way, go on without this CPU.
    pub(super) fn go_offline(&self, cpu: usize) {
        if let Some(seat) = self.seats.get(cpu) {
            seat.online.store(0, Ordering::Release);
        }
    }

    pub(super) fn is_online(&self, cpu: usize) -> bool {
        self.seats.get(cpu).is_some_and(|seat| seat.online.load(Ordering::Acquire) != 0)
    }

    /// Whether a CPU other than this one is online.
    pub(super) fn has_others(&self, this: usize) -> bool {
        (0..CPUS).any(|cpu| cpu != this && self.is_online(cpu))
    }

    /// Begins a round of synchronising; returns its number.
    pub(super) fn begin_synchronize(&self) -> u64 {
        let round = self.synchronizes.fetch_add(1, Ordering::AcqRel) + 1;
        W::fence(Ordering::SeqCst);
        round
    }

    /// Executes `isb` and answers, if there is a round that this CPU has not answered. Where CPUs are held, it waits first:
    /// `spin` is a turn of that.
    #[inline]
    pub(super) fn answer(&self, cpu: usize, isb: impl Fn(), spin: impl Fn()) {
        let Some(seat) = self.seats.get(cpu) else { return };
        if self.wait_while_held(seat, spin) {
            isb();
        }
        let round = self.synchronizes.load(Ordering::Acquire);
        // The branch orders the ISB after the load: a round that was seen is one whose text is fetched from here on.
        if seat.synchronized.load(Ordering::Relaxed) < round {
            isb();
            seat.synchronized.fetch_max(round, Ordering::Release);
        }
    }

    /// Begins to hold all other CPUs, on this one; returns the hold's number, or nothing while another CPU holds them.
    pub(super) fn begin_hold(&self, this: usize) -> Option<u64> {
        let last = self.holds.load(Ordering::Relaxed);
        let hold = last + 1;
        if last & 1 == 1 {
            return None;
        }
        // INVARIANT: 3. it was even.
        self.holds.compare_exchange(last, hold, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // Not this CPU, whatever it does meanwhile.
        if let Some(seat) = self.seats.get(this) {
            seat.held.fetch_max(hold, Ordering::Relaxed);
        }
        W::fence(Ordering::SeqCst);
        Some(hold)
    }

    /// Lets the CPUs go on that this hold holds.
    pub(super) fn end_hold(&self, hold: u64) {
        // INVARIANT: 3. it was made odd by who calls this.
        self.holds.store(hold + 1, Ordering::Release);
    }

    /// Waits as long as CPUs are held, unless it is for this one; returns whether they were.
    #[inline]
    fn wait_while_held(&self, seat: &Seat<W>, spin: impl Fn()) -> bool {
        let hold = self.holds.load(Ordering::Acquire);
        if hold & 1 == 0 || seat.held.load(Ordering::Relaxed) >= hold {
            return false;
        }
        seat.held.fetch_max(hold, Ordering::Release);
        while self.holds.load(Ordering::Acquire) == hold {
            spin();
        }
        true
    }

    /// Begins a round of quiescence about these ranges; returns its number, or nothing while another CPU has one.
    pub(super) fn begin_quiesce(&self, stubs: &[TextRange]) -> Option<u64> {
        if self.asking.swap(1, Ordering::Acquire) != 0 {
            return None;
        }
        // INVARIANT: 2. the last round is over. A CPU that answers it late notes that round's number, not this one's.
        self.write_ranges(stubs);
        let round = self.looks.load(Ordering::Relaxed) + 1;
        // Who sees the number sees its ranges.
        self.looks.store(round, Ordering::Release);
        W::fence(Ordering::SeqCst);
        Some(round)
    }

    pub(super) fn end_quiesce(&self) {
        self.asking.store(0, Ordering::Release);
    }

    fn write_ranges(&self, stubs: &[TextRange]) {
        let write = |[start, end]: &[W; 2], range: TextRange| {
            start.store(range.start.get(), Ordering::Relaxed);
            end.store(range.end.get(), Ordering::Relaxed);
        };
        // Without `zip`: what is instantiated here is the kernel's crate's, and traced where it is no part of this function.
        for (number, range) in stubs.iter().enumerate() {
            let Some(place) = self.ranges.get(number) else { break };
            write(place, *range);
        }
        self.count.store(stubs.len().min(RANGES) as u64, Ordering::Relaxed);
        // More than there is room for: the last place spans the rest. What is asked too much can only make a round late.
        let rest = stubs.get(RANGES.saturating_sub(1)..).unwrap_or_default();
        if let (Some(place), [_, _, ..]) = (self.ranges.last(), rest) {
            let used = || rest.iter().filter(|range| !range.is_empty());
            let start = used().map(|range| range.start).min();
            let end = used().map(|range| range.end).max();
            write(place, start.zip(end).map_or(TextRange::EMPTY, |(start, end)| TextRange::new(start, end)));
        }
    }

    /// Notes that this CPU, interrupted at `pc` inside no callback, is quiescent if that is in none of the ranges.
    pub(super) fn look(&self, cpu: usize, pc: TextAddr) {
        let Some((seat, round)) = self.unseen(cpu) else { return };
        let count = self.count.load(Ordering::Relaxed) as usize;
        let contains = |[start, end]: &[W; 2]| {
            let [start, end] = [start, end].map(|bound| TextAddr::new(bound.load(Ordering::Relaxed)));
            TextRange::new(start, end).contains(pc)
        };
        if !self.ranges.iter().take(count).any(contains) {
            // If the ranges are another round's by now, this one's number is of no use to anybody.
            seat.quiescent.fetch_max(round, Ordering::Release);
        }
    }

    /// Notes that this CPU is quiescent, whatever the ranges are: it waits for the engine.
    pub(super) fn note_waiting(&self, cpu: usize) {
        if let Some((seat, round)) = self.unseen(cpu) {
            seat.quiescent.fetch_max(round, Ordering::Release);
        }
    }

    /// The round of quiescence that this CPU was not seen quiescent in, if there is one.
    #[inline]
    fn unseen(&self, cpu: usize) -> Option<(&Seat<W>, u64)> {
        let seat = self.seats.get(cpu)?;
        let round = self.looks.load(Ordering::Acquire);
        (seat.quiescent.load(Ordering::Relaxed) < round).then_some((seat, round))
    }

    /// A CPU that this round still waits for.
    pub(super) fn missing(&self, kind: Kind, round: u64) -> Option<usize> {
        self.seats.iter().position(|seat| {
            let answered = match kind {
                Kind::Synchronize => &seat.synchronized,
                Kind::Quiesce => &seat.quiescent,
                Kind::Hold => &seat.held,
            };
            seat.online.load(Ordering::Acquire) != 0 && answered.load(Ordering::Acquire) < round
        })
    }
}
