//! One instruction with a breakpoint: what the handler of the exception finds, without a lock.

use super::instruction::{Simulated, Way, way};
use super::probe::Kprobe;
use crate::address::TextAddr;
use crate::insn::{BranchOffset, Insn};
use crate::ops::Ops;
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
/// breakpoint was taken out. `first`, and each probe's `next`, is null or lives for ever; so does `called`, where it is not null,
/// which it is not where a jump is in the text.
pub(super) struct Point {
    at: AtomicU64,
    code: AtomicU64,
    word: AtomicU32,
    kind: AtomicU8,
    literal: AtomicU64,
    /// Where the instruction is in its detour, from `code` on; 0 where there is none.
    in_detour: AtomicU32,
    first: AtomicPtr<Kprobe>,
    /// What the detour calls: the ops of its only probe, or one that calls several.
    pub(super) called: AtomicPtr<Ops>,
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
            in_detour: AtomicU32::new(0),
            first: AtomicPtr::new(core::ptr::null_mut()),
            called: AtomicPtr::new(core::ptr::null_mut()),
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
    pub(super) fn set(&self, code: TextAddr, insn: &Instruction, in_detour: usize) {
        let kind = match insn.way {
            Way::OutOfLine => Kind::OutOfLine,
            Way::Leaving => Kind::Leaving,
            Way::Simulated(_) => Kind::Simulated,
        };
        self.code.store(code.get(), Ordering::Relaxed);
        self.word.store(insn.word, Ordering::Relaxed);
        self.kind.store(kind as u8, Ordering::Relaxed);
        self.literal.store(insn.literal, Ordering::Relaxed);
        self.in_detour.store(in_detour as u32, Ordering::Relaxed);
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

    /// B to the detour, which was found to be in reach; else BRK.
    pub(super) fn jump(&self) -> u32 {
        let at = self.at.load(Ordering::Relaxed);
        let offset = self.detour().and_then(|detour| BranchOffset::between(at, detour.get()).ok());
        offset.map_or(brk(BEFORE), |offset| Insn::b(offset).encode())
    }

    /// Where the detour begins, if there is one.
    pub(super) fn detour(&self) -> Option<TextAddr> {
        let has_detour = self.in_detour.load(Ordering::Relaxed) != 0;
        has_detour.then(|| self.code_with_after().offset(CODE_BYTES as i64))
    }

    /// Which instruction of the text one of the point's code stands for.
    pub(super) fn original(&self, pc: TextAddr) -> Option<TextAddr> {
        let (at, offset) = self.in_code(pc)?;
        let in_detour = self.in_detour.load(Ordering::Relaxed).into();
        let is_behind = if offset < CODE_BYTES as u64 { offset & 4 != 0 } else { offset > in_detour };
        Some(if is_behind { at.offset(4) } else { at })
    }

    /// The instruction of the text, if this is the address of a copy of it.
    pub(super) fn copy_of(&self, pc: TextAddr) -> Option<TextAddr> {
        let (at, offset) = self.in_code(pc)?;
        let is_copy = matches!(offset, 0 | 8) || offset == u64::from(self.in_detour.load(Ordering::Relaxed));
        is_copy.then_some(at)
    }

    /// Where the point is, and how far an address is in its code.
    fn in_code(&self, pc: TextAddr) -> Option<(TextAddr, u64)> {
        let bytes = match self.in_detour.load(Ordering::Relaxed) {
            0 => CODE_BYTES as u64,
            in_detour => u64::from(in_detour) + 8,
        };
        let offset = pc.get().checked_sub(self.code_with_after().get()).filter(|offset| *offset < bytes)?;
        Some((self.at()?, offset))
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

    /// Has the detour call the only probe, if there is one only, or by `several` all that are enabled.
    pub(super) fn set_called(&self, several: &'static Ops) {
        let mut probes = self.probes();
        let only = probes.next().filter(|_| probes.next().is_none()).filter(|probe| probe.is_enabled());
        let called = only.map_or(several, |probe| &probe.ops);
        // INVARIANT: it lives for ever.
        self.called.store(core::ptr::from_ref(called).cast_mut(), Ordering::Release);
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
    Insn::brk(comment).encode()
}

/// The code beside the point of this number, which will be at `code`.
pub(super) fn code_words(insn: &Instruction, number: u16, code: TextAddr) -> [u32; CODE_BYTES / 4] {
    let after = brk(AFTER + number);
    let on = BranchOffset::between(code.offset(12).get(), insn.at.offset(4).get());
    // Out of a B's reach, the exception leads on as well.
    let on = on.map_or(after, |offset| Insn::b(offset).encode());
    [insn.word, after, insn.word, on]
}
