//! What Linux asks of a reliable stack trace (Documentation/livepatch/reliable-stacktrace.rst, section 4), item by item.

use super::*;
use crate::address::TextRange;
use crate::callsite::MOV_X9_LR;

fn top_of(world: &World) -> u64 {
    world.stack_range().end
}

/// "Identifying successful termination": a walk ends where the kernel says that it ends, or it is not complete.
#[test]
fn a_walk_that_ends_before_the_outermost_code_is_not_complete() {
    let mut world = World::new();
    let top = top_of(&world);
    let outermost = top - u64::from(SIZES[0]);
    let (regs, expected) = world.interrupted_at(2, top);
    // x29 is not zero; there is another address in place of the return, or none.
    let endings = [(outermost, 0x10), (outermost + 8, 0x7000), (outermost + 8, expected[1])];
    for (at, value) in endings {
        let right = world.word(at);
        world.write(at, value);
        let (frames, is_complete) = world.walk(&regs);
        assert!(!is_complete && frames.len() >= SIZES.len(), "{at:#x} {value:#x}: {frames:#x?}");
        world.write(at, right);
    }
    // The stack is said to end too early: before the outermost record, or before the frame that it is of does.
    for end in [outermost, outermost + 16, top - 16] {
        world.stack_ends = Some(end);
        let (frames, is_complete) = world.walk(&regs);
        assert!(!is_complete && frames.iter().all(|frame| expected.contains(&frame.pc.get())), "{frames:#x?}");
    }
    world.stack_ends = None;
    assert!(world.walk(&regs).1);
}

/// "Identifying unwindable code": of what no row tells, nothing is believed but that it was interrupted there.
#[test]
fn code_without_a_row_is_not_unwound() {
    let mut world = World::new();
    let top = top_of(&world);
    let (regs, _) = world.interrupted_at(2, top);
    let places = [
        (0, Unknown::NoText),
        (0x7000, Unknown::NoText),
        (world.text_start() + 8, Unknown::NotReached),
        // Not an instruction's address.
        (world.text_start() - 2, Unknown::NoText),
    ];
    for (pc, why) in places {
        let (frames, is_complete) = world.walk(&PtRegs { pc, ..regs });
        assert!(!is_complete && frames[0].is_reliable() && frames.len() > 1);
        let doubt = Some(Doubt::NoRow { pc: TextAddr::new(pc), why });
        assert!(frames[1..].iter().all(|frame| frame.doubt == doubt), "{frames:#x?}");
    }
}

/// "Unwinding across interrupts and exceptions": at any instruction, also the first one of a function, which no call is before.
#[test]
fn what_an_exception_interrupts_is_taken_as_it_is() {
    for word in 0..WORDS.len() as u64 {
        let mut world = World::new();
        let range = world.stack_range();
        let frame = range.start + (range.end - range.start) / 2;
        let (mut regs, below) = world.interrupted_at(word, range.end);
        // The frame is not there before it is made, nor after.
        if (1..5).contains(&word) {
            regs.regs[30] = 0x7000;
        }
        for (index, value) in regs.regs.iter().chain([&regs.sp, &regs.pc, &0]).enumerate() {
            world.write(frame + 16 + 8 * index as u64, *value);
        }
        let (in_handler, mut expected) = world.interrupted_at(2, frame);
        world.handler = Some(frame);
        expected.extend(below);
        let (frames, is_complete) = world.walk(&in_handler);
        assert!(is_complete && places(&frames) == expected, "{word}: {frames:#x?}");
        let interrupted = frames.iter().find(|frame| frame.found_by == FoundBy::Exception).unwrap();
        assert_eq!((interrupted.pc.get(), interrupted.place.get()), (regs.pc, regs.pc));
    }
}

/// "Rewriting of return addresses": what stands in its place is never taken for a caller.
#[test]
fn a_hook_that_nobody_tells_of_is_no_caller() {
    const STUB: u64 = 0x7000;
    let mut world = World::new();
    let top = top_of(&world);
    let (regs, _) = world.interrupted_at(2, top);
    world.write(regs.sp + 8, STUB);
    let (frames, is_complete) = world.walk(&regs);
    let doubt = Some(Doubt::NotACall { return_address: TextAddr::new(STUB) });
    assert_eq!((is_complete, frames[1].pc.get(), frames[1].doubt), (false, STUB, doubt));
}

/// "Obscuring of return addresses": where it is in another register, that is believed as long as it is known.
#[test]
fn a_return_address_in_another_register_is_found_there_or_doubted() {
    let in_x9 = Row { return_address: ReturnAddress::Register(9), ..row(0, FpHolds::Callers, None) };
    let last = SIZES.len() - 1;
    let mut world = World::with(last, vec![(0, Ok(in_x9))]);
    let top = top_of(&world);
    let (mut regs, expected) = world.interrupted_at(0, top);
    regs.regs[9] = core::mem::replace(&mut regs.regs[30], 0x7000);
    let (frames, is_complete) = world.walk(&regs);
    assert!(is_complete && places(&frames) == expected, "{frames:#x?}");
    // Of a function that has called, it is not known any more.
    let size = SIZES[last - 1];
    let in_x9 = Row { return_address: ReturnAddress::Register(9), ..row(size, FpHolds::Frame(size), Some(size)) };
    let mut world = World::with(last - 1, vec![(0, Ok(in_x9))]);
    let top = top_of(&world);
    let (regs, _) = world.interrupted_at(2, top);
    let (frames, is_complete) = world.walk(&regs);
    let pc = TextAddr::new(world.address(last - 1, CALL));
    assert_eq!((is_complete, frames[1].doubt), (false, Some(Doubt::InRegister { pc })));
}

/// "Link register unreliability": behind a call x30 is stale, and a trap may have been laid by ADR.
#[test]
fn a_stale_link_register_is_not_looked_at() {
    let mut world = World::new();
    let top = top_of(&world);
    for word in 1..5 {
        let (mut regs, expected) = world.interrupted_at(word, top);
        for stale in [world.address(3, CALL + 1), world.address(0, CALL + 1), 0] {
            regs.regs[30] = stale;
            let (frames, is_complete) = world.walk(&regs);
            assert!(is_complete && places(&frames) == expected, "{word} {stale:#x}: {frames:#x?}");
        }
    }
    let (mut regs, _) = world.interrupted_at(0, top);
    let return_address = TextAddr::new(world.address(1, 2));
    regs.regs[30] = return_address.get();
    let (frames, is_complete) = world.walk(&regs);
    assert_eq!((is_complete, frames[1].doubt), (false, Some(Doubt::NotACall { return_address })));
}

/// A stack switched in the midst of a function: its frame is where x29 says, on the stack before.
#[test]
fn a_function_that_changes_the_stack_is_found_on_both() {
    let last = SIZES.len() - 1;
    let size = SIZES[last];
    let by_fp = Row { cfa: Cfa::Fp(size), ..row(size, FpHolds::Frame(size), Some(size)) };
    let mut world = World::with(last, vec![(0, Ok(by_fp))]);
    let range = world.stack_range();
    let middle = range.start + (range.end - range.start) / 2;
    world.split_at = Some(middle);
    let (mut regs, expected) = world.interrupted_at(2, range.end);
    regs.sp = middle;
    let (frames, is_complete) = world.walk(&regs);
    assert!(is_complete && places(&frames) == expected, "{frames:#x?}");
    // Where x29 leads nowhere, so does the walk.
    regs.regs[29] = 0x10;
    let (frames, is_complete) = world.walk(&regs);
    assert!(!is_complete && frames.len() == 1, "{frames:#x?}");
}

/// In a veneer, x30 and x9 are as its caller has left them.
#[test]
fn a_veneer_is_gone_over_to_who_called_it() {
    // movz x16, #1; movk x16, #2, lsl #16; br x16
    const VENEER: [u32; 4] = [0xd280_0030, 0xf2a0_0050, 0xd61f_0200, 0];
    let mut world = World::new();
    let top = top_of(&world);
    let (regs, expected) = world.interrupted_at(0, top);
    #[repr(align(16))]
    struct Room([u32; 8]);
    let mut room = Room([0; 8]);
    room.0[4..].copy_from_slice(&VENEER);
    let start = room.0.as_ptr().expose_provenance() as u64;
    let rooms = [TextRange::new(TextAddr::new(start), TextAddr::new(start + 32))];
    world.stack.as_ptr().expose_provenance();
    let tables = [UnwindTable::parse(&world.table).unwrap()];
    for word in 0..8 {
        let at = PtRegs { pc: start + 4 * word, ..regs };
        // SAFETY: 1. The text is at these addresses. 2. Nothing runs on the stack.
        let walk = unsafe { Unwinder::new(&at, &tables, &world) };
        // SAFETY: 1. It is there.
        let mut walk = unsafe { walk.with_veneers(&rooms) };
        let frames: Vec<Frame> = walk.by_ref().collect();
        let is_veneer = (4..7).contains(&word);
        assert_eq!(walk.is_complete(), is_veneer, "{word}");
        assert!(!is_veneer || places(&frames)[1..] == expected[1..], "{frames:#x?}");
    }
    // From a callsite, which has put the return address into x9 and its own into x30.
    let last = SIZES.len() - 1;
    let mut world = World::with(last, vec![(0, Ok(row(0, FpHolds::Callers, None)))]);
    let top = top_of(&world);
    let (mut regs, mut expected) = world.interrupted_at(0, top);
    let callsite = world.address(last, CALL - 1);
    world.text[4 + 6 * last + CALL as usize - 1] = MOV_X9_LR;
    (regs.pc, regs.regs[9]) = (start + 16, regs.regs[30]);
    regs.regs[30] = callsite + 8;
    expected.splice(..1, [regs.pc, callsite + 8]);
    world.text.as_ptr().expose_provenance();
    world.stack.as_ptr().expose_provenance();
    let tables = [UnwindTable::parse(&world.table).unwrap()];
    // SAFETY: as above.
    let walk = unsafe { Unwinder::new(&regs, &tables, &world) };
    // SAFETY: as above.
    let mut walk = unsafe { walk.with_veneers(&rooms) };
    let frames: Vec<Frame> = walk.by_ref().collect();
    assert!(walk.is_complete() && places(&frames) == expected, "{frames:#x?}");
}
