use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use support::interrupts::{self, Masked};
use support::percpu;
use support::vectors::ExceptionFrame;

const PERIOD: Duration = Duration::from_micros(200);

fn wait_for_ticks(count: u64) {
    let until = percpu::this().ticks() + count;
    while percpu::this().ticks() < until {
        core::hint::spin_loop();
    }
}

pub(super) fn ticks_come() {
    interrupts::start_ticks(PERIOD);
    wait_for_ticks(10);
    interrupts::stop_ticks();
    let after = percpu::this().ticks();
    busy(100_000);
    assert!(percpu::this().ticks() <= after + 1, "ticks come although they are stopped");
}

pub(super) fn masked_means_masked() {
    interrupts::start_ticks(PERIOD);
    let masked = Masked::new();
    assert!(interrupts::are_masked());
    let before = percpu::this().ticks();
    busy(1_000_000);
    let inner = Masked::new();
    drop(inner);
    assert!(interrupts::are_masked(), "an inner mask ended the outer one");
    assert_eq!(percpu::this().ticks(), before);
    drop(masked);
    assert!(!interrupts::are_masked());
    wait_for_ticks(1);
    interrupts::stop_ticks();
}

fn busy(turns: u64) {
    for turn in 0..turns {
        core::hint::black_box(turn);
    }
}

/// Puts a different number into every register, waits in a loop until `*ticks` has grown to `until`, and gives back a mask
/// of what is different then: bit n for xn, bits 32 and up for any of the others.
#[unsafe(naked)]
unsafe extern "C" fn registers_differ(ticks: *const u64, until: u64) -> u64 {
    naked_asm!(
        "hint #34", // BTI C
        "stp x29, x30, [sp, #-192]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp x0, x1, [sp, #160]",
        "str x18, [sp, #152]", // kept as it is: it may be the shadow call stack's pointer, which the handler uses
        ".if {FP}",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "str d14, [sp, #144]",
        "str d15, [sp, #176]",
        // q0-q31: the number in every byte.
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "movi v\\n\\().16b, #(\\n + 1)",
        ".endr",
        "mov x2, #0x08000000", // saturation happened
        "msr fpsr, x2",
        "mov x2, #0x00c00000", // round towards zero
        "msr fpcr, x2",
        ".endif",
        // x2-x30 (x29 as well: the frame record chain is broken here, and a walk ends).
        ".irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,19,20,21,22,23,24,25,26,27,28,29,30",
        "mov x\\n, #(\\n * 0x101)",
        "movk x\\n, #0xabcd, lsl #48",
        ".endr",
        // Wait, with x0 and x1 only; the flags stay those of a comparison that is below.
        "1: ldr x0, [sp, #160]",
        "ldr x0, [x0]",
        "ldr x1, [sp, #168]",
        "sub x0, x0, x1",
        "tbnz x0, #63, 1b",
        "mov x0, #0",
        ".irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,19,20,21,22,23,24,25,26,27,28,29,30",
        "mov x1, #(\\n * 0x101)",
        "movk x1, #0xabcd, lsl #48",
        "cmp x1, x\\n",
        "cset x1, ne",
        "orr x0, x0, x1, lsl #\\n",
        ".endr",
        "ldr x1, [sp, #152]",
        "cmp x1, x18",
        "cset x1, ne",
        "orr x0, x0, x1, lsl #18",
        ".if {FP}",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "mov x1, v\\n\\().d[0]",
        "mov x2, v\\n\\().d[1]",
        "ldr x3, =((\\n + 1) * 0x0101010101010101)",
        "cmp x1, x3",
        "ccmp x2, x3, #0, eq",
        "cset x1, ne",
        "orr x0, x0, x1, lsl #32",
        ".endr",
        "mrs x1, fpsr",
        "mov x2, #0x08000000",
        "cmp x1, x2",
        "cset x1, ne",
        "orr x0, x0, x1, lsl #33",
        "mrs x1, fpcr",
        "mov x2, #0x00c00000",
        "cmp x1, x2",
        "cset x1, ne",
        "orr x0, x0, x1, lsl #34",
        "msr fpsr, xzr",
        "msr fpcr, xzr",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldr d14, [sp, #144]",
        "ldr d15, [sp, #176]",
        ".endif",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp x29, x30, [sp], #192",
        "ret",
        ".ltorg",
        FP = const cfg!(target_feature = "neon") as usize,
    )
}

/// Uses as many registers as it can, from the interrupt.
fn trash(frame: &ExceptionFrame) {
    let mut numbers = [0.0_f64; 64];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = core::hint::black_box(frame.elr as f64 / (index as f64 + 1.5));
    }
    core::hint::black_box(alloc::format!("{:?}", &numbers[..4]));
}

pub(super) fn an_interrupt_keeps_every_register() {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    fn hook(frame: &ExceptionFrame) {
        trash(frame);
        TICKS.fetch_add(1, Ordering::Release);
    }
    interrupts::on_tick(Some(hook));
    interrupts::start_ticks(PERIOD);
    // SAFETY: the function keeps to the calling convention and only reads the counter.
    let different = unsafe { registers_differ(TICKS.as_ptr(), 50) };
    interrupts::stop_ticks();
    interrupts::on_tick(None);
    assert_eq!(different, 0, "bit n: xn differs; bits 32..34: a q register, FPSR, FPCR");
}

pub(super) fn callbacks_can_tell_an_interrupt() {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    fn hook(frame: &ExceptionFrame) {
        assert!(interrupts::are_masked());
        assert!(support::memory::text().contains(&(frame.elr as usize)));
        SEEN.fetch_add(1, Ordering::Relaxed);
    }
    interrupts::on_tick(Some(hook));
    interrupts::start_ticks(PERIOD);
    wait_for_ticks(3);
    interrupts::stop_ticks();
    interrupts::on_tick(None);
    assert!(SEEN.load(Ordering::Relaxed) >= 3);
}
