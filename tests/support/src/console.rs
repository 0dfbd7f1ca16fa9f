//! The console: the board's PL011, `print!`, `println!` and the backend of `log`.

use crate::lock::Lock;
use arm_pl011_uart::{DataBits, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer};
use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

/// The UART of QEMU's virt board.
const PL011: *mut PL011Registers = core::ptr::without_provenance_mut(0x0900_0000);
const CLOCK_HZ: u32 = 24_000_000;
const BAUD: u32 = 115_200;

static UART: Lock<Option<Uart<'static>>> = Lock::new(None);

/// Whether anything was printed since [`take_dirty`]: a line that was left open is then not the last one any more.
static DIRTY: AtomicBool = AtomicBool::new(false);

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::print(::core::format_args!($($arg)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($($arg)*))) };
}

pub(crate) fn init() {
    let registers = NonNull::new(PL011).expect("the UART is not at address 0");
    // SAFETY: the board has a PL011 there, mapped as device memory by every page table of this kernel, and this is the
    // only place that makes a pointer to it.
    let mut uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
    let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
    // QEMU's UART has no line to be wrong about: what the driver refuses doesn't keep it from printing.
    let _ = uart.enable(line, BAUD, CLOCK_HZ);
    *UART.lock() = Some(uart);
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Info);
}

#[doc(hidden)]
pub fn print(text: fmt::Arguments<'_>) {
    DIRTY.store(true, Ordering::Relaxed);
    if let Some(uart) = UART.lock().as_mut() {
        let _ = uart.write_fmt(text);
    }
}

/// Takes a byte that somebody has typed, if there is one.
pub fn read() -> Option<u8> {
    // A byte that came with an error is none.
    UART.lock().as_mut().and_then(|uart| uart.read_word().ok().flatten())
}

/// Whether anything was printed since the last call.
pub(crate) fn take_dirty() -> bool {
    DIRTY.swap(false, Ordering::Relaxed)
}

/// Makes the console usable for a last report, whoever was printing.
///
/// # Safety
///
/// This CPU never goes back to what it was doing, and ends the machine soon.
pub(crate) unsafe fn take_over() {
    // SAFETY: our caller never returns to a guard on this CPU; another CPU that prints at the same time garbles a line.
    unsafe { UART.break_open() }
}

struct ConsoleLog;

static LOGGER: ConsoleLog = ConsoleLog;

impl log::Log for ConsoleLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            println!("[{}] {}: {}", record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}
