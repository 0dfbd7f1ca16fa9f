//! From a frame to its caller, with a verdict each time.

use crate::address::{TextAddr, TextRange};
use crate::callsite::MOV_X9_LR;
use crate::callsite::veneer::ENTRY_BYTES;
use crate::context::TraceContext;
use crate::context::regs::{FtraceRegs, PtRegs};
use crate::context::shadow::return_stub;
use crate::insn::{Flow, Insn, MemoryUse, Reg};
use core::fmt;
use core::mem::offset_of;
use core::ops::Range;

use super::own::{Contract, Held, OwnText, StubState};
use super::records::{Hooked, strip};
use super::row::{Cfa, FpHolds, ROW_LEN, ReturnAddress, Row, Unknown, of_checked};
use super::table::UnwindTable;
use super::verdict::{Doubt, FoundBy, Frame};

/// How often a walk goes from one stack to another.
const MAX_STACKS: u8 = 8;
const FP: usize = 29;
const LR: usize = 30;
const X9: usize = 9;
/// BL, by its upper bits: by far the most calls are one, and need not be decoded (Arm ARM C6.2.42).
const BL: u32 = 0b10_0101;
const BL_SHIFT: u32 = 26;
/// What addresses on one page, of the smallest size that there is, have in common.
const PAGE_MASK: u64 = !0xfff;

/// What an unwinder asks of a kernel.
///
/// # Safety
///
/// 1. A stack that is named can be read, all of it, as long as a walk goes on.
pub unsafe trait Stacks {
    /// The stack that has this address, from its lowest address to behind its highest, if it is one of the kernel's.
    fn stack_around(&self, address: u64) -> Option<Range<u64>>;

    /// Where the registers of what was interrupted are, as a [`PtRegs`], if `pc` is a return address in the code that has
    /// saved them, an exception vector, whose SP is `sp`. Else the walk ends there.
    fn interrupted(&self, pc: TextAddr, sp: u64) -> Option<u64> {
        let _ = (pc, sp);
        None
    }
}

/// Where the walk is.
#[derive(Clone, Debug)]
struct Position {
    pc: u64,
    /// Whether `pc` is a return address. Else it is the instruction that will run next.
    is_called: bool,
    sp: u64,
    /// Whether SP is exactly so, and not only this or higher.
    is_sp_exact: bool,
    fp: u64,
    /// x30, where it is known.
    lr: Option<u64>,
    /// Whether the walk's `x` is of this place.
    has_registers: bool,
    found_by: FoundBy,
}

impl Position {
    fn of_regs(regs: &PtRegs, found_by: FoundBy) -> Self {
        let lr = Some(regs.regs[LR]);
        let (pc, sp, fp) = (regs.pc, regs.sp, regs.regs[FP]);
        Self { pc, is_called: false, sp, is_sp_exact: true, fp, lr, has_registers: true, found_by }
    }

    /// A call that is under way: no register but SP and x29 is known.
    fn called(pc: u64, sp: u64, fp: u64, found_by: FoundBy) -> Self {
        Self { pc, is_called: true, sp, is_sp_exact: true, fp, lr: None, has_registers: false, found_by }
    }

    /// Code that goes on at `pc` when what it came to is over, and then has this in x30.
    fn resumed(pc: u64, sp: u64, fp: u64, lr: u64) -> Self {
        Self { is_called: false, lr: Some(lr), ..Self::called(pc, sp, fp, FoundBy::Stub) }
    }

    fn place(&self) -> TextAddr {
        TextAddr::new(if self.is_called { self.pc.wrapping_sub(4) } else { self.pc })
    }
}

/// A walk from a place in the kernel to its callers, by unwind tables.
///
/// Where a table has no row, or there is no table, it goes on by frame records, as [`Frames`](super::Frames) does; the frames
/// that it finds from there on have a doubt.
///
/// SP and the rows tell where a return address is, x29 must be what the row says, a call must stand before the return address,
/// and nothing is read outside of the stack, or twice. The first disagreement is a doubt about all that follows. Where the stack
/// was damaged so that one call's return address took another one's place, it may show a frame or two later (of the return to the
/// outermost function, not at all); so who acts upon a trace waits for its end, and asks whether it
/// [is complete](Self::is_complete). The walk ends at any input.
///
/// # Invariants
///
/// `stack` is one that `stacks` has named.
pub struct Unwinder<'a> {
    tables: &'a [UnwindTable<'a>],
    stacks: &'a dyn Stacks,
    own: OwnText,
    hooked: Option<Hooked<'a>>,
    veneers: &'a [TextRange],
    stack: Range<u64>,
    stacks_left: u8,
    next: Option<Position>,
    /// x0 to x30 of the last place that they were known of. Not in each place, which is copied.
    x: [u64; 31],
    /// The last row that was looked up: a call's is wanted twice.
    last: (TextAddr, Option<&'a [u8; ROW_LEN]>),
    doubt: Option<Doubt>,
    is_complete: bool,
}

impl<'a> Unwinder<'a> {
    /// Walks from these registers: at an exception, or of a thread that does not run.
    ///
    /// # Safety
    ///
    /// 1. The tables are of text that is mapped where they say.
    /// 2. The stack that the registers are of does not run while this is used, but for what is below its SP, and what it is
    ///    of is not given back.
    pub unsafe fn new(regs: &PtRegs, tables: &'a [UnwindTable<'a>], stacks: &'a dyn Stacks) -> Self {
        let start = Self::at(Position::of_regs(regs, FoundBy::Start), tables, stacks, OwnText::linked());
        Self { x: regs.regs, ..start }
    }

    /// Walks from the function whose callsite has called a callback.
    ///
    /// # Safety
    ///
    /// 1. The tables are of text that is mapped where they say.
    pub unsafe fn of_call(regs: &'a FtraceRegs<'_>, tables: &'a [UnwindTable<'a>], stacks: &'a dyn Stacks) -> Self {
        let (pc, sp, fp) = (regs.pc().get(), regs.stack_pointer(), regs.frame_pointer());
        let position = Position::resumed(pc, sp, fp, regs.return_address().get());
        Self::at(Position { found_by: FoundBy::Start, ..position }, tables, stacks, OwnText::linked())
    }

    /// Walks from where this is called.
    ///
    /// # Safety
    ///
    /// 1. The tables are of text that is mapped where they say.
    /// 2. This is used only until the function that calls this returns.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub unsafe fn here(tables: &'a [UnwindTable<'a>], stacks: &'a dyn Stacks) -> Self {
        let (lr, fp, sp, pc): (u64, u64, u64, u64);
        // SAFETY: reads registers. x30 first, which may be one of those that are written.
        unsafe {
            core::arch::asm!(
                "mov {lr}, x30",
                "mov {fp}, x29",
                "mov {sp}, sp",
                "adr {pc}, .",
                lr = out(reg) lr,
                fp = out(reg) fp,
                sp = out(reg) sp,
                pc = out(reg) pc,
                options(nomem, nostack, preserves_flags),
            );
        }
        Self::at(
            Position { found_by: FoundBy::Start, ..Position::resumed(pc, sp, fp, lr) },
            tables,
            stacks,
            OwnText::linked(),
        )
    }

    fn at(next: Position, tables: &'a [UnwindTable<'a>], stacks: &'a dyn Stacks, own: OwnText) -> Self {
        // INVARIANT: named, or empty.
        let stack = stack_of(stacks, next.sp);
        let (doubt, is_complete) = (None, false);
        let (hooked, veneers, stacks_left, next) = (None, [].as_slice(), MAX_STACKS, Some(next));
        let (x, last) = ([0; 31], (TextAddr::new(u64::MAX), None));
        Self { tables, stacks, own, hooked, veneers, stack, stacks_left, next, x, last, doubt, is_complete }
    }

    /// Knows veneers, of which no table tells: where modules have them, to functions and to stubs that a BL doesn't reach.
    ///
    /// # Safety
    ///
    /// 1. The ranges are of text that is mapped.
    #[must_use]
    pub unsafe fn with_veneers(self, rooms: &'a [TextRange]) -> Self {
        Self { veneers: rooms, ..self }
    }

    /// Shows the real return addresses of calls whose return is hooked in this context.
    ///
    /// # Safety
    ///
    /// As for [`Frames::with_returns`](super::Frames::with_returns).
    #[must_use]
    pub unsafe fn with_returns(self, context: &'a TraceContext) -> Self {
        Self { hooked: Some(Hooked::of(context, return_stub())), ..self }
    }

    /// Once the walk has ended: whether it has come to the outermost frame without a doubt. A kernel's or a task's first code
    /// has zero in x29 (AAPCS64 6.4.6), and zero as its return address or none.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Once the walk has ended, or before: the first reason why the trace may not be true from there on.
    pub const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    fn note(&mut self, doubt: Doubt) {
        self.doubt.get_or_insert(doubt);
    }

    /// The row for a place, as a table has it.
    fn row_bytes(&self, pc: TextAddr) -> Option<&'a [u8; ROW_LEN]> {
        if self.last.0 == pc {
            return self.last.1;
        }
        self.tables.iter().find(|table| table.text().contains(pc))?.find(pc)
    }

    /// Whether a row is of an instruction, which can be read.
    #[inline]
    fn is_code(row: Option<&[u8; ROW_LEN]>) -> bool {
        row.is_some_and(|row| !matches!(of_checked(*row), Err(Unknown::NoText | Unknown::NotReached)))
    }

    /// A word of text of which a table or the engine tells.
    fn word(&self, at: TextAddr) -> Option<u32> {
        let is_text = at.is_aligned() && (self.own.contains(at) || Self::is_code(self.row_bytes(at)));
        is_text.then(|| read_text(at))
    }

    /// A register of a place, where it is known.
    fn register(&self, at: &Position, number: usize) -> Option<u64> {
        match number {
            LR => at.lr,
            _ => self.x.get(number).copied().filter(|_| at.has_registers),
        }
    }

    /// Looks a row up that is wanted more than once.
    fn look_up(&mut self, at: TextAddr) {
        self.last = (at, self.row_bytes(at));
    }

    fn is_call(&mut self, at: u64) -> bool {
        let at = TextAddr::new(at);
        self.look_up(at);
        self.word(at).is_some_and(|word| {
            let flow = || Insn::decode(word).effects().flow;
            word >> BL_SHIFT == BL || matches!(flow(), Flow::Call(_) | Flow::IndirectCall(_))
        })
    }

    /// What is on the stack at this address, which is not below `from`.
    fn read(&self, address: u64, from: u64) -> Result<u64, Doubt> {
        let is_inside = from.max(self.stack.start) <= address
            && address.checked_add(8).is_some_and(|end| end <= self.stack.end)
            && address.is_multiple_of(8);
        if !is_inside {
            return Err(Doubt::OutOfStack { address });
        }
        // SAFETY: an aligned word of a stack that can be read, by the type's invariant and the promise made by `Stacks`. It may
        // change meanwhile if it is not a frame's, hence volatile.
        Ok(unsafe { core::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() })
    }

    /// From a frame to its caller, if it has one.
    fn step(&mut self, at: &Position) -> Result<Option<Position>, Doubt> {
        let place = at.place();
        if at.is_called
            && let Some(registers) = self.stacks.interrupted(TextAddr::new(at.pc), at.sp)
        {
            return self.off_exception(at, registers);
        }
        if self.own.contains(place) {
            return self.off_stub(at);
        }
        if let Some(room) = self.veneers.iter().find(|room| room.contains(place)) {
            return self.off_veneer(at, *room);
        }
        let row = self.row_bytes(place).map_or(Err(Unknown::NoText), |row| of_checked(*row));
        let row = row.map_err(|why| Doubt::NoRow { pc: place, why })?;
        if row.fp == FpHolds::End {
            self.compare_fp(at, 0);
            return Ok(None);
        }
        // The call has overwritten x30.
        if at.is_called && row.return_address == ReturnAddress::Lr {
            return Err(Doubt::InRegister { pc: place });
        }
        let cfa = match (row.cfa, row.fp) {
            (Cfa::Sp(bytes), _) if at.is_sp_exact => at.sp.checked_add(bytes.into()),
            (Cfa::Fp(bytes), _) | (_, FpHolds::Frame(bytes)) => at.fp.checked_add(bytes.into()),
            _ => None,
        };
        let from = self.frame_start(&row, at)?;
        let cfa = self.cfa(cfa, at, from, !at.is_called)?;
        if let FpHolds::Frame(below) = row.fp {
            self.compare_fp(at, cfa.wrapping_sub(below.into()));
        }
        let saved_fp = match row.saved_fp {
            Some(below) => Some(self.read(cfa.wrapping_sub(below.into()), from)?),
            None => None,
        };
        let caller_fp = match (row.fp, saved_fp) {
            (FpHolds::Callers, saved) => {
                saved.into_iter().for_each(|saved| self.compare_fp(at, saved));
                Some(at.fp)
            }
            (_, saved) => saved,
        };
        let found = match row.return_address {
            ReturnAddress::Saved(below) => Some(self.read(cfa.wrapping_sub(below.into()), from)?),
            ReturnAddress::Lr => at.lr,
            ReturnAddress::Register(number) => self.register(at, number.into()),
        };
        let return_address = strip(found.ok_or(Doubt::InRegister { pc: place })?);
        if return_address == 0 && caller_fp.is_none_or(|fp| fp == 0) {
            return Ok(None);
        }
        let Some(caller_fp) = caller_fp else { return Err(Doubt::NoRow { pc: place, why: Unknown::NoReturnAddress }) };
        if let Some(next) = self.behind_trampoline(at, cfa, return_address, caller_fp) {
            return Ok(Some(next));
        }
        self.caller(return_address, cfa, caller_fp, FoundBy::Table)
    }

    /// The caller of a frame that returns there, with this SP.
    fn caller(&mut self, return_address: u64, cfa: u64, fp: u64, found_by: FoundBy) -> Result<Option<Position>, Doubt> {
        let (return_address, found_by) = match &self.hooked {
            Some(hooked) if hooked.stub() == return_address => {
                (strip(hooked.of_sp(cfa).ok_or(Doubt::NotHooked { sp: cfa })?), FoundBy::Hook)
            }
            _ => (return_address, found_by),
        };
        if !self.is_call(return_address.wrapping_sub(4)) {
            self.note(Doubt::NotACall { return_address: TextAddr::new(return_address) });
        }
        Ok(Some(Position::called(return_address, cfa, fp, found_by)))
    }

    /// The address from which on a frame is read.
    ///
    /// A function that has put another stack in place still has its frame on the one before, and x29 there.
    fn frame_start(&mut self, row: &Row, at: &Position) -> Result<u64, Doubt> {
        if !matches!(row.cfa, Cfa::Fp(_)) || self.stack.contains(&at.fp) {
            return Ok(at.sp);
        }
        self.change_stack(at.fp)?;
        Ok(at.fp)
    }

    /// Goes on on the stack that has this SP.
    fn change_stack(&mut self, sp: u64) -> Result<(), Doubt> {
        self.stacks_left = self.stacks_left.checked_sub(1).ok_or(Doubt::TooManyStacks)?;
        // INVARIANT: named, or empty.
        self.stack = stack_of(self.stacks, sp);
        Ok(())
    }

    /// Checks where a frame ends that is read from an address on.
    fn cfa(&self, cfa: Option<u64>, at: &Position, from: u64, may_be_empty: bool) -> Result<u64, Doubt> {
        let cfa = cfa.ok_or(Doubt::StackPointer { pc: at.place(), cfa: at.sp })?;
        let ascends = if may_be_empty { from <= cfa } else { from < cfa };
        let is_right = ascends && self.stack.start <= cfa && cfa <= self.stack.end && cfa.is_multiple_of(16);
        if is_right { Ok(cfa) } else { Err(Doubt::StackPointer { pc: at.place(), cfa }) }
    }

    fn compare_fp(&mut self, at: &Position, expected: u64) {
        if at.fp != expected {
            self.note(Doubt::FramePointer { pc: at.place(), expected, found: at.fp });
        }
    }

    /// Off a direct trampoline, which a callsite has called: the function that has the callsite. The trampoline is followed as a
    /// stub is, since no row tells of x9, where it was given the function's return address.
    fn behind_trampoline(&mut self, at: &Position, cfa: u64, resume: u64, fp: u64) -> Option<Position> {
        if !self.is_behind_callsite(resume) {
            return None;
        }
        let place = at.place();
        let trampoline = self.tables.iter().find_map(|table| table.piece(place))?;
        let state = OwnText::trampoline_state(trampoline, place, read_text)?;
        let is_same_frame = state.depth().is_some_and(|depth| at.is_sp_exact && at.sp.checked_add(depth) == Some(cfa));
        let return_address = self.held(&state, Held::Return, at, cfa).ok().flatten().filter(|_| is_same_frame)?;
        Some(Position::resumed(resume, cfa, fp, strip(return_address)))
    }

    /// A value that a stub holds: in memory before a register, since behind a call the register is gone.
    fn held(&self, state: &StubState, held: Held, at: &Position, cfa: u64) -> Result<Option<u64>, Doubt> {
        match state.slot(held) {
            Some(below) => self.read(cfa.wrapping_sub(below), at.sp).map(Some),
            None => Ok(state.register(held).and_then(|number| self.register(at, number))),
        }
    }

    /// Off a stub of the engine's.
    fn off_stub(&mut self, at: &Position) -> Result<Option<Position>, Doubt> {
        let place = at.place();
        let unknown = |why| Doubt::NoRow { pc: place, why };
        let state = self.own.state(place, read_text).ok_or(unknown(Unknown::NotReached))?;
        let depth = state.depth().filter(|_| at.is_sp_exact).ok_or(unknown(Unknown::NoCfa))?;
        let cfa = self.cfa(at.sp.checked_add(depth), at, at.sp, !at.is_called)?;
        if let Held::Cfa(bytes) = state.fp() {
            self.compare_fp(at, cfa.wrapping_add_signed(bytes.into()));
        }
        let value = |held: Held| self.held(&state, held, at, cfa);
        let fp = value(Held::CallerFp)?.ok_or(unknown(Unknown::NoCfa))?;
        if let Contract::Probe(probed) = state.contract {
            // Nor is this in a stub.
            let lr = value(Held::Resume)?.ok_or(unknown(Unknown::NoReturnAddress))?;
            return Ok(Some(Position::resumed(probed.get(), cfa, fp, lr)));
        }
        let returns = value(Held::Return)?.map(strip).filter(|address| *address != 0);
        if state.contract == Contract::Member {
            return self.caller(returns.ok_or(unknown(Unknown::NoReturnAddress))?, cfa, fp, FoundBy::Stub);
        }
        let returns = returns.or_else(|| self.hooked.as_ref()?.of_sp(cfa));
        let returns = returns.ok_or(Doubt::NotHooked { sp: cfa })?;
        if state.contract == Contract::Exit {
            return self.caller(returns, cfa, fp, FoundBy::Hook);
        }
        // Never in a stub, so that each step but one ascends.
        let resume = value(Held::Resume)?.filter(|resume| !self.own.contains(TextAddr::new(*resume)));
        let resume = resume.ok_or(unknown(Unknown::NoReturnAddress))?;
        Ok(Some(Position::resumed(resume, cfa, fp, returns)))
    }

    /// Off a veneer, which changes nothing but X16: as if its target had just been called.
    fn off_veneer(&mut self, at: &Position, room: TextRange) -> Result<Option<Position>, Doubt> {
        let place = at.place();
        let unknown = Doubt::NoRow { pc: place, why: Unknown::NotReached };
        let is_veneer = !at.is_called && is_veneer(place, room);
        let return_address = at.lr.filter(|_| is_veneer).ok_or(unknown)?;
        if self.is_behind_callsite(return_address) {
            let returns = self.register(at, X9).ok_or(unknown)?;
            return Ok(Some(Position::resumed(return_address, at.sp, at.fp, returns)));
        }
        self.caller(strip(return_address), at.sp, at.fp, FoundBy::Stub)
    }

    /// Whether a return address is that of a callsite's call.
    fn is_behind_callsite(&mut self, return_address: u64) -> bool {
        let [call, before] = [4, 8].map(|bytes| TextAddr::new(return_address.wrapping_sub(bytes)));
        self.look_up(call);
        // Of a page that has an instruction, all can be read, so what is before most calls need not be looked up.
        let is_text =
            Self::is_code(self.last.1) && call.is_aligned() && call.get() & PAGE_MASK == before.get() & PAGE_MASK;
        let word = if is_text { Some(read_text(before)) } else { self.word(before) };
        word == Some(MOV_X9_LR)
    }

    /// Off an exception, whose saved registers are there.
    fn off_exception(&mut self, at: &Position, registers: u64) -> Result<Option<Position>, Doubt> {
        let mut regs = PtRegs { regs: [0; 31], sp: 0, pc: 0, pstate: 0 };
        for (number, value) in regs.regs.iter_mut().enumerate() {
            *value = self.read(registers.wrapping_add(8 * number as u64), at.sp)?;
        }
        regs.sp = self.read(registers.wrapping_add(offset_of!(PtRegs, sp) as u64), at.sp)?;
        regs.pc = self.read(registers.wrapping_add(offset_of!(PtRegs, pc) as u64), at.sp)?;
        if !(registers < regs.sp && regs.sp <= self.stack.end) {
            self.change_stack(regs.sp)?;
        }
        self.x = regs.regs;
        Ok(Some(Position::of_regs(&regs, FoundBy::Exception)))
    }

    /// From a frame to the next one by its record, where nothing else tells more.
    fn by_record(&mut self, at: &Position) -> Option<Position> {
        let (record, from) = (at.fp, at.sp);
        let (caller, return_address) = (self.read(record, from).ok()?, self.read(record.checked_add(8)?, from).ok()?);
        let mut return_address = strip(return_address);
        let end = self.stack.end;
        if let Some(hooked) = &mut self.hooked {
            return_address = strip(hooked.original(return_address, record, end));
        }
        let position = Position::called(return_address, record + 16, caller, FoundBy::Record);
        (return_address != 0).then_some(Position { is_sp_exact: false, ..position })
    }
}

/// The stack that an SP is of, which may be its end.
fn stack_of(stacks: &dyn Stacks, sp: u64) -> Range<u64> {
    stacks.stack_around(sp).or_else(|| stacks.stack_around(sp.wrapping_sub(16))).unwrap_or(0..0)
}

/// Whether this is the place of an instruction of a veneer in this room: each up to the jump changes X16 only.
fn is_veneer(at: TextAddr, room: TextRange) -> bool {
    let entry = TextAddr::new(at.get() & !(ENTRY_BYTES - 1));
    let is_inside = room.start <= entry && entry.offset(ENTRY_BYTES as i64) <= room.end;
    if !at.is_aligned() || !is_inside {
        return false;
    }
    for index in 0..ENTRY_BYTES as i64 / 4 {
        let effects = Insn::decode(read_text(entry.offset(4 * index))).effects();
        match effects.flow {
            Flow::IndirectJump(Reg::X16) => return at <= entry.offset(4 * index),
            Flow::Next if effects.memory == MemoryUse::None && effects.writes.bits() == 1 << 16 => {}
            _ => return false,
        }
    }
    false
}

/// A word of text.
fn read_text(at: TextAddr) -> u32 {
    // SAFETY: text of which a table or the engine tells, or a room of veneers, aligned, and mapped by the promises made to `new`
    // and `with_veneers`. It may be written meanwhile, hence volatile.
    unsafe { core::ptr::with_exposed_provenance::<u32>(at.get() as usize).read_volatile() }
}

impl Iterator for Unwinder<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let at = self.next.take()?;
        let before = self.doubt;
        match self.step(&at) {
            Ok(Some(next)) => self.next = Some(next),
            Ok(None) => self.is_complete = self.doubt.is_none(),
            Err(doubt) => {
                self.note(doubt);
                self.next = self.by_record(&at);
            }
        }
        // That its own registers are not as they must be there makes the frame itself doubtful, unless an exception says that
        // it was there.
        let is_sure = matches!(at.found_by, FoundBy::Start | FoundBy::Exception);
        let doubt = before.or(self.doubt.filter(|doubt| !is_sure && doubt.is_about_frame()));
        Some(Frame { pc: TextAddr::new(at.pc), place: at.place(), found_by: at.found_by, doubt })
    }
}

impl fmt::Debug for Unwinder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tables, stack, next, doubt, .. } = self;
        let next = next.as_ref().map(|next| TextAddr::new(next.pc));
        f.debug_struct("Unwinder")
            .field("tables", tables)
            .field("stack", stack)
            .field("next", &next)
            .field("doubt", doubt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
