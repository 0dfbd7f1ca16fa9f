//! Probes at any instruction (Linux kprobes).
//!
//! A [`Kprobe`] is called before an instruction, and if it asks for that after it, with all registers, which it may change. It
//! is registered with the kernel's [`Kprobes`] at an address, or at so many bytes from a function's beginning; several may be
//! at one instruction.
//!
//! ```
//! use fentry::TextAddr;
//! use fentry::kprobe::{Kprobe, KprobeRegs, Kprobes};
//! # fn on(engine: &'static fentry::Engine) -> Result<(), fentry::kprobe::KprobeError> {
//! # static ENGINE: spin::Once<fentry::Engine> = spin::Once::new();
//! # let kprobes: &'static Kprobes<64> = Box::leak(Box::new(Kprobes::new(engine)));
//!
//! static PROBE: Kprobe = Kprobe::new(look);
//!
//! extern "C" fn look(ip: TextAddr, _lr: TextAddr, _: &'static Kprobe, regs: KprobeRegs<'_>) {
//!     log::info!("{ip} with x0 = {:x?}", regs.x(0));
//! }
//!
//! // SAFETY: 1. The compiler puts no data among a function's instructions. 2. It runs on a thread's stack.
//! unsafe { kprobes.register_at(&PROBE, "my_kernel::disk::read", 0x24) }?;
//! // ...
//! kprobes.unregister(&PROBE)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a kernel does
//! At functions' entries probes need nothing: the callsite serves them. For all others the kernel
//!
//! - calls [`Kprobes::handle_brk`] for each BRK exception before anything else, and has
//!   [`Platform::for_each_brk_range`](crate::Platform::for_each_brk_range) name the text in which that is done;
//! - can hold its other CPUs ([`Platform::hold_cpus`](crate::Platform::hold_cpus), which
//!   [`CpuRounds`](crate::platform::rounds::CpuRounds) has ready made), since only a few instructions may be replaced while they
//!   are executed (Arm ARM B2.2.5), and the one that is probed may be any;
//! - calls [`Kprobes::handle_fault`] for other synchronous exceptions, if it reports or repairs faults.
//!
//! # What happens at a breakpoint
//!
//! ```text
//!   text                                beside the stubs, for each probed instruction
//!   1000  mov x1, x20                   8000  ldr x0, [x1]      where something is called after it
//!   1004  brk #0x6007  (ldr x0, [x1])   8004  brk #0x7007
//!   1008  cbz x0, ...                   8008  ldr x0, [x1]      where nothing is
//!                                       800c  b   1008
//! ```
//!
//! The instruction is then carried out at another address (LDR X0, \[X1\] above), or, where it would do something else there,
//! by what it does to the registers:
//!
//! | | |
//! |---|---|
//! | simulated | B, BL, B.cond, CBZ, CBNZ, TBZ, TBNZ, BR, BLR, RET, ADR, ADRP, LDR and LDRSW (literal), PRFM (literal) |
//! | elsewhere, from where it goes on by itself | BRAA, BRAB, RETAA, RETAB and kin: the signature is checked by the instruction itself, so nothing can be called after it |
//! | [refused](Refusal) | what an exception beside it would break, what makes exceptions, what changes the CPU's state, what is not known |
//! | elsewhere | all others |
//!
//! Interrupts that come while it is carried out there, and faults, find its address in PC: [`Kprobes::original`] says which
//! instruction that is. A walk by the [unwind table](crate::context::unwind) finds the probed instruction behind it, but where the
//! way back is out of a B's reach, as in modules far away.
//!
//! # Without an exception
//! Where the instruction comes back, and nothing is called after it or changes where it goes on, B to generated code takes its
//! place instead of BRK ([`ServedBy::Jump`]), as far as the room for generated code lasts: 272 bytes for each, or 432 where
//! SIMD registers are used. All registers are kept there, and the handlers run with interrupts as they were. A probe that is added
//! to the instruction and asks for more makes it a BRK again.
//!
//! The handler of an instruction's only probe is called by the generated code itself, and so it is at a function's entry, where
//! the handler is the callback of an ops. What else a probe may ask for ([`with_after`](Kprobe::with_after),
//! [`with_hits`](Kprobe::with_hits)), and several probes at one instruction, take a function between.

mod brk;
mod detour;
mod error;
mod instruction;
mod kprobes;
mod point;
mod probe;
mod regs;
mod simulate;
#[cfg(test)]
mod tests;

pub use brk::Handled;
pub use error::KprobeError;
pub use instruction::Refusal;
pub use kprobes::Kprobes;
pub use probe::{Handler, Kprobe, ServedBy};
pub use regs::KprobeRegs;

pub use crate::engine::NotClaimed;
