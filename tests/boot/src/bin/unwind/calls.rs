//! Which calls are under way, by what each executed instruction was: a call puts its return address here, and control that comes
//! to the last one of these, with SP as at the call, takes it away.
//!
//! Nothing of fentry's is used, neither its decoder nor what it knows of its own stubs.

/// How many calls inside each other there are at most.
const MOST: usize = 128;

/// The calls that have not returned, the outermost first.
pub(crate) struct Calls {
    calls: [Call; MOST],
    depth: usize,
    /// The address of the instruction that is executed next, it, and SP.
    next: Option<(u64, u32, u64)>,
}

#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// Where it returns to.
    pub(crate) returns_to: u64,
    /// SP at the call, and at the return.
    sp: u64,
}

impl Call {
    /// Whether it is a callsite that has made it: MOV X9, X30 comes before.
    fn is_callsites(&self) -> bool {
        let at = core::ptr::with_exposed_provenance::<u32>(self.returns_to as usize - 8);
        // SAFETY: two instructions before one that is returned to: it follows a call, and no function begins with that.
        unsafe { at.read_volatile() == 0xaa1e_03e9 }
    }
}

/// What an instruction does with calls.
enum Kind {
    Call,
    Jump,
    Return,
    /// B, or BRK.
    Straight,
    Other,
}

/// Where a B of generated code leads out of it; behind a BRK there, B follows two instructions later.
fn back_from(pc: u64, word: u32) -> Option<u64> {
    if !is_generated(pc) {
        return None;
    }
    let (at, word) = if word >> 26 == 0b000101 {
        (pc, word)
    } else {
        let at = pc + 8;
        // SAFETY: generated code is longer than that.
        (at, unsafe { core::ptr::with_exposed_provenance::<u32>(at as usize).read_volatile() })
    };
    // Bits 25 to 0, in words, with a sign.
    let to = at.wrapping_add_signed(i64::from((word << 6).cast_signed() >> 4));
    (!is_generated(to)).then_some(to)
}

/// Whether it is in the room for generated code.
fn is_generated(at: u64) -> bool {
    unsafe extern "C" {
        static __fentry_stubs_start: u32;
        static __fentry_stubs_stop: u32;
    }
    let [start, stop] = [&raw const __fentry_stubs_start, &raw const __fentry_stubs_stop];
    (start.addr() as u64..stop.addr() as u64).contains(&at)
}

/// Arm ARM C4.1.93.9: "Unconditional branch (register)", and BL.
fn kind(word: u32) -> Kind {
    const BL: u32 = 0b100101;
    const B: u32 = 0b000101;
    const BRK: u32 = 0b110_1010_0001;
    const TO_REGISTER: u32 = 0b1101011;
    match (word >> 26, word >> 25, word >> 21 & 0b111) {
        (BL, ..) | (_, TO_REGISTER, 1) => Kind::Call,
        (B, ..) => Kind::Straight,
        _ if word >> 21 == BRK => Kind::Straight,
        (_, TO_REGISTER, 2) => Kind::Return,
        (_, TO_REGISTER, _) => Kind::Jump,
        _ => Kind::Other,
    }
}

impl Calls {
    pub(crate) const fn new() -> Self {
        Self { calls: [Call { returns_to: 0, sp: 0 }; MOST], depth: 0, next: None }
    }

    /// One call is under way, of the outermost code.
    pub(crate) fn begin(&mut self, returns_to: u64, sp: u64) {
        (self.depth, self.next) = (0, None);
        self.push(returns_to, sp);
    }

    fn push(&mut self, returns_to: u64, sp: u64) {
        self.calls[self.depth] = Call { returns_to, sp };
        self.depth += 1;
    }

    /// The instruction before has been executed, and this one is next.
    pub(crate) fn before(&mut self, pc: u64, word: u32, sp: u64) {
        match self.next.map(|(pc, word, _)| (pc, kind(word))) {
            // A probe's code: whoever walks finds its instruction behind it, as if that had called it.
            Some((at, Kind::Straight)) if !is_generated(at) && is_generated(pc) => self.push(at, sp),
            Some((from, Kind::Straight)) if is_generated(from) && !is_generated(pc) => match self.under_way() {
                [.., last] if last.returns_to == pc => self.depth -= 1,
                _ => {}
            },
            Some((from, Kind::Call)) => self.push(from + 4, sp),
            Some((_, Kind::Jump)) => self.arrive(pc, sp, false),
            Some((_, Kind::Return)) => self.arrive(pc, sp, true),
            _ => {}
        }
        self.next = Some((pc, word, sp));
        // When the way back is next, the instruction has been carried out.
        if matches!(kind(word), Kind::Straight)
            && let Some(to) = back_from(pc, word)
            && let Some(last) = self.calls[..self.depth].last_mut()
            && last.returns_to == to - 4
        {
            last.returns_to = to;
        }
    }

    /// Whether this is the next instruction: where an interrupt finds another one, nothing is stepped.
    pub(crate) fn is_next(&self, pc: u64, sp: u64) -> bool {
        self.next.is_some_and(|(next, _, at)| (next, at) == (pc, sp))
    }

    /// Control has come to an address by a return or a jump: an end of the last call, or of the last two at once, where a
    /// trampoline returns in a function's place. A return that goes elsewhere ends a callsite's call as well: what comes there
    /// runs in the function's place.
    fn arrive(&mut self, pc: u64, sp: u64, is_return: bool) {
        let ends = |call: &Call| (call.returns_to, call.sp) == (pc, sp);
        match self.under_way() {
            [.., last] if ends(last) => self.depth -= 1,
            [.., one, other] if ends(one) && other.sp == sp => self.depth -= 2,
            [.., last] if is_return && last.sp == sp && last.is_callsites() => self.depth -= 1,
            _ => {}
        }
    }

    /// The calls, the outermost first.
    pub(crate) fn under_way(&self) -> &[Call] {
        &self.calls[..self.depth]
    }
}
