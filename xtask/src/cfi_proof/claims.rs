//! What the checker claims before an instruction, against what is so.

use std::fmt::Write as _;

use fentry_verify::cfi::{Cfa, Fp, State};
use fentry_verify::value::CallerReg;

use super::calls::{Frame, unsigned};
use super::log::Registers;
use super::memory::Memory;

/// How many claims were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) claims: u64,
    /// Claims of a place on the stack whose store was not seen.
    pub(super) unseen: u64,
}

/// Compares; gives what is claimed and not so, a line each.
pub(super) fn compare(
    state: &State,
    now: &Registers,
    frame: &Frame,
    memory: &Memory,
    compared: &mut Compared,
) -> String {
    let mut comparing = Comparing { now, frame, compared, wrong: String::new() };
    comparing.frame_address(state);
    comparing.frame_pointer(state);
    for reg in CallerReg::all() {
        // The log has no vector registers.
        if let Some(number) = reg.as_general().map(|reg| usize::from(reg.number())) {
            comparing.register(state, reg, number, memory);
        }
    }
    comparing.wrong
}

struct Comparing<'a> {
    now: &'a Registers,
    frame: &'a Frame,
    compared: &'a mut Compared,
    wrong: String,
}

impl Comparing<'_> {
    fn claim(&mut self, what: std::fmt::Arguments<'_>, claimed: u64, truth: u64) {
        self.compared.claims += 1;
        if claimed != truth {
            let _ = writeln!(self.wrong, "    {what} is {claimed:#x} and not {truth:#x}");
        }
    }

    fn frame_address(&mut self, state: &State) {
        let (now, truth) = (self.now, self.frame.at_entry.sp());
        if let Some(bytes) = state.sp() {
            self.claim(format_args!("sp + {bytes}, the CFA,"), now.sp().wrapping_add_signed(bytes), truth);
        } else if let Cfa::Other(reg, bytes) = state.cfa() {
            let value = now.general[usize::from(reg.number())].wrapping_add_signed(bytes);
            self.claim(format_args!("x{} + {bytes}, the CFA,", reg.number()), value, truth);
        }
    }

    fn frame_pointer(&mut self, state: &State) {
        let (fp, entry) = (self.now.general[29], &self.frame.at_entry);
        match state.fp() {
            Fp::Callers => self.claim(format_args!("x29, the caller's,"), fp, entry.general[29]),
            Fp::Frame(bytes) => {
                self.claim(format_args!("x29 + {bytes}, the CFA,"), fp.wrapping_add_signed(bytes), entry.sp());
            }
            Fp::End => self.claim(format_args!("x29"), fp, 0),
            Fp::Other => {}
        }
    }

    /// Each of the places where a caller's register is said to be.
    fn register(&mut self, state: &State, reg: CallerReg, number: usize, memory: &Memory) {
        let saved = state.saved(reg);
        let (is_signed, is_signed_on_stack) = match reg {
            CallerReg::LR => (state.lr_key().is_some(), state.saved_lr_key().is_some()),
            _ => (false, false),
        };
        let truth = self.frame.at_entry.general[number];
        let plain = |value, is_signed| if is_signed { unsigned(value) } else { value };
        if saved.is_kept {
            let value = plain(self.now.general[number], is_signed);
            self.claim(format_args!("{reg}, the caller's,"), value, plain(truth, is_signed));
        }
        if let Some(copy) = saved.copy {
            let value = unsigned(self.now.general[usize::from(copy.number())]);
            self.claim(format_args!("the caller's {reg}, in x{},", copy.number()), value, unsigned(truth));
        }
        if let Some(slot) = saved.slot {
            match memory.word(self.frame.at_entry.sp().wrapping_add_signed(slot)) {
                Some(value) => {
                    let (value, truth) = (plain(value, is_signed_on_stack), plain(truth, is_signed_on_stack));
                    self.claim(format_args!("the caller's {reg}, at CFA - {},", slot.unsigned_abs()), value, truth);
                }
                None => self.compared.unseen += 1,
            }
        }
    }
}
