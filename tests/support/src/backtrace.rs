//! Backtraces for reports: a walk along frame records, with names.

use core::arch::asm;

/// The most frames that a report prints.
const MAX_FRAMES: usize = 32;

unsafe extern "C" {
    static __fentry_image_start: u8;
    static __data_start: u8;
    static __heap_start: u8;
    static __text_stop: u8;
}

/// Prints where `pc` is, and the callers found from the frame record at `fp`.
pub fn print_from(pc: u64, fp: u64) {
    println!("backtrace:");
    print_frame(0, pc);
    print_chain(1, fp);
}

/// Prints the callers found from the frame record at `fp`.
pub fn print_callers(fp: u64) {
    println!("backtrace:");
    print_chain(0, fp);
}

fn print_chain(first: usize, fp: u64) {
    let mut fp = fp;
    for depth in first..MAX_FRAMES {
        let Some((next, lr)) = record(fp) else { return };
        if lr == 0 {
            return;
        }
        print_frame(depth, lr);
        fp = next;
    }
    println!("  ...");
}

/// The frame pointer of the caller.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let fp: u64;
    // SAFETY: reading a register changes nothing.
    unsafe { asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    fp
}

/// The saved frame pointer and return address at `fp`, if that can be a frame record at all.
fn record(fp: u64) -> Option<(u64, u64)> {
    let data = (&raw const __data_start).addr() as u64..(&raw const __heap_start).addr() as u64;
    if !data.contains(&fp)
        || !fp.is_multiple_of(8)
        || crate::percpu::guard_pages().any(|page| fp / 4096 == page as u64 / 4096)
    {
        return None;
    }
    let words = core::ptr::with_exposed_provenance::<u64>(fp as usize);
    // SAFETY: an aligned address in this kernel's data that is no guard page is mapped.
    let next = unsafe { words.read_volatile() };
    // SAFETY: as above; a record is 16 bytes, and the heap follows the stacks.
    let lr = unsafe { words.add(1).read_volatile() };
    Some((next, without_signature(lr)))
}

/// A return address without its pointer authentication code.
fn without_signature(lr: u64) -> u64 {
    let stripped: u64;
    // SAFETY: XPACLRI (a NOP where there is no pointer authentication) changes only x30, which is given to it.
    unsafe { asm!("hint #7", inout("x30") lr => stripped, options(nomem, nostack, preserves_flags)) };
    stripped
}

/// Prints one line. A return address is looked up one instruction earlier, at the call: what follows the call of a
/// function that never returns may belong to somebody else.
fn print_frame(depth: usize, pc: u64) {
    let text = (&raw const __fentry_image_start).addr() as u64..(&raw const __text_stop).addr() as u64;
    if !text.contains(&pc) {
        println!("  {depth:2}: {pc:#018x} (not text)");
        return;
    }
    println!("  {depth:2}: {pc:#018x}");
}
