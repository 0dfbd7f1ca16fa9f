//! A kernel with four CPUs and preemptive tasks that traces itself while all of them run: the model to copy.
//!
//! | file | what it holds |
//! |---|---|
//! | `main.rs`, `memory.rs` | from the first instruction to `main`; page tables; the console |
//! | `cpus.rs` | the other CPUs, started by PSCI; the GIC; each CPU's timer |
//! | `tasks.rs` | four tasks a CPU, taken in turn; the exception vectors, which switch from one to another |
//! | `work.rs` | what the tasks do all the time: squares, as sums of odd numbers |
//! | `tracing.rs` | what fentry asks of a kernel, and what it wants called where |
//! | `show.rs` | what is traced here, and whether it was right |
//!
//! What is there for fentry only stands between lines `integration` and `end of integration`: most of it in `tracing.rs`, the
//! rest where that is called. (A test counts those lines.) The compiler's flags are in this repository's `.cargo/config.toml`,
//! and the guide says what each is for.
#![no_std]
#![no_main]

mod cpus;
mod memory;
mod show;
mod tasks;
mod work;

// integration
mod tracing;
// end of integration

use aarch64_rt::entry;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use qemu_exit::QEMUExit;

entry!(main);
fn main(_: u64, _: u64, _: u64, _: u64) -> ! {
    tasks::init();
    // integration
    tracing::init();
    // end of integration
    cpus::start();
    show::callbacks();
    show::counter();
    show::graph();
    show::everything();
    show::nothing_is_left();
    qemu_exit::AArch64::new().exit_success()
}

/// The console: the data register of the board's PL011, which QEMU needs no set-up for.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let data = core::ptr::without_provenance_mut::<u32>(0x0900_0000);
        for byte in text.bytes() {
            // SAFETY: the UART is there, mapped as a device, and a store to this register sends a byte.
            unsafe { data.write_volatile(u32::from(byte)) };
        }
        Ok(())
    }
}

/// Prints a line. One task does, so there is no lock.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(Console, "{line}");
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static FIRST: AtomicBool = AtomicBool::new(true);
    while !FIRST.swap(false, Ordering::Relaxed) {
        cpus::wait();
    }
    say(format_args!("{info}"));
    qemu_exit::AArch64::new().exit_failure()
}
