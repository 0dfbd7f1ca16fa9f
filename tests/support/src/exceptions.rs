//! What the kernel does with an exception: interrupts are served, faults that a test expects go back to it, every other
//! one is reported in full and ends the test.

use crate::backtrace::Backtrace;
use crate::engine::KPROBES;
use crate::vectors::ExceptionFrame;
use crate::{harness, interrupts, percpu, step};
use alloc::string::String;
use core::arch::{asm, global_asm};
use core::fmt::{self, Write as _};
use core::mem::{ManuallyDrop, offset_of};
use core::sync::atomic::{AtomicPtr, Ordering};
use fentry::kprobe::Handled;
use fentry::{PtRegs, TextAddr, TextRange};

/// The vector table's entries that this kernel expects: from EL1 on SP_EL1.
const SYNCHRONOUS: u64 = 4;
const IRQ: u64 = 5;

/// What the vectors call with the number of the entry and what they saved.
///
/// With them in a section of its own: no probe that is served by a BRK can be on its own way.
#[unsafe(link_section = ".text.exceptions")]
pub(crate) extern "C" fn handle(entry: u64, frame: &mut ExceptionFrame) {
    if entry == SYNCHRONOUS && class(frame.esr) == BREAKPOINT {
        let comment = frame.esr as u16;
        if matches!(handle_brk()(frame.pt_regs_mut(), comment), Handled::Yes) {
            return;
        }
        if comment == SKIPPED_BRK {
            frame.elr += 4;
            return;
        }
    }
    handle_other(entry, frame);
}

/// What handles the BRK of probes.
pub type BrkHandler = fn(&mut PtRegs, u16) -> Handled;

static BRK_HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

#[inline(always)]
fn handle_brk() -> BrkHandler {
    let handler = BRK_HANDLER.load(Ordering::Acquire);
    if handler.is_null() {
        return handle_own;
    }
    // SAFETY: `on_brk` stored a function of exactly this type.
    unsafe { core::mem::transmute::<*mut (), BrkHandler>(handler) }
}

#[unsafe(link_section = ".text.exceptions")]
fn handle_own(regs: &mut PtRegs, comment: u16) -> Handled {
    KPROBES.handle_brk(regs, comment)
}

/// Has the BRK of probes handled by this, in a kernel that has an engine of its own. It must be in `.text.exceptions`.
pub fn on_brk(handler: BrkHandler) {
    BRK_HANDLER.store(handler as *mut (), Ordering::Release);
}

/// The text from an exception to [`handle`], and of that; and what a CPU executes before it has vectors.
pub(crate) fn text() -> [TextRange; 2] {
    unsafe extern "C" {
        static __exceptions_text_start: u32;
        static __exceptions_text_stop: u32;
        static __fentry_image_start: u32;
        static __fentry_text_start: u32;
    }
    let range = |start: *const u32, stop: *const u32| {
        TextRange::new(TextAddr::new(start.addr() as u64), TextAddr::new(stop.addr() as u64))
    };
    [
        range(&raw const __exceptions_text_start, &raw const __exceptions_text_stop),
        range(&raw const __fentry_image_start, &raw const __fentry_text_start),
    ]
}

#[inline(never)]
fn handle_other(entry: u64, frame: &mut ExceptionFrame) {
    if entry == SYNCHRONOUS && class(frame.esr) != SOFTWARE_STEP {
        // What faults beside a probe faults where it was.
        KPROBES.handle_fault(frame.pt_regs_mut());
    }
    match entry {
        IRQ => interrupts::handle(frame),
        SYNCHRONOUS if class(frame.esr) == SOFTWARE_STEP && step::handle(frame) => {}
        SYNCHRONOUS if hand_back(frame) => {}
        _ => report(entry, frame),
    }
}

/// A fault that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fault {
    /// ESR_EL1: what happened.
    pub esr: u64,
    /// FAR_EL1: the address that faulted, for the classes that have one.
    pub far: u64,
    /// The instruction that faulted.
    pub pc: u64,
}

impl Fault {
    /// The exception class: ESR_EL1.EC.
    pub fn class(&self) -> u64 {
        class(self.esr)
    }

    /// Whether it was a write that the page's permissions forbid.
    pub fn is_write_permission(&self) -> bool {
        self.class() == DATA_ABORT && self.esr & (1 << 6) != 0 && is_permission(self.esr)
    }

    /// Whether it was an instruction fetch that the page's permissions forbid.
    pub fn is_execute_permission(&self) -> bool {
        self.class() == INSTRUCTION_ABORT && is_permission(self.esr)
    }

    /// Whether it was an access to an address that is not mapped.
    pub fn is_translation(&self) -> bool {
        matches!(self.class(), DATA_ABORT | INSTRUCTION_ABORT) && self.esr & 0b11_1100 == 0b00_0100
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at pc {:#x}, address {:#x}", Syndrome(self.esr), self.pc, self.far)
    }
}

/// Where the fault of a [`catch`] goes; on the stack of who waits for it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Catch {
    /// SP inside `support_catch`, once its registers are saved.
    sp: u64,
    /// The interrupt mask at that time.
    daif: u64,
    fault: Fault,
    /// The [`String`] to which the backtrace goes that a report would print, if one is wanted.
    trace: *mut (),
}

/// Calls `f`; a synchronous exception inside it ends it and comes back as an error.
///
/// What `f` holds at that point is leaked, not dropped.
///
/// # Errors
///
/// The fault.
pub fn catch<F: FnOnce()>(f: F) -> Result<(), Fault> {
    catch_into(f, core::ptr::null_mut())
}

/// Calls `f` as [`catch`] does, and brings back with the fault the backtrace that a report of it would print.
///
/// # Errors
///
/// The fault, and the backtrace.
pub fn catch_traced<F: FnOnce()>(f: F) -> Result<(), (Fault, String)> {
    let mut trace = String::new();
    let ended = catch_into(f, &raw mut trace);
    ended.map_err(|fault| (fault, trace))
}

fn catch_into<F: FnOnce()>(f: F, trace: *mut String) -> Result<(), Fault> {
    unsafe extern "C" {
        fn support_catch(f: extern "C" fn(*mut ()), data: *mut (), catch: *mut Catch) -> u64;
    }
    extern "C" fn call<F: FnOnce()>(data: *mut ()) {
        // SAFETY: `data` is the closure below, which nothing else uses meanwhile.
        let f = unsafe { &mut *data.cast::<ManuallyDrop<F>>() };
        // SAFETY: it is taken only here, and this is called once.
        let f = unsafe { ManuallyDrop::take(f) };
        f();
    }
    let mut f = ManuallyDrop::new(f);
    let mut catch = Catch { sp: 0, daif: 0, fault: Fault { esr: 0, far: 0, pc: 0 }, trace: trace.cast() };
    let this = percpu::this();
    let outer = this.catch.swap(&raw mut catch, Ordering::Relaxed);
    // SAFETY: the assembly calls `call::<F>` with the closure, once; `catch` lives until after the call.
    let faulted = unsafe { support_catch(call::<F>, (&raw mut f).cast(), &raw mut catch) };
    this.catch.store(outer, Ordering::Relaxed);
    if faulted == 0 {
        return Ok(());
    }
    // SAFETY: the handler wrote it through a pointer that the compiler does not connect with `catch`.
    Err(unsafe { (&raw const catch.fault).read_volatile() })
}

global_asm!(
    r#"
    .pushsection .text.support_catch, "ax"
    // x0 = function, x1 = its argument, x2 = Catch. Gives back 0, or 1 after a fault.
    .global support_catch
    .type   support_catch, %function
support_catch:
    hint    #34                         // BTI C
    stp     x29, x30, [sp, #-176]!
    mov     x29, sp                     // a frame record: the chain goes on
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    str     x18, [sp, #160]             // the shadow call stack, where there is one
    .if {FP}
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    .endif
    mov     x9, sp
    mrs     x10, daif
    stp     x9, x10, [x2, #{SP}]        // SP, DAIF
    mov     x9, x0
    mov     x0, x1
    blr     x9
    mov     x0, #0
    b       1f
    // After a fault the handler continues here, with x0 = the saved SP.
    .global support_caught
support_caught:
    mov     sp, x0
    mov     x0, #1
1:
    .if {FP}
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    .endif
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldr     x18, [sp, #160]
    ldp     x29, x30, [sp], #176
    ret
    .size   support_catch, . - support_catch
    .popsection
    "#,
    FP = const cfg!(target_feature = "neon") as usize,
    SP = const offset_of!(Catch, sp),
);

/// Sends a fault to the [`catch`] that waits for it, if one does.
fn hand_back(frame: &mut ExceptionFrame) -> bool {
    unsafe extern "C" {
        static support_caught: u8;
    }
    const DAIF: u64 = 0xf << 6;
    const BTYPE: u64 = 0b11 << 10;
    let Some(this) = percpu::try_this() else { return false };
    let catch = this.catch.swap(core::ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: a catch is there only while `catch` waits for it, lower down on a stack of this CPU.
    let Some(catch) = (unsafe { catch.as_mut() }) else { return false };
    catch.fault = Fault { esr: frame.esr, far: frame.far, pc: frame.elr };
    // SAFETY: that of `catch_traced`, which waits as well, and touches it only once the fault is back.
    if let Some(trace) = unsafe { catch.trace.cast::<String>().as_mut() } {
        let _ = write!(trace, "{}", Backtrace(&frame.pt_regs()));
    }
    frame.x[0] = catch.sp;
    // Its frame record: that of what has faulted is overwritten by the first interrupt once SP is back.
    frame.x[29] = catch.sp;
    frame.elr = (&raw const support_caught).addr() as u64;
    frame.spsr = frame.spsr & !(DAIF | BTYPE) | catch.daif;
    true
}

/// Prints all that is known and ends the test.
fn report(entry: u64, frame: &ExceptionFrame) -> ! {
    mask_everything();
    let again = percpu::try_this().is_none_or(|this| this.reporting.swap(true, Ordering::Relaxed));
    // SAFETY: this CPU ends the machine below.
    unsafe { crate::console::take_over() };
    let kind = ["synchronous exception", "IRQ", "FIQ", "SError"][entry as usize % 4];
    let from = ["EL1 on SP_EL0", "EL1", "EL0", "EL0 in AArch32"][entry as usize / 4 % 4];
    let cpu = percpu::try_this().map_or(0, percpu::PerCpu::index);
    println!("\n*** {kind} from {from} on CPU {cpu}: {}", Syndrome(frame.esr));
    println!("ESR  {:#018x}  FAR  {:#018x}", frame.esr, frame.far);
    println!("ELR  {:#018x}  SPSR {:#018x}  SP   {:#018x}", frame.elr, frame.spsr, frame.sp);
    for (row, four) in frame.x.chunks(4).enumerate() {
        for (column, value) in four.iter().enumerate() {
            print!("x{:<3} {value:#018x}  ", row * 4 + column);
        }
        println!();
    }
    if again {
        println!("(a second fault while reporting, or before the kernel was up)");
        harness::exit(2);
    }
    print!("backtrace:\n{}", Backtrace(&frame.pt_regs()));
    harness::fail(format_args!("{kind}: {}", Syndrome(frame.esr)))
}

fn mask_everything() {
    // SAFETY: nothing that is interrupted goes on.
    unsafe { asm!("msr daifset, #0xf", options(nostack, preserves_flags)) };
}

const INSTRUCTION_ABORT: u64 = 0x21;
const DATA_ABORT: u64 = 0x25;
const SOFTWARE_STEP: u64 = 0x33;
const BREAKPOINT: u64 = 0x3c;
/// The comment of a BRK for which nothing is done, so that its cost is counted.
pub const SKIPPED_BRK: u16 = 0x5fff;

#[inline(always)]
fn class(esr: u64) -> u64 {
    esr >> 26 & 0x3f
}

fn is_permission(esr: u64) -> bool {
    esr & 0b11_1100 == 0b00_1100
}

/// ESR_EL1 in words (Arm ARM, "ESR_EL1, Exception Syndrome Register").
#[derive(Clone, Copy, Debug)]
pub struct Syndrome(pub u64);

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let iss = self.0 & 0x1ff_ffff;
        match class(self.0) {
            0x00 => f.write_str("undefined instruction"),
            0x01 => f.write_str("trapped WFI or WFE"),
            0x07 => f.write_str("use of FP or SIMD registers, which are switched off"),
            0x09 | 0x1c => f.write_str("pointer authentication failed"),
            0x0d => write!(f, "branch to a place without BTI (BTYPE {})", iss & 0b11),
            0x0e => f.write_str("illegal execution state"),
            0x15 => write!(f, "SVC {}", iss & 0xffff),
            0x18 => f.write_str("trapped system instruction"),
            INSTRUCTION_ABORT => write!(f, "instruction abort, {}", FaultStatus(iss)),
            0x22 => f.write_str("PC not aligned"),
            DATA_ABORT if iss & 1 << 6 != 0 => write!(f, "data abort on a write, {}", FaultStatus(iss)),
            DATA_ABORT => write!(f, "data abort on a read, {}", FaultStatus(iss)),
            0x26 => f.write_str("SP not aligned"),
            0x2c => f.write_str("floating-point exception"),
            0x2f => f.write_str("SError"),
            0x31 => f.write_str("breakpoint"),
            SOFTWARE_STEP => f.write_str("single step"),
            0x35 => f.write_str("watchpoint"),
            0x3c => write_brk(f, iss & 0xffff),
            class => write!(f, "exception class {class:#x}"),
        }
    }
}

/// BRK's immediate says who put it there.
fn write_brk(f: &mut fmt::Formatter<'_>, immediate: u64) -> fmt::Result {
    match immediate {
        1 => f.write_str("BRK 1: the compiler's trap (unreachable or abort)"),
        // 0x8000 | register of the expected type << 5 | register of the target
        0x8000..=0x83ff => write!(
            f,
            "BRK {immediate:#x}: kCFI, the function in x{} is not of the type in w{}",
            immediate & 31,
            immediate >> 5 & 31
        ),
        _ => write!(f, "BRK {immediate:#x}"),
    }
}

/// The fault status code of an abort.
struct FaultStatus(u64);

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.0 & 0b11;
        match self.0 & 0x3f {
            0x00..=0x03 => write!(f, "address size fault at level {level}"),
            0x04..=0x07 => write!(f, "not mapped (level {level})"),
            0x08..=0x0b => write!(f, "access flag fault at level {level}"),
            0x0c..=0x0f => write!(f, "not permitted (level {level})"),
            0x10 => f.write_str("external abort"),
            0x21 => f.write_str("alignment fault"),
            0x30 => f.write_str("TLB conflict"),
            code => write!(f, "fault status {code:#x}"),
        }
    }
}
