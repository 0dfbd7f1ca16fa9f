//! One instruction with a breakpoint: what the handler of the exception finds, without a lock.

use super::instruction::{Simulated, Way, way};
use super::probe::Kprobe;
use crate::address::TextAddr;
use crate::insn::{Branch, BranchOffset, Exception, Insn, System, UImm};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The comment of a probe's BRK, to which the number of its point is added.
pub(super) const BEFORE: u16 = 0x6000;
/// The comment of the BRK behind an instruction that was carried out elsewhere.
pub(super) const AFTER: u16 = 0x7000;

/// The bytes of the code beside a point: the instruction and BRK, for points with a handler behind it; the instruction and what
/// leads on, for the others and for what is missed.
pub(super) const CODE_BYTES: usize = 16;

/// How the instruction is carried out: what is looked at first.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    OutOfLine,
    Leaving,
    Simulated,
}

/// An instruction with a breakpoint.
///
/// # Invariants
///
/// Where `at` is not 0, the rest is that of the instruction there, and stays so until every CPU was seen quiescent after the
/// breakpoint was taken out. `first`, and each probe's `next`, is null or lives for ever.
pub(super) struct Point {
    at: AtomicU64,
    code: AtomicU64,
    word: AtomicU32,
    kind: AtomicU8,
    literal: AtomicU64,
    first: AtomicPtr<Kprobe>,
}

/// What a point's instruction is, and where its code is.
pub(super) struct Instruction {
    pub(super) at: TextAddr,
    pub(super) word: u32,
    pub(super) way: Way,
    /// What it loads, if it loads a literal.
    pub(super) literal: u64,
}

impl Point {
    pub(super) const fn new() -> Self {
        // INVARIANT: no instruction.
        Self {
            at: AtomicU64::new(0),
            code: AtomicU64::new(0),
            word: AtomicU32::new(0),
            kind: AtomicU8::new(0),
            literal: AtomicU64::new(0),
            first: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Where it is, if it is in use.
    #[inline]
    pub(super) fn at(&self) -> Option<TextAddr> {
        match self.at.load(Ordering::Acquire) {
            0 => None,
            at => Some(TextAddr::new(at)),
        }
    }

    pub(super) fn word(&self) -> u32 {
        self.word.load(Ordering::Relaxed)
    }

    /// Puts it into use, without probes. It was free, and no CPU looks at it.
    pub(super) fn set(&self, code: TextAddr, insn: &Instruction) {
        let kind = match insn.way {
            Way::OutOfLine => Kind::OutOfLine,
            Way::Leaving => Kind::Leaving,
            Way::Simulated(_) => Kind::Simulated,
        };
        self.code.store(code.get(), Ordering::Relaxed);
        self.word.store(insn.word, Ordering::Relaxed);
        self.kind.store(kind as u8, Ordering::Relaxed);
        self.literal.store(insn.literal, Ordering::Relaxed);
        self.first.store(core::ptr::null_mut(), Ordering::Relaxed);
        // INVARIANT: all of it was stored before.
        self.at.store(insn.at.get(), Ordering::Release);
    }

    /// Takes it out of use. Every CPU was seen quiescent after the breakpoint was taken out.
    pub(super) fn free(&self) {
        self.at.store(0, Ordering::Release);
    }

    /// What is simulated here, with the literal that it loads; `None` where the instruction is carried out elsewhere.
    #[inline]
    pub(super) fn simulated(&self, at: TextAddr) -> Option<(Simulated, u64)> {
        if self.kind.load(Ordering::Relaxed) != Kind::Simulated as u8 {
            return None;
        }
        match way(at, self.word()) {
            Ok(Way::Simulated(insn)) => Some((insn, self.literal.load(Ordering::Relaxed))),
            _ => None,
        }
    }

    /// Where its instruction is carried out, and execution comes back to by a BRK.
    pub(super) fn code_with_after(&self) -> TextAddr {
        TextAddr::new(self.code.load(Ordering::Relaxed))
    }

    /// Where it is carried out without anything behind it.
    pub(super) fn code_without_after(&self) -> TextAddr {
        self.code_with_after().offset(8)
    }

    /// Which instruction of the text one of the point's code stands for.
    pub(super) fn original(&self, pc: TextAddr) -> Option<TextAddr> {
        let at = self.at()?;
        let offset = pc.get().checked_sub(self.code_with_after().get()).filter(|offset| *offset < CODE_BYTES as u64)?;
        Some(if offset & 4 == 0 { at } else { at.offset(4) })
    }

    /// Its probes, in the order in which they were registered.
    #[inline]
    pub(super) fn probes(&self) -> impl Iterator<Item = &'static Kprobe> {
        let mut place = &self.first;
        core::iter::from_fn(move || {
            // SAFETY: null, or there for ever, by the type's invariant.
            let probe = unsafe { place.load(Ordering::Acquire).as_ref::<'static>() }?;
            place = &probe.next;
            Some(probe)
        })
    }

    /// Whether a probe here wants to be called.
    pub(super) fn is_wanted(&self) -> bool {
        self.probes().any(Kprobe::is_enabled)
    }

    /// Adds a probe behind the others. Only who has the lock adds and removes.
    pub(super) fn add(&self, probe: &'static Kprobe) {
        probe.next.store(core::ptr::null_mut(), Ordering::Relaxed);
        let last = self.probes().last();
        let place = last.map_or(&self.first, |last| &last.next);
        // INVARIANT: a probe that lives for ever.
        place.store(core::ptr::from_ref(probe).cast_mut(), Ordering::Release);
    }

    /// Takes a probe out. Who is at it goes on from there, so it keeps its `next`.
    pub(super) fn remove(&self, probe: &'static Kprobe) {
        let mut place = &self.first;
        for known in self.probes() {
            if core::ptr::eq(known, probe) {
                place.store(known.next.load(Ordering::Relaxed), Ordering::Release);
                return;
            }
            place = &known.next;
        }
    }
}

/// BRK with this comment.
pub(super) const fn brk(comment: u16) -> u32 {
    Insn::System(System::Exception { kind: Exception::Brk, imm: UImm::truncated(comment as u32) }).encode()
}

/// The code beside the point of this number, which will be at `code`.
pub(super) fn code_words(insn: &Instruction, number: u16, code: TextAddr) -> [u32; CODE_BYTES / 4] {
    let after = brk(AFTER + number);
    let on = BranchOffset::between(code.offset(12).get(), insn.at.offset(4).get());
    // Out of a B's reach, the exception leads on as well.
    let on = on.map_or(after, |offset| Insn::Branch(Branch::B { offset }).encode());
    [insn.word, after, insn.word, on]
}
