//! The trampoline of a function's attachments (`trampoline::attach` has what they are for): generated for that function's type
//! and that set of handlers, and called by the callsite itself.
//!
//! ```text
//!     BTI C                                   for veneers and lists of ops; a BL goes to the instruction behind it
//!     (guard)                                 where a handler may call something
//!     STP X29, X9, [SP, #-16]!; MOV X29, SP   the caller's frame record, as the function is about to make it
//!     STP X29, X30, [SP, #-n]!; MOV X29, SP   a record of the function: a walker finds both (AAPCS64 6.4.6)
//!     (arguments to the frame)                those registers that the function's type says, and no others
//!     BL handler ...                          entries, then those that may answer: CBNZ X0, answered
//!     (guard given back)
//!
//!   without exits                             with exits
//!     (arguments back)                          (one more call is under way)
//!     LDP, LDP; RET X9                          (arguments back); BL function, behind its callsite
//!                                               (result to the frame; one call less is under way)
//!                                               (guard); BL handler ...; (guard given back)
//!                                               (result back); LDP, LDP; RET
//! ```
//!
//! - **How the function goes on**: by RET X9 where it is only gone back to, since it has no landing pad there and RET needs
//!   none, as every other stub does. Where it is *called*, by BL, which needs none either, and which tells the CPU's return
//!   predictor of the RET that will come; out of BL's reach, by a BL to two instructions here, of which the second is a RET to
//!   the function. So there is a call before each return address, as [`Unwinder`](crate::context::unwind::Unwinder) asks.
//! - **Arguments on the stack** are further away for who is called from here, and belong to whom they are passed
//!   (AAPCS64 6.8.2): so they are copied for each call. The function that is gone back to finds them where they were.
//! - **Narrow arguments** are handed to handlers with the bits above them cleared, whatever the caller left there; the function
//!   gets what it was called with.
//! - **Handlers** are called by BL, or by BLR with the address from a literal, so no hash is looked at (kCFI).
//!
//! While a thread is inside the function it has a return address in here, for as long as that takes. So those calls are
//! counted, in one word for each trampoline.

mod plan;
mod writer;

pub(crate) use plan::{
    ARGUMENT_REGISTERS, CallShape, Handler, HandlerKind, MAX_HANDLERS, MAX_STACK_WORDS, Part, ResultPlace,
    TrampolinePlan,
};

use super::code::Code;
use super::entry::StubEnv;
use crate::address::TextAddr;
use crate::callsite::BTI_C;
use crate::insn::{EncodeError, Reg};
use writer::Writer;

impl TrampolinePlan<'_> {
    /// Generates the trampoline for address `at`.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: something is out of reach from there.
    pub(crate) fn code(&self, code: &mut Code, at: TextAddr, env: &StubEnv) -> Result<(), EncodeError> {
        use HandlerKind::{Entry, Exit, Modify};
        code.begin(at);
        code.word(BTI_C);
        let has_exits = self.has(Exit);
        let mut writer = Writer::new(self, code, env);
        let is_guarded = self.guards(&[Entry, Modify]);
        let passed_over = is_guarded.then(|| writer.take_guard());
        writer.save();
        writer.call_handlers(Entry);
        let answered = writer.call_handlers(Modify);
        if is_guarded {
            writer.give_guard_back();
        }
        let mut exits = None;
        if has_exits {
            writer.call_function();
            exits = Some(writer.here());
            writer.call_exits();
            writer.leave(Reg::LR);
        } else {
            writer.load_arguments(false);
            writer.leave(Reg::X9);
        }
        if !answered.is_empty() {
            writer.answered(answered);
            if exits.is_some() {
                writer.store_result();
            }
            if is_guarded {
                writer.give_guard_back();
            }
            match exits {
                Some(exits) => writer.jump(exits),
                None => writer.leave(Reg::LR),
            }
        }
        if let Some(passed_over) = passed_over {
            writer.pass_over(passed_over);
        }
        writer.place_literals();
        code.end()
    }
}
