//! A module that the boot test loads.
#![no_std]
#![cfg(target_os = "none")]

#[path = "../../kernel.rs"]
mod kernel;

use core::fmt::Write;
use kernel::{KERNEL_NUMBER, export, kernel_note};

unsafe extern "C" {
    safe fn kernel_sum(
        a: u64,
        b: u64,
        c: u64,
        d: u64,
        e: u64,
        f: u64,
        g: u64,
        h: u64,
        i: u64,
        j: u64,
        k: f64,
        l: f64,
        m: f64,
        n: f64,
        o: f64,
        p: f64,
        q: f64,
        r: f64,
        s: f64,
        t: f64,
    ) -> f64;
}

/// A line in the making.
struct Line {
    bytes: [u8; 128],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.length..self.length + text.len()).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

fn say(text: core::fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 128], length: 0 };
    let _ = line.write_fmt(text);
    kernel_note(line.bytes.as_ptr(), line.length);
}

/// Starts the module.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init.text")]
extern "C" fn fentry_module_init() -> i32 {
    say(format_args!("greeter: the kernel's number is {KERNEL_NUMBER:#x}"));
    0
}

/// Ends it.
#[unsafe(no_mangle)]
extern "C" fn fentry_module_exit() {
    say(format_args!("greeter: {}", "bye"));
}

/// Passes twenty arguments on to the kernel, each one greater.
#[rustfmt::skip]
#[unsafe(no_mangle)]
extern "C" fn greeter_sum(
    a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u64,
    k: f64, l: f64, m: f64, n: f64, o: f64, p: f64, q: f64, r: f64, s: f64, t: f64,
) -> f64 {
    kernel_sum(
        a + 1, b + 1, c + 1, d + 1, e + 1, f + 1, g + 1, h + 1, i + 1, j + 1,
        k + 1.0, l + 1.0, m + 1.0, n + 1.0, o + 1.0, p + 1.0, q + 1.0, r + 1.0, s + 1.0, t + 1.0,
    )
}
export!(greeter_sum);

/// Sorts.
///
/// # Safety
///
/// `numbers` are so many numbers, which nobody else uses meanwhile.
#[unsafe(no_mangle)]
unsafe extern "C" fn greeter_sort(numbers: *mut u64, count: usize) {
    // SAFETY: our caller's promise.
    let numbers = unsafe { core::slice::from_raw_parts_mut(numbers, count) };
    numbers.sort_unstable();
}
export!(greeter_sort);
