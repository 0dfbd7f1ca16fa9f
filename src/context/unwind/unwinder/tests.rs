//! Walks over stacks that were built here, whole and damaged.

use super::{Doubt, FoundBy, Frame, OwnText, Position, Stacks, Unwinder};
use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::context::regs::PtRegs;
use crate::context::shadow::ShadowStack;
use crate::context::unwind::{Cfa, FpHolds, Piece, ReturnAddress, Row, Unknown, UnwindTable, encode};
use core::ops::Range;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;
extern crate std;

mod reliable;

const NOP: u32 = 0xd503_201f;
const BL: u32 = 0x9400_0010;
const BLR: u32 = 0xd63f_0100;
const RET: u32 = 0xd65f_03c0;

/// The frames' sizes, of the outermost function first. No two are the same, so that one can't pass for another.
const SIZES: [u32; 4] = [48, 80, 32, 112];
/// A function: its frame is made by two instructions, it calls, and takes the frame down by one.
const WORDS: [u32; 6] = [0xa9be_7bfd, 0x9100_03fd, NOP, BL, NOP, RET];
const CALL: u64 = 3;
/// The first code of all: a call.
const FIRST: [u32; 4] = [NOP, BL, NOP, NOP];

/// Text, its table, and a stack, at the addresses where they really are.
struct World {
    text: Box<[u32]>,
    table: Vec<u8>,
    stack: Box<[u128]>,
    /// The SP of the code that saves what was interrupted.
    handler: Option<u64>,
    /// Where the stack is said to end, if not where it does.
    stack_ends: Option<u64>,
    /// Where another stack begins, if there are two.
    split_at: Option<u64>,
}

// SAFETY: 1. The stack is this world's, which lives as long as a walk borrows it.
unsafe impl Stacks for World {
    fn stack_around(&self, address: u64) -> Option<Range<u64>> {
        let whole = self.stack_range();
        let end = self.stack_ends.unwrap_or(whole.end);
        let middle = self.split_at.unwrap_or(whole.start);
        let mut stacks = [whole.start..middle, middle..end].into_iter();
        stacks.find(|stack| stack.contains(&address))
    }

    fn interrupted(&self, pc: TextAddr, sp: u64) -> Option<u64> {
        (pc.get() == self.text_start() + 8 && self.handler == Some(sp)).then_some(sp + 16)
    }
}

const fn row(cfa: u32, fp: FpHolds, record: Option<u32>) -> Row {
    let return_address = match record {
        Some(below) => ReturnAddress::Saved(below - 8),
        None => ReturnAddress::Lr,
    };
    Row { cfa: Cfa::Sp(cfa), fp, saved_fp: record, return_address, is_signed: false }
}

fn rows(size: u32) -> Vec<(u32, Result<Row, Unknown>)> {
    let outside = Ok(row(0, FpHolds::Callers, None));
    let pushed = Ok(row(size, FpHolds::Callers, Some(size)));
    let inside = Ok(row(size, FpHolds::Frame(size), Some(size)));
    vec![(0, outside), (1, pushed), (2, inside), (5, outside)]
}

impl World {
    fn new() -> Self {
        let last = SIZES.len() - 1;
        Self::with(last, rows(SIZES[last]))
    }

    /// With other rows for one of the functions.
    fn with(function: usize, other: Vec<(u32, Result<Row, Unknown>)>) -> Self {
        let words: Vec<u32> = FIRST.into_iter().chain(SIZES.into_iter().flat_map(|_| WORDS)).collect();
        let text = words.into_boxed_slice();
        let start = text.as_ptr().expose_provenance() as u64;
        let mut pieces = vec![Piece { start, rows: vec![(0, Ok(Row::END)), (2, Err(Unknown::NotReached))] }];
        for (index, size) in SIZES.into_iter().enumerate() {
            pieces.push(Piece { start: start + 16 + 24 * index as u64, rows: rows(size) });
        }
        pieces[1 + function].rows = other;
        let table = encode(&pieces, start + size_of_val(&*text) as u64, 0).unwrap();
        Self { text, table, stack: vec![0; 128].into_boxed_slice(), handler: None, stack_ends: None, split_at: None }
    }

    fn text_start(&self) -> u64 {
        self.text.as_ptr().expose_provenance() as u64
    }

    fn address(&self, function: usize, word: u64) -> u64 {
        self.text_start() + 16 + 24 * function as u64 + 4 * word
    }

    fn stack_range(&self) -> Range<u64> {
        let start = self.stack.as_ptr().expose_provenance() as u64;
        start..start + size_of_val(&*self.stack) as u64
    }

    fn write(&mut self, address: u64, value: u64) {
        let at = (address - self.stack_range().start) as usize;
        let shift = 8 * (at % 16);
        let place = &mut self.stack[at / 16];
        *place = *place & !(u128::from(u64::MAX) << shift) | u128::from(value) << shift;
    }

    fn word(&self, address: u64) -> u64 {
        let at = (address - self.stack_range().start) as usize;
        (self.stack[at / 16] >> (8 * (at % 16))) as u64
    }

    /// The registers where the last function is interrupted before this word of it, on a stack that is built from here
    /// down; and where each frame of the walk goes on.
    fn interrupted_at(&mut self, word: u64, from: u64) -> (PtRegs, Vec<u64>) {
        let (mut sp, mut fp, mut lr) = (from, 0, self.text_start() + 8);
        let mut goes_on = vec![lr];
        for (function, size) in SIZES.into_iter().enumerate() {
            let is_last = function + 1 == SIZES.len();
            let at = if is_last { word } else { CALL };
            // As the instructions do.
            if (1..5).contains(&at) {
                sp -= u64::from(size);
                self.write(sp, fp);
                self.write(sp + 8, lr);
            }
            if (2..5).contains(&at) {
                fp = sp;
            }
            if is_last {
                goes_on.push(self.address(function, at));
            } else {
                lr = self.address(function, at + 1);
                goes_on.push(lr);
            }
        }
        goes_on.reverse();
        let mut regs = PtRegs { regs: [0; 31], sp, pc: goes_on[0], pstate: 0 };
        (regs.regs[29], regs.regs[30]) = (fp, lr);
        (regs, goes_on)
    }

    fn walk(&self, regs: &PtRegs) -> (Vec<Frame>, bool) {
        // What was written since would have taken the address's provenance away.
        self.stack.as_ptr().expose_provenance();
        let tables = [UnwindTable::parse(&self.table).unwrap()];
        // SAFETY: 1. The text is at these addresses. 2. Nothing runs on the stack.
        let mut walk = unsafe { Unwinder::new(regs, &tables, self) };
        let frames: Vec<Frame> = walk.by_ref().take(100).collect();
        assert!(frames.len() < 100, "it ends");
        (frames, walk.is_complete())
    }
}

fn places(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.pc.get()).collect()
}

#[test]
fn every_caller_is_found_from_every_instruction() {
    let mut world = World::new();
    for word in 0..WORDS.len() as u64 {
        let top = world.stack_range().end;
        let (regs, expected) = world.interrupted_at(word, top);
        let (frames, is_complete) = world.walk(&regs);
        assert_eq!(places(&frames), expected, "{word}");
        assert!(is_complete && frames.iter().all(Frame::is_reliable), "{word}: {frames:?}");
        let call = world.address(2, CALL);
        assert_eq!((frames[0].place.get(), frames[1].place.get()), (regs.pc, call));
    }
}

/// A walk over a damaged stack: it is not complete, or right; and, but where one call passes for another, each frame that is
/// reliable is a caller.
fn assert_never_reliable_and_wrong(world: &World, regs: &PtRegs, expected: &[u64], may_pass: bool, what: &str) {
    let (frames, is_complete) = world.walk(regs);
    assert!(!is_complete || places(&frames) == expected, "{what}: {frames:#x?}");
    let reliable = frames.iter().take_while(|frame| frame.is_reliable()).count();
    assert!(may_pass || expected.starts_with(&places(&frames[..reliable])), "{what}: {frames:#x?}");
    // What comes after a doubt has it, too.
    assert!(frames[reliable..].iter().all(|frame| frame.doubt.is_some()), "{what}: {frames:?}");
}

#[test]
fn a_damaged_stack_is_never_reliable_and_wrong_and_the_walk_ends() {
    let mut world = World::new();
    let range = world.stack_range();
    for word in if cfg!(miri) { 2..3 } else { 0..WORDS.len() as u64 } {
        let (regs, expected) = world.interrupted_at(word, range.end);
        let mut other_values =
            vec![0, 1, 8, 16, u64::MAX, u64::MAX - 15, 1 << 63, range.start, range.end, range.end - 16];
        other_values.extend([world.text_start(), world.text_start() + 8, regs.sp, regs.sp + 16]);
        other_values.extend((0..SIZES.len()).map(|function| world.address(function, CALL + 1)));
        other_values.extend((0..64).map(|bit| 1 << bit));
        for at in (regs.sp..range.end).step_by(8) {
            let right = world.word(at);
            let damages = other_values.iter().flat_map(|value| [*value, right ^ *value, right.wrapping_add(*value)]);
            // Zeros for both words of the outermost record are how a chain of records ends (AAPCS64 6.4.6).
            let is_end = |damage: u64| at == range.end - u64::from(SIZES[0]) + 8 && damage == 0;
            let damages = damages.filter(|damage| !is_end(*damage)).step_by(if cfg!(miri) { 29 } else { 1 });
            for damage in damages.collect::<Vec<_>>() {
                world.write(at, damage);
                // Of the return to the outermost function there is nothing further out that would show it.
                let is_last = at == range.end - u64::from(SIZES[0] + SIZES[1]) + 8;
                let is_call = (0..SIZES.len()).any(|function| damage == world.address(function, CALL + 1));
                let what = std::format!("{at:#x} is {damage:#x}");
                if is_call && is_last {
                    drop(world.walk(&regs));
                    continue;
                }
                assert_never_reliable_and_wrong(&world, &regs, &expected, is_call, &what);
            }
            world.write(at, right);
        }
        for register in [29, 30, 31] {
            for value in &other_values {
                let mut damaged = regs;
                match damaged.regs.get_mut(register) {
                    Some(register) => *register ^= value,
                    None => damaged.sp ^= value,
                }
                // x30 and SP are what the exception says; where they decide alone, there is nothing to compare with.
                if register == 29 {
                    assert_never_reliable_and_wrong(&world, &damaged, &expected, false, "x29");
                }
                drop(world.walk(&damaged));
            }
        }
    }
}

#[test]
fn a_walk_goes_on_over_an_exception_and_onto_another_stack() {
    let mut world = World::new();
    let range = world.stack_range();
    let middle = range.start + (range.end - range.start) / 2;
    let (regs, below) = world.interrupted_at(1, range.end);
    // The handler's frames are a chain of their own; what has called its outermost is the vector.
    let frame = middle;
    for (index, value) in regs.regs.iter().chain([&regs.sp, &regs.pc, &0]).enumerate() {
        world.write(frame + 16 + 8 * index as u64, *value);
    }
    let (in_handler, mut expected) = world.interrupted_at(2, frame);
    world.handler = Some(frame);
    expected.extend(below);
    let (frames, is_complete) = world.walk(&in_handler);
    assert_eq!(places(&frames), expected);
    assert!(frames.iter().all(Frame::is_reliable) && is_complete, "{frames:#x?}");
    assert_eq!(frames[SIZES.len() + 1].found_by, FoundBy::Exception);
    // Registers that lead round in a circle.
    world.write(frame + 16 + 8 * 31, frame);
    world.write(frame + 16 + 8 * 32, world.text_start() + 8);
    drop(world.walk(&in_handler));
}

#[test]
fn without_a_table_records_are_followed_and_nothing_is_reliable() {
    let mut world = World::new();
    let top = world.stack_range().end;
    let (regs, expected) = world.interrupted_at(2, top);
    world.stack.as_ptr().expose_provenance();
    // SAFETY: 1. There is no table. 2. Nothing runs on the stack.
    let frames: Vec<Frame> = unsafe { Unwinder::new(&regs, &[], &world) }.collect();
    assert_eq!(places(&frames), expected);
    assert!(frames[0].is_reliable() && frames[1..].iter().all(|frame| frame.found_by == FoundBy::Record));
    let why = Unknown::NoText;
    assert!(frames[1..].iter().all(|frame| frame.doubt == Some(Doubt::NoRow { pc: TextAddr::new(regs.pc), why })));
}

#[test]
fn what_is_not_behind_a_call_is_doubted() {
    let mut world = World::new();
    let top = world.stack_range().end;
    let (regs, expected) = world.interrupted_at(2, top);
    // The second caller's call is an indirect one, then none.
    let at = 4 + 6 * 2 + CALL as usize;
    for (instruction, is_call) in [(BLR, true), (RET, false), (NOP, false)] {
        world.text[at] = instruction;
        world.text.as_ptr().expose_provenance();
        let (frames, is_complete) = world.walk(&regs);
        assert_eq!(places(&frames), expected);
        assert_eq!((is_complete, frames[1].is_reliable()), (is_call, is_call));
        let doubt = Doubt::NotACall { return_address: TextAddr::new(expected[1]) };
        assert_eq!(frames[1].doubt, (!is_call).then_some(doubt));
    }
}

#[test]
fn a_hooked_return_is_named_by_the_shadow_stack_or_doubted() {
    const STUB: u64 = 0x7000;
    let mut world = World::new();
    let top = world.stack_range().end;
    let (regs, expected) = world.interrupted_at(2, top);
    // The last function's return is hooked twice.
    let sp = regs.sp + u64::from(SIZES[3]);
    let real = world.word(regs.sp + 8);
    world.write(regs.sp + 8, STUB);
    world.stack.as_ptr().expose_provenance();
    let stack = ShadowStack::<8>::new();
    let context = TraceContext::new();
    // SAFETY: it is this context's, and outlives it here; nothing returns.
    unsafe { context.set_shadow_stack(&stack) };
    let tables = [UnwindTable::parse(&world.table).unwrap()];
    for (hooked, is_found) in [(&[(real, sp), (STUB, sp)][..], true), (&[(real, sp + 16)], false)] {
        context.calls.push_all(hooked);
        let position = Position::of_regs(&regs, FoundBy::Start);
        let mut walk = Unwinder::at(position, &tables, &world, OwnText::NONE);
        walk.hooked = Some(super::Hooked::of(&context, TextAddr::new(STUB)));
        let frames: Vec<Frame> = walk.by_ref().collect();
        assert_eq!(walk.is_complete(), is_found);
        if is_found {
            assert_eq!((places(&frames), frames[1].found_by), (expected.clone(), FoundBy::Hook));
        } else {
            assert_eq!(frames[1].doubt, Some(Doubt::NotHooked { sp }));
        }
        while let Some(frame) = context.calls.iter().next() {
            context.calls.give_back(frame);
        }
    }
}
